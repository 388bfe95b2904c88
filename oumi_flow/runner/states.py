"""The states of a run's jobs, and the one function that changes them.

Knows which state may follow which, who waits for whom, and the counts. Does not know why a change
is asked for, nor anything of slots, processes, time or events. What a change brings about in
other jobs (a downstream that becomes ready or blocked) happens in the same call and is returned,
so nobody can forget it: a waiting job never outlives what it waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from oumi_flow.model import JobState
from oumi_flow.typed import NamedTuple

_S = JobState

# The whole life of a job. What is not listed here cannot happen.
FOLLOWS: Mapping[JobState, frozenset[JobState]] = {
    _S.WAITING: frozenset({_S.READY, _S.CANCELLED, _S.BLOCKED}),
    _S.READY: frozenset(
        # RUNNING at once: a process of a lost run that is taken over.
        {_S.QUEUED, _S.RUNNING, _S.UP_TO_DATE, _S.RESTORED, _S.FAILED, _S.CANCELLED}
    ),
    _S.QUEUED: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.DONE, _S.FAILED, _S.CANCELLED, _S.RETRYING}),
    _S.RETRYING: frozenset({_S.QUEUED, _S.FAILED, _S.CANCELLED}),
}


class Change(NamedTuple):
    """One job's new state. `cause` is for people and only set where there is one to tell."""

    job: str
    state: JobState
    cause: str = ""


class States:
    """Every job's state, with the counts beside it. One thread only."""

    def __init__(
        self, upstream: Sequence[tuple[str, Iterable[str]]], *, up_to_date: int = 0
    ) -> None:
        """`upstream`: each job with the jobs it waits for; names not listed count as fine.

        `up_to_date`: jobs that are counted and have no name here.
        """
        self._state: dict[str, JobState] = {job: _S.WAITING for job, _ in upstream}
        self._missing: dict[str, int] = {}
        self._downstream: dict[str, list[str]] = {}
        self.counts: dict[JobState, int] = dict.fromkeys(JobState, 0)
        self.counts[_S.WAITING] = len(self._state)
        self.counts[_S.UP_TO_DATE] = up_to_date
        self.unended = len(self._state)
        for job, needs in upstream:
            known = [name for name in dict.fromkeys(needs) if name in self._state]
            self._missing[job] = len(known)
            for name in known:
                self._downstream.setdefault(name, []).append(job)

    def __getitem__(self, job: str) -> JobState:
        return self._state[job]

    def __contains__(self, job: str) -> bool:
        return job in self._state

    def downstream(self, job: str) -> Sequence[str]:
        return self._downstream.get(job, ())

    def waits_only_for(self, job: str) -> list[str]:
        """Who will be ready once this one has succeeded."""
        below = self._downstream.get(job, ())
        return [n for n in below if self._missing[n] == 1 and self._state[n] is _S.WAITING]

    def waits_for(self, job: str) -> list[str]:
        """Who waits for this one, perhaps among others."""
        return [n for n in self._downstream.get(job, ()) if self._state[n] is _S.WAITING]

    def begin(self) -> list[Change]:
        """Make ready every job that waits for nobody, in the order given at the start."""
        changes: list[Change] = []
        for job in [job for job, missing in self._missing.items() if not missing]:
            changes += self.set(job, _S.READY)
        return changes

    def set(self, job: str, state: JobState, cause: str = "") -> list[Change]:
        """Change the state of `job`; returns that change and every one that it brought about.

        Raises ValueError for a change that `FOLLOWS` does not have.
        """
        self._move(Change(job, state, cause))
        changes = [Change(job, state, cause)]
        # A list that grows and not a recursion: a chain may be longer than Python's stack.
        for change in changes:
            if not change.state.ended:
                continue
            for name in self._downstream.get(change.job, ()):
                if change.state.succeeded:
                    self._missing[name] -= 1
                # A second way to the same job finds it blocked already.
                if self._state[name] is not _S.WAITING:
                    continue
                if not change.state.succeeded:
                    cause = change.cause if change.state is _S.BLOCKED else _did_not(change)
                    follower = Change(name, _S.BLOCKED, cause)
                elif not self._missing[name]:
                    follower = Change(name, _S.READY)
                else:
                    continue
                self._move(follower)
                changes.append(follower)
        return changes

    def _move(self, change: Change) -> None:
        old = self._state[change.job]
        if change.state not in FOLLOWS.get(old, ()):
            raise ValueError(f"{change.job} cannot go from {old.value} to {change.state.value}")
        self._state[change.job] = change.state
        self.counts[old] -= 1
        self.counts[change.state] += 1
        if change.state.ended:
            self.unended -= 1


def _did_not(change: Change) -> str:
    verb = "failed" if change.state is _S.FAILED else "was cancelled"
    return f"upstream {change.job} {verb}"
