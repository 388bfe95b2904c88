"""All of one job: its log, curves, config, command, files, attempts, and why it is as it is.

A page is built when it is first shown. What does not move while a job runs is read by a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget

from oumi_flow.board import JobRow
from oumi_flow.model import JobState
from oumi_flow.text import duration
from oumi_flow.ui import cells
from oumi_flow.ui.frame import bar, share_of
from oumi_flow.ui.layout import cut
from oumi_flow.ui.lines import gpu_tag, waiting_words
from oumi_flow.ui.theme import STATE_STYLE, Line, line_width
from oumi_flow.ui.tui import job_pages
from oumi_flow.ui.tui.cards import count_words
from oumi_flow.ui.tui.curves import CurvesView
from oumi_flow.ui.tui.log_view import LogView
from oumi_flow.ui.tui.painted import Painted
from oumi_flow.ui.tui.source import JobFacts, Source
from oumi_flow.ui.tui.text_pane import TextPane
from oumi_flow.ui.tui.theme import rule

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

    from oumi_flow.ui.tui.app import FlowApp

PAGES = ("log", "curves", "config", "command", "files", "attempts", "why")
_BAR = 20
_RULE_FROM = 18  # lines from which there is one to spare below the row of pages
_COMMON = (("Tab", "page"), ("?", "help"), ("Esc", "back"))
_HINTS = {
    "log": (("f", "follow"), ("/", "search"), ("e", "error"), ("w", "wrap"), ("[ ]", "attempts")),
    "curves": (("j k", "metric"), ("l", "log scale"), ("s", "smooth"), ("o", "overlay")),
    "command": (("y", "copy"),),
}


class JobDetail(Screen[None]):
    app: FlowApp
    DEFAULT_CSS = """
    JobDetail { layout: vertical; overflow: hidden; }
    JobDetail > Painted { height: 1; }
    JobDetail > #pages { height: 1fr; }
    JobDetail #pages > * { height: 1fr; }
    JobDetail #pages > .away { display: none; }
    """
    BINDINGS: ClassVar = [
        *(
            Binding(str(n + 1), f"page('{page}')", f"the page {page}", id=f"page_{page}")
            for n, page in enumerate(PAGES)
        ),
        Binding("tab,right", "turn(1)", "next page", id="page_next"),
        Binding("shift+tab,left", "turn(-1)", "page before", id="page_before"),
        Binding("y", "copy", "copy the job's command", id="copy"),
        Binding("c", "cancel", "stop the job (asks first)", id="cancel"),
        Binding("R", "again", "run it again, if it failed or was stopped", id="again"),
        Binding("L", "pager", "the log in your pager ($PAGER)", id="pager"),
        Binding("E", "editor", "the log in your editor ($VISUAL, $EDITOR)", id="editor"),
        Binding("escape,q", "back", "back", id="back"),
    ]

    def __init__(self, source: Source, job: str, page: str = "log") -> None:
        super().__init__()
        self.source, self.job = source, job
        self.page = page
        self.facts: JobFacts | None = None
        self._asked_of: object = None  # what the job was when they were asked

    def compose(self) -> ComposeResult:
        look = self.app.look
        yield Painted(look, self._head, id="head")
        yield Tabs(look, self._tabs, id="tabs")
        yield Painted(look, lambda width: [rule(width, look)], id="rule")
        yield Vertical(id="pages")
        yield Painted(look, self._hints, id="hints")

    def on_mount(self) -> None:
        self._read_facts()
        self.action_page(self.page)

    def on_resize(self, event: events.Resize) -> None:
        for line in self.query("#rule"):
            line.display = event.size.height >= _RULE_FROM

    def tick(self, changed: bool) -> None:
        """Called a few times a second."""
        self._repaint("#head")
        row = self.row
        if changed and (row.state, row.attempt, row.log) != self._asked_of:
            self._read_facts()
        if changed:
            self._repaint_page()
        if self.page == "curves":
            for curves in self.query(CurvesView):
                curves.refresh_points(self.app.clock())

    @property
    def row(self) -> JobRow:
        return self.source.board.rows.get(self.job) or JobRow(self.job)

    # -- pages ----------------------------------------------------------------------------

    def action_page(self, page: str) -> None:
        pages = self.query_one("#pages")
        for child in pages.children:
            child.add_class("away")
        self.page = page
        shown = next((child for child in pages.children if child.id == f"page-{page}"), None)
        if shown is None:
            shown = self._build(page)
            pages.mount(shown)
        shown.remove_class("away")
        self.call_after_refresh(self._enter, page)
        self._repaint("#tabs", "#hints")

    def _enter(self, page: str) -> None:
        if page != self.page:
            return
        for widget in self.query(f"#page-{page}"):
            # A focus comes into force a moment later: given twice, it would take back the field
            # that a quick `/` has opened meanwhile.
            if not widget.has_focus_within:
                widget.focus()
        self._repaint_page()

    def action_turn(self, step: int) -> None:
        self.action_page(PAGES[(PAGES.index(self.page) + step) % len(PAGES)])

    def _build(self, page: str) -> Widget:
        look, name = self.app.look, f"page-{page}"
        if page == "log":
            view = LogView(look, id=name)
            view.open(lambda back: self.source.log(self.job, back), empty=self._silence())
            return view
        if page == "curves":
            rows = self.source.board.rows.values()
            verb = self.row.verb
            others = [row.name for row in rows if row.verb == verb and row.name != self.job]
            return CurvesView(look, self.source, [self.job], others=others, id=name)
        return TextPane(look, getattr(self, f"_{page}"), id=name)

    def _silence(self) -> str:
        """Why there is no log, if there is none."""
        row = self.row
        if row.state in (JobState.UP_TO_DATE, JobState.RESTORED, JobState.BLOCKED):
            return f"no log: {row.state.value}"
        if not row.state.ended and row.state is not JobState.RUNNING:
            waits = waiting_words(self.source.board, row, self.app.clock())
            return f"not started yet: {waits}" if waits else "not started yet"
        return "it has not said anything yet"

    def _repaint_page(self) -> None:
        for pane in self.query(TextPane):
            if pane.id == f"page-{self.page}":
                pane.repaint()

    def _read_facts(self) -> None:
        self._asked_of = (self.row.state, self.row.attempt, self.row.log)
        self._ask_facts()

    @work(thread=True, exclusive=True, group="facts", exit_on_error=False)
    def _ask_facts(self) -> None:
        facts = self.source.facts(self.job)
        self.app.call_from_thread(self._know, facts)

    def _know(self, facts: JobFacts) -> None:
        self.facts = facts
        self._repaint_page()

    def _config(self, width: int) -> Sequence[Line]:
        return job_pages.config_lines(self.facts, self.app.look.at(width)) if self.facts else _WAIT

    def _command(self, width: int) -> Sequence[Line]:
        return job_pages.command_lines(self.facts, self.app.look.at(width)) if self.facts else _WAIT

    def _files(self, width: int) -> Sequence[Line]:
        if self.facts is None:
            return _WAIT
        return job_pages.files_lines(self.facts, self.app.look, self.source.board, width)

    def _attempts(self, width: int) -> Sequence[Line]:
        if self.facts is None:
            return _WAIT
        return job_pages.attempts_lines(self.facts, self.app.look.at(width), self.app.clock())

    def _why(self, width: int) -> Sequence[Line]:
        theme = self.app.look.at(width)
        board = self.source.board
        return job_pages.why_lines(self.row, board, self.facts, theme, self.app.clock())

    def _repaint(self, *parts: str) -> None:
        for part in parts:
            for painted in self.query(part).results(Painted):
                painted.repaint()

    # -- around the page ------------------------------------------------------------------

    def _head(self, width: int) -> list[Line]:
        row, look = self.row, self.app.look
        theme, now = look.at(width), self.app.clock()
        style = STATE_STYLE[row.state.value]
        state: Line = [(style, row.state.value)]
        if row.attempt > 1:
            state.append(("warn", f"  attempt {row.attempt}"))
        elapsed = row.elapsed(now)
        if elapsed is not None:
            state.append(("muted", f"  {duration(elapsed)}"))
        tag = f" {gpu_tag(row.devices)}" if row.devices else ""
        room = max(6, width - line_width(state) - cells.width(tag) - 6)
        name = cells.fit_middle(theme.text(row.name), room, theme.more)
        glyph = (style, f" {look.glyph(row.state)} ")
        line: Line = [glyph, ("title", name), ("muted", tag), ("", "  "), *state]
        progress = self.source.progress(self.job) if row.state is JobState.RUNNING else None
        share = share_of(progress)
        if share is not None and progress is not None:
            words = f" {share:.0%} {count_words(progress)}"
            rail = bar(
                [("busy", share)], min(_BAR, width - line_width(line) - len(words) - 3), theme
            )
            if rail:
                line += [("", "  "), *rail, ("", words)]
        elif row.cause:
            line.append(("muted", f"  {theme.text(row.cause)}"))
        return [cut(line, width, theme)]

    def _tabs(self, width: int) -> list[Line]:
        return [[(style, text) for style, text, _ in self.tab_spans(width)]]

    def tab_spans(self, width: int) -> list[tuple[str, str, str]]:
        """Style, text and page of each piece of the row of pages."""
        wide = sum(len(page) + 5 for page in PAGES) <= width
        spans: list[tuple[str, str, str]] = [("", " ", "")]
        for number, page in enumerate(PAGES, 1):
            if page == self.page:
                spans.append(("chosen", f" {number} {page} ", page))
            elif wide:
                spans += [("key", f" {number}", page), ("muted", f" {page} ", page)]
            else:
                spans.append(("key", f" {number} ", page))
            spans.append(("", " ", ""))
        return spans

    def _hints(self, width: int) -> list[Line]:
        line: Line = [("", " ")]
        own = list(_HINTS.get(self.page, ()))
        while own and sum(len(k) + len(w) + 3 for k, w in (*own, *_COMMON)) > width:
            own.pop()
        for key, words in (*own, *_COMMON):
            line += [("key", key), ("muted", f" {words}"), ("", "  ")]
        return [cut(line, width, self.app.look.at(width))]

    # -- keys -----------------------------------------------------------------------------

    def on_tabs_picked(self, event: Tabs.Picked) -> None:
        end = 0
        for _, text, page in self.tab_spans(self.size.width):
            end += len(text)
            if event.at < end:
                if page:
                    self.action_page(page)
                return

    def action_back(self) -> None:
        self.dismiss()

    def action_copy(self) -> None:
        self.app.copy_command(self.job)

    def action_cancel(self) -> None:
        self.app.ask_cancel(self.job)

    def action_again(self) -> None:
        self.app.ask_again(self.job)

    def action_pager(self) -> None:
        self.app.open_outside("pager", self.job)

    def action_editor(self) -> None:
        self.app.open_outside("editor", self.job)


class Tabs(Painted):
    """The row of pages; a click goes to one."""

    class Picked(Message):
        def __init__(self, at: int) -> None:
            super().__init__()
            self.at = at  # column

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Picked(event.x))


_WAIT: Sequence[Line] = ([("muted", " reading the workflow …")],)
