"""Writes seals: what an answer was drawn from, and how that is laid out in a file.

A seal is frames of `marshal`: the head with all that is not a stamp, the files in parts of some
thousand, and, where jobs are known, who looked at what (`jobs.py`). The index comes last, with the
checksum and length of each. Newer looks come into it later (`amending.py`). Where writing fails,
the next run looks at everything again, and nothing else.
"""

from __future__ import annotations

import os

from oumi_flow.content import atomic_write
from oumi_flow.seal import MASK, UNKNOWN, Numbers, entry_of, made_by, ours, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

# Files in one part of a seal: one part is in memory at a time, and rewritten when one of it moved.
PART = 1024
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
        self.links: dict[str, str] = {}  # path -> where it really lies
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
        self.rows = [roomy(row) for row in rows]  # what a plan tells of each, as JSON
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
            "parts": len(range(0, len(proof.stamps), PART)),
            "missing": sorted(proof.missing),
            "links": proof.links,
            "listings": proof.listings,
            "stream": proof.stream,
            "lock": proof.jobs.lock if proof.jobs is not None else "",
            "answer": answer,
        }
        path = place(workflow, words)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        atomic_write(path, indexed(_frames(head, proof)), mode=0o600)
    except (OSError, ValueError, OverflowError):
        return


def _frames(head: dict[str, Any], proof: Proof) -> Iterator[bytes]:
    """A new seal, frame by frame."""
    from oumi_flow.seal.jobs import ROWS, Groups

    yield framed(head)
    paths = list(proof.stamps)
    starts = range(0, len(paths), PART)
    for at in starts:
        yield framed(Files.of(proof, paths[at : at + PART]).content())
    if proof.jobs is not None:
        yield framed(proof.jobs.packed(proof))
        rows = proof.jobs.rows
        for at in range(0, len(rows), ROWS):
            yield framed(b",".join(rows[at : at + ROWS]))
        for at in starts:
            yield framed(Groups.packed(proof.owners.get(p, ()) for p in paths[at : at + PART]))


class Files:
    """One part of a seal, open: files with stamps, digests and the jobs that looked at them."""

    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self.stamps: list[int] = []  # four each
        self.digests: list[bytes] = []
        self.owners: list[Sequence[int]] = []

    @staticmethod
    def of(proof: Proof, paths: Sequence[str]) -> Files:
        made = Files()
        made.paths = [os.fsencode(path) for path in paths]
        made.stamps = [number & MASK for path in paths for number in proof.stamps[path]]
        made.digests = [packed(proof.digests.get(path, "")) for path in paths]
        made.owners = [proof.owners.get(path, ()) for path in paths]
        return made

    def add(self, other: Files) -> None:
        self.paths += other.paths
        self.stamps += other.stamps
        self.digests += other.digests
        self.owners += other.owners

    def content(self) -> tuple[bytes, bytes, bytes]:
        from array import array

        return b"\0".join(self.paths), array("Q", self.stamps).tobytes(), b"".join(self.digests)


def framed(content: Any) -> bytes:
    from marshal import dumps

    return dumps(content)


def indexed(frames: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """All that a seal with these frames consists of."""
    entries: list[bytes] = []
    for frame in frames:
        entries.append(entry_of(frame))
        yield frame
    yield index_with(entries)


def index_with(entries: Iterable[bytes]) -> bytes:
    index = b"".join(entries)
    return index + entry_of(index)


def packed(digest: str) -> bytes:
    return bytes.fromhex(digest) if len(digest) == 2 * len(UNKNOWN) else UNKNOWN


def _ends(rows: Iterable[bytes]) -> bytes:
    """Where each of these ends, once they are joined by commas."""
    from array import array
    from itertools import accumulate

    return array("Q", [end - 1 for end in accumulate(len(row) + 1 for row in rows)]).tobytes()


def roomy(row: bytes) -> bytes:
    """A row with blanks up to a round length: a later one of about that length fits in there."""
    return row.ljust(-(-len(row) // _ROUND) * _ROUND)
