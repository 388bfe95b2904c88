"""`cancel`, `resume` and `status` of runs in every state, by file and by run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from oumi_flow.executors.processes import read_process
from tests.flow.conftest import Result, Space, wait_for

GO = "while [ ! -e go ]; do sleep 0.02; done"


def sleepers(space: Space) -> None:
    space.workflow(
        space.job("a", "touch a.up; sleep 600", grace=1),
        space.job("b-1", "touch b.up; sleep 600", grace=1),
        space.job("b-2", "sleep 600", depends_on=["b-1"], grace=1),
    )


def start(space: Space) -> tuple[subprocess.Popen[str], str]:
    """A run that lives, and its id."""
    process = space.start("run", "workflow.yaml", "--no-tui")
    up = [space.root / "a.up", space.root / "b.up"]
    wait_for(lambda: all(file.exists() for file in up) or process.poll() is not None, "jobs run")
    for file in up:
        file.unlink()
    return process, newest(space)


def newest(space: Space) -> str:
    return max(path.name for path in (space.root / "out/.oumi-flow/runs").iterdir())


def finish(process: subprocess.Popen[str]) -> Result:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, out + err
    return Result(process.returncode, out, err)


def lose(space: Space) -> str:
    process, run = start(space)
    process.kill()
    process.communicate(timeout=60)
    return run


def test_cancel_of_jobs_then_of_the_run_by_name_glob_and_run(space: Space) -> None:
    sleepers(space)
    process, run = start(space)
    wrong = space.command("cancel", "workflow.yaml", "b-3")
    assert (wrong.code, 'did you mean "b-' in wrong.err) == (2, True), wrong.err
    assert space.command("cancel", "workflow.yaml", "b-*").out.splitlines() == [
        "b-2: cancelled",
        "b-1: cancelled",
    ]
    again = space.command("cancel", run, "b-1")
    assert (again.code, again.out) == (0, "b-1: cancelled already\n")
    told = space.command("status", "workflow.yaml").out
    assert "1 running, 0 waiting, 0 completed, 0 failed, 2 cancelled" in told
    whole = space.command("cancel", run)
    assert (whole.code, whole.out) == (0, f"run {run}: cancelled\n")
    assert finish(process).code == 1
    for words in (["cancel", run], ["cancel", "workflow.yaml"], ["cancel", run, "a"]):
        after = space.command(*words)
        assert after.code == 0
        assert f"nothing runs: run {run} is cancelled" in after.err
    assert "cancelled (cancelled)" not in space.command("status", "workflow.yaml").out


def test_who_no_longer_waits_for_a_cancel_has_cancelled_all_the_same(space: Space) -> None:
    script = f"trap 'touch asked' TERM; touch a.up b.up; {GO}; exit 1"
    space.workflow(space.job("a", script, grace=600))
    process, run = start(space)
    cancel = space.start("cancel", "workflow.yaml")
    assert cancel.stderr is not None
    assert cancel.stderr.readline() == f"stopping run {run}; waiting for its end\n"
    cancel.send_signal(signal.SIGINT)
    told = finish(cancel)
    assert told.code == 130, told.text
    assert "it is being stopped" in told.err
    wait_for(lambda: space.exists("asked"), "the job is asked to end")
    space.write("go", "")
    result = finish(process)
    assert (result.code, "cancelled" in result.text) == (1, True), result.text


STARTING = """
import sys, time, pathlib
from oumi_flow.store import Store
with Store("out").hold("20260101-000000-aaaa", "flow", "workflow.yaml"):
    pathlib.Path("held").write_text("")
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
"""


def test_a_run_that_is_only_just_starting_is_refused_to_others_and_cancelled(
    space: Space,
) -> None:
    """It holds the folder and has told nothing yet; here it then finds nothing to do."""
    sleepers(space)
    first = subprocess.Popen([sys.executable, "-c", STARTING], cwd=space.root, env=space.env)
    wait_for(lambda: space.exists("held") or first.poll() is not None, "the lock is held")
    for words in (["run", "workflow.yaml", "--no-tui"], ["run", "workflow.yaml", "--detach"]):
        refused = space.command(*words)
        assert refused.code == 3
        assert "run 20260101-000000-aaaa holds this folder" in refused.err
        assert f"pid {first.pid}" in refused.err
    for words in (["status"], ["status", "workflow.yaml"], ["status", "workflow.yaml", "--json"]):
        assert space.command(*words).code == 0
    cancels = [space.start("cancel", "workflow.yaml"), space.start("cancel", "workflow.yaml", "a")]
    for cancel in cancels:
        assert cancel.stderr is not None
        assert "is only just starting" in cancel.stderr.readline()
    space.write("go", "")
    assert first.wait(60) == 0
    for cancel in cancels:
        told = finish(cancel)
        assert told.code == 0, told.text
        assert "ended before it began anything" in told.err


def test_a_lost_run_is_listed_while_its_jobs_live_and_can_be_cancelled(space: Space) -> None:
    sleepers(space)
    run = lose(space)
    for words in (["status"], ["status", "--running"]):
        told = space.command(*words).out
        assert run in told, words
        assert "lost" in told
    records = json.loads(space.command("status", "--running", "--json").out)
    assert [(record["run_id"], record["state"]) for record in records] == [(run, "lost")]
    assert space.command("cancel", run, "b-1").out == "b-1: cancelled\n"
    assert space.command("cancel", "workflow.yaml").out == "a: cancelled\n"
    assert f"nothing runs: run {run} is lost" in space.command("cancel", run).err
    assert space.command("status", "--running").out == "no runs\n"
    assert run in space.command("status").out


@pytest.mark.parametrize("before", [True, False])
def test_the_log_of_a_job_that_nobody_looks_after_any_more_is_not_followed_for_ever(
    space: Space, before: bool
) -> None:
    """Run and supervisor were killed; an earlier attempt may have ended, or there was none."""
    if before:
        space.workflow(space.job("a", "exit 3"))
        assert space.run().code == 1
    space.workflow(space.job("a", "touch a.up b.up; until [ -e go ]; do sleep 0.05; done"))
    lose(space)
    supervisor = json.loads(space.read("out/a/.oumi-flow/attempt.json"))["handle"]["pid"]
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not getattr(read_process(supervisor), "lives", False), "it is gone")
    assert space.command("logs", "-f", "workflow.yaml", "a").code == 0
    space.write("go", "")
    assert space.run().code == 0


def test_how_jobs_of_a_lost_run_ended_is_told(space: Space) -> None:
    space.workflow(
        space.job("a", "touch a.up; sleep 600", grace=1),
        space.job("b", "touch b.up; until [ -e go ]; do sleep 0.05; done"),
    )
    run = lose(space)
    assert space.command("cancel", run, "a").out == "a: cancelled\n"
    space.write("go", "")
    wait_for(lambda: space.end_of("b"), "the job has ended")
    for words in (["status", run], ["status", "workflow.yaml"]):
        told = space.command(*words).out
        assert "cancelled after its run was lost" in told
        assert "finished after its run was lost; the next run takes its result" in told
    assert "taken over" in space.command("run", "workflow.yaml", "-n").out
    space.workflow(space.job("b", "touch b.up; until [ -e go ]; do sleep 0.05; done"))
    assert space.run().code == 0
    told = space.command("status", run).out
    assert "finished after its run was lost" in told
    assert "takes its result" not in told


@pytest.mark.parametrize("what", ["deleted", "moved"])
def test_a_run_whose_folder_is_gone_is_told_as_such(space: Space, what: str) -> None:
    space.workflow(space.job("a"))
    assert space.run().code == 0
    run = newest(space)
    other = space.elsewhere(space.root.parent / "moved")
    if what == "deleted":
        shutil.rmtree(space.root / "out")
    else:
        space.root.rename(other.root)
        space = other
    assert space.command("status").out == "no runs\n"
    assert space.command("status", "--json").out == "[]\n"
    for words in (["status", run], ["cancel", run], ["resume", run], ["monitor", run]):
        told = space.command(*words)
        assert told.code == 2, told.text
        assert f"run {run}: its folder" in told.err
        assert "is gone" in told.err
    if what == "moved":
        assert run in space.command("status", "workflow.yaml").out
        assert "up to date" in space.run().out


def test_resume_is_refused_while_the_run_lives(space: Space) -> None:
    sleepers(space)
    process, run = start(space)
    for words in (["resume"], ["resume", run]):
        refused = space.command(*words)
        assert refused.code == 3, refused.text
        assert f"run {run} holds this folder (pid {process.pid}" in refused.err
    unknown = space.command("resume", run[:-1] + "z")
    assert (unknown.code, f'did you mean "{run}"?' in unknown.err) == (2, True), unknown.err
    assert space.command("cancel", run).code == 0
    assert finish(process).code == 1


def test_a_detached_run_is_refused_listed_and_cancelled(space: Space) -> None:
    sleepers(space)
    run = space.command("run", "workflow.yaml", "--detach").out.strip()
    refused = space.command("run", "workflow.yaml", "--detach")
    assert refused.code == 3, refused.text
    assert f"run {run} holds this folder" in refused.err
    assert run in space.command("status", "--running").out
    # What was refused leaves no trace.
    runs = [path.name for path in (space.root / "out/.oumi-flow/runs").iterdir()]
    assert runs == [run]
    done = space.command("cancel", run)
    assert (done.code, done.out) == (0, f"run {run}: cancelled\n")
    assert space.command("status", "--running").out == "no runs\n"
