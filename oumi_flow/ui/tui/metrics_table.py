"""The sweep table: jobs by the config keys that differ and their metrics, sorted and compared.

Pure: rows in, cells and lines out. Numbers are never cut: columns that do not fit are out of sight
at the right, and the chosen column is always in sight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from oumi_flow.metrics import best_of
from oumi_flow.ui import cells
from oumi_flow.ui.lines import number
from oumi_flow.ui.tables import MetricRow, differing_keys, short_keys
from oumi_flow.ui.theme import Line, Theme, line_width
from oumi_flow.ui.tui.curves import rank

_GAP = 2
_EDGE = 4  # columns before the names: the chosen row's edge, and its mark


@dataclass
class Table:
    """`column` 0 is the job's name; `sort` is a column, or None for the workflow's order."""

    rows: Sequence[MetricRow] = ()
    column: int = 0
    sort: int | None = None
    falling: bool = False
    baseline: str = ""
    marked: set[str] = field(default_factory=set)
    keys: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def fill(self, rows: Sequence[MetricRow]) -> None:
        """Other numbers; what is chosen and marked stays so."""
        self.rows = [row for row in rows if row.metrics or row.before]
        self.keys = differing_keys(self.rows)
        found = dict.fromkeys(name for row in self.rows for name in row.metrics)
        self.names = sorted(found, key=rank)
        self.column = min(self.column, self.columns - 1)
        there = {row.job for row in self.rows}
        self.marked &= there
        if self.baseline not in there:
            self.baseline = ""

    @property
    def columns(self) -> int:
        return 1 + len(self.keys) + len(self.names)

    def heads(self, theme: Theme) -> list[str]:
        short = short_keys(self.keys)
        return ["job", *(theme.text(short[k]) for k in self.keys), *map(theme.text, self.names)]

    def metric(self, column: int) -> str:
        """The metric of that column; "" if it is the name or a config key."""
        at = column - 1 - len(self.keys)
        return self.names[at] if 0 <= at < len(self.names) else ""

    def value(self, row: MetricRow, column: int) -> Any:
        if column == 0:
            return row.job
        if column <= len(self.keys):
            return row.config.get(self.keys[column - 1])
        return row.metrics.get(self.metric(column))

    def order(self) -> list[MetricRow]:
        """As sorted: numbers before words, and what is not there, or not a number, at the end."""
        if self.sort is None:
            return list(self.rows)
        known: list[MetricRow] = []
        rest: list[MetricRow] = []
        for row in self.rows:
            value = self.value(row, self.sort)
            (rest if value is None or _is_bad(value) else known).append(row)
        known.sort(key=lambda row: _sortable(self.value(row, self.sort or 0)), reverse=self.falling)
        return [*known, *rest]

    def sort_by(self, column: int) -> None:
        """Best first where that is known, else rising; once more: the other way; then: not."""
        falls = best_of(self.metric(column)) is max
        if self.sort != column:
            self.sort, self.falling = column, falls
        elif self.falling == falls:
            self.falling = not falls
        else:
            self.sort = None

    def bad(self) -> list[str]:
        """The jobs that have a metric that is not a number, with its name."""
        return [
            f"{row.job}: {name}"
            for row in self.rows
            for name, value in row.metrics.items()
            if _is_bad(value)
        ]


def _is_bad(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _sortable(value: Any) -> tuple[int, float, str]:
    if isinstance(value, (int, float)):
        return 0, float(value), ""
    return 1, 0.0, str(value)


# -- cells --------------------------------------------------------------------------------


def grid(table: Table, order: Sequence[MetricRow], theme: Theme) -> list[list[Line]]:
    """The cells of each row. With a baseline each number has its difference beside it."""
    base = next((row for row in table.rows if row.job == table.baseline), None)
    best = {column: _best(table, column) for column in range(1, table.columns)}
    result = []
    for row in order:
        line: list[Line] = [[("name", theme.text(row.job))]]
        if base is row:
            line[0].append(("accent", " (baseline)"))
        for column in range(1, table.columns):
            value = table.value(row, column)
            if not table.metric(column):
                differs = base is not None and value != table.value(base, column)
                line.append([("accent" if differs else "muted", theme.text(_words(value)))])
                continue
            if value is None:
                line.append([])
                continue
            style = "bad" if _is_bad(value) else "good" if value == best[column] else ""
            star = ("*" if value == best[column] else " ") if best[column] is not None else ""
            cell: Line = [(style, _words(value) + star)]
            if base is not None and base is not row:
                cell.append(_difference(table.metric(column), value, table.value(base, column)))
            line.append(cell)
        result.append(line)
    for column in range(1, table.columns):
        _align([line[column] for line in result])
    return result


def _align(column: Sequence[Line]) -> None:
    """Values below each other, and differences below each other."""
    wide = max((line_width(cell[1:]) for cell in column), default=0)
    for cell in column:
        if wide and cell:
            cell.append(("", " " * (wide - line_width(cell[1:]))))


def _best(table: Table, column: int) -> float | None:
    """The best value of a metric, where somebody can say which that is and there are several."""
    choose = best_of(table.metric(column))
    known = [
        float(value)
        for row in table.rows
        if isinstance(value := table.value(row, column), (int, float)) and math.isfinite(value)
    ]
    return choose(known) if choose is not None and len(known) > 1 else None


def _difference(metric: str, value: Any, base: Any) -> tuple[str, str]:
    if not isinstance(value, (int, float)) or not isinstance(base, (int, float)):
        return "", ""
    change = value - base
    if not math.isfinite(change):
        return "", ""
    words = f"  {change:+.3g}" if change else "  ="
    choose = best_of(metric)
    if choose is None or not change:
        return "muted", words
    return ("good" if choose([value, base]) == value else "warn"), words


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return number(value) if isinstance(value, (int, float)) else str(value)


# -- lines --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """Widths of all columns, and the first one after the names that is in sight."""

    widths: Sequence[int]
    first: int
    last: int  # exclusive


def layout(
    heads: Sequence[str], rows: Sequence[Sequence[Line]], theme: Theme, column: int
) -> Layout:
    """Names get two fifths at most; then as many columns as fit, the chosen one among them."""
    widths = [
        max([cells.width(heads[n]) + 2, *(line_width(row[n]) for row in rows)])
        for n in range(len(heads))
    ]
    widths[0] = min(widths[0], max(10, theme.width * 2 // 5))
    room = theme.width - _EDGE - widths[0]
    first = 1
    while first < column and sum(w + _GAP for w in widths[first : column + 1]) > room:
        first += 1
    last = first
    while last < len(widths) and sum(w + _GAP for w in widths[first : last + 1]) <= room:
        last += 1
    return Layout(widths, first, max(last, min(first + 1, len(widths))))


def head_line(table: Table, heads: Sequence[str], at: Layout, theme: Theme) -> Line:
    up, down = ("▲", "▼") if theme.unicode else ("^", "v")
    line: Line = [("", " " * _EDGE)]
    for n in (0, *range(at.first, at.last)):
        mark = "" if table.sort != n else f" {down if table.falling else up}"
        word = cells.fit(heads[n], max(1, at.widths[n] - len(mark)), theme.more) + mark
        blanks = " " * (at.widths[n] - cells.width(word))
        piece = (("chosen" if n == table.column else "muted"), word)
        line += [piece, ("", blanks)] if n == 0 else [("", " " * _GAP + blanks), piece]
    if at.last < len(heads):
        line.append(("muted", f"  +{len(heads) - at.last}"))
    return line


def row_line(
    table: Table, row: MetricRow, grid_row: Sequence[Line], at: Layout, theme: Theme, chosen: bool
) -> Line:
    edge, mark = ("▌", "●") if theme.unicode else (">", "*")
    marked = row.job in table.marked
    line: Line = [
        ("mark", edge if chosen else " "),
        ("accent", f" {mark} " if marked else "   "),
    ]
    for n in (0, *range(at.first, at.last)):
        cell = list(grid_row[n])
        if n == 0:
            room = at.widths[0] - sum(cells.width(text) for _, text in cell[1:])
            cell[0] = (cell[0][0], cells.fit_middle(cell[0][1], max(4, room), theme.more))
            line += [*cell, ("", " " * (at.widths[0] - line_width(cell)))]
        else:
            line += [("", " " * (_GAP + at.widths[n] - line_width(cell))), *cell]
    return line


def column_at(x: int, at: Layout) -> int | None:
    """The column under that place on a line."""
    if x < _EDGE + at.widths[0]:
        return 0
    end = _EDGE + at.widths[0]
    for n in range(at.first, at.last):
        end += _GAP + at.widths[n]
        if x < end:
            return n
    return None
