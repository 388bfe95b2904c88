"""What every benchmark here needs: the CPU time of whole processes, a table, and a history.

A figure is a median over rounds in which all that is compared takes its turn, so that a machine
that slows down slows all of it. Figures of different machines, or of different days, compare only
as ratios: give each table something to divide by.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HISTORY = Path(__file__).with_name("history.jsonl")


@dataclass(frozen=True)
class Spent:
    """One process with all that it waited for.

    `peak_mb` is the memory of the largest among them, and at least that of whoever measures: the
    kernel counts a child from its fork.
    """

    cpu_s: float
    wall_s: float
    peak_mb: float


def spend(
    command: Sequence[str], cwd: Path | str = ".", env: Mapping[str, str] | None = None
) -> Spent:
    """Run a command to its end, without output. Raises CalledProcessError if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=said.decode())
    return Spent(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios round by round: the machine's drift is in both and cancels."""
    return statistics.median(
        mine / other for mine, other in zip(ours, theirs, strict=True) if other
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that also reads well as it is: first column left, others right."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            text.ljust(width) if at == 0 else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def remember(bench: str, figures: Mapping[str, float], history: Path = HISTORY) -> None:
    """Append named figures to the history, one JSON object a line, with what they hold for."""
    entry = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "bench": bench,
        "commit": _commit(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "figures": {name: round(value, 4) for name, value in figures.items()},
    }
    with history.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _commit() -> str:
    """The commit that is checked out, with a `+` if files differ from it."""
    git = ["git", "-C", str(HISTORY.parent)]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True)
        changed = subprocess.check_output([*git, "status", "--porcelain", "-uno"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return "?"
    return commit.strip() + ("+" if changed.strip() else "")


def flow() -> list[str]:
    """The installed command of this interpreter's environment, else the package itself."""
    script = Path(sys.executable).with_name("oumi-flow")
    return [str(script)] if script.exists() else [sys.executable, "-m", "oumi_flow"]
