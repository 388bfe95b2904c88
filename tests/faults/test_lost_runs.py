"""Processes that outlive their run, where the next run wants something else than that one did."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from oumi_flow.executors.local import LocalExecutor
from oumi_flow.executors.processes import boot_id, read_process
from tests.faults.lost import Lasting, assert_all_let_go, end_all, processes_of
from tests.flow.conftest import Space, wait_for

# y reads what x makes, all the time that it lives; two locks tell if anybody disturbs anybody.
READS = (
    "exec {file}>> x.lock; flock -s $file; head -c1 x.txt > /dev/null; "
    "while [ ! -e go ]; do sleep 0.02; done; cat x.txt > y.txt"
)
WRITES = 'exec {file}>> x.lock; flock -n $file || echo "twice x-under-y $$" >> effects.log; '
MAKES = "head -n1 data.txt > x.txt"


@pytest.fixture(autouse=True)
def nobody_stays(space: Space) -> Iterator[None]:
    yield
    end_all(space)


class Chain(Lasting):
    """x, then y, which waits for a file `go`; x makes the same of different data."""

    def __init__(self, space: Space, **fields: Any) -> None:
        super().__init__(space)
        space.write("data.txt", "first\nold\n")
        self.x = self.job("x", WRITES + MAKES, inputs=["data.txt"], outputs=["x.txt"])
        self.y = self.job("y", READS, inputs=["x.txt"], outputs=["y.txt"], **fields)
        space.workflow(self.x, self.y)

    def lose(self, *words: str) -> None:
        """Run until y runs, then kill the runner."""
        process = self.space.start("run", "workflow.yaml", "--no-tui", *words)
        wait_for(lambda: self.count_effects()[0]["y"] == 1, "y runs")
        process.send_signal(signal.SIGKILL)
        self.done(process)

    def done(self, process: subprocess.Popen[str]) -> str:
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in out + err, out + err
        assert "internal error" not in out + err, out + err
        return out + err

    def counts(self) -> dict[str, tuple[int, int]]:
        started, ended = self.count_effects()
        return {name: (started[name], ended[name]) for name in started}


@pytest.mark.parametrize("polite", [True, False], ids=["slow to go", "gone at once"])
def test_who_reads_an_output_is_sent_away_before_that_is_made_anew(
    space: Space, polite: bool
) -> None:
    chain = Chain(space, grace=5)
    if polite:
        text = "trap 'sleep 0.3; exit 1' TERM\n" + chain.y["run"]
        space.workflow(chain.x, {**chain.y, "run": text})
    chain.lose()
    space.write("data.txt", "first\nnew\n")
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: chain.count_effects()[0]["y"] == 2, "y runs anew")
    space.write("go", "")
    text = chain.done(process)
    assert process.returncode == 0, text
    # What it had read may have been half of the one and half of the other.
    assert chain.counts() == {"x": (2, 2), "y": (2, 1)}, text
    assert space.read("y.txt") == "first\n"
    assert "up to date" in space.run().text
    assert_all_let_go(space)


def test_a_reader_that_nobody_asked_for_is_sent_away_all_the_same(space: Space) -> None:
    chain = Chain(space, grace=5)
    chain.lose()
    space.write("data.txt", "first\nnew\n")
    result = space.run("x")
    assert result.code == 0, result.text
    assert chain.counts() == {"x": (2, 2), "y": (1, 0)}
    assert not processes_of(space)
    dry = space.run("--dry-run")
    assert "last attempt was interrupted (x is made anew" in dry.text, dry.text
    space.write("go", "")
    assert space.run().code == 0
    assert chain.counts() == {"x": (2, 2), "y": (2, 1)}


def test_a_reader_of_what_stays_as_it_is_is_taken_over(space: Space) -> None:
    """m comes between: x is made anew, m comes out the same, so y may go on with what it read."""
    chain = Chain(space)
    m = chain.job("m", "cat x.txt > m.txt", inputs=["x.txt"], outputs=["m.txt"])
    run = "while [ ! -e go ]; do sleep 0.02; done; cat m.txt > y.txt"
    space.workflow(chain.x, m, chain.job("y", run, inputs=["m.txt"], outputs=["y.txt"]))
    chain.lose()
    space.write("data.txt", "first\nnew\n")
    process = space.start("run", "workflow.yaml", "--no-tui")
    runs = space.root / "out/.oumi-flow/runs"
    wait_for(
        lambda: any('"adopted":true' in f.read_text() for f in runs.glob("*/events.jsonl")),
        "adoption",
    )
    space.write("go", "")
    text = chain.done(process)
    assert process.returncode == 0, text
    assert chain.counts() == {"x": (2, 2), "m": (1, 1), "y": (1, 1)}, text


def forget_y(space: Space, chain: Chain) -> None:
    """y is no job of the file any more."""
    space.workflow(chain.x)


@pytest.mark.parametrize("how", ["not in the file", "not asked for"])
def test_what_lives_on_and_nobody_wants_is_listed_and_taken_over_when_wanted(
    space: Space, how: str
) -> None:
    chain = Chain(space)
    chain.lose()
    words = ["x"] if how == "not asked for" else []
    if not words:
        forget_y(space, chain)
    for forced in ([], ["-F"]):  # x is up to date; or a run that finishes is the newest now
        if not forced:
            assert "up to date" in space.run(*words).text
        else:
            space.workflow(*([chain.x, chain.y] if words else []), chain.job("z", "touch z"))
            result = space.run("z")
            assert result.code == 0, result.text
            assert "y of a lost run still runs" in result.text
        told = space.command("status", "workflow.yaml")
        assert "running (runner lost)" in told.out, told.text
        rows = {job["job"]: job for job in record(space)["jobs"]}
        assert rows["y"]["state"] == "running"
        assert rows["y"]["runner_lost"] is True
    space.workflow(chain.x, chain.y)
    space.write("go", "")
    result = space.run()
    assert result.code == 0, result.text
    assert chain.counts() == {"x": (1, 1), "y": (1, 1), "z": (1, 1)}, result.text
    assert "runner lost" not in space.command("status", "workflow.yaml").out
    assert_all_let_go(space)


def record(space: Space) -> dict[str, Any]:
    result = space.command("status", "workflow.yaml", "--json")
    assert result.code == 0, result.text
    told: dict[str, Any] = json.loads(result.out)
    return told


@pytest.mark.parametrize("meanwhile", ["nothing", "another run is over", "another run is live"])
def test_what_lives_on_and_nobody_wants_can_be_cancelled(space: Space, meanwhile: str) -> None:
    chain = Chain(space)
    chain.lose()
    forget_y(space, chain)
    process = None
    if meanwhile != "nothing":
        wait = "while [ ! -e go ]; do sleep 0.02; done" if "live" in meanwhile else "touch z"
        space.workflow(chain.job("z", wait))
        process = space.start("run", "workflow.yaml", "--no-tui")
        wait_for(lambda: chain.count_effects()[0]["z"] == 1, "z runs")
        if "over" in meanwhile:
            chain.done(process)
    assert {job["job"] for job in record(space)["jobs"] if job["runner_lost"]} == {"y"}
    result = space.command("cancel", "workflow.yaml", "y")
    assert result.code == 0, result.text
    assert result.out == "y: cancelled\n"
    assert chain.counts()["y"] == (1, 0)
    if "live" in meanwhile:
        assert process is not None
        assert process.poll() is None, "the run was not asked for"
        space.write("go", "")
        assert "1 done" in chain.done(process)
        (space.root / "go").unlink()
    assert not processes_of(space)
    space.workflow(chain.x, chain.y)
    space.write("go", "")
    assert space.run().code == 0
    assert chain.counts()["y"] == (2, 1)


def test_a_run_lost_before_it_had_taken_over_shows_who_lives(space: Space) -> None:
    chain = Chain(space)
    slow = chain.job("slow", "while [ ! -e go ]; do sleep 0.02; done", outputs=[])
    space.workflow(slow, chain.x, {**chain.y, "depends_on": ["slow"]})
    space.write("go", "")
    space.run("slow", "x")
    (space.root / "go").unlink()
    chain.lose()
    process = space.start("run", "workflow.yaml", "--no-tui", "-f", "slow")
    wait_for(lambda: chain.count_effects()[0]["slow"] == 2, "slow runs again")
    process.send_signal(signal.SIGKILL)
    chain.done(process)
    rows = {job["job"]: job["state"] for job in record(space)["jobs"] if job["runner_lost"]}
    assert rows == {"slow": "running"}
    assert chain.counts()["y"] == (1, 0)  # it read what slow did, so it is gone
    space.write("go", "")
    assert space.run().code == 0
    assert_all_let_go(space)


def test_one_that_was_being_stopped_when_its_run_was_lost_is_run_again(space: Space) -> None:
    """And its run does not end as if somebody had cancelled it now."""
    chain = Chain(space, grace=60)
    trap = "trap 'touch asked; while [ ! -e gone ]; do sleep 0.02; done; exit 1' TERM\n"
    space.workflow(chain.x, {**chain.y, "run": trap + chain.y["run"]})
    chain.lose()
    canceller = space.start("cancel", "workflow.yaml", "y")
    wait_for(lambda: space.exists("asked"), "y is asked to stop")
    canceller.kill()
    chain.done(canceller)
    process = space.start("run", "workflow.yaml", "--no-tui")
    runs = space.root / "out/.oumi-flow/runs"
    wait_for(
        lambda: any('"adopted":true' in f.read_text() for f in runs.glob("*/events.jsonl")),
        "adoption",
    )
    space.write("go", "")
    space.write("gone", "")
    text = chain.done(process)
    assert process.returncode == 0, text
    assert chain.counts() == {"x": (1, 1), "y": (2, 1)}, text
    assert space.read("y.txt") == "first\n"


def test_of_two_runs_that_find_a_lost_one_at_once_one_takes_over(space: Space) -> None:
    chain = Chain(space)
    chain.lose()
    pair = [space.start("run", "workflow.yaml", "--no-tui") for _ in range(2)]
    wait_for(lambda: any(one.poll() is not None for one in pair), "one gives up")
    loser, winner = sorted(pair, key=lambda one: one.poll() is None)
    assert loser.returncode == 3
    assert f"pid {winner.pid} " in chain.done(loser)
    space.write("go", "")
    text = chain.done(winner)
    assert winner.returncode == 0, text
    assert chain.counts() == {"x": (1, 1), "y": (1, 1)}, text
    assert_all_let_go(space)


def test_a_run_and_a_cancel_that_find_a_lost_run_at_once(space: Space) -> None:
    """Whoever comes first: the other one waits its turn, is refused, or is heard by it."""
    chain = Chain(space, grace=1)
    for turn in range(6):
        (space.root / "go").unlink(missing_ok=True)
        chain.effects.unlink(missing_ok=True)
        chain.lose("-F")
        words = [["run", "workflow.yaml", "--no-tui"], ["cancel", "workflow.yaml", "y"]]
        both = [space.start(*some) for some in (words if turn % 2 else words[::-1])]
        run, cancel = both if turn % 2 else both[::-1]
        cancelled = chain.done(cancel)
        space.write("go", "")
        ran = chain.done(run)
        assert cancel.returncode in (0, 3), cancelled
        assert run.returncode in (0, 1, 3), ran
        if run.returncode == 1:
            assert "cancelled" in ran
        result = space.run()
        assert result.code == 0, result.text
        counts = chain.counts()
        assert counts["x"] == (1, 1)
        assert counts["y"][1] == 1, counts
        assert_all_let_go(space)


UNBORN = """
import ctypes, os, time
ctypes.CDLL(None).prctl(15, b"oumi-flow-job", 0, 0, 0)
os.open("out/x/.oumi-flow", os.O_RDONLY)
os.mkdir("up")
while True:
    time.sleep(1000)
