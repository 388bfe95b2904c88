"""Curves of metrics as small charts, one a metric, the jobs of a verb over each other.

A value that is not a number is a gap in its line, and is told. Long curves are thinned so that what
sticks out stays. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from oumi_flow.dataclass import dataclass
from oumi_flow.metrics import best_of
from oumi_flow.text import count
from oumi_flow.ui import cells
from oumi_flow.ui.lines import number
from oumi_flow.ui.report import axis
from oumi_flow.ui.report.facts import Curve
from oumi_flow.ui.report.markup import Markup, el, join, num, reference

COLOURS = 6  # lines that have a colour and a dash of their own; see style.py
_BEST = 3  # of more lines than that, so many stand out
MOST = 120  # lines of a chart
_POINTS = 6000  # of a chart
_CHARTS = 9  # of a verb
_WIDTH, _HEIGHT = 360.0, 196.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 10.0, 8.0, 24.0
_FIRST = ("loss", "eval_loss", "train_loss", "reward", "accuracy", "learning_rate", "grad_norm")
_NEVER = (
    *("epoch", "_runtime", "_per_second", "num_tokens", "num_input_tokens_seen", "total_flos"),
    *("_time", "_seconds"),
)
_FAR = 1000.0  # between the least and the greatest value: from there on the scale is logarithmic


@dataclass(frozen=True, slots=True)
class Line:
    """`style` is the number of its colour, None for one of many."""

    job: str
    points: Curve
    style: int | None


def rank(name: str) -> tuple[int, int]:
    """Metrics in the order in which they matter; equal ones keep their own."""
    return (0, _FIRST.index(name)) if name in _FIRST else (1, 0)


def group(
    verb: str, curves: Mapping[str, Mapping[str, Curve]], anchors: Mapping[str, str]
) -> Markup | None:
    """All charts of the jobs of one verb with their legend; None if they have no curves.

    `curves`: job -> metric -> points, in the workflow's order.
    """
    told: dict[str, dict[str, Curve]] = {}
    for job, known in curves.items():
        worth = {name: curve for name, curve in known.items() if _worth(name, curve)}
        if worth:
            told[job] = worth
    names = list(dict.fromkeys(name for known in told.values() for name in known))
    names.sort(key=rank)
    if not names:
        return None
    styles = _styles(told, names[0])
    charts = []
    for name in names[:_CHARTS]:
        lines = [
            Line(job, known[name], styles.get(job)) for job, known in told.items() if name in known
        ]
        charts.append(chart(f"{verb}: {name}", name, lines))
    more = names[_CHARTS:]
    return el(
        "div",
        _legend(styles, len(told), names[0], anchors),
        el("div", *charts, class_="charts"),
        el("p", f"Not drawn: {', '.join(more)}.", class_="muted") if more else None,
    )


def _worth(name: str, curve: Curve) -> bool:
    return len(curve) > 1 and not name.endswith(_NEVER)


def _styles(told: Mapping[str, Mapping[str, Curve]], name: str) -> dict[str, int]:
    """Few jobs have a colour each; of many those that are best at `name`."""
    jobs = list(told)
    if len(jobs) > COLOURS:
        choose = best_of(name)
        ends = {job: last for job in jobs if (last := _last(told[job].get(name, ()))) is not None}
        ranked = sorted(ends, key=lambda job: ends[job], reverse=choose is max)
        jobs = ranked[:_BEST] if choose is not None else []
    return {job: place for place, job in enumerate(jobs)}


def _last(curve: Curve) -> float | None:
    return next((value for _, value in reversed(curve) if math.isfinite(value)), None)


def _legend(styles: Mapping[str, int], jobs: int, name: str, anchors: Mapping[str, str]) -> Markup:
    items = []
    for job, style in styles.items():
        items.append(el("li", _swatch(f"line c{style}"), " ", reference(anchors, job)))
    if jobs > len(styles):
        best = f"; in colour those that are best at {name} in the end" if styles else ""
        more = f"; {MOST} are drawn" if jobs > MOST else ""
        items.append(el("li", _swatch("line rest"), f" all {count(jobs, 'job')}{best}{more}"))
    return el("ul", *items, class_="legend")


def _swatch(kind: str) -> Markup:
    line = el("path", d="M0 6H24", class_=kind)
    return el("svg", line, width=24, height=12, aria_hidden="true")


def chart(title: str, name: str, lines: Sequence[Line]) -> Markup:
    """One metric: a figure with a caption that says what can be said in words."""
    lines = _few(lines)
    finite = [(x, y) for line in lines for x, y in line.points if math.isfinite(y)]
    bad = sum(not math.isfinite(y) for line in lines for _, y in line.points)
    if not finite:
        return el("figure", el("figcaption", el("b", title), " no value is a number"))
    low, high = min(y for _, y in finite), max(y for _, y in finite)
    log = low > 0 and high / low > _FAR and name != "learning_rate"
    plot = _Plot(min(x for x, _ in finite), max(x for x, _ in finite), low, high, log)
    best = _best(name, lines)
    per_line = max(40, min(240, _POINTS // len(lines)))
    drawn = [plot.axes()]
    for line in sorted(lines, key=lambda line: line.style is not None):
        kind = "rest" if line.style is None else f"c{line.style}"
        way = plot.way(line.points, per_line)
        drawn.append(el("path", el("title", line.job), d=way, class_=f"line {kind}"))
    gaps = f"{count(bad, 'gap')} where a value is not a number" if bad else ""
    caption = el(
        "figcaption",
        el("b", title),
        el("span", " logarithmic", class_="muted") if log else None,
        el("span", f" {best}", class_="muted") if best else None,
        el("span", f" {gaps}", class_="state bad") if gaps else None,
    )
    steps = f"steps {number(plot.left)} to {number(plot.right)}"
    svg = el(
        "svg",
        el("title", f"{title}, {steps}"),
        el("desc", f"{count(len(lines), 'line')}, values {number(low)} to {number(high)}. {best}"),
        *drawn,
        viewBox=f"0 0 {num(_WIDTH)} {num(_HEIGHT)}",
        role="img",
        class_="chart",
    )
    return el("figure", caption, svg)


def _few(lines: Sequence[Line]) -> Sequence[Line]:
    """Those in colour, and as many others, spread over all of them, as can be drawn."""
    if len(lines) <= MOST:
        return lines
    marked = [line for line in lines if line.style is not None]
    rest = [line for line in lines if line.style is None]
    room = MOST - len(marked)
    return [*(rest[len(rest) * n // room] for n in range(room)), *marked]


def _best(name: str, lines: Iterable[Line]) -> str:
    choose = best_of(name)
    if choose is None:
        return ""
    found: list[tuple[float, str]] = []
    for line in lines:
        known = [y for _, y in line.points if math.isfinite(y)]
        if known:
            found.append((choose(known), line.job))
    value, job = (min if choose is min else max)(found)
    return f"{'lowest' if choose is min else 'highest'} {number(value)}, {cells.clean(job)}"


class _Plot:
    """Where values lie in the chart's own pixels."""

    def __init__(self, left: float, right: float, low: float, high: float, log: bool) -> None:
        self.left, self.right, self._log = left, right, log
        pad = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
        self._low, self._high = (low, high) if log else (low - pad, high + pad)
        self._bottom, self._top = self._of(self._low), self._of(self._high)

    def axes(self) -> Markup:
        drawn = []
        ticks = axis.decades if self._log else axis.values
        for value in ticks(self._low, self._high):
            y = self.y(value)
            drawn += [
                el("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"),
                el("text", number(value), x=_LEFT - 6, y=y + 3.5, text_anchor="end", class_="tick"),
            ]
        for step in axis.values(self.left, self.right, 4):
            x = self.x(step)
            anchor = "end" if x > _WIDTH - _RIGHT - 16 else "middle"
            drawn.append(
                el("text", number(step), x=x, y=_HEIGHT - 6, text_anchor=anchor, class_="tick")
            )
        return join(drawn)

    def x(self, step: float) -> float:
        wide = self.right - self.left
        share = (step - self.left) / wide if wide > 0 else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (self._of(value) - self._bottom) / ((self._top - self._bottom) or 1.0)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def way(self, points: Curve, most: int) -> Markup:
        """The line, broken where values are no numbers; a lone point is a dot."""
        parts = []
        for piece in thinned(points, most):
            xs = [(self.x(x), self.y(y)) for x, y in piece]
            if len(xs) == 1:
                xs.append((xs[0][0] + 0.1, xs[0][1]))
            parts.append("M" + "L".join(f"{num(x)} {num(y)}" for x, y in xs))
        return Markup("".join(parts))

    def _of(self, value: float) -> float:
        return math.log10(value) if self._log else value


def thinned(points: Curve, most: int) -> list[list[tuple[float, float]]]:
    """The pieces between values that are no numbers, with about `most` points in all.

    Of each stretch the least and the greatest value stay, so that a peak is never lost.
    """
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    whole = sum(map(len, pieces))
    if whole <= most:
        return [piece for piece in pieces if piece]
    stride = math.ceil(2 * whole / most)
    result = []
    for piece in (piece for piece in pieces if piece):
        kept = [piece[0]]
        for start in range(1, len(piece) - 1, stride):
            stretch = piece[start : min(start + stride, len(piece) - 1)]
            ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
            kept += sorted(ends)
        result.append([*kept, piece[-1]] if len(piece) > 1 else kept)
    return result
