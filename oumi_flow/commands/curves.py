"""The curves of a job while it runs: its points are taken in as they are written.

Bounded: of a large file a few hundred lines spread over all of it are read at first, of what is
appended later at most so much a look; curves that grow long are thinned. Knows no screens.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

from oumi_flow.progress import METRICS, open_at_once, parse

_WHOLE = 1 << 18  # bytes up to which a file is read in full at once
_SAMPLES = 400  # lines read of a larger one
_STEP = 1 << 20  # bytes taken in at one look
_MOST = 4000  # points kept of a metric
_POSITIONS = frozenset({"step", "global_step", "done", "total", "at", "time"})

Curve = Sequence[tuple[float, float]]


class Curves:
    """`look` takes in what is new; `known` is what was there at the last look.

    `folder` is the job's. Its training's own file is read, else the history that a run keeps.
    """

    def __init__(self, folder: str) -> None:
        self.known: Mapping[str, Curve] = {}
        self._paths = (
            os.path.join(folder, METRICS),
            os.path.join(folder, ".oumi-flow", "metrics.jsonl"),
        )
        self._path = ""
        self._inode = -1
        self._at = 0
        self._rest = b""
        self._points: dict[str, dict[float, float]] = {}
        self._number = 0
        self._ended = False

    def look(self) -> None:
        """Read what was appended; raises nothing."""
        for path in self._paths:
            try:
                if self._take(path):
                    return
            except OSError:
                continue

    def _take(self, path: str) -> bool:
        with open_at_once(path) as file:
            seen = os.fstat(file.fileno())
            if not seen.st_size:
                return False
            if path != self._path or seen.st_ino != self._inode or seen.st_size < self._at:
                self._path, self._inode = path, seen.st_ino
                self._at, self._rest, self._points = 0, b"", {}
                self._number, self._ended = 0, False
                if seen.st_size > _WHOLE:
                    self._sample(file.fileno(), seen.st_size)
            if seen.st_size == self._at:
                return True
            file.seek(self._at)
            data = file.read(_STEP)
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _STEP:
            self._rest = b""
        for line in lines:
            self._point(line)
        self._publish()
        return True

    def _sample(self, descriptor: int, size: int) -> None:
        """Lines spread over the whole file; what was appended last is read by `_take`."""
        self._at = size - (1 << 14)
        for n in range(_SAMPLES):
            block = os.pread(descriptor, 1 << 12, self._at * n // _SAMPLES)
            lines = block.split(b"\n")
            if len(lines) > 2:  # the first one is not whole, unless it is the file's first
                self._point(lines[1 if n else 0])
        self._rest = b"-"  # the line that `_at` lies in is no whole one

    def _point(self, line: bytes) -> None:
        row = parse.json_row(line.decode("utf-8", "replace"))
        if row is None:
            return
        if self._ended:  # another training begins: the latest counts
            self._points, self._ended = {}, False
        inner = row.get("metrics")
        kept = isinstance(inner, dict)
        numbers = parse.numbers_of({**row, **inner} if isinstance(inner, dict) else row)
        steps = [numbers[key] for key in ("step", "global_step", "done") if key in numbers]
        self._number += 1
        step = steps[0] if steps else float(self._number)
        for key, value in numbers.items():
            if key not in _POSITIONS:
                curve = self._points.setdefault(key, {})
                curve[step] = value
                if len(curve) > _MOST:
                    self._points[key] = dict(sorted(curve.items())[::2])
        self._ended = "train_loss" in numbers and not kept

    def _publish(self) -> None:
        known = {}
        for key, curve in self._points.items():
            points = sorted(curve.items())
            stride = math.ceil(len(points) / 2000)
            known[key] = points if stride <= 1 else [*points[:-1:stride], points[-1]]
        self.known = known
