"""Which view a run gets, and what it is given: the tails of logs, progress, a clock, signals."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from oumi_flow.events import Event
from oumi_flow.typed import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import argparse

    from oumi_flow.commands.opening import Opened
    from oumi_flow.model import Progress
    from oumi_flow.store import Store

_TAIL = 12
_TICK = 5.0  # seconds between looks whether a sign of life is due


class Drawer(Protocol):
    """What a view of ui/ offers."""

    def __call__(self, event: Event) -> None: ...
    def tick(self, now: float) -> None: ...
    def close(self) -> None: ...


class Latest(Protocol):
    """Where running jobs are, as the run's watcher knows it."""

    def latest(self, job: str) -> Progress | None: ...


class View:
    """A drawer with its clock. A drawer that fails is dropped with a word: the run goes on."""

    def __init__(self, drawer: Drawer) -> None:
        self._drawer: Drawer | None = drawer
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        self._do(lambda drawer: drawer(event))

    def close(self) -> None:
        self._do(lambda drawer: drawer.close())

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Let the drawer know the time now and then."""
        over = threading.Event()

        def tick() -> None:
            while not over.wait(_TICK):
                self._do(lambda drawer: drawer.tick(time.time()))

        thread = threading.Thread(target=tick, name="clock", daemon=True)
        with suppress(RuntimeError):  # the system gives no more
            thread.start()
        try:
            yield
        finally:
            over.set()
            if thread.ident is not None:
                thread.join()

    def _do(self, act: Callable[[Drawer], None]) -> None:
        with self._lock:
            if self._drawer is None:
                return
            try:
                act(self._drawer)
            except Exception as fault:  # noqa: BLE001 - a failing view never fails a run
                self._drawer = None
                if isinstance(fault, OSError):
                    forget_stdout()
                if not isinstance(fault, BrokenPipeError):
                    words = (
                        f"cannot write: {fault.strerror}" if isinstance(fault, OSError) else fault
                    )
                    print(f"warning: the view stopped, the run goes on: {words}", file=sys.stderr)


def forget_stdout() -> None:
    """Forget what stdout has not taken, or the interpreter complains about it at its end."""
    import os
    from contextlib import suppress

    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class Json:
    """Events as they are, a line each."""

    def __call__(self, event: Event) -> None:
        from oumi_flow.events import to_line

        sys.stdout.write(to_line(event) + "\n")
        sys.stdout.flush()

    def tick(self, now: float) -> None: ...
    def close(self) -> None: ...


def open_view(options: argparse.Namespace, opened: Opened, watch: Latest) -> View:
    """The view that flags, file and terminal ask for."""
    tail = tails(opened.store)
    if options.json:
        return View(Json())
    if wants_screen() and not options.quiet:
        return View(live(tail, watch.latest, options.verbose))
    from oumi_flow.ui.plain import Plain

    return View(
        Plain(
            sys.stdout,
            verbose=options.verbose,
            quiet=options.quiet,
            tail=tail,
            progress=watch.latest,
        )
    )


def wants_screen() -> bool:
    """Whether to draw a block that redraws itself: on a terminal that can show it."""
    from oumi_flow.ui.theme import theme_of

    return theme_of(sys.stdout).screen


def live(
    tail: Callable[[str], Sequence[str]],
    progress: Callable[[str], Progress | None],
    verbose: int = 0,
) -> Drawer:
    from oumi_flow.ui.live import Live

    drawer = Live(sys.stdout, progress=progress, tail=tail, verbose=verbose)
    drawer.start()
    return drawer


def tails(store: Store) -> Callable[[str], Sequence[str]]:
    """The last lines of a job's newest log, without its head, for whoever shows failures."""
    return lambda job: last_words(store, job, _TAIL)


def last_words(store: Store, job: str, most: int) -> list[str]:
    from oumi_flow.diagnose import last_lines

    lines = last_lines(store.paths.log(job), most)
    return [line for line in lines if not line.startswith("# run ")]


@contextmanager
def stopped_by_signals(request: Callable[[str], None]) -> Iterator[None]:
    """Hand SIGINT, SIGTERM and SIGHUP to `request`, by name, for the time of a run."""

    def heard(number: int, _frame: Any) -> None:
        request(signal.Signals(number).name)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A run under nohup keeps its SIGHUP ignored, as its user asked.
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue
        before[number] = signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
