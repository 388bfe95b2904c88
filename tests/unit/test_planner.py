"""Plans: which jobs, in which order, with which decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from oumi_flow.errors import FlowError, WorkflowErrors
from oumi_flow.model import (
    MISSING,
    Code,
    Command,
    Counts,
    Decision,
    Evidence,
    FileEvidence,
    Input,
    Job,
    LastAttempt,
    Output,
    Past,
    Plan,
    Reason,
    Stamp,
    Workflow,
)
from oumi_flow.planner import plan
from oumi_flow.staleness import fingerprint, observe_inputs, observe_outputs, trace_of


class FakeDisk:
    """Files by their text; `looks` counts how often each path was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.looks: dict[str, int] = {}

    def observe(self, path: str, counts: Counts, known: Evidence | None = None) -> Evidence:
        self.looks[path] = self.looks.get(path, 0) + 1
        if path not in self.files:
            return MISSING
        text = self.files[path]
        return Evidence("file", text, (FileEvidence("", Stamp(len(text), 1, 1, 1), text, True),))


def job(name: str, *upstream: str, does: str = "", **changes: Any) -> Job:
    """A job that reads `data` and what its upstreams made, and writes `out/NAME`."""
    parts = {"verb": changes.get("verb", "shell"), "run": does or name}
    inputs = [Input("data", "data")]
    inputs += [Input(f"@{i}", f"out/{up}", producer=up) for i, up in enumerate(upstream, 1)]
    made = Job(
        name=name,
        verb="shell",
        folder=f"out/{name}",
        place=f"out/{name}",
        command=Command(("true",)),
        parts=parts,
        fingerprint=fingerprint(parts),
        inputs=tuple(inputs),
        outputs=(Output("@", f"out/{name}"),),
        depends_on=upstream,
        upstream=upstream,
    )
    return replace(made, **changes)


def workflow(*jobs: Job) -> Workflow:
    return Workflow("w", "w.yaml", "out", jobs)


CHAIN = workflow(job("prep"), job("train", "prep"), job("eval", "train"), job("other"))


@pytest.fixture
def disk() -> FakeDisk:
    disk = FakeDisk()
    disk.files["data"] = "d"
    return disk


def run(flow: Workflow, disk: FakeDisk, took: float = 10.0) -> dict[str, Past]:
    """The pasts after every job has run."""
    keys: dict[str, str] = {}
    pasts = {}
    for which in flow.jobs:
        disk.files.setdefault(f"out/{which.name}", f"made by {which.name}")
        inputs = observe_inputs(which, disk, keys)
        outputs = observe_outputs(which, disk)
        trace = trace_of(which, inputs, outputs, started=1.0, finished=1.0 + took, run_id="r")
        keys[which.name] = trace.build_key
        pasts[which.name] = Past(trace)
    return pasts


def decisions(made: Plan) -> dict[str, str]:
    return {step.job.name: step.decision.value for step in made.steps}


def test_a_first_plan_runs_all_in_order(disk: FakeDisk) -> None:
    made = plan(CHAIN, {}, disk)
    assert decisions(made) == {"prep": "run", "train": "run", "eval": "run", "other": "run"}
    assert (made.to_run, made.may_run, made.up_to_date) == (4, 0, 0)
    assert list(decisions(made)) == ["prep", "train", "eval", "other"]


def test_a_plan_after_a_run_runs_nothing_and_looks_once_at_each_file(disk: FakeDisk) -> None:
    pasts = run(CHAIN, disk)
    disk.looks.clear()
    made = plan(CHAIN, pasts, disk)
    assert made.up_to_date == 4
    assert set(disk.looks.values()) == {1}
    assert made.refreshed == {}


def test_what_follows_a_stale_job_may_run(disk: FakeDisk) -> None:
    pasts = run(CHAIN, disk)
    disk.files["out/prep"] = "spoiled"
    made = plan(CHAIN, pasts, disk)
    assert decisions(made) == {
        "prep": "run",
        "train": "may run",
        "eval": "may run",
        "other": "up to date",
    }
    assert made.steps[2].reasons == (Reason(Code.UPSTREAM_PENDING, "train"),)


