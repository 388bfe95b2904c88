"""Names of runs, and the user's list of where each run's folder is."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from oumi_flow.dataclass import dataclass, fields, values_of
from oumi_flow.errors import FlowError
from oumi_flow.store.files import Files, read_json
from oumi_flow.text import did_you_mean
from oumi_flow.typed import Any

# The list forgets the oldest runs beyond this many.
KEPT = 1000


@dataclass(frozen=True, slots=True)
class UserRun:
    """One run of this user. All paths are absolute but `path`, which is relative to `base`."""

    run_id: str
    output_dir: str
    workflow: str
    path: str
    base: str
    argv: tuple[str, ...]
    started: float  # unix seconds


def new_run_id(now: float | None = None) -> str:
    """Like `20260103-112000-a1b2` (UTC). Later runs have greater names, unless within 0.3 ms."""
    at = time.time() if now is None else now
    text = time.strftime("%Y%m%d-%H%M%S", time.gmtime(at))
    # Three digits of the second's fraction keep quick runs in order, one keeps strangers apart.
    return f"{text}-{int(at % 1 * 4096):03x}{os.urandom(1).hex()[0]}"


def list_folder(environ: Mapping[str, str]) -> str:
    """Where the user's list lies: below $OUMI_FLOW_HOME, or the user's state folder."""
    home = environ.get("OUMI_FLOW_HOME")
    if home:
        return os.path.join(home, "state", "runs")
    state = environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "oumi-flow", "runs")


def register_run(
    run_id: str,
    output_dir: str,
    workflow: str,
    path: str,
    argv: Sequence[str],
    base: str,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Add a run to the user's list. Raises FlowError when it cannot be written."""
    folder = list_folder(os.environ if environ is None else environ)
    run = UserRun(
        run_id, os.path.abspath(output_dir), workflow, path, base, tuple(argv), time.time()
    )
    # Command lines are nobody else's affair.
    Files(private=True).write_json(os.path.join(folder, f"{run_id}.json"), values_of(run))
    names: list[str] = []
    with suppress(OSError):  # a list that cannot be shortened is no reason not to run
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    for name in names[:-KEPT]:
        with suppress(OSError):
            os.unlink(os.path.join(folder, name))


def user_runs(environ: Mapping[str, str] | None = None, *, gone: bool = False) -> list[UserRun]:
    """The user's runs, newest first; with `gone` also those whose output folder is not there."""
    folder = list_folder(os.environ if environ is None else environ)
    try:
        names = sorted(os.listdir(folder), reverse=True)
    except OSError:
        return []
    found = []
    for name in names:
        if not name.endswith(".json"):
            continue
        try:
            record = read_json(os.path.join(folder, name))
        except FlowError:
            continue
        run = _run(record) if record is not None else None
        if run is not None and (gone or os.path.isdir(run.output_dir)):
            found.append(run)
    return found


def find_run(run_id: str, environ: Mapping[str, str] | None = None) -> UserRun:
    """The run of that name. Raises FlowError when this user has none, or its folder is gone."""
    runs = user_runs(environ, gone=True)
    run = next((run for run in runs if run.run_id == run_id), None)
    if run is None:
        hint = did_you_mean(run_id, [run.run_id for run in runs])
        raise FlowError(
            f"{run_id}: no such file, and no run of that name",
            hint=hint or "`oumi-flow status` lists your runs",
        )
    if not os.path.isdir(run.output_dir):
        raise FlowError(
            f"run {run_id}: its folder {run.output_dir} is gone",
            hint="if the project has moved, go there and name the workflow file instead",
        )
    return run


def _run(record: dict[str, Any]) -> UserRun | None:
    values: dict[str, Any] = {f.name: record.get(f.name) for f in fields(UserRun)}
    argv, started = values.pop("argv"), values.pop("started")
    if not all(isinstance(text, str) for text in values.values()) or not isinstance(argv, list):
        return None
    if not isinstance(started, (int, float)):
        return None
    return UserRun(**values, argv=tuple(map(str, argv)), started=float(started))
