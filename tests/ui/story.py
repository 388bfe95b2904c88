"""A recorded run to draw, and pictures to compare with.

`recorded/sweep.jsonl`: prep, three trainings on two GPUs (one is retried and fails, one waits for
a GPU that another run holds), evaluations, and a shell job that ends up blocked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from oumi_flow.board import Board, apply
from oumi_flow.events import Event, from_line
from oumi_flow.ui import cells

HERE = Path(__file__).parent
BEGAN = 1767439200.0  # 2026-01-03 11:20:00 UTC
TAIL = (
    '  File "trainer.py", line 88, in step',
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB.",
    "",
)
# A name and words that would redraw, colour or turn round a screen if they got through.
EVIL = "\x1b[31m\x1b]0;owned\x07[bold]x[/bold]\r\x9b2J\u202eabc\u2028"


def sweep() -> list[Event]:
    lines = (HERE / "recorded" / "sweep.jsonl").read_text(encoding="utf-8").splitlines()
    events = [from_line(line) for line in lines]
    return [event for event in events if event is not None]


def board_at(seconds: float) -> Board:
    """The sweep's board, that long after its start."""
    board = Board()
    for event in sweep():
        if event.at <= BEGAN + seconds:
            apply(board, event)
    return board


def golden(name: str) -> str:
    return (HERE / "golden" / f"{name}.txt").read_text(encoding="utf-8")


def too_wide(text: str, columns: int) -> list[str]:
    """Lines wider than that. A path stays whole, to be copied: those are let off."""
    lines = [line for line in text.splitlines() if cells.width(line) > columns]
    return [line for line in lines if "/" not in line.split()[-1]]


def without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def harmless(text: str) -> bool:
    """Whether nothing but our own colours could act on a terminal."""
    return all(char == "\n" or char.isprintable() for char in without_colour(text))


def in_order(text: str, words: Sequence[str]) -> bool:
    places = [text.find(word) for word in words]
    return -1 not in places and all(a < b for a, b in pairwise(places))
