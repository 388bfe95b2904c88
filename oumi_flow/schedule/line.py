"""The line of jobs that could start, and who of them goes now.

Knows ranks and requests, not states, processes, or how a lease is had. A job that waits for a GPU
stands in a line of its own request, so it holds up nobody who asks for something else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from heapq import heappop, heappush

from oumi_flow.model import GpuRequest
from oumi_flow.schedule.machine import Hold
from oumi_flow.typed import Generic, Protocol, TypeVar

# Smaller goes first: (-priority, what the rule says, place in the file).
Rank = tuple[int, float, int]
# How many of one request are looked at for one that ends in time, when tokens are kept.
_DEPTH = 50

J = TypeVar("J", str, int)
Asks = TypeVar("Asks", str, int, contravariant=True)
Got = TypeVar("Got", covariant=True)


class Line(Generic[J]):
    """The queued jobs: one heap for each distinct request, so that looking for the next is quick.

    `alive(job)` says whether a job still stands in the line; others are dropped when they come up.
    """

    def __init__(self, alive: Callable[[J], bool] | None = None) -> None:
        self._alive: Callable[[J], bool] | None = alive
        self._heaps: dict[GpuRequest | None, list[tuple[Rank, J]]] = {}

    def push(self, job: J, rank: Rank, request: GpuRequest | None) -> None:
        heap = self._heaps.get(request)
        if heap is None:
            heap = self._heaps[request] = []
        heappush(heap, (rank, job))

    def first(
        self, skip: Collection[GpuRequest | None] = ()
    ) -> tuple[J, Rank, GpuRequest | None] | None:
        """The job that goes first among those whose request is not in `skip`."""
        best: tuple[Rank, J] | None = None
        of: GpuRequest | None = None
        for request in list(self._heaps):
            if request in skip:
                continue
            head = self.head(request)
            if head is not None and (best is None or head < best):
                best, of = head, request
        return None if best is None else (best[1], best[0], of)

    def head(self, request: GpuRequest | None) -> tuple[Rank, J] | None:
        """The first who asks for `request`."""
        heap = self._heaps.get(request, [])
        while heap and self._alive is not None and not self._alive(heap[0][1]):
            heappop(heap)
        if heap:
            return heap[0]
        self._heaps.pop(request, None)
        return None

    def pop(self, request: GpuRequest | None) -> tuple[Rank, J]:
        return heappop(self._heaps[request])

    def requests(self) -> list[GpuRequest]:
        """The GPU requests that somebody stands in line for."""
        return [request for request in list(self._heaps) if request and self.head(request)]

    def jobs(self) -> list[tuple[J, GpuRequest | None]]:
        """Everybody, in no order."""
        return [(job, of) for of, heap in self._heaps.items() for _, job in heap]


class Desk(Protocol[Asks, Got]):
    """What `admit` asks on behalf of the jobs in line."""

    def has_slot(self) -> bool:
        """Whether one more job may run beside those that do."""

    def keeps_slots(self) -> bool:
        """Whether the slots that are left are kept from jobs without a GPU."""

    def waits(self, job: Asks, rank: Rank, request: GpuRequest | None) -> bool:
        """Whether it leaves its turn, for a moment, to one who is about to come."""

    def take(self, job: Asks, request: GpuRequest, before: Collection[GpuRequest]) -> Got | None:
        """A lease. `before`: requests of those who go first and have got nothing."""

    def hold(self, request: GpuRequest) -> Hold | None:
        """What is kept for it, now that it goes first of those that get nothing; if anything."""

    def seconds(self, job: Asks) -> float:
        """How long it is expected to run."""


def admit(line: Line[J], desk: Desk[J, Got]) -> Iterator[tuple[J, Got | None]]:
    """Who goes now, one by one, each with its lease (None: wants no GPU).

    The first of the line goes if it can; who cannot holds nobody up, but for the first of them that
    something is kept for.
    """
    without: dict[GpuRequest | None, None] = {}  # requests that get nothing for now, in order
    aside: list[tuple[J, Rank, GpuRequest]] = []
    hold: Hold | None = None
    try:
        while desk.has_slot() and (first := line.first(without)) is not None:
            job, rank, request = first
            if request is None and desk.keeps_slots():
                without[None] = None
                continue
            if desk.waits(job, rank, request):
                return
            if request is None:
                line.pop(None)
                yield job, None
                continue
            if hold is not None and not hold.lets_pass(request, desk.seconds(job)):
                line.pop(request)
                aside.append((job, rank, request))
                if len(aside) >= _DEPTH:
                    without[request] = None
                continue
            taking = hold.overlap(request) if hold is not None else 0
            lease = desk.take(job, request, [of for of in without if of is not None])
            if lease is None:
                without[request] = None
                if hold is None:
                    hold = desk.hold(request)
                continue
            if hold is not None:
                hold.passed(taking, desk.seconds(job))
            line.pop(request)
            yield job, lease
    finally:
        for job, rank, request in aside:
            line.push(job, rank, request)
