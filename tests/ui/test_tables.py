"""Answers as tables: status, metrics, GPUs, why, errors, a valid workflow."""

from __future__ import annotations

import pytest

from oumi_flow.model import Command, Job, Progress, Workflow
from oumi_flow.ui.tables import (
    GpuRow,
    MetricRow,
    Why,
    differing_keys,
    errors_text,
    gpus_table,
    jobs_table,
    metrics_table,
    runs_table,
    short_keys,
    validate_summary,
    why_text,
)
from oumi_flow.ui.theme import Theme
from tests.ui.story import BEGAN, EVIL, TAIL, board_at, golden, harmless, too_wide

PIPE = Theme()
METRICS = [
    MetricRow(
        "train-1e-4",
        {"loss": 1.23456, "eval_loss": 1.3},
        {"training.learning_rate": 1e-4, "training.seed": 1},
    ),
    MetricRow(
        "train-3e-4",
        {"loss": 1.1, "eval_loss": 1.4},
        {"training.learning_rate": 3e-4, "training.seed": 1},
        before={"loss": 1.2, "eval_loss": 1.4},
    ),
    MetricRow("eval", {"mmlu/acc": 0.43}),
]
GPUS = [
    GpuRow(0, "NVIDIA H100", 41_000_000_000, 85_000_000_000, 97.0, "train-1e-4 of run R, user U"),
    GpuRow(1, "NVIDIA H100", 0, 85_000_000_000, 0.0),
    GpuRow(2, "NVIDIA H100", 4_000_000_000, 85_000_000_000, 40.0, stranger="used by process 7"),
    GpuRow(3, lost=True),
]


def job(name: str, verb: str, *needs: str, implied: tuple[str, ...] = ()) -> Job:
    return Job(
        name, verb, f"out/{name}", f"out/{name}", Command(()), {}, "", upstream=needs,
        depends_on=tuple(n for n in needs if n not in implied), implied=implied,
    )  # fmt: skip


def test_a_valid_workflow_is_summed_up_as_the_manual_says() -> None:
    evals = [job(name, "evaluate", "train") for name in ("eval-1", "eval-2")]
    workflow = Workflow("my-workflow", "w.yaml", "out", (job("train", "train"), *evals))
    assert validate_summary(workflow, PIPE) == (
        "✓ Workflow configuration is valid!\n"
        "  Name: my-workflow\n"
        "  Jobs: 3\n"
        "    - train: train (depends on: )\n"
        "    - eval-1: evaluate (depends on: train)\n"
        "    - eval-2: evaluate (depends on: train)"
    )


def test_implied_dependencies_are_marked_and_warnings_told() -> None:
    jobs = (job("a", "train"), job("b", "evaluate", "a", implied=("a",)))
    text = validate_summary(Workflow("w", "w.yaml", "out", jobs, warnings=("no NVML",)), PIPE)
    assert "    - b: evaluate (depends on: a (implied))" in text
    assert text.endswith("  warning: no NVML")


@pytest.mark.parametrize("width", [0, 40, 80])
def test_status_of_a_run_that_goes_on(width: int) -> None:
    text = jobs_table(
        board_at(200),
        Theme(width=width),
        BEGAN + 200,
        lambda name: Progress(670, 1000, "steps", {"loss": 1.234}),
    )
    assert text + "\n" == golden(f"status_{width or 'pipe'}")
    assert not width or not too_wide(text, width)


def test_status_of_a_run_that_ended_and_only_what_runs() -> None:
    text = jobs_table(board_at(999), PIPE, BEGAN + 5000)
    assert "train-3e-4  failed      1m 28s  CUDA out of memory on GPU 0" in text
    assert "eval-3e-4   blocked             upstream train-3e-4 failed" in text
    assert text.endswith(
        "4 done, 3 up to date, 1 failed, 2 blocked in 6m 16s (GPU time 10m 33s, cost 0.44)"
    )
    running = jobs_table(board_at(200), PIPE, BEGAN + 200, running=True)
    assert "train-1e-3" in running
    assert "judge-base" not in running


def test_a_lost_run_says_so_of_itself_and_of_its_jobs() -> None:
    board = board_at(200)
    board.lost(alive={"train-1e-3"})
    text = jobs_table(board, PIPE, BEGAN + 500)
    assert "lost" in text.splitlines()[0]
    assert "train-1e-3 [GPU:1]  running (runner lost)" in text
    assert "train-1e-4          interrupted" in text
    assert "its run was lost" in text
    assert "1 still running" in text


def test_runs_one_a_line_newest_details_go_first_when_narrow() -> None:
    boards = [board_at(999), board_at(200)]
    wide = runs_table(boards, PIPE, BEGAN + 300).splitlines()
    assert wide[0].split() == ["run", "workflow", "state", "done", "started", "took", "folder"]
    assert wide[1].split() == [
        "20260103-112000-a1b2", "sft-sweep", "failed", "7/10", "1", "failed", "11:20", "6m", "16s",
        "outputs/sft-sweep",
    ]  # fmt: skip
    narrow = runs_table(boards, Theme(width=40), BEGAN + 300)
    assert not too_wide(narrow, 40)
    assert "20260103-112000-a1b2  running" in narrow
    assert runs_table([], PIPE, BEGAN) == "no runs"


