"""The verb table: what each verb is, as data. One row a verb, never a branch.

The rows are SPEC §2's two tables. Knows oumi's command line and the meaning of its config keys,
as read from oumi 0.9; knows no YAML, opens no file, and never asks whether a job is stale.

Patterns of config keys: dotted; `*` stands for any text within one part, `[*]` for any index of a
list, and a trailing `.**` for everything below.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType

from oumi_flow.dataclass import dataclass, field
from oumi_flow.model import EMPTY, Counts


@dataclass(frozen=True, slots=True)
class CliOption:
    """An option of the verb itself that `args` may hold, beside overrides of config keys."""

    name: str
    aliases: tuple[str, ...] = ()
    key: str = ""  # the config key that it is another name of
    takes_value: bool = True
    negative: str = ""  # the flag for "no", of an option that is a pair of flags
    counts: bool = True  # False: cannot change results
    no_effect: str = ""  # the value with which oumi ignores the option


@dataclass(frozen=True, slots=True, eq=False)  # a row is itself: what is worked out for it is kept
class VerbSpec:
    """One row. `output_*` say where the result goes; paths are below the job's folder D."""

    name: str
    aliases: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()  # what follows `oumi`; `{mode}` is the job's `judge:` field
    config_flag: str = "-c"
    output_key: str = ""  # the option that redirects: `--KEY=PLACE`
    output_name: str = ""  # PLACE below D; "" for D itself
    output_file: bool = False  # PLACE is a file, else a folder
    config_place_key: str = ""  # the config key that names a place, where it is another one
    counted: str = ""  # what others count of PLACE, below it; "" for all of it (by `counts`)
    counts: Counts = Counts.ALL
    input_keys: tuple[str, ...] = ()
    no_final: tuple[str, str] = ("", "")  # (key, pattern): where that key is false, what matches
    # the pattern below PLACE is the result instead
    done_mark: tuple[str, ...] = ()  # glob patterns below PLACE, any of them; "" is PLACE itself
    ignored_keys: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # pattern -> why
    cli_options: tuple[CliOption, ...] = ()
    resume: str = ""  # the option that takes the checkpoint to go on from
    resumes_alone: bool = False  # an unfinished attempt's folder is picked up by the verb itself
    rows: str = ""  # the folder beside PLACE from which it picks up finished rows
    usual_seconds: float = 120.0  # of an attempt, where nothing is known: only proportions matter
    gpu_default: bool = True  # no `gpu:` given means `auto`
    progress: str = "lines"  # name of a parser in progress.py
    publishes: bool = False  # `publish_results` makes its counted output
    needs_config: bool = True
    is_shell: bool = False
    imports: tuple[str, ...] = ()  # what a process may import ahead, to be forked as such a job;
    # the first must be there. None: such jobs start cold
    spawns: tuple[tuple[str, str], ...] = ()  # (config key, value in capitals) with which it
    # starts processes of its own, and is not forked

    def option(self, name: str) -> CliOption | None:
        """The verb's own option of that name (`--input`, `-v`), or None."""
        for option in self.cli_options:
            if name == option.name or name in option.aliases or name == option.negative:
                return option
        return None


