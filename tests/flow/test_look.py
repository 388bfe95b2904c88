"""Looking back and on: what `status`, `logs`, `errors`, `metrics`, `why`, `cancel` and kin say."""

from __future__ import annotations

import itertools
import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oumi_flow.cli import main
from oumi_flow.commands.watching import Watching
from oumi_flow.store import Store
from tests.flow.conftest import Space, wait_for

GO = "while [ ! -e go ]; do sleep 0.02; done"


def run_ids(space: Space) -> list[str]:
    return [run["run_id"] for run in json.loads(space.command("status", "--json").out)]


def mixed(space: Space) -> None:
    """One that works, three that fail (two in the same way), one that is blocked."""
    space.workflow(
        space.job("good", "echo loss=0.5"),
        space.job("bad-1", "echo noise 1; echo 'ValueError: no such column'; exit 3"),
        space.job("bad-2", "echo noise 2; echo 'ValueError: no such column'; exit 3"),
        space.job("other", "echo something else; exit 4"),
        space.job("after", depends_on=["bad-1"]),
    )


def live(space: Space, *flags: str, **env: str) -> subprocess.Popen[str]:
    """A run of `slow`, which waits for the file `go`, and of `next` behind it."""
    space.workflow(
        space.job("first"),
        space.job("slow", f"echo begun; echo x > begun; {GO}; echo over", depends_on=["first"]),
        space.job("next", "echo next", depends_on=["slow"]),
    )
    process = space.start("run", "workflow.yaml", "--no-tui", *flags, **env)
    wait_for(lambda: space.exists("begun"), "slow runs")
    return process


def end(space: Space, process: subprocess.Popen[str]) -> str:
    space.write("go", "")
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, out + err
    return out + err


# -- status ------------------------------------------------------------------------------------


def test_status_lists_runs_newest_first_and_one_by_file_or_run(space: Space) -> None:
    assert space.command("status").out.strip() == "no runs"
    assert space.command("status", "--json").out.strip() == "[]"
    mixed(space)
    space.run("good")
    space.run()
    listed = space.command("status")
    assert listed.code == 0
    ids = run_ids(space)
    assert len(ids) == 2
    assert listed.out.index(ids[0]) < listed.out.index(ids[1])
    assert "3 failed" in listed.out
    assert str(space.root / "out") in listed.out
    for target in ("workflow.yaml", ids[0]):
        one = space.command("status", target)
        assert one.code == 0
        assert "upstream bad-1 failed" in one.out
        assert "exit 4" in one.out
        assert "1 up to date, 3 failed, 1 blocked" in one.out
    earlier = space.command("status", ids[1])
    assert "1 done" in earlier.out
    assert "bad-1" not in earlier.out


def test_status_as_json_has_jobs_with_causes(space: Space) -> None:
    mixed(space)
    space.run()
    record = json.loads(space.command("status", "workflow.yaml", "--json").out)
    jobs = {job["job"]: job for job in record["jobs"]}
    assert record["state"] == "failed"
    assert jobs["good"]["state"] == "done"
    assert jobs["good"]["metrics"] == {"loss": 0.5}
    assert (jobs["other"]["state"], jobs["other"]["exit_code"]) == ("failed", 4)
    assert jobs["after"]["state"] == "blocked"
    assert "bad-1" in jobs["after"]["cause"]


def test_status_of_a_live_run_says_what_runs_and_what_waits(space: Space) -> None:
    process = live(space)
    said = space.command("status", "workflow.yaml")
    assert "1 running" in said.out
    assert "waits for slow" in said.out
    only = space.command("status", "workflow.yaml", "--running")
    assert "slow" in only.out
    assert "next" not in only.out
    assert len(json.loads(space.command("status", "--running", "--json").out)) == 1
    assert (
        len(json.loads(space.command("status", "workflow.yaml", "--running", "--json").out)["jobs"])
        == 1
    )
    end(space, process)
    assert space.command("status", "--running").out.strip() == "no runs"


def test_a_drawing_is_written_where_one_stands(space: Space, tmp_path: Path) -> None:
    space.workflow(space.job("a"))
    assert space.run().code == 0
    there = tmp_path / "there"
    there.mkdir()
    result = space.elsewhere(there).command("dag", str(space.root / "workflow.yaml"), "-o", "f.mmd")
    assert result.code == 0, result.text
    assert "a" in (there / "f.mmd").read_text()
    assert not space.exists("f.mmd")


def test_status_works_from_any_folder(space: Space, tmp_path: Path) -> None:
    space.workflow(space.job("a"))
    space.run()
    run_id = run_ids(space)[0]
    away = space.elsewhere(tmp_path)
    for words in (["status", run_id], ["status", "project/workflow.yaml"], ["monitor", run_id]):
        said = away.command(*words)
        assert said.code == 0, said.text
        assert "1 done" in said.out
    assert "attempt 1" in away.command("logs", "project/workflow.yaml", "a").out


