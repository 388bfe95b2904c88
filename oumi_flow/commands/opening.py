"""What most commands begin with: the base folder, the workflow, its store, its plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping

from oumi_flow.dataclass import dataclass
from oumi_flow.errors import FlowError
from oumi_flow.model import Counts, Decision, Job, LastAttempt, Plan, Stamp, Step, Trace, Workflow
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from oumi_flow.commands.part import Part
    from oumi_flow.disk import Disk
    from oumi_flow.store import Store
    from oumi_flow.store.cache import RunCache
    from oumi_flow.verbs.keys import OumiKeys


@dataclass(slots=True)
class Opened:
    """A workflow with what is needed to judge it."""

    workflow: Workflow
    store: Store
    disk: Disk
    began_ns: int  # unix time: nothing was looked at before
    lock: Stamp | None  # of the lock file, before any state was looked at
    free: bool  # nobody held it then, who might go on without signing it again
    part: Part | None = None  # of the workflow; None: it is all there


def settle_base(options: argparse.Namespace, *, strict: bool = False) -> None:
    """Make the process stand in the workflow's base folder.

    Without `-C`, a workflow that was last run from another folder is refused when `strict`; else
    that folder is gone to, so that `logs`, `status` and the like work from anywhere.
    Raises FlowError.
    """
    from oumi_flow.load.snapshot import recorded_base

    if getattr(options, "chdir", None):
        return
    base = recorded_base(options.file)
    here = os.getcwd()
    if base is None or base == here or not os.path.isdir(base):
        return
    if strict:
        from oumi_flow.text import quoted

        raise FlowError(
            f"{options.file} was last run from {base}, now from {here}; "
            "its paths would mean other files",
            hint=f"`-C {quoted(base)}` to run it as before, `-C .` to run it from here",
        )
    options.file = os.path.relpath(os.path.abspath(options.file), base)
    os.chdir(base)


def parse_sets(options: argparse.Namespace) -> dict[str, str]:
    """`--set K=V` as a mapping. Raises FlowError."""
    sets: dict[str, str] = {}
    for word in getattr(options, "sets", None) or ():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise FlowError(f"--set {word}: expected K=V", hint="for example --set base=other.yaml")
        sets[key] = value
    return sets


def open_workflow(
    options: argparse.Namespace, *, snapshot: bool = True, anew: bool = False
) -> Workflow:
    """The workflow of `options.file`, fully expanded; `anew` says that files it names have gone.

    Raises FlowError with every problem.
    """
    from oumi_flow.load import load

    environ = os.environ
    oumi = getattr(options, "oumi", None)

    def keys() -> OumiKeys | None:
        from oumi_flow.oumi_cli import ask_keys, find_oumi

        found = find_oumi(oumi, environ)
        return ask_keys(found, environ) if found else None

    def fetch(uri: str) -> str:
        from oumi_flow import oumi_cli

        return oumi_cli.fetch(uri, oumi_cli.find_oumi(oumi, environ), environ)

    return load(
        options.file,
        sets=parse_sets(options),
        environ=environ,
        keys=keys,
        fetch=fetch,
        snapshot=snapshot,
        anew=anew,
    )


def open_all(options: argparse.Namespace, *, strict: bool = False) -> Opened:
    """Go to the base folder, load, and open what was made before. Raises FlowError."""
    import time

    from oumi_flow.disk import Disk, stamp
    from oumi_flow.store import Store
    from oumi_flow.verbs import model_file

    began_ns = time.time_ns()
    settle_base(options, strict=strict)
    workflow = open_workflow(options)
    disk = Disk(model_file, verify=getattr(options, "verify", False))
    store = Store(workflow.output_dir, private=workflow.private)
    lock = stamp(store.paths.lock)
    free = lock is None or store.holder() is None
    return Opened(workflow, store, disk, began_ns, lock, free)


def software_of(options: argparse.Namespace) -> Mapping[str, str] | None:
    """The versions that `--rerun-triggers software` compares; None when it was not asked for."""
    if getattr(options, "rerun_triggers", None) is None:
        return None
    from oumi_flow.oumi_cli import find_oumi, oumi_version

    command = find_oumi(getattr(options, "oumi", None), os.environ)
    version = oumi_version(command) if command else ""
    return {"oumi": version} if version else {}


def make_plan(opened: Opened, options: argparse.Namespace) -> Plan:
    """Judge the jobs that `options` select. Writes nothing. Raises FlowError for unknown names.

    A file that no job makes and that has gone since the workflow was loaded is told with its place
    in the workflow file, by loading it anew; without that file it may mean something else, as a
    model's name may be one on a hub. A file that is a link since then may be what some job makes.
    """
    made = judged(opened, options)
    if missing_input(made, opened) is not None or has_new_links(made, opened):
        opened.workflow = open_workflow(options, anew=True)
        made = judged(opened, options)
        missing = missing_input(made, opened)
        if missing is not None:
            raise FlowError(
                f'job "{missing[0].name}": input does not exist: {missing[1]}',
                hint="no job makes it; create it, or name the job's output that it should be",
            )
    return made


def judged(opened: Opened, options: argparse.Namespace) -> Plan:
    """As `make_plan`, whatever is missing."""
    from oumi_flow.planner import plan

    workflow, store, part = opened.workflow, opened.store, opened.part
    return plan(
        workflow,
        store.pasts(workflow.jobs),
        opened.disk,
        targets=tuple(getattr(options, "jobs", None) or ()) if part is None else (),
        force=tuple(getattr(options, "force", None) or ()),
        force_all=bool(getattr(options, "force_all", False)),
        omit=tuple(getattr(options, "omit", None) or ()) if part is None else (),
        software=software_of(options),
        orphans=store.orphans(workflow) if part is None else (),
        resumes=_resumes,
        cached=_Cached(opened, options),
        proven=part.proven if part is not None else (),
        unlisted=part.unlisted if part is not None else 0,
        typical=part.typical if part is not None else None,
    )


def judged_each(
    opened: Opened,
    options: argparse.Namespace,
    refreshed: dict[str, Trace],
    made: Collection[str],
) -> Iterator[Step]:
    """As `judged`, of a whole workflow and step by step, none of them kept; `made`: see planner.

    No step expects what jobs like it took, as that is known at the end only.
    """
    from oumi_flow.planner import walk

    return walk(
        opened.workflow,
        opened.store.past,
        opened.disk,
        refreshed,
        targets=tuple(getattr(options, "jobs", None) or ()),
        omit=tuple(getattr(options, "omit", None) or ()),
        made=made,
    )


def run_cache(opened: Opened, options: argparse.Namespace) -> RunCache:
    """The run cache that `options` and the workflow ask for. Touches no disk."""
    from oumi_flow.store.cache import RunCache

    workflow, store = opened.workflow, opened.store
    shared = getattr(options, "cache_dir", None) or workflow.cache_dir
    return RunCache(store.paths, store.files, shared, workflow.cache_max_size)


class _Cached:
    """Says of jobs to run whether their result is in the cache; opened for the first of them."""

    def __init__(self, opened: Opened, options: argparse.Namespace) -> None:
        self._opened, self._options = opened, options
        self._cache: RunCache | None = None
        self._empty = False

    def __call__(self, job: Job, build_key: Callable[[], str]) -> bool:
        if not job.cache or job.always_run or not job.outputs:
            return False
        if self._cache is None:
            self._cache = run_cache(self._opened, self._options)
            self._empty = self._cache.is_empty()
        return not self._empty and self._cache.holds(build_key())


def _resumes(job: Job, attempt: LastAttempt) -> str:
    """The checkpoint that an unfinished attempt would go on from; asked for few jobs, if any."""
    from oumi_flow.runner.resume import resume_point

    return resume_point(job, attempt)


def has_new_links(plan: Plan, opened: Opened) -> bool:
    """Whether something that is read, and that has moved, is a link of which nobody knew so far."""
    from oumi_flow.seal import is_new_link

    moved = {
        item.path.rstrip("/")
        for step in plan.steps
        if step.decision is not Decision.UP_TO_DATE or step.job.name in plan.refreshed
        for item in step.job.inputs
        if item.path and not item.producer and not item.makers
    }
    return any(is_new_link(path, opened.workflow.links) for path in moved)


def missing_input(plan: Plan, opened: Opened) -> tuple[Job, str] | None:
    """A job to run and something that it reads, which is not there and which nobody makes."""
    from oumi_flow.disk import is_glob

    for step in plan.steps:
        if step.decision is Decision.UP_TO_DATE:
            continue
        for item in step.job.inputs:
            if item.producer or item.makers or item.counts is Counts.RAN:
                continue
            if os.path.exists(item.path):
                continue
            if not is_glob(item.path) or not opened.disk.observe(item.path, item.counts).files:
                return step.job, item.path
    return None
