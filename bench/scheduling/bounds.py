"""How soon a set of jobs can be done at best: the greatest lower bound of several.

Each is a relaxation that no schedule beats: the critical path; the work on each resource, with the
time before its first and after its last job; one queue for each GPU that jobs name; jobs that
cannot run beside each other, one after the other; and widths counted as what they really block
(a job of 5 GPUs on 8 leaves no room for another of 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush

from scheduling.job_sets import Set

_CUTS = 48  # at most so many heads are tried as the begin of a busy time


def lower_bound(made: Set) -> float:
    """Seconds. The makespan of any schedule is at least this."""
    count = len(made.kinds)
    resources = _resources(made)
    below: list[list[int]] = [[] for _ in range(count)]
    for job, needs in enumerate(made.upstream):
        for other in needs:
            below[other].append(job)
    heads = _heads(list(range(count)), made.upstream, made.seconds, resources)
    tails = _heads(list(range(count - 1, -1, -1)), below, made.seconds, resources)
    best = max((h + s + t for h, s, t in zip(heads, made.seconds, tails, strict=True)), default=0.0)
    for size, widths in resources:
        jobs = [job for job in range(count) if widths[job]]
        if size == 1:
            best = max(best, _one_by_one(jobs, heads, made.seconds, tails))
            continue
        best = max(best, _first_and_last(jobs, size, widths, heads, made.seconds, tails))
        alone = [job for job in jobs if 2 * widths[job] > size]
        best = max(best, _one_by_one(alone, heads, made.seconds, tails))
        for weigh in _weighings(size, {widths[job] for job in jobs}):
            work = [made.seconds[job] * weigh(widths[job]) for job in range(count)]
            best = max(best, _busy(jobs, work, heads, tails))
        for beside in {size // widths[job] for job in jobs}:
            crowd = [job for job in jobs if size // widths[job] <= beside]
            best = max(best, _pigeonholes(crowd, beside, made.seconds, heads, tails))
        for least in {widths[job] for job in alone}:
            best = max(best, _alone_but_one(jobs, widths, size, least, made.seconds))
    return max(best, _without_whole_machine(made))


def _without_whole_machine(made: Set) -> float:
    """Jobs that take all GPUs, one by one, and the rest of the GPU jobs in the time between."""
    on_gpus = [job for job, request in enumerate(made.requests) if request]
    whole = {job for job in on_gpus if (of := made.requests[job]) and of.count == made.gpus}
    if not whole or len(whole) == len(on_gpus) or made.gpus == 1:
        return 0.0
    rest = Set(made.family, made.name, made.gpus, made.slots)
    place: dict[int, int] = {}
    above: dict[int, set[int]] = {}  # of the rest, through what was taken out
    for job, needs in enumerate(made.upstream):
        above[job] = set()
        for other in needs:
            above[job] |= {place[other]} if other in place else above[other]
        if job in whole or made.requests[job] is None:
            continue
        seconds = made.seconds[job]
        place[job] = rest.add(made.kinds[job], seconds, sorted(above[job]), made.requests[job])
    return sum(made.seconds[job] for job in whole) + lower_bound(rest)


def _resources(made: Set) -> list[tuple[int, list[int]]]:
    """(how much there is, what each job takes of it)."""
    found = [(made.slots, [1] * len(made.kinds))]
    gpus = [request.count if request else 0 for request in made.requests]
    if any(gpus):
        found.append((made.gpus, gpus))
    named = {gpu for request in made.requests if request for gpu in request.devices}
    for gpu in sorted(named):
        takes = [int(bool(request and gpu in request.devices)) for request in made.requests]
        found.append((1, takes))
    return found


def _heads(
    order: Sequence[int],
    needs: Sequence[Sequence[int]],
    seconds: Sequence[float],
    resources: Sequence[tuple[int, list[int]]],
) -> list[float]:
    """The earliest time at which each can begin: its longest way, or all work it needs, shared."""
    head = [0.0] * len(seconds)
    above: dict[int, set[int]] = {}
    longest = sorted(order, key=lambda job: -seconds[job])
    nothing = [0.0] * len(seconds)
    known: dict[frozenset[int], float] = {}
    for job in order:
        if not needs[job]:
            above[job] = set()
            continue
        mine: set[int] = set()
        for other in needs[job]:
            mine |= above[other]
            mine.add(other)
            head[job] = max(head[job], head[other] + seconds[other])
        above[job] = mine
        if len(needs[job]) > 1:
            same = frozenset(mine)
            if same not in known:
                known[same] = 0.0
                for size, takes in resources:
                    users = [other for other in longest if other in mine and takes[other]]
                    if users:
                        work = sum(seconds[o] * takes[o] for o in users) / size
                        known[same] = max(
                            known[same],
                            min(head[o] for o in users) + work,
                            _pigeonholes(users, size, seconds, head, nothing),
                        )
            head[job] = max(head[job], known[same])
    return head


def _one_by_one(
    jobs: Sequence[int], heads: Sequence[float], seconds: Sequence[float], tails: Sequence[float]
) -> float:
    """Jobs of which no two can run at once: Jackson's preemptive schedule, longest tail first."""
    waiting = sorted(jobs, key=lambda job: heads[job])
    ready: list[tuple[float, int]] = []
    left = {job: seconds[job] for job in jobs}
    now, best, place = 0.0, 0.0, 0
    while place < len(waiting) or ready:
        if not ready:
            now = max(now, heads[waiting[place]])
        while place < len(waiting) and heads[waiting[place]] <= now:
            heappush(ready, (-tails[waiting[place]], waiting[place]))
            place += 1
        tail, job = ready[0]
        until = now + left[job]
        if place < len(waiting) and heads[waiting[place]] < until:
            left[job] -= heads[waiting[place]] - now
            now = heads[waiting[place]]
        else:
            heappop(ready)
            now = until
            best = max(best, now - tail)
    return best


