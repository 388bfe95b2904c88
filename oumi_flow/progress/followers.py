"""Follows a running job: its verb's own files first, else what it prints.

A follower is polled now and then and says what changed. It never blocks for long and keeps little,
whatever the files hold. Knows which files a verb writes, not who started the job.
"""

from __future__ import annotations

import os
import re

from oumi_flow.model import Progress
from oumi_flow.pattern import pattern
from oumi_flow.progress import parse
from oumi_flow.progress.tail import LineCount, Tail, last_bytes
from oumi_flow.typed import Protocol

METRICS = "metrics_rank0000.jsonl"
# Of a row of metrics: where the training is, not how it goes.
_POSITION = frozenset({"step", "global_step"})


class Follower(Protocol):
    def poll(self) -> Progress | None:
        """The latest progress, or None when nothing changed since the last call."""
        ...


def follower(
    name: str,
    folder: str,
    log: str,
    total_hint: float | None = None,
    *,
    skip: int | None = None,
) -> Follower:
    """A follower for the parser `name` of the verb table; an unknown name reads the log's lines.

    `folder` is the job's place (for a verb that writes a file, that file or its folder), `log`
    its job.log of this attempt. `total_hint` is the number of steps, rows or trials where the
    caller knows it. Make it before the job starts: metrics files are appended to by later runs,
    so what is in them now is not this attempt's. For a job that runs already (adopted), `skip=0`
    takes the file from its start.
    """
    if name == "train":
        return TrainFollower(folder, log, total_hint, skip)
    if name == "tune":
        return TuneFollower(folder, log, total_hint, skip)
    if name == "infer":
        return InferFollower(folder, log, total_hint)
    if name in ("bars", "judge"):
        return BarFollower(log)
    return LineFollower(log)


class _Teller:
    """Remembers what was said last, so that `poll` tells changes only."""

    def __init__(self) -> None:
        self._said = Progress()

    def _tell(self, progress: Progress) -> Progress | None:
        if _same(progress, self._said):
            return None
        self._said = progress
        return progress


def _same(one: Progress, other: Progress) -> bool:
    # repr, because a NaN is not equal to itself.
    return repr(one) == repr(other)


class TrainFollower(_Teller):
    """`metrics_rank0000.jsonl` for numbers, the bar in the log for steps in between and the total.

    After a resume steps repeat; the last value of each is what counts, and is what is shown.
    """

    def __init__(
        self, folder: str, log: str, total_hint: float | None, skip: int | None = None
    ) -> None:
        super().__init__()
        self.folder = folder
        self.rows = Tail(os.path.join(folder, METRICS), skip)
        self.log = Tail(log)
        self.total = total_hint if total_hint and total_hint > 0 else None
        self.step: float | None = None
        self.metrics: dict[str, float] = {}

    def poll(self) -> Progress | None:
        for line in self.rows.read():
            self._take(parse.json_row(line))
        if self.total is None:
            self.total = self._configured_total()
        for line in (*self.log.read(), self.log.unfinished):
            self._take_bar(line)
        if self.step is None and not self.metrics:
            return None
        return self._tell(Progress(self.step, self.total, "steps", dict(self.metrics)))

    def _take(self, row: dict[str, object] | None) -> None:
        if row is None:
            return
        numbers = parse.numbers_of(row)
        step = numbers.get("step", numbers.get("global_step"))
        if step is not None:
            self.step = step
        for key, value in numbers.items():
            if key not in _POSITION and (
                key in self.metrics or len(self.metrics) < parse.MOST_METRICS
            ):
                self.metrics[key] = value

    def _take_bar(self, line: str) -> None:
        bar = parse.bar_of(parse.clean(line)) if "%|" in line else None
        if bar is None or bar.title:
            return
        if self.total is None:
            # The first bar without a title is the training's; evaluations come within it.
            self.total = bar.total
        if bar.total == self.total and (self.step is None or bar.done > self.step):
            self.step = bar.done

    def _configured_total(self) -> float | None:
        """`max_steps` of the merged config that oumi writes down; a text search, no YAML."""
        text = last_bytes(os.path.join(self.folder, "telemetry", "training_config.yaml"))
        found = re.search(rb"(?m)^  max_steps: (\d+)\s*$", text)
        return float(found[1]) if found and int(found[1]) > 0 else None


