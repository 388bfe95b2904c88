"""How much work a job will be, where its config or its input says so beforehand."""

from __future__ import annotations

import os

from oumi_flow.model import Job
from oumi_flow.progress.tail import LineCount
from oumi_flow.typed import Any

MOST_BYTES = 256 * 1024 * 1024  # of an input whose rows are counted
_KEYS = {"train": "training.max_steps", "tune": "tuning.n_trials"}


def total_of(job: Job) -> float | None:
    """Steps of a train, trials of a tune, rows of an infer; None where it cannot be told.

    For infer its input is read once, so call it from a worker, when the inputs are there.
    """
    config = job.parts.get("config", {})
    name = job.command.progress
    if name == "infer":
        return _rows(job, config.get("input_path"))
    value = config.get(_KEYS.get(name, ""))
    return float(value) if isinstance(value, int) and value > 0 else None


def _rows(job: Job, value: Any) -> float | None:
    """The rows of the input that this (canonical) config value stands for."""
    if not isinstance(value, str):
        return None
    path = os.path.normpath(os.path.join(job.command.cwd, value))
    for item in job.inputs:
        if value == item.key or path == os.path.normpath(item.path):
            return _lines_of(item.path)
    return None


def _lines_of(path: str) -> float | None:
    try:
        size = os.stat(path).st_size
    except OSError:
        return None
    if size > MOST_BYTES:
        return None
    count = LineCount(path)
    while count.at < size:
        before = count.at
        count.update()
        if count.at == before:
            break
    return float(count.lines) or None
