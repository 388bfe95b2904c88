"""From a run's events to stretches of time: each attempt of each job, and each wait.

A board keeps a job's latest attempt; a timeline needs them all. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from oumi_flow.board import Board
from oumi_flow.dataclass import dataclass
from oumi_flow.events import Event, JobFinished, JobQueued, JobRetrying, JobStarted
from oumi_flow.model import JobState

RUNNING = JobState.RUNNING.value
FAILED = JobState.FAILED.value


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt. `state` is how it ended, as a JobState's value; `running` if it has not."""

    job: str
    number: int
    start: float
    end: float
    devices: tuple[str, ...] = ()
    state: str = RUNNING
    cause: str = ""
    detail: str = ""  # `resumes from checkpoint-800`
    again: bool = False  # it was tried once more


@dataclass(frozen=True, slots=True)
class Wait:
    """A stretch in which a job could have run but for a slot, a GPU, or a retry's delay."""

    job: str
    start: float
    end: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Spans:
    """Both in order of their starts, within each job."""

    tries: tuple[Try, ...] = ()
    waits: tuple[Wait, ...] = ()


def spans(events: Iterable[Event], board: Board, now: float) -> Spans:
    """The spans of a run; `board` is the fold of its events, and says what is left open."""
    fold = _Fold()
    for event in events:
        if isinstance(event, JobQueued):
            fold.waits_for(event.job, event.at, event.waiting_for)
        elif isinstance(event, JobStarted):
            fold.begin(event)
        elif isinstance(event, JobRetrying):
            fold.end(event.job, event.at, FAILED, event.detail, again=True)
            fold.waits_for(event.job, event.at, f"attempt {event.attempt + 1}")
        elif isinstance(event, JobFinished):
            fold.end(event.job, event.at, event.state, event.cause, took=event.took)
    return fold.close(board, now)


class _Fold:
    def __init__(self) -> None:
        self._tries: list[Try] = []
        self._waits: list[Wait] = []
        self._open: dict[str, JobStarted] = {}
        self._waiting: dict[str, tuple[float, str]] = {}

    def waits_for(self, job: str, at: float, why: str) -> None:
        since, before = self._waiting.get(job, (at, ""))
        self._waiting[job] = (since, why or before)

    def begin(self, event: JobStarted) -> None:
        # An attempt of which nobody told the end was lost with its run.
        self.end(event.job, event.at, JobState.INTERRUPTED.value, "")
        self._stop_waiting(event.job, event.at)
        self._open[event.job] = event

    def end(
        self,
        job: str,
        at: float,
        state: str,
        cause: str,
        *,
        again: bool = False,
        took: float | None = None,
    ) -> None:
        self._stop_waiting(job, at)
        begun = self._open.pop(job, None)
        if begun is None:
            return
        # After its process a job's outputs are looked at; that is no time on its GPU.
        end = at if took is None else min(at, begun.at + took)
        self._tries.append(
            Try(
                job,
                begun.attempt,
                begun.at,
                max(begun.at, end),
                begun.devices,
                state,
                cause,
                begun.detail,
                again,
            )
        )

    def close(self, board: Board, now: float) -> Spans:
        for job in list(self._open):
            row = board.rows.get(job)
            if row is None or row.state is JobState.RUNNING:
                self.end(job, now, RUNNING, "")
            else:
                self.end(job, row.finished or board.last_event, row.state.value, row.cause)
        for job in list(self._waiting):
            self._stop_waiting(job, board.last_event if board.over else now)
        return Spans(
            tuple(sorted(self._tries, key=lambda one: one.start)),
            tuple(sorted(self._waits, key=lambda one: one.start)),
        )

    def _stop_waiting(self, job: str, at: float) -> None:
        found = self._waiting.pop(job, None)
        if found is not None and at > found[0]:
            self._waits.append(Wait(job, found[0], at, found[1]))