class TuneFollower(_Teller):
    """Trials begun in `trial_*`, the newest one's metrics, the best value from the log."""

    _BEST = pattern(r"Best is trial (\d+) with value: (-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
    _FINISHED = pattern(r"\bTrial \d+ finished with value")  # optuna, on stderr

    def __init__(
        self, folder: str, log: str, total_hint: float | None, skip: int | None = None
    ) -> None:
        super().__init__()
        self.folder = folder
        self.log = Tail(log)
        self.total = total_hint if total_hint and total_hint > 0 else None
        self.before = frozenset() if skip == 0 else frozenset(self._trials())
        self.trial = -1
        self.inner: TrainFollower | None = None
        self.finished = 0
        self.best: dict[str, float] = {}

    def poll(self) -> Progress | None:
        new = sorted(set(self._trials()) - self.before)
        if new and new[-1] != self.trial:
            self.trial = new[-1]
            inner = os.path.join(self.folder, f"trial_{self.trial}")
            self.inner = TrainFollower(inner, os.devnull, None, 0)
        for line in self.log.read():
            self._take(parse.clean(line))
        if self.total is None:
            self.total = self._configured_total()
        if not new and not self.finished:
            return None
        metrics = dict(self.best)
        if self.inner is not None:
            self.inner.poll()
            metrics |= self.inner.metrics
            metrics["trial"] = float(self.trial)
            if self.inner.step is not None:
                metrics["step"] = self.inner.step
        done = float(max(self.finished, len(new) - 1, 0))
        if self.total is not None:
            done = min(done, self.total)
        return self._tell(Progress(done, self.total, "trials", metrics))

    def _take(self, line: str) -> None:
        if self._FINISHED.search(line):
            self.finished += 1
        if found := self._BEST.search(line):
            self.best = {"best_trial": float(found[1]), "best_value": float(found[2])}

    def _trials(self) -> list[int]:
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        numbers = [name[6:] for name in names if name.startswith("trial_")]
        return sorted(int(number) for number in numbers if number.isdigit())

    def _configured_total(self) -> float | None:
        text = last_bytes(os.path.join(self.folder, "telemetry", "tuning_config.yaml"))
        found = re.search(rb"(?m)^  n_trials: (\d+)\s*$", text)
        return float(found[1]) if found and int(found[1]) > 0 else None


class BarFollower(_Teller):
    """The bar that a verb draws of its work; bars of loading and saving are passed over."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self.log = Tail(log)
        self.bar: parse.Bar | None = None

    def poll(self) -> Progress | None:
        for line in (*self.log.read(), self.log.unfinished):
            bar = parse.bar_of(parse.clean(line)) if "%|" in line else None
            if bar is not None and not bar.is_chore:
                self.bar = bar
        if self.bar is None:
            return None
        return self._tell(Progress(self.bar.done, self.bar.total, _unit(self.bar.title)))


def _unit(title: str) -> str:
    lowered = title.lower()
    if "request" in lowered:
        return "requests"
    return "batches" if "response" in lowered else ""


class InferFollower(_Teller):
    """Finished rows in `scratch/*.jsonl` beside the output; until there are any, the bar."""

    def __init__(self, folder: str, log: str, total_hint: float | None) -> None:
        super().__init__()
        home = os.path.dirname(folder) if folder.endswith(".jsonl") else folder
        self.scratch = os.path.join(home, "scratch")
        self.total = total_hint if total_hint and total_hint > 0 else None
        self.bars = BarFollower(log)
        self.counted: LineCount | None = None

    def poll(self) -> Progress | None:
        self.bars.poll()
        path = self._newest()
        if path is not None and (self.counted is None or self.counted.path != path):
            self.counted = LineCount(path)
        rows = self.counted.update() if self.counted is not None else 0
        if rows:
            # The file goes away in the end; what was counted stays.
            return self._tell(Progress(float(rows), self.total, "rows"))
        bar = self.bars.bar
        if bar is None:
            return None
        return self._tell(Progress(bar.done, bar.total, "batches"))

    def _newest(self) -> str | None:
        newest: tuple[int, str] | None = None
        try:
            with os.scandir(self.scratch) as entries:
                for entry in entries:
                    if entry.name.endswith(".jsonl") and entry.is_file():
                        seen = (entry.stat().st_mtime_ns, entry.path)
                        newest = max(newest, seen) if newest else seen
        except OSError:
            return None
        return newest[1] if newest else None


class LineFollower(_Teller):
    """What a script prints: `step 3/10`, `loss=0.5`, bars, printed dicts, lines of JSON."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self.log = Tail(log)
        self.count: parse.Count | None = None
        self.metrics: dict[str, float] = {}

    def poll(self) -> Progress | None:
        for line in self.log.read():
            self.take(line)
        rest = self.log.unfinished
        if "%|" in rest:
            self.take(rest)
        if self.count is None:
            return self._tell(Progress(metrics=dict(self.metrics))) if self.metrics else None
        return self._tell(
            Progress(self.count.done, self.count.total, self.count.unit, dict(self.metrics))
        )

    def take(self, line: str) -> None:
        """Learn from one line."""
        line = parse.clean(line)
        if bar := parse.bar_of(line):
            if not bar.is_chore:
                self.count = parse.Count(bar.done, bar.total, "")
            return
        row = parse.json_row(line.strip()) or parse.dict_row(line)
        numbers = parse.numbers_of(row) if row is not None else parse.pairs_of(line)
        if count := parse.count_of(line) if row is None else None:
            self.count = count
        step = next((numbers.pop(key) for key in ("step", "global_step") if key in numbers), None)
        if step is not None and count is None:
            total = self.count.total if self.count else None
            self.count = parse.Count(step, total, "steps")
        for key, value in numbers.items():
            # The newest names are the ones to keep.
            self.metrics.pop(key, None)
            self.metrics[key] = value
        while len(self.metrics) > parse.MOST_METRICS:
            self.metrics.pop(next(iter(self.metrics)))
