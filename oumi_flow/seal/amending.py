"""Lets a seal have newer looks: of files that only were touched, of jobs that were judged again.

What differs is written where it lies, if all else stays where it is. A seal may be lost at any
time: what is cut off fails its checksum, and costs the next run a full look and nothing else.
"""

from __future__ import annotations

import os

from oumi_flow.content import atomic_write
from oumi_flow.seal import FRAME, MASK, Moved, OtherError, decoded, numbers_of
from oumi_flow.seal.writing import PART, Files, framed, packed, roomy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from oumi_flow.seal.jobs import Groups, SealedJobs
    from oumi_flow.seal.writing import Proof


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
    os.pwrite(descriptor, framed((paths, bytes(stamps), digests)), offset)


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
            sealed.frames[0] if head == sealed.head else framed(head),
            *parts,
            sealed.frames[sealed.parts + 1] if jobs == sealed.jobs else framed(jobs),
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
    found: list[int | Files] = []  # the number of a part that stays, or what it is now
    changed: list[Files] = []
    for number in range(sealed.parts):
        owners = sealed.owners(number)
        if jobs.isdisjoint(owners.members):
            found.append(number)
            continue
        now = _looked_again(sealed.part(number), owners, jobs, proof, own)
        if now.paths:
            found.append(now)
            changed.append(now)
    rest = Files.of(proof, list(own))
    if changed and len(changed[-1].paths) + len(rest.paths) <= 2 * PART:
        changed[-1].add(rest)
    elif rest.paths:
        found.append(rest)
    parts = [
        sealed.frames[1 + part] if isinstance(part, int) else framed(part.content())
        for part in found
    ]
    whose = [
        sealed.frames[sealed.first_owners + part]
        if isinstance(part, int)
        else framed(Groups.packed(part.owners))
        for part in found
    ]
    return parts, whose


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
        frames[number] = framed(told)
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
        row = roomy(rows[job]).ljust(ends[job] - begin)
        pieces += [told[start:begin], row]
        start = ends[job]
        grown += len(row) - (start - begin)
        if grown:
            now[job:following] = [end + grown for end in ends[job:following]]
    return b"".join([*pieces, told[start:]]), now


def _looked_again(
    part: tuple[bytes, bytes, bytes],
    owners: Groups,
    jobs: AbstractSet[int],
    proof: Proof,
    own: dict[str, None],
) -> Files:
    """A part with what `jobs` look at now; what others did too stays as these saw it.

    Takes from `own`, what `jobs` look at now, what is found here.
    """
    paths, stamps, digests = part
    numbers = memoryview(stamps).cast("Q").tolist()
    made = Files()
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
                digest = packed(proof.digests.get(name, ""))
            whose = [*others, *proof.owners.get(name, ())]
            own.pop(name, None)
        made.paths.append(path)
        made.stamps += stamp
        made.digests.append(digest)
        made.owners.append(whose)
    return made
