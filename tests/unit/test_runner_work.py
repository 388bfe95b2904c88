"""Attempts made ready and their results checked, on real files, without any process."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oumi_flow import staleness, verbs
from oumi_flow.disk import Disk
from oumi_flow.errors import FlowError
from oumi_flow.executors.base import Exit, Handle
from oumi_flow.executors.state_dir import StateDir, to_text
from oumi_flow.model import (
    Command,
    Counts,
    Decision,
    Input,
    Job,
    JobState,
    LastAttempt,
    Outcome,
    Output,
    Past,
    Plan,
    Step,
    Workflow,
)
from oumi_flow.planner import plan as make_plan
from oumi_flow.runner.recover import recover
from oumi_flow.runner.resume import newest_checkpoint, resume_point
from oumi_flow.runner.terms import Ending, Prepared
from oumi_flow.runner.watch import Watch
from oumi_flow.runner.work import Work
from oumi_flow.store import Store


@pytest.fixture(autouse=True)
def _base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shell(name: str, run: str = "true", *, outputs: Sequence[str] = (), **fields: Any) -> Job:
    return _job(name, "shell", verbs.shell_command(run), run, outputs, **fields)


def oumi(name: str, verb: str, *, place: str = "", **fields: Any) -> Job:
    argv = ("oumi", verb, "-c", f"out/{name}/.oumi-flow/config.yaml")
    return _job(name, verb, argv, None, (), place=place or f"out/{name}", **fields)


def _job(
    name: str, verb: str, argv: tuple[str, ...], run: str | None, outputs: Sequence[str], **f: Any
) -> Job:
    parts = {
        "verb": verb,
        "run": run,
        "config": f.pop("settings", {}),
        "args": [],
        "env": {},
        "workdir": ".",
        "outputs": list(outputs),
    }
    values: dict[str, Any] = {
        "folder": f"out/{name}",
        "place": f"out/{name}",
        "command": Command(argv),
        "outputs": tuple(Output(path, path, declared=True) for path in outputs),
        **f,
    }
    return Job(
        name=name, verb=verb, parts=parts, fingerprint=staleness.fingerprint(parts), **values
    )


class Hand:
    """A run's worker with the run around it played by hand."""

    def __init__(
        self, *jobs: Job, environ: Mapping[str, str] | None = None, run: str = "R1"
    ) -> None:
        self.jobs = jobs
        self.workflow = Workflow("w", "w.yaml", "out", jobs)
        self.store = Store("out")
        self.work = Work(
            self.workflow,
            self.store,
            Disk(verbs.model_file),
            run_id=run,
            environ={"PATH": "/bin"} if environ is None else environ,
            oumi=("/else/oumi",),
            versions={"oumi": "0.9", "oumi-flow": "1"},
        )
        self.plan = self.planned()
        self.work.stage(self.plan)

    def planned(self) -> Plan:
        return make_plan(self.workflow, self.store.pasts(self.jobs), Disk(verbs.model_file))

    def step(self, name: str) -> Step:
        return next(step for step in self.plan.steps if step.job.name == name)

    def start(self, name: str, number: int = 1, lease: Any = None) -> Prepared:
        return self.work.prepare(self.step(name), number, lease)

    def end(
        self, name: str, prepared: Prepared, ending: Ending | None = None, **how: Any
    ) -> Outcome:
        how = how or {"code": 0}
        exit = Exit(prepared.attempt.token, started=100.0, finished=103.0, **how)
        outcome = self.work.conclude(self.step(name), prepared, exit, ending)
        if outcome.state is JobState.DONE:
            self.work.commit(self.step(name), prepared, outcome)
        return outcome

    def attempt(self, name: str) -> LastAttempt:
        found = self.store.read_attempt(name)
        assert found is not None
        return found

    def reasons(self, name: str) -> list[str]:
        from oumi_flow.reasons import lines

        return lines(next(s for s in self.planned().steps if s.job.name == name).reasons)


def write(path: str, text: str = "x") -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    Path(path).write_text(text)


