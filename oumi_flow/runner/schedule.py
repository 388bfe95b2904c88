"""Who goes first among the jobs that could: priority, then longest remaining path, then file order.

Pure: knows durations and requests, not states, locks or time. A job that waits for a GPU stands
in a line of its own request, so it holds up nobody who asks for something else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from statistics import median

from oumi_flow.graph import remaining_path
from oumi_flow.model import Decision, GpuRequest, Step

# Smaller goes first: (-priority, -seconds of the longest path from here to the end, file order).
Rank = tuple[int, float, int]
_UNKNOWN_SECONDS = 1.0


def durations(steps: Iterable[Step]) -> dict[str, float]:
    """Expected seconds of each job: its own last time, else its verb's median, else 1.

    A job that is up to date takes no time.
    """
    steps = list(steps)
    known: dict[str, list[float]] = {}
    for step in steps:
        if step.expected is not None:
            known.setdefault(step.job.verb, []).append(step.expected)
    medians = {verb: median(values) for verb, values in known.items()}
    return {
        step.job.name: 0.0
        if step.decision is Decision.UP_TO_DATE
        else step.expected
        if step.expected is not None
        else medians.get(step.job.verb, _UNKNOWN_SECONDS)
        for step in steps
    }


def ranks(steps: Sequence[Step], seconds: Mapping[str, float] | None = None) -> dict[str, Rank]:
    """The rank of every job; `steps` in topological order, as a plan has them."""
    seconds = durations(steps) if seconds is None else seconds
    jobs = [step.job for step in steps]
    remaining = remaining_path(
        [job.name for job in jobs], {job.name: job.upstream for job in jobs}, seconds
    )
    return {
        job.name: (-job.priority, -remaining[job.name], place) for place, job in enumerate(jobs)
    }


def effective_request(request: GpuRequest | None, gpus: Collection[int]) -> GpuRequest | None:
    """What to lease in a run that has `gpus`. A count of -1 means: one, if there is any."""
    if request is None or request.count == 0:
        return None
    if request.count < 0:
        return GpuRequest(1) if gpus else None
    return request


def impossible(request: GpuRequest | None, gpus: Mapping[int, int]) -> str:
    """Why a run with so many tokens of each GPU can never serve the request; "" when it can."""
    if request is None:
        return ""
    if not gpus:
        return "needs a GPU, and this run has none"
    missing = sorted(set(request.devices) - set(gpus))
    if missing:
        has = ", ".join(map(str, sorted(gpus)))
        return f"needs GPU {', '.join(map(str, missing))}, and this run has {has}"
    if request.count > (total := sum(gpus.values())):
        return f"needs {request.count} GPUs, and this run has {total}"
    return ""


class Line:
    """The queued jobs: one heap for each distinct request, so that looking for the next is quick.

    `alive(job)` says whether a job still stands in the line; others are dropped when they come up.
    """

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self._alive = alive
        self._heaps: dict[GpuRequest | None, list[tuple[Rank, str]]] = {}

    def push(self, job: str, rank: Rank, request: GpuRequest | None) -> None:
        heappush(self._heaps.setdefault(request, []), (rank, job))

    def first(
        self, skip: Collection[GpuRequest] = ()
    ) -> tuple[str, Rank, GpuRequest | None] | None:
        """The job that goes first among those whose request is not in `skip`."""
        best: tuple[Rank, str] | None = None
        of: GpuRequest | None = None
        for request in list(self._heaps):
            if request in skip:
                continue
            head = self.head(request)
            if head is not None and (best is None or head < best):
                best, of = head, request
        return None if best is None else (best[1], best[0], of)

    def head(self, request: GpuRequest | None) -> tuple[Rank, str] | None:
        """The first who asks for `request`."""
        heap = self._heaps.get(request, [])
        while heap and not self._alive(heap[0][1]):
            heappop(heap)
        if heap:
            return heap[0]
        self._heaps.pop(request, None)
        return None

    def pop(self, request: GpuRequest | None) -> None:
        heappop(self._heaps[request])

    def requests(self) -> list[GpuRequest]:
        """The GPU requests that somebody stands in line for."""
        return [request for request in list(self._heaps) if request and self.head(request)]
