"""How an attempt ended, in our words. Knows exits and logs; not what becomes of the job."""

from __future__ import annotations

from oumi_flow.executors.base import Exit
from oumi_flow.model import Job
from oumi_flow.runner.terms import Ending
from oumi_flow.text import limit
from oumi_flow.typed import NamedTuple


class End(NamedTuple):
    """An attempt that did not succeed. `detail` is for its record, `cause` for people now."""

    record: str  # state in attempt.json
    detail: str  # `exit 1`
    cause: str  # `exit 1: CUDA out of memory`
    retryable: bool = True
    lost_gpu: bool = False


def end_of(job: Job, exit: Exit, log: str, ending: Ending | None) -> End | None:
    """Why this is no success; None when the process itself has nothing against it."""
    if exit.code == 0 and not (exit.cancelled or exit.timed_out or exit.lost or exit.error):
        return None
    if ending is not None:
        return End(ending.record, ending.detail, ending.detail)
    if exit.error:
        return End("failed", exit.error, exit.error)
    if exit.lost:
        return End("interrupted", "lost", "its supervisor was killed")
    if exit.timed_out:
        words = f"timed out after {limit(job.timeout or 0.0)}"
        return End("failed", words, words)
    if exit.cancelled:
        return End("cancelled", "", "cancelled")
    from oumi_flow.diagnose import diagnose  # its patterns take a while to compile

    detail = f"exit {exit.code}" if exit.signal is None else f"killed by signal {exit.signal}"
    found = diagnose(
        log,
        exit_code=exit.code,
        signal=exit.signal,
        oom_kills=exit.oom_kills,
        oom_scope=exit.oom_scope,
    )
    cause = detail
    if found.cause.startswith(detail):
        cause = found.cause
    elif found.cause:
        cause = f"{detail}: {found.cause}"
    return End("failed", detail, cause, found.retryable, found.lost_gpu)
