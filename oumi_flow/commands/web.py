"""`monitor --web`: the screen of a run, served to browsers on this machine until stopped."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from oumi_flow.errors import OK, FlowError
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oumi_flow.commands.targets import Found

_DRIVER = "textual.drivers.web_driver:WebDriver"
_PAGE = frozenset({"COLUMNS", "ROWS", "PYTHONUTF8"})
_INSTALL = "pip install 'oumi-flow[web]'"


def in_browser() -> bool:
    """Whether this process is the viewer of a tab: Textual draws into a page, not on a terminal."""
    return os.environ.get("TEXTUAL_DRIVER") == _DRIVER


def without_page(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for what a tab starts: that of any other, with nothing of the page's."""
    if not in_browser():
        return dict(environ)
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("TEXTUAL", "TERM")) and name not in _PAGE
    }


def serve(found: Found, port: int, writable: bool) -> int:
    """Blocks until SIGINT, SIGTERM or SIGHUP. Raises FlowError where it cannot be served."""
    from importlib.util import find_spec

    if find_spec("textual") is None or find_spec("textual_serve") is None:
        raise FlowError("--web: textual-serve is not installed", hint=_INSTALL)
    from oumi_flow.ui.web.server import Web, listen

    try:
        heard = listen(port)
    except (OSError, OverflowError) as fault:
        why = getattr(fault, "strerror", None) or "no such port"
        raise FlowError(
            f"--web: cannot listen on port {port}: {why}", hint="leave --port out for a free one"
        ) from fault
    argv = [sys.executable, "-m", "oumi_flow", "monitor", found.run_id, "--tui"]
    if not writable:
        argv.append("--read-only")
    env = {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
    server = Web(heard, argv, env, f"{found.run_id} — oumi-flow")
    print(f"run {found.run_id} at {server.address}", flush=True)
    may = "" if writable else ", to look only (--writable lets it stop and start jobs)"
    print(f"for this machine's users who have the address{may}; Ctrl-C ends it", file=sys.stderr)
    server.run()
    return OK
