"""The live block on a terminal: what runs, redrawn; what ended scrolls by above it.

A view like the plain one: call it with each event. Events only leave notes for a thread of its
own, which draws at most eight times a second, so a burst of a thousand ends costs one picture.
rich is imported when the block is started.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from types import TracebackType

from oumi_flow.board import Board, apply
from oumi_flow.board.outlook import TimeLeft, forecast
from oumi_flow.events import Event, RunFinished
from oumi_flow.model import Progress
from oumi_flow.typed import TYPE_CHECKING, TextIO
from oumi_flow.ui.frame import ends, frame
from oumi_flow.ui.lines import Tail, Teller, no_tail
from oumi_flow.ui.theme import RICH, Line, Theme, theme_of

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live as Block
    from rich.text import Text

FRAME_SECONDS = 0.125
_PROGRESS_SECONDS = 0.5  # progress is written twice a second at most
_LEFT_SECONDS = 1.0  # for each 1000 jobs: the time left is worked out by walking all of them


def no_progress(job: str) -> Progress | None:
    return None


class Live:
    """Use as a context manager, or `start` and `close`; closes itself after RunFinished.

    `progress` is asked where a running job is, at most twice a second, in the drawing thread.
    A fault while drawing is raised by the next call.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        progress: Callable[[str], Progress | None] = no_progress,
        tail: Tail = no_tail,
        verbose: int = 0,
        theme: Theme | None = None,
        clock: Callable[[], float] = time.time,
        size: tuple[int, int] | None = None,
    ) -> None:
        """`size`: columns and lines, for tests; else the terminal's own, asked at each frame."""
        self._stream, self._clock, self._size = stream, clock, size
        self._theme = theme or theme_of(stream)
        self._ask = progress
        self.board = Board()
        self._teller = Teller(self.board, self._theme, verbose=verbose, scrolls=True, tail=tail)
        self._lock = threading.Lock()  # of the board and of the lines that wait to be printed
        self._lines: list[Line] = []
        self._known: dict[str, tuple[float, Progress | None]] = {}
        self._left: tuple[float, TimeLeft | None] = (0.0, None)
        self._console: Console | None = None
        self._block: Block | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._fault: Exception | None = None

    # -- as a view ------------------------------------------------------------------------

    def __call__(self, event: Event) -> None:
        if self._fault is not None:
            raise self._fault
        with self._lock:
            apply(self.board, event)
            self._lines += self._teller.tell(event)
        if isinstance(event, RunFinished):
            self.close()

    def tick(self, now: float) -> None:
        """Nothing to do: the block shows by itself that the run is alive."""

    def __enter__(self) -> Live:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        from rich.console import Console
        from rich.live import Live as Block

        columns, lines = self._size or (None, None)
        self._console = Console(
            file=self._stream,
            width=columns,
            height=lines,
            force_terminal=self._theme.screen,
            no_color=not self._theme.color,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._block = Block(
            _Picture(self), console=self._console, auto_refresh=False, transient=True
        )
        self._block.start()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the block away, and print what is still to be said. The cursor is shown again."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None
        block, self._block = self._block, None
        if block is not None:
            block.stop()
        self._print()

    # -- the drawing thread ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stop.wait(FRAME_SECONDS):
                self.draw()
        except Exception as fault:  # noqa: BLE001 - a failing view is dropped, the run goes on
            self._fault = fault
            if self._block is not None:
                self._block.stop()
                self._block = None

    def draw(self) -> None:
        """One frame, below the lines that have come up since the last one."""
        if not self._print() and self._block is not None:
            self._block.refresh()

    def _print(self) -> bool:
        with self._lock:
            lines, self._lines = self._lines, []
        if not lines or self._console is None:
            return False
        from rich.text import Text

        text = Text("\n").join([self.as_text(line) for line in lines])
        # Soft: a terminal wraps and unwraps long lines better than we could.
        self._console.print(text, soft_wrap=True)
        return True

    def picture(self, columns: int, lines: int) -> list[Text]:
        if self._fault is not None:
            return []  # taking the block away draws it once more
        now = self._clock()
        theme = Theme(self._theme.color, self._theme.encoding, columns, self._theme.screen)
        with self._lock:
            visible = list(islice(self.board.running, lines))
        self._look(visible, now)  # not under the lock: it may read files
        with self._lock:
            if now - self._left[0] >= _LEFT_SECONDS * max(1.0, self.board.total / 1000):
                known = ends(self.board, self._where, now)
                self._left = (now, forecast(self.board, now, known)[0])
            drawn = frame(self.board, theme, lines, now, self._where, self._left[1])
        return [self.as_text(line) for line in drawn]

    def _look(self, jobs: list[str], now: float) -> None:
        known = self._known
        self._known = {job: known[job] for job in jobs if job in known}
        for job in jobs:
            if now - self._known.get(job, (0.0, None))[0] >= _PROGRESS_SECONDS:
                self._known[job] = (now, self._ask(job))

    def _where(self, job: str) -> Progress | None:
        return self._known.get(job, (0.0, None))[1]

    def as_text(self, line: Line) -> Text:
        """Styled text for rich. Nothing in it is read as markup."""
        from rich.text import Text

        text = Text(no_wrap=True, overflow="crop", end="")
        for style, words in line:
            text.append(self._theme.text(words), RICH.get(style))
        return text


class _Picture:
    """What rich draws: asked anew for each frame, so that it fits the terminal of that moment."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        from rich.text import Text

        # The last line stays free: a block as high as the window makes it scroll.
        pictures = self._live.picture(options.max_width, max(1, options.size.height - 1))
        yield Text("\n").join(pictures)
