"""The screen's program: polls a source a few times a second and shows it; asks before it stops.

Knows a run only as a `Source`. Everything that could take a moment is done by a worker thread.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from textual import work
from textual.app import App
from textual.binding import Binding
from textual.screen import Screen

from oumi_flow.graph import descendants
from oumi_flow.model import JobState
from oumi_flow.text import count
from oumi_flow.ui.tables import GpuRow
from oumi_flow.ui.theme import Line, Theme
from oumi_flow.ui.tui import help as helping
from oumi_flow.ui.tui.dialogs import Page, Question
from oumi_flow.ui.tui.keymap import ALWAYS, MAIN, Settings, bindings, groups
from oumi_flow.ui.tui.main import MainScreen
from oumi_flow.ui.tui.painted import Painted
from oumi_flow.ui.tui.palette import Choice, Palette, state_style
from oumi_flow.ui.tui.source import Source
from oumi_flow.ui.tui.theme import look_of, textual_theme

if TYPE_CHECKING:
    from oumi_flow.board import Board

TICK_SECONDS = 0.25
_GPU_SECONDS = 2.0
_NEWER_SECONDS = 2.0
_NAMED = 8  # jobs that a question names


class FlowApp(App[None]):
    """`run()` blocks until the user leaves. `fault`: what went wrong in the screen itself."""

    TITLE = "oumi-flow"
    ENABLE_COMMAND_PALETTE = False  # ours is another
    NOTIFICATION_TIMEOUT = 4
    CSS = """
    ToastRack { align-horizontal: right; }
    Toast { padding: 0 1; width: auto; max-width: 60; }
    .-ascii * { scrollbar-size: 0 0; }
    .-ascii .box { border: ascii $primary; }
    .-ascii Toast { border: ascii $primary; }
    """
    BINDINGS: ClassVar = [
        *bindings(ALWAYS),
        Binding("ctrl+q", "leave", "leave", show=False, system=True, priority=True),
    ]

    def __init__(
        self,
        source: Source,
        theme: Theme,
        settings: Settings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        read_only: bool = False,
    ) -> None:
        """`theme` says what the terminal can show; without colour its own are the only ones.

        `read_only` refuses all that would stop, start or write something.
        """
        self.settings = settings or Settings()
        # Without colour the filter of Textual has to be the one for a terminal's own colours, or
        # it paints black on black; which one it is, is settled here.
        super().__init__(ansi_color=None if theme.color else True)
        self.source, self.clock, self.read_only = source, clock, read_only
        self.look = look_of(theme, self.settings.theme if theme.color else "terminal")
        self.gpu_rows: Sequence[GpuRow] = ()
        self.animation_level = "none"
        self._gpus_at = self._newer_at = 0.0
        self._awaited = False  # a run that was started from here
        self._shown: WeakKeyDictionary[Screen[Any], tuple[Board, int]] = WeakKeyDictionary()

    @property
    def fault(self) -> Exception | None:
        return self._exception

    def get_default_screen(self) -> Screen[Any]:
        return MainScreen()

    def on_mount(self) -> None:
        theme = textual_theme(self.look.name)
        self.register_theme(theme)
        self.theme = theme.name
        self.set_class(not self.look.theme.unicode, "-ascii")
        self.set_keymap(dict(self.settings.keys))
        self.source.poll()  # so that the first picture shows the run
        self.set_interval(TICK_SECONDS, self._tick)

    def _print_error_renderables(self) -> None:
        """Nothing: a traceback is not for users. Whoever opened the screen asks for `fault`."""

    # -- time goes by ---------------------------------------------------------------------

    def _tick(self) -> None:
        if not (self.is_running and self.screen_stack):  # being left: it comes apart meanwhile
            return
        self.source.poll()
        now = self.clock()
        board = self.source.board
        if board.devices and not board.over and now - self._gpus_at >= _GPU_SECONDS:
            self._gpus_at = now
            self.ask_gpus()
        if board.over and now - self._newer_at >= _NEWER_SECONDS:
            self._newer_at = now
            newer = self.source.moved_on()
            if newer and self._awaited:
                self.follow(newer)
        self.show()

    def show(self, anew: bool = False) -> None:
        """Let what is in sight draw what is new since it last drew; `anew`: all of it.

        What lies behind a window of ours is in sight, too. What another screen covers draws what it
        missed when it is uncovered.
        """
        board = self.source.board
        for screen in _in_sight(self.screen_stack):
            # One that is only being built has nothing to draw on yet.
            tick = getattr(screen, "tick", None)
            if tick is not None and screen.is_mounted:
                of, version = self._shown.get(screen, (None, 0))
                self._shown[screen] = (board, board.version)
                tick(anew or of is not board or version != board.version)

    @work(thread=True, exclusive=True, group="gpus", exit_on_error=False)
    def ask_gpus(self) -> None:
        rows = self.source.gpus()
        self.call_from_thread(self._know_gpus, rows)

    def _know_gpus(self, rows: Sequence[GpuRow]) -> None:
        self.gpu_rows = rows
        for strip in self.screen_stack[0].query("#gpus").results(Painted):
            strip.repaint()

    def follow(self, run_id: str) -> None:
        """Show that run from now on."""
        self._awaited = False
        self.source.follow(run_id)
        self.say(f"this is run {run_id} now")
        self.show()

    def look_again(self) -> None:
        newer = self.source.moved_on()
        if newer:
            self.follow(newer)
        self.source.poll()
        self.show(anew=True)
        self.refresh(layout=True)

    def say(self, words: str, severity: Any = "information") -> None:
        self.notify(self.look.theme.text(words), severity=severity, markup=False)

    # -- other screens --------------------------------------------------------------------

    def open_job(self, job: str) -> None:
        from oumi_flow.ui.tui.detail import JobDetail

        if job in self.source.board.rows:
            self.push_screen(JobDetail(self.source, job))

    def open_metrics(self) -> None:
        from oumi_flow.ui.tui.metrics_view import MetricsView

        self.push_screen(MetricsView(self.source))

    def open_dag(self) -> None:
        from oumi_flow.ui.tui.dag_view import DagView

        self.push_screen(DagView())

    def open_gpus(self) -> None:
        from oumi_flow.ui.tui.gpu_panel import GpuPanel

        self.push_screen(GpuPanel())

    def _go_to(self, job: str | None) -> None:
        """A job was chosen elsewhere: on the main screen it is too."""
        main = self.screen_stack[0]
        if job and isinstance(main, MainScreen):
            if job not in main.jobs.names:
                main.action_clear()
            main.jobs.choose(job)

    def choose(self, job: str) -> None:
        self._go_to(job)

    def action_help(self) -> None:
        told = groups(type(self.screen).__name__)
        lines = helping.help_lines(told, self.settings.keys)
        self.push_screen(Page(self.look, "Keys", lines, hang=helping.COLUMN))

    def action_palette(self) -> None:
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(self.look, self._choices), self._chosen)

    def _choices(self) -> Iterator[Choice]:
        main = self.screen_stack[0]
        for act, node in [*((act, main) for act in MAIN), *((act, self) for act in ALWAYS)]:
            if act.id not in ("palette", "interrupt"):
                keys = helping.key_words(self.settings.keys.get(act.id, act.keys))
                yield Choice(act.words, keys, "muted", partial(self.run_action, act.action, node))
        for name, row in self.source.board.rows.items():
            state = row.state.value
            yield Choice(name, state, state_style(state), partial(self.choose, name))

    async def _chosen(self, choice: Choice | None) -> None:
        done = choice.act() if choice is not None else None
        if isinstance(done, Awaitable):
            await done

    # -- wishes to the run ----------------------------------------------------------------

    def action_leave(self) -> None:
        self.exit()

    async def action_quit(self) -> None:
        self.exit()

    def only_looks(self) -> bool:
        """Whether a wish is refused; the user is told."""
        if self.read_only:
            self.say("this screen may only look on", "warning")
        return self.read_only

    def action_stop(self) -> None:
        board = self.source.board
        if any(isinstance(screen, Question) for screen in self.screen_stack):
            return
        if board.over or not self.source.live:
            self.exit()
            return
        if self.only_looks():
            return
        words = (
            f"{count(len(board.running), 'running job')} will be stopped, and what waits will "
            "not be started. What has finished stays finished."
        )
        lines: list[Line] = [[("", words)]]
        answers = [
            ("y", "stop the run", "stop"),
            ("q", "leave it running", "leave"),
            ("n", "back", ""),
        ]
        question = Question(self.look, "Stop the run?", lines, answers)
        self.push_screen(question, self._stop)

    def _stop(self, answer: str | None) -> None:
        if answer == "leave":
            self.exit()
        elif answer == "stop":
            self._wish(partial(self.source.cancel, None))

    def ask_cancel(self, job: str) -> None:
        """Ask whether to stop a job, and name those that cannot run without it."""
        board = self.source.board
        row = board.rows.get(job)
        if row is None:
            return
        if row.state.ended:
            self.say(f"{job}: {row.state.value} already")
            return
        if not self.source.live and not row.runner_lost:
            self.say("no run is live: there is nothing to stop")
            return
        if self.only_looks():
            return
        after = descendants([job], {name: one.upstream for name, one in board.rows.items()})
        blocked = [
            name for name in board.rows if name in after and not board.rows[name].state.ended
        ]
        lines: list[Line] = []
        if row.state is JobState.RUNNING:
            lines.append([("", "Its processes are ended: politely, then by force.")])
        else:
            lines.append([("", "It will not be started in this run.")])
        if blocked:
            more = f" and {len(blocked) - _NAMED} more" if len(blocked) > _NAMED else ""
            lines.append([])
            lines.append(
                [
                    ("warn", f"{count(len(blocked), 'job')} will be blocked: "),
                    ("", ", ".join(blocked[:_NAMED]) + more),
                ]
            )
        answers = [("y", "stop it", "yes"), ("n", "back", "")]

        def answered(answer: str | None) -> None:
            if answer:
                self._wish(partial(self.source.cancel, [job]))

        self.push_screen(Question(self.look, f"Stop {job}?", lines, answers), answered)

    def ask_again(self, job: str) -> None:
        """Run a job again that did not succeed; the rest of the run goes on untouched."""
        row = self.source.board.rows.get(job)
        if row is None:
            return
        if row.state.succeeded or not row.state.ended:
            self.say(f"{job}: {row.state.value}; only what failed or was stopped is run again")
        elif self.source.live:
            self.say("the run is still going: run it again once it has ended")
        elif not self.only_looks():
            self._awaited = True
            self._wish(partial(self.source.run_again, [job]))

    @work(thread=True, group="wishes")
    def _wish(self, ask: Callable[[], str]) -> None:
        words = ask()
        if words:
            self.call_from_thread(self.say, words)

    # -- odds and ends --------------------------------------------------------------------

    @work(thread=True, group="facts")
    def copy_command(self, job: str) -> None:
        if job:
            command = shlex.join(self.source.facts(job).command)
            self.call_from_thread(self._copied, job, command)

    def _copied(self, job: str, command: str) -> None:
        if command:
            self.copy_to_clipboard(command)
            self.say(f"copied the command of {job}")
        else:
            self.say(f"the command of {job} is not known")

    def open_outside(self, program: str, job: str) -> None:
        """Hand the terminal to a pager or an editor with the job's log, and take it back after."""
        from oumi_flow.ui.tui.outside import show_file

        if job:
            words = show_file(self, program, self.source.log(job))
            if words:
                self.say(words, "warning")


def _in_sight(stack: Sequence[Screen[Any]]) -> list[Screen[Any]]:
    """The uppermost screen, and those that show behind it."""
    seen: list[Screen[Any]] = []
    for screen in reversed(stack):
        seen.append(screen)
        if not screen.is_modal:
            break
    return seen