def test_content_that_is_the_same_again_is_refreshed(disk: FakeDisk) -> None:
    pasts = run(CHAIN, disk)
    trace = pasts["other"].trace
    assert trace is not None
    old = Evidence("file", "d", (FileEvidence("", Stamp(1, 0, 0, 0), "d", True),))
    pasts["other"] = Past(replace(trace, inputs={"data": old}))
    made = plan(CHAIN, pasts, disk)
    assert made.up_to_date == 4
    assert list(made.refreshed) == ["other"]
    assert made.refreshed["other"] == trace


def test_targets_bring_what_they_need(disk: FakeDisk) -> None:
    assert list(decisions(plan(CHAIN, {}, disk, targets=["train"]))) == ["prep", "train"]


def test_omit_takes_what_needs_it_along(disk: FakeDisk) -> None:
    assert list(decisions(plan(CHAIN, {}, disk, omit=["train"]))) == ["prep", "other"]


def test_a_target_that_needs_what_is_left_out_is_refused(disk: FakeDisk) -> None:
    with pytest.raises(FlowError, match=r'"eval" is both asked for and left out .* needs "prep"'):
        plan(CHAIN, {}, disk, targets=["eval"], omit=["prep"])
    with pytest.raises(FlowError, match=r'"prep" is both asked for and left out by --omit$'):
        plan(CHAIN, {}, disk, targets=["prep"], omit=["prep"])


SWEEP = workflow(*[job(f"train-{i}") for i in (1, 2, 3)], job("nest/a"), job("nest/b"))


def test_names_may_be_globs_and_nested_workflows(disk: FakeDisk) -> None:
    def chosen(**how: Any) -> list[str]:
        return list(decisions(plan(SWEEP, {}, disk, **how)))

    assert chosen(targets=["train-*"]) == ["train-1", "train-2", "train-3"]
    assert chosen(targets=["train-[12]", "nest"]) == ["train-1", "train-2", "nest/a", "nest/b"]
    assert chosen(targets=["train-*"], omit=["train-2"]) == ["train-1", "train-3"]
    assert chosen(omit=["nest", "*-1"]) == ["train-2", "train-3"]


@pytest.mark.parametrize("how", ["targets", "force", "omit"])
def test_unknown_names_are_refused_with_the_nearest_one(how: str, disk: FakeDisk) -> None:
    unknown: dict[str, Any] = {how: ["trian"]}
    with pytest.raises(FlowError, match='no job "trian"') as error:
        plan(CHAIN, {}, disk, **unknown)
    assert error.value.hint == 'did you mean "train"?'
    assert error.value.exit_code == 2


def test_all_unknown_names_are_told_at_once(disk: FakeDisk) -> None:
    with pytest.raises(WorkflowErrors) as error:
        plan(CHAIN, {}, disk, targets=["nope*", "zzz", "prep"])
    assert [p.message for p in error.value.problems] == [
        'no job matches "nope*"',
        'there is no job "zzz" in this workflow',
    ]
    assert error.value.problems[1].hint == "its jobs: prep, train, eval, other"


def test_force_runs_a_job_and_asks_its_dependents(disk: FakeDisk) -> None:
    pasts = run(CHAIN, disk)
    made = plan(CHAIN, pasts, disk, force=["train"])
    assert decisions(made) == {
        "prep": "up to date",
        "train": "run",
        "eval": "may run",
        "other": "up to date",
    }
    assert plan(CHAIN, pasts, disk, force_all=True).to_run == 4


def test_forcing_a_job_that_is_not_to_run_is_refused(disk: FakeDisk) -> None:
    with pytest.raises(FlowError, match="--force eval"):
        plan(CHAIN, {}, disk, targets=["train"], force=["eval"])
    plan(CHAIN, {}, disk, targets=["train"], force=["*a*"])


def test_a_job_that_always_runs(disk: FakeDisk) -> None:
    flow = workflow(job("a", always_run=True), job("b", "a"))
    made = plan(flow, run(flow, disk), disk)
    assert decisions(made) == {"a": "run", "b": "may run"}


def test_a_failed_job_keeps_its_dependents_waiting(disk: FakeDisk) -> None:
    pasts = run(CHAIN, disk)
    pasts["prep"] = Past(None, LastAttempt("r", 1, "failed", "exit 1"))
    made = plan(CHAIN, pasts, disk)
    assert decisions(made)["train"] == "may run"
    assert made.steps[0].reasons == (Reason(Code.FAILED, "exit 1"),)


