"""The top of the screen: the workflow, where its run is, and the GPUs it uses.

Pure: a board and times in, lines of styled text out.
"""

from __future__ import annotations

from collections.abc import Sequence

from oumi_flow.board import Board
from oumi_flow.board.outlook import TimeLeft
from oumi_flow.model import JobState
from oumi_flow.text import duration, size
from oumi_flow.ui import cells
from oumi_flow.ui.frame import bar
from oumi_flow.ui.layout import cut
from oumi_flow.ui.lines import time_left_words
from oumi_flow.ui.tables import GpuRow
from oumi_flow.ui.theme import STATE_STYLE, Line, Theme, line_width

_WORDS = {"planned": "Planned", "done": "Completed"}
_GPU_LEAST = 22  # columns of a GPU in the strip


def title(board: Board, theme: Theme, now: float, left: TimeLeft | None, live: bool = True) -> Line:
    """`sft-sweep  Status: Running (3/10 completed)  ━━━━──  12m 04s · about 9m left`."""
    width = theme.width
    if not board.version:
        return cut(
            [("", " "), ("muted", theme.text("reading what the run has told …"))], width, theme
        )
    state = _WORDS.get(board.state, board.state.capitalize())
    status: Line = [
        ("muted", "Status: "),
        (STATE_STYLE.get(board.state, "strong"), state),
        ("", f" ({board.completed}/{board.total} completed)"),
    ]
    times: Line = [("", duration(board.elapsed(now)))] if board.started is not None else []
    words = "" if board.over else time_left_words(left)
    if words:
        times.append(("muted", f" {_dot(theme)} {words}"))
    if board.state == "lost" and width >= 60:  # nobody knows its end
        times.insert(0, ("muted", "last heard of after "))
    if width < 44:  # where it matters most
        status = [status[1], ("", f" {board.completed}/{board.total}")]
    name = theme.text(board.workflow) or "run"
    if words and line_width(status) + line_width(times) + cells.width(name) + 6 > width:
        times, words = times[:1], ""
    rest = line_width(status) + line_width(times) + 6
    name = cells.fit_middle(name, max(8, min(40, width - rest)), theme.more)
    line: Line = [("", " "), ("title", name), ("", "  "), *status]
    room = width - line_width(line) - line_width(times) - 5
    if room >= 8:
        line += [("", "  "), *bar(shares(board), min(room, 60), theme)]
    blanks = width - line_width(line) - line_width(times) - 1
    if times and blanks >= 1:
        line += [("", " " * blanks), *times]
    return cut(line, width, theme)


def shares(board: Board) -> list[tuple[str, float]]:
    """What has ended well, badly, not at all, and what runs, as parts of one."""
    total = max(1, board.total)
    return [
        ("good", board.completed / total),
        ("bad", len(board.failed) / total),
        ("warn", (board.ended - board.completed - len(board.failed)) / total),
        ("busy", len(board.running) / total),
    ]


def gpu_strip(board: Board, gpus: Sequence[GpuRow], theme: Theme) -> Line:
    """The GPUs of the run, each with its load and the job that holds it; [] where there are none.

    `gpus` may be empty: who holds what, the board knows too.
    """
    if not board.devices or board.over:
        return []
    known = {row.index: row for row in gpus}
    holders = {device: row.name for row in board.running.values() for device in row.devices}
    room = (theme.width - 1) // len(board.devices) - 2
    if room < _GPU_LEAST:
        busy = sum(str(index) in holders for index in board.devices)
        marks: Line = [
            ("busy" if str(index) in holders else "muted", _box(str(index) in holders, theme))
            for index in board.devices
        ]
        words = f" {busy}/{len(board.devices)} GPUs busy"
        return cut([("", " "), *marks, ("muted", words)], theme.width, theme)
    line: Line = [("", " ")]
    for index in board.devices:
        gpu = known.get(index)
        holder = holders.get(str(index), "")
        one = _gpu(index, gpu, holder, theme, min(room, 46))
        line += [*one, ("", " " * (min(room, 46) - line_width(one) + 2))]
    return cut(line, theme.width, theme)


def _gpu(index: int, gpu: GpuRow | None, holder: str, theme: Theme, room: int) -> Line:
    line: Line = [("muted", f"GPU {index} ")]
    load = gpu.utilization if gpu is not None else None
    if load is not None:
        line += bar([("busy", load / 100)], 8, theme)
        line.append(("", f" {load:.0f}% "))
    if gpu is not None and gpu.memory_total and room >= 40:
        used = size(gpu.memory_used).split(" ")[0]
        line.append(("muted", f"{used}/{size(gpu.memory_total)} "))
    rest = room - line_width(line)
    if holder:
        line.append(("", cells.fit_middle(theme.text(holder), rest, theme.more)))
    elif gpu is not None and gpu.holder:
        line.append(("warn", cells.fit(theme.text(gpu.holder), rest, theme.more)))
    elif gpu is not None and gpu.stranger:
        line.append(("warn", cells.fit("used by others", rest, theme.more)))
    else:
        line.append(("muted", cells.fit("free", rest, theme.more)))
    return line


def _box(full: bool, theme: Theme) -> str:
    if theme.unicode:
        return "■" if full else "□"
    return "#" if full else "."


def _dot(theme: Theme) -> str:
    return "·" if theme.unicode else "-"


def totals(board: Board, theme: Theme, keys: Line) -> Line:
    """The status bar: `Total: 10 | Running: 2 | Completed: 3 | Failed: 0`, then what keys do."""
    counts = board.counts
    line: Line = [
        ("", f" Total: {board.total}"),
        ("rule", " | "),
        ("busy" if board.running else "", f"Running: {len(board.running)}"),
        ("rule", " | "),
        ("good" if board.completed else "", f"Completed: {board.completed}"),
        ("rule", " | "),
        ("bad" if board.failed else "", f"Failed: {len(board.failed)}"),
    ]
    if line_width(line) > theme.width:
        line = [
            ("", f" {board.total}:"),
            ("busy", f" {len(board.running)} run"),
            ("good", f" {board.completed} ok"),
            ("bad" if board.failed else "", f" {len(board.failed)} bad"),
        ]
    for state, word in ((JobState.BLOCKED, "Blocked"), (JobState.CANCELLED, "Cancelled")):
        more: Line = [("rule", " | "), ("warn", f"{word}: {counts[state]}")]
        if counts[state] and line_width([*line, *more]) < theme.width - line_width(keys):
            line += more
    blanks = theme.width - line_width(line) - line_width(keys) - 1
    while keys and blanks < 2:
        # From the left: the last ones, help among them, are the way to all the others.
        keys = keys[3:]
        blanks = theme.width - line_width(line) - line_width(keys) - 1
    if keys:
        line += [("", " " * blanks), *keys]
    return cut(line, theme.width, theme)
