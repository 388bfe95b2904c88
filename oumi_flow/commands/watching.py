"""A run as the screen sees it: a `Source` made of the run's files.

A thread of its own reads them, a few times a second and only what is new; the screen's calls take
what that thread has found. What takes long (loading the workflow, asking the driver, starting a
run) is documented so, and the screen calls it from a worker. Nothing here writes but wishes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from oumi_flow.board import Board, apply
from oumi_flow.commands.curves import Curve, Curves
from oumi_flow.errors import FlowError
from oumi_flow.events import Event, RunFinished, from_line
from oumi_flow.model import Progress
from oumi_flow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oumi_flow.commands.opening import Opened
    from oumi_flow.model import Job
    from oumi_flow.store import Store
    from oumi_flow.ui.tables import GpuRow, MetricRow
    from oumi_flow.ui.tui.source import JobFacts

_EVERY = 0.25  # seconds between two looks for events
_SLOW = 1.0  # … for progress, curves, and whether the run lives
_FIRST = 0.3  # seconds that the first poll waits for what has been told so far
_AT_ONCE = 5000  # events that one poll takes in
_FORGET = 40  # looks after which a job that nobody asks for is not looked at any more
_QUEUE = 20_000
_LETS_GO = 10.0  # seconds that a run which has told its end may hold its folder still


class Watching:
    """See `ui.tui.source.Source`. The process stands in the run's base folder."""

    def __init__(self, store: Store, run_id: str, path: str) -> None:
        self._store, self._path = store, path
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._asked: dict[str, int] = {}  # job -> looks since somebody asked for it
        self._progress: dict[str, Progress | None] = {}
        self._curves: dict[str, Curves] = {}
        self._reader: _Reader | None = None
        self.follow(run_id)

    # -- the run --------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        return self._run_id

    @property
    def store(self) -> Store:
        return self._store

    @property
    def path(self) -> str:
        """Of the workflow file."""
        return self._path

    @property
    def board(self) -> Board:
        return self._board

    @property
    def live(self) -> bool:
        return self._live and not self._board.over

    def follow(self, run_id: str) -> None:
        self.close()
        self._run_id, self._board, self._live = run_id, Board(), True
        self._board.run_id = run_id
        with self._lock:
            self._progress.clear()
            self._curves.clear()
        self._reader = _Reader(self._store, run_id, self._look)
        self._reader.start()

    def close(self) -> None:
        """Stop looking. Nothing may be asked after."""
        if self._reader is not None:
            self._reader.stop()
            self._reader = None

    def poll(self) -> bool:
        reader = self._reader
        if reader is None:
            return False
        before = self._board.version
        if not before:
            reader.caught_up.wait(_FIRST)
        for _ in range(_AT_ONCE):
            try:
                event = reader.events.get_nowait()
            except queue.Empty:
                break
            apply(self._board, event)
        else:
            return True
        self._live = not reader.gone
        if reader.gone and reader.caught_up.is_set() and not self._board.over:
            self._lose()
        return self._board.version != before

    def _lose(self) -> None:
        from oumi_flow.commands.targets import ends_without
        from oumi_flow.executors.handles import living

        found = living(self._store.paths.output_dir)
        ends = ends_without(self._run_id, self._store, self._board.running)
        self._board.lost({one.job for one in found if one.run_id == self._run_id}, ends)

    # -- values of jobs -------------------------------------------------------------------

    def progress(self, job: str) -> Progress | None:
        with self._lock:
            self._asked[job] = 0
            if job in self._progress:
                return self._progress[job]
        found = self._read_progress(job)
        with self._lock:
            self._progress[job] = found
        return found

    def curves(self, job: str) -> Mapping[str, Curve]:
        with self._lock:
            self._asked[job] = 0
            found = self._curves.get(job)
            if found is None:
                found = self._curves[job] = Curves(self._store.paths.job_folder(job))
                found.look()
        return found.known

    def log(self, job: str, back: int = 0) -> str:
        return self._store.paths.log(job, back)

    def _read_progress(self, job: str) -> Progress | None:
        with suppress(FlowError):
            return self._store.read_progress(job)
        return None

    def _look(self) -> None:
        """In the reader's thread: what the jobs say that somebody has lately asked for."""
        with self._lock:
            self._asked = {job: age + 1 for job, age in self._asked.items() if age < _FORGET}
            for job in [job for job in self._progress if job not in self._asked]:
                del self._progress[job]
            for job in [job for job in self._curves if job not in self._asked]:
                del self._curves[job]
            jobs = list(self._asked)
        for job in jobs:
            found = self._read_progress(job)
            with self._lock:
                self._progress[job] = found
                curves = self._curves.get(job)
                if curves is not None:
                    curves.look()

    # -- the workflow ---------------------------------------------------------------------

    def facts(self, job: str) -> JobFacts:
        from oumi_flow.commands.watching_facts import facts

        opened = self._open()
        found = (
            next((one for one in opened.workflow.jobs if one.name == job), None) if opened else None
        )
        return facts(self._store, self._board, job, found, self._siblings(found))

    def _siblings(self, job: Job | None) -> Sequence[Job]:
        if job is None or self._opened is None:
            return ()
        return [one for one in self._opened.workflow.jobs if one.verb == job.verb]

    def metrics(self) -> Sequence[MetricRow]:
        from oumi_flow.commands.numbers import rows

        opened = self._open()
        if opened is None:
            return ()
        try:
            return rows(opened, (), None)
        except FlowError:
            return ()

    def _open(self) -> Opened | None:
        """The workflow as it is now, with the flags of the run; None when it does not load."""
        if self._opened is None:
            from oumi_flow.commands.opening import open_all

            with suppress(FlowError, OSError):
                self._opened = open_all(self._options())
        return self._opened

    def _options(self) -> Any:
        from oumi_flow.parser import parse

        words = self._words()
        options = parse(words[0], words[1:])
        options.chdir = "."  # we stand there
        options.file = self._path
        return options

    def _words(self) -> list[str]:
        """The command line of the run, for a process that stands in its base folder."""
        from oumi_flow.commands.words import again
        from oumi_flow.store.runs import user_runs

        for run in user_runs():
            if run.run_id == self._run_id and run.argv:
                return again(run.argv)
        return ["run", self._path]

    # -- machine --------------------------------------------------------------------------

    def gpus(self) -> Sequence[GpuRow]:
        from oumi_flow.commands.gpus import gpu_rows

        try:
            return gpu_rows()
        except (FlowError, OSError):
            return ()

    # -- wishes ---------------------------------------------------------------------------

    def cancel(self, jobs: Sequence[str] | None) -> str:
        what = "the run" if jobs is None else ", ".join(jobs)
        try:
            if self.live:
                wish = {"kind": "cancel", "jobs": None if jobs is None else sorted(jobs)}
                self._store.request(self._run_id, wish)
                return f"asked the run to stop {'itself' if jobs is None else what}"
            from oumi_flow.commands.background import ask_for

            ask_for(["cancel", self._run_id, *(jobs or ())])
            return f"stopping what is left of {what}"
        except (FlowError, OSError) as fault:
            return str(fault)

    def run_again(self, jobs: Sequence[str]) -> str:
        from oumi_flow.commands.background import start
        from oumi_flow.commands.words import refuse_masked

        said: list[str] = []
        words = self._words()
        try:
            refuse_masked(words, self._run_id)
            self._await_its_end()
            run_id = start([*words, *jobs], self._store, tell=said.append)
        except (FlowError, OSError) as fault:
            return str(fault)
        return f"run {run_id} has begun" if run_id else "".join(said)

    def _await_its_end(self) -> None:
        """A run that has told its end still writes what spares the next one looks."""
        patience = time.monotonic() + _LETS_GO
        while self._board.over and self._store.is_live(self._run_id):
            if time.monotonic() >= patience:
                return
            time.sleep(_EVERY)

    def moved_on(self) -> str:
        newest = self._store.latest_run()
        return newest if newest is not None and newest > self._run_id else ""


