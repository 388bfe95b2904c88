"""Where queued jobs stand until there is a slot and, if they want one, a GPU.

Knows the order and the leases, and says (as JobQueued events) what somebody waits for: again when
that is another thing, but ever more rarely. Does not know how a job got here, nor what becomes of
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from oumi_flow.errors import FlowError
from oumi_flow.events import Event, JobQueued
from oumi_flow.model import GpuRequest, Job
from oumi_flow.runner.leasing import Leasing
from oumi_flow.runner.schedule import Line, Rank, impossible
from oumi_flow.runner.terms import Lease

# What a job waits for as long as nothing better can be said.
_VAGUE = ("", "a slot", "a GPU")

# Seconds: how soon to look who is in the way, and after saying so, once more and at last.
_LOOK, _SAY_AGAIN, _SAY_SELDOM = 0.25, 2.0, 60.0


class WaitingRoom:
    """One thread only. `waits(job)` says whether a job is still queued."""

    def __init__(
        self,
        leasing: Leasing,
        ranks: Mapping[str, Rank],
        waits: Callable[[str], bool],
        tell: Callable[[Event], None],
    ) -> None:
        self._leasing, self._ranks, self._waits, self._tell = leasing, ranks, waits, tell
        self._line = Line(waits)
        self._fresh: list[str] = []
        self._words: dict[str, tuple[str, ...]] = {}  # why each runs
        self._told: dict[str, str] = {}
        self._pauses: dict[str, float] = {}  # between two looks at who is in the way
        self._looks: dict[str, float] = {}  # when the next one is

    def enter(self, job: Job, words: tuple[str, ...] = ()) -> None:
        self._line.push(job.name, self._ranks[job.name], self._leasing.request(job))
        self._words[job.name] = words
        self._told[job.name] = ""
        self._looks.pop(job.name, None)
        self._pauses.pop(job.name, None)
        self._fresh.append(job.name)

    def leave(
        self, now: float, has_slot: Callable[[], bool]
    ) -> Iterator[tuple[str, Lease | None, str]]:
        """Who goes now, one by one as long as there are slots, each with its lease.

        Or with words for why nothing can be leased: such a one is not to run.
        """
        without: dict[GpuRequest, None] = {}  # requests that get nothing for the moment, in order
        while has_slot() and (first := self._line.first(without)) is not None:
            job, _, request = first
            lease = None
            if request is not None:
                try:
                    lease = self._leasing.try_lease(job, request, now, tuple(without))
                except FlowError as fault:
                    self._line.pop(request)
                    yield job, None, str(fault)
                    continue
                if lease is None:
                    without[request] = None
                    self._say_who_is_in_the_way(job, request, now)
                    continue
            self._line.pop(request)
            yield job, lease, ""
        self._leasing.keep(self._line.requests())
        if not has_slot():
            self._leasing.park(now)

    def say_who_waits(self, has_slot: bool) -> None:
        """Tell of those who came in since the last call what holds them back, if anything does."""
        for job in self._fresh:
            if self._waits(job):
                if not self._told[job]:
                    self._say(job, "a GPU" if has_slot else "a slot")
            elif self._words[job]:
                self._tell(JobQueued(job, reasons=self._words[job]))
        self._fresh.clear()

    def next_due(self) -> float | None:
        """The clock's time at which a lease is worth another try."""
        tries = (self._leasing.next_try(request) for request in self._line.requests())
        return min((when for when in tries if when is not None), default=None)

    def refit(self, jobs: Mapping[str, Job]) -> list[str]:
        """The GPUs are not those they were: stand everybody in line anew, the same order as ever.

        Returns the jobs that cannot be served any more; they stand nowhere.
        """
        self._line = Line(self._waits)
        lost: list[str] = []
        for name in [name for name in self._told if self._waits(name)]:
            request = self._leasing.request(jobs[name])
            if impossible(request, self._leasing.gpus):
                lost.append(name)
            else:
                self._line.push(name, self._ranks[name], request)
        return lost

    def _say_who_is_in_the_way(self, job: str, request: GpuRequest, now: float) -> None:
        if now < self._looks.get(job, 0.0):
            return
        words = self._leasing.waiting_for(request, now)
        pause = _LOOK
        if words and words != self._told[job]:
            self._say(job, words)
            # Where many short jobs come and go, who holds what is no news for long.
            pause = min(max(_SAY_AGAIN, 2 * self._pauses.get(job, 0.0)), _SAY_SELDOM)
            self._pauses[job] = pause
        elif words:
            pause = self._pauses.get(job, _LOOK)
        elif self._told[job] in _VAGUE:
            pause = 0.05
        self._looks[job] = now + pause

    def _say(self, job: str, what: str) -> None:
        if what and self._told[job] != what:
            self._told[job] = what
            self._tell(JobQueued(job, what, self._words[job]))
