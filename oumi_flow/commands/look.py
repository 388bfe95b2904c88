"""Commands that look back, or on: `status`, `monitor`, `logs`, `errors`, `metrics`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from oumi_flow.errors import JOBS_FAILED, OK, FlowError
from oumi_flow.text import quoted
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from oumi_flow.board import Board
    from oumi_flow.commands.targets import Found
    from oumi_flow.store import Store

_SHOWN = 20  # runs that `status` lists


def status(options: argparse.Namespace) -> int:
    """One run with its jobs, or all runs of this user."""
    from oumi_flow.ui.tables import jobs_table, runs_table
    from oumi_flow.ui.theme import theme_of

    now, theme = time.time(), theme_of(sys.stdout)
    if options.target is None:
        boards = _boards_of_user(live_only=options.running)
        if options.json:
            _print_json([_run_record(board, now) for board in boards])
        else:
            print(runs_table(boards[:_SHOWN], theme, now))
            if len(boards) > _SHOWN:
                print(f"(+{len(boards) - _SHOWN} older; --json has all)", file=sys.stderr)
        return OK
    from oumi_flow.commands.targets import find_target

    found = find_target(options.target, options)
    board = board_of(found)
    if options.json:
        record = _run_record(board, now)
        names = board.running if options.running else board.rows
        record["jobs"] = [_job_record(board, name, now) for name in names]
        _print_json(record)
        return OK
    if board.started is None and found.store.holder() is None:
        print(f"run {found.run_id} ended before it could tell anything; run it again")
        return OK
    ask = found.store.read_progress
    print(jobs_table(board, theme, now, ask, running=options.running))
    return OK


def monitor(options: argparse.Namespace) -> int:
    """Follow a run until it ends; a finished one is shown as it was."""
    from oumi_flow.commands.targets import find_target
    from oumi_flow.commands.views import live, tails, wants_screen
    from oumi_flow.events import RunFinished

    if options.read_only and options.writable:
        raise FlowError("--read-only and --writable are two wishes", hint="give one of them")
    found = find_target(options.target, options)
    store, run_id = found.store, found.run_id
    from oumi_flow.commands import screen

    if options.web:
        from oumi_flow.commands.web import serve

        return serve(found, options.port or 0, options.writable)
    if options.port is not None or options.writable:
        raise FlowError("--port and --writable belong to --web")
    if screen.is_wanted(options):
        return screen.watch(store, run_id, found.path, read_only=options.read_only)
    if not store.is_live(run_id):
        options.json = options.running = False
        options.target = run_id if options.target is None else options.target
        return status(options)
    drawer = None
    if wants_screen():
        drawer = live(tails(store), store.read_progress)
    else:
        from oumi_flow.ui.plain import Plain

        drawer = Plain(sys.stdout, tail=tails(store), progress=store.read_progress)
    try:
        for event in store.follow_events(run_id):
            drawer(event)
            if isinstance(event, RunFinished):
                return OK if event.state == "done" else JOBS_FAILED
    except KeyboardInterrupt:
        # Leaving the viewer is not stopping the run. Said below what is left of the screen.
        drawer.close()
        print(f"\nthe run goes on; `oumi-flow monitor {run_id}` comes back", file=sys.stderr)
        return OK
    finally:
        drawer.close()
    print(f"run {run_id} was lost; run it again to go on", file=sys.stderr)
    return JOBS_FAILED


def logs(options: argparse.Namespace) -> int:
    """The bytes of a job's log, whole, its end, or as it grows. Raises FlowError."""
    from oumi_flow.commands import reading
    from oumi_flow.commands.opening import open_all
    from oumi_flow.commands.targets import one_job

    _check_lines(options)
    opened = open_all(options)
    job, store = one_job(options.job, opened.workflow), opened.store
    live = (store.holder() or {}).get("run_id") if options.attempt is None else None
    ended = _await_start(store, live, job) if options.follow and live else ""
    path = reading.log_of_attempt(store, job, options.attempt)
    if not os.path.exists(path):
        raise FlowError(
            f'job "{job}" has no log: {ended or "it has not run here yet"}',
            hint=f"`oumi-flow why {quoted(options.file, job)}` says what it waits for",
        )
    if options.errors:
        return reading.print_errors(path, options.lines)
    runs = _still_runs(store, job) if options.follow else None
    whose, attempt = reading.head(path)  # of those that come meanwhile nothing has been shown
    reading.print_log(path, options.lines, runs)
    if runs is not None and live and whose == live:
        _follow_retries(store, live, job, attempt, runs)
    return OK


