"""Problems as a person reads them: place, words, the line at fault with a caret, what to do next.

Knows streams only by their theme; prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from oumi_flow.errors import Problem
from oumi_flow.typed import TextIO
from oumi_flow.ui import cells
from oumi_flow.ui.theme import Theme, theme_of

_TAB = 4
_ROOM = 60  # columns of a source line to show when the stream does not say


def show(problems: Iterable[Problem], stream: TextIO, theme: Theme | None = None) -> str:
    """All of them, one below the other, as text for `stream` without the last newline."""
    theme = theme or theme_of(stream)
    blocks = ["\n".join(_block(problem, theme)) for problem in problems]
    # Blocks of one line each read as a list; longer ones want air between them.
    return ("\n\n" if any("\n" in block for block in blocks) else "\n").join(blocks)


def _block(problem: Problem, theme: Theme) -> list[str]:
    message, *rest = problem.message.splitlines() or [""]
    where = problem.where
    if where is None:
        head = theme.paint("bad", "error:")
        lines = [f"{head} {theme.text(message)}", *(f"  {theme.text(line)}" for line in rest)]
    else:
        lines = [f"{theme.paint('strong', str(where))}: {theme.text(message)}"]
        lines += [f"  {theme.text(line)}" for line in rest]
        if where.source.strip():
            lines += _source(where.source, where.line, where.column, theme)
    if problem.hint:
        # Under the bar of the source, so that it reads as a remark on that line.
        shown = where is not None and bool(where.source.strip())
        indent = " " * (len(str(where.line)) + 2) if where and shown else "  "
        arrow = "= " if shown else ""
        lines.append(f"{indent}{theme.paint('good', arrow + problem.hint)}")
    return lines


def _source(source: str, number: int, column: int, theme: Theme) -> list[str]:
    before, after = _split(source.rstrip("\r\n"), column, theme)
    before, after = _window(
        before, after, (theme.width or _ROOM + 20) - len(str(number)) - 5, theme
    )
    margin = " " * len(str(number))
    bar = theme.paint("muted", " | ")
    lines = [f" {theme.paint('muted', str(number))}{bar}{before}{after}".rstrip()]
    if column:
        caret = " " * cells.width(before) + theme.paint("bad", "^")
        lines.append(f" {margin}{bar}{caret}")
    return lines


def _split(source: str, column: int, theme: Theme) -> tuple[str, str]:
    """The line before and from the caret on, as it will be shown."""
    shown = ""
    before: str | None = None
    for place, char in enumerate(source, 1):
        if place == column:
            before = shown
        # A tab takes as many columns as the terminal would give it at this place.
        shown += " " * (_TAB - cells.width(shown) % _TAB) if char == "\t" else theme.text(char)
    if before is None:
        before = shown
    return before, shown[len(before) :]


def _window(before: str, after: str, room: int, theme: Theme) -> tuple[str, str]:
    """A long line cut so that the place in question is in view."""
    room = max(room, 20)
    if cells.width(before) + cells.width(after) <= room:
        return before, after
    if cells.width(before) > room * 2 // 3:
        keep = room // 2
        while cells.width(before) > keep:
            before = before[max(1, (cells.width(before) - keep) // 2) :]
        before = theme.more + before
    return before, cells.fit(after, max(4, room - cells.width(before)), theme.more)
