"""Playing a set of jobs through in no time, by the same line that the real ones stand in.

Knows expected seconds; no clock, process or lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from heapq import heappop, heappush

from oumi_flow.dataclass import dataclass
from oumi_flow.model import GpuRequest
from oumi_flow.schedule.line import Line, Rank, admit
from oumi_flow.schedule.machine import Hold, Machine
from oumi_flow.schedule.rules import JobSet, slots_kept


@dataclass(frozen=True, slots=True)
class Played:
    seconds: float  # until the last has ended
    starts: list[float]


class Play:
    """One way through. `begun`: jobs that run already, each with the GPUs that it holds."""

    def __init__(
        self,
        jobs: JobSet,
        ranks: Sequence[Rank],
        reserve: bool = False,
        spare: bool = False,
        begun: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        self._jobs, self._ranks, self._reserve = jobs, ranks, reserve
        self.now = 0.0
        named = {gpu for request in jobs.requests if request for gpu in request.devices}
        self._machine = Machine(jobs.capacity, named)
        self._slots = jobs.slots
        # Slots that jobs without a GPU leave to those with one, as long as there are any to come.
        self._kept = slots_kept(jobs.slots, sum(jobs.capacity.values())) if spare else 0
        self._gpu_jobs = sum(request is not None for request in jobs.requests)
        self._line: Line[int] = Line()
        self._ends: list[tuple[float, int]] = []
        self._running: dict[int, tuple[float, float, int]] = {}
        self._begun = begun or {}

    def run(self) -> Played:
        jobs = self._jobs
        below = jobs.downstream()
        missing = [len(needs) for needs in jobs.upstream]
        self._starts = [0.0] * len(jobs)
        for job, gpus in self._begun.items():
            self._start(job, self._machine.occupy(gpus))
        for job, count in enumerate(missing):
            if not count and job not in self._begun:
                self._line.push(job, self._ranks[job], jobs.requests[job])
        self._fill()
        ends, running, machine, line = self._ends, self._running, self._machine, self._line
        while ends:
            now = self.now = ends[0][0]
            while ends and ends[0][0] <= now:
                _, job = heappop(ends)
                machine.give_back(running.pop(job)[2])
                if jobs.requests[job] is not None:
                    self._gpu_jobs -= 1
                self._slots += 1
                for later in below[job]:
                    missing[later] -= 1
                    if not missing[later] and later not in self._begun:
                        line.push(later, self._ranks[later], jobs.requests[later])
            self._fill()
        return Played(self.now, self._starts)

    def _fill(self) -> None:
        for job, taken in admit(self._line, self):
            self._start(job, taken or 0)

    def _start(self, job: int, taken: int) -> None:
        end = self.now + self._jobs.seconds[job]
        self._starts[job] = self.now
        self._slots -= 1
        self._running[job] = (self.now, end, taken)
        heappush(self._ends, (end, job))

    # the desk

    def has_slot(self) -> bool:
        return self._slots > 0

    def keeps_slots(self) -> bool:
        if not self._kept or not self._gpu_jobs:
            return False
        busy = (self._machine.all & ~self._machine.free).bit_count()
        return self._slots <= max(0, self._kept - busy)

    def waits(self, job: int, rank: Rank, request: GpuRequest | None) -> bool:
        return False

    def take(self, job: int, request: GpuRequest, before: Collection[GpuRequest]) -> int | None:
        machine = self._machine
        return machine.take(request) if machine.fits(request) else None

    def hold(self, request: GpuRequest) -> Hold | None:
        if not self._reserve or request.count < 2:
            return None
        return Hold(self._machine, request, self.now, self._running.values())

    def seconds(self, job: int) -> float:
        return self._jobs.seconds[job]
