"""A run told line by line: what each event is worth saying, and what is said at the end.

Makes lines of styled text from a board and its events; the plain view prints them, the live view
lets them scroll by above its block. Prints nothing, reads no file: the last lines of a log are
asked of a callable.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache

from oumi_flow.board import Board, JobRow, key_metrics
from oumi_flow.board.outlook import TimeLeft, time_left
from oumi_flow.dataclass import dataclass
from oumi_flow.events import (
    Event,
    JobFinished,
    JobQueued,
    JobRetrying,
    JobStarted,
    Note,
    Planned,
    RunFinished,
)
from oumi_flow.model import Decision, JobState
from oumi_flow.text import duration, quoted
from oumi_flow.ui import cells
from oumi_flow.ui.layout import paragraph
from oumi_flow.ui.theme import STATE_STYLE, Line, Span, Theme, line_width

Tail = Callable[[str], Sequence[str]]  # job -> the last lines of its log

_STATE_COLUMN = 11  # the width of `interrupted`
_NAME_COLUMN = 28  # longer names push the rest of their line to the right
_ASIDE = 30  # columns that part of a reason needs to say something
_LOG_LINES = 12
_GROUPS = 12  # of failures that are told at the end
_SUMMARY = (
    JobState.DONE,
    JobState.RESTORED,
    JobState.UP_TO_DATE,
    JobState.FAILED,
    JobState.CANCELLED,
    JobState.INTERRUPTED,
    JobState.BLOCKED,
)


def no_tail(job: str) -> Sequence[str]:
    return ()


class Teller:
    """Lines for events. `board` has taken note of each event before it is told here."""

    def __init__(
        self,
        board: Board,
        theme: Theme,
        *,
        verbose: int = 0,
        quiet: bool = False,
        scrolls: bool = False,
        tail: Tail = no_tail,
    ) -> None:
        self._board, self._theme, self._tail = board, theme, tail
        self._verbose, self._quiet = verbose, quiet
        # Above a live block: no times, and what the block shows (starts, waits) only with -v.
        self._stamped, self._scrolls = not scrolls, scrolls
        self._name_width = 0
        self._told: dict[str, str] = {}  # what a job was last said to wait for

    def tell(self, event: Event) -> list[Line]:
        """What is worth saying about it; often nothing."""
        if isinstance(event, Planned):
            return self._planned(event)
        if isinstance(event, RunFinished):
            return closing(self._board, self._theme, self._tail)
        if isinstance(event, Note):
            return self._note(event)
        if isinstance(event, JobFinished):
            return self._finished(event)
        if self._quiet:
            return []
        if isinstance(event, JobQueued):
            return self._queued(event)
        if isinstance(event, JobStarted):
            return self._started(event)
        if isinstance(event, JobRetrying):
            words = f"{event.detail or 'failed'}; attempt {event.attempt + 1} "
            words += f"in {duration(event.delay)}" if event.delay else "at once"
            return self._line(event.at, "retrying", event.job, [("", words)])
        return []

    def beat(self, now: float, progress: Callable[[str], str] | None = None) -> list[Line]:
        """A sign of life for a run in which nothing changes."""
        board = self._board
        words = [f"{board.ended}/{board.total} ended"]
        running = list(board.running.values())
        if running:
            said = []
            for row in running[:3]:
                where = progress(row.name) if progress else ""
                took = duration(row.elapsed(now) or 0)
                said.append(f"{row.name} {took}" + (f" ({where})" if where else ""))
            more = f" and {len(running) - 3} more" if len(running) > 3 else ""
            words.append(", ".join(said) + more)
        left = time_left_words(time_left(board, now))
        if left:
            words.append(left)
        return self._flow([*self._stamp(now), *_state("running"), ("muted", " · ".join(words))])

    # -- events ---------------------------------------------------------------------------

    def _planned(self, event: Planned) -> list[Line]:
        # The plan's own order of rows decides nothing here; widths of those that may speak do.
        wide = [cells.width(row.job) for row in event.rows if row.decision != "up to date"]
        tag = len(" [GPU:0]") if self._board.devices else 0
        self._name_width = min(max(wide, default=0), _NAME_COLUMN) + tag
        return [] if self._quiet else paragraph(heading(self._board), self._theme)

    def _queued(self, event: JobQueued) -> list[Line]:
        # Waiting for a slot is what jobs do; for a GPU that somebody else holds is news.
        named = ":" in event.waiting_for and not self._scrolls
        if not event.waiting_for or not (named or self._verbose):
            return []
        if self._told.get(event.job) == event.waiting_for:
            return []
        self._told[event.job] = event.waiting_for
        return self._line(event.at, "waiting", event.job, [("", f"for {event.waiting_for}")])

    def _started(self, event: JobStarted) -> list[Line]:
        row = self._board.rows[event.job]
        if self._scrolls and not (self._verbose or event.adopted):
            return []
        words: list[str] = []
        rest: tuple[str, ...] = ()
        if event.adopted:
            words.append("taken over from a lost run")
        elif event.attempt > 1:
            words.append(f"attempt {event.attempt}")
        elif row.reasons:
            # With -v the others get lines of their own, and so does each line of a difference.
            first, *others = row.reasons
            if self._verbose:
                first, *others = (part for text in row.reasons for part in text.split("\n"))
            rest = tuple(others) if self._verbose else ()
            more = f" (+{len(others)} more)" if others and not self._verbose else ""
            words.append(first + more)
        if event.detail and event.detail not in "; ".join(words):
            words.append(event.detail)
        lines = self._line(event.at, "running", event.job, [("", "; ".join(words))], row)
        blank = [("", " " * self._lead())]
        for reason in rest:
            lines += paragraph([*blank, ("", reason)], self._theme, hang=self._hang())
        return lines

    def _finished(self, event: JobFinished) -> list[Line]:
        row = self._board.rows[event.job]
        state = row.state
        if self._quiet and state is not JobState.FAILED:
            return []
        took = "" if event.took is None else duration(event.took)
        words: list[Span]
        if state is JobState.DONE:
            words = [("", took), ("", metric_words(row, lead="  " if took else ""))]
            if self._scrolls and row.reasons and not self._verbose:
                words.append(("muted", self._aside(row, words)))
        elif state is JobState.RESTORED:
            words = [("", event.cause or "from the cache")]
        elif state is JobState.UP_TO_DATE:
            words = [("muted", event.cause or "what it reads came out the same")]
        elif state is JobState.BLOCKED:
            words = [("muted", event.cause)]
        else:
            words = [("", event.cause), ("muted", f" after {took}" if took else "")]
        return self._line(event.at, state.value, event.job, words)

    def _note(self, event: Note) -> list[Line]:
        warning = event.level == "warning"
        if self._quiet and not warning:
            return []
        spans: Line = [("", event.text)]
        if event.job:
            spans.insert(0, ("name", f"{self._theme.text(event.job)}  "))
        state = _state("warning", "warn") if warning else _state("note", "muted")
        return self._flow([*self._stamp(event.at), *state, *spans])

    # -- the shape of a line --------------------------------------------------------------

    def _line(
        self, at: float, state: str, job: str, words: list[Span], row: JobRow | None = None
    ) -> list[Line]:
        name = self._theme.text(job)
        tag = f" {gpu_tag(row.devices)}" if row is not None and row.devices else ""
        blanks = " " * max(0, self._name_width - cells.width(name) - len(tag))
        line: Line = [*self._stamp(at), *_state(state), ("name", name), ("muted", tag)]
        if any(text for _, text in words):
            line += [
                ("", blanks + "  "),
                *((style, self._theme.text(text)) for style, text in words),
            ]
        return self._flow(line, words)

    def _aside(self, row: JobRow, after: Line) -> str:
        """Why it ran, at the end of a line that has room for it; never a line more."""
        beyond = max(0, cells.width(self._theme.text(row.name)) - self._name_width)
        room = self._theme.width - self._lead() - beyond - line_width(after) - 2
        text = self._theme.text(row.reasons[0])
        if cells.width(text) > room and room < _ASIDE:
            return ""
        return "  " + cells.fit(text, room, self._theme.more)

    def _flow(self, line: Line, words: Iterable[Span] = ()) -> list[Line]:
        if not self._theme.width:
            return [line]
        hang = self._hang()
        longest = max((cells.width(w) for _, text in words for w in text.split()), default=0)
        # A path or name that is too long for the room under the words gets more of the row.
        small = hang + longest > self._theme.width
        return paragraph(line, self._theme, hang=_STATE_COLUMN + 4 if small else hang)

    def _stamp(self, at: float) -> Line:
        return [("muted", clock(at) + " ")] if self._stamped else []

    def _lead(self) -> int:
        """Where the words after the name begin."""
        return (9 if self._stamped else 0) + _STATE_COLUMN + 2 + self._name_width + 2

    def _hang(self) -> int:
        """The indent of a line's further rows: under its words where there is room."""
        lead = self._lead()
        return lead if lead + 28 <= self._theme.width else _STATE_COLUMN + 4


