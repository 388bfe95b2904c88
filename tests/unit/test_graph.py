"""Order, cycles, closures and longest ways."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.graph import (
    ancestors,
    critical_path,
    descendants,
    find_cycle,
    remaining_path,
    topological_order,
    transitive_reduction,
)

DIAMOND = {"prep": (), "a": ("prep",), "b": ("prep",), "pack": ("a", "b", "prep")}


def test_an_order_that_is_valid_stays_as_it_is() -> None:
    names = ["z", "prep", "b", "a", "pack"]
    assert topological_order(names, DIAMOND) == names


def test_jobs_written_before_what_they_need_move_behind_it() -> None:
    names = ["pack", "b", "a", "prep", "other"]
    assert topological_order(names, DIAMOND) == ["prep", "b", "a", "pack", "other"]


def test_a_cycle_is_told_as_its_path() -> None:
    edges = {"x": (), "a": ("b",), "b": ("c", "x"), "c": ("a",), "after": ("a",)}
    names = ["after", "x", "a", "b", "c"]
    assert topological_order(names, edges) == ["x"]
    assert find_cycle(names, edges) == ["a", "b", "c", "a"]


def test_a_job_that_needs_itself_is_a_cycle() -> None:
    assert topological_order(["a"], {"a": ("a",)}) == []
    assert find_cycle(["a"], {"a": ("a",)}) == ["a", "a"]


def test_no_cycle_and_unknown_names() -> None:
    assert find_cycle(list(DIAMOND), DIAMOND) == []
    assert topological_order(["a"], {"a": ("nobody",)}) == ["a"]


def test_closures() -> None:
    assert ancestors(["pack"], DIAMOND) == {"prep", "a", "b"}
    assert ancestors(["prep"], DIAMOND) == set()
    assert descendants(["a"], DIAMOND) == {"pack"}
    assert descendants(["prep", "a"], DIAMOND) == {"b", "pack"}


def test_transitive_reduction_drops_only_what_a_longer_way_says() -> None:
    reduced = transitive_reduction(DIAMOND)
    assert reduced == {"prep": (), "a": ("prep",), "b": ("prep",), "pack": ("a", "b")}


def test_remaining_and_critical_path() -> None:
    seconds = {"prep": 1.0, "a": 5.0, "b": 20.0, "pack": 2.0}
    order = list(DIAMOND)
    remaining = remaining_path(order, DIAMOND, seconds)
    assert remaining == {"prep": 23.0, "a": 7.0, "b": 22.0, "pack": 2.0}
    assert critical_path(order, DIAMOND, seconds) == ["prep", "b", "pack"]
    assert critical_path([], {}, {}) == []


def test_a_long_chain_is_no_trouble() -> None:
    names = [f"j{i}" for i in range(100_000)]
    edges = {name: (names[i - 1],) if i else () for i, name in enumerate(names)}
    assert topological_order(names[::-1], edges) == names
    assert remaining_path(names, edges, dict.fromkeys(names, 1.0))["j0"] == 100_000


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    count = draw(st.integers(1, 12))
    edges = {
        f"j{i}": tuple(
            f"j{k}" for k in draw(st.sets(st.integers(0, max(0, i - 1)), max_size=4)) if k < i
        )
        for i in range(count)
    }
    return draw(st.permutations(list(edges))), edges


@given(graphs())
def test_everything_comes_after_what_it_needs(
    graph: tuple[list[str], dict[str, tuple[str, ...]]],
) -> None:
    names, edges = graph
    order = topological_order(names, edges)
    assert sorted(order) == sorted(names)
    place = {name: number for number, name in enumerate(order)}
    assert all(place[other] < place[name] for name in names for other in edges[name])
    reduced = transitive_reduction(edges)
    assert all(ancestors([name], reduced) == ancestors([name], edges) for name in names)


def test_ordering_does_not_import_networkx() -> None:
    code = (
        "import sys; from oumi_flow.graph import *; from oumi_flow import graph\n"
        "graph.topological_order(['a'], {}); graph.remaining_path(['a'], {}, {})\n"
        "graph.ancestors(['a'], {}); graph.critical_path(['a'], {}, {})\n"
        "raise SystemExit('networkx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
