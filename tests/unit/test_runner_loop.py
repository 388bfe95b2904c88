"""The loop of a run, driven step by step: ends, clock and workers are the test's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_flow.errors import FlowError
from oumi_flow.events import Event, JobFinished, JobQueued, JobRetrying, JobStarted, Note
from oumi_flow.executors.base import Attempt, Exit, Handle
from oumi_flow.model import (
    Command,
    Decision,
    GpuRequest,
    Job,
    JobState,
    Outcome,
    Plan,
    Retry,
    Step,
    Trace,
    Workflow,
)
from oumi_flow.runner import terms
from oumi_flow.runner.leasing import Leasing
from oumi_flow.runner.loop import Loop
from oumi_flow.runner.terms import Ending, Lease, Message, Options, Prepared, Verdict

S = JobState


def job(name: str, *upstream: str, **fields: Any) -> Job:
    return Job(
        name=name,
        verb=fields.pop("verb", "shell"),
        folder=f"out/{name}",
        place=f"out/{name}",
        command=Command(("true",)),
        parts={},
        fingerprint="",
        upstream=upstream,
        depends_on=upstream,
        **fields,
    )


def trace_of(name: str) -> Trace:
    return Trace(name, "", {}, "", {}, {}, {}, 0.0, 1.0, metrics={"loss": 1.5})


class Held:
    """A lease of the test's pool."""

    def __init__(self, pool: Pool, devices: Sequence[int]) -> None:
        self.pool, self.devices, self.descriptors = pool, tuple(devices), ()
        self.visible = ",".join(map(str, devices))

    def close(self) -> None:
        for device in self.devices:
            assert self.pool.held.pop(device) is self


class Pool:
    """GPU tokens of a host on which strangers may hold some."""

    def __init__(self, count: int) -> None:
        self.all = tuple(range(count))
        self.held: dict[int, Any] = {}
        self.aside: set[int] = set()
        self.left: list[GpuRequest] = []  # who does not wait any more
        self.used: set[int] = set()  # by processes that hold no token
        self.tries = 0
        self.fault: Exception | None = None

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
        self.tries += 1
        if self.fault is not None:
            raise self.fault
        wanted = request.devices or self.all
        free = [d for d in wanted if d not in self.held and d in (allowed or self.all)]
        count = abs(request.count)
        if len(free) < count:
            return None
        lease = Held(self, free[:count])
        for device in lease.devices:
            assert device not in self.held
            self.held[device] = lease
        return lease

    @property
    def capacity(self) -> dict[int, int]:
        return dict.fromkeys(self.all, 1)

    def pause(self, request: GpuRequest) -> float:
        return 0.05

    def leave(self, request: GpuRequest) -> None:
        self.left.append(request)

    def free_of_strangers(self, allowed: Sequence[int]) -> tuple[int, ...]:
        return tuple(gpu for gpu in allowed if gpu not in self.used)

    def waiting_for(self, request: GpuRequest, allowed: Sequence[int] | None = None) -> str:
        return "GPU 0: held by run R, user U" if "stranger" in self.held.values() else ""

    def set_aside(self, index: int) -> None:
        self.aside.add(index)

    def take_last(self, gpus: Collection[int]) -> None:
        self.last = set(gpus)


