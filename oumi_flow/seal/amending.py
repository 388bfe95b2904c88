"""Lets a seal have newer looks: of files that only were touched, of jobs that were judged again.

What differs is written where it lies, if all else stays where it is, and the index last. Whoever
reads the seal meanwhile, writes to it too, or after one who was killed at it, finds a frame that is
not the one that the index stands for: then the seal is lost, which costs a full look and nothing
else. Whole, it is what one of them saw, and stays true however old: what has moved since shows.
"""

from __future__ import annotations

import os

from oumi_flow.content import atomic_write
from oumi_flow.seal import MASK, Moved, OtherError, decoded, entries_of, entry_of, index_of, lengths
from oumi_flow.seal.writing import PART, Files, framed, index_with, packed, roomy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from oumi_flow.seal.jobs import Groups, SealedJobs
    from oumi_flow.seal.writing import Proof


def renew(path: str, index: bytes, moved: Sequence[Moved]) -> None:
    """Let the seal with that index have the stamps of these files as they are now.

    They hold what they held. Nothing where that fails, or the seal is another one by now.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            changed = {
                1 + part: _renewed(descriptor, index, part, moved)
                for part in {file.part for file in moved}
            }
            _put(descriptor, index, changed)
        finally:
            os.close(descriptor)
    except (OSError, OtherError, ValueError, IndexError, TypeError):
        return


def _renewed(descriptor: int, index: bytes, part: int, moved: Sequence[Moved]) -> bytes:
    """A part, as a frame, with the stamps of those files that are of it."""
    number = 1 + part  # after the head
    sizes = lengths(index)
    frame = os.pread(descriptor, sizes[number], sum(sizes[:number]))
    paths, stamps, digests = decoded(entries_of(index)[number], frame)
    numbers = memoryview(bytearray(stamps)).cast("Q")
    for file in moved:
        if file.part == part and file.now is not None:
            for each in range(4):
                numbers[4 * file.place + each] = file.now[each]
    return framed((paths, numbers.tobytes(), digests))


def _put(descriptor: int, index: bytes, changed: Mapping[int, bytes | memoryview]) -> None:
    """Write these frames, each as long as it was, where they lie: their index last.

    Raises OtherError when the seal is another one by now.
    """
    sizes = lengths(index)
    if os.pread(descriptor, len(index) + 1, sum(sizes)) != index:
        raise OtherError
    entries = entries_of(index)
    for number, frame in changed.items():
        os.pwrite(descriptor, frame, sum(sizes[:number]))
        entries[number] = entry_of(frame)
    os.pwrite(descriptor, index_with(entries), sum(sizes))


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
        _store(sealed, frames)
    except (OSError, OtherError, ValueError, IndexError, TypeError, KeyError, OverflowError):
        return


def _store(sealed: SealedJobs, frames: Sequence[bytes | memoryview]) -> None:
    """Write what differs where it lies, if all else stays where it is; else a new file.

    What was not read has the entry that it had: if it is not what that stands for, nor is it now.
    """
    descriptor = os.open(sealed.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if list(map(len, frames)) == lengths(sealed.index):
            pairs = enumerate(zip(frames, sealed.frames, strict=True))
            changed = {number: frame for number, (frame, were) in pairs if frame is not were}
            _put(descriptor, sealed.index, changed)
        elif index_of(descriptor) == sealed.index:
            known = dict(zip(map(id, sealed.frames), entries_of(sealed.index), strict=True))
            index = index_with(known.get(id(frame)) or entry_of(frame) for frame in frames)
            atomic_write(sealed.path, [*frames, index], mode=0o600)
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
