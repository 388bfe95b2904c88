"""Traces and attempts as JSON and back. The fields are those of the dataclasses, nothing beside.

Whatever is torn, of another format or of a wrong type comes back as None.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter

from oumi_flow.dataclass import MISSING, fields
from oumi_flow.encoding import encoder
from oumi_flow.model import (
    EMPTY,
    FORMAT,
    Evidence,
    FileEvidence,
    LastAttempt,
    Stamp,
    Trace,
    Value,
)
from oumi_flow.typed import Any

_TRACE_FIELDS = tuple(field.name for field in fields(Trace))
_ATTEMPT_FIELDS = tuple(field.name for field in fields(LastAttempt))
# Large and rarely asked for: an index row leaves them in the marker.
_IN_MARKER_ONLY = frozenset({"parts", "metrics"})
_EVIDENCE_FIELDS = frozenset({"inputs", "outputs"})
_ROW_FIELDS = tuple(
    name for name in _TRACE_FIELDS if name not in _IN_MARKER_ONLY and name not in ("job", "format")
)
_INPUTS = _ROW_FIELDS.index("inputs")
_OUTPUTS = _ROW_FIELDS.index("outputs")
_MAPPINGS = tuple(_ROW_FIELDS.index(name) for name in ("input_paths", "versions"))
# All values of one at a time: a run asks for those of each job several times.
_trace_values, _row_values = attrgetter(*_TRACE_FIELDS), attrgetter(*_ROW_FIELDS)
_attempt_values = attrgetter(*_ATTEMPT_FIELDS)
EVIDENCE = (_INPUTS, _OUTPUTS)  # where in a row there is evidence, by its numbers in the table
_CHANGED = _ROW_FIELDS.index("changed_while_ran")

_encode = encoder()
_new: Callable[[type[Any], tuple[Any, ...]], Any] = tuple.__new__

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "float": (float, int),
    "int": (int,),
    "int | None": (int, type(None)),
    "tuple[str, ...]": (list, tuple),
}


class FromMarker(Mapping[str, Value]):
    """A part of a trace that is read from its marker when somebody asks for it."""

    __slots__ = ("_load", "_name", "_values")

    def __init__(self, load: Callable[[], Trace | None], name: str) -> None:
        self._load: Callable[[], Trace | None] | None = load
        self._name = name
        self._values: Mapping[str, Value] = EMPTY

    def _read(self) -> Mapping[str, Value]:
        if self._load is not None:
            trace = self._load()
            if trace is not None:
                self._values = getattr(trace, self._name)
            self._load = None
        return self._values

    def __getitem__(self, key: str) -> Value:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return repr(dict(self._read()))


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """A marker's content."""
    record = dict(zip(_TRACE_FIELDS, _trace_values(trace), strict=True))
    for name in _EVIDENCE_FIELDS:
        record[name] = {key: _row(evidence) for key, evidence in record[name].items()}
    return record


def trace_from_json(record: Any) -> Trace | None:
    """The trace of a marker; None for anything else."""
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return None
    try:
        values: dict[str, Any] = {}
        for field in fields(Trace):
            if field.name not in record:
                if field.default is MISSING and field.default_factory is MISSING:
                    return None
                continue
            value = record[field.name]
            if field.name in _EVIDENCE_FIELDS:
                value = {str(key): _evidence(row) for key, row in value.items()}
            elif str(field.type).startswith("Mapping"):
                if not isinstance(value, dict):
                    return None
            elif not _fits(value, str(field.type)):
                return None
            values[field.name] = tuple(value) if isinstance(value, list) else value
        return Trace(**values)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError):
        return None


class Table:
    """The evidence of all rows of an index, each once: an output is mostly some other's input."""

    def __init__(self, rows: Iterable[Any] = ()) -> None:
        """Raises TypeError or ValueError for what is no table."""
        self.rows = list(rows)
        self.evidence = [_evidence(row) for row in self.rows]


class Texts:
    """The evidence of an index that is being written, each once, as the JSON that it will be.

    It begins with that of `before`, with the numbers that it has there.
    """

    def __init__(self, before: Table | None = None) -> None:
        rows = before.rows if before is not None else []
        self._before = _encode(rows)[1:-1]
        self._count = len(rows)
        self._numbers: dict[str, int] = {}

    def number(self, row: list[Any]) -> int:
        """The number of evidence, as JSON has it, which is in the table from now on."""
        text = _encode(row)
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = self._count + len(self._numbers)
        return found

    def json(self) -> bytes:
        """The table."""
        before = [self._before] if self._before else []
        return f"[{','.join([*before, *self._numbers])}]".encode("ascii")


