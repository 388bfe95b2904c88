"""What a running job says of its progress, from recorded output of the real oumi."""

from __future__ import annotations

import json
import math
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.model import Command, Input, Job, Progress
from oumi_flow.progress import LineCount, Tail, follower, parse, total_of

CAPTURES = Path(__file__).parents[1] / "data" / "captures"


def append(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def row(step: int, **values: object) -> str:
    return json.dumps({**values, "step": step}) + "\n"


# ---------------------------------------------------------------------- tail


def test_lines_come_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(str(path))
    assert tail.read() == []
    append(path, "one\ntw")
    assert tail.read() == ["one"]
    assert tail.unfinished == "tw"
    append(path, "o\r 5%\rthree\n\n")
    assert tail.read() == ["two", " 5%", "three"]
    assert tail.read() == []


def test_a_file_that_became_shorter_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append(path, "a long line\n")
    tail = Tail(str(path), None)
    path.write_text("new\n")
    assert tail.read() == ["new"]


def test_a_sparse_5_gb_log_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.seek(5_000_000_000)
        file.write(b"\nstep 3/10\n")
    tail = Tail(str(path))
    tracemalloc.start()
    lines = tail.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lines == ["step 3/10"]
    assert peak < 1_000_000


def test_a_line_of_100_mb_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(str(path))
    append(path, "first\n")
    assert tail.read() == ["first"]
    for _ in range(100):
        append(path, b"x" * 1_000_000)
        assert tail.read() == []
        assert len(tail.rest) <= 64 * 1024
    append(path, "end\nnext\n")
    assert tail.read()[-1] == "next"


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_however_it_arrives_the_lines_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("tail") / "log"
    tail = Tail(str(path))
    found: list[str] = []
    for part in parts:
        append(path, part)
        found += tail.read()
    whole = Tail(str(path))
    assert found == whole.read()
    assert tail.unfinished == whole.unfinished


def test_lines_are_counted_as_they_grow(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    count = LineCount(str(path))
    assert count.update() == 0
    append(path, "1\n2\n3")
    assert count.update() == 2
    append(path, "\n")
    assert count.update() == 3


# ---------------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("line", "bar"),
    [
        (" 55%|###     | 11/20 [00:07<00:06,  1.49it/s]", ("", 11, 20)),
        ("100%|██████████| 2/2 [00:01<00:00]", ("", 2, 2)),
        (
            "Generating Model Responses:  50%|█████     | 1/2 [00:00<00:00,  1.53it/s]",
            ("Generating Model Responses", 1, 2),
        ),
        ("Download:   1%| | 1.50k/150k [00:01<?, ?B/s]", ("Download", 1500, 150000)),
        (" 5%|█| 1/20 [00:01<?]  10%|█| 2/20 [00:02<?]", ("", 2, 20)),
    ],
)
def test_bars(line: str, bar: tuple[str, float, float]) -> None:
    found = parse.bar_of(line)
    assert found is not None
    assert (found.title.rpartition("]")[2].strip(), found.done, found.total) == bar


@pytest.mark.parametrize("line", ["", "50%", "| a | b |", "100%|", "5% of 3/4 [x"])
def test_no_bars(line: str) -> None:
    assert parse.bar_of(line) is None


def test_a_printed_dict_holds_numbers_as_text() -> None:
    text = "{'loss': '6.261', 'grad_norm': nan, 'epoch': '0.0625', 'name': 'x', 'step': 1}"
    found = parse.dict_row(text)
    assert found is not None
    numbers = parse.numbers_of(found)
    assert math.isnan(numbers.pop("grad_norm"))
    assert numbers == {"loss": 6.261, "epoch": 0.0625, "step": 1}


@pytest.mark.parametrize(
    "line", ["{'a': __import__('os')}", "{'a': 1", "{'a'}", "{'" + "(" * 5000 + "'}", "{}"]
)
def test_what_looks_like_a_dict_is_not_run(line: str) -> None:
    assert not parse.dict_row(line)


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("step 3/10", (3, 10, "steps")),
        ("Epoch: 2 of 5 begins", (2, 5, "epochs")),
        ("[7/9] building", (7, 9, "steps")),
        ("done 4/8 files", (4, 8, "files")),
    ],
)
def test_counts(line: str, count: tuple[float, float, str]) -> None:
    assert parse.count_of(line) == count


@pytest.mark.parametrize("line", ["2026/11", "see a/b/3/4", "step 12/10", "step 1/0", "12/24/2026"])
def test_no_counts(line: str) -> None:
    assert parse.count_of(line) is None


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        ("loss=0.5 lr=1e-4, acc = .93", {"loss": 0.5, "lr": 1e-4, "acc": 0.93}),
        ("PATH=3 CUDA_VISIBLE_DEVICES=0 x=nan", None),
        ("url?a=b path=1/2 v=1.2.3 t=12:30", {}),
        ("--flag=5", {}),
    ],
)
def test_pairs(line: str, pairs: dict[str, float] | None) -> None:
    found = parse.pairs_of(line)
    if pairs is None:
        assert list(found) == ["x"]
        assert math.isnan(found["x"])
    else:
        assert found == pairs


