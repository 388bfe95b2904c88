"""The main screen, key by key, over a recorded run."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("textual")

from textual.binding import Binding

from oumi_flow.events import (
    JobFinished,
    JobQueued,
    JobRetrying,
    JobStarted,
    Planned,
    Row,
    RunStarted,
)
from oumi_flow.model import Progress
from oumi_flow.ui import cells
from oumi_flow.ui.tui.help import key_words
from oumi_flow.ui.tui.jobs import JobList
from oumi_flow.ui.tui.keymap import ALWAYS, MAIN, Settings, read_settings
from oumi_flow.ui.tui.main import MainScreen
from tests.ui.pilots import At, drive
from tests.ui.story import BEGAN, EVIL
from tests.ui.tui_source import StorySource, crowd

WIDE = (160, 45)


def told(tmp_path: Path, seconds: float = 200.0) -> StorySource:
    source = StorySource(tmp_path, seconds=seconds)
    for name in ("train-1e-4", "train-1e-3"):
        source.write(name, "".join(f"{name} says {n}\n" for n in range(60)))
    return source


def jobs(at: At) -> JobList:
    main = at.app.screen_stack[0]
    assert isinstance(main, MainScreen)
    return main.jobs


def test_everything_is_there(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.sees(
            "sft-sweep  Status: Running (3/10 completed)",
            "roughly",
            "GPU 0",
            "● train-1e-4 [GPU:0]",
            "Train: 67% ",
            "670/1000 steps",
            "Loss 1.235",
            "LR 2.00e-05 │ Time ",
            "ETA ",
            "waits for train-1e-4",
            "up to date (made 2026-01-02",
            "GPU-hours",
            "idle",
            "utilisation",
            "Cost",
            "Critical",
            "train-1e-4 says 59",
            "Total: 10 | Running: 2 | Completed: 3 | Failed: 0",
        )
        at.source.at(400)
        await at.sees(
            "Status: Failed (7/10 completed)",
            "CUDA out of memory on GPU 0",
            "mmlu/acc 0.4312",
            "upstream train-3e-4 failed",
            "Best",
            "Failed: 1 | Blocked: 2",
        )

    drive(told(tmp_path), story, size=WIDE)


@pytest.mark.parametrize(("width", "height"), [(160, 45), (100, 30), (80, 24), (40, 8)])
def test_pictures(tmp_path: Path, width: int, height: int) -> None:
    async def story(at: At) -> None:
        await at.sees("train-1e-4 says 59", "97%") if height > 8 else await at.sees("3/10")
        path = Path(__file__).parent / "golden" / f"tui_{width}.txt"
        if os.environ.get("WRITE_GOLDEN"):
            path.write_text(at.text() + "\n", encoding="utf-8")
        wanted = path.read_text(encoding="utf-8")
        await at.until(lambda: at.text() + "\n" == wanted)
        assert all(cells.width(line) <= width for line in wanted.splitlines())

    drive(told(tmp_path), story, size=(width, height))


@pytest.mark.parametrize(
    ("key", "size"), [("", WIDE), ("t", WIDE), ("", (120, 40)), ("", (80, 45))]
)
def test_what_waits_says_for_whom_where_in_line_and_until_when(
    tmp_path: Path, key: str, size: tuple[int, int]
) -> None:
    holder = "GPU 0: held by run r-1, user ann, job train-0 since 14:02"
    rows = [Row(f"train-{n}", "train", "run", expected=100.0, gpus=1) for n in range(4)]
    rows += [Row("pack", "shell", "run", upstream=("train-3",), expected=5.0)]
    events = [
        RunStarted("r-1", "w", "w.yaml", "out", 1, "h", "ann", 4, (0,), at=BEGAN),
        Planned(5, 0, 0, tuple(rows), at=BEGAN),
        JobStarted("train-0", 1, ("0",), at=BEGAN, seq=3),
        JobQueued("train-1", holder, at=BEGAN, seq=4),
        JobQueued("train-2", "a GPU", at=BEGAN, seq=5),
        JobStarted("train-3", 1, ("0",), at=BEGAN, seq=6),
        JobRetrying("train-3", 1, 30.0, "exit 1: " + "a long story " * 9, at=BEGAN, seq=7),
    ]

    async def story(at: At) -> None:
        if key:
            await at.press(key)
        await at.sees("waits for a GPU, 2nd in line  ·  starts in about 5m")
        if size == WIDE:
            await at.sees("waits for GPU 0: held by train-0, next", "in about 3m")
        else:
            await at.sees("GPU 0: held by train-0, next", "in about 3m")
        await at.sees("exit 1: a l", "attempt 2 in 10s", "waits for train-3", "in about 3m")
        assert "ann" not in at.text()
        assert list(jobs(at).names[:4]) == ["train-0", "train-3", "train-1", "train-2"]

    drive(StorySource(tmp_path, events, seconds=20.0), story, size=size)


@pytest.mark.parametrize("key", ["", "t"])
def test_a_loss_that_is_no_number_stands_out(tmp_path: Path, key: str) -> None:
    source = told(tmp_path)
    source.values["train-1e-4"] = Progress(670, 1000, "steps", {"loss": math.nan})
    source.points = {}

    async def story(at: At) -> None:
        if key:
            await at.press(key)
        await at.sees("nan")
        assert at.style_of("nan") == at.app.look.style("bad")
        at.source.at(700)  # it ends well, as trainers do that count steps
        await at.sees("✓ train-1e-4", "loss nan")
        assert at.style_of("loss nan") == at.app.look.style("bad")

    drive(source, story, size=WIDE)


def test_ascii_has_nothing_else(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.sees("* train-1e-4", "> ")
        for key in ("question_mark", "c", "colon", "d", "g"):
            await at.press(key)
            await at.pilot.pause(0.1)
            assert at.text().isascii(), at.text()
            await at.press("escape")

    drive(told(tmp_path), story, size=WIDE, encoding="ascii", color=False)


def test_moving_about(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        names = list(jobs(at).names)
        assert jobs(at).chosen == names[0] == "train-1e-4"
        for key, name in (
            ("j", names[1]),
            ("down", names[2]),
            ("k", names[1]),
            ("up", names[0]),
            ("G", names[-1]),
            ("home", names[0]),
            ("end", names[-1]),
        ):
            await at.press(key)
            assert jobs(at).chosen == name, key
        await at.press("pageup")
        assert jobs(at).chosen not in (names[-1], "")
        await at.press("home", "pagedown")
        assert jobs(at).chosen != names[0]
        await at.press("home")
        await at.sees("train-1e-4 says 59")
        await at.press("j")
        await at.sees("train-1e-3 says 59")

    drive(told(tmp_path), story)


def test_what_was_chosen_stays_chosen_and_else_the_first_is(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        at.source.at(400)
        await at.sees("Status: Failed")
        assert jobs(at).chosen == "train-3e-4"  # the first: nobody has chosen
        await at.press("j")
        chosen = jobs(at).chosen
        await at.press("s")
        assert jobs(at).chosen == chosen

    drive(told(tmp_path), story)


def test_enter_opens_the_job_and_escape_comes_back(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("enter")
        await at.until(lambda: type(at.app.screen).__name__ == "JobDetail")
        await at.press("escape")
        await at.until(lambda: isinstance(at.app.screen, MainScreen))

    drive(told(tmp_path), story)


@pytest.mark.parametrize("key", ["enter", "d", "m", "g", "question_mark", "colon"])
def test_what_happened_behind_another_screen_is_there_on_coming_back(
    tmp_path: Path, key: str
) -> None:
    async def story(at: At) -> None:
        await at.sees("Status: Running (3/10 completed)", "● train-1e-4")
        await at.press(key)
        await at.until(lambda: len(at.app.screen_stack) == 2)
        at.source.at(700)
        await at.until(lambda: at.source.board.over)
        await at.press("escape")
        await at.sees("Status: Failed", "Running: 0", "✓ train-1e-4")

    drive(told(tmp_path), story, size=WIDE)


def test_the_screen_goes_on_behind_a_window(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("g")
        await at.sees("held by", "Status: Running (3/10 completed)")
        at.source.at(700)
        await at.sees("Status: Failed")

    drive(told(tmp_path), story, size=WIDE)


def test_c_asks_and_names_what_will_be_blocked(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("c")
        await at.sees("Stop train-1e-4?", "2 jobs will be blocked: eval-1e-4, pack")
        await at.press("n")
        await at.misses("will be blocked")
        await at.press("c", "escape")
        await at.misses("will be blocked")
        assert at.source.asked == []
        await at.press("c", "y")
        await at.until(lambda: at.source.asked == [("cancel", ("train-1e-4",))])
        await at.sees("the run was asked to")
        await at.press("G", "c")  # up to date: there is nothing to stop
        await at.sees("up to date already")
        assert len(at.source.asked) == 1

    drive(told(tmp_path), story)


@pytest.mark.parametrize("key", ["Q", "ctrl+c"])
def test_stopping_the_run_asks(tmp_path: Path, key: str) -> None:
    async def story(at: At) -> None:
        await at.press(key)
        await at.sees("Stop the run?", "2 running jobs will be stopped")
        await at.press(key)  # again is no answer
        await at.press("escape")
        await at.misses("Stop the run?")
        assert at.source.asked == []
        await at.press(key, "y")
        await at.until(lambda: at.source.asked == [("cancel", None)])
        assert at.app.is_running

    drive(told(tmp_path), story)


@pytest.mark.parametrize("key", ["c", "Q", "ctrl+c"])
def test_who_may_only_look_on_stops_nothing(tmp_path: Path, key: str) -> None:
    async def story(at: At) -> None:
        await at.sees("/ filter  d dag")
        assert "cancel" not in at.text()
        await at.press(key)
        await at.sees("this screen may only look on")
        await at.press("y")
        assert at.source.asked == []

    drive(told(tmp_path), story, read_only=True)


def test_the_first_picture_shows_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oumi_flow.ui.tui.app.TICK_SECONDS", 3600.0)
    source = StorySource(tmp_path, seconds=-1.0)
    source.at(200.0)

    async def story(at: At) -> None:
        assert "Status: Running (3/10 completed)" in at.text()

    drive(source, story)


def test_before_anything_is_known_no_state_is_claimed(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.sees("reading what the run has told")
        assert "Planned" not in at.text()

    drive(StorySource(tmp_path, []), story)


@pytest.mark.parametrize("keys", [("q",), ("ctrl+q",), ("Q", "q"), ("d", "escape", "q")])
def test_leaving_stops_nothing(tmp_path: Path, keys: tuple[str, ...]) -> None:
    async def story(at: At) -> None:
        await at.press(*keys)
        await at.until(lambda: not at.app.is_running or at.app._exit)
        assert at.source.asked == []

    drive(told(tmp_path), story)


def test_R_runs_a_failed_job_again_and_goes_there(tmp_path: Path) -> None:
    source = told(tmp_path, 400)

    async def story(at: At) -> None:
        await at.until(lambda: jobs(at).chosen == "train-3e-4")
        await at.press("R")
        await at.until(lambda: at.source.asked == [("run_again", ("train-3e-4",))])
        at.source.stories["next"] = crowd(3, 1)
        at.source.newer = "next"
        at.source.at(500)
        await at.sees("crowd  Status: Running (0/3 completed)")

    drive(source, story)


def test_R_only_where_it_means_something(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("R")
        await at.sees("train-1e-4: running; only what failed")
        assert at.source.asked == []

    drive(told(tmp_path), story)


def test_the_filter(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("slash", *"eval")
        await at.sees("4 of 10 by activity  /eval")
        assert list(jobs(at).names) == ["eval-1e-4", "eval-3e-4", "eval-1e-3", "baseline"]
        await at.press("enter", "j")
        assert jobs(at).chosen == jobs(at).names[1]
        await at.press("slash", "ctrl+u", *"retrying q")  # letters are letters while one types
        await at.sees("0 of 10")
        await at.press("escape")
        await at.sees("10 by activity")
        await at.press("j")
        assert at.app.is_running

    drive(told(tmp_path), story)


def test_orders_and_views(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("s")
        await at.sees("by plan")
        assert list(jobs(at).names) == list(at.source.board.rows)
        await at.press("s")
        await at.sees("by name")
        assert list(jobs(at).names) == sorted(jobs(at).names)
        await at.press("s", "s")
        await at.sees("by metric")
        await at.press("s")
        await at.sees("by activity", "Train: 67%")
        await at.press("t")
        await at.misses("Train: 67%")
        await at.sees("train-1e-4", "67%")
        await at.press("t")
        await at.sees("Train: 67%")

    drive(told(tmp_path), story)


def test_r_looks_again_and_goes_to_the_newest_run(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        at.source.stories["next"] = crowd(5, 2)
        at.source.newer = "next"
        await at.press("r")
        await at.until(lambda: ("follow", "next") in at.source.asked)
        await at.sees("crowd", "0/5 completed")

    drive(told(tmp_path), story)


def test_the_log_by_keys(tmp_path: Path) -> None:
    source = told(tmp_path)
    source.write("train-1e-4", "RuntimeError: needle one\n" + "filler\n" * 50)

    async def story(at: At) -> None:
        await at.sees("following")
        await at.press("f")
        await at.misses("following")
        await at.press("f")
        await at.sees("following")
        await at.press("e")
        await at.sees("needle one")
        await at.press("tab")
        assert not jobs(at).has_focus
        await at.press("slash", *"says 5", "enter")
        await at.sees("says 5")
        await at.press("tab")
        assert jobs(at).has_focus
        await at.press("n", "N")
        await at.sees("says 5")

    drive(source, story, size=WIDE)


def test_y_copies_the_command(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("y")
        await at.sees("copied the command of train-1e-4")
        assert at.app.clipboard.startswith("oumi train -c ")

    drive(told(tmp_path), story)


def test_L_and_E_say_when_there_is_nothing_or_nowhere(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("L")
        await at.sees("cannot be handed over")  # there is no terminal under a test
        await at.press("G", "E")
        await at.sees("there is no log yet")

    drive(told(tmp_path), story)


def test_d_draws_the_graph(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("d")
        await at.sees("Graph  sft-sweep", "prep ─", "eval-1e-3 ─╯", "running", "train-1e-4")
        await at.press("l")
        await at.sees("eval-1e-4  waiting")
        await at.press("l", "h", "j", "k")
        await at.sees("on the critical path" if "critical" in at.text() else "eval")
        await at.press("h", "enter")
        await at.until(lambda: type(at.app.screen).__name__ == "JobDetail")
        await at.press("escape", "escape")
        await at.until(lambda: isinstance(at.app.screen, MainScreen))

    drive(told(tmp_path), story)


def test_large_graphs_are_folded(tmp_path: Path) -> None:
    rows = [Row("prep", "shell", "run")]
    rows += [Row(f"train-{n}", "train", "run", upstream=("prep",)) for n in range(300)]
    rows += [Row("pack", "shell", "run", upstream=tuple(f"train-{n}" for n in range(300)))]
    events = [
        RunStarted("r", "big", "w.yaml", "out", 1, "h", at=1.0),
        Planned(302, 0, 0, tuple(rows), at=1.0),
    ]

    async def story(at: At) -> None:
        await at.press("d")
        await at.sees("sweeps folded", "train-* (300)", "prep ", "pack")

    drive(StorySource(tmp_path, events), story)


def test_m_and_g_open_their_views(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("m")
        await at.until(lambda: type(at.app.screen).__name__ == "MetricsView")
        await at.press("escape")
        await at.until(lambda: isinstance(at.app.screen, MainScreen))
        await at.press("g")
        await at.sees("NVIDIA H100", "97%", "held by train-1e-4 of this run", "41")
        await at.press("g")
        await at.until(lambda: isinstance(at.app.screen, MainScreen))

    drive(told(tmp_path), story)


def test_the_help_tells_every_binding(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("question_mark")
        await at.sees("Keys", "next job")
        text = at.text()
        for binding in JobList.BINDINGS:
            assert isinstance(binding, Binding)
            assert key_words(binding.key) in text
        for act in (*MAIN, *ALWAYS):
            assert f"{key_words(act.keys)} " in text, act
            assert act.words in text, act
        await at.press("escape")
        await at.misses("Keys")

    drive(told(tmp_path), story, size=(120, 60))


def test_the_palette_does_every_action_and_finds_every_job(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.press("colon", *"eval-1e-3", "enter")
        await at.until(lambda: jobs(at).chosen == "eval-1e-3")
        await at.press("ctrl+p", *"graph", "enter")
        await at.sees("Graph  sft-sweep")
        await at.press("escape", "ctrl+p", *"the GPUs", "down", "up", "enter")
        await at.sees("NVIDIA H100")
        await at.press("escape", "colon", *"no such thing")
        await at.sees("nothing of that name")
        await at.press("enter", "escape")
        await at.until(lambda: isinstance(at.app.screen, MainScreen))

    drive(told(tmp_path), story)


def test_the_mouse(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        names = list(jobs(at).names)
        await at.pilot.click(JobList, offset=(5, 4))  # the second card
        assert jobs(at).chosen == names[1]
        await at.pilot.click(JobList, offset=(5, 0), times=2)
        await at.until(lambda: type(at.app.screen).__name__ == "JobDetail")
        await at.press("escape", "c")
        await at.sees("Stop train-1e-4?")
        line = next(n for n, text in enumerate(at.text().splitlines()) if "stop it" in text)
        column = at.text().splitlines()[line].index("stop it")
        await at.pilot.click(offset=(column, line))
        await at.until(lambda: at.source.asked == [("cancel", ("train-1e-4",))])

    drive(told(tmp_path), story)


def test_keys_and_looks_are_the_users_to_choose(tmp_path: Path) -> None:
    settings, problems = read_settings(
        {"theme": "light", "view": "table", "sort": "name", "keys": {"dag": "x", "leave": "f10"}}
    )
    assert problems == []

    async def story(at: At) -> None:
        assert jobs(at).as_table
        await at.sees("by name", "x dag", "f10 leave")
        await at.press("x")
        await at.sees("Graph  sft-sweep")

    drive(told(tmp_path), story, settings=settings, size=(120, 30))


def test_settings_that_make_no_sense_are_told(tmp_path: Path) -> None:
    settings, problems = read_settings(
        {"theme": "pink", "mouse": 1, "them": "dark", "keys": {"leav": "x", "dag": ""}}
    )
    assert settings == Settings()
    assert [text.split(":")[0] for text in problems] == [
        "theme",
        "mouse",
        'no setting "them"; did you mean "theme"?',
        "keys",
        "keys.dag",
    ]


@pytest.mark.parametrize("theme", ["terminal", "dark", "light"])
def test_every_theme_opens_every_screen(tmp_path: Path, theme: str) -> None:
    async def story(at: At) -> None:
        for key in ("d", "m", "g", "question_mark", "colon", "c", "enter"):
            await at.press(key)
            await at.pilot.pause(0.05)
            await at.press("escape")
        await at.until(lambda: isinstance(at.app.screen, MainScreen))

    drive(told(tmp_path), story, settings=Settings(theme=theme))


def test_names_and_words_are_no_markup(tmp_path: Path) -> None:
    name = f"[red]x[/red] {EVIL}"
    events = [
        RunStarted("r", name, "w.yaml", "out", 1, "h", at=1.0),
        Planned(1, 0, 0, (Row(name, "shell", "run"),), at=1.0),
        JobFinished(name, "failed", 1, f"[bold]exit 1[/bold] {EVIL}", took=1.0, at=2.0, seq=3),
    ]

    async def story(at: At) -> None:
        for key in ("t", "t", "d", "escape", "colon", "escape", "R"):
            await at.press(key)
            text = at.text()
            assert all(char == "\n" or char.isprintable() for char in text)
        await at.sees("[red]x[/red]", "[bold]exit 1")

    drive(StorySource(tmp_path, events), story, size=(200, 30))


def test_a_lost_run_says_so(tmp_path: Path) -> None:
    source = told(tmp_path)

    async def story(at: At) -> None:
        source.lose(["train-1e-4"])
        await at.sees("Status: Lost", "running (runner lost)", "interrupted")

    drive(source, story)


def test_ten_thousand_jobs_are_moved_through(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await at.sees("job-00000", "Total: 10000 | Running: 8")
        await at.press("G")
        await at.sees("job-09999")
        await at.press("home")
        await at.sees("job-00000")
        await at.press("slash", *"09998")
        await at.sees("1 of 10000")
        # Nothing but what is in view is ever drawn or remembered.
        assert len(jobs(at)._drawn) < 500

    drive(StorySource(tmp_path, crowd(10_000)), story, size=(120, 40))


def test_no_colour_means_no_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def story(at: At) -> None:
        await at.sees("running", "● train-1e-4")
        screen = at.app.screen
        for widget in screen.query("JobList, Painted"):
            for strip in widget.render_lines(widget.size.region):
                for segment in strip:
                    style = segment.style
                    assert style is None or style.color is None or style.color.is_default
                    assert style is None or style.bgcolor is None or style.bgcolor.is_default

    drive(told(tmp_path), story, color=False)


def test_a_tick_while_the_screen_comes_apart_is_nothing(tmp_path: Path) -> None:
    ticks = []

    async def story(at: At) -> None:
        apart = at.app._prune

        async def prune(*nodes: Any, **more: Any) -> None:
            await apart(*nodes, **more)
            ticks.append(at.app.screen_stack[:1])
            at.app._tick()

        at.app._prune = prune  # type: ignore[assignment]

    drive(told(tmp_path), story)
    assert ticks
