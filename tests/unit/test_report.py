"""The pure parts of a report: ticks, spans, rows of the timeline, the graph's layout, the page."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.board import fold
from oumi_flow.events import (
    Event,
    JobFinished,
    JobQueued,
    JobRetrying,
    JobStarted,
    Planned,
    Row,
    RunStarted,
)
from oumi_flow.ui.report import axis, curves, gantt
from oumi_flow.ui.report.facts import JobFact, Report
from oumi_flow.ui.report.layout import lay_out
from oumi_flow.ui.report.markup import el, link
from oumi_flow.ui.report.page import page
from oumi_flow.ui.report.spans import spans
from tests.ui.report_story import sweep
from tests.ui.story import BEGAN, EVIL
from tests.ui.tui_source import crowd

VOID = {"meta", "br", "col"}


class Reader(HTMLParser):
    """Elements with their attributes, links, ids and texts; `strays` is what does not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.strays: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.strays += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.strays.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]


# -- axes -------------------------------------------------------------------------------------


@given(st.floats(min_value=0.01, max_value=1e8))
def test_ticks_of_time_begin_at_0_are_even_and_few(length: float) -> None:
    ticks = axis.seconds(length)
    assert ticks[0] == 0
    assert 1 <= len(ticks) <= 9
    assert ticks[-1] <= length * 1.001
    steps = [b - a for a, b in pairwise(ticks)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9))
def test_ticks_of_values_lie_within_and_are_few(low: float, wide: float) -> None:
    high = low + wide
    ticks = axis.values(low, high)
    assert 1 <= len(ticks) <= 5
    slack = (high - low) * 1e-6 + abs(low) * 1e-12
    assert all(low - slack <= tick <= high + slack for tick in ticks)


def test_ticks_are_round() -> None:
    assert axis.values(0.13, 0.52) == [0.2, 0.3, 0.4, 0.5]
    assert axis.values(1.0, 1.0) == [1.0]
    assert axis.seconds(1067) == [0, 300, 600, 900]
    assert axis.decades(0.002, 300) == [0.01, 0.1, 1.0, 10.0, 100.0]
    words = [axis.tick_words(at) for at in (0, 0.5, 30, 90, 5400, 86400)]
    assert words == ["0", "0.5s", "30s", "1m 30s", "1h 30m", "1d"]


# -- spans and rows -----------------------------------------------------------------------------


def retried() -> list[Event]:
    rows = (Row("a", "train", "run", gpus=1), Row("b", "train", "run", upstream=("a",)))
    events: list[Event] = [
        RunStarted("r", "w", "w.yaml", "out", 1, "h", gpus=(0,), at=100),
        Planned(2, 0, 0, rows, at=100),
        JobQueued("a", "GPU 0: held by run q", at=100),
        JobStarted("a", 1, ("0",), at=110),
        JobRetrying("a", 1, 5.0, "exit 3", at=120),
        JobStarted("a", 2, ("0",), at=125),
        JobFinished("a", "done", 0, took=10.0, gpus=1, at=136),
        JobStarted("b", 1, at=136),
    ]
    return events


def test_every_attempt_and_every_wait_has_its_stretch() -> None:
    events = retried()
    board = fold(events)
    found = spans(events, board, 150)
    told = [(t.job, t.number, t.start, t.end, t.state, t.again) for t in found.tries]
    assert told == [
        ("a", 1, 110, 120, "failed", True),
        ("a", 2, 125, 135, "done", False),  # what came after its process is not its own time
        ("b", 1, 136, 150, "running", False),
    ]
    waits = [(wait.start, wait.end, wait.why) for wait in found.waits]
    assert waits == [(100, 110, "GPU 0: held by run q"), (120, 125, "attempt 2")]


def test_what_a_lost_run_left_open_ends_when_it_was_last_heard_of() -> None:
    events = retried()
    board = fold(events)
    board.lost()
    last = spans(events, board, 900).tries[-1]
    assert (last.job, last.end, last.state) == ("b", 136, "interrupted")


