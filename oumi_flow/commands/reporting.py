"""`report`: a run as one page of HTML. Gathers what is known of it; drawing it is ui/report's."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from oumi_flow.errors import OK, FlowError
from oumi_flow.model import EMPTY, Counts, Evidence, Job, JobState, Trace, Workflow
from oumi_flow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from oumi_flow.board import Board, JobRow
    from oumi_flow.commands.targets import Found
    from oumi_flow.store.runs import UserRun
    from oumi_flow.ui.report.facts import Curve, FileFact, JobFact, Report

_DEFAULT = "report.html"
_TAIL = 20  # lines of a failed job's log
_FAILURES = 200  # jobs whose logs are looked at
_CONFIGS = 50
_MASK = "****"
_AS_IT_WAS = frozenset({JobState.UP_TO_DATE, JobState.RESTORED})


def report(options: argparse.Namespace) -> int:
    """Write the page; says on stderr where it is."""
    from oumi_flow.commands.look import board_of
    from oumi_flow.commands.targets import find_target
    from oumi_flow.ui.report.page import page

    # Where the user stands; finding a run may go elsewhere.
    wanted = options.output
    path = os.path.abspath(_DEFAULT if wanted is None else wanted)
    if wanted != "-":
        _check(path, wanted)
    found = find_target(options.target, options)
    if wanted and _is_same(path, found.path):
        raise FlowError(
            f"{_told(wanted)}: that is the workflow file", hint="name another: -o report.html"
        )
    board = board_of(found)
    if not board.run_id:
        raise FlowError(
            f"run {found.run_id} has told nothing yet", hint="try again when it has begun"
        )
    text = page(_Gathering(found, board, time.time()).report())
    if wanted == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())  # whatever stdout's own encoding
        sys.stdout.buffer.flush()
        return OK
    write_file(path, text.encode(), _told(wanted))
    print(f"wrote {wanted or _DEFAULT}", file=sys.stderr)
    return OK


# The file ---------------------------------------------------------------------------------


def _check(path: str, wanted: str | None) -> None:
    """Raises FlowError for a place where no page can be, before anything is read."""
    told = _told(wanted)
    if wanted == "" or os.path.isdir(path) or (wanted or "").endswith(os.sep):
        name = os.path.join(wanted or ".", _DEFAULT)
        raise FlowError(f"{told}: expected the name of a file", hint=f"for example -o {name}")
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise FlowError(f"{told}: there is no folder {folder}", hint=f"make it: mkdir -p {folder}")
    if wanted is None and os.path.lexists(path) and not _is_ours(path):
        raise FlowError(
            f"{_DEFAULT} is there already, and no report of ours",
            hint="name another file, or the same to replace it: -o FILE",
        )


def _told(wanted: str | None) -> str:
    return _DEFAULT if wanted is None else f"-o {wanted}"


def _is_ours(path: str) -> bool:
    from oumi_flow.progress import open_at_once
    from oumi_flow.ui.report.page import GENERATOR

    try:
        with open_at_once(path) as file:
            return f'content="{GENERATOR} '.encode() in file.read(4096)
    except OSError:
        return False


def _is_same(path: str, other: str) -> bool:
    """Whether both are one file that is there."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def write_file(path: str, data: bytes, told: str) -> None:
    """By rename, so that whoever has the file open never reads half of one. Raises FlowError."""
    from oumi_flow.disk import atomic_write

    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe, /dev/stdout
            with open(path, "wb") as file:
                file.write(data)
        else:
            atomic_write(os.path.realpath(path), data)  # a link stays one
    except OSError as fault:
        raise FlowError(f"{told}: cannot write: {fault.strerror}") from fault


# What is known ----------------------------------------------------------------------------


