"""The worker threads of a run. Knows nothing of what they are given to do.

The standard library's pool makes a future, with a lock and a condition, of every call; nobody here
waits for one, and the calls of a small job cost less than that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Crew:
    """At most `size` threads; one for each of the first calls."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], None]) -> None:
        """Have it called soon. It must not raise. One thread only may submit."""
        self._calls.put(call)
        if len(self._threads) < self._size:  # to know who is free costs more than a few threads
            name = f"worker_{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name)
            self._threads.append(thread)
            thread.start()

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
