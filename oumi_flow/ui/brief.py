"""What is said without a screen: alone here, so that saying it costs no imports."""

from __future__ import annotations

from collections.abc import Sequence


def no_op(workflow: str, jobs: int) -> str:
    """`sft-sweep: up to date (10 jobs)`."""
    from oumi_flow.text import count

    return f"{workflow}: up to date ({count(jobs, 'job')})"


def leftovers(names: Sequence[str], path: str) -> str:
    """That there are folders of jobs no longer in the file, and how to be rid of them."""
    from oumi_flow.text import count, quoted

    shown = ", ".join(names[:5]) + (f" (+{len(names) - 5} more)" if len(names) > 5 else "")
    folders = count(len(names), "folder")
    return (
        f"{folders} of jobs that are no longer in the file: {shown}; "
        f"`oumi-flow clean {quoted(path)} --orphans` removes them"
    )
