"""Whether an attempt goes on where an unfinished one stopped, and from which checkpoint.

Looks into a job's place, never changes it. Knows what the verb table says of resuming.
"""

from __future__ import annotations

import json
import os
import re

from oumi_flow import verbs
from oumi_flow.model import Job, LastAttempt
from oumi_flow.verbs import VerbSpec

_CHECKPOINT = re.compile(r"checkpoint-(\d+)\Z")
# Written last into a checkpoint (transformers' `_save_checkpoint`), so a folder without a whole
# one was cut off.
_LAST_FILE = "trainer_state.json"
_MOST_BYTES = 256 * 1024 * 1024
# Clocks of a file server may be this far behind ours, in seconds.
_SLACK = 2.0
_UNFINISHED = frozenset({"starting", "running", "failed", "cancelled", "interrupted"})


def may_continue(last: LastAttempt | None, build_key: str) -> bool:
    """Whether what the last attempt left may be built upon: unfinished, and for the same key."""
    return last is not None and last.state in _UNFINISHED and last.build_key == build_key != ""


def goes_on_by_itself(job: Job, spec: VerbSpec) -> bool:
    """Whether the verb picks up what an unfinished attempt left in its folder."""
    if not spec.resumes_alone:
        return False
    if spec.name == "tune":
        # Without both, optuna refuses the study's name or starts a new one.
        config = job.parts.get("config", {})
        return bool(config.get("tuning.storage")) and config.get("tuning.load_if_exists") is True
    return True


def newest_checkpoint(job: Job, last: LastAttempt) -> str:
    """The path of the newest whole checkpoint that `last` or what it went on from made; or ""."""
    try:
        names = os.listdir(job.place)
    except OSError:
        return ""
    # Our own folder is cleared before another build; a place that the user chose is not.
    ours = job.place == job.folder or job.place.startswith(f"{job.folder}/")
    since = 0.0 if ours else (last.since or last.started) - _SLACK
    found = [(int(match[1]), name) for name in names if (match := _CHECKPOINT.match(name))]
    for _, name in sorted(found, reverse=True):
        path = os.path.join(job.place, name)
        if _is_whole(path, since):
            return path
    return ""


def resume_point(job: Job, last: LastAttempt) -> str:
    """The name of the checkpoint (`checkpoint-20`) that a next attempt would go on from, or "".

    Supposes that the job's build key is still that of `last`; the start of the attempt checks it.
    """
    if last.state not in _UNFINISHED or not last.build_key or not verbs.verb(job.verb).resume:
        return ""
    return os.path.basename(newest_checkpoint(job, last))


def _is_whole(checkpoint: str, since: float) -> bool:
    try:
        with open(os.path.join(checkpoint, _LAST_FILE), "rb") as file:
            content = file.read(_MOST_BYTES)
            made = os.fstat(file.fileno()).st_mtime
        return made >= since and isinstance(json.loads(content), dict)
    except (OSError, ValueError):
        return False
