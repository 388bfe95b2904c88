"""Remembers that a command line found nothing to do, and all that it looked at to say so.

A seal is the proof of an answer: every stat and every listing that the answer was drawn from. While
each of them comes out the same, so does the answer, and a run with nothing to do costs little more
than these looks. One that differs, or anything else that is strange, and the answer is worked out
anew; so a seal can be lost at any time, and never makes an error.

Imports nothing but what every interpreter has loaded anyway. Does not know what a workflow is: who
writes a seal has to name everything that his answer depends on.
"""

from __future__ import annotations

import os
import sys

from oumi_flow import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from oumi_flow.model import Stamp

_LAYOUT = 1
# Variables of ours say where files, locks and GPUs are to be found.
_OURS = "OUMI_FLOW_"


class Proof:
    """What an answer was drawn from. Paths are as they were looked at, from the working folder."""

    __slots__ = ("listings", "missing", "needs", "stamps", "variables")

    def __init__(self) -> None:
        self.variables: dict[str, str | None] = {}  # of the shell, with the values they had
        self.needs: list[str] = []  # those that only had to be set
        self.stamps: dict[str, Stamp] = {}
        self.missing: set[str] = set()
        self.listings: dict[str, tuple[str, ...]] = {}  # folder -> all its names, sorted


def write(words: Sequence[str], workflow: str, proof: Proof, answer: str) -> None:
    """Seal the answer to a command line about the file `workflow`. Nothing where that fails."""
    from array import array
    from marshal import dumps
    from zlib import crc32

    from oumi_flow.disk import atomic_write

    try:
        numbers = [number & _MASK for stamp in proof.stamps.values() for number in stamp]
        body = dumps(
            {
                "made_by": _made_by(),
                "words": list(words),
                "here": os.getcwd(),
                "ours": _ours(),
                "variables": proof.variables,
                "needs": proof.needs,
                "paths": "\0".join(proof.stamps).encode("utf-8", "surrogateescape"),
                "stamps": array("Q", numbers).tobytes(),
                "missing": sorted(proof.missing),
                "listings": proof.listings,
                "answer": answer,
            }
        )
        path = place(workflow)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        atomic_write(path, b"%08x" % crc32(body) + body, mode=0o600)
    except (OSError, ValueError, OverflowError):
        return


def answer(words: Sequence[str]) -> str | None:
    """What the same command line said last time, if nothing that it was drawn from has changed.

    Looks at every file of the proof; blocks on nothing else.
    """
    workflow = file_of(words)
    sealed = _read(workflow) if workflow else None
    if sealed is None:
        return None
    try:
        return sealed["answer"] if _holds(sealed, words) else None
    except (KeyError, TypeError, ValueError, OSError):
        return None


def file_of(words: Sequence[str]) -> str:
    """The workflow file of a command line whose first word, after the command, is one; else ""."""
    first = words[1] if len(words) > 1 and words[0] == "run" else ""
    return "" if first.startswith("-") else first


def place(workflow: str) -> str:
    """Where the seal of a workflow is kept: beside its snapshot, by its real path."""
    from zlib import crc32

    own = os.environ.get("OUMI_FLOW_HOME")
    if own:
        folder = own + "/cache"
    else:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = user + "/oumi-flow"
    real = os.fsencode(os.path.realpath(workflow))
    # A file of another workflow with the same name here fails by what it says inside.
    return f"{folder}/{crc32(real):08x}{crc32(real[::-1]):08x}.seal"


def _read(workflow: str) -> dict[str, Any] | None:
    from marshal import loads
    from zlib import crc32

    try:
        descriptor = os.open(place(workflow), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            data = file.read()
    except OSError:
        return None
    # Checked before it is decoded: `marshal` trusts what it reads.
    body = memoryview(data)[8:]
    if data[:8] != b"%08x" % crc32(body):
        return None
    try:
        sealed = loads(body)
    except (EOFError, ValueError, TypeError):
        return None
    return sealed if isinstance(sealed, dict) and sealed.get("made_by") == _made_by() else None


def _holds(sealed: dict[str, Any], words: Sequence[str]) -> bool:
    environ = os.environ
    if sealed["words"] != list(words) or sealed["here"] != os.getcwd():
        return False
    if sealed["ours"] != _ours() or not all(name in environ for name in sealed["needs"]):
        return False
    if any(environ.get(name) != value for name, value in sealed["variables"].items()):
        return False
    return (
        _stamps_hold(sealed["paths"], sealed["stamps"])
        and not any(map(_is_there, sealed["missing"]))
        and all(names(folder) == were for folder, were in sealed["listings"].items())
    )


def _stamps_hold(paths: bytes, stamps: bytes) -> bool:
    """Whether all these files are as they were. The one loop that is as long as the workflow."""
    from array import array

    numbers = array("Q")
    numbers.frombytes(stamps)
    each = iter(numbers)
    stat = os.stat
    for path, size, mtime, ctime, inode in zip(
        paths.split(b"\0") if paths else (), each, each, each, each, strict=True
    ):
        seen = stat(path)
        if (
            seen.st_mtime_ns & _MASK != mtime
            or seen.st_ctime_ns & _MASK != ctime
            or seen.st_size != size
            or seen.st_ino & _MASK != inode
        ):
            return False
    return True


_MASK = (1 << 64) - 1


def _is_there(path: str) -> bool:
    """As for who looks for content: a link that leads nowhere is nothing. Raises OSError."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def names(folder: str) -> tuple[str, ...]:
    """All that a folder holds. Raises OSError."""
    return tuple(sorted(os.listdir(folder)))


def _ours() -> list[tuple[str, str]]:
    return sorted(item for item in os.environ.items() if item[0].startswith(_OURS))


def _made_by() -> str:
    """`marshal` may differ between Pythons, what is looked at between versions of ours."""
    return f"{_LAYOUT}/{__version__}/{sys.hexversion}"
