"""The same graph of jobs for several build tools, and how each of them is called.

A tool is a row: who writes its file, its command lines, what it keeps beside the outputs, and the
package that brings it. Tools that are not there are left out of a table, or installed on request
into an environment of the benchmark's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from measure import flow

from peers import files
from peers.graphs import Graph

Words = Callable[[str, int], list[str]]  # of a program and a number of parallel jobs


@dataclass(frozen=True)
class Peer:
    name: str
    write: Callable[[Graph, Path], None]
    run: Words
    dry: Words | None = None
    package: str = ""  # on PyPI; "" where the system's package manager has it
    prepare: Sequence[Sequence[str]] = ()  # commands before the first run
    most: int = 100_000  # jobs; beyond, it takes minutes
    note: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def program(self) -> str | None:
        """Its path: in the environment of the benchmarks, else on PATH."""
        if self.name == "oumi-flow":
            return flow()[0]
        own = _environment() / "bin" / self.name
        return str(own) if own.exists() else shutil.which(self.name)


def _environment() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "oumi-flow-bench"


def install(peers: Sequence[Peer]) -> None:
    """Bring those that PyPI has into an environment under the user's cache folder."""
    wanted = sorted({peer.package for peer in peers if peer.package and peer.program() is None})
    if not wanted:
        return
    place = _environment()
    if not (place / "bin" / "pip").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    subprocess.run([str(place / "bin" / "pip"), "install", "--quiet", *wanted], check=True)


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "oumi-flow",
            files.oumi_flow,
            lambda it, jobs: [it, "run", "workflow.yaml", "--no-tui", f"-j{jobs}"],
            lambda it, jobs: [it, "run", "workflow.yaml", "--no-tui", "--dry-run"],
        ),
        Peer(
            "ninja",
            files.ninja,
            lambda it, jobs: [it, "--quiet", f"-j{jobs}"],
            lambda it, jobs: [it, "-n"],
            package="ninja",
        ),
        Peer(
            "samu",
            files.ninja,
            lambda it, jobs: [it, f"-j{jobs}"],
            lambda it, jobs: [it, "-n"],
            note="samurai",
        ),
        Peer(
            "make",
            files.make,
            lambda it, jobs: [it, "-rRs", f"-j{jobs}"],
            lambda it, jobs: [it, "-rRn"],
        ),
        Peer(
            "doit",
            files.doit,
            lambda it, jobs: [it, "run", "-n", str(jobs), "-P", "thread"],
            lambda it, jobs: [it, "list", "--all", "-s"],
            package="doit",
            most=10_000,
        ),
        Peer(
            "snakemake",
            files.snakemake,
            lambda it, jobs: [it, f"-c{jobs}", "--scheduler=greedy", "-q", "all"],
            lambda it, jobs: [it, "-nc1", "--scheduler=greedy", "-q", "all"],
            package="snakemake",
            most=1_000,
        ),
        Peer(
            "dvc",
            files.dvc,
            lambda it, jobs: [it, "repro", "-q"],
            lambda it, jobs: [it, "repro", "--dry", "-q"],
            package="dvc",
            prepare=(("init", "--no-scm", "-fq"), ("config", "core.analytics", "false")),
            most=1_000,
            note="one job at a time",
        ),
        Peer(
            "luigi",
            files.luigi,
            lambda it, jobs: [
                *(it, "--module", "tasks", "All", "--local-scheduler", "--no-lock"),
                *("--log-level", "ERROR", "--workers", str(jobs)),
            ],
            package="luigi",
            most=1_000,
            note="up to date where the output exists",
            env={"PYTHONPATH": "."},
        ),
    )
}
