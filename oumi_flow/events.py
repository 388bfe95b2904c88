"""What a run tells, in order: the event types and their lines of JSON.

This is where the two wings of the house meet. Knows no files, screens or threads. The log of
events holds changes of state only; progress is a value in a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from oumi_flow.dataclass import dataclass, field, fields, replace, values_of
from oumi_flow.encoding import encoder
from oumi_flow.model import FORMAT
from oumi_flow.typed import Any, ClassVar


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
    restores: bool = False  # its result is in a cache, and will be taken from there


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as they were told before, in the plan's order, and where in it those belong that differ.

    For a plan of very many jobs of which few are of interest.
    """

    text: bytes  # JSON, with a comma between rows
    ends: Sequence[int]  # of each row, in `text`
    places: Mapping[str, int]  # of jobs that have a row of their own now

    def with_rows(self, rows: Iterable[Row]) -> list[bytes | memoryview]:
        """All rows, these instead of their earlier ones, as JSON with commas; to be joined."""
        text, start = memoryview(self.text), 0
        pieces: list[bytes | memoryview] = []
        for place, row in sorted((self.places[row.job], row_line(row)) for row in rows):
            before = self.ends[place - 1] + 1 if place else 0
            pieces += [text[start:before], row]
            start = self.ends[place]
        return [*pieces, text[start:]]


@dataclass(frozen=True, slots=True)
class Planned(Event):
    kind: ClassVar[str] = "planned"
    to_run: int
    may_run: int
    up_to_date: int
    rows: tuple[Row, ...] = ()
    unlisted: int = 0  # jobs up to date that have no row here; in a log all have one
    among: Rows | None = field(default=None, compare=False, repr=False)  # for the log alone


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
    cpu: float | None = None  # seconds of all processes of the last attempt


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


def stamp(event: Event, seq: int, at: float) -> None:
    """Give an event that was just made, and that nobody has seen yet, its number and time."""
    # A copy would cost as much as the rest of what is done to tell of it.
    object.__setattr__(event, "seq", seq)
    object.__setattr__(event, "at", at)


def to_line(event: Event) -> str:
    """One line of JSON, without its newline and the rows of `among`; what `from_line` takes."""
    # Not `asdict`, which copies deeply: a plan may have ten thousand rows.
    values = {"kind": event.kind, **values_of(event)}
    if isinstance(event, Planned):
        del values["among"], values["unlisted"]
    return _encode(values)


def to_bytes(event: Event) -> bytes:
    """A line as a log has it, its newline included, and with all rows of a plan."""
    if isinstance(event, Planned) and event.among is not None:
        before, rows, after = to_line(replace(event, rows=())).partition('"rows":[')
        told = event.among.with_rows(event.rows)
        return b"".join([_bytes(before + rows), *told, _bytes(after), b"\n"])
    return _bytes(to_line(event) + "\n")


def row_line(row: Row) -> bytes:
    """One row of a plan as a line of its event has it."""
    return _bytes(_encode(row))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


_encode = encoder(values_of, ascii_only=False)


def from_line(line: str) -> Event | None:
    """The event of a line; None for a torn one, or what this version does not know as an event."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    kind = data.pop("kind", "")
    cls = _KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        return None
    made: Event | None = _made(cls, data)
    return made


def _made(cls: Any, data: Any) -> Any:
    """An object of a class of this module; None where a value is missing or not what it is."""
    if not isinstance(data, dict):
        return None
    values = {}
    for name, is_right in _checks(cls):
        if name not in data:
            continue
        value = data[name]
        if is_right is None:
            value = [_made(Row, row) for row in value] if isinstance(value, list) else None
            if value is None or None in value:
                return None
        elif not is_right(value):
            return None
        values[name] = tuple(value) if isinstance(value, list) else value
    try:
        return cls(**values)
    except TypeError:
        return None


@cache
def _checks(cls: Any) -> tuple[tuple[str, Callable[[Any], bool] | None], ...]:
    """Each field's name, and what its value has to be; None: rows."""
    return tuple(
        (field.name, None if field.type == "tuple[Row, ...]" else _IS[str(field.type)])
        for field in fields(cls)
        if field.name != "among"
    )


def _is_number(value: Any) -> bool:
    # Of times and durations; beyond that no clock can say it.
    return type(value) in (int, float) and -1e13 < value < 1e13


def _all(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(item) is kind for item in value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


# What a value in a line has to be, by the type that the field is declared with.
_IS: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int,
    "bool": lambda value: isinstance(value, bool),
    "float": _is_number,
    "int | None": lambda value: value is None or type(value) is int,
    "float | None": lambda value: value is None or _is_number(value),
    "tuple[str, ...]": _all(str),
    "tuple[int, ...]": _all(int),
    "dict[str, Any]": _is_mapping,
    "dict[str, int]": lambda value: (
        _is_mapping(value) and all(type(item) is int for item in value.values())
    ),
}
