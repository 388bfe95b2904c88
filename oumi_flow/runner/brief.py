"""Which of a job's work is a matter of a moment: small jobs that read few files and not much.

Does not block, but for a few stats on the disks that the loop writes to anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property

from oumi_flow import verbs
from oumi_flow.disk import Disk
from oumi_flow.executors.base import Exit
from oumi_flow.model import Counts, Evidence, Input, Job, Output, Step, Trace

_FEW = 8  # files
_LITTLE = 1 << 20  # all of them have fewer bytes: half a millisecond to digest, and by one thread
_BRIEF_S = 0.9  # of a job; for the markers of longer ones the disk is waited for


class Brevity:
    """For one thread."""

    def __init__(self, disk: Disk, output_dir: str) -> None:
        self._disk, self._output_dir = disk, output_dir
        self._read_little: set[str] = set()  # jobs whose inputs were small as they began

    def of_preparing(self, step: Step, number: int) -> bool:
        """Whether to prepare that attempt is; what is not there cannot be in the way."""
        first = number == 1 and step.past.trace is None and step.past.attempt is None
        if not (first and self._is_simple(step.job) and self._are_small(step.job.inputs)):
            return False
        self._read_little.add(step.job.name)  # asked once, and not as it ends again
        return True

    def of_concluding(self, job: Job, exit: Exit) -> bool:
        """Whether to conclude an attempt is. That an input has grown in so short a time is rare."""
        read_little = job.name in self._read_little
        self._read_little.discard(job.name)
        if exit.code != 0 or not 0.0 <= exit.finished - exit.started < _BRIEF_S:
            return False
        read = () if read_little else job.inputs
        return self._is_simple(job) and self._are_small((*job.outputs, *read))

    def of_looking_again(self, job: Job, trace: Trace) -> bool:
        """Whether to digest what was seen too soon once more is, if it is as it was."""
        if not self._is_simple(job):
            return False
        seen = (*trace.inputs.values(), *trace.outputs.values())
        files = (file for each in seen for file in each.files if not file.settled)
        return sum(file.stamp.size for file in files) < _LITTLE

    def look_again(self, path: str, counts: Counts, known: Evidence) -> Evidence:
        """What was seen too soon, with a stamp to be trusted if it is as it was. See `Look`."""
        return known if counts is not Counts.ALL else self._disk.confirm(path, known, self._near)

    @staticmethod
    def _is_simple(job: Job) -> bool:
        return verbs.verb(job.verb).is_shell and len(job.inputs) + len(job.outputs) <= _FEW

    def _are_small(self, files: Iterable[Input | Output]) -> bool:
        left = _LITTLE
        for file in files:
            size = self._disk.size(file.path, self._near)
            if size is None or (left := left - size) <= 0:
                return False
        return True

    @cached_property
    def _near(self) -> frozenset[int]:
        """The devices that the loop writes to and reads from anyway."""
        devices = set()
        for path in (self._output_dir, "."):
            with suppress(OSError):
                devices.add(os.stat(path).st_dev)
        return frozenset(devices)
