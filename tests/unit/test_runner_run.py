"""`run` with its threads: an executor in this process, and then real processes."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from oumi_flow import staleness, verbs
from oumi_flow.commands.views import View
from oumi_flow.disk import Disk
from oumi_flow.events import Event, JobFinished, JobStarted, Note, RunFinished
from oumi_flow.executors.base import (
    Attempt,
    Executor,
    Exit,
    Handle,
    Rejected,
    Submitted,
    Unknown,
    Warmth,
)
from oumi_flow.executors.local import LocalExecutor
from oumi_flow.model import (
    Command,
    Decision,
    GpuRequest,
    Input,
    Job,
    Output,
    Plan,
    Retry,
    Step,
    Workflow,
)
from oumi_flow.planner import plan as make_plan
from oumi_flow.runner import Options, StopFlag, Teller, Watch, Work, recover, run
from oumi_flow.runner.crew import Crew, Moments
from oumi_flow.store import Store
from oumi_flow.tokens import Gpu, TokenPool


@pytest.fixture(autouse=True)
def _base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shell(name: str, run: str = "true", *upstream: str, **fields: Any) -> Job:
    outputs = fields.pop("makes", ())
    reads = fields.pop("reads", ())
    parts = {
        "verb": "shell",
        "run": run,
        "config": {},
        "args": [],
        "env": {},
        "workdir": ".",
        "outputs": list(outputs),
    }
    return Job(
        name=name,
        verb="shell",
        folder=f"out/{name}",
        place=f"out/{name}",
        command=Command(verbs.shell_command(run)),
        parts=parts,
        fingerprint=staleness.fingerprint(parts),
        inputs=tuple(Input(path, path, producer=up) for path, up in reads),
        outputs=tuple(Output(path, path, declared=True) for path in outputs),
        upstream=upstream,
        depends_on=upstream,
        **fields,
    )


class Run:
    """One invocation: lock, recover, plan, run, settle."""

    def __init__(
        self, *jobs: Job, executor: Executor | None = None, run_id: str = "R1", **options: Any
    ) -> None:
        self.workflow = Workflow("w", "w.yaml", "out", jobs)
        self.store = Store("out")
        self.disk = Disk(verbs.model_file)
        self.executor = executor or LocalExecutor()
        self.options = Options(run_id, **{"max_parallel": 4, **options})
        self.stop = StopFlag()
        self.events: list[Event] = []
        self.heard: Callable[[Event], None] = self.events.append
        self.requests: list[dict[str, Any]] = []
        self.tokens: TokenPool | None = None
        self.spare: Callable[[], bool] | None = None
        self.plan = self.planned()

    def planned(self) -> Plan:
        return make_plan(self.workflow, self.store.pasts(self.workflow.jobs), self.disk)

    def go(self) -> RunFinished:
        work = Work(
            self.workflow,
            self.store,
            self.disk,
            run_id=self.options.run_id,
            environ=os.environ,
        )
        with self.store.lock(self.options.run_id, self.workflow):
            found = recover(self.workflow, self.store, self.executor, work)
            self.plan = self.planned()
            work.stage(self.plan)
            watch = Watch(self.store)
            try:
                return run(
                    self.plan,
                    work=work,
                    executor=self.executor,
                    tokens=self.tokens,
                    emit=lambda event: self.heard(event),
                    options=self.options,
                    stop=self.stop,
                    control=self._control,
                    watch=watch,
                    adopted=found.adopted,
                    spare=self.spare or work.look_again,
                )
            finally:
                watch.close()
                work.settle()
                self.executor.close()

    def _control(self) -> Sequence[Mapping[str, Any]]:
        requests, self.requests = self.requests, []
        return requests

    def states(self) -> dict[str, str]:
        return {e.job: e.state for e in self.events if isinstance(e, JobFinished)}

    def causes(self) -> dict[str, str]:
        return {e.job: e.cause for e in self.events if isinstance(e, JobFinished)}


class InProcess:
    """An executor whose processes are functions of this process, run when they are submitted."""

    def __init__(self, **ends: Callable[[Attempt], Exit | None]) -> None:
        self.ends = ends
        self.attempts: list[Attempt] = []
        self.cancelled: list[str] = []
        self.answer: Callable[[Attempt], Submitted] = lambda a: Handle(a.token, a.job)
        self.fault: Exception | None = None
        self._done: SimpleQueue[Exit | None] = SimpleQueue()

    def check(self) -> list[str]:
        return []

    def prepare(self) -> None: ...

    def prewarm(self, warmth: Warmth) -> None: ...

    def submit(self, attempts: Sequence[Attempt]) -> list[Submitted]:
        answers = []
        for attempt in attempts:
            self.attempts.append(attempt)
            answers.append(self.answer(attempt))
            end = self.ends.get(attempt.job, success)
            if not isinstance(answers[-1], Rejected) and (exit := end(attempt)) is not None:
                self._done.put(exit)
        return answers

    def poll(
        self, handles: Sequence[Handle], deadline: float | None = None
    ) -> tuple[dict[str, Exit], bool]:
        if self.fault is not None:
            raise self.fault
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            exit = self._done.get(timeout=left)
        except Empty:
            exit = None
        return ({exit.token: exit} if exit is not None else {}), True

    def cancel(self, handles: Sequence[Handle], grace: float, now: bool = False) -> None:
        for handle in handles:
            self.cancelled.append(handle.job)
            self._done.put(Exit(handle.token, signal=15, cancelled=True))

    def find(self, state_dirs: Sequence[str]) -> list[Handle]:
        return []

    def living(self, folder: str) -> list[Handle]:
        return []

    def stop_unrecorded(self, folder: str) -> int:
        return 0

    def log(self, handle: Handle) -> str:
        return handle.log

    def wake(self) -> None:
        self._done.put(None)

    def close(self) -> None: ...


def success(attempt: Attempt) -> Exit | None:
    return Exit(attempt.token, 0)


def never(attempt: Attempt) -> None:
    return None


# -- with an executor in this process ----------------------------------------------------------


def test_a_run_tells_its_story_in_order() -> None:
    one = Run(shell("a"), shell("b", "true", "a"), executor=InProcess())
    result = one.go()
    assert (result.state, result.counts) == ("done", {"done": 2})
    assert [(event.kind, getattr(event, "job", "")) for event in one.events] == [
        ("job_started", "a"),
        ("job_finished", "a"),
        ("job_started", "b"),
        ("job_finished", "b"),
        ("run_finished", ""),
    ]
    assert [event.seq for event in one.events] == [1, 2, 3, 4, 5]
    assert one.events[0].at > 1.7e9
    assert one.events[-1] == result


def test_a_plan_with_nothing_to_do_starts_nothing() -> None:
    Run(shell("a"), executor=InProcess()).go()
    executor = InProcess()
    again = Run(shell("a"), executor=executor, run_id="R2")
    assert again.go().counts == {"up to date": 1}
    assert executor.attempts == []


def test_a_failing_view_never_fails_a_run() -> None:
    one = Run(shell("a"), executor=InProcess())

    def broken(event: Event) -> None:
        raise RuntimeError("no screen")

    one.heard = broken
    assert one.go().state == "done"


def test_a_view_that_fails_is_told_no_more_and_the_others_are_told_why() -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("no screen")

    teller = Teller([broken, heard.append], now=lambda: 5.0)
    teller.tell(Note("one"))
    teller.tell(Note("two"))
    assert [(e.seq, e.text) for e in heard if isinstance(e, Note)] == [
        (1, "one"),
        (2, "the run goes on, but is not shown any more: RuntimeError: no screen"),
        (3, "two"),
    ]


def test_a_record_on_a_full_disk_is_completed_in_order_once_there_is_room() -> None:
    log: list[Event] = []
    heard: list[Event] = []
    full = True

    def append(event: Event) -> None:
        if full:
            raise OSError("No space left on device")
        log.append(event)

    teller = Teller([append, heard.append])
    teller.tell(Note("one"))
    teller.tell(Note("two"))
    full = False
    teller.tell(Note("three"))
    assert log == heard
    assert [event.seq for event in log] == [1, 2, 3, 4]
    told = [event.text for event in heard if isinstance(event, Note)]
    assert told[1] == "what happens cannot be recorded for now: No space left on device"


def test_control_that_cannot_be_read_is_no_reason_to_stop() -> None:
    one = Run(shell("a"), executor=InProcess(), control_every=0.0)

    def broken() -> Sequence[Mapping[str, Any]]:
        raise OSError("gone")

    one._control = broken  # type: ignore[method-assign]
    assert one.go().state == "done"


def test_control_that_says_nonsense_is_passed_over() -> None:
    one = Run(shell("a"), executor=InProcess(), control_every=0.0)
    wishes: list[dict[str, Any]] = [{"kind": "cancel", "jobs": [["a"], 1]}, {"kind": ["cancel"]}]
    one._control = lambda: wishes  # type: ignore[method-assign]
    assert one.go().state == "done"


@pytest.mark.parametrize("most", [0, 1])
def test_where_the_system_gives_no_more_threads_all_is_done_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    real = threading.Thread.start
    there: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        if len(there) >= most:
            raise RuntimeError("can't start new thread")
        there.append(thread)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    crew, called = Crew(4), []
    for number in range(9):
        crew.submit(lambda number=number: called.append(number))  # type: ignore[misc]
    crew.close()
    assert called == list(range(9))
    one = Run(*(shell(name, "true") for name in "abc"), executor=InProcess())
    assert one.go().counts == {"done": 3}


def test_a_view_whose_clock_gets_no_thread_shows_events_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    shown: list[Any] = []

    class Drawer:
        def __call__(self, event: Any) -> None:
            shown.append(event)

        def tick(self, now: float) -> None: ...
        def close(self) -> None: ...

    view = View(Drawer())
    with view.ticking():
        view(Note("said"))
    assert shown == [Note("said")]


def test_a_fault_that_is_no_exception_is_the_jobs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a library in another language may raise it."""

    class PanicError(BaseException):
        pass

    def panics(*_: object) -> None:
        raise PanicError("no threads")

    monkeypatch.setattr("oumi_flow.staleness.observe_inputs", panics)
    one = Run(shell("a"), executor=InProcess())
    assert one.go().state == "failed"
    assert "no threads" in one.causes()["a"]


