"""Markers and the index: the record of what was made, and its cache in one file.

Markers are the truth. The index repeats them so that a plan reads one file instead of thousands;
a row counts only while its marker still has the stamp that the row was made from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from threading import Lock

from oumi_flow.disk import stamp, stamp_of, sync_folder
from oumi_flow.errors import FlowError
from oumi_flow.hashing import blake2b
from oumi_flow.model import FORMAT, Job, Past, Stamp, Trace
from oumi_flow.store.attempts import Attempts
from oumi_flow.store.files import Files, parse, read_bytes, to_json, told
from oumi_flow.store.paths import Paths
from oumi_flow.store.records import (
    EVIDENCE,
    Table,
    Texts,
    moved_row,
    packed,
    packed_to_row,
    trace_from_json,
    trace_from_row,
    trace_to_json,
    trace_to_row,
    unpacked,
)
from oumi_flow.typed import Any

_AT_ONCE = 100  # rows of an index that are made ready for writing at a time
_MAGIC = b"oumi-flow index "
_NO_PAST = Past()
# Jobs that took so long have their markers written through to the disk.
_DEAR_S = 1.0


class Traces(Attempts):
    """The markers of one output folder, and its attempts.

    Several threads may write at once, each for another job. Without `indexed` the index is neither
    read nor written, which is less work for who asks of few jobs; the next one will find it behind.
    """

    def __init__(self, paths: Paths, files: Files, *, indexed: bool = True) -> None:
        super().__init__(paths, files)
        self._guard = Lock()
        # job -> [marker's stamp, its trace, packed or not, or its row in the table];
        # None: index not read yet
        self._rows: dict[str, Any] | None = None if indexed else {}
        self._indexed = indexed
        self._table = Table()
        self._made: dict[str, tuple[Any, Trace]] = {}  # job -> row of the table, trace made of it
        self._reported: set[str] = set()
        self._found = False
        self.index_stamp: Stamp | None = None  # of the index that was read
        self.behind = False  # markers were read that the index does not have as they are

    # What happened before

    def pasts(self, jobs: Iterable[Job]) -> Mapping[str, Past]:
        """What is known of each job, by name. Raises FlowError for markers that cannot be read."""
        return {job.name: self.past(job.name) for job in jobs}

    def past(self, job: str) -> Past:
        """The trace where there is a marker; else the latest attempt and what came before it."""
        trace = self.trace(job)
        if trace is not None:
            return Past(trace)
        attempt = self.read_attempt(job)
        if attempt is None:
            return _NO_PAST
        return Past(None, attempt, self._read_trace(self._paths.previous(job))[0])

    def trace(self, job: str) -> Trace | None:
        """What the marker says; None when there is none or it cannot be understood."""
        path = self._paths.marker(job)
        rows = self._index()
        try:
            seen = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            if rows.pop(job, None) is not None:
                self.behind = True
            return None
        except OSError as error:
            with told(path, "read"):
                raise error
        now = [seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino]
        kept = rows.get(job)
        if kept is not None and kept[0] == now:
            made = self._made_of(job, kept[1], path)
            if made is not None:
                return made
        trace, read_as = self._read_trace(path)
        self.behind = True
        rows.pop(job, None)
        if trace is not None and read_as is not None:
            rows[job] = [list(read_as), trace]
        return trace

    def _made_of(self, job: str, row: Any, path: str) -> Trace | None:
        """A trace as the index has it; one of its rows is made into objects only once."""
        if isinstance(row, Trace):
            return row
        if isinstance(row, bytes):
            return unpacked(job, row, lambda: self._read_trace(path)[0])
        known = self._made.get(job)
        if known is not None and known[0] is row:
            return known[1]
        made = trace_from_row(job, row, self._table, lambda: self._read_trace(path)[0])
        if made is not None:
            self._made[job] = row, made
        return made

    def kept(self, job: str) -> Trace | None:
        """The trace of a job as it was written or read last, without a look at its marker."""
        row = self._index().get(job)
        return None if row is None else self._made_of(job, row[1], self._paths.marker(job))

    def marker_stamp(self, job: str) -> Stamp | None:
        """The stamp that the marker had when it was last read; None where there was none."""
        row = self._index().get(job)
        return Stamp(*row[0]) if row is not None else None

    def _read_trace(self, path: str) -> tuple[Trace | None, Stamp | None]:
        found = read_bytes(path)
        if found is None:
            return None, None
        return trace_from_json(parse(found[0])), stamp_of(found[1])

    # What happens now

    def write_marker(self, trace: Trace) -> None:
        """Put the marker in place: from here on the job is done. Raises FlowError.

        The file and its name are on the disk before this returns, so that a power cut does not
        leave an empty file where a day's work was recorded. That costs 0.6 ms on a fast disk and
        20 ms on a slow one (a plain write: 0.1 ms), so jobs of less than a second do without:
        they run again in no more time.
        """
        path = self._paths.marker(trace.job)
        self._files.write(path, to_json(trace_to_json(trace)), durable=_is_dear(trace))
        self._is_made(trace, path)

    def commit(self, trace: Trace) -> None:
        """As `write_marker`, of what the job's latest attempt has made, and forget the attempt.

        For a job of less than a second its record becomes the marker: one file less to be made.
        """
        path = self._paths.marker(trace.job)
        if _is_dear(trace) or not self._become_marker(trace.job, to_json(trace_to_json(trace))):
            self.write_marker(trace)
            with suppress(FlowError):  # the marker is what counts
                self.forget_attempt(trace.job)
            return
        self._is_made(trace, path)

    def _is_made(self, trace: Trace, path: str) -> None:
        made = stamp(path)
        self.behind = True
        if made is not None:
            self._index()[trace.job] = [list(made), trace]

    def keep(self, trace: Trace, instead_of: Trace | None = None) -> None:
        """Let the index have newer stamps of equal content; the marker stays as it is.

        Nothing is kept where the marker is not the one that the trace came from any more: that
        which was `kept` as `instead_of`, which may be `trace` itself, or else as it is found now.
        """
        row = self._index().get(trace.job)
        if row is None:
            return
        if instead_of is not None and isinstance(row[1], Trace) and row[1] is not instead_of:
            return  # it was made anew meanwhile
        if row[1] is not instead_of and not self._is_marked(trace.job, row[0]):
            return
        row[1] = packed(trace)
        self.behind = True

    def _is_marked(self, job: str, as_then: list[int]) -> bool:
        """Whether its marker is as it was."""
        now = stamp(self._paths.marker(job))
        return now is not None and list(now) == as_then

    def remove_marker(self, job: str) -> None:
        """Take the marker away before anything may change the outputs. Raises FlowError.

        It is kept as `previous.json`, for words only. The removal is made to last: a marker that
        came back after a power cut would vouch for outputs that were being changed.
        """
        path = self._paths.marker(job)
        with told(path, "remove"):
            try:
                os.replace(path, self._paths.previous(job))
            except (FileNotFoundError, NotADirectoryError):
                return
        sync_folder(self._paths.job_state(job))
        self.behind = True
        self._index().pop(job, None)

    # The index

    def write_index(self, reported: Iterable[str] = ()) -> None:
        """Write what is known now. `reported` are orphans that the user has been told of."""
        if not self._indexed:
            return
        rows = list(self._index().items())
        before = self._table if self._is_lean(row for _, (_, row) in rows) else None
        texts = Texts(before)
        pieces: list[bytes] = []
        for start in range(0, len(rows), _AT_ONCE):
            some = {
                job: [read_as, self._written(kept, texts, before)]
                for job, (read_as, kept) in rows[start : start + _AT_ONCE]
            }
            pieces += [b"," if start else b"", to_json(some)[1:-2]]
        told_of = to_json(sorted(self._reported | set(reported)))
        body = [
            b'{"format":%d,"reported":%b,"rows":{' % (FORMAT, told_of[:-1]),
            *pieces,
            b'},"evidence":%b}\n' % texts.json(),
        ]
        head = _MAGIC + _checksum(body) + b"\n"
        self._files.write(self._paths.index, [head, *body])
        self.behind, self.index_stamp, self._found = False, stamp(self._paths.index), True

    def _written(self, kept: Any, texts: Texts, before: Table | None) -> list[Any]:
        """A row as it will stand in the index; `before`: the table to which those read belong."""
        if isinstance(kept, Trace):
            return trace_to_row(kept, texts)
        if isinstance(kept, bytes):
            return packed_to_row(kept, texts)
        return kept if before is not None else moved_row(kept, self._table, texts)

    def _is_lean(self, rows: Iterable[Any]) -> bool:
        """Whether most evidence of the table that was read still belongs to some job."""
        named = sum(len(row[place]) for row in rows if isinstance(row, list) for place in EVIDENCE)
        return len(self._table.evidence) <= 2 * named

    def indexed(self) -> Iterable[str]:
        """Names of jobs that had a marker when the index was written, or were met since."""
        return self._index().keys()

    @property
    def reported(self) -> frozenset[str]:
        self._index()
        return frozenset(self._reported)

    @property
    def has_index(self) -> bool:
        self._index()
        return self._found

    def _index(self) -> dict[str, Any]:
        with self._guard:
            if self._rows is None:
                self._rows = self._load_index()
        return self._rows

    def _load_index(self) -> dict[str, Any]:
        try:
            found = read_bytes(self._paths.index)
        except FlowError:  # a cache that cannot be read is no cache
            return {}
        if found is None:
            return {}
        head, _, body = found[0].partition(b"\n")
        if not body or head != _MAGIC + _checksum([body]):
            return {}
        index = parse(body)
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            return {}
        self._table = Table(index["evidence"])
        self._reported = set(index["reported"])
        self._found = True
        self.index_stamp = stamp_of(found[1])
        rows: dict[str, Any] = index["rows"]
        return rows


def _is_dear(trace: Trace) -> bool:
    return trace.exit_code is None or trace.finished - trace.started >= _DEAR_S


def _checksum(body: Iterable[bytes]) -> bytes:
    digest = blake2b(digest_size=16)
    for piece in body:
        digest.update(piece)
    return digest.hexdigest().encode()
