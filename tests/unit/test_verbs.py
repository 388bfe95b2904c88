"""The verb table, the commands it makes, and what it takes for a result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.errors import FlowError
from oumi_flow.model import Command, Counts, Job
from oumi_flow.verbs import (
    VERBS,
    VerbSpec,
    build_command,
    counted_path,
    done,
    known_verbs,
    model_file,
    normal_args,
    publish_results,
    shell_command,
    teaches,
    verb,
    without_shell,
)
from oumi_flow.verbs.keys import KeyTable, OumiKeys
from oumi_flow.verbs.places import choose_place, inside, to_workdir

CAPTURES = Path(__file__).parents[1] / "data" / "captures"


def job_of(verb_name: str, place: Path, config: dict[str, Any] | None = None) -> Job:
    return Job(
        name="j",
        verb=verb_name,
        folder=str(place),
        place=str(place),
        command=Command(()),
        parts={"config": config or {}},
        fingerprint="",
    )


# ---------------------------------------------------------------------- the table


def test_seven_oumi_verbs_and_shell_with_their_aliases() -> None:
    assert [spec.name for spec in VERBS] == [
        "train",
        "tune",
        "evaluate",
        "infer",
        "quantize",
        "synth",
        "judge",
        "shell",
    ]
    assert verb("eval") is verb("evaluate")
    assert verb("synthesize") is verb("synth")
    assert "eval" in known_verbs()


def test_an_unknown_verb_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        verb("trian")


def test_a_plug_in_adds_a_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "extra_verb.py").write_text(
        "from oumi_flow.verbs import VerbSpec\n"
        "ROW = VerbSpec(name='distill', argv=('distill',), output_key='output_dir')\n"
    )
    info = tmp_path / "extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[oumi_flow.verbs]\ndistill = extra_verb:ROW\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = verb("distill")
    assert build_command(spec, oumi=("oumi",), config="c.yaml", args=(), redirect="") == (
        "oumi",
        "distill",
        "-c",
        "c.yaml",
    )
    assert "distill" in known_verbs()


@pytest.mark.parametrize("spec", VERBS, ids=lambda spec: spec.name)
def test_each_ignored_key_says_why(spec: VerbSpec) -> None:
    for pattern, why in spec.ignored_keys.items():
        assert why, pattern


@pytest.mark.parametrize(
    "key",
    [
        "training.save_steps",
        "training.learning_rate",
        "training.seed",
        "training.resume_from_checkpoint",
        "training.per_device_eval_batch_size",
        "training.eval_steps",
        "training.dataloader_num_workers",
        "model.model_name",
    ],
)
def test_keys_that_may_change_a_model_count(key: str) -> None:
    assert key not in verb("train").ignored_keys


# ---------------------------------------------------------------------- commands


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train", ["train", "-c", "c.yaml", "--training.output_dir=D"]),
        ("tune", ["tune", "-c", "c.yaml", "--tuning.output_dir=D"]),
        ("evaluate", ["evaluate", "-c", "c.yaml", "--output_dir=D"]),
        ("infer", ["infer", "-c", "c.yaml", "--output_path=D/predictions.jsonl"]),
        ("quantize", ["quantize", "-c", "c.yaml", "--output=D/model"]),
        ("synth", ["synth", "-c", "c.yaml", "--output_path=D/data.jsonl"]),
        ("judge", ["judge", "dataset", "-c", "c.yaml", "--output=D/judgments.jsonl"]),
    ],
)
def test_each_verb_writes_to_the_jobs_own_folder(name: str, words: list[str]) -> None:
    spec = verb(name)
    placed = choose_place(spec, folder="D", own_place="elsewhere", args=(), outputs=())
    command = build_command(
        spec, oumi=("oumi",), config="c.yaml", args=(), redirect=placed.redirect
    )
    assert list(command) == ["oumi", *words]


def test_judge_has_two_modes() -> None:
    command = build_command(
        verb("judge"),
        oumi=("python", "-m", "oumi"),
        config="c",
        args=["input=a b.jsonl"],
        redirect="",
        mode="conversations",
    )
    assert command == (
        "python",
        "-m",
        "oumi",
        "judge",
        "conversations",
        "-c",
        "c",
        "--input=a b.jsonl",
    )


def test_the_resume_flag_comes_last() -> None:
    command = build_command(
        verb("train"),
        oumi=("oumi",),
        config="c",
        args=["training.max_steps=5"],
        redirect="--training.output_dir=D",
        extra=["--training.resume_from_checkpoint=D/checkpoint-8"],
    )
    assert command[-3:] == (
        "--training.max_steps=5",
        "--training.output_dir=D",
        "--training.resume_from_checkpoint=D/checkpoint-8",
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["training.max_steps=5"], ["--training.max_steps=5"]),
        (["--training.max_steps=5"], ["--training.max_steps=5"]),
        (["--training.max_steps", "5"], ["--training.max_steps=5"]),
        (["--training.max_steps 5"], ["--training.max_steps=5"]),
        (["--training.run_name a=b c"], ["--training.run_name=a=b c"]),
        (["training.max_steps = 5"], ["--training.max_steps=5"]),
        (["training.max_steps", "-1"], ["--training.max_steps=-1"]),
        (["training.run_name=a=b c"], ["--training.run_name=a=b c"]),
        (["training.run_name= x "], ["--training.run_name=x"]),
        (["data.train.datasets[0].dataset_path=x"], ["--data.train.datasets[0].dataset_path=x"]),
        (["-v"], ["--verbose"]),
        (["----verbose"], ["--verbose"]),
        (["--verbose", "--training.seed", "1"], ["--verbose", "--training.seed=1"]),
        (["-log", "DEBUG"], ["--log-level=DEBUG"]),
        # oumi has a pair of flags for this one and refuses a value.
        (["model.trust_remote_code=true"], ["--model.trust_remote_code"]),
        (["model.trust_remote_code=false"], ["--no-model.trust_remote_code"]),
        (["--model.trust_remote_code"], ["--model.trust_remote_code"]),
        (["--no-model.trust_remote_code"], ["--no-model.trust_remote_code"]),
    ],
)
def test_args_become_key_equals_value(given: list[str], words: list[str]) -> None:
    assert list(normal_args(given, verb("train"))) == words
    assert list(normal_args(words, verb("train"))) == words


@pytest.mark.parametrize(
    "given",
    [
        ["--training.max_steps"],
        ["training.max_steps", "--verbose"],
        ["-x", "1"],
        # These would run another config than the one that was looked at, or nothing.
        ["--config=other.yaml"],
        ["-c", "other.yaml"],
        ["config=other.yaml"],
        ["--list"],
        ["--help"],
    ],
)
def test_args_that_oumi_would_refuse_are_refused(given: list[str]) -> None:
    with pytest.raises(FlowError, match="args: "):
        normal_args(given, verb("train"))


# ---------------------------------------------------------------------- shell


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of two programs: `tool` and `bash`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("tool", "bash", "echo", "time"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.parametrize("text", ["tool", "tool --fast a/b.txt x=1", " tool  a\t5% "])
def test_plain_words_start_without_a_shell(programs: Path, text: str) -> None:
    assert shell_command(text) == tuple(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "tool 'a b'",
        "tool > out",
        "tool | tool",
        "tool $X",
        "tool *.txt",
        "tool ~/x",
        "tool\ntool",
        "tool &",
        "tool; tool",
        "tool {a,b}",
        "tool # why",
        "X=1 tool",
        "absent --x",
        "./tool",
        "echo hello",  # a builtin, whatever lies on PATH
        "time tool",
        "exit 3",
        "",
    ],
)
def test_anything_else_is_one_argument_of_bash(programs: Path, text: str) -> None:
    assert shell_command(text) == ("bash", "-euo", "pipefail", "-c", text)


def test_a_list_starts_as_it_is(programs: Path) -> None:
    assert shell_command(["echo", "a b", "$X"]) == ("echo", "a b", "$X")


def test_without_bash_sh_takes_the_text(programs: Path) -> None:
    (programs / "bash").unlink()
    assert shell_command("tool | tool") == ("sh", "-eu", "-c", "tool | tool")


def direct(text: str) -> tuple[object, ...] | None:
    return without_shell(("bash", "-euo", "pipefail", "-c", text))


@pytest.mark.parametrize(
    ("text", "words", "files"),
    [
        ("tool a > out", "tool a", [(1, ">", "out")]),
        ("tool >out", "tool", [(1, ">", "out")]),
        (" tool a=1\t>> d/out <in ", "tool a=1", [(1, ">>", "d/out"), (0, "<", "in")]),
        ("tool 2 2>err", "tool 2", [(2, ">", "err")]),
        ("tool > out 2>&1", "tool", [(1, ">", "out"), (2, "&", "1")]),
        ("tool 2>&1 2>> /dev/null", "tool", [(2, "&", "1"), (2, ">>", "/dev/null")]),
        ("echoes a b", "echoes a b", []),
    ],
)
def test_words_and_files_need_no_shell(text: str, words: str, files: list[object]) -> None:
    assert direct(text) == (tuple(words.split()), tuple(files))


@pytest.mark.parametrize(
    "text",
    [
        "tool > $OUT",
        "tool > 'a b'",
        "tool > a b",
        "tool>out",
        "tool 3>out",
        "tool &> out",
        "tool >| out",
        "tool <<< a",
        "tool <<a",
        "tool > /dev/tcp/localhost/80",
        "tool > /dev/stdout",
        "tool > /proc/self/fd/3",
        "tool > ~/out",
        "> out",
        "X=1 tool > out",
        "tool | tool > out",
        "tool\ntool > out",
        "tool > out\ntool",
        "tool > out &",
        "cd > out",
        "test a > out",
        "printf a > out",
        "echo -n a",
        "echo a",
        "true > out",
        "tool a\f",
        "\u2003tool > out",
        "",
    ],
)
def test_what_only_a_shell_understands_is_left_to_it(text: str) -> None:
    assert direct(text) is None


def test_a_shell_that_was_taught_words_is_asked() -> None:
    assert teaches({"PATH": "", "BASH_ENV": "rc"})
    assert teaches({"BASH_FUNC_tool%%": "() { :; }"})
    assert teaches({"SHELLOPTS": "noclobber"})
    assert teaches({"BASHOPTS": "nullglob"})
    assert not teaches({"PATH": "", "BASH": "x"})
    assert without_shell(("tool", ">", "out")) is None  # a list is no text


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("text", ["false | true", "echo $NOT_SET_ANYWHERE", "false; echo on"])
def test_a_text_fails_at_its_first_failure(text: str) -> None:
    assert subprocess.run(shell_command(text), capture_output=True, check=False).returncode != 0


# ---------------------------------------------------------------------- places


def test_the_configs_own_place_is_kept_for_a_promised_output_inside_it() -> None:
    spec = verb("train")
    kept = choose_place(
        spec, folder="D", own_place="out/t", args=(), outputs=["./out/t/model.safetensors"]
    )
    assert (kept.place, kept.redirect, kept.kept) == ("out/t", "", "outputs")
    other = choose_place(spec, folder="D", own_place="out/t", args=(), outputs=["out/tt/x"])
    assert (other.place, other.kept) == ("D", "")


def test_the_output_key_in_args_keeps_that_place() -> None:
    kept = choose_place(
        verb("infer"),
        folder="D",
        own_place="x.jsonl",
        args=["output_path=../out/p.jsonl"],
        outputs=(),
        workdir="sub",
    )
    assert kept.place == "out/p.jsonl"
    assert kept.output_dir == "out"
    assert (kept.redirect, kept.kept) == ("", "args")


def test_quantize_is_always_told_its_place() -> None:
    """oumi ignores `output_path` of that config, so a kept place is passed all the same."""
    kept = choose_place(verb("quantize"), folder="D", own_place="out/q", args=(), outputs=["out/q"])
    assert kept.redirect == "--output=out/q"
    # Any dot in the last part would send it to the parent, so ours has none.
    own = choose_place(verb("quantize"), folder="D/q-0.5", own_place=None, args=(), outputs=())
    assert own.place == "D/q-0.5/model"
    assert own.output_dir == "D/q-0.5/model"


def test_redirects_are_written_for_the_workdir() -> None:
    placed = choose_place(
        verb("train"), folder="out/w/t", own_place=None, args=(), outputs=(), workdir="a/b"
    )
    assert placed.place == "out/w/t"
    assert placed.redirect == "--training.output_dir=../../out/w/t"
    assert to_workdir("out", "/abs") == os.path.abspath("out")
    assert to_workdir("/x", "a") == "/x"


def test_inside_goes_by_whole_names() -> None:
    assert inside("a/b", "a")
    assert inside("a", "a")
    assert not inside("ab", "a")


# ---------------------------------------------------------------------- model files


@pytest.mark.parametrize(
    "path",
    [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "pytorch_model.bin",
        "config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "1_Pooling/config.json",
    ],
)
def test_model_files(path: str) -> None:
    assert model_file(path)


@pytest.mark.parametrize(
    "path",
    [
        "checkpoint-10/model.safetensors",
        "logs/rank_0000.log",
        "telemetry/world_size.json",
        "tensorboard/events.out.tfevents.1",
        "events.out.tfevents.1.host.2",
        "runs/x",
        "wandb/run/files/x.json",
        "train.log",
        "job.log.1",
        "metrics_rank0003.jsonl",
        "trainer_state.json",
        "training_args.bin",
        "optimizer.pt",
        "optimizer_0/__0_0.distcp",
        "scheduler.pt",
        "scaler.pt",
        "rng_state.pth",
        "rng_state_0.pth",
        "README.md",
        ".oumi-flow/done.json",
    ],
)
def test_no_model_files(path: str) -> None:
    assert not model_file(path)


# ---------------------------------------------------------------------- done marks


def test_a_training_is_done_with_weights_at_the_top(tmp_path: Path) -> None:
    job, spec = job_of("train", tmp_path), verb("train")
    (tmp_path / "training_args.bin").touch()
    (tmp_path / "config.json").touch()
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "model.safetensors").touch()
    assert done(spec, job, str(tmp_path), 0) == f"did not write {tmp_path}/*.safetensors"
    (tmp_path / "adapter_model.safetensors").touch()
    assert done(spec, job, str(tmp_path), 0) == ""


def test_without_a_final_model_the_checkpoints_are_the_result(tmp_path: Path) -> None:
    job = job_of("train", tmp_path, {"training.save_final_model": False})
    assert done(verb("train"), job, str(tmp_path), 0) != ""
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "model.safetensors").touch()
    assert done(verb("train"), job, str(tmp_path), 0) == ""


@pytest.mark.parametrize(
    ("name", "config", "path"),
    [
        ("train", {}, "D"),
        ("train", {"training": {"save_final_model": True}}, "D"),
        ("train", {"training": {"save_final_model": False}}, "D/checkpoint-*"),
        ("train", {"training.save_final_model": False}, "D/checkpoint-*"),
        ("train", {"training": None}, "D"),
        ("evaluate", {}, "D/results.json"),
        ("infer", {"training": {"save_final_model": False}}, "D"),
    ],
)
def test_what_others_count_of_a_place(name: str, config: dict[str, Any], path: str) -> None:
    assert counted_path(verb(name), config, "D") == path


@pytest.mark.parametrize(
    ("name", "mark"), [("tune", "trials_results.csv"), ("quantize", "model.safetensors")]
)
def test_other_folders_have_their_mark(tmp_path: Path, name: str, mark: str) -> None:
    assert done(verb(name), job_of(name, tmp_path), str(tmp_path), 0).startswith("did not write")
    (tmp_path / mark).touch()
    assert done(verb(name), job_of(name, tmp_path), str(tmp_path), 0) == ""


@pytest.mark.parametrize("name", ["infer", "synth", "judge"])
def test_a_verb_of_one_file_is_done_with_it(tmp_path: Path, name: str) -> None:
    place = tmp_path / "x.jsonl"
    assert done(verb(name), job_of(name, place), str(place), 0) == f"did not write {place}"
    place.touch()
    assert done(verb(name), job_of(name, place), str(place), 0) == ""


def test_shell_has_no_mark(tmp_path: Path) -> None:
    assert done(verb("shell"), job_of("shell", tmp_path), str(tmp_path), 0) == ""


def result(place: Path, name: str, made: float, results: Any) -> None:
    path = place / name / "task_result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"results": results, "start_time": "x", "duration_sec": 3}))
    os.utime(path, (made, made))


def test_an_evaluation_is_done_with_a_new_result_for_each_task(tmp_path: Path) -> None:
    config = {"tasks[0].task_name": "a", "tasks[0].num_samples": 3, "tasks[1].task_name": "b"}
    job, spec = job_of("evaluate", tmp_path, config), verb("evaluate")
    result(tmp_path, "custom_1", 1000, {"a": {"acc": 1}})
    result(tmp_path, "custom_2", 2000, {"a": {"acc": 1}})
    assert "1 of 2 tasks" in done(spec, job, str(tmp_path), 1999)
    result(tmp_path, "lm_harness_2", 2001, {"b": {"acc": 1}})
    assert done(spec, job, str(tmp_path), 1999) == ""


def test_published_results_hold_numbers_only(tmp_path: Path) -> None:
    for number, name in enumerate(("custom", "lm")):
        folder = tmp_path / f"{name}_{number}"
        folder.mkdir()
        shutil.copy(CAPTURES / f"task_result_{name}.json", folder / "task_result.json")
    published = publish_results(str(tmp_path), 0)
    assert published == {
        "toy_length": {"mean_length": 3.25, "num_samples": 4},
        "toy_qa": {"acc,none": 1.0, "acc_stderr,none": 0.0},
    }
    assert json.loads((tmp_path / "results.json").read_text()) == published


def test_the_same_numbers_publish_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    result(one, "x_1", 1000, {"b": {"y": 1.5, "x": 2}, "a": {"z": True, "n": float("nan")}})
    result(two, "x_7", 9000, {"a": {"n": float("nan")}, "b": {"x": 2, "y": 1.5, "alias": "b"}})
    for folder in (one, two):
        publish_results(str(folder), 0)
    text = (one / "results.json").read_bytes()
    assert text == (two / "results.json").read_bytes()
    assert json.loads(text) == {"a": {"n": None}, "b": {"x": 2, "y": 1.5}}


def test_the_newest_result_of_a_task_is_published(tmp_path: Path) -> None:
    result(tmp_path, "lm_9", 3000, {"t": {"acc": 0.9}})
    result(tmp_path, "lm_8", 4000, {"t": {"acc": 0.8}})
    assert publish_results(str(tmp_path), 0) == {"t": {"acc": 0.8}}
    # Both belong to an attempt that started before them: the task was given twice.
    assert publish_results(str(tmp_path), 2500) == {"t": {"acc": 0.9}, "t#2": {"acc": 0.8}}


def test_garbage_beside_the_results_is_passed_over(tmp_path: Path) -> None:
    result(tmp_path, "lm_1", 1000, {"t": {"acc": 1, "group": {"deep": 2}}, "n": 5})
    (tmp_path / "lm_2").mkdir()
    (tmp_path / "lm_2" / "task_result.json").write_text("{")
    (tmp_path / "stray").touch()
    assert publish_results(str(tmp_path), 0) == {
        "n": {"value": 5},
        "t": {"acc": 1, "group.deep": 2},
    }


def test_what_counts_of_each_verb() -> None:
    assert {spec.name: spec.counts for spec in VERBS if spec.counts is not Counts.ALL} == {
        "train": Counts.MODEL,
        "tune": Counts.TRIALS,
        "quantize": Counts.MODEL,
    }


# ---------------------------------------------------------------------- known keys

KEYS = OumiKeys(
    "0.9",
    {
        "train": KeyTable.make(
            [
                "training.num_train_epochs",
                "training.learning_rate",
                "data.train.datasets",
                "data.train.datasets[*].dataset_path",
                "model.model_name",
            ],
            ["training.trainer_kwargs"],
            ["--verbose", "-v", "--config"],
        ),
        "judge": KeyTable.make(["judge_params.prompt_template"], [], ["--input", "--output"]),
    },
)


@pytest.mark.parametrize(
    ("arg", "nearest"),
    [
        ("training.num_epochs=3", "training.num_train_epochs"),
        ("--learning_rate=1", "training.learning_rate"),
        ("data.train.datasets[2].dataset_pth=x", "data.train.datasets[2].dataset_path"),
        ("training.learning_rate.x=1", ""),
        ("config=other.yaml", ""),
        ("zzz=1", ""),
    ],
)
def test_an_unknown_key_names_the_nearest(arg: str, nearest: str) -> None:
    key = arg.split("=")[0].lstrip("-")
    hint = f' (did you mean "{nearest}"?)' if nearest else ""
    said = KEYS.check("train", arg)
    assert said.startswith(f'unknown key "{key}" of oumi train')
    if nearest:
        assert said.endswith(hint)


@pytest.mark.parametrize(
    "arg",
    [
        "training.learning_rate=1",
        "--data.train.datasets.0.dataset_path=x",
        "data.train.datasets[0]={}",
        "training={}",
        "training.trainer_kwargs.anything.at[3].all=1",
        "--verbose",
    ],
)
def test_known_keys_pass(arg: str) -> None:
    assert KEYS.check("train", arg) == ""


def test_a_verb_that_was_not_asked_about_is_not_checked() -> None:
    assert KEYS.check("infer", "x.y=1") == ""


def test_a_slip_in_an_option_names_the_option() -> None:
    assert 'did you mean "output"?' in KEYS.check("judge", "--output-file=x")


def test_keys_survive_json() -> None:
    assert OumiKeys.from_json(json.loads(json.dumps(KEYS.to_json()))) == KEYS


def test_import_of_verbs_is_cheap() -> None:
    program = """
import sys, oumi_flow.verbs
heavy = ("yaml", "subprocess", "asyncio", "importlib.metadata", "jsonschema", "networkx", "rich")
print([name for name in heavy if name in sys.modules])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"