@given(st.text(max_size=300))
def test_no_line_breaks_a_parser(line: str) -> None:
    clean = parse.clean(line)
    parse.bar_of(clean)
    parse.count_of(clean)
    parse.pairs_of(clean)
    parse.json_row(clean)
    parse.dict_row(clean)


# ---------------------------------------------------------------------- train


def test_a_training_is_followed_by_its_metrics_file(tmp_path: Path) -> None:
    log, metrics = tmp_path / "job.log", tmp_path / "metrics_rank0000.jsonl"
    train = follower("train", str(tmp_path), str(log))
    assert train.poll() is None
    append(metrics, row(1, loss=6.5, learning_rate=1e-3))
    append(log, "\r  5%|5         | 1/20 [00:07<00:06,  1.49it/s]")
    assert train.poll() == Progress(1, 20, "steps", {"loss": 6.5, "learning_rate": 1e-3})
    assert train.poll() is None
    append(log, "\r 15%|#5        | 3/20 [00:07<00:06,  1.49it/s]")
    append(metrics, '{"loss": 6.1, "st')
    found = train.poll()
    assert found is not None
    # The bar runs ahead of what is logged now and then; a torn line waits.
    assert (found.done, found.metrics["loss"]) == (3, 6.5)
    append(metrics, 'ep": 4}\n')
    found = train.poll()
    assert found is not None
    assert (found.done, found.metrics["loss"]) == (4, 6.1)


