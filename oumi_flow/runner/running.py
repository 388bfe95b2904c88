"""Puts threads, a queue and a clock around the loop: `run` takes a plan from start to end.

Knows no files, no YAML and no screen. The calling thread is the loop's: it handles messages, does
what is a matter of a moment, and waits for processes. Workers talk to it through one queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from oumi_flow.errors import FlowError
from oumi_flow.events import Event, RunFinished
from oumi_flow.executors.base import Executor, Handle
from oumi_flow.model import Plan
from oumi_flow.runner.crew import Crew, Moments
from oumi_flow.runner.leasing import Leasing, Tokens
from oumi_flow.runner.loop import Loop
from oumi_flow.runner.pilot import Pilot
from oumi_flow.runner.telling import Teller
from oumi_flow.runner.terms import (
    Control,
    Inbox,
    Message,
    Options,
    StopFlag,
    Watcher,
    Worker,
)
from oumi_flow.typed import Any

_MOST_WORKERS = 32
# So many spare moments may end after the process whose end is waited for: a fraction of a
# millisecond, and as many as keep up with the jobs that end.
_SPARE = 2


def run(
    plan: Plan,
    *,
    work: Worker,
    executor: Executor,
    tokens: Tokens | None,
    emit: Callable[[Event], None] | Teller,
    options: Options,
    stop: StopFlag,
    control: Control = tuple,
    watch: Watcher | None = None,
    adopted: Mapping[str, Handle] | None = None,
    spare: Callable[[], bool] = bool,
    clock: Callable[[], float] = time.monotonic,
) -> RunFinished:
    """Run the plan; returns the last event, which is emitted too. Blocks until all has ended.

    `emit` may be any callable; a `Teller` goes on numbering where it is. `control` returns the
    requests that came in since it was asked last. `stop.request` may be called at any time, even
    before. Faults of `emit`, `control` and `watch` never end the run. `spare` is called when there
    is nothing else to do: it does a little of what would be done afterwards, and says whether so.
    """
    teller = emit if isinstance(emit, Teller) else Teller([emit])
    inbox = stop.inbox
    pilot = Pilot(executor, inbox)
    workers = Crew(min(_MOST_WORKERS, options.max_parallel + 4))

    def to_workers(call: Callable[[], Message]) -> None:
        workers.submit(lambda: inbox.put(call()))

    moments = Moments(to_workers)

    def defer(
        call: Callable[[], Message],
        instead: Callable[[str], Message],
        is_brief: Callable[[], bool] | None = None,
        first: bool = False,
    ) -> bool:
        def answer() -> Message:
            return _answer(call, instead)

        if is_brief is not None and moments.are_short and is_brief():
            moments.put(answer, first)
            return True
        to_workers(answer)
        return False

    loop = Loop(
        plan,
        work=work,
        leasing=Leasing(tokens, options),
        pilot=pilot,
        defer=defer,
        tell=teller.say,
        watch=watch or NoWatch(),
        options=options,
        clock=clock,
        adopted=adopted,
    )
    try:
        _drive(loop, pilot, moments, inbox, spare, control, options.control_every, clock)
    finally:
        workers.close()
    return teller.tell(loop.result())


def _drive(
    loop: Loop,
    pilot: Pilot,
    moments: Moments[Message],
    inbox: Inbox,
    spare: Callable[[], bool],
    control: Control,
    control_every: float,
    clock: Callable[[], float],
) -> None:
    loop.begin()
    look = clock() + control_every
    idle = False
    while not loop.over:
        if idle and inbox.is_empty:
            for _ in range(_SPARE if moments.are_short else 0):
                if not moments.spend(spare):
                    break
            due = loop.next_due()
            until = look if due is None else min(due, look)
            pilot.wait(max(0.0, until - clock()))
            moments.begin()
        # What came at the same time is taken in one go: one pass of launches for all of it.
        while (message := inbox.take()) is not None:
            loop.handle(message)
        if clock() >= look:
            look = clock() + control_every
            for request in _requests(control):
                if request.get("kind") == "cancel":
                    loop.cancel(_jobs_of(request))
                elif request.get("kind") == "end":
                    loop.end(str(request.get("words", "")))
        loop.advance()
        # Who takes over a slot starts before it is looked at what the last one there came to.
        idle = moments.are_over
        while moments.spend_one(loop.handle):
            loop.submit()


def _requests(control: Control) -> Sequence[Mapping[str, Any]]:
    try:
        return control()
    except Exception:  # noqa: BLE001 - somebody else's file; the run goes on without it
        return ()


def _jobs_of(request: Mapping[str, Any]) -> list[str] | None:
    """The jobs that a request is about; None: the whole run."""
    jobs = request.get("jobs")
    return [job for job in jobs if isinstance(job, str)] if isinstance(jobs, list) else None


def _answer(call: Callable[[], Message], instead: Callable[[str], Message]) -> Message:
    """A failure becomes words; nothing is raised where nobody looks."""
    try:
        return call()
    except (FlowError, OSError) as fault:
        return instead(words(fault))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:  # noqa: BLE001 - one job's fault of ours must not end the others
        return instead(f"internal error: {type(fault).__name__}: {fault}")


def words(fault: Exception) -> str:
    """`No space left on device: outputs/train/.oumi-flow/attempt.json`."""
    if isinstance(fault, OSError) and fault.strerror:
        place = fault.filename2 or fault.filename
        return f"{fault.strerror}: {place}" if place else fault.strerror
    return str(fault)


class NoWatch:
    """Nobody looks."""

    def started(self, step: object, prepared: object) -> None: ...
    def ended(self, job: str, failed: bool = False) -> None: ...
