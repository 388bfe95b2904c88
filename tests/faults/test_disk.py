"""Disks that are full, read-only or gone, and files that are not what they should be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.conftest import Result, Space, delete, wait_for


def pipeline(space: Space) -> None:
    """a -> b -> c, where b waits for the file `go`; results outside the output folder."""
    space.write("data.txt", "data\n")
    space.workflow(
        space.job("a", "cp data.txt a.txt", inputs=["data.txt"], outputs=["a.txt"]),
        space.job(
            "b",
            "echo up > b.up; while [ ! -e go ]; do sleep 0.02; done; (cat a.txt; echo b) > b.txt",
            inputs=["a.txt"],
            outputs=["b.txt"],
            grace=1,
        ),
        space.job("c", "(cat b.txt; echo c) > c.txt", inputs=["b.txt"], outputs=["c.txt"]),
    )


def start_until_b(space: Space) -> subprocess.Popen[str]:
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("b.up") or process.poll() is not None, "b runs")
    return process


def finish(process: subprocess.Popen[str]) -> Result:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, out + err
    assert "internal error" not in out + err, out + err
    assert "a fault of oumi-flow itself" not in out + err, out + err
    return Result(process.returncode, out, err)


def assert_built(space: Space) -> None:
    """A plain run now ends in what a clean build gives, and the one after it does nothing."""
    result = space.run()
    assert result.code == 0, result.text
    assert space.read("c.txt") == "data\nb\nc\n"
    space.ran()
    again = space.run()
    assert again.code == 0, again.text
    assert "up to date" in again.text
    assert space.ran() == []


# full and read-only disks


@pytest.fixture
def disk(space: Space) -> Iterator[Path]:
    """The output folder on a disk of 2 MB."""
    out = space.root / "out"
    out.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(out)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"mounting a small disk needs `mount`: {error}")
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {mounted.stderr.strip()}")
    try:
        yield out
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte on the disk; removing the file that is returned gives all of it back."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        block = 1 << 16
        while block:
            try:
                file.write(b"\0" * block)
            except OSError:
                block //= 2
    return filler


def test_on_a_full_disk_a_cancel_says_what_stops_the_run_all_the_same(
    space: Space, disk: Path
) -> None:
    pipeline(space)
    process = start_until_b(space)
    filler = fill(disk)
    asked = space.command("cancel", "workflow.yaml")
    assert asked.code == 1, asked.text
    assert "No space left on device" in asked.err
    assert f"`kill {process.pid}`" in asked.err
    process.terminate()
    assert finish(process).code == 143
    filler.unlink()
    space.write("go", "")
    assert_built(space)


def test_a_job_that_fills_the_disk_fails_with_that_cause(space: Space, disk: Path) -> None:
    space.workflow(
        space.job("first", "echo 1 > first.txt", outputs=["first.txt"]),
        space.job("fill", 'cat /dev/zero > "$OUMI_FLOW_OUTPUT_DIR/zeros"', depends_on=["first"]),
        space.job("last", depends_on=["fill"]),
    )
    result = space.run()
    assert result.code == 1, result.text
    assert "No space left on device" in result.text
    assert space.ran() == ["first", "fill"]
    (disk / "fill/zeros").unlink()
    space.workflow(
        space.job("first", "echo 1 > first.txt", outputs=["first.txt"]),
        space.job("fill", "true", depends_on=["first"]),
        space.job("last", depends_on=["fill"]),
    )
    result = space.run()
    assert result.code == 0, result.text
    assert space.ran() == ["fill", "last"]


def test_a_full_disk_is_told_before_anything_runs(space: Space, disk: Path) -> None:
    pipeline(space)
    space.write("go", "")
    filler = fill(disk)
    result = space.run()
    assert result.code in (1, 2), result.text
    assert "the disk is full" in result.text, result.text
    assert space.ran() == []
    filler.unlink()
    assert_built(space)


def test_a_run_that_is_to_be_detached_tells_of_a_full_disk(space: Space, disk: Path) -> None:
    pipeline(space)
    filler = fill(disk)
    result = space.command("run", "workflow.yaml", "--detach")
    assert result.code == 1, result.text
    assert "the disk is full" in result.text, result.text
    filler.unlink()
    space.write("go", "")
    assert_built(space)


def test_what_was_made_stays_up_to_date_on_a_full_disk(space: Space, disk: Path) -> None:
    pipeline(space)
    space.write("go", "")
    assert space.run().code == 0
    space.ran()
    fill(disk)
    result = space.run()
    assert (result.code, space.ran()) == (0, []), result.text
    assert "up to date" in result.text
    for words in (
        ["status", "workflow.yaml"],
        ["errors", "workflow.yaml"],
        ["logs", "workflow.yaml", "a"],
    ):
        assert space.command(*words).code == 0
    space.write("data.txt", "other\n")
    result = space.run()
    assert result.code != 0, result.text
    assert "the disk is full" in result.text, result.text


def test_a_disk_that_fills_while_a_job_runs_loses_nothing(space: Space, disk: Path) -> None:
    pipeline(space)
    process = start_until_b(space)
    filler = fill(disk)
    space.write("go", "")
    result = finish(process)
    assert result.code == 1, result.text
    assert "No space left on device" in result.text
    assert (disk / "b/.oumi-flow/done.json").exists()  # there is room for it in its record
    assert not (disk / "c/.oumi-flow/done.json").exists()
    assert space.ran() == ["a", "b"]
    told = space.command("status", "workflow.yaml")
    assert told.code == 0
    filler.unlink()
    result = space.run()
    assert result.code == 0, result.text
    assert space.ran() == ["c"], "what had finished ran again"
    assert_built(space)


def test_a_disk_full_for_a_while_costs_no_event(space: Space, disk: Path) -> None:
    pipeline(space)
    process = start_until_b(space)
    fill(disk).unlink()
    space.write("go", "")
    assert finish(process).code == 0
    assert_built(space)


def test_a_full_home_is_no_reason_not_to_run(space: Space, disk: Path) -> None:
    pipeline(space)
    space.write("go", "")
    data = space.read("workflow.yaml").replace('"out"', '"elsewhere"')
    space.write("workflow.yaml", data)
    fill(disk)
    space.env["OUMI_FLOW_HOME"] = str(disk / "home")
    result = space.run()
    assert result.code == 0, result.text
    assert_built(space)


def test_a_read_only_disk_is_told(space: Space, disk: Path) -> None:
    pipeline(space)
    space.write("go", "")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    result = space.run()
    assert result.code == 2, result.text
    assert "read-only" in result.text
    assert space.ran() == []
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert_built(space)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    again = space.run()
    assert (again.code, space.ran()) == (0, []), again.text
    for words in (
        ["status", "workflow.yaml"],
        ["errors", "workflow.yaml"],
        ["why", "workflow.yaml", "a"],
    ):
        assert space.command(*words).code == 0
    for words in (["clean", "workflow.yaml", "-y"], ["touch", "workflow.yaml", "a"]):
        refused = space.command(*words)
        assert refused.code != 0
        assert "read-only" in refused.text.lower()


# what is in the way, and what disappears


def test_an_output_folder_that_is_a_file_is_refused(space: Space) -> None:
    pipeline(space)
    space.write("out", "precious\n")
    for words in (["run", "workflow.yaml", "--no-tui"], ["touch", "workflow.yaml", "a"]):
        result = space.command(*words)
        assert result.code == 2, result.text
        assert "out" in result.err
        assert "file" in result.err
    assert space.read("out") == "precious\n"
    assert space.ran() == []


def test_a_file_where_a_jobs_folder_belongs_fails_that_job(space: Space) -> None:
    space.workflow(space.job("a"), space.job("b"))
    space.write("out/a", "precious\n")
    result = space.run()
    assert result.code == 1, result.text
    assert "out/a" in result.text
    assert "move that file away" in result.text
    assert space.ran() == ["b"]
    assert space.read("out/a") == "precious\n"


def test_an_output_folder_deleted_under_a_run_is_made_again(space: Space) -> None:
    pipeline(space)
    process = start_until_b(space)
    delete(space.root / "out")
    space.write("go", "")
    finish(process)
    assert_built(space)


def test_a_jobs_folder_deleted_under_it_never_makes_it_done_by_half(space: Space) -> None:
    pipeline(space)
    process = start_until_b(space)
    delete(space.root / "out/b")
    space.write("go", "")
    finish(process)
    assert_built(space)
    assert space.command("logs", "workflow.yaml", "c").code == 0


def test_a_project_deleted_under_a_run_ends_it(space: Space) -> None:
    space.workflow(
        # Its end is not before that of the whole folder, lest b begins while half of it is there.
        space.job("a", "here=$PWD; touch up; while [ -d $here ]; do sleep 0.02; done"),
        space.job("b", depends_on=["a"]),
    )
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("up") or process.poll() is not None, "a runs")
    delete(space.root)
    result = finish(process)
    assert result.code == 1, result.text


@pytest.mark.parametrize("what", ["edited", "deleted"])
def test_a_workflow_changed_under_a_run_is_for_the_next(space: Space, what: str) -> None:
    pipeline(space)
    process = start_until_b(space)
    text = space.read("workflow.yaml")
    if what == "edited":
        space.write("workflow.yaml", text.replace("echo c)", "echo C)"))
    else:
        (space.root / "workflow.yaml").unlink()
    space.write("go", "")
    result = finish(process)
    assert result.code == 0, result.text
    assert space.read("c.txt") == "data\nb\nc\n"
    assert space.ran() == ["a", "b", "c"]
    result = space.run()
    if what == "edited":
        assert result.code == 0, result.text
        assert space.ran() == ["c"]
        assert space.read("c.txt") == "data\nb\nC\n"
    else:
        assert result.code == 2
        assert "workflow.yaml" in result.err
        space.write("workflow.yaml", text)
        assert_built(space)


@pytest.mark.parametrize("what", ["edited", "deleted"])
def test_a_config_changed_under_a_run_is_for_the_next(space: Space, what: str) -> None:
    oumi = stand_in(space)
    space.write("judge.yaml", "model:\n  model_name: old\n")
    space.write("data.jsonl", "{}\n")
    space.workflow(
        space.job("first", "echo up > b.up; while [ ! -e go ]; do sleep 0.02; done"),
        {
            "name": "j",
            "verb": "judge",
            "config": "judge.yaml",
            "args": ["--input=data.jsonl"],
            "depends_on": ["first"],
        },
    )
    process = space.start("run", "workflow.yaml", "--no-tui", "--oumi", oumi)
    wait_for(lambda: space.exists("b.up") or process.poll() is not None, "the first runs")
    if what == "edited":
        space.write("judge.yaml", "model:\n  model_name: new\n")
    else:
        (space.root / "judge.yaml").unlink()
    space.write("go", "")
    result = finish(process)
    assert result.code == 0, result.text
    assert "model_name: old" in space.read("out/j/judgments.jsonl")
    result = space.run("--oumi", oumi)
    if what == "edited":
        assert result.code == 0, result.text
        assert "model_name: new" in space.read("out/j/judgments.jsonl")
    else:
        assert result.code == 2, result.text
        assert "judge.yaml" in result.err


def stand_in(space: Space) -> str:
    """An `oumi` that writes its config where its output goes."""
    program = space.write(
        "bin/oumi",
        f"#!{sys.executable}\n"
        "import sys, pathlib\n"
        "words = sys.argv[1:]\n"
        "out = next((w.split('=', 1)[1] for w in words if w.startswith('--output=')), None)\n"
        "if out is None: sys.exit(1)\n"
        "config = pathlib.Path(words[words.index('-c') + 1]).read_text()\n"
        "pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)\n"
        "pathlib.Path(out).write_text(config)\n",
    )
    program.chmod(0o755)
    return str(program)


def test_an_input_edited_while_its_job_runs_makes_it_stale(space: Space) -> None:
    space.write("data.txt", "old\n")
    run = "cat data.txt > c.txt; touch up; while [ ! -e go ]; do sleep 0.02; done"
    space.workflow(space.job("a", run, inputs=["data.txt"], outputs=["c.txt"]))
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("up") or process.poll() is not None, "a runs")
    space.write("data.txt", "edited\n")
    space.write("go", "")
    assert finish(process).code == 0
    assert "input changed: data.txt (while it ran)" in space.run("--dry-run").text
    assert space.run().code == 0
    assert space.read("c.txt") == "edited\n"
    space.ran()
    assert space.run().code == 0
    assert space.ran() == []


# permissions


class Unprivileged(Space):
    """A space whose commands may do no more with files than their modes say."""

    prefix: tuple[str, ...] = ()

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "oumi_flow", *args],
            cwd=self.root,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.started.append(process)
        return process


@pytest.fixture
def plain(tmp_path: Path) -> Space:
    space = Unprivileged(tmp_path)
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root heeds permissions only under `setpriv`")
        space.prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
        if space.command("--version").code:
            pytest.skip("`setpriv` may not give up capabilities here")
    return space


@pytest.mark.parametrize("what", ["data.txt", "workflow.yaml"])
def test_a_file_that_may_not_be_read_is_named(plain: Space, what: str) -> None:
    pipeline(plain)
    plain.write("go", "")
    (plain.root / what).chmod(0)
    result = plain.run()
    assert result.code == (2 if what == "workflow.yaml" else 1), result.text
    assert what in result.text
    assert "Permission denied" in result.text
    assert plain.ran() == []
    (plain.root / what).chmod(0o644)
    assert_built(plain)


@pytest.mark.parametrize(
    "what",
    [
        "out",
        "out/.oumi-flow",
        "out/.oumi-flow/lock",
        "out/.oumi-flow/index",
        "out/.oumi-flow/owner.json",
        "out/.oumi-flow/runs",
        "out/a",
        "out/a/.oumi-flow",
        "out/a/.oumi-flow/done.json",
        "out/a/job.log",
        "a.txt",
    ],
)
def test_what_lost_its_permissions_is_named_or_made_anew(plain: Space, what: str) -> None:
    pipeline(plain)
    plain.write("go", "")
    assert_built(plain)
    plain.write("data.txt", "new\n")
    path = plain.root / what
    mode = path.stat().st_mode
    path.chmod(0)
    result = plain.run()
    text = result.text
    assert "a fault of oumi-flow" not in text
    assert "internal error" not in text
    if result.code != 0:
        assert result.code in (1, 2), text
        assert what in text, text
        assert "ermission" in text, text
    for words in (["status"], ["status", "workflow.yaml"], ["errors", "workflow.yaml"]):
        told = plain.command(*words)
        assert "a fault of oumi-flow" not in told.text
        assert told.code in (0, 1, 2), told.text
    if path.exists():
        path.chmod(mode)
    result = plain.run()
    assert result.code == 0, result.text
    assert plain.read("c.txt") == "new\nb\nc\n"
    plain.ran()
    assert plain.run().code == 0
    assert plain.ran() == []


# inputs that are no files


def test_a_fifo_as_an_input_is_refused_and_never_opened(space: Space) -> None:
    os.mkfifo(space.root / "pipe")
    space.workflow(space.job("a", inputs=["pipe"]))
    result = space.run()
    assert result.code == 1, result.text
    assert "pipe: is a fifo" in result.text
    assert space.ran() == []


def test_loops_and_fifos_below_an_input_folder_hold_nothing_up(space: Space) -> None:
    folder = space.root / "data"
    (folder / "deep").mkdir(parents=True)
    space.write("data/one.txt", "1\n")
    os.mkfifo(folder / "pipe")
    (folder / "self").symlink_to("self")
    (folder / "deep/up").symlink_to("..")
    (folder / "deep/again").symlink_to("../deep")
    (folder / "nowhere").symlink_to("missing")
    (folder / "root").symlink_to(folder)
    space.workflow(
        space.job("a", inputs=["data"]),
        space.job("g", inputs=["data/**/*.txt", "data/*"]),
    )
    assert space.run().code == 0
    assert sorted(space.ran()) == ["a", "g"]
    assert space.run().code == 0
    assert space.ran() == []
    space.write("data/one.txt", "2\n")
    assert space.run().code == 0
    assert sorted(space.ran()) == ["a", "g"]


def test_a_link_that_leads_to_itself_is_named(space: Space) -> None:
    (space.root / "loop").symlink_to("loop")
    space.workflow(space.job("a", inputs=["loop"]))
    result = space.run()
    assert result.code == 2, result.text
    assert "loop" in result.err
    assert space.ran() == []


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "device"])
def test_a_workflow_or_config_that_is_no_file_is_refused(space: Space, kind: str) -> None:
    def make(path: Path) -> None:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path.name)
        else:
            path.symlink_to("/dev/zero")

    make(space.root / "workflow.yaml")
    result = space.run()
    assert result.code == 2, result.text
    assert "workflow.yaml" in result.err
    if kind == "folder":
        (space.root / "workflow.yaml").rmdir()
    else:
        (space.root / "workflow.yaml").unlink()
    make(space.root / "config.yaml")
    space.workflow({"name": "t", "verb": "train", "config": "config.yaml"})
    result = space.run()
    assert result.code == 2, result.text
    assert "config.yaml" in result.err


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "socket"])
def test_outputs_that_are_no_files_are_told(space: Space, kind: str) -> None:
    make = {
        "fifo": "mkfifo made",
        "folder": "mkdir -p made",
        "loop": "ln -s made made",
        "socket": f"{sys.executable} -W ignore -c 'import socket; socket.socket(1).bind(\"made\")'",
    }[kind]
    space.workflow(space.job("a", make, outputs=["made"]), space.job("b", depends_on=["a"]))
    result = space.run()
    if kind == "folder":
        assert result.code == 0, result.text
        assert space.ran() == ["a", "b"]
        return
    assert result.code == 1, result.text
    assert "made" in result.text
    assert space.ran() == ["a"]
