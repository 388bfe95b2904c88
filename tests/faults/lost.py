"""Jobs that tell of their effects and of being started twice, and what a killed run left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from tests.flow.conftest import Space, wait_for

# A lock that all processes of a job hold: a second one of that job finds it held and says so.
PROLOGUE = """\
exec {{lock}}>> lock.{name}
flock -n $lock || {{ echo "twice {name} $$" >> effects.log; exit 9; }}
over() {{ echo "end {name} $$" >> effects.log; }}
echo "start {name} $$" >> effects.log
"""


class Lasting:
    """Jobs with an effect: each start and each end is a line of `effects.log`."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.effects = space.root / "effects.log"

    def job(self, name: str, run: str, **fields: Any) -> dict[str, Any]:
        text = f"set -e\n{PROLOGUE.format(name=name)}{run}\nover"
        return {"name": name, "verb": "shell", "run": text, **fields}

    def count_effects(self) -> tuple[Counter[str], Counter[str]]:
        """How often each job was started and came to its end. Nobody was there twice at once."""
        text = self.effects.read_text() if self.effects.exists() else ""
        assert "twice" not in text, text
        words = [line.split() for line in text.splitlines()]
        started = Counter(name for kind, name, _ in words if kind == "start")
        ended = Counter(name for kind, name, _ in words if kind == "end")
        return started, ended

    def check_status(self, alive: bool = True) -> None:
        """Between two runs: nothing runs but what may be `alive`, and that is shown as such."""
        told = self.space.command("status", "workflow.yaml", "--json")
        if told.code:  # killed before its first event
            assert "has not been run yet" in told.err, told.text
            return
        run = json.loads(told.out)
        assert run["state"] not in ("running", "planned", "interrupted"), told.out
        running = [job for job in run["jobs"] if job["state"] == "running"]
        assert all(job["runner_lost"] for job in running), told.out
        assert alive or not running, told.out


def processes_of(space: Space) -> list[int]:
    """Everything whose environment leads to that space, straces and zombies aside."""
    mark = str(space.root.parent).encode() + b"/"
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environ = Path(f"/proc/{entry}/environ").read_bytes()
            name = Path(f"/proc/{entry}/comm").read_text()
        except OSError:
            continue
        if mark in environ and name != "strace\n":
            found.append(int(entry))
    return found


def end_all(space: Space) -> None:
    """Only a test that failed has left anybody, and nobody else would end them."""
    for pid in processes_of(space):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def assert_all_let_go(space: Space) -> None:
    """No process is left, no lock is held."""
    wait_for(lambda: not processes_of(space), f"nobody is left, {processes_of(space)}", limit=10)
    locks = Path(space.env["OUMI_FLOW_LOCK_DIR"])
    for path in [*locks.rglob("*.lock"), space.root / "out/.oumi-flow/lock"]:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