class Lease:
    devices = (1, 3)
    visible = "1,3"
    descriptors = (7, 8)

    def close(self) -> None: ...


# -- what a job is given -----------------------------------------------------------------------


def test_the_child_gets_the_documented_variables() -> None:
    job = shell("a", command=Command(("true",), env={"LR": "1", "PYTHONUNBUFFERED": "0"}))
    hand = Hand(job, environ={"PATH": "/usr/bin", "HOME": "/root"})
    env = dict(hand.start("a", 2, Lease()).attempt.env)
    port = int(env["MASTER_PORT"])
    assert 1024 <= port < 65536
    assert env.pop("PATH").split(":")[-1] == "/usr/bin"
    assert env == {
        "HOME": "/root",
        "PYTHONUNBUFFERED": "0",  # the job's own word is the last
        "DO_NOT_TRACK": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "1,3",
        "OUMI_FLOW_JOB": "a",
        "OUMI_FLOW_OUTPUT_DIR": os.path.abspath("out/a"),
        "OUMI_FLOW_ATTEMPT": "2",
        "MASTER_PORT": env["MASTER_PORT"],
        "LR": "1",
    }
    assert "MASTER_PORT" not in Hand(shell("b")).start("b").attempt.env
    assert Hand(shell("c")).start("c").attempt.env["CUDA_VISIBLE_DEVICES"] == ""


def test_the_lease_travels_with_the_attempt() -> None:
    prepared = Hand(shell("a", timeout=60.0, grace=5.0)).start("a", 1, Lease())
    assert prepared.attempt.descriptors == (7, 8)
    assert (prepared.gpus, prepared.devices) == (2, ("1", "3"))
    assert (prepared.attempt.limit, prepared.attempt.grace) == (60.0, 5.0)


def test_secrets_are_filled_in_for_the_child_and_masked_and_nowhere_on_disk() -> None:
    job = shell("a", secret_env={"HF_TOKEN": "${HF_TOKEN}", "AUTH": "Bearer ${HF_TOKEN}"})
    hand = Hand(job, environ={"HF_TOKEN": "hf_abcdefgh"})
    prepared = hand.start("a")
    assert prepared.attempt.env["AUTH"] == "Bearer hf_abcdefgh"
    assert set(prepared.attempt.mask) == {"hf_abcdefgh", "Bearer hf_abcdefgh"}
    hand.end("a", prepared)
    for folder, _, names in os.walk("out"):
        for name in names:
            assert b"hf_abcdefgh" not in Path(folder, name).read_bytes()


def test_a_secret_that_is_gone_is_named() -> None:
    hand = Hand(shell("a", secret_env={"HF_TOKEN": "${HF_TOKEN}"}), environ={})
    with pytest.raises(FlowError, match=r"\$HF_TOKEN is not set"):
        hand.start("a")
    assert hand.store.read_attempt("a") is None


def test_oumi_is_the_one_that_was_found_and_a_shell_job_is_left_alone() -> None:
    hand = Hand(oumi("t", "train"), shell("s", "oumi --help"))
    assert hand.start("t").attempt.argv[:2] == ("/else/oumi", "train")
    assert hand.start("s").attempt.argv[0] != "/else/oumi"


def test_the_log_begins_with_run_and_attempt_and_older_ones_are_kept() -> None:
    hand = Hand(shell("a"))
    hand.end("a", hand.start("a"), code=1)
    hand.start("a", 2)
    assert Path("out/a/job.log").read_text().startswith("# run R1, attempt 2, started ")
    assert Path("out/a/job.log.1").read_text().startswith("# run R1, attempt 1, started ")


def test_parents_of_outputs_are_made() -> None:
    Hand(shell("a", outputs=["deep/down/x.bin"])).start("a")
    assert os.path.isdir("deep/down")


def test_parents_of_outputs_are_made_again_for_a_fresh_attempt() -> None:
    inside = Output("@/sub/x", "out/t/sub/x", declared=True)
    hand = Hand(replace(oumi("t", "train"), outputs=(inside,)))
    hand.end("t", hand.start("t"), code=1)
    assert hand.start("t", 2)
    assert os.path.isdir("out/t/sub")


