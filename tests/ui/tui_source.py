"""A run for tests of the screen: a `Source` made of recorded events, with no run behind it.

    source = StorySource(tmp_path)            # story.sweep(), 200 seconds after its start:
                                              # train-1e-4 and train-1e-3 run, train-3e-4 retries
    source.at(400)                            # more has happened; `poll` takes it in
    source = StorySource(tmp_path, events)    # another story; crowd(1000) is one with many jobs
    source.write("train-1e-4", "a line\\n")    # appends to the job's log, a real file
    source.asked                              # [("cancel", ("prep",)), …]: wishes to the run
    source.values, source.points, source.known, source.table, source.devices
                                              # what progress, curves, facts, metrics, gpus answer

Everything answers at once and the same every time. `now` is the clock that goes with the story.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from oumi_flow.board import Board, apply
from oumi_flow.events import Event, JobStarted, Planned, Row, RunStarted
from oumi_flow.model import Progress
from oumi_flow.ui.tables import GpuRow, MetricRow
from oumi_flow.ui.tui.source import AttemptFacts, Curve, JobFacts
from tests.ui.story import BEGAN, sweep

MASKED = "••••••"


class StorySource:
    """See the module. `log` is a path in `folder`, of the same shape as a run's own."""

    def __init__(
        self, folder: Path, events: Sequence[Event] | None = None, seconds: float = 200.0
    ) -> None:
        self.folder = folder
        self.asked: list[tuple[str, object]] = []
        self.answer = "the run was asked to"  # what cancel and run_again say
        self.newer = ""  # what moved_on says
        self.stories: dict[str, list[Event]] = {}  # what `follow` goes to
        self.polls = 0
        self.values: dict[str, Progress] = {
            "train-1e-4": Progress(
                670, 1000, "steps", {"loss": 1.23456, "learning_rate": 2e-5, "grad_norm": 0.7}
            ),
            "train-1e-3": Progress(120, 1000, "steps", {"loss": 2.5, "learning_rate": 9e-4}),
        }
        self.points: dict[str, dict[str, Curve]] = {
            "train-1e-4": {"loss": falling(67, 3.0, 1.2), "learning_rate": cosine(67, 1e-4)},
            "train-3e-4": {"loss": [(10.0, 3.1), (20.0, 2.2), (30.0, math.nan), (40.0, 9.0)]},
            "train-1e-3": {"loss": falling(12, 3.4, 2.5), "learning_rate": cosine(12, 1e-3)},
        }
        self.known: dict[str, JobFacts] = {}
        self.table: list[MetricRow] = [
            MetricRow(
                name,
                {"loss": loss, "eval_loss": loss + 0.1, "train_runtime": 200.1},
                {"training.learning_rate": rate, "training.seed": 1},
                verb="train",
            )
            for name, rate, loss in (
                ("train-1e-4", 1e-4, 1.2345678),
                ("train-3e-4", 3e-4, math.nan),
                ("train-1e-3", 1e-3, 1.0),
            )
        ]
        self.devices: list[GpuRow] = [
            GpuRow(
                0, "NVIDIA H100", 41_000_000_000, 85_000_000_000, 97.0, "train-1e-4 of this run"
            ),
            GpuRow(
                1, "NVIDIA H100", 12_000_000_000, 85_000_000_000, 62.0, "train-1e-3 of this run"
            ),
        ]
        self._begin(sweep() if events is None else events)
        self.now = BEGAN
        self.at(seconds)
        self.poll()

    # -- what tests do ------------------------------------------------------------------------

    def at(self, seconds: float) -> None:
        """Time goes on to that long after the start."""
        self.now = BEGAN + seconds

    def write(self, job: str, text: str | bytes, back: int = 0) -> None:
        """Append to a log of the job, which is made if need be."""
        path = Path(self.log(job, back))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(text.encode() if isinstance(text, str) else text)

    def _begin(self, events: Sequence[Event]) -> None:
        self._pending = sorted(events, key=lambda event: event.seq)
        self._board = Board()
        self._live = True

    # -- what the screen asks -----------------------------------------------------------------

    @property
    def board(self) -> Board:
        return self._board

    @property
    def live(self) -> bool:
        return self._live and not self._board.over

    def lose(self, alive: Sequence[str] = ()) -> None:
        """The runner is gone; the next poll sees it."""
        self._live = False
        self._alive = tuple(alive)

    def poll(self) -> bool:
        self.polls += 1
        before = self._board.version
        while self._pending and self._pending[0].at <= self.now:
            apply(self._board, self._pending.pop(0))
        if not self._live:
            self._board.lost(self._alive)
        return self._board.version != before

    def progress(self, job: str) -> Progress | None:
        return self.values.get(job)

    def curves(self, job: str) -> Mapping[str, Curve]:
        return self.points.get(job, {})

    def log(self, job: str, back: int = 0) -> str:
        return str(self.folder / job / ("job.log" + (f".{back}" if back else "")))

    def facts(self, job: str) -> JobFacts:
        return self.known.get(job) or self._facts(job)

    def metrics(self) -> Sequence[MetricRow]:
        return self.table

    def gpus(self) -> Sequence[GpuRow]:
        return self.devices

    def cancel(self, jobs: Sequence[str] | None) -> str:
        self.asked.append(("cancel", None if jobs is None else tuple(jobs)))
        return self.answer

    def run_again(self, jobs: Sequence[str]) -> str:
        self.asked.append(("run_again", tuple(jobs)))
        return self.answer

    def moved_on(self) -> str:
        return self.newer

    def follow(self, run_id: str) -> None:
        self.asked.append(("follow", run_id))
        self.newer = ""
        self._begin(self.stories.get(run_id, []))
        self.poll()

    # -- helpers --------------------------------------------------------------------------

    def _facts(self, job: str) -> JobFacts:
        row = self._board.rows[job]
        rate = job.removeprefix("train-")
        logs = [back for back in range(5) if Path(self.log(job, back)).exists()]
        return JobFacts(
            name=job,
            verb=row.verb,
            folder=row.folder,
            workdir=".",
            command=("oumi", "train", "-c", f"{row.folder}/.oumi-flow/config.yaml"),
            env={"HF_TOKEN": MASKED, "OMP_NUM_THREADS": "8"},
            config={
                "model.model_name": "HuggingFaceTB/SmolLM2-135M",
                "training.learning_rate": rate,
                "training.max_steps": 1000,
                "training.seed": 1,
            },
            differs=frozenset({"training.learning_rate"}),
            inputs=(("data/train.jsonl", "12.4 MB"), ("outputs/sft-sweep/prep", "made by prep")),
            outputs=((f"{row.folder}/output", "a model"),),
            upstream=row.upstream,
            downstream=tuple(
                other.name for other in self._board.rows.values() if job in other.upstream
            ),
            why=row.reasons,
            attempts=tuple(
                AttemptFacts(
                    back,
                    self._board.run_id,
                    max(logs) - back + 1,
                    BEGAN + 10.0,
                    self.log(job, back),
                )
                for back in logs
            ),
        )


def falling(count: int, first: float, last: float) -> Curve:
    """A loss as one likes to see it: a point each 10 steps, with a little noise."""
    return [
        (
            float(n * 10),
            last + (first - last) * math.exp(-4 * n / count) + 0.04 * math.sin(n * 12.9898),
        )
        for n in range(1, count + 1)
    ]


def cosine(count: int, top: float) -> Curve:
    return [
        (float(n * 10), top * (1 + math.cos(math.pi * n / count)) / 2) for n in range(1, count + 1)
    ]


def crowd(jobs: int, running: int = 8) -> list[Event]:
    """Many jobs that need nobody: the first `running` run, the others wait."""
    names = [f"job-{number:05}" for number in range(jobs)]
    rows = tuple(Row(name, "train", "run", expected=600.0) for name in names)
    events: list[Event] = [
        RunStarted("crowd", "crowd", "c.yaml", "out", 1, "h", max_parallel=running, at=BEGAN),
        Planned(len(names), 0, 0, rows, at=BEGAN),
    ]
    events += [JobStarted(name, at=BEGAN) for name in names[:running]]
    return events
