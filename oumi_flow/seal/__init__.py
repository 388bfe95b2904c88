"""Remembers what a command line answered, and all that it looked at to say so.

A seal is the proof of an answer: every stat and every listing that the answer was drawn from. While
each of them comes out the same, so does the answer, and a run with nothing to do costs little more
than these looks. A file that only was touched is read: with the same content the answer stands, and
the seal gets the newer stamp. What else has moved is told, so that only those jobs need a look that
had looked there (`jobs.py`). Whatever is strange, and the answer is worked out anew; so a seal can
be lost at any time, and never makes an error.

Here is what every run does first: imports nothing but what every interpreter has loaded anyway, not
even `__future__`, so that names for type checkers stand in quotes.
Does not know what a workflow is: who writes a seal (`writing.py`) has to name everything that his
answer depends on.
"""

import os
import sys

from oumi_flow import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

_LAYOUT = 7
# Variables of ours say where files, locks and GPUs are to be found.
_OURS = "OUMI_FLOW_"
# Bytes that stand for a frame in the index of a seal: its checksum and its length.
ENTRY = 16
MASK = (1 << 64) - 1
UNKNOWN = bytes(16)  # instead of a digest
_NOT_WHAT_WE_WRITE = LookupError, TypeError, ValueError, AttributeError
# More than this has not just been touched, or is not worth to be told apart.
_MOST_MOVED = 500
_MOST_BYTES = 1 << 26

Numbers = tuple[int, int, int, int]  # a stamp: size, mtime, ctime, inode, each cut to 64 bits


class Moved:
    """A file that is not as it was: its part of the seal, and its place there."""

    __slots__ = ("digest", "now", "part", "path", "place")

    def __init__(
        self, part: int, place: int, path: bytes, digest: bytes, now: Numbers | None
    ) -> None:
        self.part, self.place = part, place
        self.path, self.digest = path, digest
        self.now = now  # its stamp; None: it is gone


class Look:
    """What came of looking at all that a seal names."""

    __slots__ = ("answer", "began_ns", "flags", "folders", "index", "lock", "moved", "path")

    def __init__(self) -> None:
        self.answer: str | None = None  # as last time: nothing has moved
        self.path = ""  # of the seal, if nothing has moved but `moved` and `folders`
        self.index = b""  # of the seal: by that it is known again
        self.flags: dict[str, Any] = {}  # of the command line, by name, as they were parsed
        self.began_ns = 0  # unix time; nothing was looked at before
        self.lock: Numbers | None = None  # of the run lock's file, which nobody held then
        self.moved: list[Moved] = []
        self.folders: list[str] = []  # in which names came or went


class OtherError(Exception):
    """Something is not as it was, or cannot be told from what is not."""


def look(words: "Sequence[str]") -> Look:
    """Whether a command line would be answered as last time; if not, what has moved since.

    Looks at every file of the proof, and into those that were touched; blocks on nothing else.
    """
    found = Look()
    workflow = file_of(words)
    if not workflow:
        return found
    try:
        path = place(workflow, words)  # the folder that we are in may be gone
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:
            found.index = index_of(descriptor)
            frames = frames_of(file, found.index)
            head = next(frames)
            if head["made_by"] != made_by() or not _holds(head, words):
                return found
            if head["lock"]:
                _look_at_lock(head["lock"], found)
            found.folders = [at for at, were in head["listings"].items() if _names(at) != were]
            for part in range(head["parts"]):
                _look(part, next(frames), found.moved)
        if not found.folders and (not found.moved or _only_touched(found, path, head["links"])):
            found.answer = head["answer"]
        elif found.lock is not None:
            found.path, found.flags = path, head["flags"]
    except (OtherError, StopIteration, OSError, EOFError, *_NOT_WHAT_WE_WRITE):
        pass
    return found


def file_of(words: "Sequence[str]") -> str:
    """The workflow file of a command line whose first word, after the command, is one; else ""."""
    first = words[1] if len(words) > 1 and words[0] == "run" else ""
    return "" if first.startswith("-") else first


def stream_of() -> str:
    """What words for stdout depend on: what it can show, "" for a terminal."""
    try:
        return "" if sys.stdout.isatty() else sys.stdout.encoding
    except ValueError:  # closed
        return ""


def place(workflow: str, words: "Sequence[str]") -> str:
    """Where the seal of a command line is kept: beside the workflow's snapshot, by its real path.

    Looking ahead, as one does between runs, does not cost the run its seal.
    """
    from zlib import crc32

    own = os.environ.get("OUMI_FLOW_HOME")
    if own:
        folder = own + "/cache"
    else:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = user + "/oumi-flow"
    real = os.fsencode(os.path.realpath(workflow))
    # `-nj2` too. A word too many that is taken for it costs nothing: its seal is kept beside.
    is_dry = any(
        word == "--dry-run" or (word[:1] == "-" != word[1:2] and "n" in word) for word in words
    )
    # A file of another workflow with the same name here fails by what it says inside.
    ending = ".dry.seal" if is_dry else ".seal"
    return f"{folder}/{crc32(real):08x}{crc32(real[::-1]):08x}{ending}"


def index_of(descriptor: int) -> bytes:
    """What a seal ends with: an entry for each frame, in order, and one for these.

    Raises OtherError, ValueError for what is torn.
    """
    size = os.fstat(descriptor).st_size
    last = os.pread(descriptor, ENTRY, max(0, size - ENTRY))
    length = int(last[8:], 16)
    if not 0 < length <= size - ENTRY or length % ENTRY:
        raise OtherError
    entries = os.pread(descriptor, length, size - ENTRY - length)
    index = entries + last
    if last != entry_of(entries) or sum(lengths(index)) + len(index) != size:
        raise OtherError
    return index


