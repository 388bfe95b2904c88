"""Processes that a lost run left alive: each is taken over by its job, or sent away.

Knows which are still to be decided on, which ended before that, and which are on their way out.
The loop decides; the pilot does the killing.
"""

from __future__ import annotations

from collections.abc import Mapping

from oumi_flow.executors.base import Exit, Handle
from oumi_flow.model import Decision, Plan, Step
from oumi_flow.runner.terms import Ending


class LostProcesses:
    """One thread only."""

    def __init__(self, handles: Mapping[str, Handle], plan: Plan) -> None:
        self.open = dict(handles)  # by job: not decided yet
        self.dropping: set[str] = set()  # jobs: gone, and that is being written down
        # With jobs of the file that are not in the plan. Of others nobody knows what they read.
        self._steps = {job.name: Step(job, Decision.RUN) for job in plan.workflow.jobs}
        self._steps |= {step.job.name: step for step in plan.steps}
        self._jobs = {handle.token: job for job, handle in handles.items()}
        self._early: dict[str, Exit] = {}  # by token: ended before it was decided
        self._leaving: dict[str, tuple[str, Ending, Handle]] = {}  # by token

    @property
    def leaving(self) -> list[Handle]:
        return [handle for _, _, handle in self._leaving.values()]

    @property
    def busy(self) -> bool:
        """Whether somebody is on the way out, or not noted down as gone yet."""
        return bool(self._leaving or self.dropping)

    def step(self, job: str) -> Step:
        return self._steps[job]

    def readers(self, job: str) -> list[str]:
        """Jobs whose live processes may be reading what `job` makes."""
        return [name for name in self.open if self._reads(name, job)]

    def in_the_way(self, job: str) -> bool:
        """Whether its own process, or one that reads what it makes, is on the way out."""
        going = self.dropping.union(name for name, _, _ in self._leaving.values())
        return any(name == job or self._reads(name, job) for name in going)

    def _reads(self, name: str, job: str) -> bool:
        return name in self._steps and job in self._steps[name].job.upstream

    def get(self, job: str) -> Handle | None:
        return self.open.get(job)

    def take(self, job: str) -> tuple[Handle, Exit | None]:
        """It is the job's own from now on; with its end, if it came to it already."""
        handle = self.open.pop(job)
        return handle, self._early.pop(handle.token, None)

    def send_away(self, job: str, ending: Ending) -> tuple[Handle, bool] | None:
        """The job does not want it: its handle, and whether it is still there to be cancelled."""
        handle = self.open.pop(job, None)
        if handle is None:
            return None
        if self._early.pop(handle.token, None) is not None:
            return handle, False
        self._leaving[handle.token] = (job, ending, handle)
        return handle, True

    def ended(self, token: str, exit: Exit) -> tuple[str, Ending] | None:
        """Note an end; the job and the ending if it had been sent away."""
        gone = self._leaving.pop(token, None)
        if gone is not None:
            return gone[:2]
        job = self._jobs.get(token)
        if job is not None and job in self.open:
            self._early[token] = exit
        return None

    def forget(self) -> None:
        """Nobody can be asked about them any more."""
        self.open.clear()
        self._leaving.clear()