def test_rows_tell_gpus_and_attempts() -> None:
    events = retried()
    board = fold(events)
    found = spans(events, board, 150)
    on_gpu = gantt.by_gpu(found, board, 150)
    assert [(row.label, len(row.bars), row.words) for row in on_gpu] == [("GPU 0", 2, "40%")]
    a, b = gantt.by_job(found, board)
    assert a.words == "10s, 2 attempts"
    assert [bar.words for bar in a.bars] == ["1", "2"]
    assert "tried again: exit 3" in a.bars[0].tip
    assert b.words == "● running 14s"


def test_members_of_a_family_share_rows_without_overlap() -> None:
    report = sweep(8, 4, gpus=3)
    names = dict.fromkeys(report.board.rows, "all")
    rows = gantt.packed(report.spans, report.board, names)
    assert len(rows) <= 4  # three GPUs, and at times a job without one
    for row in rows:
        for one, other in pairwise(row.bars):
            assert one.end <= other.start
    assert sum(len(row.bars) for row in rows) == len(report.spans.tries)


def test_bars_too_short_to_see_are_drawn_as_one() -> None:
    bars = tuple(gantt.Bar(n, n + 0.9, "done", f"j{n}") for n in range(5000))
    drawn = gantt.draw([gantt.Row("GPU 0", bars)], 5000, "t", "d", {})
    assert "attempts, done" in drawn
    assert drawn.count('class="bar') < 1000


# -- the graph ------------------------------------------------------------------------------------


@given(st.integers(1, 25), st.data())
def test_no_boxes_overlap_and_edges_go_from_left_to_right(size: int, data: st.DataObject) -> None:
    keys = [f"n{n}" for n in range(size)]
    pairs = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))
    edges = [(keys[min(p)], keys[max(p)]) for p in data.draw(st.lists(pairs)) if p[0] != p[1]]
    placed = lay_out({key: 50.0 + 7 * n for n, key in enumerate(keys)}, edges)
    assert set(placed.boxes) == set(keys)
    for a, b in combinations(placed.boxes.values(), 2):
        beside = a.x + a.width <= b.x or b.x + b.width <= a.x
        above = a.y + a.height <= b.y + 1e-6 or b.y + b.height <= a.y + 1e-6
        assert beside or above, (a, b)
    for start, end in edges:
        way = placed.ways[start, end]
        assert way[0][0] <= way[-1][0]
        assert placed.boxes[start].x + placed.boxes[start].width <= placed.boxes[end].x
        assert [x for x, _ in way] == sorted(x for x, _ in way)
    for box in placed.boxes.values():
        assert box.x >= 0
        assert box.y >= -1e-6
        assert box.x + box.width <= placed.width + 1e-6
        assert box.y + box.height <= placed.height + 1e-6


# -- curves ---------------------------------------------------------------------------------------


def test_thinning_keeps_peaks_and_breaks_at_what_is_no_number() -> None:
    points = [(float(n), 1.0) for n in range(10_000)]
    points[4711] = (4711.0, 99.0)
    points[7000] = (7000.0, math.nan)
    pieces = curves.thinned(points, 200)
    assert [round(piece[0][0]) for piece in pieces] == [0, 7001]
    assert pieces[-1][-1] == points[-1]
    assert sum(map(len, pieces)) < 260
    assert max(y for piece in pieces for _, y in piece) == 99.0


def test_a_chart_says_its_gaps_and_draws_none_of_them() -> None:
    points = [(1.0, 2.0), (2.0, 1.5), (3.0, math.nan), (4.0, math.inf), (5.0, 1.0)]
    drawn = curves.chart("train: loss", "loss", [curves.Line("a", points, 0)])
    assert "2 gaps where a value is not a number" in drawn
    assert "lowest 1, a" in drawn
    way = re.findall(r' d="([^"]*)"', drawn)[-1]
    assert way.count("M") == 2
    assert "nan" not in drawn.lower().replace("not a number", "")
    nothing = curves.chart("train: loss", "loss", [curves.Line("a", [(1.0, math.nan)], 0)])
    assert "no value is a number" in nothing


# -- markup ---------------------------------------------------------------------------------------


@given(st.text())
def test_text_never_becomes_markup(words: str) -> None:
    read = Reader(el("p", words, title=words))
    assert [tag for tag, _ in read.elements] == ["p"]
    assert not read.strays


