"""The full screen: whether there can be one here, the user's settings for it, and opening it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

from oumi_flow.errors import JOBS_FAILED, OK, FlowError
from oumi_flow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from oumi_flow.commands.opening import Opened
    from oumi_flow.store import Store
    from oumi_flow.ui.tui.keymap import Settings

_INSTALL = "pip install 'oumi-flow[tui]'"


def is_wanted(options: argparse.Namespace, by_file: bool = True) -> bool:
    """Whether to open the screen, by flags, file and terminal.

    Says once to a user how to install it. Raises FlowError where `--tui` asks for what cannot be.
    """
    forced = options.tui is True
    if options.tui is False or not (by_file or forced):
        return False
    if any(getattr(options, flag, False) for flag in ("json", "quiet", "detach")):
        return False
    why = why_not(os.environ, forced=forced)
    if why:
        if forced:
            raise FlowError(f"--tui: {why}", hint="leave it out for plain lines")
        return False
    if _is_installed():
        return True
    if forced:
        raise FlowError("--tui: textual is not installed", hint=_INSTALL)
    _tell_of_it()
    return False


def why_not(environ: Mapping[str, str], *, forced: bool = False) -> str:
    """What this place lacks for a screen; "" for nothing."""
    from oumi_flow.commands.web import in_browser

    if in_browser():
        return ""
    for name in ("stdin", "stdout", "stderr"):
        if not _is_terminal(getattr(sys, name)):
            return f"{name} is no terminal"
    if environ.get("TERM", "") in ("", "dumb"):
        return "this terminal cannot move its cursor (TERM=dumb)"
    if not forced and environ.get("CI", "").lower() not in ("", "0", "false"):
        return "this is CI"
    return ""


def _is_terminal(stream: Any) -> bool:
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:  # closed
        return False


def _is_installed() -> bool:
    from importlib.util import find_spec

    return find_spec("textual") is not None


def _tell_of_it() -> None:
    """Once to a user, for whoever does not want it should not be told at each run."""
    from contextlib import suppress

    from oumi_flow.store.runs import list_folder

    told = os.path.join(os.path.dirname(list_folder(os.environ)), "told-of-tui")
    if os.path.exists(told):
        return
    print(f"a full screen to watch runs: {_INSTALL}", file=sys.stderr)
    with suppress(OSError):
        os.makedirs(os.path.dirname(told), exist_ok=True)
        open(told, "w").close()


# -- settings -----------------------------------------------------------------------------


def settings_path(environ: Mapping[str, str]) -> str:
    """Where the user's settings of the screen lie, whether they are there or not."""
    home = environ.get("OUMI_FLOW_HOME")
    if home:
        return os.path.join(home, "config", "tui.yaml")
    config = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(config, "oumi-flow", "tui.yaml")


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The user's settings. Raises FlowError with all that is wrong with them."""
    from oumi_flow.load.yaml_source import decode, parse
    from oumi_flow.ui.tui.keymap import Settings, read_settings

    path = settings_path(environ)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return Settings()
    except OSError as fault:
        raise FlowError(f"{path}: cannot read: {fault.strerror}") from fault
    value = parse(decode(path, data), empty_is_fine=True).plain()
    if not isinstance(value, Mapping):
        value = {} if value is None else {"": value}
    settings, problems = read_settings(value)
    if problems:
        raise FlowError(f"{path}: {'; '.join(problems)}")
    return settings


# -- opening it ---------------------------------------------------------------------------


def run_on_screen(options: argparse.Namespace, opened: Opened) -> int:
    """Start the run as `--detach` does and watch it; returns an exit code (SPEC §4.4)."""
    from oumi_flow.commands.background import start

    settings = load_settings(os.environ)
    run_id = start(options.command_line, opened.store, meanwhile=_import)
    if not run_id:
        return OK
    return watch(opened.store, run_id, opened.workflow.path, settings)


def _import() -> None:
    """What takes longest, while the run starts."""
    import oumi_flow.ui.tui.app  # noqa: F401


def watch(
    store: Store,
    run_id: str,
    path: str,
    settings: Settings | None = None,
    *,
    read_only: bool = False,
) -> int:
    """Open the screen on a run until its user leaves; then say how things are, and an exit code."""
    import gc

    from oumi_flow.commands.watching import Watching
    from oumi_flow.commands.web import in_browser
    from oumi_flow.ui.theme import theme_of

    settings = settings if settings is not None else load_settings(os.environ)
    if not in_browser():
        _forget_the_size(os.environ)
    source = Watching(store, run_id, path)  # reads what was told while the rest is imported
    from oumi_flow.ui.tui.app import FlowApp

    gc.freeze()  # what was imported is here to stay: not to be looked through with every run's rows
    theme = theme_of(sys.stderr)
    app = FlowApp(source, _for_screen(theme, settings, os.environ), settings, read_only=read_only)
    _end_with_the_terminal()
    try:
        with _ended_politely(app):
            app.run(mouse=settings.mouse)
    finally:
        source.close()
    source.poll()
    if in_browser() and app.fault is None:
        return OK  # the page says the rest
    return _leave(source, app.fault)


def _forget_the_size(environ: MutableMapping[str, str]) -> None:
    """A terminal knows its size best: one that the shell exported would hold the screen, and the
    pager opened from it, at that size whatever the window becomes."""
    for name in ("COLUMNS", "LINES"):
        environ.pop(name, None)


def _for_screen(theme: Any, settings: Settings, environ: Mapping[str, str]) -> Any:
    """Colour unless NO_COLOR says not; ASCII where asked for, and where the console has no more."""
    from oumi_flow.dataclass import replace

    plain = settings.ascii or environ.get("TERM") == "linux" or not theme.unicode
    return replace(
        theme,
        color=not environ.get("NO_COLOR"),
        encoding="ascii" if plain else theme.encoding,
        screen=True,
    )


def _end_with_the_terminal() -> None:
    """A hang-up ends us, under nohup too, and from a terminal that is not our controlling one and
    sends no signal: reading from one that is gone would go on for ever."""
    import select
    import signal
    import threading

    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    gone = select.poll()
    for stream in (sys.stdin, sys.stderr):
        gone.register(stream.fileno(), 0)  # a hang-up is told unasked

    def wait() -> None:
        gone.poll()
        os.kill(os.getpid(), signal.SIGHUP)

    threading.Thread(target=wait, name="hang-up", daemon=True).start()


@contextmanager
def _ended_politely(app: Any) -> Iterator[None]:
    """SIGTERM leaves the screen with the terminal as it was. SIGHUP ends us as it ends anybody."""
    import signal

    before = signal.signal(signal.SIGTERM, lambda *_: app.exit())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(source: Any, fault: Exception | None) -> int:
    from oumi_flow.ui.lines import closing
    from oumi_flow.ui.theme import theme_of

    board = source.board
    if fault is not None and source.live:
        print(f"the run goes on; `oumi-flow status {source.run_id}` shows it", file=sys.stderr)
    if fault is not None:
        raise fault
    if source.live:
        words = f"the run goes on; `oumi-flow monitor {source.run_id}` comes back"
        print(words, file=sys.stderr)
        return OK
    from oumi_flow.commands.views import tails

    theme = theme_of(sys.stdout)
    for line in closing(board, theme, tails(source.store)):
        print(theme.render(line))
    return OK if board.state == "done" else JOBS_FAILED
