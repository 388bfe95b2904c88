"""The numbers of jobs as rows, for `metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from oumi_flow.errors import FlowError
from oumi_flow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oumi_flow.commands.opening import Opened
    from oumi_flow.model import Job
    from oumi_flow.ui.tables import MetricRow


def rows(opened: Opened, jobs: Sequence[str], earlier: str | None) -> list[MetricRow]:
    """One row a job that has numbers: those of its marker, else the latest of its running attempt.

    `earlier` is a run whose numbers stand beside them. Raises FlowError for unknown names.
    """
    from oumi_flow.planner import find_jobs
    from oumi_flow.ui.tables import MetricRow

    workflow, store = opened.workflow, opened.store
    names = [job.name for job in workflow.jobs]
    chosen = find_jobs(jobs, names) if jobs else set(names)
    before = _of_run(opened, earlier) if earlier is not None else None
    found = []
    for job in workflow.jobs:
        if job.name not in chosen:
            continue
        trace = store.trace(job.name)
        values: dict[str, Any] = dict(trace.metrics) if trace is not None else {}
        progress = store.read_progress(job.name)
        if progress is not None:
            # A marker has numbers alone: what came to no number in the end is told all the same.
            told = progress.metrics.items()
            values |= {
                name: value
                for name, value in told
                if trace is None or (name not in values and not isfinite(value))
            }
        found.append(
            MetricRow(
                job=job.name,
                metrics=values,
                config=config_of(job),
                verb=job.verb,
                before=None if before is None else before.get(job.name, {}),
            )
        )
    return found


def config_of(job: Job) -> dict[str, Any]:
    """The config as the job gets it: what an upstream makes by its path, not by its symbol."""
    paths = {item.key: item.path for item in job.inputs}
    config: dict[str, Any] = dict(job.parts.get("config") or {})
    return {
        key: paths.get(value, value) if isinstance(value, str) else value
        for key, value in config.items()
    }


def _of_run(opened: Opened, run_id: str) -> dict[str, dict[str, Any]]:
    """The numbers that a run told, by job; of jobs it did not run, none."""
    from oumi_flow.events import JobFinished
    from oumi_flow.text import did_you_mean

    known = opened.store.runs()
    if run_id not in known:
        raise FlowError(
            f"no run {run_id} in {opened.workflow.output_dir}",
            hint=did_you_mean(run_id, known) or f"there are: {', '.join(known[:5]) or 'none'}",
        )
    return {
        event.job: dict(event.metrics)
        for event in opened.store.read_events(run_id)
        if isinstance(event, JobFinished) and event.metrics
    }