def test_a_lost_run_is_called_lost_and_its_live_job_running(space: Space) -> None:
    process = live(space)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    said = space.command("status", "workflow.yaml")
    assert "lost" in said.out
    assert "running (runner lost)" in said.out
    watched = space.command("monitor", "workflow.yaml")
    assert "lost" in watched.text
    cancelled = space.command("cancel", "workflow.yaml")
    assert cancelled.code == 0, cancelled.text
    assert "slow: cancelled" in cancelled.out
    again = space.run("--dry-run")
    assert "last attempt was interrupted" in again.out


@pytest.mark.parametrize("words", [["status"], ["monitor"], ["cancel"]])
def test_an_unknown_run_is_told_with_the_nearest(space: Space, words: list[str]) -> None:
    space.workflow(space.job("a"))
    space.run()
    run_id = run_ids(space)[0]
    wrong = run_id[:-1] + ("0" if run_id[-1] != "0" else "1")
    said = space.command(*words, wrong)
    assert said.code == 2
    assert f'did you mean "{run_id}"' in said.err
    said = space.command(*words, "nowhere.yaml")
    assert said.code == 2
    assert "nowhere.yaml" in said.err


@pytest.mark.parametrize("command", ["status", "monitor", "errors", "cancel"])
def test_a_workflow_that_never_ran_says_so(space: Space, command: str) -> None:
    space.workflow(space.job("a"))
    said = space.command(command, "workflow.yaml")
    assert said.code == 2
    assert "has not been run yet" in said.err
    assert "oumi-flow run workflow.yaml" in said.err


# -- logs --------------------------------------------------------------------------------------


def test_logs_whole_end_attempts_and_errors(space: Space) -> None:
    space.workflow(
        space.job(
            "job",
            "for i in 1 2 3 4 5; do echo line $i of $OUMI_FLOW_ATTEMPT; done\n"
            "echo 'RuntimeError: boom'; [ $OUMI_FLOW_ATTEMPT = 2 ]",
            max_retries=1,
            retry_delay=0,
        )
    )
    assert space.run().code == 0
    whole = space.command("logs", "workflow.yaml", "job").out.splitlines()
    assert "attempt 2" in whole[0]
    assert whole[1:] == [f"line {i} of 2" for i in range(1, 6)] + ["RuntimeError: boom"]
    last = space.command("logs", "workflow.yaml", "job", "-n", "2").out.splitlines()
    assert last == ["line 5 of 2", "RuntimeError: boom"]
    assert space.command("logs", "workflow.yaml", "job", "-n", "0").out == ""
    assert len(space.command("logs", "workflow.yaml", "job", "-n", "99").out.splitlines()) == 7
    first = space.command("logs", "workflow.yaml", "job", "--attempt", "1")
    assert "line 1 of 1" in first.out
    none = space.command("logs", "workflow.yaml", "job", "--attempt", "3")
    assert none.code == 2
    assert "there are: 1, 2" in none.err
    errors = space.command("logs", "workflow.yaml", "job", "--errors")
    assert "RuntimeError: boom" in errors.out
    assert "line 1" not in errors.out
    assert space.command("logs", "workflow.yaml", "job", "-n", "-3").code == 2


def test_attempts_are_those_of_the_newest_run(space: Space) -> None:
    space.workflow(space.job("job", "echo one; exit 1", max_retries=1, retry_delay=0))
    space.run()
    space.workflow(space.job("job", "echo two"))
    space.run()
    assert "two" in space.command("logs", "workflow.yaml", "job", "--attempt", "1").out
    assert space.command("logs", "workflow.yaml", "job", "--attempt", "2").code == 2


def test_logs_of_a_job_without_one_and_of_none(space: Space) -> None:
    mixed(space)
    space.run()
    said = space.command("logs", "workflow.yaml", "after")
    assert said.code == 2
    assert "has no log" in said.err
    said = space.command("logs", "workflow.yaml", "bad-3")
    assert said.code == 2
    assert "did you mean" in said.err
    said = space.command("logs", "workflow.yaml", "bad-*")
    assert said.code == 2
    assert "means 2 jobs" in said.err
    assert "bad-1" in said.err


def test_a_binary_log_comes_as_it_is(space: Space) -> None:
    space.workflow(space.job("job", r"printf '\000\377\033[31mred\r50%%\r100%%\n'"))
    space.run()
    raw = subprocess.run(
        [sys.executable, "-m", "oumi_flow", "logs", "workflow.yaml", "job", "-n1"],
        cwd=space.root,
        env=space.env,
        capture_output=True,
        check=True,
    )
    assert raw.stdout == b"\x00\xff\x1b[31mred\r50%\r100%\n"
    assert space.command("errors", "workflow.yaml").code == 0


