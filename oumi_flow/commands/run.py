"""`run`: plan, and where there is something to do, the run from the lock to the last event."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from oumi_flow.dataclass import replace
from oumi_flow.errors import JOBS_FAILED, OK, FlowError, Locked
from oumi_flow.model import Decision, Plan
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from oumi_flow.commands.opening import Opened
    from oumi_flow.events import RunFinished
    from oumi_flow.executors.base import Executor
    from oumi_flow.runner.recover import Recovered
    from oumi_flow.runner.terms import Control
    from oumi_flow.runner.work import Work
    from oumi_flow.store import Store
    from oumi_flow.store.runlock import RunLock

NO_OUMI = ("oumi",)  # what a command begins with before oumi is looked for
_SIGNALLED = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}


def run(options: argparse.Namespace) -> int:
    """Everything that `oumi-flow run` does; returns its exit code. Raises FlowError."""
    # What a plan is made of stays until the end: looking for garbage in it is wasted time.
    gc.disable()
    try:
        return _run_command(options)
    finally:
        gc.freeze()  # nor is it looked through once more as the interpreter ends
        gc.enable()


def _run_command(options: argparse.Namespace) -> int:
    _check_flags(options)
    opened, plan = _part(options) or _whole(options)
    if options.dag:
        from oumi_flow.commands.inspect import drawing

        sys.stdout.write(drawing(plan, options.dag))
        return OK
    if options.dry_run:
        from oumi_flow.commands.planning import print_plan

        print_plan(plan, opened, options)
        return OK
    if not plan.steps:
        raise FlowError(
            "--omit leaves no job to run", hint="every job is left out, or needs one that is"
        )
    if not plan.to_run and not plan.may_run:
        return _nothing_to_do(plan, opened, options)
    if options.detach:
        from oumi_flow.commands.background import detach

        _refuse(plan, options)
        return detach(options, opened)
    if options.run_id is None:
        from oumi_flow.commands import screen

        if screen.is_wanted(options, opened.workflow.tui):
            _refuse(plan, options)
            return screen.run_on_screen(options, opened)
    return _perform(plan, opened, options)


def _whole(options: argparse.Namespace) -> tuple[Opened, Plan]:
    from oumi_flow.commands.opening import make_plan, open_all

    opened = open_all(options, strict=True)
    return opened, make_plan(opened, options)


def _part(options: argparse.Namespace) -> tuple[Opened, Plan] | None:
    """What has moved since a seal, where that will do: plain lines speak of nothing else."""
    look = getattr(options, "look", None)
    if look is None or not look.path or options.detach or options.dag or options.verbose:
        return None
    from oumi_flow.commands.part import open_part
    from oumi_flow.commands.screen import is_wanted

    found = open_part(look, options)
    return None if found is None or is_wanted(options, found[0].workflow.tui) else found


def _check_flags(options: argparse.Namespace) -> None:
    from oumi_flow.commands.resources import asked_gpus

    asked_gpus(options)
    for flag in ("json", "quiet", "detach"):
        if options.tui and getattr(options, flag):
            raise FlowError(f"--tui and --{flag} exclude each other")
    if options.max_parallel is not None and options.max_parallel < 1:
        raise FlowError(f"-j {options.max_parallel}: expected a number from 1 up")


def _nothing_to_do(plan: Plan, opened: Opened, options: argparse.Namespace) -> int:
    """One line, and newer stamps kept where only those had changed. No lock, thread or folder."""
    orphans = _new_orphans(plan, opened)
    if opened.part is None and (plan.refreshed or opened.store.behind or orphans):
        _keep_stamps(plan, opened)
    if options.json:
        from oumi_flow.commands.planning import plan_events
        from oumi_flow.events import to_line

        for event in plan_events(plan, opened):
            print(to_line(event))
        return OK
    from oumi_flow.commands.sealing import seal_no_op
    from oumi_flow.ui.brief import leftovers, no_op

    if not options.quiet:
        text = no_op(opened.workflow.name, plan.jobs) + "\n"
        sys.stdout.write(text)
        if orphans:
            print(f"note: {leftovers(orphans, opened.workflow.path)}", file=sys.stderr)
        seal_no_op(plan, opened, options, text)
    return OK


def _new_orphans(plan: Plan, opened: Opened) -> list[str]:
    """Folders of jobs no longer in the file, as far as the user has not been told of them yet."""
    if not plan.orphans:
        return []
    return [name for name in plan.orphans if name not in opened.store.reported]


def _keep_stamps(plan: Plan, opened: Opened) -> None:
    """So that the next run need not read these files again. A folder in use is left alone."""
    from oumi_flow.store.runs import new_run_id

    try:
        with opened.store.lock(new_run_id(), opened.workflow):
            for trace in plan.refreshed.values():
                opened.store.keep(trace)
            opened.store.write_index(plan.orphans)
    except FlowError:
        return


def _refuse(plan: Plan, options: argparse.Namespace) -> tuple[str, ...]:
    """What cannot run here is said before anything runs; returns the oumi command."""
    from oumi_flow import verbs

    waiting = [step.job for step in plan.steps if step.decision is not Decision.UP_TO_DATE]
    for job in waiting:
        if job.executor != "local":
            raise FlowError(
                f'job "{job.name}" asks for the remote "{job.executor}"; '
                "this version runs jobs on this machine only",
                hint="take `remote` out of its resources",
            )
    if all(verbs.verb(job.verb).is_shell for job in waiting):
        return NO_OUMI
    from oumi_flow.oumi_cli import find_oumi, missing_oumi

    found = find_oumi(options.oumi, os.environ)
    if found is None:
        raise missing_oumi()
    return found


def _perform(plan: Plan, opened: Opened, options: argparse.Namespace) -> int:
    """Hold the folder, settle what a lost run left, plan again if need be, and run."""
    from oumi_flow.commands.opening import make_plan, open_all
    from oumi_flow.executors.base import find_executor
    from oumi_flow.runner.recover import Recovered, recover
    from oumi_flow.store.runs import new_run_id

    run_id = options.run_id or new_run_id()
    with opened.store.lock(run_id, opened.workflow) as lock:
        executor = find_executor("local")
        try:
            problems = executor.check()
            if problems:
                raise FlowError("; ".join(problems))
            work = _worker(plan, opened, options, run_id)
            work.mend()
            free = opened.free and lock.was_free_since(opened.lock, opened.began_ns)
            ours = free and not work.mended
            whole = len(plan.steps) == len(opened.workflow.jobs)
            pasts = {step.job.name: step.past for step in plan.steps} if ours and whole else None
            recovered = recover(opened.workflow, opened.store, executor, work, pasts)
            if not ours or recovered != Recovered():
                # What another run finished meanwhile, or a lost one had, is not run again.
                if opened.part is not None:  # it may be any job's
                    opened = open_all(options, strict=True)
                    work, before = _worker(plan, opened, options, run_id), recovered
                    recovered = recover(opened.workflow, opened.store, executor, work)
                    recovered = replace(recovered, notes=before.notes + recovered.notes)
                plan = make_plan(opened, options)
            if not plan.to_run and not plan.may_run:
                work.settle()
                return _nothing_to_do(plan, opened, options)
            code = _run(plan, opened, options, run_id, work, executor, recovered, lock)
            if opened.store.files.barred:
                raise Locked(opened.store.files.barred, "run again when that has ended")
            return code
        finally:
            executor.close()


def _worker(plan: Plan, opened: Opened, options: argparse.Namespace, run_id: str) -> Work:
    from oumi_flow.commands.opening import run_cache, software_of
    from oumi_flow.runner.work import Work

    oumi, version = _refuse(plan, options), ""
    if oumi != NO_OUMI:
        from oumi_flow.oumi_cli import oumi_version

        version = oumi_version(oumi)
    return Work(
        opened.workflow,
        opened.store,
        opened.disk,
        run_id=run_id,
        environ=os.environ,
        oumi=oumi,
        cache=run_cache(opened, options),
        versions={"oumi": version} if version else {},
        software=software_of(options),
    )


def _run(
    plan: Plan,
    opened: Opened,
    options: argparse.Namespace,
    run_id: str,
    work: Work,
    executor: Executor,
    recovered: Recovered,
    lock: RunLock,
) -> int:
    from oumi_flow.commands.planning import planned, run_started
    from oumi_flow.commands.resources import choose_gpus, slots
    from oumi_flow.commands.sealing import seal_end
    from oumi_flow.commands.views import open_view, stopped_by_signals
    from oumi_flow.commands.words import masked
    from oumi_flow.events import Note
    from oumi_flow.load.snapshot import record_base
    from oumi_flow.runner.running import run as run_plan
    from oumi_flow.runner.telling import Teller
    from oumi_flow.runner.terms import Options, StopFlag
    from oumi_flow.runner.watch import Watch
    from oumi_flow.store.runs import register_run
    from oumi_flow.ui.brief import leftovers

    executor.prepare()  # before there are threads, and libraries of the GPUs' makers
    workflow, store, base = opened.workflow, opened.store, os.getcwd()
    gpus, warnings = choose_gpus(plan, options)
    warnings += [Note(words, "warning") for words in work.unmended]
    indices = tuple(sorted({gpu.index for gpu in gpus}))
    asked = Options(
        run_id=run_id,
        max_parallel=slots(options, workflow, len(indices)),
        gpus=indices,
        allocation=workflow.allocation,
        fail_fast=options.fail_fast,
        timeout=workflow.timeout,
    )
    pool = None
    if gpus:
        from oumi_flow.tokens import TokenPool

        pool = TokenPool(gpus, run_id=run_id)
    work.stage(plan)
    warming = work.warm(plan, sees_gpus=bool(gpus))
    if warming.warmth is not None and warming.is_due:
        executor.prewarm(warming.warmth)
    record_base(workflow.path, base)
    secrets = _values(opened)
    words = masked(options.command_line, secrets)
    try:
        register_run(run_id, workflow.output_dir, workflow.name, workflow.path, words, base)
    except FlowError as fault:  # a full home is no reason not to run
        warnings.append(Note(f"`status` will not list this run: {fault.message}", "warning"))
    stop = StopFlag()
    log = store.open_events(run_id)
    watch = Watch(store)
    view = open_view(options, opened, watch)
    notifier = None
    if workflow.notify:
        from oumi_flow.commands.notify import Notifier

        notifier = Notifier(workflow.notify, secrets)
    teller = Teller([log.append, view, *([notifier] if notifier else [])])

    def keep_folder() -> None:
        lock.keep()
        with suppress(FlowError):  # its disk is full: the next look may do better
            if log.restore():
                words = "what this run had told there was deleted or moved away; it goes on anew"
                teller.say(Note(f"{workflow.output_dir}: {words}", "warning"))

    try:
        with stopped_by_signals(stop.request), view.ticking():
            teller.say(run_started(run_id, workflow, asked))
            told = planned(plan)
            teller.say(replace(told, among=opened.part.rows) if opened.part else told)
            for text in [*recovered.notes, *workflow.warnings, *warming.words]:
                teller.say(Note(text))
            for note in warnings:
                teller.say(note)
            if orphans := _new_orphans(plan, opened):
                teller.say(Note(leftovers(orphans, workflow.path)))
            gc.freeze()
            gc.enable()
            finished = run_plan(
                plan,
                work=work,
                executor=executor,
                tokens=pool,
                emit=teller,
                options=asked,
                stop=stop,
                control=_control(store, run_id, keep_folder),
                watch=watch,
                adopted=recovered.adopted,
                spare=work.look_again,
            )
    finally:
        watch.close()
        view.close()
        log.close()
        if notifier is not None:
            notifier.close()
    with stopped_by_signals(stop.request):  # all has ended: whoever asks now need not wait long
        work.settle(plan.orphans)
        if finished.state == "done":
            seal_end(opened, options, work.made)
    return _exit_code(finished)


def _values(opened: Opened) -> set[str]:
    """Of all secrets, for whoever has to keep quiet about them."""
    from oumi_flow.load.secrets import fill_secrets, templates_of

    values = set()
    templates = templates_of(opened.workflow)
    if opened.part is not None:
        templates |= opened.part.secrets
    for template in templates:
        with suppress(KeyError):  # not set any more: its job will say so
            values.add(fill_secrets(template, os.environ))
    return values


def _control(store: Store, run_id: str, keep_folder: Callable[[], None]) -> Control:
    """Requests from outside; and the folder's own, to be off when somebody else has it."""
    asked = store.control(run_id)
    why = ""

    def poll() -> list[dict[str, object]]:
        nonlocal why
        if why:
            return []
        try:
            keep_folder()
        except FlowError as fault:
            why = fault.message
            if isinstance(fault, Locked):
                # Before anything else: what is there now is for the other run to write.
                why = store.files.barred = f"this run lost its folder: {why}"
            return [{"kind": "end", "words": why}]
        return asked.poll()

    return poll


def _exit_code(finished: RunFinished) -> int:
    if finished.state == "interrupted":
        return _SIGNALLED.get(finished.cause, JOBS_FAILED)
    return OK if finished.state == "done" else JOBS_FAILED
