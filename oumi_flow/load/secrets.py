"""Which variables are secret, and how their values get into a job's environment at its start.

Imports nothing that a run without anything to do would not want.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress

from oumi_flow.pattern import pattern
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oumi_flow.model import Workflow

_SECRET_WORDS = frozenset({"TOKEN", "KEY", "APIKEY", "SECRET", "PASSWORD", "CREDENTIALS"})
_TEMPLATE = pattern(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def is_secret_name(name: str) -> bool:
    """`HF_TOKEN`, `OPENAI_API_KEY`; not `TOKENIZERS_PARALLELISM`."""
    return not _SECRET_WORDS.isdisjoint(name.upper().split("_"))


def is_written_out(template: str) -> bool:
    """Whether a `Job.secret_env` template says more than the names of variables."""
    return _TEMPLATE.sub(lambda match: "$" if match[1] is None else match[2] or "", template) != ""


def templates_of(workflow: Workflow) -> set[str]:
    """The templates of all secrets of a workflow's jobs."""
    return {text for job in workflow.jobs for text in job.secret_env.values()}


def shows_secret(
    templates: Iterable[str], environ: Mapping[str, str], texts: Iterable[str | None]
) -> bool:
    """Whether one of these texts, which are to be kept, has the value of a secret in it."""
    values = set()
    for template in templates:
        with suppress(KeyError):  # not set: who wants to start its job will say so
            values.add(fill_secrets(template, environ))
    values.discard("")
    return bool(values) and any(value in text for text in texts if text for value in values)


def fill_secrets(template: str, environ: Mapping[str, str]) -> str:
    """The value of a `Job.secret_env` template. Raises KeyError with the name of a missing one."""

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if name is None:
            return "$"
        if default is not None:
            return environ.get(name) or default
        return environ[name]

    return _TEMPLATE.sub(value, template)
