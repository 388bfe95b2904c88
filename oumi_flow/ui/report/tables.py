"""Numbers of jobs as tables: metrics beside the config keys that differ, the best marked. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from oumi_flow.board import key_metrics
from oumi_flow.dataclass import dataclass
from oumi_flow.metrics import best_of
from oumi_flow.text import count
from oumi_flow.typed import Any
from oumi_flow.ui.lines import number
from oumi_flow.ui.report.markup import Markup, el, reference
from oumi_flow.ui.tables import MetricRow, differing_keys, short_keys

_SHOWN, _MOST = 25, 2000  # rows that stand open, and all
_KEYS, _METRICS = 8, 12  # columns
_LAST = (
    *("epoch", "_runtime", "_per_second", "steps", "num_tokens", "num_input_tokens_seen"),
    *("total_flos", "stderr"),
)


@dataclass(frozen=True, slots=True)
class Column:
    head: str
    full: str  # what `head` is short for
    values: Sequence[Any]
    best: float | None = None
    words: bool = False


def sweep(rows: Sequence[MetricRow], anchors: Mapping[str, str], caption: str) -> Markup | None:
    """The jobs of one verb, best first where that can be said; None if they have no numbers."""
    rows = [row for row in rows if row.metrics]
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    if not names:
        return None
    first = leading(rows)
    names.sort(key=lambda name: (name != first, name.endswith(_LAST)))
    rows = ranked(rows, first)
    keys = differing_keys(rows)
    short = short_keys(keys)
    columns = [
        Column(short[key], key, [row.config.get(key) for row in rows], words=True)
        for key in keys[:_KEYS]
    ]
    for name in names[:_METRICS]:
        known = [row.metrics.get(name) for row in rows]
        columns.append(Column(name, name, known, best_value(name, known)))
    left = [*keys[_KEYS:], *names[_METRICS:]]
    note = (
        f"{count(len(left), 'column')} not shown here; each job has its own below. " if left else ""
    )
    if first and len(rows) > 1:
        note += f"Ordered by {first}."
    return table([row.job for row in rows], columns, anchors, caption, note)


def scores(rows: Sequence[MetricRow], anchors: Mapping[str, str], caption: str) -> Markup | None:
    """The same the other way round, where there are more metrics than jobs."""
    rows = [row for row in rows if row.metrics]
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    if len(names) <= max(len(rows), 6):
        return sweep(rows, anchors, caption)
    best = {name: best_value(name, [row.metrics.get(name) for row in rows]) for name in names}
    head = [el("th", reference(anchors, r.job), scope="col", class_="num") for r in rows]
    body = []
    for name in names:
        cells = [_cell(row.metrics.get(name), best[name]) for row in rows]
        body.append(el("tr", el("th", name, scope="row"), *cells))
    return _scrolling(
        el(
            "table",
            el("caption", caption),
            el("thead", el("tr", el("th", "metric", scope="col"), *head)),
            el("tbody", *body),
        )
    )


def table(
    jobs: Sequence[str],
    columns: Sequence[Column],
    anchors: Mapping[str, str],
    caption: str,
    note: str = "",
) -> Markup:
    """A row a job; beyond the first ones the rows are folded away."""
    heads = []
    for column in columns:
        full = column.full if column.full != column.head else None
        side = None if column.words else "num"
        heads.append(el("th", column.head, scope="col", title=full, class_=side))
    head = el("tr", el("th", "job", scope="col"), *heads)
    body = []
    for place, job in enumerate(jobs[:_MOST]):
        name = reference(anchors, job)
        cells = [_cell(column.values[place], column.best, column.words) for column in columns]
        body.append(el("tr", el("th", name, scope="row"), *cells))
    cut = len(body) if len(body) <= _SHOWN + 5 else _SHOWN
    open_part = el("table", el("caption", caption), el("thead", head), el("tbody", *body[:cut]))
    parts = [_scrolling(open_part)]
    if body[cut:]:
        rest = el("table", el("thead", head), el("tbody", *body[cut:]))
        summary = el("summary", f"{len(body) - cut} more")
        parts.append(el("details", summary, _scrolling(rest), class_="more"))
    if len(jobs) > _MOST:
        note += f" The first {_MOST} of {len(jobs)}; `oumi-flow metrics --csv` has all."
    if note:
        parts.append(el("p", note, class_="muted"))
    return el("div", *parts)


def _scrolling(inside: Markup) -> Markup:
    return el("div", inside, class_="wide")


def _cell(value: Any, best: float | None, words: bool = False) -> Markup:
    if value is None:
        return el("td", class_=None if words else "num")
    told = worded(value)
    if words:
        return el("td", told, class_="key")
    if isinstance(value, float) and not math.isfinite(value):
        return el("td", el("span", told, class_="state bad"), class_="num")
    if best is not None and value == best:
        star = el("span", "★", class_="star", role="img", aria_label="best")
        return el("td", el("b", told), star, class_="num best")
    return el("td", told, class_="num")


def leading(rows: Sequence[MetricRow]) -> str:
    """The metric that says most of how these jobs went; "" if they have none that can be ranked."""
    found: dict[str, int] = {}
    for row in rows:
        for name, _ in key_metrics(row.metrics, 1):
            if best_of(name) is not None:
                found[name] = found.get(name, 0) + 1
    return max(found, key=lambda name: found[name]) if found else ""


def ranked(rows: Sequence[MetricRow], name: str) -> list[MetricRow]:
    """Best first; those that have no such number come last, in their own order."""
    choose = best_of(name) if name else None
    if choose is None:
        return list(rows)

    def place(row: MetricRow) -> tuple[bool, float]:
        value = row.metrics.get(name)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            return True, 0.0
        return False, -value if choose is max else value

    return sorted(rows, key=place)


def best_value(name: str, known: Sequence[Any]) -> float | None:
    """The best of several values, where somebody can say which that is."""
    choose = best_of(name)
    finite = [float(v) for v in known if isinstance(v, (int, float)) and math.isfinite(v)]
    return choose(finite) if choose is not None and len(finite) > 1 else None


def worded(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return number(value) if isinstance(value, (int, float)) else str(value)
