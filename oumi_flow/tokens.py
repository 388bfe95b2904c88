"""GPU tokens: which GPUs are there, and who may use which. (Signatures first; bodies follow.)"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from oumi_flow.model import GpuRequest


@dataclass(frozen=True, slots=True)
class Gpu:
    """One thing that a token stands for: a GPU, or a MIG instance of one."""

    index: int  # NVML's number of the (physical) GPU
    uuid: str = ""  # "" without NVML
    name: str = ""
    memory_total: int = 0  # bytes
    memory_used: int = 0
    utilization: float = 0.0  # percent
    processes: tuple[int, ...] = ()  # pids that compute on it
    mig: str = ""  # UUID of the instance; "" for a whole GPU
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a token, as its lock file says. Empty strings where the file does not say."""

    index: int
    run: str = ""
    user: str = ""
    job: str = ""
    since: float = 0.0


class Lease:
    """Tokens held. `close` lets go of our copies only: what inherited them goes on holding."""

    devices: tuple[int, ...]  # ascending NVML numbers
    visible: str  # for CUDA_VISIBLE_DEVICES
    descriptors: tuple[int, ...]  # to pass to the job

    def close(self) -> None: ...


class TokenPool:
    def __init__(
        self,
        gpus: Sequence[Gpu],
        lock_dir: str = "",  # "": $OUMI_FLOW_LOCK_DIR, else /tmp/oumi-flow-locks
        *,
        run_id: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None: ...

    indices: tuple[int, ...]

    def try_lease(
        self,
        request: GpuRequest,
        allowed: Sequence[int] | None = None,  # None: all of the pool
        strategy: str = "dynamic",  # dynamic | fixed | load_balanced
        holder: str = "",  # the job's name
    ) -> Lease | None: ...

    def waiting_for(
        self, request: GpuRequest, allowed: Sequence[int] | None = None
    ) -> str:  # "GPU 0: held by run R, user U"; "" when it could be had now
        return ""

    def holders(self) -> tuple[Holder, ...]:  # of the tokens that are held now, by anybody
        return ()

    def set_aside(self, index: int) -> None:  # a lost GPU: not leased again by this pool
        ...


def discover(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    return ()


def assign_fixed(
    jobs: Iterable[tuple[str, float | None, int]],  # name, expected seconds, count of GPUs
    gpus: Sequence[int],
) -> dict[str, tuple[int, ...]]:
    return {}


def check_request(
    request: GpuRequest, available: Sequence[int], *, listed: bool = False
) -> str:  # "" or an error with advice; `listed`: the workflow names its GPUs
    return ""
