"""A temporary space where the real command runs workflows whose jobs write down that they ran."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


def wait_for(condition: Callable[[], object], what: str, limit: float = 60.0) -> None:
    """Poll until `condition` holds; the limit only ends a test that is wrong."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never happened: {what}")
        time.sleep(0.01)


def delete(folder: Path) -> None:
    """All of a folder, though a run that lives in it may make some of it anew meanwhile."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Space:
    """A project folder. `run` starts the command as a user would; `ran` says which jobs ran."""

    def __init__(self, root: Path) -> None:
        self.root = root / "project"
        self.root.mkdir()
        self.started: list[subprocess.Popen[str]] = []
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("OUMI_FLOW_", "CUDA_"))},
            "OUMI_FLOW_HOME": str(root / "home"),
            "OUMI_FLOW_LOCK_DIR": str(root / "locks"),
            "PYTHONWARNINGS": "error",
        }

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def read(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def end_of(self, job: str, out: str = "out") -> dict[str, Any]:
        """What the supervisor of the job's latest attempt has seen; {}: nothing, or all is done."""
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(self.read(f"{out}/{job}/.oumi-flow/attempt.json"))
            return {**found.get("exit", {})}
        return {}

    def workflow(self, *jobs: dict[str, Any], path: str = "workflow.yaml", **fields: Any) -> Path:
        """Write a workflow of these jobs; JSON is YAML, and dicts are easier to vary."""
        data = {"name": "flow", "output_dir": "out", **fields, "jobs": list(jobs)}
        return self.write(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")

    def job(self, name: str, run: str = "", **fields: Any) -> dict[str, Any]:
        """A shell job that notes its name in `ran.log`, then does `run`."""
        note = f"echo {name} >> ran.log"
        return {"name": name, "verb": "shell", "run": f"{note}\n{run}".strip(), **fields}

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "oumi_flow", *args],
            cwd=self.root,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.started.append(process)
        return process

    def elsewhere(self, root: Path) -> Space:
        """The same user in another folder."""
        other = Space.__new__(Space)
        other.root, other.env, other.started = root, self.env, self.started
        return other

    def program(self, text: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program of a test's own in the folder, to its end."""
        done = subprocess.run(
            [sys.executable, "-c", text, *args],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def command(self, *args: str, **env: str) -> Result:
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in out + err, out + err
        return Result(process.returncode, out, err)

    def run(self, *args: str, **env: str) -> Result:
        return self.command("run", "workflow.yaml", "--no-tui", *args, **env)

    def ran(self) -> list[str]:
        """The jobs that ran since the last call, in order."""
        log = self.root / "ran.log"
        names = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return names


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    space = Space(tmp_path)
    yield space
    # Only a test that failed has left something: stop it, or it slows down all the others.
    left = [process for process in space.started if process.poll() is None]
    if left:
        space.write("go", "")
    for process in left:
        process.terminate()
        process.communicate(timeout=60)
