"""Seals the answers that are asked for again and again: gathers everything they were drawn from.

These are that there is nothing to do, and what a dry run says before anything has run. What cannot
be proved by stats and listings (globs, links to folders, folders of very many files) is not sealed,
and costs the next run a full look.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Collection, Iterable, Mapping

from oumi_flow import seal
from oumi_flow.commands.opening import judged, judged_each, parse_sets
from oumi_flow.dataclass import replace
from oumi_flow.disk import is_glob, is_settled, stamp, stamp_of
from oumi_flow.disk.walk import TRIALS_TABLE, is_ours
from oumi_flow.errors import FlowError
from oumi_flow.load.secrets import is_written_out, shows_secret, templates_of
from oumi_flow.load.snapshot import base_file, lines_of
from oumi_flow.model import (
    Counts,
    Decision,
    Evidence,
    FileEvidence,
    Job,
    Plan,
    Stamp,
    Step,
    Trace,
)
from oumi_flow.planner import medians, time_of
from oumi_flow.seal import writing
from oumi_flow.seal.amending import amend
from oumi_flow.store import STATE
from oumi_flow.typed import TYPE_CHECKING, Any
from oumi_flow.ui.brief import no_op

if TYPE_CHECKING:
    import argparse

    from oumi_flow.commands.opening import Opened
    from oumi_flow.commands.part import Part

# Flags that ask for another look, or for another answer than the one line.
_OTHER = ("force", "force_all", "verify", "rerun_triggers", "json", "quiet", "chdir", "run_id")
_MOST_ENTRIES = 10_000  # in all folders
_MOST_OWNED = 1_000_000  # files of jobs; where many jobs share large folders, all are planned anew


class _NotSealedError(Exception):
    """Something that a seal cannot prove."""


def can_seal(opened: Opened, options: argparse.Namespace) -> bool:
    """Whether the answer depends on nothing but the workflow, may be kept, and would be found."""
    if any(getattr(options, name, None) for name in _OTHER):
        return False
    secrets = templates_of(opened.workflow)
    if any(map(is_written_out, secrets)):
        return False  # it may stand among the words, or be the value of a variable
    kept = [*options.command_line, *dict(seal.ours()).values()]
    if shows_secret(secrets, os.environ, [*kept, *opened.workflow.variables.values()]):
        return False
    return seal.file_of(options.command_line) == str(options.file)


def seal_no_op(plan: Plan, opened: Opened, options: argparse.Namespace, text: str) -> None:
    """Seal `text`, if all that the plan saw can be seen again for little. Never raises."""
    if plan.orphans or not can_seal(opened, options):
        return
    try:
        if opened.part is not None:
            _amend(plan, opened, opened.part, options)
        else:
            _seal_whole(plan.steps, plan.refreshed, opened, options, text)
    except (_NotSealedError, FlowError, OSError):
        return


def _amend(plan: Plan, opened: Opened, part: Part, options: argparse.Namespace) -> None:
    looks, told = _Looks(opened, options.flags), {}
    for step in plan.steps:
        if step.job.name not in part.proven:
            place = part.places[step.job.name]
            looks.made(step, place, plan.refreshed.get(step.job.name))
            told[place] = _told(step)
    amend(part.sealed, looks.proof, told)


def _seal_whole(
    steps: Iterable[Step],
    refreshed: Mapping[str, Trace],
    opened: Opened,
    options: argparse.Namespace,
    text: str = "",
) -> None:
    """Seal `text` (default: that nothing is to be done). Takes the steps one by one.

    `refreshed` may grow as they are taken.
    """
    store = opened.store
    if refreshed or store.index_stamp is None:
        return  # the index will have the newer stamps next time
    looks = _Looks(opened, options.flags)
    looks.loaded()
    looks.wrote(store.paths.index, store.index_stamp)
    shown = _Shown()
    for place, step in enumerate(steps):
        if step.decision is not Decision.UP_TO_DATE or refreshed:
            raise _NotSealedError
        looks.made(step, place)
        shown.add(step)
    looks.jobs(shown, parse_sets(options))
    text = text or no_op(opened.workflow.name, len(shown.rows)) + "\n"
    writing.write(options.command_line, options.file, looks.proof, text)


def seal_end(opened: Opened, options: argparse.Namespace, made: Collection[str]) -> None:
    """Seal that there is nothing more to do, at the end of a run in which all went well.

    It is judged once more as the next run would, but where all was planned not the jobs that it has
    `made`: what was seen of these, settled by now, is what the seal has to prove. To be called
    under the lock: nobody else writes markers and index. Never raises.
    """
    if not can_seal(opened, options):
        return
    try:
        if opened.part is not None:
            plan = judged(opened, options)
            if not plan.to_run and not plan.may_run:
                seal_no_op(plan, opened, options, "")
        elif not opened.store.orphans(opened.workflow):
            refreshed: dict[str, Trace] = {}
            steps = judged_each(opened, options, refreshed, made)
            _seal_whole(steps, refreshed, opened, options)
    except (_NotSealedError, FlowError, OSError):
        return


def seal_dry_run(plan: Plan, opened: Opened, options: argparse.Namespace, text: str) -> None:
    """Seal what a dry run says of jobs of which none has ever run. Never raises.

    Once something has run, what will depends on too much: caches, lost runs, times.
    """
    stream = seal.stream_of()
    shared = options.cache_dir or opened.workflow.cache_dir
    if not stream or shared or plan.orphans or opened.part or not can_seal(opened, options):
        return
    try:
        looks = _Looks(opened, options.flags)
        looks.proof.stream = stream
        looks.loaded()
        looks.nothing_made(plan)
        writing.write(options.command_line, options.file, looks.proof, text)
    except (_NotSealedError, FlowError, OSError):
        return


def _told(step: Step) -> bytes:
    """What a plan tells of a job."""
    from oumi_flow.commands.planning import row
    from oumi_flow.events import row_line

    return row_line(row(step))


class _Shown:
    """What is kept of the steps of a plan, whose traces need not be there all at a time."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.rows: list[bytes] = []
        self._times: dict[str, list[float]] = {}  # by verb
        self._unknown: list[tuple[int, Step]] = []  # of which no time is known

    def add(self, step: Step) -> None:
        took = time_of(step.past)
        if took is not None:
            self._times.setdefault(step.job.verb, []).append(took)
        else:
            self._unknown.append((len(self.rows), step))
        self.jobs.append(step.job)
        self.rows.append(_told(step))

    def typical(self) -> dict[str, float]:
        """See `planner.typical_times`. Rows of jobs of which no time is known go by it now."""
        typical = medians(self._times)
        for place, step in self._unknown:
            expected = typical.get(step.job.verb) if step.expected is None else step.expected
            self.rows[place] = _told(replace(step, expected=expected))
        return typical


