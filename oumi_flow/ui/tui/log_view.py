"""A job's log on the screen: followed, searched, of this attempt or an earlier one.

`LogView.open` says where a job's logs lie; all else is keys. What is drawn is in log_lines.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from oumi_flow.ui.theme import Line
from oumi_flow.ui.tui.log_lines import LogLines, PathOf
from oumi_flow.ui.tui.theme import Look

if TYPE_CHECKING:
    from textual.app import ComposeResult


class LogView(Vertical):
    """The lines, and below them where in the log they are, or what to look for."""

    DEFAULT_CSS = """
    LogView { height: 1fr; }
    LogView > LogLines { height: 1fr; }
    LogView > LogFoot { height: 1; }
    LogView > Input {
        display: none; height: 1; border: none; padding: 0; background: transparent;
    }
    """
    BINDINGS: ClassVar = [
        Binding("f", "follow", "follow the log", id="log_follow"),
        Binding("slash", "ask", "search the log", id="log_search", key_display="/"),
        Binding("n", "next(1)", "next match", id="log_next"),
        Binding("N", "next(-1)", "previous match", id="log_previous"),
        Binding("e", "error", "first error, then the next", id="log_error"),
        Binding("w", "wrap", "wrap long lines", id="log_wrap"),
        Binding("left_square_bracket", "attempt(1)", "older attempt", id="log_older"),
        Binding("right_square_bracket", "attempt(-1)", "newer attempt", id="log_newer"),
        Binding("escape", "leave", "stop searching", id="log_leave", show=False),
    ]

    class Moved(Message):
        """Another place, attempt or way of showing: who tells of it may tell it anew."""

        def __init__(self, view: LogView) -> None:
            super().__init__()
            self.view = view

    def __init__(self, look: Look, *, id: str | None = None, foot: bool = True) -> None:
        super().__init__(id=id)
        self.look = look
        self._foot = foot
        self.lines = LogLines(look)
        self.asking = False  # what to look for

    def compose(self) -> ComposeResult:
        yield self.lines
        if self._foot:
            yield LogFoot(self)
        yield Input(placeholder="search the log", select_on_focus=True)

    # -- what others ask ----------------------------------------------------------------------

    def open(
        self, path_of: PathOf, *, back: int = 0, empty: str = "nothing was written yet"
    ) -> None:
        """Show the end of that log and follow it. `empty`: what to say while there is nothing."""
        self._ask(False)
        self.lines.open(path_of, back, empty)

    def focus(self, scroll_visible: bool = True) -> LogView:
        """Keys go to the lines."""
        self.lines.focus(scroll_visible)
        return self

    def search(self, words: str) -> None:
        """Go to the nearest match above what is in sight, and mark all of them."""
        self.lines.search(words)

    @property
    def path(self) -> str:
        """The log that is shown, whether it is there or not."""
        return self.lines.window.index.path

    @property
    def back(self) -> int:
        """0: the newest attempt is shown, 1: the one before it …"""
        return self.lines.back

    @property
    def following(self) -> bool:
        return self.lines.window.follow

    def words(self) -> Line:
        """Where in which log it is, for a title or a status line."""
        return self.lines.words()

    # -- keys ---------------------------------------------------------------------------------

    def action_follow(self) -> None:
        self.lines.follow(not self.following)

    def action_ask(self) -> None:
        self._ask(True)
        self.query_one(Input).focus()

    def action_next(self, step: int) -> None:
        self.lines.go_on(step)

    def action_error(self) -> None:
        self.lines.error()

    def action_wrap(self) -> None:
        self.lines.wrap()

    def action_attempt(self, step: int) -> None:
        self.lines.attempt(step)

    def action_leave(self) -> None:
        if self.asking:
            self._ask(False)
            self.lines.focus()
        else:
            self.lines.forget()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # What has nothing to leave lets the key go on to whoever shows this.
        if action == "leave":
            return self.asking or self.lines.searched
        return not (action == "next" and not self.lines.needle)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()  # who shows this has inputs of its own

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_leave()
        self.lines.search(event.value)

    def on_input_blurred(self) -> None:
        self._ask(False)

    def _ask(self, on: bool) -> None:
        # Not by a class: what is hidden by a rule takes no keys until the rules are read again.
        self.asking = on
        for field in self.query(Input):
            field.display = on
        for foot in self.query(LogFoot):
            foot.display = not on

    def on_log_lines_moved(self, event: LogLines.Moved) -> None:
        event.stop()
        for foot in self.query(LogFoot):
            foot.refresh()
        self.post_message(self.Moved(self))


class LogFoot(Widget):
    """Where in the log one is, on one line."""

    def __init__(self, view: LogView) -> None:
        super().__init__()
        self._view = view

    def render_line(self, y: int) -> Strip:
        return self._view.look.strip(self._view.words(), self.size.width)
