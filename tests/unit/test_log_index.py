"""Logs by lines: whatever their size and whatever becomes of them, a bounded part is read."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_flow.ui.tui import log_index
from oumi_flow.ui.tui.log_errors import is_error, kind_of
from oumi_flow.ui.tui.log_index import LogIndex, Search, search_error, search_for
from tests.ui.story import EVIL, harmless


def opened(path: Path, data: bytes | None = None) -> LogIndex:
    if data is not None:
        path.write_bytes(data)
    index = LogIndex(str(path))
    index.refresh()
    return index


def texts(index: LogIndex, last: int = 100) -> list[str]:
    return [line.text for line in index.before(index.size, last)]


def searched(search: Search) -> str | None:
    steps = 0
    while not search.over:
        search.step()
        steps += 1
        assert steps < 10_000
    return search.found.text if search.found else None


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=300)
    | st.lists(st.sampled_from([b"\n", b"a", b"bb\n", b"\r\n"])).map(b"".join)
)
def test_lines_are_the_same_from_the_start_from_the_end_and_by_number(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_index, "BLOCK", 7)  # lines then cross blocks
        patch.setattr(log_index, "STRIDE", 16)
        patch.setattr(log_index, "_SPAN", 9)
        index = opened(tmp_path_factory.getbasetemp() / "any.log", data)
        there = data.splitlines(keepends=True) if b"\r" not in data else None
        raw = [part + b"\n" for part in data.split(b"\n")]
        raw[-1] = raw[-1][:-1]
        spans = []
        at = 0
        for part in raw:
            if part:
                spans.append((at, at + len(part)))
            at += len(part)
        forward = index.after(0, 1000)
        assert [(line.start, line.end) for line in forward] == spans
        assert index.before(index.size, 1000) == forward
        if there is not None and data.isascii() and data.decode().isprintable():
            assert [line.text for line in forward] == [p.decode().rstrip() for p in there]
        for start, end in spans:
            assert {index.start(at) for at in range(start, end)} == {start}
        while not index.count(16):
            pass
        known = [index.number(start) for start, _ in spans]
        assert known == list(range(1, len(spans) + 1))
        assert [index.place(number) for number in range(1, len(spans) + 1)] == [
            start for start, _ in spans
        ]
        index.close()


def test_the_end_of_a_huge_log_is_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    with path.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 30)
        file.write(b"\n" + b"".join(b"line %d\n" % n for n in range(1000)))
    index = LogIndex(str(path))
    reads: list[int] = []
    real = index._pread
    index._pread = lambda count, at: reads.append(count) or real(count, at)  # type: ignore[method-assign,func-returns-value]
    index.refresh()
    assert texts(index, 3) == ["line 997", "line 998", "line 999"]
    assert sum(reads) <= 3 * log_index.BLOCK


def test_a_log_that_grows_is_followed_and_a_half_line_completed(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    index = LogIndex(str(path))
    assert index.refresh() == "same"
    assert not index.there
    path.write_bytes(b"one\ntw")
    assert index.refresh() == "replaced"
    assert texts(index) == ["one", "tw"]
    assert index.refresh() == "same"
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert texts(index) == ["one", "tw"]  # a picture is of one moment
    assert index.refresh() == "grown"
    assert texts(index) == ["one", "two", "three"]


@pytest.mark.parametrize("way", ["cut", "rotated", "rewritten", "gone", "folder", "fifo"])
def test_what_becomes_of_a_log_is_seen(tmp_path: Path, way: str) -> None:
    path = tmp_path / "job.log"
    index = opened(path, b"old 1\nold 2\n" * 1000)
    assert texts(index, 1) == ["old 2"]
    if way == "cut":
        path.write_bytes(b"new\n")
    elif way == "rotated":
        path.rename(tmp_path / "job.log.1")
        path.write_bytes(b"new\n" * 10_000)
    elif way == "rewritten":  # cut and longer again between two looks
        path.write_bytes(b"new\n" * 10_000)
    else:
        path.unlink()
        if way == "folder":
            path.mkdir()
        if way == "fifo":
            os.mkfifo(path)
    assert index.refresh() == "replaced"
    assert texts(index, 1) == (["new"] if way in ("cut", "rotated", "rewritten") else [])
    index.close()


def test_a_log_cut_while_it_is_read_has_fewer_lines_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    index = opened(path, b"line\n" * 100_000)
    os.truncate(path, 10)
    assert index.after(0, 5)[:2] == index.after(0, 2)
    index.after(250_000, 10)
    index.before(index.size, 10)
    while not index.count():
        pass
    assert searched(search_for(index, "never", 0)) is None
    assert index.refresh() == "replaced"
    assert texts(index) == ["line", "line"]


def test_a_line_of_100_mb_is_cut_and_memory_stays_flat(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    with path.open("wb") as file:
        file.write(b"before\n")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\nafter\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index = opened(path)
    first, long, last = index.before(index.size, 10)
    assert (first.text, last.text) == ("before", "after")
    assert (long.text, long.cut) == ("x" * log_index.SHOWN, True)
    assert index.after(0, 3) == [first, long, last]
    assert searched(search_for(index, "after", 0)) == "after"
    assert searched(search_for(index, "before", index.size, backwards=True)) == "before"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20_000  # kB


def test_a_bar_is_one_line_in_its_last_state_however_long_it_was_drawn(tmp_path: Path) -> None:
    bar = b"".join(b"\r %3d%%|####    | %d/100" % (n, n) for n in range(101))
    index = opened(tmp_path / "job.log", b"start\n" + bar * 2000 + b"\r\r\nend\r\n")
    assert texts(index) == ["start", " 100%|####    | 100/100", "end"]


def test_nothing_in_a_log_acts_on_the_terminal(tmp_path: Path) -> None:
    data = EVIL.encode("utf-8", "surrogatepass") + b"\n\x1b[31mred\x1b[0m\tx \xff\xfe\x00\n"
    index = opened(tmp_path / "job.log", data + bytes(range(256)))
    lines = texts(index)
    assert all(harmless(line) for line in lines)
    assert lines[1].startswith("red     x ")
    assert any("[bold]x[/bold]" in line or "9b2J" in line for line in lines)


def test_a_search_goes_both_ways_and_ends(tmp_path: Path) -> None:
    data = b"".join(b"step %d loss %.3f\n" % (n, 5 / (n + 1)) for n in range(200_000))
    index = opened(tmp_path / "job.log", data)
    assert searched(search_for(index, "STEP 777 ", 0)) is None
    assert searched(search_for(index, "step 777 ", 0)) == "step 777 loss 0.006"
    first = search_for(index, "0.006", 0)
    assert searched(first) == "step 769 loss 0.006"
    assert first.found is not None
    second = search_for(index, "0.006", first.found.end)
    assert searched(second) != first.found.text
    assert second.found is not None
    back = search_for(index, "0.006", second.found.start, backwards=True)
    assert searched(back) == first.found.text
    assert searched(search_for(index, "step 0 ", first.found.start, backwards=True)) is not None
    assert searched(search_for(index, "", 0)) is None


@settings(max_examples=100, deadline=None)
@given(
    lines=st.lists(st.text("abA\r é", max_size=8), max_size=30),
    word=st.sampled_from(["a", "ab", "A", "é", "bé"]),
    backwards=st.booleans(),
)
def test_a_search_finds_what_a_reader_would(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], word: str, backwards: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Search, "STEP", 5)
        path = tmp_path_factory.getbasetemp() / "searched.log"
        index = opened(path, "".join(f"{line}\n" for line in lines).encode())
        shown = [line.text for line in index.after(0, 1000)]
        fold = word == word.lower()
        hits = [text for text in shown if word in (text.lower() if fold else text)]
        expected = (hits[-1] if backwards else hits[0]) if hits else None
        at = index.size if backwards else 0
        assert searched(search_for(index, word, at, backwards)) == expected
        index.close()


def test_each_step_of_a_search_is_bounded(tmp_path: Path) -> None:
    index = opened(tmp_path / "job.log", b"an error, they say\n" * 500_000)
    search = search_for(index, "not there at all", 0)
    search.step()
    assert search.at == Search.STEP
    errors = search_error(index)
    errors.step()
    assert 0 < errors.at <= 2 * Search.STEP
    assert 0 < errors.share < 0.5


def test_the_first_error_is_where_it_began(tmp_path: Path) -> None:
    lines = [
        "# run 20260103-112000-a1b2, attempt 1, started 2026-01-03T11:20:00Z",
        "{'loss': 0.5, 'error_rate': 0.1}",
        "0 errors so far; no exception",
        "[2026-01-03 11:21:00][WARNING] error bars are off",
        "Traceback (most recent call last):",
        '  File "trainer.py", line 88, in step',
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB.",
    ]
    index = opened(tmp_path / "job.log", "\n".join(lines).encode())
    assert searched(search_error(index)) == lines[4]
    assert [kind_of(line) for line in lines] == ["muted", "", "", "warn", "bad", "", "bad"]


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: CUDA error: device-side assert triggered",
        "oumi.exceptions.ConfigError: bad",
        "KeyboardInterrupt",
        "[rank0]: ValueError: x",
        "2026-01-03 11:20:00 ERROR trainer: no data",
        "bash: line 1: oumi: command not found",
        "Error: Config error at training.lr",
        "Segmentation fault (core dumped)",
        "[2026-01-03][oumi][rank0][ERROR] gone",
        "│ Traceback (most recent call last) │",
    ],
)
def test_lines_that_say_an_error(tmp_path: Path, line: str) -> None:
    assert is_error(line)
    index = opened(tmp_path / "job.log", b"fine\n" * 5 + line.encode())
    assert searched(search_error(index)) == line


@pytest.mark.parametrize("line", ["loss error 0.3", "mse_error: 0.3", "no errors", "error=0.2"])
def test_lines_that_only_speak_of_errors(line: str) -> None:
    assert not is_error(line)
