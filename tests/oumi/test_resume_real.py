"""A training of the real oumi, killed half way: the same command line brings it to the same end.

To be killed at an instant that is the same on any machine, the job waits just before it opens one
file: an audit hook, given by `PYTHONPATH`, that oumi and transformers know nothing of. What is
then on the disk is what kill -9 leaves: of the checkpoint being written all but its last file.

Two runs of one training are byte-identical in their model files, and so is one that was resumed:
weights, optimizer, schedule, the order of the data and the random states come from the
checkpoint. The toy model is given a dropout, so that the random states count.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.executors.processes import read_process
from tests.flow.conftest import Space, wait_for
from tests.oumi.conftest import LIMIT

# While the file $HOLD is there, the $HOLD_NTH opening for writing of a path with $HOLD_AT in it
# waits, having written its process id to $HOLD.reached.
HOOK = r"""
import os, sys, time

hold, where, left = os.environ["HOLD"], os.environ["HOLD_AT"], int(os.environ["HOLD_NTH"])

def wait(event, args):
    global left
    if event != "open" or not str(args[1]).startswith(("w", "a")) or where not in str(args[0]):
        return
    left -= 1
    if left or not os.path.exists(hold):
        return
    with open(f"{hold}.new", "w") as reached:
        reached.write(str(os.getpid()))
    os.rename(f"{hold}.new", f"{hold}.reached")
    while os.path.exists(hold):
        time.sleep(0.02)

sys.addaudithook(wait)
"""
# 64 rows are 16 steps an epoch: the second one begins between checkpoint-12 and checkpoint-18.
STEPS, SAVE = 24, 6
PARTS = (
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)
TRAIN = f"""\
model:
  model_name: tiny-model
  model_max_length: 64
  torch_dtype_str: float32
  device_map: cpu
data:
  train:
    datasets:
      - {{dataset_name: text_sft_jsonl, dataset_path: data/train.jsonl}}
training:
  trainer_type: TRL_SFT
  output_dir: out/train
  max_steps: {STEPS}
  save_steps: {SAVE}
  per_device_train_batch_size: 4
  learning_rate: 1.0e-2
  logging_steps: 1
  enable_wandb: false
  enable_tensorboard: false
"""


class Real(Space):
    """A project folder with the tiny model and its data, where the real oumi works."""

    def __init__(
        self, root: Path, tiny: Path, oumi: tuple[str, ...], oumi_env: Mapping[str, str]
    ) -> None:
        super().__init__(root)
        for name in ("tiny-model", "data", "configs"):
            shutil.copytree(tiny / name, self.root / name)
        keep = ("HF_", "TRANSFORMERS_", "DO_NOT", "CUDA_", "OUMI_FLOW_HOME")
        self.env |= {key: value for key, value in oumi_env.items() if key.startswith(keep)}
        self.env |= {"OUMI_FLOW_OUMI": shlex.join(oumi), "PYTHONWARNINGS": "default"}

    def write_training(self) -> None:
        model = json.loads(self.read("tiny-model/config.json"))
        self.write("tiny-model/config.json", json.dumps({**model, "attention_dropout": 0.1}))
        self.write("train.yaml", TRAIN)
        listing = "cd out/train && sha256sum *.safetensors > ../sums/sums"
        self.workflow(
            {"name": "train", "verb": "train", "config": "train.yaml", "grace": 1},
            {
                "name": "sums",
                "verb": "shell",
                "run": listing,
                "depends_on": ["train"],
                "outputs": ["out/sums/sums"],
            },
        )

    def hold(self, where: str, nth: int = 1) -> None:
        """Let the next job wait before its `nth` opening of such a file for writing."""
        self.write("hook/sitecustomize.py", HOOK)
        self.write("hold", "")
        self.env["PYTHONPATH"] = str(self.root / "hook")
        self.env |= {"HOLD": str(self.root / "hold"), "HOLD_AT": where, "HOLD_NTH": str(nth)}

    def start_and_hold(self) -> tuple[subprocess.Popen[str], int]:
        """Start a run and wait until its job waits; the run and the job's process id."""
        run = self.start("run", "workflow.yaml", "--no-tui")
        reached = self.root / "hold.reached"
        wait_for(lambda: reached.exists() or run.poll() is not None, "the job waits", LIMIT)
        assert run.poll() is None, run.communicate()
        return run, int(reached.read_text())

    def no_hold(self) -> None:
        (self.root / "hold").unlink()
        (self.root / "hold.reached").unlink()
        for name in ("PYTHONPATH", "HOLD", "HOLD_AT", "HOLD_NTH"):
            del self.env[name]

    def start_and_adopt(self) -> subprocess.Popen[str]:
        """Start a run that takes over what a lost one left."""
        run = self.start("run", "workflow.yaml", "--no-tui")
        assert run.stdout is not None
        said = []
        for line in run.stdout:
            said.append(line)
            if "taken over" in line:
                return run
        raise AssertionError(said, run.communicate())

    def finish(self) -> str:
        """Run as anybody would, to the end; what was said."""
        run = self.start("run", "workflow.yaml", "--no-tui")
        out, err = run.communicate(timeout=2 * LIMIT)
        assert run.returncode == 0, out + err
        assert "Traceback" not in out + err
        return out + err

    def record(self, job: str, name: str) -> dict[str, Any]:
        found = json.loads(self.read(f"out/{job}/.oumi-flow/{name}.json"))
        assert isinstance(found, dict)
        return found

    def steps(self) -> list[tuple[int, float]]:
        """Step and loss of each row of oumi's metrics, in the order they were written."""
        rows = map(json.loads, self.read("out/train/metrics_rank0000.jsonl").splitlines())
        return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def kill(run: subprocess.Popen[str], *pids: int) -> None:
    """Kill a run, and other processes, without a word of warning."""
    run.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    run.communicate()
    wait_for(lambda: not any(lives(pid) for pid in pids), "they are dead")


