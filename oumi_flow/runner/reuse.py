"""Results of earlier build keys: out of the way before a job runs afresh, back when wanted again.

Done in workers. Knows markers and the judge's evidence on one side, the run cache on the other;
nothing of states, slots or processes. The cache only ever saves time: whatever is wrong with it
becomes a note, and the job runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from oumi_flow import staleness
from oumi_flow.disk import Disk
from oumi_flow.errors import FlowError
from oumi_flow.model import MISSING, Code, Evidence, Job, Step, Trace
from oumi_flow.store import Store
from oumi_flow.store.cache import Abandoned, Found, RunCache, holds_others, keeps, words

# No clock says so; calendars end somewhere, and an entry may come from anybody.
_NEVER = 1e11


class Reuse:
    """`software` as in `judge`: what was made by another version is not taken then."""

    def __init__(
        self, store: Store, disk: Disk, cache: RunCache, software: Mapping[str, str] | None = None
    ) -> None:
        self._store, self._disk, self._cache = store, disk, cache
        self._software = software or {}
        self._any: bool | None = None

    def mend(self) -> list[str]:
        """End what a killed run was moving; words for what could not be."""

        def marker_key(job: str) -> str:
            with suppress(FlowError):
                trace = self._store.trace(job)
                return trace.build_key if trace is not None else ""
            return ""

        return self._cache.mend(marker_key)

    @property
    def mended(self) -> bool:
        """Whether there was a move to end, or to try to."""
        return self._cache.mended

    # -- out of the way -------------------------------------------------------------------------

    def make_way(self, step: Step, build_key: str) -> tuple[str, ...]:
        """Take away the marker, and with it into the cache what it vouches for, if that is kept.

        `build_key`: of what is wanted now. What is not kept lies where it was. Returns notes.
        Raises FlowError when the marker cannot be removed, or the move can neither be ended nor
        taken back.
        """
        job, notes = step.job, []
        leaving = None
        try:
            trace = self._vouched(step, build_key)
            leaving = self._cache.leave(job, trace) if trace is not None else None
        except (OSError, FlowError) as fault:
            notes.append(f"its earlier result is not kept: {words(fault)}")
        try:
            self._store.remove_marker(job.name)
        except FlowError:
            if leaving is not None:
                with suppress(OSError):
                    leaving.give_up()
            raise
        if leaving is not None:
            self._disk.forget(job.folder)
            try:
                leaving.finish()
            except OSError as fault:
                notes.append(f"its earlier result is not kept: {words(fault)}")
            else:
                self._any = True
                assert trace is not None
                self._cache.make_room(trace.build_key)
        return tuple(notes)

    def _vouched(self, step: Step, build_key: str) -> Trace | None:
        """The trace of what lies there, if it is another build's, and still as it was made."""
        job, trace = step.job, step.past.trace
        if trace is None or trace.build_key == build_key or not keeps(job):
            return None
        if trace.changed_while_ran or not _same_outputs(job, trace):
            return None
        now = self._store.trace(job.name)
        if now is None or now.build_key != trace.build_key:
            return None
        seen = staleness.observe_outputs(job, self._disk, now.outputs)
        return now if _equal(seen, now.outputs) else None

    def see_first(self, step: Step, trace: Trace, since: float) -> None:
        """Note of a job's first result whether it lies among what somebody else has put there.

        Then it stays there for good: with it that would go to the cache, and from there one day.
        `since`: when this run began. Raises FlowError.
        """
        if step.past.trace is not None or step.past.previous is not None:
            return
        if trace.attempt == 1:
            since = trace.started
        if (before := step.past.attempt) is not None:
            since = min(since, before.since or before.started)
        if keeps(step.job) and holds_others(step.job, trace, since):
            self._store.files.write(self._store.paths.mixed(step.job.name), b"")

    # -- back -----------------------------------------------------------------------------------

    def may_restore(self, step: Step) -> bool:
        """Whether it is worth a look. Does not block."""
        if not keeps(step.job) or any(reason.code is Code.FORCED for reason in step.reasons):
            return False
        if self._any is None:
            self._any = not self._cache.is_empty()
        return self._any

    def restore(
        self, step: Step, build_key: str, inputs: Mapping[str, Evidence]
    ) -> tuple[Trace | None, tuple[str, ...]]:
        """Put the result of that build key in its place, verified, its marker written; and notes.

        None when there is none, or none that can be trusted. What lay in the place is in the
        cache then, in the job's `old/` or `previous/`, or where it was. Raises FlowError when
        something lies half in its place and can neither be put there nor taken back.
        """
        job = step.job
        if not self._cache.holds(build_key):
            return None, ()
        try:
            found = self._cache.take(job, build_key)
        except Abandoned:
            return None, ()
        except (OSError, FlowError) as fault:
            return None, (f"in the cache, but it cannot be taken: {words(fault)}",)
        if found is None:
            return None, ()
        if not self._fits(job, found.trace):
            self._give_back(found)
            return None, ()
        notes: tuple[str, ...] = ()
        try:
            notes = self._empty_place(step, build_key, found.trace)
            trace = self._put(job, found, inputs)
        except (OSError, FlowError) as fault:
            self._give_back(found)
            return None, (*notes, f"in the cache, but it cannot be put back: {words(fault)}")
        if trace is None:
            self._give_back(found)
            self._cache.discard(found)
            return None, (*notes, "in the cache, but damaged: that is removed, and the job runs")
        found.done()
        return trace, notes

    def _fits(self, job: Job, trace: Trace) -> bool:
        if trace.changed_while_ran or not _same_outputs(job, trace):
            return False
        if not 0 <= trace.started <= trace.finished < _NEVER:
            return False
        return all(trace.versions.get(tool, now) == now for tool, now in self._software.items())

    def _empty_place(self, step: Step, build_key: str, coming: Trace) -> tuple[str, ...]:
        """Nothing that is the job's lies in its place after this; nothing is deleted."""
        job = step.job
        self._store.make_folder(job.name)
        partial, paths = self._store.is_partial(job.name), self._store.paths
        notes = self.make_way(step, build_key)
        self._store.set_aside(job.name, partial)
        self._disk.forget(job.folder)
        aside = paths.old(job.name) if partial else paths.former(job.name)
        self._cache.put_aside(job, coming, staleness.observe_outputs(job, self._disk), aside)
        return notes

    def _put(self, job: Job, found: Found, inputs: Mapping[str, Evidence]) -> Trace | None:
        """Move it in, look at all of it, and vouch for it; None when it is not what was made."""
        whole = found.put()
        for path in {job.folder, *(item.path for item in job.outputs)}:
            self._disk.forget(path)
        # Digested in full: no stamp of then says anything. Settled, so that it is done once.
        outputs = {
            item.key: self._disk.settle(item.path, item.counts, MISSING) for item in job.outputs
        }
        if not whole or not _equal(outputs, found.trace.outputs):
            return None
        was = found.trace
        trace = staleness.trace_of(
            job,
            inputs,
            outputs,
            started=was.started,
            finished=was.finished,
            run_id=was.run_id,
            attempt=was.attempt,
            exit_code=was.exit_code,
            gpus=was.gpus,
            metrics=dict(was.metrics),
            versions=was.versions,
        )
        with suppress(FileNotFoundError):
            os.unlink(self._store.paths.progress(job.name))
        self._store.forget_attempt(job.name)
        self._store.write_marker(trace)
        return trace

    def _give_back(self, found: Found) -> None:
        try:
            found.give_back()
        except OSError as fault:
            raise FlowError(
                f"its result is half in its place: {words(fault)}",
                hint="run again: that ends the move",
            ) from fault

    # -- shared ---------------------------------------------------------------------------------

    def shares(self, step: Step) -> bool:
        return self._cache.shared is not None and keeps(step.job)

    def share(self, step: Step, trace: Trace) -> tuple[str, ...]:
        """Copy what was just made to the shared cache; notes."""
        if trace.changed_while_ran:
            return ()
        try:
            self._cache.share(step.job, trace)
        except (OSError, FlowError) as fault:
            return (f"its result is not shared: {words(fault)}",)
        return ()

    def abandon(self) -> None:
        """Copy nothing any more: the run is being stopped."""
        self._cache.abandon()

    def refuse_stuck(self, job: Job) -> None:
        """Raise FlowError for a job whose result is half moved."""
        self._cache.refuse_stuck(job.name)


def _same_outputs(job: Job, trace: Trace) -> bool:
    return trace.outputs.keys() == {item.key for item in job.outputs}


def _equal(seen: Mapping[str, Evidence], known: Mapping[str, Evidence]) -> bool:
    return all(
        seen[key].digest == was.digest and seen[key].kind == was.kind != "missing"
        for key, was in known.items()
    )
