"""Hands events on: numbers and dates them, and keeps a failing listener from failing the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from oumi_flow.events import Event, Note

_E = TypeVar("_E", bound=Event)
Listener = Callable[[Event], None]


class Teller:
    """One thread only. Listeners are told in the order given; one that raises is told no more."""

    def __init__(self, listeners: Sequence[Listener], now: Callable[[], float] = time.time) -> None:
        self._listeners = list(listeners)
        self._now = now
        self._seq = 0

    def say(self, event: Event) -> None:
        """As `tell`, for those who do not want it back."""
        self.tell(event)

    def tell(self, event: _E) -> _E:
        """Give the event its number and time, and hand it on. Returns it as it was told."""
        self._seq += 1
        event = replace(event, seq=self._seq, at=self._now())
        lost: list[Exception] = []
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as fault:  # noqa: BLE001 - a view's failure is a note
                self._listeners.remove(listener)
                lost.append(fault)
        for why in lost:
            words = f"{type(why).__name__}: {why}"
            self.tell(Note(f"the run goes on, but is not recorded any more: {words}", "warning"))
        return event
