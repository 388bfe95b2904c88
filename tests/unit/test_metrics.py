"""The numbers a finished job is remembered by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.metrics import final, points
from oumi_flow.model import Command, Job

CAPTURES = Path(__file__).parents[1] / "data" / "captures"


def job_of(name: str, place: Path, config: dict[str, Any] | None = None) -> Job:
    return Job(
        name="j",
        verb=name,
        folder=str(place),
        place=str(place),
        command=Command(()),
        parts={"config": config or {}},
        fingerprint="",
    )


def test_a_training_is_remembered_by_last_and_best_losses(tmp_path: Path) -> None:
    shutil.copy(CAPTURES / "metrics_rank0000_with_eval.jsonl", tmp_path / "metrics_rank0000.jsonl")
    found = final(job_of("train", tmp_path))
    assert found["steps"] == 20
    assert found["loss"] == pytest.approx(5.076383590698242)
    assert found["eval_loss"] == pytest.approx(5.133065)
    assert found["train_loss"] == pytest.approx(5.48949)
    assert found["train_runtime"] == pytest.approx(41.2091)
    assert found["best_eval_loss"] <= found["eval_loss"]
    assert found["best_mean_token_accuracy"] >= found["mean_token_accuracy"]
    assert not {"learning_rate", "grad_norm", "eval_runtime", "best_epoch"} & set(found)


def test_an_earlier_training_in_the_same_file_does_not_count(tmp_path: Path) -> None:
    rows = [
        {"loss": 0.1, "eval_loss": 0.1, "step": 10},
        {"train_loss": 0.2, "train_runtime": 9, "step": 10},
        {"loss": 5.0, "step": 1},
        {"loss": 4.0, "step": 2},
        {"loss": 4.5, "step": 2},  # a step repeated after a resume: the last value holds
        {"train_loss": 4.7, "train_runtime": 3, "step": 2},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics_rank0000.jsonl").write_text(text + '{"loss": 4')
    assert final(job_of("train", tmp_path)) == {
        "loss": 4.5,
        "best_loss": 4.5,
        "train_loss": 4.7,
        "train_runtime": 3,
        "steps": 2,
    }


def test_a_diverged_loss_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics_rank0000.jsonl").write_text('{"loss": NaN, "step": 1}\n')
    assert final(job_of("train", tmp_path)) == {"steps": 1}


def test_a_tuning_is_remembered_by_its_best_trial(tmp_path: Path) -> None:
    shutil.copy(CAPTURES / "trials_results.csv", tmp_path)
    assert final(job_of("tune", tmp_path)) == {
        "trials": 2,
        "best_trial": 0,
        "best_value": pytest.approx(5.703190803527832),
        "best_learning_rate": pytest.approx(0.0016267363402217507),
    }
    up = {"tuning.evaluation_direction[0]": "maximize"}
    assert final(job_of("tune", tmp_path, up))["best_trial"] == 1
    with open(tmp_path / "trials_results.csv", "a") as table:
        table.write("2,,2026-01-01 00:00:00,,,0.003,RUNNING\n")
    assert final(job_of("tune", tmp_path))["trials"] == 2, "one was cut short by a kill"


def test_an_evaluation_is_remembered_by_task_and_metric(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"qa": {"acc,none": 0.5, "nan": null}}')
    assert final(job_of("evaluate", tmp_path)) == {"qa/acc,none": 0.5}


def test_an_evaluation_that_is_not_published_yet(tmp_path: Path) -> None:
    folder = tmp_path / "custom_20260101_000000"
    folder.mkdir()
    shutil.copy(CAPTURES / "task_result_custom.json", folder / "task_result.json")
    assert final(job_of("evaluate", tmp_path)) == {
        "toy_length/mean_length": 3.25,
        "toy_length/num_samples": 4,
    }


def test_a_resumed_trainings_mean_loss_is_of_all_its_steps(tmp_path: Path) -> None:
    """The trainer's own is the sum since the checkpoint over all steps: less than any loss was."""
    rows: list[dict[str, float]] = [
        {"loss": 8.0, "step": 2},
        {"loss": 6.0, "step": 4},
        {"loss": 99.0, "step": 6},  # lost with the kill, and made again from checkpoint-4
        {"loss": 4.0, "step": 6},
        {"loss": 2.0, "step": 8},
        {"train_loss": 1.5, "step": 8},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics_rank0000.jsonl").write_text(lines)
    config = tmp_path / "telemetry/training_config.yaml"
    config.parent.mkdir()
    for begun, mean in [("null", 1.5), ("elsewhere/checkpoint-1", 1.5), ("out/t/checkpoint-4", 5)]:
        config.write_text(f"training:\n  max_steps: 8\n  resume_from_checkpoint: {begun}\n")
        assert final(job_of("train", tmp_path))["train_loss"] == mean, begun


@pytest.mark.parametrize("as_folder", [True, False])
def test_judgments_are_remembered_by_their_mean(tmp_path: Path, as_folder: bool) -> None:
    shutil.copy(CAPTURES / "judge_rule.jsonl", tmp_path / "judgments.jsonl")
    place = tmp_path if as_folder else tmp_path / "judgments.jsonl"
    assert final(job_of("judge", place)) == {"rows": 4, "score": 1.0}


def test_judgments_without_scores(tmp_path: Path) -> None:
    shutil.copy(CAPTURES / "judge.jsonl", tmp_path / "judgments.jsonl")
    assert final(job_of("judge", tmp_path)) == {"rows": 4}


def test_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text("{}\n{}\n{}")
    assert final(job_of("infer", tmp_path)) == {"rows": 3}


def test_a_quantized_model_is_remembered_by_its_size(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "README.md").write_bytes(b"x" * 50)
    assert final(job_of("quantize", tmp_path)) == {"bytes": 100}


def test_a_script_is_remembered_by_the_last_it_said(tmp_path: Path) -> None:
    (tmp_path / "job.log").write_text("score=0.1\nscore=0.7 n=3\nbye\n")
    assert final(job_of("shell", tmp_path)) == {"score": 0.7, "n": 3}


@pytest.mark.parametrize("name", ["train", "tune", "evaluate", "judge", "infer", "quantize"])
def test_nothing_there_is_no_error(tmp_path: Path, name: str) -> None:
    gone = tmp_path / "gone"
    assert set(final(job_of(name, gone)).values()) <= {0.0}


def test_curves_keep_the_last_value_of_a_step(tmp_path: Path) -> None:
    shutil.copy(CAPTURES / "metrics_rank0000_resumed.jsonl", tmp_path / "metrics_rank0000.jsonl")
    curve = points(str(tmp_path))["loss"]
    steps = [step for step, _ in curve]
    assert steps == sorted(set(steps))
    assert steps[-1] == 30


def test_curves_from_our_own_points(tmp_path: Path) -> None:
    own = tmp_path / ".oumi-flow"
    own.mkdir()
    (own / "metrics.jsonl").write_text(
        '{"at": 1.5, "done": 1, "metrics": {"loss": 2}}\n{"done": 2, "metrics": {"loss": 1}}\n'
    )
    assert points(str(tmp_path)) == {"loss": [(1, 2), (2, 1)]}
    assert points(str(own)) == {"loss": [(1, 2), (2, 1)]}
    assert points(str(tmp_path / "gone")) == {}


def test_points_without_a_step_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"done": null, "metrics": {"x": 5}}\n{"done": null, "metrics": {"x": 6}}\n'
    )
    assert points(str(tmp_path)) == {"x": [(0, 5), (1, 6)]}


def test_curves_are_of_the_latest_training(tmp_path: Path) -> None:
    (tmp_path / "metrics_rank0000.jsonl").write_text(
        '{"loss": 9, "step": 500}\n{"train_loss": 9, "step": 500}\n{"loss": 5, "step": 1}\n'
    )
    assert points(str(tmp_path)) == {"loss": [(1, 5)]}


def test_long_curves_are_thinned_to_their_ends(tmp_path: Path) -> None:
    text = "".join(f'{{"loss": {1 / step}, "step": {step}}}\n' for step in range(1, 5001))
    (tmp_path / "metrics_rank0000.jsonl").write_text(text)
    curve = points(str(tmp_path), most=100)["loss"]
    assert len(curve) <= 101
    assert (curve[0][0], curve[-1][0]) == (1, 5000)
