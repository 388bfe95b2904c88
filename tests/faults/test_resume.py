"""A retry goes on where the last attempt stopped, and only where that is right."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oumi_flow.executors.processes import read_process
from tests.flow.conftest import Result, Space, wait_for

# Trains in steps of ten up to thirty, and notes what it was given. A checkpoint's state is
# written last. With a file `stop-N` there, it waits in step N to be killed; with `cut-N` it dies
# while it writes that checkpoint; with `die-N` it dies after it.
OUMI = r"""
import json, os, pathlib, signal, sys, time

def value(name):
    return next((w.split("=", 1)[1] for w in sys.argv if w.startswith(f"--{name}=")), None)

if sys.argv[1:2] != ["train"]:
    sys.exit(1)
out = pathlib.Path(value("training.output_dir"))
given = value("training.resume_from_checkpoint")
begin = 0
if given is not None:
    begin = json.loads((pathlib.Path(given) / "trainer_state.json").read_text())["global_step"]
with open("given.jsonl", "a") as notes:
    config = pathlib.Path(sys.argv[sys.argv.index("-c") + 1]).read_text()
    ours = (".oumi-flow", "job.log")
    found = sorted(p.name for p in out.iterdir() if not p.name.startswith(ours))
    note = {"resume": given, "begin": begin, "found": found, "config": config, "pid": os.getpid()}
    notes.write(json.dumps(note) + "\n")