# -- what is written, and when --------------------------------------------------------------------


def test_a_success_leaves_a_marker_and_then_the_job_is_up_to_date() -> None:
    write("data.txt")
    job = shell("a", outputs=["out/a/x"], inputs=(Input("data.txt", "data.txt"),))
    hand = Hand(job)
    assert hand.reasons("a") == ["has not run here before"]
    prepared = hand.start("a")
    write("out/a/x")
    outcome = hand.end("a", prepared)
    assert outcome.state is JobState.DONE
    trace = hand.store.trace("a")
    assert trace is not None
    assert (trace.started, trace.finished, trace.run_id) == (100.0, 103.0, "R1")
    assert trace.build_key == prepared.build_key
    assert dict(trace.versions) == {"oumi-flow": "1"}  # a shell job does not use oumi
    assert hand.store.read_attempt("a") is None
    assert hand.reasons("a") == []


def test_the_marker_is_gone_and_the_attempt_known_before_a_process_can_start() -> None:
    hand = Hand(shell("a"))
    hand.end("a", hand.start("a"))
    again = Hand(shell("a"), run="R2")
    prepared = again.start("a")
    assert again.store.trace("a") is None
    attempt = again.attempt("a")
    assert (attempt.state, attempt.run_id, attempt.token) == (
        "starting",
        "R2",
        prepared.attempt.token,
    )
    assert again.reasons("a") == ["last attempt was interrupted (lost)"]


def test_exit_0_without_the_promised_output_is_a_failure() -> None:
    hand = Hand(shell("a", outputs=["out/a/x", "out/a/y"]))
    prepared = hand.start("a")
    write("out/a/x")
    outcome = hand.end("a", prepared)
    assert (outcome.state, outcome.detail) == (JobState.FAILED, "did not write out/a/y")
    assert hand.store.trace("a") is None
    assert hand.reasons("a") == ["last attempt failed (did not write out/a/y)"]


BY_KERNEL = "out of memory, ended by the kernel's memory killer; "
BY_KERNEL += "lower its batch size or its workers, or run fewer jobs at once (-j)"
BY_SOMEBODY = "sent by a user or a program, not by the kernel's memory killer"


@pytest.mark.parametrize(
    ("how", "cause", "reason"),
    [
        ({"code": 1}, "exit 1", "last attempt failed (exit 1)"),
        ({"code": None, "signal": 11}, "killed by signal 11", "killed by signal 11"),
        (
            {"code": None, "signal": 9, "oom_kills": 1, "oom_scope": "cgroup"},
            f"killed by signal 9: {BY_KERNEL}",
            "killed by signal 9",
        ),
        (
            {"code": 137, "oom_scope": "cgroup"},
            f"exit 137: killed by signal 9: {BY_SOMEBODY}",
            "exit 137",
        ),
        (
            {"code": None, "signal": 15, "timed_out": True},
            "timed out after 2h",
            "timed out after 2h",
        ),
        (
            {"code": None, "error": "could not start: no bash"},
            "could not start: no bash",
            "no bash",
        ),
        ({"code": None, "lost": True}, "its supervisor was killed", "interrupted (lost)"),
    ],
)
def test_every_end_has_its_words(how: dict[str, Any], cause: str, reason: str) -> None:
    hand = Hand(shell("a", timeout=7200.0))
    outcome = hand.end("a", hand.start("a"), **how)
    assert (outcome.state, outcome.detail) == (JobState.FAILED, cause)
    assert reason in hand.reasons("a")[0]
    assert hand.store.trace("a") is None


def test_the_cause_is_read_from_the_log() -> None:
    hand = Hand(oumi("t", "train"))
    prepared = hand.start("t", 1, Lease())
    with open("out/t/job.log", "a") as log:
        log.write("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n")
    outcome = hand.end("t", prepared, code=1)
    assert outcome.detail == "exit 1: CUDA out of memory, tried to allocate 2.00 GiB"
    assert outcome.retryable


