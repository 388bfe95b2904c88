"""The main screen: title and GPUs, the jobs, the numbers of the run, the chosen job's log, totals.

Knows where things stand and which give way when the window is small; what they say is made by
header, cards and panel. What the keys do that others share is the app's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Input

from oumi_flow.board import Board, JobRow
from oumi_flow.board.outlook import TimeLeft, critical_path, forecast
from oumi_flow.diagnose import last_lines
from oumi_flow.model import JobState
from oumi_flow.ui.frame import ends
from oumi_flow.ui.lines import number, rounded, waiting_words
from oumi_flow.ui.theme import Line
from oumi_flow.ui.tui import header, panel
from oumi_flow.ui.tui.cards import Seen
from oumi_flow.ui.tui.help import key_words
from oumi_flow.ui.tui.jobs import SORTS, JobList
from oumi_flow.ui.tui.keymap import ALWAYS, MAIN, WISHES, bindings
from oumi_flow.ui.tui.log_view import LogView
from oumi_flow.ui.tui.painted import Painted
from oumi_flow.ui.tui.theme import rule

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

    from oumi_flow.ui.tui.app import FlowApp

_WIDE = 110  # columns from which the log stands beside the jobs
_LOG_FROM = 18  # lines from which there is a log below the jobs
_PANEL_FROM = 26  # … and the panel
_RULES_FROM = 12  # … and the GPUs and titles
_JOBS_LEAST, _JOBS_MOST = 56, 96  # columns of the jobs beside the log
_PANEL_MOST = 8  # lines of the panel
_CURVE = 64  # points of a loss that a card's little curve is made of


class MainScreen(Screen[None]):
    app: FlowApp
    DEFAULT_CSS = """
    MainScreen { layout: vertical; overflow: hidden; }
    MainScreen #title, MainScreen #gpus, MainScreen #totals, MainScreen .rule { height: 1; }
    MainScreen #body { height: 1fr; }
    MainScreen #left { height: 1fr; }
    MainScreen #right { width: 1fr; height: 1fr; }
    MainScreen #wall { width: 1; height: 1fr; }
    MainScreen #jobs { height: 1fr; }
    MainScreen #panel { height: auto; }
    MainScreen #log { height: 1fr; padding: 0 0 0 1; }
    MainScreen #filter { height: 1; border: none; padding: 0 1; display: none; }
    MainScreen.filtering #filter { display: block; }
    MainScreen #body.narrow { layout: vertical; }
    MainScreen #body.narrow #left { height: 3fr; }
    MainScreen #body.narrow #right { height: 2fr; }
    """
    BINDINGS: ClassVar = bindings(MAIN)

    def __init__(self) -> None:
        super().__init__(id="main")
        self._left: TimeLeft | None = None
        self._starts: Mapping[str, float] = {}
        self._critical: tuple[Sequence[str], float] = (), 0.0
        self._forecast_at = 0.0
        self._told_at = 0.0
        self._logged = ""
        self._ends: dict[tuple[str, int], str] = {}  # (job, event) -> what is to be told of it
        self._wide = True
        self._split = 80
        self._panel_lines = 0

    # -- what stands where ----------------------------------------------------------------

    def compose(self) -> ComposeResult:
        app, look = self.app, self.app.look
        settings = app.settings
        yield Painted(look, self._title, id="title")
        yield Painted(look, self._gpus, id="gpus")
        yield Painted(look, self._top_rule, id="top-rule").add_class("rule")
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield JobList(look, self._seen, view=settings.view, sort=settings.sort)
                yield Input(placeholder="words of name, verb or state", id="filter", compact=True)
            yield Painted(look, self._wall, id="wall")
            with Vertical(id="right"):
                yield Painted(look, self._run_rule, id="run-rule").add_class("rule")
                yield Painted(look, self._panel, id="panel")
                yield Painted(look, self._log_rule, id="log-rule").add_class("rule")
                yield LogView(look, id="log", foot=False)
        yield Painted(look, self._totals, id="totals")

    def on_mount(self) -> None:
        self.make_room(*self.app.size)
        self.jobs.focus()
        self.tick(True)

    def on_resize(self, event: events.Resize) -> None:
        self.make_room(event.size.width, event.size.height)

    def on_screen_resume(self) -> None:
        """Uncovered: what was missed is drawn at once."""
        self.app.show()

    def make_room(self, width: int, height: int) -> None:
        """Let go of what there is no room for, the least needed first."""
        self._wide = width >= _WIDE
        board = self.app.source.board
        log = height >= _LOG_FROM
        panel = log and (self._wide or height >= _PANEL_FROM)
        shown = {
            "#gpus": bool(board.devices) and not board.over and height >= _RULES_FROM,
            "#top-rule": height >= _RULES_FROM,
            "#run-rule": panel and not self._wide,
            "#panel": panel,
            "#log-rule": log,
            "#right": log,
            "#wall": log and self._wide,
        }
        for part, there in shown.items():
            self.query_one(part).display = there
        self.query_one("#body").set_class(not self._wide, "narrow")
        self._split = max(_JOBS_LEAST, min(_JOBS_MOST, width // 2)) if self._wide else width
        self.query_one("#left").styles.width = self._split

    @property
    def jobs(self) -> JobList:
        return self.query_one(JobList)

    @property
    def log_view(self) -> LogView:
        return self.query_one(LogView)

    # -- time goes by ---------------------------------------------------------------------

    def tick(self, changed: bool) -> None:
        """Called a few times a second; draws what says something else than before."""
        board, now = self.app.source.board, self.app.clock()
        if changed:
            self.make_room(*self.app.size)
        # To foresee takes a walk through all jobs: less often where there are many.
        every = max(2.0, board.total / 250)
        waited = abs(now - self._forecast_at)
        if waited >= every if changed else not board.over and waited >= 3 * every:
            self._foresee(board, now)
        if changed:
            self.jobs.show(board, now)
        if changed or (not board.over and now - self._told_at >= 1.0):
            self._told_at = now
            for part in ("#title", "#gpus", "#top-rule", "#panel", "#wall", "#totals"):
                self.query_one(part, Painted).repaint()
            self.jobs.tick(now)
        elif board.running:
            self.jobs.tick(self._told_at)
        self.query_one("#log-rule", Painted).repaint()

    def _foresee(self, board: Board, now: float) -> None:
        self._forecast_at = now
        known = ends(board, self.app.source.progress, now)
        self._left, starts = forecast(board, now, known)
        self._starts = {name: float(rounded(seconds)) for name, seconds in starts.items()}
        queued = [row.name for row in board.rows.values() if row.state is JobState.QUEUED]
        queued.sort(key=lambda name: self._starts.get(name, 0.0))
        self.jobs.places = {name: n + 1 for n, name in enumerate(queued)}
        self._critical = critical_path(board, now, known)

    def _seen(self, row: JobRow) -> Seen:
        if row.state is JobState.RUNNING:
            source = self.app.source
            curve = source.curves(row.name).get("loss", ())
            return Seen(source.progress(row.name), [value for _, value in curve[-_CURVE:]])
        if row.state is JobState.FAILED:
            return Seen(last=self._once(row, self._last_words))
        if row.state is JobState.DONE:
            return Seen(last=self._once(row, self._alert))
        if row.state.ended:
            return Seen()
        return Seen(starts=self._starts.get(row.name), place=self.jobs.places.get(row.name, 0))

    def _once(self, row: JobRow, find: Callable[[JobRow], str]) -> str:
        """What is found out of a job that has ended, which stays so."""
        key = (row.name, row.seq)
        if key not in self._ends:
            self._ends[key] = find(row)
        return self._ends[key]

    def _last_words(self, row: JobRow) -> str:
        """The last line of a failed job's log, which mostly says why."""
        lines = last_lines(self.app.source.log(row.name), 3)
        said = [line.strip() for line in lines if line.strip() and not line.startswith("# ")]
        return said[-1] if said else ""

    def _alert(self, row: JobRow) -> str:
        """`loss nan`, of a job that ended well but for that."""
        progress = self.app.source.progress(row.name)
        bad = progress.metrics.items() if progress is not None else ()
        return ", ".join(f"{name} {number(value)}" for name, value in bad if not isfinite(value))

    # -- what it says ---------------------------------------------------------------------

    def _title(self, width: int) -> list[Line]:
        app = self.app
        board = app.source.board
        return [header.title(board, app.look.at(width), app.clock(), self._left)]

    def _gpus(self, width: int) -> list[Line]:
        return [header.gpu_strip(self.app.source.board, self.app.gpu_rows, self.app.look.at(width))]

    def _top_rule(self, width: int) -> list[Line]:
        jobs, board, look = self.jobs, self.app.source.board, self.app.look
        shown = len(jobs.names)
        words = f"{shown} of {board.total}" if shown != board.total else str(board.total)
        title: Line = [_name("Jobs", jobs.has_focus), ("muted", f"  {words} by {jobs.sort}")]
        if jobs.words:
            title.append(("warn", f"  /{jobs.words}"))
        if not self._wide:
            return [rule(width, look, title)]
        joint = ("rule", "┬" if look.theme.unicode else "+")
        right = rule(width - self._split - 1, look, [("strong", "Run")])
        return [[*rule(self._split, look, title), joint, *right]]

    def _run_rule(self, width: int) -> list[Line]:
        return [rule(width, self.app.look, [("strong", "Run")])]

    def _wall(self, width: int) -> list[Line]:
        unicode = self.app.look.theme.unicode
        lines: list[Line] = [[("rule", "│" if unicode else "|")]] * self.app.size.height
        joint: Line = [("rule", "├" if unicode else "+")]
        at = self._panel_lines
        return [*lines[:at], joint, *lines[at + 1 :]]

    def _panel(self, width: int) -> list[Line]:
        app = self.app
        lines = panel.panel(app.source.board, app.look.at(width), app.clock(), *self._critical)
        self._panel_lines = min(len(lines), _PANEL_MOST)
        return lines[:_PANEL_MOST]

    def _log_rule(self, width: int) -> list[Line]:
        job = self._logged
        title: Line = [_name("Log", self.log_view.lines.has_focus)]
        if job:
            title += [("", "  "), ("name", job), ("", "  "), *self.log_view.words()]
        return [rule(width, self.app.look, title)]

    def _totals(self, width: int) -> list[Line]:
        keys: Line = []
        changed = self.app.settings.keys
        for act in (*MAIN, *ALWAYS):
            if act.short and not (self.app.read_only and act.id in WISHES):
                said = key_words(changed.get(act.id, act.keys)).split(" ")[0]
                keys += [("key", said), ("muted", f" {act.short}"), ("", "  ")]
        return [header.totals(self.app.source.board, self.app.look.at(width), keys[:-1])]

    # -- what happens ---------------------------------------------------------------------

    def on_descendant_focus(self) -> None:
        self._repaint_rules()

    def on_descendant_blur(self) -> None:
        self._repaint_rules()

    def _repaint_rules(self) -> None:
        for part in self.query("#top-rule, #log-rule").results(Painted):
            part.repaint()

    def on_job_list_chosen(self, event: JobList.Chosen) -> None:
        self._logged = event.job
        self._open_log()

    def _open_log(self) -> None:
        job = self._logged
        row = self.app.source.board.rows.get(job)
        words = "nothing was written yet"
        if row is None:
            words = "no job is chosen"
        elif not row.state.ended and row.started is None:
            said = waiting_words(self.app.source.board, row, self.app.clock())
            words = f"has not started{': ' if said else ''}{said}"
        self.log_view.open(partial(self.app.source.log, job), empty=words)
        self.query_one("#log-rule", Painted).repaint()

    def on_log_view_moved(self) -> None:
        self._repaint_rules()

    def on_job_list_opened(self, event: JobList.Opened) -> None:
        self.app.open_job(event.job)

    def action_filter(self) -> None:
        self.set_class(True, "filtering")
        field = self.query_one("#filter", Input)
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.filter(event.value)

    def on_input_submitted(self) -> None:
        self.jobs.focus()
        self.set_class(bool(self.jobs.words), "filtering")

    def filter(self, words: str) -> None:
        self.jobs.words = words.strip()
        self._reorder()

    def _reorder(self) -> None:
        self.jobs.show(self.app.source.board, self.app.clock())
        self.query_one("#top-rule", Painted).repaint()

    def action_clear(self) -> None:
        self.query_one("#filter", Input).value = ""
        self.filter("")
        self.set_class(False, "filtering")
        self.jobs.focus()

    def action_sort(self) -> None:
        jobs = self.jobs
        jobs.sort = SORTS[(SORTS.index(jobs.sort) + 1) % len(SORTS)]
        self._reorder()

    def action_view(self) -> None:
        jobs = self.jobs
        jobs.view = "cards" if jobs.as_table else "table"
        self._reorder()

    def action_other(self) -> None:
        if self.jobs.has_focus and self.log_view.display:
            self.log_view.lines.focus()
        else:
            self.jobs.focus()

    def action_follow(self) -> None:
        self.log_view.action_follow()

    def action_log(self, key: str) -> None:
        if key == "e":
            self.log_view.action_error()
        else:
            self.log_view.action_next(1 if key == "n" else -1)

    def action_cancel(self) -> None:
        self.app.ask_cancel(self.jobs.chosen)

    def action_again(self) -> None:
        self.app.ask_again(self.jobs.chosen)

    def action_refresh(self) -> None:
        self.app.look_again()

    def action_dag(self) -> None:
        self.app.open_dag()

    def action_metrics(self) -> None:
        self.app.open_metrics()

    def action_gpus(self) -> None:
        self.app.open_gpus()

    def action_copy(self) -> None:
        self.app.copy_command(self.jobs.chosen)

    def action_pager(self) -> None:
        self.app.open_outside("pager", self.jobs.chosen)

    def action_editor(self) -> None:
        self.app.open_outside("editor", self.jobs.chosen)


def _name(words: str, focused: bool) -> tuple[str, str]:
    """The name of a part of the screen; where the keys go to it is marked."""
    return ("title", words) if focused else ("strong", words)
