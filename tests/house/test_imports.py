"""What is quick stays quick: commands that have nothing to do import nothing heavy, start nothing.

Each case runs in an interpreter of its own, which tells at its end what it has imported and
whether it started a process (by Python's audit events).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HEAVY = {
    "yaml",
    "jsonschema",
    "networkx",
    "rich",
    "textual",
    "filelock",
    "pynvml",
    "blake3",
    "asyncio",
    "subprocess",
    "multiprocessing",
    "importlib.metadata",
}
WITNESS = """
import json, os, sys
started = []
def hear(event, args):
    if event in ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"):
        started.append(event)
sys.addaudithook(hear)
from oumi_flow.cli import main
words = json.loads(sys.argv[1])
code = main(words) if words is not None else 0
with open(sys.argv[2], "w") as file:
    json.dump({"code": code, "modules": sorted(sys.modules), "started": started}, file)
"""
WORKFLOW = """
name: small
jobs:
  - name: one
    verb: shell
    run: echo 1 > "$OUMI_FLOW_OUTPUT_DIR/one.txt"
    outputs: ["${{ job.output_dir }}/one.txt"]
  - name: two
    verb: shell
    run: cat ${{ jobs.one.outputs.0 }}
"""


@dataclass
class Seen:
    code: int
    modules: set[str]
    started: list[str]
    stdout: str

    @property
    def heavy(self) -> set[str]:
        return HEAVY & self.modules


def witness(folder: Path, *words: str, call: bool = True) -> Seen:
    told = folder / "told.json"
    environ = {
        **os.environ,
        "OUMI_FLOW_HOME": str(folder / "home"),
        "OUMI_FLOW_LOCK_DIR": str(folder / "locks"),
        "OUMI_FLOW_FAKE_GPUS": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", WITNESS, json.dumps(words if call else None), str(told)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.exists(), done.stdout + done.stderr
    seen = json.loads(told.read_text())
    return Seen(seen["code"], set(seen["modules"]), seen["started"], done.stdout)


def test_the_command_line_imports_nothing_heavy(tmp_path: Path) -> None:
    assert not witness(tmp_path, call=False).heavy


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("run", "--help")])
def test_help_and_version_import_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    seen = witness(tmp_path, *words)
    assert seen.code == 0
    assert seen.stdout
    assert not seen.heavy
    assert not seen.started


def test_a_run_with_nothing_to_do_imports_nothing_heavy_and_starts_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "workflow.yaml").write_text(WORKFLOW)
    first = witness(tmp_path, "run", "workflow.yaml", "--no-tui")
    assert first.code == 0, first.stdout
    assert {"yaml", "blake3"} <= first.modules  # so the witness can see them
    again = witness(tmp_path, "run", "workflow.yaml")
    assert again.code == 0
    assert "up to date" in again.stdout
    assert not again.heavy
    assert not again.started
    assert "oumi_flow.runner.loop" not in again.modules
    assert "oumi_flow.load.build" not in again.modules
    assert "oumi_flow.store.cache" not in again.modules
    runs = list((tmp_path / "outputs" / "small" / ".oumi-flow" / "runs").iterdir())
    assert len(runs) == 1  # the first one; no run folder for doing nothing


def test_a_dry_run_with_something_to_do_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "workflow.yaml").write_text(WORKFLOW)
    seen = witness(tmp_path, "run", "workflow.yaml", "--dry-run")
    assert seen.code == 0
    assert not seen.started
    assert not (tmp_path / "outputs").exists()
