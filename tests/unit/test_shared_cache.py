"""An entry of a cache that others use too: it may go at any moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from oumi_flow.model import Command, Job, Trace
from oumi_flow.staleness import trace_of
from oumi_flow.store.cache import entry, moves
from oumi_flow.store.cache.entry import Entry, write
from oumi_flow.store.cache.shared import Shared
from oumi_flow.store.cache.shelves import FOLDER, Shelf
from oumi_flow.store.files import Files

FILES = Files(private=False)


def made() -> Trace:
    job = Job("a", "shell", "out/a", "out/a", Command(("true",)), {}, "")
    return trace_of(job, {}, {}, started=1.0, finished=2.0, build_key="0" * 32, run_id="R")


@pytest.mark.parametrize("evicted", [False, True])
def test_one_that_others_evict_before_it_is_listed_is_not_there(
    tmp_path: Path, evicted: bool
) -> None:
    """Nor is it damaged, for which it would be removed where somebody has put it anew by then."""
    shared = Shared(str(tmp_path / "shared"), FILES, None)
    folder, trace = tmp_path / "shared" / ("0" * 32), made()
    (folder / FOLDER).mkdir(parents=True)
    (folder / FOLDER / "made").write_text("x")
    write(str(folder), FILES, trace, "proof", 1, "trace.json")
    kept = Entry(trace, "proof")
    assert shared.holds(trace.build_key)
    if evicted:
        assert shared.remove(trace.build_key)
    shelves, target = [Shelf(FOLDER, "out/a")], tmp_path / "copy"
    copied = shared.copy_out(kept, shelves, str(target), lambda: True)
    assert copied == (None if evicted else kept)
    assert (target / FOLDER / "made").exists() is not evicted


def test_of_two_results_of_one_key_the_later_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs that do the same work are moved to the cache at once."""
    trace = made()
    target, leaving = tmp_path / trace.build_key, tmp_path / "out-a"
    for folder in (target, leaving):
        (folder / FOLDER).mkdir(parents=True)
        write(str(folder), FILES, trace, "proof", 1, "trace.json")
    (leaving / FOLDER / "later").write_text("x")
    remove = entry.remove

    def removed(path: str) -> bool:
        gone = remove(path)
        if not (tmp_path / "met").exists():  # the other one comes just then
            (tmp_path / "met").touch()
            target.mkdir()
            write(str(target), FILES, trace, "proof", 1, "trace.json")
        return gone

    monkeypatch.setattr(entry, "remove", removed)
    moves.seal(str(tmp_path), str(leaving), trace.build_key)
    assert (target / FOLDER / "later").exists()
    assert not leaving.exists()
