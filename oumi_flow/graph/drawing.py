"""A graph of jobs as DOT and as Mermaid text.

What a longer way says already is not drawn, and the jobs of a sweep are drawn as a family: in a
box of their own, or as one node where there are many jobs. Knows names, verbs and words for
states; runs no program.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from oumi_flow.dataclass import dataclass
from oumi_flow.graph import topological_order, transitive_reduction

FOLD_ABOVE = 24  # jobs; more of them and families become one node each
_FAMILY = 3  # jobs that make a family
_TOLD = 12  # members or reasons in a tooltip

# state -> fill, border. Light fills with dark text read on light and dark pages.
_COLORS: Mapping[str, tuple[str, str]] = {
    "failed": ("#fee2e2", "#dc2626"),
    "interrupted": ("#ffedd5", "#ea580c"),
    "cancelled": ("#ffedd5", "#ea580c"),
    "blocked": ("#ffedd5", "#ea580c"),
    "running": ("#cffafe", "#0891b2"),
    "retrying": ("#fef3c7", "#d97706"),
    "will run": ("#dbeafe", "#2563eb"),
    "waiting": ("#dbeafe", "#2563eb"),
    "queued": ("#dbeafe", "#2563eb"),
    "may run": ("#fef9c3", "#ca8a04"),
    "done": ("#dcfce7", "#16a34a"),
    "restored": ("#dcfce7", "#16a34a"),
    "up to date": ("#f3f4f6", "#9ca3af"),
    "": ("#ffffff", "#6b7280"),
}
_TEXT, _EDGE = "#111827", "#6b7280"


@dataclass(frozen=True, slots=True)
class Node:
    """A job to draw. `state` is a word of a plan or a JobState; "" draws it without colour."""

    name: str
    verb: str = ""
    state: str = ""
    reason: str = ""
    upstream: tuple[str, ...] = ()
    implied: tuple[str, ...] = ()  # those of `upstream` that only a path in a config says


@dataclass(frozen=True, slots=True)
class _Family:
    """Jobs of one sweep: `train-*`."""

    name: str
    members: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """What becomes one node of the picture: a job, or a folded family of them."""

    label: str
    verb: str
    state: str
    tip: str
    family: str = ""  # the box it stands in; "" for none


@dataclass(frozen=True, slots=True)
class Picture:
    shapes: Mapping[str, Shape]  # by id: n0, n1 …
    edges: tuple[tuple[str, str, bool], ...]  # from, to, implied
    boxes: Mapping[str, str]  # id -> label
    home: Mapping[str, str]  # job -> id of what it is drawn as


def to_dot(nodes: Sequence[Node], *, title: str = "", every: bool = False) -> str:
    """DOT text. `every`: each job is a node, however many there are."""
    drawn = picture(nodes, every)
    lines = [
        "digraph workflow {",
        "  rankdir=LR; bgcolor=transparent; nodesep=0.25; ranksep=0.6;",
        f'  fontname="Helvetica"; fontsize=14; fontcolor="{_EDGE}";',
        '  node [shape=box, style="rounded,filled", margin="0.16,0.08", penwidth=1.2];',
        f'  node [fontname="Helvetica", fontsize=12, fontcolor="{_TEXT}"];',
        f'  edge [color="{_EDGE}", arrowsize=0.7];',
    ]
    if title:
        lines.append(f"  label={_dot(title)}; labelloc=t;")
    for box, members in _by_box(drawn):
        indent = "  "
        if box:
            lines.append(f"  subgraph cluster_{box} {{")
            lines.append(
                f"    label={_dot(drawn.boxes[box])}; style=rounded; "
                'color="#d1d5db"; fontsize=11; margin=10;'
            )
            indent = "    "
        for key in members:
            lines.append(f"{indent}{key} [{_dot_node(drawn.shapes[key])}];")
        if box:
            lines.append("  }")
    for start, end, implied in drawn.edges:
        lines.append(f"  {start} -> {end}{' [style=dashed]' if implied else ''};")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_node(shape: Shape) -> str:
    fill, border = _COLORS.get(shape.state, _COLORS[""])
    label = _dot(shape.label, *([shape.verb] if shape.verb else []))
    style = ', style="rounded,filled,dashed"' if shape.state == "may run" else ""
    return f'label={label}, tooltip={_dot(shape.tip)}, fillcolor="{fill}", color="{border}"{style}'


def _dot(*lines: str) -> str:
    """A quoted string. Backslashes are doubled: in labels `\\N` and the like would be expanded."""
    text = "\\n".join(
        _harmless(part).replace("\\", "\\\\").replace('"', '\\"')
        for line in lines
        for part in line.split("\n")
    )
    return f'"{text}"'


def to_mermaid(nodes: Sequence[Node], *, every: bool = False) -> str:
    """Mermaid text, a flowchart. `every`: each job is a node, however many there are."""
    drawn = picture(nodes, every)
    lines = ["flowchart LR"]
    for box, members in _by_box(drawn):
        indent = "  "
        if box:
            lines.append(f'  subgraph {box}["{_mermaid(drawn.boxes[box])}"]')
            indent = "    "
        for key in members:
            shape = drawn.shapes[key]
            words = [_mermaid(line) for line in shape.verb.split("\n") if line]
            verb = "".join(f"<br/><small>{line}</small>" for line in words)
            style = f":::{_class(shape.state)}" if shape.state in _COLORS and shape.state else ""
            lines.append(f'{indent}{key}["{_mermaid(shape.label)}{verb}"]{style}')
        if box:
            lines.append("  end")
    for start, end, implied in drawn.edges:
        lines.append(f"  {start} {'-.->' if implied else '-->'} {end}")
    for key, shape in drawn.shapes.items():
        tip = _mermaid(shape.tip.replace("\n", "; "))
        if tip:
            # Mermaid has tooltips on links only.
            lines.append(f'  click {key} href "#" "{tip}"')
    for state in dict.fromkeys(shape.state for shape in drawn.shapes.values()):
        if state in _COLORS and state:
            fill, border = _COLORS[state]
            dashes = ",stroke-dasharray:4 3" if state == "may run" else ""
            lines.append(
                f"  classDef {_class(state)} fill:{fill},stroke:{border},color:{_TEXT}{dashes};"
            )
    return "\n".join(lines) + "\n"


def _class(state: str) -> str:
    return state.replace(" ", "_")


def _mermaid(text: str) -> str:
    """Entity codes for everything that Mermaid, Markdown or HTML would read as its own."""
    return re.sub(r"[^\w\s./+=,:()*→…-]", lambda found: f"#{ord(found[0])};", _harmless(text))


def _harmless(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


# -- what is drawn ------------------------------------------------------------------------


def picture(nodes: Sequence[Node], every: bool) -> Picture:
    """What is drawn of these jobs; `every`: each as a node, however many there are."""
    families = _families(nodes)
    fold = len(nodes) > FOLD_ABOVE and not every
    home: dict[str, str] = {}  # job -> id of what it is drawn as
    shapes: dict[str, Shape] = {}
    boxes: dict[str, str] = {}  # label -> id
    for node in nodes:
        family = families.get(node.name)
        key = f"n{len(shapes)}"
        if family is None or not fold:
            box = boxes.setdefault(family.name, f"f{len(boxes)}") if family else ""
            shapes[key] = Shape(node.name, node.verb, node.state, node.reason or node.state, box)
            home[node.name] = key
        elif node.name not in home:
            shapes[key] = _folded(family)
            home.update((member.name, key) for member in family.members)
    return Picture(
        shapes,
        _edges(nodes, home, list(shapes)),
        {box: label for label, box in boxes.items()},
        home,
    )


def _edges(
    nodes: Iterable[Node], home: Mapping[str, str], keys: Sequence[str]
) -> tuple[tuple[str, str, bool], ...]:
    declared: dict[tuple[str, str], bool] = {}
    for node in nodes:
        for name in node.upstream:
            start, end = home.get(name), home[node.name]
            if start is not None and start != end:
                edge = (start, end)
                declared[edge] = declared.get(edge, False) or name not in node.implied
    upstream: dict[str, list[str]] = {key: [] for key in keys}
    for start, end in declared:
        upstream[end].append(start)
    reduced = transitive_reduction(upstream)
    return tuple((start, end, not declared[start, end]) for end in keys for start in reduced[end])


def _families(nodes: Sequence[Node]) -> dict[str, _Family]:
    """Each job of a sweep -> all jobs of that sweep.

    Only jobs at the same depth are one family: no way leads from one of them to another, so
    folding makes no loop.
    """
    depth: dict[str, int] = {}
    by_name = {node.name: node for node in nodes}
    for name in topological_order(list(by_name), {n: node.upstream for n, node in by_name.items()}):
        depth[name] = 1 + max((depth.get(up, -1) for up in by_name[name].upstream), default=-1)
    groups: dict[tuple[str, str, int], list[Node]] = {}
    for node in nodes:
        stem = _stem(node.name)
        if stem:
            groups.setdefault((stem, node.verb, depth.get(node.name, 0)), []).append(node)
    families = (
        _Family(_family_name([node.name for node in group]), tuple(group))
        for group in groups.values()
        if len(group) >= _FAMILY
    )
    return {node.name: family for family in families for node in family.members}


def _stem(name: str) -> str:
    """The first word of a name, with its folder: `nightly/eval-a` gives `nightly/eval`."""
    folder, slash, base = name.rpartition("/")
    found = re.match(r"[^\W\d_]+", base)
    return folder + slash + found[0] if found else ""


def _family_name(names: Sequence[str]) -> str:
    """`train-*`, or `eval-small-*` where all members say that much."""
    # What the first and the last in order have in common, all between them have.
    first, last = min(names), max(names)
    pairs = enumerate(zip(first, last, strict=False))
    start = first[: next((place for place, (a, b) in pairs if a != b), len(first))]
    cut = max(start.rfind(mark) for mark in "-_./ @=+,")
    # Not in the midst of a word or number: `train-1` of `train-1e-4` and `train-1e-5` is none.
    stem = _stem(first)
    return (start[: cut + 1] if cut >= len(stem) else stem) + "*"


def _folded(family: _Family) -> Shape:
    members = family.members
    states = Counter(node.state for node in members)
    # The order of the colours is the order of urgency.
    urgency = list(_COLORS)
    state = min(states, key=lambda word: urgency.index(word) if word in urgency else 99)
    verb = members[0].verb
    if len(states) > 1:
        verb += "\n" + ", ".join(f"{number} {word}" for word, number in states.items() if word)
    lines = [f"{node.name}: {node.reason or node.state}" for node in members[:_TOLD]]
    if len(members) > _TOLD:
        lines.append(f"… and {len(members) - _TOLD} more")
    return Shape(f"{family.name} ({len(members)})", verb, state, "\n".join(lines))


def _by_box(drawn: Picture) -> Iterator[tuple[str, list[str]]]:
    members: dict[str, list[str]] = {}
    for key, shape in drawn.shapes.items():
        members.setdefault(shape.family, []).append(key)
    yield from members.items()
