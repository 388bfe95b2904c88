"""Plan, judge, disk and store together, on real files: what runs after what a user did."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.disk import Disk
from oumi_flow.model import Command, Counts, Input, Job, Output, Plan, Workflow
from oumi_flow.planner import plan
from oumi_flow.reasons import lines
from oumi_flow.staleness import fingerprint, observe_inputs, observe_outputs, settle, trace_of
from oumi_flow.store import Store
from oumi_flow.verbs import model_file


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    write("data/a.jsonl", "a")
    write("data/b.jsonl", "b")
    return tmp_path / "project"


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def job(name: str, *upstream: str, **changes: Any) -> Job:
    parts = {"verb": "train", "run": None, "config": {"lr": 1}, **changes}
    inputs = [Input("data", "data"), Input("data/*.jsonl", "data/*.jsonl")]
    inputs += [
        Input(f"@{i}", f"out/{up}", Counts.MODEL, up) for i, up in enumerate(upstream, start=1)
    ]
    return Job(
        name=name,
        verb="train",
        folder=f"out/{name}",
        place=f"out/{name}",
        command=Command(("true",)),
        parts=parts,
        fingerprint=fingerprint(parts),
        inputs=tuple(inputs),
        outputs=(Output("@", f"out/{name}", Counts.MODEL),),
        upstream=upstream,
    )


FLOW = Workflow("w", "w.yaml", "out", (job("train"), job("eval", "train")))


def run(flow: Workflow = FLOW) -> None:
    """Make every job's outputs and record it, as a run does."""
    store, disk = Store(flow.output_dir), Disk(model_file)
    keys: dict[str, str] = {}
    made = []
    for which in flow.jobs:
        inputs = observe_inputs(which, disk, keys)
        store.remove_marker(which.name)
        write(f"{which.place}/model.safetensors", f"weights of {which.name}")
        write(f"{which.place}/trainer_state.json", os.urandom(4).hex())
        write(f"{which.folder}/job.log", "it went well")
        outputs = observe_outputs(which, disk)
        trace = trace_of(which, inputs, outputs, started=1.0, finished=2.0, run_id="r")
        store.write_marker(trace)
        keys[which.name] = trace.build_key
        made.append((which, trace))
    for trace in settle(made, disk.settle):
        store.write_marker(trace)
    store.write_index()


def look(flow: Workflow = FLOW, **how: Any) -> tuple[Plan, int]:
    """A plan by a new process, and how many files it had to read."""
    disk = Disk(model_file, verify=how.pop("verify", False))
    store = Store(flow.output_dir)
    made = plan(flow, store.pasts(flow.jobs), disk, orphans=store.orphans(flow), **how)
    return made, disk.digested


def told(made: Plan) -> dict[str, list[str]]:
    return {step.job.name: lines(step.reasons) for step in made.steps if step.reasons}


def test_a_second_run_finds_nothing_to_do_and_reads_nothing() -> None:
    run()
    made, read = look()
    assert made.up_to_date == 2
    assert made.refreshed == {}
    assert read == 0


def test_without_the_index_it_finds_the_same() -> None:
    run()
    os.unlink(Store("out").paths.index)
    made, read = look()
    assert (made.up_to_date, read) == (2, 0)


def test_a_plan_writes_nothing(project: Path) -> None:
    run()
    os.unlink("data/a.jsonl")
    before = sorted((str(p), p.stat().st_mtime_ns) for p in project.rglob("*"))
    look()
    assert before == sorted((str(p), p.stat().st_mtime_ns) for p in project.rglob("*"))


def test_touched_files_are_read_once_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    now = time.time_ns
    monkeypatch.setattr("oumi_flow.disk.files.time.time_ns", lambda: now() + 5 * 10**9)
    for path in Path().rglob("*"):
        if ".oumi-flow" not in path.parts:
            os.utime(path)
    made, read = look()
    assert made.up_to_date == 2
    assert read == 4
    store, disk = Store("out"), Disk(model_file)
    kept = [(FLOW.job(name), trace) for name, trace in made.refreshed.items()]
    assert len(kept) == 2
    for which, trace in kept:
        assert not list(
            settle([(which, trace)], disk.settle)
        )  # they were settled when they were read
        store.keep(trace)
    store.write_index()
    again, read = look()
    assert (again.up_to_date, read) == (2, 0)


def test_verify_reads_everything_once() -> None:
    run()
    made, read = look(verify=True)
    assert (made.up_to_date, read) == (2, 4)


@pytest.mark.parametrize("how", ["moved", "copied", "copied with new times"])
def test_a_project_in_another_place_is_up_to_date(
    how: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    elsewhere = project.parent / "elsewhere"
    if how == "moved":
        project.rename(elsewhere)
    else:
        copy = shutil.copy2 if how == "copied" else shutil.copyfile
        shutil.copytree(project, elsewhere, copy_function=copy)
    monkeypatch.chdir(elsewhere)
    made, _ = look()
    assert made.up_to_date == 2


def test_an_edit_of_equal_size_with_its_old_time_put_back_is_seen() -> None:
    run()
    before = os.stat("data/a.jsonl")
    write("data/a.jsonl", "A")
    os.utime("data/a.jsonl", ns=(before.st_atime_ns, before.st_mtime_ns))
    made, _ = look()
    assert told(made)["train"] == ["input changed: data/a.jsonl, data/a.jsonl"]


def test_new_and_lost_files_of_a_folder_and_a_glob_are_named() -> None:
    run()
    os.rename("data/a.jsonl", "data/c.txt")
    made, _ = look()
    assert told(made)["train"] == [
        "input added: data/c.txt",
        "input removed: data/a.jsonl, data/a.jsonl",
    ]


def test_a_spoiled_model_is_made_again_and_asked_about_below() -> None:
    run()
    write("out/train/model.safetensors", "spoiled")
    made, _ = look()
    assert told(made) == {
        "train": ["output changed since it was made: out/train/model.safetensors"],
        "eval": ["waits for train; skipped if its output comes out the same"],
    }


def test_what_is_no_model_file_may_change() -> None:
    run()
    write("out/train/trainer_state.json", "other")
    write("out/train/checkpoint-1/model.safetensors", "x")
    write("out/train/job.log.1", "x")
    made, read = look()
    assert (made.up_to_date, read) == (2, 0)


def test_the_same_model_made_again_leaves_what_is_below_alone() -> None:
    run()
    run(Workflow("w", "w.yaml", "out", FLOW.jobs[:1]))
    made, _ = look()
    assert made.up_to_date == 2


def test_a_changed_config_is_told_with_before_and_after() -> None:
    run()
    flow = Workflow("w", "w.yaml", "out", (job("train", config={"lr": 2}), FLOW.jobs[1]))
    made, read = look(flow)
    assert told(made)["train"] == ["config changed: lr: 1 → 2"]
    assert read == 0


def test_a_marker_cut_anywhere_means_it_has_not_run() -> None:
    run()
    os.unlink(Store("out").paths.index)
    marker = Path(Store("out").paths.marker("eval"))
    whole = marker.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        marker.write_bytes(whole[:length])
        made, _ = look()
        assert told(made) == {"eval": ["has not run here before"]}


def test_a_renamed_job_is_told_how_to_keep_its_result() -> None:
    run()
    flow = Workflow("w", "w.yaml", "out", (job("sft"), job("eval", "sft")))
    made, _ = look(flow)
    assert made.orphans == ("train",)
    assert told(made)["sft"] == [
        "has not run here before; looks like train renamed: oumi-flow rename w.yaml train sft"
    ]
