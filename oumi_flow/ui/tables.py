"""Answers as tables of text: runs, jobs, metrics, GPUs, why, failures, a valid workflow.

Every function gives text without its last newline. Nothing is read here: callers hand in boards
and plain values. On a stream without a width nothing is cut, so the text can be searched.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from oumi_flow.board import Board, JobRow
from oumi_flow.board.outlook import time_left
from oumi_flow.dataclass import dataclass, field
from oumi_flow.model import JobState, Progress, Workflow
from oumi_flow.text import count, duration, ordinal, size
from oumi_flow.typed import Any
from oumi_flow.ui.frame import Ask
from oumi_flow.ui.layout import columns, paragraph
from oumi_flow.ui.lines import (
    Tail,
    failure_lines,
    gpu_tag,
    group_failures,
    metric_words,
    no_tail,
    number,
    summary,
    time_left_words,
    waiting_words,
)
from oumi_flow.ui.plain import progress_words
from oumi_flow.ui.theme import STATE_STYLE, Line, Span, Theme, line_width

# -- validate -----------------------------------------------------------------------------


def validate_summary(workflow: Workflow, theme: Theme) -> str:
    """What `validate` prints of a workflow that is fine (SPEC §5). Nothing is ever cut."""
    lines: list[Line] = [
        [("good", "✓"), ("", " Workflow configuration is valid!")],
        [("", f"  Name: {workflow.name}")],
        [("", f"  Jobs: {len(workflow.jobs)}")],
    ]
    text = [theme.render(line) for line in lines]
    for job in workflow.jobs:
        implied = set(job.implied)
        needs = ", ".join(f"{n} (implied)" if n in implied else n for n in job.upstream)
        text.append(theme.text(f"    - {job.name}: {job.verb} (depends on: {needs})"))
    for warning in workflow.warnings:
        text.append(theme.render([("warn", "  warning: "), ("", warning)]))
    return "\n".join(text)


# -- status -------------------------------------------------------------------------------


def runs_table(boards: Sequence[Board], theme: Theme, now: float) -> str:
    """One line a run, in the order given."""
    if not boards:
        return "no runs"
    rows: list[list[Line]] = []
    for board in boards:
        failed = len(board.failed)
        rows.append(
            [
                [("name", theme.text(board.run_id))],
                [("", theme.text(board.workflow))],
                [(STATE_STYLE.get(board.state, ""), board.state)],
                [("", f"{board.completed}/{board.total}")],
                [("bad", f"{failed} failed")] if failed else [],
                [("muted", moment(board.started, now))],
                [("", duration(board.elapsed(now)) if board.started is not None else "")],
                [("muted", theme.text(board.output_dir))],
            ]
        )
    header = ("run", "workflow", "state", "done", "", "started", "took", "folder")
    return _text(
        columns(
            rows,
            theme,
            header=header,
            right={3, 6},
            middle={1, 7},
            whole={0, 2, 5},
            drop=(7, 5, 6, 1, 4),
            indent=0,
        ),
        theme,
    )


def jobs_table(
    board: Board, theme: Theme, now: float, progress: Ask | None = None, running: bool = False
) -> str:
    """One run with its jobs; with `running` only those that run."""
    if board.started is None:
        return "a run is only just starting here"
    state = board.state + (f" ({board.cause})" if board.cause not in ("", board.state) else "")
    head: Line = [
        ("strong", board.workflow),
        ("", "  "),
        (STATE_STYLE.get(board.state, ""), state),
        ("muted", f"  {board.run_id}  started {moment(board.started, now)}"),
    ]
    if board.state == "lost":
        head.append(("warn", "  the runner is gone; run it again to go on"))
    shown = [row for row in board.rows.values() if not running or row.state is JobState.RUNNING]
    rows = [_status(board, row, theme, now, progress) for row in shown]
    lines = paragraph(head, theme)
    if rows:
        header = ("job", "state", "time", "")
        lines += [[], *columns(rows, theme, header=header, right={2}, whole={1}, drop=(2, 3))]
    foot = summary_of(board, now)
    left = "" if board.over else time_left_words(time_left(board, now))
    if left:
        foot.append(("muted", f"; {left}"))
    return _text([*lines, [], *paragraph(foot, theme)], theme)


def summary_of(board: Board, now: float) -> Line:
    """The counts of a run that is over, or so far."""
    if board.over:
        return summary(board, now)
    waiting = board.total - board.ended - len(board.running)
    others = [
        (board.counts[state], state.value) for state in (JobState.CANCELLED, JobState.BLOCKED)
    ]
    return [
        ("busy", f"{len(board.running)} running"),
        ("", f", {waiting} waiting, {board.completed} completed, "),
        ("bad" if board.failed else "", f"{len(board.failed)} failed"),
        ("", "".join(f", {number} {word}" for number, word in others if number)),
        ("muted", f" after {duration(board.elapsed(now))}"),
    ]


def _status(
    board: Board, row: JobRow, theme: Theme, now: float, progress: Ask | None
) -> list[Line]:
    elapsed = row.elapsed(now)
    tag = gpu_tag(row.devices) if row.state is JobState.RUNNING else ""
    state = row.state.value + (" (runner lost)" if row.runner_lost else "")
    words: Line = [("", theme.text(row.cause if row.cause != row.state.value else ""))]
    if row.state is JobState.RUNNING:
        words = [("muted", _where(progress(row.name) if progress else None))]
    elif row.state is JobState.DONE:
        words = [("", metric_words(row, 2))]
    elif not (row.state.ended or board.over):
        words = [("muted", waiting_words(board, row, now))]
    return [
        [("name", theme.text(row.name)), ("muted", f" {tag}" if tag else "")],
        [(STATE_STYLE[row.state.value], state)],
        [("", "" if elapsed is None else duration(elapsed))],
        [(style, theme.text(text)) for style, text in words],
    ]


def _where(progress: Progress | None) -> str:
    if progress is None:
        return ""
    loss = progress.metrics.get("loss")
    words = [progress_words(progress), "" if loss is None else f"loss {number(loss)}"]
    return "  ".join(word for word in words if word)


def moment(at: float | None, now: float) -> str:
    """`14:02` for today, else `2026-01-03 14:02`; local time."""
    if at is None:
        return ""
    then = time.localtime(at)
    today = time.localtime(now)[:3] == then[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


# -- metrics ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A job with its numbers; `config` are its flat config keys; `before`: an earlier run's."""

    job: str
    metrics: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None
    verb: str = ""


