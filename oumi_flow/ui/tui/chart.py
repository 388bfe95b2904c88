"""Curves as characters: braille cells of two by four dots, or one mark a cell in ASCII.

Pure: points and a size in, lines of styled text out. NaN and infinities are gaps, marked on the
axis; many points in one column of dots become the stretch from the least to the greatest, so a
spike is never lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from oumi_flow.dataclass import dataclass
from oumi_flow.ui import cells
from oumi_flow.ui.theme import Line, Theme

Points = Sequence[tuple[float, float]]

STYLES = ("busy", "warn", "good", "accent", "strong", "bad", "", "muted")
MARKS = "abcdefgh"  # name the curves of one chart, for eyes and screens without colours
_ASCII_MARKS = "*+ox#%@&"
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille cell, by column and row
_LEAST_WIDTH, _LEAST_HEIGHT = 24, 5  # below these: no axes
_HIGHEST = 1e300
_LOWEST = 1e-280  # below it, floats are too coarse to divide by


@dataclass(frozen=True, slots=True)
class Curve:
    points: Points
    style: str = "busy"
    mark: str = ""  # written at its end


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` as places from 0 to 1, by their logarithm if `log`."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float | None:
        """None for what has no place: not a number, or not positive on a log scale."""
        if not -_HIGHEST < value < _HIGHEST or (self.log and value < _LOWEST):
            return None
        if self.log:
            return (math.log10(value) - math.log10(self.low)) / (
                math.log10(self.high) - math.log10(self.low)
            )
        return (value - self.low) / (self.high - self.low)


def scale_of(values: Iterable[float], log: bool = False) -> Scale | None:
    """From the least to the greatest that can be shown; None if there are none."""
    known = [v for v in values if -_HIGHEST < v < _HIGHEST and (v >= _LOWEST or not log)]
    if not known:
        return None
    low, high = min(known), max(known)
    # Closer than a float can tell places apart counts as equal.
    if high - low <= max(abs(low), abs(high)) * 1e-12 + _LOWEST:
        if log:
            low, high = low / 2, high * 2
        else:
            around = abs(low) / 10 if abs(low) > _LOWEST else 1.0
            low, high = low - around, high + around
    return Scale(low, high, log)


def chart(
    curves: Sequence[Curve], theme: Theme, height: int, *, log: bool = False, unit: str = "step"
) -> list[Line]:
    """`height` lines of `theme.width` columns, with axes where there is room for them."""
    width = theme.width
    if width <= 0 or height <= 0:
        return []
    across = scale_of(x for curve in curves for x, _ in curve.points)
    up = scale_of((y for curve in curves for _, y in curve.points), log)
    if across is None or up is None:
        positive = log and any(math.isfinite(y) for curve in curves for _, y in curve.points)
        words = "nothing above zero to draw" if positive else "nothing to draw yet"
        return _blank(cells.fit(words, width, theme.more), width, height)
    axes = width >= _LEAST_WIDTH and height >= _LEAST_HEIGHT
    if not axes:
        return _Canvas(width, height, theme.unicode).draw(curves, across, up)
    rows = height - 2
    labels = _labels(up, rows)
    lead = max(map(cells.width, labels.values()), default=0)
    canvas = _Canvas(width - lead - 2, rows, theme.unicode)
    rail, tick = ("│", "┤") if theme.unicode else ("|", "+")
    lines: list[Line] = []
    for row, line in enumerate(canvas.draw(curves, across, up)):
        label = labels.get(row, "")
        edge = tick if label else rail
        lines.append([("muted", cells.pad(label, lead, right=True)), ("rule", f" {edge}"), *line])
    return [*lines, *_x_axis(canvas, across, curves, lead, theme, unit)]


def _blank(words: str, width: int, height: int) -> list[Line]:
    lines: list[Line] = [[("", " " * width)] for _ in range(height)]
    left = (width - cells.width(words)) // 2
    lines[height // 2] = [("muted", cells.pad(" " * left + words, width))]
    return lines


# -- the area ------------------------------------------------------------------------------


class _Canvas:
    """Cells of dots, each in the style of the curve that was drawn there last."""

    def __init__(self, width: int, height: int, unicode: bool) -> None:
        self.width, self.height = width, height
        self._dots = (2, 4) if unicode else (1, 1)
        self._bits = [[0] * width for _ in range(height)]
        self._owner = [[-1] * width for _ in range(height)]
        self._letters: dict[tuple[int, int], tuple[str, str]] = {}

    def draw(self, curves: Sequence[Curve], across: Scale, up: Scale) -> list[Line]:
        for number, curve in enumerate(curves):
            for segment in self._segments(curve.points, across, up):
                self._trace(segment, number)
        if len(curves) > 1:
            for curve in curves:
                self._letter(curve, across, up)
        return [self._line(row, curves) for row in range(self.height)]

    def column(self, place: float) -> int:
        """The cell that a place from 0 to 1 is in."""
        return min(self.width - 1, max(0, int(place * (self.width - 1) + 0.5)))

    def _segments(
        self, points: Points, across: Scale, up: Scale
    ) -> Iterator[list[tuple[int, int, int, int, int]]]:
        """Runs without a gap; of each column of dots (column, first, last, least, greatest)."""
        wide = self.width * self._dots[0] - 1
        high = self.height * self._dots[1] - 1
        # `Scale.place` written out: this is done for each of many points.
        left, right = across.low, across.high
        low, top = (math.log10(up.low), math.log10(up.high)) if up.log else (up.low, up.high)
        stretch, rise, log10 = wide / (right - left), high / (top - low), math.log10
        segment: list[tuple[int, int, int, int, int]] = []
        column = -1
        first = last = least = most = 0
        for x, y in points:
            if not (up.low <= y <= up.high and left <= x <= right):
                if column >= 0:
                    segment.append((column, first, last, least, most))
                if segment:
                    yield segment
                segment, column = [], -1
                continue
            here = int((x - left) * stretch + 0.5)
            dot = high - int(((log10(y) if up.log else y) - low) * rise + 0.5)
            if here == column:
                last = dot
                if dot < least:
                    least = dot
                elif dot > most:
                    most = dot
                continue
            if column >= 0:
                segment.append((column, first, last, least, most))
            column, first, last, least, most = here, dot, dot, dot, dot
        if column >= 0:
            segment.append((column, first, last, least, most))
        if segment:
            yield segment

    def _trace(self, segment: list[tuple[int, int, int, int, int]], owner: int) -> None:
        before: tuple[int, int] | None = None
        for column, first, last, least, most in segment:
            if before is not None:
                self._join(before, (column, first), owner)
            self._rise(column, least, most, owner)
            before = (column, last)

    def _join(self, a: tuple[int, int], b: tuple[int, int], owner: int) -> None:
        (xa, ya), (xb, yb) = a, b
        steps = xb - xa
        level = ya
        for step in range(1, steps + 1):
            to = ya + round((yb - ya) * step / steps)
            # Half of a steep rise belongs to each of its two columns.
            middle = (level + to) // 2
            self._rise(xa + step - 1, min(level, middle), max(level, middle), owner)
            self._rise(xa + step, min(middle, to), max(middle, to), owner)
            level = to

    def _rise(self, x: int, low: int, high: int, owner: int) -> None:
        wide, tall = self._dots
        column, bit = x // wide, x % wide
        bits, owners = self._bits, self._owner
        for y in range(low, high + 1):
            row = y // tall
            bits[row][column] |= _BITS[bit][y % tall] if tall == 4 else 1
            owners[row][column] = owner

    def _letter(self, curve: Curve, across: Scale, up: Scale) -> None:
        """The mark after the curve's last point, where no other one is."""
        for x, y in reversed(curve.points):
            at, level = across.place(x), up.place(y)
            if at is not None and level is not None and curve.mark:
                row = self.height - 1 - int(level * (self.height - 1) + 0.5)
                column = min(self.width - 1, self.column(at) + 1)
                while (row, column) in self._letters and column > 0:
                    column -= 1
                self._letters[row, column] = (curve.style, curve.mark)
                return

    def _line(self, row: int, curves: Sequence[Curve]) -> Line:
        drawn: list[tuple[str, str]] = []
        for column, (bits, owner) in enumerate(zip(self._bits[row], self._owner[row], strict=True)):
            if (row, column) in self._letters:
                drawn.append(self._letters[row, column])
            elif not bits:
                drawn.append(("", " "))
            elif self._dots == (1, 1):
                mark = curves[owner].mark if len(curves) > 1 else ""
                drawn.append((curves[owner].style, mark or _ASCII_MARKS[owner % 8]))
            else:
                drawn.append((curves[owner].style, chr(0x2800 + bits)))
        return [
            (style, "".join(char for _, char in group))
            for style, group in groupby(drawn, lambda cell: cell[0])
        ]


