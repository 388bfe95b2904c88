"""The timeline: what each GPU did, and each job, drawn against the clock.

Rows are made from spans and then drawn; both are pure. An attempt is a bar, a wait a thin line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from oumi_flow.board import Board
from oumi_flow.dataclass import dataclass
from oumi_flow.text import count, duration
from oumi_flow.ui import cells
from oumi_flow.ui.report import axis, marks
from oumi_flow.ui.report.markup import Markup, el, join, num, reference
from oumi_flow.ui.report.spans import RUNNING, Spans, Try, Wait

_WIDTH = 960.0
_CHAR = 6.3  # pixels of a character of the labels, on the wide side
_TOP = 22.0
_EDGE = 8.0
_LEAST = 3.0  # pixels: shorter bars that touch are drawn as one
_READABLE = 8  # characters of a name that say something


@dataclass(frozen=True, slots=True)
class Bar:
    """`start` and `end` in seconds since the run began."""

    start: float
    end: float
    state: str
    job: str
    words: str = ""  # in it, if there is room
    tip: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    bars: tuple[Bar, ...] = ()
    waits: tuple[tuple[float, float, str], ...] = ()
    words: str = ""  # after its last bar, or in a column of their own
    tip: str = ""
    job: str = ""  # whose row it is


# -- rows ---------------------------------------------------------------------------------


def by_gpu(spans: Spans, board: Board, now: float) -> list[Row]:
    """A row for each GPU of the run, and for any other that a job had; busy time beside it."""
    begun = board.started or 0.0
    length = _length(board, now)
    rows: dict[str, list[Try]] = {str(device): [] for device in board.devices}
    for one in spans.tries:
        for device in one.devices:
            rows.setdefault(device, []).append(one)
    found = []
    for device, tries in rows.items():
        busy = sum(one.end - one.start for one in tries)
        share = f"{min(1.0, busy / length):.0%}" if length > 0 else ""
        label = cells.fit(f"GPU {device}", 13)
        bars = tuple(_bar(one, begun, one.job) for one in tries)
        found.append(Row(label, bars, words=share, tip=f"{count(len(tries), 'attempt')}"))
    return found


def by_job(spans: Spans, board: Board) -> list[Row]:
    """A row for each job that ran or waited, in the plan's order."""
    begun = board.started or 0.0
    tries, waits = _of_jobs(spans)
    found = []
    for name, row in board.rows.items():
        own = tries.get(name, [])
        if not own and name not in waits:
            continue
        bars = tuple(
            _bar(one, begun, str(one.number) if one.number > 1 or one.again else "") for one in own
        )
        stretches = tuple((w.start - begun, w.end - begun, w.why) for w in waits.get(name, ()))
        found.append(Row(name, bars, stretches, _how_it_went(row.state.value, own), job=name))
    return found


def packed(spans: Spans, board: Board, families: Mapping[str, str]) -> list[Row]:
    """Jobs of a family share as few rows as they need, as they ran beside each other.

    `families`: job -> what to call its family; a job that is none of any stands alone.
    """
    begun = board.started or 0.0
    tries, _ = _of_jobs(spans)
    groups: dict[str, list[Try]] = {}
    for name in board.rows:
        groups.setdefault(families.get(name, name), []).extend(tries.get(name, ()))
    rows: list[Row] = []
    for family, members in groups.items():
        lanes: list[list[Try]] = []
        for one in sorted(members, key=lambda one: one.start):
            free = next((lane for lane in lanes if lane[-1].end <= one.start), None)
            if free is None:
                lanes.append([one])
            else:
                free.append(one)
        for number, lane in enumerate(lanes):
            bars = tuple(_bar(one, begun, one.job) for one in lane)
            rows.append(Row("" if number else family, bars))
    return rows


