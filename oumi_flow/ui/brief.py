"""The one line of a run that has nothing to do; alone here, so that saying it costs no imports."""

from __future__ import annotations


def no_op(workflow: str, jobs: int) -> str:
    """`sft-sweep: up to date (10 jobs)`."""
    from oumi_flow.text import count

    return f"{workflow}: up to date ({count(jobs, 'job')})"
