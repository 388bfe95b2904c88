#!/usr/bin/env python3
"""Where the time goes: what is imported, what is called, which system calls are made.

    python bench/profiles.py imports|calls|syscalls  noop|one|dry|cold|load|version  [--jobs 1000]
                             [--top 30]

Makes a graph of independent shell jobs in a temporary folder, brings it to where the question
begins (`load` is a dry run of a file that was never seen, `one` a run in which one job is stale),
and profiles that one command: `imports` by `-X importtime`, `calls` by cProfile (of all threads of
the runner, in the order of their own time), `syscalls` by `strace -f -c`.
"""

from __future__ import annotations

import argparse
import io
import os
import pstats
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import table
from peers import files
from peers.graphs import graph, lay_out

WORDS = {
    "version": ["--version"],
    "load": ["run", "workflow.yaml", "--dry-run"],
    "dry": ["run", "workflow.yaml", "--dry-run"],
    "noop": ["run", "workflow.yaml"],
    "one": ["run", "workflow.yaml", "--no-tui", "-qj2"],
    "cold": ["run", "workflow.yaml", "--no-tui", "-qj2"],
}
# Every thread gets a profile of its own; they are added up when the process ends.
_ALL_THREADS = """
import atexit, cProfile, pstats, sys, threading
made = []
def begin(*_):
    sys.setprofile(None)
    profile = cProfile.Profile()
    made.append(profile)
    profile.enable()
threading.setprofile(begin)
main = cProfile.Profile()
made.append(main)
from oumi_flow.cli import main as run
main.enable()
code = 4
try:
    code = run(sys.argv[2:])
finally:
    main.disable()
    total = pstats.Stats(main)
    for profile in made[1:]:
        try:
            total.add(profile)
        except TypeError:
            pass  # a thread that called nothing
    total.dump_stats(sys.argv[1])
sys.exit(code)
"""


def bring(folder: Path, what: str, jobs: int, env: dict[str, str]) -> None:
    """Make the project, and run what has to be there before the command that is asked about."""
    made = graph("wide", jobs)
    lay_out(made, folder)
    files.oumi_flow(made, folder)
    before = {"noop": ["cold", "noop"], "one": ["cold", "noop"], "dry": ["dry"]}.get(what, [])
    for words in before:
        _run([sys.executable, "-m", "oumi_flow", *WORDS[words]], folder, env)
    if what == "one":
        (folder / "in" / made[jobs // 2].name).write_text("another\n")


def _run(command: list[str], folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"exit {done.returncode}: {done.stderr[-2000:]}")
    return done.stderr


def imports(words: list[str], folder: Path, env: dict[str, str], top: int) -> str:
    told = _run([sys.executable, "-X", "importtime", "-m", "oumi_flow", *words], folder, env)
    rows = re.findall(r"import time:\s+(\d+) \|\s+(\d+) \| *(\S+)", told)
    rows.sort(key=lambda row: -int(row[0]))
    text = table(["module", "own us", "with its imports"], [[n, o, a] for o, a, n in rows[:top]])
    return f"{text}\n\n{len(rows)} modules, {sum(int(row[0]) for row in rows) / 1000:.1f} ms"


def calls(words: list[str], folder: Path, env: dict[str, str], top: int) -> str:
    kept = folder / "profile"
    _run([sys.executable, "-c", _ALL_THREADS, str(kept), *words], folder, env)
    text = io.StringIO()
    pstats.Stats(str(kept), stream=text).sort_stats("tottime").print_stats(top)
    return text.getvalue()


def syscalls(words: list[str], folder: Path, env: dict[str, str], top: int) -> str:
    if not shutil.which("strace"):
        sys.exit("this needs strace")
    kept = folder / "calls"
    _run(
        [*("strace", "-f", "-c", "-o", str(kept)), sys.executable, "-m", "oumi_flow", *words],
        folder,
        env,
    )
    return "\n".join(kept.read_text().splitlines()[: top + 2])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    hows = {"imports": imports, "calls": calls, "syscalls": syscalls}
    parser.add_argument("how", choices=hows)
    parser.add_argument("what", choices=WORDS)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--top", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oumi-flow-bench-") as scratch:
        folder = Path(scratch)
        env = {**os.environ, "OUMI_FLOW_HOME": str(folder / "home"), "TERM": "dumb"}
        bring(folder, options.what, options.jobs, env)
        print(hows[options.how](WORDS[options.what], folder, env, options.top))


if __name__ == "__main__":
    main()