class _Looks:
    """Collects a proof."""

    def __init__(self, opened: Opened, flags: Mapping[str, Any]) -> None:
        self.proof = writing.Proof()
        self.proof.flags = flags
        self._workflow, self._store = opened.workflow, opened.store
        self._disk, self._began_ns = opened.disk, opened.began_ns
        self._entries = 0
        self._below: dict[str, tuple[list[str], list[str]]] = {}  # folder -> files, folders
        self._place: int | None = None  # of the job that looks; None: the workflow itself
        self._of_workflow: set[str] = set()
        self._owned = 0  # a file by a job
        self._same: dict[tuple[str, Counts], Evidence] = {}  # as found a moment ago

    def loaded(self) -> None:
        """Everything that the workflow was made from."""
        workflow = self._workflow
        for path, was in workflow.sources.items():
            self.saw(path, was)
        base = base_file(workflow.path)
        self.wrote(base, stamp(base))
        self.proof.variables.update(workflow.variables)
        self.proof.needs.extend(workflow.needs)
        self.proof.links.update(workflow.links)

    def made(self, step: Step, place: int, refreshed: Trace | None = None) -> None:
        """Everything that says of a job that it is up to date.

        `place`: see `seal.jobs`. `refreshed`: its trace with newer stamps of equal content.
        """
        job, store = step.job, self._store
        trace = refreshed or step.past.trace
        marker = store.marker_stamp(job.name)
        if trace is None or marker is None:
            raise _NotSealedError
        self._place = place
        self.wrote(store.paths.marker(job.name), marker)
        for put in job.outputs:
            self.judged(put.path, put.counts, trace.outputs[put.key])
        for read in job.inputs:
            if read.counts is not Counts.RAN:
                self.judged(read.path, read.counts, trace.inputs[read.key])
        self._place = None

    def jobs(self, shown: _Shown, sets: Mapping[str, str]) -> None:
        """What says which jobs are to be judged again when something has moved."""
        lines = lines_of(self._workflow, sets, os.environ)
        lock = self._store.paths.lock
        if lines is None or not os.path.exists(lock) or self._owned > _MOST_OWNED:
            return
        self.proof.variables["TZ"] = os.environ.get("TZ")  # the rows are in local time
        number = {job.name: at for at, job in enumerate(self._workflow.jobs)}
        places = {job.name: place for place, job in enumerate(shown.jobs)}
        typical = shown.typical()
        self.proof.jobs = writing.Jobs(
            list(places),
            [[places[name] for name in job.upstream if name in places] for job in shown.jobs],
            [lines.spans[number[name]] for name in places],
            lines.stamp,
            shown.rows,
            sorted(templates_of(self._workflow)),
            typical,
            lock,
        )

    def nothing_made(self, plan: Plan) -> None:
        """Everything that says of all jobs that they never ran, and that they can run.

        A folder's own stamp moves with each name that comes or goes in it.
        """
        if any(
            step.decision is not Decision.RUN
            or step.past.trace is not None
            or step.past.attempt is not None
            or step.expected is not None
            or step.restores
            for step in plan.steps
        ):
            raise _NotSealedError
        top = self._store.paths.output_dir
        if os.path.lexists(top):
            self._without_state(top)
        else:
            self.proof.missing.add(top)
        for step in plan.steps:
            for read in step.job.inputs:
                if not read.producer and not read.makers and read.counts is not Counts.RAN:
                    self._is_there(read.path)

    def _without_state(self, top: str) -> None:
        """No job has its state here or below."""
        waiting = [top]  # no recursion, as below
        while waiting:
            folder = waiting.pop()
            self._folder(folder)
            with os.scandir(folder) as listing:
                for entry in listing:
                    self._count(1)
                    if entry.name == STATE or (entry.is_symlink() and entry.is_dir()):
                        raise _NotSealedError
                    if entry.is_dir():
                        waiting.append(entry.path)

    def _is_there(self, path: str) -> None:
        # What a link leads to may go and leave no trace in the folder of the link.
        if is_glob(path) or modes.S_ISLNK(os.lstat(path).st_mode):
            raise _NotSealedError
        self._folder(os.path.dirname(path) or ".")

    def _folder(self, path: str) -> None:
        if path not in self.proof.stamps:
            self.saw(path, stamp(path))

    def saw(self, path: str, was: Stamp | None) -> None:
        """A file of which a stamp was taken, or that was not there, since we began."""
        if was is not None and not is_settled(was, self._began_ns):
            raise _NotSealedError
        self.wrote(path, was)

    def wrote(self, path: str, was: Stamp | None) -> None:
        """As `saw`, of a file of ours: whoever changes one of these replaces it by another.

        So a stamp that is too young to show a change shows it all the same, by the inode.
        """
        if was is None:
            self.proof.missing.add(path)
        else:
            self.proof.stamps[path] = was
            self._own(path)

    def _own(self, path: str) -> None:
        """Who is to be asked when it moves: the job that looks, or everybody."""
        owners = self.proof.owners
        if self._place is None:
            self._of_workflow.add(path)
            owners.pop(path, None)
        elif path not in self._of_workflow:
            of_path = owners.setdefault(path, [])
            if of_path[-1:] != [self._place]:  # places only grow
                of_path.append(self._place)
                self._owned += 1

    def judged(self, path: str, counts: Counts, known: Evidence) -> None:
        """An input or output that was found to be as it is known."""
        if not known.settled or is_glob(path):
            raise _NotSealedError
        if known.kind == "file":
            self._same_for_all(path, known.files[0].stamp)
            self._own(path)
            self._holds(path, counts, known.files[0])
        elif known.kind == "folder":
            self._walk(path)
            # Only now, so that what came while we walked is found by this look or by that of the
            # listings, in the next run.
            if self._same.get((path, counts)) != known:
                if self._disk.observe(path, counts, known) is not known:
                    raise _NotSealedError
                self._same[path, counts] = known
            for file in known.files:
                self._holds(f"{path}/{file.path}", counts, file)
        else:
            self.proof.missing.add(path)  # "missing"; "ran": the upstream's own key stands for it

    def _same_for_all(self, path: str, was: Stamp) -> None:
        """What two jobs saw differently, one of them has to look at again."""
        if self.proof.stamps.setdefault(path, was) != was:
            raise _NotSealedError

    def _holds(self, path: str, counts: Counts, file: FileEvidence) -> None:
        """What a file is known by, once only its stamp has moved."""
        if counts is not Counts.TRIALS or os.path.basename(path) != TRIALS_TABLE:
            self.proof.digests[path] = file.digest

    def _count(self, entries: int) -> None:
        self._entries += entries
        if self._entries > _MOST_ENTRIES:
            raise _NotSealedError

    def _walk(self, top: str) -> None:
        """All that lies there, counted or not: which of it counts depends on nothing else."""
        waiting = [top]  # no recursion: folders may lie deeper than the interpreter's stack
        while waiting:
            folder = waiting.pop()
            if folder not in self._below:
                self._below[folder] = self._list(folder)
            files, folders = self._below[folder]
            for path in (folder, *files):
                self._own(path)
            waiting += folders

    def _list(self, folder: str) -> tuple[list[str], list[str]]:
        """The files and the folders in it."""
        files, folders = [], []
        names = seal.names(folder)
        self.proof.listings[folder] = names
        self._count(len(names))
        for name in names:
            if is_ours(name):
                continue
            path = f"{folder}/{name}"
            seen = os.stat(path)
            if modes.S_ISREG(seen.st_mode):
                self._same_for_all(path, stamp_of(seen))
                files.append(path)
            elif modes.S_ISDIR(seen.st_mode) and not os.path.islink(path):
                folders.append(path)
            else:
                raise _NotSealedError
        return files, folders
