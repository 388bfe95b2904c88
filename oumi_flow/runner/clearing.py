"""What an attempt finds in its job's folder: it goes on from there, or has that moved away.

Knows the records of earlier attempts and how verbs go on; writes no record. Calls may block on
content and raise FlowError.
"""

from __future__ import annotations

from oumi_flow import verbs
from oumi_flow.dataclass import dataclass, replace
from oumi_flow.model import Code, Job, LastAttempt, Step
from oumi_flow.runner import resume, rows
from oumi_flow.store import Store

# Instead of its build key, of an attempt that is about to move away what one of another key left.
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class Ground:
    before: LastAttempt | None = None  # which is gone on from
    stays: bool = True  # nothing of another build lies there, or it is no matter
    partial: bool = False  # see `Store.is_partial`

    def intent(self, opened: LastAttempt) -> LastAttempt:
        """What is recorded of an attempt before the way is clear.

        With its build key, what lies there yet would count as its own.
        """
        if self.stays:
            return opened
        return replace(opened, build_key=_OTHER if self.partial else "")


def survey(store: Store, step: Step, number: int, build_key: str, fresh: bool) -> Ground:
    """What an attempt with that number in its run finds. `fresh`: there was no state folder.

    To be called before anything is recorded of the attempt.
    """
    if verbs.verb(step.job.verb).is_shell:
        return Ground()
    if fresh:
        return Ground(stays=False)
    before = _unfinished(store, step, number)
    if before is not None and resume.may_continue(before, build_key):
        return Ground(before, partial=True)
    return Ground(stays=False, partial=store.is_partial(step.job.name))


def _unfinished(store: Store, step: Step, number: int) -> LastAttempt | None:
    """The attempt before this one, if it may be built upon as far as the user is concerned."""
    forced = any(reason.code is Code.FORCED for reason in step.reasons)
    if number == 1 and (forced or step.past.trace is not None):
        return None
    return store.read_attempt(step.job.name)


def clear(store: Store, job: Job, ground: Ground) -> tuple[str, str]:
    """A fresh folder for an oumi verb, or the one it goes on in.

    Returns the checkpoint to go on from, and where that is which lay there; "" for none.
    """
    spec = verbs.verb(job.verb)
    if spec.is_shell:
        return "", ""
    if ground.before is not None:
        if resume.goes_on_by_itself(job, spec):
            if spec.rows:
                rows.mend(job.place, spec.rows)
            return "", ""
        if spec.resume and (checkpoint := resume.newest_checkpoint(job, ground.before)):
            return checkpoint, ""
    aside = store.set_aside(job.name, ground.partial)
    if spec.rows and not resume.in_its_folder(job):
        rows.put_away(job.place, spec.rows)
    return "", aside
