"""Logs as they are: whole, their end, or as they grow. Reads in blocks, so size does not matter."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator

from oumi_flow.errors import OK, FlowError
from oumi_flow.progress import open_at_once
from oumi_flow.typed import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from oumi_flow.store import Store

_BLOCK = 1 << 16
_POLL = 0.1
_LONGEST = 1 << 20  # of a line that is looked at as a line
_ERROR = re.compile(
    r"\b(\w*error|\w*exception|traceback|fatal|failed|killed|out of memory|panic)\b",
    re.IGNORECASE,
)
_HEAD = re.compile(rb"# run (\S+), attempt (\d+),")


def log_of_attempt(store: Store, job: str, attempt: int | None) -> str:
    """The log of an attempt of the newest run that started the job; None: of the latest one.

    Raises FlowError that names the attempts there are.
    """
    newest = store.paths.log(job)
    if attempt is None:
        return newest
    there: dict[int, str] = {}
    run = head(newest)[0]
    for back in range(10):
        path = store.paths.log(job, back)
        its_run, number = head(path)
        if number and its_run == run:
            there.setdefault(number, path)
    if attempt not in there:
        known = ", ".join(map(str, sorted(there))) or "none"
        raise FlowError(f'job "{job}": no log of attempt {attempt}', hint=f"there are: {known}")
    return there[attempt]


def head(path: str) -> tuple[str, int]:
    """Run and number of the attempt that a log belongs to; ("", 0) if it does not say."""
    try:
        with open_at_once(path) as file:
            match = _HEAD.match(file.readline(_BLOCK))
    except OSError:
        return "", 0
    return (match[1].decode(), int(match[2])) if match else ("", 0)


def print_log(path: str, lines: int | None, runs: Callable[[], bool] | None) -> int:
    """Copy a log to stdout from its last `lines` on; with `runs`, until that says no.

    A log that is replaced by that of the next attempt has ended too.
    """
    out = sys.stdout.buffer
    sys.stdout.flush()
    with open_at_once(path) as file:
        if lines is not None:
            file.seek(_start_of_last(file, lines))
        while True:
            going_on = runs is not None and runs()
            while block := file.read(_BLOCK):
                out.write(block)
            out.flush()
            if not going_on:
                return OK
            if _replaced(file.fileno(), path):
                return OK  # the next attempt began a log of its own
            time.sleep(_POLL)


def _replaced(descriptor: int, path: str) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(descriptor).st_ino
    except OSError:
        return False


def _start_of_last(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines begin; read from the end, in blocks.

    Of a line beyond all measure only the end is given, and none before it.
    """
    end = file.seek(0, os.SEEK_END)
    if lines == 0:
        return end
    at, seen, line_end = end, 0, end
    while at > 0:
        begin = max(0, at - _BLOCK)
        file.seek(begin)
        block = file.read(at - begin)
        if at == end and block.endswith(b"\n"):
            block = block[:-1]
        position = len(block)
        while (position := block.rfind(b"\n", 0, position)) >= 0:
            seen += 1
            line_end = begin + position
            if seen == lines:
                return line_end + 1
        if line_end - begin > _LONGEST:
            return line_end - _LONGEST
        at = begin
    return 0


def print_errors(path: str, limit: int | None) -> int:
    """The lines that look like errors, with their numbers; bars and control characters left out."""
    from collections import deque

    found: deque[str] = deque(maxlen=limit)
    for number, line in _lines(path):
        if _ERROR.search(line):
            found.append(f"{number}: {line}")
    print("\n".join(found) if found else "no line looks like an error")
    return OK


def _lines(path: str) -> Iterator[tuple[int, str]]:
    from oumi_flow.ui.cells import clean

    with open_at_once(path) as file:
        number = 0
        while line := file.readline(_LONGEST):
            number += 1
            yield number, clean(line.rsplit(b"\r", 1)[-1].decode("utf-8", "replace").strip())
