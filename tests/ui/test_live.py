"""The live block: what it shows at an instant, at any size, and how it comes and goes."""

from __future__ import annotations

import io
import threading

import pytest

from oumi_flow.board import Board, apply
from oumi_flow.board.outlook import time_left
from oumi_flow.events import JobQueued, JobStarted, Planned, Row, RunStarted
from oumi_flow.model import Progress
from oumi_flow.ui import cells
from oumi_flow.ui.frame import frame
from oumi_flow.ui.live import Live
from oumi_flow.ui.theme import Theme
from tests.ui.story import BEGAN, EVIL, TAIL, board_at, golden, harmless, in_order, sweep

NOW = 200.0  # seconds after the start: two trainings run, one waits for its second attempt


def halfway(job: str) -> Progress | None:
    steps = {"train-1e-4": 670.0, "train-1e-3": 120.0}
    if job not in steps:
        return None
    return Progress(steps[job], 1000, "steps", {"loss": 1.23456, "learning_rate": 2e-5})


def drawn(board: Board, width: int, height: int, now: float = NOW, encoding: str = "utf-8") -> str:
    theme = Theme(width=width, encoding=encoding)
    left = time_left(board, BEGAN + now)
    lines = frame(board, theme, height, BEGAN + now, halfway, left)
    return "".join(theme.render(line) + "\n" for line in lines)


def crowd(running: int, waiting: int) -> Board:
    board = Board()
    names = [f"job-{i:04}" for i in range(running + waiting)]
    apply(board, RunStarted("r", "crowd", "c.yaml", "out", 1, "h", max_parallel=running, at=BEGAN))
    rows = tuple(Row(name, "train", "run") for name in names)
    apply(board, Planned(len(names), 0, 0, rows, at=BEGAN))
    for name in names[:running]:
        apply(board, JobStarted(name, at=BEGAN))
    return board


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_block(width: int) -> None:
    text = drawn(board_at(NOW), width, 30)
    assert text == golden(f"live_{width}")
    assert all(cells.width(line) <= width for line in text.splitlines())


def test_the_block_in_ascii() -> None:
    text = drawn(board_at(NOW), 80, 30, encoding="ascii")
    assert text.isascii()
    assert "####" in text


def test_every_size_is_kept() -> None:
    boards = [board_at(0), board_at(NOW), board_at(360), crowd(30, 200), crowd(1, 0), Board()]
    for board in boards:
        for width in (20, 33, 40, 57, 80, 200):
            for height in (1, 2, 3, 5, 8, 13, 40):
                lines = drawn(board, width, height).splitlines()
                assert len(lines) <= height
                assert all(cells.width(line) <= width for line in lines), (width, height)


def test_more_running_jobs_than_rows() -> None:
    text = drawn(crowd(30, 200), 80, 20)
    assert in_order(text, ["job-0000", "more running", "… and 200 waiting", "Total: 230"])
    shown = sum("job-" in line for line in text.split("more running")[0].splitlines())
    assert f"… and {30 - shown} more running" in text
    assert "Total: 230 | Running: 30 | Completed: 0 | Failed: 0" in text


def test_waiting_jobs_say_what_for_those_that_are_next_first() -> None:
    board = crowd(1, 3)
    apply(board, JobQueued("job-0003", "GPU 0: held by run R, user U", at=BEGAN))
    text = drawn(board, 80, 20)
    assert in_order(text, ["job-0003  waits for GPU 0: held by run R, user U", "job-0001"])


def test_a_job_without_progress_shows_its_time_and_what_is_expected() -> None:
    text = drawn(board_at(20), 80, 20, now=20)
    assert "prep  20s  eta 22s" in text


class Terminal(io.StringIO):
    """Counts what is written; `seen` is set when `word` has come by."""

    def __init__(self, word: str = "") -> None:
        super().__init__()
        self.word, self.seen = word, threading.Event()

    def write(self, text: str) -> int:
        if self.word and self.word in text:
            self.seen.set()
        return super().write(text)


SCREEN = Theme(color=True, width=80, screen=True)


def test_what_ended_scrolls_by_and_the_block_goes_away() -> None:
    out = Terminal("670/1000")
    clock = iter(range(10_000_000))
    view = Live(
        out,
        theme=SCREEN,
        size=(80, 24),
        progress=halfway,
        tail=lambda job: TAIL,
        clock=lambda: BEGAN + NOW + next(clock) / 1000,
    )
    with view:
        for event in sweep()[:10]:
            view(event)
        assert out.seen.wait(60)  # it draws by itself
        for event in sweep()[10:]:
            view(event)
    text = out.getvalue()
    words = ["1 failed", "2 blocked", "in 6m 16s", "\x1b[?25h"]
    assert all(word in text for word in words)
    # What is left on the screen in the end: the lines, and no block.
    end = text[text.rindex("train-3e-4") :]
    assert "Total:" not in end


def test_a_burst_of_events_costs_few_pictures() -> None:
    out = Terminal()
    asked = []
    view = Live(out, theme=SCREEN, size=(80, 24), progress=lambda job: asked.append(job))
    board = crowd(1000, 0)
    view(RunStarted("r", "crowd", "c.yaml", "out", 1, "h", at=BEGAN))
    view(Planned(1000, 0, 0, tuple(Row(name, "train", "run") for name in board.rows)))
    with view:
        for name in board.rows:
            view(JobStarted(name, at=BEGAN))
    # Each job is asked once at most in half a second, and only those on the screen.
    assert len(set(asked)) < 30


def test_a_fault_in_drawing_reaches_the_caller_and_restores_the_cursor() -> None:
    out = Terminal("\x1b[?25h")

    def broken(job: str) -> Progress | None:
        raise OSError("gone")

    view = Live(out, theme=SCREEN, size=(80, 24), progress=broken)
    for event in sweep()[:6]:
        view(event)
    with view:
        assert out.seen.wait(60)
        with pytest.raises(OSError, match="gone"):
            view(sweep()[6])


def test_names_are_not_markup_and_cannot_act_on_the_terminal() -> None:
    out = Terminal("[bold]x[/bold]")
    view = Live(out, theme=SCREEN, size=(160, 24))
    job = f"j{EVIL}"
    with view:
        view(RunStarted("r", EVIL, "c.yaml", "out", 1, "h", gpus=(0,), at=BEGAN))
        view(Planned(2, 0, 0, (Row(job, "train", "run"), Row("w", "train", "run", (), (job,)))))
        view(JobStarted(job, devices=(EVIL,), at=BEGAN))
        assert out.seen.wait(60)
    board = Board()
    apply(board, RunStarted("r", EVIL, "c.yaml", "out", 1, "h", gpus=(0,), at=BEGAN))
    apply(board, JobStarted(job, devices=(EVIL,), at=BEGAN))
    text = drawn(board, 160, 20)
    assert harmless(text)
    assert "[bold]x[/bold]" in text
    assert "owned\x07" not in out.getvalue()
