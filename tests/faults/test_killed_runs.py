"""A run that is stopped or killed, run again, ends in what an undisturbed run gives."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.flow.conftest import Space, wait_for


def build(space: Space) -> None:
    """a, then b which waits for a file `go`, then c."""
    space.write("data.txt", "data\n")
    space.workflow(
        space.job("a", "cp data.txt a.txt", inputs=["data.txt"], outputs=["a.txt"]),
        space.job(
            "b",
            "echo $$ > b.pid; while [ ! -e go ]; do sleep 0.02; done; (cat a.txt; echo b) > b.txt",
            inputs=["a.txt"],
            outputs=["b.txt"],
            grace=2,
        ),
        space.job("c", "(cat b.txt; echo c) > c.txt", inputs=["b.txt"], outputs=["c.txt"]),
    )


def start_until_b(space: Space) -> subprocess.Popen[str]:
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: (space.root / "b.pid").exists() and space.read("b.pid") != "", "b runs")
    return process


def finish(space: Space, process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, out + err
    return out + err


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_politely_and_the_next_run_goes_on(
    space: Space, number: signal.Signals, code: int
) -> None:
    build(space)
    process = start_until_b(space)
    pid = int(space.read("b.pid"))
    process.send_signal(number)
    text = finish(space, process)
    assert process.returncode == code, text
    assert not alive(pid), "the job outlived a polite stop"
    assert space.ran() == ["a", "b"]
    dry = space.run("--dry-run")
    assert f"last attempt was interrupted ({number.name}" in dry.text
    space.write("go", "")
    result = space.run()
    assert result.code == 0, result.text
    assert space.ran() == ["b", "c"], "what had finished ran again, or what had not did not"
    assert space.read("c.txt") == "data\nb\nc\n"
    assert "up to date" in space.run().text


def test_kill_9_of_the_runner_loses_and_repeats_nothing(space: Space) -> None:
    build(space)
    process = start_until_b(space)
    process.send_signal(signal.SIGKILL)
    finish(space, process)
    assert space.ran() == ["a", "b"]
    # The job lives on under its supervisor; the next run takes it over instead of starting another.
    assert alive(int(space.read("b.pid")))
    dry = space.run("--dry-run")
    assert "goes on after its run was lost; taken over if it still fits" in dry.text
    second = space.start("run", "workflow.yaml", "--no-tui")
    events = space.root / "out/.oumi-flow/runs"
    wait_for(
        lambda: any('"adopted":true' in f.read_text() for f in events.glob("*/events.jsonl")),
        "adoption",
    )
    space.write("go", "")
    text = finish(space, second)
    assert second.returncode == 0, text
    assert space.ran() == ["c"], text
    assert space.read("c.txt") == "data\nb\nc\n"
    assert "up to date" in space.run().text


def test_a_job_that_ended_while_nobody_watched_is_not_repeated(space: Space) -> None:
    build(space)
    process = start_until_b(space)
    process.send_signal(signal.SIGKILL)
    finish(space, process)
    space.ran()
    space.write("go", "")
    wait_for(lambda: space.end_of("b"), "the supervisor's word")
    dry = space.run("--dry-run")
    assert "finished after its run was lost; taken over if it still fits" in dry.text
    result = space.run()
    assert result.code == 0, result.text
    assert space.ran() == ["c"], result.text
    assert space.read("c.txt") == "data\nb\nc\n"


def test_runner_and_job_killed_the_job_runs_again(space: Space) -> None:
    build(space)
    process = start_until_b(space)
    process.send_signal(signal.SIGKILL)
    finish(space, process)
    os.kill(int(space.read("b.pid")), signal.SIGKILL)
    wait_for(lambda: space.end_of("b"), "the supervisor's word")
    space.ran()
    space.write("go", "")
    result = space.run()
    assert result.code == 0, result.text
    assert space.ran() == ["b", "c"], result.text


def test_a_second_run_of_the_same_folder_is_refused_by_name(space: Space) -> None:
    build(space)
    process = start_until_b(space)
    second = space.run()
    assert second.code == 3
    assert str(process.pid) in second.err
    space.write("go", "")
    finish(space, process)
    assert process.returncode == 0


def test_cancel_stops_one_job_and_says_so(space: Space) -> None:
    build(space)
    process = start_until_b(space)
    result = space.command("cancel", "workflow.yaml", "b")
    assert result.code == 0, result.text
    text = finish(space, process)
    assert process.returncode == 1, text
    assert "cancelled" in text
    assert not space.exists("c.txt")


def test_cancel_stops_the_whole_run(space: Space) -> None:
    build(space)
    process = start_until_b(space)
    pid = int(space.read("b.pid"))
    result = space.command("cancel", "workflow.yaml")
    assert result.code == 0, result.text
    finish(space, process)
    assert process.returncode == 1
    assert not alive(pid)


def test_another_workflow_claiming_the_folder_is_refused(space: Space) -> None:
    space.workflow(space.job("a"))
    assert space.run().code == 0
    space.workflow(space.job("z"), name="other", path="other.yaml")
    result = space.command("run", "other.yaml", "--no-tui")
    assert result.code == 2
    assert "flow" in result.err