def test_a_usage_error_is_not_worth_another_try() -> None:
    hand = Hand(oumi("t", "train"))
    prepared = hand.start("t")
    with open("out/t/job.log", "a") as log:
        log.write("Usage: oumi train [OPTIONS]\n│ No such option: --nonsense │\n")
    outcome = hand.end("t", prepared, code=2)
    assert not outcome.retryable
    assert outcome.detail.startswith("exit 2: usage error: No such option")


def test_a_lost_gpu_is_named_for_the_loop() -> None:
    class One(Lease):
        devices, visible, descriptors = (3,), "3", (7,)  # type: ignore[assignment]

    hand = Hand(oumi("t", "train"))
    prepared = hand.start("t", 1, One())
    with open("out/t/job.log", "a") as log:
        log.write("RuntimeError: CUDA error: device lost\n")
    assert hand.end("t", prepared, code=1).lost_gpu == 3


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (
            Ending(JobState.CANCELLED, "SIGINT", "interrupted"),
            "last attempt was interrupted (SIGINT",
        ),
        (Ending(JobState.CANCELLED, "cancelled", "cancelled"), "interrupted (cancelled"),
        (
            Ending(JobState.FAILED, "workflow timed out after 1h", "failed"),
            "last attempt failed (workflow timed out after 1h)",
        ),
    ],
)
def test_what_the_run_ended_is_recorded_as_such(ending: Ending, reason: str) -> None:
    hand = Hand(shell("a"))
    outcome = hand.end("a", hand.start("a"), ending, code=None, signal=15, cancelled=True)
    assert (outcome.state, outcome.detail) == (ending.state, ending.detail)
    assert hand.reasons("a")[0].startswith(reason) or reason in hand.reasons("a")[0]


def test_an_attempt_without_a_process_is_recorded_once_it_was_begun() -> None:
    hand = Hand(shell("a"), shell("b"))
    hand.start("a")
    hand.work.drop(hand.step("a"), Ending(JobState.FAILED, "could not start", "failed"))
    hand.work.drop(hand.step("b"), Ending(JobState.FAILED, "disk full", "failed"))
    assert hand.reasons("a") == ["last attempt failed (could not start)"]
    assert hand.reasons("b") == ["has not run here before"]


def test_an_input_that_changed_while_the_job_ran_keeps_the_success_until_next_time() -> None:
    write("data.txt", "old")
    hand = Hand(shell("a", inputs=(Input("data.txt", "data.txt"),)))
    prepared = hand.start("a")
    write("data.txt", "newer")
    assert hand.end("a", prepared).state is JobState.DONE
    assert hand.reasons("a") == ["input changed: data.txt (while it ran)"]


def test_a_full_disk_is_told_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Hand(shell("a"))
    os.makedirs("out/a")
    write("out/a/.oumi-flow", "a file is in the way")
    with pytest.raises(FlowError, match=r"out/a/\.oumi-flow"):
        hand.start("a")


def test_the_run_ends_with_settled_stamps_so_that_a_no_op_reads_nothing() -> None:
    hand = Hand(shell("a", outputs=["out/a/x"]))
    prepared = hand.start("a")
    write("out/a/x")
    hand.end("a", prepared)
    hand.work.settle()
    store, disk = Store("out"), Disk(verbs.model_file)
    plan = make_plan(hand.workflow, store.pasts(hand.jobs), disk)
    assert plan.up_to_date == 1
    assert disk.digested == 0


# -- judging again ----------------------------------------------------------------------------


def pair() -> tuple[Job, Job]:
    made = Input("@1", "out/a/x", producer="a")
    return shell("a", "make", outputs=["out/a/x"]), shell(
        "b", "use", inputs=(made,), upstream=("a",)
    )


