"""Whether an attempt goes on where an unfinished one stopped, and from which checkpoint.

Looks into a job's place, never changes it. Knows what the verb table says of resuming.
"""

from __future__ import annotations

import os

from oumi_flow import verbs
from oumi_flow.model import Job, LastAttempt
from oumi_flow.pattern import pattern
from oumi_flow.runner.checkpoints import is_whole
from oumi_flow.verbs import VerbSpec

_CHECKPOINT = pattern(r"checkpoint-(\d+)\Z")
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
        # Without both, optuna refuses the study's name or starts a new one. With them oumi keeps
        # the trials that ended and runs `n_trials` more.
        config = job.parts.get("config", {})
        return bool(config.get("tuning.storage")) and config.get("tuning.load_if_exists") is True
    return True


def in_its_folder(job: Job) -> bool:
    """Whether its place is cleared before another build: one that the user chose is not."""
    return job.place == job.folder or job.place.startswith(f"{job.folder}/")


def newest_checkpoint(job: Job, last: LastAttempt) -> str:
    """The path of the newest whole checkpoint that `last` or what it went on from made; or ""."""
    try:
        names = os.listdir(job.place)
    except OSError:
        return ""
    since = 0.0 if in_its_folder(job) else (last.since or last.started) - _SLACK
    found = [(int(match[1]), name) for name in names if (match := _CHECKPOINT.match(name))]
    for _, name in sorted(found, reverse=True):
        path = os.path.join(job.place, name)
        if is_whole(path, since):
            return path
    return ""


def resume_point(job: Job, last: LastAttempt) -> str:
    """The name of the checkpoint (`checkpoint-20`) that a next attempt would go on from, or "".

    Supposes that the job's build key is still that of `last`; the start of the attempt checks it.
    """
    if last.state not in _UNFINISHED or not last.build_key or not verbs.verb(job.verb).resume:
        return ""
    return os.path.basename(newest_checkpoint(job, last))
