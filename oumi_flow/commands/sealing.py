"""Seals the answer of a run with nothing to do: gathers everything that it was drawn from.

What cannot be proved by stats and listings (globs, links to folders, folders of very many files)
is not sealed, and costs the next run a full look.
"""

from __future__ import annotations

import argparse
import os
import stat as modes
from typing import TYPE_CHECKING

from oumi_flow import seal
from oumi_flow.disk import is_glob, is_settled, stamp, stamp_of
from oumi_flow.disk.walk import is_ours
from oumi_flow.errors import FlowError
from oumi_flow.load.secrets import is_written_out
from oumi_flow.load.snapshot import base_file
from oumi_flow.model import Counts, Evidence, Plan, Stamp

if TYPE_CHECKING:
    from oumi_flow.commands.opening import Opened

# Flags that ask for another look, or for another answer than the one line.
_OTHER = ("force", "force_all", "verify", "rerun_triggers", "json", "quiet", "chdir", "run_id")
_MOST_ENTRIES = 10_000  # in all folders


class _NotSealedError(Exception):
    """Something that a seal cannot prove."""


def seal_no_op(plan: Plan, opened: Opened, options: argparse.Namespace, text: str) -> None:
    """Seal `text`, if all that the plan saw can be seen again for little. Never raises."""
    words = options.command_line
    if any(getattr(options, name, None) for name in _OTHER) or plan.orphans or plan.refreshed:
        return
    if seal.file_of(words) != options.file:
        return  # it would not be found again
    secrets = {text for job in opened.workflow.jobs for text in job.secret_env.values()}
    if any(map(is_written_out, secrets)):
        return  # it may stand among the words, or be the value of a variable
    try:
        seal.write(words, options.file, _proof(plan, opened), text)
    except (_NotSealedError, FlowError, OSError):
        return


def _proof(plan: Plan, opened: Opened) -> seal.Proof:
    """Raises _NotSealedError, OSError."""
    workflow, store = opened.workflow, opened.store
    looks = _Looks(opened)
    for path, was in workflow.sources.items():
        looks.saw(path, was)
    base = base_file(workflow.path)
    looks.saw(base, stamp(base))
    if store.index_stamp is None:
        raise _NotSealedError
    looks.saw(store.paths.index, store.index_stamp)
    for step in plan.steps:
        job, trace = step.job, step.past.trace
        marker = store.marker_stamp(job.name)
        if trace is None or marker is None:
            raise _NotSealedError
        looks.saw(store.paths.marker(job.name), marker)
        for put in job.outputs:
            looks.judged(put.path, put.counts, trace.outputs[put.key])
        for read in job.inputs:
            if read.counts is not Counts.RAN:
                looks.judged(read.path, read.counts, trace.inputs[read.key])
    looks.proof.variables.update(workflow.variables)
    looks.proof.needs.extend(workflow.needs)
    return looks.proof


class _Looks:
    """Collects a proof."""

    def __init__(self, opened: Opened) -> None:
        self.proof = seal.Proof()
        self._disk, self._began_ns = opened.disk, opened.began_ns
        self._entries = 0

    def saw(self, path: str, was: Stamp | None) -> None:
        """A file of which a stamp was taken, or that was not there, since we began."""
        if was is None:
            self.proof.missing.add(path)
        elif is_settled(was, self._began_ns):
            self.proof.stamps[path] = was
        else:
            raise _NotSealedError

    def judged(self, path: str, counts: Counts, known: Evidence) -> None:
        """An input or output that was found to be as it is known."""
        if not known.settled or is_glob(path):
            raise _NotSealedError
        if known.kind == "file":
            self.proof.stamps[path] = known.files[0].stamp
        elif known.kind == "folder":
            self._walk(path)
            # Only now, so that what came while we walked is found by this look or by that of the
            # listings, in the next run.
            if self._disk.observe(path, counts, known) is not known:
                raise _NotSealedError
        else:
            self.proof.missing.add(path)  # "missing"; "ran": the upstream's own key stands for it

    def _walk(self, top: str) -> None:
        """All that lies there, counted or not: which of it counts depends on nothing else."""
        waiting = [top]  # no recursion: folders may lie deeper than the interpreter's stack
        while waiting:
            folder = waiting.pop()
            if folder in self.proof.listings:
                continue
            names = seal.names(folder)
            self.proof.listings[folder] = names
            self._entries += len(names)
            if self._entries > _MOST_ENTRIES:
                raise _NotSealedError
            for name in names:
                if is_ours(name):
                    continue
                path = f"{folder}/{name}"
                seen = os.stat(path)
                if modes.S_ISREG(seen.st_mode):
                    self.proof.stamps[path] = stamp_of(seen)
                elif modes.S_ISDIR(seen.st_mode) and not os.path.islink(path):
                    waiting.append(path)
                else:
                    raise _NotSealedError
