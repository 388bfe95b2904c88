"""What the loop has done in workers: judging again, making an attempt ready, checking its result.

Knows the job's files through `store`, its content through `disk`, its verb through the table.
Does not know states, slots, threads or processes. Each call may block on content and raises
FlowError with words for the user; two calls for one job never overlap.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache

from oumi_flow import metrics, reasons, staleness, verbs
from oumi_flow.dataclass import replace
from oumi_flow.disk import Disk
from oumi_flow.errors import FlowError
from oumi_flow.executors.base import Attempt, Exit, Handle
from oumi_flow.model import (
    EMPTY,
    Decision,
    Evidence,
    Job,
    JobState,
    LastAttempt,
    Outcome,
    Past,
    Plan,
    Step,
    Trace,
    Workflow,
)
from oumi_flow.progress import Follower, follower, total_of
from oumi_flow.runner import clearing, resume
from oumi_flow.runner.brief import Brevity
from oumi_flow.runner.children import Children
from oumi_flow.runner.ends import End, end_of
from oumi_flow.runner.reuse import Reuse
from oumi_flow.runner.settling import Settling
from oumi_flow.runner.terms import Ending, Lease, Prepared, Verdict
from oumi_flow.runner.warming import Warming
from oumi_flow.store import Store
from oumi_flow.store.cache import RunCache
from oumi_flow.verbs import VerbSpec

_LONG_AGO = 1.0  # unix seconds


class Work:
    """One run's workers' hands. `now` gives unix seconds."""

    def __init__(
        self,
        workflow: Workflow,
        store: Store,
        disk: Disk,
        *,
        run_id: str,
        environ: Mapping[str, str],
        oumi: tuple[str, ...] = ("oumi",),
        cache: RunCache | None = None,
        versions: Mapping[str, str] = EMPTY,
        software: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`versions`: tool -> version, kept in traces; `software` as in `judge`.

        `cache`: where results of earlier build keys are kept; None: below the output folder only.
        """
        self._store, self._disk, self._run_id, self._now = store, disk, run_id, now
        self._began = now()
        self._environ = environ
        self._children = Children(environ, oumi)
        self._versions, self._software = versions, software
        kept = RunCache(store.paths, store.files) if cache is None else cache
        self._reuse = Reuse(store, disk, kept, software)
        self._brevity = Brevity(disk, store.paths.output_dir)
        self._sources = workflow.sources
        self._oumi, self._warming = oumi, Warming((), oumi, self._children, False)
        self.unmended: list[str] = []
        self._keys: dict[str, str] = {}  # build keys of what is there
        self._done: set[str] = set()  # made in this run; their traces are with the store
        self._settling = Settling(store, disk, self._brevity)
        self._opened: dict[str, LastAttempt] = {}
        self._refreshed: dict[str, Trace] = {}

    # -- before the first job -----------------------------------------------------------------

    def know(self, traces: Iterable[Trace | None]) -> None:
        """What is there already, for jobs that count that an upstream ran."""
        self._keys.update((trace.job, trace.build_key) for trace in traces if trace is not None)

    def stage(self, plan: Plan) -> None:
        """Make ready to run this plan: to be called once, before the run. Raises FlowError.

        Copies the configs of all jobs that may run: a later edit, while a job waits or runs,
        changes nothing of this run.
        """
        self.know(step.past.trace for step in plan.steps)
        self._refreshed = dict(plan.refreshed)
        for step in plan.steps:
            job = step.job
            if step.decision is Decision.UP_TO_DATE or not job.config:
                continue
            self._store.make_folder(job.name)
            expected = self._sources.get(job.config)
            self._store.copy_config(job.name, job.config, expected)

    def warm(self, plan: Plan, sees_gpus: bool) -> Warming:
        """How jobs of this plan start from now on. To be called once, before the run."""
        self._warming = Warming(plan.steps, self._oumi, self._children, sees_gpus)
        return self._warming

    # -- before an attempt ----------------------------------------------------------------------

    def mend(self) -> None:
        """End what a killed run was moving to or from the run cache.

        To be called under the lock, before anything is planned. `unmended` has words for the rest.
        """
        self.unmended = self._reuse.mend()

    @property
    def mended(self) -> bool:
        """Whether `mend` found something, so that what was seen before may be so no more."""
        return self._reuse.mended

    def is_brief(self, step: Step, number: int, exit: Exit | None = None) -> bool:
        """As terms.Worker has it."""
        if exit is None:
            return self._brevity.of_preparing(step, number)
        return self._brevity.of_concluding(step.job, exit)

    def judges(self, step: Step) -> bool:
        return step.decision is Decision.MAY_RUN

    def recheck(self, step: Step) -> Verdict:
        """Judge a job whose upstreams are all there now."""
        judgement = staleness.judge(
            step.job, step.past, self._disk, build_keys=self._keys, software=self._software
        )
        if judgement.reasons:
            return Verdict(
                JobState.QUEUED, judgement.reasons, tuple(reasons.lines(judgement.reasons))
            )
        if judgement.refreshed is not None:
            self._refreshed[step.job.name] = judgement.refreshed
        return Verdict(JobState.UP_TO_DATE, detail=reasons.up_to_date(step.past.trace))

    def may_restore(self, step: Step) -> bool:
        return self._reuse.may_restore(step)

    def restore(self, step: Step) -> Verdict:
        """Bring back from the run cache what the job would make, if it is there."""
        inputs = self._observe_inputs(step)
        trace, notes = self._reuse.restore(step, staleness.key_of(step.job, inputs), inputs)
        if trace is None:
            return Verdict(JobState.QUEUED, notes=notes)
        self._made(step.job, trace)
        return Verdict(JobState.RESTORED, detail=reasons.restored(trace), trace=trace, notes=notes)

    def prepare(self, step: Step, number: int, lease: Lease | None) -> Prepared:
        """Make everything ready for a process; from here on the old result is not trusted."""
        job, spec = step.job, verbs.verb(step.job.verb)
        self._reuse.refuse_stuck(job)
        self._settling.forget(job.name)
        env = self._children.env(job, number, lease)
        inputs = self._observe_inputs(step)
        build_key = staleness.key_of(job, inputs)
        gpus = len(lease.devices) if lease is not None else 0
        began = self._now()
        opened = LastAttempt(
            self._run_id, number, "starting", "", build_key, os.urandom(8).hex(), began, gpus=gpus
        )
        fresh = self._store.make_folder(job.name)
        ground = clearing.survey(self._store, step, number, build_key, fresh)
        if (before := ground.before) is not None:
            opened = replace(opened, since=before.since or before.started)
        # In this order: at no instant is there a marker whose outputs may be changing, nor a job
        # without a marker of which nothing is known, nor what another build left under our key.
        intent = self._opened[job.name] = ground.intent(opened)
        self._store.write_attempt(job.name, intent, first=fresh)
        notes: tuple[str, ...] = ()
        if number == 1 and not fresh:
            notes = self._reuse.make_way(step, build_key)
        elif not fresh:
            self._store.remove_marker(job.name)
        self._keys.pop(job.name, None)
        checkpoint, aside = clearing.clear(self._store, job, ground)
        if aside and number == 1 and step.past == Past():  # nobody's of ours
            notes = (*notes, f"what lay in {job.folder} before is in {aside} now")
        if not ground.stays:
            self._opened[job.name] = opened
            self._store.write_attempt(job.name, opened)
        self._make_parents(job)
        if not fresh:
            self._forget_progress(job, keep_history=bool(checkpoint))
        log = self._begin_log(job, number, began)
        extra: tuple[str, ...] = ()
        if checkpoint:
            path = checkpoint
            if not os.path.isabs(path):
                path = os.path.relpath(path, job.command.cwd)
            extra = (f"--{spec.resume}={path}",)
        argv = self._children.argv(job, spec.is_shell, extra)
        attempt = Attempt(
            run_id=self._run_id,
            job=job.name,
            number=number,
            token=opened.token,
            argv=argv,
            direct=self._children.direct(job, argv) if spec.is_shell else None,
            cwd=job.command.cwd,
            env=env,
            state_dir=self._store.paths.job_state(job.name),
            log=log,
            mask=self._children.masked(job),
            limit=job.timeout,
            grace=job.grace,
            descriptors=tuple(lease.descriptors) if lease is not None else (),
            warmth=self._warming.of(job),
        )
        return Prepared(
            attempt,
            build_key,
            inputs,
            self._clock_of(log, spec, began),
            gpus,
            tuple(lease.devices) if lease is not None else (),
            tuple(lease.visible.split(",")) if lease is not None else (),
            f"resumes from {os.path.basename(checkpoint)}" if checkpoint else "",
            # A metrics file may hold rows of an earlier attempt, so its size now is what counts.
            None if spec.is_shell else _follower(job, log),
            notes,
        )

    def adopt(self, step: Step, handle: Handle) -> Prepared | None:
        """Take over a live process, if what it was started for is what is wanted now."""
        return self.reopen(step, handle.token)

    def reopen(self, step: Step, token: str, any_inputs: bool = False) -> Prepared | None:
        """The latest attempt as it was prepared, if it has this token and is still what is wanted.

        That it is, its build key says: the same work on the same content. With `any_inputs` that
        does not matter, since nothing is going to be made of its result.
        """
        job = step.job
        opened = self._store.read_attempt(job.name)
        if opened is None or opened.token != token or not opened.is_open:
            return None
        inputs = self._observe_inputs(step)
        if staleness.key_of(job, inputs) != opened.build_key and not any_inputs:
            return None
        self._opened[job.name] = opened
        attempt = Attempt(
            run_id=opened.run_id,
            job=job.name,
            number=opened.number,
            token=token,
            argv=(),
            cwd=job.command.cwd,
            env={},
            state_dir=self._store.paths.job_state(job.name),
            log=self._store.paths.log(job.name),
        )
        follower = _follower(job, attempt.log, skip=0)
        return Prepared(
            attempt, opened.build_key, inputs, opened.started, opened.gpus, follower=follower
        )

    def _observe_inputs(self, step: Step) -> dict[str, Evidence]:
        past = step.past.trace or step.past.previous
        known = past.inputs if past is not None else EMPTY
        return staleness.observe_inputs(step.job, self._disk, self._keys, known)

    def _make_parents(self, job: Job) -> None:
        for path in (job.place, *(out.path for out in job.outputs if out.declared)):
            parent = os.path.dirname(path)
            if parent and parent != job.folder and not os.path.isdir(parent):
                try:
                    os.makedirs(parent, exist_ok=True)
                except OSError as fault:
                    raise FlowError(f"{parent}: cannot make it: {fault.strerror}") from fault

    def _forget_progress(self, job: Job, keep_history: bool) -> None:
        paths = self._store.paths
        with suppress(FileNotFoundError):
            os.unlink(paths.progress(job.name))
        if not keep_history:
            with suppress(FileNotFoundError):
                os.unlink(paths.metrics(job.name))

    def _begin_log(self, job: Job, number: int, began: float) -> str:
        self._store.rotate_log(job.name)
        log = self._store.paths.log(job.name)
        at = _moment(int(began))
        line = f"# run {self._run_id}, attempt {number}, started {at}\n"
        self._store.files.append(log, line.encode())
        return log

    @staticmethod
    def _clock_of(log: str, spec: VerbSpec, began: float) -> float:
        """The start by the clock of the file system, for verbs whose results are told by age."""
        if spec.publishes:
            with suppress(OSError):
                return os.stat(log).st_mtime
        return began

    # -- after an attempt -----------------------------------------------------------------------

    def conclude(
        self, step: Step, prepared: Prepared, exit: Exit, ending: Ending | None
    ) -> Outcome:
        """What the attempt came to. DONE has its trace, and is to be committed."""
        job = step.job
        end = end_of(job, exit, prepared.attempt.log, ending)
        if end is None:
            made = self._result(job, prepared, exit)
            if isinstance(made, Trace):
                return Outcome(JobState.DONE, exit_code=0, trace=made)
            end = End("failed", made, made)
        self._close(job, exit, end.record, end.detail)
        state = JobState.CANCELLED if end.record == "cancelled" else JobState.FAILED
        lost = None
        if end.lost_gpu and prepared.indices:
            from oumi_flow.tokens import lost_of

            lost = lost_of(prepared.indices, self._environ)
        return Outcome(
            ending.state if ending is not None else state,
            end.cause,
            exit.code,
            retryable=end.retryable,
            lost_gpu=lost,
        )

    def commit(self, step: Step, prepared: Prepared, outcome: Outcome) -> None:
        """Write the marker. After that the job is done, whatever happens to the run."""
        trace = outcome.trace
        assert trace is not None
        self._reuse.see_first(step, trace, self._began)
        self._store.commit(trace)
        self._made(step.job, trace)
        self._opened.pop(step.job.name, None)

    def _made(self, job: Job, trace: Trace) -> None:
        self._keys[job.name] = trace.build_key
        self._done.add(job.name)
        self._settling.add(job, trace)

    def look_again(self) -> bool:
        """Do a little of what `settle` would do, if there is any; whether so. Takes a moment."""
        return self._settling.look_again()

    @property
    def made(self) -> Collection[str]:
        """Names of the jobs that this run made, or brought back from a cache."""
        return self._done

    def shares(self, step: Step) -> bool:
        return self._reuse.shares(step)

    def share(self, step: Step) -> tuple[str, ...]:
        """Copy what the job has just made to the shared cache; notes."""
        trace = self._store.kept(step.job.name)
        return self._reuse.share(step, trace) if trace is not None else ()

    def abandon(self) -> None:
        self._reuse.abandon()

    def drop(self, step: Step, ending: Ending) -> None:
        """Record that the latest attempt came to nothing, if one was begun."""
        name = step.job.name
        opened = self._opened.pop(name, None) or self._store.read_attempt(name)
        if opened is not None and opened.is_open:
            ended = replace(opened, state=ending.record, detail=_told(ending), finished=self._now())
            self._store.write_attempt(name, ended)

    def _close(self, job: Job, exit: Exit, record: str, detail: str) -> None:
        opened = self._opened.pop(job.name, None)
        if opened is None:
            return
        finished = exit.finished or self._now()
        code = exit.code if record == "failed" else None
        ended = replace(opened, state=record, detail=detail, finished=finished, exit_code=code)
        self._store.write_attempt(job.name, ended)

    def _result(self, job: Job, prepared: Prepared, exit: Exit) -> Trace | str:
        """The trace of what was made, or words for what is missing."""
        spec = verbs.verb(job.verb)
        # What was empty as it began is all its own, whatever clocks have done meanwhile.
        since = _LONG_AGO if resume.in_its_folder(job) else prepared.began
        missing = verbs.done(spec, job, job.place, since)
        if missing:
            return missing
        if spec.publishes:
            verbs.publish_results(job.place, since)
        outputs = staleness.observe_outputs(job, self._disk)
        for out in job.outputs:
            if outputs[out.key].kind == "missing" or _is_empty_glob(outputs[out.key]):
                return f"did not write {out.path}"
        # What a job made of RAN inputs is not on disk, so only the rest can have moved.
        moved = staleness.moved_inputs(
            job, prepared.inputs, self._disk, self._keys_of(prepared, job)
        )
        versions = self._versions
        if spec.is_shell:
            versions = {tool: which for tool, which in versions.items() if tool != "oumi"}
        return staleness.trace_of(
            job,
            prepared.inputs,
            outputs,
            build_key=prepared.build_key,
            started=exit.started or prepared.began,
            finished=exit.finished or self._now(),
            run_id=prepared.attempt.run_id,
            attempt=prepared.attempt.number,
            changed_while_ran=moved,
            gpus=prepared.gpus,
            metrics=metrics.final(job, since),
            versions=versions,
        )

    @staticmethod
    def _keys_of(prepared: Prepared, job: Job) -> Mapping[str, str]:
        """The build keys it began with: that an upstream ran is no file to look at again."""
        return {
            item.producer: prepared.inputs[item.key].digest
            for item in job.inputs
            if prepared.inputs[item.key].kind == "ran"
        }

    # -- at the end of the run --------------------------------------------------------------------

    def settle(self, reported: Iterable[str] = ()) -> None:
        """Look again at what was seen too soon after its last change, and write the index.

        So that the next run digests nothing. Blocks for some 20 ms, up to 2 s where times are
        coarse. What cannot be written costs time next time, nothing else. `reported` are orphans
        that the user was told of.
        """
        with suppress(FlowError, OSError):
            self._settling.finish()
            for trace in self._refreshed.values():
                if trace.job not in self._done:
                    self._store.keep(trace)
            self._store.write_index(reported)


@lru_cache(maxsize=2)
def _moment(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _told(ending: Ending) -> str:
    """What attempt.json says: the state tells of a cancel already."""
    return "" if ending.record == "cancelled" == ending.detail else ending.detail


def _is_empty_glob(found: Evidence) -> bool:
    return found.kind == "glob" and not found.files


def _follower(job: Job, log: str, skip: int | None = None) -> Follower:
    return follower(job.command.progress, job.place, log, total_of(job), skip=skip)
