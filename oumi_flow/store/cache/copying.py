"""Copies of files and folders: by sharing blocks where the file system can, else in full.

Never by a hard link: a job that writes in place would spoil the copy. Links are copied as links
and never followed; names come from listing folders, so nothing leaves the target. Times, holes,
empty folders and the right to execute stay as they are; other rights follow the umask.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat as modes
from collections.abc import Callable, Iterable

from oumi_flow.store.cache.shelves import Moved

# ioctl_ficlone(2); the number is that of every architecture Linux runs on but a few old ones,
# where it is refused like any unknown one.
_FICLONE = 0x40049409
_CHUNK = 1 << 22
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Abandoned(Exception):
    """Nobody wants the copy any more."""


def copy_all(
    source: Iterable[Moved], folder: str, private: bool, go_on: Callable[[], bool]
) -> None:
    """Copy what lies on shelves to shelves below `folder`. Raises OSError; Abandoned.

    Raises OSError too for what is no file, folder or link.
    """
    for shelf, place, names in source:
        if not names:
            continue
        target = f"{folder}/{shelf}"
        os.mkdir(target, 0o700 if private else 0o777)
        for name in names:
            _copy(f"{place}/{name}", f"{target}/{name}", private, go_on)


def _copy(source: str, target: str, private: bool, go_on: Callable[[], bool]) -> None:
    folders = []
    waiting = [(source, target)]
    while waiting:
        old, new = waiting.pop()
        seen = os.lstat(old)
        times = (seen.st_atime_ns, seen.st_mtime_ns)
        if modes.S_ISDIR(seen.st_mode):
            os.mkdir(new, 0o700 if private else 0o777)
            folders.append((new, times))
            waiting += [(f"{old}/{name}", f"{new}/{name}") for name in os.listdir(old)]
        elif modes.S_ISLNK(seen.st_mode):
            os.symlink(os.readlink(old), new)
            os.utime(new, ns=times, follow_symlinks=False)
        elif modes.S_ISREG(seen.st_mode):
            _copy_file(old, new, private, go_on)
        else:
            raise OSError(errno.EINVAL, "is no file, folder or link", old)
    for new, times in reversed(folders):
        os.utime(new, ns=times)


def _copy_file(source: str, target: str, private: bool, go_on: Callable[[], bool]) -> None:
    reading = os.open(source, os.O_RDONLY | _OPEN)
    try:
        seen = os.fstat(reading)
        if not modes.S_ISREG(seen.st_mode):
            raise OSError(errno.EINVAL, "is no file", source)
        mode = 0o600 if private else 0o666
        if seen.st_mode & 0o100:
            mode |= 0o100 if private else 0o111
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, mode)
        try:
            if not _share_blocks(reading, writing):
                _copy_content(reading, writing, seen.st_size, go_on)
            os.utime(writing, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        except OSError as error:
            error.filename = error.filename or target
            raise
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _share_blocks(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError:
        return False
    return True


def _copy_content(reading: int, writing: int, size: int, go_on: Callable[[], bool]) -> None:
    place = 0
    while place < size:
        start, end = _data(reading, place, size)
        place = end
        while start < end:
            if not go_on():
                raise Abandoned
            data = os.pread(reading, min(_CHUNK, end - start), start)
            if not data:  # cut meanwhile: whoever takes it from the copy will notice
                return
            start += os.pwrite(writing, data, start)
    os.ftruncate(writing, size)


def _data(reading: int, place: int, size: int) -> tuple[int, int]:
    """The next stretch from `place` that is no hole."""
    if not hasattr(os, "SEEK_DATA"):
        return place, size
    try:
        start = os.lseek(reading, place, os.SEEK_DATA)
        return start, min(size, os.lseek(reading, start, os.SEEK_HOLE))
    except OSError as error:
        # ENXIO: nothing but a hole up to the end. Others: a file system that knows of no holes.
        return (size, size) if error.errno == errno.ENXIO else (place, size)