def trace_to_row(trace: Trace, texts: Texts) -> list[Any]:
    """What the index keeps of a trace: all that judging an unchanged job needs."""
    row = list(_row_values(trace))
    for place in EVIDENCE:
        row[place] = {key: texts.number(_row(seen)) for key, seen in row[place].items()}
    return row


def packed_to_row(data: bytes, texts: Texts) -> list[Any]:
    """The same of a trace that was packed."""
    row: list[Any] = marshal.loads(data)
    for place in EVIDENCE:
        row[place] = {key: texts.number(seen) for key, seen in row[place].items()}
    return row


def packed(trace: Trace) -> bytes:
    """What an index row has of a trace, evidence and all, small: for this process only."""
    row = list(_row_values(trace))
    for place in _MAPPINGS:
        row[place] = dict(row[place])
    for place in EVIDENCE:
        row[place] = {key: _row(seen) for key, seen in row[place].items()}
    return marshal.dumps(row)


def unpacked(job: str, data: bytes, load: Callable[[], Trace | None]) -> Trace:
    """The trace that was packed; `load` reads the marker for the parts that are not in it."""
    values = dict(zip(_ROW_FIELDS, marshal.loads(data), strict=True))
    for name in _EVIDENCE_FIELDS:
        values[name] = {key: _evidence(row) for key, row in values[name].items()}
    parts, metrics = FromMarker(load, "parts"), FromMarker(load, "metrics")
    return Trace(job=job, parts=parts, metrics=metrics, **values)


def moved_row(row: list[Any], before: Table, after: Texts) -> list[Any]:
    """The row of one table as a row of another."""
    row = list(row)
    for place in EVIDENCE:
        row[place] = {key: after.number(before.rows[n]) for key, n in row[place].items()}
    return row


def trace_from_row(
    job: str, row: Any, table: Table, load: Callable[[], Trace | None]
) -> Trace | None:
    """The trace of an index row; `load` reads the marker for the parts that rows leave out.

    The index proves its own content by a checksum, so types are not looked at one by one.
    """
    evidence = table.evidence
    try:
        values = dict(zip(_ROW_FIELDS, row, strict=True))
        values["inputs"] = {key: evidence[number] for key, number in row[_INPUTS].items()}
        values["outputs"] = {key: evidence[number] for key, number in row[_OUTPUTS].items()}
        values["changed_while_ran"] = tuple(row[_CHANGED])
        return Trace(
            job=job,
            parts=FromMarker(load, "parts"),
            metrics=FromMarker(load, "metrics"),
            **values,
        )
    except (TypeError, ValueError, AttributeError, KeyError, IndexError):
        return None


def attempt_to_json(attempt: LastAttempt) -> dict[str, Any]:
    return dict(zip(_ATTEMPT_FIELDS, _attempt_values(attempt), strict=True))


def attempt_from_json(record: Mapping[str, Any]) -> LastAttempt | None:
    """The attempt of `attempt.json`; None when a field is missing or of another type."""
    values = {}
    for field in fields(LastAttempt):
        if field.name not in record:
            if field.default is MISSING:
                return None
            continue
        if not _fits(record[field.name], str(field.type)):
            return None
        values[field.name] = record[field.name]
    return LastAttempt(**values)


def _fits(value: Any, annotation: str) -> bool:
    return isinstance(value, _TYPES[annotation]) and not isinstance(value, bool)


def _row(evidence: Evidence) -> list[Any]:
    files = [[file.path, list(file.stamp), file.digest, file.settled] for file in evidence.files]
    return [evidence.kind, evidence.digest, files]


def _evidence(row: Any) -> Evidence:
    kind, digest, files = row
    if not files:
        return Evidence(kind, digest)
    # Made as tuples are: a plan makes hundreds of thousands of these.
    return Evidence(
        kind,
        digest,
        tuple(
            [
                _new(
                    FileEvidence, (path, _new(Stamp, (size, mtime, ctime, inode)), hashed, settled)
                )
                for path, (size, mtime, ctime, inode), hashed, settled in files
            ]
        ),
    )
