"""Choosing the order of jobs by playing a handful of rules through, and shuffles of the best.

Bounded in simulated starts, not by a clock, so that the same jobs get the same order everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from oumi_flow.dataclass import dataclass
from oumi_flow.schedule.line import Rank
from oumi_flow.schedule.play import Play
from oumi_flow.schedule.rules import ORDERS, JobSet, longest_path, ranks

# Starts played, at most: some two seconds.
MOST_STARTS = 60_000
# How far shuffles move a job's value, in turn, and how many without a gain are enough.
_SHUFFLES, _IN_VAIN = (0.1, 0.1, 0.4), 150


@dataclass(frozen=True, slots=True)
class Choice:
    """The order, whether tokens are kept for wide jobs and slots for GPU jobs, what it takes."""

    ranks: list[Rank]
    reserve: bool
    spare: bool
    seconds: float


def choose(
    jobs: JobSet,
    *,
    begun: Mapping[int, Sequence[int]] | None = None,
    starts: int = MOST_STARTS,
    trusted: bool = True,
    stop: Callable[[], bool] = lambda: False,
) -> Choice | None:
    """The best of some orders, by expected times; None where there was no time for two.

    `begun`: jobs that run already, with the GPUs they hold; they are let be. `starts`: how many
    starts of jobs may be played. Where times are not `trusted` nothing is reserved and nothing
    shuffled: that would fit an order to guesses. `stop` is asked between two plays.
    """
    tries = starts // max(1, len(jobs))
    if tries < 2:
        return None
    floor = _floor(jobs)
    best: tuple[float, Sequence[float], bool, bool] | None = None
    for values, reserve, spare in _rules(jobs, trusted):
        if tries <= 0 or stop() or (best is not None and best[0] <= floor):
            break
        tries -= 1
        took = Play(jobs, ranks(jobs, values), reserve, spare, begun).run().seconds
        if best is None or took < best[0] * (1 - 1e-9):
            best = (took, values, reserve, spare)
    if best is None:
        return None
    took, values, reserve, spare = best
    rng, vain = Random(1), 0
    while trusted and tries > 0 and vain < _IN_VAIN and took > floor and not stop():
        tries -= 1
        far = _SHUFFLES[vain % len(_SHUFFLES)]
        vain += 1
        moved = [value * (1 + rng.uniform(-far, far)) for value in values]
        now = Play(jobs, ranks(jobs, moved), reserve, spare, begun).run().seconds
        if now < took:
            took, values, vain = now, moved, 0
    return Choice(ranks(jobs, values), reserve, spare, took)


def _rules(jobs: JobSet, trusted: bool) -> Iterator[tuple[Sequence[float], bool, bool]]:
    """Rules worth a try with these jobs, the likeliest first."""
    requests = {request for request in jobs.requests if request is not None}
    wide = any(request.count > 1 for request in requests)
    named = any(request.devices for request in requests)
    both = bool(requests) and None in jobs.requests
    orders = ["longest path"]
    if named:
        orders.append("queued path")
    if wide or both:
        orders += ["weighted path", "half weighted path", "widest"]
    if any(jobs.upstream):
        orders += ["work below", "most hops"]
    seen = []
    for reserve in (False, True) if wide and trusted else (False,):
        for order in orders:
            values = ORDERS[order](jobs)
            if (values, reserve) not in seen:
                seen.append((values, reserve))
                yield values, reserve, False
    if both:
        yield longest_path(jobs), False, True


def _floor(jobs: JobSet) -> float:
    """No order takes less: the longest way, and the work on slots and GPUs."""
    gpus = sum(jobs.capacity.values())
    work = sum(
        seconds * request.count
        for seconds, request in zip(jobs.seconds, jobs.requests, strict=True)
        if request is not None
    )
    return max(
        max(longest_path(jobs), default=0.0),
        sum(jobs.seconds) / max(1, jobs.slots),
        work / gpus if gpus else 0.0,
    )
