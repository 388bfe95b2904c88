"""One picture of a run that goes on: what the live block shows at an instant.

Pure: a board, a size and a time in; lines of styled text out, never wider or higher than asked.
Knows nothing of rich, threads or terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from oumi_flow.board import Board, JobRow, key_metrics
from oumi_flow.board.outlook import TimeLeft
from oumi_flow.dataclass import dataclass
from oumi_flow.model import EMPTY, JobState, Progress
from oumi_flow.text import duration
from oumi_flow.ui import cells
from oumi_flow.ui.layout import cut
from oumi_flow.ui.lines import gpu_tag, number, rate_words, time_left_words, waiting_words
from oumi_flow.ui.theme import Line, Span, Theme, line_width

Ask = Callable[[str], Progress | None]

_SPIN = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SPIN_ASCII = "|/-\\"
_SPIN_SECONDS = 0.125
_BAR = 24  # columns of a job's bar at most
_QUEUED = 5  # jobs shown that wait
_FIXED = 5  # lines besides jobs: bar, three blank ones, footer


def frame(
    board: Board, theme: Theme, height: int, now: float, progress: Ask, left: TimeLeft | None
) -> list[Line]:
    """The block, at most `theme.width` columns and `height` lines."""
    room = max(1, height - _FIXED)
    running = list(board.running.values())
    waiting = _waiting(board)
    queued = board.total - board.ended - len(running)
    # Those that run come first; one line at least says how many wait, if there is any room.
    spare = max(room - len(running), 1 if room > 3 else 0)
    for_queue = min(_QUEUED, queued, spare)
    body = _running(board, running, theme, room - for_queue, now, progress)
    body += _queue(board, list(islice(waiting, for_queue)), queued, for_queue, theme, now)
    lines = [[], _overall(board, theme, now, left)]
    if body:
        lines += [[], *body]
    lines += [[], _footer(board, theme)]
    if len(lines) > height:  # a very low window: what matters most
        lines = [line for line in lines if line][:height]
    return [cut(line, theme.width, theme) for line in lines]


# -- the whole run ------------------------------------------------------------------------


def _overall(board: Board, theme: Theme, now: float, left: TimeLeft | None) -> Line:
    name = ("strong", cells.fit_middle(theme.text(board.workflow), theme.width // 2, theme.more))
    tail: Line = [
        ("", f"  {board.completed}/{board.total}"),
        ("muted", f"  {duration(board.elapsed(now))}"),
    ]
    words = time_left_words(left)
    if words and line_width([name, *tail]) + len(words) + 12 <= theme.width:
        tail.append(("muted", f"  {words}"))
    room = theme.width - line_width([name, *tail]) - 2
    total = max(1, board.total)
    parts = [
        ("good", board.completed / total),
        ("bad", len(board.failed) / total),
        ("warn", (board.ended - board.completed - len(board.failed)) / total),
        ("busy", len(board.running) / total),
    ]
    return [name, ("", "  "), *bar(parts, min(room, 60), theme), *tail]


def bar(parts: list[tuple[str, float]], columns: int, theme: Theme) -> Line:
    """Shares of one, each in its style, on a muted rail. Nothing where there is no room."""
    if columns < 4:
        return []
    full, rail = ("━", "─") if theme.unicode else ("#", "-")
    line: Line = []
    share, at = 0.0, 0
    for style, part in parts:
        share += part
        # What has begun shows; only what is complete fills the rail.
        end = columns if share >= 1 else min(columns - 1, round(share * columns))
        if part > 0 and end <= at < columns - 1 and share < 1:
            end = at + 1
        if end > at:
            line.append((style, full * (end - at)))
            at = end
    if at < columns:
        line.append(("muted", rail * (columns - at)))
    return line


def _footer(board: Board, theme: Theme) -> Line:
    counts = board.counts
    line: Line = [
        ("busy" if board.running else "", f"Running: {len(board.running)}"),
        ("muted", " | "),
        ("good" if board.completed else "", f"Completed: {board.completed}"),
        ("muted", " | "),
        ("bad" if board.failed else "", f"Failed: {len(board.failed)}"),
    ]
    for state, word in ((JobState.BLOCKED, "Blocked"), (JobState.CANCELLED, "Cancelled")):
        if counts[state]:
            line += [("muted", " | "), ("warn", f"{word}: {counts[state]}")]
    total: Line = [("", f"Total: {board.total}"), ("muted", " | ")]
    # The bar above says the total too, so that is what a narrow screen does without.
    return [*total, *line] if line_width(total) + line_width(line) <= theme.width else line


# -- running jobs -------------------------------------------------------------------------


@dataclass(slots=True)
class _Cells:
    """What can be said of a running job, each a column."""

    name: Line
    share: float | None
    count: str = ""
    loss: str = ""
    rate: str = ""
    took: str = ""
    eta: str = ""


def _running(
    board: Board, rows: list[JobRow], theme: Theme, room: int, now: float, progress: Ask
) -> list[Line]:
    if len(rows) > room:
        shown = rows[: max(0, room - 1)]
        more = f"{theme.more} and {len(rows) - len(shown)} more running"
    else:
        shown, more = rows, ""
    said = [_cells(row, theme, now, progress(row.name)) for row in shown]
    spin = _SPIN if theme.unicode else _SPIN_ASCII
    turn = spin[int(now / _SPIN_SECONDS) % len(spin)]
    lines = _columns(said, theme, turn)
    return [*lines, [("muted", f"  {more}")]] if more else lines


def _cells(row: JobRow, theme: Theme, now: float, progress: Progress | None) -> _Cells:
    tag = gpu_tag(row.devices)
    limit = max(10, theme.width * 2 // 5 - len(tag))
    name = cells.fit_middle(theme.text(row.name), limit, theme.more)
    elapsed = row.elapsed(now) or 0.0
    result = _Cells([("name", name), ("muted", f" {tag}" if tag else "")], None)
    result.took = duration(elapsed)
    done = progress.done if progress else None
    total = progress.total if progress else None
    metrics = progress.metrics if progress else EMPTY
    if progress and done is not None:
        unit = f" {progress.unit}" if progress.unit else ""
        result.count = f"{done:g}/{total:g}{unit}" if total else f"{done:g}{unit}"
        result.share = share_of(progress)
    eta = time_to_end(row, elapsed, result.share)
    result.eta = f"eta {duration(eta)}" if eta is not None else ""
    if "loss" in metrics:
        result.loss = f"loss {number(metrics['loss'])}"
    else:
        result.loss = " ".join(f"{n} {number(v)}" for n, v in key_metrics(metrics))
    rate = metrics.get("learning_rate", metrics.get("lr"))
    result.rate = f"lr {rate_words(rate)}" if rate is not None else ""
    if row.attempt > 1 and not result.loss:
        result.loss = f"attempt {row.attempt}"
    return result


def share_of(progress: Progress | None) -> float | None:
    """How much of it is done, 0 to 1; None where nobody can say."""
    if progress is None or progress.done is None or not progress.total:
        return None
    return min(1.0, max(0.0, progress.done / progress.total))


def ends(board: Board, progress: Ask, now: float) -> dict[str, float | None]:
    """Seconds that each running job still needs, where its pace or the last time say so."""
    return {
        row.name: time_to_end(row, row.elapsed(now) or 0.0, share_of(progress(row.name)))
        for row in board.running.values()
    }


def time_to_end(row: JobRow, elapsed: float, share: float | None) -> float | None:
    """Seconds to its end: by its own pace once that says something, else by last time's."""
    if share is not None and share >= 0.02 and elapsed >= 5 and not row.detail:
        return elapsed / share * (1 - share)
    if row.expected is not None and row.expected > elapsed:
        return row.expected - elapsed
    return None