def _of_jobs(spans: Spans) -> tuple[dict[str, list[Try]], dict[str, list[Wait]]]:
    tries: dict[str, list[Try]] = {}
    waits: dict[str, list[Wait]] = {}
    for one in spans.tries:
        tries.setdefault(one.job, []).append(one)
    for wait in spans.waits:
        waits.setdefault(wait.job, []).append(wait)
    return tries, waits


def _how_it_went(state: str, tries: Sequence[Try]) -> str:
    if not tries:
        return state
    last = tries[-1]
    words = duration(last.end - last.start)
    if last.state != "done":
        words = f"{marks.glyph(last.state)} {last.state} {words}"
    return words + (f", {last.number} attempts" if len(tries) > 1 else "")


def _bar(one: Try, begun: float, words: str) -> Bar:
    told = f"{one.state}, tried again" if one.again else one.state
    parts = [
        one.job + (f", attempt {one.number}" if one.number > 1 or one.again else ""),
        told + (f": {one.cause}" if one.cause not in ("", one.state) else ""),
        f"from {axis.tick_words(round(one.start - begun))}, {duration(one.end - one.start)}",
        f"GPU {', '.join(one.devices)}" if one.devices else "",
        one.detail,
    ]
    tip = "; ".join(part for part in parts if part)
    return Bar(one.start - begun, one.end - begun, one.state, one.job, words, tip, one.again)


def _length(board: Board, now: float) -> float:
    return max(board.elapsed(now), 0.0)


# -- drawing ------------------------------------------------------------------------------


def draw(
    rows: Sequence[Row],
    length: float,
    title: str,
    description: str,
    anchors: Mapping[str, str],
    *,
    column: bool = False,
) -> Markup:
    """An SVG of `rows` over `length` seconds. `anchors`: job -> where on the page it is told of.

    `column`: the rows' words stand below each other at the right, else after their bars.
    """
    widest = max((cells.width(row.label) for row in rows), default=0)
    left = min(230.0, widest * _CHAR + 16)
    right = _WIDTH - (52.0 if column else _EDGE)
    step = 24.0 if len(rows) <= 40 else 18.0
    length = max([length, 1e-3, *(bar.end for row in rows for bar in row.bars)])
    scale = (right - left) / length
    height = _TOP + step * len(rows) + 4
    drawn = [_axis(length, left, scale, height)]
    for number, row in enumerate(rows):
        top = _TOP + number * step
        drawn.append(_row(row, top, step, left, right, scale, anchors, column))
    return el(
        "svg",
        el("title", title),
        el("desc", description),
        *drawn,
        class_="gantt",
        viewBox=f"0 0 {num(_WIDTH)} {num(height)}",
        role="group",
        aria_label=title,
    )


def _axis(length: float, left: float, scale: float, height: float) -> Markup:
    drawn = []
    for at in axis.seconds(length):
        x = left + at * scale
        words = axis.tick_words(at)
        anchor = "start" if not at else "end" if x > _WIDTH - 30 else "middle"
        drawn += [
            el("line", x1=x, x2=x, y1=_TOP - 4, y2=height, class_="grid"),
            el("text", words, x=x, y=12, text_anchor=anchor, class_="tick"),
        ]
    return join(drawn)


def _row(
    row: Row,
    top: float,
    step: float,
    left: float,
    right: float,
    scale: float,
    anchors: Mapping[str, str],
    column: bool,
) -> Markup:
    middle = top + step / 2
    drawn: list[Markup] = []
    if row.label:
        label = cells.fit_middle(cells.clean(row.label), int((left - 12) / _CHAR))
        name = el("text", el("title", row.label), label, x=0, y=middle + 4, class_="name")
        drawn.append(reference(anchors, row.job, name))
    for start, end, why in row.waits:
        tip = (
            f"waits for {why}, {duration(end - start)}" if why else f"waits {duration(end - start)}"
        )
        x, wide = left + start * scale, max(0.5, (end - start) * scale)
        drawn.append(
            el("rect", el("title", tip), x=x, y=middle - 1.5, width=wide, height=3, class_="wait")
        )
    for bar in _merged(row.bars, scale):
        drawn.append(reference(anchors, bar.job, _drawn(bar, middle, step, left, scale)))
    if row.words and column:
        drawn.append(
            el("text", row.words, x=_WIDTH, y=middle + 4, text_anchor="end", class_="tick")
        )
    elif row.words:
        drawn.append(_after(row, middle, left, right, scale))
    return join(drawn)


