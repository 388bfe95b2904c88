"""What a run looks like in a pipe, in CI, and as a plan."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from oumi_flow.board import Board, apply
from oumi_flow.events import (
    JobFinished,
    JobQueued,
    JobStarted,
    Note,
    Planned,
    Row,
    RunFinished,
    RunStarted,
)
from oumi_flow.model import Progress
from oumi_flow.ui.brief import no_op
from oumi_flow.ui.plain import Plain, plan_text
from oumi_flow.ui.theme import Theme, theme_of
from tests.ui.story import (
    BEGAN,
    EVIL,
    TAIL,
    board_at,
    golden,
    harmless,
    in_order,
    sweep,
    too_wide,
    without_colour,
)


def told(theme: Theme | None = None, *, verbose: int = 0, quiet: bool = False) -> str:
    out = io.StringIO()
    view = Plain(out, theme=theme or Theme(), verbose=verbose, quiet=quiet, tail=lambda job: TAIL)
    for event in sweep():
        view(event)
    return out.getvalue()


def small(*jobs: str) -> tuple[io.StringIO, Plain]:
    """A view of a run of these jobs that has just been planned."""
    out = io.StringIO()
    view = Plain(out, theme=Theme())
    view(RunStarted("r1", "demo", "demo.yaml", "out", 1, "host", at=BEGAN))
    view(Planned(len(jobs), 0, 0, tuple(Row(job, "shell", "run") for job in jobs), at=BEGAN))
    out.truncate(0)
    out.seek(0)
    return out, view


# -- a run --------------------------------------------------------------------------------


def test_a_run_in_a_pipe() -> None:
    assert told() == golden("plain")


def test_a_run_on_a_terminal_says_the_same_in_colour() -> None:
    text = told(Theme(color=True))
    assert "\x1b[" in text
    assert without_colour(text) == golden("plain")


def test_quiet_tells_failures_and_the_summary() -> None:
    assert told(quiet=True) == golden("plain_quiet")


def test_verbose_tells_every_reason() -> None:
    text = told(verbose=1)
    assert "(+1 more)" not in text
    assert in_order(text, ["config changed: training.learning_rate", "input changed: data/train"])


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_lines_wrap_under_their_words(columns: int) -> None:
    text = told(Theme(width=columns))
    assert not too_wide(text, columns)
    # Wrapping moves words to the next line and loses none of them.
    whole = " ".join(told().split())
    assert " ".join(text.split()).startswith(whole[: whole.index("failed: train-3e-4")])


def test_an_ascii_stream_gets_ascii() -> None:
    text = told(Theme(encoding="ascii"))
    assert text.isascii()
    assert "training.learning_rate: 0.001 -> 0.0001" in text


def test_equal_failures_are_told_once() -> None:
    out, view = small("a", "b", "c")
    for place, job in enumerate("abc"):
        cause = "exit 1" if job != "c" else "timed out after 2h"
        view(JobFinished(job, "failed", 1, cause, 3.0, at=BEGAN + place))
    view(RunFinished("failed", at=BEGAN + 9))
    end = out.getvalue().split("\n\n", 1)[1]
    assert end == (
        "failed: a (exit 1)\n  and so did b\n\nfailed: c (timed out after 2h)\n\n3 failed in 9.0s\n"
    )


def test_jobs_that_fail_with_other_last_words_stand_apart() -> None:
    out = io.StringIO()
    view = Plain(out, theme=Theme(), tail=lambda job: [f"no such file: {job}.txt"])
    for job in "ab":
        view(JobFinished(job, "failed", 1, "exit 1", 3.0, at=BEGAN))
    view(RunFinished("failed", at=BEGAN + 9))
    assert in_order(out.getvalue(), ["failed: a", "a.txt", "failed: b", "b.txt", "2 failed"])


def test_waiting_for_a_slot_is_no_news_but_for_a_foreign_gpu_is() -> None:
    out, view = small("a")
    view(JobQueued("a", "a slot", at=BEGAN))
    assert out.getvalue() == ""
    for _ in range(2):
        view(JobQueued("a", "GPU 0: held by run R, user U", at=BEGAN))
    assert out.getvalue() == "11:20:00     waiting  a  for GPU 0: held by run R, user U\n"


def test_an_interrupted_run_says_how_to_go_on() -> None:
    out, view = small("a", "b")
    view(JobStarted("a", at=BEGAN))
    view(JobFinished("a", "cancelled", cause="SIGINT", took=2.0, at=BEGAN + 2))
    view(RunFinished("interrupted", cause="SIGINT", at=BEGAN + 2))
    assert out.getvalue().endswith(
        "1 cancelled, 1 not run in 2.0s\ninterrupted (SIGINT); the same command goes on\n"
    )


def test_a_sign_of_life_at_most_once_a_minute() -> None:
    out = io.StringIO()
    view = Plain(
        out, theme=Theme(), progress=lambda job: Progress(670, 1000, "steps", {"loss": 1.0})
    )
    view.tick(BEGAN)  # before anything was said there is nothing to say
    for event in sweep()[:6]:
        view(event)
    out.truncate(0)
    out.seek(0)
    view.tick(BEGAN + 80)
    assert out.getvalue() == ""
    view.tick(BEGAN + 110)
    view.tick(BEGAN + 111)
    line = (
        "11:21:50     running  3/10 ended · train-1e-4 1m 08s (670/1000 steps), "
        "train-3e-4 1m 08s (670/1000 steps) · roughly 6m left\n"
    )
    assert out.getvalue() == line
    view.tick(BEGAN + 171)
    assert out.getvalue().count("\n") == 2


def test_names_causes_and_logs_cannot_act_on_the_terminal() -> None:
    out = io.StringIO()
    view = Plain(out, theme=Theme(color=True), tail=lambda job: [EVIL], verbose=1)
    job = f"j{EVIL}"
    view(RunStarted("r", EVIL, EVIL, EVIL, 1, EVIL, at=BEGAN))
    view(Planned(1, 0, 0, (Row(job, "shell", "run", (EVIL, EVIL)),), at=BEGAN))
    view(JobQueued(job, f"GPU 0: {EVIL}", at=BEGAN))
    view(JobStarted(job, devices=(EVIL,), log=EVIL, at=BEGAN))
    view(Note(EVIL, "warning", job, at=BEGAN))
    view(JobFinished(job, "failed", 1, EVIL, 1.0, at=BEGAN))
    view(RunFinished("failed", cause=EVIL, at=BEGAN))
    assert harmless(out.getvalue())
    assert "[bold]x[/bold]" in out.getvalue()


# -- the plan -----------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [0, 40, 80])
def test_the_plan(columns: int) -> None:
    text = plan_text(board_at(0), Theme(width=columns), orphans=("old-1", "old-2"))
    assert text + "\n" == golden(f"plan_{columns or 'pipe'}")
    assert not columns or not too_wide(text, columns)


def test_a_verbose_plan_names_what_is_up_to_date_and_every_reason() -> None:
    text = plan_text(board_at(0), Theme(), verbose=1)
    assert in_order(text, ["train-1e-4", "config changed", "input changed: data/train.jsonl"])
    assert in_order(text, ["\nup to date\n", "baseline", "made 2026-01-02 09:10, took 31s"])


def test_a_plan_with_nothing_to_do() -> None:
    board = Board()
    apply(board, RunStarted("r", "demo", "demo.yaml", "out", 1, "host"))
    apply(board, Planned(0, 0, 1, (Row("a", "train", "up to date", ("up to date",)),)))
    assert plan_text(board, Theme()) == "demo: 1 up to date"


def test_a_difference_in_a_reason_keeps_its_lines() -> None:
    row = Row("a", "shell", "run", ("command changed\n  - echo 1\n  + echo 2", "forced by --force"))
    out = io.StringIO()
    view = Plain(out, theme=Theme(), verbose=1)
    view(RunStarted("r1", "demo", "demo.yaml", "out", 1, "host", at=BEGAN))
    view(Planned(1, 0, 0, (row,), at=BEGAN))
    assert plan_text(view.board, Theme(), verbose=1) == (
        "demo: 1 will run\n\n"
        "will run\n"
        "  a  shell  command changed\n"
        "              - echo 1\n"
        "              + echo 2\n"
        "            forced by --force"
    )
    view(JobStarted("a", at=BEGAN))
    assert out.getvalue().endswith(
        "11:20:00     running  a  command changed\n"
        "                           - echo 1\n"
        "                           + echo 2\n"
        "                         forced by --force\n"
    )


def test_a_no_op_is_one_line() -> None:
    assert no_op("sft-sweep", 10) == "sft-sweep: up to date (10 jobs)"
    assert no_op("one", 1) == "one: up to date (1 job)"


# -- what a stream can show ---------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "screen"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({}, False),
        ({"TERM": "xterm", "CI": "true"}, False),
        ({"TERM": "xterm", "CI": "false"}, True),
    ],
)
def test_who_gets_colours(environ: dict[str, str], screen: bool) -> None:
    theme = theme_of(Terminal(), {"COLUMNS": "90", **environ})
    assert (theme.color, theme.screen, theme.width) == (screen, screen, 90)
    pipe = theme_of(io.StringIO(), {"TERM": "xterm"})
    assert (pipe.color, pipe.screen, pipe.width) == (False, False, 0)


def test_plain_lines_do_without_rich_and_networkx() -> None:
    code = (
        "import sys; from oumi_flow.ui import plain, errors, theme\n"
        "raise SystemExit(int(bool({'rich', 'networkx', 'textual'} & set(sys.modules))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
