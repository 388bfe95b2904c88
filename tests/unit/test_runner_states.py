"""States and order of jobs: the table, what a change brings about, who goes first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from oumi_flow.model import Command, Decision, GpuRequest, Job, JobState, Step
from oumi_flow.runner.states import FOLLOWS, Change, States
from oumi_flow.schedule.estimates import estimate, ranks
from oumi_flow.schedule.line import Line
from oumi_flow.schedule.requests import effective_request, impossible

S = JobState


def step(name: str, *upstream: str, expected: float | None = None, **fields: Any) -> Step:
    job = Job(
        name=name,
        verb=fields.pop("verb", "train"),
        folder=name,
        place=name,
        command=Command(()),
        parts={},
        fingerprint="",
        upstream=upstream,
        **fields,
    )
    return Step(job, Decision.RUN, expected=expected)


def order(*steps: Step) -> list[str]:
    rank = ranks(steps, estimate(steps).seconds)
    return sorted(rank, key=lambda name: rank[name])


# -- states ----------------------------------------------------------------------------------


def test_every_state_that_is_no_end_leads_to_an_end_and_none_leads_on_from_an_end() -> None:
    assert {state for state in S if not state.ended} == set(FOLLOWS)
    for state in FOLLOWS:
        assert any(after.ended for after in FOLLOWS[state]), state
        assert S.CANCELLED in FOLLOWS[state], state


@pytest.mark.parametrize("old", list(S))
@pytest.mark.parametrize("new", list(S))
def test_only_what_the_table_has_can_happen(old: JobState, new: JobState) -> None:
    states = States([("a", ())])
    states._state["a"] = old  # as if it had come there
    if new in FOLLOWS.get(old, ()):
        assert states.set("a", new)[0] == Change("a", new)
    else:
        with pytest.raises(ValueError, match=f"cannot go from {old.value} to {new.value}"):
            states.set("a", new)


def test_counts_are_kept_beside_the_states() -> None:
    states = States([("a", ()), ("b", ["a"]), ("c", ["b"])])
    assert states.begin() == [Change("a", S.READY)]
    states.set("a", S.QUEUED)
    states.set("a", S.RUNNING)
    states.set("a", S.FAILED)
    assert states.counts[S.FAILED] == 1
    assert states.counts[S.BLOCKED] == 2
    assert states.unended == 0
    assert sum(states.counts.values()) == 3


def test_a_job_is_ready_once_all_it_waits_for_are_there() -> None:
    states = States([("a", ()), ("b", ()), ("c", ["a", "b", "a", "not in this run"])])
    states.begin()
    assert states.set("a", S.UP_TO_DATE) == [Change("a", S.UP_TO_DATE)]
    assert states.set("b", S.RESTORED)[1:] == [Change("c", S.READY)]


def test_the_cause_of_a_block_is_the_job_that_failed_not_the_one_in_between() -> None:
    states = States([("a", ()), ("b", ["a"]), ("c", ["b"]), ("d", ["b", "c"])])
    states.begin()
    assert states.set("a", S.FAILED)[1:] == [
        Change("b", S.BLOCKED, "upstream a failed"),
        Change("c", S.BLOCKED, "upstream a failed"),
        Change("d", S.BLOCKED, "upstream a failed"),
    ]


def test_a_chain_longer_than_the_stack_is_no_matter() -> None:
    states = States([("0", ()), *((str(i), [str(i - 1)]) for i in range(1, 20_000))])
    states.begin()
    assert len(states.set("0", S.CANCELLED)) == 20_000


# -- order -------------------------------------------------------------------------------------


def test_priority_then_longest_remaining_path_then_the_order_of_the_file() -> None:
    steps = [
        step("short", expected=1.0),
        step("head", expected=1.0),
        step("tail", "head", expected=50.0),
        step("twin", expected=1.0),
        step("urgent", expected=0.1, priority=5),
        step("late", expected=99.0, priority=-1),
    ]
    assert order(*steps) == ["urgent", "head", "tail", "short", "twin", "late"]


def test_a_job_without_a_past_is_taken_to_last_as_its_verb_does() -> None:
    steps = [
        step("a", expected=10.0),
        step("b", expected=30.0),
        step("c"),
        step("d", verb="infer"),
        replace(step("e", expected=500.0), decision=Decision.UP_TO_DATE),
    ]
    assert estimate(steps).seconds == {"a": 10.0, "b": 30.0, "c": 30.0, "d": 120.0, "e": 0.0}


def test_one_that_waits_for_a_named_gpu_holds_nobody_up() -> None:
    line = Line(lambda job: True)
    named, any_gpu = GpuRequest(1, (0,)), GpuRequest(1)
    line.push("named", (0, 0.0, 0), named)
    line.push("any", (0, 0.0, 1), any_gpu)
    line.push("cpu", (0, 0.0, 2), None)
    first = line.first()
    assert first is not None
    assert first[0] == "named"
    assert [found[0] for skip in ({named}, {named, any_gpu}) if (found := line.first(skip))] == [
        "any",
        "cpu",
    ]


def test_who_has_left_the_line_is_not_called() -> None:
    gone = {"a"}
    line = Line(lambda job: job not in gone)
    line.push("a", (0, 0.0, 0), None)
    line.push("b", (0, 0.0, 1), None)
    first = line.first()
    assert first is not None
    assert first[0] == "b"
    gone.add("b")
    assert line.first() is None
    assert line.requests() == []


def test_what_a_request_comes_to_in_a_run() -> None:
    assert effective_request(GpuRequest(-1), ()) is None
    assert effective_request(GpuRequest(-1), (2,)) == GpuRequest(1)
    assert effective_request(None, (2,)) is None
    assert impossible(None, {}) == ""
    assert impossible(GpuRequest(7), {0: 7}) == ""  # one GPU split in seven
    assert impossible(GpuRequest(2), {0: 1}) == "needs 2 GPUs, and this run has 1"
