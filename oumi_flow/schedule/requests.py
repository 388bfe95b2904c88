"""What a job's wish for GPUs comes to in a run, and whether it can ever be met there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from oumi_flow.model import GpuRequest


def effective_request(request: GpuRequest | None, gpus: Collection[int]) -> GpuRequest | None:
    """What to lease in a run that has `gpus`. A count of -1 means: one, if there is any."""
    if request is None or request.count == 0:
        return None
    if request.count < 0:
        return GpuRequest(1) if gpus else None
    return request


def impossible(request: GpuRequest | None, gpus: Mapping[int, int]) -> str:
    """Why a run with so many tokens of each GPU can never serve the request; "" when it can."""
    if request is None:
        return ""
    if not gpus:
        return "needs a GPU, and this run has none"
    missing = sorted(set(request.devices) - set(gpus))
    if missing:
        has = ", ".join(map(str, sorted(gpus)))
        return f"needs GPU {', '.join(map(str, missing))}, and this run has {has}"
    if request.count > (total := sum(gpus.values())):
        return f"needs {request.count} GPUs, and this run has {total}"
    return ""
