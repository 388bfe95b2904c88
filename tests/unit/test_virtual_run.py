"""The real loop on a clock that jumps: what its schedules hold to, and who waits for how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduling.bounds import lower_bound
from scheduling.job_sets import Set, generated
from scheduling.virtual_run import Stay, VirtualRun, step

from oumi_flow.model import GpuRequest, Step
from oumi_flow.runner.terms import Chosen

ONE = GpuRequest(1)


def run(
    steps: Sequence[Step], seconds: Mapping[str, float], gpus: int, slots: int = 64, **options: Any
) -> VirtualRun:
    made = VirtualRun(steps, seconds, gpus=gpus, slots=slots, **options)
    made.run()
    assert made.loop.result().state == ("failed" if options.get("failing") else "done")
    return made


@st.composite
def sets(draw: st.DrawFn) -> Set:
    gpus = draw(st.integers(1, 5))
    made = Set("any", "any", gpus, draw(st.integers(1, 8)))
    for number in range(draw(st.integers(1, 14))):
        some = draw(st.lists(st.integers(0, number - 1), max_size=3)) if number else []
        request = draw(
            st.one_of(
                st.none(),
                st.builds(GpuRequest, st.integers(1, gpus)),
                st.sets(st.integers(0, gpus - 1), min_size=1, max_size=2).map(
                    lambda of: GpuRequest(len(of), tuple(sorted(of)))
                ),
            )
        )
        made.add(draw(st.sampled_from(["a", "b"])), draw(st.floats(1, 500)), some, request)
    return made


@settings(deadline=None, max_examples=60)
@given(sets(), st.sampled_from(["exact", "wrong", "none"]), st.sampled_from(["dynamic", "fixed"]))
def test_no_schedule_breaks_a_rule_nor_beats_the_bound(
    made: Set, known: str, allocation: str
) -> None:
    names = [str(number) for number in range(len(made.kinds))]

    def guess(took: float) -> float | None:
        return None if known == "none" else took if known == "exact" else 501 - took

    steps = [
        step(n, kind, tuple(names[o] for o in needs), gpu, took=guess(took))
        for n, kind, needs, gpu, took in zip(
            names, made.kinds, made.upstream, made.requests, made.seconds, strict=True
        )
    ]
    seconds = dict(zip(names, made.seconds, strict=True))
    stays = run(steps, seconds, made.gpus, made.slots, allocation=allocation).stays
    assert stays.keys() == set(names)
    for name, needs, request in zip(names, made.upstream, made.requests, strict=True):
        stay = stays[name]
        assert stay.end - stay.start == pytest.approx(seconds[name])
        assert all(stays[names[other]].end <= stay.start for other in needs)
        assert len(stay.gpus) == (request.count if request else 0)
        if request and request.devices:
            assert stay.gpus == request.devices
    for gpu in range(made.gpus):
        on = sorted((s.start, s.end) for s in stays.values() if gpu in s.gpus)
        assert all(before[1] <= after[0] for before, after in pairwise(on))
    for stay in stays.values():
        beside = [s for s in stays.values() if s.start <= stay.start < s.end]
        assert len(beside) <= made.slots
    assert max(s.end for s in stays.values()) >= lower_bound(made) * (1 - 1e-9)


@pytest.mark.parametrize("known", [True, False])
def test_a_wide_job_is_not_starved_by_a_stream_of_small_ones(known: bool) -> None:
    seconds = {f"small-{i}": 90.0 + i * 7 % 20 for i in range(600)} | {"first": 1.0, "wide": 50.0}

    def took(name: str) -> float | None:
        return seconds[name] if known else None

    steps = [step(n, "train", (), ONE, took=took(n)) for n in seconds if n != "wide"]
    steps.append(step("wide", "train", ("first",), GpuRequest(4), took=took("wide"), priority=1))
    made = run(steps, seconds, 4)
    first = made.stays["first"]
    # At most so many turns of the longest of the others, and one more for the machine to drain.
    assert made.stays["wide"].start - first.end <= 6 * 110
    assert max(stay.end for stay in made.stays.values()) > 10_000


def started(stays: Mapping[str, Stay]) -> list[str]:
    return sorted(stays, key=lambda name: stays[name].start)


def test_the_longest_chain_goes_first_by_history() -> None:
    seconds = {"a": 10.0, "b": 40.0, "head": 5.0, "tail": 60.0}
    steps = [
        step(name, "train", ("head",) if name == "tail" else (), ONE, took=took)
        for name, took in seconds.items()
    ]
    assert started(run(steps, seconds, 1).stays) == ["head", "tail", "b", "a"]


def test_a_gpu_goes_to_the_next_of_a_long_chain_not_to_what_is_ready_a_moment_sooner() -> None:
    seconds = {"head": 5.0, "tail": 600.0, "short-1": 10.0, "short-2": 10.0}
    steps = [step(name, "evaluate", ("head",) if name == "tail" else (), ONE) for name in seconds]
    assert run(steps, seconds, 1).stays["tail"].start == 5.0


def test_who_has_a_choice_leaves_alone_a_gpu_that_others_name() -> None:
    seconds = {"any": 100.0, "named-1": 100.0, "named-2": 100.0}
    steps = [
        step("any", "train", (), ONE, priority=1),
        *(step(f"named-{i}", "train", (), GpuRequest(1, (0,))) for i in (1, 2)),
    ]
    made = run(steps, seconds, 2)
    assert made.stays["any"].gpus == (1,)
    assert max(stay.end for stay in made.stays.values()) == 200.0


def test_jobs_without_a_gpu_do_not_take_all_slots_of_those_with_one() -> None:
    seconds = {f"cpu-{i}": 1000.0 for i in range(8)}
    seconds |= {f"data-{i}": 1.0 for i in range(4)} | {f"train-{i}": 900.0 for i in range(4)}
    steps = [step(n, "shell", took=s) for n, s in seconds.items() if not n.startswith("train")]
    steps += [step(f"train-{i}", "train", (f"data-{i}",), ONE, took=900.0) for i in range(4)]
    made = run(steps, seconds, 4, slots=8)
    assert max(stay.end for stay in made.stays.values()) < 2000.0


def choose(made: VirtualRun, chosen: Chosen) -> None:
    """Instead of what the run would choose for itself."""
    made.loop._ordering.abandon()
    made.loop.handle(chosen)


def test_slots_are_kept_for_no_gpu_job_that_can_not_come_any_more() -> None:
    seconds = {f"cpu-{i}": 1000.0 for i in range(16)} | {f"data-{i}": 1.0 for i in range(4)}
    steps = [step(n, "shell", took=s, priority=n[0] == "d") for n, s in seconds.items()]
    steps += [step(f"train-{i}", "train", (f"data-{i}",), ONE, took=900.0) for i in range(4)]
    made = VirtualRun(steps, seconds, gpus=4, slots=8, failing=[f"data-{i}" for i in range(4)])
    choose(made, Chosen({}, slots_kept=4))
    stays = made.run()
    assert max(stay.end for stay in stays.values()) == 2001.0


def test_many_that_are_kept_back_for_a_wide_job_are_in_nobodys_way() -> None:
    seconds = {"b": 9000.0, "a": 100.0, "c": 100.0, "d": 100.0, "wide": 50.0, "named": 5.0}
    seconds |= {f"small-{i}": 20000.0 for i in range(60)}
    steps = [
        step(n, "train", (), GpuRequest(1, (gpu,)), took=seconds[n], priority=3)
        for gpu, n in enumerate("bacd")
    ]
    steps.append(step("wide", "train", (), GpuRequest(4), took=50.0, priority=2))
    for i in range(60):
        steps.append(step(f"small-{i}", "train", ("a",), ONE, took=20000.0, priority=1))
    steps.append(step("named", "train", ("a",), GpuRequest(1, (1,)), took=5.0))
    made = VirtualRun(steps, seconds, gpus=4, slots=64)
    choose(made, Chosen({}, reserves=True))
    stays = made.run()
    assert stays["named"].start == 100.0
    assert stays["wide"].start == 9000.0


def test_small_sets_of_every_family_come_near_the_bound() -> None:
    for made in generated(20):
        names = [str(number) for number in range(len(made.kinds))]
        steps = [
            step(n, kind, tuple(names[o] for o in needs), gpu, took=took)
            for n, kind, needs, gpu, took in zip(
                names, made.kinds, made.upstream, made.requests, made.seconds, strict=True
            )
        ]
        stays = run(steps, dict(zip(names, made.seconds, strict=True)), made.gpus, made.slots).stays
        assert max(s.end for s in stays.values()) <= 1.15 * lower_bound(made), made.name
