"""How long each job may take: its own last time, else its verb's usual one, else a guess."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from oumi_flow.graph import remaining_path
from oumi_flow.model import Decision, Step
from oumi_flow.schedule.line import Rank
from oumi_flow.typed import NamedTuple
from oumi_flow.verbs import verb


def _median(times: list[float]) -> float:
    from statistics import median  # loads a dozen modules, for who has no guess of its own

    return median(times)


def _usual(name: str) -> float:
    """Seconds that the table gives this verb."""
    with suppress(KeyError):
        return verb(name).usual_seconds
    return 1.0


class Estimates(NamedTuple):
    """`seconds` of every job; `known`: the seconds of those that were timed themselves."""

    seconds: dict[str, float]
    known: float
    guessed: float  # seconds taken from others of the same verb

    @property
    def trusted(self) -> bool:
        """Whether most of the work is of jobs that ran before."""
        return self.known > self.guessed


def estimate(steps: Iterable[Step]) -> Estimates:
    """A job that is up to date takes no time."""
    steps = list(steps)
    times: dict[str, list[float]] = {}
    for step in steps:
        if step.expected is not None:
            times.setdefault(step.job.verb, []).append(step.expected)
    usual: dict[str, float] = {}  # by verb
    seconds: dict[str, float] = {}
    known = guessed = 0.0
    for step in steps:
        if step.decision is Decision.UP_TO_DATE:
            taken = 0.0
        elif step.expected is None:
            name = step.job.verb
            if name not in usual:
                usual[name] = _median(times[name]) if name in times else _usual(name)
            taken = usual[name]
            if times:
                guessed += taken
        else:
            taken = step.expected
            # A plan fills in the verb's usual time for jobs without a past.
            if step.past.trace is not None or step.past.previous is not None:
                known += taken
            else:
                guessed += taken
        seconds[step.job.name] = taken
    return Estimates(seconds, known, guessed)


def ranks(steps: Sequence[Step], seconds: Mapping[str, float]) -> dict[str, Rank]:
    """Priority, then longest remaining path, then file order; `steps` in topological order."""
    jobs = [step.job for step in steps]
    remaining = remaining_path(
        [job.name for job in jobs], {job.name: job.upstream for job in jobs}, seconds
    )
    return {
        job.name: (-job.priority, -remaining[job.name], place) for place, job in enumerate(jobs)
    }
