"""Slots that jobs without a GPU leave to those with one, as long as any of these is to come.

Knows who asks for GPUs and how many tokens the run holds; states only as far as it is told of ends.
"""

from __future__ import annotations

from collections.abc import Iterable

from oumi_flow.model import Job
from oumi_flow.runner.leasing import Leasing


class KeptSlots:
    """One thread only. None are kept before `keep` was called."""

    def __init__(self, leasing: Leasing) -> None:
        self._leasing = leasing
        self._kept = 0
        self._to_come: dict[str, Job] = {}

    def keep(self, slots: int, jobs: Iterable[Job]) -> None:
        """Keep so many from now on; `jobs` have not ended."""
        self._kept = slots
        self._to_come = {job.name: job for job in jobs}
        self.refit()

    def refit(self) -> None:
        """The GPUs are not those they were: some jobs may do without one now."""
        self._kept = min(self._kept, sum(self._leasing.gpus.values()))
        with_gpu = {name: job for name, job in self._to_come.items() if self._leasing.request(job)}
        self._to_come = with_gpu if self._kept else {}

    def ended(self, job: str) -> None:
        """In whatever state: it is not to come any more."""
        self._to_come.pop(job, None)

    def takes(self, free: int) -> bool:
        """Whether all of `free` slots are kept."""
        return bool(self._to_come) and free <= self._kept - self._leasing.busy
