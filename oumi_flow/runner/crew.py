"""Who does what the loop defers. Knows nothing of what that is.

What is a matter of a moment, the loop's own thread does between two messages: to hand it to another
thread, and its answer back, costs as much again. All else is for worker threads.

The standard library's pool makes a future, with a lock and a condition, of every call; nobody here
waits for one, and the calls of a small job cost less than that.
"""

from __future__ import annotations

import resource
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from oumi_flow.typed import Generic, TypeVar

# Seconds. Where what should have been a moment takes so long on the average of the last so many,
# files are slow (a network, a disk at work), and for a while all is left to the workers, of whom
# many can wait at a time.
_LONG, _LAST, _A_WHILE = 0.005, 16, 5.0

_Answer = TypeVar("_Answer")
T = TypeVar("T")


class Crew:
    """At most `size` threads; one for each of the first calls."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], None]) -> None:
        """Have it called soon; now, where the system gives no thread. It must not raise.

        One thread only may submit.
        """
        if len(self._threads) < self._size:  # to know who is free costs more than a few threads
            name = f"worker_{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more: those that are there do it all
                self._size = len(self._threads)
            else:
                self._threads.append(thread)
        if self._threads:
            self._calls.put(call)
        else:
            call()

    def close(self) -> None:
        """Blocks until all calls have been made."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # and with it what it holds on to


class Moments(Generic[_Answer]):
    """Calls that are a matter of a moment, for the thread that asks for them.

    When they are so no more, those that wait are handed to `others`.
    """

    def __init__(
        self,
        others: Callable[[Callable[[], _Answer]], None],
        clock: Callable[[], float] = time.monotonic,
        waits: Callable[[], float] = lambda: resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw,
        busy: Callable[[], float] = time.thread_time,
    ) -> None:
        """Of the calling thread: how often it `waits`, but for a core; how long it is `busy`."""
        self._others, self._clock, self._waits, self._busy = others, clock, waits, busy
        self._mean = 0.0
        self._first: deque[Callable[[], _Answer]] = deque()
        self._calls: deque[Callable[[], _Answer]] = deque()
        self._slow_until = float("-inf")
        self._waits_before = waits()

    @property
    def are_short(self) -> bool:
        """Whether they took no longer than that of late."""
        return self._clock() >= self._slow_until

    @property
    def are_over(self) -> bool:
        """Whether no call waits."""
        return not (self._first or self._calls)

    def put(self, call: Callable[[], _Answer], first: bool = False) -> None:
        """Have it made soon; `first`: before all that are not."""
        (self._first if first else self._calls).append(call)

    def spend_one(self, answered: Callable[[_Answer], None]) -> bool:
        """Make the call whose turn it is, and hand on its answer; whether there was one."""
        if self.are_over:
            return False
        call = (self._first or self._calls).popleft()
        self.spend(lambda: answered(call()))
        return True

    def spend(self, call: Callable[[], T]) -> T:
        """Make a call that should be a matter of a moment, now."""
        busy, began = self._busy(), self._clock()
        answer = call()
        ended = self._clock()
        took = ended - began
        # Who only waited for a core, on a busy machine, would fare no better as several threads.
        if took > _LONG:
            if (waits := self._waits()) <= self._waits_before:
                took = self._busy() - busy
            self._waits_before = waits
        self._mean += (took - self._mean) / _LAST
        if self._mean > _LONG:
            self._mean, self._slow_until = 0.0, ended + _A_WHILE
            while not self.are_over:
                self._others((self._first or self._calls).popleft())
        return answer

    def begin(self) -> None:
        """From here on the thread waits for nothing but what its calls wait for.

        To be called now and then: to ask at each call would cost as much as some calls.
        """
        self._waits_before = self._waits()
