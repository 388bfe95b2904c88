"""The loop: one thread that owns all state of a run, fed by messages, never waiting on content.

`Loop` is told what happened (`handle`) and what time it is (`advance`), and orders work from three
helpers: `defer` (a call in a worker thread), the pilot (processes) and `tell` (events). It knows
no threads, files, YAML or concrete executor; `running.py` puts the real ones around it. Tests put
others there and drive it step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush

from oumi_flow.events import (
    Event,
    JobRetrying,
    Note,
    RunFinished,
)
from oumi_flow.executors.base import Attempt, Exit, Handle
from oumi_flow.model import Decision, JobState, Outcome, Plan
from oumi_flow.runner import live, terms
from oumi_flow.runner.kept_slots import KeptSlots
from oumi_flow.runner.leasing import Leasing
from oumi_flow.runner.live import Live
from oumi_flow.runner.lost import LostProcesses
from oumi_flow.runner.ordering import Ordering
from oumi_flow.runner.orders import Orders
from oumi_flow.runner.sharing import Sharing
from oumi_flow.runner.states import Change, States
from oumi_flow.runner.terms import Defer, Ending, Lease, Message, Options, Pilot, Worker
from oumi_flow.runner.waiting import WaitingRoom
from oumi_flow.schedule.requests import impossible
from oumi_flow.text import limit
from oumi_flow.typed import Any

_S = JobState
_UNWANTED = Ending(_S.CANCELLED, "not wanted any more", "interrupted")


class Loop:
    """One run of a plan. Every method is for the one thread that owns it; none blocks."""

    def __init__(
        self,
        plan: Plan,
        *,
        work: Worker,
        leasing: Leasing,
        pilot: Pilot,
        defer: Defer,
        tell: Callable[[Event], None],
        watch: terms.Watcher,
        options: Options,
        clock: Callable[[], float],
        adopted: Mapping[str, Handle] | None = None,
    ) -> None:
        self._orders, self._pilot, self._tell = Orders(work, defer), pilot, tell
        self._leasing, self._watch, self._options, self._clock = leasing, watch, options, clock
        self._steps = {step.job.name: step for step in plan.steps}
        needs = [(step.job.name, step.job.upstream) for step in plan.steps]
        self.states = States(needs, up_to_date=plan.unlisted)
        self._ordering = Ordering(plan.steps, leasing, options)
        leasing.bind(plan.steps, self._ordering.seconds)
        self._room = WaitingRoom(
            leasing,
            self._ordering.ranks,
            self._ordering.seconds,
            lambda job: self.states[job] is _S.QUEUED,
            tell,
        )
        self._kept_slots = KeptSlots(leasing)
        self._sharing = Sharing(self._orders)
        self._live: dict[str, Live] = {}
        self._by_token: dict[str, str] = {}
        self._to_submit: list[Attempt] = []
        self._retries: list[tuple[float, str]] = []
        self._lost = LostProcesses(adopted or {}, plan)
        # To run afresh once processes of a lost run are gone, with the words for it.
        self._anew: dict[str, tuple[str, ...]] = {}
        self._began = clock()
        self._timeout = options.timeout
        self._halted: Ending | None = None
        self._stops = 0
        self._left_slots = 0  # of jobs that are about to be done, and whose processes are gone
        self._run_state = ""
        self._told_cold: set[str] = set()  # why, each reason once a run
        self.gpu_seconds = 0.0
        self._on: Mapping[type[Message], Callable[[Any], None]] = {
            terms.Rechecked: self._on_verdict,
            terms.LookedUp: self._on_looked_up,
            terms.TakenOver: self._on_taken_over,
            terms.Readied: self._on_readied,
            terms.Submitted: self._on_submitted,
            terms.Exited: self._on_exit,
            terms.Concluded: self._on_outcome,
            terms.Dropped: self._on_dropped,
            terms.Shared: self._on_shared,
            terms.Chosen: self._on_chosen,
            terms.StopAsked: self._on_stop,
            terms.Broken: self._on_broken,
        }

    # -- what the caller needs ------------------------------------------------------------

    def begin(self) -> None:
        for job, handle in self._lost.open.items():
            self._pilot.follow(handle)
            if job not in self._steps:
                words = f"{job} of a lost run still runs; nobody asks for it now, so it is let be"
                self._tell(Note(words, job=job))
        self._after(self.states.begin())

    @property
    def over(self) -> bool:
        return not (self.states.unended or self._lost.busy or self._sharing.busy)

    @property
    def has_news(self) -> bool:
        """Whether `advance` has more to tell of who waits."""
        return self._room.has_news

    def next_due(self) -> float | None:
        """The clock's time at which `advance` is wanted even if no message comes."""
        if self.has_news:
            return self._clock()
        due = [self._retries[0][0]] if self._retries else []
        if self._timeout is not None and not self._halted:
            due.append(self._began + self._timeout)
        if self._has_slot() and (again := self._room.next_due()) is not None:
            due.append(again)
        return min(due, default=None)

    def result(self) -> RunFinished:
        counts = {state.value: count for state, count in self.states.counts.items() if count}
        return RunFinished(
            state=self._run_state or live.run_state(self.states.counts),
            counts=counts,
            took=self._clock() - self._began,
            cause=self._halted.detail if self._halted else "",
            gpu_seconds=self.gpu_seconds,
        )

    def advance(self) -> None:
        """Do whatever is due and possible now: deadlines, retries, launches."""
        now = self._clock()
        if self._timeout is not None and not self._halted and now >= self._began + self._timeout:
            words = f"workflow timed out after {limit(self._timeout)}"
            self._halt(Ending(_S.FAILED, words, "failed"), "failed")
        while self._retries and self._retries[0][0] <= now:
            _, job = heappop(self._retries)
            if self.states[job] is _S.RETRYING:
                self._enqueue(job)
        for job, lease, fault in self._room.leave(now, self._has_slot, self._keeps_slots):
            if fault:
                self._finish(job, _S.FAILED, fault)
            else:
                self._start(job, lease)
        self._room.say_who_waits(self._has_slot())
        self.submit()
        if self._ordering.is_due(self.states.counts[_S.RUNNING]):
            self._choose_order()

    def submit(self) -> None:
        """Hand over what is ready to start."""
        if self._to_submit:
            attempts, self._to_submit = self._to_submit, []
            self._pilot.submit(attempts)

    def handle(self, message: Message) -> None:
        """Take note of something that happened."""
        self._on[type(message)](message)

    def cancel(self, jobs: Iterable[str] | None) -> None:
        """Cancel these jobs, or the whole run."""
        ending = Ending(_S.CANCELLED, "cancelled", "cancelled")
        if jobs is None:
            self._halt(ending, "cancelled")
            return
        for job in jobs:
            if job in self.states:
                self._end(job, ending)
            else:
                self._tell(Note(f"asked to cancel {job}, which is not in this run", "warning"))

    def end(self, words: str) -> None:
        """End the run by itself, as it may not go on; `words` say why."""
        self._halt(Ending(_S.CANCELLED, words, "interrupted"), "failed")

    # -- ready, queued --------------------------------------------------------------------

    def _after(self, changes: Iterable[Change]) -> None:
        """What a change of state asks of us."""
        todo = list(changes)
        for job, state, cause in todo:
            if state.ended:
                self._kept_slots.ended(job)
            if state is _S.BLOCKED:
                self._send_away(job, Ending(_S.CANCELLED, cause, "cancelled"))
                self._tell(live.finished(job, state, cause))
            elif self.states[job] is not state:  # what came of one before it has ended it
                continue
            elif state is _S.READY and self._steps[job].decision is Decision.UP_TO_DATE:
                # Told by the plan already.
                self._send_away(job, _UNWANTED)
                todo += self.states.set(job, _S.UP_TO_DATE)
            elif state is _S.READY:
                self._look(job)

    def _look(self, job: str) -> None:
        """A job's upstreams are all there: does it run?"""
        step = self._steps[job]
        self._live[job] = Live(step)
        if self._orders.judges(step):
            self._orders.recheck(step)
        else:
            self._wanted(job)

    def _on_verdict(self, message: terms.Rechecked) -> None:
        job, verdict = message
        if self.states[job] is not _S.READY:
            return
        if verdict.state is _S.QUEUED:
            self._wanted(job, verdict.words)
            return
        self._send_away(job, _UNWANTED)
        self._finish(job, verdict.state, verdict.detail)

    def _say(self, job: str, notes: Iterable[str]) -> None:
        for words in notes:
            self._tell(Note(words, "warning", job))

    def _wanted(self, job: str, words: tuple[str, ...] = ()) -> None:
        """It runs: take over the process that a lost run left, or stand in line."""
        handle = self._lost.get(job)
        if handle is not None:
            self._orders.adopt(self._steps[job], handle)
            return
        self._make_way(job, words)

    def _make_way(self, job: str, words: tuple[str, ...] = ()) -> None:
        """Run it afresh: whoever reads what it is about to change goes first."""
        for reader in self._lost.readers(job):
            self._send_away(reader, Ending(_S.CANCELLED, f"{job} is made anew", "interrupted"))
        if self._lost.in_the_way(job):
            self._anew[job] = words
        else:
            self._enqueue(job, words)

    def _enqueue(self, job: str, words: tuple[str, ...] = ()) -> None:
        """It is to run, unless its result is in the cache."""
        step = self._steps[job]
        if self.states[job] is _S.READY and self._orders.may_restore(step):
            self._orders.restore(step, words)
        else:
            self._queue(job, words)

    def _on_looked_up(self, message: terms.LookedUp) -> None:
        job, verdict, words = message
        self._say(job, verdict.notes)
        if self.states[job] is not _S.READY:
            return
        if verdict.state is _S.QUEUED:
            self._queue(job, words)
            return
        kept = Outcome(verdict.state, trace=verdict.trace)
        self._finish(job, verdict.state, verdict.detail, kept)

    def _queue(self, job: str, words: tuple[str, ...]) -> None:
        step = self._steps[job]
        cannot = impossible(self._leasing.request(step.job), self._leasing.gpus)
        if cannot:
            self._finish(job, _S.FAILED, cannot)
            return
        self.states.set(job, _S.QUEUED)
        self._room.enter(step.job, words)

    # -- queued -> running ----------------------------------------------------------------

    def _free_slots(self) -> int:
        return self._options.max_parallel - self.states.counts[_S.RUNNING] + self._left_slots

    def _has_slot(self) -> bool:
        # One that waits for its upstreams must not take the slot that these need.
        free = self._free_slots()
        if free > 0 and (self._lost.open or self._lost.busy):
            free -= len(self._lost.leaving)
            free -= sum(
                job in self.states and self.states[job] is _S.READY for job in self._lost.open
            )
        return free > 0

    def _keeps_slots(self) -> bool:
        """Whether what is left of them is for jobs with a GPU."""
        return self._kept_slots.takes(self._free_slots())

    def _choose_order(self) -> None:
        """Once the first jobs are on their way, so that nobody waits for it."""
        states = self.states
        gone = {job for job in self._steps if states[job].ended}
        running = {job: one for job, one in self._live.items() if states[job] is _S.RUNNING}
        # Those that were taken over hold GPUs, too, though by no lease of ours.
        begun = {job: one.prepared.indices if one.prepared else () for job, one in running.items()}
        self._orders.choose(self._ordering.decision(gone, begun))

    def _on_chosen(self, message: terms.Chosen) -> None:
        if message.ranks is None or self._halted:
            return
        self._leasing.reserves = message.reserves
        self._room.reorder(message.ranks)
        if message.slots_kept:
            to_come = [step.job for job, step in self._steps.items() if not self.states[job].ended]
            self._kept_slots.keep(message.slots_kept, to_come)

    def _start(self, job: str, lease: Lease | None) -> None:
        one = self._live[job]
        one.lease, one.ending, one.prepared, one.handle = lease, None, None, None
        one.concluding = False
        self.states.set(job, _S.RUNNING)
        self._ordering.begins(job)
        self._orders.prepare(one.step, one.number, lease)

    def _on_readied(self, message: terms.Readied) -> None:
        job, prepared, detail = message
        one = self._live[job]
        if prepared is None:
            self._conclude_unstarted(job, one.ending or Ending(_S.FAILED, detail, "failed"))
            return
        one.prepared = prepared
        self._say(job, prepared.notes)
        if one.ending is not None:
            self._conclude_unstarted(job, one.ending)
            return
        self._by_token[prepared.attempt.token] = job
        self._to_submit.append(prepared.attempt)

    def _on_submitted(self, message: terms.Submitted) -> None:
        job, token, handle, detail = message
        one = self._live[job]
        self._ordering.has_begun(job)
        if handle is None:
            self._by_token.pop(token, None)
            words = detail or "could not start"
            self._conclude_unstarted(job, one.ending or Ending(_S.FAILED, words, "failed"))
            return
        one.handle = handle
        self._tell_started(one, adopted=False)
        if one.ending is not None:
            self._pilot.cancel([handle], one.step.job.grace, self._stops > 1)

    def _tell_started(self, one: Live, adopted: bool) -> None:
        assert one.prepared is not None
        self._watch.started(one.step, one.prepared)
        self._tell(live.started(one, adopted))

    # -- processes of a lost run ----------------------------------------------------------

    def _on_taken_over(self, message: terms.TakenOver) -> None:
        job, prepared = message
        if self.states[job] is not _S.READY:  # cancelled meanwhile, its process with it
            return
        if prepared is None:
            # Its folder is free once that process is gone, and that is written down.
            self._send_away(job, _UNWANTED)
            self._make_way(job)
            return
        one = self._live[job]
        one.handle, exit = self._lost.take(job)
        self._by_token[one.handle.token] = job
        one.prepared, one.number, one.adopted = prepared, prepared.attempt.number, True
        self.states.set(job, _S.RUNNING)
        self._tell_started(one, adopted=True)
        if exit is not None:
            self._conclude(job, exit)

    def _send_away(self, job: str, ending: Ending) -> None:
        """Stop what a lost run left of a job that is not to run. The run waits for its end."""
        sent = self._lost.send_away(job, ending)
        if sent is None:
            return
        handle, alive = sent
        if alive:
            self._pilot.cancel([handle], self._lost.step(job).job.grace, self._stops > 1)
        else:
            self._drop(job, ending)

    def _drop(self, job: str, ending: Ending) -> None:
        self._lost.dropping.add(job)
        self._orders.record(self._lost.step(job), ending, terms.Dropped(job))

    def _on_dropped(self, message: terms.Dropped) -> None:
        self._lost.dropping.discard(message.job)
        for job in [job for job in self._anew if not self._lost.in_the_way(job)]:
            words = self._anew.pop(job)
            if self.states[job] is _S.READY:
                self._enqueue(job, words)

    # -- running -> ended -----------------------------------------------------------------

    def _on_exit(self, message: terms.Exited) -> None:
        token, exit = message
        job = self._by_token.get(token)
        if job is not None:
            self._conclude(job, exit)
        elif (gone := self._lost.ended(token, exit)) is not None:
            self._drop(*gone)

    def _conclude(self, job: str, exit: Exit) -> None:
        one = self._live[job]
        prepared = one.prepared
        assert prepared is not None
        if exit.cold and exit.cold not in self._told_cold:
            self._told_cold.add(exit.cold)
            self._tell(Note(f"`warm`: {job} started cold: {exit.cold}", job=job))
        self._watch.ended(job, exit.code != 0)
        self._by_token.pop(prepared.attempt.token, None)
        if exit.code == 0:
            # Digesting what it made may take a while, and needs no GPU. After a failure it is
            # kept until that is understood: the next must not get a GPU that is lost.
            self._release(one)
            if coming := self.states.waits_only_for(job):
                self._room.expect(job, coming, self._clock())
        one.concluding, one.cpu = True, exit.cpu
        took = max(0.0, exit.finished - (exit.started or prepared.began))
        self.gpu_seconds += took * prepared.gpus
        brief = self._orders.conclude(one.step, prepared, exit, one.ending, took)
        if brief and exit.code == 0:
            # Who goes next in any case need not wait for that moment, unless it may end the run, or
            # have this job tried again.
            self._room.expect_soon(job, self.states.waits_for(job))
            last = one.number > one.step.job.retry.limit
            one.left_slot = last and not self._options.fail_fast
            self._left_slots += one.left_slot

    def _conclude_unstarted(self, job: str, ending: Ending) -> None:
        """The attempt ended before it had a process."""
        one = self._live[job]
        self._ordering.has_begun(job)
        self._release(one)
        one.concluding = True
        outcome = Outcome(ending.state, ending.detail)
        self._orders.record(one.step, ending, terms.Concluded(job, outcome, None))

    def _release(self, one: Live) -> None:
        if one.lease is not None:
            self._leasing.release(one.lease)
            one.lease = None

    def _on_outcome(self, message: terms.Concluded) -> None:
        job, outcome, took = message
        one = self._live[job]
        self._room.arrived(job)
        self._left_slots -= one.left_slot
        one.left_slot = False
        if outcome.lost_gpu is not None:
            self._lose_gpu(outcome.lost_gpu)
        self._release(one)
        left = one.number <= one.step.job.retry.limit
        # What the run itself ended, or is about to end, is not tried again.
        stopping = one.ending is not None or self._halted is not None
        if outcome.state is _S.FAILED and outcome.retryable and left and not stopping:
            self._again(one, one.pause(), outcome.detail)
            one.number += 1
        elif outcome.state is _S.CANCELLED and one.adopted and not stopping:
            # Somebody asked it to stop before we came; of us it is asked to run.
            self._again(one, 0.0, "was being stopped when its run was lost")
        else:
            if outcome.state is _S.DONE and not stopping:
                self._sharing.add(one.step)
            self._finish(job, outcome.state, outcome.detail, outcome, took)

    def _on_shared(self, message: terms.Shared) -> None:
        self._say(message.job, message.notes)
        self._sharing.done()

    def _lose_gpu(self, device: int) -> None:
        self._leasing.set_aside(device)
        self._kept_slots.refit()
        self._tell(Note(f"GPU {device} is lost; this run goes on without it", "warning"))
        for job in self._room.refit({name: step.job for name, step in self._steps.items()}):
            if self.states[job].ended:  # by the end of one before it
                continue
            request = self._leasing.request(self._steps[job].job)
            self._finish(job, _S.FAILED, impossible(request, self._leasing.gpus))

    def _again(self, one: Live, wait: float, detail: str) -> None:
        """In line once more, in `wait` seconds."""
        job = one.step.job.name
        self.states.set(job, _S.RETRYING)
        self._tell(JobRetrying(job, one.number, wait, detail))
        heappush(self._retries, (self._clock() + wait, job))
        one.start_over()

    def _finish(
        self,
        job: str,
        state: JobState,
        cause: str = "",
        outcome: Outcome | None = None,
        took: float | None = None,
    ) -> None:
        """A job's last change."""
        one = self._live.pop(job, None)
        changes = self.states.set(job, state, cause)
        self._tell(live.finished(job, state, cause, one, outcome, took))
        self._after(changes)
        if state is _S.FAILED and self._options.fail_fast and not self._halted:
            self._halt(Ending(_S.CANCELLED, f"{job} failed (--fail-fast)", "cancelled"), "failed")

    # -- stopping -------------------------------------------------------------------------

    def _on_stop(self, message: terms.StopAsked) -> None:
        name = message.name
        if self._stops and name == "SIGHUP":
            return  # a shell hands on what the terminal has said already, which means no hurry
        self._stops += 1
        if self._stops == 1:
            self._halted = None  # a signal is what the run ends by, whatever came before
            self._halt(Ending(_S.CANCELLED, name, "interrupted"), "interrupted")
        elif self._stops == 2:
            handles = [one.handle for one in self._live.values() if one.handle is not None]
            handles += self._lost.leaving
            self._pilot.cancel(handles, 0.0, True)
        elif self._stops == 3:
            self._let_go(f"still running; left alone after three times {name}")

    def _on_broken(self, message: terms.Broken) -> None:
        self._tell(Note(f"the executor does not answer: {message.detail}", "warning"))
        if not message.fatal:
            return
        self._let_go(f"lost touch with its process ({message.detail}); run again to take it over")
        self._halt(Ending(_S.CANCELLED, "the executor does not answer", "interrupted"), "failed")

    def _let_go(self, words: str) -> None:
        """Wait for no process any more. Their records stay open, so the next run finds them."""
        self._lost.forget()
        for job, one in list(self._live.items()):
            if self.states[job] is _S.RUNNING and one.handle and not one.concluding:
                assert one.prepared is not None
                self._by_token.pop(one.prepared.attempt.token, None)
                self._watch.ended(job)
                self._release(one)
                self._finish(job, _S.FAILED, words)

    def _halt(self, ending: Ending, run_state: str) -> None:
        """Start nothing any more, and end everything."""
        self._halted = self._halted or ending
        self._run_state = run_state
        self._sharing.stop()
        self._ordering.abandon()
        rest = ending
        if ending.state is _S.FAILED:  # what has not started cannot have failed
            rest = Ending(_S.CANCELLED, ending.detail, "cancelled")
        # From the end of the plan: nobody is blocked by an upstream that goes first.
        for job in reversed(self._steps):
            state = self.states[job]
            if not state.ended:
                self._end(job, ending if state is _S.RUNNING else rest)

    def _end(self, job: str, ending: Ending) -> None:
        """Bring one job to its end, whatever it is doing."""
        state = self.states[job]
        if state.ended:
            return
        one = self._live.get(job)
        if state is not _S.RUNNING:
            self._send_away(job, ending)
            self._finish(job, _S.CANCELLED, ending.detail)
            return
        assert one is not None
        if one.concluding or one.ending is not None:
            return
        one.ending = ending
        if one.handle is not None:
            self._pilot.cancel([one.handle], one.step.job.grace, self._stops > 1)
