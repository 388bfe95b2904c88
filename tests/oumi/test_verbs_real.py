"""Each row of the verb table against the real oumi: what it takes, writes, and repeats."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oumi_flow import metrics
from oumi_flow.diagnose import diagnose
from oumi_flow.load.configs import counted, flatten, merge, read_config
from oumi_flow.oumi_cli import ask_keys, cache_folder, oumi_version
from oumi_flow.progress import follower
from oumi_flow.verbs import VERBS, VerbSpec, done, model_file, publish_results, verb
from oumi_flow.verbs.keys import OumiKeys, pattern_of

if TYPE_CHECKING:
    from tests.oumi.conftest import Bench, Ran

VERBS_OF_OUMI = [spec for spec in VERBS if not spec.is_shell]
STEPS = ("training.max_steps=4", "training.save_steps=2")
# All of them keys that the table says cannot change a model.
REPORTS = (
    "training.run_name=another",
    "training.logging_steps=3",
    "training.logging_first_step=true",
    "training.log_level=warning",
    "training.dep_log_level=error",
    "training.log_model_summary=true",
    "training.enable_tensorboard=false",
    "training.telemetry.collect_telemetry_for_all_ranks=true",
    "training.try_resume_from_last_checkpoint=true",
    "training.nccl_default_timeout_minutes=7",
    "--verbose",
    "--log-level=WARNING",
)


def model_digests(folder: Path) -> dict[str, str]:
    """The digest of each model file."""
    return {
        path: hashlib.sha256((folder / path).read_bytes()).hexdigest()
        for path in sorted(
            os.path.relpath(os.path.join(parent, name), folder)
            for parent, _, names in os.walk(folder)
            for name in names
        )
        if model_file(path)
    }


def succeeded(ran: Ran) -> None:
    assert ran.code == 0, "\n".join(ran.text.splitlines()[-30:])
    assert done(verb(ran.job.verb), ran.job, ran.job.place, 1.0) == ""


# ---------------------------------------------------------------------- keys


@pytest.fixture(scope="session")
def keys(oumi: tuple[str, ...], oumi_env: Mapping[str, str]) -> OumiKeys:
    found = ask_keys(oumi, cache_folder(oumi_env))
    assert found is not None
    return found


def test_the_version_is_found(oumi: tuple[str, ...], keys: OumiKeys) -> None:
    assert oumi_version(oumi).startswith("0.")
    assert keys.version == oumi_version(oumi)


def known(pattern: str, keys: OumiKeys, name: str) -> bool:
    """Whether a pattern of the table names at least one key of that verb's config class."""
    table = keys.tables[name]
    text = pattern.removesuffix(".**")
    if "*" not in text.replace("[*]", ""):
        return table.knows(text)
    before, _, after = text.partition(".*[*]")
    return any(key.startswith(f"{before}.") and key.endswith(f"[*]{after}") for key in table.keys)


@pytest.mark.parametrize("spec", VERBS_OF_OUMI, ids=lambda spec: spec.name)
def test_oumi_knows_each_key_and_option_of_the_table(spec: VerbSpec, keys: OumiKeys) -> None:
    table = keys.tables[spec.name]
    named = [*spec.input_keys, *spec.ignored_keys]
    named += [key for key in (spec.output_key, spec.resume, spec.config_place_key) if key]
    strange = [
        key
        for key in named
        if key not in table.options
        and f"--{key}" not in table.options
        and not known(key, keys, spec.name)
    ]
    assert strange == []
    for option in spec.cli_options:
        words = {option.name, *option.aliases, *filter(None, [option.negative])}
        assert words <= table.options


@pytest.mark.parametrize("spec", VERBS_OF_OUMI, ids=lambda spec: spec.name)
def test_the_table_knows_each_option_that_is_no_config_key(spec: VerbSpec, keys: OumiKeys) -> None:
    for word in keys.tables[spec.name].options:
        assert spec.option(word) is not None or keys.tables[spec.name].knows(pattern_of(word[2:]))


def test_the_test_configs_have_no_unknown_keys(tiny: Path, keys: OumiKeys) -> None:
    files = {
        "train": "train",
        "infer": "infer",
        "evaluate": "eval_custom",
        "quantize": "quantize",
        "synth": "synth",
        "judge": "judge",
        "tune": "tune",
    }
    for name, file in files.items():
        values = read_config(str(tiny / "configs" / f"{file}.yaml"), lambda p: Path(p).read_bytes())
        assert keys.problems_of(name, values, {}) == []


# ---------------------------------------------------------------------- train


@pytest.fixture(scope="session")
def trained(bench: Bench) -> Ran:
    return bench.run("train", "train", "configs/train.yaml", STEPS)


def test_train_writes_a_model_to_its_own_folder(bench: Bench, trained: Ran) -> None:
    succeeded(trained)
    assert {"model.safetensors", "config.json"} <= set(model_digests(trained.place))
    assert (trained.place / "checkpoint-2" / "trainer_state.json").exists()
    # The place that the config names is left alone.
    assert not (bench.base / "out" / "train" / "train").exists()
    assert trained.place == bench.base / "out" / "train"


def test_progress_and_numbers_of_a_training(trained: Ran) -> None:
    progress = follower("train", trained.job.place, trained.log, skip=0).poll()
    assert progress is not None
    assert (progress.done, progress.total, progress.unit) == (4, 4, "steps")
    assert progress.metrics["loss"] > 0
    numbers = metrics.final(trained.job)
    assert {"loss", "best_loss", "train_loss", "train_runtime"} <= set(numbers)
    assert [step for step, _ in metrics.points(trained.job.place)["loss"]] == [1, 2, 3, 4]


