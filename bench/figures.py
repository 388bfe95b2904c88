#!/usr/bin/env python3
"""The tool's costs as whole processes, as multiples of a bare interpreter in the same rounds.

    python bench/figures.py [--sizes 1,1000,10000] [--rounds 5] [--record]

`--version` and `--help`; then, for each size, a matrix of shell jobs: the first look at a file that
was never seen (`load`), its first run, a run with nothing to do, and a dry run of everything. Wall
times are for orientation only: on a busy machine trust the CPU column.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measure import Spent, flow, median, ratio, remember, spend, table

BARE = [sys.executable, "-c", "pass"]


def make_workflow(folder: Path, jobs: int) -> None:
    """As users write many jobs: one entry with a matrix of two axes."""
    rows = max(1, round(jobs**0.5))
    axes = (
        f"a: [{', '.join(map(str, range(rows)))}], b: [{', '.join(map(str, range(jobs // rows)))}]"
    )
    (folder / "in").mkdir(parents=True)
    for a in range(rows):
        for b in range(jobs // rows):
            (folder / f"in/{a}-{b}").write_text(f"{a} {b}\n")
    cell = "${{ matrix.a }}-${{ matrix.b }}"
    (folder / "workflow.yaml").write_text(
        "name: figures\noutput_dir: out\njobs:\n"
        f"- name: j-{cell}\n  verb: shell\n  matrix: {{{axes}}}\n"
        f"  run: cat in/{cell} > out/j-{cell}/made\n"
        f'  inputs: ["in/{cell}"]\n  outputs: ["out/j-{cell}/made"]\n'
    )


class Bench:
    """Rounds of one command beside a bare interpreter."""

    def __init__(self, rounds: int, env: dict[str, str]) -> None:
        self.rounds, self.env = rounds, env
        self.rows: list[list[str]] = []
        self.figures: dict[str, float] = {}

    def add(self, name: str, words: list[str], folder: Path, before: Callable[[], None]) -> None:
        """Measure `oumi-flow words`; `before` each turn, the project is brought to its state."""
        ours: list[Spent] = []
        bare: list[Spent] = []
        for _ in range(self.rounds):
            before()
            ours.append(spend([*flow(), *words], folder, self.env))
            bare.append(spend(BARE, folder, self.env))
        cpu = [turn.cpu_s for turn in ours]
        times = ratio(cpu, [turn.cpu_s for turn in bare])
        self.figures[f"{name} / bare"] = times
        self.rows.append(
            [
                name,
                f"{median(cpu):.3f}",
                f"{times:.2f}",
                f"{median(turn.wall_s for turn in ours):.3f}",
                f"{max(turn.peak_mb for turn in ours):.0f}",
            ]
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", default="1,1000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oumi-flow-bench-") as scratch:
        here = Path(scratch)
        home = here / "home"
        bench = Bench(options.rounds, {**os.environ, "OUMI_FLOW_HOME": str(home), "TERM": "dumb"})

        def nothing() -> None:
            pass

        def forget() -> None:
            shutil.rmtree(home, ignore_errors=True)

        for flag in ("--version", "--help"):
            bench.add(flag, [flag], here, nothing)
        for size in map(int, options.sizes.split(",")):
            folder = here / str(size)
            make_workflow(folder, size)

            def clean(folder: Path = folder) -> None:
                shutil.rmtree(folder / "out", ignore_errors=True)

            run, jobs = ["run", "workflow.yaml", "--no-tui", "-j2"], f", {size} jobs"
            bench.add("load" + jobs, [*run, "--dry-run"], folder, forget)
            bench.add("dry run of all" + jobs, [*run, "--dry-run"], folder, nothing)
            bench.rounds = 1
            bench.add("first run" + jobs, run, folder, clean)
            bench.rounds = options.rounds
            spend([*flow(), *run], folder, bench.env)
            bench.add("nothing to do" + jobs, run, folder, nothing)
    print(table(["", "CPU s", "x bare", "wall s", "peak MB"], bench.rows))
    if options.record:
        remember("figures", bench.figures)


if __name__ == "__main__":
    main()
