"""A graph of jobs laid out on character cells: columns from left to right, edges as lines.

Pure. Knows names, labels and edges; not what a state is, nor how a cell is coloured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from oumi_flow.dataclass import dataclass, field
from oumi_flow.graph import topological_order
from oumi_flow.ui import cells

_PASSES = 4  # over all columns, to bring those that belong together near each other
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES = {
    _LEFT: "─",
    _RIGHT: "─",
    _LEFT | _RIGHT: "─",
    _UP: "│",
    _DOWN: "│",
    _UP | _DOWN: "│",
    _DOWN | _RIGHT: "╭",
    _DOWN | _LEFT: "╮",
    _UP | _RIGHT: "╰",
    _UP | _LEFT: "╯",
    _UP | _DOWN | _RIGHT: "├",
    _UP | _DOWN | _LEFT: "┤",
    _DOWN | _LEFT | _RIGHT: "┬",
    _UP | _LEFT | _RIGHT: "┴",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
}
_ASCII = {
    bits: "-" if char == "─" else "|" if char == "│" else "+" for bits, char in _LINES.items()
}


@dataclass(slots=True)
class Drawn:
    """`places`: node -> (column of cells, row); `lines`: (column, row) -> (bits, marked)."""

    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    lines: dict[tuple[int, int], tuple[int, bool]] = field(default_factory=dict)
    columns: list[list[str]] = field(default_factory=list)  # nodes, from top to bottom
    width: int = 0
    height: int = 0


def line_char(bits: int, unicode: bool) -> str:
    return (_LINES if unicode else _ASCII).get(bits, " ")


@dataclass(slots=True)
class _Spot:
    """A node in its column, or a place where an edge passes through the column."""

    key: str  # "" where an edge passes
    row: int = 0
    before: list[_Spot] = field(default_factory=list)
    after: list[_Spot] = field(default_factory=list)
    marked: set[int] = field(default_factory=set)  # ids of spots after it on the marked way


def lay_out(
    labels: Mapping[str, str],
    edges: Iterable[tuple[str, str]],
    marked: Sequence[str] = (),
) -> Drawn:
    """`labels`: what stands at each node, two cells of a glyph before it not counted.

    `marked` is a way through the graph whose edges are marked.
    """
    edges = [(start, end) for start, end in edges if start in labels and end in labels]
    needs: dict[str, list[str]] = {key: [] for key in labels}
    for start, end in edges:
        needs[end].append(start)
    depth: dict[str, int] = {}
    for key in topological_order(list(labels), needs):
        depth[key] = 1 + max((depth[up] for up in needs[key]), default=-1)
    way = set(pairwise(marked))
    columns = _spots(depth, edges, way)
    _order(columns)
    _rows(columns)
    return _draw(columns, labels)


def _spots(
    depth: Mapping[str, int], edges: Iterable[tuple[str, str]], way: set[tuple[str, str]]
) -> list[list[_Spot]]:
    columns: list[list[_Spot]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    spots = {}
    for key, column in depth.items():
        spots[key] = _Spot(key)
        columns[column].append(spots[key])
    for start, end in edges:
        here = spots[start]
        for column in range(depth[start] + 1, depth[end] + 1):
            there = spots[end] if column == depth[end] else _Spot("")
            if there.key == "":
                columns[column].append(there)
            here.after.append(there)
            there.before.append(here)
            if (start, end) in way:
                here.marked.add(id(there))
            here = there
    return columns


def _order(columns: list[list[_Spot]]) -> None:
    """Spots near those that they hang on, which leaves few lines to cross."""
    for turn in range(_PASSES):
        forward = turn % 2 == 0
        for column in columns if forward else reversed(columns):
            for place, spot in enumerate(column):
                spot.row = place
        walk = columns[1:] if forward else columns[-2::-1]
        for column in walk:
            places = {id(spot): n for n, spot in enumerate(column)}

            def middle(
                spot: _Spot, forward: bool = forward, places: dict[int, int] = places
            ) -> float:
                near = spot.before if forward else spot.after
                if not near:
                    return float(places[id(spot)])
                return sum(one.row for one in near) / len(near)

            column.sort(key=middle)
            for place, spot in enumerate(column):
                spot.row = place


def _rows(columns: list[list[_Spot]]) -> None:
    """Rows for all spots: two apart, and as level with what they hang on as there is room."""
    for column in columns:
        row = 0
        for spot in column:
            if spot.before:
                near = sorted(one.row for one in spot.before)
                row = max(row, near[(len(near) - 1) // 2])
            spot.row = row
            row += 2 if spot.key else 1
    for column in reversed(columns[:-1]):
        # Back again, for those that could stand lower: beside the first of what needs them.
        limit = 1 << 30
        for spot in reversed(column):
            if spot.after:
                wanted = min(one.row for one in spot.after)
                if spot.row < wanted:
                    spot.row = min(wanted, limit)
            limit = spot.row - (2 if spot.key else 1)


def _draw(columns: list[list[_Spot]], labels: Mapping[str, str]) -> Drawn:
    drawn = Drawn()
    left = 0
    for number, column in enumerate(columns):
        width = max((cells.width(labels[spot.key]) + 2 for spot in column if spot.key), default=0)
        keys = []
        for spot in column:
            if spot.key:
                drawn.places[spot.key] = (left, spot.row)
                keys.append(spot.key)
        drawn.columns.append(keys)
        drawn.height = max([drawn.height, *(spot.row + 1 for spot in column)])
        right = left + width
        if number + 1 == len(columns):
            drawn.width = right
            break
        channels = _channels(column)
        for spot in column:
            own = right
            if spot.key:
                own = left + 2 + cells.width(labels[spot.key]) + 1
            for there in spot.after:
                mark = id(there) in spot.marked
                if not spot.key:
                    _across(drawn, left, right, spot.row, mark)
                _edge(
                    drawn,
                    own,
                    right + 2 + channels.get(id(spot), 0),
                    spot.row,
                    mark,
                    right + len(set(channels.values())) + 4,
                    there.row,
                )
        left = right + len(set(channels.values())) + 5
    return drawn


def _channels(column: list[_Spot]) -> dict[int, int]:
    """A column of cells for each spot that has lines up or down to draw; those that lead to the
    very same spots share one.

    Who leaves at a row that another arrives at turns off before that one does, where that can be.
    """
    groups: dict[tuple[int, ...], list[_Spot]] = {}
    for spot in column:
        if any(one.row != spot.row for one in spot.after):
            groups.setdefault(tuple(sorted(map(id, spot.after))), []).append(spot)
    order: list[list[_Spot]] = []
    left = list(groups.values())
    while left:
        free = [group for group in left if not any(_meet(group, other) for other in left)]
        chosen = free or left[:1]
        order += chosen
        left = [group for group in left if all(group is not one for one in chosen)]
    # Those that nobody stands in the way of turn last.
    return {id(spot): n for n, group in enumerate(order) for spot in group}


def _meet(group: Sequence[_Spot], other: Sequence[_Spot]) -> bool:
    """Whether the one arrives at a row that the other leaves at."""
    rows = {spot.row for spot in other}
    return other is not group and any(one.row in rows for one in group[0].after)


def _across(drawn: Drawn, left: int, right: int, row: int, mark: bool) -> None:
    for x in range(left - 1, right + 1):
        _add(drawn, x, row, _LEFT | _RIGHT, mark)


def _edge(drawn: Drawn, start: int, turn: int, row: int, mark: bool, end: int, target: int) -> None:
    if row == target:
        for x in range(start, end):
            _add(drawn, x, row, _LEFT | _RIGHT, mark)
        return
    for x in range(start, turn):
        _add(drawn, x, row, _LEFT | _RIGHT, mark)
    down = target > row
    _add(drawn, turn, row, _LEFT | (_DOWN if down else _UP), mark)
    step = 1 if down else -1
    for y in range(row + step, target, step):
        _add(drawn, turn, y, _UP | _DOWN, mark)
    _add(drawn, turn, target, _RIGHT | (_UP if down else _DOWN), mark)
    for x in range(turn + 1, end):
        _add(drawn, x, target, _LEFT | _RIGHT, mark)


def _add(drawn: Drawn, x: int, y: int, bits: int, mark: bool) -> None:
    before, was = drawn.lines.get((x, y), (0, False))
    drawn.lines[x, y] = (before | bits, was or mark)
