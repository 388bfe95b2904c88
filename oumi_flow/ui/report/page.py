"""The report as a whole: its parts in order, each with a heading that the contents lead to. Pure.

One file without scripts, fonts or pictures from elsewhere; a policy in its head forbids browsers
to fetch any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oumi_flow import __version__
from oumi_flow.board import Board
from oumi_flow.text import count
from oumi_flow.ui import cells
from oumi_flow.ui.report import curves, dag, gantt, head, jobs, tables
from oumi_flow.ui.report.facts import Report
from oumi_flow.ui.report.markup import Markup, el, join, link
from oumi_flow.ui.report.moments import moment
from oumi_flow.ui.report.style import CSS, PATTERNS
from oumi_flow.ui.tables import MetricRow, differing_keys

GENERATOR = "oumi-flow report"  # in the head of each page, which says whose a file is
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_ROWS = 60  # of the timeline by jobs: beyond, families share rows
_CHUNK = 100  # rows of a picture, where every job has one
_MOST = 2000  # jobs that are told of one by one: beyond, a browser would labour
_PRINTED = 40  # jobs whose details are printed too


def page(report: Report) -> str:
    """The text of the file. 1 000 jobs take some seconds."""
    board = report.board
    anchors = _anchors(board)
    rows = _rows(report)
    differ = {verb: differing_keys(of_verb) for verb, of_verb in rows.items()}
    families = dag.families(board) if board.rows else {}
    sections: list[tuple[str, str, Markup | None]] = [
        ("failures", "Failures", head.failures(report, anchors)),
        ("timeline", "Timeline", _timeline(report, anchors, families)),
        ("graph", "Graph", _graph(report, anchors)),
        ("curves", "Curves", _curves(report, rows, anchors)),
        ("numbers", "Numbers", _numbers(rows, anchors)),
        ("scores", "Evaluation scores", _scores(rows, anchors)),
        ("jobs", "Jobs", jobs.section(report, anchors, differ, families)),
        ("provenance", "Provenance", head.provenance(report)),
    ]
    there = [(key, title, inside) for key, title, inside in sections if inside]
    contents = el(
        "nav",
        el("ul", *(el("li", link(key, title)) for key, title, _ in there)),
        aria_label="Contents",
    )
    body = el(
        "body",
        PATTERNS,
        el(
            "main",
            head.header(report),
            head.summary(report, rows, anchors),
            contents,
            *(el("section", el("h2", title), inside, id=key) for key, title, inside in there),
            _footer(report),
        ),
        class_="printed" if board.total <= _PRINTED else None,
    )
    title = f"{board.workflow}: {board.state}" if board.workflow else "a run"
    top = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="generator", content=f"{GENERATOR} {__version__}"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Markup(CSS)),
    )
    return f"<!DOCTYPE html>\n{el('html', top, body, lang='en')}\n"


def _anchors(board: Board) -> dict[str, str]:
    """The jobs that the page has details of: all, or of very many what failed and the first."""
    names = list(board.rows)
    if len(names) > _MOST:
        some = {*list(board.failed)[:_MOST], *board.running}
        rest = [name for name in names if name not in some]
        some |= set(rest[: max(0, _MOST - len(some))])
        names = [name for name in names if name in some]
    return {name: f"job-{place}" for place, name in enumerate(names, 1)}


def _rows(report: Report) -> dict[str, list[MetricRow]]:
    """verb -> its jobs with their numbers and configs, in the plan's order."""
    found: dict[str, list[MetricRow]] = {}
    for row in report.board.rows.values():
        fact = report.jobs.get(row.name)
        metrics = fact.metrics if fact is not None else row.metrics
        config = fact.values if fact is not None else {}
        found.setdefault(row.verb, []).append(MetricRow(row.name, metrics, config, verb=row.verb))
    return found


# -- sections -----------------------------------------------------------------------------