def differing_keys(rows: Sequence[MetricRow]) -> list[str]:
    """The config keys that do not have the same value in all rows of a verb.

    A training and an evaluation differ in everything; what is compared are trainings.
    """
    of_verb: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.config:
            of_verb.setdefault(row.verb, []).append(row.config)
    differ: dict[str, None] = {}
    for configs in of_verb.values():
        for key in dict.fromkeys(key for config in configs for key in config):
            if len({repr(config.get(key, _ABSENT)) for config in configs}) > 1:
                differ[key] = None
    return list(differ)


_ABSENT = object()


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Each dotted key with the shortest end of it that no other one has."""
    short: dict[str, str] = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        others = [f".{other}" for other in keys if other != key]
        short[key] = next(
            (end for end in ends if not any(other.endswith(f".{end}") for other in others)), key
        )
    return short


def metrics_table(rows: Sequence[MetricRow], theme: Theme) -> str:
    """Jobs × (config keys that differ, metrics); an earlier run's numbers stand before an arrow.

    Where that is too wide, each job with its numbers below it: no number is ever cut.
    """
    rows = [row for row in rows if row.metrics or row.before]
    if not rows:
        return "no metrics yet"
    keys = differing_keys(rows)
    names = list(
        dict.fromkeys(name for row in rows for name in (*row.metrics, *(row.before or {})))
    )
    short = short_keys(keys)
    table: list[list[Line]] = []
    for row in rows:
        cells: list[Line] = [[("name", theme.text(row.job))]]
        cells += [[("muted", theme.text(_value(row.config.get(key))))] for key in keys]
        cells += [_change(row, name) for name in names]
        table.append(cells)
    header = ["job", *(theme.text(short[key]) for key in keys), *map(theme.text, names)]
    lines = columns(table, theme, header=header, right=range(1, len(header)), indent=0)
    if theme.width and max(map(line_width, lines)) > theme.width:
        return _text(_stacked(header, table, theme), theme)
    return _text(lines, theme)


def _stacked(header: Sequence[str], table: Sequence[Sequence[Line]], theme: Theme) -> list[Line]:
    lines: list[Line] = []
    for name, *cells in table:
        pairs: list[list[Line]] = [
            [[("muted", word)], cell]
            for word, cell in zip(header[1:], cells, strict=True)
            if line_width(cell)
        ]
        lines += [[], name, *columns(pairs, theme)]
    return lines[1:]


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return number(value) if isinstance(value, (int, float)) else str(value)


def _change(row: MetricRow, name: str) -> Line:
    now = _value(row.metrics.get(name))
    if row.before is None:
        return [("", now)]
    before = _value(row.before.get(name))
    return [("", now)] if before == now else [("muted", f"{before or '-'} → "), ("", now or "-")]


# -- gpus ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GpuRow:
    """A GPU token: sizes in bytes, `utilization` in percent, who it is in finished words."""

    index: int
    name: str = ""
    memory_used: int = 0
    memory_total: int = 0
    utilization: float | None = None
    holder: str = ""  # `train-1e-4 of run R, user U, since 14:02`; "" when free
    stranger: str = ""  # `used by process 4711 (python, user bob), which is no job of ours`
    lost: bool = False
    waiting: Sequence[str] = ()  # `eval of run R, user U`, the first in line first


def gpus_table(rows: Sequence[GpuRow], theme: Theme, waiting: Sequence[str] = ()) -> str:
    """`waiting`: all who wait for any of them, the first in line first."""
    if not rows:
        return "no GPUs found: jobs run on the CPU"
    table: list[list[Line]] = []
    for row in rows:
        memory = f"{size(row.memory_used)} of {size(row.memory_total)}" if row.memory_total else ""
        busy = "" if row.utilization is None else f"{row.utilization:.0f}%"
        free: Span = ("good", "free")
        if row.lost:
            free = ("bad", "lost")
        elif row.stranger:
            free = ("warn", theme.text(row.stranger))
        table.append(
            [
                [("name", str(row.index))],
                [("", theme.text(row.name))],
                [("", busy)],
                [("", memory)],
                [("", theme.text(row.holder))] if row.holder else [free],
            ]
        )
    header = ("GPU", "name", "busy", "memory", "held by")
    lines = columns(
        table, theme, header=header, right={0, 2, 3}, middle={1}, drop=(1, 3, 2), indent=0
    )
    for place, who in enumerate(waiting, 1):
        spans: list[Span] = [("muted", f"{ordinal(place)} in line: "), ("", theme.text(who))]
        lines += paragraph(spans, theme)
    return _text(lines, theme)


# -- why ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Why:
    """Everything that is known of one job's decision, in finished words."""

    job: str
    verb: str
    decision: str  # a Decision's value
    reasons: Sequence[str] = ()  # for `up to date` the one line that says since when
    waits_for: Sequence[tuple[str, str]] = ()  # upstream -> its decision or state
    runs_after: Sequence[str] = ()  # downstreams that would run because of it
    notes: Sequence[str] = ()  # implied dependencies, versions that differ …


