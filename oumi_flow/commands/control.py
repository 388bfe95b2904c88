"""Commands that reach into a run or repeat one: `cancel`, `resume`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable

from oumi_flow.errors import JOBS_FAILED, OK, FlowError
from oumi_flow.events import JobFinished, Planned, RunFinished
from oumi_flow.model import LastAttempt
from oumi_flow.text import quoted
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from oumi_flow.commands.targets import Found
    from oumi_flow.executors.base import Handle
    from oumi_flow.store import Store

_GRACE = 30.0
_INTERRUPTED = 130


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
    if not _await_plan(store, run_id):
        return _never_began(run_id)
    board = fold(store.read_events(run_id))
    # Of lost runs, and not wanted by this one: it does not look after them.
    strays = {name: one for name, one in _living(store).items() if name not in board.rows}
    if options.jobs:
        jobs = find_jobs(options.jobs, [*board.rows, *strays])
        strays = {name: one for name, one in strays.items() if name in jobs}
        jobs -= strays.keys()
    if strays:
        _stop(strays.values())
    if jobs is not None:
        for name in [name for name in board.rows if name in jobs]:
            if board.rows[name].state.ended:
                print(f"{name}: {board.rows[name].state.value} already")
                jobs.discard(name)
        if not jobs:
            return OK
    wish = {"kind": "cancel", "jobs": sorted(jobs) if jobs is not None else None}
    what = f"run {run_id}" if jobs is None else f"{', '.join(sorted(jobs))} of run {run_id}"
    try:
        store.request(run_id, wish)
    except FlowError as fault:
        raise _unheard(fault, store, run_id) from fault
    try:
        print(f"stopping {what}; waiting for its end", file=sys.stderr, flush=True)
        return _await_end(store, run_id, set(jobs or ()))
    except KeyboardInterrupt:
        # The request stands, whoever waits for it.
        print(f"\nit is being stopped; `oumi-flow status {run_id}` says more", file=sys.stderr)
        return _INTERRUPTED


def _unheard(fault: FlowError, store: Store, run_id: str) -> FlowError:
    """The wish could not be written, as on a full disk: what stops the run all the same."""
    who = store.holder() or {}
    if who.get("run_id") != run_id or not isinstance(who.get("pid"), int):
        return fault
    hint = (
        f"free some space; or `kill {who['pid']}` on {who.get('host')}, which stops all of the run"
    )
    return FlowError(fault.message, hint=hint, exit_code=fault.exit_code)


def _await_plan(store: Store, run_id: str) -> bool:
    """Until a run that is only just starting has said which jobs it has; whether it did."""
    if not os.path.exists(store.paths.events(run_id)):
        print(f"run {run_id} is only just starting; waiting", file=sys.stderr, flush=True)
    return any(isinstance(event, Planned) for event in store.follow_events(run_id))


def _never_began(run_id: str) -> int:
    print(f"run {run_id} ended before it began anything", file=sys.stderr)
    return OK


def _await_end(store: Store, run_id: str, jobs: set[str]) -> int:
    """Until these jobs have ended, or the run has when there are none."""
    waiting, began = set(jobs), False
    for event in store.follow_events(run_id):
        began = True
        if isinstance(event, JobFinished) and event.job in waiting:
            print(f"{event.job}: {event.state}")
            waiting.discard(event.job)
            if not waiting:
                return OK
        if isinstance(event, RunFinished):
            print(f"run {run_id}: {event.state}")
            return OK
    if not began:
        return _never_began(run_id)
    print(f"run {run_id} is gone without a last word; run it again to settle it", file=sys.stderr)
    return JOBS_FAILED


def _cancel_remains(found: Found, options: argparse.Namespace) -> int:
    """No run is live: stop the processes that a lost one left. No run may start meanwhile."""
    from oumi_flow.board import fold
    from oumi_flow.executors.base import find_executor
    from oumi_flow.planner import find_jobs

    store = found.store
    board = fold(store.read_events(found.run_id))
    known = list(dict.fromkeys([*board.rows, *_living(store)]))
    wanted = find_jobs(options.jobs, known) if options.jobs else set(known)
    names = [name for name in known if name in wanted and _open_attempt(store, name)]
    if not names:
        state = "lost" if board.state in ("planned", "running") else board.state
        print(f"nothing runs: run {found.run_id} is {state}", file=sys.stderr)
        return OK
    executor = find_executor("local")
    try:
        with store.hold(found.run_id, board.workflow, found.path):
            alive = executor.find([store.paths.job_state(name) for name in names])
            tokens = {handle.token for handle in alive}
            for name in names:
                attempt = _open_attempt(store, name)
                if attempt is not None and attempt.token not in tokens:
                    _record_loss(store, name, attempt)
            _stop(alive)
        return OK
    finally:
        executor.close()


def _living(store: Store) -> dict[str, Handle]:
    """Every attempt below the folder that is alive now, of whatever run, by job."""
    from oumi_flow.executors.handles import living

    return {handle.job: handle for handle in living(store.paths.output_dir)}


def _stop(handles: Iterable[Handle]) -> None:
    """Stop these, wait until they are gone, and say so."""
    from oumi_flow.executors.base import find_executor

    executor = find_executor("local")
    try:
        waiting = {handle.token: handle for handle in handles}
        executor.cancel(list(waiting.values()), _GRACE)
        while waiting:
            ends, _ = executor.poll(list(waiting.values()))
            for token in ends:
                handle = waiting.pop(token, None)
                if handle is not None:
                    print(f"{handle.job}: cancelled")
    finally:
        executor.close()


def _open_attempt(store: Store, job: str) -> LastAttempt | None:
    """The job's latest attempt, if nobody knows yet how it ended."""
    attempt = store.read_attempt(job)
    if attempt is None or not attempt.is_open:
        return None
    return attempt if store.read_exit(job, attempt.token) is None else None


def _record_loss(store: Store, job: str, attempt: LastAttempt) -> None:
    from oumi_flow.dataclass import replace

    lost = replace(attempt, state="interrupted", detail="lost", finished=time.time())
    store.write_attempt(job, lost)
    print(f"{job}: was lost; whatever was left of it is stopped")


def resume(options: argparse.Namespace) -> int:
    """`run` again with the file and flags of an earlier run. Raises FlowError."""
    from oumi_flow.commands.run import run as run_again
    from oumi_flow.commands.words import again, refuse_masked
    from oumi_flow.parser import parse
    from oumi_flow.store.runs import find_run, user_runs

    if options.run is None:
        runs = user_runs()
        if not runs:
            raise FlowError("no run of yours is known", hint="`oumi-flow run FILE` starts one")
        run = runs[0]
    elif os.path.isfile(options.run):
        raise FlowError(
            f"{options.run}: a workflow file, expected a run id",
            hint=f"`oumi-flow run {quoted(options.run)}` goes on with it",
        )
    else:
        run = find_run(options.run)
    if not os.path.isdir(run.base):
        raise FlowError(f"{run.base}: the folder of run {run.run_id} is gone")
    words = [*again(run.argv), "-C", run.base]
    refuse_masked(words, run.run_id)
    print(f"oumi-flow {quoted(*words)}", file=sys.stderr)
    os.chdir(run.base)
    asked = parse(words[0], words[1:])
    asked.command_line, asked.flags = words, {}
    return run_again(asked)
