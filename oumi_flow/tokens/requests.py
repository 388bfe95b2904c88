"""What can be said of requests for GPUs beforehand: whether they can ever be met, and how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from oumi_flow.model import GpuRequest


def assign_fixed(
    jobs: Iterable[tuple[str, float | None, int]], gpus: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Which GPUs each job is bound to: the longest first, onto the least loaded.

    `jobs`: name, expected seconds (None: as the mean of the others, or 1), count of GPUs. A count
    beyond what there is gets them all.
    """
    jobs = list(jobs)
    known = [seconds for _, seconds, _ in jobs if seconds is not None]
    usual = sum(known) / len(known) if known else 1.0
    load = dict.fromkeys(gpus, 0.0)
    bound: dict[str, tuple[int, ...]] = {}
    expected = [(name, usual if seconds is None else seconds, n) for name, seconds, n in jobs]
    for name, seconds, count in sorted(expected, key=lambda job: -job[1]):
        chosen = sorted(load, key=lambda gpu: (load[gpu], gpu))[: max(1, count)]
        for gpu in chosen:
            load[gpu] += seconds
        bound[name] = tuple(sorted(chosen))
    return bound


def check_request(request: GpuRequest, available: Sequence[int], *, listed: bool = False) -> str:
    """ "" when such a request can ever be met, else an error with advice.

    `available`: indices of the workflow's GPUs. `listed`: the workflow names them itself.
    """
    if request.count < 0:
        return ""  # auto if there are any
    wanted = max(request.count, len(request.devices))
    if not available and wanted:
        return (
            f"it wants {_gpus(request)}, and there is no GPU here: say `gpu: none` to run on the"
            " CPU, or list this host's GPUs as `resources: {gpus: [0]}` of the workflow"
        )
    there = "those to use are" if listed else "this host has"
    names = ", ".join(map(str, available))
    unknown = [str(index) for index in request.devices if index not in available]
    if unknown:
        return f"it wants GPU {', '.join(unknown)}, and {there} {names}"
    if wanted > len(available):
        return f"it wants {wanted} GPUs at once, and {there} {len(available)} ({names})"
    return ""


def _gpus(request: GpuRequest) -> str:
    if request.devices:
        return f"GPU {', '.join(map(str, request.devices))}"
    return "a GPU" if request.count == 1 else f"{request.count} GPUs"