@pytest.mark.parametrize(("text", "state"), [("same", "up to date"), ("other", "queued")])
def test_a_job_runs_only_if_its_upstream_made_something_new(text: str, state: str) -> None:
    first = Hand(*pair())
    prepared = first.start("a")
    write("out/a/x", "same")
    first.end("a", prepared)
    first.end("b", first.start("b"))

    edited = shell("a", "make it differently", outputs=["out/a/x"])
    hand = Hand(edited, pair()[1], run="R2")
    assert hand.step("b").decision is Decision.MAY_RUN
    assert hand.work.judges(hand.step("b"))
    prepared = hand.start("a")
    write("out/a/x", text)
    hand.end("a", prepared)
    verdict = hand.work.recheck(hand.step("b"))
    assert verdict.state.value == state
    if state == "queued":
        assert verdict.words == ("a made a new out/a/x",)
    else:
        assert verdict.detail.startswith("up to date (made ")


def test_a_job_that_counts_that_its_upstream_ran_goes_by_its_build_key() -> None:
    write("data.txt", "1")
    up = shell("a", inputs=(Input("data.txt", "data.txt"),))
    down = shell("b", inputs=(Input("@1", "", Counts.RAN, "a"),), upstream=("a",))
    first = Hand(up, down)
    first.end("a", first.start("a"))
    first.end("b", first.start("b"))
    assert first.reasons("b") == []
    write("data.txt", "22")
    hand = Hand(up, down, run="R2")
    hand.end("a", hand.start("a"))
    assert hand.work.recheck(hand.step("b")).state is JobState.QUEUED
    hand.end("b", hand.start("b"))
    assert hand.reasons("b") == []


# -- fresh starts and resuming -----------------------------------------------------------------


def checkpoint(job: str, step: int, whole: bool = True) -> None:
    folder = f"out/{job}/checkpoint-{step}"
    write(f"{folder}/model.safetensors", "\x02" + "\0" * 7 + "{}")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        write(f"{folder}/{name}", "PK\5\6" + "\0" * 18)
    state = json.dumps({"global_step": step})
    write(f"{folder}/trainer_state.json", state if whole else state[:-3])


def interrupted_training() -> None:
    hand = Hand(oumi("t", "train"))
    prepared = hand.start("t")
    for step in (9, 10):
        checkpoint("t", step)
    checkpoint("t", 20, whole=False)  # cut off by the kill
    os.makedirs("out/t/checkpoint-30")
    hand.end("t", prepared, code=None, signal=9)


def test_a_training_goes_on_from_its_newest_whole_checkpoint() -> None:
    interrupted_training()
    hand = Hand(oumi("t", "train", command=Command(("oumi", "train"), cwd="work")), run="R2")
    assert newest_checkpoint(hand.jobs[0], hand.attempt("t")) == "out/t/checkpoint-10"
    assert resume_point(hand.jobs[0], hand.attempt("t")) == "checkpoint-10"
    prepared = hand.start("t")
    flag = "--training.resume_from_checkpoint=../out/t/checkpoint-10"
    assert prepared.attempt.argv == ("/else/oumi", "train", flag)
    assert prepared.detail == "resumes from checkpoint-10"
    assert os.path.isdir("out/t/checkpoint-30")  # its folder is as it was


def test_a_retry_goes_on_too() -> None:
    hand = Hand(oumi("t", "train"))
    prepared = hand.start("t")
    checkpoint("t", 5)
    hand.end("t", prepared, code=1)
    assert hand.start("t", 2).detail == "resumes from checkpoint-5"


def test_another_recipe_starts_afresh_and_what_was_there_is_kept_aside() -> None:
    interrupted_training()
    hand = Hand(oumi("t", "train", settings={"training.learning_rate": 0.1}), run="R2")
    prepared = hand.start("t")
    assert prepared.detail == ""
    assert not os.path.exists("out/t/checkpoint-10")
    assert os.path.isdir("out/t/.oumi-flow/old/checkpoint-10")


def test_a_forced_job_starts_afresh() -> None:
    interrupted_training()
    hand = Hand(oumi("t", "train"), run="R2")
    hand.plan = make_plan(
        hand.workflow, hand.store.pasts(hand.jobs), Disk(verbs.model_file), force=["t"]
    )
    assert hand.start("t").detail == ""


