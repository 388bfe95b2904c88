"""Plans only those jobs of a large workflow that something has moved for.

A seal of the same command line proves of all jobs that they were up to date, and knows which of
them looked at what is different now. Those are judged, with everything that comes after them; the
jobs just before them are there as well, since what they made is read. All others are counted, and
neither loaded nor looked at again. Whatever does not fit, and the whole workflow is planned.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from oumi_flow.dataclass import dataclass
from oumi_flow.errors import FlowError
from oumi_flow.model import Decision, Plan, Stamp
from oumi_flow.seal import Look, OtherError
from oumi_flow.seal.jobs import SealedJobs
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from oumi_flow.commands.opening import Opened
    from oumi_flow.events import Rows

# Below so many jobs it makes no difference how many of them are planned.
_FEW = 100


@dataclass(frozen=True, slots=True)
class Part:
    """The jobs that are planned of a workflow whose others are up to date, by a seal."""

    sealed: SealedJobs
    places: Mapping[str, int]  # of each job in the sealed plan
    proven: frozenset[str]  # those of them that are up to date by the seal too
    rows: Rows  # what the sealed plan told of all jobs
    secrets: frozenset[str]  # templates of the secrets of all jobs
    typical: Mapping[str, float]  # seconds that a job of each verb took, of all jobs

    @property
    def unlisted(self) -> int:
        return len(self.sealed.names) - len(self.places)


def open_part(look: Look, options: argparse.Namespace) -> tuple[Opened, Plan] | None:
    """What has to be planned after this look, and its plan; None: the whole workflow."""
    from oumi_flow.commands.opening import judged

    if not look.path or look.lock is None:
        return None
    try:
        opened = _open(SealedJobs(look), look, options)
        if opened is None:
            return None
        made = judged(opened, options)
    except (OtherError, FlowError, OSError, ValueError, KeyError, IndexError, TypeError):
        return None  # whoever plans the whole finds the words for it
    return None if _is_strange(made, opened) else (opened, made)


def _open(sealed: SealedJobs, look: Look, options: argparse.Namespace) -> Opened | None:
    from oumi_flow.commands.opening import Opened
    from oumi_flow.disk import Disk
    from oumi_flow.events import Rows
    from oumi_flow.load.snapshot import read_part
    from oumi_flow.store import Store
    from oumi_flow.verbs import model_file

    concerned = sealed.with_downstream(sealed.touched(look))
    before = {job for each in concerned for job in sealed.upstream[each]} - concerned
    places = sorted(concerned | before)
    if len(sealed.names) > _FEW and 2 * len(places) > len(sealed.names):
        return None
    workflow = read_part(
        options.file, [sealed.line(job) for job in places], sealed.snapshot, os.environ
    )
    if workflow is None or look.lock is None:
        return None
    proven = frozenset(sealed.names[job] for job in before)
    # All of the seal is read before anything begins, so that what is torn is found now.
    named = {sealed.names[job]: job for job in places}
    told, secrets = Rows(*sealed.rows(), named), frozenset(sealed.jobs["secrets"])
    part = Part(sealed, named, proven, told, secrets, dict(sealed.jobs["typical"]))
    store = Store(workflow.output_dir, workflow.private, indexed=False)
    lock = Stamp(*look.lock)
    return Opened(workflow, store, Disk(model_file), look.began_ns, lock, True, part)


def _is_strange(plan: Plan, opened: Opened) -> bool:
    """Whether there is more to it than jobs that are stale or not."""
    from oumi_flow.commands.opening import has_new_links, missing_input

    assert opened.part is not None
    for step in plan.steps:
        if step.job.name in opened.part.proven:
            if step.decision is not Decision.UP_TO_DATE:
                return True  # its marker went after the look
        elif step.past.attempt is not None and step.past.attempt.is_unsettled:
            return True  # of a lost run
    return missing_input(plan, opened) is not None or has_new_links(plan, opened)