class _Gathering:
    """Walks a run's files once. What cannot be read is left out, and said where it matters."""

    def __init__(self, found: Found, board: Board, now: float) -> None:
        self._store, self._run_id, self._path = found.store, found.run_id, found.path
        self._board, self._now = board, now
        self._run = _run_of(found.run_id)
        self._workflow, self._missing = self._load()
        self._jobs = {job.name: job for job in self._workflow.jobs} if self._workflow else {}
        self._traces: list[Trace] = []  # those that tell of this run

    def report(self) -> Report:
        from oumi_flow.ui.report.facts import Report
        from oumi_flow.ui.report.spans import spans

        board = self._board
        facts = {row.name: self._job(row) for row in board.rows.values()}
        common = _common([fact.env for fact in facts.values()])
        ends = {name: self._tail(name) for name in list(board.failed)[:_FAILURES]}
        return Report(
            board=board,
            now=self._now,
            spans=spans(self._store.read_events(self._run_id), board, self._now),
            jobs=facts,
            ends=ends,
            description=self._workflow.description if self._workflow else "",
            command=_command_line(self._run.argv) if self._run else "",
            files=self._files(),
            env=common,
            further=self._further(),
            missing=self._missing,
        )

    def _load(self) -> tuple[Workflow | None, str]:
        """The workflow as it is now, with the flags of the run; why not, if it does not load."""
        from oumi_flow.commands.opening import open_workflow
        from oumi_flow.commands.words import again
        from oumi_flow.parser import parse

        words = again(self._run.argv) if self._run and self._run.argv else ["run", self._path]
        try:
            options = parse(words[0], words[1:])
            options.file = self._path
            return open_workflow(options), ""
        except (FlowError, OSError):
            return None, (
                f"{self._path} is not there or does not load as it is now: commands and "
                "environments are missing, configs are those that finished jobs were made with."
            )

    # -- a job ----------------------------------------------------------------------------

    def _job(self, row: JobRow) -> JobFact:
        from oumi_flow.commands.numbers import config_of
        from oumi_flow.ui.report.facts import FileFact, JobFact

        store, job = self._store, self._jobs.get(row.name)
        kept = attempt = None
        with suppress(FlowError):
            kept, attempt = store.trace(row.name), store.read_attempt(row.name)
        latest = attempt.run_id if attempt else kept.run_id if kept else ""
        trace = kept if kept is not None and self._tells_of(row, kept) else None
        if trace is not None:
            self._traces.append(trace)
        later = latest > self._run_id and row.attempt > 0
        ours = trace is not None or not later
        notes = []
        if later and trace is None:
            notes.append(
                f"A later run, {latest}, has made this job again: files, "
                "digests and curves of this run are not kept."
            )
        if job is None and self._workflow is not None:
            notes.append("The workflow no longer has this job.")
        if job is not None and trace is not None and job.fingerprint != trace.fingerprint:
            notes.append(
                "The workflow or its configs have changed since: command and environment are as "
                "they would be now, the config is the one that the job was made with."
            )
        env = {**job.command.env, **dict.fromkeys(job.secret_env, _MASK)} if job else {}
        values = _config_of(trace) if trace is not None else config_of(job) if job else {}
        producers = {item.key: item.producer for item in job.inputs} if job else {}
        if trace is not None:
            inputs = [
                _seen(trace.input_paths.get(key, key), seen, trace, key, producers.get(key, ""))
                for key, seen in trace.inputs.items()
            ]
            outputs = [
                _seen(_spelled(key, row, store.paths.job_folder(row.name)), seen)
                for key, seen in trace.outputs.items()
            ]
        else:
            inputs = [FileFact(i.path, _made_by(i.producer)) for i in (job.inputs if job else ())]
            outputs = [FileFact(item.path) for item in (job.outputs if job else ())]
        return JobFact(
            name=row.name,
            description=job.description if job else "",
            command=_shown(job) if job else "",
            workdir=job.command.cwd if job else "",
            config=job.config if job else "",
            values=values,
            env=env,
            inputs=inputs,
            outputs=outputs,
            metrics=self._metrics(row, trace),
            curves=self._curves(row) if ours else {},
            log=self._log(row.name) or (row.log if not later else ""),
            made=trace.finished if trace is not None else None,
            made_by=trace.run_id if trace is not None else "",
            fingerprint=trace.fingerprint if trace is not None else "",
            build_key=trace.build_key if trace is not None else "",
            versions=trace.versions if trace is not None else EMPTY,
            notes=notes,
        )

    def _tells_of(self, row: JobRow, trace: Trace) -> bool:
        """Whether a marker is of what this run made, or found made."""
        if trace.run_id == self._run_id:
            return True
        end = self._board.finished if self._board.over else None
        return row.state in _AS_IT_WAS and (end is None or trace.finished <= end)

    def _metrics(self, row: JobRow, trace: Trace | None) -> Mapping[str, Any]:
        if row.metrics:
            return row.metrics
        if trace is not None:
            return trace.metrics
        if row.state is JobState.RUNNING:
            with suppress(FlowError):
                progress = self._store.read_progress(row.name)
                return progress.metrics if progress is not None else EMPTY
        return EMPTY

    def _curves(self, row: JobRow) -> Mapping[str, Curve]:
        from oumi_flow.commands.curves import Curves

        if not row.attempt and row.state not in _AS_IT_WAS:
            return {}
        found = Curves(self._store.paths.job_folder(row.name))
        found.look()
        return found.known

    # -- logs -----------------------------------------------------------------------------

    def _log(self, job: str) -> str:
        """The log of the run's newest attempt; "" when it is gone, or was never begun."""
        from oumi_flow.commands.reading import head

        for back in range(10):
            path = self._store.paths.log(job, back)
            run_id, _ = head(path)
            if run_id == self._run_id:
                return path
            if not run_id and not os.path.exists(path):
                break
        return ""

    def _tail(self, job: str) -> Sequence[str]:
        from oumi_flow.diagnose import last_lines

        path = self._log(job)
        if not path:
            return ()
        try:
            found = last_lines(path, _TAIL + 1)
        except OSError:
            return ()
        return [line for line in found if not line.startswith("# run ")]

    # -- where it comes from --------------------------------------------------------------

    def _files(self) -> list[FileFact]:
        """The workflow file and the configs, with digests of what they are now."""
        from oumi_flow.disk import Disk

        configs: dict[str, int] = {}
        for name in self._board.rows:
            job = self._jobs.get(name)
            if job is not None and job.config:
                configs[job.config] = configs.get(job.config, 0) + 1
        disk = Disk(lambda _: False)
        told = [self._file(disk, self._path, "the workflow")]
        for path, number in list(configs.items())[:_CONFIGS]:
            what = "a config" if number == 1 else f"the config of {number} jobs"
            told.append(self._file(disk, path, what))
        return told

    def _file(self, disk: Any, path: str, note: str) -> FileFact:
        from oumi_flow.ui.report.facts import FileFact

        try:
            seen = disk.observe(path, Counts.ALL)
            status = os.stat(path)
        except (FlowError, OSError):
            return FileFact(path, f"{note}; not there now" if "://" not in path else note)
        began = self._board.started
        if began is not None and status.st_mtime > began:
            note += "; changed since the run began"
        return FileFact(path, note, status.st_size, seen.digest)

    def _further(self) -> list[tuple[str, str]]:
        from platform import python_version

        from oumi_flow import __version__

        told = [("started in", self._run.base)] if self._run else []
        tools: dict[str, set[str]] = {}
        for trace in self._traces:
            for tool, version in trace.versions.items():
                tools.setdefault(tool, set()).add(str(version))
        told += [(tool, ", ".join(sorted(which))) for tool, which in sorted(tools.items())]
        wrote = f"oumi-flow {__version__} on Python {python_version()}"
        return [*told, ("this page", f"by {wrote}")]


