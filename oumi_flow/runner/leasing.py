"""GPUs for one run: which request a job really makes, when to try for it, and what to say.

Knows the pool of tokens and which of them this run holds; not jobs' states nor their order. A try
never waits. A request that our own leases make hopeless is not tried at all; one that somebody
else's do is tried again soon, how soon the pool says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from oumi_flow.dataclass import dataclass
from oumi_flow.model import Decision, GpuRequest, Job, Step
from oumi_flow.runner.terms import Lease, Options
from oumi_flow.schedule.machine import Hold, Machine
from oumi_flow.schedule.requests import effective_request
from oumi_flow.typed import NamedTuple, Protocol

# Seconds. What a job of ours has let go of is free in a moment, so the first pauses are short.
_FIRST_PAUSE, _A_MOMENT = 0.002, 0.15
# A wide job is overtaken for so many seconds at least, and for so many times what the longest of
# the others takes: while the machine drains for it GPUs lie idle.
_PATIENCE, _TURNS = 60.0, 4


class Tokens(Protocol):
    """tokens.TokenPool, as far as the loop needs it. Raises FlowError when it cannot serve."""

    @property
    def capacity(self) -> Mapping[int, int]:
        """How many tokens there are of each GPU: several of one that is split."""

    def try_lease(
        self,
        request: GpuRequest,
        allowed: Sequence[int] | None = None,
        strategy: str = "dynamic",
        holder: str = "",
        *,
        waited: float | None = None,
        before: Mapping[GpuRequest, float] | None = None,
    ) -> Lease | None: ...

    def pause(self, request: GpuRequest) -> float:
        """Seconds after which another try is worth it, for one that got nothing."""

    def leave(self, request: GpuRequest) -> None:
        """It is not waited for any more, or not now."""

    def waiting_for(self, request: GpuRequest, allowed: Sequence[int] | None = None) -> str: ...

    def free_of_strangers(self, allowed: Sequence[int]) -> tuple[int, ...]:
        """Those GPUs on which nobody computes who holds no token; all, if there is none."""

    def set_aside(self, index: int) -> None: ...

    def take_last(self, gpus: Collection[int]) -> None:
        """Some jobs want these by number: whoever has a choice takes the others first."""


@dataclass(slots=True)
class _Wait:
    """Of a request that got nothing: since when (the clock's time), when to ask again.

    `since` leaves out what passed while there was no slot; `came` does not.
    """

    since: float
    came: float
    due: float = 0.0
    pause: float = 0.0


class _Held(NamedTuple):
    """Tokens of ours: since when, until when they may be wanted, and which."""

    since: float
    until: float
    tokens: int


class Leasing:
    def __init__(self, tokens: Tokens | None, options: Options) -> None:
        self._tokens = tokens
        capacity = tokens.capacity if tokens is not None else {}
        # Tokens by GPU, of those that still work.
        self.gpus = {gpu: capacity[gpu] for gpu in options.gpus if gpu in capacity}
        self._strategy = options.allocation
        self._bound: dict[str, GpuRequest] = {}
        self.machine = Machine(self.gpus)
        self.reserves = False  # whether tokens are kept for wide jobs from the start
        self._held: dict[int, _Held] = {}  # by the lease's id
        self._seconds: Mapping[str, float] = {}
        self._longest = 0.0  # that we have held tokens, as far as was seen
        self._waits: dict[GpuRequest, _Wait] = {}
        self._parked: float | None = None  # since when there is no slot

    def bind(self, steps: Sequence[Step], seconds: Mapping[str, float]) -> None:
        """Take in how long jobs may take; with allocation `fixed`, say now which GPU each gets."""
        self._seconds = seconds
        asked = [step.job.gpu for step in steps if step.decision is not Decision.UP_TO_DATE]
        named = {gpu for request in asked if request is not None for gpu in request.devices}
        if named and self._tokens is not None:
            self._tokens.take_last(named)
        if self._strategy == "fixed":
            from oumi_flow.tokens import assign_fixed

            auto = [step.job for step in steps if step.decision is not Decision.UP_TO_DATE]
            auto = [job for job in auto if self.request(job) == GpuRequest(1)]
            gpus = tuple(self.gpus)
            if auto and self._tokens is not None:
                gpus = self._tokens.free_of_strangers(gpus)
            found = assign_fixed([(j.name, seconds[j.name], 1) for j in auto], gpus)
            self._bound = {job: GpuRequest(-1, devices) for job, devices in found.items()}

    def request(self, job: Job) -> GpuRequest | None:
        """What this job asks of the pool; None for nothing."""
        bound = self._bound.get(job.name)
        if bound is not None and bound.devices[0] in self.gpus:
            return bound
        return effective_request(job.gpu, self.gpus)

    def try_lease(
        self, job: str, request: GpuRequest, now: float, before: Sequence[GpuRequest] = ()
    ) -> Lease | None:
        """A lease, or None if there is none now (or it is too soon to ask again).

        `before`: requests of jobs that go before this one, and have got nothing.
        """
        if self._tokens is None:
            return None
        self._unpark(now)
        wait = self._waits.setdefault(request, _Wait(now, now))
        if not self._hopeful(request):
            self._tokens.leave(request)
            return None
        if now < wait.due:
            return None
        lease = self._tokens.try_lease(
            request,
            allowed=tuple(self.gpus),
            strategy=self._strategy,
            holder=job,
            waited=now - wait.since,
            # One that only ours are in the way of is no matter of the pool: see `hold`.
            before={
                other: now - self._waits[other].since if self._hopeful(other) else 0.0
                for other in before
                if other in self._waits  # else it was kept back, and asked for nothing
            },
        )
        if lease is None:
            wait.pause = min(max(2 * wait.pause, _FIRST_PAUSE), self._tokens.pause(request))
            wait.due = now + wait.pause
            return None
        # Whoever of us wants the same next stands behind all that wait now.
        del self._waits[request]
        taken = self.machine.occupy(lease.devices)
        self._held[id(lease)] = _Held(now, now + self._seconds.get(job, 0.0), taken)
        return lease

    def release(self, lease: Lease) -> None:
        """Let go of it. A supervisor that inherited the lock keeps it until it ends."""
        self.machine.give_back(self._held.pop(id(lease)).tokens)
        lease.close()
        for wait in self._waits.values():
            wait.due = wait.pause = 0.0

    @property
    def busy(self) -> int:
        """How many tokens this run holds."""
        return (self.machine.all & ~self.machine.free).bit_count()

    def hold(self, request: GpuRequest, now: float) -> Hold | None:
        """What of our tokens is kept for a wide job that got nothing and goes before the others.

        As it is reserved, or once it has been overtaken for long, so that it does not starve.
        """
        wait = self._waits.get(request)
        if wait is None or abs(request.count) < 2:
            return None
        for one in self._held.values():
            self._longest = max(self._longest, now - one.since)
        if now - wait.came >= max(_PATIENCE, _TURNS * self._longest):
            return Hold(self.machine, request)
        if self.reserves:
            return Hold(self.machine, request, now, self._held.values())
        return None

    def next_try(self, request: GpuRequest) -> float | None:
        """The clock's time at which to ask again; None: when something is released."""
        if not self._hopeful(request) or request not in self._waits:
            return None
        return self._waits[request].due

    def park(self, now: float) -> None:
        """There is no slot: nobody waits for a GPU, who has no use for it, and nobody ages."""
        if self._parked is None and self._tokens is not None:
            self._parked = now
            for request in self._waits:
                self._tokens.leave(request)

    def _unpark(self, now: float) -> None:
        if self._parked is not None:
            for wait in self._waits.values():
                wait.since += now - self._parked
                wait.due = wait.pause = 0.0
            self._parked = None

    def keep(self, requests: Sequence[GpuRequest]) -> None:
        """Only these are still waited for."""
        for request in [request for request in self._waits if request not in requests]:
            del self._waits[request]
            if self._tokens is not None:
                self._tokens.leave(request)

    def set_aside(self, device: int) -> None:
        """This GPU is lost: nobody gets it again in this run."""
        self.gpus.pop(device, None)
        self.machine.lose(device)
        if self._tokens is not None:
            self._tokens.set_aside(device)

    def waiting_for(self, request: GpuRequest, now: float) -> str:
        """Who outside this run is in the way, once that is more than a moment; else ""."""
        wait = self._waits.get(request)
        if self._tokens is None or wait is None or now - wait.since < _A_MOMENT:
            return ""
        return self._tokens.waiting_for(request, tuple(self.gpus))

    def _hopeful(self, request: GpuRequest) -> bool:
        return self.machine.fits(request)
