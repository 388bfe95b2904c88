"""Hands events on: numbers and dates them, and keeps a failing listener from failing the run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from oumi_flow.errors import FlowError
from oumi_flow.events import Event, Note, stamp
from oumi_flow.typed import TypeVar

_E = TypeVar("_E", bound=Event)
Listener = Callable[[Event], None]


class Teller:
    """Tells listeners in the order given. One thread only.

    One that cannot write for the moment (FlowError, OSError: the disk is full) is told again, in
    order, with the next event. One that fails in another way is told no more.
    """

    def __init__(self, listeners: Sequence[Listener], now: Callable[[], float] = time.time) -> None:
        self._waiting: dict[Listener, deque[Event]] = {one: deque() for one in listeners}
        self._complained: set[Listener] = set()
        self._now = now
        self._seq = 0

    def say(self, event: Event) -> None:
        """As `tell`, for those who do not want it back."""
        self.tell(event)

    def tell(self, event: _E) -> _E:
        """Give a new event its number and time, and hand it on. Returns it."""
        self._seq += 1
        stamp(event, self._seq, self._now())
        trouble: list[str] = []
        for listener, waiting in tuple(self._waiting.items()):
            waiting.append(event)
            try:
                while waiting:
                    listener(waiting[0])
                    waiting.popleft()
            except (FlowError, OSError) as fault:
                if listener not in self._complained:
                    self._complained.add(listener)
                    trouble.append(f"what happens cannot be recorded for now: {fault}")
            except Exception as fault:  # noqa: BLE001 - a view's failure is a note
                del self._waiting[listener]
                words = f"{type(fault).__name__}: {fault}"
                trouble.append(f"the run goes on, but is not shown any more: {words}")
        for words in trouble:
            self.tell(Note(words, "warning"))
        return event
