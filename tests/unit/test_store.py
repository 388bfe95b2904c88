"""State files: what survives being cut, who may hold a folder, what is told to whom."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.disk import stamp
from oumi_flow.errors import FlowError, Locked
from oumi_flow.events import Event, JobFinished, JobStarted, Note, RunFinished
from oumi_flow.executors.state_dir import StateDir
from oumi_flow.model import (
    Command,
    Evidence,
    FileEvidence,
    Job,
    LastAttempt,
    Past,
    Progress,
    Stamp,
    Trace,
    Workflow,
)
from oumi_flow.store import Store
from oumi_flow.store.eventlog import EventLog, follow_events
from oumi_flow.store.files import Files, parse, to_json
from oumi_flow.store.records import (
    Table,
    Texts,
    packed,
    packed_to_row,
    trace_from_json,
    trace_from_row,
    trace_to_json,
    trace_to_row,
)
from oumi_flow.store.runs import find_run, list_folder, new_run_id, register_run, user_runs


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUMI_FLOW_HOME", str(tmp_path / "home"))
    return tmp_path


def job(name: str) -> Job:
    return Job(
        name=name,
        verb="shell",
        folder=f"out/{name}",
        place=f"out/{name}",
        command=Command(("true",)),
        parts={},
        fingerprint="f" * 32,
    )


def workflow(*names: str, name: str = "w", path: str = "w.yaml") -> Workflow:
    return Workflow(name, path, "out", tuple(job(n) for n in names))


SEEN = Evidence("file", "d" * 32, (FileEvidence("", Stamp(1, 2, 3, 4), "d" * 32, True),))


def trace(name: str = "a", **changes: object) -> Trace:
    made = Trace(
        job=name,
        fingerprint="f" * 32,
        parts={"verb": "shell", "env": {"A": "1"}},
        build_key="b" * 32,
        inputs={"x": SEEN},
        input_paths={"x": "x"},
        outputs={"@": SEEN},
        started=10.0,
        finished=20.0,
        run_id="r",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def attempt(state: str = "running", **changes: object) -> LastAttempt:
    return replace(LastAttempt("r", 1, state, token="t", started=1.0), **changes)  # type: ignore[arg-type]


def past(name: str = "a") -> Past:
    return Store("out").pasts([job(name)])[name]


# Markers -------------------------------------------------------------------------------------


def test_what_is_written_is_read_back() -> None:
    Store("out").write_marker(trace(changed_while_ran=("x",), metrics={"loss": 0.5}))
    assert past() == Past(trace(changed_while_ran=("x",), metrics={"loss": 0.5}))


def test_a_job_that_never_ran_has_no_past() -> None:
    assert past() == Past()
    assert not os.path.exists("out")


def test_a_marker_of_another_format_is_none() -> None:
    store = Store("out")
    store.write_marker(trace())
    record = json.loads(Path(store.paths.marker("a")).read_text())
    for strange in ({**record, "format": 99}, {**record, "format": None}, [record], 7, None):
        Path(store.paths.marker("a")).write_text(json.dumps(strange))
        assert past() == Past()


def test_a_marker_with_a_field_of_another_type_is_none() -> None:
    record = parse(to_json(trace_to_json(trace())))
    assert trace_from_json(record) == trace()
    for name in record:
        for strange in (None, "text", 7, [], {"a": 1}, [[1]], True):
            changed = trace_from_json({**record, name: strange})
            assert changed is None or isinstance(changed, Trace)
        without = {key: value for key, value in record.items() if key != name}
        assert trace_from_json(without) is None or name not in ("fingerprint", "build_key")


def test_a_marker_cut_at_any_byte_is_none() -> None:
    store = Store("out")
    store.write_marker(trace())
    path = Path(store.paths.marker("a"))
    whole = path.read_bytes()
    for length in range(len(whole) - 1):  # the last byte is a newline
        path.write_bytes(whole[:length])
        assert past() == Past()


def test_unknown_fields_of_a_marker_are_left_alone() -> None:
    record = {**trace_to_json(trace()), "colour": "blue"}
    assert trace_from_json(parse(to_json(record))) == trace()


def test_a_removed_marker_is_remembered_for_words_only() -> None:
    store = Store("out")
    store.write_marker(trace())
    store.write_attempt("a", attempt())
    store.remove_marker("a")
    assert past() == Past(None, attempt(), trace())
    store.remove_marker("a")  # of a retry: nothing to remove any more
    assert past() == Past(None, attempt(), trace())


def test_an_attempt_is_not_looked_at_where_a_marker_is() -> None:
    store = Store("out")
    store.write_attempt("a", attempt("failed"))
    store.write_marker(trace())
    assert past() == Past(trace())


def test_an_attempt_cut_at_any_byte_is_none() -> None:
    store = Store("out")
    store.write_attempt("a", attempt("failed", detail="exit 1"))
    path = Path(store.paths.attempt("a"))
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        assert past() == Past()


def begun(text: str = '{"format": 1, "token": "t"}\n') -> tuple[Store, Path, Path]:
    """A store with an attempt of `a`, its record, and where its marker will be."""
    store = Store("out")
    store.write_attempt("a", attempt("starting"))
    record = Path(store.paths.attempt("a"))
    record.write_text(text)
    return store, record, Path(store.paths.marker("a"))


def test_the_record_of_an_attempt_becomes_its_marker() -> None:
    for text in ('{"format": 1, "token": "t"}\n', '{"detail": "' + "x" * 3000 + '"}\n'):
        store, record, marker = begun(text)
        inode = record.stat().st_ino
        store.commit(trace(finished=10.5))
        assert os.listdir(record.parent) == ["done.json"]
        assert marker.stat().st_ino == inode
        assert past() == Past(trace(finished=10.5))
        assert store.kept("a") == trace(finished=10.5)
        assert store.read_attempt("a") is None
        marker.unlink()


@pytest.mark.parametrize("case", ["none", "linked", "a link", "long", "long record", "dear"])
def test_where_it_cannot_a_marker_is_made(case: str, here: Path) -> None:
    store, record, marker = begun('{"detail": "' + "x" * 5000 + '"}\n' * (case == "long record"))
    made = trace(finished=20.0 if case == "dear" else 10.5)
    (here / "aside").write_text("aside")
    if case == "long":
        made = replace(made, parts={"run": "x" * 4096})
    elif case == "linked":
        os.link(record, here / "copy")
    elif case in ("none", "a link"):
        record.unlink()
        if case == "a link":
            record.symlink_to(here / "aside")
    told = record.read_text() if case == "linked" else ""
    store.commit(made)
    assert past() == Past(made)
    assert os.listdir(record.parent) == ["done.json"]
    assert not marker.is_symlink()
    assert (here / "aside").read_text() == "aside"
    if case == "linked":
        assert (here / "copy").read_text() == told


def test_a_marker_that_was_not_put_in_place_is_put_there() -> None:
    store, record, _ = begun()
    assert not store.finish_commit("a")
    record.write_bytes(to_json(trace_to_json(trace("b"))))
    assert not store.finish_commit("a")  # of another job's folder
    record.write_bytes(to_json(trace_to_json(trace())))
    found = store.read_attempt("a")
    assert found is not None
    assert (found.state, found.run_id, found.is_open, found.is_unsettled) == (
        "done",
        "r",
        False,
        True,
    )
    assert past().trace is None
    assert store.finish_commit("a")
    assert past() == Past(trace())
    assert not record.exists()


def test_a_record_of_an_earlier_version_that_is_done_says_nothing_without_its_marker() -> None:
    store = Store("out")
    store.write_attempt("a", attempt("done"))
    assert store.read_attempt("a") is None
    assert not store.finish_commit("a")
    assert past() == Past()


@pytest.mark.parametrize("finished", [10.5, 20.0])
def test_a_marker_that_cannot_be_put_in_place_is_told_and_not_lost(finished: float) -> None:
    store, record, marker = begun()
    before = record.read_bytes()
    marker.mkdir()
    (marker / "x").touch()
    with pytest.raises(FlowError, match=r"done\.json"):
        store.commit(trace(finished=finished))
    if finished == 20.0:
        assert record.read_bytes() == before
        return
    with pytest.raises(FlowError, match=r"done\.json"):
        store.finish_commit("a")
    (marker / "x").unlink()
    marker.rmdir()
    assert store.finish_commit("a")
    assert past() == Past(trace(finished=finished))


def test_a_record_that_is_written_over_by_half_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    store, record, marker = begun()
    before, pwrite = record.read_bytes(), os.pwrite

    def half(descriptor: int, data: bytes, offset: int) -> int:
        return pwrite(descriptor, data[: len(data) // 2] if len(data) > 100 else data, offset)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", half)
    with monkeypatch.context() as patch:
        patch.setattr("oumi_flow.store.files.atomic_write", full)
        with pytest.raises(FlowError, match="full"):
            store.commit(trace(finished=10.5))
    assert record.read_bytes() == before
    store.commit(trace(finished=10.5))
    assert past() == Past(trace(finished=10.5))
    assert os.listdir(marker.parent) == ["done.json"]


def test_a_record_that_others_may_read_does_not_become_a_private_marker() -> None:
    _, record, marker = begun()
    record.chmod(0o644)
    Store("out", private=True).commit(trace(finished=10.5))
    assert stat.S_IMODE(marker.stat().st_mode) == 0o600
    assert not record.exists()


def test_an_attempt_keeps_what_its_supervisor_added_until_another_one_begins() -> None:
    store = Store("out")
    store.write_attempt("a", attempt("starting"))
    supervisor = StateDir(store.paths.job_state("a"))
    supervisor.claim("t", {"token": "t", "pid": 1})
    supervisor.end(b'{"token": "t", "code": 3}\n')
    supervisor.close()
    store.write_attempt("a", attempt("interrupted"))
    record = json.loads(Path(store.paths.attempt("a")).read_text())
    assert (record["handle"]["pid"], record["exit"]["code"]) == (1, 3)
    assert store.read_exit("a", "t") == {"token": "t", "code": 3}
    store.write_attempt("a", attempt("starting", token="other"))
    assert {"handle", "exit"}.isdisjoint(json.loads(Path(store.paths.attempt("a")).read_text()))
    assert store.read_exit("a", "t") is None


def test_a_forgotten_attempt_says_nothing() -> None:
    store = Store("out")
    store.write_attempt("a", attempt("failed"))
    store.forget_attempt("a")
    store.forget_attempt("a")
    assert past() == Past()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"1e999"]
)
def test_garbage_in_state_files_counts_as_nothing(content: bytes) -> None:
    store = Store("out")
    store.make_folder("a")
    for path in (
        store.paths.marker("a"),
        store.paths.attempt("a"),
        store.paths.exit("a"),
        store.paths.progress("a"),
        store.paths.metrics("a"),
        store.paths.index,
        store.paths.lock,
        store.paths.owner,
        store.paths.events("r"),
        store.paths.control("r"),
    ):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)
    assert past() == Past()
    assert store.read_exit("a", "t") is None
    assert store.read_progress("a") is None
    assert store.read_metrics("a") == []
    assert list(store.read_events("r")) == []
    assert store.control("r").poll() == []
    assert store.orphans(workflow("a")) == {}
    with store.lock("r", workflow("a")):
        pass


def test_markers_of_any_file_name_are_written() -> None:
    name = os.fsdecode(b"\xff")
    odd = replace(SEEN, files=(FileEvidence(name, Stamp(1, 2, 3, 4), "d", False),))
    Store("out").write_marker(trace(inputs={name: odd}, input_paths={name: name}))
    assert past() == Past(trace(inputs={name: odd}, input_paths={name: name}))


def test_two_threads_write_markers_of_two_jobs() -> None:
    store = Store("out")
    names = [f"j{i}" for i in range(20)]
    threads = [
        threading.Thread(target=lambda n=name: store.write_marker(trace(n))) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.write_index()
    found = Store("out").pasts([job(name) for name in names])
    assert [found[name].trace for name in names] == [trace(name) for name in names]


# The index -----------------------------------------------------------------------------------


def test_the_index_spares_reading_the_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("out")
    store.write_marker(trace("a"))
    store.write_marker(trace("b", inputs={}))
    store.write_index()
    reader = Store("out")
    monkeypatch.setattr(Store, "_read_trace", None)  # would raise
    found = reader.pasts([job("a"), job("b")])
    assert found["a"].trace is not None
    assert found["a"].trace.inputs == {"x": SEEN}
    assert found["b"].trace is not None
    assert found["b"].trace.inputs == {}
    assert not reader.behind


def test_parts_and_metrics_come_from_the_marker_when_asked_for() -> None:
    store = Store("out")
    store.write_marker(trace(metrics={"loss": 1.5}))
    store.write_index()
    found = past().trace
    assert found is not None
    assert found.parts == trace().parts
    assert found.metrics["loss"] == 1.5
    assert found == trace(metrics={"loss": 1.5})


def test_a_row_counts_only_while_its_marker_is_the_same() -> None:
    store = Store("out")
    store.write_marker(trace())
    store.write_index()
    Store("out").write_marker(trace(finished=99.0))
    reader = Store("out")
    found = reader.pasts([job("a")])["a"].trace
    assert found is not None
    assert found.finished == 99.0
    assert reader.behind


def test_a_marker_that_is_gone_is_gone_whatever_the_index_says() -> None:
    store = Store("out")
    store.write_marker(trace())
    store.write_index()
    os.unlink(store.paths.marker("a"))
    assert past() == Past()


def test_without_an_index_nothing_is_lost_but_time() -> None:
    store = Store("out")
    store.write_marker(trace())
    store.write_index()
    os.unlink(store.paths.index)
    assert past() == Past(trace())


def test_an_index_cut_or_changed_at_any_byte_is_ignored() -> None:
    store = Store("out")
    store.write_marker(trace())
    store.write_index()
    path = Path(store.paths.index)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        assert past() == Past(trace())
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert past() == Past(trace())


def test_the_index_is_rewritten_from_rows_and_new_traces() -> None:
    store = Store("out")
    store.write_marker(trace("a"))
    store.write_marker(trace("b"))
    store.write_index()
    again = Store("out")
    again.pasts([job("a")])
    again.write_marker(trace("c", outputs={}))
    again.write_index()
    last = Store("out")
    found = last.pasts([job("a"), job("b"), job("c")])
    assert [found[n].trace for n in "abc"] == [trace("a"), trace("b"), trace("c", outputs={})]
    assert not last.behind


def test_newer_stamps_are_not_kept_of_what_was_made_anew_meanwhile() -> None:
    store = Store("out")
    store.write_marker(trace(started=1.0))
    first = store.kept("a")
    assert first is not None
    store.write_marker(trace(started=2.0))
    store.keep(replace(first, versions={"oumi": "9"}), first)
    assert store.kept("a") == trace(started=2.0)


def test_newer_stamps_may_live_in_the_index_alone() -> None:
    store = Store("out")
    store.write_marker(trace(started=1.0))
    before = stamp(store.paths.marker("a"))
    store.keep(trace(started=2.0))
    store.write_index()
    assert stamp(store.paths.marker("a")) == before
    found = past().trace
    assert found is not None
    assert found.started == 2.0


def test_newer_stamps_are_not_kept_for_a_marker_that_another_run_wrote() -> None:
    store = Store("out")
    store.write_marker(trace(finished=1.0))
    reader = Store("out")
    seen = reader.past("a").trace
    assert seen is not None
    store.write_marker(trace(finished=2.0))
    reader.keep(seen)
    reader.write_index()
    assert past() == Past(trace(finished=2.0))


evidence = st.builds(
    Evidence,
    st.sampled_from(["file", "folder", "glob", "missing", "ran"]),
    st.text(max_size=4),
    st.lists(
        st.builds(
            FileEvidence,
            st.text(max_size=4),
            st.builds(Stamp, *[st.integers(0, 2**63)] * 4),
            st.text("0f", max_size=4),
            st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
)
traces = st.builds(
    Trace,
    job=st.just("a"),
    fingerprint=st.text(max_size=4),
    parts=st.dictionaries(
        st.text(max_size=3), st.none() | st.booleans() | st.integers(), max_size=3
    ),
    build_key=st.text(max_size=4),
    inputs=st.dictionaries(st.text(max_size=3), evidence, max_size=3),
    input_paths=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    outputs=st.dictionaries(st.text(max_size=3), evidence, max_size=3),
    started=st.floats(0, 1e10),
    finished=st.floats(0, 1e10),
    exit_code=st.none() | st.integers(0, 255),
    changed_while_ran=st.lists(st.text(max_size=3), max_size=2).map(tuple),
    metrics=st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False), max_size=3),
)


@given(traces)
def test_any_trace_comes_back_from_its_marker_and_its_row(made: Trace) -> None:
    assert trace_from_json(parse(to_json(trace_to_json(made)))) == made
    pairs: list[tuple[Any, Any]] = [(trace_to_row, made), (packed_to_row, packed(made))]
    for to_row, kept in pairs:
        texts = Texts()
        row = parse(to_json(to_row(kept, texts)))
        read = Table(parse(texts.json()))
        assert trace_from_row("a", row, read, lambda: made) == made


# Orphans -------------------------------------------------------------------------------------


def test_orphans_are_folders_of_jobs_no_longer_in_the_file() -> None:
    store = Store("out")
    for name in ("a", "old", "nest/b", "nest/old"):
        store.write_marker(trace(name))
    store.make_folder("begun")
    os.makedirs("out/mine")
    os.makedirs("out/c/below/.oumi-flow")
    flow = workflow("a", "nest/b", "c")
    assert list(Store("out").orphans(flow)) == ["begun", "nest/old", "old"]
    store.write_index()
    for each in (store, Store("out")):
        assert list(each.orphans(flow)) == ["nest/old", "old"]
    every = ["begun", "c/below", "nest/old", "old"]
    assert list(Store("out").orphans(flow, thorough=True)) == every
    assert Store("out").orphans(flow)["old"].trace == trace("old")


def test_an_orphan_whose_folder_was_removed_is_none() -> None:
    store = Store("out")
    store.write_marker(trace("old"))
    store.write_index()
    subprocess.run(["rm", "-r", "out/old"], check=True)
    assert Store("out").orphans(workflow()) == {}


def test_orphans_told_of_once_are_remembered() -> None:
    store = Store("out")
    store.write_marker(trace("old"))
    assert store.reported == frozenset()
    store.write_index(reported=["old"])
    again = Store("out")
    assert again.reported == {"old"}
    again.write_index()
    assert Store("out").reported == {"old"}


# The run lock --------------------------------------------------------------------------------

HOLD = """
import sys
from oumi_flow.model import Workflow
from oumi_flow.store import Store
with Store("out").lock("run-1", Workflow("w", "w.yaml", "out", ())):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other() -> Callable[[], subprocess.Popen[str]]:
    """Another process that holds the lock of `out`."""

    def start() -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        return child

    return start