def test_a_refusal_is_a_failure_and_an_unknown_answer_counts_as_running() -> None:
    executor = InProcess()
    executor.answer = lambda a: (
        Rejected(a.token, "could not start: no")
        if a.job == "a"
        else Unknown(a.token, "engine did not answer")
    )
    one = Run(shell("a"), shell("b"), executor=executor)
    assert one.go().state == "failed"
    assert one.states() == {"a": "failed", "b": "done"}
    assert one.causes()["a"] == "could not start: no"


def test_an_executor_that_breaks_ends_the_run_without_a_traceback() -> None:
    executor = InProcess(a=never)
    executor.fault = OSError("server is gone")
    one = Run(shell("a"), shell("b", "true", "a"), executor=executor)
    assert one.go().state == "failed"
    assert "server is gone" in one.causes()["a"]
    # Nothing is written over the record of what may still be running.
    attempt = one.store.read_attempt("a")
    assert attempt is not None
    assert attempt.state == "starting"


def test_a_stop_asked_for_before_the_run_begins_is_heard() -> None:
    executor = InProcess(a=never)
    one = Run(shell("a"), executor=executor)
    one.stop.request("SIGTERM")
    result = one.go()
    assert (result.state, result.cause) == ("interrupted", "SIGTERM")


def test_a_stop_cancels_what_runs_and_the_next_run_says_why_it_runs_again() -> None:
    executor = InProcess(a=never)
    one = Run(shell("a"), shell("b", "true", "a"), executor=executor)

    def heard(event: Event) -> None:
        one.events.append(event)
        if isinstance(event, JobStarted):
            one.stop.request("SIGINT")

    one.heard = heard
    result = one.go()
    assert (result.state, result.cause) == ("interrupted", "SIGINT")
    assert executor.cancelled == ["a"]
    assert one.causes() == {"a": "SIGINT", "b": "SIGINT"}
    attempt = one.store.read_attempt("a")
    assert attempt is not None
    assert (attempt.state, attempt.detail) == ("interrupted", "SIGINT")
    assert one.store.read_attempt("b") is None


