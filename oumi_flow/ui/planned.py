"""The plan before anything runs: what will run, what may, each with why; and what that costs."""

from __future__ import annotations

from collections.abc import Sequence

from oumi_flow.board import Board, JobRow
from oumi_flow.board.outlook import time_left
from oumi_flow.model import Decision
from oumi_flow.text import count, duration, quoted
from oumi_flow.ui import cells
from oumi_flow.ui.layout import hanging, paragraph
from oumi_flow.ui.lines import heading, rough
from oumi_flow.ui.theme import STATE_STYLE, Line, Span, Theme, line_width

_NAME_COLUMN = 48


def plan_lines(
    board: Board, theme: Theme, *, verbose: int = 0, orphans: Sequence[str] = ()
) -> list[Line]:
    """The whole plan. With `verbose` every reason, and the jobs that are up to date."""
    of = {
        decision: [row for row in board.rows.values() if row.decision is decision]
        for decision in Decision
    }
    lines = paragraph(heading(board), theme)
    shown = [(Decision.RUN, "will run"), (Decision.MAY_RUN, "may run")]
    if verbose:
        shown.append((Decision.UP_TO_DATE, "up to date"))
    shape = _Shape([row for decision, _ in shown for row in of[decision]], theme)
    for decision, title in shown:
        if of[decision]:
            lines += [[], [(STATE_STYLE[title], title)]]
            for row in of[decision]:
                lines += _job(row, shape, theme, verbose)
    if orphans:
        names: list[Span] = [("", f"{theme.text(name)}  ") for name in orphans]
        title = f"{count(len(orphans), 'folder')} of jobs that are no longer in the file: "
        advice = f"(remove: oumi-flow clean {quoted(board.path or 'FILE')} --orphans)"
        lines += [[], *paragraph([("warn", title), *names, ("muted", advice)], theme)]
    expected = _expected(board)
    if expected:
        lines += [[], [("muted", "expected  "), ("", expected)]]
    return lines


class _Shape:
    """How wide the columns of all sections are."""

    def __init__(self, rows: Sequence[JobRow], theme: Theme) -> None:
        limit = min(_NAME_COLUMN, theme.width * 2 // 5) if theme.width else _NAME_COLUMN
        names = (cells.width(theme.text(row.name)) for row in rows)
        self.name = min(max(names, default=0), limit)
        self.verb = max((len(row.verb) for row in rows), default=0)
        self.time = max((len(_time(row)) for row in rows), default=0)


def _time(row: JobRow) -> str:
    return "" if row.expected is None else f"~{duration(row.expected)}"


def _job(row: JobRow, shape: _Shape, theme: Theme, verbose: int) -> list[Line]:
    lead: Line = [
        ("", "  "),
        ("name", cells.pad(theme.text(row.name), shape.name)),
        ("muted", f"  {cells.pad(row.verb, shape.verb)}"),
    ]
    if shape.time:
        lead.append(("muted", f"  {cells.pad(_time(row), shape.time, right=True)}"))
    lead.append(("", "  "))
    shown = row.reasons if verbose else row.reasons[:1]
    more = len(row.reasons) - len(shown)
    # With -v a reason may hold a difference, line by line.
    shown = tuple(line for reason in shown for line in reason.split("\n"))
    lines: list[Line] = [] if shown else [lead]
    for place, reason in enumerate(shown):
        words = theme.text(reason) + (f" (+{more} more)" if more else "")
        block = hanging(lead, ("", words), theme)
        # Under a lead that stands alone already, further reasons need no empty one.
        lines += block[1:] if place and not _said(block[0]) else block
        if place == 0 and len(shown) > 1:
            lead = [("", " " * line_width(lead))]
    return lines


def _said(line: Line) -> bool:
    return any(text.strip() for _, text in line)


def _expected(board: Board) -> str:
    left = time_left(board, board.last_event)
    if left is None or left.seconds < 1:
        return ""
    words = f"{left.sure} {rough(left.seconds)}"
    cost = board.expected_cost()
    return words + (f", cost {cost:.2f}" if cost else "")
