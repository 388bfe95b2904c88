"""The best makespan of small sets by a solver (`pip install ortools`), to check the bound with."""

from __future__ import annotations

from collections.abc import Iterable

from scheduling.bounds import lower_bound
from scheduling.job_sets import Set

_MOST_JOBS = 60
_TICKS = 100  # a second, as durations are rounded


def check(sets: Iterable[Set], seconds: float) -> None:
    """Print bound and optimum of each small set; ends in an error where the bound is too high."""
    gaps: list[float] = []
    for made in sets:
        if len(made.kinds) > _MOST_JOBS:
            continue
        best, proven = solve(made, seconds)
        bound = lower_bound(made)
        words = "optimum" if best <= proven else f"best found, at least {proven:.2f}"
        print(f"{made.name:44} bound {bound:10.2f}  {best:10.2f}  {best / bound:.4f}  {words}")
        assert bound <= best * (1 + 1e-6), f"{made.name}: the bound is above a schedule"
        if best <= proven:
            gaps.append(best / bound)
    if gaps:
        mean = sum(gaps) / len(gaps)
        print(f"{len(gaps)} proven: optimum / bound {mean:.4f} mean, {max(gaps):.4f} worst")


def solve(made: Set, seconds: float) -> tuple[float, float]:
    """(makespan of the best schedule found, what none can beat) after so many seconds."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    took = [round(s * _TICKS) for s in made.seconds]
    horizon = sum(took)
    begins = [model.new_int_var(0, horizon, "") for _ in took]
    stays = [
        model.new_fixed_size_interval_var(begin, size, "")
        for begin, size in zip(begins, took, strict=True)
    ]
    for job, needs in enumerate(made.upstream):
        for other in needs:
            model.add(begins[job] >= begins[other] + took[other])
    model.add_cumulative(stays, [1] * len(stays), made.slots)
    users = [job for job, request in enumerate(made.requests) if request]
    widths = [request.count for request in made.requests if request]
    model.add_cumulative([stays[job] for job in users], widths, made.gpus)
    for gpu in range(made.gpus):
        named = [job for job in users if (of := made.requests[job]) and gpu in of.devices]
        model.add_no_overlap([stays[job] for job in named])
    end = model.new_int_var(0, horizon, "")
    model.add_max_equality(end, [b + size for b, size in zip(begins, took, strict=True)])
    model.minimize(end)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 2
    solver.solve(model)
    return solver.objective_value / _TICKS, solver.best_objective_bound / _TICKS
