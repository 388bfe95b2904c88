#!/usr/bin/env python3
"""The same graphs of trivial jobs through other build tools and through us, in one run.

    python bench/compare.py [--peers ninja,make,oumi-flow] [--shape wide,chain,layers,diamond]
                            [--sizes 1000,10000] [--what noop,cold,one,touched,dry,version]
                            [-j 2] [--rounds 5] [--plain] [--install] [--record]

cold     nothing there: every job runs                  one      one file with other content
noop     everything is up to date                       touched  one file written again as it was
dry      nothing there: what would run                  version  the program's start alone

Tools take turns; a figure is a median, a ratio the median of the ratios to the first tool of the
list, round by round. CPU seconds count the tool and all it started. How many jobs really ran is
counted, and a tool that ran others than it should is told. `--plain` takes commands that need no
shell. `--install` brings missing tools that are on PyPI into an environment below the user's cache
folder; make, ninja and samurai come with the system's packages. `--record` keeps the ratios in
`history.jsonl`, which `python bench/history.py` shows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from measure import Spent, median, ratio, remember, spend, table
from peers import PEERS, Peer, install
from peers.graphs import SHAPES, Graph, below, graph, lay_out, leaf

WHAT = ("version", "cold", "noop", "one", "touched", "dry")


class Tree:
    """One tool's copy of a graph, in a folder of its own."""

    def __init__(self, peer: Peer, jobs: Graph, folder: Path) -> None:
        self.peer, self.jobs, self.folder = peer, jobs, folder
        self.program = peer.program() or ""
        home = folder / "home"
        self.env: Mapping[str, str] = {
            **os.environ,
            **peer.env,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home),
            "OUMI_FLOW_HOME": str(home),
            "TERM": "dumb",
        }
        self.reset()

    def reset(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "home").mkdir(parents=True)
        lay_out(self.jobs, self.folder)
        self.peer.write(self.jobs, self.folder)
        for words in self.peer.prepare:
            spend([self.program, *words], self.folder, self.env)

    def run(self, parallel: int) -> Spent:
        return spend(self.peer.run(self.program, parallel), self.folder, self.env)

    def made(self) -> list[int]:
        """When each output was written, 0 where it is missing."""
        paths = (self.folder / job.output for job in self.jobs)
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]


def once(tree: Tree, what: str, victim: int, parallel: int) -> tuple[Spent, int | None]:
    """One turn of one tool, and how many jobs ran in it, where that is asked."""
    if what == "version":
        return spend([tree.program, "--version"], tree.folder, tree.env), None
    if what in ("cold", "dry"):
        tree.reset()
    if what == "dry":
        assert tree.peer.dry is not None
        return spend(tree.peer.dry(tree.program, parallel), tree.folder, tree.env), None
    file = tree.folder / "in" / tree.jobs[victim].name
    if what == "one":
        file.write_text(f"{time.time_ns()}\n")
    elif what == "touched":
        file.write_text(file.read_text())
    before = tree.made()
    spent = tree.run(parallel)
    ran = sum(was != now for was, now in zip(before, tree.made(), strict=True))
    return spent, ran


def measure(trees: list[Tree], what: str, shape: str, options: argparse.Namespace) -> list[str]:
    """One table, printed; returns the names of tools that failed."""
    size = len(trees[0].jobs)
    victim = leaf(shape, size)
    ideal = {"cold": size, "noop": 0, "touched": 0, "one": below(trees[0].jobs, victim)}.get(what)
    spent: dict[str, list[Spent]] = {tree.peer.name: [] for tree in trees}
    ran: dict[str, int | None] = {}
    failed: list[str] = []
    for turn in range(options.rounds + (what != "cold")):
        for tree in trees[turn % len(trees) :] + trees[: turn % len(trees)]:
            name = tree.peer.name
            if name in failed or (what == "dry" and tree.peer.dry is None):
                continue
            try:
                seconds, count = once(tree, what, victim, options.parallel)
            except subprocess.CalledProcessError as error:
                print(f"{name}: exit {error.returncode}: {error.stderr[-200:]}", file=sys.stderr)
                failed.append(name)
                continue
            if turn or what == "cold":  # the first turn warms caches
                spent[name].append(seconds)
                ran[name] = count
    show(what, shape, size, spent, ran, ideal, options)
    return failed