def test_a_second_run_is_refused_and_told_who_holds_the_folder(
    other: Callable[[], subprocess.Popen[str]],
) -> None:
    with other() as child:
        store = Store("out")
        with pytest.raises(
            Locked, match=rf"run run-1 holds this folder \(pid {child.pid} on"
        ) as error:
            store.lock("run-2", workflow())
        assert error.value.exit_code == 3
        who = store.holder()
        assert who is not None
        assert (who["pid"], who["run_id"], who["workflow"]) == (child.pid, "run-1", "w")
        assert store.is_live("run-1")
        assert not store.is_live("run-2")
        assert store.latest_run() == "run-1"
        child.kill()
        child.wait()
        assert store.holder() is None
        assert not store.is_live("run-1")
        with store.lock("run-2", workflow()):
            pass


def test_a_lock_ends_with_its_block_and_the_file_stays() -> None:
    store = Store("out")
    with store.lock("run-1", workflow()):
        assert store.holder() is not None
    assert store.holder() is None
    assert os.path.exists(store.paths.lock)


def test_nobody_holds_a_folder_that_is_not_there() -> None:
    assert Store("nowhere").holder() is None
    assert Store("nowhere").latest_run() is None


def test_a_shorter_signature_leaves_nothing_of_a_longer_one() -> None:
    store = Store("out")
    for run_id in ("a-very-long-run-id", "b"):
        with store.lock(run_id, workflow()):
            who = store.holder()
            assert who is not None
            assert who["run_id"] == run_id


