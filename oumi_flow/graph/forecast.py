"""How long a set of jobs will take: the schedule is played through with expected durations.

Knows names, seconds, slots and GPUs as numbers; not who runs, nor what anything costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from oumi_flow.dataclass import dataclass
from oumi_flow.graph import downstream, remaining_path


@dataclass(frozen=True, slots=True)
class Task:
    """What is left of one job: seconds, the jobs it needs, how many GPUs it holds meanwhile."""

    seconds: float
    needs: tuple[str, ...] = ()
    gpus: int = 0
    running: bool = False


def makespan(tasks: Mapping[str, Task], slots: int, gpus: int = 0) -> float:
    """Seconds until the last task ends when the longest remaining path goes first.

    `tasks` in topological order; needs that are no tasks count as met. `gpus` 0 means that they
    are not counted. A few tens of milliseconds for 10 000 tasks.
    """
    return play(tasks, slots, gpus)[0]


def play(tasks: Mapping[str, Task], slots: int, gpus: int = 0) -> tuple[float, Mapping[str, float]]:
    """As `makespan`, with the second at which each task begins."""
    played = _Play(tasks, max(1, slots), gpus)
    return played.run(), played.starts


class _Play:
    def __init__(self, tasks: Mapping[str, Task], slots: int, gpus: int) -> None:
        order = list(tasks)
        needs = {name: [n for n in task.needs if n in tasks] for name, task in tasks.items()}
        self._tasks, self._slots, self._gpus = tasks, slots, gpus
        self._total = gpus
        self._after = downstream(needs)
        self._missing = {name: len(set(need)) for name, need in needs.items()}
        path = remaining_path(order, needs, {name: task.seconds for name, task in tasks.items()})
        self._rank = {name: (-path[name], place) for place, name in enumerate(order)}
        # One heap for each number of GPUs, so that a job that waits for them holds nobody up.
        self._ready: dict[int, list[tuple[tuple[float, int], str]]] = {}
        self._ends: list[tuple[float, str]] = []
        self.starts: dict[str, float] = {}
        for name, task in tasks.items():
            if task.running:
                self._start(name, 0.0)
            elif not self._missing[name]:
                self._ready.setdefault(self._wants(name), []).append((self._rank[name], name))
        for heap in self._ready.values():
            heapify(heap)

    def run(self) -> float:
        now = 0.0
        self._fill(now)
        while self._ends:
            now, name = heappop(self._ends)
            self._slots += 1
            self._gpus += self._wants(name)
            for later in self._after[name]:
                self._missing[later] -= 1
                if not self._missing[later] and not self._tasks[later].running:
                    heappush(
                        self._ready.setdefault(self._wants(later), []), (self._rank[later], later)
                    )
            self._fill(now)
        return now

    def _wants(self, name: str) -> int:
        return min(self._tasks[name].gpus, self._total)

    def _fill(self, now: float) -> None:
        while self._slots > 0:
            fits = [(heap[0], n) for n, heap in self._ready.items() if heap and n <= self._gpus]
            if not fits:
                return
            (_, name), wanted = min(fits)
            heappop(self._ready[wanted])
            self._start(name, now)

    def _start(self, name: str, now: float) -> None:
        self._slots -= 1
        self._gpus -= self._wants(name)
        self.starts[name] = now
        heappush(self._ends, (now + self._tasks[name].seconds, name))
