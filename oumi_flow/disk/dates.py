"""How finely a file system dates changes: by a clock's tick, or each that follows a look apart.

Linux does the latter from 6.13 on, with btrfs, ext4, tmpfs and xfs: a change of what was looked at
since the last one gets a time of its own ("multigrain timestamps",
https://docs.kernel.org/filesystems/multigrain-ts.html). Which do is found out by changes that are
made to see. Knows no file but the one it makes.
"""

from __future__ import annotations

import os
import time

_CHANGES = 8
_TICK_NS = 900_000  # the shortest tick there is takes a millisecond
_TRIES = 3  # on a machine so busy that the changes take longer than a tick


def device_that_tells_changes_apart(folder: str) -> int | None:
    """The device (st_dev) of `folder`, if a change after a look shows in the time of its file.

    None where it may not, or cannot be told. Makes a file without a name there, which goes at once.
    Blocks for well under a millisecond on a disk; asks no file system that has no such files, as
    those of a network.
    """
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (OSError, AttributeError):
        return None
    try:
        for _ in range(_TRIES):
            began, times = time.monotonic_ns(), set()
            for _ in range(_CHANGES):
                os.pwrite(descriptor, b"x", 0)
                times.add(os.fstat(descriptor).st_ctime_ns)
            if time.monotonic_ns() - began < _TICK_NS:
                return os.fstat(descriptor).st_dev if len(times) == _CHANGES else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None