def test_a_finished_training_is_never_resumed() -> None:
    hand = Hand(oumi("t", "train"))
    prepared = hand.start("t")
    checkpoint("t", 5)
    write("out/t/model.safetensors")
    assert hand.end("t", prepared).state is JobState.DONE
    again = Hand(oumi("t", "train"), run="R2")
    assert again.start("t").detail == ""
    assert os.path.isdir("out/t/.oumi-flow/previous/checkpoint-5")


@pytest.mark.parametrize("killed", ["before", "after"])
@pytest.mark.parametrize("other", [True, False])
def test_failures_cost_no_result_also_if_killed_while_one_is_moved(
    monkeypatch: pytest.MonkeyPatch, killed: str, other: bool
) -> None:
    """It stays what it is, a result or what a failure left, at whatever instant."""
    hand = Hand(oumi("t", "train"))
    prepared = hand.start("t")
    write("out/t/model.safetensors", "good")
    assert hand.end("t", prepared).state is JobState.DONE
    real = hand.store.set_aside

    def dies(job: str, partial: bool) -> str:
        if killed == "after":
            real(job, partial)
        raise KeyboardInterrupt

    for number, left in enumerate(("bad", "worse", "worst"), 1):
        for dead in (True, False):
            settings = {"training.learning_rate": float(number)} if other else {}
            hand = Hand(oumi("t", "train", settings=settings), run=f"R{number}{dead}")
            with monkeypatch.context() as patch:
                if dead:
                    patch.setattr(type(hand.store), "set_aside", lambda _, *args: dies(*args))
                    with pytest.raises(KeyboardInterrupt):
                        hand.start("t")
                    continue
            prepared = hand.start("t")
            write("out/t/model.safetensors", left)
            assert hand.end("t", prepared, code=1).state is JobState.FAILED
    assert Path("out/t/.oumi-flow/previous/model.safetensors").read_text() == "good"
    assert Path("out/t/.oumi-flow/old/model.safetensors").read_text() == "worse"


def test_an_attempt_that_could_not_clear_its_folder_leaves_nothing_to_go_on_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What lies there is another build's still."""
    interrupted_training()
    other = oumi("t", "train", settings={"training.learning_rate": 0.1})
    hand = Hand(other, run="R2")

    def fails(*_: object) -> str:
        raise FlowError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(type(hand.store), "set_aside", fails)
        with pytest.raises(FlowError, match="no space"):
            hand.start("t")
        hand.work.drop(hand.step("t"), Ending(JobState.FAILED, "no space", "failed"))
    assert hand.attempt("t").state == "failed"
    again = Hand(other, run="R3")
    assert again.start("t").detail == ""
    assert os.path.isdir("out/t/.oumi-flow/old/checkpoint-10")


def test_what_nobody_of_us_made_is_moved_with_a_word() -> None:
    write("out/t/notes.txt", "mine")
    hand = Hand(oumi("t", "train"))
    assert hand.start("t").notes == (
        "what lay in out/t before is in out/t/.oumi-flow/previous now",
    )
    assert Path("out/t/.oumi-flow/previous/notes.txt").read_text() == "mine"
    assert hand.start("t", 2).notes == ()


def test_infer_keeps_its_folder_and_goes_on_by_itself() -> None:
    job = oumi("i", "infer", place="out/i/predictions.jsonl")
    hand = Hand(job)
    prepared = hand.start("i")
    rows = f"out/i/scratch/predictions_{'0f' * 32}.jsonl"
    write(rows, '{"n": 1}\n{"n": 2}\n{"n": ')
    hand.end("i", prepared, code=1)
    assert hand.start("i", 2).attempt.argv[-1] != "--resume"
    assert Path(rows).read_text() == '{"n": 1}\n{"n": 2}\n', "a row cut off stops oumi for ever"
    assert Path(f"{rows}.torn").read_text() == '{"n": '


