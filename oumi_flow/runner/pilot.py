"""The loop's hand on the executor: it submits, waits for ends, cancels.

Knows handles and tokens, not jobs' states. Whatever it learns goes to the loop as a message; an
executor that cannot be asked changes nobody's state. Everything is done in the loop's own thread:
to hand a message from thread to thread costs as much as an order to a server of supervisors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from oumi_flow.executors.base import Attempt, Executor, Handle, Rejected, Unknown
from oumi_flow.runner.terms import Broken, Exited, Inbox, Submitted

_FAULTS = 3  # polls in a row that may go wrong before the loop is told


class Pilot:
    """For one thread. Only `wait` blocks."""

    def __init__(self, executor: Executor, inbox: Inbox) -> None:
        self._executor, self._inbox = executor, inbox
        self._handles: dict[str, Handle] = {}
        self._faults = 0

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Start these. Each is answered by one `Submitted`, then by one `Exited`."""
        try:
            answers = self._executor.submit(attempts)
        except Exception as fault:  # noqa: BLE001 - said to the loop
            for attempt in attempts:
                self._inbox.put(Submitted(attempt.job, attempt.token, None, _words(fault)))
            return
        for attempt, answer in zip(attempts, answers, strict=True):
            if isinstance(answer, Rejected):
                self._inbox.put(Submitted(attempt.job, attempt.token, None, answer.message))
                continue
            # Perhaps started counts as started, until a poll says how it ended.
            handle = _handle_of(attempt) if isinstance(answer, Unknown) else answer
            self._handles[attempt.token] = handle
            self._inbox.put(Submitted(attempt.job, attempt.token, handle))

    def follow(self, handle: Handle) -> None:
        """Wait for the end of a process that somebody else started."""
        self._handles[handle.token] = handle

    def cancel(self, handles: Sequence[Handle], grace: float, now: bool = False) -> None:
        """TERM, `grace` seconds, KILL to everything below each handle; `now`: KILL."""
        try:
            self._executor.cancel(handles, grace, now)
        except Exception as fault:  # noqa: BLE001 - said to the loop
            self._inbox.put(Broken(_words(fault), fatal=False))

    def wait(self, seconds: float) -> None:
        """Until a process has ended, a message has come, or for so long."""
        if not self._handles:  # nobody to wait for, so there is nothing to poll
            self._inbox.wait(seconds)
            return
        # From now on whoever has a message wakes the poll. What came before is there already.
        self._inbox.bell = self._executor.wake
        try:
            if not self._inbox.is_empty:
                return
            exits, _ = self._executor.poll(list(self._handles.values()), time.monotonic() + seconds)
        except Exception as fault:  # noqa: BLE001 - said to the loop
            self._faults += 1
            if self._faults >= _FAULTS:
                self._handles.clear()
                self._inbox.put(Broken(_words(fault)))
            return
        finally:
            self._inbox.bell = None
        self._faults = 0
        for token, exit in exits.items():
            if self._handles.pop(token, None) is not None:
                self._inbox.put(Exited(token, exit))


def _handle_of(attempt: Attempt) -> Handle:
    return Handle(
        attempt.token,
        attempt.job,
        attempt.state_dir,
        attempt.log,
        attempt.run_id,
        attempt.number,
    )


def _words(fault: Exception) -> str:
    return str(fault) or type(fault).__name__
