"""Commands that reach into a run or repeat one: `cancel`, `resume`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from oumi_flow.errors import JOBS_FAILED, OK, FlowError
from oumi_flow.events import JobFinished, RunFinished
from oumi_flow.model import LastAttempt

if TYPE_CHECKING:
    from oumi_flow.commands.targets import Found
    from oumi_flow.store import Store

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


def _cancel_remains(found: Found, options: argparse.Namespace) -> int:
    """No run is live: stop the processes that a lost one left. No run may start meanwhile."""
    from oumi_flow.board import fold
    from oumi_flow.executors.base import find_executor
    from oumi_flow.planner import find_jobs

    store = found.store
    board = fold(store.read_events(found.run_id))
    wanted = find_jobs(options.jobs, list(board.rows)) if options.jobs else set(board.rows)
    names = [name for name in board.rows if name in wanted and _open_attempt(store, name)]
    if not names:
        print("nothing runs", file=sys.stderr)
        return OK
    executor = find_executor("local")
    try:
        with store.hold(found.run_id, board.workflow, found.path):
            waiting = {
                handle.token: handle
                for handle in executor.find([store.paths.job_state(name) for name in names])
            }
            for name in names:
                attempt = _open_attempt(store, name)
                if attempt is not None and attempt.token not in waiting:
                    _record_loss(store, name, attempt)
            executor.cancel(list(waiting.values()), _GRACE)
            while waiting:
                ends, _ = executor.poll(list(waiting.values()))
                for token in ends:
                    handle = waiting.pop(token, None)
                    if handle is not None:
                        print(f"{handle.job}: cancelled")
        return OK
    finally:
        executor.close()


def _open_attempt(store: Store, job: str) -> LastAttempt | None:
    """The job's latest attempt, if nobody knows yet how it ended."""
    attempt = store.read_attempt(job)
    if attempt is None or attempt.state not in ("starting", "running"):
        return None
    return None if (store.read_exit(job) or {}).get("token") == attempt.token else attempt


def _record_loss(store: Store, job: str, attempt: LastAttempt) -> None:
    from dataclasses import replace

    lost = replace(attempt, state="interrupted", detail="lost", finished=time.time())
    store.write_attempt(job, lost)
    print(f"{job}: was lost; whatever was left of it is stopped")


def resume(options: argparse.Namespace) -> int:
    """`run` again with the file and flags of an earlier run. Raises FlowError."""
    from oumi_flow.commands.run import run as run_again
    from oumi_flow.commands.words import again
    from oumi_flow.flags import parse
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
    os.chdir(run.base)
    asked = parse(words[0], words[1:])
    asked.command_line = words
    return run_again(asked)
