"""What a lost run left: live processes to take over, ends that nobody has written down.

Called under the run lock, before planning. Knows the records of attempts and the executor's
`find`; starts nothing. A run that was killed at any instant is mended by this and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from oumi_flow.dataclass import dataclass, field
from oumi_flow.executors.base import Executor, Exit, Handle
from oumi_flow.model import Decision, JobState, Past, Step, Workflow
from oumi_flow.runner.terms import Ending
from oumi_flow.runner.work import Work
from oumi_flow.store import Store
from oumi_flow.text import count

_LOST = Ending(JobState.CANCELLED, "lost", "interrupted")
_TAKEN = "finished after its run was lost; its result is taken"


@dataclass(frozen=True, slots=True)
class Recovered:
    """`adopted`: job -> its live process, also of jobs that are not in the file any more.

    `changed`: jobs whose past is another one now.
    """

    adopted: Mapping[str, Handle] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    changed: frozenset[str] = frozenset()


def recover(
    workflow: Workflow,
    store: Store,
    executor: Executor,
    work: Work,
    pasts: Mapping[str, Past] | None = None,
) -> Recovered:
    """Settle every attempt that is still open. Raises FlowError when state cannot be written.

    Blocks while processes that lost their supervisor are stopped, and on content where an
    unrecorded success is checked. `pasts` as known so far; None: they are read.
    """
    pasts = store.pasts(workflow.jobs) if pasts is None else pasts
    left = [
        job
        for job in workflow.jobs
        if (past := pasts.get(job.name)) is not None
        and past.trace is None
        and past.attempt is not None
        and past.attempt.is_unsettled
    ]
    named = {job.name for job in workflow.jobs}
    notes: list[str] = []
    if unrecorded := executor.stop_unrecorded(store.paths.output_dir):
        them = f"{count(unrecorded, 'job')} of a lost run whose folders were deleted"
        notes.append(f"{them}: stopped, before anything is made anew")
    alive = executor.living(store.paths.output_dir)
    strays = {handle.job: handle for handle in alive if handle.job not in named}
    if not left:
        return Recovered(strays, tuple(notes))
    work.know(past.trace for past in pasts.values())
    found = executor.find([store.paths.job_state(job.name) for job in left])
    by_token = {handle.token: handle for handle in found}
    adopted = dict(strays)
    # In topological order: what an upstream is found to have made counts for those after it.
    for job in left:
        attempt = store.read_attempt(job.name)  # `find` may have settled more
        if attempt is None or not attempt.is_unsettled:
            continue
        if not attempt.is_open:
            if store.finish_commit(job.name):
                work.know([store.trace(job.name)])
                notes.append(f"{job.name} {_TAKEN}")
            continue
        step = Step(job, Decision.RUN, past=pasts[job.name])
        handle = by_token.get(attempt.token)
        if handle is not None:
            adopted[job.name] = handle
            continue
        exit = _exit_of(store, job.name, attempt.token)
        if exit is None:
            work.drop(step, _LOST)
            notes.append(f"{job.name} was lost with its run")
        else:
            notes.append(f"{job.name} {_settle(work, step, exit)}")
    return Recovered(adopted, tuple(notes), frozenset(job.name for job in left))


def _settle(work: Work, step: Step, exit: Exit) -> str:
    """Record how an attempt ended whose end nobody was there to see."""
    prepared = work.reopen(step, exit.token)
    if prepared is None and exit.code == 0:
        # It was right for what was wanted then, not for what is wanted now.
        work.drop(step, _LOST)
        return "finished after its run was lost, from other inputs than now"
    if prepared is None:
        prepared = work.reopen(step, exit.token, any_inputs=True)
        assert prepared is not None
    outcome = work.conclude(step, prepared, exit, None)
    if outcome.state is JobState.DONE:
        work.commit(step, prepared, outcome)
        return _TAKEN
    return f"ended after its run was lost: {outcome.detail}"


def _exit_of(store: Store, job: str, token: str) -> Exit | None:
    record = store.read_exit(job, token)
    if record is None:
        return None
    try:
        return Exit.from_json(record)
    except (ValueError, TypeError):  # not as a supervisor writes it: nobody knows how it ended
        return None