# -- the axes ------------------------------------------------------------------------------


def ticks(scale: Scale, count: int) -> list[float]:
    """About `count` round values, in order: 1, 2 or 5 times a power of ten."""
    if scale.log:
        low, high = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
        factors = (1,) if high - low > 3 else (1, 2, 5)
        stride = max(1, math.ceil((high - low) / max(1, count)))
        found = [f * 10.0**e for e in range(low, high + 1, stride) for f in factors]
        inside = [value for value in found if scale.low <= value <= scale.high]
        if len(inside) >= 2:
            return inside
    span = scale.high - scale.low
    raw = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    steps = [f * power for f in (10, 5, 2, 1, 0.5, 0.2, 0.1)]
    widest = next(n for n in (3, 2, 1, 0) if steps[n] >= raw * 0.999)
    inside = []
    for step in steps[widest:]:  # a range may lie between two that are far apart
        first = math.ceil(scale.low / step - 1e-9)
        last = math.floor(scale.high / step + 1e-9)
        inside = [n * step for n in range(first, last + 1)]
        if len(inside) >= 2:
            break
    return inside


def words_of(values: Sequence[float]) -> list[str]:
    """Numbers of one axis, as short as they can be told apart."""
    if not values:
        return []
    top = max(abs(value) for value in values)
    gap = min((b - a for a, b in pairwise(values)), default=top) or 1.0
    if top >= 1e5 or (top < 1e-3 and top > 0):
        told = ([_short(value, digits) for value in values] for digits in range(4, 16))
        return next(
            (words for words in told if len(set(words)) == len(values)), list(map(repr, values))
        )
    if top / gap > 1e6:
        return [f"{value:.6g}" for value in values]
    digits = max(0, -math.floor(math.log10(gap) + 1e-9)) if gap > 0 else 0
    if gap and any(abs(v * 10**digits - round(v * 10**digits)) > 1e-6 for v in values):
        return [f"{value:g}" for value in values]
    return [f"{value:.{digits}f}" for value in values]


