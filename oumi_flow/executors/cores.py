"""No core dumps of processes that hold the secrets of jobs; the jobs' own are as the user has them.

Standard library only.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

# Bytes: too few for any core; and at this very limit the kernel does not call a program that takes
# cores either, which a limit of 0 would not keep it from (fs/coredump.c, `do_coredump`).
_NONE = 1


class Cores:
    """This process leaves none from now on, nor do its forks; `allowed` is for starting a job."""

    def __init__(self) -> None:
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_CORE)
        self._withhold()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """What is started within has the limit that we had. Never raises by itself."""
        resource.setrlimit(resource.RLIMIT_CORE, (self._soft, self._hard))
        try:
            yield
        finally:
            self._withhold()

    def _withhold(self) -> None:
        soft = self._soft if 0 <= self._hard < _NONE else _NONE
        resource.setrlimit(resource.RLIMIT_CORE, (soft, self._hard))
