"""What the disk sees: content by stamp where that is safe, and what never counts."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.content import digest_content
from oumi_flow.disk import Disk, atomic_write, is_settled
from oumi_flow.errors import FlowError
from oumi_flow.model import MISSING, Counts, Evidence, Stamp
from oumi_flow.verbs import model_file

YEAR_2001_NS = 1_000_000_000_123_456_789


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the clock of our stamps run on by some seconds; the file system's stays."""
    ahead = [0]
    real = time.time_ns

    def tick(seconds: float) -> None:
        ahead[0] += int(seconds * 1e9)

    monkeypatch.setattr("oumi_flow.disk.files.time.time_ns", lambda: real() + ahead[0])
    return tick


def write(path: str, text: str = "x") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def next_tick(path: str) -> None:
    """Until a change would date the file otherwise: some systems go by a tick of 10 ms."""
    before = os.stat(path).st_ctime_ns
    write("tick")
    while os.stat("tick").st_ctime_ns <= before:
        write("tick")


def see(path: str, counts: Counts = Counts.ALL, known: Evidence | None = None) -> Evidence:
    return Disk(model_file).observe(path, counts, known)


def names(seen: Evidence) -> list[str]:
    return [file.path for file in seen.files]


# Files ---------------------------------------------------------------------------------------


def test_equal_content_has_an_equal_digest_whatever_the_file() -> None:
    write("a", "same")
    write("b", "same")
    write("c", "other")
    assert see("a").digest == see("b").digest
    assert see("a").digest != see("c").digest


def test_nothing_there_is_missing() -> None:
    write("file")
    assert see("nothing") == MISSING
    assert see("file/below") == MISSING
    assert see("dir/nothing") == MISSING


def test_a_dangling_link_named_directly_is_missing() -> None:
    os.symlink("nowhere", "link")
    assert see("link") == MISSING


def test_a_file_link_counts_by_the_content_it_leads_to() -> None:
    write("target", "one")
    os.symlink("target", "link")
    before = see("link")
    write("target", "two")
    assert see("link", known=before).digest != before.digest
    assert see("link").digest == see("target").digest


def test_a_settled_stamp_is_trusted_without_reading(later: Callable[[float], None]) -> None:
    write("a")
    later(5)
    known = see("a")
    disk = Disk(model_file)
    assert known.settled
    assert disk.observe("a", Counts.ALL, known) is known
    assert disk.digested == 0


def test_a_young_stamp_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a")
    monkeypatch.setattr(
        "oumi_flow.disk.files.time.time_ns", lambda: os.stat("a").st_ctime_ns + 1_000_000
    )
    known = see("a")
    disk = Disk(model_file)
    assert not known.settled
    disk.observe("a", Counts.ALL, known)
    disk.observe("a", Counts.ALL, known)
    assert disk.digested == 2


def test_settle_waits_until_the_stamp_is_to_be_trusted() -> None:
    write("a")
    known = see("a")
    settled = Disk(model_file).settle("a", Counts.ALL, known)
    assert settled.settled
    assert settled.digest == known.digest


def test_a_stamp_that_moved_is_followed_by_reading(later: Callable[[float], None]) -> None:
    write("a", "one")
    later(5)
    known = see("a")
    os.utime("a", ns=(YEAR_2001_NS, YEAR_2001_NS))
    touched = see("a", known=known)
    assert touched.digest == known.digest
    assert touched != known
    next_tick("a")
    write("a", "two")
    os.utime("a", ns=(YEAR_2001_NS, YEAR_2001_NS))
    assert see("a", known=touched).digest != known.digest


def test_verify_trusts_no_stamp(later: Callable[[float], None]) -> None:
    write("a", "one")
    later(5)
    known = see("a")
    lie = Evidence("file", "0" * 32, (known.files[0]._replace(digest="0" * 32),))
    assert see("a", known=lie).digest == lie.digest
    checked = Disk(model_file, verify=True)
    assert checked.observe("a", Counts.ALL, lie).digest == known.digest
    checked.observe("a", Counts.ALL, lie)
    assert checked.digested == 1


