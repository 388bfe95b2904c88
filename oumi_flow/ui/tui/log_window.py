"""The lines of a log that fit a window, and how the window moves over it.

Pure but for the log itself: knows no screen. A window begins at a byte of the log and, where lines
are wrapped, at a row of that line; so it stays where it is however the log grows.
"""

from __future__ import annotations

from oumi_flow.dataclass import dataclass
from oumi_flow.ui import cells
from oumi_flow.ui.tui.log_errors import kind_of
from oumi_flow.ui.tui.log_index import LogIndex, LogLine

_TAB = 20  # columns that the window moves to the side


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the window: the line it is of, which row of it, and what of it is shown."""

    line: LogLine
    part: int
    text: str
    kind: str  # the meaning of its style


class Window:
    """`rows` is what is shown; call `fill` after the log, the size or the place have changed."""

    def __init__(self, index: LogIndex) -> None:
        self.index = index
        self.width, self.height = 80, 1
        self.wrap = False
        self.follow = True  # the end of the log stays in sight
        self.left = 0  # columns of each line that are out of sight
        self.top = 0  # byte
        self.part = 0  # rows of the first line that are out of sight
        self.rows: list[Row] = []

    @property
    def at_start(self) -> bool:
        return not self.rows or (self.rows[0].line.start, self.rows[0].part) == (0, 0)

    @property
    def at_end(self) -> bool:
        """Whether the last line of the log is in sight."""
        return not self.rows or self.rows[-1].line.end >= self.index.size

    @property
    def shares(self) -> tuple[float, float]:
        """What part of the log is shown, as bytes go: begin and end, 0 to 1."""
        if not self.rows or not self.index.size:
            return 0.0, 1.0
        return self.rows[0].line.start / self.index.size, self.rows[-1].line.end / self.index.size

    def fill(self) -> None:
        """Read what is shown now. Without a blank below the end, unless the log is shorter."""
        if not self.follow:
            self.rows = self._down(self.top, self.part, self.height)
            if len(self.rows) == self.height:
                return
        self.rows = self._up(self.index.size, 0, self.height)
        self._begin()

    def move(self, rows: int) -> None:
        """Down by that many rows, up if negative, as far as there are any."""
        if rows < 0:
            above = self._up(self.top, self.part, -rows)
            if above:
                self.follow = False
                self.top, self.part = above[0].line.start, above[0].part
        elif not self.follow:
            below = self._down(self.top, self.part, rows + 1)
            if below:
                self.top, self.part = below[-1].line.start, below[-1].part
        self.fill()

    def move_to(self, at: int, above: int = 0) -> None:
        """So that the line of byte `at` is in sight, `above` rows below the top."""
        self.follow, self.top, self.part = False, self.index.start(at), 0
        if above:
            self.move(-above)
        self.fill()

    def shows(self, start: int) -> bool:
        """Whether the line that begins there is in sight."""
        return any(row.line.start == start for row in self.rows)

    def aside(self, steps: int) -> None:
        """To the right, or to the left if negative, up to the end of the longest line shown."""
        longest = max((cells.width(row.line.text) for row in self.rows), default=0)
        most = max(0, longest - self.width)
        self.left = 0 if self.wrap else max(0, min(self.left + steps * _TAB, most))

    # -- rows ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self.rows:
            self.top, self.part = self.rows[0].line.start, self.rows[0].part
        else:
            self.top = self.part = 0

    def _down(self, top: int, part: int, count: int) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < count:
            lines = self.index.after(top, count - len(rows))
            if not lines:
                break
            for line in lines:
                rows += self._rows_of(line)[part:]
                part = 0
            top = lines[-1].end
        return rows[:count]

    def _up(self, end: int, part: int, count: int) -> list[Row]:
        """The rows above row `part` of the line that begins at `end`."""
        rows: list[Row] = []
        if part:
            rows = [row for line in self.index.after(end, 1) for row in self._rows_of(line)[:part]]
        while len(rows) < count and end > 0:
            lines = self.index.before(end, count - len(rows))
            if not lines:
                break
            rows = [*(row for line in lines for row in self._rows_of(line)), *rows]
            end = lines[0].start
        return rows[-count:]

    def _rows_of(self, line: LogLine) -> list[Row]:
        kind = kind_of(line.text)
        if not self.wrap:
            return [Row(line, 0, line.text, kind)]
        return [
            Row(line, part, text, kind) for part, text in enumerate(broken(line.text, self.width))
        ]


def broken(text: str, columns: int) -> list[str]:
    """The text in pieces of at most that many columns; no character is lost."""
    if columns <= 0 or cells.width(text) <= columns:
        return [text]
    if text.isascii():
        return [text[at : at + columns] for at in range(0, len(text), columns)]
    pieces, piece, used = [], "", 0
    for char in text:
        wide = cells.char_width(char)
        if used + wide > columns and piece:
            pieces.append(piece)
            piece, used = "", 0
        piece += char
        used += wide
    return [*pieces, piece]


def cropped(text: str, left: int) -> str:
    """The text without its first `left` columns."""
    if left <= 0:
        return text
    if text.isascii():
        return text[left:]
    for at, char in enumerate(text):
        if left <= 0:
            return text[at:]
        left -= cells.char_width(char)
    return ""