def test_a_request_cancels_one_job_and_what_needs_it_is_blocked() -> None:
    executor = InProcess(a=never)
    one = Run(shell("a"), shell("b", "true", "a"), shell("c"), executor=executor)
    one.options = replace(one.options, control_every=0.0)

    def heard(event: Event) -> None:
        one.events.append(event)
        if isinstance(event, JobStarted) and event.job == "a":
            one.requests.append({"kind": "cancel", "jobs": ["a"]})

    one.heard = heard
    assert one.go().state == "cancelled"
    assert one.states() == {"a": "cancelled", "b": "blocked", "c": "done"}


def test_a_job_that_cannot_write_its_state_fails_and_the_others_go_on() -> None:
    os.makedirs("out/a")
    Path("out/a/.oumi-flow").write_text("in the way")
    one = Run(shell("a"), shell("b"), executor=InProcess())
    assert one.go().state == "failed"
    assert one.states() == {"a": "failed", "b": "done"}
    assert "out/a/.oumi-flow" in one.causes()["a"]


@pytest.fixture
def moments_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is."""
    monkeypatch.setattr("oumi_flow.runner.crew._LONG", float("inf"))


@pytest.mark.usefixtures("moments_are_short")
@pytest.mark.parametrize("slots", [1, 3])
def test_many_jobs_at_once_never_exceed_the_slots(slots: int) -> None:
    """Nor does it look so where moments are short, though a slot is left before its job is done."""
    guard = threading.Lock()
    running, most = 0, 0

    def counted(attempt: Attempt) -> Exit:
        return Exit(attempt.token, 0)

    jobs = [shell(f"j{i}", "true", *([f"j{i - 7}"] if i > 6 else [])) for i in range(60)]
    one = Run(*jobs, executor=InProcess(**{j.name: counted for j in jobs}), max_parallel=slots)

    def heard(event: Event) -> None:
        nonlocal running, most
        with guard:
            running += isinstance(event, JobStarted)
            running -= isinstance(event, JobFinished)
            most = max(most, running)

    one.heard = heard
    assert one.go().counts == {"done": 60}
    assert most <= slots


def test_moments_that_take_long_are_for_the_workers_for_a_while() -> None:
    clock = [100.0]
    handed: list[Callable[[], None]] = []
    moments = Moments(handed.append, lambda: clock[0], waits=lambda: clock[0])
    seen: list[None] = []

    def call(seconds: float) -> Callable[[], None]:
        return lambda: clock.__setitem__(0, clock[0] + seconds)

    for seconds in (0.001, 0.02, 0.5, 0.001, 0.001):
        moments.put(call(seconds))
    said = [(moments.spend_one(seen.append), moments.are_short, moments.are_over) for _ in range(4)]
    one_takes_long = [(True, True, False), (True, True, False), (True, False, True)]
    assert said == [*one_takes_long, (False, False, True)]
    assert len(handed) == 2  # those that waited behind it
    clock[0] += 10.0
    assert moments.are_short
    for _ in range(100):
        moments.put(call(0.02))
        moments.spend_one(seen.append)
    assert not moments.are_short  # nor if all are a little slow


@pytest.mark.usefixtures("moments_are_short")
def test_spare_moments_are_those_in_which_a_process_is_waited_for() -> None:
    one = Run(shell("a", "for i in {1..500}; do [ -e go ] && exit; sleep 0.01; done; exit 1"))
    before: list[int] = []

    def spare() -> bool:
        before.append(len(one.events))
        Path("go").touch()
        return True  # there is always more

    one.spare = spare
    assert one.go().counts == {"done": 1}
    assert before[0] == 1  # it has started
    assert len(before) % 2 == 0  # two, and then it is looked at the process again


@pytest.mark.usefixtures("moments_are_short")
def test_a_small_job_is_settled_while_another_runs() -> None:
    """The other one ends well only once that is seen."""

    def control() -> Sequence[Mapping[str, Any]]:
        trace = one.store.kept("a")
        if trace is not None and all(seen.settled for seen in trace.outputs.values()):
            Path("go").touch()
        return ()

    wait = "for i in {1..2000}; do [ -e go ] && exit; sleep 0.01; done; exit 1"
    one = Run(shell("a", "echo x > out/a/x", makes=["out/a/x"]), shell("b", wait, "a"))
    one._control = control  # type: ignore[method-assign]
    assert one.go().counts == {"done": 2}


def test_what_a_job_used_of_the_cpu_is_told() -> None:
    busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    one = Run(shell("a", busy), shell("b", f"{busy}; exit 3"), shell("c", "true", "b"))
    one.go()
    used = {event.job: event.cpu for event in one.events if isinstance(event, JobFinished)}
    assert (used["a"] or 0) > 0
    assert (used["b"] or 0) > 0
    assert used["c"] is None


def test_what_is_to_be_first_is_before_all_that_is_not() -> None:
    said: list[str] = []
    moments: Moments[str] = Moments(lambda call: said.append(f"handed {call()}"))
    for name in "abAB":
        moments.put(partial(str, name), name.isupper())
    while moments.spend_one(said.append):
        pass
    assert said == ["A", "B", "a", "b"]


def test_moments_that_only_waited_for_a_core_are_not_long() -> None:
    """By a clock that is a second later at each look."""
    ticks, used = itertools.count(), itertools.count()
    handed: list[Callable[[], None]] = []
    held_up = Moments(handed.append, lambda: next(ticks), waits=lambda: 5, busy=lambda: 0)
    computing = Moments(
        handed.append, lambda: next(ticks), waits=lambda: 5, busy=lambda: next(used)
    )
    waiting = Moments(handed.append, lambda: next(ticks), busy=lambda: 0)
    held_up.put(lambda: None)
    computing.put(lambda: None)
    waiting.put(lambda: time.sleep(0.001))  # who sleeps gives up its core, however shortly
    for moments in (held_up, computing, waiting):
        assert moments.spend_one(lambda _: None)
    assert held_up.are_short
    assert not computing.are_short
    assert not waiting.are_short


@pytest.mark.usefixtures("moments_are_short")
def test_small_jobs_need_no_thread_and_large_files_do(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Callable[[], None]] = []
    submit = Crew.submit

    def counted(crew: Crew, call: Callable[[], None]) -> None:
        calls.append(call)
        submit(crew, call)

    monkeypatch.setattr(Crew, "submit", counted)
    Path("small").write_text("x")
    Path("large").write_bytes(bytes(1 << 20))
    for name in ("one", "two", "three"):
        Path(name).write_bytes(bytes(400_000))
    small = Run(shell("a", reads=[("small", "")]), shell("b", "true", "a"), executor=InProcess())
    assert small.go().counts == {"done": 2}
    assert not calls
    large = Run(shell("c", reads=[("large", "")]), executor=InProcess(), run_id="R2")
    assert large.go().state == "done"
    assert calls
    calls.clear()
    reads = [(name, "") for name in ("one", "two", "three")]
    several = Run(shell("d", reads=reads), executor=InProcess(), run_id="R3")
    assert several.go().state == "done"
    assert calls


def test_little_is_kept_of_a_job_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run of many jobs memory must not tell how many of them are done."""
    # As small jobs are: digested before their files have rested. Else their digests are remembered
    # for whoever reads them, and how many are depends on how slow the machine is.
    monkeypatch.setattr("oumi_flow.disk.files.unrest", lambda *_: 1)
    few, many = 100, 400
    Path("data").write_text("x")

    def make(attempt: Attempt) -> Exit:
        Path(f"{attempt.job}.txt").write_text(attempt.job)
        executor.attempts.clear()
        return Exit(attempt.token, 0)

    names = [f"j{number:03}" for number in range(many)]
    executor = InProcess(**dict.fromkeys(names, make))
    jobs = [shell(n, makes=[f"{n}.txt"], reads=[("data", "")]) for n in names]
    one = Run(*jobs, executor=executor, max_parallel=1)
    sizes: list[int] = []

    def heard(event: Event) -> None:
        if isinstance(event, JobFinished):
            sizes.append(0)
            if len(sizes) in (few, many):
                gc.collect()
                sizes[-1] = tracemalloc.get_traced_memory()[0]

    one.heard = heard
    tracemalloc.start()
    try:
        assert one.go().counts == {"done": many}
    finally:
        tracemalloc.stop()
    each = (sizes[many - 1] - sizes[few - 1]) / (many - few)
    assert each < 1200, f"{each:.0f} bytes for each job that is done"  # 760; whole traces: 1880


