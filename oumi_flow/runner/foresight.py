"""What of making a job ready changes nothing, done while it still waits for a slot.

A slot that becomes free is filled sooner by that. It is of the next in line alone, and forgotten so
soon that whoever has to wait after all is looked at anew. Knows not what is seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from oumi_flow.model import Step
from oumi_flow.typed import Generic, TypeVar

# Seconds. What changes in that time is found as what changes while the job runs is.
_FRESH = 0.05

_Seen = TypeVar("_Seen")


class Foresight(Generic[_Seen]):
    """One thread looks; any may ask."""

    def __init__(
        self,
        is_brief: Callable[[Step], bool],
        see: Callable[[Step], _Seen],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_brief`: whether to `see` a job's first attempt is a matter of a moment."""
        self._is_brief, self._see, self._clock = is_brief, see, clock
        self._known: tuple[str, float, _Seen | None] = ("", 0.0, None)

    def look(self, step: Step) -> bool:
        """See a job that is not the one of the last call, if that is brief; whether so.

        Raises what seeing raises.
        """
        name = step.job.name
        if self._known[0] == name:
            return False
        self._known = name, 0.0, None
        if not self._is_brief(step):
            return False
        until = self._clock() + _FRESH
        self._known = name, until, self._see(step)
        return True

    def of(self, step: Step) -> _Seen | None:
        """What was seen of a job, if it was, and a moment ago."""
        name, until, seen = self._known
        return seen if name == step.job.name and self._clock() < until else None
