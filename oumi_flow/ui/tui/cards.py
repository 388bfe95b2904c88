"""A job as the list shows it: a card of two or three lines, or one line of a table.

Pure: a board's row and what else is known of the job in, lines of styled text out.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from oumi_flow.board import Board, JobRow, key_metrics
from oumi_flow.dataclass import dataclass
from oumi_flow.model import EMPTY, Decision, JobState, Progress
from oumi_flow.text import duration, ordinal
from oumi_flow.ui import cells
from oumi_flow.ui.frame import bar, share_of, time_to_end
from oumi_flow.ui.layout import cut, cut_first
from oumi_flow.ui.lines import (
    gpu_tag,
    metric_words,
    number,
    rate_words,
    retry_words,
    rough,
    waiting_words,
)
from oumi_flow.ui.theme import STATE_STYLE, Line, Span, Theme, line_width
from oumi_flow.ui.tui.theme import Look, spark

_S = JobState
_BAR = 40  # columns of a bar at most
_SPARK, _SPARK_LEAST = 16, 5  # columns of a little curve
_ACTIVE = (_S.RUNNING, _S.RETRYING)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a job beyond its row; `starts` in seconds, `place` in line from 1."""

    progress: Progress | None = None
    losses: Sequence[float] = ()
    starts: float | None = None
    place: int = 0
    last: str = ""  # what one that failed said last; what is wrong with one that is done


NOTHING = Seen()


def height(row: JobRow) -> int:
    """Lines of its card, the blank one below it included."""
    return 4 if row.state in (_S.RUNNING, _S.FAILED) else 3


def card(board: Board, row: JobRow, look: Look, width: int, now: float, seen: Seen) -> list[Line]:
    """As many lines as `height` says, at most `width` columns, without the edge."""
    theme = look.at(width)
    lines = [_head(row, look, width)]
    if row.state is _S.RUNNING:
        lines += [_where(row, theme, now, seen), _numbers(row, theme, now, seen)]
    else:
        told = words(board, row, now, seen, width - 2)
        said = [(style, theme.text(text)) for style, text in told]
        lines.append(_indented(cut_first(said, width - 2, theme), theme))
        if row.state is _S.FAILED:
            lines.append(_indented([("muted", seen.last)], theme))
    return [*(cut(line, width, theme) for line in lines), []]


def _head(row: JobRow, look: Look, width: int) -> Line:
    style = STATE_STYLE[row.state.value]
    state = row.state.value + (" (runner lost)" if row.runner_lost else "")
    tail: Line = [(style, state)]
    tag = f" {gpu_tag(row.devices)}" if row.devices and row.state in _ACTIVE else ""
    if row.attempt > 1 and row.state in _ACTIVE:
        tail = [("warn", f"attempt {row.attempt}  "), *tail]
    room = width - 2 - line_width(tail) - 2 - cells.width(tag)
    theme = look.theme
    name = cells.fit_middle(theme.text(row.name), max(4, room), theme.more)
    blanks = " " * max(2, width - 2 - cells.width(name) - cells.width(tag) - line_width(tail))
    glyph = (style, look.glyph(row.state) + " ")
    return [glyph, ("name", name), ("muted", tag), ("", blanks), *tail]


def _indented(line: Line, theme: Theme) -> Line:
    return [("", "  "), *((style, theme.text(text)) for style, text in line)]


def _where(row: JobRow, theme: Theme, now: float, seen: Seen) -> Line:
    """`Train: 67% ━━━━━━━━━━╌╌╌ 670/1000 steps`"""
    verb = f"{row.verb.capitalize() or 'Job'}: "
    progress = seen.progress
    share = share_of(progress)
    if share is not None and progress is not None:
        tail = f" {count_words(progress)}"
        lead = f"{verb}{share:.0%} "
        style = "busy"
    elif progress is not None and progress.done is not None:
        return _indented([("", f"{verb}{count_words(progress)}")], theme)
    elif row.expected:
        elapsed = row.elapsed(now) or 0.0
        share = min(0.99, elapsed / row.expected)
        tail = f" of {rough(row.expected)} expected"
        lead, style = f"{verb}{duration(elapsed)} ", "muted"
    else:
        return _indented([("", verb), ("muted", row.detail or "no progress told yet")], theme)
    columns = min(_BAR, theme.width - 2 - cells.width(lead) - cells.width(tail))
    return _indented([("", lead), *bar([(style, share)], columns, theme), ("", tail)], theme)