for step in (10, 20, 30):
    if step <= begin:
        continue
    while os.path.exists(f"stop-{step}"):
        time.sleep(0.01)
    checkpoint = out / f"checkpoint-{step}"
    checkpoint.mkdir(exist_ok=True)
    (checkpoint / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (checkpoint / name).write_bytes(b"PK\5\6" + bytes(18))
    state = json.dumps({"global_step": step})
    if os.path.exists(f"cut-{step}"):
        (checkpoint / "trainer_state.json").write_text(state[:-3])
        os.kill(os.getpid(), signal.SIGKILL)
    (checkpoint / "trainer_state.json").write_text(state)
    if os.path.exists(f"die-{step}"):
        os.kill(os.getpid(), signal.SIGKILL)
(out / "model.safetensors").write_text("weights of step 30\n")
"""


def is_whole(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("}")


class Training(Space):
    def prepare(self, **fields: object) -> None:
        program = self.write("bin/oumi", f"#!{sys.executable}\n{OUMI}")
        program.chmod(0o755)
        self.env["OUMI_FLOW_OUMI"] = str(program)
        self.write("train.yaml", "training:\n  max_steps: 30\n  save_steps: 10\n")
        job = {"name": "t", "verb": "train", "config": "train.yaml", "grace": 1, **fields}
        self.workflow(job)

    def given(self) -> list[dict[str, object]]:
        """What each attempt since the last call was given."""
        path = self.root / "given.jsonl"
        notes = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        return notes

    def start_until(self, step: int) -> subprocess.Popen[str]:
        """Start a run and wait until its job waits in that step."""
        self.write(f"stop-{step}", "")
        process = self.start("run", "workflow.yaml", "--no-tui")
        before = self.root / f"out/t/checkpoint-{step - 10}/trainer_state.json"
        notes = self.root / "given.jsonl"
        wait_for(
            lambda: (
                process.poll() is not None or (notes.exists() and (step == 10 or is_whole(before)))
            ),
            f"step {step}",
        )
        assert process.poll() is None, process.communicate()
        return process

    def kill_job(self) -> None:
        (note,) = [json.loads(line) for line in self.read("given.jsonl").splitlines()][-1:]
        os.kill(note["pid"], signal.SIGKILL)

    def end(self, process: subprocess.Popen[str]) -> Result:
        """Let whoever waits in a step go on, and wait for the run's end."""
        for path in self.root.glob("stop-*"):
            path.unlink()
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in out + err
        return Result(process.returncode, out, err)

    def assert_trained(self) -> None:
        assert self.read("out/t/model.safetensors") == "weights of step 30\n"
        again = self.run()
        assert again.code == 0, again.text
        assert "up to date" in again.text
        assert not self.exists("given.jsonl")


def lives(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and process.lives


@pytest.fixture
def space(tmp_path: Path) -> Training:
    return Training(tmp_path)


def assert_resumes(space: Training, checkpoint: str) -> None:
    """The next run says beforehand from where it goes on, does so, and is done then."""
    number = int(checkpoint.split("-")[1])
    for words in (["run", "workflow.yaml", "--dry-run"], ["why", "workflow.yaml", "t"]):
        assert f"resumes from {checkpoint}" in space.command(*words).out, words
    before = sorted(path.name for path in (space.root / "out/t").iterdir())
    result = space.run()
    assert result.code == 0, result.text
    assert f"resumes from {checkpoint}" in result.text
    (note,) = space.given()
    assert str(note["resume"]).endswith(f"out/t/{checkpoint}")
    assert note["begin"] == number
    assert note["found"] == [n for n in before if not n.startswith((".oumi-flow", "job.log"))]
    assert not space.exists("out/t/.oumi-flow/old"), "a resumed folder stays as it is"
    space.assert_trained()


def test_a_killed_training_goes_on_from_its_newest_checkpoint(space: Training) -> None:
    space.prepare()
    process = space.start_until(30)
    space.kill_job()
    process.wait(60)
    assert space.end(process).code == 1
    assert [note["resume"] for note in space.given()] == [None]
    assert_resumes(space, "checkpoint-20")


def test_a_checkpoint_that_the_kill_cut_off_is_passed_over(space: Training) -> None:
    space.prepare()
    space.write("cut-20", "")
    result = space.run()
    assert result.code == 1, result.text
    assert "signal 9" in result.text
    space.given()
    (space.root / "cut-20").unlink()
    assert_resumes(space, "checkpoint-10")


@pytest.mark.parametrize(
    "leaves",
    ["empty", "binary", "folder", "link", "file", "no state", "state alone", "fifo", "zeros"],
)
def test_what_only_looks_like_a_checkpoint_is_passed_over(space: Training, leaves: str) -> None:
    space.prepare()
    space.write("die-20", "")
    assert space.run().code == 1
    space.given()
    (space.root / "die-20").unlink()
    fake = space.root / "out/t/checkpoint-90"
    if leaves == "file":
        fake.write_text("no folder")
    elif leaves == "link":
        fake.symlink_to("nowhere")
    elif leaves == "zeros":  # what the machine going down may leave of a young file
        shutil.copytree(space.root / "out/t/checkpoint-20", fake)
        (fake / "optimizer.pt").write_bytes(bytes(22))
    else:
        fake.mkdir()
        state = fake / "trainer_state.json"
        if leaves == "empty":
            state.touch()
        elif leaves == "binary":
            state.write_bytes(bytes(range(256)))
        elif leaves == "folder":
            state.mkdir()
        elif leaves == "fifo":
            os.mkfifo(state)
        elif leaves == "state alone":
            state.write_text('{"global_step": 90}')
    assert_resumes(space, "checkpoint-20")


def test_a_run_stopped_by_ctrl_c_goes_on_from_the_checkpoint(space: Training) -> None:
    space.prepare()
    process = space.start_until(20)
    process.send_signal(signal.SIGINT)
    process.wait(60)  # before the job is let go on
    assert space.end(process).code == 130
    space.given()
    told = space.run("--dry-run").out
    assert "interrupted (SIGINT" in told
    assert_resumes(space, "checkpoint-10")


def test_a_training_lost_with_its_run_and_supervisor_goes_on(space: Training) -> None:
    space.prepare()
    process = space.start_until(30)
    record = json.loads(space.read("out/t/.oumi-flow/attempt.json"))
    process.kill()
    os.kill(record["handle"]["pid"], signal.SIGKILL)
    process.communicate()
    (note,) = space.given()
    # The job itself computes on: it must be gone before another one writes there.
    assert lives(int(str(note["pid"])))
    before = space.run("--dry-run")
    assert "resumes from checkpoint-20" in before.out, before.out
    second = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("given.jsonl") or second.poll() is not None, "the second try")
    assert not lives(int(str(note["pid"]))), "two of one job at a time"
    result = space.end(second)
    assert result.code == 0, result.text
    assert "lost" in result.text
    (again,) = space.given()
    assert again["begin"] == 20
    space.assert_trained()


def test_a_retry_in_the_same_run_goes_on(space: Training) -> None:
    space.prepare(max_retries=1)
    process = space.start_until(30)
    space.kill_job()
    notes = space.root / "given.jsonl"
    wait_for(lambda: len(notes.read_text().splitlines()) == 2, "the second attempt")
    result = space.end(process)
    assert result.code == 0, result.text
    assert [note["begin"] for note in space.given()] == [0, 20]
    assert "resumes from checkpoint-20" in result.text
    space.assert_trained()


def test_another_build_key_starts_afresh_and_keeps_what_was_there(space: Training) -> None:
    space.prepare()
    space.write("die-20", "")
    assert space.run().code == 1
    space.given()
    (space.root / "die-20").unlink()
    space.write("train.yaml", "training:\n  max_steps: 30\n  save_steps: 10\n  seed: 7\n")
    assert "resumes" not in space.run("--dry-run").out
    result = space.run()
    assert result.code == 0, result.text
    (note,) = space.given()
    assert (note["resume"], note["found"]) == (None, [])
    old = space.root / "out/t/.oumi-flow/old"
    assert sorted(path.name for path in old.iterdir()) == ["checkpoint-10", "checkpoint-20"]
    assert (old / "checkpoint-20/trainer_state.json").exists()
    space.assert_trained()


def test_failures_of_a_forced_training_cost_no_earlier_result(space: Training) -> None:
    space.prepare(max_retries=1)
    assert space.run().code == 0
    space.write("cut-10", "")
    assert space.run("-F").code == 1
    assert space.run().code == 1
    assert space.exists("out/t/.oumi-flow/old/checkpoint-10")
    (space.root / "out/t/.oumi-flow/previous/model.safetensors").rename(space.root / "saved")
    assert space.read("saved") == "weights of step 30\n"


def test_a_training_without_a_whole_checkpoint_starts_afresh(space: Training) -> None:
    space.prepare()
    space.write("cut-10", "")
    assert space.run().code == 1
    space.given()
    (space.root / "cut-10").unlink()
    assert "resumes" not in space.run("--dry-run").out
    assert space.run().code == 0
    (note,) = space.given()
    assert (note["resume"], note["found"]) == (None, [])
    assert space.exists("out/t/.oumi-flow/old/checkpoint-10")
    space.assert_trained()


def test_force_starts_afresh(space: Training) -> None:
    space.prepare()
    space.write("die-20", "")
    assert space.run().code == 1
    space.given()
    (space.root / "die-20").unlink()
    assert "resumes" not in space.run("--dry-run", "--force", "t").out
    assert space.run("--force", "t").code == 0
    (note,) = space.given()
    assert (note["resume"], note["found"]) == (None, [])


def test_a_finished_training_is_never_gone_on_from(space: Training) -> None:
    """Trained with other settings before: its checkpoints are of another build key."""
    space.prepare()
    assert space.run().code == 0
    space.given()
    space.write("train.yaml", "training:\n  max_steps: 30\n  save_steps: 10\n  seed: 7\n")
    assert "resumes" not in space.run("--dry-run").out
    assert space.run().code == 0
    (note,) = space.given()
    assert (note["resume"], note["found"]) == (None, [])


def test_the_flag_is_no_part_of_what_is_wanted(space: Training) -> None:
    """A resumed training's marker is the one that an undisturbed training gets."""
    space.prepare()
    assert space.run().code == 0
    whole = json.loads(space.read("out/t/.oumi-flow/done.json"))
    space.given()
    space.write("die-20", "")
    assert space.run("--force", "t").code == 1
    (space.root / "die-20").unlink()
    assert space.run().code == 0
    assert [note["begin"] for note in space.given()] == [0, 20]
    resumed = json.loads(space.read("out/t/.oumi-flow/done.json"))
    for part in ("fingerprint", "parts", "build_key"):
        assert resumed[part] == whole[part], part


def test_a_workdir_of_its_own_gets_the_checkpoint_by_a_path_that_fits(space: Training) -> None:
    (space.root / "sub").mkdir()
    space.prepare(workdir="sub")
    space.write("sub/die-20", "")
    assert space.run().code == 1
    (space.root / "sub/die-20").unlink()
    result = space.run()
    assert result.code == 0, result.text
    notes = [json.loads(line) for line in space.read("sub/given.jsonl").splitlines()]
    assert [note["begin"] for note in notes] == [0, 20]
    assert (space.root / "sub" / str(notes[1]["resume"])).is_dir()