def _columns(said: list[_Cells], theme: Theme, turn: str) -> list[Line]:
    """As many columns as fit, those that say most first."""

    def widest(texts: Iterator[str]) -> int:
        return max(map(cells.width, texts), default=0)

    name = max((line_width(cell.name) for cell in said), default=0)
    left = theme.width - 2 - name
    columns: dict[str, int] = {}
    for column in ("took", "count", "loss", "eta", "rate"):
        wide = widest(getattr(cell, column) for cell in said)
        if column == "count" and wide + 2 > left:
            for cell in said:
                cell.count = "" if cell.share is None else f"{cell.share:.0%}"
            wide = widest(cell.count for cell in said)
        # A bar is worth more than the last two.
        reserve = 10 if column in ("eta", "rate") and columns.get("count") else 0
        if wide and wide + 2 + reserve <= left:
            columns[column] = wide
            left -= wide + 2
    rail = min(_BAR, left - 2) if any(cell.share is not None for cell in said) else 0
    lines = []
    for cell in said:
        line: Line = [("busy", f"{turn} "), *cell.name, ("", " " * (name - line_width(cell.name)))]
        if rail >= 6:
            line.append(("", "  "))
            line += (
                bar([("busy", cell.share)], rail, theme)
                if cell.share is not None
                else [("", " " * rail)]
            )
        line += _cell(columns, "count", cell.count, "")
        line += _cell(columns, "loss", cell.loss, "", left=True)
        line += _cell(columns, "rate", cell.rate, "muted", left=True)
        line += _cell(columns, "took", cell.took, "")
        line += _cell(columns, "eta", cell.eta, "muted", left=True)
        lines.append(line)
    return lines


def _cell(columns: dict[str, int], column: str, text: str, style: str, left: bool = False) -> Line:
    if column not in columns:
        return []
    padded: Span = (style, cells.pad(text, columns[column], right=not left))
    return [("", "  "), padded]


# -- jobs that wait -----------------------------------------------------------------------


def _waiting(board: Board) -> Iterator[JobRow]:
    """Jobs that wait, those that can be next first."""
    # A run may have thousands: three lazy walks, of which a frame takes a few steps.
    for states in ((JobState.QUEUED,), (JobState.RETRYING,), (JobState.WAITING, JobState.READY)):
        if any(board.counts[state] for state in states):
            yield from (row for row in board.rows.values() if row.state in states)


def _queue(
    board: Board, rows: list[JobRow], total: int, room: int, theme: Theme, now: float
) -> list[Line]:
    if total > room and room:
        rows = rows[: room - 1]
    names = {row.name: cells.fit_middle(theme.text(row.name), theme.width * 2 // 5) for row in rows}
    wide = max(map(cells.width, names.values()), default=0)
    lines: list[Line] = []
    for row in rows:
        words = waiting_words(board, row, now)
        text = theme.text(words)
        lead = f"  {cells.pad(names[row.name], wide)}  "
        lines.append([("", lead), ("muted", cells.fit(text, theme.width - wide - 4, theme.more))])
    if room and total > len(rows):
        word = "more waiting" if rows else "waiting"
        lines.append([("muted", f"  {theme.more} and {total - len(rows)} {word}")])
    return lines
