"""A graph laid out in layers, from left to right: boxes that never overlap, and ways for edges.

Pure numbers; knows neither what a box shows nor how it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from oumi_flow.graph import topological_order

_PASSES = 6  # over all layers, to bring near each other what belongs together
_BEND = 6.0  # the height kept free for an edge that passes through a layer

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Placed:
    """`ways`: for each edge its points, from the right of one box to the left of the other."""

    boxes: Mapping[str, Box]
    ways: Mapping[tuple[str, str], Sequence[Point]]
    width: float
    height: float


@dataclass(slots=True, eq=False)
class _Spot:
    """A box in its layer, or the place where an edge passes through one."""

    key: str
    height: float
    middle: float = 0.0
    before: list[_Spot] = field(default_factory=list)
    after: list[_Spot] = field(default_factory=list)


def lay_out(
    widths: Mapping[str, float],
    edges: Iterable[tuple[str, str]],
    *,
    height: float = 40.0,
    gap: float = 12.0,
    between: float = 48.0,
    across: float = 900.0,
) -> Placed:
    """`widths`: box -> what it needs; `gap` below a box, `between` layers, in one unit.

    The boxes of a layer are as wide as the widest of them. Boxes without any edge stand below the
    others, in rows of about `across`.
    """
    edges = list(dict.fromkeys((a, b) for a, b in edges if a in widths and b in widths))
    joined = {key for edge in edges for key in edge}
    layers, chains = _layers([key for key in widths if key in joined], edges, height)
    _order(layers)
    _settle(layers, gap)
    boxes: dict[str, Box] = {}
    lefts: dict[int, tuple[float, float]] = {}  # spot -> left and right edge of its layer
    x = 0.0
    for layer in layers:
        wide = max(widths[spot.key] for spot in layer if spot.key)
        for spot in layer:
            lefts[id(spot)] = (x, x + wide)
            if spot.key:
                boxes[spot.key] = Box(x, spot.middle - height / 2, wide, height)
        x += wide + between
    ways = {edge: _way(chain, boxes, lefts) for edge, chain in chains.items()}
    right = max((box.x + box.width for box in boxes.values()), default=0.0)
    bottom = max((box.y + box.height for box in boxes.values()), default=0.0)
    bottom = max([bottom, *(y for way in ways.values() for _, y in way)])
    alone = [key for key in widths if key not in joined]
    if alone:
        below = bottom + 2 * gap if boxes else 0.0
        rows = _in_rows(alone, widths, max(across, right), below, height, gap)
        boxes |= rows
        right = max(right, max(box.x + box.width for box in rows.values()))
        bottom = max(box.y + box.height for box in rows.values())
    return Placed(boxes, ways, right, bottom)


def _layers(
    keys: Sequence[str], edges: Sequence[tuple[str, str]], height: float
) -> tuple[list[list[_Spot]], dict[tuple[str, str], list[_Spot]]]:
    needs: dict[str, list[str]] = {key: [] for key in keys}
    for start, end in edges:
        needs[end].append(start)
    depth: dict[str, int] = {}
    for key in topological_order(keys, needs):
        depth[key] = 1 + max((depth[up] for up in needs[key]), default=-1)
    layers: list[list[_Spot]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    spots = {key: _Spot(key, height) for key in depth}
    for key, spot in spots.items():
        layers[depth[key]].append(spot)
    chains = {}
    for start, end in edges:
        chain = [spots[start]]
        for layer in range(depth[start] + 1, depth[end]):
            chain.append(_Spot("", _BEND))
            layers[layer].append(chain[-1])
        chain.append(spots[end])
        for here, there in pairwise(chain):
            here.after.append(there)
            there.before.append(here)
        chains[start, end] = chain
    return layers, chains


def _order(layers: Sequence[list[_Spot]]) -> None:
    """Each layer sorted by where its neighbours stand, which leaves few edges to cross."""
    place: dict[int, float] = {}
    for layer in layers:
        place.update((id(spot), float(n)) for n, spot in enumerate(layer))
    for turn in range(_PASSES):
        forward = turn % 2 == 0
        for layer in layers[1:] if forward else layers[-2::-1]:
            wanted = {}
            for spot in layer:
                near = spot.before if forward else spot.after
                own = place[id(spot)]
                wanted[id(spot)] = sum(place[id(n)] for n in near) / len(near) if near else own
            layer.sort(key=lambda spot, wanted=wanted: wanted[id(spot)])  # type: ignore[misc]
            place.update((id(spot), float(n)) for n, spot in enumerate(layer))


def _settle(layers: Sequence[list[_Spot]], gap: float) -> None:
    """Heights: each spot as level with its neighbours as the others of its layer allow."""
    for layer in layers:
        _spread(layer, [0.0] * len(layer), gap)
    for turn in range(_PASSES):
        forward = turn % 2 == 0
        for layer in layers if forward else reversed(layers):
            wanted = []
            for spot in layer:
                near = (spot.before if forward else spot.after) or spot.before or spot.after
                wanted.append(sum(n.middle for n in near) / len(near))
            _spread(layer, wanted, gap)
    top = min((s.middle - s.height / 2 for layer in layers for s in layer), default=0.0)
    for layer in layers:
        for spot in layer:
            spot.middle -= top


def _spread(layer: Sequence[_Spot], wanted: Sequence[float], gap: float) -> None:
    """Middles as near to `wanted` as can be, in this order and without overlap.

    Least squares under an order: neighbours that would overlap are pooled, and moved as one.
    """
    offsets, at = [], 0.0
    for number, spot in enumerate(layer):
        if number:
            at += (layer[number - 1].height + spot.height) / 2 + gap
        offsets.append(at)
    pools: list[tuple[float, int]] = []  # sum, members
    for want, offset in zip(wanted, offsets, strict=True):
        total, members = want - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / members:
            before, count = pools.pop()
            total, members = total + before, members + count
        pools.append((total, members))
    number = 0
    for total, members in pools:
        for _ in range(members):
            layer[number].middle = total / members + offsets[number]
            number += 1


def _way(
    chain: Sequence[_Spot], boxes: Mapping[str, Box], lefts: Mapping[int, tuple[float, float]]
) -> list[Point]:
    first, last = boxes[chain[0].key], boxes[chain[-1].key]
    way = [(first.x + first.width, chain[0].middle)]
    for spot in chain[1:-1]:
        left, right = lefts[id(spot)]
        way += [(left, spot.middle), (right, spot.middle)]
    return [*way, (last.x, chain[-1].middle)]


def _in_rows(
    keys: Sequence[str],
    widths: Mapping[str, float],
    across: float,
    top: float,
    height: float,
    gap: float,
) -> dict[str, Box]:
    wide = max(widths[key] for key in keys)
    columns = max(1, int((across + gap) / (wide + gap)))
    return {
        key: Box(
            (number % columns) * (wide + gap),
            top + (number // columns) * (height + gap),
            wide,
            height,
        )
        for number, key in enumerate(keys)
    }
