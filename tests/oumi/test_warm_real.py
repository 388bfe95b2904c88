"""Warm jobs of the real oumi make what cold ones make, and end as these do.

One run of each temper; the imports are paid for five times cold and once warm.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.lost import end_all, processes_of
from tests.flow.conftest import Space, wait_for

MADE = {
    "infer": "predictions.jsonl",
    "judge": "judgments.jsonl",
    "evaluate": "results.json",
    "train": "model.safetensors",
}


def jobs() -> list[dict[str, Any]]:
    return [
        {"name": "infer", "verb": "infer", "config": "configs/infer.yaml"},
        {
            "name": "judge",
            "verb": "judge",
            "config": "configs/judge.yaml",
            "args": ["--input=data/judge_in.jsonl"],
        },
        {
            "name": "evaluate",
            "verb": "evaluate",
            "config": "configs/eval_custom.yaml",
            "env": {"OUMI_EXTRA_DEPS_FILE": "extra_deps.txt"},
        },
        {
            "name": "train",
            "verb": "train",
            "config": "configs/train.yaml",
            "args": ["training.max_steps=4", "training.save_steps=2"],
        },
        {
            "name": "bad",
            "verb": "infer",
            "config": "configs/infer.yaml",
            "args": ["model.model_name=no-such-model"],
        },
    ]


@pytest.fixture
def project(
    oumi: tuple[str, ...], oumi_env: Mapping[str, str], tiny: Path, tmp_path: Path
) -> Space:
    space = Space(tmp_path)
    shutil.copytree(tiny, space.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("out"))
    space.env |= {k: v for k, v in oumi_env.items() if not k.startswith("OUMI_FLOW_")}
    space.env |= {"OUMI_FLOW_OUMI": shlex.join(oumi), "PYTHONWARNINGS": "default"}
    return space


def run(space: Space, temper: str, *more: dict[str, Any]) -> Any:
    space.workflow(*jobs(), *more, name=temper, output_dir=temper, warm=temper == "warm")
    return space.start("run", "workflow.yaml", "--no-tui", "-j", "2")


def test_warm_jobs_make_and_end_as_cold_ones(project: Space) -> None:
    cold = run(project, "cold")
    out, err = cold.communicate(timeout=900)
    assert cold.returncode == 1, out + err
    # One that goes on for ever, behind the others, for what is killed under it.
    slow = {
        "name": "slow",
        "verb": "train",
        "config": "configs/train.yaml",
        "args": ["training.max_steps=100000"],
        "depends_on": ["infer", "judge", "evaluate", "train"],
        "timeout": 30,
        "grace": 1,
    }
    warm = run(project, "warm", slow)
    try:
        wait_for(lambda: project.exists("warm/slow/metrics_rank0000.jsonl"), "steps", limit=600)
        (server,) = (
            pid
            for pid in processes_of(project)
            if b"executors.ahead" in Path(f"/proc/{pid}/cmdline").read_bytes()
            and Path(f"/proc/{pid}/comm").read_text() == "oumi-flow-serve\n"
        )
        os.kill(server, signal.SIGKILL)
        out, err = warm.communicate(timeout=600)
    finally:
        end_all(project)
    assert warm.returncode == 1, out + err
    assert "timed out after 30s" in out + err
    assert "started cold" not in out + err
    for job, made in MADE.items():
        ours, theirs = (project.root / temper / job / made for temper in ("warm", "cold"))
        assert ours.read_bytes() == theirs.read_bytes(), job
    ends = [project.end_of("bad", temper) for temper in ("cold", "warm")]
    assert [end["code"] for end in ends] == [1, 1]
    logs = [project.read(f"{temper}/bad/job.log").splitlines()[-3:] for temper in ("cold", "warm")]
    assert logs[0] == logs[1]
