"""Each job on its own: how it was run, from what, to what; folded away until somebody looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from oumi_flow.board import JobRow
from oumi_flow.text import count, duration, size
from oumi_flow.ui import cells
from oumi_flow.ui.lines import metric_words
from oumi_flow.ui.report import marks, tables
from oumi_flow.ui.report.axis import tick_words
from oumi_flow.ui.report.facts import FileFact, JobFact, Report
from oumi_flow.ui.report.markup import Markup, el, join, lines, reference
from oumi_flow.ui.report.moments import moment
from oumi_flow.ui.report.spans import RUNNING, Try

_GROUPED = 40  # jobs from which those of a family stand together
_NAMES, _FILES, _KEYS = 20, 20, 60
_COMMAND = 4000  # characters


def section(
    report: Report,
    anchors: Mapping[str, str],
    differ: Mapping[str, Sequence[str]],
    families: Mapping[str, str],
) -> Markup:
    """The jobs that have an anchor, in the plan's order. `differ`: verb -> the
    config keys that tell its jobs apart."""
    tries: dict[str, list[Try]] = {}
    for one in report.spans.tries:
        tries.setdefault(one.job, []).append(one)
    needed: dict[str, list[str]] = {}
    for row in report.board.rows.values():
        for name in row.upstream:
            needed.setdefault(name, []).append(row.name)
    told = {
        name: _job(report, row, tries.get(name, ()), needed.get(name, ()), anchors, differ)
        for name, row in report.board.rows.items()
        if name in anchors
    }
    left = report.board.total - len(told)
    note = f"{count(left, 'job')} more, told of above, without details here." if left else ""
    last = el("p", note, class_="muted") if left else None
    if len(told) < _GROUPED:
        return join([*told.values(), last])
    groups: dict[str, list[str]] = {}
    for name in told:
        groups.setdefault(families.get(name, ""), []).append(name)
    parts: list[Markup | None] = []
    for family, names in groups.items():
        inside = [told[name] for name in names]
        if not family:
            parts += inside
            continue
        summary = el("summary", el("b", family), el("span", _tally(report, names), class_="muted"))
        parts.append(el("details", summary, el("div", *inside, class_="members"), class_="family"))
    return join([*parts, last])


def _tally(report: Report, names: Iterable[str]) -> str:
    states: dict[str, int] = {}
    for name in names:
        state = report.board.rows[name].state.value
        states[state] = states.get(state, 0) + 1
    return " " + ", ".join(f"{states[s]} {s}" for s in marks.ORDER if s in states)


def _job(
    report: Report,
    row: JobRow,
    tries: Sequence[Try],
    needed: Sequence[str],
    anchors: Mapping[str, str],
    differ: Mapping[str, Sequence[str]],
) -> Markup:
    fact = report.jobs.get(row.name) or JobFact(row.name)
    elapsed = row.elapsed(report.now)
    numbers = metric_words(row, 1) if row.metrics else ""
    summary = el(
        "summary",
        marks.badge(row.state.value),
        el("b", row.name),
        el("span", row.verb, class_="muted"),
        el("span", "" if elapsed is None else duration(elapsed), class_="muted"),
        el("span", numbers, class_="muted") if numbers else None,
    )
    keys = [key for key in differ.get(row.verb, ()) if key in fact.values]
    parts = [
        *(el("p", note, class_="note") for note in fact.notes),
        el("p", fact.description) if fact.description else None,
        terms(
            [
                ("state", _state(row)),
                ("why", _lines(row.reasons)),
                ("needs", named(row.upstream, anchors)),
                ("needed by", named(needed, anchors)),
                ("config", el("code", fact.config) if fact.config else None),
                ("runs in", el("code", fact.workdir) if fact.workdir not in ("", ".") else None),
                ("log", el("code", fact.log) if fact.log else None),
            ]
        ),
        _block("Command", _pre(fact.command)) if fact.command else None,
        _block("Attempts", _attempts(report, tries)) if tries else None,
        _config(fact, keys),
        _block("Environment of its own", _environment(report, fact)),
        _block("Numbers", values([(k, tables.worded(v)) for k, v in fact.metrics.items()]))
        if fact.metrics
        else None,
        _block("Inputs", file_table(fact.inputs)) if fact.inputs else None,
        _block("Outputs", file_table(fact.outputs)) if fact.outputs else None,
        _evidence(fact),
    ]
    # The anchor lies within, so that a browser that is led there opens the job.
    return el(
        "details", summary, el("div", *parts, id=anchors[row.name], class_="body"), class_="job"
    )


def _state(row: JobRow) -> Markup:
    words = row.state.value + (" (its runner is lost)" if row.runner_lost else "")
    cause = f": {row.cause}" if row.cause not in ("", row.state.value) else ""
    return join([marks.badge(row.state.value, words), cause])


def _config(fact: JobFact, keys: Sequence[str]) -> Markup | None:
    if not keys:
        return None
    told = [(key, tables.worded(fact.values[key])) for key in keys[:_KEYS]]
    return _block("Config that differs", values(told, len(keys)))


def _environment(report: Report, fact: JobFact) -> Markup | None:
    own = [(k, v) for k, v in sorted(fact.env.items()) if report.env.get(k) != v]
    return values(own) if own else None


def _attempts(report: Report, tries: Sequence[Try]) -> Markup:
    begun = report.board.started or 0.0
    items = []
    for one in tries:
        words = [f"{tick_words(round(one.start - begun))} after the run began"]
        words.append(duration(one.end - one.start) + (" so far" if one.state == RUNNING else ""))
        if one.devices:
            words.append(f"GPU {', '.join(one.devices)}")
        words += [word for word in (one.detail, one.cause) if word and word != one.state]
        again = ", tried again" if one.again else ""
        items.append(
            el(
                "li",
                marks.badge(one.state, one.state + again),
                f" {'; '.join(words)}",
                value=one.number,
            )
        )
    return el("ol", *items)


def named(names: Sequence[str], anchors: Mapping[str, str]) -> Markup | None:
    """The names of jobs, as links; of very many the first ones."""
    if not names:
        return None
    told: list[object] = []
    for name in names[:_NAMES]:
        told += [", " if told else "", reference(anchors, name)]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return join([*told, more])


def _lines(words: Sequence[str]) -> Markup | None:
    if not words:
        return None
    parts = [part for word in words for part in word.split("\n")]
    return join(el("div", part) for part in parts)


def _evidence(fact: JobFact) -> Markup:
    versions = ", ".join(f"{tool} {which}" for tool, which in sorted(fact.versions.items()))
    return terms(
        [
            ("made", moment(fact.made) + (f" by run {fact.made_by}" if fact.made_by else ""))
            if fact.made is not None
            else ("made", None),
            ("fingerprint", el("code", fact.fingerprint) if fact.fingerprint else None),
            ("build key", el("code", fact.build_key) if fact.build_key else None),
            ("software", versions or None),
        ]
    )


# -- pieces that other sections use too -----------------------------------------------------


def terms(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Names and what they are; what is not known is left out."""
    told = [join([el("dt", name), el("dd", what)]) for name, what in pairs if what]
    return el("dl", *told, class_="terms") if told else Markup("")