class _Reader:
    """The thread that reads: events into a queue of bounded length, and whether the run lives."""

    def __init__(self, store: Store, run_id: str, look: Callable[[], None]) -> None:
        from oumi_flow.store.eventlog import Lines

        self.events: queue.Queue[Event] = queue.Queue(_QUEUE)
        self.caught_up = threading.Event()
        self.gone = False
        self._lines = Lines(store.paths.events(run_id))
        self._store, self._run_id, self._look = store, run_id, look
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        rounds, over, silent = 0, False, False
        while not self._stopped.is_set():
            quiet = True
            for line in self._lines.new():
                event = from_line(line)
                if event is not None:
                    quiet = False
                    over = over or isinstance(event, RunFinished)
                    if not self._put(event):
                        return
            if quiet and silent and not over:
                self.gone = True
            if quiet:
                self.caught_up.set()
            if rounds % round(_SLOW / _EVERY) == 0:
                # What a dying run wrote last is read once more before it counts as gone.
                silent = quiet and not over and not self._store.is_live(self._run_id)
                if not silent:
                    self.gone = False
                with suppress(FlowError, OSError, ValueError):
                    self._look()
            rounds += 1
            if quiet:
                self._stopped.wait(_EVERY)

    def _put(self, event: Event) -> bool:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self.events.put(event, timeout=_EVERY)
                return True
        return False
