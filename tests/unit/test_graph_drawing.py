"""DOT and Mermaid: what is drawn, what is folded, and names that try to get out of their quotes."""

from __future__ import annotations

import re
import shutil
import subprocess

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.graph import transitive_reduction
from oumi_flow.graph.drawing import Node, to_dot, to_mermaid


def sweep(size: int) -> list[Node]:
    rates = [f"{i}e-4" for i in range(1, size + 1)]
    pairs = [(r, f"train-{r}") for r in rates]
    return [
        Node("prep", "synth", "up to date", "up to date (made 2026-01-03 11:20)"),
        *(Node(f"train-{r}", "train", "will run", f"lr: {r}", ("prep",)) for r in rates),
        *(Node(f"eval-{r}", "evaluate", "may run", "waits", ("prep", t), (t,)) for r, t in pairs),
        Node("pack", "shell", "failed", "exit 1", ("prep", *(f"eval-{r}" for r in rates))),
    ]


def edges(dot: str) -> list[tuple[str, str, str]]:
    """The edges by the names on their ends, and how they are drawn."""
    names = dict(re.findall(r'(n\d+) \[label="((?:[^"\\]|\\.)*?)(?:\\n|")', dot))
    return [
        (names[a], names[b], style)
        for a, b, style in re.findall(r"(n\d+) -> (n\d+)(?: \[style=(\w+)\])?;", dot)
    ]


def test_a_small_sweep_is_drawn_job_by_job_in_boxes() -> None:
    dot = to_dot(sweep(3), title="demo")
    assert edges(dot) == [
        ("prep", "train-1e-4", ""),
        ("prep", "train-2e-4", ""),
        ("prep", "train-3e-4", ""),
        ("train-1e-4", "eval-1e-4", "dashed"),  # implied; prep -> eval is said by the longer way
        ("train-2e-4", "eval-2e-4", "dashed"),
        ("train-3e-4", "eval-3e-4", "dashed"),
        ("eval-1e-4", "pack", ""),
        ("eval-2e-4", "pack", ""),
        ("eval-3e-4", "pack", ""),
    ]
    assert re.findall(r'subgraph cluster_f\d+ \{\n    label="([^"]*)"', dot) == [
        "train-*",
        "eval-*",
    ]
    assert 'label="demo"' in dot


def test_state_colours_and_reason_is_the_tooltip() -> None:
    dot = to_dot(sweep(1))
    pack = next(line for line in dot.splitlines() if '"pack' in line)
    assert 'label="pack\\nshell"' in pack
    assert 'tooltip="exit 1"' in pack
    assert "#dc2626" in pack
    assert "#dc2626" not in dot.replace(pack, "")


def test_a_large_sweep_folds_to_a_node_a_family() -> None:
    dot = to_dot(sweep(40))
    assert edges(dot) == [
        ("prep", "train-* (40)", ""),
        ("train-* (40)", "eval-* (40)", "dashed"),
        ("eval-* (40)", "pack", ""),
    ]
    assert "train-1e-4: lr: 1e-4\\ntrain-2e-4" in dot
    assert "… and 28 more" in dot
    assert len(edges(to_dot(sweep(40), every=True))) == 120


def test_a_folded_family_shows_its_most_urgent_state_and_counts() -> None:
    states = ["done"] * 20 + ["running"] * 9 + ["failed"]
    dot = to_dot([Node(f"train-{i}", "train", state) for i, state in enumerate(states)])
    assert "train-* (30)\\ntrain\\n20 done, 9 running, 1 failed" in dot
    assert "#dc2626" in dot


def test_a_chain_of_like_names_is_no_family() -> None:
    chain = [Node(f"step-{i}", "train", "", "", (f"step-{i - 1}",) if i else ()) for i in range(30)]
    assert len(edges(to_dot(chain))) == 29


