"""Commands that change what is kept, and run nothing: `touch`, `rename`, `clean`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence

from oumi_flow.errors import JOBS_FAILED, OK, FlowError
from oumi_flow.text import quoted
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from oumi_flow.commands.opening import Opened
    from oumi_flow.model import Input
    from oumi_flow.store import Store


def touch(options: argparse.Namespace) -> int:
    """Write markers for what is there. Raises FlowError when a job's outputs are not."""
    from oumi_flow import staleness
    from oumi_flow.commands.opening import open_all
    from oumi_flow.planner import find_jobs
    from oumi_flow.store.runs import new_run_id

    opened = open_all(options)
    workflow, store, disk = opened.workflow, opened.store, opened.disk
    wanted = find_jobs(options.jobs, [job.name for job in workflow.jobs])
    pasts = store.pasts(workflow.jobs)
    build_keys = {
        name: past.trace.build_key for name, past in pasts.items() if past.trace is not None
    }
    at, made = time.time(), []
    with store.lock(new_run_id(), workflow):
        if _end_moves(opened, options):
            raise FlowError(
                "a killed run had left a result half in its place: all of it is in the cache now",
                hint=f"`oumi-flow run {quoted(options.file)}` puts it back where it is wanted",
            )
        _refuse_living(store, wanted, options.file)
        for job in workflow.jobs:
            if job.name not in wanted:
                continue
            outputs = staleness.observe_outputs(job, disk)
            for output in job.outputs:
                if outputs[output.key].kind == "missing":
                    raise FlowError(
                        f'job "{job.name}": cannot be taken as made, {output.path} is not there',
                        hint=f"`oumi-flow run {quoted(options.file, job.name)}` makes it",
                    )
            unmade = [each for each in job.inputs if _is_unmade(each, build_keys)]
            if unmade:
                raise FlowError(
                    f'job "{job.name}": it needs "{unmade[0].producer}", which has not been made',
                    hint=f"touch or run {unmade[0].producer} first",
                )
            inputs = staleness.observe_inputs(job, disk, build_keys)
            trace = staleness.trace_of(
                job, inputs, outputs, started=at, finished=at, attempt=0, exit_code=None
            )
            store.make_folder(job.name)
            store.forget_attempt(job.name)
            store.write_marker(trace)
            build_keys[job.name] = trace.build_key
            made.append((job, trace))
            print(f"{job.name}: taken as made")
        for trace in staleness.settle(made, disk.settle):
            store.keep(trace)
        store.write_index()
    return OK


def _is_unmade(item: Input, build_keys: dict[str, str]) -> bool:
    there = bool(item.path) and os.path.exists(item.path)
    return bool(item.producer) and item.producer not in build_keys and not there


def rename(options: argparse.Namespace) -> int:
    """Move a job's folder, with all that is known of it. Raises FlowError."""
    from oumi_flow.commands.opening import open_all
    from oumi_flow.dataclass import replace
    from oumi_flow.store.runs import new_run_id
    from oumi_flow.text import did_you_mean

    opened = open_all(options)
    workflow, store = opened.workflow, opened.store
    names = [job.name for job in workflow.jobs]
    old, new = options.old, options.new
    if new not in names:
        raise FlowError(
            f'there is no job "{new}" in {options.file}',
            hint=did_you_mean(new, names) or "rename the job in the workflow file first",
        )
    if old in names:
        raise FlowError(f'"{old}" is still a job of {options.file}', hint="rename it there first")
    with store.lock(new_run_id(), workflow):
        _end_moves(opened, options)
        if not os.path.isdir(store.paths.job_state(old)):
            known = list(store.orphans(workflow, thorough=True))
            raise FlowError(
                f'no job "{old}" was ever run in {workflow.output_dir}',
                hint=did_you_mean(old, known)
                or f"`oumi-flow run {quoted(options.file)} --dry-run` lists what is left over",
            )
        _refuse_living(store, [old], options.file)
        target = store.paths.job_folder(new)
        if os.path.lexists(target):
            raise FlowError(
                f"{target} exists already",
                hint=f"`oumi-flow clean {quoted(options.file, new)}` removes it",
            )
        store.finish_commit(old)
        trace = store.trace(old)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(store.paths.job_folder(old), target)
        if trace is not None:
            store.write_marker(replace(trace, job=new))
        store.write_index()
    print(f"{old} is {new} now")
    return OK