# -- with real processes ------------------------------------------------------------------------


def test_shell_jobs_run_and_run_again_only_as_far_as_needed() -> None:
    def jobs(text: str) -> tuple[Job, Job, Job]:
        return (
            shell("a", f"echo {text} | tr -d x > out/a/x; echo a >> ran", makes=["out/a/x"]),
            shell(
                "b",
                "cat out/a/x > out/b/y; echo b >> ran",
                "a",
                makes=["out/b/y"],
                reads=[("out/a/x", "a")],
            ),
            shell("c", "echo c >> ran; exit 3"),
        )

    assert Run(*jobs("1")).go().counts == {"done": 2, "failed": 1}
    assert Path("out/b/y").read_text() == "1\n"
    os.remove("ran")
    # The same bytes by another command: a runs, b need not.
    again = Run(*jobs("1x"), run_id="R2")
    assert again.go().counts == {"done": 1, "up to date": 1, "failed": 1}
    assert sorted(Path("ran").read_text().split()) == ["a", "c"]
    third = Run(*jobs("1x"), executor=InProcess(), run_id="R3")
    decisions = {step.job.name: step.decision for step in third.plan.steps}
    assert decisions == {
        "a": Decision.UP_TO_DATE,
        "b": Decision.UP_TO_DATE,
        "c": Decision.RUN,
    }


