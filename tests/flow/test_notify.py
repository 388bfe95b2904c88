"""The command of `notify:`: what it is told, and that nothing it does can hold or hurt a run."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from pathlib import Path

import pytest

from oumi_flow.commands.notify import Notifier
from oumi_flow.events import JobFinished, RunFinished, RunStarted
from tests.flow.conftest import Result, Space, wait_for

STARTED = RunStarted("r1", "sweep", "w.yaml", "out", 1, "host")


def ok(result: Result) -> Result:
    assert result.code == 0, result.text
    return result


def test_it_is_told_of_failures_and_of_the_end(space: Space) -> None:
    space.workflow(space.job("good"), space.job("bad", "exit 5"), notify="cat >> told.jsonl")
    assert space.run().code == 1
    told = [json.loads(line) for line in space.read("told.jsonl").splitlines()]
    kinds = [(each["event"], each.get("job", "")) for each in told]
    assert kinds == [("failed", "bad"), ("finished", "")]
    assert told[-1]["state"] == "failed"


def test_what_goes_wrong_with_it_is_a_warning(space: Space) -> None:
    space.workflow(space.job("good"), notify="echo broken >&2; exit 9")
    said = ok(space.run())
    assert "notify" in said.err
    assert "exit 9: broken" in said.err


def test_a_background_process_that_it_leaves_holds_nobody_up(space: Space) -> None:
    space.workflow(space.job("a"), notify="sleep 1000 & echo $! > pid; exit 0")
    ok(space.run())  # a run that waits for the sleep would be stopped by the test's own limit
    os.kill(int(space.read("pid")), 9)


def test_many_failures_are_told_one_after_the_other(space: Space) -> None:
    busy = "test ! -e busy || echo two at once >> wrong; touch busy; cat >> told; rm busy"
    jobs = [space.job(f"j{number}", "exit 1") for number in range(20)]
    space.workflow(*jobs, notify=busy)
    said = space.run("--max-parallel", "8")
    assert not (space.root / "wrong").exists(), said.text
    told = [json.loads(line) for line in space.read("told").splitlines()]
    assert [one["event"] for one in told] == ["failed"] * 20 + ["finished"]


@pytest.mark.parametrize("ends", ["", "trap '' TERM; "])
def test_one_that_hangs_is_stopped_with_all_that_it_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ends: str
) -> None:
    pids = tmp_path / "pids"
    hangs = f"{ends}sleep 1000 & echo $! >> {pids}; echo $$ >> {pids}; sleep 1000"
    for limit in (0.5, 4, 40):  # on a slow machine it may strike before both are up
        notifier = Notifier(hangs, limit=limit)
        notifier(STARTED)
        notifier(RunFinished("failed", {}))
        notifier.close()
        assert f"took more than {limit} s" in capsys.readouterr().err
        if pids.exists() and pids.read_text().count("\n") % 2 == 0:
            break
    for pid in pids.read_text().split():
        wait_for(partial(_gone, int(pid)), f"the end of {pid}")


def test_once_the_run_has_ended_the_end_is_told_even_when_failures_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "told"
    said = ""
    slow = f"""line=$(cat); case $line in *failed*cause*job*|*'"event": "failed"'*) sleep 1000;; *)
        echo "$line" > {told};; esac"""
    for limit in (0.2, 2.0):  # on a slow machine it may strike before the end is written
        notifier = Notifier(slow, limit=limit)
        notifier(STARTED)
        for number in range(40):
            notifier(JobFinished(f"j{number}", "failed", 1))
        notifier(RunFinished("stopped", {}))
        closing = threading.Thread(target=notifier.close)
        closing.start()
        closing.join(30)  # all 40 by themselves would take longer than the 3 limits that it takes
        assert not closing.is_alive()
        said = capsys.readouterr().err
        if told.exists():
            break
    assert json.loads(told.read_text())["event"] == "finished"
    assert "failures could not be told in time" in said


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"
