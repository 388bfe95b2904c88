"""The tokens of some GPUs as one run sees them: leases, all or none, without waiting."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence

from oumi_flow.model import GpuRequest
from oumi_flow.tokens.gpus import Gpu, survey
from oumi_flow.tokens.locks import (
    Holder,
    is_same_file,
    open_lock,
    prepare_folder,
    read_holder,
    useless,
    write_holder,
)

# Shared by all users, so not $TMPDIR, which often is one user's or one job's.
DEFAULT_LOCK_DIR = "/tmp/oumi-flow-locks"

_SURVEY_KEPT = 1.0  # seconds; NVML takes some milliseconds a GPU


class Lease:
    """Tokens held. `close` lets go of our copies only: what inherited them goes on holding."""

    def __init__(self, gpus: Sequence[Gpu], descriptors: Sequence[int]) -> None:
        self.gpus = tuple(gpus)
        self.devices = tuple(gpu.index for gpu in gpus)  # ascending NVML numbers
        self.visible = ",".join(gpu.visible for gpu in gpus)  # for CUDA_VISIBLE_DEVICES
        self.descriptors = tuple(descriptors)  # to pass to the job
        self._opened = time.monotonic()
        self._closed: float | None = None

    @property
    def closed(self) -> bool:
        return self._closed is not None

    @property
    def seconds(self) -> float:
        """How long it was, or is so far."""
        return (self._closed or time.monotonic()) - self._opened

    def close(self) -> None:
        """Never unlocks: the lock is that of the job too, which may live on. Idempotent."""
        if self._closed is None:
            self._closed = time.monotonic()
        descriptors, self.descriptors = self.descriptors, ()
        for fd in descriptors:
            os.close(fd)


class TokenPool:
    """The tokens of some GPUs, as one run sees them. Not for several threads at once.

    Whoever comes first gets them. Fair order among runs needs no more than a `tickets` folder
    beside the locks: `try_lease` is the one place that would ask it.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        lock_dir: str = "",
        *,
        run_id: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`lock_dir` "": $OUMI_FLOW_LOCK_DIR, else /tmp/oumi-flow-locks. Touches nothing yet.

        `environ` is used for that, and to ask NVML (or its stand-in) again.
        """
        self._environ = os.environ if environ is None else environ
        self._root = lock_dir or self._environ.get("OUMI_FLOW_LOCK_DIR") or DEFAULT_LOCK_DIR
        self._folder = ""  # known once it is there
        self._run_id = run_id
        self._gpus = tuple(sorted(gpus, key=lambda gpu: (gpu.index, gpu.mig)))
        self._aside: set[int] = {gpu.index for gpu in gpus if gpu.lost}
        self._leases: list[Lease] = []
        self._past_seconds: dict[str, float] = {}  # token -> of leases that are closed
        self._survey: tuple[float, tuple[Gpu, ...]] = (0.0, ())
        self.indices = tuple(sorted({gpu.index for gpu in gpus}))
        # How many tokens each index has: more than one where a GPU is split into instances.
        self.capacity = {index: [g.index for g in gpus].count(index) for index in self.indices}

    def try_lease(
        self,
        request: GpuRequest,
        allowed: Sequence[int] | None = None,
        strategy: str = "dynamic",
        holder: str = "",
    ) -> Lease | None:
        """All tokens of the request or none (None), without waiting.

        `allowed`: GPUs to choose from, None for all of the pool. `strategy`: `dynamic` takes any,
        `fixed` is `dynamic` for whoever already put the devices in the request, `load_balanced`
        the least busy and none that a stranger uses. `holder`: the job's name, for others to read.
        A count of -1 ("auto") is one GPU. Raises FlowError when the lock folder is of no use.
        """
        eligible = self._eligible(request, allowed)
        if strategy == "load_balanced":
            eligible = self._least_busy_first(eligible)
        if request.devices:
            devices = sorted(set(request.devices))
            groups = [[gpu for gpu in eligible if gpu.index == index] for index in devices]
            taken = self._take_one_of_each(groups)
        else:
            taken = self._take_any(eligible, 1 if request.count < 0 else request.count)
        if taken is None:
            return None
        taken.sort(key=lambda pair: (pair[0].index, pair[0].mig))
        for _, descriptor in taken:
            write_holder(descriptor, self._run_id, holder)
        lease = Lease([gpu for gpu, _ in taken], [descriptor for _, descriptor in taken])
        self._leases.append(lease)
        return lease

    def waiting_for(
        self,
        request: GpuRequest,
        allowed: Sequence[int] | None = None,
        strategy: str = "dynamic",
    ) -> str:
        """`GPU 0: held by run R, user U`, for each GPU in the way; "" when none seems to be."""
        eligible = self._eligible(request, allowed)
        held = self._holders(eligible)
        words = {holder.index: str(holder) for holder in held}
        names = request.devices or tuple(self.indices if allowed is None else allowed)
        words |= dict.fromkeys(self._aside & set(names), "lost")
        if strategy == "load_balanced":
            for gpu in self._fresh(eligible):
                if gpu.processes and gpu.index not in words:
                    words[gpu.index] = (
                        f"in use by process {gpu.processes[0]}, which is no job of ours"
                    )
        return "; ".join(f"GPU {index}: {words[index]}" for index in sorted(words))

    def holders(self) -> tuple[Holder, ...]:
        """Of the tokens that anybody holds now, in order."""
        return tuple(self._holders(self._gpus))

    def set_aside(self, index: int) -> None:
        """A GPU that was lost: this pool leases it no more."""
        self._aside.add(index)

    # choosing

    def _eligible(self, request: GpuRequest, allowed: Sequence[int] | None) -> list[Gpu]:
        choice = set(self.indices if allowed is None else allowed) - self._aside
        if request.devices:
            choice &= set(request.devices)
        return [gpu for gpu in self._gpus if gpu.index in choice]

    def _least_busy_first(self, gpus: list[Gpu]) -> list[Gpu]:
        """By NVML; by the time we kept them busy where there is none. Strangers' are left out.

        A GPU whose token is free has no process of any run of ours: whoever computes on it is a
        stranger. So only the free ones are asked about.
        """
        free = [gpu for gpu in gpus if read_holder(self._path(gpu), gpu.index) is None]
        usable = [gpu for gpu in self._fresh(free) if not gpu.lost and not gpu.processes]
        spent = self._spent()
        return sorted(
            usable, key=lambda gpu: (gpu.busyness, spent.get(gpu.token, 0.0), gpu.index, gpu.mig)
        )

    def _fresh(self, gpus: list[Gpu]) -> list[Gpu]:
        """The same, with what NVML says of them now."""
        if not gpus:
            return []
        asked, seen = self._survey
        if "OUMI_FLOW_FAKE_GPUS" in self._environ or time.monotonic() - asked > _SURVEY_KEPT:
            seen = survey(self._environ)
            self._survey = (time.monotonic(), seen)
        now = {gpu.token: gpu for gpu in seen}
        return [now.get(gpu.token, gpu) for gpu in gpus]

    def _spent(self) -> dict[str, float]:
        """Seconds that this pool has held each token."""
        for lease in [lease for lease in self._leases if lease.closed]:
            self._leases.remove(lease)
            _add_time(self._past_seconds, lease)
        spent = dict(self._past_seconds)
        for lease in self._leases:
            _add_time(spent, lease)
        return spent

    # locking

    def _take_any(self, gpus: Sequence[Gpu], wanted: int) -> list[tuple[Gpu, int]] | None:
        taken: list[tuple[Gpu, int]] = []
        for position, gpu in enumerate(gpus):
            if len(taken) == wanted or len(taken) + len(gpus) - position < wanted:
                break
            descriptor = self._take(gpu)
            if descriptor is not None:
                taken.append((gpu, descriptor))
        if len(taken) == wanted:
            return taken
        _let_go(taken)
        return None

    def _take_one_of_each(self, groups: Sequence[Sequence[Gpu]]) -> list[tuple[Gpu, int]] | None:
        taken: list[tuple[Gpu, int]] = []
        for group in groups:
            one = self._take_any(group, 1)  # MIG: whichever instance is free
            if one is None:
                _let_go(taken)
                return None
            taken += one
        return taken

    def _take(self, gpu: Gpu) -> int | None:
        """The locked descriptor of its token, or None when somebody has it."""
        from filelock import lock_descriptor

        path = self._path(gpu)
        while True:
            fd = open_lock(path)
            try:
                if not lock_descriptor(fd, blocking=False):
                    os.close(fd)
                    return None
                if is_same_file(fd, path):
                    return fd
            except OSError as error:
                os.close(fd)
                raise useless(self._root, error.strerror) from error
            os.close(fd)  # a cleaner of /tmp removed the file between: take the new one

    def _path(self, gpu: Gpu) -> str:
        if not self._folder:
            self._folder = prepare_folder(self._root)
        return os.path.join(self._folder, f"{gpu.token}.lock")

    def _holders(self, gpus: Iterable[Gpu]) -> list[Holder]:
        found = []
        for gpu in gpus:
            holder = read_holder(self._path(gpu), gpu.index)
            if holder is not None:
                found.append(holder)
        return found


def _let_go(taken: list[tuple[Gpu, int]]) -> None:
    for _, descriptor in taken:
        os.close(descriptor)


def _add_time(spent: dict[str, float], lease: Lease) -> None:
    for gpu in lease.gpus:
        spent[gpu.token] = spent.get(gpu.token, 0.0) + lease.seconds
