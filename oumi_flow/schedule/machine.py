"""The GPU tokens of a run as bits of a number: which are free, what fits, what will fit when.

Knows how many tokens there are and which request wants what; not who holds a token outside this
run, and no lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import inf

from oumi_flow.model import GpuRequest

# A job that runs longer than was expected of it is taken to last this much longer still.
_OVERDUE = 0.1


class Machine:
    """One thread only. `capacity`: how many tokens each GPU has; `named`: GPUs somebody asks for.

    A mask is a set of tokens. Tokens of GPUs that somebody names are the last to be taken by those
    who have a choice.
    """

    def __init__(self, capacity: Mapping[int, int], named: Collection[int] = ()) -> None:
        self._of: dict[int, int] = {}
        place = 0
        for gpu in sorted(capacity, key=lambda gpu: (gpu in named, gpu)):
            self._of[gpu] = ((1 << capacity[gpu]) - 1) << place
            place += capacity[gpu]
        self.all = self.free = (1 << place) - 1

    def fits(self, request: GpuRequest, free: int | None = None) -> bool:
        free = self.free if free is None else free
        if request.devices:
            return all(free & self._of.get(gpu, 0) for gpu in request.devices)
        return free.bit_count() >= request.count

    def tokens(self, gpu: int) -> int:
        """All tokens of that GPU."""
        return self._of.get(gpu, 0)

    def could_use(self, request: GpuRequest) -> int:
        """All tokens that may be part of what it gets."""
        if not request.devices:
            return self.all
        mask = 0
        for gpu in request.devices:
            mask |= self.tokens(gpu)
        return mask

    def take(self, request: GpuRequest) -> int:
        """The tokens it gets; it must fit."""
        if request.devices:
            return self.occupy(request.devices)
        taken, free = 0, self.free
        for _ in range(request.count):
            bit = free & -free
            taken |= bit
            free ^= bit
        self.free = free
        return taken

    def occupy(self, gpus: Iterable[int]) -> int:
        """One token of each of these has been taken; which, as a mask to give back later."""
        taken = 0
        for gpu in gpus:
            free = self.free & self._of.get(gpu, 0)
            bit = free & -free
            taken |= bit
            self.free ^= bit
        return taken

    def give_back(self, taken: int) -> None:
        self.free |= taken & self.all

    def lose(self, gpu: int) -> None:
        """It is there no more."""
        mask = self._of.pop(gpu, 0)
        self.all &= ~mask
        self.free &= ~mask


class Hold:
    """Tokens kept for one request that does not fit yet; the others may fill what it cannot use.

    With `ends`, (start, expected end, tokens) of what runs, it is known from when on it fits: who
    is gone by then may pass, and so may who leaves it enough. Without, nothing that it could use is
    given to anybody: the machine drains for it.
    """

    def __init__(
        self,
        machine: Machine,
        request: GpuRequest,
        now: float = 0.0,
        ends: Iterable[tuple[float, float, int]] | None = None,
    ) -> None:
        self._machine = machine
        self._now, self.until = now, -inf
        self._wanted = machine.could_use(request)
        self._spare = 0  # tokens of `_wanted` that it will not need when it starts
        if ends is None:
            return
        free = machine.free
        self.until = inf
        for end, mask in sorted(
            (max(end, now + _OVERDUE * (now - start)), mask) for start, end, mask in ends
        ):
            free |= mask
            if machine.fits(request, free):
                self.until = end
                if not request.devices:
                    self._spare = free.bit_count() - request.count
                break

    def lets_pass(self, request: GpuRequest, seconds: float) -> bool:
        """Whether a job that asks for this, and is to last so long, may start now."""
        return self._now + seconds <= self.until or self.overlap(request) <= self._spare

    def passed(self, overlap: int, seconds: float) -> None:
        """One that was let pass has started. `overlap`: as it was before that."""
        if self._now + seconds > self.until:
            self._spare -= overlap

    def overlap(self, request: GpuRequest) -> int:
        """How many of the kept tokens it would take at least."""
        if request.devices:
            return sum(bool(self._machine.tokens(gpu) & self._wanted) for gpu in request.devices)
        beside = (self._machine.free & ~self._wanted).bit_count()
        return max(0, request.count - beside)
