"""Commands that reach into a run or repeat one: `cancel`, `resume`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from oumi_flow.errors import JOBS_FAILED, OK, FlowError
from oumi_flow.events import Event, JobFinished, Planned, RunFinished

if TYPE_CHECKING:
    from oumi_flow.commands.targets import Found

_GRACE = 30.0


def cancel(options: argparse.Namespace) -> int:
    """Ask the run to stop, wait until it says that it did. Raises FlowError."""
    from oumi_flow.board import fold
    from oumi_flow.commands.targets import find_target
    from oumi_flow.planner import find_jobs

    found = find_target(options.target, options)
    store, run_id = found.store, found.run_id
    if not store.is_live(run_id):
        return _cancel_remains(found, options)
    jobs: set[str] | None = None
    if options.jobs:
        board = fold(store.read_events(run_id))
        jobs = find_jobs(options.jobs, list(board.rows))
        for name in [name for name in board.rows if name in jobs]:
            if board.rows[name].state.ended:
                print(f"{name}: {board.rows[name].state.value} already")
                jobs.discard(name)
        if not jobs:
            return OK
    wish = {"kind": "cancel", "jobs": sorted(jobs) if jobs is not None else None}
    store.request(run_id, wish)
    what = "the run" if jobs is None else ", ".join(sorted(jobs))
    print(f"asked run {run_id} to stop {what}; waiting", file=sys.stderr)
    waiting = set(jobs or ())
    for event in store.follow_events(run_id):
        if isinstance(event, JobFinished) and event.job in waiting:
            print(f"{event.job}: {event.state}")
            waiting.discard(event.job)
            if not waiting:
                return OK
        if isinstance(event, RunFinished):
            print(f"run {run_id}: {event.state}")
            return OK
    print(f"run {run_id} is gone without a last word; run it again to settle it", file=sys.stderr)
    return JOBS_FAILED


def _planned_jobs(events: Iterable[Event]) -> list[str]:
    for event in events:
        if isinstance(event, Planned):
            return [row.job for row in event.rows]
    return []


def _cancel_remains(found: Found, options: argparse.Namespace) -> int:
    """No run is live: stop the processes that a lost one left."""
    from oumi_flow.executors.base import find_executor

    store = found.store
    names = _planned_jobs(store.read_events(found.run_id))
    executor = find_executor("local")
    try:
        handles = executor.find([store.paths.job_state(name) for name in names])
        if options.jobs:
            from oumi_flow.planner import find_jobs

            wanted = find_jobs(options.jobs, names)
            handles = [handle for handle in handles if handle.job in wanted]
        if not handles:
            print("nothing runs", file=sys.stderr)
            return OK
        executor.cancel(handles, _GRACE)
        waiting = {handle.token: handle for handle in handles}
        while waiting:
            ends, _ = executor.poll(list(waiting.values()))
            for token in ends:
                handle = waiting.pop(token, None)
                if handle is not None:
                    print(f"{handle.job}: cancelled")
        return OK
    finally:
        executor.close()


def resume(options: argparse.Namespace) -> int:
    """`run` again with the file and flags of an earlier run. Raises FlowError."""
    from oumi_flow.cli import main
    from oumi_flow.commands.words import again
    from oumi_flow.store.runs import find_run, user_runs
    from oumi_flow.text import did_you_mean

    runs = user_runs()
    if options.run is None:
        run = runs[0] if runs else None
        if run is None:
            raise FlowError("no run of yours is known", hint="`oumi-flow run FILE` starts one")
    else:
        run = find_run(options.run)
        if run is None:
            raise FlowError(
                f'no run "{options.run}"',
                hint=did_you_mean(options.run, [run.run_id for run in runs])
                or "`oumi-flow status` lists your runs",
            )
    if not os.path.isdir(run.base):
        raise FlowError(f"{run.base}: the folder of run {run.run_id} is gone")
    words = [*again(run.argv), "-C", run.base]
    print(f"oumi-flow {' '.join(words)}", file=sys.stderr)
    return main(words)