def test_a_retry_gets_its_number_and_a_log_of_its_own() -> None:
    job = shell("a", 'echo "try $OUMI_FLOW_ATTEMPT"; test $OUMI_FLOW_ATTEMPT = 2', retry=Retry(2))
    one = Run(job)
    assert one.go().state == "done"
    assert "try 2" in Path("out/a/job.log").read_text()
    assert "try 1" in Path("out/a/job.log.1").read_text()


def test_a_timeout_is_told_as_such() -> None:
    one = Run(shell("a", "sleep 60", timeout=1.0, grace=1.0))
    assert one.go().state == "failed"
    assert one.causes() == {"a": "timed out after 1s"}


def test_a_job_without_a_gpu_sees_none_and_one_that_wants_one_is_refused() -> None:
    one = Run(shell("a", 'test "$CUDA_VISIBLE_DEVICES" = ""'), shell("b", gpu=GpuRequest(1)))
    assert one.go().counts == {"done": 1, "failed": 1}
    assert one.causes()["b"] == "needs a GPU, and this run has none"


def test_gpu_jobs_never_share_a_token_and_hold_up_no_other(tmp_path: Path) -> None:
    # Whoever finds the folder of its GPU there already is not alone on it.
    alone = "mkdir gpu-$CUDA_VISIBLE_DEVICES; echo x > /dev/null; rmdir gpu-$CUDA_VISIBLE_DEVICES"
    jobs = [shell(f"g{i}", alone, gpu=GpuRequest(1)) for i in range(8)]
    both = shell("both", 'test "$CUDA_VISIBLE_DEVICES" = 0,1', gpu=GpuRequest(2), priority=1)
    one = Run(*jobs, both, shell("c"), gpus=(0, 1), max_parallel=4)
    pool = one.tokens = TokenPool([Gpu(0), Gpu(1)], str(tmp_path / "locks"), run_id="R1")
    result = one.go()
    assert result.counts == {"done": 10}, one.causes()
    assert result.gpu_seconds > 0
    assert pool.holders() == ()


