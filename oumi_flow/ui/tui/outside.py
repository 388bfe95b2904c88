"""The log in the user's own pager or editor, while the screen steps aside."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.app import App


def show_file(app: App[None], program: str, path: str) -> str:
    """Blocks until it has been left. Returns words where it could not be started."""
    from textual.app import SuspendNotSupported

    if not os.path.isfile(path):
        return "there is no log yet"
    words = command_of(program, os.environ)
    try:
        with app.suspend():
            done = subprocess.run([*words, os.path.abspath(path)], check=False)
    except SuspendNotSupported:
        return "this terminal cannot be handed over"
    except OSError as fault:
        return f"{words[0]}: {fault.strerror}"
    return f"{words[0]} ended with {done.returncode}" if done.returncode else ""


def command_of(program: str, environ: Mapping[str, str]) -> list[str]:
    """The words of the user's pager or editor."""
    if program == "pager":
        return shlex.split(environ.get("PAGER", "")) or ["less", "+G"]
    chosen = environ.get("VISUAL") or environ.get("EDITOR") or ""
    return shlex.split(chosen) or ["vi"]