def clean(options: argparse.Namespace) -> int:
    """Remove job folders, orphans or kept results below the output folder, after asking."""
    from oumi_flow.commands.opening import open_all
    from oumi_flow.store.runs import new_run_id

    opened = open_all(options)
    doomed = _doomed(opened, options)
    if options.cache and opened.workflow.cache_dir:
        words = f"note: {opened.workflow.cache_dir} is shared with others and is left as it is"
        print(words, file=sys.stderr)
    if not doomed:
        print("nothing to remove")
        return OK
    # The folder is held while the user thinks: a run that starts meanwhile would be cut from below.
    with opened.store.lock(new_run_id(), opened.workflow):
        _refuse_living(opened.store, _jobs_below(opened, doomed), options.file)
        return _remove_all(opened, doomed, yes=options.yes)


def _remove_all(opened: Opened, doomed: Sequence[str], *, yes: bool) -> int:
    from oumi_flow.text import count, size

    total = 0
    for path in doomed:
        taken = _size(path)
        total += taken
        print(f"  {path}  {size(taken)}")
    what = f"{count(len(doomed), 'folder')}, {size(total)}"
    if not yes and not _agreed(f"remove {what}?"):
        print("nothing was removed", file=sys.stderr)
        return 1
    for path in doomed:
        _remove(path)
    opened.store.write_index()
    print(f"removed {what}")
    return OK


def _doomed(opened: Opened, options: argparse.Namespace) -> list[str]:
    """What is to go: folders of the output folder. Of a link it is the link that goes."""
    from oumi_flow.planner import find_jobs

    workflow, store = opened.workflow, opened.store
    paths: list[str] = []
    if options.cache:
        if options.jobs:
            raise FlowError(
                "--cache takes no JOB: it removes the earlier results of all jobs",
                hint="leave one of the two out",
            )
        paths.append(store.paths.cache)
    if options.orphans:
        names = list(store.orphans(workflow, thorough=True))
    else:
        names = [] if options.cache else [job.name for job in workflow.jobs]
    chosen = find_jobs(options.jobs, names) if options.jobs else set(names)
    for name in filter(store.is_foreign, chosen):
        raise FlowError(
            f"{store.paths.job_folder(name)}: is the output folder of another workflow",
            hint="`clean` with that workflow's file removes what is in it",
        )
    paths += [store.paths.job_folder(name) for name in names if name in chosen]
    return [path for path in _outermost(paths) if os.path.lexists(path)]


def _jobs_below(opened: Opened, doomed: Sequence[str]) -> list[str]:
    workflow, store = opened.workflow, opened.store
    names = [job.name for job in workflow.jobs] + list(store.orphans(workflow, thorough=True))
    tops = tuple(f"{path}/" for path in doomed)
    return [name for name in names if f"{store.paths.job_folder(name)}/".startswith(tops)]


def _end_moves(opened: Opened, options: argparse.Namespace) -> bool:
    """End what a killed run was moving to or from its cache; whether there was any.

    A marker that came before that would vouch for a result of which half is on its way. Raises
    FlowError where it cannot be ended.
    """
    from oumi_flow.commands.opening import run_cache
    from oumi_flow.runner.reuse import Reuse

    reuse = Reuse(opened.store, opened.disk, run_cache(opened, options))
    if stuck := reuse.mend():
        raise FlowError("; ".join(stuck), exit_code=JOBS_FAILED)
    return reuse.mended


def _refuse_living(store: Store, names: Iterable[str], file: str) -> None:
    """Raise Locked for a job whose process outlived its run: only its records lead to it."""
    from oumi_flow.errors import Locked
    from oumi_flow.executors.handles import (
        is_alive,
        read_exit,
        recorded,
        refuse_living_elsewhere,
    )

    for name in names:
        attempt = store.read_attempt(name)
        if attempt is None or not attempt.is_open:
            continue
        handle = recorded(store.paths.job_state(name))
        if handle is None or read_exit(handle.state_dir, handle.token) is not None:
            continue
        if is_alive(handle):
            raise Locked(
                f'job "{name}" of a lost run still runs (supervisor pid {handle.pid})',
                hint=f"`oumi-flow run {quoted(file)}` takes it over, "
                f"`oumi-flow cancel {quoted(file)}` stops it",
            )
        refuse_living_elsewhere(handle)


def _outermost(paths: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not kept or not path.startswith(kept[-1] + "/"):
            kept.append(path)
    return kept


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise FlowError(f"{question} cannot ask without a terminal", hint="-y says yes")
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _size(path: str) -> int:
    if os.path.islink(path) or not os.path.isdir(path):
        return os.lstat(path).st_size
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total


def _remove(path: str) -> None:
    from shutil import rmtree

    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
    else:
        try:
            rmtree(path)
        except OSError as fault:  # it names the last part only
            raise FlowError(
                f"{path}: cannot remove all of it: {fault.filename}: {fault.strerror}",
                hint="mend that, then ask for it again",
            ) from fault
