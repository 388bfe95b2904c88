"""Configs: read as oumi reads them, merged as oumi merges, compared by meaning."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.errors import FlowError, WorkflowErrors
from oumi_flow.load.config_file import value_of
from oumi_flow.load.configs import (
    ArgProblem,
    KeyTable,
    OumiKeys,
    canonical,
    counted,
    flatten,
    input_values,
    merge,
    own_place,
    read_config,
    read_config_file,
)
from oumi_flow.verbs import verb

TRAIN = verb("train")


def read(text: str | bytes) -> dict[str, Any]:
    data = text if isinstance(text, bytes) else text.encode()
    return read_config("c.yaml", lambda path: data)


def fault(text: str | bytes) -> str:
    with pytest.raises(WorkflowErrors) as caught:
        read(text)
    (problem,) = caught.value.problems
    return str(problem)


def fingerprinted(text: str, args: tuple[str, ...] = (), name: str = "train") -> dict[str, Any]:
    merged, _ = merge(read(text), args, verb(name))
    return counted(flatten(merged), verb(name))


# ---------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("1.0e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("12", 12),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("null", None),
        ("2020-01-01", "2020-01-01"),
        ('"1e-4"', "1e-4"),
        ("${HOME}", "${HOME}"),
        ("[a, 1e-4]", ["a", 0.0001]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_values_are_read_as_oumi_reads_them(text: str, value: Any) -> None:
    assert read(f"k: {text}") == {"k": value}


def test_anchors_and_merge_keys_work() -> None:
    assert read("a: &x {p: 1}\nb: {<<: *x, q: 2}") == {"a": {"p": 1}, "b": {"p": 1, "q": 2}}


def test_an_empty_file_is_an_empty_config() -> None:
    assert read("") == {}
    assert read("# nothing\n") == {}


def test_a_byte_order_mark_is_no_key() -> None:
    assert read(b"\xef\xbb\xbfk: 1") == {"k": 1}


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: [1,\n", "c.yaml:3:1", "is not valid YAML"),
        ("a:\n  x: 1\n  x: 2\n", "c.yaml:3:3", 'duplicate key "x"'),
        ("- a\n- b\n", "c.yaml:1:1", "must hold keys and values, got a list"),
        ("just text", "c.yaml:1:1", "got a single value"),
        ("a: !!python/object:os.system x", "c.yaml:1:4", "is not valid YAML"),
        (b"a: 1\nb: \xff\xfe", "c.yaml:2:1", "is not UTF-8"),
        ("a: \x00", "c.yaml", "is not valid YAML"),
        ("a: &a [*a]", "c.yaml:1:4", "alias inside itself"),
        ("a: 1\n---\nb: 2\n", "c.yaml:2:1", "is not valid YAML"),
        ("[" * 500, "c.yaml:1:101", "nested deeper than 100"),
        ("a: *nowhere", "c.yaml:1:4", "is not valid YAML"),
    ],
)
def test_a_bad_file_is_named_with_its_place(text: str | bytes, place: str, words: str) -> None:
    said = fault(text)
    assert said.startswith(f"{place}: config file c.yaml ")
    assert words in said


def test_a_file_too_deep_for_libyaml_is_refused_in_the_same_words() -> None:
    said = fault("[" * 5000)  # where it is noticed depends on libyaml
    assert said.startswith("c.yaml:1:1")
    assert "config file c.yaml is nested deeper than 100 levels" in said


def test_multiplying_aliases_are_refused() -> None:
    laughs = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    laughs += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases counted" in fault("\n".join(laughs))


def test_a_long_chain_of_aliases_is_too_deep() -> None:
    chain = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000)]
    assert "nested deeper" in fault("\n".join(chain))


def test_a_huge_file_is_refused_unread() -> None:
    assert "larger than 20 MB" in fault(b"#" * 20_000_001)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(), "does not exist"),
        (IsADirectoryError(), "is a folder"),
        (PermissionError(13, "Permission denied"), "cannot be read: Permission denied"),
    ],
)
def test_a_file_that_cannot_be_read(error: OSError, words: str) -> None:
    def refuse(path: str) -> bytes:
        raise error

    with pytest.raises(WorkflowErrors, match=words):
        read_config("c.yaml", refuse)


def test_each_key_knows_its_place() -> None:
    text = "model:\n  model_name: x\ntasks:\n  - task_name: t\n    eval_kwargs: {a: 1}\n"
    file = read_config_file("c.yaml", lambda path: text.encode())
    assert str(file.where("model.model_name")) == "c.yaml:2:3"
    assert file.where("model.model_name").source == "  model_name: x"
    assert str(file.where("tasks[0].eval_kwargs.a")) == "c.yaml:5:19"
    assert str(file.where("not.there")) == "c.yaml"


@given(st.binary(max_size=200))
def test_no_bytes_end_in_a_traceback(data: bytes) -> None:
    with contextlib.suppress(WorkflowErrors):
        flatten(read(data))


# ---------------------------------------------------------------------- meaning


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("training: {learning_rate: 1e-4}", "training:\n  learning_rate: 0.0001  # tuned\n"),
        ("training: {learning_rate: 1.0e-4}", "training: {learning_rate: .0001}"),
        ("model: {model_name: x, compile: true}", "model: {compile: yes, model_name: 'x'}"),
        ("training: {max_grad_norm: 1.0}", "training: {max_grad_norm: 1}"),
        ("training: {warmup_ratio: 0.0}", "training: {warmup_ratio: -0.0}"),
        ("training: {max_steps: 5, run_name: a}", "training: {max_steps: 5, run_name: b}"),
        ("training: {logging_steps: 1}", "training: {logging_steps: 50}"),
        ("training: {output_dir: a}", "training: {output_dir: b}"),
        ("training: {enable_wandb: true}", "training: {enable_wandb: false}"),
        ("training: {telemetry: {telemetry_dir: a}}", "training: {telemetry: {}}"),
    ],
)
def test_edits_without_a_meaning_change_nothing(one: str, other: str) -> None:
    assert json.dumps(fingerprinted(one)) == json.dumps(fingerprinted(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("training: {learning_rate: 1e-4}", "training: {learning_rate: 1.1e-4}"),
        ("training: {use_peft: true}", "training: {use_peft: 1}"),
        ("training: {seed: 1}", "training: {}"),
        ("model: {model_kwargs: {x: '5'}}", "model: {model_kwargs: {x: 5}}"),
        ("model: {model_kwargs: {}}", "model: {model_kwargs: null}"),
        ("data: {train: {datasets: [a, b]}}", "data: {train: {datasets: [b, a]}}"),
        ("model: {model_kwargs: {a.b: 1}}", "model: {model_kwargs: {a: {b: 1}}}"),
        ("training: {save_steps: 5}", "training: {save_steps: 10}"),
    ],
)
def test_edits_with_a_meaning_count(one: str, other: str) -> None:
    assert json.dumps(fingerprinted(one)) != json.dumps(fingerprinted(other))


def test_an_edit_in_the_file_or_in_args_is_the_same() -> None:
    text = "training: {learning_rate: 1e-3, max_steps: 5}"
    edited = "training: {learning_rate: 3e-4, max_steps: 5}"
    assert fingerprinted(text, ("training.learning_rate=0.0003",)) == fingerprinted(edited)


def test_flat_keys() -> None:
    config: dict[Any, Any] = {
        "a": {"b": [{"c": 1.5}, []], "d": {}},
        "e": [1, [2]],
        7: None,
        "x.y": True,
    }
    assert flatten(config) == {
        "a.b[0].c": 1.5,
        "a.b[1]": [],
        "a.d": {},
        "e[0]": 1,
        "e[1][0]": 2,
        "7": None,
        '"x.y"': True,
    }
    assert flatten({}) == {}


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (1.0, 1),
        (1e22, 1e22),
        (True, True),
        (float("nan"), ".nan"),
        (float("-inf"), "-.inf"),
        ("1", "1"),
    ],
)
def test_canonical_values(value: Any, form: Any) -> None:
    assert repr(canonical(value)) == repr(form)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_equal_floats_have_one_form(number: float) -> None:
    assert canonical(number) == number
    assert json.dumps(canonical(float(repr(number)))) == json.dumps(canonical(number))


def test_ignore_and_also_adjust_what_counts() -> None:
    flat = flatten(
        read("training: {seed: 1, run_name: x, max_steps: 2}\nmodel: {model_kwargs: {a: {b: 1}}}")
    )
    assert set(counted(flat, TRAIN)) == {
        "model.model_kwargs.a.b",
        "training.max_steps",
        "training.seed",
    }
    assert set(counted(flat, TRAIN, ignore=["training.s*", "model.model_kwargs"])) == {
        "training.max_steps"
    }
    assert "training.run_name" in counted(flat, TRAIN, also=["training.run_name"])
    assert "training.seed" in counted(flat, TRAIN, ignore=["training.*"], also=["training.seed"])


def test_an_api_key_in_a_config_never_counts() -> None:
    text = "remote_params: {api_key: sk-1, api_url: u}\ninput_path: x"
    assert fingerprinted(text, name="infer") == {"input_path": "x", "remote_params.api_url": "u"}


# ---------------------------------------------------------------------- merging


def merged(text: str, *args: str, name: str = "train") -> dict[str, Any]:
    return merge(read(text), args, verb(name))[0]


def test_overrides_are_typed_as_yaml() -> None:
    assert merged(
        "training: {a: 1}",
        "training.lr=1e-4",
        "training.flag=true",
        "training.none=null",
        "training.empty=",
        "training.quoted='5'",
        "peft.mods=[q_proj,v_proj]",
        "data.train.kw={x: 1}",
    ) == {
        "training": {
            "a": 1,
            "lr": 0.0001,
            "flag": True,
            "none": None,
            "empty": None,
            "quoted": "5",
        },
        "peft": {"mods": ["q_proj", "v_proj"]},
        "data": {"train": {"kw": {"x": 1}}},
    }


def test_indexes_in_brackets_and_behind_dots() -> None:
    text = "tasks: [{n: 1}, {n: 2}]"
    assert merged(text, "tasks[1].n=5", "tasks.0.n=4") == {"tasks": [{"n": 4}, {"n": 5}]}


def test_the_last_override_wins_and_the_file_is_untouched() -> None:
    config = read("a: {b: 1, c: {d: 1}}")
    after, _ = merge(config, ["a.b=2", "a.b=3", "a.c={e: 2}"], TRAIN)
    assert after == {"a": {"b": 3, "c": {"d": 1, "e": 2}}}
    assert config == {"a": {"b": 1, "c": {"d": 1}}}


@given(st.text(alphabet="aonyeslutrf0123456789.eE+-_/~: [],{}'#x", max_size=12))
def test_values_are_typed_as_in_a_file(text: str) -> None:
    """Most overrides are read without a parser; it must make no difference."""
    try:
        in_file = read_config("c.yaml", lambda path: b"k: [" + text.encode() + b"\n]")["k"]
    except WorkflowErrors:
        return
    if len(in_file) == 1 and not set(text) & set("[]{},#:"):
        assert repr(value_of(text)) == repr(in_file[0])


def test_a_deep_or_multiplying_value_is_refused() -> None:
    for value in ("[" * 50_000, "&a [*a]"):
        with pytest.raises(FlowError, match="not valid YAML"):
            merge({}, [f"x={value}"], TRAIN)


def test_an_index_beyond_all_reason_is_refused() -> None:
    with pytest.raises(FlowError, match="no entry 999999999"):
        merge({}, ["tasks[999999999].x=1"], TRAIN)
    assert merge({}, ["tasks[1].x=1"], TRAIN)[0] == {"tasks": [None, {"x": 1}]}


def test_odd_digits_are_no_index() -> None:
    merge({}, ["tasks[\u00b2]=1", "tasks.\u0663=1"], TRAIN, [])


def test_lists_are_replaced() -> None:
    assert merged("a: [1, 2, 3]", "a=[9]") == {"a": [9]}


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("tasks[2].n=1", 'no entry 2 in the list "tasks" of the config; it has 2'),
        ("tasks.name=1", '"tasks" is a list in the config, expected an index, got "name"'),
        ("a=[1", 'the value of "a" is not valid YAML'),
    ],
)
def test_what_oumi_could_not_merge_is_said(arg: str, words: str) -> None:
    found: list[ArgProblem] = []
    merge(read("tasks: [{}, {}]"), ["x=1", arg, "y=2"], TRAIN, found)
    (problem,) = found
    assert words in problem.message
    assert problem.arg == f"--{arg}"
    with pytest.raises(FlowError, match="args: "):
        merge(read("tasks: [{}, {}]"), [arg], TRAIN)


def test_options_of_the_verb_are_no_config_keys() -> None:
    config, others = merge(
        read("judge_params: {prompt_template: x}"),
        ["input=data/in.jsonl", "--raw", "--output=x.jsonl", "inference_config.engine=NATIVE"],
        verb("judge"),
    )
    # --raw only prints, and --output is the place.
    assert others == ["--input=data/in.jsonl"]
    assert config["inference_config"] == {"engine": "NATIVE"}


def test_quantizes_own_options_set_config_keys() -> None:
    text = "model: {model_name: a}\nmethod: bnb_8bit"
    after, others = merge(read(text), ["--model=out/train", "--method=awq_q4_0"], verb("quantize"))
    # oumi cannot tell that value from the option's default, and ignores it.
    assert after == {"model": {"model_name": "out/train"}, "method": "bnb_8bit"}
    assert others == []


def test_infers_own_options_count() -> None:
    _, others = merge({}, ["--system-prompt=Be brief.", "-v"], verb("infer"))
    assert others == ["--system-prompt=Be brief."]


# ---------------------------------------------------------------------- inputs and places

TRAIN_CONFIG = """
model: {model_name: tiny-model, tokenizer_name: tok, adapter_model: null}
data:
  train:
    datasets:
      - {dataset_name: text_sft_jsonl, dataset_path: data/train.jsonl}
      - {dataset_name: other, dataset_kwargs: {images: {folder: img}}}