def test_an_upstream_without_files_is_known_by_its_build_key(disk: FakeDisk) -> None:
    ran = (Input("@1", "", Counts.RAN, "a"),)
    flow = workflow(job("a", outputs=()), job("b", "a", inputs=ran))
    pasts = run(flow, disk)
    assert plan(flow, pasts, disk).up_to_date == 2
    trace = pasts["a"].trace
    assert trace is not None
    pasts["a"] = Past(replace(trace, build_key="another"))
    assert plan(flow, pasts, disk).steps[1].reasons == (
        Reason(Code.UPSTREAM_CHANGED, "a", after=""),
    )


def test_a_renamed_job_is_recognised(disk: FakeDisk) -> None:
    old = run(workflow(job("old", does="x")), disk)
    new = workflow(job("new", does="x"), job("fresh"))
    made = plan(new, {}, disk, orphans=old)
    assert made.orphans == ("old",)
    assert made.steps[0].reasons == (Reason(Code.NEVER_RUN, "old", "w.yaml", "new"),)
    assert made.steps[1].reasons == (Reason(Code.NEVER_RUN),)
    disk.files["data"] = "other"
    assert plan(new, {}, disk, orphans=old).steps[0].reasons == (Reason(Code.NEVER_RUN),)


def test_orphans_may_be_given_by_name_only(disk: FakeDisk) -> None:
    assert plan(CHAIN, {}, disk, orphans=["gone"]).orphans == ("gone",)


def test_expected_times_come_from_the_past_else_from_jobs_of_the_verb(disk: FakeDisk) -> None:
    flow = workflow(*[job(n) for n in "abcd"], job("t", verb="train"))
    pasts: dict[str, Past] = {}
    for name, took in (("a", 1.0), ("b", 5.0), ("c", 9.0)):
        pasts |= run(workflow(flow.job(name)), disk, took)
    failed = LastAttempt("r", 1, "failed")
    pasts["c"] = Past(None, failed, pasts["c"].trace)
    expected = {step.job.name: step.expected for step in plan(flow, pasts, disk).steps}
    assert expected == {"a": 1.0, "b": 5.0, "c": 9.0, "d": 5.0, "t": None}


def test_jobs_taken_as_made_say_nothing_of_time(disk: FakeDisk) -> None:
    pasts = run(CHAIN, disk)
    trace = pasts["prep"].trace
    assert trace is not None
    pasts = {"prep": Past(replace(trace, exit_code=None))}
    assert plan(CHAIN, pasts, disk).steps[0].expected is None


def resuming(disk: FakeDisk, build_key: str, **more: Any) -> tuple[Reason, ...]:
    """What is said of a job that was lost, and left a checkpoint made for `build_key`."""
    attempt = LastAttempt("r", 1, "running", build_key=build_key)
    pasts: Mapping[str, Past] = {"prep": Past(None, attempt)}
    made = plan(CHAIN, pasts, disk, resumes=lambda job, attempt: "checkpoint-8", **more)
    return made.steps[0].reasons


def test_where_an_interrupted_job_goes_on_is_told(disk: FakeDisk) -> None:
    trace = run(CHAIN, disk)["prep"].trace
    assert trace is not None
    lost = Reason(Code.INTERRUPTED, "lost")
    assert resuming(disk, trace.build_key) == (replace(lost, after="checkpoint-8"),)
    # Of another build nothing is gone on from, nor when it is to be made anew.
    assert resuming(disk, "other") == (lost,)
    assert lost in resuming(disk, trace.build_key, force=["prep"])


def test_ten_thousand_jobs_are_looked_at_once_each(disk: FakeDisk) -> None:
    jobs = [job("j0")]
    jobs += [job(f"j{i}", f"j{i - 1}") for i in range(1, 10_000)]
    flow = workflow(*jobs)
    pasts = run(flow, disk)
    disk.looks.clear()
    made = plan(flow, pasts, disk, targets=["j9999"])
    assert made.up_to_date == 10_000
    assert sum(disk.looks.values()) == 10_001
    assert plan(flow, pasts, disk, omit=["j1"]).steps[-1].job.name == "j0"


def test_nobody_but_a_decision_makes_a_step(disk: FakeDisk) -> None:
    for step in plan(CHAIN, run(CHAIN, disk), disk, force=["prep"]).steps:
        assert (step.decision is Decision.UP_TO_DATE) == (not step.reasons)
