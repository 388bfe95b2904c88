"""Where every state file lives and its format: markers, attempts, index, events, locks, runs.

Never knows why a job runs. Files of another format, torn or strange ones count as not there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

from oumi_flow.errors import BAD_WORKFLOW, FlowError
from oumi_flow.model import EMPTY, Past, Progress, Stamp, Workflow
from oumi_flow.store.files import Files, parse, read_json, to_json, told
from oumi_flow.store.paths import STATE, Paths
from oumi_flow.store.traces import Traces
from oumi_flow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oumi_flow.events import Event
    from oumi_flow.store.eventlog import ControlReader, EventLog
    from oumi_flow.store.runlock import RunLock

__all__ = ["STATE", "Paths", "Store"]

# job.log.1 … job.log.9 stay.
_LOGS_KEPT = 9
# Levels of `uses:` below which nobody looks for folders of jobs.
_NESTING = 4


class Store(Traces):
    """The state of one output folder. Jobs are named by their names.

    `private`: files that it makes are 0600 and folders 0700. `indexed`: see `Traces`.
    """

    def __init__(self, output_dir: str, private: bool = False, *, indexed: bool = True) -> None:
        self.paths = Paths(output_dir)
        self.files = Files(private)
        super().__init__(self.paths, self.files, indexed=indexed)

    # The folder as a whole

    def lock(self, run_id: str, workflow: Workflow) -> RunLock:
        """Hold the folder for a run (a context manager).

        Raises Locked (exit 3) when a live run holds it, FlowError (exit 2) when it was made by a
        workflow of another file and name, or cannot be written.
        """
        return self.hold(run_id, workflow.name, workflow.path)

    def hold(self, run_id: str, name: str, path: str) -> RunLock:
        """As `lock`, for whoever knows no more of the workflow than its name and file."""
        from oumi_flow.store.runlock import RunLock

        return RunLock(self.paths, self.files).take(run_id, name, path)

    def holder(self) -> dict[str, Any] | None:
        """The live run that holds the folder (pid, host, user, run_id …); None: nobody does."""
        from oumi_flow.store.runlock import holder

        return holder(self.paths)

    def orphans(self, workflow: Workflow, *, thorough: bool = False) -> dict[str, Past]:
        """Folders of jobs that are not in the workflow, by name, with what is known of them.

        The index names those that once succeeded; without one the folder is walked for all of them,
        but not below the folders of jobs that are in the workflow; when `thorough`, there too.
        """
        names = {job.name for job in workflow.jobs}
        if thorough:
            found = [name for name in self._job_folders() if name not in names]
        elif not self.has_index:
            found = list(self._job_folders(names))
        else:
            found = [name for name in list(self.indexed()) if name not in names]
        return {
            name: self.past(name)
            for name in sorted(found)
            if os.path.isdir(self.paths.job_state(name)) and not self.is_foreign(name)
        }

    def _job_folders(self, without: Collection[str] = ()) -> Iterator[str]:
        waiting = [""]
        for prefix in waiting:
            try:
                with os.scandir(self.paths.output_dir + "/" + prefix) as listing:
                    names = [e.name for e in listing if e.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            for name in names:
                if name == STATE or prefix + name in without:
                    continue
                if self.is_foreign(prefix + name):
                    continue
                if os.path.isdir(self.paths.job_state(prefix + name)):
                    yield prefix + name
                elif prefix.count("/") < _NESTING:  # perhaps the folder of a nested workflow
                    waiting.append(prefix + name + "/")

    def is_foreign(self, name: str) -> bool:
        """Whether that folder is no job's: it is the output folder of another workflow."""
        return os.path.lexists(Paths(self.paths.job_folder(name)).owner)

    # One job's files

    def make_folder(self, job: str) -> bool:
        """Make a job's folder and its state folder. Raises FlowError, also for another workflow's.

        Returns whether there was no state folder, and so nothing of an earlier attempt in it.
        """
        folder = self.paths.job_folder(job)
        if not os.path.isdir(folder):
            self.files.make_folder(folder)
        fresh = self.files.make_folder(self.paths.job_state(job))
        if not fresh and self.is_foreign(job):
            raise FlowError(
                f"{folder}: is the output folder of another workflow",
                hint="rename the job, or give one of the two workflows another `output_dir`",
            )
        return fresh

    def copy_config(self, job: str, source: str, expected: Stamp | None = None) -> str:
        """Copy the config that was planned to where the job reads it; returns that path.

        Raises FlowError when `source` no longer has the stamp `expected`, or cannot be read.
        """
        from oumi_flow.disk import stamp_of
        from oumi_flow.store.files import read_bytes

        found = read_bytes(source)
        if found is None:
            raise FlowError(f"{source}: the config is gone", hint="put it back, then run again")
        content, seen = found
        if expected is not None and stamp_of(seen) != expected:
            raise FlowError(
                f"{source}: changed while the run was being planned",
                hint="run again: the new content is planned anew",
            )
        copy = self.paths.config_copy(job)
        self.files.write(copy, content)
        return copy

    def is_partial(self, job: str) -> bool:
        """Whether an attempt that did not finish left what lies in the job's folder.

        If not, it is a result, also one that was edited since, or what nobody of us has made.
        """
        if os.path.lexists(self.paths.marker(job)):
            return False
        last = self.read_attempt(job)
        return last is not None and last.state != "done" and last.build_key != ""

    def set_aside(self, job: str, partial: bool) -> str:
        """Move what lies in the job's folder to `.oumi-flow/old/`, or to `.oumi-flow/previous/`.

        The first is for what `is_partial`, the second for all else: so no failure, nor any number
        of them, costs a result. What was moved there earlier is removed; our state and the logs
        stay. Returns where it is now, "" when there was nothing. Raises FlowError.
        """
        from shutil import rmtree

        folder = self.paths.job_folder(job)
        old = self.paths.old(job) if partial else self.paths.former(job)
        with told(folder, "set aside what is in it"):
            # The old one goes only when the new one is complete: a kill in between loses neither.
            fresh = old + ".new"
            try:
                names = [name for name in os.listdir(folder) if not _stays(name)]
            except (FileNotFoundError, NotADirectoryError):
                return ""
            if not names and not os.path.lexists(fresh):
                return ""
            os.makedirs(fresh, exist_ok=True)
            for name in names:
                target = f"{fresh}/{name}"
                if os.path.lexists(target):  # left by a call that was killed half way
                    _remove(target)
                os.rename(f"{folder}/{name}", target)
            if os.path.lexists(old):
                rmtree(old)
            os.rename(fresh, old)
        return old

    def rotate_log(self, job: str) -> None:
        """Make room for a new `job.log`; nine earlier ones stay. Raises FlowError."""
        log = self.paths.log
        if not os.path.lexists(log(job)):
            return
        with told(log(job), "rename"):
            last = 0  # as far back as there are logs without a gap: mostly not far
            while last < _LOGS_KEPT - 1 and os.path.lexists(log(job, last + 1)):
                last += 1
            for back in range(last, -1, -1):
                with suppress(FileNotFoundError):
                    os.replace(log(job, back), log(job, back + 1))

    def write_progress(self, job: str, progress: Progress) -> None:
        """Replace the job's latest progress. Raises FlowError."""
        values = {name: getattr(progress, name) for name in ("done", "total", "unit", "metrics")}
        self.files.write_json(self.paths.progress(job), values)

    def read_progress(self, job: str) -> Progress | None:
        """The job's latest progress; None when there is none."""
        record = read_json(self.paths.progress(job))
        if record is None:
            return None
        done, total = record.get("done"), record.get("total")
        metrics = record.get("metrics")
        return Progress(
            done=done if isinstance(done, (int, float)) else None,
            total=total if isinstance(total, (int, float)) else None,
            unit=str(record.get("unit", "")),
            metrics=metrics if isinstance(metrics, dict) else EMPTY,
        )

    def append_metrics(self, job: str, points: Iterable[Mapping[str, Any]]) -> None:
        """Add points to the job's history of metrics. Raises FlowError."""
        data = b"".join(to_json(dict(point)) for point in points)
        if data:
            self.files.make_folder(self.paths.job_state(job))
            self.files.append(self.paths.metrics(job), data)

    def read_metrics(self, job: str) -> list[dict[str, Any]]:
        """The job's history of metrics, torn lines left out."""
        from oumi_flow.store.eventlog import Lines

        values = [parse(line.encode()) for line in Lines(self.paths.metrics(job)).new()]
        return [value for value in values if isinstance(value, dict)]

    # Runs

    def open_events(self, run_id: str) -> EventLog:
        """The log of a run, to append to. Raises FlowError."""
        from oumi_flow.store.eventlog import EventLog

        return EventLog(self.paths.events(run_id), self.files)

    def read_events(self, run_id: str) -> Iterator[Event]:
        """The events that a run has told so far."""
        from oumi_flow.store.eventlog import read_events

        return read_events(self.paths.events(run_id))

    def follow_events(self, run_id: str) -> Iterator[Event]:
        """The events of a run as they come, until it has finished or died. Blocks in between."""
        from oumi_flow.store.eventlog import follow_events

        return follow_events(self.paths.events(run_id), lambda: self.is_live(run_id))

    def is_live(self, run_id: str) -> bool:
        """Whether that run holds the folder now."""
        who = self.holder()
        # A holder that has not signed yet is given the benefit of the doubt.
        return who is not None and who.get("run_id", run_id) == run_id

    def request(self, run_id: str, wish: Mapping[str, Any]) -> None:
        """Ask something of a run: `{"kind": "cancel", "jobs": [...]}`. Raises FlowError."""
        from oumi_flow.store.eventlog import request

        request(self.paths.control(run_id), wish, self.files)

    def control(self, run_id: str) -> ControlReader:
        """The requests to a run, for the run itself."""
        from oumi_flow.store.eventlog import ControlReader

        return ControlReader(self.paths.control(run_id))

    def runs(self) -> list[str]:
        """Ids of the runs that told events here, newest first. Raises FlowError."""
        with told(self.paths.runs, "read", BAD_WORKFLOW):
            try:
                names = os.listdir(self.paths.runs)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted((n for n in names if os.path.exists(self.paths.events(n))), reverse=True)

    def latest_run(self) -> str | None:
        """The live run if there is one, else the newest."""
        who = self.holder()
        if who and isinstance(who.get("run_id"), str):
            return str(who["run_id"])
        return next(iter(self.runs()), None)


def _stays(name: str) -> bool:
    return name == STATE or name == "job.log" or name.startswith("job.log.")


def _remove(path: str) -> None:
    from shutil import rmtree

    if os.path.isdir(path) and not os.path.islink(path):
        rmtree(path)
    else:
        os.unlink(path)