def _check_lines(options: argparse.Namespace) -> None:
    if options.lines is not None and options.lines < 0:
        raise FlowError(f"-n {options.lines}: expected a number from 0 up")


def _await_start(store: Store, run_id: str, job: str) -> str:
    """Wait for the attempt that a live run is going to start; says what it waits for.

    Returns why there will be none, else "".
    """
    from oumi_flow.board import fold
    from oumi_flow.events import JobFinished, JobStarted
    from oumi_flow.model import JobState
    from oumi_flow.ui.lines import waiting_words

    events = list(store.read_events(run_id))
    board = fold(events)
    row = board.rows.get(job)
    if row is None or row.state.ended or row.state is JobState.RUNNING:
        return ""
    words = waiting_words(board, row, time.time()) or "has not started yet"
    print(f"{job}: {words}; its log follows", file=sys.stderr, flush=True)
    for event in store.follow_events(run_id):
        if event.seq > events[-1].seq and getattr(event, "job", "") == job:
            if isinstance(event, JobStarted):
                return ""
            if isinstance(event, JobFinished):
                return f"{event.state} ({event.cause})" if event.cause else event.state
    return "its run has ended"


def _follow_retries(
    store: Store, run_id: str, job: str, shown: int, runs: Callable[[], bool]
) -> None:
    """Show the logs of attempts after `shown` too, until the run says how the job ended."""
    from oumi_flow.commands import reading
    from oumi_flow.events import JobFinished, JobRetrying, JobStarted
    from oumi_flow.text import duration

    newest = store.paths.log(job)
    for event in store.follow_events(run_id):
        if getattr(event, "job", "") != job:
            continue
        if isinstance(event, JobFinished):
            return
        if isinstance(event, JobRetrying) and event.attempt == shown:
            words = f"{event.detail or 'failed'}; attempt {shown + 1} in {duration(event.delay)}"
            print(f"{job}: {words}; its log follows", file=sys.stderr, flush=True)
        if isinstance(event, JobStarted) and event.attempt > shown:
            shown = event.attempt
            try:
                path = reading.log_of_attempt(store, job, shown)
            except FlowError:  # it is not kept any more
                continue
            reading.print_log(path, None, runs if path == newest else None)


def _still_runs(store: Store, job: str) -> Callable[[], bool]:
    from oumi_flow.executors.handles import is_alive, read_exit, recorded

    def runs() -> bool:
        attempt, made = store.read_attempt(job), store.trace(job)
        if attempt is None or not attempt.is_open:
            return False
        if made is not None and (made.run_id, made.attempt) == (attempt.run_id, attempt.number):
            return False  # its run was killed before it could take the record away
        if store.holder() is not None:
            return True
        state = store.paths.job_state(job)
        handle = recorded(state)
        if handle is None or handle.token != attempt.token or not is_alive(handle):
            return False
        return read_exit(state, attempt.token) is None

    return runs


def errors(options: argparse.Namespace) -> int:
    """All failures of the newest run."""
    from oumi_flow.commands.targets import find_target
    from oumi_flow.commands.views import last_words
    from oumi_flow.ui.tables import errors_text
    from oumi_flow.ui.theme import theme_of

    _check_lines(options)
    found = find_target(options.file, options)
    board = board_of(found)

    def tail(job: str) -> list[str]:
        return last_words(found.store, job, options.lines)

    if options.json:
        _print_json(
            [
                {**_job_record(board, name, time.time()), "lines": tail(name)}
                for name in board.failed
            ]
        )
    else:
        print(errors_text(board.failed.values(), theme_of(sys.stdout), tail, options.lines))
    return JOBS_FAILED if board.failed else OK