def _numbers(row: JobRow, theme: Theme, now: float, seen: Seen, columns: int = _SPARK) -> Line:
    """`Loss 0.4312 ▇▆▅▃▂▁ | LR 1e-04 | Time 4m 02s | ETA 2m`, as much of it as there is."""
    metrics = seen.progress.metrics if seen.progress else EMPTY
    parts: list[Line] = []
    name, value = main_metric(metrics)
    if name:
        line: Line = [("muted", f"{name} "), _value(value, "strong")]
        curve = spark(seen.losses, columns, theme)
        if curve:
            line.append(("busy", f" {curve}"))
        parts.append(line)
    rate = metrics.get("learning_rate", metrics.get("lr"))
    if rate is not None:
        parts.append([("muted", "LR "), ("", rate_words(rate))])
    elapsed = row.elapsed(now) or 0.0
    parts.append([("muted", "Time "), ("", duration(elapsed))])
    left = time_to_end(row, elapsed, share_of(seen.progress))
    if left is not None:
        parts.append([("muted", "ETA "), ("", rough(left))])
    joined: Line = []
    for place, part in enumerate(parts):
        if place:
            joined.append(("rule", " │ "))
        joined += part
    over = line_width(joined) + 2 - theme.width
    if over > 0 and columns and seen.losses:
        # The curve gives way first: what it shows the detail shows better.
        shown = min(columns, len(seen.losses)) - over
        return _numbers(row, theme, now, seen, shown if shown >= _SPARK_LEAST else 0)
    return _indented(joined, theme)


def words(board: Board, row: JobRow, now: float, seen: Seen = NOTHING, room: int = 0) -> Line:
    """What there is to say of a job that does not run, in that many columns if that can be."""
    took = "" if row.took is None else duration(row.took)
    if row.state is _S.DONE:
        said = metric_words(row, 2)
        line = [("", said), ("muted", f"{'  ·  ' if said and took else ''}{took}")]
        return [*line, ("bad", f"  ·  {seen.last}")] if seen.last else line
    if row.state is _S.UP_TO_DATE and row.decision is not Decision.UP_TO_DATE:
        return [("muted", row.cause or "what it reads came out the same")]
    if row.state in (_S.UP_TO_DATE, _S.RESTORED):
        return [("muted", row.cause or (row.reasons[0] if row.reasons else ""))]
    if row.state in (_S.FAILED, _S.CANCELLED, _S.INTERRUPTED):
        return [("", row.cause), ("muted", f" after {took}" if took else "")]
    if row.state is _S.BLOCKED:
        return [("muted", row.cause)]
    if board.over:
        return [("muted", "not run")]
    starts = rough(seen.starts) if seen.starts is not None and seen.starts >= 1 else ""
    if row.state is _S.RETRYING:
        again: Line = [("warn", f"  ·  {retry_words(row, now)}")]
        if starts and row.retry_at is not None and row.retry_at <= now:  # it waits, as others do
            again.append(("muted", f"  ·  starts in about {starts}"))
        return [("", row.cause or "failed"), *again]
    said = waiting_words(board, row, now)
    place = ""
    if seen.place and row.state is _S.QUEUED and " in line" not in said:
        place = "next" if seen.place == 1 else ordinal(seen.place)
    return _waits(said, place, starts, room)


def _waits(said: str, place: str, starts: str, room: int) -> Line:
    """For whom it waits, its place in line, and until when; in fewer words where these fit."""
    long = (f", {place} in line" if place else "") + (starts and f"  ·  starts in about {starts}")
    short = (place and f", {place}") + (starts and f", in about {starts}")
    ways = ((said, long), (said, short), (said.removeprefix("waits "), short))
    fits = (way for way in ways if not room or cells.width("".join(way)) <= room)
    words, tail = next(fits, ways[-1])
    return [("muted", words), ("muted", tail)]


def _value(value: float, style: str = "") -> Span:
    """A number in that style; one that is none stands out."""
    return style if isfinite(value) else "bad", number(value)


