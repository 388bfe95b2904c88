"""A run folded from its events: counts, times, cost, what is left; and events that misbehave."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.board import Board, apply, fold, key_metrics
from oumi_flow.board.outlook import TimeLeft, critical_path, forecast, time_left
from oumi_flow.events import (
    Event,
    JobFinished,
    JobQueued,
    JobRetrying,
    JobStarted,
    Note,
    Planned,
    Row,
    RunFinished,
    RunStarted,
)
from oumi_flow.model import JobState


def numbered(*events: Event) -> list[Event]:
    return [replace(event, seq=seq) for seq, event in enumerate(events, 1)]


def started(slots: int = 2, gpus: tuple[int, ...] = (), cost: float = 0.0) -> RunStarted:
    return RunStarted(
        "r", "demo", "demo.yaml", "out", 1, "host", max_parallel=slots, gpus=gpus,
        cost_per_gpu_hour=cost, at=100.0,
    )  # fmt: skip


def planned(*rows: Row) -> Planned:
    return Planned(len(rows), 0, 0, rows, at=100.0)


STORY = numbered(
    started(gpus=(0, 1), cost=3600.0),
    planned(
        Row("a", "train", "run", ("why a",), (), 10.0, "out/a", 1),
        Row("b", "train", "run", ("why b",), (), 20.0, "out/b", 1),
        Row("c", "evaluate", "may run", ("waits for a",), ("a",), 5.0, "out/c", 0),
        Row("d", "shell", "run", (), ("b", "c"), None, "out/d"),
        Row("e", "shell", "up to date", ("up to date",)),
    ),
    JobQueued("b", "a GPU", at=100.0),
    JobStarted("a", 1, ("0",), "out/a/job.log", at=101.0),
    JobStarted("b", 1, ("1",), at=102.0),
    JobFinished("a", "done", 0, "", 9.0, 1, {"loss": 1.0}, at=110.0),
    JobRetrying("b", 1, 30.0, "exit 1", at=112.0),
    JobFinished("c", "up to date", at=113.0),
    JobStarted("b", 2, ("0",), at=142.0),
    JobFinished("b", "failed", 1, "exit 1", 8.0, 1, at=150.0),
    JobFinished("d", "blocked", None, "upstream b failed", at=150.0),
    RunFinished("failed", {}, 51.0, gpu_seconds=27.0, at=151.0),
)


def test_a_run_from_start_to_end() -> None:
    board = fold(STORY)
    states = {name: row.state.value for name, row in board.rows.items()}
    assert states == {
        "a": "done", "b": "failed", "c": "up to date", "d": "blocked", "e": "up to date",
    }  # fmt: skip
    assert (board.total, board.completed, board.ended, board.state) == (5, 3, 5, "failed")
    assert board.elapsed(9999.0) == 51.0
    assert list(board.failed) == ["b"]
    assert not board.running
    b = board.rows["b"]
    assert (b.attempt, b.cause, b.took, b.devices) == (2, "exit 1", 8.0, ("0",))


def test_while_it_runs() -> None:
    board = fold(STORY[:5])
    assert list(board.running) == ["a", "b"]
    assert board.waits_for(board.rows["d"]) == ("b", "c")
    assert board.rows["a"].elapsed(105.0) == 4.0
    assert board.elapsed(105.0) == 5.0
    board = fold(STORY[:7])
    assert board.rows["b"].state is JobState.RETRYING
    assert board.rows["b"].retry_at == 142.0


def test_gpu_seconds_count_failed_attempts_and_what_still_runs() -> None:
    # a: 9 s; b: 10 s of a first attempt, then 5 s of the second.
    board = fold(STORY[:9])
    assert board.gpu_seconds(147.0) == 9 + 10 + 5
    assert board.cost(147.0) == 24.0
    assert fold(STORY).gpu_seconds(0) == 27.0  # the run's own count


def test_expected_cost_leaves_out_what_is_up_to_date() -> None:
    assert fold(STORY[:2]).expected_cost() == 30.0
    assert fold([started(), STORY[1]]).expected_cost() is None


@pytest.mark.parametrize(
    ("rows", "slots", "left"),
    [
        ([Row("a", "t", "run", expected=10.0), Row("b", "t", "run", expected=30.0)], 2, 30.0),
        ([Row("a", "t", "run", expected=10.0), Row("b", "t", "run", expected=30.0)], 1, 40.0),
        ([Row(n, "t", "run", expected=10.0) for n in "abcd"], 3, 20.0),
        ([Row("a", "t", "run", expected=9.0), Row("b", "t", "run", (), ("a",), 1.0)], 8, 10.0),
    ],
)
def test_time_left_follows_slots_and_dependencies(rows: list[Row], slots: int, left: float) -> None:
    board = fold([started(slots), planned(*rows)])
    assert time_left(board, 100.0) == TimeLeft(left, "about")


def test_time_left_follows_gpus() -> None:
    rows = [Row(name, "t", "run", expected=10.0, gpus=-1) for name in "abcd"]
    assert time_left(fold([started(8, (0, 1)), planned(*rows)]), 100.0) == TimeLeft(20.0, "about")
    assert time_left(fold([started(8), planned(*rows)]), 100.0) == TimeLeft(10.0, "about")


def test_how_sure_the_time_left_is() -> None:
    known, twin = Row("a", "t", "run", expected=10.0), Row("b", "t", "run")
    strange, may = Row("c", "other", "run"), Row("d", "t", "may run", expected=10.0)

    def sure(*rows: Row) -> str:
        left = time_left(fold([started(9), planned(*rows)]), 100.0)
        return left.sure if left else ""

    assert sure(known) == "about"
    assert sure(known, may) == "up to"
    assert sure(known, twin) == "roughly"
    assert sure(known, strange) == "at least"
    assert sure(strange) == ""
    assert time_left(fold(STORY), 0) is None


def test_what_runs_now_says_how_long_its_siblings_take() -> None:
    rows = [Row("prep", "shell", "run"), *(Row(f"job-{n}", "shell", "run") for n in range(4))]
    events = [
        started(1),
        planned(*rows),
        JobFinished("prep", "done", took=1.0, at=101.0, seq=3),
        JobStarted("job-0", at=101.0, seq=4),
    ]
    board = fold(events)
    left, starts = forecast(board, 111.0, {"job-0": 90.0})
    assert left == TimeLeft(90.0 + 3 * 100.0, "roughly")  # not a second each, as `prep` took
    assert [starts[f"job-{n}"] for n in range(1, 4)] == [90.0, 190.0, 290.0]


def test_the_critical_path_goes_by_what_is_left() -> None:
    rows = [
        Row("a", "t", "run", expected=100.0),
        Row("b", "t", "run", expected=60.0),
        Row("after-b", "t", "run", (), ("b",), 10.0),
    ]
    board = fold([started(2), planned(*rows), JobStarted("a", at=100.0), JobStarted("b", at=100.0)])
    assert critical_path(board, 100.0) == (["a"], 100.0)
    assert critical_path(board, 110.0, {"a": 5.0, "b": 50.0}) == (["b", "after-b"], 60.0)


def test_a_late_job_is_not_over_yet() -> None:
    board = fold([*STORY[:2], JobStarted("b", at=100.0)])
    left = time_left(board, 500.0)
    assert left is not None
    assert left.seconds > 1.0


def test_reasons_made_anew_replace_those_of_the_plan() -> None:
    events = [*STORY[:2], JobQueued("c", reasons=("a made a new x",), seq=3)]
    assert fold(events).rows["c"].reasons == ("a made a new x",)
    # Without new ones, `waits for a` is no reason any more once it runs.
    assert fold([*STORY[:2], JobStarted("c", seq=3)]).rows["c"].reasons == ()
    assert fold([*STORY[:2], JobStarted("a", seq=3)]).rows["a"].reasons == ("why a",)


def test_a_lost_run() -> None:
    board = fold(STORY[:5])
    board.lost(alive={"b"})
    assert board.state == "lost"
    assert board.rows["a"].state is JobState.INTERRUPTED
    assert (board.rows["b"].state, board.rows["b"].runner_lost) == (JobState.RUNNING, True)
    assert board.elapsed(9999.0) == 2.0  # until it was last heard of
    ended = fold(STORY)
    ended.lost()
    assert ended.state == "failed"


def test_jobs_that_no_plan_named_and_a_plan_that_comes_late() -> None:
    board = fold([JobFinished("b", "done", at=5.0, seq=4), STORY[0], STORY[1]])
    assert board.rows["b"].state is JobState.DONE
    assert list(board.rows) == ["a", "b", "c", "d", "e"]
    assert sum(board.counts.values()) == 5
    ghost = fold([JobStarted("ghost", at=5.0)])
    assert ghost.rows["ghost"].elapsed(7.0) == 2.0


def test_old_news_changes_nothing() -> None:
    board = fold([*STORY, *STORY[3:6]])
    assert board.counts == fold(STORY).counts
    assert board.gpu_seconds(0) == fold(STORY).gpu_seconds(0)


def test_a_state_of_a_newer_version_counts_as_a_failure() -> None:
    row = fold([JobFinished("a", "evaporated")]).rows["a"]
    assert (row.state, row.cause) == (JobState.FAILED, "evaporated")


def test_notes_are_kept_within_bounds() -> None:
    board = Board()
    for number in range(5000):
        apply(board, Note(str(number)))
    assert len(board.notes) == 1000


@given(st.lists(st.sampled_from(STORY), max_size=40))
def test_counts_always_add_up(events: list[Event]) -> None:
    board = fold(events)
    assert sum(board.counts.values()) == board.total
    assert {n for n, r in board.rows.items() if r.state is JobState.RUNNING} == set(board.running)
    assert {n for n, r in board.rows.items() if r.state is JobState.FAILED} == set(board.failed)
    board.lost()
    assert not board.running or board.over
    left = time_left(board, 200.0)
    assert left is None or left.seconds >= 0


def test_ten_thousand_rows_end_where_they_should() -> None:
    names = [f"j{i}" for i in range(10_000)]
    needs = [()] * 100 + [(name,) for name in names[:-100]]
    rows = [Row(n, "t", "run", (), need, 1.0) for n, need in zip(names, needs, strict=True)]
    board = fold([started(50), planned(*rows)])
    left = time_left(board, 100.0)
    assert left == TimeLeft(200.0, "about")
    for name in names:
        apply(board, JobStarted(name, at=101.0))
        apply(board, JobFinished(name, "done", took=1.0, at=102.0))
    assert board.completed == 10_000


def test_the_metric_that_tells_most() -> None:
    train = {"train_runtime": 9.0, "train_loss": 2.0, "loss": 1.0, "epoch": 3, "eval_loss": 1.5}
    assert key_metrics(train, 2) == [("eval_loss", 1.5), ("loss", 1.0)]
    scores = {"mmlu/acc_stderr": 0.1, "mmlu/acc": 0.4, "alias": "x", "ok": True}
    assert key_metrics(scores, 3) == [("mmlu/acc", 0.4)]
    assert key_metrics({}) == []