def test_follow_ends_with_the_job_and_shows_all_of_it(space: Space) -> None:
    process = live(space)
    follower = space.start("logs", "workflow.yaml", "slow", "-f")
    assert follower.stdout is not None
    assert "attempt 1" in follower.stdout.readline()
    assert follower.stdout.readline() == "begun\n"
    end(space, process)
    out, err = follower.communicate(timeout=60)
    assert out == "over\n"
    assert (follower.returncode, err) == (0, "")
    # Afterwards it is `logs`.
    after = space.command("logs", "workflow.yaml", "slow", "-f")
    assert after.out.splitlines()[1:] == ["begun", "over"]


def test_follow_waits_for_a_job_that_has_not_begun(space: Space) -> None:
    process = live(space)
    follower = space.start("logs", "workflow.yaml", "next", "-f")
    assert follower.stderr is not None
    assert "waits for slow" in follower.stderr.readline()
    end(space, process)
    out, err = follower.communicate(timeout=60)
    assert follower.returncode == 0, err
    assert out.splitlines()[1:] == ["next"]


def follow_from_try_1(space: Space) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """A run whose job says `try 1`, and who follows its log and has read that."""
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("begun"), "the job runs")
    follower = space.start("logs", "workflow.yaml", "job", "-f")
    assert follower.stdout is not None
    while follower.stdout.readline() != "try 1\n":
        pass
    return process, follower


def test_follow_goes_on_with_the_next_attempt(space: Space) -> None:
    space.workflow(
        space.job(
            "job",
            f"n=$OUMI_FLOW_ATTEMPT; echo try $n; echo x > begun; {GO}; [ -e ok$n ]",
            max_retries=2,
            retry_delay=0.5,
        )
    )
    process, follower = follow_from_try_1(space)
    space.write("ok3", "")
    end(space, process)
    out, err = follower.communicate(timeout=60)
    assert [line for line in out.splitlines() if line.startswith("try")] == ["try 2", "try 3"]
    assert "exit 1; attempt 2 in 0.5s" in err


def test_follow_that_was_held_up_shows_all_attempts_that_came_meanwhile(space: Space) -> None:
    script = f"n=$OUMI_FLOW_ATTEMPT; echo try $n; echo x > begun; {GO}; [ $n = 3 ]"
    space.workflow(space.job("job", script, max_retries=2))
    process, follower = follow_from_try_1(space)
    follower.send_signal(signal.SIGSTOP)
    end(space, process)
    follower.send_signal(signal.SIGCONT)
    out, _ = follower.communicate(timeout=60)
    assert [line for line in out.splitlines() if line.startswith("try")] == ["try 2", "try 3"]


def test_follow_of_a_job_that_will_not_run_says_why(space: Space) -> None:
    space.workflow(
        space.job("bad", f"echo x > begun; {GO}; exit 1"), space.job("after", depends_on=["bad"])
    )
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("begun"), "the job runs")
    follower = space.start("logs", "workflow.yaml", "after", "-f")
    assert follower.stderr is not None
    assert "waits for bad" in follower.stderr.readline()
    end(space, process)
    out, err = follower.communicate(timeout=60)
    assert (follower.returncode, out) == (2, "")
    assert "blocked (upstream bad failed)" in err


def test_a_plan_made_while_a_run_lives_knows_what_runs(space: Space) -> None:
    process = live(space)
    run_id = run_ids(space)[0]
    assert f"runs now, in run {run_id}" in space.run("-n").out
    assert f"runs now, in run {run_id}" in space.command("why", "workflow.yaml", "slow").out
    for words in (["run", "workflow.yaml", "--detach"], ["clean", "workflow.yaml", "-y"]):
        refused = space.command(*words)
        assert refused.code == 3
        assert f"oumi-flow monitor {run_id}" in refused.err
        assert refused.err.count("error:") == 1
    assert space.exists("out/first/job.log")
    end(space, process)
    assert process.returncode == 0


def test_follow_stopped_by_ctrl_c_leaves_the_run_alone(space: Space) -> None:
    process = live(space)
    follower = space.start("logs", "workflow.yaml", "slow", "-f")
    assert follower.stdout is not None
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    out, err = follower.communicate(timeout=60)
    assert "Traceback" not in out + err
    end(space, process)
    assert process.returncode == 0


# -- errors ------------------------------------------------------------------------------------


def test_errors_are_grouped_by_cause(space: Space) -> None:
    mixed(space)
    space.run()
    said = space.command("errors", "workflow.yaml")
    assert said.code == 1
    assert said.out.count("no such column") == 2  # the cause, and the log's line
    assert "and so did" in said.out
    assert "something else" in said.out
    assert "3 jobs failed" in said.out
    records = json.loads(space.command("errors", "workflow.yaml", "--json").out)
    assert sorted(record["job"] for record in records) == ["bad-1", "bad-2", "other"]
    assert records[0]["lines"]
    space.workflow(space.job("good"))
    space.run()
    assert space.command("errors", "workflow.yaml").out.strip() == "no failures"
    assert space.command("errors", "workflow.yaml", "--json").out.strip() == "[]"


