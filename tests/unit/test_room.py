"""Room in a cache: who goes, in which order, and how often all of it is looked at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from oumi_flow.store.cache import entry
from oumi_flow.store.cache.room import Room

Put = Callable[..., str]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Makes an entry of so many bytes, used at that time (in seconds)."""

    def put(number: int, size: int, used: int | None = None) -> str:
        name = f"{number:032x}"
        folder = tmp_path / name
        folder.mkdir()
        (folder / entry.SIZE).write_text(f"{size}\n")
        (folder / entry.TRACE).touch()
        seconds = number if used is None else used
        os.utime(folder / entry.TRACE, (seconds, seconds))
        return name

    return put


def taking(tmp_path: Path, number: int) -> tuple[str, Callable[[], bool]]:
    """The key of an entry, and what takes it away."""
    name = f"{number:032x}"

    def take() -> bool:
        shutil.rmtree(tmp_path / name)
        return True

    return name, take


def there(tmp_path: Path) -> list[int]:
    return sorted(int(each.name, 16) for each in tmp_path.iterdir())


def test_the_least_recently_used_go(tmp_path: Path, put: Put) -> None:
    room = Room(str(tmp_path), 1000)
    for number in range(1, 21):
        room.make(put(number, 100))
    assert there(tmp_path) == list(range(11, 21))
    room.make(put(21, 350))
    assert there(tmp_path) == list(range(15, 22))


def test_what_is_used_meanwhile_stays(tmp_path: Path, put: Put) -> None:
    room = Room(str(tmp_path), 1000)
    for number in range(1, 12):
        room.make(put(number, 100))
    assert there(tmp_path) == list(range(2, 12))
    os.utime(tmp_path / f"{2:032x}" / entry.TRACE, (100, 100))
    room.make(put(12, 100))
    room.make(put(13, 100))
    assert there(tmp_path) == [2, *range(5, 14)]


def test_the_one_that_came_goes_last(tmp_path: Path, put: Put) -> None:
    room = Room(str(tmp_path), 1000)
    room.make(put(1, 400, used=50))
    room.make(put(2, 700, used=10))
    assert there(tmp_path) == [2]
    room.make(put(3, 1001, used=1))
    assert there(tmp_path) == []


def test_torn_ones_go_first(tmp_path: Path, put: Put) -> None:
    for number in (1, 2, 3):
        put(number, 300)
    (tmp_path / f"{3:032x}" / entry.TRACE).unlink()
    Room(str(tmp_path), 1000).make(put(4, 300))
    assert there(tmp_path) == [1, 2, 4]


def test_what_others_bring_and_take_is_seen_in_time(tmp_path: Path, put: Put) -> None:
    room = Room(str(tmp_path), 1000)
    room.make(put(1, 10))
    for number in range(2, 11):
        put(number, 100)  # by another run
    room.make(put(11, 150))
    assert there(tmp_path) == list(range(3, 12))
    for number in range(3, 9):
        shutil.rmtree(tmp_path / f"{number:032x}")
    room.make(put(12, 300))
    assert there(tmp_path) == [9, 10, 11, 12]


def test_nobody_goes_for_what_has_been_taken_out(tmp_path: Path, put: Put) -> None:
    """A config that is changed and changed back: as much comes as is taken, again and again."""
    room = Room(str(tmp_path), 1000)
    for number in range(1, 100):
        room.make(put(number, 10))
    for number in range(100, 160):
        room.make(put(number, 10))
        assert room.let_out(*taking(tmp_path, number - 50))
    assert sum(entry.size_of(str(each)) for each in tmp_path.iterdir()) == 990
    assert there(tmp_path) == [*range(1, 50), *range(110, 160)]
    # And so it is for one that has had to let some go.
    for number in range(160, 180):
        room.make(put(number, 10))
    assert there(tmp_path) == [*range(20, 50), *range(110, 180)]
    for number in range(180, 200):
        assert room.let_out(*taking(tmp_path, number - 50))
        room.make(put(number, 10))
    assert there(tmp_path) == [*range(20, 50), *range(110, 130), *range(150, 200)]


def test_what_cannot_be_removed_ends_the_search(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As other users' in a folder where each may remove his own alone."""
    for number in range(1, 12):
        put(number, 90)
    monkeypatch.setattr(entry, "remove", lambda path, aside="": False)
    room = Room(str(tmp_path), 1000)
    room.make(put(12, 15))
    for _ in range(4):
        key = put(13, 5)
        shutil.rmtree(tmp_path / key)
        room.make(key)
    assert there(tmp_path) == list(range(1, 13))


@pytest.mark.parametrize("limit", [10**9, 50 * 100])
def test_all_is_looked_at_a_few_times_and_not_for_each(
    tmp_path: Path, put: Put, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    listdir = os.listdir

    def counted(path: str) -> list[str]:
        nonlocal looks
        looks += 1
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    room = Room(str(tmp_path), limit)
    for number in range(1, 201):
        room.make(put(number, 100))
    assert len(there(tmp_path)) == min(200, limit // 100)
    # Once, and after each eighth of what there may be.
    assert looks <= 2 + 8 * (200 * 100 / limit) * 1.2