def _busy(
    jobs: Sequence[int], work: Sequence[float], heads: Sequence[float], tails: Sequence[float]
) -> float:
    """First head + work + last tail, over the jobs that begin late and have long to go."""
    cuts = sorted({heads[job] for job in jobs})
    if len(cuts) > _CUTS:
        cuts = [cuts[i * len(cuts) // _CUTS] for i in range(_CUTS)]
    by_tail = sorted(jobs, key=lambda job: -tails[job])
    best = 0.0
    for cut in cuts:
        total = 0.0
        for job in by_tail:
            if heads[job] >= cut:
                total += work[job]
                best = max(best, cut + total + tails[job])
    return best


def _pigeonholes(
    jobs: Sequence[int],
    beside: int,
    seconds: Sequence[float],
    heads: Sequence[float],
    tails: Sequence[float],
) -> float:
    """Of k·n + 1 jobs of which n can run at once, k + 1 run one after the other somewhere."""
    longest = sorted(jobs, key=lambda job: -seconds[job])  # quick where they are in order
    best, head, tail = 0.0, float("inf"), float("inf")
    for place, job in enumerate(longest):
        head, tail = min(head, heads[job]), min(tail, tails[job])
        rows, rest = divmod(place, beside)
        if not rest and rows:
            row = sum(seconds[longest[place - back]] for back in range(rows + 1))
            best = max(best, head + row + tail)
    return best


def _alone_but_one(
    jobs: Sequence[int], widths: Sequence[int], size: int, least: int, seconds: Sequence[float]
) -> float:
    """Jobs of at least so much, no two at once, and the longest that fits beside none of them."""
    total = sum(seconds[job] for job in jobs if widths[job] >= least)
    beside = [seconds[job] for job in jobs if size - least < widths[job] < least]
    return total + max(beside, default=0.0)


def _first_and_last(
    jobs: Sequence[int],
    size: int,
    widths: Sequence[int],
    heads: Sequence[float],
    seconds: Sequence[float],
    tails: Sequence[float],
) -> float:
    """All units of a resource together: none is busy before its first job nor after its last."""
    work = sum(seconds[job] * widths[job] for job in jobs)
    best = None
    before = _units((heads[job], widths[job]) for job in jobs)
    after = _units((tails[job], widths[job]) for job in jobs)
    idle = 0.0
    for used in range(1, min(size, len(before)) + 1):
        idle += before[used - 1] + after[used - 1]
        bound = (work + idle) / used
        best = bound if best is None else min(best, bound)
    return best or 0.0


def _units(values: Iterable[tuple[float, int]]) -> list[float]:
    return sorted(value for value, width in values for _ in range(width))


def _weighings(size: int, widths: set[int]) -> list[Callable[[int], float]]:
    """Ways to count a width as a share of the resource, such that no set that fits exceeds 1.

    Dual feasible functions: what is plain, what leaves no room for the small, and what rounds down
    to how many fit beside each other.
    """
    found: list[Callable[[int], float]] = [lambda width: width / size]
    if widths == {1}:
        return found
    for small in sorted(width for width in widths if 2 * width <= size):

        def large(width: int, small: int = small) -> float:
            return 1.0 if width > size - small else 0.0 if width < small else width / size

        found.append(large)
    for parts in range(1, 9):

        def rounded(width: int, parts: int = parts) -> float:
            whole, rest = divmod((parts + 1) * width, size)
            return width / size if not rest else whole / parts

        found.append(rounded)
    return found
