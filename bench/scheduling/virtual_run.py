"""A run on a clock that jumps: the real loop, line, rules and leases; jobs that only take time.

What is not real: the processes, the files, and the locks of the tokens. Who of those in line may
take which tokens is decided by the rule of the real pool. Nothing is judged again, restored or
taken over, and no GPU is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from oumi_flow.executors.base import Attempt, Exit, Handle
from oumi_flow.model import (
    Command,
    Decision,
    GpuRequest,
    Job,
    JobState,
    Outcome,
    Past,
    Plan,
    Step,
    Trace,
    Workflow,
)
from oumi_flow.runner import terms
from oumi_flow.runner.leasing import Leasing
from oumi_flow.runner.loop import Loop
from oumi_flow.runner.running import NoWatch
from oumi_flow.runner.terms import Ending, Lease, Message, Options, Prepared, Verdict
from oumi_flow.tokens.fairness import Claim, share


@dataclass(frozen=True)
class Stay:
    """When a job ran, and on what."""

    start: float
    end: float
    gpus: tuple[int, ...]


class VirtualRun:
    """One plan, from start to end; `run` returns when each job ran.

    `seconds`: what each takes. `failing`: jobs that end with exit code 1.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        seconds: Mapping[str, float],
        *,
        gpus: int,
        slots: int,
        allocation: str = "dynamic",
        failing: Collection[str] = (),
    ) -> None:
        self.now = 0.0
        self._failing = failing
        self._seconds = seconds
        self._messages: deque[Message] = deque()
        self._calls: deque[Callable[[], Message]] = deque()
        self._ends: list[tuple[float, str]] = []
        self._jobs: dict[str, str] = {}
        self._begun: dict[str, tuple[float, tuple[int, ...]]] = {}
        self.stays: dict[str, Stay] = {}
        self.started: list[str] = []
        options = Options("R", slots, tuple(range(gpus)), allocation)
        workflow = Workflow("w", "w.yaml", "out", tuple(step.job for step in steps))
        self.loop = Loop(
            Plan(workflow, tuple(steps)),
            work=self,
            leasing=Leasing(Pool(gpus) if gpus else None, options),
            pilot=self,
            defer=self._defer,
            tell=lambda event: None,
            watch=NoWatch(),
            options=options,
            clock=lambda: self.now,
        )

    def run(self) -> Mapping[str, Stay]:
        self.loop.begin()
        self._settle()
        while not self.loop.over:
            due = self.loop.next_due()
            assert due is None or due > self.now, "the real loop would spin"
            end = self._ends[0][0] if self._ends else None
            if end is None and due is None:
                raise AssertionError("nothing runs, nothing is due, and jobs wait")
            if end is None or (due is not None and due < end):
                assert due is not None
                self.now = due
            else:
                self.now = end
                while self._ends and self._ends[0][0] <= self.now:
                    _, token = heappop(self._ends)
                    self._end(token)
            self._settle()
        return self.stays

    def _settle(self) -> None:
        """All that happens at one moment."""
        self.loop.advance()
        while self._calls or self._messages or self.loop.has_news:
            while self._calls:
                self._messages.append(self._calls.popleft()())
            while self._messages:
                self.loop.handle(self._messages.popleft())
            self.loop.advance()

    def _end(self, token: str) -> None:
        job = self._jobs.pop(token)
        start, gpus = self._begun.pop(job)
        self.stays[job] = Stay(start, self.now, gpus)
        self._messages.append(terms.Exited(token, Exit(token, 0, None)))

    def _defer(
        self,
        call: Callable[[], Message],
        instead: Callable[[str], Message],
        is_brief: Callable[[], bool] | None = None,
        first: bool = False,
    ) -> bool:
        self._calls.append(call)
        return False

    # the worker

    def is_brief(self, step: Step, number: int, exit: Exit | None = None) -> bool:
        return False

    def judges(self, step: Step) -> bool:
        return False

    def recheck(self, step: Step) -> Verdict:
        raise AssertionError("not in a virtual run")

    def may_restore(self, step: Step) -> bool:
        return False

    def restore(self, step: Step) -> Verdict:
        raise AssertionError("not in a virtual run")

    def shares(self, step: Step) -> bool:
        return False

    def share(self, step: Step) -> tuple[str, ...]:
        return ()

    def abandon(self) -> None: ...

    def prepare(self, step: Step, number: int, lease: Lease | None) -> Prepared:
        name = step.job.name
        gpus = tuple(lease.devices) if lease else ()
        self._begun[name] = (self.now, gpus)
        attempt = Attempt("R", name, number, name, (), ".", {}, "", "")
        return Prepared(attempt, began=self.now, gpus=len(gpus), indices=gpus)

    def adopt(self, step: Step, handle: Handle) -> Prepared | None:
        raise AssertionError("not in a virtual run")

    def conclude(
        self, step: Step, prepared: Prepared, exit: Exit, ending: Ending | None
    ) -> Outcome:
        if step.job.name in self._failing:
            return Outcome(JobState.FAILED, "exit 1", exit_code=1)
        return Outcome(JobState.DONE, trace=trace_of(step.job.name, 1.0), exit_code=0)

    def commit(self, step: Step, prepared: Prepared, outcome: Outcome) -> None: ...

    def drop(self, step: Step, ending: Ending) -> None: ...

    # the pilot

    def submit(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self._jobs[attempt.token] = attempt.job
            self.started.append(attempt.job)
            heappush(self._ends, (self.now + self._seconds[attempt.job], attempt.token))
            handle = Handle(attempt.token, attempt.job)
            self._messages.append(terms.Submitted(attempt.job, attempt.token, handle))

    def follow(self, handle: Handle) -> None: ...

    def cancel(self, handles: Sequence[Handle], grace: float, now: bool = False) -> None: ...


class Held:
    """A lease of the pool below."""

    descriptors: tuple[int, ...] = ()

    def __init__(self, pool: Pool, devices: tuple[int, ...]) -> None:
        self._pool, self.devices, self.visible = pool, devices, ",".join(map(str, devices))

    def close(self) -> None:
        self._pool.free |= {str(gpu) for gpu in self.devices}


class Pool:
    """Tokens in memory, one a GPU, that nobody else wants. Shared out as the real ones are."""

    def __init__(self, gpus: int) -> None:
        self.capacity = dict.fromkeys(range(gpus), 1)
        self.free = {str(gpu) for gpu in self.capacity}
        self._order = sorted(self.capacity)
        self._claims: dict[GpuRequest, Claim] = {}

    def try_lease(
        self,
        request: GpuRequest,
        allowed: Sequence[int] | None = None,
        strategy: str = "dynamic",
        holder: str = "",
        *,
        waited: float | None = None,
        before: Mapping[GpuRequest, float] | None = None,
    ) -> Lease | None:
        line = [self._claim(other) for other in before or ()]
        chosen = share([*line, self._claim(request)], len(line), self.free)
        if chosen is None:
            return None
        assert self.free.issuperset(chosen), "leased twice"
        self.free.difference_update(chosen)
        return Held(self, tuple(sorted(map(int, chosen))))

    def _claim(self, request: GpuRequest) -> Claim:
        found = self._claims.get(request)
        if found is None:
            if request.devices:
                needs = tuple((1, (str(gpu),)) for gpu in request.devices)
            else:
                needs = ((abs(request.count), tuple(map(str, self._order))),)
            found = self._claims[request] = Claim(needs)
        return found

    def pause(self, request: GpuRequest) -> float:
        return 0.05

    def leave(self, request: GpuRequest) -> None: ...

    def waiting_for(self, request: GpuRequest, allowed: Sequence[int] | None = None) -> str:
        return ""

    def free_of_strangers(self, allowed: Sequence[int]) -> tuple[int, ...]:
        return tuple(allowed)

    def take_last(self, gpus: Collection[int]) -> None:
        self._order = sorted(self.capacity, key=lambda gpu: (gpu in gpus, gpu))

    def set_aside(self, index: int) -> None:
        raise AssertionError("not in a virtual run")


def trace_of(job: str, seconds: float) -> Trace:
    """A marker that says how long it took, and nothing else."""
    return Trace(job, "", {}, "", {}, {}, {}, 0.0, seconds)


def step(
    name: str,
    verb: str,
    upstream: tuple[str, ...] = (),
    gpu: GpuRequest | None = None,
    *,
    took: float | None = None,
    usual: float | None = None,
    priority: int = 0,
) -> Step:
    """A job to run. `took`: its own last time; `usual`: its verb's; None: not known."""
    job = Job(
        name=name,
        verb=verb,
        folder=name,
        place=name,
        command=Command(()),
        parts={},
        fingerprint="",
        upstream=upstream,
        gpu=gpu,
        priority=priority,
    )
    past = Past(previous=trace_of(name, took)) if took is not None else Past()
    return Step(job, Decision.RUN, expected=took if took is not None else usual, past=past)
