"""What is still to come of a run, from how long its jobs took before and how fast they run now.

Walks all jobs of a board at each call, and changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from oumi_flow.board import Board
from oumi_flow.dataclass import dataclass
from oumi_flow.model import EMPTY, Decision, JobState
from oumi_flow.pattern import pattern
from oumi_flow.typed import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from oumi_flow.graph.forecast import Task

_S = JobState
_DIGIT = pattern(r"\d")
Sure = Literal["about", "up to", "roughly", "at least"]


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """`sure` says how to read it: `at least`, `roughly`, `up to` or `about` that many seconds."""

    seconds: float
    sure: Sure


def time_left(board: Board, now: float) -> TimeLeft | None:
    """Seconds until the run's end, from how long its jobs took before.

    None when nothing is left, or nothing is known of what is left. Walks all jobs: ask once a
    second, not at each frame.
    """
    return forecast(board, now)[0]


def forecast(
    board: Board, now: float, ends: Mapping[str, float | None] = EMPTY
) -> tuple[TimeLeft | None, Mapping[str, float]]:
    """The time left, and in how many seconds each job is expected to start.

    `ends`: seconds that running jobs still need, where their own pace says so. Of jobs whose
    start hangs on a time that nobody knows, nothing is said.
    """
    from oumi_flow.graph.forecast import play

    tasks, sure = _tasks(board, now, ends)
    if not sure:
        return None, {}
    left, starts = play(tasks, board.slots, len(board.devices))
    return TimeLeft(left, sure), {} if sure == "at least" else starts


def critical_path(
    board: Board, now: float, ends: Mapping[str, float | None] = EMPTY
) -> tuple[list[str], float]:
    """The chain of jobs that takes longest from now on, and its seconds as far as known."""
    from oumi_flow.graph import critical_path as longest

    tasks, _ = _tasks(board, now, ends)
    seconds = {name: task.seconds for name, task in tasks.items()}
    path = longest(list(tasks), {n: task.needs for n, task in tasks.items()}, seconds)
    return path, sum(seconds[name] for name in path)


def _tasks(
    board: Board, now: float, ends: Mapping[str, float | None]
) -> tuple[dict[str, Task], Sure | Literal[""]]:
    """What is left to do, and how surely it is known; "" where nothing is."""
    from oumi_flow.graph.forecast import Task

    typical = _typical(board, now, ends)
    tasks: dict[str, Task] = {}
    guessed = unknown = optional = 0
    for row in board.rows.values():
        if row.state.ended:
            continue
        expected = row.expected
        pace = ends.get(row.name)
        if expected is None and pace is None:
            if typical:
                expected = typical.get((row.verb, _stem(row.name)))
                if expected is None:
                    expected = typical.get((row.verb, ""))
            guessed += expected is not None
            unknown += expected is None
        seconds = expected or 0.0
        if pace is not None:
            seconds = pace
        elif row.state is _S.RUNNING:
            # One that is late already will need a little more, nobody knows how much.
            seconds = max(seconds - (row.elapsed(now) or 0.0), seconds * 0.05)
        elif row.decision is Decision.MAY_RUN:
            optional += 1
        tasks[row.name] = Task(seconds, row.upstream, board.gpus_of(row), row.state is _S.RUNNING)
    if not tasks or unknown == len(tasks):
        return tasks, ""
    if unknown:
        return tasks, "at least"
    return tasks, "roughly" if guessed else "up to" if optional else "about"


def _typical(
    board: Board, now: float, ends: Mapping[str, float | None]
) -> dict[tuple[str, str], float]:
    """Median seconds by verb and stem of the name, and by verb (stem "").

    From this run, what runs now at its own pace included, and from earlier ones.
    """
    from statistics import median

    known: dict[tuple[str, str], list[float]] = {}
    for row in board.rows.values():
        seconds = row.took if row.state is _S.DONE else row.expected
        end = ends.get(row.name)
        if end is not None:
            seconds = (row.elapsed(now) or 0.0) + end
        if seconds is not None:
            for stem in ("", _stem(row.name)):
                known.setdefault((row.verb, stem), []).append(seconds)
    return {of: median(values) for of, values in known.items()}


def _stem(name: str) -> str:
    """What the jobs of a sweep mostly have in common: `train-` of `train-1e-4`."""
    return _DIGIT.split(name, maxsplit=1)[0]