def test_errors_say_less_or_more(space: Space) -> None:
    space.workflow(space.job("bad", "for i in $(seq 40); do echo line-$i; done; exit 1"))
    space.run()
    assert "line-39" not in space.command("errors", "workflow.yaml", "-n", "1").out
    assert "line-11" in space.command("errors", "workflow.yaml", "-n", "30").out
    assert "line-40" not in space.command("errors", "workflow.yaml", "-n", "0").out
    assert space.command("errors", "workflow.yaml", "-n", "-1").code == 2


# -- metrics -----------------------------------------------------------------------------------


def numbers(space: Space, factor: int = 1) -> None:
    space.workflow(
        space.job("a", f"echo loss={1 * factor} acc=0.25"),
        space.job("b", f"echo loss={2 * factor}"),
        space.job("c"),
    )


def test_metrics_as_table_csv_and_json(space: Space) -> None:
    numbers(space)
    assert space.command("metrics", "workflow.yaml").out.strip() == "no metrics yet"
    space.run()
    table = space.command("metrics", "workflow.yaml").out.splitlines()
    assert table[0].split() == ["job", "loss", "acc"]
    assert table[1].split() == ["a", "1", "0.25"]
    csv = space.command("metrics", "workflow.yaml", "--csv").out.splitlines()
    assert csv == ["job,loss,acc", "a,1.0,0.25", "b,2.0,"] or csv == [
        "job,loss,acc",
        "a,1,0.25",
        "b,2,",
    ]
    records = json.loads(space.command("metrics", "workflow.yaml", "--json").out)
    assert records[0]["metrics"] == {"loss": 1, "acc": 0.25}
    only = space.command("metrics", "workflow.yaml", "b").out
    assert "acc" not in only
    assert space.command("metrics", "workflow.yaml", "nope").code == 2


def test_commands_to_type_are_quoted(space: Space) -> None:
    flow = "my flow.yaml"
    space.workflow(space.job("a b"), space.job("c"), path=flow)
    result = space.command("status", flow)
    assert f"`oumi-flow run '{flow}'`" in result.text
    assert space.command("run", flow, "--no-tui").code == 0
    space.workflow(space.job("c"), path=flow)
    assert f"oumi-flow clean '{flow}' --orphans" in space.command("run", flow, "-n").text


