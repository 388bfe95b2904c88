"""Stamps and digests of single files, and writing whole files at once."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress

from oumi_flow.errors import BAD_WORKFLOW, FlowError
from oumi_flow.model import Stamp

# A change within this time of the stamp could leave the stamp as it is: kernels date files by a
# tick of up to 10 ms, coarse file systems (FAT, some network ones) by up to 2 s.
_FINE_NS = 20_000_000
_COARSE_NS = 2_000_000_000

# Columns of optuna's table that differ between equal studies.
_TRIALS_TIMES = frozenset({"datetime_start", "datetime_complete", "duration"})

# What says that nothing is there (any more).
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})
_BIG = 1 << 20
_CHUNK = 1 << 23


def stamp(path: str) -> Stamp | None:
    """The stamp of what `path` leads to; None when nothing is there or it cannot be looked at."""
    try:
        return stamp_of(os.stat(path))
    except (OSError, ValueError):
        return None


def stamp_of(seen: os.stat_result) -> Stamp:
    """The part of a stat that changes when the file does."""
    return Stamp(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


def is_settled(taken: Stamp, now_ns: int) -> bool:
    """Whether a change after `now_ns` (unix time), when the stamp was taken, must show in it."""
    return _unrest(taken, now_ns) <= 0


def _unrest(taken: Stamp, now_ns: int) -> int:
    """Nanoseconds until the stamp counts as settled; <= 0: it does."""
    changed = taken.ctime_ns
    # A time of modification in the future was set by hand: it says nothing of the last change.
    if taken.ctime_ns < taken.mtime_ns <= now_ns:
        changed = taken.mtime_ns
    coarse = taken.ctime_ns % 1_000_000 == 0
    return changed + (_COARSE_NS if coarse else _FINE_NS) - now_ns + 1


def take_stamp(descriptor: int, wait: bool) -> tuple[Stamp, bool]:
    taken = stamp_of(os.fstat(descriptor))
    now = time.time_ns()
    rest = _unrest(taken, now)
    if wait and 0 < rest <= _COARSE_NS + _FINE_NS:
        time.sleep(rest / 1e9)
        taken = stamp_of(os.fstat(descriptor))
        rest = _unrest(taken, time.time_ns())
    return taken, rest <= 0


def digest_content(descriptor: int, size: int) -> str:
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO) if size > _BIG else blake3()
    # Chunks, not a map: a file that is cut while it is mapped kills the process.
    buffer = bytearray(_CHUNK if size > _BIG else max(size + 1, 1 << 14))
    view = memoryview(buffer)
    while True:
        count = os.readv(descriptor, [buffer])
        if not count:
            return str(hasher.hexdigest(16))
        hasher.update(view[:count])


def digest_table(descriptor: int) -> str:
    """The digest of optuna's table without the columns of dates and durations."""
    import csv
    import io
    from hashlib import blake2b

    with open(descriptor, "rb", closefd=False) as file:
        text = file.read().decode("utf-8", "surrogateescape")
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error:
        rows = [[text]]
    header = rows[0] if rows else []
    dropped = {i for i, name in enumerate(header) if name in _TRIALS_TIMES}
    kept = [[cell for i, cell in enumerate(row) if i not in dropped] for row in rows]
    return blake2b(repr(kept).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def atomic_write(path: str, data: bytes, mode: int = 0o666, *, durable: bool = False) -> None:
    """Put a whole file in place by rename: readers see the old one or the new one.

    `mode` is cut by the umask. `durable`: it is the new one also after a power cut. Raises OSError.
    """
    temporary = f"{path}.{os.getpid()}.{time.monotonic_ns():x}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        sync_folder(os.path.dirname(path) or ".")


def sync_folder(folder: str) -> None:
    """Make renames and removals in `folder` last through a power cut, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse; then it is as safe as they are
        pass
    finally:
        os.close(descriptor)


def unreadable(path: str, error: OSError) -> FlowError:
    hint = {
        errno.EACCES: f"`ls -ld {path}` shows its mode; `chmod u+r` (folders: `u+rx`) allows it",
        errno.EPERM: f"`ls -ld {path}` shows its mode and owner",
        errno.ELOOP: "it is a symbolic link that leads back to itself: remove or mend it",
        errno.ENAMETOOLONG: "the system allows 255 bytes for a name and 4096 for a path",
        errno.EIO: "the disk or the network file system failed to read it",
        errno.EMFILE: "too many open files: raise `ulimit -n`",
    }.get(error.errno or 0, "")
    return FlowError(
        f"{path}: cannot be read: {error.strerror or error}", hint=hint, exit_code=BAD_WORKFLOW
    )