@pytest.fixture
def lost_job() -> Job:
    """A job whose process goes on while its run is gone, until somebody writes to `gate`."""
    os.mkfifo("ready")
    os.mkfifo("gate")
    run = "echo once >> ran; echo > ready; read line < gate; echo made > out/a/x"
    return shell("a", run, makes=["out/a/x"])


def lose_run(job: Job) -> None:
    """Start it as a run would, then let go of everything but the process."""
    executor = LocalExecutor()
    work = Work(
        Workflow("w", "w.yaml", "out", (job,)),
        Store("out"),
        Disk(verbs.model_file),
        run_id="R1",
        environ=os.environ,
    )
    executor.submit([work.prepare(Step(job, Decision.RUN), 1, None).attempt])
    assert Path("ready").read_text() == "\n"
    executor.close()


def test_a_job_of_a_lost_run_is_taken_over_and_not_run_twice(lost_job: Job) -> None:
    lose_run(lost_job)
    one = Run(lost_job, run_id="R2")

    def heard(event: Event) -> None:
        one.events.append(event)
        if isinstance(event, JobStarted):
            Path("gate").write_text("go\n")

    one.heard = heard
    assert one.go().state == "done"
    started = next(event for event in one.events if isinstance(event, JobStarted))
    assert started.adopted
    assert Path("ran").read_text() == "once\n"
    assert Run(lost_job, executor=InProcess(), run_id="R3").plan.up_to_date == 1


def test_a_job_of_a_lost_run_that_is_not_wanted_any_more_is_stopped_first(lost_job: Job) -> None:
    lose_run(lost_job)
    edited = shell("a", "echo new > out/a/x", makes=["out/a/x"])
    one = Run(edited, run_id="R2")
    assert one.go().state == "done"
    assert Path("out/a/x").read_text() == "new\n"
    assert [e.adopted for e in one.events if isinstance(e, JobStarted)] == [False]


def test_what_a_lost_run_finished_unseen_is_not_run_again(lost_job: Job) -> None:
    lose_run(lost_job)
    bystander = LocalExecutor()
    alive = bystander.find(["out/a/.oumi-flow"])
    Path("gate").write_text("go\n")
    bystander.poll(alive)
    bystander.close()
    one = Run(lost_job, run_id="R2")
    assert one.go().counts == {"up to date": 1}
    assert Path("ran").read_text() == "once\n"
