"""A run as a screen needs it: a fold over its events. Every view draws one of these.

Pure: no clock (callers say what time it is), no files, no threads, no colours. Events may be
repeated, come late, or speak of jobs that no plan named; what is older than what a row knows
already is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from oumi_flow.dataclass import dataclass, field
from oumi_flow.events import (
    Event,
    JobFinished,
    JobQueued,
    JobRetrying,
    JobStarted,
    Note,
    Planned,
    Row,
    RunFinished,
    RunStarted,
)
from oumi_flow.model import EMPTY, Decision, JobState
from oumi_flow.typed import Any

_S = JobState
_NOTES = 1000  # a run that warns without end is no reason to grow without end


@dataclass(slots=True)
class JobRow:
    """One job. Times are unix seconds; `took` is of its last attempt."""

    name: str
    verb: str = ""
    state: JobState = _S.WAITING
    decision: Decision = Decision.RUN
    reasons: tuple[str, ...] = ()
    rechecked: bool = False  # the reasons were made anew when its turn came
    upstream: tuple[str, ...] = ()
    expected: float | None = None  # seconds, from an earlier run
    folder: str = ""
    gpus: int = 0
    attempt: int = 0
    devices: tuple[str, ...] = ()
    log: str = ""
    adopted: bool = False
    detail: str = ""  # of the attempt: `resumes from checkpoint-800`
    waiting_for: str = ""  # a slot, a GPU and who holds it
    retry_at: float | None = None
    started: float | None = None
    finished: float | None = None
    took: float | None = None
    exit_code: int | None = None
    cause: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    runner_lost: bool = False  # it lives on under its supervisor, its run does not
    gpu_seconds: float = 0.0  # of attempts that have ended
    seq: int = 0  # of the newest event that spoke of it

    def elapsed(self, now: float) -> float | None:
        """Seconds that its latest attempt has run, or ran; None if it never started."""
        if self.state is _S.RUNNING and self.started is not None:
            return max(0.0, now - self.started)
        return self.took


@dataclass(slots=True)
class Board:
    """`state` is planned | running | lost, or that of RunFinished."""

    run_id: str = ""
    workflow: str = ""
    path: str = ""
    output_dir: str = ""
    pid: int = 0
    host: str = ""
    user: str = ""
    slots: int = 1
    devices: tuple[int, ...] = ()
    cost_per_gpu_hour: float = 0.0
    state: str = "planned"
    cause: str = ""
    started: float | None = None
    finished: float | None = None
    last_event: float = 0.0
    rows: dict[str, JobRow] = field(default_factory=dict)  # in the plan's order
    unlisted: int = 0  # further jobs, all up to date
    counts: Counter[JobState] = field(default_factory=Counter)
    running: dict[str, JobRow] = field(default_factory=dict)  # in the order they started
    failed: dict[str, JobRow] = field(default_factory=dict)  # in the order they failed
    notes: list[Note] = field(default_factory=list)
    version: int = 0  # grows with every change, so that a view knows when to draw
    total_gpu_seconds: float | None = None  # as the run itself counted, at its end

    # -- what a view asks -----------------------------------------------------------------

    @property
    def total(self) -> int:
        return len(self.rows) + self.unlisted

    @property
    def completed(self) -> int:
        """Done, with those that were up to date or came from the cache."""
        return self.counts[_S.DONE] + self.counts[_S.UP_TO_DATE] + self.counts[_S.RESTORED]

    @property
    def ended(self) -> int:
        return sum(count for state, count in self.counts.items() if state.ended)

    @property
    def over(self) -> bool:
        return self.state not in ("planned", "running")

    def elapsed(self, now: float) -> float:
        """Seconds since the run began, until its end; of a lost run until it was last heard of."""
        if self.started is None:
            return 0.0
        end = self.finished if self.finished is not None else now
        return max(0.0, end - self.started)

    def waits_for(self, row: JobRow) -> tuple[str, ...]:
        """The upstreams that have not succeeded yet."""
        rows = self.rows
        return tuple(n for n in row.upstream if n in rows and not rows[n].state.succeeded)

    def gpu_seconds(self, now: float) -> float:
        """GPU-seconds used so far by this run."""
        if self.total_gpu_seconds is not None:
            return self.total_gpu_seconds
        ended = sum(row.gpu_seconds for row in self.rows.values())
        return ended + sum(
            len(row.devices) * (row.elapsed(now) or 0.0) for row in self.running.values()
        )

    def cost(self, now: float) -> float:
        """What those GPU-seconds cost, in the currency of `cost_per_gpu_hour`."""
        return self.gpu_seconds(now) / 3600 * self.cost_per_gpu_hour

    def expected_cost(self) -> float | None:
        """Cost of the jobs that the plan runs or may run; None where no price or time is known."""
        known = [
            row.expected * self.gpus_of(row)
            for row in self.rows.values()
            if row.decision is not Decision.UP_TO_DATE and row.expected is not None
        ]
        if not known or not self.cost_per_gpu_hour:
            return None
        return sum(known) / 3600 * self.cost_per_gpu_hour

    def lost(self, alive: Collection[str] = (), ends: Mapping[str, str] = EMPTY) -> None:
        """The run's lock is free though it never said its end: say so, and of each job too.

        Jobs named in `alive` live on under their supervisors; the other ones that ran are
        interrupted. `ends` says of a job how it ended all the same, where that is known.
        """
        if self.over:
            return
        self.state, self.finished = "lost", self.last_event or self.started
        for row in list(self.running.values()):
            if row.name in alive:
                row.runner_lost = True
                continue
            row.cause = ends.get(row.name, "its run was lost")
            row.finished = self.finished
            _move(self, row, _S.INTERRUPTED)
        self.version += 1

    def gpus_of(self, row: JobRow) -> int:
        """How many GPUs it holds at a time. A plan says -1 for one, if there is any."""
        return row.gpus if row.gpus >= 0 else min(1, len(self.devices))


def fold(events: Iterable[Event]) -> Board:
    """The board of a run that has told these."""
    board = Board()
    for event in events:
        apply(board, event)
    return board


def apply(board: Board, event: Event) -> None:
    """Take note of one event."""
    board.version += 1
    board.last_event = max(board.last_event, event.at)
    if isinstance(event, (JobQueued, JobStarted, JobRetrying, JobFinished)):
        row = _row(board, event.job)
        if event.seq and event.seq <= row.seq:
            return
        row.seq = event.seq
        _apply_to_job(board, row, event)
    elif isinstance(event, Planned):
        for planned in event.rows:
            _plan(board, planned)
        # Jobs that spoke before their plan was read keep their state, and take its order.
        names = dict.fromkeys(planned.job for planned in event.rows)
        board.rows = {name: board.rows[name] for name in [*names, *board.rows]}
        board.counts[_S.UP_TO_DATE] += event.unlisted - board.unlisted
        board.unlisted = event.unlisted
    elif isinstance(event, RunStarted):
        _start(board, event)
    elif isinstance(event, RunFinished):
        board.state, board.cause, board.finished = event.state, event.cause, event.at
        board.total_gpu_seconds = event.gpu_seconds
        if board.started is None:
            board.started = event.at - event.took
    elif isinstance(event, Note) and len(board.notes) < _NOTES:
        board.notes.append(event)


def _start(board: Board, event: RunStarted) -> None:
    board.run_id, board.workflow, board.path = event.run_id, event.workflow, event.path
    board.output_dir, board.pid, board.host = event.output_dir, event.pid, event.host
    board.user, board.slots, board.devices = event.user, event.max_parallel, event.gpus
    board.cost_per_gpu_hour, board.started = event.cost_per_gpu_hour, event.at
    if not board.over:
        board.state = "running"


def _apply_to_job(
    board: Board, row: JobRow, event: JobQueued | JobStarted | JobRetrying | JobFinished
) -> None:
    if isinstance(event, JobQueued):
        row.waiting_for = event.waiting_for
        if event.reasons:
            row.reasons, row.rechecked = event.reasons, True
        _move(board, row, _S.QUEUED)
    elif isinstance(event, JobStarted):
        row.attempt, row.devices, row.log = event.attempt, event.devices, event.log or row.log
        row.adopted, row.detail = event.adopted, event.detail
        row.started, row.waiting_for, row.retry_at = event.at, "", None
        row.finished = row.took = row.exit_code = None
        row.cause = ""
        if row.decision is Decision.MAY_RUN and not row.rechecked:
            row.reasons = ()  # the plan's `waits for …; skipped if …` has been answered
        _move(board, row, _S.RUNNING)
    elif isinstance(event, JobRetrying):
        row.cause, row.retry_at, row.attempt = event.detail, event.at + event.delay, event.attempt
        if row.started is not None:
            row.took = max(0.0, event.at - row.started)
            row.gpu_seconds += row.took * len(row.devices)
        _move(board, row, _S.RETRYING)
    else:
        row.cause, row.exit_code, row.metrics = event.cause, event.exit_code, event.metrics
        row.took, row.finished, row.waiting_for = event.took, event.at, ""
        row.gpu_seconds += (event.took or 0.0) * event.gpus
        if row.started is None and event.took is not None:
            row.started = event.at - event.took
        try:
            state = JobState(event.state)
        except ValueError:  # told by a newer version: it ended, and not well
            state, row.cause = _S.FAILED, row.cause or event.state
        _move(board, row, state)


def _row(board: Board, name: str) -> JobRow:
    row = board.rows.get(name)
    if row is None:
        row = board.rows[name] = JobRow(name)
        board.counts[row.state] += 1
    return row


def _plan(board: Board, planned: Row) -> None:
    row = _row(board, planned.job)
    row.verb, row.upstream, row.expected = planned.verb, planned.upstream, planned.expected
    row.folder, row.gpus = planned.folder, planned.gpus
    row.reasons = row.reasons or planned.reasons
    try:
        row.decision = Decision(planned.decision)
    except ValueError:
        row.decision = Decision.RUN
    if not row.seq and row.decision is Decision.UP_TO_DATE:
        # The plan's word is all that is ever said of these.
        _move(board, row, _S.UP_TO_DATE)


def _move(board: Board, row: JobRow, state: JobState) -> None:
    """The one place where a row's state changes, with everything that is kept beside it."""
    board.counts[row.state] -= 1
    board.counts[state] += 1
    row.state = state
    if state is _S.RUNNING:
        board.running[row.name] = row
    else:
        board.running.pop(row.name, None)
    if state is _S.FAILED:
        board.failed[row.name] = row
    else:
        board.failed.pop(row.name, None)


# What best says how a job went, best first; a name counts by its last part.
_TELLING = (
    "best_value",
    "eval_loss",
    "accuracy",
    "acc",
    "exact_match",
    "score",
    "overall_score",
    "aggregate",
    "loss",
    "train_loss",
)
_DULL = (
    "runtime",
    "_second",
    "epoch",
    "flos",
    "step",
    "steps",
    "learning_rate",
    "grad_norm",
    "tokens",
    "seen",
    "seconds",
    "trial",
    "stderr",
)


def key_metrics(metrics: Mapping[str, Any], limit: int = 1) -> list[tuple[str, float]]:
    """The few numbers that say most of how a job went, most telling first."""
    numbers = {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    worth = {
        name: value for name, value in numbers.items() if not name.endswith(_DULL) and name != "lr"
    }

    def rank(name: str) -> int:
        last = name.replace(",", "/").split("/")[-1]
        return _TELLING.index(last) if last in _TELLING else len(_TELLING)

    # Sorting is stable: among equals the job's own order holds.
    return [(name, worth[name]) for name in sorted(worth, key=rank)[:limit]]
