"""The record of a job's latest attempt, from the intent to run it until a marker takes its place.

`attempt.json` is written before there is a process, grows by what the supervisor adds to it (who
looks after the process, how it ended), and then either says why nothing came of it, or becomes the
marker of what did: it is written over and renamed. Where it is both (somebody was killed between
these two), it is as good as a marker, and only has to be renamed.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from oumi_flow.model import FORMAT, LastAttempt
from oumi_flow.store.files import Files, parse, read_bytes, to_json, told
from oumi_flow.store.paths import Paths
from oumi_flow.store.records import attempt_from_json, attempt_to_json, trace_from_json
from oumi_flow.typed import Any

# What a supervisor adds to the record of its attempt.
_ADDED = ("handle", "exit")
_PAUSES = (0.001, 0.002, 0.004)  # seconds between looks at a record that makes no sense


class Attempts:
    """The attempts of one output folder. Several threads may write, each for another job."""

    def __init__(self, paths: Paths, files: Files) -> None:
        self._paths = paths
        self._files = files

    def write_attempt(self, job: str, attempt: LastAttempt, *, first: bool = False) -> None:
        """Record the latest attempt. What a supervisor has recorded of the same token is kept.

        To be called before the attempt is submitted and once it has ended, not in between: that
        time belongs to the supervisor. `first`: there is no record of an earlier one. Raises
        FlowError.
        """
        path = self._paths.attempt(job)
        record = attempt_to_json(attempt)
        if attempt.token and attempt.state != "starting":
            before = self._record(job)
            if before.get("token") == attempt.token:
                record |= {name: before[name] for name in _ADDED if name in before}
        data = to_json({"format": FORMAT, **record})
        if first:
            self._files.write_new(path, data)
        else:
            self._files.write(path, data)

    def read_attempt(self, job: str) -> LastAttempt | None:
        """The latest attempt; None when there is none or it cannot be understood.

        Of one that came to something there is a marker and no record, but in the middle of
        `commit`: its state is `done` then. (Records of earlier versions that say so beside their
        marker say nothing without it.)
        """
        record = self._record(job)
        trace = trace_from_json(record)
        if trace is None:
            return attempt_from_json(record) if record.get("state") != "done" else None
        return LastAttempt(
            trace.run_id,
            trace.attempt,
            "done",
            build_key=trace.build_key,
            started=trace.started,
            finished=trace.finished,
            exit_code=trace.exit_code,
            gpus=trace.gpus,
        )

    def read_exit(self, job: str, token: str) -> dict[str, Any] | None:
        """How that attempt's process ended, as its supervisor saw it; None: it wrote nothing yet.

        Raises FlowError when a record is there and cannot be read.
        """
        record = self._record(job)
        found = record.get("exit") if record.get("token") == token else None
        if not isinstance(found, dict):  # there was no room for it in the record
            apart = read_bytes(self._paths.exit(job))
            found = parse(apart[0]) if apart is not None else None
        return found if isinstance(found, dict) and found.get("token") == token else None

    def forget_attempt(self, job: str) -> None:
        """The latest attempt says nothing any more: there is a marker. Raises FlowError."""
        path = self._paths.attempt(job)
        with told(path, "remove"), suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)

    def finish_commit(self, job: str) -> bool:
        """Let a record that is a marker already stand where markers stand; whether it was one."""
        path = self._paths.attempt(job)
        found = read_bytes(path)
        trace = trace_from_json(parse(found[0])) if found is not None else None
        if trace is None or trace.job != job:
            return False
        with told(path, "rename"):
            os.replace(path, self._paths.marker(job))
        return True

    def _become_marker(self, job: str, data: bytes) -> bool:
        """Whether the record is the marker `data` now; else a marker is to be made."""
        return self._files.become(self._paths.attempt(job), self._paths.marker(job), data)

    def _record(self, job: str) -> dict[str, Any]:
        """What attempt.json says; {} when it is missing, torn or of another format."""
        path = self._paths.attempt(job)
        for pause in (*_PAUSES, 0.0):
            found = read_bytes(path)
            value = parse(found[0]) if found is not None else None
            if value is not None or found is None or not found[0]:
                break
            time.sleep(pause)  # its supervisor is just adding to it
        return value if isinstance(value, dict) and value.get("format") == FORMAT else {}
