"""The order of jobs: who is kept what, what playing through comes to, what is chosen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pytest

from oumi_flow.model import GpuRequest
from oumi_flow.schedule.choose import choose
from oumi_flow.schedule.line import Line, Rank, admit
from oumi_flow.schedule.machine import Hold, Machine
from oumi_flow.schedule.play import Play
from oumi_flow.schedule.rules import ORDERS, JobSet, ranks

ONE, TWO, FOUR = GpuRequest(1), GpuRequest(2), GpuRequest(4)
FIRST = GpuRequest(1, (0,))

Row = tuple[float, GpuRequest | None, Sequence[int]]


def jobs(*rows: Row, gpus: int = 4, slots: int = 16, priority: Sequence[int] = ()) -> JobSet:
    return JobSet(
        [seconds for seconds, _, _ in rows],
        [request for _, request, _ in rows],
        [list(needs) for _, _, needs in rows],
        list(priority) or [0] * len(rows),
        slots,
        dict.fromkeys(range(gpus), 1),
    )


def played(work: JobSet, order: str = "longest path", reserve: bool = False) -> list[float]:
    """When each job starts."""
    return Play(work, ranks(work, ORDERS[order](work)), reserve).run().starts


# -- tokens ---------------------------------------------------------------------------------------


def test_who_has_a_choice_leaves_alone_what_others_name() -> None:
    machine = Machine({0: 1, 1: 1, 2: 1}, named={0})
    machine.take(TWO)
    assert machine.fits(FIRST)
    assert not machine.fits(TWO)


def test_of_a_split_gpu_any_instance_will_do_and_a_lost_one_is_gone() -> None:
    machine = Machine({0: 2, 1: 1})
    held = machine.take(FIRST)
    assert machine.fits(FIRST)
    machine.lose(1)
    assert not machine.fits(TWO)
    machine.give_back(held)
    assert machine.fits(TWO)
    machine.lose(0)
    machine.give_back(held)
    assert not machine.fits(ONE)


def test_what_ends_before_a_wide_job_can_start_may_pass_it() -> None:
    machine = Machine(dict.fromkeys(range(4), 1))
    ends = [(0.0, 100.0, machine.take(TWO))]
    hold = Hold(machine, FOUR, 0.0, ends)
    assert hold.until == 100.0
    assert hold.lets_pass(ONE, 100.0)
    assert not hold.lets_pass(ONE, 101.0)


def test_one_that_leaves_enough_for_a_wide_job_may_pass_it_but_no_second_one() -> None:
    machine = Machine(dict.fromkeys(range(4), 1))
    ends = [(0.0, 100.0, machine.take(TWO))]
    machine.take(ONE)  # ends who knows when
    hold = Hold(machine, TWO, 0.0, ends)
    assert hold.lets_pass(ONE, 500.0)
    hold.passed(hold.overlap(ONE), 500.0)
    assert not hold.lets_pass(ONE, 500.0)


def test_while_the_machine_drains_only_those_pass_that_take_nothing_of_it() -> None:
    machine = Machine(dict.fromkeys(range(4), 1))
    drain = Hold(machine, GpuRequest(2, (0, 1)))
    assert not drain.lets_pass(FIRST, 1.0)
    assert drain.lets_pass(GpuRequest(1, (2,)), 1.0)
    assert drain.lets_pass(TWO, 1.0)
    machine.occupy([2, 3])
    assert not drain.lets_pass(ONE, 1.0)


def test_who_takes_nothing_that_is_kept_takes_nothing_of_what_is_spare() -> None:
    machine = Machine(dict.fromkeys(range(5), 1), named={0, 1})
    machine.occupy([0])
    line: Line[str] = Line()
    for place, (job, request) in enumerate(
        [("wide", GpuRequest(2, (0, 1))), ("two", TWO), ("one", ONE)]
    ):
        line.push(job, (0, 0.0, place), request)
    desk = PlainDesk(machine, lambda request: Hold(machine, request))
    assert [job for job, _ in admit(line, desk)] == ["two", "one"]
    assert machine.free == machine.tokens(1)


def test_of_a_split_gpu_that_is_kept_one_who_names_it_takes_an_instance() -> None:
    machine = Machine({0: 7})
    ends = [(0.0, 100.0, machine.take(FOUR))]
    hold = Hold(machine, FOUR, 0.0, ends)
    assert hold.lets_pass(FIRST, 500.0)


class PlainDesk:
    """Enough slots; tokens of a machine; every job is expected to run for long."""

    def __init__(self, machine: Machine, hold: Callable[[GpuRequest], Hold]) -> None:
        self._machine, self.hold = machine, hold

    def has_slot(self) -> bool:
        return True

    def keeps_slots(self) -> bool:
        return False

    def waits(self, job: str, rank: Rank, request: GpuRequest | None) -> bool:
        return False

    def take(self, job: str, request: GpuRequest, before: Collection[GpuRequest]) -> int | None:
        return self._machine.take(request) if self._machine.fits(request) else None

    def seconds(self, job: str) -> float:
        return 1000.0


# -- playing through ------------------------------------------------------------------------------


def test_the_longest_way_goes_first_and_a_priority_before_it() -> None:
    work = jobs((5, ONE, ()), (1, ONE, ()), (50, ONE, (1,)), gpus=1)
    assert played(work) == [51.0, 0.0, 1.0]
    assert played(jobs((5, ONE, ()), (9, ONE, ()), gpus=1, priority=(1, 0))) == [0.0, 5.0]


def test_a_job_without_gpu_does_not_wait_for_one_and_slots_are_kept_to() -> None:
    work = jobs((9, ONE, ()), (8, ONE, ()), (1, None, ()), gpus=1, slots=2)
    assert played(work) == [0.0, 9.0, 0.0]
    assert played(jobs((9, None, ()), (8, None, ()), slots=1)) == [0.0, 9.0]


def test_with_a_reservation_short_jobs_fill_the_gap_before_a_wide_one_and_long_ones_wait() -> None:
    rows: list[Row] = [(10, GpuRequest(3), ()), (30, FOUR, ()), (10, ONE, ()), (20, ONE, ())]
    work = jobs(*rows, priority=(1, 0, 0, 0))
    assert played(work, reserve=True) == [0.0, 10.0, 0.0, 40.0]
    assert played(work) == [0.0, 20.0, 10.0, 0.0]


def test_jobs_that_run_already_are_let_be() -> None:
    work = jobs((10, ONE, ()), (20, ONE, ()), gpus=1)
    order = ranks(work, ORDERS["longest path"](work))
    assert Play(work, order, begun={0: (0,)}).run().starts == [0.0, 10.0]


# -- choosing -------------------------------------------------------------------------------------


def test_the_order_chosen_is_never_worse_than_the_longest_way() -> None:
    # On two GPUs 3 + 3 and 2 + 2 + 2: longest first makes 7 of it.
    work = jobs(*((s, ONE, ()) for s in (3.0, 3.0, 2.0, 2.0, 2.0)), gpus=2)
    assert Play(work, ranks(work, ORDERS["longest path"](work))).run().seconds == 7.0
    found = choose(work)
    assert found is not None
    assert found.seconds == 6.0


def test_a_reservation_is_chosen_where_it_pays_and_times_are_trusted() -> None:
    rows: list[Row] = [(40, ONE, ()), (20, FOUR, (0,)), (40, ONE, (1,)), (50, ONE, ())]
    rows += [(50, ONE, (2,)), (30, GpuRequest(3), ()), (20, ONE, ())]
    found = choose(jobs(*rows))
    guessed = choose(jobs(*rows), trusted=False)
    assert found is not None
    assert guessed is not None
    assert not guessed.reserve
    assert found.reserve
    assert found.seconds < guessed.seconds


def test_the_same_jobs_get_the_same_order_and_no_time_means_no_choice() -> None:
    work = jobs(*((float(s % 7 + 1), ONE, ()) for s in range(40)), gpus=3)
    assert choose(work) == choose(work)
    assert choose(work, starts=79) is None


def test_choosing_ends_when_it_is_told_to() -> None:
    asked: list[int] = []
    work = jobs(*((float(s % 7 + 1), ONE, ()) for s in range(40)), gpus=3)

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 1

    found = choose(work, stop=stop)
    assert found is not None
    assert found.ranks == ranks(work, ORDERS["longest path"](work))


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_no_rule_lets_a_job_start_before_what_it_needs(order: str) -> None:
    work = jobs((3, TWO, ()), (4, ONE, (0,)), (5, FIRST, (0,)), (1, FOUR, (1, 2)), (2, None, (3,)))
    starts = played(work, order)
    for job, needs in enumerate(work.upstream):
        assert all(starts[job] >= starts[other] + work.seconds[other] for other in needs)
