"""Inputs, places and paths: what a change of a file, folder, glob or name does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.flow.conftest import Result, Space, wait_for

GO = "while [ ! -e go ]; do sleep 0.02; done"


def ok(result: Result) -> Result:
    assert result.code == 0, result.text
    return result


def again(space: Space, *flags: str) -> tuple[list[str], str]:
    """Which jobs a run ran, and what it said."""
    space.ran()
    said = ok(space.run(*flags)).text
    return space.ran(), said


# -- files, folders, globs ---------------------------------------------------------------------


def test_a_folder_counts_by_all_that_is_in_it(space: Space) -> None:
    space.write("data/a.txt", "a")
    space.write("data/sub/b.txt", "b")
    space.workflow(space.job("use", "cat data/a.txt", inputs=["data"]))
    ok(space.run())
    (space.root / "data/a.txt").touch()
    assert again(space)[0] == []
    space.write("data/sub/b.txt", "B")
    ran, said = again(space)
    assert ran == ["use"]
    assert "input changed: data" in said
    space.write("data/c.txt", "c")
    assert again(space)[0] == ["use"]
    (space.root / "data/c.txt").unlink()
    assert again(space)[0] == ["use"]
    (space.root / "data/sub/b.txt").rename(space.root / "data/sub/b2.txt")
    assert again(space)[0] == ["use"]
    assert again(space)[0] == []


@pytest.mark.parametrize("named", ["link", "link/a.txt"])
def test_a_link_that_leads_nowhere_is_named(space: Space, named: str) -> None:
    (space.root / "link").symlink_to("gone")
    space.workflow(space.job("use", inputs=[named]))
    said = space.run()
    assert said.code == 2
    assert "link is a link that leads nowhere, to gone" in said.err


def test_a_glob_tells_what_came_and_what_went(space: Space) -> None:
    space.write("data/a.txt", "a")
    space.write("data/b.txt", "b")
    space.workflow(space.job("use", inputs=["data/*.txt"]))
    ok(space.run())
    space.write("data/other.csv", "no")
    assert again(space)[0] == []
    space.write("data/c.txt", "c")
    ran, said = again(space)
    assert (ran, "input added: data/c.txt" in said) == (["use"], True), said
    (space.root / "data/a.txt").unlink()
    ran, said = again(space)
    assert (ran, "input removed: data/a.txt" in said) == (["use"], True), said
    space.write("data/b.txt", "B")
    ran, said = again(space)
    assert (ran, "input changed: data/b.txt" in said) == (["use"], True), said


def test_links_count_by_what_they_lead_to(space: Space) -> None:
    space.write("real.txt", "1")
    (space.root / "link.txt").symlink_to("real.txt")
    (space.root / "data").mkdir()
    (space.root / "data/loop").symlink_to("../data")
    (space.root / "data/dangling").symlink_to("nowhere")
    space.workflow(space.job("use", inputs=["link.txt", "data"]))
    ok(space.run())
    assert again(space)[0] == []
    space.write("real.txt", "2")
    ran, said = again(space)
    assert (ran, "input changed: link.txt" in said) == (["use"], True), said


def test_an_edit_of_the_same_size_and_time_is_found_by_verify(space: Space) -> None:
    file = space.write("data.txt", "aaaa")
    past = time.time() - 3600
    os.utime(file, (past, past))
    space.workflow(space.job("use", inputs=["data.txt"]))
    ok(space.run())
    with file.open("r+") as handle:
        handle.write("bbbb")
    os.utime(file, (past, past))
    ran, said = again(space, "--verify")
    assert (ran, "input changed: data.txt" in said) == (["use"], True), said


def test_an_input_edited_while_the_job_ran_makes_it_stale(space: Space) -> None:
    space.write("data.txt", "1")
    space.workflow(
        space.job("use", f"cat data.txt > u.txt; echo x > begun; {GO}", inputs=["data.txt"])
    )
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("begun"), "the job has read")
    space.write("data.txt", "2")
    space.write("go", "")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    dry = ok(space.run("-n"))
    assert "input changed: data.txt (while it ran)" in dry.out
    assert again(space)[0] == ["use"]
    assert again(space)[0] == []


def test_a_missing_input_is_told_with_its_place_before_anything_runs(space: Space) -> None:
    space.workflow(space.job("first"), space.job("use", inputs=["dta.txt"]))
    space.write("data.txt", "")
    said = space.run()
    assert said.code == 2
    assert "workflow.yaml:" in said.err
    assert "dta.txt" in said.err
    assert "^" in said.err
    assert space.ran() == []
    # The same once it was there: the snapshot must not hide it.
    space.write("dta.txt", "")
    ok(space.run())
    (space.root / "dta.txt").unlink()
    said = space.run("-F")
    assert said.code == 2
    assert "dta.txt" in said.err


def test_a_fifo_as_input_does_not_hang(space: Space) -> None:
    os.mkfifo(space.root / "pipe")
    space.workflow(space.job("use", inputs=["pipe"]))
    said = space.run()
    assert said.code in (0, 1, 2)
    assert "fault of oumi-flow" not in said.text


# -- places ------------------------------------------------------------------------------------


def test_an_output_dir_that_is_a_file_or_below_one(space: Space) -> None:
    space.write("out", "I am a file")
    space.workflow(space.job("a"))
    for words in (["run", "workflow.yaml", "--no-tui"], ["run", "workflow.yaml", "--detach"]):
        said = space.command(*words)
        assert said.code == 2, said.text
        assert "out" in said.err
        assert "out is a file, expected a folder" in said.err
    assert space.ran() == []
    assert space.read("out") == "I am a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_output_dir(space: Space) -> None:
    (space.root / "out").mkdir()
    (space.root / "out").chmod(0o500)
    space.workflow(space.job("a"))
    said = space.run()
    assert said.code == 2
    assert "out" in said.err
    (space.root / "out").chmod(0o700)
    assert space.ran() == []


def test_a_place_that_cannot_be_made_even_by_root(space: Space) -> None:
    space.workflow(space.job("a"), output_dir="/proc/nowhere/out")
    said = space.run()
    assert said.code == 2
    assert "/proc/nowhere" in said.err
    assert space.ran() == []


@pytest.mark.parametrize("name", ["two words", "größe", "日本語", "a=b,c", "v1.2@x+y", "q'q"])
def test_names_of_any_script_work_everywhere(space: Space, name: str) -> None:
    space.workflow(
        {"name": name, "verb": "shell", "run": 'echo "$OUMI_FLOW_JOB" > "$OUMI_FLOW_OUTPUT_DIR/x"',
         "outputs": ["${{ job.output_dir }}/x"]},
        space.job("after", depends_on=[name]),
    )  # fmt: skip
    if name == "q'q":
        said = space.run()
        assert said.code == 2
        assert "workflow.yaml:" in said.err
        return
    ok(space.run())
    assert space.read(f"out/{name}/x") == name + "\n"
    assert "up to date" in ok(space.run()).out
    for command in ("logs", "why"):
        ok(space.command(command, "workflow.yaml", name))
    ok(space.run("-f", name, name))
    ok(space.command("clean", "workflow.yaml", name, "-y"))
    assert not space.exists(f"out/{name}")
    assert name in ok(space.run("--dag")).out
    assert "flowchart" in ok(space.run("--dag=mermaid")).out


def test_workdir_is_where_a_job_runs_and_is_a_reason(space: Space) -> None:
    (space.root / "sub").mkdir()
    (space.root / "other").mkdir()
    job = {"name": "a", "verb": "shell", "run": "pwd -P > where.txt; ls $OUMI_FLOW_OUTPUT_DIR"}
    space.workflow({**job, "workdir": "sub", "outputs": ["sub/where.txt"]})
    ok(space.run())
    assert space.read("sub/where.txt").strip() == str(space.root / "sub")
    assert "up to date" in ok(space.run()).out
    space.workflow({**job, "workdir": "other", "outputs": ["other/where.txt"]})
    assert "workdir changed: sub → other" in ok(space.run()).out
    assert space.exists("other/where.txt")
    space.workflow({**job, "workdir": "nowhere"})
    said = space.run()
    assert said.code == 2, said.text
    assert "nowhere" in said.err


def test_references_fit_the_workdir(space: Space) -> None:
    (space.root / "sub").mkdir()
    space.workflow(
        space.job("a", "echo 1 > ${{ job.output_dir }}/x", outputs=["${{ job.output_dir }}/x"]),
        {
            "name": "b",
            "verb": "shell",
            "workdir": "sub",
            "run": "cat ${{ jobs.a.outputs.0 }} > copy; cat ${{ jobs.a.output_dir }}/x",
        },
    )
    ok(space.run())
    assert space.read("sub/copy") == "1\n"


def test_chdir_goes_there_first(space: Space, tmp_path: Path) -> None:
    space.write("data.txt", "")
    space.workflow(space.job("a", inputs=["data.txt"]))
    away = space.elsewhere(tmp_path)
    for words in (["-C", "project"], ["-Cproject"]):
        ok(away.command("run", "workflow.yaml", *words, "--no-tui"))
    assert space.ran() == ["a"]
    assert space.exists("out/a")
    refused = away.command("run", "project/workflow.yaml", "--no-tui")
    assert refused.code == 2
    assert f"-C {space.root}" in refused.err
    assert "-C ." in refused.err
    assert not (tmp_path / "out").exists()
    # Looking works from anywhere.
    for command in (
        ["status", "project/workflow.yaml"],
        ["why", "project/workflow.yaml", "a"],
        ["logs", "project/workflow.yaml", "a"],
        ["validate", "project/workflow.yaml"],
    ):
        ok(away.command(*command))  # fmt: skip


# -- the run -----------------------------------------------------------------------------------


def test_the_workflows_timeout_fails_what_runs_and_cancels_the_rest(space: Space) -> None:
    jobs = [space.job("slow", "sleep 600", grace=1), space.job("next", depends_on=["slow"])]
    for limit in (2, 10, 50):  # on a slow machine it may strike before the first is up
        space.workflow(*jobs, timeout=limit)
        said = space.run()
        assert said.code == 1
        assert "timeout" in said.text or "timed out" in said.text
        if ran := space.ran():
            break
    assert ran == ["slow"]
    record = json.loads(ok(space.command("status", "workflow.yaml", "--json")).out)
    states = {job["job"]: job["state"] for job in record["jobs"]}
    assert states == {"slow": "failed", "next": "cancelled"}
    assert "timed out" in ok(space.run("-n")).out


def test_priority_goes_before_file_order(space: Space) -> None:
    space.workflow(
        space.job("low", priority=-1), space.job("middle"), space.job("high", priority=10)
    )
    ok(space.run("-j1"))
    assert space.ran() == ["high", "middle", "low"]


def test_the_longest_path_goes_first(space: Space) -> None:
    space.workflow(
        space.job("leaf"), space.job("root"), space.job("mid", depends_on=["root"]),
        space.job("end", depends_on=["mid"]),
    )  # fmt: skip
    ok(space.run("-j1"))
    assert space.ran()[0] == "root"


def test_a_job_cannot_read_what_the_user_types(space: Space) -> None:
    space.workflow(space.job("a", "if read -r line; then echo got; else echo nothing; fi"))
    ok(space.run())
    assert "nothing" in space.read("out/a/job.log")


def test_what_jobs_are_told_about_themselves(space: Space) -> None:
    names = "OUMI_FLOW_JOB OUMI_FLOW_OUTPUT_DIR OUMI_FLOW_ATTEMPT PYTHONUNBUFFERED DO_NOT_TRACK"
    space.workflow(space.job("a", f"for n in {names}; do echo $n=${{!n}}; done > env.txt"))
    ok(space.run())
    env = dict(line.split("=", 1) for line in space.read("env.txt").splitlines())
    assert env["OUMI_FLOW_JOB"] == "a"
    assert (space.root / env["OUMI_FLOW_OUTPUT_DIR"]).resolve() == space.root / "out/a"
    assert (env["OUMI_FLOW_ATTEMPT"], env["PYTHONUNBUFFERED"], env["DO_NOT_TRACK"]) == ("1",) * 3


def test_a_list_of_words_starts_without_a_shell(space: Space) -> None:
    space.workflow({"name": "a", "verb": "shell", "run": ["printf", "%s|", "a b", "$HOME", "*"]})
    ok(space.run())
    assert "a b|$HOME|*|" in space.read("out/a/job.log")
    space.workflow({"name": "a", "verb": "shell", "run": ["no-such-program"]})
    said = space.run()
    assert said.code == 1
    assert "no-such-program" in said.text
