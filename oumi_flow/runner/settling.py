"""A second look at what was seen too soon after its last change for its stamp to be trusted.

What a job has made is digested as it ends, mostly within a tick of the clock that dates files, so a
change in the same tick would not show. Looked at again when it has rested, it is not read any more
by the next run. Small jobs are looked at while the run has nothing else to do, the rest at its end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from oumi_flow import staleness
from oumi_flow.disk import Disk
from oumi_flow.model import Job, Trace
from oumi_flow.runner.brief import Brevity
from oumi_flow.store import Store

_REST = 0.025  # seconds, after which a change shows where times are fine
_MOST = 64  # that wait for such a look, their traces in memory as they are; the rest, for the end


class Settling:
    """The jobs that a run has made. They may be added by any thread, and are looked at by one."""

    def __init__(
        self,
        store: Store,
        disk: Disk,
        brevity: Brevity,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`brevity` says what can be looked at in a moment."""
        self._store, self._disk, self._brevity, self._clock = store, disk, brevity, clock
        self._young: dict[str, Job] = {}
        self._soon: deque[tuple[float, str]] = deque()  # when, and which of them

    def add(self, job: Job, trace: Trace) -> None:
        """It was made just now, and the store has this trace of it."""
        young = any(staleness.unsettled(job, trace))
        if young:
            self._young[job.name] = job
        if young and len(self._soon) < _MOST:
            self._soon.append((self._clock() + _REST, job.name))
        else:
            self._store.keep(trace, trace)

    def forget(self, job: str) -> None:
        """It is about to be made anew."""
        self._young.pop(job, None)

    def look_again(self) -> bool:
        """Look at one job that has rested, if there is any; whether there was. Takes a moment."""
        if not self._soon or self._soon[0][0] > self._clock():
            return False
        _, name = self._soon.popleft()
        job = self._young.get(name)
        trace = self._store.kept(name) if job is not None else None
        if job is None or trace is None:
            return True
        settled = trace
        if self._brevity.of_looking_again(job, trace):
            for settled in staleness.settle([(job, trace)], self._brevity.look_again):
                if not any(staleness.unsettled(job, settled)):
                    self.forget(name)
        self._store.keep(settled, trace)
        return True

    def finish(self) -> None:
        """Look at all that are left. Waits as `staleness.settle`. Raises FlowError, OSError."""
        made = ((job, self._store.kept(name)) for name, job in self._young.items())
        there = ((job, trace) for job, trace in made if trace is not None)
        for trace in staleness.settle(there, self._disk.settle):
            self._store.keep(trace)
