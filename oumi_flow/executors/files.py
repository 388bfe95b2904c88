"""Small files, read and written whole by plain system calls. Knows no names and no formats."""

from __future__ import annotations

import os

_CHUNK = 1 << 16  # bytes


def slurp(path: str, dir_fd: int | None = None) -> bytes:
    """A whole small file; b"" when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=dir_fd)
    except OSError:
        return b""
    try:
        return read_all(fd)
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_all(fd: int) -> bytes:
    """All that is left to read. Raises OSError."""
    parts = []
    while part := os.read(fd, _CHUNK):
        parts.append(part)
    return b"".join(parts)


def write_all(fd: int, data: bytes) -> None:
    """Raises OSError; a part may be written then."""
    while data:
        data = data[os.write(fd, data) :]
