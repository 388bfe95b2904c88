"""Curves as text: compared as pictures, and held to their size whatever the numbers are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_flow.ui import cells
from oumi_flow.ui.theme import Line, Theme
from oumi_flow.ui.tui.chart import Curve, Points, Scale, chart, scale_of, smoothed, ticks, words_of

PICTURE = """\
10 ┤                              ⣀⣠⠤⠖⠚⠉
   │                       ⢀⣀⡤⠤⠖⠚⠉⠁
 5 ┤                 ⢀⣀⡤⠴⠒⠋⠉
   │           ⢀⣀⡤⠴⠒⠋⠉
   │     ⣀⣠⠤⠖⠒⠋⠉
 0 ┤⣠⠤⠖⠚⠉⠁
   └┬─────────────────┬────────────────┬
    0                50              100"""
RISE: Points = [(0.0, 0.0), (100.0, 10.0)]


def text(lines: list[Line]) -> str:
    return "\n".join("".join(words for _, words in line) for line in lines)


def drawn(*curves: Curve, width: int = 40, height: int = 8, log: bool = False) -> str:
    picture = text(chart(curves, Theme(width=width), height, log=log))
    return "\n".join(line.rstrip() for line in picture.splitlines())


def test_a_line_with_its_axes() -> None:
    assert drawn(Curve(RISE)) == PICTURE


def test_nan_is_a_gap_that_the_axis_marks() -> None:
    points = [(float(n), math.nan if 40 <= n < 60 else 1.0 + n) for n in range(100)]
    picture = drawn(Curve(points))
    body, axis = picture.splitlines()[:-2], picture.splitlines()[-2]
    for line in body:
        assert not line[4:][15:21].strip(), picture
    assert axis.count("×") == 7
    (bad,) = {
        words for style, words in chart([Curve(points)], Theme(width=40), 8)[-2] if style == "bad"
    }
    assert set(bad) == {"×"}


def test_a_log_scale_has_powers_of_ten_and_leaves_out_what_is_not_positive() -> None:
    points = [(float(n), 10.0 ** (n / 10)) for n in range(41)] + [(41.0, 0.0), (42.0, -3.0)]
    picture = drawn(Curve(points), log=True, height=14)
    labels = [line.split("┤")[0].strip() for line in picture.splitlines() if "┤" in line]
    assert labels == ["10000", "1000", "100", "10", "1"]


def test_a_spike_among_many_points_is_never_lost() -> None:
    points = [(float(n), 1.0) for n in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    picture = drawn(Curve(points))
    assert picture.splitlines()[0][4:].strip("┤ ")


def test_curves_are_told_apart_without_colour() -> None:
    lower = [(x, y / 2) for x, y in RISE]
    curves = [Curve(RISE, "busy", "a"), Curve(lower, "warn", "b")]
    assert {"a", "b"} <= set(drawn(*curves))
    plain = text(chart(curves, Theme(width=40, encoding="ascii"), 8))
    assert plain.isascii()
    assert plain.count("a") > 10
    assert plain.count("b") > 10
    styles = {style for line in chart(curves, Theme(width=40), 8) for style, _ in line}
    assert {"busy", "warn"} <= styles


def test_a_small_window_has_the_curve_and_nothing_else() -> None:
    assert drawn(Curve(RISE), width=8, height=2) == "   ⢀⣠⠴⠚⠉\n⣠⠴⠚⠉"


@pytest.mark.parametrize(
    "points",
    [[], [(1.0, math.nan)], [(math.nan, 1.0)], [(1.0, math.inf), (2.0, -math.inf)]],
)
def test_where_there_is_nothing_to_draw_it_says_so(points: Points) -> None:
    assert "nothing to draw" in drawn(Curve(points))


def test_a_log_scale_of_nothing_above_zero_says_so() -> None:
    assert "nothing above zero" in drawn(Curve([(1.0, -1.0)]), log=True)


NUMBERS = st.floats() | st.sampled_from([0.0, 1.0, -1.0, 1e-300, 1e300, 5e-324, 1e-9])


@settings(max_examples=200, deadline=None)
@given(
    curves=st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12), max_size=3),
    width=st.integers(1, 70),
    height=st.integers(1, 15),
    log=st.booleans(),
    encoding=st.sampled_from(["utf-8", "ascii"]),
)
def test_any_numbers_make_a_picture_of_the_size_asked(
    curves: list[list[tuple[float, float]]], width: int, height: int, log: bool, encoding: str
) -> None:
    theme = Theme(width=width, encoding=encoding)
    lines = chart([Curve(c, mark="ab c"[n]) for n, c in enumerate(curves)], theme, height, log=log)
    assert len(lines) == height
    assert {cells.width(theme.text(line)) for line in text(lines).split("\n")} == {width}


@settings(max_examples=200, deadline=None)
@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6), count=st.integers(2, 10))
def test_ticks_are_round_in_range_and_told_apart(low: float, span: float, count: int) -> None:
    found = ticks(Scale(low, low + span), count)
    assert 1 <= len(found) <= 2 * count + 2
    assert all(low - span * 1e-6 <= value <= low + span * (1 + 1e-6) for value in found)
    assert len(set(words_of(found))) == len(found) or span < abs(low) * 1e-4


@pytest.mark.parametrize(
    "points", [[(0.0, 5e-324)], [(0.0, 0.0), (5e-324, 0.0)], [(0.0, 5e-324), (0.0, 0.0)]]
)
@pytest.mark.parametrize("log", [False, True])
def test_numbers_too_small_to_divide_by(points: list[tuple[float, float]], log: bool) -> None:
    assert len(chart([Curve(points)], Theme(width=40), 8, log=log)) == 8


def test_a_range_between_two_round_numbers_has_ticks_too() -> None:
    assert len(ticks(Scale(1.0, 400402.0), 2)) >= 2


def test_words_of_ticks() -> None:
    assert len(set(words_of([99985.0, 99990.0, 99995.0, 100000.0]))) == 4
    assert words_of([0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"]
    assert words_of([0, 1000, 2000]) == ["0", "1000", "2000"]
    assert words_of([0, 500_000, 1_000_000]) == ["0", "500k", "1M"]
    assert words_of([0, 5e-5, 1e-4]) == ["0", "5e-5", "1e-4"]
    assert words_of([1.25, 1.5]) == ["1.25", "1.5"]


def test_smoothing_keeps_level_gaps_and_steps() -> None:
    flat = [(1.0, 2.0), (2.0, math.nan), (3.0, 2.0)]
    done = smoothed(flat, 0.9)
    assert [x for x, _ in done] == [1.0, 2.0, 3.0]
    assert done[0][1] == pytest.approx(2.0)
    assert math.isnan(done[1][1])
    assert done[2][1] == pytest.approx(2.0)
    noisy = [(float(n), float(n % 2)) for n in range(100)]
    assert 0.4 < smoothed(noisy, 0.9)[-1][1] < 0.6
    assert smoothed(noisy, 0.0) == noisy


def test_equal_values_have_a_scale_too() -> None:
    for value in (0.0, 1.0, -2.0, 1e-12, 1e20):
        scale = scale_of([value, value])
        assert scale is not None
        assert scale.place(value) == pytest.approx(0.5)
    assert scale_of([]) is None
