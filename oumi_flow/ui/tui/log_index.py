"""A log of any size by lines, from its end or any other place, while it grows.

Positions are bytes: a line is known by where it starts, so the end of a log is shown without a
look at what is before it. Each call reads a bounded part; what takes longer (searching, counting
lines) is done in steps by whoever calls. The file may be cut, replaced, removed or be no text at
all: what cannot be read is not there. Knows no screens, and what a line means to nobody.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from oumi_flow.progress import open_at_once
from oumi_flow.ui import cells
from oumi_flow.ui.tui.log_errors import ERROR_WORDS, is_error

BLOCK = 1 << 16  # bytes read at once
KEPT = 32  # blocks remembered
SHOWN = 4096  # bytes of a line that are made into text
FAR = 1 << 27  # bytes without an end of line after which a line is ended all the same
STRIDE = 1 << 20  # bytes between places whose line number is kept
_SPAN = 1 << 20  # a stretch without an end of line that is worth remembering
_HEAD = 64  # bytes at the start by which a file is known again

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-9;:?<=>]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
)

Change = Literal["same", "grown", "replaced"]


class LogLine(NamedTuple):
    """A line [start, end) of the file as it is shown; `cut`: there is more of it than `text`."""

    start: int
    end: int
    text: str
    cut: bool = False


class LogIndex:
    """`refresh` before use, and again to see what has changed; until then the file stays as it was.

    `size` in bytes; `there` is False while there is no such file; `inode` tells files apart.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self.there = False
        self._fd = -1
        self.inode: tuple[int, int] | None = None  # device and inode
        self._head = b""
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._spans: list[tuple[int, int]] = []  # stretches that hold no end of line
        self._marks = [0]  # ends of line before each multiple of STRIDE

    def close(self) -> None:
        """Let the file go; a later `refresh` opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.size, self.there, self.inode = -1, 0, False, None
        self._head = b""
        self._blocks.clear()
        self._spans.clear()
        self._marks = [0]

    # -- the file ---------------------------------------------------------------------------

    def refresh(self) -> Change:
        """One stat; reads only if the file is another one, or longer than it was.

        `replaced` also when it appeared, was cut short, or is gone.
        """
        try:
            found = os.stat(self.path)
        except OSError:
            return self._gone()
        if self._fd < 0 or (found.st_dev, found.st_ino) != self.inode:
            return self._open()
        if found.st_size == self.size:
            return "same"
        if found.st_size < self.size or os.pread(self._fd, _HEAD, 0)[: len(self._head)] != (
            self._head
        ):
            return self._open()
        # The last block was read in part; the others stay as they are.
        self._blocks.pop(self.size // BLOCK, None)
        self.size = found.st_size
        if len(self._head) < _HEAD:
            self._head = self._pread(_HEAD, 0)
        return "grown"

    def _open(self) -> Change:
        self.close()
        try:
            with open_at_once(self.path) as file:
                found = os.fstat(file.fileno())
                self._fd = os.dup(file.fileno())
        except OSError:
            return "replaced"
        self.inode, self.size, self.there = (found.st_dev, found.st_ino), found.st_size, True
        self._head = self._pread(_HEAD, 0)
        return "replaced"

    def _gone(self) -> Change:
        if not self.there:
            return "same"
        self.close()
        return "replaced"

    def _pread(self, count: int, at: int) -> bytes:
        try:
            return os.pread(self._fd, min(count, max(0, self.size - at)), at)
        except (OSError, OverflowError):
            return b""

    def read(self, at: int, count: int) -> bytes:
        """Bytes as they are; fewer at the end of the file."""
        return self._pread(count, max(0, at))

    def _block(self, number: int) -> bytes:
        data = self._blocks.get(number)
        if data is None:
            data = self._blocks[number] = self._pread(BLOCK, number * BLOCK)
            if len(self._blocks) > KEPT:
                self._blocks.popitem(last=False)
        return data

    # -- lines ------------------------------------------------------------------------------

    def after(self, start: int, count: int) -> list[LogLine]:
        """At most `count` lines from the one that begins at `start` on."""
        lines: list[LogLine] = []
        while len(lines) < count and start < self.size:
            end = self._end(start)
            if end <= start:
                break
            lines.append(self._line(start, end))
            start = end
        return lines

    def before(self, end: int, count: int) -> list[LogLine]:
        """At most `count` lines that end at or before `end`, in the order of the file."""
        lines: list[LogLine] = []
        end = min(end, self.size)
        while len(lines) < count and end > 0:
            start = self.start(end - 1)
            lines.append(self._line(start, end))
            end = start
        return lines[::-1]

    def start(self, at: int) -> int:
        """Where the line begins that the byte `at` belongs to."""
        at = position = max(0, min(at, self.size))
        least = max(0, at - FAR)
        while position > least:
            span = self._span_at(position - 1)
            if span is not None:
                position = max(least, span[0])
                continue
            number = (position - 1) // BLOCK
            found = self._block(number).rfind(b"\n", 0, position - number * BLOCK)
            if found >= 0:
                position = number * BLOCK + found + 1
                break
            position = max(least, number * BLOCK)
        self._remember(position, at)
        return position

    def _end(self, start: int) -> int:
        """Just after the line's end, or the end of the file if it has none yet."""
        position, most = start, min(self.size, start + FAR)
        while position < most:
            span = self._span_at(position)
            if span is not None:
                position = min(most, span[1])
                continue
            number = position // BLOCK
            data = self._block(number)
            found = data.find(b"\n", position - number * BLOCK)
            if found >= 0:
                end = number * BLOCK + found + 1
                self._remember(start, end - 1)
                return min(end, most)
            if number * BLOCK + len(data) <= position:
                break  # cut while we read
            position = number * BLOCK + len(data)
        self._remember(start, min(position, most))
        return min(position, most)

    def _span_at(self, at: int) -> tuple[int, int] | None:
        return next((span for span in self._spans if span[0] <= at < span[1]), None)

    def _remember(self, start: int, end: int) -> None:
        if end - start < _SPAN or any(a <= start and end <= b for a, b in self._spans):
            return
        touching = [(a, b) for a, b in self._spans if a <= end and start <= b]
        merged = (min([start, *(a for a, _ in touching)]), max([end, *(b for _, b in touching)]))
        others = [span for span in self._spans if span not in touching]
        self._spans = [*others[-KEPT:], merged]

    def _line(self, start: int, end: int) -> LogLine:
        if end - start <= SHOWN:
            data = self._within(start, end)
            return LogLine(start, end, shown(_last_drawn(data)))
        # Of a bar that is redrawn for hours the end tells, of any other long line the beginning.
        drawn = _last_drawn(self._within(max(start, end - BLOCK), end), whole=False)
        if drawn is None:
            return LogLine(start, end, shown(self._within(start, start + SHOWN)), True)
        return LogLine(start, end, shown(drawn[:SHOWN]), len(drawn) > SHOWN)

    def _within(self, start: int, end: int) -> bytes:
        number = start // BLOCK
        data = self._block(number)[start - number * BLOCK : end - number * BLOCK]
        while number * BLOCK + BLOCK < end:
            number += 1
            data += self._block(number)[: end - number * BLOCK]
        return data

    # -- numbers of lines -------------------------------------------------------------------

    def count(self, most: int = 4 * STRIDE) -> bool:
        """Look at some more bytes to learn the numbers of lines; whether there is nothing left."""
        todo = most
        while todo > 0:
            at = (len(self._marks) - 1) * STRIDE
            if at + STRIDE > self.size:
                return True
            data = self.read(at, STRIDE)
            if len(data) < STRIDE:
                return True
            self._marks.append(self._marks[-1] + data.count(b"\n"))
            todo -= STRIDE
        return False

    def number(self, start: int) -> int | None:
        """The number, from 1, of the line that begins at `start`; None until that was counted."""
        mark = start // STRIDE
        if mark >= len(self._marks):
            return None
        rest = self.read(mark * STRIDE, start - mark * STRIDE)
        return self._marks[mark] + rest.count(b"\n") + 1

    def place(self, number: int) -> int | None:
        """Where the line of that number begins; None if it was not counted, or there is none."""
        if number <= 1:
            return 0
        mark = bisect_right(self._marks, number - 2) - 1
        left = number - 1 - self._marks[mark]
        data = self.read(mark * STRIDE, STRIDE)
        at = -1
        for _ in range(left):
            at = data.find(b"\n", at + 1)
            if at < 0:
                return None
        return mark * STRIDE + at + 1