def _block(title: str, inside: Markup | None) -> Markup | None:
    return join([el("h4", title), inside]) if inside else None


def _pre(text: str) -> Markup:
    shown = text if len(text) <= _COMMAND else text[:_COMMAND] + "\n…"
    return el("pre", lines(shown.split("\n")), tabindex="0")


def values(pairs: Sequence[tuple[str, str]], whole: int = 0) -> Markup:
    """Names and values, one below the other."""
    rows = [
        el("tr", el("th", name, scope="row"), el("td", el("code", cells.fit(value, 500))))
        for name, value in pairs
    ]
    more = whole - len(pairs)
    note = el("p", f"and {more} more", class_="muted") if more > 0 else None
    return join([el("div", el("table", el("tbody", *rows)), class_="wide"), note])


def file_table(files: Sequence[FileFact]) -> Markup:
    """Paths with what is known of each."""
    rows = [
        el(
            "tr",
            el("th", el("code", file.path), scope="row"),
            el("td", file.note),
            el("td", "" if file.size is None else size(file.size), class_="num"),
            el("td", el("code", file.digest) if file.digest else None),
        )
        for file in files[:_FILES]
    ]
    head = el(
        "tr",
        *(el("th", word, scope="col") for word in ("path", "")),
        el("th", "size", scope="col", class_="num"),
        el("th", "BLAKE3 digest", scope="col"),
    )
    more = len(files) - _FILES
    note = el("p", f"and {count(more, 'more file')}", class_="muted") if more > 0 else None
    return join(
        [el("div", el("table", el("thead", head), el("tbody", *rows)), class_="wide"), note]
    )
