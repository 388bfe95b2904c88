"""What the process of a job is given: its environment, its argv, what to mask in its log.

Changes nothing of our own process. Secret values exist here and in the child only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from oumi_flow import verbs
from oumi_flow.errors import FlowError
from oumi_flow.executors.base import Direct
from oumi_flow.load.secrets import fill_secrets
from oumi_flow.model import Job
from oumi_flow.runner.terms import Lease

_FIXED = {
    "PYTHONUNBUFFERED": "1",  # a traceback on a buffered stdout is lost with the process
    "DO_NOT_TRACK": "1",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the numbers that NVML and our tokens go by
}


class Children:
    """Makes environments on top of the one of the shell."""

    def __init__(self, environ: Mapping[str, str], oumi: tuple[str, ...]) -> None:
        self._environ = environ
        self._base = {**environ, **_FIXED, "PATH": _path(environ)}
        self._oumi = oumi
        self._taught = verbs.teaches(environ)

    def argv(self, job: Job, is_shell: bool, extra: tuple[str, ...] = ()) -> tuple[str, ...]:
        words = job.command.argv
        if not is_shell and words[0] == "oumi":
            words = self._oumi + words[1:]
        return words + extra

    def direct(self, job: Job, argv: tuple[str, ...]) -> Direct | None:
        """The same without the shell that `argv` begins with, if it means the same."""
        if self._taught or verbs.teaches((*job.command.env, *job.secret_env)):
            return None
        return verbs.without_shell(argv)

    def env(self, job: Job, number: int, lease: Lease | None) -> dict[str, str]:
        """The full environment. Raises FlowError when a secret is not set any more."""
        env = dict(self._base)
        env["CUDA_VISIBLE_DEVICES"] = lease.visible if lease is not None else ""
        env["OUMI_FLOW_JOB"] = job.name
        env["OUMI_FLOW_OUTPUT_DIR"] = os.path.abspath(job.folder)
        env["OUMI_FLOW_ATTEMPT"] = str(number)
        if lease is not None and len(lease.devices) > 1:
            env["MASTER_PORT"] = str(free_port())
        env.update(job.command.env)
        env.update(self._secrets(job))
        return env

    def shared_env(self, job: Job, sees_gpus: bool) -> dict[str, str]:
        """What a process has that such jobs are forked from: no secret of theirs, any one GPU."""
        env = {**self._base, **job.command.env, "CUDA_VISIBLE_DEVICES": "0" if sees_gpus else ""}
        return {name: value for name, value in env.items() if name not in job.secret_env}

    def masked(self, job: Job) -> tuple[str, ...]:
        """Values that must not show in the log."""
        return tuple(dict.fromkeys(self._secrets(job).values()))

    def _secrets(self, job: Job) -> dict[str, str]:
        if not job.secret_env:
            return {}
        try:
            return {
                name: fill_secrets(template, self._environ)
                for name, template in job.secret_env.items()
            }
        except KeyError as missing:
            raise FlowError(
                f"${missing.args[0]} is not set", hint="set it, then run again"
            ) from None


def free_port() -> int:
    """A TCP port that nobody listens on right now."""
    import socket  # few jobs want one

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _path(environ: Mapping[str, str]) -> str:
    """PATH as if the virtual environment that we run from were activated.

    So `python` in a `run:` text is the one that has the user's packages, whether the tool was
    started as `oumi-flow` or as `.venv/bin/oumi-flow`.
    """
    path = environ.get("PATH", os.defpath)
    if sys.prefix == sys.base_prefix:
        return path
    own = os.path.dirname(sys.executable)
    return path if own in path.split(os.pathsep) else own + os.pathsep + path
