"""The picture of the graph: boxes with the names and states of jobs, and who needs whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oumi_flow.board import Board
from oumi_flow.graph.drawing import Node, Picture, picture
from oumi_flow.text import count
from oumi_flow.ui import cells
from oumi_flow.ui.report import marks
from oumi_flow.ui.report.layout import Placed, lay_out
from oumi_flow.ui.report.markup import Markup, el, num, reference

MOST = 150  # boxes of a picture
_WIDEST = 12_000.0  # pixels: beyond, a picture tells nothing
_CHAR, _SMALL = (
    6.9,
    6.0,
)  # pixels of a character of the name and of the line below, on the wide side
_LONGEST = 30  # characters of a name
_MARGIN = 4.0


def nodes(board: Board) -> list[Node]:
    return [
        Node(row.name, row.verb, row.state.value, row.cause or row.state.value, row.upstream)
        for row in board.rows.values()
    ]


def families(board: Board) -> dict[str, str]:
    """Each job of a sweep -> what its family is called; those that stand alone are left out."""
    drawn = picture(nodes(board), False)
    names: dict[str, list[str]] = {}
    for job, key in drawn.home.items():
        names.setdefault(key, []).append(job)
    return {
        job: drawn.shapes[key].label
        for key, members in names.items()
        if len(members) > 1
        for job in members
    }


def is_folded(board: Board) -> bool:
    """Whether the picture shows sweeps as one box each."""
    return len(picture(nodes(board), False).shapes) < board.total


def draw(board: Board, anchors: Mapping[str, str], *, every: bool) -> Markup | None:
    """An SVG; None if there would be nothing to recognise. `every`: sweeps are not folded."""
    drawn = picture(nodes(board), every)
    if not drawn.shapes or len(drawn.shapes) > MOST:
        return None
    widths = {key: _width(shape.label, _below(drawn, key)) for key, shape in drawn.shapes.items()}
    placed = lay_out(widths, [(start, end) for start, end, _ in drawn.edges])
    if placed.width > _WIDEST:
        return None
    homes: dict[str, list[str]] = {}
    for job, key in drawn.home.items():
        homes.setdefault(key, []).append(job)
    parts = [el("path", d=_curve(way), class_="edge") for way in placed.ways.values()]
    for key in drawn.shapes:
        box = _box(drawn, placed, key)
        one = homes[key][0] if len(homes[key]) == 1 else ""
        parts.append(reference(anchors, one, box))
    wide, tall = placed.width + 2 * _MARGIN, placed.height + 2 * _MARGIN
    return el(
        "svg",
        el("title", f"The graph of {count(board.total, 'job')}"),
        el("desc", _in_words(board)),
        *parts,
        class_="dag",
        viewBox=f"{num(-_MARGIN)} {num(-_MARGIN)} {num(wide)} {num(tall)}",
        width=wide,
        height=tall,
        role="group",
        aria_label="The graph of jobs",
    )


def _below(drawn: Picture, key: str) -> str:
    """The line below the name: verb and state, or the states of a family."""
    shape = drawn.shapes[key]
    verb, _, states = shape.verb.partition("\n")
    told = states or f"{marks.glyph(shape.state)} {shape.state}"
    return f"{verb}  {told}" if verb else told


def _width(name: str, below: str) -> float:
    longest = max(
        min(cells.width(name), _LONGEST) * _CHAR, min(cells.width(below), _LONGEST + 6) * _SMALL
    )
    return max(90.0, longest + 26.0)


def _box(drawn: Picture, placed: Placed, key: str) -> Markup:
    shape, box = drawn.shapes[key], placed.boxes[key]
    kind = marks.kind(shape.state)
    name = cells.fit_middle(cells.clean(shape.label), _LONGEST)
    below = cells.fit(_below(drawn, key), _LONGEST + 6)
    place = {"x": box.x, "y": box.y, "height": box.height}
    tip = f"{shape.label}\n{shape.tip}" if shape.tip else shape.label
    return el(
        "g",
        el("title", tip.replace("\n", "; ")),
        el("rect", **place, width=box.width, rx=5, class_=f"node {kind}"),
        el("rect", **place, width=4, rx=2, class_=f"side {kind}"),
        el("text", name, x=box.x + 14, y=box.y + 17, class_="name"),
        el("text", below, x=box.x + 14, y=box.y + 32, class_=f"below {kind}"),
    )


def _curve(way: Sequence[tuple[float, float]]) -> Markup:
    x, y = way[0]
    parts = [f"M{num(x)} {num(y)}"]
    for to_x, to_y in way[1:]:
        if abs(to_y - y) < 0.05:
            parts.append(f"H{num(to_x)}")
        else:
            half = num((x + to_x) / 2)
            parts.append(f"C{half} {num(y)} {half} {num(to_y)} {num(to_x)} {num(to_y)}")
        x, y = to_x, to_y
    return Markup("".join(parts))


def _in_words(board: Board) -> str:
    """For those who do not see it: who needs whom, of a graph that can be said in words."""
    if board.total > 30:
        return f"{count(board.total, 'job')}; the jobs are listed below, with what each needs."
    told = [
        f"{row.name} ({row.state.value})"
        + (f" needs {', '.join(row.upstream)}" if row.upstream else "")
        for row in board.rows.values()
    ]
    return "; ".join(told) + "."
