"""What the loop remembers of a job that is not waiting any more, and the events made of it."""

from __future__ import annotations

from collections.abc import Mapping

from oumi_flow.dataclass import dataclass
from oumi_flow.events import JobFinished, JobStarted
from oumi_flow.executors.base import Handle
from oumi_flow.model import JobState, Outcome, Step
from oumi_flow.runner.terms import Ending, Lease, Prepared

_LONGEST = 366 * 86400.0  # seconds between two attempts


@dataclass(slots=True)
class Live:
    """From a job's first look until its end, over all its attempts."""

    step: Step
    number: int = 1  # of the attempt, from 1
    lease: Lease | None = None
    prepared: Prepared | None = None
    handle: Handle | None = None
    ending: Ending | None = None
    concluding: bool = False
    cpu: float | None = None  # seconds that it took, of all its processes
    left_slot: bool = False  # its process is gone, and another may run in its place
    adopted: bool = False  # the attempt was begun by a run that is lost

    def pause(self) -> float:
        """Seconds to wait after this attempt before the next."""
        retry = self.step.job.retry
        if not retry.delay:
            return 0.0
        try:
            return min(_LONGEST, float(retry.delay * retry.backoff ** (self.number - 1)))
        except OverflowError:
            return _LONGEST

    def start_over(self) -> None:
        """Forget the attempt that was."""
        self.prepared = self.handle = self.cpu = None
        self.concluding = self.adopted = False


def started(live: Live, adopted: bool) -> JobStarted:
    prepared = live.prepared
    assert prepared is not None
    return JobStarted(
        live.step.job.name,
        attempt=live.number,
        devices=prepared.devices,
        log=prepared.attempt.log,
        adopted=adopted,
        detail=prepared.detail,
    )


def finished(
    job: str,
    state: JobState,
    cause: str,
    live: Live | None = None,
    outcome: Outcome | None = None,
    took: float | None = None,
) -> JobFinished:
    return JobFinished(
        job,
        state.value,
        exit_code=outcome.exit_code if outcome else None,
        cause=cause,
        took=took,
        gpus=live.prepared.gpus if live and live.prepared else 0,
        metrics=dict(outcome.trace.metrics) if outcome and outcome.trace else {},
        cpu=live.cpu if live else None,
    )


def run_state(counts: Mapping[JobState, int]) -> str:
    """How a run ended that nobody stopped; nothing is blocked without something that failed."""
    if counts[JobState.FAILED]:
        return "failed"
    return "cancelled" if counts[JobState.CANCELLED] else "done"