def test_a_name_that_the_locale_cannot_write_is_told(space: Space) -> None:
    space.workflow(space.job("日本語"))
    result = space.run("-n", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert result.code == 2
    assert "cannot be written in this locale's ascii" in result.text


def test_a_screen_is_not_both_to_look_only_and_to_act(space: Space) -> None:
    result = space.command("monitor", "--web", "--read-only", "--writable")
    assert result.code == 2
    assert "--read-only and --writable are two wishes" in result.text


def test_metrics_of_a_job_that_failed_at_once(space: Space) -> None:
    space.workflow(space.job("a", "echo loss=3; exit 4"))
    assert space.run().code == 1
    table = space.command("metrics", "workflow.yaml").out.splitlines()
    assert [line.split() for line in table] == [["job", "loss"], ["a", "3"]]


def test_metrics_beside_those_of_an_earlier_run(space: Space) -> None:
    numbers(space)
    space.run()
    earlier = run_ids(space)[0]
    numbers(space, factor=3)
    space.run()
    said = space.command("metrics", "workflow.yaml", "--diff", earlier)
    assert "1 → 3" in said.out
    assert "2 → 6" in said.out
    csv = space.command("metrics", "workflow.yaml", "--csv", "--diff", earlier).out
    assert csv.splitlines()[0] == "job,loss,acc,loss before,acc before"
    unknown = space.command("metrics", "workflow.yaml", "--diff", earlier + "x")
    assert unknown.code == 2
    assert earlier in unknown.err


# -- why ---------------------------------------------------------------------------------------


def test_why_tells_all_three_decisions(space: Space) -> None:
    space.write("data.txt", "1\n")
    space.workflow(
        space.job("make", "cp data.txt m", inputs=["data.txt"], outputs=["m"]),
        space.job("use", "cp m u", inputs=["m"], outputs=["u"]),
        space.job("aside"),
    )
    first = space.command("why", "workflow.yaml", "make").out
    assert "will run" in first
    assert "has not run here before" in first
    assert "use" in first
    space.run()
    still = space.command("why", "workflow.yaml", "use").out
    assert "up to date (made " in still
    space.write("data.txt", "2\n")
    changed = space.command("why", "workflow.yaml", "make").out
    assert "input changed: data.txt" in changed
    may = space.command("why", "workflow.yaml", "use").out
    assert "may run" in may
    assert "waits for make; skipped if its output comes out the same" in may
    record = json.loads(space.command("why", "workflow.yaml", "use", "--json").out)
    assert record["decision"] == "may run"
    assert record["waits_for"] == [["make", "will run"]]
    assert sorted(space.ran()) == ["aside", "make", "use"]
    said = space.command("why", "workflow.yaml", "mkae")
    assert said.code == 2
    assert 'did you mean "make"' in said.err


# -- cancel, resume, detach --------------------------------------------------------------------


def test_cancel_of_a_run_id_and_of_what_does_not_run(space: Space) -> None:
    process = live(space)
    run_id = run_ids(space)[0]
    unknown = space.command("cancel", "workflow.yaml", "nope")
    assert unknown.code == 2
    said = space.command("cancel", run_id)
    assert said.code == 0, said.text
    assert f"run {run_id}: cancelled" in said.out
    process.communicate(timeout=60)
    assert process.returncode == 1
    again = space.command("cancel", "workflow.yaml")
    assert (again.code, "nothing runs" in again.text) == (0, True)
    assert "last attempt was interrupted (cancelled)" in space.run("--dry-run").out


def test_cancel_of_a_job_that_is_over_or_was_up_to_date_does_not_wait(space: Space) -> None:
    space.workflow(space.job("first"))
    space.run()
    process = live(space)
    for job in ("first",):
        said = space.command("cancel", "workflow.yaml", job)
        assert said.code == 0, said.text
        assert "first: up to date already" in said.text
    end(space, process)
    assert process.returncode == 0


def test_resume_keeps_the_flags_but_does_not_force_again(space: Space) -> None:
    space.workflow(
        space.job("a", "echo ${{ vars.word }} > a.txt", outputs=["a.txt"]),
        space.job("b", "[ -e ok ]"),
        space.job("c"),
        vars={"word": "one"},
    )
    assert space.run("--set", "word=two", "--omit", "c", "-f", "a").code == 1
    space.ran()
    space.write("ok", "")
    said = space.command("resume")
    assert said.code == 0, said.text
    assert "--set word=two" in said.err
    assert space.ran() == ["b"]
    assert space.read("a.txt") == "two\n"
    first = run_ids(space)[-1]
    by_id = space.command("resume", first)
    assert "up to date" in by_id.out
    unknown = space.command("resume", first + "0")
    assert unknown.code == 2
    assert first in unknown.err


def test_resume_works_from_elsewhere_and_without_runs(space: Space, tmp_path: Path) -> None:
    said = space.command("resume")
    assert said.code == 2
    assert "oumi-flow run FILE" in said.err
    space.workflow(space.job("a", "[ -e ok ]"))
    assert space.run().code == 1
    space.write("ok", "")
    away = space.elsewhere(tmp_path)
    assert away.command("resume").code == 0
    assert space.ran() == ["a", "a"]


def test_a_detached_run_is_watched_and_comes_to_its_end(space: Space) -> None:
    space.workflow(space.job("slow", f"echo x > begun; {GO}; echo over"))
    started = space.run("--detach")
    assert started.code == 0, started.text
    run_id = started.out.strip()
    assert f"oumi-flow monitor {run_id}" in started.err
    wait_for(lambda: space.exists("begun"), "the job runs")
    assert space.run().code == 3
    watcher = space.start("monitor", run_id)
    assert watcher.stdout is not None
    assert "1 will run" in watcher.stdout.readline()
    space.write("go", "")
    out, err = watcher.communicate(timeout=60)
    assert watcher.returncode == 0, err
    assert "1 done" in out
    assert "1 done" in space.command("monitor").out
    assert "up to date" in space.run("--detach").out


def test_a_detached_run_that_cannot_start_says_why(space: Space) -> None:
    space.workflow(space.job("a", resources={"gpu": 0}))
    said = space.run("--detach", CUDA_VISIBLE_DEVICES="")
    assert said.code == 2
    assert "GPU" in said.err
    assert space.ran() == []


def test_leaving_monitor_by_ctrl_c_leaves_the_run(space: Space) -> None:
    process = live(space)
    watcher = space.start("monitor", "workflow.yaml")
    assert watcher.stdout is not None
    while "slow" not in watcher.stdout.readline():
        pass
    watcher.send_signal(signal.SIGINT)
    _, err = watcher.communicate(timeout=60)
    assert watcher.returncode == 0
    assert "the run goes on" in err
    end(space, process)
    assert process.returncode == 0


# -- the command line itself -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu", "workflow.yaml"], 'did you mean "run"'),
        (["run", "workflow.yaml", "--dryrun"], 'did you mean "--dry-run"'),
        (["run"], "FILE missing"),
        (["run", "workflow.yaml", "-j", "two"], "-j/--max-parallel: expected a whole number"),
        (["run", "workflow.yaml", "-j0"], "expected a number from 1 up"),
        (["run", "workflow.yaml", "--gpus", "x"], "expected numbers like 0,1"),
        (["run", "workflow.yaml", "--dag=mermiad"], 'did you mean "mermaid"'),
        (["run", "workflow.yaml", "--set", "x"], "expected K=V"),
        (["run", "workflow.yaml", "--set", "x=1"], 'no var "x"'),
        (["run", "workfolw.yaml"], 'did you mean "workflow.yaml"'),
        (["run", "workflow.yaml", "-C", "nowhere"], "nowhere"),
        (["run", "workflow.yaml", "first-job"], "first-job"),
        (["help", "rnu"], 'did you mean "run"'),
        (["run", ""], "a variable of your shell"),
        (["-C", "nowhere", "run", "workflow.yaml"], "-C nowhere"),
        (["status", "a", "b"], 'one argument too many: "b"'),
        (["completion"], "shell missing"),
        (["completion", "bsh"], 'did you mean "bash"'),
        (["dag", "workflow.yaml", "-o", "x.png"], ".svg, .dot or .mmd"),
    ],
)
def test_wrong_words_end_in_2_with_advice(space: Space, words: list[str], said: str) -> None:
    space.workflow(space.job("a"))
    result = space.command(*words)
    assert result.code == 2, result.text
    assert said in result.err
    assert result.out == ""
    assert space.ran() == []


