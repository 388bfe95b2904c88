"""Rules by which jobs are put in order, as numbers: the smaller, the sooner.

Pure: knows durations, GPU needs, edges and priorities. No rule is best everywhere, so there are a
handful of them; `choose` tries them out.
"""

from __future__ import annotations

from collections.abc import Sequence

from oumi_flow.dataclass import dataclass
from oumi_flow.model import GpuRequest
from oumi_flow.schedule.line import Rank


@dataclass(slots=True)
class JobSet:
    """What is to be put in order. Jobs are numbers, upstreams before what needs them.

    `slots`: how many may run at once; `capacity`: tokens of each GPU.
    """

    seconds: list[float]
    requests: list[GpuRequest | None]
    upstream: list[list[int]]
    priority: list[int]
    slots: int
    capacity: dict[int, int]

    def __len__(self) -> int:
        return len(self.seconds)

    def downstream(self) -> list[list[int]]:
        below: list[list[int]] = [[] for _ in self.seconds]
        for job, needs in enumerate(self.upstream):
            for other in needs:
                below[other].append(job)
        return below

    def share(self, job: int) -> float:
        """How much of the machine it takes, of the scarcer of GPUs and slots; 0 to 1."""
        request = self.requests[job]
        gpus = request.count if request is not None else 0
        total = sum(self.capacity.values())
        return max(1 / max(1, self.slots), abs(gpus) / total if total else 0.0)


def slots_kept(slots: int, gpus: int) -> int:
    """How many slots jobs without a GPU may leave to those with one: a quarter is theirs."""
    return min(gpus, slots - max(1, slots // 4))


def ranks(jobs: JobSet, values: Sequence[float]) -> list[Rank]:
    """Priority first, then the greater of `values`, then the order of the file."""
    return [
        (-priority, -value, place)
        for place, (priority, value) in enumerate(zip(jobs.priority, values, strict=True))
    ]


def _path(jobs: JobSet, own: Sequence[float]) -> list[float]:
    """The longest way from each job to an end, in what `own` gives each."""
    below = [0.0] * len(jobs)
    for job in range(len(jobs) - 1, -1, -1):
        total = below[job] = below[job] + own[job]
        for other in jobs.upstream[job]:
            if below[other] < total:
                below[other] = total
    return below


def longest_path(jobs: JobSet) -> list[float]:
    return _path(jobs, jobs.seconds)


def most_hops(jobs: JobSet) -> list[float]:
    return _path(jobs, [1.0] * len(jobs))


def weighted_path(jobs: JobSet) -> list[float]:
    """The longest way, where a job counts by the share of the machine that it takes."""
    return _path(jobs, [s * jobs.share(job) for job, s in enumerate(jobs.seconds)])


def half_weighted_path(jobs: JobSet) -> list[float]:
    return _path(jobs, [s * jobs.share(job) ** 0.5 for job, s in enumerate(jobs.seconds)])


def widest(jobs: JobSet) -> list[float]:
    """Who needs most of the machine, then the longest way."""
    path = longest_path(jobs)
    most = max(path, default=0.0) or 1.0
    return [jobs.share(job) + way / most * 1e-6 for job, way in enumerate(path)]


def queued_path(jobs: JobSet) -> list[float]:
    """The longest way, with the queue before each GPU that jobs name."""
    load: dict[int, float] = {}
    for job, request in enumerate(jobs.requests):
        for gpu in request.devices if request is not None else ():
            load[gpu] = load.get(gpu, 0.0) + jobs.seconds[job]
    path = [0.0] * len(jobs)
    below = [0.0] * len(jobs)
    for job in range(len(jobs) - 1, -1, -1):
        request = jobs.requests[job]
        queue = max((load[gpu] for gpu in request.devices), default=0.0) if request else 0.0
        path[job] = max(below[job] + jobs.seconds[job], queue)
        for other in jobs.upstream[job]:
            below[other] = max(below[other], path[job])
    return path


def work_below(jobs: JobSet) -> list[float]:
    """The longest way, and beside it the work that waits for the job, shared by the machine."""
    own = [s * jobs.share(job) for job, s in enumerate(jobs.seconds)]
    work = list(own)
    for job in range(len(jobs) - 1, -1, -1):
        needs = jobs.upstream[job]
        for other in needs:
            work[other] += work[job] / len(needs)
    return [way + more for way, more in zip(longest_path(jobs), work, strict=True)]


ORDERS = {
    "longest path": longest_path,
    "most hops": most_hops,
    "weighted path": weighted_path,
    "half weighted path": half_weighted_path,
    "widest": widest,
    "queued path": queued_path,
    "work below": work_below,
}
