"""What the loop orders of others, and the message that comes back of each, whatever happens.

Knows which call answers with which message and what a fault of it means; nothing of states.
"""

from __future__ import annotations

from collections.abc import Callable

from oumi_flow.executors.base import Exit, Handle
from oumi_flow.model import JobState, Outcome, Step
from oumi_flow.runner import terms
from oumi_flow.runner.terms import Defer, Ending, Lease, Message, Prepared, Verdict, Worker


class Orders:
    """No call blocks: the work is done later, by a worker or in between, and then answered."""

    def __init__(self, work: Worker, defer: Defer) -> None:
        self._work, self._defer = work, defer

    def judges(self, step: Step) -> bool:
        return self._work.judges(step)

    def recheck(self, step: Step) -> None:
        """Answered by `Rechecked`."""
        job = step.job.name
        self._defer(
            lambda: terms.Rechecked(job, self._work.recheck(step)),
            lambda fault: terms.Rechecked(job, Verdict(JobState.FAILED, detail=fault)),
        )

    def may_restore(self, step: Step) -> bool:
        return self._work.may_restore(step)

    def restore(self, step: Step, words: tuple[str, ...]) -> None:
        """Answered by `LookedUp`."""
        job = step.job.name
        self._defer(
            lambda: terms.LookedUp(job, self._work.restore(step), words),
            lambda fault: terms.LookedUp(job, Verdict(JobState.FAILED, detail=fault)),
        )

    def adopt(self, step: Step, handle: Handle) -> None:
        """Answered by `TakenOver`."""
        job = step.job.name
        self._defer(
            lambda: terms.TakenOver(job, self._work.adopt(step, handle)),
            lambda fault: terms.TakenOver(job, None),
        )

    def prepare(self, step: Step, number: int, lease: Lease | None) -> None:
        """Answered by `Readied`."""
        job = step.job.name
        self._defer(
            lambda: terms.Readied(job, self._work.prepare(step, number, lease)),
            lambda fault: terms.Readied(job, None, fault),
            lambda: self._work.is_brief(step, number),
            first=True,
        )

    def conclude(
        self, step: Step, prepared: Prepared, exit: Exit, ending: Ending | None, took: float
    ) -> bool:
        """Check what an attempt came to, and write the marker of a success: `Concluded`.

        Returns whether that is a matter of a moment.
        """
        job = step.job.name

        def conclude() -> Message:
            outcome = self._work.conclude(step, prepared, exit, ending)
            if outcome.state is JobState.DONE:
                self._work.commit(step, prepared, outcome)
            return terms.Concluded(job, outcome, took)

        def instead(fault: str) -> Message:
            # What its process left tells the next run how it ended: not lost, so not repeated.
            outcome = Outcome(JobState.FAILED, fault, retryable=False)
            return terms.Concluded(job, outcome, took)

        number = prepared.attempt.number
        return self._defer(conclude, instead, lambda: self._work.is_brief(step, number, exit))

    def record(self, step: Step, ending: Ending, then: Message) -> None:
        """Have it written down that the latest attempt came to nothing; answered by `then`."""

        def drop() -> Message:
            self._work.drop(step, ending)
            return then

        self._defer(drop, lambda fault: then)

    def shares(self, step: Step) -> bool:
        return self._work.shares(step)

    def share(self, step: Step) -> None:
        """Answered by `Shared`."""
        job = step.job.name
        self._defer(
            lambda: terms.Shared(job, self._work.share(step)),
            lambda fault: terms.Shared(job, (f"its result is not shared: {fault}",)),
        )

    def choose(self, call: Callable[[], terms.Chosen]) -> None:
        """Find a good order; answered by `Chosen`."""
        self._defer(call, lambda fault: terms.Chosen(None))

    def abandon(self) -> None:
        """Nothing is copied to or from a shared cache any more."""
        self._work.abandon()
