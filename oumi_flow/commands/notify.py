"""`notify:` of a workflow: a command of the user's, told of failures and of the end by JSON.

Its fate never touches the run. One thread runs it, for one event after the other, each time in a
session of its own that is ended after 30 seconds; what goes wrong is a warning.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from oumi_flow.events import Event, JobFinished, RunFinished, RunStarted
from oumi_flow.executors.mask import SHORTEST_MASKED
from oumi_flow.text import count
from oumi_flow.typed import BinaryIO

_LIMIT = 30.0
_SAID = 200  # characters of what a failing command said


class Notifier:
    """A listener: runs the command for each failed job and once at the end of the run."""

    def __init__(self, command: str, secrets: Collection[str] = (), limit: float = _LIMIT) -> None:
        """`secrets`: values that must not show in what the command says, short ones
        aside, which would hide half of it. `limit`: seconds."""
        self._command, self._limit = command, limit
        long = (value for value in secrets if len(value) >= SHORTEST_MASKED)
        self._secrets = sorted(long, key=len, reverse=True)
        self._about: dict[str, object] = {}
        self._to_tell: queue.SimpleQueue[Mapping[str, object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._deadline = float("inf")  # for telling of failures, once the run has ended

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._about = {
                "run_id": event.run_id,
                "workflow": event.workflow,
                "output_dir": os.path.abspath(event.output_dir),
                "host": event.host,
                "user": event.user,
            }
        elif isinstance(event, JobFinished) and event.state == "failed":
            self._tell({"event": "failed", "job": event.job, "cause": event.cause})
        elif isinstance(event, RunFinished):
            self._tell(
                {"event": "finished", "state": event.state, "cause": event.cause}
                | {"counts": event.counts, "took": event.took}
            )

    def close(self) -> None:
        """Wait until all is told: failures for one more limit, then the end for another one."""
        if self._thread is None:
            return
        self._deadline = time.monotonic() + self._limit
        self._to_tell.put(None)
        self._thread.join()

    def _tell(self, what: Mapping[str, object]) -> None:
        self._to_tell.put({**self._about, **what})
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        untold = 0
        while (what := self._to_tell.get()) is not None:
            if what["event"] == "failed" and time.monotonic() > self._deadline:
                untold += 1
                continue
            trouble = self._run(what)
            if trouble:
                print(f"warning: notify: {trouble}", file=sys.stderr)
        if untold:
            late = f"the run has ended, and {count(untold, 'failure')} could not be told in time"
            print(f"warning: notify: {late}", file=sys.stderr)

    def _run(self, what: Mapping[str, object]) -> str:
        """Run the command once; what went wrong, or ""."""
        import json
        import subprocess

        from oumi_flow.verbs import shell_command

        text = json.dumps(what, ensure_ascii=False) + "\n"
        try:
            # Files, not pipes: neither a command that does not read nor what it leaves behind in
            # the background can make anybody wait. In memory, as a full disk is news as well.
            with _file() as told, _file() as said:
                told.write(text.encode())
                told.seek(0)
                process = subprocess.Popen(
                    shell_command(self._command),
                    stdin=told,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    start_new_session=True,
                )
                try:
                    code = process.wait(self._limit)
                except subprocess.TimeoutExpired:
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    return f"took more than {self._limit:g} s, and was stopped"
                if code == 0:
                    return ""
                said.seek(0)
                return f"exit {code}: {self._masked(said.read().decode(errors='replace'))}"
        except OSError as fault:
            return fault.strerror or str(fault)

    def _masked(self, words: str) -> str:
        for value in self._secrets:
            words = words.replace(value, "****")
        return words.strip()[-_SAID:]


def _file() -> BinaryIO:
    return os.fdopen(os.memfd_create("notify"), "w+b")