def _timeline(
    report: Report, anchors: Mapping[str, str], families: Mapping[str, str]
) -> Markup | None:
    board, found, now = report.board, report.spans, report.now
    if not found.tries:
        return None
    length = max(board.elapsed(now), *(one.end - (board.started or 0.0) for one in found.tries))
    parts: list[Markup] = []
    on_gpus = gantt.by_gpu(found, board, now)
    if on_gpus:
        picture = gantt.draw(
            on_gpus,
            length,
            "What each GPU did",
            "; ".join(f"{row.label}: {row.tip}, {row.words} of the time" for row in on_gpus) + ".",
            anchors,
            column=True,
        )
        parts += [el("h3", "By GPU"), _figure(picture)]
    by_job = gantt.by_job(found, board)
    parts.append(el("h3", "By job"))
    if len(by_job) <= _ROWS:
        parts.append(_figure(_jobs_drawn(by_job, length, anchors)))
    else:
        together = gantt.packed(found, board, families)
        picture = gantt.draw(
            together,
            length,
            "What ran when",
            f"{count(len(by_job), 'job')}; those of a family share rows.",
            anchors,
        )
        parts.append(_figure(picture))
        by_job = [row for row in by_job if row.job in anchors]
        chunks = [by_job[start : start + _CHUNK] for start in range(0, len(by_job), _CHUNK)]
        drawn = [_figure(_jobs_drawn(some, length, anchors)) for some in chunks]
        parts.append(el("details", el("summary", "each job in a row"), *drawn, class_="more"))
    parts.append(gantt.legend({one.state for one in found.tries}, waits=bool(found.waits)))
    rest = board.total - len({one.job for one in found.tries})
    if rest:
        words = f"Not drawn: {count(rest, 'job')} that did not run."
        parts.append(el("p", words, class_="muted"))
    begun = f"Times are counted from the start of the run, {moment(board.started)}."
    parts.append(el("p", begun, class_="muted"))
    return join(parts)


def _jobs_drawn(rows: Sequence[gantt.Row], length: float, anchors: Mapping[str, str]) -> Markup:
    said = "; ".join(f"{row.label}: {row.words}" for row in rows)
    return gantt.draw(rows, length, "When each job ran", cells.fit(said, 2000), anchors)


def _figure(picture: Markup) -> Markup:
    return el("figure", el("div", picture, class_="wide", tabindex="0"))


def _graph(report: Report, anchors: Mapping[str, str]) -> Markup | None:
    board = report.board
    if board.total < 2:
        return None
    picture = dag.draw(board, anchors, every=False)
    chain = head.longest_chain(board, report.now, anchors)
    if picture is None:
        words = "The graph is too large for a picture here; `oumi-flow dag` writes it as DOT."
        return join([el("p", words, class_="muted"), chain])
    whole = dag.draw(board, anchors, every=True) if dag.is_folded(board) else None
    every = None
    if whole is not None:
        every = el("details", el("summary", "every job"), _figure(whole), class_="more")
    return join([_figure(picture), every, chain])


def _curves(
    report: Report, rows: Mapping[str, Sequence[MetricRow]], anchors: Mapping[str, str]
) -> Markup | None:
    parts: list[Markup] = []
    for verb, of_verb in rows.items():
        known = {
            row.job: report.jobs[row.job].curves
            for row in of_verb
            if row.job in report.jobs and report.jobs[row.job].curves
        }
        drawn = curves.group(verb, known, anchors)
        if drawn is not None:
            parts.append(drawn)
    return join(parts)


def _numbers(rows: Mapping[str, Sequence[MetricRow]], anchors: Mapping[str, str]) -> Markup | None:
    parts = []
    for verb, of_verb in rows.items():
        if verb == "evaluate":
            continue
        # Shell jobs are of many kinds: those that told of the same metrics are compared.
        kinds: dict[tuple[str, ...], list[MetricRow]] = {}
        for row in of_verb:
            kind = tuple(sorted(row.metrics)) if verb == "shell" else ()
            kinds.setdefault(kind, []).append(row)
        for some in kinds.values():
            caption = f"{verb}: what differs between its jobs, and what came of it"
            if len(some) == 1 or verb == "shell":
                caption = f"{verb}: what came of it"
            parts.append(tables.sweep(some, anchors, caption))
    return join(parts)


def _scores(rows: Mapping[str, Sequence[MetricRow]], anchors: Mapping[str, str]) -> Markup | None:
    return tables.scores(rows.get("evaluate", ()), anchors, "evaluate: task and metric")


def _footer(report: Report) -> Markup:
    return el("footer", f"Written {moment(report.now)} by oumi-flow {__version__}.", class_="muted")