def lives(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and process.lives


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    tiny: Path,
    oumi: tuple[str, ...],
    oumi_env: Mapping[str, str],
) -> Real:
    """The training as nobody disturbs it."""
    space = Real(tmp_path_factory.mktemp("whole"), tiny, oumi, oumi_env)
    space.write_training()
    space.finish()
    return space


def test_a_training_killed_half_way_ends_as_an_undisturbed_one(
    whole: Real,
    tmp_path: Path,
    tiny: Path,
    oumi: tuple[str, ...],
    oumi_env: Mapping[str, str],
) -> None:
    space = Real(tmp_path, tiny, oumi, oumi_env)
    space.write_training()
    space.hold("checkpoint-18/trainer_state.json")
    first, job = space.start_and_hold()

    # The runner alone: its job lives on, and the next run takes it over instead of resuming.
    kill(first)
    second = space.start_and_adopt()
    attempt = space.record("train", "attempt")
    assert attempt["number"] == 1
    assert lives(job)

    kill(second, attempt["handle"]["pid"], job)
    space.no_hold()
    assert space.exists("out/train/checkpoint-18/model.safetensors")
    assert space.exists("out/train/checkpoint-18/optimizer.pt")
    assert not space.exists("out/train/checkpoint-18/trainer_state.json")
    assert [step for step, _ in space.steps()] == list(range(1, 19))
    assert_passes_over_what_is_not_whole(space)

    words = "resumes from checkpoint-12"
    assert words in space.command("run", "workflow.yaml", "--dry-run").out
    assert words in space.finish()
    assert not space.exists("out/train/.oumi-flow/old"), "a resumed folder stays as it is"
    steps = space.steps()
    assert [step for step, _ in steps] == [*range(1, 19), *range(13, 25)]
    # Each loss is what it was the first time, and what it is undisturbed.
    assert set(steps) == set(whole.steps())
    state = json.loads(space.read("out/train/trainer_state.json"))
    assert state["global_step"] == STEPS

    assert space.read("out/sums/sums") == whole.read("out/sums/sums")
    assert made(space) == made(whole)
    assert "up to date (2 jobs)" in space.finish()


def assert_passes_over_what_is_not_whole(space: Real) -> None:
    """Without any of its parts, or with one cut off, the checkpoint before it is the one."""
    checkpoint = space.root / "out/train/checkpoint-12"
    for name in PARTS:
        data = (checkpoint / name).read_bytes()
        os.rename(checkpoint / name, space.root / "away")
        for left in (None, data[: len(data) // 2]):
            if left is not None:
                (checkpoint / name).write_bytes(left)
            told = space.command("run", "workflow.yaml", "--dry-run").out
            assert "resumes from checkpoint-6" in told, (name, left is None)
        os.rename(space.root / "away", checkpoint / name)


def made(space: Real) -> dict[str, Any]:
    """The marker of the training, without what tells of this run, of times and of inodes."""
    marker = space.record("train", "done")
    for name in ("run_id", "started", "finished"):
        del marker[name]
    del marker["metrics"]["train_runtime"]
    for found in (*marker["inputs"].values(), *marker["outputs"].values()):
        # kind, digest, and for each file its path, stamp, digest
        found[2] = [(path, digest) for path, _, digest, *_ in found[2]]
    return marker


def test_a_checkpoints_state_is_written_last(whole: Real) -> None:
    for number in range(SAVE, STEPS + 1, SAVE):
        checkpoint = whole.root / f"out/train/checkpoint-{number}"
        written = {path.name: path.stat().st_mtime_ns for path in checkpoint.iterdir()}
        assert set(PARTS) <= set(written)
        assert max(written.values()) == written["trainer_state.json"]


def test_a_killed_infer_keeps_the_rows_it_has(
    tmp_path: Path, tiny: Path, oumi: tuple[str, ...], oumi_env: Mapping[str, str]
) -> None:
    space = Real(tmp_path, tiny, oumi, oumi_env)
    space.workflow({"name": "infer", "verb": "infer", "config": "configs/infer.yaml", "grace": 1})
    space.hold("out/infer/scratch/", nth=3)
    run, job = space.start_and_hold()
    kill(run, space.record("infer", "attempt")["handle"]["pid"], job)
    space.no_hold()
    (scratch,) = (space.root / "out/infer/scratch").iterdir()
    rows = [json.loads(line) for line in scratch.read_text().splitlines()]
    assert len(rows) == 2

    # A row that oumi would not make tells whether it is made again. The third was cut off.
    rows[0]["messages"][-1]["content"] = "kept"
    text = "".join(json.dumps(row) + "\n" for row in rows)
    scratch.write_text(text + text[:50])
    space.finish()
    said = [
        json.loads(line)["messages"][-1]["content"]
        for line in space.read("out/infer/predictions.jsonl").splitlines()
    ]
    assert len(said) == 4
    assert said[:2] == [row["messages"][-1]["content"] for row in rows]
    assert "Found 2 completed conversations" in " ".join(space.read("out/infer/job.log").split())
    assert space.read(f"out/infer/scratch/{scratch.name}.torn") == text[:50]
    assert "up to date" in space.finish()
