"""Of a large workflow only what has moved is planned, and nobody can tell but by the clock."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oumi_flow.commands.opening import Opened
from oumi_flow.disk import is_settled, stamp
from oumi_flow.model import Plan
from oumi_flow.seal import Look
from tests.flow.conftest import Space, wait_for
from tests.flow.test_property import World

# Says on stderr how many jobs each plan before the run looked at; "sealed" for none.
PLANNED = """
import sys
from oumi_flow.cli import main
looked = []
def count():
    from oumi_flow import planner
    from oumi_flow.runner import running
    plan, go = planner.plan, running.run
    def counted(workflow, *args, **kwargs):
        looked.append(len(workflow.jobs))
        return plan(workflow, *args, **kwargs)
    def gone(*args, **kwargs):
        planner.plan = plan
        return go(*args, **kwargs)
    planner.plan, running.run = counted, gone
import oumi_flow.seal
look = oumi_flow.seal.look
def looked_at(words):
    found = look(words)
    if found.answer is None:
        count()
    return found
oumi_flow.seal.look = looked_at
code = main(sys.argv[1:])
sys.stdout.flush()
print("planned", *looked or ["nothing"], file=sys.stderr)
sys.exit(code)
"""
ALL = 12
NAMES = [f"j{number:02}" for number in range(ALL)]


def run(space: Space, *flags: str, code: int = 0) -> tuple[str, str]:
    """What a run said, and of how many jobs each of its plans was."""
    done = space.program(PLANNED, "run", "workflow.yaml", "--no-tui", *flags)
    assert done.returncode == code, done.stderr
    said = done.stdout + "".join(done.stderr.splitlines(keepends=True)[:-1])
    return said, done.stderr.splitlines()[-1].removeprefix("planned ")


def settle(space: Space) -> None:
    """Until nothing is left to do, and a seal knows its jobs: a snapshot comes before that."""

    def is_settled() -> bool:
        if run(space)[1] != "nothing":
            return False
        home = Path(space.env["OUMI_FLOW_HOME"])
        return bool([*home.glob("cache/*.json")]) and b"upstream" in seal_of(space).read_bytes()

    wait_for(is_settled, "a seal with jobs")
    space.ran()


def seal_of(space: Space) -> Path:
    (found,) = Path(space.env["OUMI_FLOW_HOME"]).glob("cache/*[0-9a-f].seal")
    return found


@pytest.fixture
def wide(space: Space) -> Space:
    """Twelve jobs, each with a file of its own and one of all; three of them in a chain."""
    space.write("shared.txt", "shared\n")
    jobs = []
    for name in NAMES:
        space.write(f"in/{name}", f"{name}\n")
        jobs.append(
            space.job(
                name,
                f"cat in/{name} shared.txt > out/{name}/made",
                inputs=[f"in/{name}", "shared.txt"],
                outputs=[f"out/{name}/made"],
            )
        )
    jobs[5]["inputs"].append("${{ jobs.j04.outputs.0 }}")
    jobs[5]["run"] += "\ncat out/j04/made >> out/j05/made"
    jobs[6]["depends_on"] = ["j05"]
    space.workflow(*jobs)
    settle_first(space)
    return space


def settle_first(space: Space) -> None:
    # A file that was written a moment ago leaves no snapshot.
    assert run(space)[0]
    settle(space)


def rows(space: Space) -> list[dict[str, object]]:
    """What the newest run told of its plan."""
    newest = max((space.root / "out/.oumi-flow/runs").iterdir())
    events = [json.loads(line) for line in (newest / "events.jsonl").read_text().splitlines()]
    (told,) = (event["rows"] for event in events if event["kind"] == "planned")
    return list(told)


def test_the_first_run_of_all_leaves_the_next_one_nothing_but_looks(space: Space) -> None:
    space.workflow(space.job("a", "echo a > x", outputs=["x"]))
    written = stamp(str(space.root / "workflow.yaml"))
    assert written is not None
    wait_for(lambda: is_settled(written, time.time_ns()), "the file is old enough")
    assert run(space)[1] == "1"
    assert run(space) == ("flow: up to date (1 job)\n", "nothing")


def test_a_run_that_is_sealed_says_nothing_of_what_always_runs(space: Space) -> None:
    space.workflow(
        space.job("a", "echo a > x", outputs=["x"]),
        space.job("b", "echo b > y", outputs=["y"], always_run=True),
    )
    written = stamp(str(space.root / "workflow.yaml"))
    assert written is not None
    wait_for(lambda: is_settled(written, time.time_ns()), "the file is old enough")
    assert run(space)[0]
    assert sorted(space.ran()) == ["a", "b"]
    for _ in range(2):
        run(space)
        assert space.ran() == ["b"]


@pytest.mark.parametrize("reads", ["x", "out/a"])
def test_a_job_that_spoils_what_another_has_made_is_found_out_by_the_next_run(
    space: Space, reads: str
) -> None:
    """A run that seals what it has made does not look at it again."""
    made = "out/a/made"
    until = "until [ -e out/a/.oumi-flow/done.json ]; do sleep 0.02; done"
    space.workflow(
        # Long enough ago to be sure of what it was when it ended.
        space.job("a", f"echo a > {made}; sleep 0.05", outputs=[made]),
        space.job("b", f"{until}; echo b > {made}; echo b > x", outputs=["x"]),
        space.job("c", f"cat {made} > y", depends_on=["b"], inputs=[reads], outputs=["y"]),
    )
    assert run(space)[0]
    assert sorted(space.ran()) == ["a", "b", "c"]
    said, _ = run(space)
    assert f"output changed since it was made: {made}" in said
    assert space.ran()[0] == "a"
    assert space.read(made) == "a\n"


def test_one_change_is_one_job_planned(wide: Space) -> None:
    wide.write("in/j08", "new\n")
    said, planned = run(wide)
    assert planned == "1"
    assert said.startswith("flow: 1 will run, 11 up to date\n")
    assert said.splitlines()[-1].startswith("1 done, 11 up to date")
    assert "input changed: in/j08" in said
    assert wide.ran() == ["j08"]
    assert wide.read("out/j08/made") == "new\nshared\n"
    assert run(wide) == ("flow: up to date (12 jobs)\n", "nothing")


def test_the_log_of_the_run_has_all_jobs_in_order(wide: Space) -> None:
    before = wide.run("--dry-run", "--json").out
    wide.write("in/j08", "new\n")
    assert run(wide)[1] == "1"
    told = rows(wide)
    assert [row["job"] for row in told] == NAMES
    assert [row["job"] for row in told if row["decision"] == "run"] == ["j08"]
    (planned,) = (each for each in map(json.loads, before.splitlines()) if each.get("rows"))
    assert {k: v for k, v in enumerate(told) if k != 8} == {
        k: v for k, v in enumerate(planned["rows"]) if k != 8
    }
    # And the next one speaks of what this one made.
    wide.write("in/j02", "new\n")
    assert run(wide)[1] == "1"
    assert [row["decision"] for row in rows(wide)].count("up to date") == 11
    status = wide.command("status", "workflow.yaml").out
    assert all(name in status for name in NAMES)


def test_what_comes_after_is_planned_too_and_what_comes_before_is_not_judged(wide: Space) -> None:
    wide.write("in/j05", "new\n")
    said, planned = run(wide)
    assert planned == "3"  # j04, which is only read from, j05 and j06
    assert "1 will run, 1 may run, 10 up to date" in said
    assert wide.ran() == ["j05", "j06"]
    wide.write("in/j04", "new\n")
    assert run(wide)[1] == "3"
    assert wide.ran() == ["j04", "j05", "j06"]
    assert run(wide)[1] == "nothing"


def test_what_all_have_read_is_everybodys_affair(wide: Space) -> None:
    wide.write("shared.txt", "new\n")
    assert run(wide)[1] == "12"
    assert sorted(wide.ran()) == NAMES


def gone(space: Space, path: str) -> None:
    target = space.root / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.write("out/j08/made", "!"),
        lambda s: gone(s, "out/j08/made"),
        lambda s: gone(s, "out/j08/.oumi-flow/done.json"),
        lambda s: gone(s, "out/j08"),
    ],
    ids=["an output was edited", "an output is gone", "a marker is gone", "its folder is gone"],
)
def test_what_happened_to_results_is_one_job_planned(
    wide: Space, change: Callable[[Space], object]
) -> None:
    change(wide)
    assert run(wide)[1] == "1"
    assert wide.ran() == ["j08"]
    assert run(wide)[1] == "nothing"


def test_a_marker_that_was_only_touched_runs_nothing(wide: Space) -> None:
    (wide.root / "out/j08/.oumi-flow/done.json").touch()
    assert run(wide) == ("flow: up to date (12 jobs)\n", "1")
    wait_for(lambda: run(wide)[1] == "nothing", "the newer stamp in the seal")
    assert wide.ran() == []


def test_a_job_that_fails_stays_stale_and_takes_nobody_with_it(wide: Space) -> None:
    gone(wide, "in/j08")
    (wide.root / "in/j08").mkdir()  # `cat` fails on it
    for _ in range(2):
        said, planned = run(wide, code=1)
        assert planned == "1"
        assert "1 failed, 11 up to date" in said or "11 up to date, 1 failed" in said
        assert wide.ran() == ["j08"]
    (wide.root / "in/j08").rmdir()
    wide.write("in/j08", "new\n")
    assert run(wide)[1] == "1"
    assert run(wide)[1] == "nothing"


def test_an_input_that_nobody_makes_and_that_is_gone_is_told_with_its_place(wide: Space) -> None:
    gone(wide, "in/j08")
    said, _ = run(wide, code=2)
    assert "workflow.yaml:" in said
    assert "in/j08" in said


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: next(Path(s.env["OUMI_FLOW_HOME"]).glob("cache/*.json")).unlink(),
        lambda s: seal_of(s).write_bytes(seal_of(s).read_bytes()[:-40]),
        lambda s: seal_of(s).write_bytes(seal_of(s).read_bytes().replace(b"snapshot", b"snapshut")),
        lambda s: seal_of(s).write_bytes(seal_of(s).read_bytes().replace(b'"job":"j', b'"jab":"j')),
        lambda s: s.write("workflow.yaml", s.read("workflow.yaml") + "\n"),
        lambda s: s.env.update(TZ="Asia/Tokyo"),
    ],
    ids=[
        "no snapshot",
        "a torn seal",
        "a spoilt seal",
        "spoilt rows",
        "another file",
        "other times",
    ],
)
def test_without_its_means_everything_is_planned(
    wide: Space, spoil: Callable[[Space], object]
) -> None:
    spoil(wide)
    wide.write("in/j08", "new\n")
    said, planned = run(wide)
    assert planned == "12"
    assert "1 will run, 11 up to date" in said
    assert wide.ran() == ["j08"]


@pytest.mark.parametrize("flags", [["-v"], ["--json"], ["j08"], ["-j3"], ["--fail-fast"]])
def test_other_words_are_about_all_jobs(wide: Space, flags: list[str]) -> None:
    wide.write("in/j08", "new\n")
    assert run(wide, *flags)[1] == "12"
    assert wide.ran() == ["j08"]


def test_flags_mean_what_they_meant_when_they_were_parsed(space: Space) -> None:
    for name in NAMES:
        space.write(f"in/{name}", "true\n")
    space.workflow(
        *(space.job(name, f"sh in/{name}", inputs=[f"in/{name}"], outputs=[]) for name in NAMES)
    )
    flags = ("--fail-fast", "-j", "1")
    wait_for(lambda: run(space, *flags)[1] == "nothing", "a seal of these words")
    space.ran()
    space.write("in/j02", "false\n")
    space.write("in/j03", "false\n")
    assert run(space, *flags, code=1)[1] == "2"
    assert len(space.ran()) == 1


def test_a_dry_run_of_a_part_says_the_same(wide: Space) -> None:
    assert wide.run("--dry-run").out == "flow: up to date (12 jobs)\n"
    wide.write("in/j08", "new\n")
    whole = wide.run("--dry-run", "-v").out
    part, planned = run(wide, "--dry-run")
    assert planned == "1"
    assert part.splitlines()[0] == "flow: 1 will run, 11 up to date" == whole.splitlines()[0]
    assert wide.ran() == []


def held_up(space: Space) -> subprocess.Popen[str]:
    """A run in which j03 works until there is a file `go`."""
    workflow = json.loads(space.read("workflow.yaml"))
    workflow["jobs"][3]["run"] += "\ntouch up; while [ ! -e go ]; do sleep 0.02; done"
    space.write("workflow.yaml", json.dumps(workflow))
    space.write("go", "")
    settle_first(space)
    gone(space, "go")
    gone(space, "up")
    space.write("in/j03", "newer\n")
    run = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("up"), "the job runs")
    return run


def test_beside_a_live_run_nothing_is_taken_for_granted(wide: Space) -> None:
    """What is seen while a run goes on may not be so a moment later."""
    other = held_up(wide)
    wide.write("in/j08", "new\n")
    said, planned = run(wide, code=3)
    assert "holds this folder" in said
    assert planned == "12"
    wide.write("go", "")
    other.communicate(timeout=60)
    assert run(wide)[1] == "1"
    assert wide.ran() == ["j03", "j08"]


def test_a_run_that_was_killed_is_mended_by_looking_at_everything(wide: Space) -> None:
    other = held_up(wide)
    other.kill()
    other.communicate()
    wide.write("in/j08", "new\n")
    wide.write("go", "")
    said, planned = run(wide)
    assert "12" in planned
    assert sorted(wide.ran()) == ["j03", "j08"]
    assert "11 up to date" in said or "10 up to date" in said
    settle(wide)


def test_secrets_of_jobs_that_are_not_planned_are_kept_too(wide: Space) -> None:
    workflow = json.loads(wide.read("workflow.yaml"))
    workflow["jobs"][3]["env"] = {"HF_TOKEN": "${HF_TOKEN}"}
    wide.write("workflow.yaml", json.dumps(workflow))
    wide.env["HF_TOKEN"] = "hf_abcdefghijklmnopqrstuvwxyz"
    settle_first(wide)
    wide.write("in/j08", "new\n")
    assert run(wide)[1] == "1"
    for path in [*(wide.root / "out").rglob("*"), *Path(wide.env["OUMI_FLOW_HOME"]).rglob("*")]:
        if path.is_file():
            assert b"hf_abcdefghij" not in path.read_bytes(), path


def test_a_value_of_a_secret_in_the_command_line_is_kept_nowhere(wide: Space) -> None:
    workflow = json.loads(wide.read("workflow.yaml"))
    workflow["vars"] = {"word": "none"}
    workflow["jobs"][3]["env"] = {"HF_TOKEN": "${HF_TOKEN}"}
    wide.write("workflow.yaml", json.dumps(workflow))
    wide.env["HF_TOKEN"] = "hf_abcdefghijklmnopqrstuvwxyz"
    for _ in range(3):
        run(wide, "--set", f"word={wide.env['HF_TOKEN']}")
    for path in [*(wide.root / "out").rglob("*"), *Path(wide.env["OUMI_FLOW_HOME"]).rglob("*")]:
        if path.is_file():
            assert b"hf_abcdefghij" not in path.read_bytes(), path


def test_a_job_of_which_nothing_is_left_is_expected_to_take_what_others_did(wide: Space) -> None:
    gone(wide, "out/j08")
    assert run(wide)[1] == "1"
    (row,) = (row for row in rows(wide) if row["job"] == "j08")
    assert isinstance(row["expected"], float)


class Edited(World):
    """Only files change, so that each seal finds its snapshot."""

    def edit(self) -> None:
        name = self.rng.choice(sorted(self.jobs))
        file = self.rng.choice(sorted(self.files))
        made = self.space.root / "made" / f"{name}.txt"
        kind = self.rng.choice(["source", "touch", "drop", "spoil", "touch made", "nothing"])
        if kind == "source":
            self.files[file] = f"{self.rng.randint(0, 3)}\n" * self.rng.randint(1, 2)
            self.space.write(file, self.files[file])
        elif kind == "touch":
            (self.space.root / file).touch()
        elif kind == "touch made":
            made.touch()
        elif kind == "drop":
            made.unlink(missing_ok=True)
            self.made.pop(name, None)
        elif kind == "spoil":
            made.write_text("spoilt\n")
            self.made.pop(name, None)


@pytest.mark.parametrize("number", range(int(os.environ.get("OUMI_FLOW_SEQUENCES", "200")) // 20))
def test_random_edits_of_files_run_what_a_whole_plan_would(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from oumi_flow.commands import part

    space = Space(tmp_path)
    monkeypatch.chdir(space.root)
    for name in ("OUMI_FLOW_HOME", "OUMI_FLOW_LOCK_DIR"):
        monkeypatch.setenv(name, space.env[name])
    parts: list[bool] = []
    opens = part.open_part

    def counted(look: Look, options: argparse.Namespace) -> tuple[Opened, Plan] | None:
        found = opens(look, options)
        parts.append(found is not None)
        return found

    monkeypatch.setattr(part, "open_part", counted)
    world = Edited(space, random.Random(number))
    for _ in range(6):
        world.add()
    world.write()
    workflow = stamp("workflow.yaml")
    assert workflow is not None
    wait_for(lambda: is_settled(workflow, time.time_ns()), "a file that leaves a snapshot")
    for step in range(12):
        for _ in range(world.rng.randint(1, 2) if step > 3 else 0):
            world.edit()
        world.run(f"sequence {number}, step {step}", capfd)
    assert any(parts)
