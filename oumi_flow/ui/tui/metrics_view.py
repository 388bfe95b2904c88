"""All jobs' numbers beside each other: sorted, compared with one of them, their curves overlaid.

What is shown can be kept as a file for other programs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.screen import Screen
from textual.scroll_view import ScrollView
from textual.strip import Strip

from oumi_flow.metrics import best_of
from oumi_flow.text import count
from oumi_flow.ui import cells, metric_rows
from oumi_flow.ui.layout import cut
from oumi_flow.ui.tables import MetricRow
from oumi_flow.ui.theme import Line
from oumi_flow.ui.tui import metrics_table as tables
from oumi_flow.ui.tui.curves import MOST_CURVES, CurvesView
from oumi_flow.ui.tui.painted import Painted
from oumi_flow.ui.tui.source import Source
from oumi_flow.ui.tui.text_pane import keep_ascii
from oumi_flow.ui.tui.theme import Look

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

    from oumi_flow.ui.tui.app import FlowApp

_ASK_SECONDS = 2.0


class MetricsView(Screen[None]):
    app: FlowApp
    DEFAULT_CSS = """
    MetricsView { layout: vertical; overflow: hidden; }
    MetricsView > Painted { height: 1; }
    MetricsView > #alerts { height: auto; max-height: 3; }
    """
    BINDINGS: ClassVar = [
        Binding("s", "sort", "sort by the chosen column", id="metrics_sort"),
        Binding("b", "baseline", "compare with the chosen job", id="metrics_baseline"),
        Binding("space", "mark", "mark the job, for its curve", id="metrics_mark"),
        Binding("o", "overlay", "curves of the marked jobs over each other", id="metrics_overlay"),
        Binding("x", "export('csv')", "write the table as CSV", id="metrics_csv"),
        Binding("X", "export('json')", "write the table as JSON", id="metrics_json"),
        Binding("enter", "open", "details", id="open"),
        Binding("escape,q", "back", "back", id="back"),
    ]

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self.table = tables.Table()
        self._asked = 0.0
        self._known = False

    def compose(self) -> ComposeResult:
        look = self.app.look
        yield Painted(look, self._head, id="head")
        yield Painted(look, self._alerts, id="alerts")
        yield Grid(look, self.table)
        yield Painted(look, self._hints, id="hints")

    def on_mount(self) -> None:
        self.grid.focus()
        self._ask()

    def tick(self, changed: bool) -> None:
        """Called a few times a second."""
        now = self.app.clock()
        running = bool(self.source.board.running)
        if changed or (running and now - self._asked >= _ASK_SECONDS):
            self._asked = now
            self._ask()

    @property
    def grid(self) -> Grid:
        return self.query_one(Grid)

    @work(thread=True, exclusive=True, group="metrics", exit_on_error=False)
    def _ask(self) -> None:
        rows = self.source.metrics()
        self.app.call_from_thread(self._know, rows)

    def _know(self, rows: Sequence[MetricRow]) -> None:
        self._known = True
        self.table.fill(rows)
        self._again()

    def _again(self) -> None:
        """What is shown has changed."""
        self.grid.redraw()
        self._repaint("#head", "#alerts")

    def _repaint(self, *parts: str) -> None:
        for part in parts:
            for painted in self.query(part).results(Painted):
                painted.repaint()

    # -- around the table -----------------------------------------------------------------

    def _head(self, width: int) -> list[Line]:
        theme, table = self.app.look.at(width), self.table
        line: Line = [
            ("", " "),
            ("title", "Metrics"),
            ("muted", f"  {count(len(table.rows), 'job')}"),
        ]
        if table.keys:
            differ = "config key differs" if len(table.keys) == 1 else "config keys differ"
            line.append(("muted", f", {len(table.keys)} {differ}"))
        if any(best_of(name) for name in table.names):
            line.append(("muted", ", * best"))
        if table.baseline:
            line.append(("accent", f"  compared with {theme.text(table.baseline)}"))
        if table.marked:
            line.append(("accent", f"  {len(table.marked)} marked"))
        if not table.rows:
            words = "no numbers yet" if self._known else "reading them …"
            line = [line[0], line[1], ("muted", "  " + theme.text(words))]
        return [cut(line, width, theme)]

    def _alerts(self, width: int) -> list[Line]:
        theme, bad = self.app.look.at(width), self.table.bad()
        if not bad:
            return []
        words = theme.text(f" ✗ not a number: {', '.join(bad)}")
        return [[("bad", cells.fit(words, width, theme.more))]]

    def _hints(self, width: int) -> list[Line]:
        line: Line = [("", " ")]
        for key, words in _HINTS:
            if sum(cells.width(text) for _, text in line) + len(key) + len(words) + 12 > width:
                break
            line += [("key", key), ("muted", f" {words}"), ("", "  ")]
        line += [("key", "Esc"), ("muted", " back")]
        return [cut(line, width, self.app.look.at(width))]

    # -- keys -----------------------------------------------------------------------------

    def action_sort(self) -> None:
        self.table.sort_by(self.table.column)
        self._again()

    def action_baseline(self) -> None:
        job = self.grid.chosen
        self.table.baseline = "" if self.table.baseline == job else job
        self._again()

    def action_mark(self) -> None:
        if self.grid.chosen:
            self.table.marked ^= {self.grid.chosen}
            self._again()
            self.grid.action_move(1)

    def action_overlay(self) -> None:
        jobs = [row.job for row in self.table.order() if row.job in self.table.marked]
        if not jobs and self.grid.chosen:
            jobs = [self.grid.chosen]
        if len(jobs) > MOST_CURVES:
            self.app.say(f"the first {MOST_CURVES} of {len(jobs)} marked jobs are drawn")
        if jobs:
            metric = self.table.metric(self.table.column)
            self.app.push_screen(CurvesScreen(self.source, jobs[:MOST_CURVES], metric))

    def action_open(self) -> None:
        if self.grid.chosen:
            self.app.open_job(self.grid.chosen)

    def action_export(self, kind: str) -> None:
        """Into the folder where the screen was opened; never over a file that is there."""
        rows = self.table.order()
        if not rows:
            self.app.say("there are no numbers to write yet")
            return
        if self.app.only_looks():
            return
        text = (
            metric_rows.as_csv(rows)
            if kind == "csv"
            else json.dumps(metric_rows.as_records(rows), indent=2, ensure_ascii=False) + "\n"
        )
        try:
            path = write_new(f"metrics-{self.source.board.run_id or 'run'}", kind, text)
        except OSError as error:
            self.app.say(f"could not write the table: {error.strerror}", "error")
        else:
            self.app.say(f"wrote {count(len(rows), 'job')} to {path}")

    def action_back(self) -> None:
        self.dismiss()

    def on_grid_opened(self, event: Grid.Opened) -> None:
        self.app.open_job(event.job)

    def on_grid_changed(self) -> None:
        self._again()


_HINTS = (
    ("s", "sort"),
    ("b", "baseline"),
    ("Space", "mark"),
    ("o", "curves"),
    ("x", "export"),
    ("Enter", "job"),
    ("?", "help"),
)


def write_new(name: str, kind: str, text: str) -> str:
    """Write a file that was not there; returns its path. Raises OSError."""
    for number in range(1000):
        path = f"{name}{f'-{number + 1}' if number else ''}.{kind}"
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            continue
        return os.path.abspath(path)
    raise FileExistsError(17, f"{name}.{kind} and a thousand others are there")


class Grid(ScrollView, can_focus=True):
    """The rows and columns; the first line stays."""

    DEFAULT_CSS = """
    Grid { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 0; }
    """
    BINDINGS: ClassVar = [
        Binding("down,j", "move(1)", "next job", id="down"),
        Binding("up,k", "move(-1)", "job before", id="up"),
        Binding("right,l", "column(1)", "next column", id="column_next"),
        Binding("left,h", "column(-1)", "column before", id="column_before"),
        Binding("pagedown", "page(1)", "a page down", id="page_down"),
        Binding("pageup", "page(-1)", "a page up", id="page_up"),
        Binding("home", "end(0)", "first job", id="top"),
        Binding("end,G", "end(-1)", "last job", id="bottom"),
    ]

    class Opened(Message):
        def __init__(self, job: str) -> None:
            super().__init__()
            self.job = job

    class Changed(Message):
        """The order, or what is marked, has changed by mouse."""

    def __init__(self, look: Look, table: tables.Table) -> None:
        super().__init__()
        self.look, self.table = look, table
        self.chosen = ""
        self._order: list[MetricRow] = []
        self._grid: list[list[Line]] = []
        self._heads: list[str] = []
        self._layout = tables.Layout((0,), 1, 1)

    def redraw(self) -> None:
        theme = self.look.at(max(1, self.scrollable_content_region.width))
        self._order = self.table.order()
        self._heads = self.table.heads(theme)
        self._grid = tables.grid(self.table, self._order, theme)
        self._layout = tables.layout(self._heads, self._grid, theme, self.table.column)
        if self.chosen not in {row.job for row in self._order}:
            self.chosen = self._order[0].job if self._order else ""
        self.virtual_size = Size(theme.width, len(self._order) + 1)
        self.refresh()

    def on_mount(self) -> None:
        keep_ascii(self, self.look)

    def on_resize(self) -> None:
        self.redraw()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        theme = self.look.at(width)
        if not self._order:
            return Strip.blank(width)
        if y == 0:
            line = tables.head_line(self.table, self._heads, self._layout, theme)
            return self.look.strip(line, width)
        place = y - 1 + round(self.scroll_y)
        if place >= len(self._order):
            return Strip.blank(width)
        row = self._order[place]
        line = tables.row_line(
            self.table, row, self._grid[place], self._layout, theme, row.job == self.chosen
        )
        return self.look.strip(line, width)

    # -- moving ---------------------------------------------------------------------------

    def _at(self) -> int:
        return next((n for n, row in enumerate(self._order) if row.job == self.chosen), 0)

    def _go(self, place: int) -> None:
        if not self._order:
            return
        place = min(max(0, place), len(self._order) - 1)
        self.chosen = self._order[place].job
        high = max(1, self.size.height - 1)
        if place < self.scroll_y:
            self.scroll_to(y=place, animate=False)
        elif place >= self.scroll_y + high:
            self.scroll_to(y=place - high + 1, animate=False)
        self.refresh()

    def action_move(self, step: int) -> None:
        self._go(self._at() + step)

    def action_page(self, pages: int) -> None:
        self._go(self._at() + pages * max(1, self.size.height - 2))

    def action_end(self, place: int) -> None:
        self._go(place % max(1, len(self._order)))

    def action_column(self, step: int) -> None:
        self.table.column = (self.table.column + step) % self.table.columns
        self.redraw()

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            column = tables.column_at(event.x, self._layout)
            if column is not None:
                self.table.column = column
                self.table.sort_by(column)
                self.post_message(self.Changed())
            return
        place = event.y - 1 + round(self.scroll_y)
        if place < len(self._order):
            self._go(place)
            if event.chain == 2:
                self.post_message(self.Opened(self.chosen))


class CurvesScreen(Screen[None]):
    """Curves of several jobs over each other, as large as the screen."""

    app: FlowApp
    DEFAULT_CSS = """
    CurvesScreen { layout: vertical; overflow: hidden; }
    CurvesScreen > Painted { height: 1; }
    CurvesScreen > CurvesView { height: 1fr; }
    """
    BINDINGS: ClassVar = [Binding("escape,q", "back", "back", id="back")]

    def __init__(self, source: Source, jobs: Sequence[str], metric: str = "") -> None:
        super().__init__()
        self.source, self.jobs, self.metric = source, tuple(jobs), metric

    def compose(self) -> ComposeResult:
        look = self.app.look
        yield CurvesView(look, self.source, self.jobs, metric=self.metric)
        yield Painted(look, self._hints)

    def on_mount(self) -> None:
        self.query_one(CurvesView).focus()

    def tick(self, changed: bool) -> None:
        """Called a few times a second."""
        for curves in self.query(CurvesView):
            curves.refresh_points(self.app.clock())

    def _hints(self, width: int) -> list[Line]:
        line: Line = [("", " ")]
        for key, words in (("j k", "metric"), ("l", "log scale"), ("s", "smooth"), ("Esc", "back")):
            line += [("key", key), ("muted", f" {words}"), ("", "  ")]
        return [cut(line, width, self.app.look.at(width))]

    def action_back(self) -> None:
        self.dismiss()