def test_help_and_version(space: Space) -> None:
    overview = space.command("--help")
    assert overview.code == 0
    assert space.command("help").out == overview.out
    assert space.command().code == 2
    assert space.command("--version").out.startswith("oumi-flow 0.")
    for line in overview.out.splitlines():
        name = line.split()[0] if line.startswith("  ") and not line.startswith("  oumi") else ""
        if name.isalpha():
            said = space.command("help", name)
            assert said.code == 0
            assert "examples:\n" in said.out, name
            assert said.out == space.command(name, "--help").out


def test_flags_and_names_in_any_order(space: Space) -> None:
    space.workflow(space.job("a"), space.job("b"))
    assert space.command("run", "--no-tui", "-j", "1", "workflow.yaml", "b").code == 0
    assert space.ran() == ["b"]
    assert space.command("run", "workflow.yaml", "--no-tui", "a", "-f", "b", "b").code == 0
    assert sorted(space.ran()) == ["a", "b"]


def test_a_reader_who_leaves_hurts_nobody(space: Space) -> None:
    space.workflow(*(space.job(f"job-{i}") for i in range(30)))
    for words in (
        "run workflow.yaml --no-tui",
        "schema",
        "status workflow.yaml",
        "run --dag workflow.yaml",
    ):
        done = subprocess.run(
            [
                "bash",
                "-c",
                f"{sys.executable} -m oumi_flow {words} | head -n1; echo ${{PIPESTATUS[0]}}",
            ],
            cwd=space.root,
            env=space.env,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == "", words
        assert done.stdout.splitlines()[-1] == "0", words
    assert len(space.ran()) == 30


def test_no_stdout_or_a_full_one(space: Space) -> None:
    space.workflow(space.job("a"))

    def shell(words: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m oumi_flow {words}"],
            cwd=space.root,
            env=space.env,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    assert shell("status >&-") == (0, "")
    code, err = shell("schema > /dev/full")
    assert code == 4
    assert err.strip() == "error: cannot write the output: No space left on device"
    code, err = shell("run workflow.yaml > /dev/full")
    assert space.ran() == ["a"]
    assert "the run goes on" in err
    assert code == 0


def test_an_ascii_terminal_gets_ascii(space: Space) -> None:
    space.workflow(space.job("ä"))
    for words in (
        ["validate", "workflow.yaml"],
        ["run", "workflow.yaml", "--no-tui"],
        ["status"],
        ["status", "workflow.yaml"],
        ["status", "--json"],
        ["why", "workflow.yaml", "ä"],
    ):
        said = space.command(*words, PYTHONIOENCODING="ascii")
        assert said.code == 0, said.text
        assert said.out.isascii(), words
        if "--json" in words:
            json.loads(said.out)


def test_the_folder_one_stands_in_is_gone(space: Space) -> None:
    space.workflow(space.job("a"))
    (space.root / "sub").mkdir()
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"cd sub && rmdir ../sub && {sys.executable} -m oumi_flow run ../workflow.yaml",
        ],
        cwd=space.root,
        env={**space.env, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "the folder that you are in is gone" in done.stderr


def test_a_home_that_cannot_be_written_is_a_warning(space: Space) -> None:
    space.workflow(space.job("a"))
    said = space.run(OUMI_FLOW_HOME="/proc/nowhere")
    assert said.code == 0, said.text
    assert space.ran() == ["a"]
    assert "warning" in said.text


def test_colour_and_screen_only_where_wanted(space: Space) -> None:
    space.workflow(space.job("a"))

    def on_a_terminal(**env: str) -> str:
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "oumi_flow", "run", "workflow.yaml", "-F", "--no-tui"],
            cwd=space.root,
            env={**space.env, "TERM": "xterm-256color", "CI": "", "NO_COLOR": "", **env},
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        said = b""
        try:
            while block := os.read(leader, 65536):
                said += block
        except OSError:
            pass
        os.close(leader)
        assert process.wait(60) == 0
        return said.decode()

    assert "\x1b[" in on_a_terminal()
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"CI": "true"}):
        said = on_a_terminal(**plain)
        assert "\x1b" not in said, plain
        assert "done" in said
    assert "\x1b" not in space.run("-F", TERM="xterm-256color").text


