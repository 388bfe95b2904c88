"""System calls that fail as on a disk that is broken, full or over its quota; folders that nobody
may write in. By strace, since quotas and broken disks cannot be had everywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.conftest import Result, Space, wait_for

FAULTS = ("internal error", "a fault of oumi-flow itself", "Traceback")
WORDS = {"EDQUOT": "quota", "EIO": "Input/output error", "ENOSPC": "No space left"}


def build(space: Space) -> None:
    space.write("data.txt", "data\n")
    space.workflow(
        space.job("a", "cp data.txt a.txt", inputs=["data.txt"], outputs=["a.txt"]),
        space.job("b", "(cat a.txt; echo b) > b.txt", inputs=["a.txt"], outputs=["b.txt"]),
        space.job("c", "(cat b.txt; echo c) > c.txt", inputs=["b.txt"], outputs=["c.txt"]),
    )


def traced(space: Space, *injections: str, words: tuple[str, ...] = (), path: str = "") -> Result:
    """A command whose system calls fail as asked; with `path`, only those that name it so."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    inject = [word for one in injections for word in ("-e", f"inject={one}")]
    inject += ["-P", path] if path else []
    command = [sys.executable, "-m", "oumi_flow"]
    command += words or ("run", "workflow.yaml", "--no-tui")
    process = subprocess.run(
        ["strace", "-f", "-qq", "-o", os.devnull, *inject, "--", *command],
        cwd=space.root,
        env={**space.env, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "PTRACE" in process.stderr:
        pytest.skip(f"strace may not trace here: {process.stderr}")
    result = Result(process.returncode, process.stdout, process.stderr)
    assert not any(fault in result.text for fault in FAULTS), f"{injections}: {result.text}"
    return result


def finished(space: Space) -> set[str]:
    return {job for job in "abc" if (space.root / f"out/{job}/.oumi-flow/done.json").exists()}


def assert_built(space: Space, done: set[str]) -> None:
    """A plain run ends as a clean build does, and repeats nothing of what is done."""
    space.ran()
    result = space.run()
    assert result.code == 0, result.text
    assert done.isdisjoint(space.ran()), result.text
    assert space.read("c.txt") == "data\nb\nc\n"
    again = space.run()
    assert (again.code, space.ran()) == (0, []), again.text
    assert "up to date" in again.text


@pytest.mark.parametrize(
    "call",
    ["rename:when=1+", "rename:when=2+", "rename:when=6", "mkdir:when=2+", "mkdir:when=5",
     "write:when=2", "write:when=4", "ftruncate:when=1+", "pwrite64:when=1+"],
)  # fmt: skip
@pytest.mark.parametrize("error", ["EDQUOT", "EIO"])
def test_a_call_that_fails_costs_at_most_the_run(space: Space, call: str, error: str) -> None:
    build(space)
    name, _, when = call.partition(":")
    result = traced(space, f"{name}:error={error}:{when}")
    assert result.code in (0, 1, 2), result.text
    if name in ("rename", "mkdir") and when.endswith("+"):
        # strace counts by thread, and six renames of four workers are two of one of them at least.
        assert result.code, result.text
        assert WORDS[error] in result.text, result.text
    assert_built(space, finished(space))


def test_a_job_that_ends_on_a_full_disk_is_known_to_its_run(space: Space) -> None:
    """Nothing fits into its record any more: the run hears of the end all the same."""
    build(space)
    record = space.root / "out/b/.oumi-flow/attempt.json"
    result = traced(space, "pwrite64:error=ENOSPC", path=str(record))
    assert result.code == 0, result.text
    # It was written apart, as was the marker.
    assert json.loads(record.with_name("exit.json").read_text())["code"] == 0
    assert not record.exists()
    assert finished(space) == set("abc")
    assert_built(space, set("abc"))


def test_a_full_disk_when_a_lost_job_ends_costs_nothing(space: Space) -> None:
    """Nobody heard of its end, and there is room for that in its record."""
    out = space.root / "out"
    out.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(out)]
    if os.getuid() or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        build(space)
        text = space.read("workflow.yaml")
        wait = "touch up; while [ ! -e go ]; do sleep 0.02; done; (cat a.txt"
        space.write("workflow.yaml", text.replace("(cat a.txt", wait))
        process = space.start("run", "workflow.yaml", "--no-tui")
        wait_for(lambda: space.exists("up") or process.poll() is not None, "b runs")
        supervisor = supervisor_of(space, "b")
        process.kill()
        process.communicate(timeout=60)
        filler = out / "filler"
        with filler.open("wb", buffering=0) as file:
            block = 1 << 16
            while block:
                try:
                    file.write(b"\0" * block)
                except OSError:
                    block //= 2
        space.write("go", "")
        wait_for(lambda: not Path(f"/proc/{supervisor}").exists(), "b and its supervisor ended")
        assert space.end_of("b")["code"] == 0
        full = space.run()
        assert full.code in (1, 2), full.text
        assert "the disk is full" in full.text
        told = space.command("status", "workflow.yaml")
        assert told.code == 0, told.text
        filler.unlink()
        assert_built(space, {"a", "b"})
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)


