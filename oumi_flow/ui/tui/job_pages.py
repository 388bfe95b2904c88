"""What the pages of a job's detail say: config, command, files, attempts, why.

Pure: facts and a board's row in, lines of styled text out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oumi_flow.board import Board, JobRow
from oumi_flow.model import JobState
from oumi_flow.text import count, duration
from oumi_flow.ui import cells
from oumi_flow.ui.layout import columns, hanging, paragraph
from oumi_flow.ui.lines import metric_words, number, waiting_words
from oumi_flow.ui.tables import moment
from oumi_flow.ui.theme import STATE_STYLE, Line, Theme
from oumi_flow.ui.tui.source import JobFacts
from oumi_flow.ui.tui.theme import Look

_MOST_NUMBERS = 24


def _titled(title: str, lines: Iterable[Line], note: str = "") -> list[Line]:
    """A section, if there is anything in it."""
    body = list(lines)
    if not body:
        return []
    head: Line = [("", " "), ("title", title)]
    if note:
        head.append(("muted", f"  {note}"))
    return [head, *body, []]


# -- config -------------------------------------------------------------------------------


def config_lines(facts: JobFacts, theme: Theme) -> list[Line]:
    """The merged config: first what is not the same in all jobs of the verb, then the rest."""
    if not facts.config:
        words = "no config: " + ("a shell job is its command" if facts.verb == "shell" else "none")
        return [[("muted", f" {words}")]]
    own = {key: value for key, value in facts.config.items() if key in facts.differs}
    rest = {key: value for key, value in facts.config.items() if key not in facts.differs}
    wide = max(cells.width(theme.text(key)) for key in facts.config)
    wide = min(wide, max(12, theme.width * 3 // 5))
    mark = "≠" if theme.unicode else "*"
    title = f"differs from other {facts.verb} jobs" if facts.verb else "differs"
    return [
        *_titled(title, _pairs(own, wide, theme, (("accent", f" {mark} "), "strong"))),
        *_titled(
            "the same in all of them" if own else "config",
            _pairs(rest, wide, theme, (("", "   "), "")),
        ),
    ][:-1]


def _pairs(
    values: Mapping[str, Any], wide: int, theme: Theme, way: tuple[tuple[str, str], str]
) -> list[Line]:
    lines: list[Line] = []
    mark, style = way
    for key, value in values.items():
        name = cells.fit_middle(theme.text(key), wide, theme.more)
        lead: Line = [mark, (style or "muted", cells.pad(name, wide)), ("", "  ")]
        lines += hanging(lead, (style, theme.text(_value(value))), theme, below=6)
    return lines


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number(value)
    return "null" if value is None else str(value)


# -- command ------------------------------------------------------------------------------


def command_lines(facts: JobFacts, theme: Theme) -> list[Line]:
    """The command as it can be typed, where it runs, and what it finds in its environment."""
    if not facts.command:
        return [[("muted", " the command is not known: the workflow could not be read")]]
    env = {name: facts.env[name] for name in sorted(facts.env)}
    wide = min(max(map(len, env), default=0), max(12, theme.width * 2 // 5))
    return [
        *_titled("command", _typed(facts.command, theme), "y copies it"),
        *_titled("runs in", [[("", "   " + theme.text(facts.workdir or "."))]]),
        *_titled(
            "environment",
            _pairs(env, wide, theme, (("", "   "), "")),
            "declared in the workflow; secrets hidden",
        ),
    ][:-1]


def _typed(command: Sequence[str], theme: Theme) -> list[Line]:
    """One option a line with its value; the lines of a shell text as they are."""
    *words, last = command
    if "\n" in last:
        head = shlex.join(words).replace("\n", " ")
        body = last.strip().replace("'", "'\\''")
        return [[("", "   " + theme.text(text))] for text in f"{head} '{body}'".split("\n")]
    lines: list[Line] = []
    line = ""
    for word in command:
        quoted = theme.text(shlex.quote(word))
        if line and (word.startswith("-") or cells.width(line) + len(quoted) > theme.width - 8):
            lines.append([("", f"   {line}"), ("muted", " \\")])
            line = "  "
        line += quoted if not line.strip() else f" {quoted}"
    if line:
        lines.append([("", f"   {line}")])
    return lines


# -- files --------------------------------------------------------------------------------


def files_lines(facts: JobFacts, look: Look, board: Board, width: int) -> list[Line]:
    """Inputs and outputs, and the jobs before and after it."""
    theme = look.at(width)
    lines = [
        *_titled("reads", _paths(facts.inputs, theme)),
        *_titled("makes", _paths(facts.outputs, theme)),
        *_titled("after", _jobs(facts.upstream, look, board, theme)),
        *_titled("before", _jobs(facts.downstream, look, board, theme)),
        *_titled("folder", [[("", "   " + theme.text(facts.folder))]] if facts.folder else []),
    ]
    return lines[:-1] or [[("muted", " it reads and makes no files that are known")]]


def _paths(paths: Iterable[tuple[str, str]], theme: Theme) -> list[Line]:
    rows: list[list[Line]] = [
        [[("", theme.text(path))], [("muted", theme.text(note))]] for path, note in paths
    ]
    return columns(rows, theme, indent=3)


def _jobs(names: Sequence[str], look: Look, board: Board, theme: Theme) -> list[Line]:
    rows: list[list[Line]] = []
    for name in names:
        row = board.rows.get(name)
        state = row.state if row is not None else None
        style = STATE_STYLE[state.value] if state else "muted"
        glyph = look.glyph(state) if state else " "
        rows.append(
            [
                [(style, f"{glyph} "), ("name", theme.text(name))],
                [(style, state.value if state else "")],
            ]
        )
    return columns(rows, theme, indent=3, middle=())


# -- attempts -----------------------------------------------------------------------------


def attempts_lines(facts: JobFacts, theme: Theme, now: float) -> list[Line]:
    """The tries whose logs are still there, newest first."""
    if not facts.attempts:
        return [[("muted", " it has not been started yet")]]
    rows: list[list[Line]] = []
    for one in sorted(facts.attempts, key=lambda attempt: attempt.back):
        rows.append(
            [
                [("strong" if one.back == 0 else "", f"{one.number or '?'}")],
                [("", moment(one.started, now))],
                [("muted", theme.text(one.run_id))],
                [("muted", theme.text(one.log))],
            ]
        )
    header = ("attempt", "started", "run", "log")
    lines = columns(
        rows, theme, header=header, right={0}, whole={1}, middle={2, 3}, drop=(2, 3), indent=3
    )
    return _titled(
        count(len(rows), "attempt"), lines, "in the log [ goes to an older one, ] to a newer one"
    )[:-1]


# -- why ----------------------------------------------------------------------------------


def why_lines(
    row: JobRow, board: Board, facts: JobFacts | None, theme: Theme, now: float
) -> list[Line]:
    """Why it ran, will run or is up to date; what it waits for; how it ended."""
    reasons = row.reasons or (tuple(facts.why) if facts else ())
    state = row.state
    word = state.value
    up_to_date = state is JobState.UP_TO_DATE
    how: list[Line] = []
    if not state.ended and state is not JobState.RUNNING:
        how = _words(waiting_words(board, row, now) or "it is ready", theme)
    elif row.cause:
        how = _words(row.cause, theme)
    ended = "how it ended" if state.ended else "what it waits for"
    numbers = metric_words(row, _MOST_NUMBERS)
    took = [] if row.took is None else [[("", f"   {duration(row.took)}")]]
    return [
        [("", " "), (STATE_STYLE[word], word), ("muted", f"  {row.verb}")],
        [],
        *_titled(
            "why it is up to date"
            if up_to_date
            else "why it runs"
            if not state.ended
            else "why it ran"
            if row.started is not None
            else "why",
            (line for reason in reasons for line in _words(reason, theme)),
        ),
        *_titled(ended, how),
        *_titled("took", took),
        *_titled("numbers", _words(numbers, theme) if numbers else []),
    ][:-1]


def _words(text: str, theme: Theme) -> list[Line]:
    # A reason of several lines is a difference: shown as it is.
    parts = [theme.text(part) for part in text.split("\n")]
    return [line for part in parts for line in paragraph([("", part)], theme, indent=3, hang=5)]