def test_a_folder_of_another_file_and_name_is_refused() -> None:
    with Store("out").lock("r1", workflow(name="one", path="one.yaml")):
        pass
    with pytest.raises(FlowError, match=r'belongs to the workflow "one" of one\.yaml') as error:
        Store("out").lock("r2", workflow(name="two", path="two.yaml"))
    assert error.value.exit_code == 2
    assert not isinstance(error.value, Locked)
    assert Store("out").holder() is None


@pytest.mark.parametrize(("name", "path"), [("one", "renamed.yaml"), ("renamed", "one.yaml")])
def test_a_renamed_file_or_workflow_keeps_its_folder(name: str, path: str) -> None:
    for flow in (workflow(name="one", path="one.yaml"), workflow(name=name, path=path)):
        with Store("out").lock("r", flow):
            pass
    with Store("out").lock("r", workflow(name=name, path=path)):
        pass


def test_a_moved_project_keeps_its_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "old").mkdir()
    monkeypatch.chdir(here / "old")
    with Store("out").lock("r", workflow(name="one", path="one.yaml")):
        pass
    monkeypatch.chdir(here)
    os.rename("old", "new")
    monkeypatch.chdir(here / "new")
    with Store("out").lock("r", workflow(name="two", path="one.yaml")):
        pass