def test_links_leave_the_page_never() -> None:
    assert link("job-1", "a") == '<a href="#job-1">a</a>'
    with pytest.raises(ValueError, match="outside"):
        el("a", "x", href="https://example.org")
    with pytest.raises(ValueError, match="outside"):
        el("img", src="data:image/png;base64,AAAA")


# -- the page -------------------------------------------------------------------------------------


def check(text: str) -> Reader:
    """What holds of every page: it nests, fetches nothing, runs nothing, and links to itself."""
    read = Reader(text)
    assert not read.strays
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "base", "form", "foreignobject"}
    ids = read.all("id")
    assert len(ids) == len(set(ids))
    for target in read.all("href"):
        assert target[:1] == "#"
        assert target[1:] in ids, target
    for _, attributes in read.elements:
        assert not [key for key in attributes if key.startswith("on") or key == "src"]
    for target in re.findall(r"url\(([^)]*)\)", text):
        assert target[1:] in ids, target
    assert "@import" not in text
    for tag, attributes in read.elements:
        if tag == "svg" and "viewbox" in attributes:
            assert attributes.get("role")
    return read


def test_a_page_has_it_all_and_nests() -> None:
    text = page(sweep())
    read = check(text)
    for words in (
        "sft-sweep", "failed", "14 of 19", "CUDA out of memory", "Longest chain", "train: loss",
        "Evaluation scores", "0.53", "1.34", "9b2f0c41aa0d3e5be14aa1f2f37f9d10",
        "oumi-flow run sweep.yaml --gpus 0,1", "NCCL_DEBUG", "held up 3 jobs",
        "has not run here before", "warning: ",
    ):  # fmt: skip
        assert words in read.text, words
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "default-src 'none'" in read.all("content")[0] + "".join(read.all("content"))
    headings = [tag for tag, _ in read.elements if re.match(r"h\d", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1


def test_names_causes_and_logs_that_would_be_markup_are_inert() -> None:
    evil = "</pre></style><script>alert(1)</script><img src=x onerror=y>&quot;'\"" + EVIL
    rows = (Row(evil, evil, "run", (evil,)), Row("b", "shell", "run", (evil,), (evil,)))
    events: list[Event] = [
        RunStarted(evil, evil, evil, evil, 1, evil, evil, gpus=(0,), at=100),
        Planned(2, 0, 0, rows, at=100),
        JobQueued(evil, evil, at=100),
        JobStarted(evil, 1, (evil,), evil, detail=evil, at=101),
        JobFinished(evil, "failed", 1, evil, 5.0, metrics={evil: 1.0, "loss": 2.0}, at=106),
    ]
    board = fold(events)
    fact = JobFact(
        evil, evil, evil, evil, evil, {evil: evil}, {evil: evil},
        metrics={evil: 1.0, "loss": math.nan}, curves={evil: [(1.0, 1.0), (2.0, 2.0)]}, log=evil,
        fingerprint=evil, versions={evil: evil}, notes=[evil],
    )  # fmt: skip
    report = Report(
        board, 200.0, spans(events, board, 200.0), {evil: fact}, {evil: [evil]}, evil, evil,
        env={evil: evil}, further=[(evil, evil)], missing=evil,
    )  # fmt: skip
    text = page(report)
    read = check(text)
    assert "<script>alert(1)</script>" in read.text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_run_of_nothing_is_a_page_too() -> None:
    check(page(Report(fold([RunStarted("r", "w", "w.yaml", "o", 1, "h", at=1.0)]), 2.0)))


def test_of_very_many_jobs_only_some_are_told_one_by_one() -> None:
    board = fold(crowd(2500))
    text = page(Report(board, BEGAN + 60, spans(crowd(2500), board, BEGAN + 60)))
    read = check(text)
    assert "500 jobs more" in read.text
    assert read.all("class").count("job") == 2000


def test_a_thousand_jobs_stay_one_file_of_a_few_megabytes() -> None:
    text = page(sweep(62, 8, gpus=8))
    check(text)
    assert len(text.encode()) < 5_000_000
    assert "train-* (496)" in text