def _ignored(*groups: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType({key: why for group in groups for key, why in group.items()})


def _below(prefix: str, group: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}.{key}": why for key, why in group.items()}


# Keys that cannot change what a verb makes, with the reason. The list is short on purpose: a key
# that is in doubt counts, for a missed re-run costs more than a superfluous one. So these count:
# save_steps and save_epoch (which checkpoints exist), eval_* (the best model may be loaded at the
# end), dataloader_* (workers have random states of their own), batch sizes (padding, kernels),
# generation.*, include_performance_metrics and profiler.* (they make files one asks for),
# tuning_study_name and load_if_exists (which trials are known), resume_from_checkpoint where the
# user sets it (our own flag is added at the start, outside the config).
_TRAINING_REPORTS = {
    "run_name": "a label in logs and trackers",
    "log_level": "amount of log text",
    "dep_log_level": "amount of log text",
    "log_examples": "prints a sample of the data",
    "log_model_summary": "prints the layers",
    "logging_strategy": "when metrics are written; models measured equal",
    "logging_steps": "when metrics are written; models measured equal",
    "logging_first_step": "when metrics are written",
    "logging_dir": "place of tracker files",
    "enable_wandb": "a tracker",
    "enable_mlflow": "a tracker",
    "enable_tensorboard": "a tracker; models measured equal",
    "telemetry.**": "timers beside the result",
    "nccl_default_timeout_minutes": "a limit, not a result",
}
_TRAINING_PLACE = {
    "output_dir": "the output place",
    "try_resume_from_last_checkpoint": "a way to the same result; a fresh attempt finds none",
}
_DEEPSPEED_REPORTS = {
    "deepspeed.steps_per_print": "amount of log text",
    "deepspeed.wall_clock_breakdown": "timers in the log",
}
# A literal API key in a config must not reach a marker, and another one gives the same answers.
_REMOTE_PACE = {
    "api_key": "who pays; never kept",
    "api_key_env_varname": "who pays",
    "num_workers": "pace of requests",
    "requests_per_minute": "pace of requests",
    "input_tokens_per_minute": "pace of requests",
    "output_tokens_per_minute": "pace of requests",
    "politeness_policy": "pace of requests",
    "use_adaptive_concurrency": "pace of requests",
}

_MODEL = ("model.model_name", "model.adapter_model", "model.tokenizer_name")
_MODEL_OF_ENGINE = tuple(f"inference_config.{key}" for key in _MODEL)
_DATA = tuple(
    f"data.{split}.datasets[*].{key}"
    for split in ("train", "validation", "test")
    for key in ("dataset_path", "dataset_name", "dataset_kwargs.**")
)
_TRAINING_INPUTS = (
    "resume_from_checkpoint",
    "gkd.teacher_model_name_or_path",
    "gold.teacher_model_name_or_path",
    "gold.teacher_tokenizer_name_or_path",
)

_LOG_LEVEL = CliOption("--log-level", aliases=("-log",), counts=False)
_VERBOSE = CliOption("--verbose", aliases=("-v",), takes_value=False, counts=False)
# Nearly all that oumi 0.9 has loaded at the end of a run of that verb. None of them is one that
# its command line loads lazily by a name of the package: `import oumi.infer` would put the module
# in the place of the function `oumi.infer`. And none may touch a GPU, as bitsandbytes does.
_OUMI = ("oumi.cli.main", "oumi.core.configs", "oumi.builders", "rich.status")
_ENGINES = (*_OUMI, "oumi.builders.inference_engines")
_TRAINERS = (*_OUMI, "oumi.performance.torch_profiler_utils", "trl.trainer.sft_trainer", "scipy.io")
_JUDGES = tuple(f"oumi.judges.{kind}_judge" for kind in ("simple", "rubric", "rule_based"))
_WEIGHTS = ("*.safetensors", "*.bin")

VERBS: tuple[VerbSpec, ...] = (
    VerbSpec(
        name="train",
        argv=("train",),
        usual_seconds=600.0,
        output_key="training.output_dir",
        counts=Counts.MODEL,
        input_keys=(
            *_DATA,
            *_MODEL,
            *(f"training.{key}" for key in _TRAINING_INPUTS),
            "deepspeed.deepspeed_config_path",
        ),
        no_final=("training.save_final_model", "checkpoint-*"),
        done_mark=_WEIGHTS,
        ignored_keys=_ignored(
            _below("training", _TRAINING_REPORTS),
            _below("training", _TRAINING_PLACE),
            _DEEPSPEED_REPORTS,
        ),
        cli_options=(
            _LOG_LEVEL,
            _VERBOSE,
            CliOption(
                "--model.trust_remote_code",
                key="model.trust_remote_code",
                takes_value=False,
                negative="--no-model.trust_remote_code",
            ),
        ),
        resume="training.resume_from_checkpoint",
        progress="train",
        imports=_TRAINERS,
        spawns=(("training.trainer_type", "VERL_GRPO"), ("training.grpo.use_vllm", "TRUE")),
    ),
    VerbSpec(
        name="tune",
        argv=("tune",),
        usual_seconds=1200.0,
        output_key="tuning.output_dir",
        counts=Counts.TRIALS,
        input_keys=(*_DATA, *_MODEL, "tuning.fixed_training_params.**"),
        done_mark=("trials_results.csv",),
        ignored_keys=_ignored(
            _below(
                "tuning",
                {
                    "output_dir": "the output place",
                    "log_level": "amount of log text",
                    "log_examples": "prints a sample of the data",
                    "logging_strategy": "when metrics are written",
                    "logging_dir": "place of log files",
                    "telemetry.**": "timers beside the result",
                },
            ),
            _below("tuning.fixed_training_params", _TRAINING_REPORTS),
        ),
        cli_options=(_LOG_LEVEL, _VERBOSE),
        resumes_alone=True,
        progress="tune",
        imports=(*_TRAINERS, "optuna"),
    ),
    VerbSpec(
        name="evaluate",
        aliases=("eval",),
        argv=("evaluate",),
        output_key="output_dir",
        counted="results.json",
        input_keys=(*_MODEL, "tasks[*].eval_kwargs.**"),
        done_mark=("*_*/task_result.json",),
        ignored_keys=_ignored(
            {
                "output_dir": "the output place",
                "run_name": "a label in logs and trackers",
                "enable_wandb": "a tracker",
            },
            _below("inference_remote_params", _REMOTE_PACE),
        ),
        cli_options=(_LOG_LEVEL, _VERBOSE),
        progress="bars",
        publishes=True,
        imports=(*_ENGINES, "oumi.core.evaluation.evaluator"),
        spawns=(("inference_engine", "VLLM"),),
    ),
    VerbSpec(
        name="infer",
        argv=("infer",),
        output_key="output_path",
        output_name="predictions.jsonl",
        output_file=True,
        input_keys=("input_path", "--image", *_MODEL),
        done_mark=("",),
        ignored_keys=_ignored(
            {"output_path": "the output place", "progress_path": "place of a progress file"},
            _below("remote_params", _REMOTE_PACE),
        ),
        cli_options=(
            _LOG_LEVEL,
            _VERBOSE,
            CliOption("--interactive", aliases=("-i",), takes_value=False),
            CliOption("--image"),
            CliOption("--system-prompt"),
        ),
        resumes_alone=True,
        rows="scratch",
        progress="infer",
        imports=_ENGINES,
        spawns=(("engine", "VLLM"),),
    ),
    VerbSpec(
        name="quantize",
        argv=("quantize",),
        # oumi reads the place from its own option alone: `output_path` of the config is
        # overwritten by that option's default, so the option is passed always.
        output_key="output",
        output_name="model",
        config_place_key="output_path",
        counts=Counts.MODEL,
        input_keys=_MODEL,
        done_mark=_WEIGHTS,
        ignored_keys=_ignored(
            {
                "output_path": "the output place",
                "verbose": "amount of log text",
                "cleanup_temp": "temporary files",
            }
        ),
        cli_options=(
            CliOption("--model", key="model.model_name"),
            CliOption("--method", key="method", no_effect="awq_q4_0"),
            CliOption("--output"),
        ),
        progress="bars",
        imports=_OUMI,
    ),
    VerbSpec(
        name="synth",
        aliases=("synthesize",),
        argv=("synth",),
        output_key="output_path",
        output_name="data.jsonl",
        output_file=True,
        input_keys=(
            "strategy_params.*[*].path",
            "environment_config_path",
            *_MODEL_OF_ENGINE,
        ),
        done_mark=("",),
        ignored_keys=_ignored(
            {"output_path": "the output place"},
            _below("inference_config.remote_params", _REMOTE_PACE),
        ),
        cli_options=(_LOG_LEVEL,),
        progress="bars",
        imports=(*_ENGINES, "oumi.core.synthesis.synthesis_pipeline"),
        spawns=(("inference_config.engine", "VLLM"),),
    ),
    VerbSpec(
        name="judge",
        argv=("judge", "{mode}"),
        usual_seconds=60.0,
        output_key="output",
        output_name="judgments.jsonl",
        output_file=True,
        input_keys=("--input", *_MODEL_OF_ENGINE),
        done_mark=("",),
        ignored_keys=_ignored(_below("inference_config.remote_params", _REMOTE_PACE)),
        cli_options=(
            CliOption("--input"),
            CliOption("--output"),
            CliOption("--raw", takes_value=False, counts=False),
        ),
        progress="judge",
        imports=(*_ENGINES, *_JUDGES),
        spawns=(("inference_config.engine", "VLLM"),),
    ),
    VerbSpec(
        name="shell",
        config_flag="",
        counts=Counts.ALL,
        gpu_default=False,
        needs_config=False,
        is_shell=True,
        usual_seconds=1.0,
        progress="lines",
    ),
)

ENTRY_POINTS = "oumi_flow.verbs"
_BY_NAME = {name: spec for spec in VERBS for name in (spec.name, *spec.aliases)}


def verb(name: str) -> VerbSpec:
    """The row of a verb or of an alias. Raises KeyError.

    Only a name that the table lacks is looked for among plug-ins: entry points of the group
    `oumi_flow.verbs`, each of which loads to a VerbSpec.
    """
    known = _BY_NAME.get(name)
    if known is not None:
        return known
    for spec, _ in _plugged_in():
        if name == spec.name or name in spec.aliases:
            return spec
    raise KeyError(name)


def file_of(spec: VerbSpec) -> str:
    """The file of the module that a plug-in's verb is from; "" for those of our own table."""
    if _BY_NAME.get(spec.name) is spec:
        return ""
    return next((file for each, file in _plugged_in() if each is spec), "")


def known_verbs() -> tuple[str, ...]:
    """All names and aliases, plug-ins included; for messages."""
    specs = [*VERBS, *(spec for spec, _ in _plugged_in())]
    return tuple(name for spec in specs for name in (spec.name, *spec.aliases))


def _plugged_in() -> list[tuple[VerbSpec, str]]:
    """Each with the file of its module."""
    from importlib.metadata import entry_points

    specs = []
    for entry in entry_points(group=ENTRY_POINTS):
        loaded = entry.load()
        if isinstance(loaded, VerbSpec):
            specs.append((loaded, getattr(sys.modules.get(entry.module), "__file__", None) or ""))
    return specs
