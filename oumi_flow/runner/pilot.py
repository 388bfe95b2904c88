"""The one thread that talks to the executor: it submits, waits for ends, cancels.

Knows handles and tokens, not jobs' states. Whatever it learns goes to the loop as a message; an
executor that cannot be asked changes nobody's state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from oumi_flow.executors.base import Attempt, Executor, Handle, Rejected, Unknown
from oumi_flow.runner.terms import Broken, Exited, Message, Submitted

_FAULTS = 3  # polls in a row that may go wrong before the loop is told


class Pilot:
    """Owns the executor from `start` to `close`. Its other methods never block."""

    def __init__(self, executor: Executor, tell: Callable[[Message], None]) -> None:
        self._executor = executor
        self._tell = tell
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._handles: dict[str, Handle] = {}
        self._thread: threading.Thread | None = None
        self._faults = 0

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Start these. Each is answered by one `Submitted`, then by one `Exited`."""
        self._order(lambda: self._submit(attempts))

    def follow(self, handle: Handle) -> None:
        """Wait for the end of a process that somebody else started."""
        self._order(lambda: self._handles.__setitem__(handle.token, handle))

    def cancel(self, handles: Sequence[Handle], grace: float, now: bool = False) -> None:
        """TERM, `grace` seconds, KILL to everything below each handle; `now`: KILL."""
        self._order(lambda: self._executor.cancel(handles, grace, now))

    def close(self) -> None:
        """Let go of the executor. Processes that still run are left alone. Blocks shortly."""
        if self._thread is None:
            return
        self._orders.put(None)
        self._executor.wake()
        self._thread.join()
        self._thread = None

    def _order(self, what: Callable[[], None]) -> None:
        self._orders.put(what)
        if self._thread is None:
            self._thread = threading.Thread(target=self._fly, name="pilot", daemon=True)
            self._thread.start()
        else:
            self._executor.wake()

    def _fly(self) -> None:
        while True:
            # With nobody to wait for there is nothing to poll: wait for an order instead.
            if not self._handles or not self._orders.empty():
                order = self._orders.get()
                if order is None:
                    return
                try:
                    order()
                except Exception as fault:  # noqa: BLE001 - said to the loop
                    self._tell(Broken(_words(fault), fatal=False))
                continue
            self._poll()

    def _submit(self, attempts: Sequence[Attempt]) -> None:
        try:
            answers = self._executor.submit(attempts)
        except Exception as fault:  # noqa: BLE001 - said to the loop
            for attempt in attempts:
                self._tell(Submitted(attempt.job, attempt.token, None, _words(fault)))
            return
        for attempt, answer in zip(attempts, answers, strict=True):
            if isinstance(answer, Rejected):
                self._tell(Submitted(attempt.job, attempt.token, None, answer.message))
                continue
            # Perhaps started counts as started, until a poll says how it ended.
            handle = _handle_of(attempt) if isinstance(answer, Unknown) else answer
            self._handles[attempt.token] = handle
            self._tell(Submitted(attempt.job, attempt.token, handle))

    def _poll(self) -> None:
        try:
            exits, _ = self._executor.poll(list(self._handles.values()))
        except Exception as fault:  # noqa: BLE001 - said to the loop
            self._faults += 1
            if self._faults >= _FAULTS:
                self._handles.clear()
                self._tell(Broken(_words(fault)))
            return
        self._faults = 0
        for token, exit in exits.items():
            if self._handles.pop(token, None) is not None:
                self._tell(Exited(token, exit))


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