def _short(value: float, digits: int = 4) -> str:
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if limit <= abs(value) < limit * 1000:
            return f"{value / limit:.{digits}g}{unit}"
    if 0 < abs(value) < 1e-3 or abs(value) >= 1e15:
        mantissa, power = f"{value:.{digits - 2}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return f"{value:.{digits - 1}g}"


def _labels(scale: Scale, rows: int) -> dict[int, str]:
    """Row -> label; where two would share a row the rounder one is kept."""
    values = ticks(scale, max(2, rows // 3))
    found: dict[int, str] = {}
    for value, word in zip(values, words_of(values), strict=True):
        place = scale.place(value)
        if place is None or not -1e-9 <= place <= 1 + 1e-9:
            continue
        row = rows - 1 - int(place * (rows - 1) + 0.5)
        if row not in found or len(word) < len(found[row]):
            found[row] = word
    return found


def _x_axis(
    canvas: _Canvas, across: Scale, curves: Sequence[Curve], lead: int, theme: Theme, unit: str
) -> list[Line]:
    corner, dash, tick = ("└", "─", "┬") if theme.unicode else ("+", "-", "+")
    values = ticks(across, max(2, canvas.width // 12))
    axis = [dash] * canvas.width
    names = [" "] * canvas.width
    free = 0
    for value, word in zip(values, words_of(values), strict=True):
        place = across.place(value)
        if place is None:
            continue
        column = canvas.column(place)
        axis[column] = tick
        start = min(max(0, column - len(word) // 2), canvas.width - len(word))
        if start >= free:
            names[start : start + len(word)] = word
            free = start + len(word) + 2
    room = canvas.width - len("".join(names).rstrip())
    if room >= len(unit) + 2:
        names[-len(unit) :] = unit
    bad = {
        canvas.column(place)
        for curve in curves
        for x, y in curve.points
        if not math.isfinite(y) and (place := across.place(x)) is not None
    }
    cross = theme.text("×")
    drawn = [("bad", cross) if n in bad else ("rule", char) for n, char in enumerate(axis)]
    rail: Line = [
        (style, "".join(char for _, char in group))
        for style, group in groupby(drawn, lambda cell: cell[0])
    ]
    return [
        [("rule", " " * (lead + 1) + corner), *rail],
        [("muted", " " * (lead + 2) + "".join(names))],
    ]


# -- smoothing -----------------------------------------------------------------------------


def smoothed(points: Points, weight: float) -> list[tuple[float, float]]:
    """A running mean in which what is older weighs less; gaps stay gaps. `weight` 0 to 1."""
    if weight <= 0:
        return list(points)
    result: list[tuple[float, float]] = []
    mean = share = 0.0
    for x, y in points:
        if not math.isfinite(y):
            result.append((x, y))
            continue
        mean = mean * weight + (1 - weight) * y
        share = share * weight + (1 - weight)
        result.append((x, mean / share))
    return result
