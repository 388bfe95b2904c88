"""Small windows over the screen: a question with its answers, and a text to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.screen import ModalScreen

from oumi_flow.ui.layout import paragraph
from oumi_flow.ui.theme import Line, line_width
from oumi_flow.ui.tui.painted import Painted
from oumi_flow.ui.tui.theme import Look

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

# An answer: its key, what it means, its value.
Answer = tuple[str, str, str]


class Key(Painted):
    """An answer that can be clicked."""

    class Picked(Message):
        def __init__(self, value: str) -> None:
            super().__init__()
            self.value = value

    def __init__(self, look: Look, answer: Answer) -> None:
        key, words, self.value = answer
        line: Line = [("key", key), ("", f" {words}")]
        super().__init__(look, lambda _: [line])
        self.styles.width = line_width(line) + 3
        self.styles.height = 1

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.post_message(self.Picked(self.value))


class Question(ModalScreen[str]):
    """Answers with the value of the key that was pressed; Escape answers ""."""

    DEFAULT_CSS = """
    Question { align: center middle; background: transparent; }
    Question > Vertical { width: auto; max-width: 100%; height: auto; max-height: 100%;
        border: round $primary; background: $surface; padding: 1 2; }
    Question.low > Vertical { padding: 0 1; }
    Question .text { width: 64; max-width: 100%; height: auto; max-height: 1fr; }
    Question Horizontal { height: auto; margin-top: 1; width: auto; }
    Question.low Horizontal { margin-top: 0; }
    """
    BINDINGS: ClassVar = [Binding("escape", "answer('')", "back", show=False)]

    def __init__(
        self, look: Look, title: str, lines: Sequence[Line], answers: Sequence[Answer]
    ) -> None:
        super().__init__()
        self._look, self._title, self._text, self._answers = look, title, lines, answers

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = self._look.theme.text(self._title).replace("[", r"\[")
            with VerticalScroll(classes="text", can_focus=False):
                yield Painted(self._look, self._lines)
            with Horizontal():
                for answer in self._answers:
                    yield Key(self._look, answer)

    def on_mount(self) -> None:
        self.set_class(self.app.size.height < 14, "low")

    def _lines(self, width: int) -> list[Line]:
        theme = self._look.at(width)
        return [part for line in self._text for part in paragraph(line, theme, hang=0)]

    def on_key(self, event: events.Key) -> None:
        for key, _, value in self._answers:
            if event.key == key or event.character == key:
                event.stop()
                self.action_answer(value)
                return

    def on_key_picked(self, event: Key.Picked) -> None:
        self.action_answer(event.value)

    def action_answer(self, value: str) -> None:
        self.dismiss(value)


class Page(ModalScreen[None]):
    """Lines to read, scrolled by keys; any of Escape, Enter, q, ? goes back."""

    DEFAULT_CSS = """
    Page { align: center middle; background: transparent; }
    Page > VerticalScroll { width: 80; max-width: 100%; height: auto; max-height: 100%;
        border: round $primary; background: $surface; padding: 0 1;
        scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar = [
        Binding("escape,enter,q,question_mark", "dismiss", "back", show=False),
        Binding("j", "scroll('down')", show=False),
        Binding("k", "scroll('up')", show=False),
    ]

    def __init__(self, look: Look, title: str, lines: Sequence[Line], hang: int = 2) -> None:
        super().__init__()
        self._look, self._title, self._text, self._hang = look, title, lines, hang

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box") as box:
            box.border_title = self._look.theme.text(self._title).replace("[", r"\[")
            yield Painted(self._look, self._lines)

    def _lines(self, width: int) -> list[Line]:
        theme = self._look.at(width)
        return [part for line in self._text for part in paragraph(line, theme, hang=self._hang)]

    async def action_dismiss(self, result: None = None) -> None:
        self.dismiss(None)

    def action_scroll(self, way: str) -> None:
        box = self.query_one(VerticalScroll)
        (box.scroll_down if way == "down" else box.scroll_up)(animate=False)
