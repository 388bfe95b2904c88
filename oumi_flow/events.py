"""What a run tells, in order: the event types and their lines of JSON.

This is where the two wings of the house meet. Knows no files, screens or threads. The log of
events holds changes of state only; progress is a value in a file of its own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from oumi_flow.model import FORMAT


@dataclass(frozen=True, slots=True)
class Event:
    kind: ClassVar[str] = ""
    seq: int = field(default=0, kw_only=True)  # 1, 2 … within a run
    at: float = field(default=0.0, kw_only=True)  # unix seconds, UTC


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    kind: ClassVar[str] = "run_started"
    run_id: str
    workflow: str  # name
    path: str
    output_dir: str
    pid: int
    host: str
    user: str = ""
    max_parallel: int = 1
    gpus: tuple[int, ...] = ()
    cost_per_gpu_hour: float = 0.0
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Row:
    """One job of the plan, as far as a screen needs it."""

    job: str
    verb: str
    decision: str  # a Decision's value
    reasons: tuple[str, ...] = ()  # finished words
    upstream: tuple[str, ...] = ()
    expected: float | None = None
    folder: str = ""
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Planned(Event):
    kind: ClassVar[str] = "planned"
    to_run: int
    may_run: int
    up_to_date: int
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class JobQueued(Event):
    """`waiting_for` says what holds it back: "a slot", "GPU 0: held by run R, user U"."""

    kind: ClassVar[str] = "job_queued"
    job: str
    waiting_for: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobStarted(Event):
    kind: ClassVar[str] = "job_started"
    job: str
    attempt: int = 1
    devices: tuple[str, ...] = ()  # as in CUDA_VISIBLE_DEVICES
    log: str = ""
    adopted: bool = False
    detail: str = ""  # `resumes from checkpoint-800`


@dataclass(frozen=True, slots=True)
class JobRetrying(Event):
    kind: ClassVar[str] = "job_retrying"
    job: str
    attempt: int  # the one that just failed
    delay: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class JobFinished(Event):
    """`state` is an ended JobState's value, `cause` is for people: `exit 1`."""

    kind: ClassVar[str] = "job_finished"
    job: str
    state: str
    exit_code: int | None = None
    cause: str = ""
    took: float | None = None  # seconds of the last attempt, None when it did not run
    gpus: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note(Event):
    """Something worth saying that changes no state: `level` is info or warning."""

    kind: ClassVar[str] = "note"
    text: str
    level: str = "info"
    job: str = ""


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """`state` is done | failed | cancelled | interrupted; `counts` is JobState value -> jobs."""

    kind: ClassVar[str] = "run_finished"
    state: str
    counts: dict[str, int] = field(default_factory=dict)
    took: float = 0.0
    cause: str = ""
    gpu_seconds: float = 0.0


_KINDS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        RunStarted,
        Planned,
        JobQueued,
        JobStarted,
        JobRetrying,
        JobFinished,
        Note,
        RunFinished,
    )
}


def to_line(event: Event) -> str:
    """One line of JSON, without its newline; what `from_line` takes."""
    return json.dumps(
        {"kind": event.kind, **asdict(event)}, ensure_ascii=False, separators=(",", ":")
    )


def from_line(line: str) -> Event | None:
    """The event of a line; None for a torn line or a kind that this version does not know."""
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    cls = _KINDS.get(data.pop("kind", ""))
    if cls is None:
        return None
    known = {f.name for f in fields(cls)}
    values = {key: _tuples(value) for key, value in data.items() if key in known}
    if cls is Planned:
        rows = values.get("rows", ())
        names = {f.name for f in fields(Row)}
        values["rows"] = tuple(
            Row(**{k: _tuples(v) for k, v in row.items() if k in names}) for row in rows
        )
    try:
        return cls(**values)
    except TypeError:
        return None


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
