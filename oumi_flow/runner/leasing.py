"""GPUs for one run: which request a job really makes, when to try for it, and what to say.

Knows the pool of tokens and which of them this run holds; not jobs' states nor their order. A try
never waits. A request that our own leases make hopeless is not tried at all; one that somebody
else's do is tried again after a pause that grows from 5 to 80 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from oumi_flow.model import Decision, GpuRequest, Job, Step
from oumi_flow.runner.schedule import effective_request
from oumi_flow.runner.terms import Lease, Options
from oumi_flow.tokens import assign_fixed

_FIRST_PAUSE, _LAST_PAUSE = 0.005, 0.08


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
    ) -> Lease | None: ...

    def waiting_for(
        self,
        request: GpuRequest,
        allowed: Sequence[int] | None = None,
        strategy: str = "dynamic",
    ) -> str: ...

    def set_aside(self, index: int) -> None: ...


class Leasing:
    def __init__(self, tokens: Tokens | None, options: Options) -> None:
        self._tokens = tokens
        capacity = tokens.capacity if tokens is not None else {}
        # Tokens by GPU, of those that still work.
        self.gpus = {gpu: capacity[gpu] for gpu in options.gpus if gpu in capacity}
        self._strategy = options.allocation
        self._bound: dict[str, GpuRequest] = {}
        self._ours: dict[int, int] = {}
        self._again: dict[GpuRequest, tuple[float, float]] = {}  # when, the pause before it

    def bind(self, steps: Sequence[Step], seconds: Mapping[str, float]) -> None:
        """With allocation `fixed`, say now which GPU each job gets."""
        if self._strategy == "fixed":
            auto = [step.job for step in steps if step.decision is not Decision.UP_TO_DATE]
            auto = [job for job in auto if self.request(job) == GpuRequest(1)]
            found = assign_fixed([(j.name, seconds[j.name], 1) for j in auto], tuple(self.gpus))
            self._bound = {job: GpuRequest(1, devices) for job, devices in found.items()}

    def request(self, job: Job) -> GpuRequest | None:
        """What this job asks of the pool; None for nothing."""
        bound = self._bound.get(job.name)
        if bound is not None and bound.devices[0] in self.gpus:
            return bound
        return effective_request(job.gpu, self.gpus)

    def try_lease(self, job: str, request: GpuRequest, now: float) -> Lease | None:
        """A lease, or None if there is none now (or it is too soon to ask again)."""
        if self._tokens is None or not self._hopeful(request):
            return None
        when, pause = self._again.get(request, (0.0, 0.0))
        if now < when:
            return None
        lease = self._tokens.try_lease(
            request, allowed=tuple(self.gpus), strategy=self._strategy, holder=job
        )
        if lease is None:
            pause = min(max(2 * pause, _FIRST_PAUSE), _LAST_PAUSE)
            self._again[request] = (now + pause, pause)
            return None
        self._again.pop(request, None)
        for device in lease.devices:
            self._ours[device] = self._ours.get(device, 0) + 1
        return lease

    def release(self, lease: Lease) -> None:
        """Let go of it. A supervisor that inherited the lock keeps it until it ends."""
        for device in lease.devices:
            self._ours[device] -= 1
            if not self._ours[device]:
                del self._ours[device]
        lease.close()
        self._again.clear()

    def next_try(self, request: GpuRequest) -> float | None:
        """The clock's time at which to ask again; None: when something is released."""
        if not self._hopeful(request) or request not in self._again:
            return None
        return self._again[request][0]

    def set_aside(self, device: int) -> None:
        """This GPU is lost: nobody gets it again in this run."""
        self.gpus.pop(device, None)
        if self._tokens is not None:
            self._tokens.set_aside(device)

    def waiting_for(self, request: GpuRequest) -> str:
        """Who outside this run is in the way, once that is more than a moment; else ""."""
        _, pause = self._again.get(request, (0.0, 0.0))
        if self._tokens is None or pause < _LAST_PAUSE:
            return ""
        return self._tokens.waiting_for(request, tuple(self.gpus), self._strategy)

    def _hopeful(self, request: GpuRequest) -> bool:
        left = {gpu: count - self._ours.get(gpu, 0) for gpu, count in self.gpus.items()}
        if request.devices:
            return all(left.get(device, 0) > 0 for device in request.devices)
        return sum(left.values()) >= request.count