def show(
    what: str,
    shape: str,
    size: int,
    spent: Mapping[str, list[Spent]],
    ran: Mapping[str, int | None],
    ideal: int | None,
    options: argparse.Namespace,
) -> None:
    there = {name: turns for name, turns in spent.items() if turns}
    if not there:
        return
    first = next(iter(there))
    cpu = {name: [turn.cpu_s for turn in turns] for name, turns in there.items()}
    wall = {name: [turn.wall_s for turn in turns] for name, turns in there.items()}
    figures, rows = {}, []
    for name in sorted(there, key=lambda name: median(cpu[name])):
        times = ratio(cpu[name], cpu[first])
        figures[f"{what} {shape} {size} {name}/{first}"] = times
        wrong = ideal is not None and ran[name] != ideal
        rows.append(
            [
                name,
                f"{median(cpu[name]):.4f}",
                f"{times:.2f}",
                f"{median(wall[name]):.4f}",
                f"{ratio(wall[name], wall[first]):.2f}",
                f"{max(turn.peak_mb for turn in there[name]):.0f}",
                "" if ran[name] is None else f"{ran[name]}" + (f" (not {ideal})" if wrong else ""),
                PEERS[name].note,
            ]
        )
    print(
        f"\n### {what}" + (f", {shape}, {size} jobs, -j{options.parallel}" if size else "") + "\n"
    )
    head = ["tool", "CPU s", f"/ {first}", "wall s", f"/ {first}", "peak MB", "jobs run", "note"]
    print(table(head, rows), flush=True)
    if options.record:
        remember("compare", figures)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peers", default="ninja,make,oumi-flow", help=", ".join(PEERS))
    parser.add_argument("--shape", default="wide")
    parser.add_argument("--sizes", default="1000")
    parser.add_argument("--what", default="version,cold,noop,one,touched,dry")
    parser.add_argument("-j", "--parallel", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    for given, known in (("peers", PEERS), ("shape", SHAPES), ("what", WHAT)):
        unknown = [word for word in getattr(options, given).split(",") if word not in known]
        if unknown:
            parser.error(f"--{given}: {', '.join(unknown)}? there are {', '.join(known)}")
    peers = [PEERS[name] for name in options.peers.split(",")]
    if options.install:
        install(peers)
    for missing in [peer for peer in peers if peer.program() is None]:
        print(f"{missing.name} is not installed, left out", file=sys.stderr)
        peers.remove(missing)
    if not peers:
        parser.error("none of these tools is installed; try --install")
    asked = [what for what in WHAT if what in options.what.split(",")]
    for shape in options.shape.split(","):
        for size in map(int, options.sizes.split(",")):
            with tempfile.TemporaryDirectory(prefix="oumi-flow-bench-") as scratch:
                jobs = graph(shape, size, shell=not options.plain)
                trees = [
                    Tree(peer, jobs, Path(scratch) / peer.name)
                    for peer in peers
                    if size <= peer.most
                ]
                compare(trees, asked, shape, options)


def compare(trees: list[Tree], asked: list[str], shape: str, options: argparse.Namespace) -> None:
    """All tables of one graph. What fails once is left out of the rest."""
    built = False
    for what in asked:
        if not trees:
            return
        if what in ("noop", "one", "touched") and not built:
            for tree in trees:
                tree.run(options.parallel)
        built = built or what in ("cold", "noop")
        failed = measure(trees, what, shape, options)
        trees = [tree for tree in trees if tree.peer.name not in failed]


if __name__ == "__main__":
    main()
