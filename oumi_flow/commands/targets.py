"""FILE or RUN: which run of which folder a command is about."""

from __future__ import annotations

import os
from collections.abc import Iterable

from oumi_flow.dataclass import dataclass
from oumi_flow.errors import FlowError
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from oumi_flow.model import Workflow
    from oumi_flow.store import Store
    from oumi_flow.store.runs import UserRun


@dataclass(slots=True)
class Found:
    """A run that told events; the process stands in its base folder."""

    store: Store
    run_id: str
    path: str  # of the workflow file


def ends_without(run_id: str, store: Store, jobs: Iterable[str]) -> dict[str, str]:
    """How these jobs of a lost run ended, which it did not live to hear; in words, by name."""
    from oumi_flow.executors.handles import read_exit

    found = {}
    for job in jobs:
        try:
            made, attempt = store.trace(job), store.read_attempt(job)
            if made is not None and made.run_id == run_id:
                found[job] = "finished after its run was lost"
                continue
            if attempt is None or attempt.run_id != run_id:
                continue
            if attempt.state == "done":  # all but put in the place of a marker
                found[job] = "finished after its run was lost; the next run takes its result"
                continue
            exit = read_exit(store.paths.job_state(job), attempt.token)
        except (FlowError, OSError):
            continue
        if exit is None:
            continue
        well = exit.code == 0 and not (exit.cancelled or exit.timed_out)
        how = "cancelled" if exit.cancelled else "finished" if well else "ended"
        then = "; the next run takes its result" if well and attempt.is_open else ""
        found[job] = f"{how} after its run was lost{then}"
    return found


def find_target(target: str | None, options: argparse.Namespace) -> Found:
    """The run meant: a run id, else a workflow file's newest or live run, else the user's newest.

    Goes to the run's base folder. Raises FlowError when there is none.
    """
    if target is None:
        from oumi_flow.store.runs import user_runs

        runs = user_runs()
        if not runs:
            raise FlowError("no run of yours is known", hint="`oumi-flow run FILE` starts one")
        return _of_run(runs[0])
    if _is_file(target):
        return _of_file(target, options)
    from oumi_flow.store.runs import find_run

    return _of_run(find_run(target))


def _is_file(target: str) -> bool:
    return os.path.exists(target) or target.endswith((".yaml", ".yml"))


def _of_run(run: UserRun) -> Found:
    from oumi_flow.store import Store

    output_dir = run.output_dir
    if os.path.isdir(run.base):
        os.chdir(run.base)
        output_dir = os.path.relpath(output_dir, run.base)
    return Found(Store(output_dir), run.run_id, run.path)


def _of_file(target: str, options: argparse.Namespace) -> Found:
    from oumi_flow.commands.opening import open_all

    options.file = target
    opened = open_all(options)
    latest = opened.store.latest_run()
    if latest is None:
        from oumi_flow.text import quoted

        raise FlowError(f"{target}: has not been run yet", hint=f"`oumi-flow run {quoted(target)}`")
    return Found(opened.store, latest, opened.workflow.path)


def one_job(pattern: str, workflow: Workflow) -> str:
    """The one job that `pattern` means. Raises FlowError when it means none or several."""
    from oumi_flow.planner import find_jobs

    names = [job.name for job in workflow.jobs]
    found = find_jobs([pattern], names)
    if len(found) == 1:
        return found.pop()
    shown = [name for name in names if name in found]
    more = f" (+{len(shown) - 5} more)" if len(shown) > 5 else ""
    raise FlowError(
        f'"{pattern}" means {len(found)} jobs, expected one',
        hint=f"name one of {', '.join(shown[:5])}{more}",
    )
