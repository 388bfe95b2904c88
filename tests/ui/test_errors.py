"""How a person reads what is wrong with a workflow, and text as a terminal counts it."""

from __future__ import annotations

import io

import pytest

from oumi_flow.errors import Problem, Where
from oumi_flow.ui import cells
from oumi_flow.ui.errors import show
from oumi_flow.ui.theme import Theme
from tests.ui.story import EVIL, harmless, without_colour


def shown(*problems: Problem, theme: Theme | None = None) -> str:
    return show(problems, io.StringIO(), theme or Theme())


VERB = Problem(
    'unknown verb "trian"', Where("wf.yaml", 12, 11, "    verb: trian"), 'did you mean "train"?'
)


def test_place_line_caret_and_hint() -> None:
    assert shown(VERB) == (
        'wf.yaml:12:11: unknown verb "trian"\n'
        " 12 |     verb: trian\n"
        "    |           ^\n"
        '    = did you mean "train"?'
    )


def test_colour_changes_no_word() -> None:
    text = shown(VERB, theme=Theme(color=True))
    assert text != shown(VERB)
    assert without_colour(text) == shown(VERB)


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("\tretries: two", 11),
        ("日本: two", 5),
        ("e\u0301: two", 5),
        ("a\x1b: two", 5),
        ("😀 \t: two", 6),
    ],
)
def test_the_caret_stands_under_its_place(source: str, column: int) -> None:
    _, line, caret = shown(Problem("x", Where("f", 1, column, source))).splitlines()
    before = line[: line.index("two")]
    assert cells.width(before) == caret.index("^")


def test_a_long_line_is_cut_around_the_place() -> None:
    source = "x: " + "a" * 400 + " bad " + "b" * 400
    text = shown(Problem("m", Where("f", 3, 405, source)), theme=Theme(width=60))
    _, line, caret = text.splitlines()
    assert cells.width(line) <= 60
    assert line[caret.index("^") :].startswith("bad")


def test_without_a_place_and_several_at_once() -> None:
    assert shown(Problem("disk full\nreally", hint="make room")) == (
        "error: disk full\n  really\n  make room"
    )
    assert shown(Problem("a", Where("f")), Problem("b", Where("g"))) == "f: a\ng: b"
    assert "\n\n" in shown(VERB, VERB)


def test_nothing_of_a_file_acts_on_the_terminal() -> None:
    text = shown(Problem(EVIL, Where(EVIL, 1, 3, EVIL), EVIL), theme=Theme(color=True))
    assert harmless(text)


def test_a_column_beyond_the_line_points_behind_it() -> None:
    _, line, caret = shown(Problem("m", Where("f", 1, 99, "ab"))).splitlines()
    assert caret.index("^") == len(line)


def test_width_and_cutting() -> None:
    assert cells.width("日本e\u0301") == 5
    assert cells.fit("日本日本", 5) == "日本…"
    assert cells.fit_middle("train-lr-1e-4", 9) == "tra…-1e-4"
    assert cells.width(cells.fit_middle("train-learning-rate-1e-4", 12)) == 12
    assert cells.fit_middle("train-learning-rate-1e-4", 12).endswith("-1e-4")
    assert cells.fit("abc", 0) == ""
    assert cells.wrap("one two  threefourfive", 6) == ["one", "two", "threef", "ourfiv", "e"]
