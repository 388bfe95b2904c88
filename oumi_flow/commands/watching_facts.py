"""What is known of a job that does not move while it runs: command, config, files, attempts.

Reads a few small files of that job. Values of secrets are never looked up.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from oumi_flow.board import Board
from oumi_flow.model import Job
from oumi_flow.text import size
from oumi_flow.typed import TYPE_CHECKING
from oumi_flow.ui.tui.source import AttemptFacts, JobFacts

if TYPE_CHECKING:
    from oumi_flow.store import Store

_LOGS = 10
_MASK = "****"


def facts(
    store: Store, board: Board, name: str, job: Job | None, siblings: Sequence[Job]
) -> JobFacts:
    """`job`: as the workflow has it now, None when it no longer does. `siblings`: of its verb."""
    from oumi_flow.commands.numbers import config_of
    from oumi_flow.ui.tables import MetricRow, differing_keys

    row = board.rows.get(name)
    after = tuple(one.name for one in board.rows.values() if name in one.upstream)
    known = JobFacts(
        name=name,
        verb=row.verb if row else "",
        folder=store.paths.job_folder(name),
        upstream=row.upstream if row else (),
        downstream=after,
        why=row.reasons if row else (),
        attempts=_attempts(store, name),
    )
    if job is None:
        return known
    from oumi_flow.dataclass import replace

    rows = [MetricRow(one.name, {}, config_of(one), verb=one.verb) for one in siblings]
    return replace(
        known,
        verb=job.verb,
        workdir=job.command.cwd,
        command=job.command.argv,
        env={**job.command.env, **dict.fromkeys(job.secret_env, _MASK)},
        config=config_of(job),
        differs=frozenset(differing_keys(rows)),
        inputs=[(item.path, _made_by(item.producer) or _size(item.path)) for item in job.inputs],
        outputs=[(item.path, _size(item.path)) for item in job.outputs],
    )


def _made_by(job: str) -> str:
    return f"made by {job}" if job else ""


def _size(path: str) -> str:
    try:
        if os.path.isdir(path):
            return "a folder"
        return size(os.stat(path).st_size)
    except OSError:
        return "not there"


def _attempts(store: Store, job: str) -> list[AttemptFacts]:
    """Those whose logs are still there, the newest first."""
    from oumi_flow.commands.reading import head

    found = []
    for back in range(_LOGS):
        path = store.paths.log(job, back)
        try:
            # A log's file is made when its attempt starts; its inode is all that remembers when.
            written = os.stat(path).st_mtime
        except OSError:
            break
        run_id, number = head(path)
        last = (store.read_attempt(job) or store.trace(job)) if not back else None
        started = last.started if last is not None and last.run_id == run_id else None
        found.append(AttemptFacts(back, run_id, number, started or _started(path) or written, path))
    return found


def _started(path: str) -> float | None:
    """What the head of a log says: `# run R, attempt 1, started 2026-11-22 22:45:18`."""
    import re
    import time

    from oumi_flow.progress import open_at_once

    try:
        with open_at_once(path) as file:
            line = file.readline(4096).decode("utf-8", "replace")
    except OSError:
        return None
    found = re.search(r"started (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", line)
    if found is None:
        return None
    return time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S"))
