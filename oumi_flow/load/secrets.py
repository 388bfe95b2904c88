"""Which variables are secret, and how their values get into a job's environment at its start.

Imports nothing that a run without anything to do would not want.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET_WORDS = frozenset({"TOKEN", "KEY", "APIKEY", "SECRET", "PASSWORD", "CREDENTIALS"})
_TEMPLATE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def is_secret_name(name: str) -> bool:
    """`HF_TOKEN`, `OPENAI_API_KEY`; not `TOKENIZERS_PARALLELISM`."""
    return not _SECRET_WORDS.isdisjoint(name.upper().split("_"))


def is_written_out(template: str) -> bool:
    """Whether a `Job.secret_env` template says more than the names of variables."""
    return _TEMPLATE.sub(lambda match: "$" if match[1] is None else match[2] or "", template) != ""


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
