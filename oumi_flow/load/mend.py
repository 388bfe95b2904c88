"""Takes out of a document what the schema refuses, so that the rest is checked too.

A user wants all errors at once; what is taken out has been told, and must not lead to more. So
only what nothing else hangs on is taken out, and of its job no more than verb and dependencies is
looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from oumi_flow.errors import Problem
from oumi_flow.load.yaml_source import Node

# Without these a job has no name, or other texts lose their meaning.
_NEEDED_IN_JOB = frozenset({"name", "matrix", "uses", "vars"})
# Fields of the workflow that no job's text can name.
_SPARE_AT_TOP = frozenset({"description", "timeout", "tui", "notify", "cache", "warm"})


def take_out(root: Node, problems: Iterable[Problem]) -> set[int] | None:
    """Change `root` so that `problems` are gone; returns the ids of the jobs that lost something.

    None when the rest cannot be checked without what is wrong. The schema has to look again.
    """
    jobs = root.value.get("jobs") if isinstance(root.value, dict) else None
    if jobs is None or not isinstance(jobs.value, list):
        return None
    owners: dict[int, tuple[Node, str]] = {}
    for node in (*jobs.value, root):
        if not isinstance(node.value, dict):
            return None
        for key, value in node.value.items():
            if node is not root or key != "jobs":
                for at in _spots(node, key, value):
                    owners[at] = (node, key)
    lost: set[int] = set()
    for problem in problems:
        where = problem.where
        if where is None:
            return None
        owner = owners.get(where.line << 32 | where.column)
        if owner is None:
            return None
        node, key = owner
        if node is root:
            if key not in _SPARE_AT_TOP:
                return None
        elif key in _NEEDED_IN_JOB:
            return None
        else:
            lost.add(id(node))
        node.value.pop(key, None)
    return lost


def _spots(parent: Node, key: str, value: Node) -> Iterator[int]:
    """Where anything of one entry of a mapping stands."""
    yield (parent.keys or {}).get(key, parent.at)
    waiting = [value]
    while waiting:
        node = waiting.pop()
        yield node.at
        yield from (node.keys or {}).values()
        if isinstance(node.value, dict):
            waiting += node.value.values()
        elif isinstance(node.value, list):
            waiting += node.value