@pytest.mark.parametrize("before", ["never run", "sealed"])
def test_a_run_that_is_killed_as_a_record_becomes_a_marker_repeats_nothing(
    space: Space, before: str
) -> None:
    build(space)
    if before == "sealed":
        space.write("data.txt", "before\n")
        assert space.run().code == 0
        space.write("data.txt", "data\n")
    record = "out/b/.oumi-flow/attempt.json"
    killed = traced(space, "rename:signal=KILL", path=record)
    assert killed.code in (-9, 137), killed.text
    half = json.loads(space.read(record))
    assert half["job"] == "b"
    taken = "finished after its run was lost"
    assert (
        f"{taken}; the next run takes its result" in space.command("status", "workflow.yaml").text
    )
    assert f"{taken}; taken over if it still fits" in space.run("-n").text
    assert space.command("logs", "-f", "workflow.yaml", "b").code == 0
    space.ran()
    again = space.run()
    assert "b finished after its run was lost; its result is taken" in again.text
    assert (again.code, space.ran()) == (0, ["c"]), again.text
    assert not space.exists(record)
    assert_built(space, {"a", "b"})


def test_a_job_is_renamed_with_a_marker_that_was_not_put_in_place(space: Space) -> None:
    build(space)
    killed = traced(space, "rename:signal=KILL", path="out/b/.oumi-flow/attempt.json")
    assert killed.code in (-9, 137), killed.text
    space.write("workflow.yaml", space.read("workflow.yaml").replace('"b"', '"bb"'))
    renamed = space.command("rename", "workflow.yaml", "b", "bb")
    assert renamed.code == 0, renamed.text
    space.ran()
    assert space.run().code == 0
    assert space.ran() == ["c"]


def supervisor_of(space: Space, job: str) -> int:
    return int(json.loads(space.read(f"out/{job}/.oumi-flow/attempt.json"))["handle"]["pid"])


# places of the user's


def looks(space: Space, **env: str) -> None:
    """A build, and every command that looks at it, from a user with these places."""
    build(space)
    result = space.run(**env)
    assert result.code == 0, result.text
    assert space.ran() == ["a", "b", "c"]
    for words in (
        "run workflow.yaml",
        "run workflow.yaml -n",
        "run workflow.yaml -F --detach",
        "monitor workflow.yaml",
        "status",
        "status workflow.yaml",
        "status --json",
        "logs workflow.yaml a",
        "errors workflow.yaml",
        "why workflow.yaml a",
        "validate workflow.yaml",
        "metrics workflow.yaml",
        "cancel workflow.yaml",
    ):
        told = space.command(*words.split(), **env)
        assert told.code == 0, f"{words}: {told.text}"
        assert not any(fault in told.text for fault in FAULTS), told.text
    space.ran()


@pytest.mark.parametrize("home", ["missing", "a file", "unset"])
def test_without_a_home_everything_works_but_the_list_of_runs(space: Space, home: str) -> None:
    del space.env["OUMI_FLOW_HOME"]
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        space.env.pop(name, None)
    if home == "unset":
        # The home of the password file is a real one: not for tests.
        space.env["XDG_STATE_HOME"] = space.env["XDG_CACHE_HOME"] = "/proc/nowhere"
        space.env.pop("HOME", None)
    else:
        file = space.write("file", "")
        places = {"missing": "/proc/nowhere", "a file": str(file)}
        space.env["HOME"] = places[home]
    looks(space)


def test_without_a_folder_for_temporary_files_everything_works(space: Space) -> None:
    looks(space, TMPDIR="/proc/nowhere")


def test_a_lock_folder_that_cannot_be_made_is_named(space: Space) -> None:
    space.env["OUMI_FLOW_LOCK_DIR"] = "/proc/nowhere"
    looks(space)  # no GPU, no token
    space.workflow(space.job("g", resources={"gpu": [0]}), resources={"gpus": [0]})
    result = space.run()
    assert result.code in (1, 2), result.text
    assert "/proc/nowhere" in result.text
    assert not any(fault in result.text for fault in FAULTS), result.text
    assert space.ran() == []