"""


def test_a_job_whose_supervisor_was_killed_just_before_its_start_is_found(space: Space) -> None:
    """It has not got its token yet, nor its log: it is a copy of its supervisor still."""
    before = subprocess.Popen([sys.executable, "-c", ""])
    before.wait()
    handle = {"token": "t", "job": "x", "run_id": "R", "number": 1, "pid": before.pid}
    handle |= {"start_ticks": 1, "boot_id": boot_id(), "executor": "local", "host": "", "log": ""}
    attempt = {"token": "t", "state": "starting", "handle": handle}
    space.write("out/x/.oumi-flow/attempt.json", json.dumps(attempt))
    unborn = subprocess.Popen([sys.executable, "-c", UNBORN], cwd=space.root)
    wait_for(lambda: space.exists("up"), "it is up")
    executor = LocalExecutor()
    try:
        assert executor.living(str(space.root)) == []
        assert executor.find([str(space.root / "out/x/.oumi-flow")]) == []
        assert unborn.wait(timeout=60) == -signal.SIGTERM
    finally:
        executor.close()
        unborn.kill()
        unborn.wait()


def move_elsewhere(space: Space, job: str) -> int:
    """Let the record of a live attempt look as on another host that shares the folder; its pid.

    In place and of the same length, as its supervisor holds the file and knows its size.
    """
    path = space.root / f"out/{job}/.oumi-flow/attempt.json"
    text = path.read_text()
    handle = json.loads(text)["handle"]
    for known in (handle["host"], handle["boot_id"]):
        other = "".join("b" if letter == "a" else "a" for letter in known)
        text = text.replace(f'"{known}"', f'"{other}"')
    with open(path, "r+") as file:
        file.write(text)
    return int(handle["pid"])


def kill_elsewhere(space: Space, job: str) -> None:
    """As `move_elsewhere`; and that host goes down."""
    pid = move_elsewhere(space, job)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid), "its supervisor is gone")
    end_all(space)


def test_a_job_that_lives_on_another_host_is_not_begun_a_second_time(space: Space) -> None:
    chain = Chain(space)
    chain.lose()
    pid = move_elsewhere(space, "y")
    for words in (
        ["run", "workflow.yaml", "--no-tui"],
        ["cancel", "workflow.yaml"],
        ["clean", "workflow.yaml", "-y"],
        ["touch", "workflow.yaml", "y"],
    ):
        said = space.command(*words)
        assert said.code == 3, said.text
        assert 'job "y" of a lost run still runs on ' in said.err
        assert f"(supervisor pid {pid})" in said.err
    assert chain.counts()["y"] == (1, 0)
    space.write("go", "")
    wait_for(lambda: chain.counts()["y"] == (1, 1), "y ends")
    wait_for(lambda: not alive(pid), "its supervisor, too")
    said = space.run()
    assert said.code == 0, said.text
    assert "up to date (2 jobs)" in said.out
    assert chain.counts()["y"] == (1, 1)
    assert_all_let_go(space)


def test_a_lock_that_outlives_its_machine_is_got_rid_of_as_is_said(space: Space) -> None:
    """As a network file system may keep one."""
    chain = Chain(space)
    chain.lose()
    kill_elsewhere(space, "y")
    record = space.root / "out/y/.oumi-flow/attempt.json"
    with open(record, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = space.run()
        assert said.code == 3
        advice = "gone for good, remove out/y/.oumi-flow/attempt.json"
        assert advice in said.err
        record.unlink()
        space.write("go", "")
        said = space.run()
    assert said.code == 0, said.text
    assert chain.counts()["y"][0] == 2


def test_of_another_host_that_is_gone_nobody_waits(space: Space) -> None:
    chain = Chain(space)
    chain.lose()
    kill_elsewhere(space, "y")
    space.write("go", "")
    said = space.run()
    assert said.code == 0, said.text
    assert "y was lost with its run" in said.text
    assert chain.counts()["y"][0] == 2


def alive(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and process.lives
