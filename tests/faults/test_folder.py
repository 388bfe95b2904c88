"""A run's folder that is deleted, moved away or taken while the run lives; and looking at runs."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.conftest import Result, Space, delete, wait_for

# A job that notices when it runs beside itself, and is over when the file `go` is there.
ALONE = """
mkdir alone || touch twice
touch up
while [ ! -e go ]; do sleep 0.02; done
rmdir alone
"""


def build(space: Space) -> None:
    space.workflow(
        space.job("a", f"{ALONE}\necho a > a.txt", outputs=["a.txt"], grace=1),
        space.job("b", "(cat a.txt; echo b) > b.txt", inputs=["a.txt"], outputs=["b.txt"]),
    )


def start(space: Space) -> subprocess.Popen[str]:
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("up") or process.poll() is not None, "a runs")
    return process


def finish(process: subprocess.Popen[str]) -> Result:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, out + err
    assert "internal error" not in out + err, out + err
    return Result(process.returncode, out, err)


def take_away(space: Space, what: str) -> None:
    if what == "moved":
        (space.root / "out").rename(space.root / "elsewhere")
    elif what == "replaced":
        # The run that lives there may make it anew at any moment.
        for attempt in itertools.count():
            (space.root / "out").rename(space.root / f"elsewhere-{attempt}")
            with contextlib.suppress(FileExistsError):
                (space.root / "out/.oumi-flow").mkdir(parents=True)
                break
        (space.root / "out/.oumi-flow/lock").write_text("")
    elif what == "lock":
        (space.root / "out/.oumi-flow/lock").unlink()
    else:
        delete(space.root / {"deleted": "out", "state": "out/.oumi-flow"}[what])


@pytest.mark.parametrize("what", ["deleted", "state", "lock", "moved", "replaced"])
def test_no_second_run_begins_in_a_folder_taken_away_under_the_first(
    space: Space, what: str
) -> None:
    build(space)
    first = start(space)
    take_away(space, what)
    for words in (["run", "workflow.yaml", "--no-tui"], ["run", "workflow.yaml", "--detach"]):
        second = space.command(*words)
        assert second.code == 3, second.text
        assert f"pid {first.pid}" in second.err
    assert "running" in space.command("status", "workflow.yaml").out
    space.write("go", "")
    result = finish(first)
    assert result.code == 0, result.text
    if what != "lock":
        assert "out: what this run had told there was deleted or moved away" in result.text
    assert not space.exists("twice")
    assert space.run().code == 0
    assert space.read("b.txt") == "a\nb\n"


def test_a_run_whose_folder_was_deleted_can_still_be_cancelled(space: Space) -> None:
    build(space)
    first = start(space)
    delete(space.root / "out")
    wait_for(lambda: "running" in space.command("status", "workflow.yaml").out, "it is back")
    result = space.command("cancel", "workflow.yaml")
    assert (result.code, finish(first).code) == (0, 1), result.text
    assert not space.exists("a.txt")


def test_jobs_of_a_lost_run_whose_folder_was_deleted_are_stopped_first(space: Space) -> None:
    beside = "[ ! -e pid ] || ! kill -0 $(cat pid) 2> /dev/null || touch twice; echo $$ > pid"
    waits = "touch up; while [ ! -e go ]; do sleep 0.02; done; echo a > a.txt"
    space.workflow(
        space.job("a", f"{beside}\n{waits}", outputs=["a.txt"], grace=1),
        space.job("b", "(cat a.txt; echo b) > b.txt", inputs=["a.txt"], outputs=["b.txt"]),
    )
    first = start(space)
    first.send_signal(signal.SIGKILL)
    finish(first)
    delete(space.root / "out")
    (space.root / "up").unlink()
    second = start(space)
    assert not space.exists("twice"), "a job ran beside itself"
    space.write("go", "")
    result = finish(second)
    assert result.code == 0, result.text
    assert "1 job of a lost run whose folders were deleted: stopped" in result.text
    assert space.read("b.txt") == "a\nb\n"


def test_a_run_that_lost_its_folder_to_another_ends(space: Space) -> None:
    """As when the other runs on another host: the lock on the place of the folder is not seen."""
    apart = ["unshare", "--net", "true"]
    if shutil.which("unshare") is None or subprocess.run(apart, capture_output=True).returncode:
        pytest.skip("needs `unshare --net` to run as on another host")
    build(space)
    first = start(space)
    first.send_signal(signal.SIGSTOP)
    delete(space.root / "out")
    (space.root / "up").unlink()
    (space.root / "alone").rmdir()
    words = [sys.executable, "-m", "oumi_flow", "run", "workflow.yaml", "--no-tui"]
    second = subprocess.Popen(
        ["unshare", "--net", *words],
        cwd=space.root,
        env=space.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    space.started.append(second)
    wait_for(lambda: space.exists("up") or second.poll() is not None, "the other run's job runs")
    before = (space.root / "out/a/.oumi-flow/attempt.json").read_bytes()
    first.send_signal(signal.SIGCONT)
    lost = finish(first)
    assert lost.code == 3, lost.text
    assert "lost its folder" in lost.err, lost.text
    assert f"pid {second.pid}" in lost.err
    assert (space.root / "out/a/.oumi-flow/attempt.json").read_bytes() == before
    space.write("go", "")
    result = finish(second)
    assert result.code == 0, result.text
    assert space.read("b.txt") == "a\nb\n"
    space.ran()
    assert space.run().code == 0
    assert space.ran() == []


def test_a_run_whose_project_was_deleted_ends_by_itself(space: Space) -> None:
    """Nothing of it can be recorded any more, and nobody would find its processes."""
    space.workflow(space.job("a", "touch up; sleep 600", grace=1), space.job("b", "sleep 600"))
    first = start(space)
    delete(space.root)
    result = finish(first)
    assert result.code == 1, result.text
    assert "the folder that this run stands in was deleted" in result.text


@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_told(space: Space, error: str) -> None:
    build(space)
    result = traced(space, f"flock:error={error}")
    assert result.code == 2, result.text
    assert "out/.oumi-flow/lock: cannot lock" in result.err
    assert "choose an `output_dir`" in result.err
    assert space.ran() == []


def traced(space: Space, *injections: str) -> Result:
    """A run whose system calls fail as asked."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    words = [word for one in injections for word in ("-e", f"inject={one}")]
    command = [sys.executable, "-m", "oumi_flow", "run", "workflow.yaml", "--no-tui"]
    process = subprocess.run(
        ["strace", "-f", "-o", os.devnull, *words, "--", *command],
        cwd=space.root,
        env=space.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "Operation not permitted" in process.stderr and "strace" in process.stderr:
        pytest.skip("strace may not trace here")
    assert "Traceback" not in process.stdout + process.stderr, process.stderr
    return Result(process.returncode, process.stdout, process.stderr)


def test_the_words_for_a_holder_that_cannot_answer(space: Space) -> None:
    """Stopped, its folder gone: the kernel still knows who it is."""
    build(space)
    first = start(space)
    first.send_signal(signal.SIGSTOP)
    delete(space.root / "out")
    refused = space.run()
    first.send_signal(signal.SIGCONT)
    assert refused.code == 3, refused.text
    assert f"another run holds this folder (pid {first.pid}" in refused.err
    space.write("go", "")
    assert finish(first).code == 0


def test_links_to_one_folder_are_one_folder(space: Space) -> None:
    build(space)
    first = start(space)
    (space.root / "link").symlink_to("out")
    text = space.read("workflow.yaml").replace('"out"', '"link"')
    other = space.write("other.yaml", text)
    refused = space.command("run", other.name, "--no-tui")
    assert refused.code == 3, refused.text
    space.write("go", "")
    assert finish(first).code == 0
    assert Path(space.root, "link/a/.oumi-flow/done.json").exists()
