"""Who needs whom: `depends_on` with its patterns and groups, and references to other jobs.

Knows names only, nothing of what lies where.
"""

from __future__ import annotations

import fnmatch
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from oumi_flow.errors import Problem
from oumi_flow.load.expand import Draft
from oumi_flow.load.template import Ref, Text
from oumi_flow.load.values import Scope, Session
from oumi_flow.load.yaml_source import Node
from oumi_flow.text import did_you_mean

_GLOB = re.compile(r"[*?\[]")


class Links:
    """Resolves names to jobs. `by_name` holds every job by its full name."""

    def __init__(
        self,
        session: Session,
        by_name: Mapping[str, Draft],
        groups: Mapping[str, list[str]],
    ) -> None:
        self.session = session
        self.by_name = by_name
        self.groups = groups  # `nightly` -> full names of its jobs
        self._sorted = sorted(by_name)
        self._matches: dict[tuple[int, str], list[str]] = {}

    def depends_on(self, draft: Draft) -> list[str]:
        """Full names of the jobs that `depends_on` names, in its order, without repeats."""
        found: dict[str, None] = {}
        for text, node in draft.texts("depends_on"):
            found.update(dict.fromkeys(self._named(text, node, draft.scope, draft.name)))
        return list(found)

    def group_needs(self, draft: Draft) -> list[str]:
        """What the groups that a job is in depend on."""
        found: dict[str, None] = {}
        for node, text, scope in draft.group_needs:
            found.update(dict.fromkeys(self._named(text, node, scope, draft.name)))
        return list(found)

    def check(self, ref: Ref, node: Node, draft: Draft) -> bool:
        """Whether the job that a reference names is there; notes a problem when it is not."""
        if not ref.job or ref.job in self.by_name:
            return True
        # A reference handed down by `vars` of a group was written in another file's words.
        scope: Scope | None = draft.scope
        while scope is not None and not ref.job.startswith(scope.prefix):
            scope = scope.outer
        assert scope is not None  # the outermost prefix is ""
        name = ref.job.removeprefix(scope.prefix)
        if name in scope.groups:
            message = f'"{name}" is a group of jobs, a reference needs one of them'
            hint = f"for example jobs.{name}/JOB.output_dir"
        else:
            message, hint = f'no job "{name}"', self._hint(name, scope)
        self.session.add(Problem(message, node.where_of(ref.written), hint))
        return False

    def _named(self, text: Text, node: Node, scope: Scope, own: str) -> list[str]:
        if text.broken:
            return []
        name = text.plain
        if name is None:
            self.session.fault(node, "depends_on: expected a job's name, got a reference to it")
            return []
        if name in scope.jobs:
            return [scope.prefix + name]
        if name in scope.groups:
            return scope.groups[name]
        full = scope.prefix + name
        if full in self.by_name:
            return [full]
        if full in self.groups:
            return self.groups[full]
        if _GLOB.search(name):
            found = [each for each in self._matching(name, scope) if each != own]
            if not found:
                self.session.fault(node, f'depends_on: no job matches "{name}"')
            return found
        self.session.fault(node, f'depends_on: no job "{name}"', self._hint(name, scope))
        return []

    def _matching(self, pattern: str, scope: Scope) -> list[str]:
        """Names that match, sorted: the order of jobs in a file shall not matter."""
        key = (id(scope), pattern)
        if key not in self._matches:
            start = scope.prefix + _GLOB.split(pattern, maxsplit=1)[0]
            match = re.compile(fnmatch.translate(scope.prefix.translate(_QUOTE) + pattern)).match
            found = self._matches[key] = []
            for number in range(bisect_left(self._sorted, start), len(self._sorted)):
                name = self._sorted[number]
                if not name.startswith(start):
                    break
                if match(name):
                    found.append(name)
        return self._matches[key]

    def _hint(self, name: str, scope: Scope) -> str:
        known = self._known(scope)
        sweep = sum(each.startswith(f"{name}-") for each in known)
        if sweep > 1:
            return f'"{name}-*" is all {sweep} of {name}'
        return did_you_mean(name, known) or f"jobs: {_some(known)}"

    def _known(self, scope: Scope) -> list[str]:
        return [*scope.jobs, *scope.groups]


# Job names hold none of these; a prefix is made of names.
_QUOTE = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def cycle_problem(cycle: list[str], by_name: Mapping[str, Draft], why: str = "") -> Problem:
    """`a → b → a`, at the first of them."""
    draft = by_name[cycle[0]]
    if len(cycle) == 2:
        return Problem(f'"{cycle[0]}" depends on itself{why}', draft.where)
    return Problem(f"jobs depend on each other in a circle: {' → '.join(cycle)}{why}", draft.where)
