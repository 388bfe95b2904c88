"""Stamps of single files, what is to be digested of them, and words for what cannot be read."""

from __future__ import annotations

import errno
import os
import time

from oumi_flow.content import COARSE_NS, FINE_NS, unrest
from oumi_flow.errors import BAD_WORKFLOW, FlowError
from oumi_flow.hashing import blake2b
from oumi_flow.model import Stamp

# Columns of optuna's table that differ between equal studies.
_TRIALS_TIMES = frozenset({"datetime_start", "datetime_complete", "duration"})

# What says that nothing is there (any more).
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})


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
    return unrest(taken.mtime_ns, taken.ctime_ns, now_ns) <= 0


def take_stamp(descriptor: int, wait: bool) -> tuple[Stamp, bool]:
    taken = stamp_of(os.fstat(descriptor))
    now = time.time_ns()
    rest = unrest(taken.mtime_ns, taken.ctime_ns, now)
    if wait and 0 < rest <= COARSE_NS + FINE_NS:
        time.sleep(rest / 1e9)
        taken = stamp_of(os.fstat(descriptor))
        rest = unrest(taken.mtime_ns, taken.ctime_ns, time.time_ns())
    return taken, rest <= 0


def digest_table(descriptor: int) -> str:
    """The digest of optuna's table without the columns of dates and durations."""
    import csv
    import io

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
