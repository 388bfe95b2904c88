"""Keeps an expanded workflow, so that the next load of the same reads one file of JSON.

A cache: whatever is wrong with it means a full load, never an error. It holds no secret, as a
workflow with secrets written out is not kept, and variables' values stay in the environment.
Knows nothing of YAML.

The file's first line says what it was made from, the second holds the workflow, and each further
one a job: who knows which jobs he wants reads these alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter

from oumi_flow import __version__
from oumi_flow.dataclass import dataclass, fields
from oumi_flow.disk import atomic_write, stamp
from oumi_flow.encoding import encoder
from oumi_flow.hashing import blake2b
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
from oumi_flow.typed import Any

_LAYOUT = 4
_encode = encoder()


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
            top, *jobs = file.read().split(b"\n")
            return _decoded(head, top, jobs) if len(jobs) == head["jobs"] else None
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
        "links": dict(workflow.links),
        "jobs": len(workflow.jobs),
        "job_fields": _JOB_FIELDS,
    }
    try:
        lines = [_encode(each) for each in (head, *_encoded(workflow))]
        file = _file(workflow.path, environ, ".json")
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
        atomic_write(file, "\n".join(lines).encode(), mode=0o600)
    except (OSError, ValueError):
        return


@dataclass(frozen=True, slots=True)
class Lines:
    """Where in a snapshot each job lies: begin and end, in the workflow's order."""

    stamp: tuple[int, int, int, int]  # of the snapshot
    spans: list[tuple[int, int]]


def lines_of(
    workflow: Workflow, sets: Mapping[str, str], environ: Mapping[str, str]
) -> Lines | None:
    """Where a workflow lies in its snapshot; None where that is missing, or of another load."""
    try:
        with open(_file(workflow.path, environ, ".json"), "rb", opener=_at_once) as file:
            seen = os.fstat(file.fileno())
            head, top = file.readline(), file.readline()
            values = json.loads(head)
            if not _is_valid(values, workflow.path, sets, environ, checked=False):
                return None
            sources = {path: was and [*was] for path, was in workflow.sources.items()}
            if values["sources"] != sources:
                return None
            at, spans = len(head) + len(top), []
            for line in file:  # one at a time: all of them may be as large as the workflow is
                spans.append((at, at + len(line.rstrip(b"\n"))))
                at += len(line)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return Lines(_numbers(seen), spans) if len(spans) == len(workflow.jobs) else None


def read_part(
    path: str,
    spans: Iterable[tuple[int, int]],
    stamp: tuple[int, int, int, int],
    environ: Mapping[str, str],
) -> Workflow | None:
    """The workflow with these of its jobs; None where the snapshot is not the one that was meant.

    That it holds what a full load would make is for the caller to know. `spans` and `stamp` as in
    `Lines`.
    """
    try:
        with open(_file(path, environ, ".json"), "rb", opener=_at_once) as file:
            if _numbers(os.fstat(file.fileno())) != stamp:
                return None
            head, top = json.loads(file.readline()), file.readline()
            descriptor = file.fileno()
            jobs = [os.pread(descriptor, end - begin, begin) for begin, end in spans]
        return _decoded(head, top, jobs)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None


def _numbers(seen: os.stat_result) -> tuple[int, int, int, int]:
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino


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
    if recorded_base(path, environ) == base:
        return  # and the file stays as it was when an answer was sealed
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
    return all(os.path.realpath(path) == real for path, real in head["links"].items())


# ------------------------------------------------------------------ JSON and back

_JOB_FIELDS = tuple(field.name for field in fields(Job))
_TOP_FIELDS = tuple(
    field.name
    for field in fields(Workflow)
    if field.name not in ("jobs", "sources", "variables", "needs", "links")
)


def _at_once(path: str, flags: int) -> int:
    """An opener that does not wait, as it would for whoever writes into a fifo."""
    return os.open(path, flags | os.O_NONBLOCK)


def _row(cls: type) -> Callable[[Any], tuple[Any, ...]]:
    """A function that gives the values of a dataclass of several fields, in their order."""
    row: Callable[[Any], tuple[Any, ...]] = attrgetter(*(field.name for field in fields(cls)))
    return row


def _encoded(workflow: Workflow) -> Iterator[Any]:
    """What the workflow says besides its jobs, then each of these."""
    yield {name: getattr(workflow, name) for name in _TOP_FIELDS}
    of_job, of_command, of_retry, of_gpu = _row(Job), _row(Command), _row(Retry), _row(GpuRequest)
    of_input, of_output = _row(Input), _row(Output)
    command, inputs, outputs, gpu, retry = map(
        _JOB_FIELDS.index, ("command", "inputs", "outputs", "gpu", "retry")
    )
    for job in workflow.jobs:
        row = list(of_job(job))
        row[command] = of_command(job.command)
        row[inputs] = list(map(of_input, job.inputs))
        row[outputs] = list(map(of_output, job.outputs))
        row[gpu] = None if job.gpu is None else of_gpu(job.gpu)
        row[retry] = of_retry(job.retry)
        yield row


def _decoded(head: Any, first: bytes, lines: Iterable[bytes]) -> Workflow | None:
    if tuple(head["job_fields"]) != _JOB_FIELDS:
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
    for row in json.loads(b"[" + b",".join(lines) + b"]"):
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
    top = json.loads(first)
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
        links=head["links"],
    )