def metrics(options: argparse.Namespace) -> int:
    """Jobs × metrics × the config keys that differ."""
    from oumi_flow.commands import numbers
    from oumi_flow.commands.opening import open_all
    from oumi_flow.ui import metric_rows
    from oumi_flow.ui.tables import metrics_table
    from oumi_flow.ui.theme import theme_of

    if options.json and options.csv:
        raise FlowError("--json and --csv are two answers", hint="ask for one of them")
    opened = open_all(options)
    rows = numbers.rows(opened, options.jobs, options.diff)
    if options.json:
        _print_json(metric_rows.as_records(rows))
    elif options.csv:
        sys.stdout.write(metric_rows.as_csv(rows))
    else:
        print(metrics_table(rows, theme_of(sys.stdout)))
    return OK


# Boards of runs -------------------------------------------------------------------------------


def board_of(found: Found) -> Board:
    """The run as it is now: the fold of its events, and which of its jobs live on without it."""
    from oumi_flow.board import fold

    store, run_id = found.store, found.run_id
    board = fold(store.read_events(run_id))
    live, newest = store.is_live(run_id), store.latest_run() == run_id
    if live or newest or not board.over:
        _add_survivors(board, store, live=live, newest=newest)
    return board


def _add_survivors(board: Board, store: Store, *, live: bool, newest: bool) -> None:
    """Jobs of lost runs whose processes live on; nothing is changed by looking.

    Those of this run, and with the folder's newest run those of all others.
    """
    from oumi_flow.board import apply
    from oumi_flow.commands.targets import ends_without
    from oumi_flow.events import JobStarted
    from oumi_flow.executors.handles import living

    alive = living(store.paths.output_dir)
    if live:  # what it has in its plan it looks after itself
        alive = [handle for handle in alive if handle.job not in board.rows]
    elif not newest:
        alive = [handle for handle in alive if handle.run_id == board.run_id]
    if not live and not board.over:
        ends = ends_without(board.run_id, store, board.running)
        board.lost({handle.job for handle in alive}, ends)
    for handle in alive:
        if handle.job not in board.running:
            attempt = store.read_attempt(handle.job)
            at = attempt.started if attempt is not None else 0.0
            apply(board, JobStarted(handle.job, handle.number, log=handle.log, at=at))
        board.rows[handle.job].runner_lost = True


def _boards_of_user(*, live_only: bool) -> list[Board]:
    from oumi_flow.commands.targets import Found
    from oumi_flow.store import Store
    from oumi_flow.store.runs import user_runs

    boards = []
    for run in user_runs():
        store = Store(run.output_dir)
        board = board_of(Found(store, run.run_id, run.path))
        # A lost run whose jobs live on runs as far as the machine is concerned.
        if live_only and board.over and not board.running:
            continue
        if board.run_id:
            board.output_dir = run.output_dir
            boards.append(board)
    return boards


def _run_record(board: Board, now: float) -> dict[str, object]:
    return {
        "run_id": board.run_id,
        "workflow": board.workflow,
        "path": board.path,
        "output_dir": board.output_dir,
        "state": board.state,
        "cause": board.cause,
        "pid": board.pid,
        "host": board.host,
        "user": board.user,
        "started": board.started,
        "finished": board.finished,
        "elapsed": board.elapsed(now),
        "total": board.total,
        "completed": board.completed,
        "counts": {state.value: n for state, n in board.counts.items() if n},
        "gpu_seconds": board.gpu_seconds(now),
        "cost": board.cost(now),
        "expected_cost": board.expected_cost(),
    }


def _job_record(board: Board, name: str, now: float) -> dict[str, object]:
    row = board.rows[name]
    return {
        "job": row.name,
        "verb": row.verb,
        "state": row.state.value,
        "runner_lost": row.runner_lost,
        "reasons": list(row.reasons),
        "upstream": list(row.upstream),
        "attempt": row.attempt,
        "devices": list(row.devices),
        "cause": row.cause,
        "exit_code": row.exit_code,
        "started": row.started,
        "finished": row.finished,
        "took": row.elapsed(now),
        "metrics": dict(row.metrics),
        "log": row.log,
    }


def _print_json(value: object) -> None:
    from oumi_flow.commands.words import to_json

    print(to_json(value))
