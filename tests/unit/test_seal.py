"""Amending a seal: what the judged jobs looked at is new, what others saw stays as it was."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from oumi_flow import seal
from oumi_flow.content import digest_content, unrest
from oumi_flow.seal import amending, writing
from oumi_flow.seal.jobs import SealedJobs

WORDS = ["run", "workflow.yaml"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUMI_FLOW_HOME", str(tmp_path / "home"))
    Path("lock").touch()
    return tmp_path


def settled(path: str) -> seal.Numbers:
    """The stamp of a file, once a later change must give it another."""
    while True:
        seen = os.stat(path)
        if unrest(seen.st_mtime_ns, seen.st_ctime_ns, time.time_ns()) <= 0:
            return seal.numbers_of(seen)
        os.sched_yield()


def proof_of(looked: dict[int, Sequence[str]]) -> writing.Proof:
    """Each job with the files and folders that it looked at."""
    proof = writing.Proof()
    for job, paths in looked.items():
        for path in paths:
            if os.path.isdir(path):
                proof.listings[path] = seal.names(path)
            else:
                proof.stamps[path] = settled(path)
            proof.owners.setdefault(path, []).append(job)
    return proof


def sealed(looked: dict[int, Sequence[str]], upstream: Sequence[Sequence[int]]) -> None:
    proof = proof_of(looked)
    names = [f"j{job}" for job in range(len(upstream))]
    rows = [b"[%d]" % job for job in range(len(upstream))]
    spans = [(0, 0)] * len(upstream)
    proof.jobs = writing.Jobs(names, upstream, spans, (0, 0, 0, 0), rows, [], {}, "lock")
    writing.write(WORDS, "workflow.yaml", proof, "done")


def look() -> tuple[seal.Look, SealedJobs]:
    found = seal.look(WORDS)
    assert found.answer is None
    return found, SealedJobs(found)


def touched() -> set[int]:
    found, jobs = look()
    return jobs.touched(found)


def rows_of(jobs: SealedJobs) -> list[object]:
    """All rows, each found by its own end."""
    told, ends = jobs.rows()
    starts = [0, *(end + 1 for end in ends[:-1])]
    each = [json.loads(told[start:end]) for start, end in zip(starts, ends, strict=True)]
    assert each == json.loads(b"[" + told + b"]")
    return each


def test_who_looked_is_known_and_what_comes_after() -> None:
    for name in ("a", "b", "shared"):
        Path(name).write_text(name)
    sealed({0: ["a", "shared"], 1: ["b"], 2: ["shared"]}, [[], [0], [1]])
    assert seal.look(WORDS).answer == "done"
    Path("b").write_text("new")
    found, jobs = look()
    assert jobs.touched(found) == {1}
    assert jobs.with_downstream({1}) == {1, 2}
    Path("shared").unlink()
    assert touched() == {0, 1, 2}


def test_what_was_judged_is_new_and_the_rest_as_it_was() -> None:
    Path("folder").mkdir()
    for name in ("a", "b", "shared", "folder/x"):
        Path(name).write_text(name)
    sealed({0: ["a", "shared", "folder"], 1: ["b", "shared", "folder"]}, [[], []])
    Path("a").write_text("new")
    found, jobs = look()
    assert jobs.touched(found) == {0}
    # Behind the back of who judges job 0, something changes that both had looked at.
    Path("shared").write_text("new")
    Path("folder/y").write_text("new")
    Path("c").write_text("c")
    amending.amend(jobs, proof_of({0: ["a", "c", "shared", "folder", "folder/y"]}), {0: b"[9]"})
    assert touched() == {0, 1}
    found, jobs = look()
    assert [file.path for file in found.moved] == [b"shared"]
    assert found.folders == ["folder"]
    assert rows_of(jobs) == [[9], [1]]


def test_amended_again_and_again_it_holds() -> None:
    jobs = range(40)
    for job in jobs:
        Path(f"in{job}").write_text(str(job))
    sealed({job: [f"in{job}"] for job in jobs}, [[] for _ in jobs])
    for job in [*jobs, *jobs]:
        Path(f"in{job}").write_text(f"new {job} {time.monotonic_ns()}")
        found, them = look()
        assert them.touched(found) == {job}
        amending.amend(them, proof_of({job: [f"in{job}"]}), {job: b"[%d]" % (job * 1000)})
        assert seal.look(WORDS).answer == "done"
    Path("in0").unlink()
    assert rows_of(look()[1]) == [[job * 1000] for job in jobs]


def test_one_job_is_amended_where_it_lies() -> None:
    jobs = range(3000)
    Path("in").mkdir()
    for job in jobs:
        Path(f"in/{job}").write_text(str(job))
    sealed({job: [f"in/{job}"] for job in jobs}, [[] for _ in jobs])
    path = seal.place("workflow.yaml", WORDS)
    file, size = os.stat(path).st_ino, os.stat(path).st_size
    for number, job in enumerate((0, 1500, 2999)):
        Path(f"in/{job}").write_text(f"new {number}")
        amending.amend(look()[1], proof_of({job: [f"in/{job}"]}), {job: b"[%d]" % number})
        assert seal.look(WORDS).answer == "done"
    assert (os.stat(path).st_ino, os.stat(path).st_size) == (file, size)
    Path("in/7").unlink()
    found = rows_of(look()[1])
    assert [found[job] for job in (0, 1, 1500, 2999)] == [[0], [1], [1], [2]]
    # A row for which there is no room moves all the others.
    amending.amend(look()[1], proof_of({7: ["in/8"]}), {7: b"[%d]" % 10**40})
    Path("in/9").unlink()
    found = rows_of(look()[1])
    assert [found[job] for job in (6, 7, 8, 2999)] == [[6], [10**40], [8], [2]]


@contextlib.contextmanager
def killed_after(writes: int) -> Iterator[None]:
    """In the middle of every other write into a seal, and between two of them."""
    done = itertools.count(1)

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        number = next(done)
        if number > (writes + 1) // 2:
            raise KeyboardInterrupt
        cut = len(data) // 2 if number == (writes + 1) // 2 and writes % 2 else len(data)
        return real(descriptor, data[:cut], offset)

    real = os.pwrite
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(os, "pwrite", pwrite)
        with contextlib.suppress(KeyboardInterrupt):
            yield


def judged_again() -> set[int] | None:
    """The jobs that a run would judge; None: all of them. An answer that stands would be wrong."""
    found = seal.look(WORDS)
    assert found.answer is None
    return is_told(found)


@pytest.mark.parametrize("writes", range(9))
def test_killed_while_it_is_amended_no_stale_job_is_up_to_date(writes: int) -> None:
    """A part, its rows, the index: whatever of them is written, the job is judged."""
    Path("a").write_text("a")
    Path("b").write_text("b")
    sealed({0: ["a"], 1: ["b"]}, [[], []])
    Path("a").write_text("new")
    _, jobs = look()
    with killed_after(writes):
        amending.amend(jobs, proof_of({0: ["a"]}), {0: b"[5]"})
    Path("a").write_text("once more")
    assert judged_again() in (None, {0})


@pytest.mark.parametrize("writes", range(13))
def test_killed_while_files_change_their_places_each_is_still_its_job_s(writes: int) -> None:
    """As many go from before as come at the end, by names as long: all frames keep their length."""
    sealed_in_order()
    jobs = other_files()
    with killed_after(writes):
        amending.amend(jobs, proof_of({1: ["z", "b1", "b2", "b3"]}), {0: b"[0]", 1: b"[1]"})
    Path("c").write_text("new")
    told = judged_again()
    assert told is None or 2 in told
    if writes == 12:
        assert told == {2}


def sealed_in_order() -> None:
    for name in ("a1", "a2", "a3", "z", "c"):
        Path(name).write_text(name)
    sealed({0: ["a1", "a2", "a3"], 1: ["z"], 2: ["c"]}, [[], [], []])


def other_files() -> SealedJobs:
    for name in ("a1", "a2", "a3"):
        Path(name).unlink()
    for name in ("b1", "b2", "b3", "z"):
        Path(name).write_text(f"{name} is new")
    return look()[1]


@pytest.mark.parametrize("writes", range(7))
def test_killed_while_it_is_amended_it_does_not_come_true_by_a_rename(writes: int) -> None:
    """Files get back stamps that they had when folders are turned and turned back."""
    fillers = [f"f{number}" for number in range(writing.PART - 1)]
    for name in ("out", *fillers):
        Path(name).write_text("v1")
    for name in ("data", "other"):
        Path(name).mkdir()
        Path(name, "x").write_text(name)
    sealed({0: ["out"], 1: fillers, 2: ["data/x"]}, [[], [], []])

    def turn() -> None:
        os.rename("data", "third")
        os.rename("other", "data")
        os.rename("third", "other")

    turn()
    Path("out").write_text("v2")
    _, jobs = look()
    with killed_after(writes):
        amending.amend(jobs, proof_of({0: ["out"], 2: ["data/x"]}), {0: b"[0]", 2: b"[2]"})
    turn()
    told = judged_again()
    assert told is None or told & {0, 2}


def test_two_that_write_at_once_lose_a_seal_rather_than_mix_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One was held up before its first write; the other comes and goes meanwhile."""
    for name in ("a1", "z", "c", "d"):
        Path(name).write_text(name)
    sealed({0: ["a1"], 1: ["z"], 2: ["c"], 3: ["d"]}, [[], [], [], []])
    os.utime("c")
    first = seal.look(WORDS)
    Path("a1").unlink()
    for name in ("b1", "z"):
        Path(name).write_text(f"{name} is new")
    _, jobs = look()
    real = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        monkeypatch.setattr(os, "pwrite", real)
        proof = proof_of({1: ["z", "b1"], 2: ["c"]})
        amending.amend(jobs, proof, {0: b"[0]", 1: b"[1]", 2: b"[2]"})
        return real(descriptor, data, offset)

    (moved,) = first.moved
    moved.now = settled("c")
    monkeypatch.setattr(os, "pwrite", pwrite)
    amending.renew(first.path, first.index, [moved])
    assert os.pwrite is real
    Path("d").write_text("new")
    told = judged_again()
    assert told is None or 3 in told