training: {output_dir: out/train, gkd: {teacher_model_name_or_path: out/teacher}}
deepspeed: {deepspeed_config_path: ds.json}
"""


def test_keys_that_may_name_an_input() -> None:
    assert dict(input_values(flatten(read(TRAIN_CONFIG)), TRAIN)) == {
        "model.model_name": "tiny-model",
        "model.tokenizer_name": "tok",
        "data.train.datasets[0].dataset_name": "text_sft_jsonl",
        "data.train.datasets[0].dataset_path": "data/train.jsonl",
        "data.train.datasets[1].dataset_name": "other",
        "data.train.datasets[1].dataset_kwargs.images.folder": "img",
        "training.gkd.teacher_model_name_or_path": "out/teacher",
        "deepspeed.deepspeed_config_path": "ds.json",
    }


@pytest.mark.parametrize(
    ("name", "text", "args", "found"),
    [
        ("infer", "input_path: p.jsonl", [], {"input_path": "p.jsonl"}),
        ("judge", "{}", ["--input=in.jsonl"], {"--input": "in.jsonl"}),
        (
            "synth",
            "strategy_params: {input_data: [{path: d.jsonl}], input_documents: [{path: x.pdf}]}",
            [],
            {
                "strategy_params.input_data[0].path": "d.jsonl",
                "strategy_params.input_documents[0].path": "x.pdf",
            },
        ),
        (
            "evaluate",
            "tasks: [{task_name: t, eval_kwargs: {data: {file: d.jsonl}}}]",
            [],
            {"tasks[0].eval_kwargs.data.file": "d.jsonl"},
        ),
        ("quantize", "{}", ["model=out/t"], {"model.model_name": "out/t"}),
        (
            "tune",
            "tuning: {fixed_training_params: {resume_from_checkpoint: ck, max_steps: 5}}",
            [],
            {"tuning.fixed_training_params.resume_from_checkpoint": "ck"},
        ),
    ],
)
def test_inputs_of_each_verb(name: str, text: str, args: list[str], found: dict[str, str]) -> None:
    config, others = merge(read(text), args, verb(name))
    assert dict(input_values(flatten(config), verb(name), others)) == found


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("train", "training: {output_dir: out/t}", "out/t"),
        ("train", "{}", None),
        ("train", "training: null", None),
        ("tune", "tuning: {output_dir: out/u}", "out/u"),
        ("evaluate", "output_dir: out/e", "out/e"),
        ("infer", "output_path: out/p.jsonl", "out/p.jsonl"),
        ("quantize", "output_path: out/q", "out/q"),
        ("judge", "judge_params: {}", None),
    ],
)
def test_the_place_that_a_config_names(name: str, text: str, place: str | None) -> None:
    assert own_place(read(text), verb(name)) == place


# ---------------------------------------------------------------------- unknown keys in files


def test_unknown_keys_of_a_file_are_told_with_their_place(tmp_path: Path) -> None:
    table = KeyTable.make(
        ["training.learning_rate", "data.train.datasets[*].dataset_path", "model.model_name"],
        ["model.model_kwargs"],
    )
    text = (
        "training:\n  learning_rte: 1\n"
        "data: {train: {datasets: [{dataset_path: x}, {dataset_pth: y}]}}\n"
        "model: {model_kwargs: {any: {thing: 1}}}\nmodle: {model_name: x}\n"
    )
    file = read_config_file("c.yaml", lambda path: text.encode())
    found = OumiKeys("0.9", {"train": table}).problems_of("train", file.values, file.places)
    assert [str(problem.where) for problem in found] == ["c.yaml:2:3", "c.yaml:3:47", "c.yaml:5:1"]
    assert [(problem.message, problem.hint) for problem in found] == [
        (
            f'unknown key "{slip}" of oumi train',
            f'did you mean "{near}"?',
        )
        for slip, near in (
            ("training.learning_rte", "training.learning_rate"),
            ("data.train.datasets[1].dataset_pth", "data.train.datasets[1].dataset_path"),
            ("modle", "model"),
        )
    ]
