"""The command palette: every action by its words, and every job by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from oumi_flow.ui import cells
from oumi_flow.ui.theme import STATE_STYLE, Line
from oumi_flow.ui.tui.painted import Painted
from oumi_flow.ui.tui.theme import Look

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

_MOST = 200  # of what fits the words; nobody reads further


class Choice(NamedTuple):
    """Something to do: its words, its keys or state, and the meaning of that one's style."""

    words: str
    aside: str
    style: str
    act: Callable[[], object]


class Palette(ModalScreen[Choice | None]):
    """Type to narrow, Enter to do. `choices` is asked anew each time the words change."""

    DEFAULT_CSS = """
    Palette { align: center top; background: transparent; }
    Palette > Vertical { width: 76; max-width: 100%; height: auto; max-height: 80%;
        margin: 2 0 0 0; border: round $primary; background: $surface; padding: 0 1; }
    Palette.low > Vertical { margin: 0; max-height: 100%; }
    Palette Input { padding: 0 0 0 2; background: $surface; }
    Palette Painted { height: 1fr; }
    """
    BINDINGS: ClassVar = [
        Binding("escape", "leave", "back", show=False),
        Binding("down,ctrl+n", "move(1)", show=False),
        Binding("up,ctrl+p", "move(-1)", show=False),
        Binding("pagedown", "move(10)", show=False),
        Binding("pageup", "move(-10)", show=False),
    ]

    def __init__(self, look: Look, choices: Callable[[], Iterable[Choice]]) -> None:
        super().__init__()
        self._look, self._choices = look, choices
        self._found: Sequence[Choice] = ()
        self._at = 0
        self._top = 0

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = "Do"
            yield Input(placeholder="an action, or the name of a job", compact=True)
            yield Painted(self._look, self._lines, id="found")

    def on_mount(self) -> None:
        low = self.app.size.height < 16
        self.set_class(low, "low")
        self._narrow("")
        self.query_one(Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._narrow(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._do(self._at)

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_move(self, step: int) -> None:
        self._at = min(max(0, self._at + step), max(0, len(self._found) - 1))
        self._show()

    def on_click(self, event: events.Click) -> None:
        shown = self.query_one("#found", Painted).region
        if shown.contains(event.screen_x, event.screen_y):
            self._do(self._top + event.screen_y - shown.y)

    def _do(self, place: int) -> None:
        if place < len(self._found):
            self.dismiss(self._found[place])

    def _narrow(self, words: str) -> None:
        wanted = words.casefold().split()
        ranked = [
            (rank, n, choice)
            for n, choice in enumerate(self._choices())
            if (rank := _rank(choice.words.casefold(), wanted)) is not None
        ]
        ranked.sort(key=lambda one: one[:2])
        self._found = [choice for _, _, choice in ranked[:_MOST]]
        self._at = self._top = 0
        self.query_one("#found", Painted).styles.height = min(len(self._found) or 1, 16)
        self._show()

    def _show(self) -> None:
        self.query_one("#found", Painted).repaint()

    def _lines(self, width: int) -> list[Line]:
        high = max(1, self.query_one("#found").size.height)
        self._top = min(self._at, max(self._top, self._at - high + 1))
        if not self._found:
            return [[("muted", "  nothing of that name")]]
        theme = self._look.theme
        lines: list[Line] = []
        for n in range(self._top, min(self._top + high, len(self._found))):
            choice = self._found[n]
            chosen = n == self._at
            edge = ("mark", "▌ " if theme.unicode else "> ") if chosen else ("", "  ")
            aside = theme.text(choice.aside)
            room = width - 4 - cells.width(aside)
            words = cells.fit(theme.text(choice.words), room, theme.more)
            lines.append(
                [
                    edge,
                    ("chosen" if chosen else "", cells.pad(words, room)),
                    ("", "  "),
                    (choice.style, aside),
                ]
            )
        return lines


def _rank(text: str, wanted: Sequence[str]) -> int | None:
    """How well the words fit, less is better; None when one of them is not there."""
    if not all(word in text for word in wanted):
        return None
    return sum(not text.startswith(word) for word in wanted)


def state_style(state: str) -> str:
    return STATE_STYLE.get(state, "muted")
