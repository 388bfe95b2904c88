"""The list of jobs: one widget that draws the lines in view, however many jobs there are.

Knows a board and what `ask` tells of the jobs in view. Which job is chosen is a name, so it stays
chosen when the order changes; until somebody has chosen, the first one is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from oumi_flow.board import Board, JobRow, key_metrics
from oumi_flow.model import JobState
from oumi_flow.ui.tui import cards
from oumi_flow.ui.tui.cards import Columns, Seen
from oumi_flow.ui.tui.theme import Look

if TYPE_CHECKING:
    from textual import events

_S = JobState
URGENCY: Mapping[JobState, int] = {
    state: place
    for place, state in enumerate(
        (
            _S.RUNNING,
            _S.RETRYING,
            _S.FAILED,
            _S.INTERRUPTED,
            _S.READY,
            _S.QUEUED,
            _S.WAITING,
            _S.BLOCKED,
            _S.CANCELLED,
            _S.DONE,
            _S.RESTORED,
            _S.UP_TO_DATE,
        )
    )
}
SORTS = ("activity", "plan", "name", "time", "metric")
_KEPT = 400  # jobs whose lines are remembered
_EDGE = 3  # columns beside a card: two left of it, one right


Shown = tuple[Seen, int, int]


class _Drawn(NamedTuple):
    name: str
    shown: Shown
    strips: list[Strip]


class JobList(ScrollView, can_focus=True):
    DEFAULT_CSS = """
    JobList { scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; overflow-x: hidden; }
    """
    BINDINGS: ClassVar = [
        Binding("down,j", "move(1)", "next job", id="down"),
        Binding("up,k", "move(-1)", "previous job", id="up"),
        Binding("pagedown", "page(1)", "a page down", id="page_down"),
        Binding("pageup", "page(-1)", "a page up", id="page_up"),
        Binding("home", "end(0)", "first job", id="top"),
        Binding("end,G", "end(-1)", "last job", id="bottom"),
        Binding("enter", "open", "details", id="open"),
    ]

    class Chosen(Message):
        """Another job is chosen."""

        def __init__(self, job: str) -> None:
            super().__init__()
            self.job = job

    class Opened(Message):
        """Somebody wants to see all of a job."""

        def __init__(self, job: str) -> None:
            super().__init__()
            self.job = job

    def __init__(
        self,
        look: Look,
        ask: Callable[[JobRow], Seen],
        *,
        view: str = "cards",
        sort: str = "activity",
    ) -> None:
        super().__init__(id="jobs")
        self.look, self._ask = look, ask
        self.view, self.sort = view, sort
        self.words = ""  # that a job's name, verb or state has to hold
        self.now = 0.0
        self.places: Mapping[str, int] = {}  # in line, of those that are queued
        self._board = Board()
        self._names: list[str] = []
        self._tops: list[int] = [0]  # the line that each card begins at, and the end
        self._columns = Columns(0, 0, 0, 0, 0)
        self._chosen = ""
        self._by_hand = False
        self._drawn: dict[int, _Drawn] = {}

    @property
    def _room(self) -> int:
        """Columns left by the scroll bar."""
        return max(1, self.scrollable_content_region.width)

    # -- what is listed -------------------------------------------------------------------

    @property
    def chosen(self) -> str:
        """The name of the chosen job; "" when none is listed."""
        return self._chosen

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def as_table(self) -> bool:
        """Cards want room: a low window gets the table."""
        return self.view == "table" or 0 < self.size.height < 7

    def show(self, board: Board, now: float) -> None:
        """The board has changed: order, heights and lines are made anew."""
        self._board, self.now = board, now
        self._names = self._order()
        # What is looked at stays chosen when others come before it.
        if not self._by_hand or self._chosen not in set(self._names):
            at = self._at() if self._by_hand else 0
            first = self._names[min(at, len(self._names) - 1)] if self._names else ""
            self._choose(first)
        self._measure()
        self.redraw()

    def choose(self, job: str) -> None:
        """Choose that job and bring it into view; one that is not listed is left alone."""
        if job in self._names:
            self._by_hand = True
            self._choose(job)
            self._into_view()
            self.redraw()

    def tick(self, now: float) -> None:
        """Time went by, or progress was made: draw the jobs in view whose lines say so."""
        self.now = now
        for place in self._in_view():
            row = self._board.rows[self._names[place]]
            known = self._drawn.get(place)
            if known is None or row.state.ended:
                continue
            shown = self._shown(row)
            if known.shown != shown:
                self._drawn[place] = known = _Drawn(row.name, shown, self._lines(row, shown[0]))
                top = self._tops[place] - round(self.scroll_y)
                self.refresh(Region(0, top, self.size.width, len(known.strips)))

    def redraw(self) -> None:
        """Draw all of it anew."""
        self._drawn.clear()
        self.refresh()

    def visible_jobs(self) -> list[str]:
        return [self._names[place] for place in self._in_view()]

    def _order(self) -> list[str]:
        rows = self._board.rows
        words = self.words.casefold().split()
        if words:
            shown = [row for row in rows.values() if _fits(row, words)]
        else:
            shown = list(rows.values())
        if self.sort == "activity":
            places = self.places
            shown.sort(key=lambda row: (URGENCY[row.state], places.get(row.name, 0)))
        elif self.sort == "name":
            shown.sort(key=lambda row: row.name)
        elif self.sort == "time":
            shown.sort(key=lambda row: -(row.elapsed(self.now) or 0.0))
        elif self.sort == "metric":
            shown.sort(key=_by_metric)
        return [row.name for row in shown]

    def _measure(self) -> None:
        rows = self._board.rows
        width = max(1, self._room - _EDGE)
        if self.as_table:
            self._tops = list(range(len(self._names) + 1))
            self._columns = cards.columns_of(self._board, self._names, width)
        else:
            heights = (cards.height(rows[name]) for name in self._names)
            self._tops = list(accumulate(heights, initial=0))
        self.virtual_size = Size(self._room, self._tops[-1])

    # -- drawing --------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        width = self._room
        line = y + round(self.scroll_y)
        if line >= self._tops[-1]:
            return Strip.blank(width)
        place = bisect_right(self._tops, line) - 1
        name = self._names[place]
        known = self._drawn.get(place)
        if known is None or known.name != name:
            row = self._board.rows.get(name)
            if row is None:
                return Strip.blank(width)
            if len(self._drawn) > _KEPT:
                self._drawn.clear()
            shown = self._shown(row)
            known = self._drawn[place] = _Drawn(name, shown, self._lines(row, shown[0]))
        offset = line - self._tops[place]
        return known.strips[offset] if offset < len(known.strips) else Strip.blank(width)

    def _shown(self, row: JobRow) -> Shown:
        """All that the lines of a job are made of: they are made anew when it changes."""
        seconds = 0 if row.state in (_S.WAITING, _S.READY, _S.QUEUED) else int(self.now)
        return self._ask(row), row.seq, seconds

    def _lines(self, row: JobRow, seen: Seen) -> list[Strip]:
        width = self._room
        room = max(1, width - _EDGE)
        chosen = row.name == self._chosen
        look = self.look
        edge = (
            "mark" if self.has_focus else "rule",
            ("▌" if look.theme.unicode else ">") if chosen else " ",
        )
        if self.as_table:
            line = cards.table_row(self._board, row, look, room, self.now, seen, self._columns)
            return [look.strip([edge, ("", " "), *_marked(line, chosen)], width)]
        lines = cards.card(self._board, row, look, room, self.now, seen)
        lines[0] = _marked(lines[0], chosen)
        strips = [look.strip([edge, ("", " "), *line], width) for line in lines[:-1]]
        return [*strips, look.strip([], width)]

    def _in_view(self) -> Iterator[int]:
        first = bisect_right(self._tops, round(self.scroll_y)) - 1
        bottom = round(self.scroll_y) + self.size.height
        for place in range(max(0, first), len(self._names)):
            if self._tops[place] >= bottom:
                return
            yield place

    def on_resize(self) -> None:
        self._measure()
        self._into_view()
        self.redraw()

    def on_focus(self) -> None:
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    # -- moving about ---------------------------------------------------------------------

    def action_move(self, step: int) -> None:
        if self._names:
            self._go(self._at() + step)

    def action_page(self, pages: int) -> None:
        if not self._names:
            return
        line = self._tops[self._at()] + pages * max(1, self.size.height - 1)
        self._go(bisect_right(self._tops, max(0, line)) - 1)

    def action_end(self, place: int) -> None:
        if self._names:
            self._go(place % len(self._names))

    def action_open(self) -> None:
        if self._chosen:
            self.post_message(self.Opened(self._chosen))

    def on_click(self, event: events.Click) -> None:
        line = event.y + round(self.scroll_y)
        if line < self._tops[-1]:
            self._go(bisect_right(self._tops, line) - 1)
            if event.chain == 2:
                self.action_open()

    def _go(self, place: int) -> None:
        self.choose(self._names[min(max(0, place), len(self._names) - 1)])

    def _at(self) -> int:
        try:
            return self._names.index(self._chosen)
        except ValueError:
            return 0

    def _choose(self, name: str) -> None:
        if name != self._chosen:
            self._chosen = name
            self.post_message(self.Chosen(name))

    def _into_view(self) -> None:
        if not self._names or not self._by_hand:
            return
        place = self._at()
        top, bottom = self._tops[place], self._tops[place + 1]
        first, high = round(self.scroll_y), self.size.height
        if top < first:
            self.scroll_to(y=top, animate=False)
        elif bottom > first + high:
            # The blank line below the last card may stay out of sight.
            gap = 0 if self.as_table else 1
            self.scroll_to(y=min(top, bottom - gap - high), animate=False)


def _fits(row: JobRow, words: Sequence[str]) -> bool:
    text = f"{row.name} {row.verb} {row.state.value}".casefold()
    return all(word in text for word in words)


def _marked(line: list[tuple[str, str]], chosen: bool) -> list[tuple[str, str]]:
    """The line with its name in the style of what is chosen."""
    if not chosen:
        return line
    return [("chosen" if style == "name" else style, text) for style, text in line]


def _by_metric(row: JobRow) -> tuple[bool, float]:
    found = key_metrics(row.metrics)
    return (not found, found[0][1] if found else 0.0)