# -- completion --------------------------------------------------------------------------------


def complete(space: Space, *words: str) -> list[str]:
    """What bash offers for the last of `words`, by the script as a user would load it."""
    bin_folder = space.root.parent / "bin"
    bin_folder.mkdir(exist_ok=True)
    program = bin_folder / "oumi-flow"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m oumi_flow "$@"\n')
    program.chmod(0o755)
    line = " ".join(words)
    script = "\n".join(
        [
            'eval "$(oumi-flow completion bash)"',
            f"COMP_WORDS=({' '.join(repr(word) for word in words)})",
            f"COMP_CWORD={len(words) - 1}",
            f"COMP_LINE={line!r}",
            f"COMP_POINT={len(line)}",
            "_oumi_flow",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ]
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=space.root,
        env={**space.env, "PATH": f"{bin_folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return [word for word in done.stdout.splitlines() if word]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_flags_files_and_jobs(space: Space) -> None:
    space.workflow(space.job("train-a"), space.job("train-b"), space.job("eval a"))
    assert complete(space, "oumi-flow", "va") == ["validate"]
    assert "_jobs" not in complete(space, "oumi-flow", "")
    assert complete(space, "oumi-flow", "run", "--dry") == ["--dry-run"]
    assert "--run-id" not in complete(space, "oumi-flow", "run", "--")
    assert "workflow.yaml" in complete(space, "oumi-flow", "run", "work")
    names = complete(space, "oumi-flow", "run", "workflow.yaml", "train-")
    assert names == ["train-a", "train-b"]
    assert complete(space, "oumi-flow", "completion", "z") == ["zsh"]
    assert complete(space, "oumi-flow", "run", "broken.yaml", "x") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_sound(space: Space, shell: str) -> None:
    said = space.command("completion", shell)
    assert said.code == 0
    assert "rerun-triggers" in said.out
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell}")
    checked = subprocess.run([program, "-n"], input=said.out, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


# -- schema, templates -------------------------------------------------------------------------


def test_the_schema_is_json(space: Space) -> None:
    schema: dict[str, Any] = json.loads(space.command("schema").out)
    assert "jobs" in schema["properties"]


def test_a_new_workflow_from_a_template_is_valid_and_never_overwrites(space: Space) -> None:
    listed = space.command("templates")
    assert listed.code == 0
    names = [line.split()[0] for line in listed.out.splitlines()]
    assert {"minimal", "simple_train_eval", "hyperparameter_sweep"} <= set(names)
    assert space.command("init").code == 0
    assert space.exists("workflow.yaml")
    assert space.command("validate", "workflow.yaml").code == 0
    before = space.read("workflow.yaml")
    again = space.command("init")
    assert again.code == 2
    assert "workflow.yaml is there already" in again.err
    assert space.read("workflow.yaml") == before
    wrong = space.command("init", "--template", "hyperparamter_sweep", "sweep")
    assert wrong.code == 2
    assert 'did you mean "hyperparameter_sweep"' in wrong.err
    assert not space.exists("sweep")


def test_the_advice_after_init_works_as_it_is_typed(space: Space) -> None:
    made = space.command("init", "--template", "hello", "a folder/hello")
    advice = made.out.splitlines()[-1]
    assert advice.startswith("next: oumi-flow run")
    said = space.command(*shlex.split(advice)[2:])
    assert said.code == 0, said.text
    assert "will run" in said.out
    # As with make and git, the folder may come first.
    assert space.command("-C", "a folder/hello", "run", "workflow.yaml", "--no-tui").code == 0
    assert space.command("-C", "a folder/hello", "status", "workflow.yaml").code == 0


def test_every_template_is_valid(space: Space) -> None:
    for line in space.command("templates").out.splitlines():
        name = line.split()[0]
        assert space.command("init", "--template", name, name).code == 0
        said = space.command("validate", "-C", name, "workflow.yaml")
        assert said.code == 0, said.text


def test_a_loss_that_came_to_no_number_is_told(space: Space) -> None:
    told = '[ -e "$OUMI_FLOW_OUTPUT_DIR/.oumi-flow/progress.json" ]'
    space.workflow(
        space.job("good", "echo step 1/1 loss=0.5"),
        space.job("bad", f"echo step 2/2 loss=nan; until {told}; do sleep 0.02; done"),
    )
    assert space.command("run", "workflow.yaml").code == 0
    assert "nan" in space.command("metrics", "workflow.yaml").out
    out = space.command("metrics", "workflow.yaml", "--json").out
    assert "NaN" not in out
    metrics = {one["job"]: one["metrics"] for one in json.loads(out)}
    assert (metrics["good"]["loss"], metrics["bad"]["loss"]) == (0.5, None)


@pytest.mark.parametrize("lets_go", [True, False])
def test_the_screen_runs_again_what_failed_once_that_run_has_let_go(
    space: Space, monkeypatch: pytest.MonkeyPatch, lets_go: bool
) -> None:
    """It tells its end before it has written down all that spares the next one looks."""
    space.workflow(space.job("job", "cat there"))
    assert space.run().code == 1
    monkeypatch.chdir(space.root)
    monkeypatch.setenv("OUMI_FLOW_HOME", space.env["OUMI_FLOW_HOME"])
    space.write("there", "now")
    store = Store("out")
    first = store.latest_run() or ""
    watching = Watching(store, first, "workflow.yaml")
    held = store.hold(first, "flow", "workflow.yaml")
    try:
        wait_for(lambda: watching.poll() and watching.board.over, "its end is seen")
        waits = itertools.count()
        clock = SimpleNamespace(
            monotonic=lambda: next(waits), sleep=lambda _: held.close() if lets_go else None
        )
        monkeypatch.setattr("oumi_flow.commands.watching.time", clock)
        said = watching.run_again([])
    finally:
        watching.close()
        held.close()
    assert said.endswith("has begun") is lets_go, said
    assert (f"pid {os.getpid()}" in said) is not lets_go, said
    wait_for(lambda: store.holder() is None, "it has ended")
    assert space.ran() == ["job"] * (2 if lets_go else 1)


def test_what_cannot_be_removed_is_named_whole(
    space: Space, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever is root removes everything, so the refusal is made up."""
    space.workflow(space.job("a"))
    assert space.run().code == 0

    def fails(_: str) -> None:
        raise PermissionError(13, "Permission denied", ".oumi-flow")

    monkeypatch.chdir(space.root)
    monkeypatch.setattr(shutil, "rmtree", fails)
    assert main(["clean", "workflow.yaml", "-y"]) == 2
    words = "out/a: cannot remove all of it: .oumi-flow: Permission denied"
    assert words in capsys.readouterr().err


def test_a_run_that_could_tell_nothing_is_not_one_that_starts(space: Space) -> None:
    """As one on a full disk."""
    space.workflow(space.job("a"))
    assert space.run().code == 0
    space.write("out/.oumi-flow/runs/29990101-000000-aaaa/events.jsonl", "")
    said = space.command("status", "workflow.yaml")
    words = "run 29990101-000000-aaaa ended before it could tell anything; run it again\n"
    assert (said.code, said.out) == (0, words)


def test_a_detached_run_whose_id_cannot_be_written_is_told_on_stderr(space: Space) -> None:
    space.workflow(space.job("a"))
    words = [sys.executable, "-m", "oumi_flow", "run", "workflow.yaml", "--detach"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            words, cwd=space.root, env=space.env, stdout=full, stderr=subprocess.PIPE, text=True
        )
    (run,) = run_ids(space)
    assert done.returncode == 4
    assert f"run {run} has started; its id cannot be written" in done.stderr


@pytest.mark.parametrize("command", ["status", "errors", "report", "cancel"])
def test_state_that_cannot_be_read_is_not_told_as_missing(space: Space, command: str) -> None:
    space.workflow(space.job("a"))
    assert space.run().code == 0
    runs = space.root / "out/.oumi-flow/runs"
    shutil.rmtree(runs)
    runs.symlink_to("runs")  # whoever is root reads everything else
    said = space.command(command, "workflow.yaml")
    assert said.code == 2
    assert "out/.oumi-flow/runs: cannot read" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["resume", "workflow.yaml"], "workflow.yaml: a workflow file, expected a run id"),
        (["run", "workflow.yaml", "-n", "--detach=yes"], "--detach takes no value, got yes"),
    ],
)
def test_words_in_a_place_that_is_not_theirs(space: Space, words: list[str], said: str) -> None:
    space.workflow(space.job("a"))
    result = space.command(*words)
    assert (result.code, said in result.err) == (2, True), result.err


@pytest.mark.parametrize("field", ["timeout: 3 weeks", "retry_delay: soon", 'run: ""'])
def test_no_advice_is_given_that_cannot_help(space: Space, field: str) -> None:
    run = "" if field.startswith("run") else "run: echo, "
    space.write("workflow.yaml", f"name: w\njobs: [{{name: a, verb: shell, {run}{field}}}]\n")
    result = space.command("validate", "workflow.yaml")
    assert result.code == 2
    assert "expected" in result.err
    assert " = " not in result.err
