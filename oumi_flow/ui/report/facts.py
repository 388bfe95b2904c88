"""What a report is made of. Whoever gathers it has masked the values of secrets.

Times are unix seconds, durations seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oumi_flow.board import Board
from oumi_flow.dataclass import dataclass, field
from oumi_flow.model import EMPTY
from oumi_flow.typed import Any
from oumi_flow.ui.report.spans import Spans

# A metric's points in order of steps: (step, value). NaN stands for a value that was not finite.
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class FileFact:
    """Something that a job read or made, and the evidence that its marker keeps of it."""

    path: str
    note: str = ""  # `made by prep`, `a folder of 12 files`
    size: int | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class JobFact:
    """One job beyond what the board knows of it. Every part of it may be missing."""

    name: str
    description: str = ""
    command: str = ""  # as one would type it
    workdir: str = ""
    config: str = ""  # the file
    values: Mapping[str, Any] = field(
        default_factory=lambda: EMPTY
    )  # its merged config, flat dotted keys
    env: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    inputs: Sequence[FileFact] = ()
    outputs: Sequence[FileFact] = ()
    metrics: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    curves: Mapping[str, Curve] = field(default_factory=lambda: EMPTY)
    log: str = ""
    made: float | None = None  # when what there is was made
    made_by: str = ""  # the run that made it
    fingerprint: str = ""
    build_key: str = ""
    versions: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    notes: Sequence[str] = ()  # what to know of all this: `a later run has made it again`


@dataclass(frozen=True, slots=True)
class Report:
    """`now`: when it was written. `ends`: the last lines of a failed job's log."""

    board: Board
    now: float
    spans: Spans = field(default_factory=Spans)
    jobs: Mapping[str, JobFact] = field(default_factory=lambda: EMPTY)
    ends: Mapping[str, Sequence[str]] = field(default_factory=lambda: EMPTY)
    description: str = ""
    command: str = ""  # that started the run
    files: Sequence[FileFact] = ()  # the workflow file and the configs
    env: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # what all jobs are given
    further: Sequence[tuple[str, str]] = ()  # versions and the like
    missing: str = ""  # why there is less to tell than there might be
