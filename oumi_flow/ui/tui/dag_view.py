"""The graph of jobs, with their states and the way that decides when the run ends.

Large runs show each sweep as one node. Arrows or h j k l move, Enter opens the job.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.geometry import Size
from textual.screen import Screen
from textual.scroll_view import ScrollView
from textual.strip import Strip

from oumi_flow.board.outlook import critical_path
from oumi_flow.graph.drawing import Node, picture
from oumi_flow.model import JobState
from oumi_flow.ui import cells
from oumi_flow.ui.frame import ends
from oumi_flow.ui.theme import STATE_STYLE, Line
from oumi_flow.ui.tui.dag_layout import Drawn, lay_out, line_char
from oumi_flow.ui.tui.jobs import URGENCY
from oumi_flow.ui.tui.painted import Painted
from oumi_flow.ui.tui.theme import rule

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

    from oumi_flow.ui.tui.app import FlowApp

EVERY = 200  # jobs up to which each is a node of its own
_NAME = 36  # columns of a label


class DagView(Screen[None]):
    app: FlowApp
    DEFAULT_CSS = """
    DagView { overflow: hidden; }
    DagView #dag-title, DagView #dag-foot { height: 1; }
    DagView Graph { height: 1fr; margin: 0 1; scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 1; }
    """
    BINDINGS: ClassVar = [Binding("escape,d,q", "back", "back")]

    def compose(self) -> ComposeResult:
        look = self.app.look
        yield Painted(look, self._title, id="dag-title")
        yield Graph(self.app)
        yield Painted(look, self._foot, id="dag-foot")

    def on_mount(self) -> None:
        self.query_one(Graph).focus()

    def tick(self, changed: bool) -> None:
        if changed:
            self.query_one(Graph).take_in()
            self.query_one("#dag-foot", Painted).repaint()

    def told(self) -> None:
        """Another node is chosen."""
        self.query_one("#dag-foot", Painted).repaint()

    def _title(self, width: int) -> list[Line]:
        board = self.app.source.board
        title: Line = [("title", "Graph"), ("", "  "), ("strong", board.workflow)]
        if self.query_one(Graph).folded:
            title.append(("muted", "  sweeps folded"))
        return [rule(width, self.app.look, title)]

    def _foot(self, width: int) -> list[Line]:
        keys: Line = [("key", "Enter"), ("muted", " details  "), ("key", "Esc"), ("muted", " back")]
        return [[("", " "), *self.query_one(Graph).words(), ("", "   "), *keys]]

    def action_back(self) -> None:
        self.dismiss(None)


class Graph(ScrollView, can_focus=True):
    BINDINGS: ClassVar = [
        Binding("up,k", "go(0, -1)", "up"),
        Binding("down,j", "go(0, 1)", "down"),
        Binding("left,h", "go(-1, 0)", "left"),
        Binding("right,l", "go(1, 0)", "right"),
        Binding("enter", "open", "details"),
    ]

    def __init__(self, app: FlowApp) -> None:
        super().__init__()
        self._flow = app
        self._drawn = Drawn()
        self._labels: dict[str, str] = {}
        self._jobs: dict[str, list[str]] = {}  # node -> the jobs it stands for
        self._rows: dict[int, list[tuple[int, str]]] = {}  # row -> (column, node)
        self._wires: dict[int, list[tuple[int, int, bool]]] = {}  # row -> (column, bits, marked)
        self._way: set[str] = set()
        self._cursor = ""
        self.folded = False
        self.take_in()

    def take_in(self) -> None:
        """Lay out the jobs there are now. States are looked up as lines are drawn."""
        board = self._flow.source.board
        nodes = [Node(row.name, row.verb, upstream=row.upstream) for row in board.rows.values()]
        drawn = picture(nodes, len(nodes) <= EVERY)
        self.folded = len(drawn.shapes) < len(nodes)
        theme = self._flow.look.theme
        self._labels = {
            key: cells.fit_middle(theme.text(shape.label), _NAME, theme.more)
            for key, shape in drawn.shapes.items()
        }
        self._jobs = {key: [] for key in drawn.shapes}
        for job, key in drawn.home.items():
            self._jobs[key].append(job)
        now = self._flow.clock()
        known = ends(board, self._flow.source.progress, now)
        critical = [
            drawn.home[job] for job in critical_path(board, now, known)[0] if job in drawn.home
        ]
        self._way = set(critical)
        edges = [(start, end) for start, end, _ in drawn.edges]
        self._drawn = lay_out(self._labels, edges, list(dict.fromkeys(critical)))
        self._rows, self._wires = {}, {}
        for key, (x, y) in self._drawn.places.items():
            self._rows.setdefault(y, []).append((x, key))
        for (x, y), (bits, marked) in self._drawn.lines.items():
            self._wires.setdefault(y, []).append((x, bits, marked))
        if self._cursor not in self._labels:
            self._cursor = self._first()
        self.virtual_size = Size(self._drawn.width + 1, self._drawn.height)
        self.refresh()

    def _first(self) -> str:
        """The most urgent node, the first of equals."""
        return min(self._labels, key=lambda key: URGENCY[self._state(key)], default="")

    def _state(self, key: str) -> JobState:
        rows = self._flow.source.board.rows
        states = [rows[job].state for job in self._jobs.get(key, ()) if job in rows]
        return min(states, key=lambda state: URGENCY[state], default=JobState.WAITING)

    def words(self) -> Line:
        """What the chosen node is, for the line below the graph."""
        rows = self._flow.source.board.rows
        jobs = self._jobs.get(self._cursor, [])
        if not jobs:
            return []
        tally = Counter(rows[job].state for job in jobs)
        said: Line = [("strong", self._labels[self._cursor])]
        for state, number in tally.items():
            count = f"{number} " if len(jobs) > 1 else ""
            said += [("", "  "), (STATE_STYLE[state.value], count + state.value)]
        if self._cursor in self._way:
            said += [("", "  "), ("warn", "on the critical path")]
        return said

    # -- drawing --------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        scroll_x, scroll_y = round(self.scroll_x), round(self.scroll_y)
        width = self.size.width
        row = y + scroll_y
        look = self._flow.look
        pieces: list[tuple[int, Line]] = []
        unicode = look.theme.unicode
        for x, bits, marked in self._wires.get(row, ()):
            pieces.append((x, [("warn" if marked else "rule", line_char(bits, unicode))]))
        for x, key in self._rows.get(row, ()):
            state = self._state(key)
            name = "chosen" if key == self._cursor else "strong" if key in self._way else ""
            glyph = (STATE_STYLE[state.value], look.glyph(state) + " ")
            if key == self._cursor:
                glyph = ("mark", "▶ " if unicode else "> ")
            pieces.append((x, [glyph, (name, self._labels[key])]))
        line: Line = []
        used = 0
        for x, piece in sorted(pieces, key=lambda one: one[0]):
            if x < used:
                continue
            line += [("", " " * (x - used)), *piece]
            used = x + sum(cells.width(text) for _, text in piece)
        strip = look.strip(line, max(self._drawn.width + 1, width))
        return strip.crop(scroll_x, scroll_x + width)

    # -- moving about ---------------------------------------------------------------------

    def action_go(self, across: int, down: int) -> None:
        place = self._drawn.places.get(self._cursor)
        if place is None:
            return
        columns = self._drawn.columns
        at = next(n for n, keys in enumerate(columns) if self._cursor in keys)
        keys = columns[at]
        if down:
            index = min(max(0, keys.index(self._cursor) + down), len(keys) - 1)
            self._choose(keys[index])
        else:
            at += across
            while 0 <= at < len(columns) and not columns[at]:
                at += across
            if 0 <= at < len(columns):
                near = min(columns[at], key=lambda key: abs(self._drawn.places[key][1] - place[1]))
                self._choose(near)

    def _choose(self, key: str) -> None:
        self._cursor = key
        x, y = self._drawn.places[key]
        width = cells.width(self._labels[key]) + 2
        left, top = round(self.scroll_x), round(self.scroll_y)
        to_x = (
            x
            if x < left
            else x + width - self.size.width
            if x + width > left + self.size.width
            else left
        )
        to_y = y if y < top else y - self.size.height + 1 if y >= top + self.size.height else top
        self.scroll_to(max(0, to_x), max(0, to_y), animate=False)
        self.refresh()
        screen = self.screen
        if isinstance(screen, DagView):
            screen.told()

    def action_open(self) -> None:
        jobs = self._jobs.get(self._cursor)
        if jobs:
            rows = self._flow.source.board.rows
            self._flow.open_job(min(jobs, key=lambda job: URGENCY[rows[job].state]))

    def on_click(self, event: events.Click) -> None:
        x, y = event.x + round(self.scroll_x), event.y + round(self.scroll_y)
        for left, key in self._rows.get(y, ()):
            if left <= x < left + cells.width(self._labels[key]) + 2:
                self._choose(key)
                if event.chain == 2:
                    self.action_open()
