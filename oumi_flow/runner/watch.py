"""Follows the jobs that run, for whoever looks: progress.json, metrics.jsonl, `latest`.

A thread of its own that looks twice a second at jobs older than half a second. Knows nothing of
states; whatever goes wrong here costs a number on a screen and nothing else.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from oumi_flow.dataclass import dataclass
from oumi_flow.model import Progress, Step
from oumi_flow.progress import Follower, follower
from oumi_flow.runner.terms import Prepared
from oumi_flow.store import Store

_EVERY = 0.5  # seconds between two looks, and the age from which a job is looked at


@dataclass(slots=True)
class _Followed:
    step: Step
    prepared: Prepared
    since: float
    follower: Follower | None = None
    metrics: object = None  # the latest ones written to the history


class Watch:
    """`started` and `ended` are for the loop and cost next to nothing; `latest` is for anybody."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._condition = threading.Condition()
        self._running: dict[str, _Followed] = {}
        self._ended: list[_Followed] = []
        self._latest: dict[str, Progress] = {}
        self._thread: threading.Thread | None = None
        self._idle = False
        self._closed = False

    def started(self, step: Step, prepared: Prepared) -> None:
        with self._condition:
            self._running[step.job.name] = _Followed(step, prepared, time.monotonic())
            self._latest.pop(step.job.name, None)
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="watch", daemon=True)
                with suppress(RuntimeError):  # the system gives no more: without, until the next
                    thread.start()
                    self._thread = thread
            elif self._idle:
                self._condition.notify()

    def ended(self, job: str, failed: bool = False) -> None:
        with self._condition:
            followed = self._running.pop(job, None)
            # Its last words, if anybody has listened so far; of a failure they are all there is.
            if followed is not None and (failed or followed.follower is not None):
                self._ended.append(followed)

    def latest(self, job: str) -> Progress | None:
        """The progress of a job as it was seen last in this process."""
        return self._latest.get(job)

    def close(self) -> None:
        """Stop looking, after a last look at what has ended. Blocks shortly."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _watch(self) -> None:
        while True:
            with self._condition:
                if not self._closed:
                    # With nobody running it sleeps until somebody does.
                    self._idle = not self._running
                    self._condition.wait(None if self._idle else _EVERY)
                    self._idle = False
                closed = self._closed
                old = time.monotonic() - _EVERY
                looks = [one for one in self._running.values() if one.since <= old]
                # One that nobody has listened to yet may have its next attempt in its log by now.
                again = self._running
                looks += [
                    one for one in self._ended if one.follower or one.step.job.name not in again
                ]
                self._ended = []
            for followed in looks:
                self._look(followed)
            if closed:
                return

    def _look(self, followed: _Followed) -> None:
        job = followed.step.job
        try:
            if followed.follower is None:
                followed.follower = followed.prepared.follower or follower(
                    job.command.progress, job.place, followed.prepared.attempt.log
                )
            progress = followed.follower.poll()
            if progress is None:
                return
            self._latest[job.name] = progress
            self._store.write_progress(job.name, progress)
            if progress.metrics and progress.metrics != followed.metrics:
                followed.metrics = progress.metrics
                point = {
                    "at": time.time(),
                    "done": progress.done,
                    "metrics": dict(progress.metrics),
                }
                self._store.append_metrics(job.name, [point])
        except Exception:  # noqa: BLE001 - a number on a screen, not worth a word
            return