@pytest.mark.parametrize("row", [b"[4]", b"[4, 'a row that is longer, so that all is written']"])
def test_what_is_torn_is_not_vouched_for_by_who_did_not_read_it(row: bytes) -> None:
    """A part of which nothing was judged is written again as it lies there, torn meanwhile."""
    fillers = [f"f{number}" for number in range(writing.PART)]
    for name in (*fillers, "d"):
        Path(name).write_text(name)
    sealed({0: fillers, 1: ["d"]}, [[], []])
    Path("d").write_text("d is new")
    found = seal.look(WORDS)
    path = Path(found.path)
    whole = path.read_bytes()
    _, part, following, *_ = starts_of(whole)
    middle = (part + following) // 2
    path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    jobs = SealedJobs(found)
    amending.amend(jobs, proof_of({1: ["d"]}), {1: row})
    assert len(path.read_bytes()) == len(whole) or len(row) > 16
    assert judged_again() is None


def test_what_was_missing_and_is_there_now_is_not_missed() -> None:
    Path("a").write_text("a")
    proof = proof_of({0: ["a"]})
    proof.missing.add("b")
    proof.jobs = writing.Jobs(["j0"], [[]], [(0, 0)], (0, 0, 0, 0), [b"[0]"], [], {}, "lock")
    writing.write(WORDS, "workflow.yaml", proof, "done")
    Path("a").write_text("new")
    _, jobs = look()
    Path("b").write_text("b")
    amending.amend(jobs, proof_of({0: ["a", "b"]}), {0: b"[0]"})
    assert seal.look(WORDS).answer == "done"


