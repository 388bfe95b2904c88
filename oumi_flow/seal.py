"""Remembers what a command line answered, and all that it looked at to say so.

A seal is the proof of an answer: every stat and every listing that the answer was drawn from. While
each of them comes out the same, so does the answer, and a run with nothing to do costs little more
than these looks. A file that only was touched is read: with the same content the answer stands, and
the seal gets the newer stamp. Whatever else differs or is strange, and the answer is worked out
anew; so a seal can be lost at any time, and never makes an error.

Imports nothing but what every interpreter has loaded anyway. Does not know what a workflow is: who
writes a seal has to name everything that his answer depends on.
"""

from __future__ import annotations

import os
import sys

from oumi_flow import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from oumi_flow.model import Stamp

_LAYOUT = 2
# Variables of ours say where files, locks and GPUs are to be found.
_OURS = "OUMI_FLOW_"
# Files in one part of a seal: one part is in memory at a time.
_PART = 4096
# Bytes before each part: its checksum and its length.
_FRAME = 16
_MASK = (1 << 64) - 1
_UNKNOWN = bytes(16)
# More than this has not just been touched: who plans anew reads it by many threads.
_MOST_TOUCHED = 500
_MOST_BYTES = 1 << 26


class Proof:
    """What an answer was drawn from. Paths are as they were looked at, from the working folder."""

    __slots__ = ("digests", "listings", "missing", "needs", "stamps", "stream", "variables")

    def __init__(self) -> None:
        self.variables: dict[str, str | None] = {}  # of the shell, with the values they had
        self.needs: list[str] = []  # those that only had to be set
        self.stamps: dict[str, Stamp] = {}
        self.digests: dict[str, str] = {}  # of files of which nothing but the content counted
        self.missing: set[str] = set()
        self.listings: dict[str, tuple[str, ...]] = {}  # folder -> all its names, sorted
        self.stream = ""  # see `stream_of`; "": no matter where the answer goes


def write(words: Sequence[str], workflow: str, proof: Proof, answer: str) -> None:
    """Seal the answer to a command line about the file `workflow`. Nothing where that fails."""
    from marshal import dumps

    from oumi_flow.content import atomic_write

    try:
        paths = list(proof.stamps)
        parts = [
            _part(proof, paths[start : start + _PART]) for start in range(0, len(paths), _PART)
        ]
        head = {
            "made_by": _made_by(),
            "words": list(words),
            "here": os.getcwd(),
            "ours": _ours(),
            "variables": proof.variables,
            "needs": proof.needs,
            "parts": len(parts),
            "missing": sorted(proof.missing),
            "listings": proof.listings,
            "stream": proof.stream,
            "answer": answer,
        }
        path = _place(workflow, words)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        atomic_write(path, b"".join([_framed(dumps(head)), *parts]), mode=0o600)
    except (OSError, ValueError, OverflowError):
        return


def _part(proof: Proof, paths: list[str]) -> bytes:
    from array import array
    from marshal import dumps

    numbers = [number & _MASK for path in paths for number in proof.stamps[path]]
    digests = [_packed(proof.digests.get(path, "")) for path in paths]
    return _framed(
        dumps(
            (
                "\0".join(paths).encode("utf-8", "surrogateescape"),
                array("Q", numbers).tobytes(),
                b"".join(digests),
            )
        )
    )


def _packed(digest: str) -> bytes:
    return bytes.fromhex(digest) if len(digest) == 2 * len(_UNKNOWN) else _UNKNOWN


def answer(words: Sequence[str]) -> str | None:
    """What the same command line said last time, if nothing that it was drawn from has changed.

    Looks at every file of the proof, and into those that were touched; blocks on nothing else.
    """
    workflow = file_of(words)
    if not workflow:
        return None
    try:
        path = _place(workflow, words)  # the folder that we are in may be gone
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:
            parts = _parts(file)
            _, head = next(parts)
            if head["made_by"] != _made_by() or not _holds(head, words):
                return None
            count = 0
            touched: list[_Touched] = []
            for offset, part in parts:
                count += 1
                _look(offset, part, touched)
        if count != head["parts"]:
            return None
        if touched and _are_equal(touched):
            _renew(path, touched)
        text: str = head["answer"]
        return text
    except (_OtherError, StopIteration, KeyError, TypeError, ValueError, OSError, EOFError):
        return None


class _OtherError(Exception):
    """Something is not as it was, or cannot be told from what is not."""


# Of one file that was touched: its part and its place there, path, digest, and its stamp now
_Touched = tuple[int, int, bytes, bytes, tuple[int, int, int, int]]


def file_of(words: Sequence[str]) -> str:
    """The workflow file of a command line whose first word, after the command, is one; else ""."""
    first = words[1] if len(words) > 1 and words[0] == "run" else ""
    return "" if first.startswith("-") else first


def stream_of() -> str:
    """What words for stdout depend on: what it can show, "" for a terminal."""
    try:
        return "" if sys.stdout.isatty() else sys.stdout.encoding
    except ValueError:  # closed
        return ""


def place(workflow: str, ending: str = ".seal") -> str:
    """Where the seal of a workflow is kept: beside its snapshot, by its real path."""
    from zlib import crc32

    own = os.environ.get("OUMI_FLOW_HOME")
    if own:
        folder = own + "/cache"
    else:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = user + "/oumi-flow"
    real = os.fsencode(os.path.realpath(workflow))
    # A file of another workflow with the same name here fails by what it says inside.
    return f"{folder}/{crc32(real):08x}{crc32(real[::-1]):08x}{ending}"


