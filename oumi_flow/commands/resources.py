"""What a run may use: its GPUs and its slots."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from oumi_flow.errors import FlowError, Problem, WorkflowErrors
from oumi_flow.model import Decision, GpuRequest, Plan, Workflow
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from oumi_flow.events import Note
    from oumi_flow.tokens import Gpu


def slots(options: argparse.Namespace | None, workflow: Workflow, gpus: int) -> int:
    """How many jobs may run at once: as asked, else the cores, or the GPUs if they are more."""
    asked = options.max_parallel if options is not None else None
    if asked is None:
        asked = workflow.max_parallel
    if asked is not None:
        return int(asked)
    return max(len(os.sched_getaffinity(0)), gpus)


def listed_gpus(options: argparse.Namespace | None, workflow: Workflow) -> tuple[int, ...]:
    """The GPUs that flags or file name; () when they leave it open."""
    asked = asked_gpus(options) if options is not None else None
    return asked if asked is not None else workflow.gpus or ()


def asked_gpus(options: argparse.Namespace) -> tuple[int, ...] | None:
    """`--gpus 0,1` as numbers, `--gpus none` as (); None without the flag. Raises FlowError."""
    text = options.gpus
    if text is None:
        return None
    if text.strip() in ("", "none"):
        return ()
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise FlowError(f"--gpus {text}: expected numbers like 0,1, or `none`")
    return tuple(sorted({int(word) for word in words}))


def choose_gpus(plan: Plan, options: argparse.Namespace) -> tuple[tuple[Gpu, ...], list[Note]]:
    """The GPUs of this run, with what is worth a warning.

    NVML is asked only if a job that may run could use a GPU. Raises FlowError when a job can never
    get what it asks for, or a GPU that NVML does not see is named.
    """
    requests = {
        step.job.name: step.job.gpu
        for step in plan.steps
        if step.decision is not Decision.UP_TO_DATE and step.job.gpu is not None
    }
    if not requests:
        return (), []
    from oumi_flow.tokens import discover, survey

    listed = asked_gpus(options)
    if listed is None:
        listed = plan.workflow.gpus
    notes: list[Note] = []
    if listed is None:
        gpus = discover(os.environ)
    elif not listed:
        gpus = ()
    else:
        gpus, notes = _find(listed, survey(os.environ))
    _check_requests(requests, gpus, listed=listed is not None)
    return gpus, notes


def check_gpus(workflow: Workflow) -> None:
    """What of a workflow's GPUs is not on this host. Raises FlowError.

    Nothing to say where NVML sees none: the workflow may be meant for another host.
    """
    from oumi_flow.tokens import survey

    requests = {job.name: job.gpu for job in workflow.jobs if job.gpu is not None}
    if not requests and not workflow.gpus:
        return
    there = survey(os.environ)
    if not there:
        return
    if workflow.gpus:
        there, _ = _find(workflow.gpus, there)
    if workflow.gpus is None or workflow.gpus:
        _check_requests(requests, there, listed=workflow.gpus is not None)


def _check_requests(
    requests: Mapping[str, GpuRequest], gpus: Sequence[Gpu], *, listed: bool
) -> None:
    """Raises FlowError with all jobs that can never get what they ask for."""
    from oumi_flow.tokens import check_request

    indices = sorted({gpu.index for gpu in gpus})
    problems = []
    for name, request in requests.items():
        words, _, hint = check_request(request, indices, listed=listed).partition(": ")
        if words:
            problems.append(Problem(f'job "{name}": {words}', hint=hint))
    if problems:
        raise WorkflowErrors(problems)


def _find(listed: Sequence[int], there: Sequence[Gpu]) -> tuple[tuple[Gpu, ...], list[Note]]:
    from oumi_flow.events import Note
    from oumi_flow.tokens import Gpu

    if not there:
        words = ", ".join(map(str, listed))
        return tuple(Gpu(index) for index in listed), [
            Note(f"NVML sees no GPU here; trusting the list of GPUs: {words}", "warning")
        ]
    known = {gpu.index for gpu in there}
    unknown = [index for index in listed if index not in known]
    if unknown:
        raise FlowError(
            f"no GPU {', '.join(map(str, unknown))} here; NVML sees "
            f"{', '.join(map(str, sorted(known)))}",
            hint="correct `resources.gpus` or --gpus",
        )
    return tuple(gpu for gpu in there if gpu.index in listed), []
