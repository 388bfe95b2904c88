"""What the page begins and ends with: title, numbers and failures; where it all comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oumi_flow.board import Board
from oumi_flow.graph import critical_path, descendants
from oumi_flow.model import JobState
from oumi_flow.text import count, duration
from oumi_flow.ui import cells
from oumi_flow.ui.lines import Failure, group_failures, number
from oumi_flow.ui.report import marks, tables
from oumi_flow.ui.report.facts import Report
from oumi_flow.ui.report.jobs import file_table, named, terms, values
from oumi_flow.ui.report.markup import Markup, el, join, lines, reference
from oumi_flow.ui.report.moments import moment
from oumi_flow.ui.tables import MetricRow

_LINES, _WIDEST = 20, 1000  # of a log
_GROUPS = 20  # of failures
_TILES = 3  # of best numbers
_NOTES = 50
_S = JobState


def header(report: Report) -> Markup:
    board = report.board
    took = "" if board.started is None else f"{_took(board)} {duration(board.elapsed(report.now))}"
    who = f"by {board.user} on {board.host}" if board.user else f"on {board.host}"
    told = [
        f"run {board.run_id}",
        f"started {moment(board.started)}",
        took,
        who if board.host else "",
    ]
    return el(
        "header",
        el("h1", board.workflow or report.command or "a run", " ", marks.badge(board.state)),
        el("p", report.description) if report.description else None,
        el("p", " · ".join(word for word in told if word), class_="muted"),
        *(el("p", words, class_="note") for words in _warnings(report)),
    )


def _took(board: Board) -> str:
    """What the seconds are that the run has to show: of a lost one nobody knows its end."""
    if board.state == "lost":
        return "last heard of after"
    return "took" if board.over else "running for"


def _warnings(report: Report) -> list[str]:
    board = report.board
    said = []
    if board.state == "lost":
        alive = sum(row.runner_lost for row in board.running.values())
        on = f" {count(alive, 'job')} of it live on under their supervisors." if alive else ""
        said.append(
            "The run was lost: its process ended without a word, as after a kill or a crash."
            f"{on} The same command line goes on where it stopped."
        )
    elif not board.over:
        said.append(
            f"The run had not ended when this was written, {moment(report.now)}. "
            "Numbers and curves are those of that moment."
        )
    if board.over and board.cause and board.cause != board.state:
        said.append(f"{board.cause[:1].upper()}{board.cause[1:]}.".replace("..", "."))
    if report.missing:
        said.append(report.missing)
    return said


# -- numbers ------------------------------------------------------------------------------


def summary(
    report: Report, rows: Mapping[str, Sequence[MetricRow]], anchors: Mapping[str, str]
) -> Markup:
    """`rows`: verb -> the numbers of its jobs."""
    board, now = report.board, report.now
    tiles = [_tile("completed", f"{board.completed} of {board.total}", _parts(board, _DONE))]
    if board.failed:
        tiles.append(_tile("failed", str(len(board.failed)), _parts(board, _STOPPED), "bad"))
    elif stopped := sum(board.counts[state] for state in _STOPPED):
        tiles.append(_tile("stopped", str(stopped), _parts(board, _STOPPED), "warn"))
    open_ = board.total - board.ended
    if open_:
        word = "not run" if board.over else "to go"
        running = f"{len(board.running)} running" if board.running else ""
        tiles.append(_tile(word, str(open_), running))
    tiles.append(_tile(_took(board), duration(board.elapsed(now)), ""))
    used = board.gpu_seconds(now)
    if board.devices or used >= 1:
        had = board.elapsed(now) * len(board.devices)
        idle = ""
        if had >= 1:
            idle = f"{_hours(max(0.0, had - used))} idle, {min(1.0, used / had):.0%} used"
        tiles.append(_tile("GPU-hours", _hours(used), idle))
    if board.cost_per_gpu_hour:
        price = f"at {board.cost_per_gpu_hour:g} a GPU-hour"
        tiles.append(_tile("cost", f"{board.cost(now):.2f}", price))
    tiles += [_best(*found, anchors) for found in best_numbers(rows)]
    return el("dl", *tiles, class_="tiles")


_DONE = (_S.DONE, _S.RESTORED, _S.UP_TO_DATE)
_STOPPED = (_S.BLOCKED, _S.CANCELLED, _S.INTERRUPTED)


def _parts(board: Board, states: Sequence[JobState]) -> str:
    return ", ".join(f"{board.counts[s]} {s.value}" for s in states if board.counts[s])


def _tile(name: str, value: str, below: object, kind: str = "") -> Markup:
    return el(
        "div",
        el("dt", name),
        el("dd", value, class_=f"big {kind}".strip()),
        el("dd", below, class_="muted") if below else None,
    )


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.2f}" if hours < 10 else f"{hours:.1f}" if hours < 100 else f"{hours:.0f}"


def best_numbers(rows: Mapping[str, Sequence[MetricRow]]) -> list[tuple[str, float, str]]:
    """Metric, value and job: the best of each verb's leading metric."""
    found = []
    for of_verb in rows.values():
        name = tables.leading(of_verb)
        if name:
            first = tables.ranked(of_verb, name)[0]
            found.append((name, float(first.metrics[name]), first.job))
    return found[:_TILES]


