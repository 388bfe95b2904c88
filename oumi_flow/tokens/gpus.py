"""Which GPUs are there: asked of NVML, lazily, or of the file that stands in for it.

`OUMI_FLOW_FAKE_GPUS` names a JSON file that stands in for NVML. It is read anew at every question:
a list of objects with `index`, and optionally `uuid`, `name`, `memory_total` and `memory_used`
(bytes), `utilization` (percent), `processes` (`[{"pid": 12}, …]`, of this machine), `mig` (UUIDs of
instances, or objects with `uuid` and, of their own, memory and processes), `lost` (true or false).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence

from oumi_flow.dataclass import dataclass, replace
from oumi_flow.errors import FlowError
from oumi_flow.typed import Any


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

    @property
    def token(self) -> str:
        """The name of its lock file, without extension."""
        return f"gpu-{self.mig or self.uuid or self.index}"

    @property
    def visible(self) -> str:
        """Its name in CUDA_VISIBLE_DEVICES: the index, as vLLM fails on UUIDs, but for MIG."""
        return self.mig or str(self.index)

    @property
    def busyness(self) -> tuple[float, float]:
        """Share of memory in use, then utilisation: the smaller, the better to start on."""
        return (
            self.memory_used / self.memory_total if self.memory_total else 0.0,
            self.utilization,
        )


def discover(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The GPUs of this host, in NVML's order; those of CUDA_VISIBLE_DEVICES if that is set.

    A GPU split by MIG comes as its instances. Without NVML, or a working driver: none.
    Raises FlowError when OUMI_FLOW_FAKE_GPUS cannot be read.
    """
    gpus = survey(environ)
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    return gpus if visible is None else _visible(gpus, visible)


def survey(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """As `discover`, but all of them. Takes some milliseconds a GPU."""
    fake = environ.get("OUMI_FLOW_FAKE_GPUS")
    return _read_fake(fake) if fake else _ask_nvml()


def lost_of(indices: Sequence[int], environ: Mapping[str, str]) -> int | None:
    """Which of the GPUs of a job is lost, when its log says that one is. May ask NVML."""
    if len(indices) == 1:
        return indices[0]
    try:
        lost = {gpu.index for gpu in survey(environ) if gpu.lost} if indices else set()
    except FlowError:
        return None
    return min(lost.intersection(indices), default=None)


def _visible(gpus: tuple[Gpu, ...], listed: str) -> tuple[Gpu, ...]:
    """As CUDA reads it: numbers or beginnings of UUIDs, up to the first that means nothing."""
    found: dict[str, Gpu] = {}
    for word in (word.strip() for word in listed.split(",")):
        matches = [gpu for gpu in gpus if word and _is_named(gpu, word)]
        if not matches:
            break
        found |= {gpu.token: gpu for gpu in matches}
    return tuple(gpu for gpu in gpus if gpu.token in found)


def _is_named(gpu: Gpu, word: str) -> bool:
    if word.isdigit():
        return gpu.index == int(word)
    return any(name.startswith(word) for name in (gpu.uuid, gpu.mig) if name)


def _read_fake(path: str) -> tuple[Gpu, ...]:
    try:
        with open(path, encoding="utf-8") as file:
            entries = json.load(file)
        return tuple(gpu for entry in entries for gpu in _fake_gpu(entry))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlowError(
            f"OUMI_FLOW_FAKE_GPUS: {path} is no list of GPUs: {error}",
            hint="unset the variable to see the real ones",
        ) from error


def _fake_gpu(entry: Mapping[str, Any]) -> list[Gpu]:
    gpu = Gpu(
        index=int(entry["index"]),
        uuid=str(entry.get("uuid", "")),
        name=str(entry.get("name", "")),
        memory_total=int(entry.get("memory_total", 0)),
        memory_used=int(entry.get("memory_used", 0)),
        utilization=float(entry.get("utilization", 0.0)),
        processes=tuple(int(process["pid"]) for process in entry.get("processes", ())),
        lost=bool(entry.get("lost", False)),
    )
    return [_fake_instance(gpu, entry, one) for one in entry.get("mig", ())] or [gpu]


def _fake_instance(gpu: Gpu, entry: Mapping[str, Any], one: str | Mapping[str, Any]) -> Gpu:
    if isinstance(one, str):
        return replace(gpu, mig=one)
    (own,) = _fake_gpu({**entry, **one, "uuid": gpu.uuid, "mig": ()})
    return replace(own, mig=str(one["uuid"]))


def _ask_nvml() -> tuple[Gpu, ...]:
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        # Stays open once it is: opening takes most of the time, and is only counted after that.
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()  # no driver, no GPU, or none that works: then there is none for us
    try:
        count: int = pynvml.nvmlDeviceGetCount()
        return tuple(gpu for index in range(count) for gpu in _nvml_gpu(pynvml, index))
    except pynvml.NVMLError:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()  # to begin afresh next time
        return ()


def _nvml_gpu(nvml: Any, index: int) -> list[Gpu]:
    lost = False

    def ask(question: Callable[..., Any], *args: Any) -> Any:
        """None for what this GPU, driver or right does not answer."""
        nonlocal lost
        try:
            return question(*args)
        except nvml.NVMLError as error:
            lost = lost or getattr(error, "value", None) == nvml.NVML_ERROR_GPU_IS_LOST
            return None

    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError:
        return [Gpu(index, lost=True)]  # fallen off the bus
    memory = ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    rates = ask(nvml.nvmlDeviceGetUtilizationRates, handle)
    gpu = Gpu(
        index=index,
        uuid=uuid,
        name=_text(ask(nvml.nvmlDeviceGetName, handle) or ""),
        memory_total=memory.total if memory else 0,
        memory_used=memory.used if memory else 0,
        utilization=float(rates.gpu) if rates else 0.0,
        processes=_pids(ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle)),
    )
    return [replace(one, lost=lost) for one in _nvml_instances(nvml, ask, handle, gpu) or [gpu]]


def _nvml_instances(nvml: Any, ask: Callable[..., Any], handle: Any, gpu: Gpu) -> list[Gpu]:
    mode = ask(nvml.nvmlDeviceGetMigMode, handle)
    if not mode or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return []
    instances = []
    for number in range(ask(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        one = ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
        if one is None:
            continue
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, one)
        instances.append(
            replace(
                gpu,
                mig=_text(nvml.nvmlDeviceGetUUID(one)),
                memory_total=memory.total if memory else 0,
                memory_used=memory.used if memory else 0,
                processes=_pids(ask(nvml.nvmlDeviceGetComputeRunningProcesses, one)),
            )
        )
    return instances


def _pids(processes: Any) -> tuple[int, ...]:
    return tuple(int(process.pid) for process in processes or ())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