def test_what_an_earlier_training_left_is_not_this_ones(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics_rank0000.jsonl"
    append(metrics, row(500, loss=0.1))
    train = follower("train", str(tmp_path), str(tmp_path / "job.log"), 20)
    assert train.poll() is None
    append(metrics, row(1, loss=6.0))
    assert train.poll() == Progress(1, 20, "steps", {"loss": 6.0})


def test_an_adopted_training_is_read_from_its_start(tmp_path: Path) -> None:
    append(tmp_path / "metrics_rank0000.jsonl", row(5, loss=2.0))
    train = follower("train", str(tmp_path), str(tmp_path / "job.log"), 20, skip=0)
    assert train.poll() == Progress(5, 20, "steps", {"loss": 2.0})


def test_a_recorded_training_with_evaluations(tmp_path: Path) -> None:
    train = follower("train", str(tmp_path), str(tmp_path / "job.log"))
    append(
        tmp_path / "metrics_rank0000.jsonl",
        (CAPTURES / "metrics_rank0000_with_eval.jsonl").read_bytes(),
    )
    append(tmp_path / "job.log", (CAPTURES / "train.stderr").read_bytes())
    found = train.poll()
    assert found is not None
    assert (found.done, found.total, found.unit) == (20, 20, "steps")
    assert found.metrics["eval_loss"] == pytest.approx(5.133065)
    assert found.metrics["train_loss"] == pytest.approx(5.48949)


def test_steps_repeat_after_a_resume(tmp_path: Path) -> None:
    train = follower("train", str(tmp_path), str(tmp_path / "job.log"), 30)
    append(
        tmp_path / "metrics_rank0000.jsonl",
        (CAPTURES / "metrics_rank0000_resumed.jsonl").read_bytes(),
    )
    found = train.poll()
    assert found is not None
    assert (found.done, found.total) == (30, 30)


def test_the_total_is_in_the_config_that_oumi_wrote(tmp_path: Path) -> None:
    append(
        tmp_path / "telemetry" / "training_config.yaml",
        "model:\n  model_name: x\ntraining:\n  max_steps: 2000\n  num_train_epochs: 3\n",
    )
    train = follower("train", str(tmp_path), str(tmp_path / "job.log"))
    append(tmp_path / "metrics_rank0000.jsonl", row(7, loss=1))
    assert train.poll() == Progress(7, 2000, "steps", {"loss": 1})


def test_a_diverged_training_shows_nan(tmp_path: Path) -> None:
    train = follower("train", str(tmp_path), str(tmp_path / "job.log"), 20)
    append(tmp_path / "metrics_rank0000.jsonl", '{"loss": NaN, "lr": "1e-4", "step": 2}\n[]\nx\n')
    found = train.poll()
    assert found is not None
    assert math.isnan(found.metrics["loss"])
    assert found.metrics["lr"] == 1e-4
    assert train.poll() is None


# ---------------------------------------------------------------------- other verbs


def test_tuning_counts_trials_and_shows_the_inner_training(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    tune = follower("tune", str(tmp_path), str(log), 2)
    assert tune.poll() is None
    append(tmp_path / "trial_0" / "metrics_rank0000.jsonl", row(3, loss=5.0))
    assert tune.poll() == Progress(0, 2, "trials", {"loss": 5.0, "trial": 0, "step": 3})
    append(tmp_path / "trial_1" / "metrics_rank0000.jsonl", row(1, loss=4.0))
    found = tune.poll()
    assert found is not None
    assert (found.done, found.metrics["trial"]) == (1, 1)
    append(log, (CAPTURES / "tune.stderr").read_bytes())
    found = tune.poll()
    assert found is not None
    assert (found.done, found.total) == (2, 2)
    assert found.metrics["best_trial"] == 1
    assert found.metrics["best_value"] == pytest.approx(4.819272994995117)


def test_trials_of_an_earlier_tuning_are_not_this_ones(tmp_path: Path) -> None:
    (tmp_path / "trial_0").mkdir()
    tune = follower("tune", str(tmp_path), str(tmp_path / "job.log"), 2)
    assert tune.poll() is None
    (tmp_path / "trial_1").mkdir()
    assert tune.poll() == Progress(0, 2, "trials", {"trial": 1})


@pytest.mark.parametrize(
    ("capture", "progress"),
    [
        ("evaluate_lm.stderr", Progress(16, 16, "requests")),
        ("judge_dataset.stderr", Progress(2, 2, "batches")),
        ("synth.stderr", Progress(2, 2, "batches")),
    ],
)
def test_bars_of_the_work_are_shown(tmp_path: Path, capture: str, progress: Progress) -> None:
    log = tmp_path / "job.log"
    bars = follower("bars", str(tmp_path), str(log))
    append(log, (CAPTURES / capture).read_bytes())
    assert bars.poll() == progress


def test_a_bar_is_seen_while_it_is_drawn(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    bars = follower("bars", str(tmp_path), str(log))
    append(log, "\rLoading weights: 100%|##########| 21/21 [00:00<00:00, 15170.58it/s]\n")
    assert bars.poll() is None
    append(log, "\rRunning generate_until requests:   6%|6  | 1/16 [00:00<00:02,  6.15it/s]")
    assert bars.poll() == Progress(1, 16, "requests")


@pytest.mark.parametrize("place", ["", "predictions.jsonl"])
def test_inference_counts_finished_rows(tmp_path: Path, place: str) -> None:
    log = tmp_path / "job.log"
    infer = follower(
        "infer", os.path.join(tmp_path, place) if place else str(tmp_path), str(log), 4
    )
    append(log, (CAPTURES / "infer.stderr").read_bytes()[:400])
    found = infer.poll()
    assert found is not None
    assert found.unit == "batches"
    append(tmp_path / "scratch" / "predictions_abc.jsonl", '{"a": 1}\n{"a": 2}\n{"a"')
    assert infer.poll() == Progress(2, 4, "rows")
    append(tmp_path / "scratch" / "predictions_abc.jsonl", ": 3}\n")
    assert infer.poll() == Progress(3, 4, "rows")
    (tmp_path / "scratch" / "predictions_abc.jsonl").unlink()
    assert infer.poll() is None


def test_a_script_says_what_it_likes(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    lines = follower("lines", str(tmp_path), str(log))
    append(log, "starting\n")
    assert lines.poll() is None
    append(log, "\x1b[32mstep 3/10\x1b[0m loss=0.5\n")
    assert lines.poll() == Progress(3, 10, "steps", {"loss": 0.5})
    append(log, "{\"step\": 4, \"loss\": 0.4}\n{'acc': '0.9'}\n")
    assert lines.poll() == Progress(4, 10, "steps", {"loss": 0.4, "acc": 0.9})
    append(log, "\r 50%|#####     | 5/10 [00:01<00:01]")
    found = lines.poll()
    assert found is not None
    assert (found.done, found.total) == (5, 10)


def test_a_script_of_garbage_keeps_few_names(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    lines = follower("nothing known", str(tmp_path), str(log))
    append(log, "".join(f"k{number}={number}\n" for number in range(1000)))
    found = lines.poll()
    assert found is not None
    assert len(found.metrics) == parse.MOST_METRICS
    assert found.metrics["k999"] == 999


def job_of(name: str, config: dict[str, object], *inputs: Input) -> Job:
    return Job(
        name="j",
        verb=name,
        folder="out/j",
        place="out/j",
        command=Command((), progress=name),
        parts={"config": config},
        fingerprint="",
        inputs=inputs,
    )


def test_how_much_work_a_job_will_be(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n" * 5)
    assert total_of(job_of("train", {"training.max_steps": 20})) == 20
    assert total_of(job_of("train", {"training.max_steps": -1})) is None
    assert total_of(job_of("tune", {"tuning.n_trials": 3})) == 3
    own = Input(str(rows), str(rows))
    assert total_of(job_of("infer", {"input_path": str(rows)}, own)) == 5
    upstream = Input("@0/rows.jsonl", str(rows), producer="prep")
    assert total_of(job_of("infer", {"input_path": "@0/rows.jsonl"}, upstream)) == 5
    assert total_of(job_of("infer", {"input_path": "hub/name"}, own)) is None
    assert total_of(job_of("infer", {"input_path": "gone"}, Input("gone", "gone"))) is None
    assert total_of(job_of("judge", {})) is None