def _best(name: str, value: float, job: str, anchors: Mapping[str, str]) -> Markup:
    short = cells.fit_middle(cells.clean(job), 26)
    return _tile(f"best {name}", number(value), reference(anchors, job, short))


# -- failures -----------------------------------------------------------------------------


def failures(report: Report, anchors: Mapping[str, str]) -> Markup | None:
    """Failed jobs grouped by equal cause, with the end of a log, and what they held up."""
    board = report.board
    if not board.failed:
        return None
    groups = group_failures(board.failed.values(), lambda job: report.ends.get(job, ()))
    upstream = {row.name: row.upstream for row in board.rows.values()}
    parts = [_failure(group, board, upstream, anchors) for group in groups[:_GROUPS]]
    if len(groups) > _GROUPS:
        parts.append(el("p", f"and {len(groups) - _GROUPS} other causes", class_="muted"))
    return join(parts)


def _failure(
    failure: Failure,
    board: Board,
    upstream: Mapping[str, Sequence[str]],
    anchors: Mapping[str, str],
) -> Markup:
    cause = failure.cause or "failed"
    held = [n for n in descendants(failure.jobs, upstream) if board.rows[n].state is _S.BLOCKED]
    order = {name: place for place, name in enumerate(board.rows)}
    held.sort(key=lambda name: order[name])
    tail = [cells.fit(cells.clean(line), _WIDEST) for line in failure.lines[-_LINES:]]
    one = len(failure.jobs) == 1
    attempts = max(board.rows[name].attempt for name in failure.jobs)
    told = f", after {count(attempts, 'attempt')}" if attempts > 1 else ""
    where = f"the end of {failure.log}" if one else f"the end of the first one's log, {failure.log}"
    return el(
        "article",
        el("h3", marks.badge("failed", cause)),
        el(
            "p",
            el("b", count(len(failure.jobs), "job"), ": ") if not one else None,
            named(failure.jobs, anchors),
            told,
        ),
        el("p", f"held up {count(len(held), 'job')}: ", named(held, anchors), class_="muted")
        if held
        else None,
        el("figure", el("figcaption", where, class_="muted"), el("pre", lines(tail), tabindex="0"))
        if tail
        else None,
        class_="failure",
    )


# -- the way through ------------------------------------------------------------------------


def longest_chain(board: Board, now: float, anchors: Mapping[str, str]) -> Markup | None:
    """The chain of jobs that took longest, which is what the run's end waited for."""
    rows = [row for row in board.rows.values() if row.started is not None]
    seconds = {row.name: row.elapsed(now) or 0.0 for row in rows}
    chain = critical_path(list(seconds), {row.name: row.upstream for row in rows}, seconds)
    if len(chain) < 2:
        return None
    told: list[object] = []
    for name in chain if len(chain) <= 12 else [*chain[:6], *chain[-5:]]:
        told += [" → " if told else "", reference(anchors, name)]
    whole = duration(sum(seconds[name] for name in chain))
    return el("p", "Longest chain: ", *told, f", {whole}", class_="muted")


# -- where it comes from ----------------------------------------------------------------------


def provenance(report: Report) -> Markup:
    board = report.board
    told = terms(
        [
            ("workflow", el("code", board.path) if board.path else None),
            ("command", el("code", report.command) if report.command else None),
            ("run", el("code", board.run_id)),
            ("user and host", f"{board.user or 'unknown'} on {board.host or 'unknown'}"),
            ("started", moment(board.started)),
            ("ended", moment(board.finished) if board.over else None),
            ("output folder", el("code", board.output_dir) if board.output_dir else None),
            (
                "at most",
                f"{count(board.slots, 'job')} at once"
                + (f", on GPU {', '.join(map(str, board.devices))}" if board.devices else ""),
            ),
            *report.further,
        ]
    )
    parts: list[Markup | None] = [told]
    if report.files:
        parts += [el("h3", "Files it was made from"), file_table(report.files)]
    if report.env:
        parts += [el("h3", "Environment of every job"), values(sorted(report.env.items()))]
    notes = board.notes[:_NOTES]
    if notes:
        parts += [
            el("h3", "Said on the way"),
            el("ul", *(_note(n.level, n.job, n.text) for n in notes)),
        ]
        if len(board.notes) > _NOTES:
            parts.append(el("p", f"and {len(board.notes) - _NOTES} more", class_="muted"))
    return join(parts)


def _note(level: str, job: str, words: str) -> Markup:
    lead = el("span", "warning: ", class_="state warn") if level == "warning" else None
    return el("li", lead, f"{job}: " if job else "", words)
