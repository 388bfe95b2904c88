"""Where each change that is looked for gets a time of its own, and where that is not so."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest

from oumi_flow.disk import Disk, stamp
from oumi_flow.disk.dates import device_that_tells_changes_apart
from oumi_flow.model import Counts
from oumi_flow.verbs import model_file


@pytest.fixture
def exact(tmp_path: Path) -> Disk:
    """A disk that trusts the dates of `tmp_path`."""
    if device_that_tells_changes_apart(str(tmp_path)) is None:
        pytest.skip("files are dated by a tick here")
    disk = Disk(model_file)
    disk.trust_dates(str(tmp_path))
    return disk


def test_a_change_right_after_a_look_is_always_seen(exact: Disk, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("0")
    known = exact.observe(str(path), Counts.ALL)
    for number in range(1, 500):
        was = stamp(str(path))
        with path.open("r+") as file:  # in place, and as long as it was
            file.write(str(number % 10))
        assert stamp(str(path)) != was
        seen = exact.observe(str(path), Counts.ALL, known)
        assert seen.digest != known.digest
        known = seen


def test_what_was_just_written_is_trusted_there_and_nowhere_else(
    exact: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    written = os.stat(path).st_ctime_ns

    def is_trusted(disk: Disk, after_ns: int) -> bool:
        monkeypatch.setattr("oumi_flow.disk.files.time.time_ns", lambda: written + after_ns)
        return disk.observe(str(path), Counts.ALL).settled

    other = Disk(model_file)
    assert not is_trusted(exact, 100_000)  # who wrote it may not have done with it
    assert not is_trusted(other, 1_000_000)
    assert is_trusted(exact, 1_000_000)
    assert is_trusted(exact, 100_000), "it was read again"
    exact.forget()
    exact._exact = -1
    assert not is_trusted(exact, 1_000_000)


def test_dates_by_a_tick_are_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    def by_the_tick(descriptor: int) -> os.stat_result:
        seen = real(descriptor)
        by_tick = seen.st_ctime_ns // 4_000_000 * 4_000_000
        return os.stat_result(tuple(seen), {"st_ctime_ns": by_tick})

    monkeypatch.setattr("oumi_flow.disk.dates.os.fstat", by_the_tick)
    assert device_that_tells_changes_apart(str(tmp_path)) is None


def test_who_is_too_slow_to_tell_does_not_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=1_000_000)
    monkeypatch.setattr("oumi_flow.disk.dates.time.monotonic_ns", lambda: next(clock))
    assert device_that_tells_changes_apart(str(tmp_path)) is None


def test_a_folder_in_which_nothing_can_be_made_is_not_trusted(tmp_path: Path) -> None:
    assert device_that_tells_changes_apart(str(tmp_path / "missing")) is None
    assert device_that_tells_changes_apart("/proc/self") is None
