"""All of one job by keys, and all jobs' numbers: what each page says, at any size."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

pytest.importorskip("textual")

from oumi_flow.events import JobStarted, Planned, Row, RunStarted
from oumi_flow.ui import cells
from oumi_flow.ui.tables import MetricRow
from oumi_flow.ui.theme import Theme
from oumi_flow.ui.tui import job_pages
from oumi_flow.ui.tui.curves import CurvesView
from oumi_flow.ui.tui.detail import PAGES, JobDetail
from oumi_flow.ui.tui.keymap import read_settings
from oumi_flow.ui.tui.main import MainScreen
from oumi_flow.ui.tui.metrics_table import Table
from oumi_flow.ui.tui.metrics_view import MetricsView
from oumi_flow.ui.tui.source import JobFacts
from tests.ui.pilots import At, drive
from tests.ui.story import BEGAN, EVIL
from tests.ui.tui_source import MASKED, StorySource

JOB = "train-1e-4"


async def detail(at: At, job: str = JOB, page: str = "log") -> JobDetail:
    screen = JobDetail(at.source, job, page)
    await at.app.push_screen(screen)
    await at.sees(f" {PAGES.index(page) + 1} {page}")
    return screen


def source_of(tmp_path: Path) -> StorySource:
    source = StorySource(tmp_path)
    source.write(JOB, "what the job said\n")
    return source


# -- pages --------------------------------------------------------------------------------


def test_every_page_by_its_number_built_when_first_shown(tmp_path: Path) -> None:
    says = {
        "1": ["what the job said", "following"],
        "2": ["loss", "last 1.2", "best 1.2", "step"],
        "3": ["≠ training.learning_rate", "1e-4", "the same in all of them", "training.seed"],
        "4": ["oumi train", "-c outputs/sft-sweep", "HF_TOKEN", MASKED, "OMP_NUM_THREADS"],
        "5": [
            "data/train.jsonl",
            "12.4 MB",
            "made by prep",
            "after",
            "prep",
            "before",
            "eval-1e-4",
        ],
        "6": ["1 attempt", "20260103-112000-a1b2"],
        "7": ["running", "why it runs", "config changed: training.learning_rate"],
    }

    async def story(at: At) -> None:
        screen = await detail(at)
        await at.sees(f"● {JOB} [GPU:0]  running", "67% 670/1000 steps", "1 log ")
        assert len(screen.query_one("#pages").children) == 1
        for number, (key, words) in enumerate(says.items(), 1):
            await at.press(key)
            await at.sees(*words)
            assert len(screen.query_one("#pages").children) == number
        await at.press("1")
        await at.sees("what the job said")
        await at.misses("why it runs")

    drive(source_of(tmp_path), story)


def test_tab_and_arrows_turn_pages_and_escape_goes_back(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        screen = await detail(at)
        seen = []
        for key in ("tab", "right", "right", "left", "shift+tab", "left", "left"):
            await at.press(key)
            seen.append(screen.page)
        assert seen == ["curves", "config", "command", "config", "curves", "log", "why"]
        await at.sees("why it runs")
        await at.press("escape")
        assert isinstance(at.app.screen, MainScreen)
        await detail(at)
        await at.press("q")
        assert isinstance(at.app.screen, MainScreen)

    drive(source_of(tmp_path), story)


def test_a_click_turns_the_page_too(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        screen = await detail(at)
        spans = screen.tab_spans(100)
        before = sum(len(text) for _, text, _ in spans[: [s[2] for s in spans].index("config")])
        await at.pilot.click("#tabs", offset=(before + 2, 0))
        await at.sees("≠ training.learning_rate")

    drive(source_of(tmp_path), story)


def test_the_help_begins_with_the_keys_of_the_screen_one_is_on(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await detail(at)
        await at.press("question_mark")
        await at.sees("A job", "Its log", "the page curves", "copy the job's command")
        await at.press("escape")
        await at.sees("what the job said")

    drive(source_of(tmp_path), story, size=(100, 60))


def test_keys_can_be_given_to_what_a_job_and_its_log_do(tmp_path: Path) -> None:
    settings, problems = read_settings({"keys": {"log_error": "f7", "page_why": "f9"}})
    assert problems == []

    async def story(at: At) -> None:
        await detail(at)
        await at.press("f9")
        await at.sees("why it runs")

    drive(source_of(tmp_path), story, settings=settings)


def test_y_copies_the_command(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await detail(at, page="command")
        await at.press("y")
        await at.until(lambda: at.app.clipboard.startswith("oumi train -c outputs/"))

    drive(source_of(tmp_path), story)


def test_the_detail_goes_with_the_run(tmp_path: Path) -> None:
    source = source_of(tmp_path)

    async def story(at: At) -> None:
        await detail(at, page="why")
        await at.sees("running")
        source.at(400)
        await at.sees("✓", "done", "loss 1.235", "3m 32s")

    drive(source, story)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("eval-1e-3", "not started yet: waits for train-1e-3"),
        ("judge-base", "no log: up to date"),
        ("train-3e-4", "not started yet: exit 1; attempt 2"),
    ],
)
def test_a_job_without_a_log_says_why(tmp_path: Path, job: str, words: str) -> None:
    async def story(at: At) -> None:
        await detail(at, job)
        await at.sees(words)

    drive(StorySource(tmp_path), story)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("size", [(160, 45), (80, 24), (60, 16), (40, 8)])
def test_every_page_at_every_size(tmp_path: Path, size: tuple[int, int], encoding: str) -> None:
    async def story(at: At) -> None:
        await detail(at)
        for number, page in enumerate(PAGES, 1):
            await at.press(str(number))
            await at.sees(f" {number} {page}", "run", "Esc")
            text = at.text()
            assert len(text.split("\n")) == size[1]
            assert all(cells.width(line) <= size[0] for line in text.split("\n"))
            assert encoding != "ascii" or text.isascii(), text

    drive(source_of(tmp_path), story, size=size, encoding=encoding, color=size[0] != 80)


def test_names_from_outside_are_text_on_every_page(tmp_path: Path) -> None:
    job = f"j{EVIL}"
    events = [
        RunStarted("r", EVIL, "c.yaml", "out", 1, "h", at=BEGAN),
        Planned(1, 0, 0, (Row(job, EVIL, "run", (EVIL,), (EVIL,)),), at=BEGAN),
        JobStarted(job, devices=(EVIL,), detail=EVIL, at=BEGAN),
    ]
    source = StorySource(tmp_path / "logs", events)
    source.known[job] = JobFacts(
        job, EVIL, EVIL, EVIL, (EVIL, f"-{EVIL}", f"a\n{EVIL}"), {EVIL: EVIL}, {EVIL: EVIL, "b": 1},
        frozenset({"b"}), ((EVIL, EVIL),), ((EVIL, EVIL),), (EVIL,), (EVIL,), (EVIL,),
    )  # fmt: skip
    source.points[job] = {EVIL: [(1.0, 2.0), (2.0, math.nan)]}
    source.table = [MetricRow(job, {EVIL: math.nan}, {EVIL: EVIL}), MetricRow("b", {EVIL: 1.0}, {})]

    async def story(at: At) -> None:
        await at.app.push_screen(JobDetail(source, job))
        for number in range(1, len(PAGES) + 1):
            await at.press(str(number))
            await at.sees("[bold]x[/bold]")
            assert all(char == "\n" or char.isprintable() for char in at.text())
        await at.app.push_screen(MetricsView(source))
        await at.sees("[bold]x[/bold]", "nan")
        assert all(char == "\n" or char.isprintable() for char in at.text())

    drive(source, story)


def test_a_command_is_written_as_it_can_be_typed() -> None:
    facts = JobFacts("j", command=("oumi", "train", "-c", "a b.yaml", "--seed=1"), workdir="w")
    lines = job_pages.command_lines(facts, Theme(width=60))
    text = "\n".join("".join(words for _, words in line) for line in lines)
    assert "   oumi train \\\n     -c 'a b.yaml' \\\n     --seed=1" in text
    assert "environment" not in text
    facts = JobFacts("j", command=("bash", "-euo", "pipefail", "-c", "for i in 1 2\ndo x; done\n"))
    lines = job_pages.command_lines(facts, Theme(width=60))
    text = "\n".join("".join(words for _, words in line) for line in lines)
    assert "   bash -euo pipefail -c 'for i in 1 2\n   do x; done'\n" in text


# -- curves -------------------------------------------------------------------------------


def test_curves_by_metric_scale_and_with_those_of_others(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        screen = await detail(at, page="curves")
        await at.sees("loss", "last 1.2")
        view = screen.query_one(CurvesView)
        await at.until(lambda: view.has_focus)
        await at.press("j")
        await at.sees("learning_rate", "last 0")
        await at.press("k", "l")
        await at.sees("log scale")
        await at.press("s")
        await at.sees("smoothed 0.6")
        await at.press("s", "s", "o")
        await at.sees("a train-1e-4", "b train-3e-4", "c train-1e-3")
        await at.sees("✗ train-3e-4: loss is not a number at step 30")
        await at.press("o")
        await at.misses("train-3e-4")

    drive(source_of(tmp_path), story, size=(80, 24))


def test_a_curve_grows_while_the_job_runs(tmp_path: Path) -> None:
    source = source_of(tmp_path)

    async def story(at: At) -> None:
        await detail(at, page="curves")
        await at.sees("step 670")
        source.points[JOB] = {"loss": [*source.points[JOB]["loss"], (680.0, 0.5)]}
        source.at(210)
        await at.sees("last 0.5", "step 680")

    drive(source, story)


def test_a_job_without_numbers_says_so(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await detail(at, "prep", page="curves")
        await at.sees("no numbers yet")

    drive(source_of(tmp_path), story)


# -- the sweep table ----------------------------------------------------------------------


def test_the_sweep_table_sorts_compares_and_alerts(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.app.push_screen(MetricsView(at.source))
        await at.sees("3 jobs, 1 config key differs", "learning_rate", "eval_loss", "1.235")
        await at.sees("✗ not a number: train-3e-4: loss")
        assert "seed" not in at.text()

        def order() -> list[str]:
            words = [line.split() for line in at.text().split("\n")[2:]]
            return [w for line in words for w in line if w.startswith("train-")]

        assert order() == ["train-1e-4", "train-3e-4", "train-1e-3"]
        await at.press("right", "right", "s")
        await at.sees("loss ▲")
        assert order() == ["train-1e-3", "train-1e-4", "train-3e-4"]  # the NaN is last
        await at.press("s")
        await at.sees("loss ▼")
        assert order() == ["train-1e-4", "train-1e-3", "train-3e-4"]
        await at.press("s", "home", "b")
        await at.sees("compared with train-1e-4", "(baseline)", "-0.235")
        await at.press("b")
        await at.misses("baseline)")

    drive(StorySource(tmp_path), story)


def test_marked_rows_are_drawn_over_each_other(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.app.push_screen(MetricsView(at.source))
        await at.sees("train-1e-3")
        await at.press("space", "space")
        await at.sees("2 marked", "● train-1e-4", "● train-3e-4")
        await at.press("o")
        await at.sees("a train-1e-4", "b train-3e-4")
        assert "c train-1e-3" not in at.text()
        await at.press("escape")
        await at.sees("2 marked")
        await at.press("enter")
        await at.sees("train-1e-3", "1 log ")

    drive(StorySource(tmp_path), story)


def test_the_table_is_written_for_other_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics-20260103-112000-a1b2.csv").write_text("mine\n")

    async def story(at: At) -> None:
        await at.app.push_screen(MetricsView(at.source))
        await at.sees("train-1e-3")
        await at.press("x")
        await at.sees("wrote 3 jobs to")
        await at.press("X")
        await at.until(lambda: bool(list(tmp_path.glob("*.json"))))

    drive(StorySource(tmp_path), story, size=(120, 30))
    assert (tmp_path / "metrics-20260103-112000-a1b2.csv").read_text() == "mine\n"
    with (tmp_path / "metrics-20260103-112000-a1b2-2.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["job"] for row in rows] == ["train-1e-4", "train-3e-4", "train-1e-3"]
    assert rows[0]["loss"] == "1.2345678"
    records = json.loads((tmp_path / "metrics-20260103-112000-a1b2.json").read_text())
    assert records[2] == {
        "job": "train-1e-3",
        "config": {"training.learning_rate": 1e-3},
        "metrics": {"loss": 1.0, "eval_loss": 1.1, "train_runtime": 200.1},
    }


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()

    async def story(at: At) -> None:
        await at.app.push_screen(MetricsView(at.source))
        await at.sees("train-1e-3")
        await at.press("x")
        await at.sees("could not write the table: No such file or directory")

    drive(StorySource(tmp_path), story, size=(120, 30))


@pytest.mark.parametrize("size", [(160, 45), (80, 24), (40, 8)])
def test_a_wide_table_shows_the_chosen_column_at_any_size(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    source = StorySource(tmp_path)
    source.table = [
        MetricRow(
            f"train-with-a-long-name-{n}",
            {f"metric_{m:02}": n * 100 + m for m in range(30)},
            {"lr": n},
        )
        for n in range(100)
    ]

    async def story(at: At) -> None:
        await at.app.push_screen(MetricsView(source))
        await at.sees("100 jobs")
        await at.press(*["left"] * 8)  # from the first to the last and back from there
        await at.sees("metric_22", " 22")
        await at.press("end")
        await at.sees("9922")
        assert all(cells.width(line) <= size[0] for line in at.text().split("\n"))

    drive(source, story, size=size)


def test_the_best_is_sorted_first_and_what_is_missing_last() -> None:
    table = Table()
    table.fill(
        [
            MetricRow("a", {"acc": 0.5}),
            MetricRow("b", {"acc": 0.9}),
            MetricRow("c", {"other": 1}),
            MetricRow("d", {"acc": "text"}),
            MetricRow("e", {}),
        ]
    )
    column = 1 + table.names.index("acc")
    table.sort_by(column)
    assert [row.job for row in table.order()] in (["d", "b", "a", "c"], ["b", "a", "d", "c"])
    table.sort_by(column)
    assert [row.job for row in table.order()][:2] == ["a", "b"]
    table.sort_by(column)
    assert [row.job for row in table.order()] == ["a", "b", "c", "d"]
