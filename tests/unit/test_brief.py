"""What is a matter of a moment, and so done by the loop itself; and how often the disk is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from oumi_flow import verbs
from oumi_flow.disk import Disk
from oumi_flow.executors.base import Exit
from oumi_flow.model import Command, Counts, Decision, Input, Job, Output, Step
from oumi_flow.runner.brief import Brevity

LARGE = "x" * (1 << 20)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture
def brevity() -> Brevity:
    return Brevity(Disk(verbs.model_file), "out")


def step() -> Step:
    outputs = (Output("@/made", "out/made", Counts.ALL, declared=True),)
    inputs = (Input("read", "read"),)
    command = Command(("true",))
    job = Job("a", "shell", "out", "out", command, {}, "", inputs=inputs, outputs=outputs)
    return Step(job, Decision.RUN)


def write(read: str = "x", made: str = "x") -> None:
    Path("read").write_text(read)
    Path("out/made").write_text(made)


def ended(code: int = 0, took: float = 0.1) -> Exit:
    return Exit("token", code, started=10.0, finished=10.0 + took)


def test_small_jobs_of_small_files_are_brief(brevity: Brevity) -> None:
    write()
    assert brevity.of_preparing(step(), 1)
    assert brevity.of_concluding(step().job, ended())


def test_large_files_are_for_the_workers(brevity: Brevity) -> None:
    write(read=LARGE)
    assert not brevity.of_preparing(step(), 1)
    assert not brevity.of_concluding(step().job, ended())
    write(made=LARGE)
    assert brevity.of_preparing(step(), 1)
    assert not brevity.of_concluding(step().job, ended())


@pytest.mark.parametrize("exit", [ended(code=1), ended(took=1.0)])
def test_failures_and_longer_jobs_are_for_the_workers(brevity: Brevity, exit: Exit) -> None:
    write()
    assert brevity.of_preparing(step(), 1)
    assert not brevity.of_concluding(step().job, exit)


def test_the_size_of_an_input_is_asked_once_in_an_attempt(brevity: Brevity) -> None:
    write()
    assert brevity.of_preparing(step(), 1)
    write(read=LARGE)
    assert brevity.of_concluding(step().job, ended())
    # The next attempt begins with what had been there before, so nobody asked.
    assert not brevity.of_preparing(step(), 2)
    assert not brevity.of_concluding(step().job, ended())
