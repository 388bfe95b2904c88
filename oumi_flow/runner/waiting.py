"""Where queued jobs stand until there is a slot and, if they want one, a GPU.

Knows the order and the leases, and says (as JobQueued events) what somebody waits for: again when
that is another thing, but ever more rarely. Does not know how a job got here, nor what becomes of
it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from oumi_flow.errors import FlowError
from oumi_flow.events import Event, JobQueued
from oumi_flow.model import GpuRequest, Job
from oumi_flow.runner.leasing import Leasing
from oumi_flow.runner.terms import Lease
from oumi_flow.schedule.line import Line, Rank, admit
from oumi_flow.schedule.machine import Hold
from oumi_flow.schedule.requests import impossible

# What a job waits for as long as nothing better can be said.
_VAGUE = ("", "a slot", "a GPU")

# How much of its time a job may wait for one that goes first and is about to be ready; seconds
# below which that is too little to care, at most, and for a job that wants GPUs in any case.
_WORTH, _AT_LEAST, _AT_MOST, _FOR_GPUS = 0.01, 0.05, 1.0, 0.1

# How many are told at a time that they wait: a fraction of a millisecond.
_AT_ONCE = 32

# Seconds: how soon to look who is in the way, and after saying so, once more and at last.
_LOOK, _SAY_AGAIN, _SAY_SELDOM = 0.25, 2.0, 60.0


class WaitingRoom:
    """One thread only. `waits(job)` says whether a job is still queued."""

    def __init__(
        self,
        leasing: Leasing,
        ranks: Mapping[str, Rank],
        seconds: Mapping[str, float],
        waits: Callable[[str], bool],
        tell: Callable[[Event], None],
    ) -> None:
        self.leasing, self._ranks, self._waits, self._tell = leasing, ranks, waits, tell
        self.seconds = seconds
        self._line: Line[str] = Line(waits)
        # What has ended well but is not recorded yet: who is ready then, and since when.
        self._coming: dict[str, tuple[Rank, float]] = {}
        # What is about to be recorded in a moment: the first of those who wait for it.
        self._soon: dict[str, Rank] = {}
        self._again: float | None = None  # when somebody has waited for those for long enough
        self._left = float("-inf")  # when the line was last walked
        # Of whom it has not been said yet that they wait, and whether they do for a GPU.
        self._fresh: deque[tuple[str, bool]] = deque()
        self._words: dict[str, tuple[str, ...]] = {}  # why each runs
        self._told: dict[str, str] = {}
        self._pauses: dict[str, float] = {}  # between two looks at who is in the way
        self._looks: dict[str, float] = {}  # when the next one is

    def enter(self, job: Job, words: tuple[str, ...] = ()) -> None:
        request = self.leasing.request(job)
        self._line.push(job.name, self._ranks[job.name], request)
        self._words[job.name] = words
        self._told[job.name] = ""
        self._looks.pop(job.name, None)
        self._pauses.pop(job.name, None)
        self._fresh.append((job.name, request is not None))

    def leave(
        self, now: float, has_slot: Callable[[], bool], keeps_slots: Callable[[], bool]
    ) -> Iterator[tuple[str, Lease | None, str]]:
        """Who goes now, one by one as long as there are slots, each with its lease.

        Or with words for why nothing can be leased: such a one is not to run.
        """
        self._again, self._left = None, now
        for job, got in admit(self._line, _Desk(self, now, has_slot, keeps_slots)):
            if (words := self._words[job]) and not self._told[job]:
                self._tell(JobQueued(job, reasons=words))
            yield job, *(got or (None, ""))
        self.leasing.keep(self._line.requests())
        if not has_slot():
            self.leasing.park(now)

    def say_who_waits(self, has_slot: bool) -> None:
        """Tell of some of those who came in what holds them back, where anything does.

        In a wide workflow that is news of thousands: those who run start meanwhile.
        """
        for _ in range(min(_AT_ONCE, len(self._fresh))):
            job, wants_gpu = self._fresh.popleft()
            if self._waits(job) and not self._told[job]:
                self._say(job, "a GPU" if has_slot and wants_gpu else "a slot")

    @property
    def has_news(self) -> bool:
        """Whether there is more to say of who waits."""
        return bool(self._fresh)

    def next_due(self) -> float | None:
        """The clock's time at which a lease is worth another try."""
        tries = [self.leasing.next_try(request) for request in self._line.requests()]
        # Who was kept back for another has not been tried: for him no time comes but a release.
        due = (when for when in (*tries, self._again) if when is not None and when > self._left)
        return min(due, default=None)

    def expect(self, job: str, coming: list[str], now: float) -> None:
        """`job` is about to be done, and `coming` will be ready then."""
        if coming:
            self._coming[job] = (min(self._ranks[name] for name in coming), now)

    def expect_soon(self, job: str, below: Iterable[str]) -> None:
        """In a moment `job` is done, or not; of `below`, who wait for it, some may be ready."""
        rank = min((self._ranks[name] for name in below), default=None)
        if rank is not None:
            self._soon[job] = rank

    def arrived(self, job: str) -> None:
        """It is done, or not."""
        self._coming.pop(job, None)
        self._soon.pop(job, None)

    def waits(self, job: str, rank: Rank, request: GpuRequest | None, now: float) -> bool:
        """Whether one that goes before this job is about to be ready, and worth waiting for.

        Else a GPU whose job has ended goes to a lesser one, for hours perhaps, in the moment that
        recording the end takes.
        """
        if self._soon and min(self._soon.values()) < rank:
            return True
        if not self._coming:
            return False
        seconds = self.seconds[job] * _WORTH
        patience = min(seconds, _AT_MOST) if seconds >= _AT_LEAST else 0.0
        if request is not None:
            patience = max(patience, _FOR_GPUS)
        for before, since in self._coming.values():
            if before < rank and now < since + patience:
                self._again = since + patience
                return True
        return False

    def refit(self, jobs: Mapping[str, Job]) -> list[str]:
        """The GPUs are not those they were: stand everybody in line anew, the same order as ever.

        Returns the jobs that cannot be served any more; they stand nowhere.
        """
        self._line = Line(self._waits)
        lost: list[str] = []
        for name in [name for name in self._told if self._waits(name)]:
            request = self.leasing.request(jobs[name])
            if impossible(request, self.leasing.gpus):
                lost.append(name)
            else:
                self._line.push(name, self._ranks[name], request)
        return lost

    def reorder(self, ranks: Mapping[str, Rank]) -> None:
        """Another order from now on; who is not in it keeps the rank it has."""
        self._ranks = {**self._ranks, **ranks}
        old, self._line = self._line, Line(self._waits)
        for job, request in old.jobs():
            if self._waits(job):
                self._line.push(job, self._ranks[job], request)

    def say_who_is_in_the_way(self, job: str, request: GpuRequest, now: float) -> None:
        if now < self._looks.get(job, 0.0):
            return
        words = self.leasing.waiting_for(request, now)
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


class _Desk:
    """Where those in line ask, at one moment. What is had is a lease, or words for why not."""

    def __init__(
        self,
        room: WaitingRoom,
        now: float,
        has_slot: Callable[[], bool],
        keeps_slots: Callable[[], bool],
    ) -> None:
        self._room, self._now = room, now
        self.has_slot, self.keeps_slots = has_slot, keeps_slots

    def waits(self, job: str, rank: Rank, request: GpuRequest | None) -> bool:
        return self._room.waits(job, rank, request, self._now)

    def take(
        self, job: str, request: GpuRequest, before: Collection[GpuRequest]
    ) -> tuple[Lease | None, str] | None:
        try:
            lease = self._room.leasing.try_lease(job, request, self._now, tuple(before))
        except FlowError as fault:
            return None, str(fault)
        if lease is None:
            self._room.say_who_is_in_the_way(job, request, self._now)
            return None
        return lease, ""

    def hold(self, request: GpuRequest) -> Hold | None:
        return self._room.leasing.hold(request, self._now)

    def seconds(self, job: str) -> float:
        return self._room.seconds[job]
