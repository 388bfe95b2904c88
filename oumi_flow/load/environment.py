"""A job's environment: what it is given, what of that counts, and what must not be kept."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

from oumi_flow.load.making import MARK, Making, Workshop
from oumi_flow.load.resources import GPU_VARIABLE
from oumi_flow.load.template import Ref
from oumi_flow.verbs.places import to_workdir

# Variables that say where reports go, not what is made; those of GPUs are a resource.
_REPORTING = re.compile(
    "|".join(
        fnmatch.translate(pattern)
        for pattern in ("WANDB_*", "MLFLOW_*", "*_LOG_LEVEL", "TQDM_*", "NCCL_DEBUG")
    )
)


def environment(making: Making, workshop: Workshop) -> tuple[dict[str, str], dict[str, str]]:
    """What the job's environment holds, and the templates of what must not be kept of it."""
    env: dict[str, str] = {}
    secret_env: dict[str, str] = {}

    def fill(ref: Ref) -> str:
        if ref.what == "name":
            return making.name
        return to_workdir(workshop.real_path(ref, making), making.workdir)

    for name, text in making.env.items():
        if any(text.secrets):
            secret_env[name] = text.secret_template(fill)
        else:
            env[name] = workshop.real(text, making, for_workdir=True)
    return env, secret_env


def plain_env(making: Making) -> dict[str, str] | None:
    """The environment where it is all plain text, one mapping for all jobs if it is the same."""

    def all_plain() -> dict[str, str] | None:
        found: dict[str, str] = {}
        for name, text in making.env.items():
            if text.plain is None or MARK in text.plain:
                return None
            found[name] = text.plain
        return found

    return making.draft.entry.once("plain env", ("env",), all_plain)


def counted_env(env: Mapping[str, str | None]) -> dict[str, str | None]:
    """Those variables that may change a result, sorted."""
    return {
        name: env[name]
        for name in sorted(env)
        if name != GPU_VARIABLE and not _REPORTING.match(name)
    }