def test_families_say_as_much_of_the_name_as_they_share() -> None:
    nodes = [Node(f"eval-small-{i}", "evaluate") for i in (10, 11, 12)]
    nodes += [Node(f"nightly/eval-{i}", "evaluate") for i in range(3)]
    labels = re.findall(r'f\d+ \{\n    label="([^"]*)"', to_dot(nodes))
    assert labels == ["eval-small-*", "nightly/eval-*"]


EVIL = 'a"]; x -> y; b="\\N\\" <b>&amp; `c` {d} #35; \n\x1b[31m'


def test_mermaid() -> None:
    text = to_mermaid(sweep(1))
    assert text == (
        "flowchart LR\n"
        '  n0["prep<br/><small>synth</small>"]:::up_to_date\n'
        '  n1["train-1e-4<br/><small>train</small>"]:::will_run\n'
        '  n2["eval-1e-4<br/><small>evaluate</small>"]:::may_run\n'
        '  n3["pack<br/><small>shell</small>"]:::failed\n'
        "  n0 --> n1\n"
        "  n1 -.-> n2\n"
        "  n2 --> n3\n"
        '  click n0 href "#" "up to date (made 2026-01-03 11:20)"\n'
        '  click n1 href "#" "lr: 1e-4"\n'
        '  click n2 href "#" "waits"\n'
        '  click n3 href "#" "exit 1"\n'
        "  classDef up_to_date fill:#f3f4f6,stroke:#9ca3af,color:#111827;\n"
        "  classDef will_run fill:#dbeafe,stroke:#2563eb,color:#111827;\n"
        "  classDef may_run fill:#fef9c3,stroke:#ca8a04,color:#111827,stroke-dasharray:4 3;\n"
        "  classDef failed fill:#fee2e2,stroke:#dc2626,color:#111827;\n"
    )
    assert 'subgraph f0["train-*"]' in to_mermaid(sweep(3))
    assert "train-* (40)" in to_mermaid(sweep(40))


def test_nothing_gets_out_of_its_quotes() -> None:
    nodes = [Node(EVIL, EVIL, "failed", EVIL), Node("b", "shell", "", "", (EVIL,))]
    dot = to_dot(nodes, title=EVIL)
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", dot)
    assert "x -> y" not in outside
    assert "\x1b" not in dot
    mermaid = to_mermaid(nodes)
    for line in mermaid.splitlines():
        if line.strip().startswith("n0["):
            inner = line[line.index('"') + 1 : line.rindex('"')]
            # What Mermaid, Markdown or HTML would act on is written as its code.
            bare = re.sub(r"#\d+;|</?small>|<br/>", "", inner)
            assert not set(bare) & set('"`<>&{}[];#\\')
            break
    else:
        pytest.fail("the node is not there")


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
@pytest.mark.parametrize("nodes", [[], sweep(3), sweep(40), [Node(EVIL, EVIL, "x", EVIL)]])
def test_graphviz_takes_it(nodes: list[Node]) -> None:
    done = subprocess.run(
        ["dot", "-Tsvg"],
        input=to_dot(nodes, title=EVIL),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "<svg" in done.stdout
    assert "syntax" not in done.stderr.lower()


def test_no_jobs() -> None:
    assert to_dot([]).startswith("digraph")
    assert to_mermaid([]) == "flowchart LR\n"


@given(
    st.integers(1, 9).flatmap(lambda n: st.lists(st.tuples(st.integers(0, n), st.integers(0, n))))
)
def test_the_reduction_is_that_of_networkx(pairs: list[tuple[int, int]]) -> None:
    upstream: dict[str, list[str]] = {f"j{i}": [] for i in range(10)}
    for a, b in pairs:
        if a != b:
            upstream[f"j{max(a, b)}"].append(f"j{min(a, b)}")
    graph = nx.DiGraph([(a, b) for a, needs in upstream.items() for b in needs])
    wanted = set(nx.transitive_reduction(graph).edges)
    assert {(a, b) for a, needs in transitive_reduction(upstream).items() for b in needs} == wanted