@given(
    ctime=st.integers(10**9, 2 * 10**18),
    age=st.integers(-(10**10), 10**10),
)
def test_no_stamp_is_settled_within_the_tick_of_its_change(ctime: int, age: int) -> None:
    taken = Stamp(1, ctime, ctime, 1)
    if age < (2_000_000_000 if ctime % 1_000_000 == 0 else 20_000_000):
        assert not is_settled(taken, ctime + age)
    elif age > 2_000_000_000:
        assert is_settled(taken, ctime + age)


def test_coarse_times_need_two_seconds() -> None:
    second = 1_700_000_000 * 10**9
    assert not is_settled(Stamp(1, second, second, 1), second + 10**9)
    assert is_settled(Stamp(1, second, second, 1), second + 2 * 10**9 + 1)


def test_a_modification_time_in_the_future_does_not_keep_a_file_unsettled() -> None:
    now = 1_700_000_000_123_456_789
    assert is_settled(Stamp(1, now + 10**15, now - 10**9, 1), now)


def test_a_large_file_is_digested_where_the_system_gives_no_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import blake3

    class PanicException(BaseException):
        pass

    real = blake3.blake3

    class Hasher:
        AUTO = real.AUTO

        def __new__(cls, *data: bytes, **how: int) -> Any:
            return object.__new__(cls) if how else real(*data)

        def update(self, _: object) -> None:
            raise PanicException("cannot spawn the pool")

    write("a", "x" * (5 << 20))
    descriptor = os.open("a", os.O_RDONLY)
    try:
        digest = digest_content(descriptor, 5 << 20)
        monkeypatch.setattr(blake3, "blake3", Hasher)
        os.lseek(descriptor, 0, os.SEEK_SET)
        assert digest_content(descriptor, 5 << 20) == digest
    finally:
        os.close(descriptor)


