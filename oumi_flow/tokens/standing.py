"""Where the requests of one run stand in the line of all runs.

Keeps one ticket for each request that waits, and says how soon it is worth to look again: the first
in line looks often, for a freed token should not lie idle, the others the less the further behind.
Since when somebody waits and when he asked are moments of the monotonic clock, in seconds: counted
back from later by how long it was, it would be the later the busier the machine is.
Knows nothing of GPUs and which tokens are free.
"""

from __future__ import annotations

import time

from oumi_flow.dataclass import dataclass
from oumi_flow.model import GpuRequest
from oumi_flow.tokens.tickets import Place, Queue, Ticket, beginning

# Seconds. A wait that is over at once needs no ticket; the line is read again so often.
_TICKET_AFTER, _LINE_KEPT = 0.03, 0.25
# The pause of the first in line, once more for one who has waited for long (a look may cost some
# 0.3 ms of CPU where much else goes on), more for each place behind, and the most of all.
_FIRST_PAUSE, _LONG, _PLACE_PAUSE, _LAST_PAUSE = 0.02, 10.0, 0.01, 0.25


@dataclass(slots=True)
class _Wait:
    ticket: Ticket
    place: Place | None = None
    waited: float = 0.0
    read: float = 0.0
    ahead: int = 0


class Standing:
    """For one thread. Nothing here raises."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._waits: dict[GpuRequest, _Wait] = {}

    def others(self) -> set[str]:
        """Names of tickets that are not ours and may be alive. Costs one listing of a folder."""
        ours = {wait.place.ticket.name for wait in self._waits.values() if wait.place is not None}
        return self._queue.names() - ours

    def name(self, request: GpuRequest, since: float) -> str:
        """That of its ticket, or what it would begin with: the order of the line."""
        place = self._place(request)
        return beginning(since) if place is None else place.ticket.name

    def stand(self, request: GpuRequest, ticket: Ticket, since: float, asked: float) -> None:
        """It waits, and is still looked after: to be called whenever it was `asked` for in vain."""
        if asked - since < _TICKET_AFTER:
            return
        wait = self._waits.setdefault(request, _Wait(ticket))
        wait.waited = asked - since
        if wait.place is not None and (wait.ticket != ticket or not wait.place.beat()):
            wait.place.drop()
            wait.place = None
        if wait.place is None:
            wait.ticket, wait.place = ticket, self._queue.draw(ticket, since)
        now = time.monotonic()
        if now - wait.read >= _LINE_KEPT:
            wait.read = now
            usable = ticket.usable
            mine = self.name(request, since)
            wait.ahead = sum(
                1
                for other in self._queue.line(self.others())
                if other.name < mine and not usable.isdisjoint(other.usable)
            )

    def leave(self, request: GpuRequest) -> None:
        wait = self._waits.pop(request, None)
        if wait is not None and wait.place is not None:
            wait.place.drop()

    def leave_all(self) -> None:
        for request in list(self._waits):
            self.leave(request)

    def ahead(self, request: GpuRequest) -> int:
        """How many stood before it when the line was read, of those that want the same tokens."""
        wait = self._waits.get(request)
        return 0 if wait is None else wait.ahead

    def pause(self, request: GpuRequest) -> float:
        """Seconds after which to look again."""
        wait = self._waits.get(request)
        if wait is None:
            return _FIRST_PAUSE
        first = _FIRST_PAUSE if wait.waited < _LONG else 2 * _FIRST_PAUSE
        return min(first + _PLACE_PAUSE * wait.ahead, _LAST_PAUSE)

    def _place(self, request: GpuRequest) -> Place | None:
        wait = self._waits.get(request)
        return None if wait is None else wait.place