def test_infer_outside_its_folder_never_takes_rows_of_another_build() -> None:
    """oumi tells rows of different models apart by the model's name alone."""
    place = "results/p.jsonl"
    write("model", "one")
    job = oumi("i", "infer", place=place, inputs=(Input("model", "model"),))
    hand = Hand(job)
    prepared = hand.start("i")
    rows, others = (f"results/scratch/{name}_{'0f' * 32}.jsonl" for name in ("p", "q"))
    write(rows, '{"n": 1}\n')
    write(others, '{"n": 1}\n')
    hand.end("i", prepared, code=1)
    hand.end("i", hand.start("i", 2), code=1)
    assert Path(rows).read_text() == '{"n": 1}\n'
    write("model", "another")
    Hand(job, run="R2").start("i")
    assert not os.path.exists(rows)
    assert Path(f"{rows}.old").read_text() == '{"n": 1}\n'
    assert os.path.exists(others)


@pytest.mark.parametrize("loads", [True, False])
def test_tune_goes_on_only_with_a_study_it_may_load(loads: bool) -> None:
    settings = {"tuning.storage": "sqlite:///x.db", "tuning.load_if_exists": loads}
    hand = Hand(oumi("t", "tune", settings=settings))
    prepared = hand.start("t")
    write("out/t/trial_0/x")
    hand.end("t", prepared, code=1)
    hand.start("t", 2)
    assert os.path.exists("out/t/trial_0/x") is loads


def test_what_a_shell_job_left_stays_in_place_for_it() -> None:
    hand = Hand(shell("a"))
    prepared = hand.start("a")
    write("out/a/part")
    hand.end("a", prepared, code=1)
    hand.start("a", 2)
    assert os.path.exists("out/a/part")


# -- after a lost run -----------------------------------------------------------------------------


class Finder:
    """An executor of which only is asked who lives."""

    def __init__(self, *handles: Handle) -> None:
        self.handles = list(handles)
        self.asked: list[str] = []

    def find(self, state_dirs: Sequence[str]) -> list[Handle]:
        self.asked += state_dirs
        return self.handles

    def living(self, folder: str) -> list[Handle]:
        return self.handles

    def stop_unrecorded(self, folder: str) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody should ask for {name}")


def exited(prepared: Prepared, **how: Any) -> None:
    exit = Exit(prepared.attempt.token, started=100.0, finished=103.0, **how)
    supervisor = StateDir(prepared.attempt.state_dir)
    supervisor.claim(exit.token, {"token": exit.token, "pid": 1})
    supervisor.end(to_text(exit.to_json()))
    supervisor.close()


def test_nothing_open_asks_nobody() -> None:
    hand = Hand(shell("a"), shell("b"))
    hand.end("a", hand.start("a"))
    finder = Finder()
    found = recover(hand.workflow, hand.store, finder, hand.work)
    assert (found.adopted, found.notes, finder.asked) == ({}, (), [])


def test_what_finished_unseen_is_taken_in_order_and_not_run_again() -> None:
    up, down = pair()
    lost = Hand(up, down)
    first = lost.start("a")
    write("out/a/x")
    exited(first, code=0)
    hand = Hand(up, down, run="R2")
    found = recover(hand.workflow, hand.store, Finder(), hand.work)
    assert found.notes == ("a finished after its run was lost; its result is taken",)
    assert found.changed == {"a"}
    assert hand.reasons("a") == []
    trace = hand.store.trace("a")
    assert trace is not None
    assert (trace.run_id, trace.finished) == ("R1", 103.0)


def test_what_finished_unseen_from_other_inputs_is_run_again() -> None:
    write("data.txt", "old")
    job = shell("a", inputs=(Input("data.txt", "data.txt"),))
    exited(Hand(job).start("a"), code=0)
    write("data.txt", "newer")
    hand = Hand(job, run="R2")
    recover(hand.workflow, hand.store, Finder(), hand.work)
    assert hand.store.trace("a") is None
    assert hand.reasons("a")[0].startswith("last attempt was interrupted (lost")


def test_what_failed_unseen_is_a_failure() -> None:
    lost = Hand(shell("a"))
    exited(lost.start("a"), code=3)
    hand = Hand(shell("a"), run="R2")
    found = recover(hand.workflow, hand.store, Finder(), hand.work)
    assert found.notes == ("a ended after its run was lost: exit 3",)
    assert hand.reasons("a") == ["last attempt failed (exit 3)"]


