"""Lines of styled text that scroll, drawn as far as they are in sight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBarRender
from textual.strip import Strip

from oumi_flow.ui.theme import Line
from oumi_flow.ui.tui.theme import Look


class _PlainBar(ScrollBarRender):
    """Whole cells only: the parts of cells that Textual draws the ends with are not ASCII."""

    VERTICAL_BARS: ClassVar = [" "] * 8


def keep_ascii(widget: ScrollView, look: Look) -> None:
    """The scrollbar in characters that the terminal has."""
    if not look.theme.unicode:
        widget.vertical_scrollbar.renderer = _PlainBar  # type: ignore[misc]


class TextPane(ScrollView, can_focus=True):
    """`paint` makes the lines for a width; `repaint` asks it again."""

    DEFAULT_CSS = """
    TextPane { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 0; scrollbar-gutter: stable; }
    """
    BINDINGS: ClassVar = [
        Binding("j,down", "scroll_down", "a line down", id="down"),
        Binding("k,up", "scroll_up", "a line up", id="up"),
        Binding("G,end", "scroll_end", "the end", id="bottom"),
        Binding("home", "scroll_home", "the beginning", id="top"),
    ]

    def __init__(
        self, look: Look, paint: Callable[[int], Sequence[Line]], *, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.look, self._paint = look, paint
        self.lines: Sequence[Line] = ()

    def repaint(self) -> None:
        """Ask for the lines anew; draws only if they differ."""
        width = self.scrollable_content_region.width
        lines = self._paint(width) if width > 0 else ()
        if lines != self.lines:
            self.lines = lines
            self.virtual_size = Size(width, len(lines))
            self.refresh()

    def on_mount(self) -> None:
        keep_ascii(self, self.look)

    def on_resize(self) -> None:
        self.repaint()

    def render_line(self, y: int) -> Strip:
        place = y + round(self.scroll_y)
        width = self.scrollable_content_region.width
        return self.look.strip(self.lines[place] if place < len(self.lines) else [], width)
