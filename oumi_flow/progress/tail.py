"""Reads what was appended to a file, a little at a time, whatever the file does meanwhile.

Memory and time of one read are bounded, so a log of 5 GB or a line of 100 MB costs no more than a
short one: what does not fit is skipped. Knows no formats.
"""

from __future__ import annotations

import os

from oumi_flow.pattern import pattern
from oumi_flow.typed import BinaryIO

LIMIT = 64 * 1024  # bytes read and kept at most

_BREAKS = pattern(rb"[\r\n]+")


class Tail:
    """The lines appended to `path` since the last `read`, split at newlines and carriage returns.

    `start` is where to begin, in bytes; None: at its present end. A file that is not there yet,
    or was replaced by a shorter one, is read from its start once it is.
    """

    def __init__(self, path: str, start: int | None = 0) -> None:
        self.path = path
        self.at = size_of(path) if start is None else start
        self.rest = b""  # the last line, still without its end
        self._skipping = False

    def read(self) -> list[str]:
        """Complete new lines, oldest first. Of more than LIMIT new bytes only the last are read."""
        data = self._new_bytes()
        if not data:
            return []
        parts = _BREAKS.split(self.rest + data)
        self.rest = parts.pop()
        if self._skipping and parts:
            parts.pop(0)
            self._skipping = False
        if len(self.rest) > LIMIT:
            # A line without end: its beginning is given up, and so is the line.
            self.rest, self._skipping = b"", True
        return [part.decode("utf-8", "replace") for part in parts if part]

    @property
    def unfinished(self) -> str:
        """The line that has no end yet: a bar is drawn before the return that ends it."""
        return "" if self._skipping else self.rest.decode("utf-8", "replace")

    def _new_bytes(self) -> bytes:
        try:
            with open_at_once(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                if size < self.at:
                    self.at, self.rest, self._skipping = 0, b"", False
                if size - self.at > LIMIT:
                    self.at, self.rest, self._skipping = size - LIMIT, b"", True
                file.seek(self.at)
                data = file.read(LIMIT)
        except OSError:
            return b""
        self.at += len(data)
        return data


def open_at_once(path: str) -> BinaryIO:
    """A file to read from. A fifo that lies there instead does not make us wait, and is empty."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def size_of(path: str) -> int:
    """The size of a file in bytes, 0 when there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def last_bytes(path: str, limit: int = LIMIT) -> bytes:
    """The end of a file, at most `limit` bytes; b"" when it cannot be read."""
    try:
        with open_at_once(path) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - limit))
            return file.read(limit)
    except OSError:
        return b""


class LineCount:
    """Counts the lines of a growing file, in bounded steps."""

    STEP = 8 * 1024 * 1024  # bytes looked at in one call

    def __init__(self, path: str) -> None:
        self.path = path
        self.at = 0
        self.lines = 0

    def update(self) -> int:
        """Lines that were complete when last looked at."""
        try:
            with open_at_once(self.path) as file:
                if os.fstat(file.fileno()).st_size < self.at:
                    self.at = self.lines = 0
                file.seek(self.at)
                seen = 0
                while seen < self.STEP and (data := file.read(LIMIT)):
                    self.lines += data.count(b"\n")
                    seen += len(data)
                self.at += seen
        except OSError:
            pass
        return self.lines