def test_metrics_beside_the_config_keys_that_differ() -> None:
    assert metrics_table(METRICS, PIPE) == (
        "job         learning_rate       loss  eval_loss  mmlu/acc\n"
        "train-1e-4         0.0001      1.235        1.3\n"
        "train-3e-4         0.0003  1.2 → 1.1        1.4\n"
        "eval                                                 0.43"
    )
    assert metrics_table([], PIPE) == "no metrics yet"


def test_metrics_on_a_narrow_screen_stand_below_each_other() -> None:
    text = metrics_table(METRICS, Theme(width=40))
    assert text.startswith("train-1e-4\n  learning_rate  0.0001\n  loss           1.235\n")
    assert not too_wide(text, 40)


def test_keys_are_as_short_as_can_be_told_apart() -> None:
    keys = ["training.lr", "peft.lora_r", "model.a.name", "data.a.name"]
    assert list(short_keys(keys).values()) == ["lr", "lora_r", "model.a.name", "data.a.name"]
    rows = [MetricRow("a", {}, {"x": 1, "y": 2}), MetricRow("b", {}, {"x": 1}), MetricRow("c", {})]
    assert differing_keys(rows) == ["y"]


def test_gpus() -> None:
    assert gpus_table(GPUS, PIPE) == (
        "GPU  name         busy              memory  held by\n"
        "  0  NVIDIA H100   97%  41.0 GB of 85.0 GB  train-1e-4 of run R, user U\n"
        "  1  NVIDIA H100    0%      0 B of 85.0 GB  free\n"
        "  2  NVIDIA H100   40%   4.0 GB of 85.0 GB  used by process 7\n"
        "  3                                         lost"
    )
    assert not too_wide(gpus_table(GPUS, Theme(width=40)), 40)
    assert gpus_table([], PIPE) == "no GPUs found: jobs run on the CPU"


def test_why_in_sections() -> None:
    why = Why(
        "eval",
        "evaluate",
        "run",
        ["config changed: a: 1 → 2"],
        [("train", "will run")],
        ["pack"],
        ["train is implied by model.model_name"],
    )
    assert why_text(why, PIPE) == (
        "eval (evaluate) will run\n\n"
        "because\n  config changed: a: 1 → 2\n\n"
        "waits for\n  train (will run)\n\n"
        "would run after it\n  pack\n\n"
        "notes\n  train is implied by model.model_name"
    )
    fine = Why("eval", "evaluate", "up to date", ["up to date (made 2026-01-03 11:20, took 42m)"])
    assert why_text(fine, PIPE) == (
        "eval (evaluate) up to date\n\nmade\n  up to date (made 2026-01-03 11:20, took 42m)"
    )


def test_errors_with_the_end_of_the_log() -> None:
    text = errors_text(board_at(999).failed.values(), PIPE, lambda job: TAIL, limit=1)
    assert text == (
        "failed: train-3e-4 (CUDA out of memory on GPU 0)\n"
        "  │ torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB.\n"
        "  log: outputs/sft-sweep/train-3e-4/job.log\n"
        "\n"
        "1 job failed"
    )
    assert errors_text([], PIPE) == "no failures"


def test_a_log_line_of_megabytes_is_cut() -> None:
    text = errors_text(board_at(999).failed.values(), PIPE, lambda job: ["x" * 5_000_000])
    assert len(text) < 2000


def test_nothing_from_outside_acts_on_the_terminal() -> None:
    color = Theme(color=True, width=100)
    evil = job(EVIL, EVIL, EVIL)
    texts = [
        validate_summary(Workflow(EVIL, "", "", (evil,), warnings=(EVIL,)), color),
        metrics_table([MetricRow(EVIL, {EVIL: EVIL}, {EVIL: EVIL}), METRICS[0]], color),
        gpus_table([GpuRow(0, EVIL, holder=EVIL)], color),
        why_text(Why(EVIL, EVIL, "run", [EVIL], [(EVIL, EVIL)], [EVIL], [EVIL]), color),
    ]
    assert all(harmless(text) for text in texts)


def test_only_jobs_of_one_verb_are_compared() -> None:
    rows = [
        MetricRow("train-a", {"loss": 1.0}, {"lr": 0.1, "steps": 5}, verb="train"),
        MetricRow("train-b", {"loss": 2.0}, {"lr": 0.2, "steps": 5}, verb="train"),
        MetricRow("eval", {"acc": 1.0}, {"tasks": "sums", "steps": 9}, verb="evaluate"),
    ]
    assert differing_keys(rows) == ["lr"]
