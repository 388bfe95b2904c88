#!/usr/bin/env python3
"""How long a GPU lies idle while a job waits for it, and what waiting costs.

    python bench/tokens.py [--workflows 3] [--jobs 6] [--gpus 2] [--seconds 0.5] [--load 1]

Runs workflows that want GPUs of a stand-in, beside so many busy processes: first one alone, then
several at once. Each job writes down when it began and ended and on which GPU; the gaps between two
jobs of one GPU, while any job still waits, are what is printed. Of one run, where nobody has to
notice anything, they are what ending one job and starting another takes by itself. Then one run
waits for a GPU that another holds, and the CPU time of both is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

FLOW = [sys.executable, "-m", "oumi_flow", "run"]


def write(folder: Path, name: str, jobs: int, seconds: float, **resources: object) -> str:
    run = (
        f'a="$EPOCHREALTIME"; lock=$(cat locks/*/gpu-$CUDA_VISIBLE_DEVICES.lock); sleep {seconds}; '
        f'echo "$CUDA_VISIBLE_DEVICES $a $EPOCHREALTIME {name} $lock" >> times.log'
    )
    listed = [
        {"name": f"j{number}", "verb": "shell", "run": run, "resources": {"gpu": "auto"}}
        for number in range(jobs)
    ]
    data = {"name": name, "output_dir": f"out-{name}", "jobs": listed, "resources": resources}
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(data))
    return path.name


def start(folder: Path, env: Mapping[str, str], *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*FLOW, *args, "--no-tui", "-q"], cwd=folder, env=env, stdout=subprocess.DEVNULL
    )


def cpu_seconds(pid: int) -> float:
    """By the scheduler: what wakes up with the timer is not counted right in ticks."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def gaps(folder: Path) -> tuple[list[float], list[float], list[str]]:
    """Seconds between two jobs of one GPU while others wait: until the lease, until the job runs.

    Also whose jobs began, in order.
    """
    rows = [line.split(" ", 4) for line in (folder / "times.log").read_text().splitlines()]
    jobs = sorted(
        (float(begin), float(end), gpu, who, float(json.loads(lock)["since"]))
        for gpu, begin, end, who, lock in rows
    )
    last_begin = jobs[-1][0]
    leased, begun = [], []
    for gpu in {job[2] for job in jobs}:
        of = [job for job in jobs if job[2] == gpu]
        for number in range(1, len(of)):
            end, begin, lease = of[number - 1][1], of[number][0], of[number][4]
            assert begin >= end, "two jobs on one GPU"
            if end < last_begin:
                leased.append(lease - end)
                begun.append(begin - end)
    return leased, begun, [job[3] for job in jobs]


def measured(
    folder: Path, env: Mapping[str, str], names: list[str], jobs: int, options: argparse.Namespace
) -> tuple[list[float], list[float], list[str]]:
    """The gaps where these workflows run side by side."""
    (folder / "times.log").unlink(missing_ok=True)
    files = [write(folder, name, jobs, options.seconds) for name in names]
    for run in [start(folder, env, file) for file in files]:
        assert run.wait() == 0
    return gaps(folder)


def tell(who: str, found: tuple[list[float], list[float], list[str]]) -> None:
    for what, idle in (("the next lease", found[0]), ("the next job's first line", found[1])):
        quarters = ", ".join(f"{q * 1000:.0f}" for q in statistics.quantiles(idle, n=4))
        print(
            f"{who}: {len(idle)} gaps from a job's end until {what}: quarters {quarters} ms, ",
            end="",
        )
        print(f"longest {max(idle) * 1000:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workflows", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=6, help="of each workflow")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="that a job takes")
    parser.add_argument("--load", type=int, default=1, help="busy processes beside it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "gpus.json").write_text(json.dumps([{"index": i} for i in range(options.gpus)]))
        env = {
            **os.environ,
            "OUMI_FLOW_HOME": str(folder / "home"),
            "OUMI_FLOW_LOCK_DIR": str(folder / "locks"),
            "OUMI_FLOW_FAKE_GPUS": str(folder / "gpus.json"),
        }
        busy = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(options.load)
        ]
        try:
            one = measured(folder, env, ["alone"], options.jobs * options.workflows, options)
            names = [f"w{number}" for number in range(options.workflows)]
            several = measured(folder, env, names, options.jobs, options)
        finally:
            for process in busy:
                process.kill()
                process.wait()
        tell("one run", one)
        tell(f"{options.workflows} runs", several)
        print("turns:", " ".join(several[2]))
        holder = start(folder, env, write(folder, "holder", options.gpus, 40))
        time.sleep(3)
        waiter = start(folder, env, write(folder, "waiter", 1, 0))
        time.sleep(12)
        before = [cpu_seconds(run.pid) for run in (waiter, holder)]
        time.sleep(20)
        waits, runs = (
            (cpu_seconds(run.pid) - was) / 20
            for run, was in zip((waiter, holder), before, strict=True)
        )
        print(f"CPU of the first in line: {waits:.2%} of a core; of one whose jobs run: {runs:.2%}")
        holder.terminate()
        assert waiter.wait() == 0
        holder.wait()


if __name__ == "__main__":
    main()
