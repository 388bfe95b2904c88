"""A widget that shows lines of styled text, made anew when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from oumi_flow.ui.theme import Line
from oumi_flow.ui.tui.theme import Look

Paint = Callable[[int], Sequence[Line]]  # columns -> lines


class Painted(Widget):
    """`paint` is asked for the lines of a width; nothing in them is markup."""

    DEFAULT_CSS = "Painted { height: auto; width: 1fr; }"

    def __init__(self, look: Look, paint: Paint, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.look, self._paint = look, paint
        self._lines: Sequence[Line] = ()
        self._width = 0

    def repaint(self) -> None:
        """Ask for the lines anew; only those that differ are drawn, and only then."""
        if not self._width:
            return
        lines = list(self._paint(self._width))
        if lines == self._lines:
            return
        grown = len(lines) != len(self._lines)
        self._lines = lines
        self.refresh(layout=grown and self.styles.auto_dimensions)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        self._fill(width)
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        self._fill(width)
        return self.look.strip(self._lines[y] if y < len(self._lines) else [], width)

    def _fill(self, width: int) -> None:
        if width != self._width:
            self._width, self._lines = width, list(self._paint(width))
