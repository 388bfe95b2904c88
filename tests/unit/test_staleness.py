"""The judge: what makes a job stale, each reason by itself, and what never does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.model import (
    MISSING,
    Code,
    Command,
    Counts,
    Evidence,
    FileEvidence,
    Input,
    Job,
    LastAttempt,
    Output,
    Past,
    Reason,
    Stamp,
    Trace,
)
from oumi_flow.staleness import (
    Judgement,
    build_key,
    fingerprint,
    judge,
    key_of,
    moved_inputs,
    observe_inputs,
    observe_outputs,
    settle,
    stands,
    trace_of,
)


class FakeDisk:
    """Files that tests own, with a clock that they tick. A file is its text, a folder a mapping."""

    def __init__(self, files: Mapping[str, str | Mapping[str, str]]) -> None:
        self.now = 1000
        self.content: dict[str, str | Mapping[str, str]] = {}
        self.times: dict[str, int] = {}
        self.young: set[str] = set()
        self.looked_at: list[str] = []
        for path, content in files.items():
            self.write(path, content)

    def write(self, path: str, content: str | Mapping[str, str]) -> None:
        self.now += 1
        self.content[path], self.times[path] = content, self.now

    def remove(self, path: str) -> None:
        del self.content[path]

    def observe(self, path: str, counts: Counts, known: Evidence | None = None) -> Evidence:
        self.looked_at.append(path)
        if path not in self.content:
            return MISSING
        content, at = self.content[path], self.times[path]
        settled = path not in self.young
        if isinstance(content, str):
            seen = Evidence("file", content, (FileEvidence("", _stamp(at), content, settled),))
        else:
            files = [FileEvidence(n, _stamp(at), t, settled) for n, t in sorted(content.items())]
            kind = "glob" if "*" in path else "folder"
            seen = Evidence(kind, json.dumps(content, sort_keys=True), tuple(files))
        return known if known == seen and known is not None else seen

    def settle(self, path: str, counts: Counts, known: Evidence) -> Evidence:
        self.young.discard(path)
        return self.observe(path, counts, known)


def _stamp(at: int) -> Stamp:
    return Stamp(1, at, at, 1)


PARTS: dict[str, Any] = {
    "verb": "train",
    "run": None,
    "config": {"training.learning_rate": 0.0001, "training.max_steps": 10},
    "args": ["--fast"],
    "env": {"LR": "1", "HF_TOKEN": None},
    "workdir": ".",
    "outputs": ["@"],
}


def job(name: str = "a", **changes: Any) -> Job:
    parts = changes.pop("parts", PARTS)
    made = Job(
        name=name,
        verb="train",
        folder=f"out/{name}",
        place=f"out/{name}",
        command=Command(("oumi",)),
        parts=parts,
        fingerprint=fingerprint(parts),
        inputs=(Input("data", "data"),),
        outputs=(Output("@", f"out/{name}", Counts.MODEL),),
    )
    return replace(made, **changes)


def with_parts(**changes: Any) -> Job:
    return job(parts={**PARTS, **changes})


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk({"data": "one", "out/a": {"model": "m", "config": "c"}})


def made(
    which: Job, disk: FakeDisk, build_keys: Mapping[str, str] | None = None, **rest: Any
) -> Past:
    """The past of a job that ran on what is there now."""
    inputs = observe_inputs(which, disk, build_keys or {})
    outputs = observe_outputs(which, disk)
    times = {"started": 10.0, "finished": 20.0, "run_id": "r", **rest}
    return Past(trace_of(which, inputs, outputs, **times))


def told(judgement: Judgement) -> list[tuple[str, str]]:
    return [(reason.code.value, reason.subject) for reason in judgement.reasons]


# Fingerprint and build key -------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
parts_of_any_kind = st.dictionaries(
    st.sampled_from(["verb", "run", "config", "args", "env", "workdir"]), json_values
)


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@given(parts_of_any_kind, parts_of_any_kind)
def test_fingerprints_are_equal_if_and_only_if_the_parts_are(
    a: dict[str, Any], b: dict[str, Any]
) -> None:
    assert (fingerprint(a) == fingerprint(b)) == (canonical(a) == canonical(b))
    assert fingerprint(a) == fingerprint(dict(reversed(a.items())))
    assert fingerprint(a) == fingerprint(json.loads(json.dumps(a)))


def test_a_fingerprint_stays_what_it_was() -> None:
    # A change here makes every job of every user stale: it needs another FORMAT.
    assert fingerprint(PARTS) == "239eca9d91b9f516a8deefcd0349ec5f"
    assert build_key("f", {"b": "2", "a": "1"}) == "3e2c366b039fb335aead6f6ba94a8698"


def test_true_is_not_one() -> None:
    assert fingerprint({"config": {"a": True}}) != fingerprint({"config": {"a": 1}})


def test_the_order_of_outputs_does_not_count() -> None:
    assert fingerprint({"outputs": ["a", "b"]}) == fingerprint({"outputs": ("b", "a")})
    assert fingerprint({"outputs": ["a", "b"]}) != fingerprint({"outputs": ["a"]})


def test_names_that_are_no_utf8_have_a_fingerprint() -> None:
    assert fingerprint({"outputs": ["\udcff"]}) != fingerprint({"outputs": ["\udcfe"]})


@given(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=4))
def test_a_build_key_depends_on_every_input(inputs: dict[str, str]) -> None:
    key = build_key("f", inputs)
    assert key == build_key("f", dict(reversed(inputs.items())))
    assert key != build_key("g", inputs)
    for name in inputs:
        assert key != build_key("f", {**inputs, name: inputs[name] + "!"})
        assert key != build_key("f", {k: v for k, v in inputs.items() if k != name})


# Up to date ----------------------------------------------------------------------------------


def test_nothing_new_is_up_to_date(disk: FakeDisk) -> None:
    assert judge(job(), made(job(), disk), disk) == Judgement()


def test_equal_content_with_newer_stamps_is_up_to_date_and_refreshed(disk: FakeDisk) -> None:
    past = made(job(), disk)
    disk.write("data", "one")
    disk.write("out/a", {"model": "m", "config": "c"})
    judgement = judge(job(), past, disk)
    assert judgement.reasons == ()
    assert judgement.refreshed is not None
    assert judgement.refreshed == made(job(), disk).trace
    assert judge(job(), Past(judgement.refreshed), disk) == Judgement()


def test_settled_stamps_replace_young_ones(disk: FakeDisk) -> None:
    disk.young = {"data"}
    past = made(job(), disk)
    disk.young = set()
    judgement = judge(job(), past, disk)
    assert judgement.refreshed is not None
    assert judgement.refreshed.inputs["data"].settled


def test_no_refreshed_trace_for_a_stale_job(disk: FakeDisk) -> None:
    past = made(job(), disk)
    disk.write("out/a", {"model": "m", "config": "c"})
    assert judge(job(), past, disk, forced="--force").refreshed is None


# One reason each -----------------------------------------------------------------------------


def test_forced(disk: FakeDisk) -> None:
    past = made(job(), disk)
    assert told(judge(job(), past, disk, forced="--force")) == [("forced", "--force")]
    always = job(always_run=True)
    assert told(judge(always, past, disk)) == [("forced", "always_run")]
    assert [r.code for r in judge(always, Past(), disk).reasons] == [Code.FORCED, Code.NEVER_RUN]


def test_never_run(disk: FakeDisk) -> None:
    assert judge(job(), Past(), disk).reasons == (Reason(Code.NEVER_RUN),)
    assert disk.looked_at == []


def test_a_trace_of_another_format_is_none(disk: FakeDisk) -> None:
    past = made(job(), disk, format=99)
    assert judge(job(), past, disk).reasons == (Reason(Code.NEVER_RUN),)


def attempt(state: str, **changes: Any) -> LastAttempt:
    return replace(LastAttempt("r2", 1, state, started=30.0, finished=40.0), **changes)


@pytest.mark.parametrize(
    ("last", "code", "subject"),
    [
        (attempt("interrupted", detail="SIGINT"), Code.INTERRUPTED, "SIGINT"),
        (attempt("interrupted", detail="lost"), Code.INTERRUPTED, "lost"),
        (attempt("cancelled"), Code.INTERRUPTED, "cancelled"),
        (attempt("starting"), Code.INTERRUPTED, "lost"),
        (attempt("running"), Code.INTERRUPTED, "lost"),
        (attempt("of a later version"), Code.INTERRUPTED, "lost"),
        (attempt("failed", detail="timed out after 2h"), Code.FAILED, "timed out after 2h"),
        (attempt("failed", exit_code=3), Code.FAILED, "exit 3"),
    ],
)
def test_an_attempt_that_did_not_finish(
    last: LastAttempt, code: Code, subject: str, disk: FakeDisk
) -> None:
    reasons = judge(job(), Past(None, last), disk).reasons
    assert [(r.code, r.subject) for r in reasons] == [(code, subject)]


def test_a_lost_marker_after_a_success_is_never_run(disk: FakeDisk) -> None:
    past = Past(None, attempt("done"), made(job(), disk).trace)
    assert judge(job(), past, disk).reasons == (Reason(Code.NEVER_RUN),)


def test_an_attempt_that_the_marker_came_from_or_that_is_older_says_nothing(disk: FakeDisk) -> None:
    trace = made(job(), disk).trace
    same = attempt("running", run_id="r")
    older = attempt("failed", started=1.0)
    assert judge(job(), Past(trace, same), disk) == Judgement()
    assert judge(job(), Past(trace, older), disk) == Judgement()


def test_a_newer_attempt_than_the_marker_counts(disk: FakeDisk) -> None:
    past = Past(made(job(), disk).trace, attempt("failed", detail="exit 1"))
    assert told(judge(job(), past, disk)) == [("failed", "exit 1")]


def test_after_a_failure_what_was_edited_since_the_last_success_is_told_too(disk: FakeDisk) -> None:
    before = made(job(), disk).trace
    disk.write("data", "two")
    disk.remove("out/a")
    edited = with_parts(workdir="sub")
    past = Past(None, attempt("failed", detail="exit 1"), before)
    assert told(judge(edited, past, disk)) == [
        ("failed", "exit 1"),
        ("recipe", "workdir"),
        ("input", "data"),
    ]


def test_output_missing(disk: FakeDisk) -> None:
    past = made(job(), disk)
    disk.remove("out/a")
    assert told(judge(job(), past, disk)) == [("output missing", "out/a")]


def test_one_file_of_an_output_folder_missing_changed_or_added(disk: FakeDisk) -> None:
    past = made(job(), disk)
    disk.write("out/a", {"model": "other", "extra": "x"})
    assert told(judge(job(), past, disk)) == [
        ("output missing", "out/a/config"),
        ("output changed", "out/a/model"),
        ("output changed", "out/a/extra"),
    ]


def test_an_output_folder_that_became_a_file(disk: FakeDisk) -> None:
    past = made(job(), disk)
    disk.write("out/a", "text")
    assert told(judge(job(), past, disk)) == [("output changed", "out/a")]


def test_recipe(disk: FakeDisk) -> None:
    past = made(job(), disk)
    (reason,) = judge(with_parts(verb="evaluate"), past, disk).reasons
    assert reason == Reason(Code.COMMAND_CHANGED, "verb", "train", "evaluate")
    (reason,) = judge(with_parts(args=["--slow"]), past, disk).reasons
    assert reason == Reason(Code.COMMAND_CHANGED, "command", ("--fast",), ("--slow",))
    (reason,) = judge(with_parts(workdir="sub"), past, disk).reasons
    assert reason == Reason(Code.COMMAND_CHANGED, "workdir", ".", "sub")
    (reason,) = judge(with_parts(judge="dataset"), past, disk).reasons
    assert (reason.code, reason.subject) == (Code.COMMAND_CHANGED, "command")


def test_text_and_list_of_a_command_are_told_apart(disk: FakeDisk) -> None:
    past = made(with_parts(run="a"), disk)
    assert told(judge(with_parts(run=["a"]), past, disk)) == [("recipe", "command")]
    assert told(judge(with_parts(run="a\n"), past, disk)) == [("recipe", "command")]


def test_a_part_that_differs_in_a_way_nobody_shows_is_still_stale(disk: FakeDisk) -> None:
    past = made(job(), disk)
    odd = replace(job(), fingerprint="0" * 32)
    assert told(judge(odd, past, disk)) == [("recipe", "command")]


def test_config(disk: FakeDisk) -> None:
    past = made(job(), disk)
    new = {"training.learning_rate": 0.0003, "training.seed": 1}
    assert judge(with_parts(config=new), past, disk).reasons == (
        Reason(Code.CONFIG_CHANGED, "training.learning_rate", 0.0001, 0.0003, "changed"),
        Reason(Code.CONFIG_CHANGED, "training.seed", None, 1, "added"),
        Reason(Code.CONFIG_CHANGED, "training.max_steps", 10, None, "removed"),
    )


def test_a_config_value_that_turns_from_one_to_true_is_told(disk: FakeDisk) -> None:
    past = made(with_parts(config={"a": 1}), disk)
    assert judge(with_parts(config={"a": True}), past, disk).reasons == (
        Reason(Code.CONFIG_CHANGED, "a", 1, True, "changed"),
    )


def test_env(disk: FakeDisk) -> None:
    past = made(job(), disk)
    assert judge(with_parts(env={"LR": "2", "NEW": "x"}), past, disk).reasons == (
        Reason(Code.ENV_CHANGED, "LR", "1", "2", "changed"),
        Reason(Code.ENV_CHANGED, "NEW", None, "x", "added"),
        Reason(Code.ENV_CHANGED, "HF_TOKEN", None, None, "removed"),
    )


def test_input_changed_removed_and_added(disk: FakeDisk) -> None:
    past = made(job(), disk)
    disk.write("data", "two")
    assert told(judge(job(), past, disk)) == [("input", "data")]
    disk.remove("data")
    (reason,) = judge(job(), past, disk).reasons
    assert reason.change == "removed"
    absent = made(job(), disk)
    disk.write("data", "one")
    (reason,) = judge(job(), absent, disk).reasons
    assert reason.change == "added"


def test_another_list_of_inputs(disk: FakeDisk) -> None:
    past = made(job(), disk)
    disk.write("more", "x")
    other = job(inputs=(Input("more", "more"),))
    assert judge(other, past, disk).reasons == (
        Reason(Code.INPUT_CHANGED, "more", change="added"),
        Reason(Code.INPUT_CHANGED, "data", change="removed"),
    )


@pytest.mark.parametrize(("path", "prefix"), [("data", "data/"), ("data/", "data/"), ("d/*", "")])
def test_files_of_input_folders_and_globs_are_named(path: str, prefix: str) -> None:
    disk = FakeDisk({path: {"same": "1", "edited": "1", "gone": "1"}, "out/a": "x"})
    which = job(inputs=(Input(path, path),))
    past = made(which, disk)
    disk.write(path, {"same": "1", "edited": "2", "new": "1"})
    found = {(r.change, r.subject) for r in judge(which, past, disk).reasons}
    assert found == {
        ("changed", f"{prefix}edited"),
        ("added", f"{prefix}new"),
        ("removed", f"{prefix}gone"),
    }


def test_an_input_that_changed_while_the_job_ran_makes_it_stale(disk: FakeDisk) -> None:
    before = observe_inputs(job(), disk, {})
    disk.write("data", "two")
    moved = moved_inputs(job(), before, disk, {})
    assert moved == ("data",)
    outputs = observe_outputs(job(), disk)
    trace = trace_of(job(), before, outputs, started=1, finished=2, changed_while_ran=moved)
    (reason,) = judge(job(), Past(trace), disk).reasons
    assert reason == Reason(Code.INPUT_CHANGED, "data", change="changed while it ran")
    disk.write("data", "one")  # back again: what the job read is not known
    assert judge(job(), Past(trace), disk).reasons == (reason,)


def test_an_input_only_touched_while_the_job_ran_has_not_moved(disk: FakeDisk) -> None:
    before = observe_inputs(job(), disk, {})
    disk.write("data", "one")
    assert moved_inputs(job(), before, disk, {}) == ()


# Upstreams -----------------------------------------------------------------------------------


def downstream(**changes: Any) -> Job:
    made_by = Input("@1", "out/up", Counts.MODEL, "up")
    return job(inputs=(made_by, Input("data", "data")), **changes)


@pytest.fixture
def chain(disk: FakeDisk) -> FakeDisk:
    disk.write("out/up", {"model": "1"})
    return disk


def test_an_upstream_that_made_something_new(chain: FakeDisk) -> None:
    past = made(downstream(), chain)
    chain.write("out/up", {"model": "2"})
    assert judge(downstream(), past, chain).reasons == (
        Reason(Code.UPSTREAM_CHANGED, "up", after="out/up"),
    )


def test_an_upstream_that_made_the_same_again(chain: FakeDisk) -> None:
    past = made(downstream(), chain)
    chain.write("out/up", {"model": "1"})
    assert judge(downstream(), past, chain).reasons == ()


def test_a_renamed_upstream_with_the_same_content(chain: FakeDisk) -> None:
    past = made(downstream(), chain)
    chain.write("out/new", {"model": "1"})
    renamed = job(inputs=(Input("@1", "out/new", Counts.MODEL, "new"), Input("data", "data")))
    assert judge(renamed, past, chain).reasons == ()
    chain.write("out/new", {"model": "2"})
    assert told(judge(renamed, past, chain)) == [("input", "out/new/model")]


def test_an_upstream_without_files_counts_by_its_build_key(disk: FakeDisk) -> None:
    which = job(inputs=(Input("@1", "", Counts.RAN, "up"),))
    past = made(which, disk, {"up": "key1"})
    assert judge(which, past, disk, build_keys={"up": "key1"}) == Judgement()
    assert judge(which, past, disk, build_keys={"up": "key2"}).reasons == (
        Reason(Code.UPSTREAM_CHANGED, "up", after=""),
    )
    assert judge(which, past, disk).reasons != ()


def test_a_pending_upstream_is_waited_for_and_not_looked_at(chain: FakeDisk) -> None:
    past = made(downstream(), chain)
    chain.write("out/up", {"model": "half written"})
    chain.looked_at.clear()
    judgement = judge(downstream(), past, chain, pending={"up", "other"})
    assert judgement == Judgement((Reason(Code.UPSTREAM_PENDING, "up"),))
    assert "out/up" not in chain.looked_at


def test_with_another_reason_nobody_waits_to_know(chain: FakeDisk) -> None:
    past = made(downstream(), chain)
    chain.write("data", "two")
    assert told(judge(downstream(), past, chain, pending={"up"})) == [("input", "data")]


def test_a_new_dependency_on_a_pending_job_is_a_reason_by_itself(chain: FakeDisk) -> None:
    past = made(job(), chain)
    other = job(inputs=(Input("@1", "out/up", Counts.MODEL, "up"),))
    assert [(r.change, r.subject) for r in judge(other, past, chain, pending={"up"}).reasons] == [
        ("added", "out/up"),
        ("removed", "data"),
    ]


# Outputs set, software -----------------------------------------------------------------------


def test_outputs_set(disk: FakeDisk) -> None:
    past = made(job(), disk)
    outputs = (Output("@/x", "out/a/x", declared=True), Output("y", "y", declared=True))
    parts = {**PARTS, "outputs": ["@/x", "y"]}
    which = job(outputs=outputs, parts=parts)
    assert judge(which, past, disk).reasons == (
        Reason(Code.OUTPUTS_SET_CHANGED, before=("out/a",), after=("out/a/x", "y")),
    )


def test_software_counts_only_on_request(disk: FakeDisk) -> None:
    past = made(job(), disk, versions={"oumi": "0.9"})
    assert judge(job(), past, disk) == Judgement()
    assert judge(job(), past, disk, software={"oumi": "0.9", "torch": "2"}) == Judgement()
    assert judge(job(), past, disk, software={"oumi": "0.10"}).reasons == (
        Reason(Code.SOFTWARE_CHANGED, "oumi", "0.9", "0.10"),
    )


def test_all_reasons_come_in_their_order(chain: FakeDisk) -> None:
    past = made(downstream(), chain, versions={"oumi": "1"})
    for path in ("data", "out/up"):
        chain.write(path, "new")
    chain.write("out/a", {"model": "new"})
    which = job(
        parts={**PARTS, "verb": "x", "config": {}, "env": {}, "outputs": ["@", "z"]},
        inputs=downstream().inputs,
        outputs=(*job().outputs, Output("z", "z")),
        always_run=True,
    )
    judgement = judge(which, past, chain, forced="--force", software={"oumi": "2"})
    order = list(Code)
    positions = [order.index(reason.code) for reason in judgement.reasons]
    assert positions == sorted(positions)
    assert set(order) - {reason.code for reason in judgement.reasons} == {
        Code.NEVER_RUN,
        Code.INTERRUPTED,
        Code.FAILED,
        Code.UPSTREAM_PENDING,
    }


# Any change at all ---------------------------------------------------------------------------

small = st.dictionaries(st.sampled_from("abc"), st.none() | st.booleans() | st.integers(0, 1))
any_parts = st.fixed_dictionaries(
    {
        "verb": st.sampled_from(["train", "infer"]),
        "run": st.none() | st.sampled_from(["x", "x\n", "y"]) | st.just(["x"]),
        "config": small,
        "args": st.lists(st.sampled_from("ab"), max_size=2),
        "env": st.dictionaries(st.sampled_from("AB"), st.none() | st.just("1")),
        "workdir": st.sampled_from([".", "w"]),
    }
)


@given(any_parts, any_parts, st.sampled_from("12"), st.sampled_from("12"))
def test_a_job_is_stale_if_and_only_if_its_build_key_is_another(
    parts: dict[str, Any], other: dict[str, Any], content: str, later: str
) -> None:
    disk = FakeDisk({"data": content, "out/a": {"model": "m"}})
    first, second = job(parts=parts), job(parts=other)
    past = made(first, disk)
    assert past.trace is not None
    disk.write("data", later)
    same = key_of(second, observe_inputs(second, disk, {})) == past.trace.build_key
    assert same == (not judge(second, past, disk).reasons)


some_inputs = st.lists(
    st.sampled_from(
        [
            Input("data", "data"),
            Input("@1", "out/up", Counts.MODEL, "up"),
            Input("@2", "", Counts.RAN, "ran"),
            Input("@3", "out/none", Counts.ALL, "named"),  # there is no such file
        ]
    ),
    unique_by=lambda item: item.key,
)
some_outputs = st.lists(
    st.sampled_from([*job().outputs, Output("y", "y", declared=True)]),
    unique_by=lambda item: item.key,
)
keys = st.fixed_dictionaries(
    {"up": st.just("k"), "ran": st.sampled_from("kl"), "named": st.just("k")}
)


@given(any_parts, any_parts, *(2 * (some_inputs, some_outputs, keys)), st.booleans(), st.booleans())
def test_a_trace_stands_if_and_only_if_the_judge_finds_no_reason_where_nothing_moved(
    parts: dict[str, Any],
    other: dict[str, Any],
    inputs: list[Input],
    outputs: list[Output],
    keys: dict[str, str],
    new_inputs: list[Input],
    new_outputs: list[Output],
    new_keys: dict[str, str],
    always: bool,
    moved: bool,
) -> None:
    disk = FakeDisk({"data": "d", "out/a": {"model": "m"}, "out/up": {"model": "u"}, "y": "y"})
    first = job(parts=parts, inputs=tuple(inputs), outputs=tuple(outputs))
    changed = tuple(item.key for item in inputs[:moved])
    trace = made(first, disk, keys, changed_while_ran=changed).trace
    assert trace is not None
    for which in (
        first,
        replace(first, always_run=always),
        job(parts=other, inputs=first.inputs, outputs=first.outputs),
        replace(first, inputs=tuple(new_inputs)),
        replace(first, outputs=tuple(new_outputs)),
    ):
        judged = judge(which, Past(trace), disk, build_keys=new_keys)
        assert stands(which, trace, new_keys) == (not judged.reasons), judged.reasons


# The end of a run ----------------------------------------------------------------------------


def test_settling_gives_young_evidence_settled_stamps(disk: FakeDisk) -> None:
    disk.young = {"data", "out/a"}
    past = made(job(), disk)
    assert past.trace is not None
    (better,) = settle([(job(), past.trace)], disk.settle)
    assert better.inputs["data"].settled
    assert better.outputs["@"].settled
    assert not list(settle([(job(), better)], disk.settle))


def test_settling_does_not_hide_a_change_since_the_job_ran(disk: FakeDisk) -> None:
    disk.young = {"data"}
    trace = made(job(), disk).trace
    assert isinstance(trace, Trace)
    disk.write("data", "two")
    assert not list(settle([(job(), trace)], disk.settle))
    assert told(judge(job(), Past(trace), disk)) == [("input", "data")]