def test_keys_that_do_not_count_change_no_byte_of_the_model(bench: Bench, trained: Ran) -> None:
    succeeded(trained)
    again = bench.run("train-again", "train", "configs/train.yaml", (*STEPS, *REPORTS))
    succeeded(again)
    assert again.job.parts == trained.job.parts
    assert model_digests(again.place) == model_digests(trained.place)


def test_train_goes_on_from_a_checkpoint(bench: Bench, trained: Ran) -> None:
    succeeded(trained)
    checkpoint = os.path.relpath(trained.place / "checkpoint-2", bench.base)
    resumed = bench.run(
        "train-resumed",
        "train",
        "configs/train.yaml",
        ("training.max_steps=4", "training.save_steps=0", "--no-model.trust_remote_code"),
        extra=(f"--{verb('train').resume}={checkpoint}",),
    )
    succeeded(resumed)
    steps = [step for step, _ in metrics.points(resumed.job.place)["loss"]]
    assert steps == [3, 4]
    assert model_digests(resumed.place) == model_digests(trained.place)


# ---------------------------------------------------------------------- the other verbs


def test_infer(bench: Bench, trained: Ran) -> None:
    succeeded(trained)
    model = os.path.relpath(trained.output_dir, bench.base)
    ran = bench.run("infer", "infer", "configs/infer.yaml", (f"model.model_name={model}",))
    succeeded(ran)
    assert ran.place == bench.base / "out" / "infer" / "predictions.jsonl"
    assert metrics.final(ran.job) == {"rows": 4}


def test_evaluate_publishes_its_numbers(bench: Bench) -> None:
    ran = bench.run(
        "evaluate",
        "evaluate",
        "configs/eval_custom.yaml",
        env={"OUMI_EXTRA_DEPS_FILE": "extra_deps.txt"},
    )
    succeeded(ran)
    results = publish_results(ran.job.place, 1.0)
    assert results["toy_length"]["num_samples"] == 4
    assert metrics.final(ran.job)["toy_length/num_samples"] == 4
    assert json.loads((ran.place / "results.json").read_text()) == results


def test_quantize(bench: Bench) -> None:
    ran = bench.run("quant-0.5", "quantize", "configs/quantize.yaml", ("--model=tiny-model",))
    if "requires bitsandbytes" in ran.text:
        pytest.skip("bitsandbytes is not installed beside oumi")
    succeeded(ran)
    # A dot in the folder's name does no harm: the last part of the place has none.
    assert ran.place == bench.base / "out" / "quant-0.5" / "model"
    assert {"model.safetensors", "config.json"} <= set(model_digests(ran.place))
    assert metrics.final(ran.job)["bytes"] > 0


def test_synth(bench: Bench) -> None:
    ran = bench.run("synth", "synth", "configs/synth.yaml", ("num_samples=2",))
    succeeded(ran)
    assert metrics.final(ran.job) == {"rows": 2}
    progress = follower("bars", ran.job.place, ran.log).poll()
    assert progress is not None
    assert progress.unit == "batches"


@pytest.mark.parametrize(
    ("mode", "file"), [("dataset", "judge_in"), ("conversations", "conversations")]
)
def test_judge(bench: Bench, mode: str, file: str) -> None:
    ran = bench.run(
        f"judge-{mode}",
        "judge",
        "configs/judge_rule.yaml",
        (f"input=data/{file}.jsonl",),
        mode=mode,
    )
    succeeded(ran)
    assert metrics.final(ran.job)["rows"] == 4


def test_tune(bench: Bench) -> None:
    ran = bench.run(
        "tune",
        "tune",
        "configs/tune.yaml",
        ("tuning.fixed_training_params.max_steps=2", "tuning.fixed_training_params.eval_steps=2"),
    )
    if "No module named 'optuna'" in ran.text:
        pytest.skip("optuna is not installed beside oumi")
    succeeded(ran)
    assert {"trial_0", "trial_1"} <= {path.name for path in ran.place.iterdir()}
    assert metrics.final(ran.job)["trials"] == 2
    progress = follower("tune", ran.job.place, ran.log, skip=0).poll()
    assert progress is not None
    assert (progress.done, progress.total) == (2, 2)


# ---------------------------------------------------------------------- failures


def test_a_usage_error_is_named(bench: Bench) -> None:
    ran = bench.run("bad", "train", "configs/train.yaml", ("training.num_epochs=3",))
    assert ran.code == 1
    found = diagnose(ran.log, exit_code=ran.code)
    assert found.cause.startswith("Config error at 'training.num_epochs'")
    assert not found.retryable


def test_merged_as_oumi_merges(bench: Bench, trained: Ran) -> None:
    """What oumi says it ran with is what the fingerprint was made of."""
    succeeded(trained)
    spec = verb("train")
    written = trained.place / "telemetry" / "training_config.yaml"
    theirs = flatten(read_config(str(written), lambda path: Path(path).read_bytes()))
    ours = counted(
        flatten(
            merge(
                read_config("configs/train.yaml", lambda path: (bench.base / path).read_bytes()),
                STEPS,
                spec,
            )[0]
        ),
        spec,
    )
    different = {
        key: (value, theirs.get(key))
        for key, value in ours.items()
        if not same(value, theirs.get(key))
    }
    assert different == {}


def same(ours: Any, theirs: Any) -> bool:
    """Enums are written by value: `TRL_SFT` as `trl_sft`."""
    if isinstance(ours, str) and isinstance(theirs, str):
        return ours.lower() == theirs.lower()
    return bool(ours == theirs)