def test_no_damage_hangs_or_is_believed() -> None:
    """Each length in the index as it should not be: negative, too long, none; each frame torn."""
    for name in ("a", "b"):
        Path(name).write_text(name)
    sealed({0: ["a"], 1: ["b"]}, [[], [0]])
    path = Path(seal.place("workflow.yaml", WORDS))
    whole = path.read_bytes()
    Path("a").write_text("new")
    starts = starts_of(whole)
    for start in starts[:-1]:
        path.write_bytes(whole[: start + 4] + b"!" + whole[start + 5 :])
        assert is_told(seal.look(WORDS)) is None, start
    for at in range(starts[-1], len(whole), seal.ENTRY):
        for length in (b"-0000010", b"ffffffff", b"00000000", b"nonsense"):
            path.write_bytes(whole[: at + 8] + length + whole[at + 16 :])
            assert is_told(seal.look(WORDS)) is None, (at, length)
    for size in (0, 5, 16, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert is_told(seal.look(WORDS)) is None, size


@pytest.mark.parametrize(
    "content", [5, (5, b"", b""), (b"a", 5, b""), (b"a", b"123", b""), (), None]
)
def test_what_nobody_of_us_wrote_is_no_answer_and_no_error(content: object) -> None:
    Path("a").write_text("a")
    sealed({0: ["a"]}, [[]])
    path = Path(seal.place("workflow.yaml", WORDS))
    whole = path.read_bytes()
    starts = starts_of(whole)
    frames = [whole[begin:end] for begin, end in itertools.pairwise(starts)]
    for number in (0, 1):  # the head, the files
        forged = [*frames[:number], writing.framed(content), *frames[number + 1 :]]
        path.write_bytes(b"".join(writing.indexed(forged)))
        assert seal.look(WORDS).answer is None


def is_told(found: seal.Look) -> set[int] | None:
    if not found.path:
        return None
    try:
        jobs = SealedJobs(found)
        jobs.rows()
        return jobs.touched(found)
    except (seal.OtherError, ValueError, IndexError, KeyError, TypeError):
        return None


def starts_of(whole: bytes) -> list[int]:
    """Where each frame of a seal begins, and where the index does."""
    length = int(whole[-8:], 16)
    index = whole[-seal.ENTRY - length :]
    return [0, *itertools.accumulate(seal.lengths(index))]


def test_newer_stamps_are_written_where_they_lie() -> None:
    names = [f"f{number}" for number in range(1500)]
    for name in names:
        Path(name).write_text(name)
    proof = proof_of({0: names})
    for name in names:
        with open(name, "rb") as file:
            proof.digests[name] = digest_content(file.fileno(), len(name))
    writing.write(WORDS, "workflow.yaml", proof, "done")
    path = Path(seal.place("workflow.yaml", WORDS))
    before, inode = path.read_bytes(), path.stat().st_ino
    _, first, second, end = starts_of(before)
    assert end < len(before)
    os.utime(names[3])
    settled(names[3])
    found = seal.look(WORDS)
    assert (found.answer, len(found.moved)) == ("done", 1)
    after = path.read_bytes()
    assert path.stat().st_ino == inode
    assert (after[:first], after[second:end]) == (before[:first], before[second:end])
    assert after[first:second] != before[first:second]
    assert len(after) == len(before)
    found = seal.look(WORDS)
    assert (found.answer, found.moved) == ("done", [])


def test_newer_stamps_are_of_the_content_that_was_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was held up between its look and its writing finds another run's seal there."""

    def seal_content(text: str) -> None:
        Path("a").write_text(text)
        proof = proof_of({0: ["a"]})
        with open("a", "rb") as file:
            proof.digests["a"] = digest_content(file.fileno(), len(text))
        writing.write(WORDS, "workflow.yaml", proof, text)

    def renew(path: str, index: bytes, moved: Sequence[seal.Moved]) -> None:
        seal_content("two")
        Path("a").write_text("one")
        settled("a")
        now = seal.numbers_of(os.stat("a"))
        for file in moved:
            file.now = now
        amending_renew(path, index, moved)

    amending_renew = amending.renew
    seal_content("one")
    os.utime("a")
    settled("a")
    with monkeypatch.context() as held_up:
        held_up.setattr(amending, "renew", renew)
        assert seal.look(WORDS).answer == "one"
    assert seal.look(WORDS).answer is None


def test_what_is_no_part_any_more_is_not_written_to() -> None:
    Path("a").write_text("a")
    sealed({0: ["a"]}, [[]])
    Path("a").write_text("b")
    found = seal.look(WORDS)
    path = Path(found.path)
    whole = path.read_bytes()
    _, first, second, *_, end = starts_of(whole)
    for other in (
        b"",
        whole[:first],
        whole[:end] + b"ffffffff" * ((len(whole) - end) // 8),
        whole[:-8] + b"nonsense",
        whole[:first] + bytes(second - first) + whole[second:],
        whole + whole,
    ):
        path.write_bytes(other)
        amending.renew(str(path), found.index, found.moved)
        assert path.read_bytes() == other


def test_one_that_was_sealed_anew_meanwhile_is_left_alone() -> None:
    Path("a").write_text("a")
    sealed({0: ["a"]}, [[]])
    Path("a").write_text("new")
    _, jobs = look()
    sealed({0: ["a"]}, [[]])
    before = Path(seal.place("workflow.yaml", WORDS)).read_bytes()
    amending.amend(jobs, proof_of({0: ["a"]}), {0: b"[5]"})
    assert Path(seal.place("workflow.yaml", WORDS)).read_bytes() == before


def test_where_the_lock_cannot_be_asked_the_answer_stands() -> None:
    Path("a").write_text("a")
    sealed({0: ["a"]}, [[]])
    Path("lock").unlink()
    assert seal.look(WORDS).answer == "done"
    Path("a").write_text("new")
    found = seal.look(WORDS)
    assert (found.answer, found.path) == (None, "")