# Events and requests -------------------------------------------------------------------------


def note(number: int) -> Note:
    return Note(f"note {number} ✓", seq=number, at=1.0)


def test_events_are_read_back_in_order() -> None:
    store = Store("out")
    told: list[Event] = [note(1), JobStarted("a", devices=("0",)), JobFinished("a", "done")]
    log = store.open_events("r")
    for event in told:
        log.append(event)
    assert list(store.read_events("r")) == told
    log.close()
    assert store.runs() == ["r"]


def test_a_log_cut_at_any_byte_tells_its_whole_lines() -> None:
    store = Store("out")
    log = store.open_events("r")
    for number in (1, 2, 3):
        log.append(note(number))
    path = Path(store.paths.events("r"))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        lines = whole[:length].count(b"\n")
        assert list(store.read_events("r")) == [note(n) for n in range(1, lines + 1)]


def test_a_full_disk_costs_one_event_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Store("out").open_events("r")
    log.append(note(1))
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 10:
            return real(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(
            os, "write", lambda d, data: full(d, data) if len(data) > 40 else full(d, b"")
        )
        with pytest.raises(FlowError, match=r"events.jsonl: cannot write: No space left"):
            log.append(note(2))
    log.append(note(3))
    assert list(Store("out").read_events("r")) == [note(1), note(3)]


def test_following_ends_with_the_run() -> None:
    log = Store("out").open_events("r")
    log.append(note(1))
    log.append(RunFinished("done"))
    log.append(note(2))
    assert list(Store("out").follow_events("r")) == [note(1), RunFinished("done")]


def test_following_a_lost_run_tells_its_last_words_and_ends() -> None:
    log = EventLog("out/events.jsonl", Files(False))
    log.append(note(1))
    answers = [True, False]
    slept = []

    def alive() -> bool:
        answer = answers.pop(0)
        if not answer:
            log.append(note(3))  # between the reader's look and the run's death
        return answer

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        log.append(note(2))

    told = list(follow_events("out/events.jsonl", alive, sleep))
    assert told == [note(1), note(2), note(3)]
    assert len(slept) == 1


def test_requests_are_told_once_and_torn_ones_skipped() -> None:
    store = Store("out")
    reader = store.control("r")
    assert reader.poll() == []
    store.request("r", {"kind": "cancel", "jobs": ["a"]})
    assert reader.poll() == [{"kind": "cancel", "jobs": ["a"]}]
    with open(store.paths.control("r"), "ab") as file:
        file.write(b'{"kind": "can')
    assert reader.poll() == []
    store.request("r", {"kind": "cancel"})
    assert reader.poll() == [{"kind": "cancel"}]
    assert reader.poll() == []


def test_a_request_to_a_run_whose_folder_was_deleted_is_heard() -> None:
    """The file is made anew then, and is shorter than what was read of the one before."""
    store = Store("out")
    reader = store.control("r")
    store.request("r", {"kind": "cancel", "jobs": ["one of a long name", "and another"]})
    assert len(reader.poll()) == 1
    shutil.rmtree("out")
    assert reader.poll() == []
    store.request("r", {"kind": "cancel"})
    assert reader.poll() == [{"kind": "cancel"}]
    assert reader.poll() == []


# A job's files -------------------------------------------------------------------------------


def test_logs_rotate_and_nine_earlier_ones_stay() -> None:
    store = Store("out")
    store.make_folder("a")
    for number in range(12):
        store.rotate_log("a")
        Path(store.paths.log("a")).write_text(str(number))
    kept = {path.name: path.read_text() for path in Path("out/a").glob("job.log*")}
    expected = {f"job.log.{back}": str(11 - back) for back in range(1, 10)}
    assert kept == {"job.log": "11", **expected}


@pytest.mark.parametrize(("partial", "where"), [(True, "old"), (False, "previous")])
def test_what_lies_there_is_set_aside_and_the_last_one_of_its_kind_kept(
    partial: bool, where: str
) -> None:
    store = Store("out")
    aside = f"out/a/.oumi-flow/{where}"
    assert store.set_aside("a", partial) == ""
    store.make_folder("a")
    assert store.set_aside("a", partial) == ""
    for content in ("one", "two"):
        Path("out/a/model").mkdir()
        Path("out/a/model/weights").write_text(content)
        Path("out/a/only-" + content).write_text("")
        Path("out/a/job.log").write_text("log")
        assert store.set_aside("a", partial) == aside
    Path("out/a/x").write_text("x")
    assert store.set_aside("a", not partial) != aside
    assert sorted(os.listdir("out/a")) == [".oumi-flow", "job.log"]
    assert sorted(os.listdir(aside)) == ["model", "only-two"]
    assert Path(aside, "model/weights").read_text() == "two"


@pytest.mark.parametrize("at", [1, 2, 3])
def test_setting_aside_goes_on_where_it_was_killed(
    monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    store = Store("out")
    store.make_folder("a")
    Path("out/a/.oumi-flow/old").mkdir()
    Path("out/a/.oumi-flow/old/z").write_text("z")
    Path("out/a/x").write_text("x")
    Path("out/a/y").write_text("y")
    real = os.rename
    calls = []

    def killed(source: str, target: str) -> None:
        calls.append(source)
        if len(calls) == at:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            store.set_aside("a", partial=True)
    assert store.set_aside("a", partial=True) != ""
    assert sorted(os.listdir("out/a/.oumi-flow")) == ["old"]
    assert sorted(os.listdir("out/a/.oumi-flow/old")) == ["x", "y"]


def test_a_config_is_copied_as_it_was_planned() -> None:
    store = Store("out")
    Path("c.yaml").write_text("a: 1\n")
    planned = stamp("c.yaml")
    copy = store.copy_config("a", "c.yaml", planned)
    assert copy == "out/a/.oumi-flow/config.yaml"
    assert Path(copy).read_text() == "a: 1\n"
    Path("c.yaml").write_text("a: 22\n")
    with pytest.raises(FlowError, match=r"c\.yaml: changed while the run was being planned"):
        store.copy_config("a", "c.yaml", planned)
    assert Path(copy).read_text() == "a: 1\n"
    os.unlink("c.yaml")
    with pytest.raises(FlowError, match=r"c\.yaml: the config is gone"):
        store.copy_config("a", "c.yaml", planned)


NO_ROOM = """
import resource, sys
from oumi_flow.errors import FlowError
from oumi_flow.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
try:
    Store("out").request("r", {"kind": "cancel", "jobs": ["train"]})
except FlowError as fault:
    print(fault.message)
"""


def test_a_request_for_which_there_is_room_in_part_is_no_request() -> None:
    """Who asked would wait for ever for what nobody has heard."""
    done = subprocess.run(
        [sys.executable, "-c", NO_ROOM],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "control.jsonl: cannot write" in done.stdout


def test_progress_and_metrics_are_read_back() -> None:
    store = Store("out")
    store.write_progress("a", Progress(3, 10, "steps", {"loss": 0.5}))
    assert store.read_progress("a") == Progress(3, 10, "steps", {"loss": 0.5})
    store.append_metrics("a", [{"step": 1, "loss": 2.0}])
    store.append_metrics("a", [])
    store.append_metrics("a", [{"step": 2, "loss": 1.0}])
    with open(store.paths.metrics("a"), "ab") as file:
        file.write(b'{"step": 3')
    assert [point["step"] for point in store.read_metrics("a")] == [1, 2]


def test_state_of_a_workflow_with_secrets_is_for_its_user_only() -> None:
    store = Store("out", private=True)
    before = os.umask(0o022)
    try:
        Path("c.yaml").write_text("")
        store.write_marker(trace())
        store.write_attempt("a", attempt())
        store.copy_config("a", "c.yaml")
        store.write_progress("a", Progress())
        store.append_metrics("a", [{"loss": 1}])
        store.open_events("r").append(note(1))
        store.request("r", {"kind": "cancel"})
        store.write_index()
        with store.lock("r", workflow("a")):
            pass
    finally:
        os.umask(before)
    for top, folders, files in os.walk("out"):
        if ".oumi-flow" not in top:
            continue
        for name in files:
            assert stat.S_IMODE(os.stat(f"{top}/{name}").st_mode) == 0o600, name
        assert stat.S_IMODE(os.stat(top).st_mode) == 0o700, top
        assert folders is not None


# Disks that refuse ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "advice"),
    [(28, "the disk is full"), (30, "read-only"), (13, "no permission"), (122, "quota")],
)
def test_a_disk_that_refuses_is_told_with_path_and_advice(
    number: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store("out")
    store.write_marker(trace())

    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(FlowError, match=r"done\.json: cannot write") as error:
            store.write_marker(trace(started=2.0))
    assert advice in error.value.hint
    assert error.value.exit_code == 1
    assert past() == Past(trace())


def test_an_output_dir_that_is_a_file_is_told_before_anything_runs() -> None:
    Path("out").write_text("")
    assert past() == Past()
    with pytest.raises(FlowError, match="out") as error:
        Store("out").lock("r", workflow())
    assert error.value.exit_code == 2
    assert "move that file away" in error.value.hint
    with pytest.raises(FlowError, match="out"):
        Store("out").write_marker(trace())


# The user's list -----------------------------------------------------------------------------


def test_a_users_runs_are_listed_newest_first_while_their_folder_is_there(here: Path) -> None:
    os.mkdir("out")
    for run_id in ("20260101-000000-aaaa", "20260102-000000-bbbb"):
        register_run(run_id, "out", "w", "w.yaml", ("run", "w.yaml", "-j2"), str(here))
    register_run("20260103-000000-cccc", "gone", "w", "w.yaml", (), str(here))
    found = user_runs()
    assert [run.run_id for run in found] == ["20260102-000000-bbbb", "20260101-000000-aaaa"]
    assert found[0].output_dir == str(here / "out")
    assert found[0].argv == ("run", "w.yaml", "-j2")
    assert find_run("20260101-000000-aaaa") == found[1]
    with pytest.raises(FlowError, match="no run of that name"):
        find_run("other")
    Path(list_folder(os.environ), "20260102-000000-bbbb.json").write_text('{"format":1,')
    assert [run.run_id for run in user_runs()] == ["20260101-000000-aaaa"]


def test_the_list_lies_where_the_user_wants_it() -> None:
    assert list_folder({"OUMI_FLOW_HOME": "/x", "XDG_STATE_HOME": "/y"}) == "/x/state/runs"
    assert list_folder({"XDG_STATE_HOME": "/y"}) == "/y/oumi-flow/runs"
    assert list_folder({}) == os.path.expanduser("~/.local/state/oumi-flow/runs")


@given(st.floats(1e9, 2e9), st.floats(0.001, 1e6))
def test_later_runs_have_greater_names(first: float, later: float) -> None:
    assert new_run_id(first) < new_run_id(first + later)
    assert len(new_run_id(first)) == len("20260103-112000-a1b2")


@pytest.mark.parametrize("stuck", ["folder", "listing"])
def test_a_list_of_runs_that_cannot_be_shortened_stops_no_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stuck: str
) -> None:
    monkeypatch.setenv("OUMI_FLOW_HOME", str(tmp_path))
    monkeypatch.setattr("oumi_flow.store.runs.KEPT", 2)
    folder = Path(list_folder(os.environ))
    if stuck == "folder":  # what is no file cannot be unlinked, and those after it go all the same
        (folder / "20250101-000000-aaaa.json").mkdir(parents=True)
    else:

        def fails(_: object) -> list[str]:
            raise PermissionError(13, "no")

        monkeypatch.setattr("oumi_flow.store.runs.os.listdir", fails)
    for day in range(1, 6):
        register_run(f"2026010{day}-000000-aaaa", str(tmp_path), "w", "w.yaml", (), str(tmp_path))
    monkeypatch.undo()
    left = sorted(os.listdir(folder))
    assert len(left) == (3 if stuck == "folder" else 5)