def _last_drawn(data: bytes, whole: bool = True) -> bytes | None:
    """Of what carriage returns redraw the last drawing; None if `data` is a part without any."""
    data = data.rstrip(b"\r\n")
    if b"\r" not in data:
        return data if whole else None
    return next((part for part in reversed(data.split(b"\r")) if part.strip()), b"")


def shown(data: bytes | None) -> str:
    """Text for a terminal: no escapes, tabs as blanks, whatever else could act spelled out."""
    text = (data or b"").decode("utf-8", "replace")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\t" in text:
        text = text.expandtabs(8)
    return cells.clean(text.rstrip())


# -- searching ----------------------------------------------------------------------------


class Search:
    """Looks for a line, a bounded step at a time: `while not search.over: search.step()`.

    `found` is the line then, or None. A line counts if one of `needles` is in its bytes and
    `accept` takes its text, or if it is too long to be shown whole.
    """

    STEP = 1 << 20  # bytes
    _LINES = 200  # candidates

    def __init__(
        self,
        index: LogIndex,
        needles: Sequence[bytes],
        accept: Callable[[str], bool],
        at: int,
        *,
        backwards: bool = False,
        fold: bool = False,
    ) -> None:
        """From the byte `at` on, or before it. `fold`: `needles` are lower case and match any."""
        self.index, self.at, self.backwards = index, at, backwards
        self.found: LogLine | None = None
        self.over = not needles
        self._needles, self._accept, self._fold = needles, accept, fold
        self._overlap = max(map(len, needles), default=1) - 1

    @property
    def share(self) -> float:
        """How much of the way is behind it, as a place in the file."""
        return self.at / self.index.size if self.index.size else 1.0

    def step(self) -> None:
        """Look at STEP bytes at most."""
        if self.over:
            return
        size = min(self.STEP, self.at) if self.backwards else self.STEP
        base = self.at - size if self.backwards else self.at
        data = self.index.read(base, size + self._overlap)
        if self._fold:
            data = data.lower()
        for _ in range(self._LINES):
            hit = self._hit(data, self.at - base, size)
            if hit < 0:
                self.at = base if self.backwards else base + size
            elif self._takes(base + hit):
                self.over = True
                return
            if not base < self.at < base + size:
                break
        self.over = self.at <= 0 if self.backwards else self.at >= self.index.size

    def _hit(self, data: bytes, at: int, size: int) -> int:
        if self.backwards:
            # A hit that begins before `at` counts, wherever it ends.
            return max(data.rfind(needle, 0, at + len(needle) - 1) for needle in self._needles)
        hits = [data.find(needle, at, size + self._overlap) for needle in self._needles]
        return min((hit for hit in hits if hit >= 0), default=-1)

    def _takes(self, at: int) -> bool:
        start = self.index.start(at)
        (line,) = self.index.after(start, 1) or (LogLine(start, at + 1, ""),)
        self.at = line.start if self.backwards else line.end
        if line.cut or self._accept(line.text):
            self.found = line
        return self.found is not None


def search_for(index: LogIndex, text: str, at: int, backwards: bool = False) -> Search:
    """Lines that hold `text`; written in lower case, it matches upper case too."""
    fold = text == text.lower()
    low = text.lower()

    def accept(line: str) -> bool:
        return (low in line.lower()) if fold else text in line

    raw = text.encode("utf-8", "replace")
    # The bytes of other scripts do not fold: there any line may be one, and its text tells.
    if fold and not raw.isascii():
        raw = max(re.split(rb"[^\x00-\x7f]+", raw), key=len) or b"\n"
    return Search(index, [raw] if text else [], accept, at, backwards=backwards, fold=fold)


def search_error(index: LogIndex, at: int = 0) -> Search:
    """The first line from `at` on that says that something went wrong."""
    return Search(index, ERROR_WORDS, is_error, at)
