"""One entry of a cache: a folder named by a build key, which counts only with its `trace.json`.

    <build key>/trace.json    the trace, a proof of all that lies beside it, and a checksum of both
    <build key>/size          bytes, for whoever makes room
    <build key>/folder/ …     the shelves (see shelves.py)

Nothing that is read here is trusted further than its checksum: a shared cache has many writers.
"""

from __future__ import annotations

import os
import stat as modes
from contextlib import suppress

from oumi_flow.dataclass import dataclass
from oumi_flow.hashing import blake2b
from oumi_flow.model import FORMAT, Trace
from oumi_flow.pattern import pattern
from oumi_flow.store.files import Files, parse, to_json
from oumi_flow.store.records import trace_from_json, trace_to_json

TRACE = "trace.json"
SIZE = "size"
# Told apart from entries by their names: on the way in or out, and what is to be deleted.
GONE = "gone-"
_KEY = pattern(r"[0-9a-f]{32}\Z")
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Entry:
    trace: Trace
    proof: str


def is_key(name: str) -> bool:
    return _KEY.match(name) is not None


def content(trace: Trace, proof: str) -> bytes:
    """What `trace.json` holds."""
    entry = {"proof": proof, "trace": trace_to_json(trace)}
    return to_json({"format": FORMAT, "checksum": _checksum(to_json(entry)), "entry": entry})


def read(folder: str, key: str) -> Entry | None:
    """The entry, without a look at its content; None for whatever is torn or strange.

    `key`: the build key that it has to be of; "" takes any. Raises OSError for what is there and
    cannot be read.
    """
    try:
        if not modes.S_ISDIR(os.lstat(folder).st_mode):
            return None
        found = parse(_read(f"{folder}/{TRACE}"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return None
    entry = found.get("entry")
    if not isinstance(entry, dict) or found.get("checksum") != _checksum(to_json(entry)):
        return None
    trace, proof = trace_from_json(entry.get("trace")), entry.get("proof")
    if trace is None or not isinstance(proof, str) or trace.build_key != (key or trace.build_key):
        return None
    return Entry(trace, proof)


def write(folder: str, files: Files, trace: Trace, proof: str, size: int, name: str) -> None:
    """Write what an entry says of itself; its trace under `name`. Raises FlowError."""
    files.write(f"{folder}/{SIZE}", b"%d\n" % size)
    files.write(f"{folder}/{name}", content(trace, proof))


def is_there(folder: str) -> bool:
    """Whether an entry seems to be there, by one look."""
    try:
        return modes.S_ISREG(os.lstat(f"{folder}/{TRACE}").st_mode)
    except (OSError, ValueError):
        return False


def mark_used(folder: str) -> None:
    """It goes last when room is made. What cannot be marked goes sooner, nothing else."""
    with suppress(OSError):
        os.utime(f"{folder}/{TRACE}", follow_symlinks=False)


def remove(path: str, aside: str = "") -> bool:
    """Take an entry away in one step, then delete it; whether it was there and is gone.

    `aside` is the name under which it is deleted, in the same folder.
    """
    doomed = f"{os.path.dirname(path)}/{aside or GONE + os.urandom(8).hex()}"
    try:
        os.rename(path, doomed)
    except OSError:
        return False
    delete(doomed)
    return True


def delete(path: str) -> None:
    """Delete a file or folder that nobody looks at any more, as far as that is possible."""
    from shutil import rmtree

    if os.path.isdir(path) and not os.path.islink(path):
        rmtree(path, ignore_errors=True)
        if os.path.lexists(path):  # a job may take rights away from what it makes
            _open_up(path)
            rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.unlink(path)


def _open_up(top: str) -> None:
    """Give ourselves all rights on a folder and those in it, as far as that is possible."""
    with suppress(OSError):
        os.chmod(top, 0o700)
    for place, folders, _ in os.walk(top):
        for name in folders:
            with suppress(OSError):
                if not os.path.islink(f"{place}/{name}"):
                    os.chmod(f"{place}/{name}", 0o700)


def last_used(folder: str) -> int:
    """Time of its last use in ns of unix time; 0 for what is torn, or not there."""
    try:
        return os.lstat(f"{folder}/{TRACE}").st_mtime_ns
    except OSError:
        return 0


def limit_of(cache: str, max_size: int | None) -> int:
    """How many bytes a cache may hold: as asked, else a tenth of its file system."""
    if max_size is not None:
        return max_size
    seen = os.statvfs(cache)
    return seen.f_frsize * seen.f_blocks // 10


def size_of(folder: str) -> int:
    """What an entry said of its size when it was made; without that its files are counted."""
    try:
        return int(_read(f"{folder}/{SIZE}"))
    except (OSError, ValueError):
        pass
    total = 0
    if os.path.islink(folder):
        return total
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(f"{place}/{name}").st_size
    return total


def _read(path: str) -> bytes:
    """A regular file's content, not through a link. Raises OSError; ValueError for others."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    with open(os.open(path, flags), "rb") as file:
        seen = os.fstat(file.fileno())
        if not modes.S_ISREG(seen.st_mode) or seen.st_size > _MOST_BYTES:
            raise ValueError(path)
        return file.read()


def _checksum(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()
