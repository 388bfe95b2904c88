#!/usr/bin/env python3
"""The tool's costs as whole processes, in CPU seconds and as multiples of a bare interpreter.

    python bench/figures.py [--jobs 1000] [--repeat 5]

Makes a workflow of independent shell jobs in a temporary folder and times `--help`, `validate`,
the first run, and runs with nothing to do. Wall times are for orientation only: on a busy machine
trust the CPU column, and the ratios of one run.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

FLOW = [sys.executable, "-m", "oumi_flow"]


def timed(command: Sequence[str], cwd: Path, env: dict[str, str]) -> tuple[float, float]:
    """CPU and wall seconds of one process with all its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def make_workflow(folder: Path, jobs: int) -> None:
    (folder / "cfg").mkdir()
    lines = ["name: bench", "output_dir: out", "jobs:"]
    for number in range(jobs):
        (folder / f"cfg/{number}.txt").write_text(f"{number}\n")
        run = f"cat cfg/{number}.txt > out/j{number}/out.txt"
        lines.append(
            f"- {{name: j{number}, verb: shell, run: {run!r}, "
            f"inputs: [cfg/{number}.txt], outputs: [out/j{number}/out.txt]}}"
        )
    (folder / "workflow.yaml").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_workflow(folder, options.jobs)
        env = {**os.environ, "OUMI_FLOW_HOME": str(folder / "home")}
        rows = [
            ("bare interpreter", [sys.executable, "-c", "pass"], options.repeat),
            ("--version", [*FLOW, "--version"], options.repeat),
            ("--help", [*FLOW, "--help"], options.repeat),
            (
                f"validate, {options.jobs} jobs",
                [*FLOW, "validate", "workflow.yaml"],
                options.repeat,
            ),
            (f"first run, {options.jobs} jobs, -j2", [*FLOW, "run", "workflow.yaml", "-qj2"], 1),
            (
                f"nothing to do, {options.jobs} jobs",
                [*FLOW, "run", "workflow.yaml"],
                options.repeat,
            ),
        ]
        bare = 0.0
        print(f"{'':<34}{'CPU s':>9}{'wall s':>9}{'x bare':>9}")
        for name, command, repeat in rows:
            times = [timed(command, folder, env) for _ in range(repeat)]
            cpu = statistics.median(cpu for cpu, _ in times)
            wall = statistics.median(wall for _, wall in times)
            bare = bare or cpu
            print(f"{name:<34}{cpu:>9.3f}{wall:>9.3f}{cpu / bare:>9.1f}")


if __name__ == "__main__":
    main()