def _place(workflow: str, words: Sequence[str]) -> str:
    """Looking ahead, as one does between runs, does not cost the run its seal."""
    # `-nj2` too. A word too many that is taken for it costs nothing: its seal is kept beside.
    is_dry = any(
        word == "--dry-run" or (word[:1] == "-" != word[1:2] and "n" in word) for word in words
    )
    return place(workflow, ".dry.seal" if is_dry else ".seal")


def _framed(body: bytes) -> bytes:
    from zlib import crc32

    return b"%08x%08x" % (crc32(body), len(body)) + body


def _parts(file: Any) -> Iterator[tuple[int, Any]]:
    """Each part of a seal with its place in the file. Raises _OtherError for what is torn."""
    offset, size = 0, os.fstat(file.fileno()).st_size
    while frame := file.read(_FRAME):
        length = int(frame[8:], 16)
        if offset + _FRAME + length > size:
            raise _OtherError
        yield offset, _decoded(frame, file.read(length))
        offset += _FRAME + length


def _decoded(frame: bytes, body: bytes) -> Any:
    """What is in a part. Checked before it is decoded: `marshal` trusts what it reads."""
    from marshal import loads
    from zlib import crc32

    if frame != b"%08x%08x" % (crc32(body), len(body)):
        raise _OtherError
    return loads(body)


def _holds(head: dict[str, Any], words: Sequence[str]) -> bool:
    """Whether all holds that is not a stamp."""
    environ = os.environ
    return bool(
        head["words"] == list(words)
        and head["here"] == os.getcwd()
        and head["ours"] == _ours()
        and head["stream"] in ("", stream_of())
        and all(name in environ for name in head["needs"])
        and all(environ.get(name) == value for name, value in head["variables"].items())
        and not any(map(_is_there, head["missing"]))
        and all(names(folder) == were for folder, were in head["listings"].items())
    )


def _look(offset: int, part: tuple[bytes, bytes, bytes], touched: list[_Touched]) -> None:
    """Whether all these files are as they were. The one loop that is as long as the workflow."""
    paths, stamps, digests = part
    each = iter(memoryview(stamps).cast("Q").tolist())
    stat = os.stat
    place = -1
    for path, size, mtime, ctime, inode in zip(
        paths.split(b"\0"), each, each, each, each, strict=True
    ):
        place += 1
        seen = stat(path)
        if (
            seen.st_mtime_ns & _MASK != mtime
            or seen.st_ctime_ns & _MASK != ctime
            or seen.st_size != size
            or seen.st_ino & _MASK != inode
        ):
            known = digests[16 * place : 16 * place + 16]
            if known == _UNKNOWN or seen.st_size != size or len(touched) >= _MOST_TOUCHED:
                raise _OtherError
            touched.append((offset, place, path, known, _numbers(seen)))


def _numbers(seen: os.stat_result) -> tuple[int, int, int, int]:
    return seen.st_size, seen.st_mtime_ns & _MASK, seen.st_ctime_ns & _MASK, seen.st_ino & _MASK


def _are_equal(touched: list[_Touched]) -> bool:
    """Whether these files hold what they held. Raises _OtherError if not.

    True: and whatever changes them from now on will show in their stamps.
    """
    import time
    from stat import S_ISREG

    from oumi_flow.content import digest_content, unrest

    if sum(now[0] for *_, now in touched) > _MOST_BYTES:
        raise _OtherError
    settled = True
    for _, _, path, known, now in touched:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            seen = os.fstat(descriptor)
            settled &= unrest(seen.st_mtime_ns, seen.st_ctime_ns, time.time_ns()) <= 0
            if not S_ISREG(seen.st_mode) or _numbers(seen) != now:
                raise _OtherError
            if digest_content(descriptor, seen.st_size) != known.hex():
                raise _OtherError
            if _numbers(os.fstat(descriptor)) != now:
                raise _OtherError
        finally:
            os.close(descriptor)
    return settled


def _renew(path: str, touched: list[_Touched]) -> None:
    """Let the seal have these newer stamps. Where that fails, they are looked into once more."""
    from marshal import dumps

    from oumi_flow.content import atomic_write

    try:
        with open(path, "rb") as file:
            data = bytearray(file.read())
        for offset in {offset for offset, *_ in touched}:
            body = offset + _FRAME
            end = body + int(data[offset + 8 : body], 16)
            paths, stamps, digests = _decoded(bytes(data[offset:body]), bytes(data[body:end]))
            stamps = bytearray(stamps)
            numbers = memoryview(stamps).cast("Q")
            known = paths.split(b"\0")
            for at, place, name, _, now in touched:
                if at == offset:
                    if known[place] != name:  # another run sealed meanwhile
                        return
                    for number in range(4):
                        numbers[4 * place + number] = now[number]
            # The same lengths in, the same length out: the next part stays where it is.
            data[offset:end] = _framed(dumps((paths, bytes(stamps), digests)))
        atomic_write(path, bytes(data), mode=0o600)
    except (OSError, _OtherError, ValueError, IndexError, TypeError):
        return


def _is_there(path: str) -> bool:
    """As for who looks for content: a link that leads nowhere is nothing. Raises OSError."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def names(folder: str) -> tuple[str, ...]:
    """All that a folder holds. Raises OSError."""
    return tuple(sorted(os.listdir(folder)))


def _ours() -> list[tuple[str, str]]:
    return sorted(item for item in os.environ.items() if item[0].startswith(_OURS))


def _made_by() -> str:
    """`marshal` may differ between Pythons, what is looked at between versions of ours."""
    return f"{_LAYOUT}/{__version__}/{sys.hexversion}"