@cache
def _state(word: str, style: str = "") -> tuple[Span, Span]:
    """The column of states: right-aligned, so that the names begin in one line."""
    style = style or STATE_STYLE.get(word, "")
    return (style, cells.pad(word, _STATE_COLUMN, right=True)), ("", "  ")


# -- pieces that every view shares --------------------------------------------------------


def clock(at: float) -> str:
    """The local time of day."""
    return _clock(int(at))


@lru_cache(maxsize=2)
def _clock(at: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def gpu_tag(devices: Sequence[str]) -> str:
    """`[GPU:0]`, `[GPU:0,1]`; "" for none. A MIG instance shows the beginning of its name."""
    if not devices:
        return ""
    return f"[GPU:{','.join(cells.fit(cells.clean(device), 12, '~') for device in devices)}]"


def number(value: float) -> str:
    """Four digits that count: `0.6931`, `1.234`, `2e-05`, `12 345`."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value)}"
    return f"{value:.4g}"


def rate_words(value: float) -> str:
    """A learning rate, always as wide: `1.00e-04`."""
    return f"{value:.2e}" if value else number(value)


def metric_words(row: JobRow, limit: int = 1, lead: str = "") -> str:
    """`loss 1.234`, with `lead` before it; "" for none."""
    if not row.metrics:
        return ""
    words = [f"{name} {number(value)}" for name, value in key_metrics(row.metrics, limit)]
    return lead + "  ".join(words) if words else ""


def time_left_words(left: TimeLeft | None) -> str:
    """`about 12m left`; "" when it cannot be said."""
    if left is None or left.seconds < 1:
        return ""
    return f"{left.sure} {rough(left.seconds)} left"


def rough(seconds: float) -> str:
    """A duration no finer than it can be known: `25s`, `12m`, `2h 10m`."""
    whole = rounded(seconds)
    return f"{whole}s" if whole < 10 else duration(whole)


def rounded(seconds: float) -> int:
    """Seconds as fine as `rough` says them."""
    grain = 1 if seconds < 10 else 5 if seconds < 60 else 60 if seconds < 3600 else 600
    return round(seconds / grain) * grain


def waiting_words(board: Board, row: JobRow, now: float) -> str:
    """What a job that has not ended and does not run waits for."""
    if row.state is JobState.RETRYING:
        return f"{row.cause or 'failed'}; {retry_words(row, now)}"
    if row.state is JobState.QUEUED:
        # Of a job of this very run its name says enough.
        own = re.escape(f"run {board.run_id}, user {board.user}, job ")
        said = re.sub(own + r"([^;]*?)( since [^;]*)?(?=;|$)", r"\1", row.waiting_for)
        return f"waits for {said or 'a slot'}"
    needs = board.waits_for(row)
    if not needs:
        return ""
    more = f" (+{len(needs) - 2} more)" if len(needs) > 2 else ""
    return f"waits for {', '.join(needs[:2])}{more}"


def retry_words(row: JobRow, now: float) -> str:
    """`attempt 2 in 30s`, of a job that is about to be tried again."""
    after = max(0.0, (row.retry_at or now) - now)
    return f"attempt {row.attempt + 1} {f'in {duration(after)}' if after >= 1 else 'is due'}"


def heading(board: Board) -> Line:
    """`sft-sweep: 2 will run, 1 may run, 7 up to date`."""
    tally = Counter(row.decision for row in board.rows.values())
    tally[Decision.UP_TO_DATE] += board.unlisted
    words = {Decision.RUN: "will run", Decision.MAY_RUN: "may run"}
    parts: list[Span] = []
    for decision in Decision:
        if tally[decision]:
            word = words.get(decision, decision.value)
            parts.append((STATE_STYLE[word], f"{tally[decision]} {word}"))
    return [("strong", f"{board.workflow}: "), *_joined(parts or [("muted", "no jobs")])]


def _joined(parts: Sequence[Span]) -> Iterable[Span]:
    for place, part in enumerate(parts):
        if place:
            yield ("muted", ", ")
        yield part


def summary(board: Board, now: float) -> Line:
    """`3 done, 7 up to date, 1 failed, 2 blocked in 4m 12s`."""
    parts = [
        (STATE_STYLE[state.value], f"{board.counts[state]} {state.value}")
        for state in _SUMMARY
        if board.counts[state]
    ]
    if board.running:  # of a lost run: they live on under their supervisors
        parts.append((STATE_STYLE["running"], f"{len(board.running)} still running"))
    left = board.total - board.ended - len(board.running)
    if left:
        parts.append(("muted", f"{left} not run"))
    line: Line = [*_joined(parts or [("muted", "no jobs")])]
    if board.started is not None:
        line.append(("muted", f" in {duration(board.elapsed(now))}"))
    used = usage(board, now)
    if used:
        line.append(("muted", f" ({used})"))
    return line


def usage(board: Board, now: float) -> str:
    """`GPU time 1h 20m, cost 3.25`; "" without GPUs."""
    seconds = board.gpu_seconds(now)
    if seconds < 1:
        return ""
    words = f"GPU time {duration(seconds)}"
    return words + (f", cost {board.cost(now):.2f}" if board.cost_per_gpu_hour else "")


# -- the end ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """Jobs that failed in the same way, with the end of the first one's log."""

    jobs: tuple[str, ...]
    cause: str
    log: str = ""
    lines: tuple[str, ...] = ()


def group_failures(rows: Iterable[JobRow], tail: Tail = no_tail) -> list[Failure]:
    """Failures of equal cause and equal last words as one, in the order they happened."""
    groups: dict[tuple[str, str], list[JobRow]] = {}
    ends: dict[str, tuple[str, ...]] = {}
    for row in rows:
        lines = tuple(line.rstrip() for line in tail(row.name) if line.strip())
        ends[row.name] = lines
        groups.setdefault((row.cause, lines[-1] if lines else ""), []).append(row)
    return [
        Failure(tuple(row.name for row in group), cause, group[0].log, ends[group[0].name])
        for (cause, _), group in groups.items()
    ]


def failure_lines(failure: Failure, theme: Theme, limit: int = _LOG_LINES) -> list[Line]:
    first, *others = failure.jobs
    cause = f" ({theme.text(failure.cause)})" if failure.cause else ""
    lines = paragraph([("bad", "failed: "), ("name", theme.text(first)), ("", cause)], theme)
    if others:
        names = [("", f"{name}, ") for name in map(theme.text, others[:20])]
        names[-1] = ("", names[-1][1].removesuffix(", "))
        if len(others) > 20:
            names.append(("muted", f" and {len(others) - 20} more"))
        lines += paragraph([("muted", "and so did "), *names], theme, indent=2)
    bar = theme.text("│")
    room = theme.width - 4 if theme.width else 0
    for text in failure.lines[-limit:] if limit else ():
        shown = theme.text(text)
        # Log lines may be megabytes; on a screen one row each, elsewhere a generous one.
        shown = cells.fit(shown, room or 1000, theme.more)
        lines.append([("muted", f"  {bar} "), ("", shown)])
    if failure.log:
        lines.append([("muted", f"  log: {theme.text(failure.log)}")])
    return lines


def closing(board: Board, theme: Theme, tail: Tail = no_tail) -> list[Line]:
    """What is said at the end: failures once more, then the summary."""
    lines: list[Line] = []
    failures = group_failures(board.failed.values(), tail)
    for failure in failures[:_GROUPS]:
        lines += [[], *failure_lines(failure, theme)]
    if len(failures) > _GROUPS:
        more = f"… and {len(failures) - _GROUPS} other failures: "
        more += f"oumi-flow errors {quoted(board.path)}"
        lines += [[], [("muted", more)]]
    if lines:
        lines.append([])
    lines += paragraph(summary(board, board.last_event), theme)
    if board.state == "interrupted":
        why = f" ({board.cause})" if board.cause else ""
        lines.append([("warn", f"interrupted{why}"), ("muted", "; the same command goes on")])
    elif board.state in ("cancelled", "failed") and board.cause:
        lines.append([("warn", board.cause)])
    elif board.state == "lost":
        lines.append([("bad", "the run was lost"), ("muted", "; the same command goes on")])
    return lines
