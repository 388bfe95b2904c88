"""Logs on the screen: followed, searched, jumped through, by attempts, whatever is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("textual")

from oumi_flow.ui import cells
from oumi_flow.ui.tui.detail import JobDetail
from oumi_flow.ui.tui.log_index import LogIndex
from oumi_flow.ui.tui.log_view import LogView
from oumi_flow.ui.tui.log_window import Window, broken
from tests.ui.pilots import At, drive
from tests.ui.story import EVIL
from tests.ui.tui_source import StorySource

JOB = "train-1e-4"


def told(tmp_path: Path, text: str | bytes = "") -> StorySource:
    source = StorySource(tmp_path)
    source.write(JOB, text)
    return source


async def opened(at: At) -> LogView:
    await at.app.push_screen(JobDetail(at.source, JOB))
    await at.until(lambda: bool(at.app.screen.query(LogView)))
    view = at.app.screen.query_one(LogView)
    await at.until(lambda: view.lines.has_focus)
    return view


def test_a_log_opens_at_its_end_and_follows(tmp_path: Path) -> None:
    source = told(tmp_path, "".join(f"line {n}\n" for n in range(1000)))

    async def story(at: At) -> None:
        await opened(at)
        await at.sees("line 999", "following")
        assert "line 0\n" not in at.text()
        source.write(JOB, "one more\n")
        await at.sees("one more")
        await at.press("up", "up")
        await at.misses("following", "one more")
        source.write(JOB, "and another\n")
        await at.press("f")
        await at.sees("following", "and another")
        await at.press("f")
        await at.misses("following")

    drive(source, story)


def test_jumps_to_both_ends_and_pages_between(tmp_path: Path) -> None:
    source = told(tmp_path, "".join(f"line {n:05}\n" for n in range(100_000)))

    async def story(at: At) -> None:
        view = await opened(at)
        await at.press("home")
        await at.sees("line 00000", "0% of")
        await at.press("pagedown")
        height = view.lines.window.height
        await at.sees(f"line {height - 1:05}")
        assert "line 00000" not in at.text()
        await at.press("pageup", "j", "k")
        await at.sees("line 00000")
        await at.sees(f"line {height:,}, ")  # numbers of lines come once they are counted
        await at.press("end")
        await at.sees("line 99999", "following")

    drive(source, story)


def test_search_goes_up_then_on_by_n_and_back_by_N(tmp_path: Path) -> None:
    lines = [f"line {n}" + (" [needle]" if n in (10, 5000, 9000) else "") for n in range(10_000)]
    source = told(tmp_path, "\n".join(lines) + "\n")

    async def story(at: At) -> None:
        await opened(at)
        await at.press("slash", *"[needle]", "enter")
        await at.sees("line 9000 [needle]", "/[needle]")
        await at.press("N")
        await at.sees("line 5000 [needle]")
        await at.press("N")
        await at.sees("line 10 [needle]")
        await at.press("N")
        await at.sees("no more /[needle] above")
        await at.press("n")
        await at.sees("line 5000 [needle]")
        await at.press("escape")
        await at.misses("/[needle]")
        await at.press("escape")  # and now it leaves the job
        await at.misses("line 5000")

    drive(source, story)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await opened(at)
        await at.press("slash", *"nowhere", "enter")
        await at.sees("no more /nowhere above")

    drive(told(tmp_path, "something\n" * 100), story)


def test_the_first_error_and_the_next(tmp_path: Path) -> None:
    fine = "".join(f"step {n}\n" for n in range(3000))
    text = (
        fine
        + "Traceback (most recent call last):\n  File 'x'\nValueError: no\n"
        + fine
        + "RuntimeError: [bold]second[/bold]\n"
        + fine
    )

    async def story(at: At) -> None:
        view = await opened(at)
        assert "ValueError" not in at.text()
        await at.press("e")
        await at.sees("Traceback (most", "ValueError: no")
        await at.press("e")  # the end of the same trouble
        await at.press("e")
        await at.sees("RuntimeError: [bold]second[/bold]")
        await at.press("e")
        await at.sees("no more error below")
        assert view.lines.window.rows

    drive(told(tmp_path, text), story)


def test_older_attempts_are_a_key_away(tmp_path: Path) -> None:
    source = told(tmp_path, "what the second said\n")
    source.write(JOB, "what the first said\n", back=1)

    async def story(at: At) -> None:
        view = await opened(at)
        await at.sees("the second said")
        await at.press("left_square_bracket")
        await at.sees("the first said", "job.log.1")
        await at.press("left_square_bracket")
        await at.sees("no older attempt", "the first said")
        await at.press("right_square_bracket")
        await at.sees("the second said")
        assert view.back == 0

    drive(source, story)


def test_a_new_attempt_is_followed_but_takes_nothing_from_a_reader(tmp_path: Path) -> None:
    source = told(tmp_path, "".join(f"first, line {n}\n" for n in range(100)))

    def rotate() -> None:
        for back in (1, 0):
            path = Path(source.log(JOB, back))
            if path.exists():
                path.rename(source.log(JOB, back + 1))

    async def story(at: At) -> None:
        view = await opened(at)
        await at.sees("first, line 99")
        rotate()
        source.write(JOB, "second begins\n")
        await at.sees("second begins")
        await at.press("home")
        rotate()
        source.write(JOB, "third begins\n")
        await at.until(lambda: view.back == 1)
        await at.sees("second begins")

    drive(source, story)


def test_a_log_that_is_cut_removed_and_written_again(tmp_path: Path) -> None:
    source = told(tmp_path, "old\n" * 1000)
    path = Path(source.log(JOB))

    async def story(at: At) -> None:
        await opened(at)
        await at.sees("old")
        path.write_text("new\n")
        await at.sees("new")
        await at.misses("old")
        path.unlink()
        await at.sees("has not said anything yet")
        source.write(JOB, "again\n")
        await at.sees("again")

    drive(source, story)


@pytest.mark.parametrize("size", [(160, 45), (80, 24), (40, 8)])
def test_nothing_in_a_log_acts_on_the_screen(tmp_path: Path, size: tuple[int, int]) -> None:
    bar = "".join(f"\r{n:3}%|###   | {n}/100" for n in range(101))
    data = f"{EVIL}\n{bar}\n中文{'x' * 5000}\n".encode("utf-8", "surrogatepass")
    source = told(tmp_path, data + bytes(range(256)) + b"\nlast [red]line[/red]\n")

    async def story(at: At) -> None:
        await opened(at)
        await at.sees("last [red]line[/red]")
        for _ in range(3):  # as it is, wrapped, and back
            await at.press("home")
            text = at.text()
            assert all(char == "\n" or char.isprintable() for char in text)
            assert all(cells.width(line) <= size[0] for line in text.split("\n"))
            await at.press("w")
        await at.press("home")
        if size[1] > 10:
            await at.sees("100%|###   | 100/100")
        assert " 99%|" not in at.text()

    drive(source, story, size=size)


def test_long_lines_are_wrapped_or_moved_aside(tmp_path: Path) -> None:
    source = told(tmp_path, "begin " + "x" * 300 + " end\nshort\n")

    async def story(at: At) -> None:
        await opened(at)
        await at.sees("begin")
        assert " end" not in at.text()
        await at.press("w")
        await at.sees("begin", "x end", "wrapped")
        await at.press("w")
        await at.press(*["greater_than_sign"] * 20)
        await at.sees("x end", "from column")
        assert "begin" not in at.text()
        await at.press(*["less_than_sign"] * 20)
        await at.sees("begin")

    drive(source, story)


def test_letters_go_to_the_search_not_to_the_screen(tmp_path: Path) -> None:
    async def story(at: At) -> None:
        await opened(at)
        await at.press("slash", *"q1efn", "escape")
        assert isinstance(at.app.screen, JobDetail)
        assert at.app.screen.page == "log"
        await at.sees("following")

    drive(told(tmp_path, "text\n"), story)


def test_wrapped_rows_go_up_and_down_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"{n}:" + "abcdefghij" * (n % 5) + "\n" for n in range(60)))
    index = LogIndex(str(path))
    index.refresh()
    window = Window(index)
    window.width, window.height, window.wrap = 12, 5, True
    window.move_to(0)
    down = [[row.text for row in window.rows]]
    while not window.at_end:
        window.move(1)
        down.append([row.text for row in window.rows])
        assert len(down) < 1000
    up = [[row.text for row in window.rows]]
    while not window.at_start:
        window.move(-1)
        up.append([row.text for row in window.rows])
        assert len(up) < 1000
    assert up[::-1][: len(down)] == down
    assert "".join(broken("abc中文def", 3)) == "abc中文def"
    assert all(cells.width(piece) <= 3 for piece in broken("abc中文def", 3))
