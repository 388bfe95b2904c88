"""What the screen asks of a run, and nothing else: a board, values of jobs, wishes to the run.

The screen is a reader. Whoever opens it hands it a `Source` made of the run's files (see
`commands/watching.py`); tests hand it one made of recorded events. No call raises: what cannot be
read is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from oumi_flow.board import Board
from oumi_flow.dataclass import dataclass, field
from oumi_flow.model import Progress
from oumi_flow.ui.tables import GpuRow, MetricRow

# A metric's points in order of steps: (step, value). NaN stands for a value that was not finite.
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """One try of a job whose log is still there; `back` 0 is the newest."""

    back: int
    run_id: str = ""
    number: int = 0  # within its run, from 1
    started: float | None = None  # unix seconds
    log: str = ""  # path


@dataclass(frozen=True, slots=True)
class JobFacts:
    """Everything about a job that does not move while it runs. Secrets are masked already."""

    name: str
    verb: str = ""
    folder: str = ""
    workdir: str = ""
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)  # declared ones
    config: Mapping[str, Any] = field(default_factory=dict)  # merged, flat dotted keys
    differs: frozenset[str] = frozenset()  # config keys not the same in all jobs of this verb
    inputs: Sequence[tuple[str, str]] = ()  # path, what is known of it (`made by prep`, size …)
    outputs: Sequence[tuple[str, str]] = ()
    upstream: Sequence[str] = ()
    downstream: Sequence[str] = ()
    why: Sequence[str] = ()  # the reasons as lines
    attempts: Sequence[AttemptFacts] = ()


class Source(Protocol):
    """One run, from outside. Calls may read a file or two; none waits for the run."""

    @property
    def board(self) -> Board:
        """The fold of all events polled so far; the same object every time."""

    @property
    def live(self) -> bool:
        """Whether the run's runner lives, as of the last poll."""

    def poll(self) -> bool:
        """Take in new events, and whether the run was lost. Returns whether anything changed."""

    def progress(self, job: str) -> Progress | None: ...

    def curves(self, job: str) -> Mapping[str, Curve]:
        """Every metric's curve, at most some thousand points each."""

    def log(self, job: str, back: int = 0) -> str:
        """The path of a log, whether it is there or not."""

    def facts(self, job: str) -> JobFacts:
        """May take a moment at the first call (the workflow is loaded): not for every frame."""

    def metrics(self) -> Sequence[MetricRow]:
        """The sweep table's rows."""

    def gpus(self) -> Sequence[GpuRow]:
        """The GPUs with holders and load. Asks the driver: some milliseconds."""

    def cancel(self, jobs: Sequence[str] | None) -> str:
        """Ask the run to stop these jobs, None: itself. Returns words for the user; never waits."""

    def run_again(self, jobs: Sequence[str]) -> str:
        """Start the workflow again in the background for these jobs; [] for all of it.

        Waits until it has begun, and for some seconds before that if the run has told its end but
        has not let go of its folder yet. Returns words for the user: the new run's id, or why it
        cannot.
        """

    def moved_on(self) -> str:
        """The id of a newer run of the same folder, if there is one; `follow` goes there."""

    def follow(self, run_id: str) -> None:
        """Look at that run from now on: `board` begins anew."""