class Bench:
    """Everything around the loop, held still: nothing happens until the test says so."""

    def __init__(
        self,
        *jobs: Job,
        decisions: Mapping[str, Decision] | None = None,
        gpus: int = 0,
        adopted: Sequence[str] = (),
        pool: Pool | None = None,
        sharing: bool = False,
        kept: Mapping[str, Verdict] | None = None,
        brief: Collection[str] = (),
        **options: Any,
    ) -> None:
        self.brief = brief
        self.firsts = 0  # of `calls`
        self.now = 1000.0
        self.events: list[Event] = []
        self.pool = pool or Pool(gpus)
        self.calls: deque[tuple[Callable[[], Message], Callable[[str], Message]]] = deque()
        self.messages: deque[Message] = deque()
        self.running: dict[str, str] = {}  # token -> job
        self.ran: list[str] = []
        self.cancelled: list[tuple[str, float, bool]] = []
        self.dropped: dict[str, Ending] = {}
        self.committed: list[str] = []
        self.verdicts: dict[str, Verdict] = {}
        self.kept = kept or {}  # what looking in the run cache comes to
        self.sharing, self.abandoned = sharing, False
        self.shared: list[str] = []
        self.outcomes: dict[str, Outcome] = {}
        self.faults: dict[str, Exception] = {}  # "prepare train" -> raised
        self.takes_over: dict[str, bool] = {}
        self.rejects: dict[str, str] = {}
        decided = decisions or {}
        steps = tuple(Step(j, decided.get(j.name, Decision.RUN)) for j in jobs)
        workflow = Workflow("w", "w.yaml", "out", jobs)
        made = Options("R", **{"max_parallel": 4, "gpus": self.pool.all, **options})
        for name in adopted:
            self.running[f"lost-{name}"] = name
        self.loop = Loop(
            Plan(workflow, steps),
            work=self,
            leasing=Leasing(self.pool, made),
            pilot=self,
            defer=self.defer,
            tell=self.events.append,
            watch=self,
            options=made,
            clock=lambda: self.now,
            adopted={name: Handle(f"lost-{name}", name) for name in adopted},
        )
        self.loop.begin()
        self.loop.advance()

    def defer(
        self,
        call: Callable[[], Message],
        instead: Callable[[str], Message],
        is_brief: Callable[[], bool] | None = None,
        first: bool = False,
    ) -> bool:
        brief = is_brief is not None and is_brief()
        if brief and first:
            self.calls.insert(self.firsts, (call, instead))
            self.firsts += 1
        else:
            self.calls.append((call, instead))
        return brief

    # the worker
    def is_brief(self, step: Step, number: int, exit: Exit | None = None) -> bool:
        return step.job.name in self.brief

    def judges(self, step: Step) -> bool:
        return step.decision is Decision.MAY_RUN

    def recheck(self, step: Step) -> Verdict:
        self._fault("recheck", step)
        return self.verdicts.get(step.job.name, Verdict(S.QUEUED, words=("it changed",)))

    def may_restore(self, step: Step) -> bool:
        return step.job.name in self.kept

    def restore(self, step: Step) -> Verdict:
        self._fault("restore", step)
        return self.kept[step.job.name]

    def shares(self, step: Step) -> bool:
        return self.sharing

    def share(self, step: Step) -> tuple[str, ...]:
        self._fault("share", step)
        self.shared.append(step.job.name)
        return ()

    def abandon(self) -> None:
        self.abandoned = True

    def prepare(self, step: Step, number: int, lease: Lease | None) -> Prepared:
        self._fault("prepare", step)
        name = step.job.name
        gpus = lease.devices if lease else ()
        return Prepared(self._attempt(name, number), gpus=len(gpus), devices=tuple(map(str, gpus)))

    def adopt(self, step: Step, handle: Handle) -> Prepared | None:
        name = step.job.name
        if not self.takes_over.get(name, True):
            return None
        return Prepared(self._attempt(name, 2, f"lost-{name}"))

    def conclude(
        self, step: Step, prepared: Prepared, exit: Exit, ending: Ending | None
    ) -> Outcome:
        self._fault("conclude", step)
        name = step.job.name
        if exit.code == 0 and not exit.cancelled:
            return self.outcomes.get(name, Outcome(S.DONE, trace=trace_of(name), exit_code=0))
        if ending is not None:
            return Outcome(ending.state, ending.detail)
        return self.outcomes.get(name, Outcome(S.FAILED, f"exit {exit.code}", exit.code))

    def commit(self, step: Step, prepared: Prepared, outcome: Outcome) -> None:
        self._fault("commit", step)
        self.committed.append(step.job.name)

    def drop(self, step: Step, ending: Ending) -> None:
        self.dropped[step.job.name] = ending

    def _attempt(self, name: str, number: int, token: str = "") -> Attempt:
        token = token or f"{name}-{number}"
        return Attempt("R", name, number, token, ("true",), ".", {}, "s", f"out/{name}/job.log")

    def _fault(self, what: str, step: Step) -> None:
        if fault := self.faults.get(f"{what} {step.job.name}"):
            raise fault

    # the pilot
    def submit(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            if words := self.rejects.get(attempt.job, ""):
                self.messages.append(terms.Submitted(attempt.job, attempt.token, None, words))
                continue
            assert attempt.token not in self.running
            self.running[attempt.token] = attempt.job
            self.ran.append(attempt.job)
            handle = Handle(attempt.token, attempt.job)
            self.messages.append(terms.Submitted(attempt.job, attempt.token, handle))

    def follow(self, handle: Handle) -> None:
        assert handle.token in self.running

    def cancel(self, handles: Sequence[Handle], grace: float, now: bool = False) -> None:
        self.cancelled += [(handle.job, grace, now) for handle in handles]

    # the watcher
    def started(self, step: Step, prepared: Prepared) -> None: ...
    def ended(self, job: str, failed: bool = False) -> None: ...

    # the test's hands
    def work_once(self) -> None:
        call, instead = self.calls.popleft()
        self.firsts = max(0, self.firsts - 1)
        try:
            self.messages.append(call())
        except Exception as fault:  # noqa: BLE001 - as the real workers do
            self.messages.append(instead(str(fault)))

    def settle(self) -> Bench:
        """Let workers and loop do all they can."""
        self.loop.advance()
        while self.calls or self.messages:
            while self.calls:
                self.work_once()
            while self.messages:
                self.loop.handle(self.messages.popleft())
            self.loop.advance()
        return self

    def end(self, name: str, code: int | None = 0, cancelled: bool = False) -> Bench:
        """The newest process of this job ends."""
        self.is_over(name, code, cancelled)
        return self.settle()

    def is_over(self, name: str, code: int | None = 0, cancelled: bool = False) -> None:
        """The newest process of this job ends, and the loop has not heard of it."""
        token = next(t for t, j in reversed(self.running.items()) if j == name)
        del self.running[token]
        exit = Exit(token, code, None if code is not None else 15, cancelled=cancelled)
        self.messages.append(terms.Exited(token, exit))

    def hear(self) -> Bench:
        """Let the loop hear what there is to hear, and do what is due."""
        while self.messages:
            self.loop.handle(self.messages.popleft())
        self.loop.advance()
        return self

    def stop(self, name: str = "SIGINT") -> Bench:
        self.messages.append(terms.StopAsked(name))
        return self.settle()

    def tick(self, seconds: float) -> Bench:
        self.now += seconds
        self.loop.advance()
        return self.settle()

    def state(self, name: str) -> JobState:
        return self.loop.states[name]

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def causes(self) -> dict[str, str]:
        return {event.job: event.cause for event in self.of(JobFinished)}


# -- a slot that is left ----------------------------------------------------------------------


def test_a_slot_is_passed_on_before_it_is_looked_at_what_a_small_job_came_to() -> None:
    bench = Bench(job("a"), job("b"), job("c"), brief="abc", max_parallel=1).settle()
    bench.is_over("a")
    bench.hear().work_once()
    bench.hear()
    assert (bench.ran, bench.committed) == (["a", "b"], [])
    bench.hear()
    assert bench.ran == ["a", "b"]  # one slot is one slot
    bench.settle()
    assert (bench.ran, bench.committed) == (["a", "b"], ["a"])
    for name in "bc":
        bench.end(name)
    assert bench.loop.over
    assert bench.loop.result().counts == {"done": 3}


def test_a_slot_that_is_left_is_for_one_process_whatever_the_job_came_to() -> None:
    jobs = [job(name) for name in "abcd"]
    bench = Bench(*jobs, brief="abcd", max_parallel=2).settle()
    bench.outcomes["a"] = Outcome(S.FAILED, "did not write x")
    bench.end("a")
    assert bench.ran == ["a", "b", "c"]
    for name in "bcd":
        bench.end(name)
        assert len(bench.running) <= 2
    assert bench.loop.result().counts == {"done": 3, "failed": 1}


@pytest.mark.parametrize(
    ("brief", "retries", "options", "then"),
    [("", 0, {}, "ab"), ("abc", 0, {"fail_fast": True}, "a"), ("abc", 1, {}, "aa")],
    ids=["large", "fail fast", "tried again"],
)
def test_a_slot_is_kept_until_it_is_known_what_came_of_it(
    brief: str, retries: int, options: dict[str, Any], then: str
) -> None:
    first = job("a", retry=Retry(retries, 0.0))
    bench = Bench(first, job("b"), job("c"), brief=brief, max_parallel=1, **options).settle()
    bench.outcomes["a"] = Outcome(S.FAILED, "did not write x", retryable=True)
    bench.is_over("a")
    bench.hear()
    assert [len(bench.calls), bench.ran] == [1, ["a"]]
    bench.settle()
    assert bench.ran == [*then]


def test_a_slot_is_not_passed_on_before_one_who_is_about_to_be_ready() -> None:
    first, after = job("a", priority=1), job("after", "a", priority=1)
    bench = Bench(first, job("b"), after, brief=["a", "b", "after"], max_parallel=1).settle()
    bench.end("a")
    assert bench.ran == ["a", "after"]
    bench.end("after")
    assert bench.ran == ["a", "after", "b"]


@pytest.mark.parametrize(
    ("after", "others", "then"),
    [
        ({"d": ("j1", "j2")}, {"d": 5, "l1": 1, "l2": 1}, ["d", "l1"]),
        ({"c": ("j1",)}, {"a": 5, "c": 4, "l": 1}, ["a", "c"]),
    ],
    ids=["who waits for both", "who waits for one, and one in line"],
)
def test_slots_that_are_left_together_are_not_for_who_goes_after_one_who_may_come(
    after: dict[str, tuple[str, ...]], others: dict[str, int], then: list[str]
) -> None:
    jobs = [job(name, priority=9) for name in ("j1", "j2")]
    jobs += [job(name, *after.get(name, ()), priority=at) for name, at in others.items()]
    bench = Bench(*jobs, brief=[each.name for each in jobs], max_parallel=2).settle()
    for name in ("j1", "j2"):
        bench.is_over(name)
    bench.hear()
    assert set(bench.ran) <= {"j1", "j2", "a"}
    assert bench.settle().ran == ["j1", "j2", *then]


def test_a_slot_is_not_for_one_who_goes_only_as_the_first_in_line_gets_no_gpu() -> None:
    gpu = GpuRequest(1)
    jobs = [job("h", priority=9, gpu=gpu), job("j", priority=9), job("g", priority=5, gpu=gpu)]
    jobs += [job("c", "j", priority=4), job("l", priority=1)]
    bench = Bench(*jobs, brief="hjgcl", max_parallel=2, gpus=1).settle()
    assert sorted(bench.ran) == ["h", "j"]
    assert bench.end("j").ran[2:] == ["c"]


def test_nor_is_a_slot_that_somebody_else_gives_back_at_that_moment() -> None:
    jobs = [job("j", priority=9), job("k", priority=9), job("c", "j", priority=5), job("l")]
    bench = Bench(*jobs, brief="jcl", max_parallel=2).settle()
    bench.is_over("k")
    bench.hear()
    bench.is_over("j")
    bench.work_once()  # what k came to
    bench.hear()
    assert bench.ran == ["j", "k"]
    assert bench.settle().ran == ["j", "k", "c", "l"]


def test_after_a_failure_a_slot_is_kept_until_that_is_understood() -> None:
    bench = Bench(job("a"), job("b"), brief="ab", max_parallel=1).settle()
    bench.is_over("a", 3)
    bench.hear()
    assert bench.ran == ["a"]
    bench.settle()
    assert bench.ran == ["a", "b"]


# -- the straight way -----------------------------------------------------------------------


def test_a_chain_runs_in_order_and_each_is_recorded() -> None:
    bench = Bench(job("a"), job("b", "a")).settle()
    assert bench.ran == ["a"]
    bench.end("a")
    assert bench.ran == ["a", "b"]
    bench.end("b")
    assert bench.loop.over
    assert bench.committed == ["a", "b"]
    result = bench.loop.result()
    assert (result.state, result.counts) == ("done", {"done": 2})
    assert [type(event) for event in bench.events] == [
        JobStarted,
        JobFinished,
        JobStarted,
        JobFinished,
    ]
    assert bench.of(JobFinished)[0].metrics == {"loss": 1.5}


def test_slots_are_never_exceeded_and_the_wait_is_told() -> None:
    bench = Bench(job("a"), job("b"), job("c"), max_parallel=2).settle()
    assert bench.ran == ["a", "b"]
    assert bench.of(JobQueued) == [JobQueued("c", "a slot")]
    bench.end("b")
    assert bench.ran == ["a", "b", "c"]


def test_of_the_many_who_wait_it_is_told_while_the_first_run() -> None:
    names = [f"j{number:03}" for number in range(500)]
    bench = Bench(*map(job, names), max_parallel=2).settle()
    assert bench.ran == names[:2]
    before = bench.events[: [type(event) for event in bench.events].index(JobStarted)]
    assert len(before) < 100
    bench.end("j000")  # who goes before it is told of him does not wait
    assert bench.ran == names[:3]
    while bench.loop.next_due() == bench.now:
        bench.loop.advance()
    assert bench.of(JobQueued) == [JobQueued(name, "a slot") for name in names[2:]]


def test_nobody_is_told_to_wait_for_a_gpu_who_wants_none() -> None:
    first = [job("a", priority=5), job("b", "a", priority=9)]
    wide = [job(f"j{number}") for number in range(200)]
    bench = Bench(*first, *wide, max_parallel=1, brief=("a",)).settle()
    bench.is_over("a")
    bench.hear()  # its slot is free, and kept for b
    assert bench.ran == ["a"]
    while bench.loop.next_due() == bench.now:
        bench.loop.advance()
    assert bench.ran == ["a"]
    assert {event.waiting_for for event in bench.of(JobQueued)} == {"a slot"}


def test_why_a_job_runs_is_told_before_it_starts() -> None:
    wide = [job(f"j{number}", "a") for number in range(100)]
    may = {each.name: Decision.MAY_RUN for each in wide}
    bench = Bench(job("a"), *wide, decisions=may, max_parallel=2).settle().end("a")
    assert bench.ran == ["a", "j0", "j1"]
    for name in ("j0", "j1"):
        told = [event for event in bench.events if getattr(event, "job", "") == name]
        assert [type(event) for event in told] == [JobQueued, JobStarted]


def test_what_the_plan_found_up_to_date_is_not_looked_at_again() -> None:
    chain = [job("j0"), *(job(f"j{i}", f"j{i - 1}") for i in range(1, 3000))]
    decisions = {j.name: Decision.UP_TO_DATE for j in chain[:-1]}
    bench = Bench(*chain, decisions=decisions).settle()
    assert bench.ran == ["j2999"]
    assert bench.end("j2999").loop.result().counts == {"up to date": 2999, "done": 1}


def test_a_job_that_may_run_is_judged_once_its_upstream_is_there() -> None:
    may = {"b": Decision.MAY_RUN, "c": Decision.MAY_RUN}
    bench = Bench(job("a"), job("b", "a"), job("c", "a"), decisions=may)
    bench.verdicts["b"] = Verdict(S.UP_TO_DATE, detail="up to date")
    bench.verdicts["c"] = Verdict(S.QUEUED, words=("a made a new out/a/x",))
    bench.settle().end("a")
    assert bench.state("b") is S.UP_TO_DATE
    assert bench.ran == ["a", "c"]
    assert JobQueued("c", "", ("a made a new out/a/x",)) in bench.events
    bench.end("c")
    assert bench.loop.result().state == "done"


def test_a_job_restored_from_the_cache_readies_its_downstream() -> None:
    bench = Bench(job("a"), job("b", "a"), decisions={"a": Decision.MAY_RUN})
    bench.verdicts["a"] = Verdict(S.RESTORED, detail="restored from cache")
    assert bench.settle().ran == ["b"]
    assert bench.causes()["a"] == "restored from cache"


# -- every state that is no end has ways out ---------------------------------------------------


def test_a_waiting_job_does_not_outlive_a_failed_upstream() -> None:
    bench = Bench(job("a"), job("b", "a"), job("c", "b"), job("d")).settle()
    bench.end("a", 1)
    assert bench.causes() == {
        "a": "exit 1",
        "b": "upstream a failed",
        "c": "upstream a failed",
    }
    assert bench.state("c") is S.BLOCKED
    bench.end("d")  # what does not need it goes on
    result = bench.loop.result()
    assert (result.state, result.counts) == ("failed", {"failed": 1, "blocked": 2, "done": 1})


def test_a_cancelled_job_blocks_what_waits_for_it() -> None:
    bench = Bench(job("a"), job("b", "a"), job("c", "b")).settle()
    bench.loop.cancel(["b"])
    assert bench.causes() == {"b": "cancelled", "c": "upstream b was cancelled"}
    assert bench.end("a").loop.result().state == "cancelled"


def test_a_ready_job_can_be_cancelled_while_it_is_judged() -> None:
    bench = Bench(job("a"), decisions={"a": Decision.MAY_RUN})
    assert bench.state("a") is S.READY
    bench.loop.cancel(["a"])
    bench.settle()
    assert bench.state("a") is S.CANCELLED
    assert bench.ran == []
    assert bench.loop.over


def test_a_ready_job_that_cannot_be_judged_fails() -> None:
    bench = Bench(job("a"), decisions={"a": Decision.MAY_RUN})
    bench.faults["recheck a"] = OSError("Permission denied: data")
    assert bench.settle().causes() == {"a": "Permission denied: data"}
    assert bench.loop.over


def test_a_queued_job_can_be_cancelled_and_is_not_launched_later() -> None:
    bench = Bench(job("a"), job("b"), job("c"), max_parallel=1).settle()
    bench.loop.cancel(["b"])
    assert bench.end("a").ran == ["a", "c"]
    bench.end("c")
    assert bench.loop.over


def test_a_job_cancelled_while_it_is_prepared_starts_no_process() -> None:
    bench = Bench(job("a"))
    assert bench.state("a") is S.RUNNING
    bench.loop.cancel(["a"])
    bench.settle()
    assert bench.ran == []
    assert bench.dropped["a"].record == "cancelled"
    assert bench.state("a") is S.CANCELLED


def test_a_job_cancelled_while_it_is_handed_over_is_stopped_as_soon_as_it_runs() -> None:
    bench = Bench(job("a", grace=5.0))
    bench.work_once()
    bench.loop.handle(bench.messages.popleft())
    bench.loop.cancel(["a"])
    assert bench.cancelled == []
    bench.settle()
    assert bench.cancelled == [("a", 5.0, False)]
    assert bench.end("a", None, cancelled=True).state("a") is S.CANCELLED


def test_a_running_job_is_cancelled_with_its_grace_and_not_retried() -> None:
    bench = Bench(job("a", grace=7.0, retry=Retry(5))).settle()
    bench.loop.cancel(["a"])
    bench.loop.cancel(["a"])
    assert bench.cancelled == [("a", 7.0, False)]
    bench.end("a", None, cancelled=True)
    assert bench.causes() == {"a": "cancelled"}
    assert bench.committed == []
    assert bench.loop.over


def test_a_job_that_was_done_before_the_cancel_reached_it_is_done() -> None:
    bench = Bench(job("a")).settle()
    bench.loop.cancel(["a"])
    assert bench.end("a", 0).state("a") is S.DONE


def test_a_cancel_of_an_unknown_job_is_a_note() -> None:
    bench = Bench(job("a")).settle()
    bench.loop.cancel(["nobody"])
    assert "nobody" in bench.of(Note)[0].text


# -- retries ---------------------------------------------------------------------------------


def test_a_retry_waits_longer_each_time_and_holds_nothing_meanwhile() -> None:
    first = job("a", retry=Retry(2, delay=10, backoff=3), gpu=GpuRequest(1))
    bench = Bench(first, job("b"), gpus=1, max_parallel=1).settle()
    bench.end("a", 1)
    assert bench.state("a") is S.RETRYING
    assert bench.pool.held == {}
    assert bench.ran == ["a", "b"]  # the slot went to the next
    assert bench.loop.next_due() == bench.now + 10
    bench.end("b").tick(9.9)
    assert bench.ran == ["a", "b"]
    bench.tick(0.1)
    assert bench.ran == ["a", "b", "a"]
    bench.end("a", 1).tick(29)
    assert bench.state("a") is S.RETRYING
    bench.tick(1).end("a", 1)
    assert [(e.attempt, e.delay) for e in bench.of(JobRetrying)] == [(1, 10), (2, 30)]
    assert [e.attempt for e in bench.of(JobStarted) if e.job == "a"] == [1, 2, 3]
    assert bench.causes()["a"] == "exit 1"
    assert bench.loop.over


@pytest.mark.parametrize("pauses", [(0.0, 0.0, 0.0), (1.0, 366 * 86400.0, 366 * 86400.0)])
def test_however_many_retries_the_pause_is_a_number(pauses: tuple[float, ...]) -> None:
    bench = Bench(job("a", retry=Retry(9, delay=pauses[0], backoff=1e200))).settle()
    for pause in pauses:
        bench.end("a", 1)
        assert bench.of(JobRetrying)[-1].delay == pause
        bench.tick(pause)


def test_a_usage_error_is_not_retried() -> None:
    bench = Bench(job("a", retry=Retry(3))).settle()
    bench.outcomes["a"] = Outcome(S.FAILED, "exit 2", 2, retryable=False)
    assert bench.end("a", 2).state("a") is S.FAILED


def test_a_retrying_job_can_be_cancelled() -> None:
    bench = Bench(job("a", retry=Retry(3, 60))).settle().end("a", 1)
    bench.loop.cancel(["a"])
    assert bench.loop.over
    assert bench.tick(100).ran == ["a"]


# -- what cannot start ------------------------------------------------------------------------


def test_a_job_whose_folder_cannot_be_written_fails_and_others_go_on() -> None:
    bench = Bench(job("a"), job("b"), gpus=1)
    bench.faults["prepare a"] = OSError("No space left on device: out/a")
    bench.settle().end("b")
    assert bench.causes() == {"a": "No space left on device: out/a", "b": ""}
    assert bench.dropped["a"].record == "failed"


def test_a_job_that_the_executor_refuses_fails_with_its_words() -> None:
    bench = Bench(job("a", gpu=GpuRequest(1)), gpus=1)
    bench.rejects["a"] = "could not start: no such folder"
    bench.settle()
    assert bench.causes() == {"a": "could not start: no such folder"}
    assert bench.pool.held == {}


def test_a_marker_that_cannot_be_written_is_no_success() -> None:
    bench = Bench(job("a", retry=Retry(3)), job("b", "a")).settle()
    bench.faults["commit a"] = OSError("No space left on device: done.json")
    bench.end("a")
    assert bench.state("a") is S.FAILED
    assert bench.state("b") is S.BLOCKED


def test_an_executor_that_does_not_answer_ends_the_run_and_touches_no_process() -> None:
    bench = Bench(job("a"), job("b", "a"), job("c"), max_parallel=1).settle()
    bench.messages.append(terms.Broken("server died"))
    bench.settle()
    assert bench.loop.over
    assert bench.state("a") is S.FAILED
    assert bench.state("c") is S.CANCELLED
    assert bench.cancelled == []
    assert bench.dropped == {}  # its record says running: the next run takes it over


# -- GPUs --------------------------------------------------------------------------------------


def test_gpu_jobs_share_tokens_and_hold_up_no_cpu_job() -> None:
    gpu = GpuRequest(1)
    bench = Bench(job("a", gpu=gpu), job("b", gpu=gpu), job("c"), gpus=1).settle()
    assert bench.ran == ["a", "c"]
    assert JobQueued("b", "a GPU") in bench.events
    bench.end("a")
    assert bench.ran == ["a", "c", "b"]
    assert bench.of(JobStarted)[-1].devices == ("0",)


def test_a_job_that_waits_for_a_named_gpu_holds_nobody_up() -> None:
    named = GpuRequest(1, (0,))
    jobs = [job("a", gpu=named), job("b", gpu=named, priority=9), job("c", gpu=GpuRequest(1))]
    bench = Bench(*jobs, gpus=2).settle()
    assert bench.ran == ["b", "c"]


def test_a_default_request_is_a_gpu_only_where_there_is_one() -> None:
    assert Bench(job("a", gpu=GpuRequest(-1)), gpus=1).settle().pool.held.keys() == {0}
    assert Bench(job("a", gpu=GpuRequest(-1)), gpus=0).settle().ran == ["a"]


def test_a_request_that_can_never_be_served_fails_at_once() -> None:
    bench = Bench(job("a", gpu=GpuRequest(3)), job("b", gpu=GpuRequest(1, (7,))), gpus=2).settle()
    assert bench.causes() == {
        "a": "needs 3 GPUs, and this run has 2",
        "b": "needs GPU 7, and this run has 0, 1",
    }
    assert Bench(job("a", gpu=GpuRequest(1))).causes() == {
        "a": "needs a GPU, and this run has none"
    }


def test_a_wait_for_another_run_is_told_once_and_tried_again() -> None:
    pool = Pool(1)
    pool.held[0] = "stranger"
    bench = Bench(job("a", gpu=GpuRequest(1)), pool=pool).settle()
    waits = 0.0
    while not bench.ran and waits < 5:
        due = bench.loop.next_due()
        assert due is not None
        assert due - bench.now <= 0.1
        waits += due - bench.now
        bench.tick(due - bench.now)
        if waits > 2:
            pool.held.clear()
    assert bench.ran == ["a"]
    assert [event.waiting_for for event in bench.of(JobQueued)] == [
        "a GPU",
        "GPU 0: held by run R, user U",
    ]
    assert pool.tries < 50


def test_nothing_is_tried_while_the_run_itself_holds_all_gpus() -> None:
    bench = Bench(job("a", gpu=GpuRequest(1)), job("b", gpu=GpuRequest(1)), gpus=1).settle()
    assert bench.loop.next_due() is None
    assert bench.pool.tries == 1


def test_locks_that_cannot_be_had_fail_the_job_in_words() -> None:
    pool = Pool(1)
    pool.fault = FlowError("GPU locks cannot lie on a network file system")
    bench = Bench(job("a", gpu=GpuRequest(1)), job("b"), pool=pool).settle()
    assert bench.causes() == {"a": "GPU locks cannot lie on a network file system"}
    assert bench.ran == ["b"]


def test_fixed_allocation_binds_jobs_when_the_run_begins() -> None:
    auto = GpuRequest(1)
    jobs = [job(name, gpu=auto) for name in "abcd"]
    bench = Bench(*jobs, gpus=2, allocation="fixed").settle()
    assert bench.ran == ["a", "b"]
    bench.end("b")
    assert bench.ran == ["a", "b", "d"]  # c waits for GPU 0, which a has


def test_fixed_allocation_leaves_out_gpus_that_others_use() -> None:
    pool = Pool(3)
    pool.used = {1}
    jobs = [job(name, gpu=GpuRequest(1)) for name in "abc"]
    bench = Bench(*jobs, pool=pool, allocation="fixed").settle()
    assert bench.ran == ["a", "b"]
    assert [event.devices for event in bench.of(JobStarted)] == [("0",), ("2",)]


def test_without_a_slot_nobody_stands_in_line_for_a_gpu() -> None:
    pool = Pool(1)
    pool.held[0] = "stranger"
    bench = Bench(job("a", gpu=GpuRequest(1)), job("b"), job("c"), pool=pool, max_parallel=2)
    bench.settle()
    assert bench.loop.next_due() is None  # b and c have both slots
    assert pool.left == [GpuRequest(1)]
    pool.held.clear()
    bench.end("b")
    assert bench.ran == ["b", "c", "a"]


def test_what_is_in_the_way_is_said_anew_when_it_changes_but_ever_more_rarely() -> None:
    class Busy(Pool):
        def waiting_for(self, request: GpuRequest, allowed: Sequence[int] | None = None) -> str:
            return f"GPU 0: held by run R{self.tries // 10}, user U"

    pool = Busy(1)
    pool.held[0] = "stranger"
    bench = Bench(job("a", gpu=GpuRequest(1)), pool=pool).settle()
    for _ in range(6000):
        bench.tick(0.05)
    told = [event.waiting_for for event in bench.of(JobQueued)]
    assert 5 <= len(told) <= 12  # in five minutes, of 600 holders
    assert len(set(told)) == len(told)


def test_a_lost_gpu_is_set_aside_and_the_retry_goes_elsewhere() -> None:
    jobs = [
        job("a", gpu=GpuRequest(1), retry=Retry(1)),
        job("b", gpu=GpuRequest(1, (0,))),
        job("c", "a", gpu=GpuRequest(2)),
    ]
    bench = Bench(*jobs, gpus=2).settle()
    bench.outcomes["a"] = Outcome(S.FAILED, "GPU 0 is lost", 1, lost_gpu=0)
    bench.end("a", 1)
    assert bench.causes() == {"b": "needs GPU 0, and this run has 1"}
    assert bench.of(JobStarted)[-1].devices == ("1",)
    del bench.outcomes["a"]
    bench.end("a")
    assert bench.causes()["c"] == "needs 2 GPUs, and this run has 1"
    assert bench.loop.over


def test_with_fail_fast_a_lost_gpu_fails_one_and_ends_the_others() -> None:
    only = GpuRequest(1, (0,))
    bench = Bench(
        job("a", gpu=only, priority=9),
        job("b", gpu=only),
        job("c", gpu=only),
        gpus=2,
        fail_fast=True,
    ).settle()
    bench.outcomes["a"] = Outcome(S.FAILED, "GPU 0 is lost", 1, lost_gpu=0)
    bench.end("a", 1)
    assert bench.loop.over
    causes = bench.causes()
    assert causes["b"] == "needs GPU 0, and this run has 1"
    assert causes["c"] == "b failed (--fail-fast)"


def test_with_fail_fast_one_that_cannot_run_ends_those_that_became_ready_with_it() -> None:
    bench = Bench(
        job("a", gpu=GpuRequest(1), retry=Retry(1, delay=1000)),
        job("u"),
        job("b", "u", gpu=GpuRequest(1, (0,))),
        job("c", "u"),
        gpus=2,
        fail_fast=True,
    ).settle()
    bench.outcomes["a"] = Outcome(S.FAILED, "GPU 0 is lost", 1, lost_gpu=0)
    bench.end("a", 1)
    assert bench.state("a") is S.RETRYING
    bench.end("u")
    assert bench.loop.over
    assert bench.causes()["b"] == "needs GPU 0, and this run has 1"
    assert bench.causes()["c"] == "b failed (--fail-fast)"


def test_gpu_seconds_add_up_over_attempts() -> None:
    bench = Bench(job("a", gpu=GpuRequest(2), retry=Retry(1)), gpus=2).settle()
    for code in (1, 0):
        token = next(iter(bench.running))
        del bench.running[token]
        exit = Exit(token, code, started=10.0, finished=13.0)
        bench.messages.append(terms.Exited(token, exit))
        bench.settle()
    assert bench.loop.result().gpu_seconds == 12.0
    assert (bench.of(JobFinished)[0].gpus, bench.of(JobFinished)[0].took) == (2, 3.0)


# -- stopping ------------------------------------------------------------------------------------


def test_the_first_signal_is_polite_and_the_second_is_not() -> None:
    bench = Bench(job("a", grace=9.0), job("b", "a"), job("c"), max_parallel=1).settle()
    bench.stop()
    assert bench.cancelled == [("a", 9.0, False)]
    assert bench.causes() == {"b": "SIGINT", "c": "SIGINT"}
    assert not bench.loop.over
    bench.stop()
    assert bench.cancelled[1:] == [("a", 0.0, True)]
    bench.end("a", None, cancelled=True)
    result = bench.loop.result()
    assert (result.state, result.cause, result.counts) == (
        "interrupted",
        "SIGINT",
        {"cancelled": 3},
    )


def test_the_third_signal_leaves_what_cannot_be_killed_to_the_next_run() -> None:
    bench = Bench(job("a"), job("b"), adopted=["b"]).settle().stop().stop()
    assert not bench.loop.over
    assert bench.stop().loop.over
    assert bench.causes()["a"] == "still running; left alone after three times SIGINT"
    assert bench.dropped == {}  # its record stays open
    assert bench.loop.result().state == "interrupted"


def test_a_terminal_that_closes_is_no_hurry_however_often_that_is_said() -> None:
    """A shell hands it on to what the terminal has told already. Who hurries says so otherwise."""
    bench = Bench(job("a")).settle().stop("SIGHUP").stop("SIGHUP").stop("SIGHUP")
    assert len(bench.cancelled) == 1
    assert not bench.loop.over
    bench.stop("SIGTERM")
    assert len(bench.cancelled) == 2


def test_fail_fast_stops_what_runs_and_starts_nothing() -> None:
    bench = Bench(job("a"), job("b"), job("c"), max_parallel=2, fail_fast=True).settle()
    bench.end("a", 1)
    assert [name for name, *_ in bench.cancelled] == ["b"]
    bench.end("b", None, cancelled=True)
    assert bench.loop.over
    assert bench.ran == ["a", "b"]
    assert bench.causes() == {
        "a": "exit 1",
        "b": "a failed (--fail-fast)",
        "c": "a failed (--fail-fast)",
    }
    assert bench.loop.result().state == "failed"


def test_fail_fast_lets_a_job_use_its_retries_first() -> None:
    bench = Bench(job("a", retry=Retry(1)), job("b"), fail_fast=True).settle().end("a", 1)
    assert bench.cancelled == []


def test_at_the_workflows_timeout_what_runs_fails_and_the_rest_is_cancelled() -> None:
    jobs = [job("a", retry=Retry(3)), job("b", "a"), job("c", retry=Retry(3, 900))]
    bench = Bench(*jobs, timeout=60.0).settle().end("c", 1)
    assert bench.loop.next_due() == 1060.0
    bench.tick(60)
    bench.end("a", None, cancelled=True)
    assert bench.loop.over
    words = "workflow timed out after 1m"
    assert bench.causes() == {"a": words, "b": words, "c": words}
    assert bench.state("a") is S.FAILED
    assert bench.state("b") is S.CANCELLED
    assert (bench.loop.result().state, bench.loop.result().cause) == ("failed", words)


def test_cancel_of_everything() -> None:
    bench = Bench(job("a"), job("b", "a")).settle()
    bench.loop.cancel(None)
    bench.end("a", None, cancelled=True)
    assert bench.causes() == {"b": "cancelled", "a": "cancelled"}
    assert bench.loop.result().state == "cancelled"


# -- what a lost run left --------------------------------------------------------------------


def test_a_live_process_is_taken_over_and_not_started_again() -> None:
    bench = Bench(job("a", retry=Retry(2)), adopted=["a"]).settle()
    assert bench.ran == []
    started = bench.of(JobStarted)[0]
    assert (started.adopted, started.attempt) == (True, 2)
    bench.end("a", 1)  # the second attempt of three
    assert bench.ran == ["a"]
    assert bench.of(JobStarted)[-1].attempt == 3


def cut_off(*more: Job, **options: Any) -> Bench:
    """a, then m that comes out the same, then b that a lost run has at work already."""
    jobs = (job("a"), job("m", "a"), job("b", "m"), *more)
    bench = Bench(*jobs, decisions={"m": Decision.MAY_RUN}, adopted=["b"], **options)
    bench.verdicts["m"] = Verdict(S.UP_TO_DATE)
    return bench.settle()


def test_a_live_process_takes_no_slot_from_the_upstreams_that_its_job_waits_for() -> None:
    bench = cut_off(max_parallel=1)
    assert bench.ran == ["a"]
    bench.end("a")
    assert bench.state("b") is S.RUNNING


def test_a_live_process_has_a_slot_once_its_job_has_its_turn() -> None:
    bench = Bench(job("a"), job("b", "a"), job("c"), adopted=["a", "b"], max_parallel=1).settle()
    assert bench.ran == []
    bench.end("a")
    assert bench.state("b") is S.RUNNING
    assert bench.ran == []
    bench.end("b")
    assert bench.state("b") is S.DONE
    assert bench.ran == ["c"]


def test_a_process_that_ended_before_its_job_was_ready_counts() -> None:
    bench = cut_off()
    bench.end("b")
    assert bench.state("b") is S.WAITING
    bench.end("a")
    assert bench.state("b") is S.DONE
    assert bench.committed == ["a", "b"]


def test_a_process_that_makes_something_else_is_stopped_before_the_job_runs_afresh() -> None:
    bench = Bench(job("a"), adopted=["a"], max_parallel=1)
    bench.takes_over["a"] = False
    bench.settle()
    assert bench.cancelled == [("a", 30.0, False)]
    assert bench.ran == []
    bench.end("a", None, cancelled=True)
    assert bench.ran == ["a"]
    bench.end("a")
    assert bench.loop.result().state == "done"


@pytest.mark.parametrize("slots", [1, 4])
def test_who_reads_an_output_is_gone_before_that_is_made_anew(slots: int) -> None:
    jobs = (job("x"), job("y"), job("both", "x", "y"))
    bench = Bench(*jobs, adopted=["both"], max_parallel=slots).settle()
    assert bench.cancelled == [("both", 30.0, False)]
    assert bench.ran == []
    bench.end("both", None, cancelled=True)
    assert bench.dropped["both"].detail == "x is made anew"
    assert bench.ran == ["x", "y"][:slots]
    bench.end("x")
    bench.end("y")
    assert bench.ran == ["x", "y", "both"]


def test_who_ended_by_itself_meanwhile_is_nobody_to_wait_for() -> None:
    bench = Bench(job("x"), job("y", "x"), adopted=["y"]).settle().end("y")
    assert bench.ran == ["x"]
    assert bench.dropped["y"].detail == "x is made anew"
    bench.end("x")
    assert bench.ran == ["x", "y"]


def test_a_job_that_waits_for_a_reader_to_go_can_be_cancelled() -> None:
    bench = Bench(job("x"), job("y", "x"), adopted=["y"]).settle()
    bench.loop.cancel(["x"])
    bench.settle()
    assert bench.state("x") is S.CANCELLED
    assert not bench.loop.over
    assert bench.end("y", None, cancelled=True).loop.over
    assert bench.ran == []


def test_a_process_that_was_being_stopped_when_it_was_taken_over_is_started_again() -> None:
    bench = Bench(job("a", retry=Retry(0)), adopted=["a"])
    bench.outcomes["a"] = Outcome(S.CANCELLED, "cancelled")
    bench.settle().end("a", None, cancelled=True)
    assert bench.ran == ["a"]
    bench.end("a", None, cancelled=True)  # by hand, now
    assert bench.state("a") is S.CANCELLED
    assert bench.ran == ["a"]


@pytest.mark.parametrize("slots", [1, 4])
def test_two_processes_never_write_the_same_folder(slots: int) -> None:
    bench = Bench(job("a"), adopted=["a"], max_parallel=slots)
    bench.takes_over["a"] = False
    bench.settle()
    assert len(bench.running) == 1


def test_the_run_waits_for_the_end_of_a_process_that_it_sends_away() -> None:
    bench = cut_off().end("a", 1)
    assert bench.state("b") is S.BLOCKED
    assert not bench.loop.over
    assert bench.end("b", None, cancelled=True).loop.over
    assert "b" in bench.dropped


def test_a_process_of_a_job_that_is_not_asked_for_is_let_be() -> None:
    bench = Bench(job("a"), adopted=["elsewhere"]).settle().end("a")
    assert bench.loop.over
    assert bench.cancelled == []
    assert bench.of(Note)[0].job == "elsewhere"


def test_a_stop_reaches_processes_that_nobody_took_over_yet() -> None:
    bench = cut_off().stop()
    assert {name for name, *_ in bench.cancelled} == {"a", "b"}
    bench.end("a", None, cancelled=True).end("b", None, cancelled=True)
    assert bench.loop.over


# -- whatever happens ---------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 9))
    gpus = draw(st.integers(0, 3))
    jobs = []
    for i in range(count):
        ups = draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set()
        request = draw(
            st.sampled_from(
                [None, None, GpuRequest(-1)]
                + [GpuRequest(n) for n in range(1, gpus + 1)]
                + [GpuRequest(1, (d,)) for d in range(gpus)]
            )
        )
        retry = Retry(draw(st.integers(0, 2)), draw(st.sampled_from([0.0, 5.0])))
        names = [f"j{u}" for u in sorted(ups)]
        fields = {"gpu": request, "retry": retry, "priority": draw(st.integers(0, 1))}
        jobs.append(job(f"j{i}", *names, **fields))
    return {
        "jobs": jobs,
        "gpus": gpus,
        "max_parallel": draw(st.integers(1, 4)),
        "fail_fast": draw(st.booleans()),
        "timeout": draw(st.sampled_from([None, 40.0])),
        "allocation": draw(st.sampled_from(["dynamic", "fixed"])),
        "adopted": draw(st.lists(st.integers(0, count - 1), unique=True, max_size=2)),
        "may": draw(st.sets(st.integers(0, count - 1))),
        "brief": [f"j{i}" for i in draw(st.sets(st.integers(0, count - 1)))],
    }


@settings(max_examples=150, deadline=None)
@given(worlds(), st.data())
def test_whatever_happens_no_promise_is_broken_and_everything_ends(
    world: dict[str, Any], data: st.DataObject
) -> None:
    jobs: list[Job] = world.pop("jobs")
    adopted = [f"j{i}" for i in world.pop("adopted")]
    may = {f"j{i}": Decision.MAY_RUN for i in world.pop("may")}
    bench = Bench(*jobs, adopted=adopted, decisions=may, **world)
    upstream = {j.name: j.upstream for j in jobs}
    for name in adopted:
        bench.takes_over[name] = data.draw(st.booleans())
    asked = 0

    def check() -> None:
        counts = bench.loop.states.counts
        most = world["max_parallel"] + len(adopted)
        assert counts[S.RUNNING] - bench.loop._left_slots <= most
        assert len(bench.running) <= most
        assert sum(counts.values()) == len(jobs)
        for name, needs in upstream.items():
            if bench.state(name) in (S.RUNNING, S.QUEUED, S.RETRYING, S.DONE):
                assert all(bench.state(need).succeeded for need in needs)
        assert len(bench.running) == len(set(bench.running.values()))  # no job twice

    for _ in range(1000):
        check()
        if bench.loop.over:
            break
        choices = ["work"] * (3 * bool(bench.calls)) + ["loop"] * (3 * bool(bench.messages))
        choices += ["end"] * (2 * bool(bench.running))
        if asked < 2:
            choices += ["stop", "cancel", "stranger"]
        if not choices or not (bench.calls or bench.messages or bench.running):
            choices = ["tick"]
        what = data.draw(st.sampled_from(choices))
        if what == "work":
            bench.work_once()
        elif what == "loop":
            bench.loop.handle(bench.messages.popleft())
            if data.draw(st.booleans()):
                bench.loop.advance()
        elif what == "end":
            token = data.draw(st.sampled_from(sorted(bench.running)))
            name = bench.running.pop(token)
            asked_to = any(name == cancelled for cancelled, *_ in bench.cancelled)
            code = data.draw(st.sampled_from([0, 0, 1]))
            bench.messages.append(terms.Exited(token, Exit(token, code, cancelled=asked_to)))
        elif what == "stop":
            asked += 1
            bench.messages.append(terms.StopAsked("SIGTERM"))
        elif what == "cancel":
            asked += 1
            one = data.draw(st.sampled_from([*(j.name for j in jobs), ""]))
            bench.loop.cancel([one] if one else None)
        elif what == "stranger":
            asked += 1
            for device in set(bench.pool.all) - set(bench.pool.held):
                bench.pool.held[device] = "stranger"
        else:
            for device in [d for d, held in bench.pool.held.items() if held == "stranger"]:
                del bench.pool.held[device]
            bench.now += 10
            bench.loop.advance()
    assert bench.loop.over, {j.name: bench.state(j.name) for j in jobs}
    assert not [held for held in bench.pool.held.values() if held != "stranger"]
    assert not bench.running
    ended = [event.job for event in bench.of(JobFinished)]
    assert sorted(ended) == sorted(j.name for j in jobs)  # each told once
    done = sorted(j.name for j in jobs if bench.state(j.name) is S.DONE)
    assert done == sorted(bench.committed)


# -- the run cache ----------------------------------------------------------------------------


def back(name: str) -> Verdict:
    return Verdict(S.RESTORED, detail="restored from cache", trace=trace_of(name))


def test_what_is_in_the_cache_takes_no_slot_and_no_process() -> None:
    jobs = (job("a"), job("b"), job("c", "b"))
    bench = Bench(*jobs, max_parallel=1, kept={"b": back("b")}).settle()
    assert (bench.state("a"), bench.state("b")) == (S.RUNNING, S.RESTORED)
    bench.end("a")
    assert bench.state("c") is S.RUNNING
    bench.end("c")
    assert bench.ran == ["a", "c"]
    assert bench.loop.result().state == "done"


def test_what_cannot_be_restored_runs_with_a_note() -> None:
    damaged = Verdict(S.QUEUED, notes=("in the cache, but damaged",))
    bench = Bench(job("a"), kept={"a": damaged}).settle().end("a")
    assert bench.ran == ["a"]
    notes = [event for event in bench.events if isinstance(event, Note)]
    assert [(note.text, note.job) for note in notes] == [("in the cache, but damaged", "a")]


def test_a_retry_is_not_looked_for_in_the_cache() -> None:
    bench = Bench(job("a", retry=Retry(1))).settle()
    bench.kept = {"a": back("a")}
    bench.end("a", 1).tick(1)
    assert bench.ran == ["a", "a"]


def test_a_process_of_a_lost_run_goes_before_the_cache() -> None:
    bench = Bench(job("a"), adopted=["a"], kept={"a": back("a")}).settle()
    assert bench.state("a") is S.RUNNING


def test_results_are_shared_one_by_one_and_the_run_waits_for_it() -> None:
    bench = Bench(job("a"), job("b"), sharing=True).settle()
    bench.end("a")
    bench.end("b")
    assert bench.shared == ["a", "b"]
    assert bench.loop.over


def test_a_run_that_is_stopped_shares_nothing_more() -> None:
    bench = Bench(job("a"), job("b"), sharing=True).settle()
    bench.stop()
    assert bench.abandoned
    bench.end("a")
    bench.end("b")
    assert bench.shared == []
