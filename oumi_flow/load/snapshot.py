"""Keeps an expanded workflow, so that the next load of the same reads one file of JSON.

A cache: whatever is wrong with it means a full load, never an error. It holds no secret, as a
workflow with secrets written out is not kept, and variables' values stay in the environment.
Knows nothing of YAML.

The file's first line says what it was made from, the second holds the workflow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from oumi_flow import __version__
from oumi_flow.disk import atomic_write, stamp
from oumi_flow.model import (
    FORMAT,
    Command,
    Counts,
    GpuRequest,
    Input,
    Job,
    Output,
    Retry,
    Stamp,
    Workflow,
)

_LAYOUT = 2


def read_snapshot(
    path: str, sets: Mapping[str, str], environ: Mapping[str, str], *, checked: bool
) -> Workflow | None:
    """The workflow as an earlier load left it, if a full load would make the same; else None.

    `checked`: only one whose config keys were compared with those that oumi knows will do.
    """
    import gc

    # Nothing that is made here goes away again, so looking for garbage is wasted time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with open(_file(path, environ, ".json"), "rb", opener=_at_once) as file:
            head = json.loads(file.readline())
            if not _is_valid(head, path, sets, environ, checked):
                return None
            return _decoded(json.loads(file.read()), head)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    finally:
        if collecting:
            gc.enable()


def write_snapshot(
    workflow: Workflow, sets: Mapping[str, str], environ: Mapping[str, str], *, checked: bool
) -> None:
    """Keeps a workflow for the next load. Where that fails, the next load is a full one."""
    head = {
        "made_by": _made_by(),
        "base": os.getcwd(),
        "path": workflow.path,
        "checked": checked,
        "sets": dict(sets),
        "variables": dict(workflow.variables),
        "needs": list(workflow.needs),
        "sources": dict(workflow.sources),
    }
    try:
        lines = [json.dumps(each, separators=(",", ":")) for each in (head, _encoded(workflow))]
        file = _file(workflow.path, environ, ".json")
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
        atomic_write(file, "\n".join(lines).encode(), mode=0o600)
    except (OSError, ValueError):
        return


def recorded_base(path: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The absolute base folder of the workflow's last run; None when that is not known."""
    try:
        with open(base_file(path, environ), encoding="utf-8", opener=_at_once) as file:
            base = json.load(file)["base"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return base if isinstance(base, str) else None


def record_base(path: str, base: str, environ: Mapping[str, str] | None = None) -> None:
    """Notes the base folder of a run. Where that fails, the next run will not be warned."""
    file = base_file(path, environ)
    text = json.dumps({"base": base, "path": os.path.realpath(path)})
    try:
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
        atomic_write(file, text.encode(), mode=0o600)
    except OSError:
        return


def base_file(path: str, environ: Mapping[str, str] | None = None) -> str:
    """Where the base folder of a workflow's last run is noted."""
    return _file(path, environ, ".base")


def _file(path: str, environ: Mapping[str, str] | None, ending: str) -> str:
    """Where a workflow's files are kept: by the digest of its real path."""
    from hashlib import blake2b

    environ = os.environ if environ is None else environ
    real = os.path.realpath(path).encode("utf-8", "surrogateescape")
    return os.path.join(_folder(environ), blake2b(real, digest_size=16).hexdigest() + ending)


def _folder(environ: Mapping[str, str]) -> str:
    own = environ.get("OUMI_FLOW_HOME")
    if own:
        return os.path.join(own, "cache")
    user = environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(user, "oumi-flow")


def _made_by() -> str:
    return f"{_LAYOUT}/{FORMAT}/{__version__}"


def _is_valid(
    head: Any, path: str, sets: Mapping[str, str], environ: Mapping[str, str], checked: bool
) -> bool:
    if head["made_by"] != _made_by() or head["path"] != path or head["sets"] != dict(sets):
        return False
    if head["base"] != os.getcwd() or (checked and not head["checked"]):
        return False
    for name, value in head["variables"].items():
        if environ.get(name) != value:
            return False
    if not all(name in environ for name in head["needs"]):
        return False
    for source, was in head["sources"].items():
        now = stamp(source)
        if now != (None if was is None else tuple(was)):
            return False
    return True


# ------------------------------------------------------------------ JSON and back

_JOB_FIELDS = tuple(field.name for field in fields(Job))
_TOP_FIELDS = tuple(
    field.name
    for field in fields(Workflow)
    if field.name not in ("jobs", "sources", "variables", "needs")
)


def _at_once(path: str, flags: int) -> int:
    """An opener that does not wait, as it would for whoever writes into a fifo."""
    return os.open(path, flags | os.O_NONBLOCK)


def _row(value: Any) -> list[Any]:
    """A dataclass as the list of its values."""
    return [getattr(value, field.name) for field in fields(value)]


def _encoded(workflow: Workflow) -> Any:
    jobs = []
    for job in workflow.jobs:
        row = {name: getattr(job, name) for name in _JOB_FIELDS}
        row["command"] = _row(job.command)
        row["inputs"] = [_row(each) for each in job.inputs]
        row["outputs"] = [_row(each) for each in job.outputs]
        row["gpu"] = None if job.gpu is None else _row(job.gpu)
        row["retry"] = _row(job.retry)
        jobs.append(list(row.values()))
    top = {name: getattr(workflow, name) for name in _TOP_FIELDS}
    return {"job_fields": _JOB_FIELDS, "top": top, "jobs": jobs}


def _decoded(body: Any, head: Any) -> Workflow | None:
    if tuple(body["job_fields"]) != _JOB_FIELDS:
        return None
    counts = {each.value: each for each in Counts}
    lists = [
        at
        for at, name in enumerate(_JOB_FIELDS)
        if name in ("args", "depends_on", "implied", "upstream")
    ]
    at = {name: number for number, name in enumerate(_JOB_FIELDS)}
    command, gpu, retry = at["command"], at["gpu"], at["retry"]
    inputs, outputs = at["inputs"], at["outputs"]
    jobs = []
    for row in body["jobs"]:
        if len(row) != len(_JOB_FIELDS):
            return None
        argv, cwd, env, progress = row[command]
        row[command] = Command(tuple(argv), cwd, env, progress)
        row[inputs] = tuple(
            [
                Input(key, path, counts[kind], by, tuple(of))
                for key, path, kind, by, of in row[inputs]
            ]
        )
        row[outputs] = tuple(
            [Output(key, path, counts[kind], said) for key, path, kind, said in row[outputs]]
        )
        if row[gpu] is not None:
            row[gpu] = GpuRequest(row[gpu][0], tuple(row[gpu][1]))
        row[retry] = Retry(*row[retry])
        for number in lists:
            row[number] = tuple(row[number])
        jobs.append(Job(*row))
    top = body["top"]
    for name in ("gpus", "warnings"):
        top[name] = None if top[name] is None else tuple(top[name])
    return Workflow(
        **top,
        jobs=tuple(jobs),
        sources={
            path: None if was is None else Stamp(*was) for path, was in head["sources"].items()
        },
        variables=head["variables"],
        needs=tuple(head["needs"]),
    )
