"""Which lines of a log say that something went wrong, and which warn.

A line is judged by itself, as it is shown; what the end of a log says of the cause of a failure is
worked out in diagnose.py. Knows no files.
"""

from __future__ import annotations

import re
from typing import Literal

# One of these is in every line that `is_error` takes: cheap to look for in many megabytes.
ERROR_WORDS = (
    b"Error",
    b"error:",
    b"error]",
    b"ERROR",
    b"xception",
    b"Interrupt",
    b"Traceback",
    b"atal",
    b"FATAL",
    b"CRITICAL",
    b"illed",
    b"panic",
    b"ut of memory",
    b"OutOfMemory",
    b"CUDA error",
    b"No space left",
    b"egmentation fault",
    b"core dumped",
    b"annot allocate memory",
    b"command not found",
)
_ERROR = re.compile(
    r"Traceback \(most recent call last\)"
    r"|^(?:\[[^\]]*\]:?)?\s*(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt)(?::|$)"
    r"|(?:^|[\s\[(|:])(?:ERROR|FATAL|CRITICAL)(?:$|[\s\])|:-])"  # as logs are marked
    r"|(?:^|[\s\[:])(?:[Ee]rror|[Ff]atal(?: error)?|panic)(?::|\])"
    r"|CUDA out of memory|OutOfMemoryError|CUDA error: |[Oo]ut of memory: Killed"
    r"|\bKilled$|killed by signal|No space left on device|[Ss]egmentation fault|core dumped"
    r"|[Cc]annot allocate memory|: command not found"
)
_WARNING = re.compile(
    r"(?:^|[\s\[(|:])(?:WARN(?:ING)?|[A-Z]\w*Warning)(?:$|[\s\])|:-])|^[Ww]arning:"
)
_HEAD = re.compile(r"# run \S+, attempt \d+,")


def is_error(text: str) -> bool:
    return _ERROR.search(text) is not None


def kind_of(text: str) -> Literal["bad", "warn", "muted", ""]:
    """The meaning that a line is drawn with; our own first line of a log is `muted`."""
    if _ERROR.search(text):
        return "bad"
    if _WARNING.search(text):
        return "warn"
    return "muted" if _HEAD.match(text) else ""
