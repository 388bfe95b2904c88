"""The order of a run's jobs: by the longest way to go, soon by what playing it through says.

Knows the plan, the run's slots and GPUs; not the states, but for those it is told. Choosing is done
in a worker, after the first jobs are on their way, and only where there is something to win: times
are known, jobs have to wait for each other, and the run is long enough for the choice to be a
hundredth of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from oumi_flow.model import Decision, Step
from oumi_flow.runner import terms
from oumi_flow.runner.leasing import Leasing
from oumi_flow.runner.terms import Options
from oumi_flow.schedule.estimates import estimate, ranks
from oumi_flow.schedule.line import Rank
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oumi_flow.schedule.rules import JobSet

# Of a run's expected time the choice may take so many played starts a second, a hundredth of it.
_STARTS_A_SECOND = 300.0


class Ordering:
    """For the loop's thread, but for what `decision` returns."""

    def __init__(self, steps: Sequence[Step], leasing: Leasing, options: Options) -> None:
        self._steps = [step for step in steps if step.decision is not Decision.UP_TO_DATE]
        self._leasing, self._slots = leasing, options.max_parallel
        self._estimates = estimate(steps)
        self.seconds = self._estimates.seconds
        self.ranks: dict[str, Rank] = ranks(steps, self.seconds)
        if any(step.job.gpu is not None and step.job.gpu.devices for step in self._steps):
            self.ranks |= self._by_queues()
        self._starts = self._allowance()
        self._undecided = self._starts >= 2 * len(self._steps)
        self._starting: set[str] = set()  # between their lease and their process
        self._abandoned = False

    def _allowance(self) -> int:
        """How many starts of jobs may be played; 0 where nothing can be won."""
        known = self._estimates.known + self._estimates.guessed
        jobs = len(self._steps)
        gpus = sum(self._leasing.gpus.values())
        if not known or jobs <= 2 or (jobs <= self._slots and jobs <= gpus):
            return 0
        from oumi_flow.schedule.choose import MOST_STARTS

        return min(MOST_STARTS, int(known / self._slots * _STARTS_A_SECOND))

    def begins(self, job: str) -> None:
        """It has its lease, and will have its process soon."""
        if self._undecided:
            self._starting.add(job)

    def has_begun(self, job: str) -> None:
        """It has its process, or will never have one."""
        self._starting.discard(job)

    def is_due(self, running: int) -> bool:
        """Whether the order is to be chosen now: once, and nobody's start waits for it."""
        return self._undecided and running > 0 and not self._starting

    def decision(
        self, gone: Collection[str], begun: Mapping[str, Sequence[int]]
    ) -> Callable[[], terms.Chosen]:
        """What a worker is to call for an order of what has neither `gone` nor `begun`.

        `begun`: jobs that run, with the GPUs that each holds. The call blocks for some two seconds
        at most.
        """
        self._undecided = False
        return lambda: self._choose(gone, begun)

    def _choose(self, gone: Collection[str], begun: Mapping[str, Sequence[int]]) -> terms.Chosen:
        from oumi_flow.schedule.choose import choose
        from oumi_flow.schedule.rules import slots_kept

        steps = [step for step in self._steps if step.job.name not in gone]
        number = {step.job.name: place for place, step in enumerate(steps)}
        jobs = self._job_set(steps)
        chosen = choose(
            jobs,
            begun={number[name]: gpus for name, gpus in begun.items() if name in number},
            starts=self._starts,
            trusted=self._estimates.trusted,
            stop=lambda: self._abandoned,
        )
        if chosen is None:
            return terms.Chosen(None)
        kept = slots_kept(self._slots, sum(jobs.capacity.values())) if chosen.spare else 0
        order = {step.job.name: rank for step, rank in zip(steps, chosen.ranks, strict=True)}
        return terms.Chosen(order, chosen.reserve, kept)

    def _by_queues(self) -> dict[str, Rank]:
        """Where jobs name their GPU, what queues before it counts for the first of them."""
        from oumi_flow.schedule import rules

        jobs = self._job_set(self._steps)
        order = rules.ranks(jobs, rules.queued_path(jobs))
        return {step.job.name: rank for step, rank in zip(self._steps, order, strict=True)}

    def _job_set(self, steps: Sequence[Step]) -> JobSet:
        from oumi_flow.schedule.rules import JobSet

        number = {step.job.name: place for place, step in enumerate(steps)}
        return JobSet(
            [self.seconds[step.job.name] for step in steps],
            [self._leasing.request(step.job) for step in steps],
            [list({number[name] for name in s.job.upstream if name in number}) for s in steps],
            [step.job.priority for step in steps],
            self._slots,
            dict(self._leasing.gpus),
        )

    def abandon(self) -> None:
        """It is not wanted any more."""
        self._abandoned = True
