"""The panel beside the jobs: counts, GPU time, cost, the best number, the longest way.

Pure: a board and times in, lines of styled text out.
"""

from __future__ import annotations

from collections.abc import Sequence

from oumi_flow.board import Board, key_metrics
from oumi_flow.metrics import best_of
from oumi_flow.model import JobState
from oumi_flow.ui import cells
from oumi_flow.ui.layout import cut
from oumi_flow.ui.lines import number, rough
from oumi_flow.ui.theme import STATE_STYLE, Line, Theme, line_width

_S = JobState
_LABEL = 10


def panel(
    board: Board, theme: Theme, now: float, critical: Sequence[str], seconds: float
) -> list[Line]:
    """As many lines as there is something to say, at most `theme.width` columns.

    `critical` is the longest way that is left, of so many seconds.
    """
    lines = [
        _row("Jobs", counts(board), theme),
        *_gpu_lines(board, theme, now),
        _row("Cost", cost(board, now), theme),
        _row("Best", best(board), theme),
        _row("Critical", path(board, critical, seconds, theme), theme),
    ]
    notes = [note for note in board.notes if note.level == "warning"]
    if notes:
        more = f" (+{len(notes) - 1} more)" if len(notes) > 1 else ""
        lines.append(_row("Warning", [("warn", notes[-1].text + more)], theme))
    return [cut(line, theme.width, theme) for line in lines if line]


def _row(label: str, said: Line, theme: Theme) -> Line:
    if not said:
        return []
    words = [(style, theme.text(text)) for style, text in said]
    return [("", " "), ("muted", cells.pad(label, _LABEL)), *words]


def counts(board: Board) -> Line:
    """`2 running, 4 waiting, 3 done, 1 up to date`."""
    tally = board.counts
    waiting = sum(tally[s] for s in (_S.WAITING, _S.READY, _S.QUEUED))
    line: Line = []
    for state in (
        _S.RUNNING,
        _S.RETRYING,
        _S.QUEUED,
        _S.DONE,
        _S.RESTORED,
        _S.UP_TO_DATE,
        _S.FAILED,
        _S.BLOCKED,
        _S.CANCELLED,
        _S.INTERRUPTED,
    ):
        number_of, word = tally[state], state.value
        if state is _S.QUEUED:
            number_of, word = waiting, "not run" if board.over else "waiting"
        if number_of:
            if line:
                line.append(("muted", ", "))
            line.append((STATE_STYLE.get(word, "muted"), f"{number_of} {word}"))
    return line


def _gpu_lines(board: Board, theme: Theme, now: float) -> list[Line]:
    if not board.devices:
        return []
    used = board.gpu_seconds(now)
    had = board.elapsed(now) * len(board.devices)
    idle = max(0.0, had - used)
    line: Line = [("", f"{hours(used)} used"), ("muted", f", {hours(idle)} idle")]
    if had >= 1:
        line.append(("muted", f", {min(1.0, used / had):.0%} utilisation"))
    return [_row("GPU-hours", line, theme)]


def hours(seconds: float) -> str:
    """GPU-hours, as fine as it makes sense: `0.02`, `1.4`, `120`."""
    value = seconds / 3600
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def cost(board: Board, now: float) -> Line:
    if not board.cost_per_gpu_hour:
        return []
    line: Line = [("", f"{board.cost(now):.2f}")]
    expected = board.expected_cost()
    if expected is not None and not board.over:
        line.append(("muted", f" of about {expected:.2f} expected"))
    return line


def best(board: Board) -> Line:
    """The best value of the metric that most finished jobs have."""
    found: dict[str, list[tuple[float, str]]] = {}
    for row in board.rows.values():
        if row.state is _S.DONE:
            for name, value in key_metrics(row.metrics):
                if value == value:
                    found.setdefault(name, []).append((value, row.name))
    ranked = [name for name in found if best_of(name) is not None]
    if not ranked:
        return []
    name = max(ranked, key=lambda one: len(found[one]))
    choose = min if best_of(name) is min else max
    value, job = choose(found[name])
    return [("muted", f"{name} "), ("strong", number(value)), ("muted", "  "), ("", job)]


def path(board: Board, critical: Sequence[str], seconds: float, theme: Theme) -> Line:
    """`train-1e-4 → eval-1e-4 → pack  42m`: the chain of jobs that decides when the run ends."""
    names = [name for name in critical if name in board.rows]
    if not names or board.over:
        return []
    tail = f"  {rough(seconds)}" if seconds >= 1 else ""
    arrow = " → " if theme.unicode else " -> "
    room = theme.width - _LABEL - 1 - len(tail)
    text = arrow.join(names)
    while cells.width(theme.text(text)) > room and len(names) > 2:
        names = [*names[:-2], names[-1]] if len(names) > 3 else [names[0], names[-1]]
        text = arrow.join([*names[:-1], theme.more, names[-1]])
    return [("", cells.fit(theme.text(text), room, theme.more)), ("muted", tail)]


def width_of(lines: Sequence[Line]) -> int:
    return max(map(line_width, lines), default=0)
