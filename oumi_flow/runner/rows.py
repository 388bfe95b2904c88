"""Finished rows that an unfinished attempt left beside the file it was going to write.

oumi's infer appends each row, once it is there, to `scratch/<stem>_<digest><suffix>` beside its
output, and takes such rows as they are when it is started again. The digest is of names and
settings, not of the model's content, and one line cut off makes every later attempt fail. So
before an attempt those rows are mended or put away; nothing is deleted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress

from oumi_flow.errors import FlowError


def mend(place: str, folder: str) -> None:
    """Take lines that are no rows out of the files in `folder` beside `place`.

    They go to a file beside, `<name>.torn`. Blocks while it reads. Raises FlowError.
    """
    for path in _files(place, folder):
        try:
            _mend(path)
        except OSError as fault:
            raise FlowError(f"{path}: cannot mend it: {fault.strerror}") from fault


def put_away(place: str, folder: str) -> None:
    """Rename these files to `<name>.old`, so that nobody goes on from them. Raises FlowError."""
    for path in _files(place, folder):
        try:
            os.replace(path, f"{path}.old")
        except OSError as fault:
            raise FlowError(f"{path}: cannot set it aside: {fault.strerror}") from fault


def _files(place: str, folder: str) -> Iterator[str]:
    home, name = os.path.split(place)
    stem, suffix = os.path.splitext(name)
    ours = re.compile(rf"{re.escape(stem)}_[0-9a-f]{{64}}{re.escape(suffix)}\Z")
    rows = os.path.join(home, folder)
    with suppress(FileNotFoundError, NotADirectoryError):
        for found in sorted(os.listdir(rows)):
            path = os.path.join(rows, found)
            if ours.match(found) and os.path.isfile(path):
                yield path


def _mend(path: str) -> None:
    with open(path, "rb") as file:
        if all(map(_is_row, file)):
            return
        file.seek(0)
        with open(f"{path}.new", "wb") as rows, open(f"{path}.torn", "ab") as torn:
            for line in file:
                (rows if _is_row(line) else torn).write(line)
            torn.flush()
            os.fsync(torn.fileno())
    os.replace(f"{path}.new", path)


def _is_row(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