def main_metric(metrics: object) -> tuple[str, float]:
    """The number to show of a running job: its loss, else what says most; "" for none."""
    if not isinstance(metrics, dict) and not hasattr(metrics, "get"):
        return "", 0.0
    if "loss" in metrics:  # type: ignore[operator]
        return "Loss", metrics["loss"]  # type: ignore[index]
    for name, value in key_metrics(metrics):  # type: ignore[arg-type]
        return name, value
    return "", 0.0


def count_words(progress: Progress) -> str:
    unit = f" {progress.unit}" if progress.unit else ""
    total = f"/{progress.total:.12g}" if progress.total else ""
    return f"{progress.done:.12g}{total}{unit}"


# -- one line a job -----------------------------------------------------------------------

_STATE = 11  # `interrupted`
_MINI = 12
_LEAST = 12  # columns that words of a result want, if they are to be cut


@dataclass(frozen=True, slots=True)
class Columns:
    """Widths of the table's columns; 0: left out."""

    name: int
    gpu: int
    bar: int
    metric: int
    time: int


def columns_of(board: Board, names: Sequence[str], width: int) -> Columns:
    """What fits. The names decide, cut in their middle beyond two fifths of the width."""
    longest = max((cells.width(name) for name in names), default=0)
    gpu = 9 if board.devices and width >= 60 else 0
    time = 8
    left = width - 2 - _STATE - 2 - gpu - time - 2
    name = min(longest, max(8, left * 2 // 5 if left > 50 else left))
    left -= name + 2
    mini = _MINI + 5 if left >= _MINI + 7 else 5 if left >= 7 else 0
    left -= mini + 2 if mini else 0
    return Columns(name, gpu, mini, left - 2 if left >= 10 else 0, time)


def table_row(
    board: Board, row: JobRow, look: Look, width: int, now: float, seen: Seen, columns: Columns
) -> Line:
    theme = look.at(width)
    style = STATE_STYLE[row.state.value]
    name = cells.fit_middle(theme.text(row.name), columns.name, theme.more)
    line: Line = [(style, look.glyph(row.state) + " "), ("name", cells.pad(name, columns.name))]
    line += [("", "  "), (style, cells.pad(row.state.value, _STATE))]
    running = row.state is _S.RUNNING
    elapsed = row.elapsed(now)
    if not running:
        room = width - line_width(line) - 2
        told = _result(board, row, now, seen, room)
        said = [(name, theme.text(text)) for name, text in told]
        if elapsed is None:  # there is nothing to count: the words have all the room
            return [*line, ("", "  "), *cut_first(said, room, theme)]
    if columns.gpu:
        tag = gpu_tag(row.devices) if row.state in _ACTIVE else ""
        line += [
            ("muted", cells.pad(" " + cells.fit(tag, columns.gpu - 1, theme.more), columns.gpu))
        ]
    line += [("", cells.pad("" if elapsed is None else duration(elapsed), columns.time + 2, True))]
    if running:
        share = share_of(seen.progress)
        said = _pace(row, elapsed or 0.0, share, seen) if columns.metric else []
        if columns.bar:
            line.append(("", "  "))
            if share is None:
                line.append(("", " " * columns.bar))
            else:
                line += bar([("busy", share)], columns.bar - 5, theme)
                line.append(("", f"{share:>5.0%}"))
    room = width - line_width(line) - 2
    if room < _LEAST and line_width(said) > room:
        return cut(line, width, theme)
    return [*line, ("", "  "), *cut_first(said, room, theme)]


def _pace(row: JobRow, elapsed: float, share: float | None, seen: Seen) -> Line:
    """`loss 0.4312  eta 2m`"""
    metric, value = main_metric(seen.progress.metrics if seen.progress else EMPTY)
    line: Line = [("muted", f"{metric.lower()} "), _value(value)] if metric else []
    left = time_to_end(row, elapsed, share)
    return [*line, ("muted", f"  eta {rough(left)}")] if left is not None else line


def _result(board: Board, row: JobRow, now: float, seen: Seen, room: int) -> Line:
    """What there is to say of a job beside its time."""
    if row.state is not _S.DONE:
        said = words(board, row, now, seen, room)
        if row.state is _S.RETRYING:
            return [("warn", retry_words(row, now)), ("", f"  ·  {row.cause or 'failed'}")]
        return said[:1] if row.state.ended else said
    line: Line = [("", metric_words(row))]
    return [*line, ("bad", f"  {seen.last}")] if seen.last else line
