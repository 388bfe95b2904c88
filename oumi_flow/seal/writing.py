"""Writes seals: new ones, and newer looks into those that there are.

A seal is frames of `marshal`, each behind its checksum and length: the head with all that is not a
stamp, the files in parts of some thousand, and, where jobs are known, who looked at what
(`jobs.py`). Where writing fails, the next run looks at everything again, and nothing else.
"""

from __future__ import annotations

import os

from oumi_flow.content import atomic_write
from oumi_flow.seal import (
    FRAME,
    MASK,
    UNKNOWN,
    Moved,
    Numbers,
    OtherError,
    decoded,
    made_by,
    numbers_of,
    ours,
    place,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from typing import Any

    from oumi_flow.seal.jobs import Groups, SealedJobs

# Files in one part of a seal: one part is in memory at a time, and rewritten when one of it moved.
_PART = 1024
# Bytes: the length of a job's row is a multiple of it.
_ROUND = 16


class Proof:
    """What an answer was drawn from. Paths are as they were looked at, from the working folder."""

    def __init__(self) -> None:
        self.variables: dict[str, str | None] = {}  # of the shell, with the values they had
        self.needs: list[str] = []  # those that only had to be set
        self.stamps: dict[str, Sequence[int]] = {}  # size, mtime, ctime, inode
        self.digests: dict[str, str] = {}  # of files of which nothing but the content counted
        self.missing: set[str] = set()
        self.listings: dict[str, tuple[str, ...]] = {}  # folder -> all its names, sorted
        self.flags: Mapping[str, Any] = {}  # of the command line, by name, as they were parsed
        self.stream = ""  # see `stream_of`; "": no matter where the answer goes
        self.owners: dict[str, list[int]] = {}  # file or folder -> jobs that looked there
        self.jobs: Jobs | None = None


class Jobs:
    """What is kept of the jobs of a plan in which all are up to date, each by its place in it."""

    def __init__(
        self,
        names: Sequence[str],
        upstream: Sequence[Sequence[int]],
        lines: Iterable[tuple[int, int]],
        snapshot: Numbers,
        rows: Sequence[bytes],
        secrets: Sequence[str],
        typical: Mapping[str, float],
        lock: str,
    ) -> None:
        self.names, self.upstream = names, upstream
        self.lines, self.snapshot = lines, snapshot  # begin and end of each job in the snapshot
        self.rows = [_roomy(row) for row in rows]  # what a plan tells of each, as JSON
        self.secrets = secrets  # templates that name variables, nobody's value
        self.typical = typical  # seconds, by verb
        self.lock = lock  # path of the run lock's file

    def packed(self, proof: Proof) -> dict[str, Any]:
        from array import array

        from oumi_flow.seal.jobs import Groups

        downstream: list[list[int]] = [[] for _ in self.names]
        for job, needs in enumerate(self.upstream):
            for each in needs:
                downstream[each].append(job)
        return {
            "names": "\0".join(self.names).encode("utf-8", "surrogateescape"),
            "snapshot": self.snapshot,
            "lines": array("Q", [number for line in self.lines for number in line]).tobytes(),
            "rows": _ends(self.rows),
            "secrets": self.secrets,
            "typical": dict(self.typical),
            "upstream": Groups.packed(self.upstream),
            "downstream": Groups.packed(downstream),
            "listings": {folder: proof.owners.get(folder, []) for folder in proof.listings},
        }


def write(words: Sequence[str], workflow: str, proof: Proof, answer: str) -> None:
    """Seal the answer to a command line about the file `workflow`. Nothing where that fails."""
    try:
        head = {
            "made_by": made_by(),
            "words": list(words),
            "flags": dict(proof.flags),
            "here": os.getcwd(),
            "ours": ours(),
            "variables": proof.variables,
            "needs": proof.needs,
            "parts": len(range(0, len(proof.stamps), _PART)),
            "missing": sorted(proof.missing),
            "listings": proof.listings,
            "stream": proof.stream,
            "lock": proof.jobs.lock if proof.jobs is not None else "",
            "answer": answer,
        }
        path = place(workflow, words)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        atomic_write(path, _frames(head, proof), mode=0o600)
    except (OSError, ValueError, OverflowError):
        return


def _frames(head: dict[str, Any], proof: Proof) -> Iterator[bytes]:
    """A new seal, frame by frame."""
    from oumi_flow.seal.jobs import ROWS, Groups

    yield _framed(head)
    paths = list(proof.stamps)
    starts = range(0, len(paths), _PART)
    for at in starts:
        yield _framed(_Files.of(proof, paths[at : at + _PART]).packed())
    if proof.jobs is not None:
        yield _framed(proof.jobs.packed(proof))
        rows = proof.jobs.rows
        for at in range(0, len(rows), ROWS):
            yield _framed(b",".join(rows[at : at + ROWS]))
        for at in starts:
            yield _framed(Groups.packed(proof.owners.get(p, ()) for p in paths[at : at + _PART]))


def renew(path: str, moved: Sequence[Moved]) -> None:
    """Let the seal have the stamps of these files as they are now: they hold what they held.

    Written where it lies. What is cut off fails its checksum, and a seal may be lost.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for offset in {file.offset for file in moved}:
                _renew(descriptor, offset, [file for file in moved if file.offset == offset])
        finally:
            os.close(descriptor)
    except (OSError, OtherError, ValueError, IndexError, TypeError):
        return


def _renew(descriptor: int, offset: int, moved: Sequence[Moved]) -> None:
    """The same for those of one part."""
    frame = os.pread(descriptor, FRAME, offset)
    length = int(frame[8:], 16)
    if offset + FRAME + length > os.fstat(descriptor).st_size:
        raise OtherError
    paths, stamps, digests = decoded(frame, os.pread(descriptor, length, offset + FRAME))
    stamps = bytearray(stamps)
    numbers = memoryview(stamps).cast("Q")
    known = paths.split(b"\0")
    for file in moved:
        digest = digests[16 * file.place : 16 * file.place + 16]
        if (known[file.place], digest) != (file.path, file.digest):  # sealed anew meanwhile
            raise OtherError
        if file.now is not None:
            for number in range(4):
                numbers[4 * file.place + number] = file.now[number]
    # The same lengths in, the same length out: the next part stays where it is.
    os.pwrite(descriptor, _framed((paths, bytes(stamps), digests)), offset)


def amend(sealed: SealedJobs, proof: Proof, rows: Mapping[int, bytes]) -> None:
    """Let a seal say of the jobs in `rows` what `proof` says, and of all others what it said.

    `rows` are what a plan tells of each of them now. Nothing where that fails, or where the seal is
    not the one that was looked at any more.
    """
    try:
        head, jobs = dict(sealed.head), dict(sealed.jobs)
        # As with files: what others looked at too stays as these saw it.
        others = {at: {*whose} - rows.keys() for at, whose in jobs["listings"].items()}
        kept = {
            at: were
            for at, were in head["listings"].items()
            if others[at] or not jobs["listings"][at]
        }
        head["listings"] = proof.listings | kept
        jobs["listings"] = {
            at: [*others.get(at, ()), *proof.owners.get(at, ())] for at in head["listings"]
        }
        there = proof.stamps.keys() | proof.listings.keys()
        head["missing"] = sorted({*head["missing"], *proof.missing} - there)
        parts, whose = _amended(sealed, proof, rows.keys())
        head["parts"] = len(parts)
        told, jobs["rows"] = _told(sealed, rows)
        frames = [
            sealed.frames[0] if head == sealed.head else _framed(head),
            *parts,
            sealed.frames[sealed.parts + 1] if jobs == sealed.jobs else _framed(jobs),
            *told,
            *whose,
        ]
        if numbers_of(os.stat(sealed.path)) == sealed.stamp:
            _put(sealed, frames)
    except (OSError, OtherError, ValueError, IndexError, TypeError, KeyError):
        return


def _put(sealed: SealedJobs, frames: Sequence[bytes | memoryview]) -> None:
    """Write what differs where it lies, if all else stays where it is; else a new file.

    Killed in between, it names some files as they were and some as they are. Whoever looks then
    finds one that is not as it is named, and judges its job again: no file gets back a stamp that
    it once had, so the older half cannot become true.
    """
    if list(map(len, frames)) != list(map(len, sealed.frames)):
        atomic_write(sealed.path, frames, mode=0o600)
        return
    descriptor = os.open(sealed.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        offset = 0
        for frame, were in zip(frames, sealed.frames, strict=True):
            if frame is not were:
                os.pwrite(descriptor, frame, offset)
            offset += len(frame)
    finally:
        os.close(descriptor)


def _amended(
    sealed: SealedJobs, proof: Proof, jobs: AbstractSet[int]
) -> tuple[list[bytes | memoryview], list[bytes | memoryview]]:
    """All parts, and whose they are, as frames; those of other jobs as they lie there."""
    from oumi_flow.seal.jobs import Groups

    own = dict.fromkeys(proof.stamps)
    found: list[int | _Files] = []  # the number of a part that stays, or what it is now
    changed: list[_Files] = []
    for number in range(sealed.parts):
        owners = sealed.owners(number)
        if jobs.isdisjoint(owners.members):
            found.append(number)
            continue
        now = _Files.amended(sealed.part(number), owners, jobs, proof, own)
        if now.paths:
            found.append(now)
            changed.append(now)
    rest = _Files.of(proof, list(own))
    if changed and len(changed[-1].paths) + len(rest.paths) <= 2 * _PART:
        changed[-1].add(rest)
    elif rest.paths:
        found.append(rest)
    parts = [
        sealed.frames[1 + part] if isinstance(part, int) else _framed(part.packed())
        for part in found
    ]
    whose = [
        sealed.frames[sealed.first_owners + part]
        if isinstance(part, int)
        else _framed(Groups.packed(part.owners))
        for part in found
    ]
    return parts, whose


class _Files:
    """One part of a seal, open: files with stamps, digests and the jobs that looked at them."""

    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self.stamps: list[int] = []  # four each
        self.digests: list[bytes] = []
        self.owners: list[Sequence[int]] = []

    @staticmethod
    def of(proof: Proof, paths: Sequence[str]) -> _Files:
        made = _Files()
        made.paths = [os.fsencode(path) for path in paths]
        made.stamps = [number & MASK for path in paths for number in proof.stamps[path]]
        made.digests = [_packed(proof.digests.get(path, "")) for path in paths]
        made.owners = [proof.owners.get(path, ()) for path in paths]
        return made

    @staticmethod
    def amended(
        part: tuple[bytes, bytes, bytes],
        owners: Groups,
        jobs: AbstractSet[int],
        proof: Proof,
        own: dict[str, None],
    ) -> _Files:
        """A part with what `jobs` look at now; what others did too stays as these saw it.

        Takes from `own`, what `jobs` look at now, what is found here.
        """
        paths, stamps, digests = part
        numbers = memoryview(stamps).cast("Q").tolist()
        made = _Files()
        for at, (path, whose) in enumerate(zip(paths.split(b"\0"), owners, strict=True)):
            stamp = numbers[4 * at : 4 * at + 4]
            digest = digests[16 * at : 16 * at + 16]
            if not jobs.isdisjoint(whose):
                name = os.fsdecode(path)
                others = [job for job in whose if job not in jobs]
                if not others:
                    if name not in own:
                        continue
                    stamp = [number & MASK for number in proof.stamps[name]]
                    digest = _packed(proof.digests.get(name, ""))
                whose = [*others, *proof.owners.get(name, ())]
                own.pop(name, None)
            made.paths.append(path)
            made.stamps += stamp
            made.digests.append(digest)
            made.owners.append(whose)
        return made

    def add(self, other: _Files) -> None:
        self.paths += other.paths
        self.stamps += other.stamps
        self.digests += other.digests
        self.owners += other.owners

    def packed(self) -> tuple[bytes, bytes, bytes]:
        from array import array

        return b"\0".join(self.paths), array("Q", self.stamps).tobytes(), b"".join(self.digests)


def _framed(content: Any) -> bytes:
    from marshal import dumps
    from zlib import crc32

    body = dumps(content)
    return b"%08x%08x" % (crc32(body), len(body)) + body


def _packed(digest: str) -> bytes:
    return bytes.fromhex(digest) if len(digest) == 2 * len(UNKNOWN) else UNKNOWN


def _ends(rows: Iterable[bytes]) -> bytes:
    """Where each of these ends, once they are joined by commas."""
    from array import array
    from itertools import accumulate

    return array("Q", [end - 1 for end in accumulate(len(row) + 1 for row in rows)]).tobytes()


def _roomy(row: bytes) -> bytes:
    """A row with blanks up to a round length: a later one of about that length fits in there."""
    return row.ljust(-(-len(row) // _ROUND) * _ROUND)


def _told(sealed: SealedJobs, rows: Mapping[int, bytes]) -> tuple[list[bytes | memoryview], bytes]:
    """All rows, these instead of their earlier ones, as frames, and where each ends now."""
    from array import array

    from oumi_flow.seal.jobs import ROWS

    frames: list[bytes | memoryview] = [*sealed.frames[sealed.first_rows : sealed.first_owners]]
    now = array("Q", sealed.ends)
    for number in sorted({job // ROWS for job in rows}):
        first, following = number * ROWS, min((number + 1) * ROWS, len(now))
        start = now[first - 1] + 1 if first else 0
        text, ends = sealed.some_rows(number), [end - start for end in now[first:following]]
        if len(text) != ends[-1]:
            raise OtherError
        those = {job - first: row for job, row in rows.items() if job // ROWS == number}
        told, ends = _spliced(text, ends, those)
        grown = len(told) - len(text)
        if grown:
            now[first:following] = array("Q", [start + end for end in ends])
            now[following:] = array("Q", [end + grown for end in now[following:]])
        frames[number] = _framed(told)
    return frames, now.tobytes()


def _spliced(
    told: bytes, ends: Sequence[int], rows: Mapping[int, bytes]
) -> tuple[bytes, list[int]]:
    """All rows with these instead of their earlier ones, and where each ends now.

    A shorter one takes the room of the earlier one.
    """
    pieces: list[bytes] = []
    now = list(ends)
    start = grown = 0
    for job, following in zip(sorted(rows), [*sorted(rows)[1:], len(ends)], strict=True):
        begin = ends[job - 1] + 1 if job else 0
        row = _roomy(rows[job]).ljust(ends[job] - begin)
        pieces += [told[start:begin], row]
        start = ends[job]
        grown += len(row) - (start - begin)
        if grown:
            now[job:following] = [end + grown for end in ends[job:following]]
    return b"".join([*pieces, told[start:]]), now
