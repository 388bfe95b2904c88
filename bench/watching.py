#!/usr/bin/env python3
"""What watching a large run costs, by a real `monitor` in a terminal of its own.

    python bench/watching.py [--jobs 1000] [--many 10000] [--points 1000000] [--seconds 20]

A run of that many jobs, eight of which are active and tell a step and a loss twice a second, is
watched for a while, then again when they fall silent. CPU is that of the screen's process alone,
in percent of a core; memory is its peak. Then two runs are opened, one of very many jobs, one with
that many points in the metrics file of a job: from when interpreter and imports are done until the
jobs, or the curve of the loss, stand on the screen. The CPU that this took is what it takes on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path

FLOW = [sys.executable, "-m", "oumi_flow"]
MONITOR = """
import os, sys, oumi_flow.ui.tui.app, textual.drivers.linux_driver
from oumi_flow.cli import main
os.write(int(sys.argv[1]), b"imported")
sys.exit(main(["monitor"]))
"""
ACTIVE = 8
TELL = (
    "n=0; while [ ! -e stop ]; do n=$((n + 1)); "
    "[ -e silent ] || echo \"{'loss': 0.$n, 'step': $n}\"; sleep 0.5; done"
)


def say(what: str, value: float, unit: str) -> None:
    print(f"{what:62}{value:10.2f} {unit}", flush=True)


def cpu_seconds(pid: int) -> float:
    """By the scheduler: what wakes up with the timer is not counted right in ticks."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def peak_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


class Screen:
    """`monitor` in a terminal, whose output is taken in as a terminal would."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        imported, tell = os.pipe()
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-c", MONITOR, str(tell)],
            cwd=folder,
            pass_fds=[tell],
            env={**env, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        self.pid = self._process.pid
        os.close(slave)
        os.close(tell)
        os.read(imported, 64)
        self.imported, self.cpu = time.monotonic(), cpu_seconds(self.pid)
        os.close(imported)

    def read(self, seconds: float, until: bytes = b"") -> bool:
        """Take in what it draws for that long, or until those bytes are among it."""
        end = time.monotonic() + seconds
        seen = b""
        while (left := end - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                seen += os.read(self._master, 1 << 16)
                if until and until in seen:
                    return True
        return not until

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 10
        while self._process.poll() is None and time.monotonic() < end:
            with suppress(OSError):  # nobody holds the other end any more
                if select.select([self._master], [], [], 0.05)[0]:
                    os.read(self._master, 1 << 16)
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@contextmanager
def running(folder: Path, env: dict[str, str], jobs: list[dict[str, object]]) -> Iterator[None]:
    """A run of those jobs in the background; stopped at the end."""
    folder.mkdir()
    listed = {"name": "large", "output_dir": "out", "jobs": jobs}
    (folder / "workflow.yaml").write_text(json.dumps(listed))
    start = [*FLOW, "run", "workflow.yaml", "--detach", "-j", str(ACTIVE)]
    subprocess.run(start, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        stop = [*FLOW, "cancel", "workflow.yaml"]
        subprocess.run(stop, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)


def jobs(count: int, active: int, script: str) -> list[dict[str, object]]:
    first: list[dict[str, object]] = [
        {"name": f"active-{n}", "verb": "shell", "run": script} for n in range(active)
    ]
    rest: list[dict[str, object]] = [
        {"name": f"job-{n}", "verb": "shell", "run": "true", "depends_on": ["active-0"]}
        for n in range(count - active)
    ]
    return [*first, *rest]


def of_watching(folder: Path, env: dict[str, str], count: int, seconds: float) -> None:
    with running(folder, env, jobs(count, ACTIVE, TELL)):
        screen = Screen(folder, env)
        if not screen.read(60, b"'step':"):
            sys.exit("the screen did not show the log")
        screen.read(3)
        for how in (f"{ACTIVE} active that tell twice a second", "the same, silent"):
            cpu, begin = cpu_seconds(screen.pid), time.monotonic()
            screen.read(seconds)
            used = (cpu_seconds(screen.pid) - cpu) / (time.monotonic() - begin)
            say(f"{count} jobs, {how}", used * 100, "% of a core")
            (folder / "silent").touch()
            screen.read(3)
        say("  memory", peak_megabytes(screen.pid), "MB")
        screen.close()


def of_opening(folder: Path, env: dict[str, str], count: int, points: int) -> None:
    """Of a run of `count` jobs, one of which has `points` (0: none)."""
    script = "echo \"{'loss': 0.5, 'step': 7}\"; while [ ! -e stop ]; do sleep 0.5; done"
    with running(folder, env, jobs(count, 1, script)):
        job = folder / "out/active-0"
        while not (job / "job.log").exists():
            time.sleep(0.1)
        if points:
            with (job / "metrics_rank0000.jsonl").open("w") as file:
                for n in range(1, points + 1):
                    loss = n * 0.37 % 1
                    file.write(f'{{"step": {n}, "loss": {loss:.6f}, "learning_rate": 1e-05}}\n')
        shown = "\u2581" if points else f"{count} by activity"
        before, took, used = [], [], []
        for _ in range(7):
            screen = Screen(folder, env)
            if not screen.read(60, shown.encode()):
                sys.exit(f"the screen did not show {shown}")
            took.append(time.monotonic() - screen.imported)
            before.append(screen.imported - screen.began)
            used.append(cpu_seconds(screen.pid) - screen.cpu)
            memory = peak_megabytes(screen.pid)
            screen.close()
        what = f"a run with {points:,} points" if points else f"{count:,} jobs"
        say(f"{what}, until shown", statistics.median(took), "s")
        say("  CPU of it", statistics.median(used), "s")
        say("  interpreter and imports before it", statistics.median(before), "s")
        say("  memory", memory, "MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        env = {**os.environ, "OUMI_FLOW_HOME": f"{scratch}/home"}
        for name in ("CI", "NO_COLOR", "COLUMNS", "LINES", "PYTHONDONTWRITEBYTECODE"):
            env.pop(name, None)
        of_watching(Path(scratch, "watched"), env, options.jobs, options.seconds)
        of_opening(Path(scratch, "many"), env, options.many, 0)
        of_opening(Path(scratch, "long"), env, 2, options.points)


if __name__ == "__main__":
    main()