def _run_of(run_id: str) -> UserRun | None:
    from oumi_flow.store.runs import user_runs

    return next((run for run in user_runs() if run.run_id == run_id), None)


def _command_line(argv: Sequence[str]) -> str:
    """As it was typed; values of variables with the name of a secret are masked."""
    from shlex import join

    from oumi_flow.load.secrets import is_secret_name

    words = []
    for place, word in enumerate(argv):
        flag = "--set=" if word.startswith("--set=") else ""
        key, equals, _ = word[len(flag) :].partition("=")
        named = flag or (place and argv[place - 1] == "--set")
        words.append(f"{flag}{key}={_MASK}" if named and equals and is_secret_name(key) else word)
    return f"oumi-flow {join(words)}"


def _shown(job: Job) -> str:
    """The command as one would type it; the script of a shell is shown as it is written."""
    from shlex import join

    argv = job.command.argv
    if len(argv) > 2 and argv[-2] == "-c" and "\n" in argv[-1].strip():
        return f"{join(argv[:-1])} '\n{argv[-1].strip()}\n'"
    return join(argv)


def _config_of(trace: Trace) -> dict[str, Any]:
    """The config that a job was made with: what an upstream makes by its path."""
    config = dict(trace.parts.get("config") or {})
    paths = trace.input_paths
    return {
        key: paths.get(value, value) if isinstance(value, str) else value
        for key, value in config.items()
    }


def _seen(
    path: str, seen: Evidence, trace: Trace | None = None, key: str = "", producer: str = ""
) -> FileFact:
    from oumi_flow.text import count
    from oumi_flow.ui.report.facts import FileFact

    words = [_made_by(producer)]
    if seen.kind in ("folder", "glob"):
        what = "a folder" if seen.kind == "folder" else "a pattern"
        words.append(f"{what} of {count(len(seen.files), 'file')}")
    elif seen.kind == "missing":
        words.append("was not there")
    if trace is not None and key in trace.changed_while_ran:
        words.append("changed while it was read")
    size = sum(file.stamp.size for file in seen.files) if seen.files else None
    return FileFact(path, "; ".join(word for word in words if word), size, seen.digest)


def _made_by(job: str) -> str:
    return f"made by {job}" if job else ""


def _spelled(key: str, row: JobRow, folder: str) -> str:
    """The path of an output, whose key has `@` for the job's own folder."""
    return (row.folder or folder) + key[1:] if key[:1] == "@" else key


def _common(envs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What all of several jobs are given alike."""
    if len(envs) < 2:
        return {}
    first, *others = envs
    return {
        name: value
        for name, value in first.items()
        if all(other.get(name) == value for other in others)
    }
