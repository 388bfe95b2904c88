"""Files that somebody edits, cuts, deletes or replaces while a run needs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.test_disk import finish, stand_in
from tests.flow.conftest import Space, wait_for

WAIT = "touch up; while [ ! -e go ]; do sleep 0.02; done"


def start(space: Space, *words: str) -> subprocess.Popen[str]:
    process = space.start("run", "workflow.yaml", "--no-tui", *words)
    wait_for(lambda: space.exists("up") or process.poll() is not None, "a job runs")
    return process


def change(path: Path, what: str) -> None:
    """Put something else where a file was; `put_back` undoes it."""
    path.rename(path.with_name(path.name + ".was"))
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path.name)
    elif what == "garbage":
        path.write_bytes(b"\0\xff: [}\n")


def put_back(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.with_name(path.name + ".was").rename(path)


def assert_quiet(space: Space, *words: str) -> None:
    """Nothing to do, and nothing done."""
    space.ran()
    result = space.run(*words)
    assert (result.code, space.ran()) == (0, []), result.text
    assert "up to date" in result.text


@pytest.mark.parametrize("what", ["gone", "folder", "fifo", "loop", "garbage"])
@pytest.mark.parametrize("file", ["workflow.yaml", "inner.yaml", "judge.yaml"])
def test_a_file_replaced_under_a_run_is_for_the_next(space: Space, file: str, what: str) -> None:
    oumi = stand_in(space)
    space.write("judge.yaml", "model:\n  model_name: here\n")
    space.write("data.jsonl", "{}\n")
    inner = {"name": "inner", "output_dir": "in", "jobs": [space.job("deep", "echo deep > deep")]}
    space.write("inner.yaml", json.dumps(inner))
    space.workflow(
        space.job("first", WAIT),
        {"name": "nested", "uses": "inner.yaml", "depends_on": ["first"]},
        {
            "name": "j",
            "verb": "judge",
            "config": "judge.yaml",
            "args": ["--input=data.jsonl"],
            "depends_on": ["first"],
        },
    )
    process = start(space, "--oumi", oumi)
    change(space.root / file, what)
    for words in (["status"], ["status", "workflow.yaml"], ["logs", "workflow.yaml", "first"]):
        told = space.command(*words)
        assert told.code in (0, 2), told.text
    space.write("go", "")
    result = finish(process)
    assert result.code == 0, result.text
    assert "model_name: here" in space.read("out/j/judgments.jsonl")
    assert space.exists("deep")
    refused = space.run("--oumi", oumi)
    assert refused.code == 2, refused.text
    assert file in refused.err
    put_back(space.root / file)
    assert_quiet(space, "--oumi", oumi)


@pytest.mark.parametrize("what", ["cut", "gone", "folder", "fifo", "loop"])
def test_an_input_changed_under_its_job_makes_it_stale(space: Space, what: str) -> None:
    space.write("data.txt", "data\n")
    space.workflow(
        space.job("a", f"cat data.txt > a.txt; {WAIT}", inputs=["data.txt"], outputs=["a.txt"]),
        space.job("b", "(cat a.txt; echo b) > b.txt", inputs=["a.txt"], outputs=["b.txt"]),
    )
    process = start(space)
    path = space.root / "data.txt"
    change(path, what)
    if what == "cut":
        path.write_text("")
    space.write("go", "")
    result = finish(process)
    assert result.code in (0, 1), result.text
    again = space.run("--dry-run")
    if what == "cut":
        assert "input changed: data.txt" in again.text
    else:
        assert "data.txt" in result.text + again.text, again.text
        assert "up to date" not in again.text
    put_back(path)
    assert space.run().code == 0
    assert space.read("b.txt") == "data\nb\n"
    assert_quiet(space)


@pytest.mark.parametrize("what", ["edited", "gone", "folder"])
def test_an_output_changed_while_a_later_job_runs_is_made_again(space: Space, what: str) -> None:
    space.workflow(
        space.job("a", "echo a > a.txt", outputs=["a.txt"]),
        space.job("b", f"{WAIT}; echo b > b.txt", depends_on=["a"], outputs=["b.txt"]),
        space.job("c", "cat a.txt b.txt > c.txt", inputs=["a.txt", "b.txt"], outputs=["c.txt"]),
    )
    process = start(space)
    change(space.root / "a.txt", what)
    if what == "edited":
        space.write("a.txt", "theirs\n")
    space.write("go", "")
    result = finish(process)
    assert result.code in (0, 1), result.text
    if what != "edited":
        assert "a.txt" in result.text, result.text
        assert not space.exists("out/c/.oumi-flow/done.json")
    if what == "folder":
        (space.root / "a.txt").rmdir()
    result = space.run()
    assert result.code == 0, result.text
    assert space.read("c.txt") == "a\nb\n"
    assert_quiet(space)


def test_a_script_edited_while_it_runs_makes_its_job_stale(space: Space) -> None:
    space.write("job.sh", f"{WAIT}\necho old > a.txt\n")
    space.workflow(space.job("a", "sh job.sh", inputs=["job.sh"], outputs=["a.txt"]))
    process = start(space)
    change(space.root / "job.sh", "gone")
    space.write("job.sh", "echo new > a.txt\n")
    space.write("go", "")
    assert finish(process).code == 0
    assert space.read("a.txt") == "old\n"
    assert "input changed: job.sh" in space.run("--dry-run").text
    assert space.run().code == 0
    assert space.read("a.txt") == "new\n"
    assert_quiet(space)
