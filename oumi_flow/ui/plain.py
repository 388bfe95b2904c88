"""Plain lines for pipes, CI and simple terminals: one for each change of state, and the plan.

Draws a board of its own from the events it is given. Does not know where they come from, and does
without rich.
"""

from __future__ import annotations

from collections.abc import Callable

from oumi_flow.board import Board, apply
from oumi_flow.events import Event, RunFinished
from oumi_flow.model import Progress
from oumi_flow.typed import TextIO
from oumi_flow.ui.lines import Tail, Teller, no_tail
from oumi_flow.ui.planned import plan_lines
from oumi_flow.ui.theme import Line, Theme, theme_of

BEAT_SECONDS = 60.0


class Plain:
    """A view: call it with each event, and `tick` now and then.

    Writes to `stream` at once. `tail` gives the last lines of a job's log, `progress` where a
    running job is. Raises what the stream raises.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        theme: Theme | None = None,
        verbose: int = 0,
        quiet: bool = False,
        tail: Tail = no_tail,
        progress: Callable[[str], Progress | None] | None = None,
    ) -> None:
        self._stream = stream
        self._theme = theme or theme_of(stream)
        self._quiet, self._progress = quiet, progress
        self.board = Board()
        self._teller = Teller(self.board, self._theme, verbose=verbose, quiet=quiet, tail=tail)
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        apply(self.board, event)
        self._write(self._teller.tell(event))
        self._last = max(self._last, event.at)
        if isinstance(event, RunFinished):
            self.close()

    def tick(self, now: float) -> None:
        """A sign of life if nothing changed for a minute. `now` in unix seconds."""
        if self._quiet or self.board.over or not self._last or now - self._last < BEAT_SECONDS:
            return
        self._last = now
        self._write(self._teller.beat(now, self._where))

    def close(self) -> None:
        self._stream.flush()

    def _where(self, job: str) -> str:
        progress = self._progress(job) if self._progress else None
        return progress_words(progress) if progress else ""

    def _write(self, lines: list[Line]) -> None:
        if lines:
            self._stream.write("".join(self._theme.render(line) + "\n" for line in lines))
            self._stream.flush()


def progress_words(progress: Progress) -> str:
    """`670/1000 steps`, `12 rows`, or "" when nothing is known."""
    if progress.done is None:
        return ""
    unit = f" {progress.unit}" if progress.unit else ""
    if progress.total:
        return f"{progress.done:g}/{progress.total:g}{unit}"
    return f"{progress.done:g}{unit}"


def plan_text(
    board: Board,
    theme: Theme,
    *,
    verbose: int = 0,
    orphans: tuple[str, ...] = (),
) -> str:
    """The plan of a dry run; `board` has seen RunStarted and Planned. Without the last newline."""
    lines = plan_lines(board, theme, verbose=verbose, orphans=orphans)
    return "\n".join(theme.render(line) for line in lines)