def entries_of(index: bytes) -> list[bytes]:
    return [index[at : at + ENTRY] for at in range(0, len(index) - ENTRY, ENTRY)]


def lengths(index: bytes) -> list[int]:
    """Bytes of each frame, which follow one another."""
    return [int(entry[8:], 16) for entry in entries_of(index)]


def frames_of(file: "Any", index: bytes) -> "Iterator[Any]":
    """What is in each frame, read when it is asked for. Raises OtherError as `decoded` does."""
    for entry in entries_of(index):
        yield decoded(entry, file.read(int(entry[8:], 16)))


def decoded(entry: bytes, frame: "bytes | memoryview") -> "Any":
    """What is in a frame. Checked before it is decoded: `marshal` trusts what it reads.

    Raises OtherError for a frame that is not the one that its entry in the index stands for: torn,
    or of another time than the others.
    """
    from marshal import loads

    if entry != entry_of(frame):
        raise OtherError
    return loads(frame)


def entry_of(frame: "bytes | memoryview") -> bytes:
    from zlib import crc32

    return b"%08x%08x" % (crc32(frame), len(frame))


def numbers_of(seen: os.stat_result) -> Numbers:
    return seen.st_size, seen.st_mtime_ns & MASK, seen.st_ctime_ns & MASK, seen.st_ino & MASK


def names(folder: str) -> tuple[str, ...]:
    """All that a folder holds. Raises OSError."""
    return tuple(sorted(os.listdir(folder)))


def ours() -> list[tuple[str, str]]:
    """The variables of the environment that are for us."""
    return sorted(item for item in os.environ.items() if item[0].startswith(_OURS))


def made_by() -> str:
    """`marshal` may differ between Pythons, what is looked at between versions of ours."""
    return f"{_LAYOUT}/{__version__}/{sys.hexversion}"


# The looks ------------------------------------------------------------------------------------


def _holds(head: "dict[str, Any]", words: "Sequence[str]") -> bool:
    """Whether all holds that is neither a stamp nor a listing."""
    environ = os.environ
    return bool(
        head["words"] == list(words)
        and head["here"] == os.getcwd()
        and head["ours"] == ours()
        and head["stream"] in ("", stream_of())
        and all(name in environ for name in head["needs"])
        and all(environ.get(name) == value for name, value in head["variables"].items())
        and not any(map(_is_there, head["missing"]))
        and all(os.path.realpath(at) == real for at, real in head["links"].items())
    )


def _look_at_lock(path: str, found: Look) -> None:
    """Note the lock as it is before anything else is, if nobody holds it.

    While a run goes on, what is looked at now may not be so a moment later.
    """
    import fcntl
    import time

    found.began_ns = time.time_ns()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return
    try:
        seen = numbers_of(os.fstat(descriptor))
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found.lock = seen
    except OSError:  # somebody has it, or it cannot be known
        pass
    finally:
        os.close(descriptor)


def _look(part: int, body: tuple[bytes, bytes, bytes], moved: list[Moved]) -> None:
    """Which of these files are not as they were. The one loop that is as long as the workflow."""
    paths, stamps, digests = body
    each = iter(memoryview(stamps).cast("Q").tolist())
    stat = os.stat
    place = -1
    for path, size, mtime, ctime, inode in zip(
        paths.split(b"\0"), each, each, each, each, strict=True
    ):
        place += 1
        now = None
        try:
            seen = stat(path)
            if (
                seen.st_mtime_ns & MASK == mtime
                and seen.st_ctime_ns & MASK == ctime
                and seen.st_size == size
                and seen.st_ino & MASK == inode
            ):
                continue
            now = numbers_of(seen)
        except (FileNotFoundError, NotADirectoryError):
            pass
        if len(moved) >= _MOST_MOVED:
            raise OtherError
        digest = digests[16 * place : 16 * place + 16]
        if now is not None and now[0] != size:
            digest = UNKNOWN  # it cannot be that of what is there now
        moved.append(Moved(part, place, path, digest, now))


def _names(folder: str) -> tuple[str, ...] | None:
    try:
        return names(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_there(path: str) -> bool:
    """As for who looks for content: a link that leads nowhere is nothing. Raises OSError."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


# What was only touched ------------------------------------------------------------------------


def _only_touched(found: Look, seal: str, links: "dict[str, str]") -> bool:
    """Whether these files hold what they held. If so, the seal gets their newer stamps.

    Raises OtherError for a file that changes as it is read.
    """
    import time
    from stat import S_ISREG

    from oumi_flow.content import digest_content, unrest

    moved = found.moved
    sizes = [file.now[0] for file in moved if file.now is not None and file.digest != UNKNOWN]
    if len(sizes) < len(moved) or sum(sizes) > _MOST_BYTES:
        return False
    if any(is_new_link(os.fsdecode(file.path), links) for file in moved):
        return False  # to what a job makes, perhaps
    settled = True
    for file in moved:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            seen = os.fstat(descriptor)
            settled &= unrest(seen.st_mtime_ns, seen.st_ctime_ns, time.time_ns()) <= 0
            if not S_ISREG(seen.st_mode) or numbers_of(seen) != file.now:
                raise OtherError
            if digest_content(descriptor, seen.st_size) != file.digest.hex():
                return False
            if numbers_of(os.fstat(descriptor)) != file.now:
                raise OtherError
        finally:
            os.close(descriptor)
    if settled:  # whatever changes them from now on will show in their stamps
        from oumi_flow.seal.amending import renew

        renew(seal, found.index, moved)
    return True


def is_new_link(path: str, links: "Mapping[str, str]") -> bool:
    """Whether a file, or the folder that it lies in, is a link that was none."""
    return any(
        os.path.islink(each) and os.path.abspath(each) not in links
        for each in (path, os.path.dirname(path))
    )