def why_text(why: Why, theme: Theme) -> str:
    """Sections: why it runs or is up to date, what it waits for, what would run after it."""
    word = {"run": "will run", "may run": "may run"}.get(why.decision, why.decision)
    lines: list[Line] = [
        [
            ("name", theme.text(why.job)),
            ("muted", f" ({why.verb}) "),
            (STATE_STYLE.get(word, ""), word),
        ]
    ]
    up_to_date = why.decision == "up to date"
    lines += _section("made" if up_to_date else "because", why.reasons, theme)
    waits = [f"{name} ({state})" if state else name for name, state in why.waits_for]
    lines += _section("waits for" if not up_to_date else "needs", waits, theme)
    lines += _section(
        "would run after it" if not up_to_date else "needed by", why.runs_after, theme
    )
    lines += _section("notes", why.notes, theme)
    return _text(lines, theme)


def _section(title: str, items: Sequence[str], theme: Theme) -> list[Line]:
    if not items:
        return []
    lines: list[Line] = [[], [("muted", title)]]
    for item in items:
        # A reason of several lines is a difference: shown as it is.
        for part in item.split("\n"):
            lines += paragraph([("", theme.text(part))], theme, indent=2, hang=4)
    return lines


# -- errors -------------------------------------------------------------------------------


def errors_text(rows: Iterable[JobRow], theme: Theme, tail: Tail = no_tail, limit: int = 15) -> str:
    """All failures, those of equal cause together, with the last `limit` lines of a log."""
    failures = group_failures(rows, tail)
    if not failures:
        return "no failures"
    lines: list[Line] = []
    for failure in failures:
        lines += [[], *failure_lines(failure, theme, limit)]
    jobs = sum(len(failure.jobs) for failure in failures)
    lines += [[], [("bad", f"{count(jobs, 'job')} failed")]]
    return _text(lines[1:], theme)


def _text(lines: Iterable[Line], theme: Theme) -> str:
    return "\n".join(theme.render(line) for line in lines)
