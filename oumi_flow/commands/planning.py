"""A plan as events: what a dry run prints, and what a run tells first."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType

from oumi_flow import identity
from oumi_flow.events import Event, Planned, Row, RunStarted
from oumi_flow.model import Plan, Step, Workflow
from oumi_flow.typed import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import argparse

    from oumi_flow.commands.opening import Opened
    from oumi_flow.store import Store


class Asked(Protocol):
    """What is told of the terms of a run."""

    @property
    def max_parallel(self) -> int: ...
    @property
    def gpus(self) -> tuple[int, ...]: ...


class _Slots(NamedTuple):
    max_parallel: int
    gpus: tuple[int, ...]


def run_started(run_id: str, workflow: Workflow, asked: Asked) -> RunStarted:
    """The first event of a run of this process."""
    return RunStarted(
        run_id=run_id,
        workflow=workflow.name,
        path=workflow.path,
        output_dir=workflow.output_dir,
        pid=os.getpid(),
        host=identity.host(),
        user=identity.user(),
        max_parallel=asked.max_parallel,
        gpus=asked.gpus,
        cost_per_gpu_hour=workflow.cost_per_gpu_hour,
    )


def running_now(plan: Plan, store: Store) -> dict[str, str]:
    """Jobs that run as we look, in a live run or in spite of a lost one, with words that say so."""
    run_id = (store.holder() or {}).get("run_id")
    if not run_id:
        return _outlived(plan, store)
    from oumi_flow.board import fold

    board = fold(store.read_events(run_id))
    return dict.fromkeys(board.running, f"runs now, in run {run_id}")


def _outlived(plan: Plan, store: Store) -> dict[str, str]:
    found = {}
    for step in plan.steps:
        attempt = step.past.attempt
        if step.past.trace is None and attempt is not None and attempt.is_unsettled:
            words = "finished"
            if attempt.is_open:
                words = _after_its_run(store.paths.job_state(step.job.name), attempt.token)
            if words:
                found[step.job.name] = (
                    f"{words} after its run was lost; taken over if it still fits"
                )
    return found


def _after_its_run(state_dir: str, token: str) -> str:
    """What became of an attempt whose run is gone and wrote nothing of it down; "" for nothing."""
    from oumi_flow.executors.handles import is_alive, read_exit, recorded

    exit = read_exit(state_dir, token)
    if exit is not None:
        return "finished" if exit.code == 0 else ""
    handle = recorded(state_dir)
    return "goes on" if handle is not None and handle.token == token and is_alive(handle) else ""


def planned(
    plan: Plan, verbose: bool = False, running: Mapping[str, str] = MappingProxyType({})
) -> Planned:
    """The plan as screens need it, reasons in finished words; `running`: see `running_now`."""
    rows = tuple(row(step, verbose, running.get(step.job.name, "")) for step in plan.steps)
    return Planned(plan.to_run, plan.may_run, plan.up_to_date, rows, plan.unlisted)


def row(step: Step, verbose: bool = False, running: str = "") -> Row:
    """What a plan tells of one job; `running`: words for one that runs as we look."""
    from oumi_flow.model import Decision
    from oumi_flow.reasons import of_step, up_to_date

    job = step.job
    if step.decision is Decision.UP_TO_DATE:
        words: tuple[str, ...] = (up_to_date(step.past.trace),)
    elif running:
        words = (running,)
    else:
        words = tuple(of_step(step, verbose=verbose))
    return Row(
        job=job.name,
        verb=job.verb,
        decision=step.decision.value,
        reasons=words,
        upstream=job.upstream,
        expected=step.expected,
        folder=job.folder,
        gpus=job.gpu.count if job.gpu else 0,
        restores=step.restores,
    )


def plan_events(
    plan: Plan, opened: Opened, options: argparse.Namespace | None = None
) -> list[Event]:
    """A plan that is not run, as the beginning of a run that never was."""
    from oumi_flow.commands.resources import listed_gpus, slots

    workflow = opened.workflow
    indices = listed_gpus(options, workflow)
    asked = _Slots(slots(options, workflow, len(indices)), indices)
    at = time.time()
    events: list[Event] = [
        run_started("", workflow, asked),
        planned(plan, bool(options and options.verbose), running_now(plan, opened.store)),
    ]
    from oumi_flow.dataclass import replace

    return [replace(event, seq=number, at=at) for number, event in enumerate(events, 1)]


def print_plan(plan: Plan, opened: Opened, options: argparse.Namespace) -> None:
    """What would run, and why; with `--json` as the events of a run."""
    from oumi_flow.events import to_line

    events = plan_events(plan, opened, options)
    if options.json:
        for event in events:
            print(to_line(event))
        return
    from oumi_flow.board import fold
    from oumi_flow.commands.sealing import seal_dry_run, seal_no_op
    from oumi_flow.ui.brief import no_op
    from oumi_flow.ui.plain import plan_text
    from oumi_flow.ui.theme import theme_of

    if not plan.to_run and not plan.may_run and not plan.orphans and not options.verbose:
        text = no_op(opened.workflow.name, plan.jobs) + "\n"
        sys.stdout.write(text)
        seal_no_op(plan, opened, options, text)
        return
    text = plan_text(
        fold(events),
        theme_of(sys.stdout),
        verbose=options.verbose,
        orphans=plan.orphans,
    )
    text += "\n"
    sys.stdout.write(text)
    seal_dry_run(plan, opened, options, text)