def _merged(bars: Sequence[Bar], scale: float) -> list[Bar]:
    """Bars too short to tell from each other as one: a picture has only so many pixels."""
    found: list[Bar] = []
    members = 1
    for bar in bars:
        last = found[-1] if found else None
        if (
            last is not None
            and bar.state == last.state
            and (bar.start - last.end) * scale < 1
            and (bar.end - bar.start) * scale < _LEAST
            and (members > 1 or (last.end - last.start) * scale < _LEAST)
        ):
            members += 1
            tip = f"{members} attempts, {bar.state}"
            found[-1] = Bar(last.start, max(last.end, bar.end), bar.state, "", "", tip)
        else:
            members = 1
            found.append(bar)
    return found


def _drawn(bar: Bar, middle: float, step: float, left: float, scale: float) -> Markup:
    x, tall = left + bar.start * scale, step - 8
    wide = max(2.0, (bar.end - bar.start) * scale)  # a short one can still be seen
    place = {
        "x": x,
        "y": middle - tall / 2,
        "width": wide,
        "height": tall,
        "rx": min(3.0, wide / 2),
    }
    kind = marks.kind(bar.state)
    hatch = {"bad": "hatch-bad", "warn": "hatch-warn"}.get(kind)
    parts = [
        el("title", bar.tip),
        el("rect", class_=f"bar {kind}{' open' if bar.state == RUNNING else ''}", **place),
        el("rect", fill=f"url(#{hatch})", **place) if hatch else None,
    ]
    fits = int((wide - 8) / _CHAR)
    words = cells.clean(bar.words)
    if words and fits >= min(_READABLE, cells.width(words)):
        shown = cells.fit_middle(words, fits)
        parts.append(el("text", shown, x=x + 5, y=middle + 3.5, class_="in"))
    return el("g", *parts)


def _after(row: Row, middle: float, left: float, right: float, scale: float) -> Markup:
    """Words beside the bars: behind the last one, or where there is no room before the first."""
    edges = [(b.start, b.end) for b in row.bars] or [(w[0], w[1]) for w in row.waits]
    end = left + max(edge[1] for edge in edges) * scale + 6
    start = left + min(edge[0] for edge in edges) * scale - 6
    wide = cells.width(row.words) * _CHAR
    if end + wide <= right:
        return el("text", row.words, x=end, y=middle + 4, class_="tick")
    # Over the line of its wait, or where there is no room at all over its own bars.
    x = start if start - wide > left else right - 4
    return el("text", row.words, x=x, y=middle + 4, text_anchor="end", class_="tick over")


def legend(states: Iterable[str], *, waits: bool) -> Markup:
    """What the bars mean, of those states that are there."""
    there = set(states)
    items = []
    for state in (state for state in marks.ORDER if state in there):
        hatch = {"bad": "hatch-bad", "warn": "hatch-warn"}.get(marks.kind(state))
        place = {"x": 1, "y": 1, "width": 18, "height": 10, "rx": 2}
        swatch = el(
            "svg",
            el("rect", class_=f"bar {marks.kind(state)}", **place),
            el("rect", fill=f"url(#{hatch})", **place) if hatch else None,
            width=20,
            height=12,
            aria_hidden="true",
        )
        items.append(el("li", swatch, f" {state}"))
    if waits:
        line = el("rect", x=0, y=5, width=20, height=3, class_="wait")
        swatch = el("svg", line, width=20, height=12, aria_hidden="true")
        items.append(el("li", swatch, " waits for a slot, a GPU or its next attempt"))
    return el("ul", *items, class_="legend")
