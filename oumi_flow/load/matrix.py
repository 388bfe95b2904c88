"""Combinations of a job's `matrix`, with `include` and `exclude` as GitHub Actions has them.

https://docs.github.com/en/actions/how-tos/write-workflows/choose-what-workflows-do/run-job-variations
Knows nothing of jobs.
"""

from __future__ import annotations

from itertools import product
from math import prod

from oumi_flow.errors import Problem
from oumi_flow.load.yaml_source import Node
from oumi_flow.text import did_you_mean
from oumi_flow.typed import Any

MAX_COMBINATIONS = 100_000

Combination = dict[str, Node]


def combinations(matrix: Node, problems: list[Problem]) -> list[Combination]:
    """One mapping of key to node a job, the last key varying fastest.

    `exclude` comes first, then each entry of `include` in turn: it is added to every original
    combination of which it would overwrite no value, or becomes one itself if there is none.
    """
    axes = {key: node for key, node in matrix.value.items() if key not in ("include", "exclude")}
    size = prod(len(node.value) for node in axes.values())
    if size > MAX_COMBINATIONS:
        problems.append(
            matrix.problem(f"matrix: expected at most {MAX_COMBINATIONS} combinations, got {size}")
        )
        return []
    original: list[Combination] = []
    if axes:
        values = product(*(node.value for node in axes.values()))
        original = [dict(zip(axes, each, strict=True)) for each in values]
    for entry in _entries(matrix, "exclude"):
        _check_keys(entry, axes, problems)
        wanted = _values(entry.value)
        original = [each for each in original if not _fits(each, wanted)]
    added: list[Combination] = []
    extended: list[Combination] = [dict(each) for each in original]
    for entry in _entries(matrix, "include"):
        wanted = _values({key: node for key, node in entry.value.items() if key in axes})
        extra = {key: node for key, node in entry.value.items() if key not in axes}
        fitting = [
            into for each, into in zip(original, extended, strict=True) if _fits(each, wanted)
        ]
        for into in fitting:
            into.update(extra)
        if not fitting:
            added.append(dict(entry.value))
    if not extended and not added:
        problems.append(matrix.problem("matrix: no combination is left", "see its `exclude`"))
    return extended + added


def _entries(matrix: Node, key: str) -> list[Node]:
    node: Node | None = matrix.value.get(key)
    return node.value if node is not None else []


def _check_keys(entry: Node, axes: dict[str, Node], problems: list[Problem]) -> None:
    for key in entry.value:
        if key not in axes:
            hint = did_you_mean(key, axes) or f"keys of the matrix: {', '.join(axes) or 'none'}"
            where = entry.key_where(key)
            problems.append(Problem(f'matrix.exclude: no key "{key}" in the matrix', where, hint))


def _values(entry: dict[str, Node]) -> dict[str, Any]:
    return {key: _comparable(node.plain()) for key, node in entry.items()}


def _fits(combination: Combination, wanted: dict[str, Any]) -> bool:
    return all(
        key in combination and _comparable(combination[key].plain()) == value
        for key, value in wanted.items()
    )


def _comparable(value: Any) -> Any:
    """`1` and `1.0` are equal, `true` and `1` are not."""
    if isinstance(value, dict):
        return {key: _comparable(each) for key, each in value.items()}
    return (isinstance(value, bool), value)