def test_a_file_that_moves_while_it_is_read_is_not_settled(
    later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", "one")
    later(5)

    def meanwhile(descriptor: int, size: int) -> str:
        digest = digest_content(descriptor, size)
        next_tick("a")
        write("a", "two")
        return digest

    with monkeypatch.context() as patch:
        patch.setattr("oumi_flow.disk.digest_content", meanwhile)
        torn = see("a")
    assert not torn.settled
    after = see("a", known=torn)
    assert after.kind == "file"
    assert after.digest != torn.digest


def test_an_output_and_an_input_of_one_path_are_read_once(later: Callable[[float], None]) -> None:
    write("out/model.safetensors")
    later(5)
    disk = Disk(model_file)
    disk.observe("out", Counts.MODEL)
    disk.observe("out", Counts.ALL)
    disk.observe("out/model.safetensors", Counts.MODEL)
    assert disk.digested == 1
    disk.forget("out")
    disk.observe("out", Counts.MODEL)
    assert disk.digested == 2


def test_what_an_earlier_trace_proves_is_not_read_for_another_job(
    later: Callable[[float], None],
) -> None:
    write("out/a")
    later(5)
    known = see("out")
    disk = Disk(model_file)
    disk.observe("out", Counts.ALL, known)
    disk.observe("out", Counts.ALL)
    assert disk.digested == 0


def test_many_threads_read_a_file_once(later: Callable[[float], None]) -> None:
    Path("big").write_bytes(os.urandom(3_000_000))
    later(5)
    disk = Disk(model_file)
    found: list[Evidence] = []
    threads = [
        threading.Thread(target=lambda: found.append(disk.observe("big", Counts.ALL)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert disk.digested == 1
    assert len(found) == 8
    assert len({seen.digest for seen in found}) == 1


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, (1 << 20) + 1, (1 << 23) + 5])
def test_digests_are_those_of_blake3(size: int) -> None:
    from blake3 import blake3

    content = os.urandom(size)
    Path("a").write_bytes(content)
    assert see("a").digest == blake3(content).hexdigest(16)


# What cannot be read -------------------------------------------------------------------------


def test_a_fifo_named_directly_is_refused_and_does_not_hang() -> None:
    os.mkfifo("pipe")
    with pytest.raises(FlowError, match="pipe: is a fifo"):
        see("pipe")


def test_the_size_of_plain_files_of_near_devices_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    write("small", "x")
    write("large", "x" * 20000)
    os.mkfifo("pipe")
    os.mkdir("folder")
    near = (os.stat(".").st_dev,)
    paths = ("small", "nothing", "large", "pipe", "folder", "*.txt")
    disk = Disk(model_file)
    assert [disk.size(path, near) for path in paths] == [1, 0, 20000, None, None, None]
    os.mkdir("far")
    write("far/a")
    assert disk.size("far/a", near=()) is None
    monkeypatch.setattr(os, "stat", lambda path: pytest.fail(f"looked again at {path}"))
    assert disk.size("far/b", near=()) is None


def test_fifos_and_sockets_below_a_folder_count_by_kind() -> None:
    os.mkdir("d")
    os.mkfifo("d/pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("d/socket")
        seen = see("d")
    assert [file.digest for file in seen.files] == ["fifo", "socket"]
    os.unlink("d/pipe")
    write("d/pipe")
    assert see("d").digest != seen.digest


def test_an_unreadable_file_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    write("secret")
    real = os.open

    def refuse(path: str, *rest: int) -> int:
        if path == "secret":
            raise PermissionError(13, "Permission denied", path)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FlowError, match=r"secret: cannot be read: Permission denied") as error:
        see("secret")
    assert "chmod" in error.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("path", ["d/secret", "closed"])
def test_modes_without_read_are_an_error(path: str) -> None:
    write("d/secret")
    os.mkdir("closed")
    os.chmod(path, 0)
    try:
        with pytest.raises(FlowError, match=path):
            see(path)
    finally:
        os.chmod(path, 0o700)


def test_a_link_to_itself_is_an_error_that_says_so() -> None:
    os.symlink("me", "me")
    with pytest.raises(FlowError, match="me: cannot be read") as error:
        see("me")
    assert "leads back to itself" in error.value.hint


# Folders -------------------------------------------------------------------------------------


def test_a_folder_is_its_names_and_contents() -> None:
    write("d/b", "2")
    write("d/a/x", "1")
    seen = see("d")
    assert names(seen) == ["a/x", "b"]
    os.rename("d/b", "d/c")
    assert see("d").digest != seen.digest
    os.rename("d/c", "d/b")
    assert see("d").digest == seen.digest


def test_a_folder_whose_files_are_all_trusted_gives_the_known_evidence_back(
    later: Callable[[float], None],
) -> None:
    write("d/b")
    write("d/a/x")
    later(5)
    known = see("d")
    disk = Disk(model_file)
    assert disk.observe("d", Counts.ALL, known) is known
    write("d/new")
    seen = disk.observe("d", Counts.ALL, known)
    assert seen.digest != known.digest
    assert disk.digested == 1


def test_empty_folders_count() -> None:
    os.mkdir("d")
    before = see("d")
    os.mkdir("d/empty")
    assert see("d").digest != before.digest
    assert see("d").kind == "folder"


def test_our_own_files_never_count() -> None:
    write("d/data")
    seen = see("d")
    write("d/.oumi-flow/done.json")
    write("d/job.log")
    write("d/job.log.1")
    write("d/sub/.oumi-flow/x")
    write("d/sub/job.log")
    os.mkdir("e")
    assert names(see("d")) == ["data", "sub"]
    write("d/job.log.txt")
    assert "job.log.txt" in names(see("d"))
    assert names(seen) == ["data"]


def test_a_file_somebody_names_always_counts() -> None:
    write("d/job.log")
    write("d/trainer_state.json")
    assert see("d/job.log").kind == "file"
    assert see("d/trainer_state.json", Counts.MODEL).kind == "file"


def test_model_files_of_a_folder() -> None:
    for name in ("model.safetensors", "config.json", "sub/tokenizer.json"):
        write(f"d/{name}")
    for name in (
        "checkpoint-5/model.safetensors",
        "logs/rank_0000.log",
        "trainer_state.json",
        "job.log.1",
        "metrics_rank0000.jsonl",
    ):
        write(f"d/{name}")
    os.mkdir("d/empty")
    assert names(see("d", Counts.MODEL)) == [
        "config.json",
        "model.safetensors",
        "sub/tokenizer.json",
    ]
    assert names(see("d/checkpoint-5", Counts.MODEL)) == ["model.safetensors"]


def test_a_link_to_a_checkpoint_counts_by_its_own_name() -> None:
    write("d/checkpoint-5/model.safetensors")
    os.symlink("checkpoint-5", "d/best")
    assert names(see("d", Counts.MODEL)) == ["best/model.safetensors"]


TABLE = """number,value,datetime_start,datetime_complete,duration,params_lr,state
0,1.5,2026-01-01 10:00:00,2026-01-01 10:01:00,0 days 00:01:00,0.1,COMPLETE
1,{value},{when},2026-01-01 10:02:00,{took},0.2,COMPLETE
"""


def test_trials_count_without_dates_and_durations() -> None:
    write("t/trials_results.csv", TABLE.format(value=1, when="a", took="b"))
    write("t/trial_0/model.safetensors")
    write("t/trial_0/checkpoint-1/model.safetensors")
    write("t/logs/rank_0000.log")
    write("t/study.db")
    before = see("t", Counts.TRIALS)
    assert names(before) == ["trial_0/model.safetensors", "trials_results.csv"]
    write("t/trials_results.csv", TABLE.format(value=1, when="A", took="B"))
    assert see("t", Counts.TRIALS, before).digest == before.digest
    named = see("t/trials_results.csv", Counts.TRIALS)
    assert named.digest == before.files[1].digest
    assert named.digest != see("t/trials_results.csv", Counts.ALL).digest
    write("t/trials_results.csv", TABLE.format(value=2, when="A", took="B"))
    assert see("t", Counts.TRIALS, before).digest != before.digest


def test_one_trial_named_by_itself_is_a_model_folder() -> None:
    write("t/trial_0/model.safetensors")
    write("t/trial_0/trainer_state.json")
    assert names(see("t/trial_0", Counts.TRIALS)) == ["model.safetensors"]


def test_the_two_readings_of_a_table_do_not_mix(later: Callable[[float], None]) -> None:
    write("t/trials_results.csv", TABLE.format(value=1, when="a", took="b"))
    later(5)
    disk = Disk(model_file)
    raw = disk.observe("t/trials_results.csv", Counts.ALL)
    reader = disk.observe("t/trials_results.csv", Counts.TRIALS)
    assert raw.digest != reader.digest
    assert disk.observe("t/trials_results.csv", Counts.ALL).digest == raw.digest
    fresh = Disk(model_file)
    fresh.observe("t/trials_results.csv", Counts.TRIALS, reader)
    assert fresh.observe("t/trials_results.csv", Counts.ALL).digest == raw.digest


def test_a_table_that_is_none_counts_as_it_is() -> None:
    write("t/trials_results.csv", '"' + "x" * 200_000)
    assert len(see("t", Counts.TRIALS).digest) == 32


def test_folder_links_are_followed_once_and_loops_not_at_all() -> None:
    write("real/x", "1")
    os.symlink("../real", "real/loop")
    os.mkdir("d")
    os.symlink("../real", "d/one")
    os.symlink("../real", "d/two")
    os.makedirs("d/sub")
    os.symlink("..", "d/sub/up")
    seen = see("d")
    assert names(seen) == ["one/loop", "one/x", "sub/up", "two"]
    write("real/x", "2")
    assert see("d").digest != seen.digest


def test_a_link_out_of_the_folder_and_around_it_ends() -> None:
    write("d/x")
    os.symlink("..", "d/up")
    assert names(see("d")) == ["up/d/up", "up/d/x", "x"]


def test_dangling_links_below_a_folder_count_by_where_they_point() -> None:
    os.mkdir("d")
    os.symlink("nowhere", "d/link")
    seen = see("d")
    os.unlink("d/link")
    os.symlink("elsewhere", "d/link")
    assert see("d").digest != seen.digest


def test_names_that_are_no_utf8_are_observed() -> None:
    os.makedirs(b"d")
    with open(b"d/\xff\xfe", "wb") as file:
        file.write(b"1")
    assert len(see("d").files) == 1


def test_very_deep_folders_are_walked(tmp_path: Path) -> None:
    depth = 1200
    os.mkdir("d")
    folder = os.open("d", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("a", dir_fd=folder)
        below = os.open("a", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    try:
        assert names(see("d")) == ["/".join(["a"] * depth)]
    finally:  # too deep for those who clean up after us
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_files_that_vanish_during_the_walk_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    write("d/a")
    write("d/b")
    real = os.open

    def lose(path: str, *rest: int) -> int:
        if path.endswith("d/a"):
            os.unlink(path)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", lose)
    assert names(see("d")) == ["b"]


def test_a_folder_that_vanishes_during_the_walk_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("d/sub/a")
    write("d/z")
    real = os.scandir

    def lose(path: str) -> object:
        if path.endswith("d/sub"):
            raise FileNotFoundError(2, "gone", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", lose)
    assert "z" in names(see("d"))


# Globs ---------------------------------------------------------------------------------------


def test_a_glob_is_the_set_of_its_matches() -> None:
    write("data/a.jsonl")
    write("data/b.jsonl")
    write("data/c.txt")
    write("data/.hidden.jsonl")
    seen = see("data/*.jsonl")
    assert seen.kind == "glob"
    assert names(seen) == ["data/a.jsonl", "data/b.jsonl"]
    write("data/d.jsonl")
    assert see("data/*.jsonl", known=seen).digest != seen.digest


def test_two_stars_are_any_number_of_folders() -> None:
    for path in ("d/x.py", "d/a/x.py", "d/a/b/x.py", "d/a/b/y.txt", "d/.git/x.py"):
        write(path)
    os.symlink("..", "d/a/loop")
    assert names(see("d/**/*.py")) == ["d/a/b/x.py", "d/a/x.py", "d/x.py"]
    assert names(see("d/**/**/b/*.py")) == ["d/a/b/x.py"]
    assert "d/a/b/y.txt" in names(see("d/**"))


def test_a_folder_that_matches_counts_with_all_below_it_once() -> None:
    write("d/a/x")
    write("d/a/b/y")
    write("d/a-b")
    os.mkdir("d/empty")
    assert names(see("d/**/*")) == ["d/a-b", "d/a/b/y", "d/a/x", "d/empty"]


def test_a_glob_without_matches_is_an_empty_set_not_missing() -> None:
    assert see("nothing/*.jsonl") == see("nothing/*.jsonl")
    assert see("nothing/*.jsonl").kind == "glob"


def test_a_file_whose_name_looks_like_a_glob_is_that_file() -> None:
    write("data[1].txt")
    assert see("data[1].txt").kind == "file"


@given(st.dictionaries(st.text("ab/", min_size=1, max_size=4), st.binary(max_size=3), max_size=5))
def test_folders_have_equal_digests_if_and_only_if_their_files_are_equal(
    tree: dict[str, bytes],
) -> None:
    import tempfile

    def build(files: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
        with tempfile.TemporaryDirectory() as top:
            for name, content in files.items():
                path = Path(top, *[part for part in name.split("/") if part])
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                except OSError:  # a file where a folder is needed, or the top itself
                    continue
            made = {
                str(path.relative_to(top)): path.read_bytes()
                for path in Path(top).rglob("*")
                if path.is_file()
            }
            return made, see(top).digest

    files, digest = build(tree)
    again, same = build(dict(reversed(tree.items())))
    assert (files == again) == (digest == same)
    for name in files:
        changed = {**files, name: files[name] + b"!"}
        assert build(changed)[1] != digest


# Writing -------------------------------------------------------------------------------------


def test_atomic_write_replaces_whole_files_and_leaves_nothing_behind(here: Path) -> None:
    atomic_write("a", b"one", 0o600)
    atomic_write("a", b"two", 0o600, durable=True)
    assert Path("a").read_bytes() == b"two"
    assert os.listdir(here) == ["a"]
    assert os.stat("a").st_mode & 0o777 == 0o600


def test_a_disk_that_takes_a_little_at_a_time_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
        atomic_write("a", b"0123456789")
    assert Path("a").read_bytes() == b"0123456789"


def test_atomic_write_that_fails_keeps_the_old_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic_write("a", b"one")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write("a", b"two")
    assert Path("a").read_bytes() == b"one"
    assert os.listdir(here) == ["a"]
