"""A second look at what was seen too soon: when, at whom, and that it hides no change."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from oumi_flow import staleness, verbs
from oumi_flow.disk import Disk, is_settled, stamp, stamp_of
from oumi_flow.model import Command, Counts, Input, Job, Output, Stamp, Trace
from oumi_flow.runner.brief import Brevity
from oumi_flow.runner.settling import Settling
from oumi_flow.store import Store


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def at_once(descriptor: int, wait: bool) -> tuple[Stamp, bool]:
    """As seen right after it was written, however busy this machine is."""
    return stamp_of(os.fstat(descriptor)), False


class Hand:
    """Jobs that are made by hand, and a clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 50.0
        self.store, self.disk = Store("out"), Disk(verbs.model_file)
        brevity = Brevity(self.disk, "out")
        self.settling = Settling(self.store, self.disk, brevity, clock=lambda: self.now)

    def make(self, name: str, text: str = "x", path: str = "", reads: str = "") -> Trace:
        path = path or f"out/{name}/x"
        read = (Input(reads, reads),) if reads else ()
        os.makedirs(f"out/{name}/.oumi-flow", exist_ok=True)
        if not os.path.isdir(path):
            Path(path).write_text(text)
        output = Output(f"@/{path}", path, Counts.ALL, declared=True)
        job = Job(
            name,
            "shell",
            f"out/{name}",
            f"out/{name}",
            Command(("true",)),
            {},
            "",
            inputs=read,
            outputs=(output,),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("oumi_flow.disk.take_stamp", at_once)
            inputs = staleness.observe_inputs(job, self.disk, {})
            outputs = staleness.observe_outputs(job, self.disk)
        trace = staleness.trace_of(job, inputs, outputs, started=1.0, finished=1.1, run_id="R")
        self.store.write_marker(trace)
        self.settling.add(job, trace)
        return trace

    def rest(self, path: str) -> None:
        """Until a change of that file would show, by every clock."""
        seen = stamp(path)
        while seen is not None and not is_settled(seen, time.time_ns()):
            time.sleep(0.005)
        self.now += 1.0

    def seen(self, name: str) -> bool:
        trace = self.store.kept(name)
        assert trace is not None
        return all(seen.settled for seen in (*trace.inputs.values(), *trace.outputs.values()))


def test_who_has_rested_is_looked_at_once_and_who_has_not_is_not() -> None:
    hand = Hand()
    hand.make("a")
    hand.make("b")
    assert not hand.seen("a")
    assert not hand.settling.look_again()
    hand.rest("out/b/x")
    hand.make("c")
    digested = hand.disk.digested
    assert [hand.settling.look_again() for _ in range(3)] == [True, True, False]
    assert [hand.seen(name) for name in "abc"] == [True, True, False]
    hand.settling.finish()
    assert [hand.seen(name) for name in "abc"] == [True, True, True]
    assert hand.disk.digested == digested + 3  # each once


def test_what_one_made_and_others_read_is_looked_at_once_for_all() -> None:
    hand = Hand()
    hand.make("a")
    hand.make("b", reads="out/a/x")
    hand.make("c", reads="out/a/x")
    hand.rest("out/c/x")
    digested = hand.disk.digested
    assert [hand.settling.look_again() for _ in range(3)] == [True] * 3
    assert [hand.seen(name) for name in "abc"] == [True] * 3
    assert hand.disk.digested == digested + 3  # what each made


def test_what_was_read_is_not_vouched_for_by_a_look_at_what_is_there_now() -> None:
    """It was changed after its reader saw it, and somebody else has seen that since."""
    hand = Hand()
    hand.make("a", "before")
    read = hand.make("b", reads="out/a/x")
    Path("out/a/x").write_text("after.")
    hand.rest("out/a/x")
    assert hand.disk.observe("out/a/x", Counts.ALL).settled
    assert [hand.settling.look_again() for _ in range(2)] == [True] * 2
    kept = hand.store.kept("b")
    assert kept is not None
    assert kept.inputs == read.inputs


def test_what_has_changed_meanwhile_is_not_hidden() -> None:
    hand = Hand()
    made = hand.make("a", "what it made")
    hand.rest("out/a/x")
    Path("out/a/x").write_text("of another")
    assert hand.settling.look_again()
    hand.rest("out/a/x")
    hand.settling.finish()
    kept = hand.store.kept("a")
    assert kept is not None
    assert kept.outputs == made.outputs


def test_nobody_waits_for_a_file_that_has_not_rested_though_its_time_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hand = Hand()
    monkeypatch.setattr("oumi_flow.disk.is_settled", lambda *_: False)
    hand.make("b")
    hand.now += 1.0
    digested = hand.disk.digested
    assert hand.settling.look_again()
    assert hand.disk.digested == digested
    assert not hand.settling.look_again()
    hand.settling.finish()
    assert hand.seen("b")


@pytest.mark.parametrize("large", [True, False], ids=["large", "about to be made anew"])
def test_some_are_not_looked_at_meanwhile(large: bool) -> None:
    hand = Hand()
    hand.make("a", "x" * (1 << 20) if large else "x")
    hand.rest("out/a/x")
    if not large:
        hand.settling.forget("a")
    digested = hand.disk.digested
    assert hand.settling.look_again()
    assert hand.disk.digested == digested
    hand.settling.finish()
    assert hand.disk.digested == digested + large
    assert hand.seen("a") is large


def test_what_cannot_be_read_any_more_ends_nothing() -> None:
    hand = Hand()
    made = hand.make("a")
    hand.rest("out/a/x")
    os.unlink("out/a/x")
    os.mkfifo("out/a/x")
    assert hand.settling.look_again()
    assert not hand.settling.look_again()
    kept = hand.store.kept("a")
    assert kept is not None
    assert kept.outputs == made.outputs