@pytest.mark.parametrize("left", ["", "torn {", '{"token": "another", "code": 0}'])
def test_what_nobody_knows_the_end_of_was_interrupted(left: str) -> None:
    lost = Hand(shell("a"))
    prepared = lost.start("a")
    if left:
        write(f"{prepared.attempt.state_dir}/exit.json", left)
    hand = Hand(shell("a"), run="R2")
    recover(hand.workflow, hand.store, Finder(), hand.work)
    assert hand.attempt("a").state == "interrupted"
    assert hand.reasons("a")[0].startswith("last attempt was interrupted (lost")


def test_a_live_process_is_taken_over_with_its_number_if_it_makes_what_is_wanted() -> None:
    lost = Hand(shell("a"))
    prepared = lost.start("a", 2)
    handle = Handle(prepared.attempt.token, "a", prepared.attempt.state_dir)
    hand = Hand(shell("a"), run="R2")
    found = recover(hand.workflow, hand.store, Finder(handle), hand.work)
    assert found.adopted == {"a": handle}
    taken = hand.work.adopt(hand.step("a"), handle)
    assert taken is not None
    assert (taken.attempt.number, taken.build_key) == (2, prepared.build_key)
    assert hand.end("a", taken).state is JobState.DONE
    assert hand.reasons("a") == []

    edited = Hand(shell("a", "false"), run="R3")
    assert edited.work.adopt(edited.step("a"), handle) is None


def test_a_process_of_another_attempt_is_not_taken_over() -> None:
    hand = Hand(shell("a"))
    hand.start("a")
    assert hand.work.adopt(hand.step("a"), Handle("another", "a")) is None


# -- progress ---------------------------------------------------------------------------------


def test_progress_of_a_running_job_is_seen_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oumi_flow.runner.watch._EVERY", 0.001)
    hand = Hand(shell("a"))
    prepared = hand.start("a")
    watch = Watch(hand.store)
    watch.started(hand.step("a"), prepared)
    with open("out/a/job.log", "a") as log:
        log.write("step 3/10 loss=0.5\n")
    seen = None
    while seen is None or seen.done is None:
        seen = watch.latest("a")
    assert (seen.done, seen.total) == (3, 10)
    watch.ended("a")
    watch.close()
    assert hand.store.read_progress("a") == seen
    assert hand.store.read_metrics("a")[0]["metrics"] == {"loss": 0.5}
    # What an earlier attempt told does not stand for the next one.
    hand.start("a", 2)
    assert hand.store.read_progress("a") is None
    assert hand.store.read_metrics("a") == []


def test_a_fault_while_watching_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oumi_flow.runner.watch._EVERY", 0.001)
    hand = Hand(shell("a"))
    prepared = hand.start("a")
    asked: list[int] = []

    class Bad:
        def poll(self) -> None:
            asked.append(1)
            raise RuntimeError("no such metric")

    watch = Watch(hand.store)
    watch.started(hand.step("a"), replace(prepared, follower=Bad()))
    while len(asked) < 2:
        pass
    watch.ended("a")
    watch.close()
    assert watch.latest("a") is None


def test_past_is_part_of_the_step() -> None:
    assert Step(shell("a"), Decision.RUN).past == Past()


@pytest.mark.parametrize(("place", "state"), [("", JobState.DONE), ("mine", JobState.FAILED)])
def test_in_a_folder_that_was_empty_results_count_whatever_the_clock_did(
    place: str, state: JobState
) -> None:
    """In one of the user's own they are told from earlier ones by their age alone."""
    hand = Hand(oumi("e", "evaluate", place=place))
    prepared = hand.start("e")
    result = f"{place or 'out/e'}/oumi_0/task_result.json"
    write(result, json.dumps({"results": {"mmlu": {"acc": 0.5}}}))
    os.utime(result, (prepared.began - 3600,) * 2)
    assert hand.end("e", prepared).state is state
