"""Results on their way to where they are shared: one at a time, as nobody waits for them.

Belongs to the loop's thread. Knows no files; a worker does the copying.
"""

from __future__ import annotations

from collections import deque

from oumi_flow.model import Step
from oumi_flow.runner.orders import Orders


class Sharing:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._waiting: deque[Step] = deque()
        self.busy = False

    def add(self, step: Step) -> None:
        """It has been made: it is to be shared, if that is wanted."""
        if self._orders.shares(step):
            self._waiting.append(step)
            self._next()

    def done(self) -> None:
        """The one that was on its way has arrived, or could not be brought."""
        self.busy = False
        self._next()

    def stop(self) -> None:
        """The run is ending: whatever is not there yet is not brought."""
        self._waiting.clear()
        self._orders.abandon()

    def _next(self) -> None:
        if self._waiting and not self.busy:
            self.busy = True
            self._orders.share(self._waiting.popleft())
