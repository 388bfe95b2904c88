"""What a job is after loading: its command, what it reads and makes, and what of it counts."""

# ruff: noqa: E501  (a job of a workflow is read best in one line)

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from oumi_flow import staleness
from oumi_flow.errors import FlowError, WorkflowErrors
from oumi_flow.load import load
from oumi_flow.load.secrets import fill_secrets, is_secret_name
from oumi_flow.model import Counts, GpuRequest, Job, Workflow

Load = Callable[..., Workflow]

FILES = {
    "train.yaml": """
        model: {model_name: org/tiny}
        data: {train: {datasets: [{dataset_name: text_sft_jsonl, dataset_path: data/a.jsonl}]}}
        training: {output_dir: out/train, max_steps: 2, learning_rate: 1.0e-3}
    """,
    "synth.yaml": "num_samples: 3\noutput_path: out/synth/data.jsonl\n",
    "eval.yaml": "model: {model_name: out/train/checkpoint-2}\ntasks: [{task_name: toy}]\n",
    "infer.yaml": "model: {model_name: org/tiny}\ninput_path: data/a.jsonl\n",
    "quantize.yaml": "model: {model_name: org/tiny}\nmethod: bnb_8bit\n",
    "judge.yaml": "inference_config: {model: {model_name: org/tiny}}\n",
    "data/a.jsonl": "{}\n",
    "sub/data/a.jsonl": "{}\n",
}


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads `jobs` (YAML text) of a workflow w with output_dir o, and `top` lines before them."""
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")

    def load_text(
        jobs: str,
        top: str = "output_dir: o",
        environ: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Workflow:
        text = f"name: w\n{textwrap.dedent(top)}\njobs:\n{textwrap.dedent(jobs)}"
        (tmp_path / "w.yaml").write_text(text, encoding="utf-8")
        return load("w.yaml", sets={}, environ=environ or {}, snapshot=False, **kwargs)

    return load_text


def read(job: Job) -> dict[str, tuple[str, str]]:
    """Inputs as key -> (path, producer)."""
    return {each.key: (each.path, each.producer) for each in job.inputs}


# ---------------------------------------------------------------- commands and places


@pytest.mark.parametrize(
    ("verb", "more", "words", "output"),
    [
        ("train", "", ["--training.output_dir=o/a"], "o/a"),
        ("evaluate", "", ["--output_dir=o/a"], "o/a/results.json"),
        ("eval", "", ["--output_dir=o/a"], "o/a/results.json"),
        ("infer", "", ["--output_path=o/a/predictions.jsonl"], "o/a/predictions.jsonl"),
        ("quantize", "", ["--output=o/a/model"], "o/a/model"),
        ("synth", "", ["--output_path=o/a/data.jsonl"], "o/a/data.jsonl"),
        (
            "judge",
            "args: [--input=data/a.jsonl]",
            ["--input=data/a.jsonl", "--output=o/a/judgments.jsonl"],
            "o/a/judgments.jsonl",
        ),
    ],
)
def test_each_verb_writes_to_its_own_folder(
    flow: Load, verb: str, more: str, words: list[str], output: str
) -> None:
    config = {"eval": "eval", "evaluate": "eval"}.get(verb, verb)
    job = flow(f"- {{name: a, verb: {verb}, config: {config}.yaml, {more}}}").jobs[0]
    start = 4 if verb != "judge" else 5
    assert job.command.argv[start - 2 : start] == ("-c", "o/a/.oumi-flow/config.yaml")
    assert list(job.command.argv[start:]) == words
    assert job.outputs[0].path == output
    assert job.outputs[0].key == output.replace("o/a", "@")


def test_judge_has_two_modes_and_they_count(flow: Load) -> None:
    jobs = """
        - {name: a, verb: judge, config: judge.yaml, args: [input=data/a.jsonl]}
        - {name: b, verb: judge, config: judge.yaml, args: [input=data/a.jsonl], judge: conversations}
    """
    a, b = flow(jobs).jobs
    assert a.command.argv[1:3] == ("judge", "dataset")
    assert b.command.argv[1:3] == ("judge", "conversations")
    assert a.fingerprint != b.fingerprint


def test_a_place_named_in_args_is_kept(flow: Load) -> None:
    jobs = """
        - {name: a, verb: train, config: train.yaml, args: [training.output_dir=models/m]}
        - {name: b, verb: shell, run: 'ls "${{ jobs.a.output_dir }}"'}
    """
    a, b = flow(jobs).jobs
    assert a.place == "models/m"
    assert a.outputs[0].key == "models/m"
    assert b.command.argv[-1] == 'ls "models/m"'
    assert read(b) == {"@0": ("models/m", "a")}


def test_a_place_inside_the_own_folder_is_made_once(flow: Load) -> None:
    jobs = """
        - name: a
          verb: train
          config: train.yaml
          args: ["training.output_dir=${{ job.output_dir }}/x", "training.logging_dir=${{ job.output_dir }}/l"]
    """
    job = flow(jobs).jobs[0]
    assert job.place == "o/a/x"
    assert job.args == ("--training.output_dir=o/a/x", "--training.logging_dir=o/a/x/l")


def test_an_output_inside_the_place_of_the_config_keeps_that_place(flow: Load) -> None:
    jobs = "- {name: a, verb: train, config: train.yaml, outputs: [out/train/model.safetensors]}"
    job = flow(jobs).jobs[0]
    assert job.place == "out/train"
    assert not any("output_dir" in word for word in job.command.argv)


def test_paths_fit_the_workdir(flow: Load) -> None:
    jobs = """
        - {name: a, verb: shell, run: x, outputs: [made/a.txt]}
        - name: b
          verb: train
          config: train.yaml
          workdir: sub
          args: ["deepspeed.deepspeed_config_path=${{ jobs.a.outputs.0 }}"]
          env: {D: "${{ job.output_dir }}"}
    """
    job = flow(jobs).job("b")
    assert job.command.cwd == "sub"
    assert job.command.argv[3] == "../o/b/.oumi-flow/config.yaml"
    assert "--training.output_dir=../o/b" in job.command.argv
    assert "--deepspeed.deepspeed_config_path=../made/a.txt" in job.command.argv
    assert job.command.env["D"] == "../o/b"
    assert read(job) == {
        "@0=made/a.txt": ("made/a.txt", "a"),
        "sub/data/a.jsonl": ("sub/data/a.jsonl", ""),
    }


def test_plain_words_start_without_a_shell(flow: Load) -> None:
    jobs = """
        - {name: a, verb: shell, run: [echo, "${HOME}", "a b"]}
        - {name: b, verb: shell, run: "echo $HOME"}
    """
    a, b = flow(jobs).jobs
    assert a.command.argv == ("echo", "${HOME}", "a b")
    assert b.command.argv[:2] == ("bash", "-euo")


# ------------------------------------------------------------------- what is read


def test_a_config_value_in_the_place_that_another_config_names_is_a_dependency(flow: Load) -> None:
    jobs = """
        - {name: e, verb: evaluate, config: eval.yaml}
        - {name: t, verb: train, config: train.yaml}
    """
    workflow = flow(jobs)
    job = workflow.job("e")
    assert [each.name for each in workflow.jobs] == ["t", "e"]
    assert (job.depends_on, job.implied, job.upstream) == ((), ("t",), ("t",))
    assert "--model.model_name=o/t/checkpoint-2" in job.command.argv
    assert job.inputs[0].key == "@0/checkpoint-2"
    assert job.inputs[0].counts is Counts.MODEL
    assert job.parts["config"]["model.model_name"] == "@0/checkpoint-2"


def test_a_config_value_in_the_real_place_of_a_job_is_a_dependency(
    flow: Load, tmp_path: Path
) -> None:
    (tmp_path / "eval.yaml").write_text("model: {model_name: o/t}\n")
    jobs = """
        - {name: t, verb: train, config: train.yaml}
        - {name: e, verb: evaluate, config: eval.yaml}
    """
    job = flow(jobs).job("e")
    assert job.implied == ("t",)
    assert job.args == ()
    assert read(job) == {"@0": ("o/t", "t")}


def test_the_own_place_is_no_input_and_a_hub_id_is_left_alone(flow: Load, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(
        "model: {model_name: org/tiny, tokenizer_name: out/train}\ntraining: {output_dir: out/train}\n"
    )
    assert read(flow("- {name: t, verb: train, config: train.yaml}").jobs[0]) == {}


def test_an_existing_path_is_an_input(flow: Load, tmp_path: Path) -> None:
    (tmp_path / "org/tiny").mkdir(parents=True)
    job = flow("- {name: t, verb: train, config: train.yaml}").jobs[0]
    counts = {each.path: each.counts for each in job.inputs}
    assert counts == {"data/a.jsonl": Counts.ALL, "org/tiny": Counts.MODEL}


def test_a_path_that_is_not_there_is_a_source_of_the_snapshot(flow: Load) -> None:
    workflow = flow("- {name: t, verb: train, config: train.yaml}")
    assert workflow.sources["org/tiny"] is None
    assert workflow.sources["train.yaml"] is not None


def test_what_is_named_of_an_upstream_counts_else_its_result(flow: Load) -> None:
    jobs = """
        - {name: t, verb: train, config: train.yaml, outputs: ["${{ job.output_dir }}/x.log", extra.txt]}
        - {name: bare, verb: shell, run: x, depends_on: [t]}
        - {name: some, verb: shell, run: 'cat ${{ jobs.t.output_dir }}/config.json.', depends_on: [t]}
        - {name: log, verb: shell, run: 'cat ${{ jobs.t.log }}'}
        - {name: glob, verb: shell, run: 'cat ${{ jobs.t.output_dir }}/checkpoint-*'}
    """
    workflow = flow(jobs)
    bare = {"@0": ("o/t", "t"), "@0=extra.txt": ("extra.txt", "t")}
    assert read(workflow.job("bare")) == bare
    assert read(workflow.job("some")) == {"@0/config.json": ("o/t/config.json", "t")}
    assert read(workflow.job("log")) == bare
    assert workflow.job("log").depends_on == ("t",)
    assert read(workflow.job("glob")) == {"@0": ("o/t", "t")}


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("run: 'cat P/x; y'", "o/a/x"),
        ("run: 'echo $(cat P/x)'", "o/a/x"),
        ("run: 'cat \"P/x\" y'", "o/a/x"),
        ("run: 'docker -v P/x:/mnt y'", "o/a/x"),
        ("run: 'f=P/x,P/x; y'", "o/a/x"),
        ("run: 'cat P/x y'", "o/a/x"),
        # Names that cannot be told from what follows: the folder they lie in.
        ("run: 'cat \"P/my file.txt\"'", "o/a"),
        ("run: 'cat \"P/d/my file.txt\"'", "o/a/d"),
        ("run: 'cat P/d/my\\ file.txt'", "o/a/d"),
        ("run: 'cat \"P/data (new).csv\"'", "o/a"),
        ("run: 'cat P/data:1'", "o/a"),
        ("run: 'cat P/data-P'", "o/a"),
        ("run: [cp, 'P/x', y]", "o/a/x"),
        ("run: [cp, 'P/my file.txt', y]", "o/a"),
        ("run: x, env: {F: 'P/x'}", "o/a/x"),
        ("run: x, env: {F: 'P/my file.txt'}", "o/a"),
        ("run: x, env: {F: '--in P/x --out y'}", "o/a/x"),
        ("run: x, env: {F: 'P/bin:P/bin'}", "o/a/bin"),
    ],
)
def test_a_name_in_a_command_is_read_to_its_end(flow: Load, command: str, path: str) -> None:
    jobs = f"""
        - {{name: a, verb: shell, run: x}}
        - {{name: b, verb: shell, {command.replace("P", "${{ jobs.a.output_dir }}")}}}
    """
    assert {item.path for item in flow(jobs).job("b").inputs} == {path}


def test_logs_that_somebody_names_count(flow: Load) -> None:
    jobs = """
        - {name: t, verb: train, config: train.yaml}
        - {name: a, verb: shell, run: "cat ${{ jobs.t.output_dir }}/tensorboard/*"}
        - {name: b, verb: shell, run: x, inputs: ["${{ jobs.t.output_dir }}/logs"]}
        - {name: c, verb: shell, run: x, inputs: ["${{ jobs.t.output_dir }}/checkpoint-2"]}
        - {name: d, verb: shell, run: x, inputs: ["${{ jobs.t.output_dir }}/checkpoint-2/runs"]}
    """
    workflow = flow(jobs)
    found = {name: [item.counts for item in workflow.job(name).inputs] for name in "abcd"}
    assert found == {
        "a": [Counts.ALL],
        "b": [Counts.ALL],
        "c": [Counts.MODEL],
        "d": [Counts.ALL],
    }


def test_a_shell_upstream_without_outputs_counts_by_its_build_key(flow: Load) -> None:
    jobs = """
        - {name: a, verb: shell, run: x}
        - {name: b, verb: shell, run: x, depends_on: [a]}
    """
    only = flow(jobs).job("b").inputs
    assert [(each.key, each.path, each.counts, each.producer) for each in only] == [
        ("@0", "", Counts.RAN, "a")
    ]


def test_the_folder_of_an_evaluation_is_its_published_results(flow: Load) -> None:
    jobs = """
        - {name: t, verb: train, config: train.yaml}
        - {name: e, verb: evaluate, config: eval.yaml}
        - {name: s, verb: shell, run: 'cat "${{ jobs.e.output_dir }}"/*.json'}
    """
    assert read(flow(jobs).job("s")) == {"@0/results.json": ("o/e/results.json", "e")}


def test_an_input_in_the_outputs_of_another_job_is_an_implied_dependency(flow: Load) -> None:
    jobs = """
        - {name: b, verb: shell, run: x, inputs: [made/a.txt, "made2/*.txt"]}
        - {name: a, verb: shell, run: x, outputs: [made]}
        - {name: c, verb: shell, run: x, outputs: [made2/c.txt]}
    """
    job = flow(jobs).job("b")
    assert job.implied == ("a", "c")
    assert read(job)["@0=made/a.txt"] == ("made/a.txt", "a")
    assert read(job)["made2/*.txt"] == ("made2/*.txt", "")


def test_extra_dependencies_of_oumi_are_inputs(flow: Load, tmp_path: Path) -> None:
    (tmp_path / "deps.txt").write_text("fun.py\n\n")
    (tmp_path / "fun.py").write_text("")
    jobs = "- {name: t, verb: train, config: train.yaml}\n- {name: s, verb: shell, run: x}"
    workflow = flow(jobs, environ={"OUMI_EXTRA_DEPS_FILE": "deps.txt"})
    assert {"deps.txt", "fun.py"} <= set(read(workflow.job("t")))
    assert read(workflow.job("s")) == {}
    assert workflow.variables["OUMI_EXTRA_DEPS_FILE"] == "deps.txt"
    assert workflow.sources["deps.txt"] is not None


# ------------------------------------------------------------------- what counts

SWEEP = """
    - {name: prep, verb: shell, run: x, outputs: ["${{ job.output_dir }}/d"]}
    - name: t
      verb: train
      config: train.yaml
      args: ["training.learning_rate=1e-4", "training.run_name=${{ job.name }}"]
      inputs: ["${{ jobs.prep.outputs.0 }}"]
      env: {OUT: "${{ workflow.output_dir }}/x", ME: "${{ job.name }}", D: "${{ job.output_dir }}"}
      outputs: ["${{ job.output_dir }}/model.safetensors"]
    - {name: e, verb: evaluate, config: eval.yaml, depends_on: [prep]}
    - {name: s, verb: shell, run: 'ls ${{ jobs.e.output_dir }} ${{ jobs.t.outputs.0 }}'}
"""


def fingerprints(workflow: Workflow) -> dict[str, str]:
    return {job.name: job.fingerprint for job in workflow.jobs}


def test_a_fingerprint_is_that_of_the_parts(flow: Load) -> None:
    for job in flow(SWEEP).jobs:
        assert job.fingerprint == staleness.fingerprint(job.parts)


def test_new_names_order_and_output_dir_change_no_fingerprint(flow: Load) -> None:
    before = fingerprints(flow(SWEEP))
    assert fingerprints(flow(SWEEP, top="output_dir: ../elsewhere/y")) == before
    renamed = SWEEP
    for old, new in (("prep", "zz"), ("name: t\n", "name: aa\n"), ("jobs.t.", "jobs.aa.")):
        renamed = renamed.replace(old, new)
    after = fingerprints(flow(renamed))
    assert [before["prep"], before["t"], before["e"], before["s"]] == [
        after["zz"],
        after["aa"],
        after["e"],
        after["s"],
    ]
    prep, rest = textwrap.dedent(SWEEP).strip().split("\n", 1)
    assert fingerprints(flow(f"{rest}\n{prep}")) == before


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("args: [training.max_steps=5]", "args: [--training.max_steps=5]", True),
        ("args: [training.learning_rate=1e-4]", "args: [training.learning_rate=0.0001]", True),
        ("args: [training.learning_rate=1e-3]", "", True),
        ("args: [training.run_name=a]", "args: [training.run_name=b]", True),
        ("args: [training.max_steps=5]", "args: [training.max_steps=6]", False),
        ("env: {WANDB_PROJECT: a, NCCL_DEBUG: x}", "", True),
        ("env: {CUDA_VISIBLE_DEVICES: 0}", "env: {CUDA_VISIBLE_DEVICES: 1}", True),
        ("env: {A: 1}", "env: {A: 2}", False),
        ("description: a", "description: b", True),
        ("timeout: 5", "max_retries: 3", True),
        ("priority: 5", "resources: {gpu: none}", True),
        ("outputs: [a, b]", "outputs: [b, a]", True),
        ("outputs: [a]", "outputs: [b]", False),
        ("workdir: .", "workdir: ./", True),
        ("args: [training.run_name=a]", "args: [training.run_name=a], fingerprint: {also: [training.run_name]}", False),
        ("args: [training.seed=1], fingerprint: {ignore: [training.seed]}", "", True),
    ],
)  # fmt: skip
def test_what_counts_and_what_does_not(flow: Load, before: str, after: str, same: bool) -> None:
    one = flow(f"- {{name: a, verb: train, config: train.yaml, {before}}}").jobs[0]
    two = flow(f"- {{name: a, verb: train, config: train.yaml, {after}}}").jobs[0]
    assert (one.fingerprint == two.fingerprint) is same


def test_moving_a_dependency_from_the_config_to_args_changes_nothing(
    flow: Load, tmp_path: Path
) -> None:
    train = "- {name: t, verb: train, config: train.yaml}\n"
    implied = flow(train + "- {name: e, verb: evaluate, config: eval.yaml}").job("e")
    (tmp_path / "eval.yaml").write_text("tasks: [{task_name: toy}]\nmodel: {}\n")
    written = flow(
        train + "- {name: e, verb: evaluate, config: eval.yaml, "
        'args: ["model.model_name=${{ jobs.t.output_dir }}/checkpoint-2"]}'
    ).job("e")
    assert implied.fingerprint == written.fingerprint
    assert read(implied) == read(written)


# ----------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("OPENAI_API_KEY", True),
        ("api_key", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("MY_APIKEY", True),
        ("DB_PASSWORD", True),
        ("GOOGLE_APPLICATION_CREDENTIALS", True),
        ("TOKENIZERS_PARALLELISM", False),
        ("KEYBOARD", False),
        ("MONKEY", False),
    ],
)
def test_a_secret_is_known_by_a_word_of_its_name(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


def test_secrets_stay_templates_and_count_by_name_only(flow: Load) -> None:
    top = """
        output_dir: o
        secrets: [LOGIN]
        env: {HF_TOKEN: "${MINE}", B: "x$$${HF_TOKEN:-d}", LOGIN: "me", C: "c-${{ env.B }}"}
    """
    jobs = '- {name: a, verb: shell, run: x, env: {OWN_KEY: "${{ job.output_dir }}/${MINE}"}}'
    environ = {"MINE": "sesame-1", "HF_TOKEN": "sesame-2"}
    workflow = flow(jobs, top, environ)
    job = workflow.jobs[0]
    assert "sesame" not in repr(workflow)
    assert job.command.env == {}
    assert {name: fill_secrets(each, environ) for name, each in job.secret_env.items()} == {
        "HF_TOKEN": "sesame-1",
        "B": "x$sesame-2",
        "LOGIN": "me",
        "C": "c-x$sesame-2",
        "OWN_KEY": "o/a/sesame-1",
    }
    assert set(job.parts["env"].values()) == {None}
    assert workflow.private
    assert workflow.needs == ("MINE",)
    assert not set(workflow.variables) & {"MINE", "HF_TOKEN"}
    other = flow(jobs, top, {"MINE": "else", "HF_TOKEN": "more"}).jobs[0]
    assert other.fingerprint == job.fingerprint


# -------------------------------------------------------------------------- GPUs


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ("", GpuRequest(-1)),
        ("resources: {gpu: auto}", GpuRequest(1)),
        ("resources: {gpu: 0}", GpuRequest(1, (0,))),
        ("resources: {gpu: [3, 1]}", GpuRequest(2, (1, 3))),
        ("resources: {gpus: 2}", GpuRequest(2)),
        ("resources: {gpus: 0}", None),
        ("resources: {gpu: none}", None),
        ('env: {CUDA_VISIBLE_DEVICES: "2,0"}', GpuRequest(2, (0, 2))),
        ("env: {CUDA_VISIBLE_DEVICES: 1}, resources: {gpu: 1}", GpuRequest(1, (1,))),
        ("env: {CUDA_VISIBLE_DEVICES: 1}, resources: {gpu: auto}", GpuRequest(1, (1,))),
        ('env: {CUDA_VISIBLE_DEVICES: ""}', None),
    ],
)
def test_gpus_are_asked_for(flow: Load, fields: str, request_: GpuRequest | None) -> None:
    jobs = f"- {{name: a, verb: train, config: train.yaml, {fields}}}"
    assert flow(jobs).jobs[0].gpu == request_


def test_a_shell_job_gets_no_gpu_unasked(flow: Load) -> None:
    assert flow("- {name: a, verb: shell, run: x}").jobs[0].gpu is None


def test_remotes_are_understood(flow: Load) -> None:
    top = "resources: {mode: MODE, remote: [{name: c, kind: slurm, max_jobs: 2}, {name: d}]}"
    jobs = """
        - {name: a, verb: shell, run: x}
        - {name: b, verb: shell, run: x, resources: {remote: d, cpus: 4, memory: 32GB, time: 2h}}
    """
    mixed = flow(jobs, top.replace("MODE", "mixed"))
    assert [job.executor for job in mixed.jobs] == ["local", "d"]
    remote = flow(jobs, top.replace("MODE", "remote"))
    assert [job.executor for job in remote.jobs] == ["c", "d"]


# --------------------------------------------------------------------- the whole


def test_the_workflows_own_fields(flow: Load) -> None:
    top = """
        description: words
        output_dir: ./o/
        tui: false
        timeout: 1d
        notify: ./tell
        warm: true
        cache: {dir: /c, max_size: 2GB}
        resources: {gpus: [1, 0], max_parallel: 4, allocation: fixed, cost_per_gpu_hour: 2.5}
    """
    workflow = flow("- {name: a, verb: shell, run: x}", top)
    assert workflow.output_dir == "o"
    assert (workflow.tui, workflow.timeout, workflow.notify) == (False, 86400.0, "./tell")
    assert (workflow.cache_dir, workflow.cache_max_size) == ("/c", 2_000_000_000)
    assert (workflow.gpus, workflow.max_parallel) == ((0, 1), 4)
    assert (workflow.allocation, workflow.cost_per_gpu_hour) == ("fixed", 2.5)
    assert workflow.jobs[0].warm
    assert workflow.jobs[0].where == "w.yaml:13"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(flow: Load) -> None:
    jobs = """
        - {name: a, verb: shell, run: x, depends_on: [zz]}
        - {name: b, verb: nope, run: x}
        - {name: c, verb: train, config: nope.yaml}
        - {name: d, verb: shell, run: x, inputs: [nothing], resources: {gpu: 0, gpus: 1}}
        - {name: e, verb: shell, run: '${{ vars.x }}'}
    """
    with pytest.raises(WorkflowErrors) as raised:
        flow(jobs)
    lines = [problem.where.line for problem in raised.value.problems if problem.where]
    assert lines == [5, 6, 7, 8, 8, 9]


def test_a_workflow_of_oumis_own_draft_works_as_written(tmp_path: Path, flow: Load) -> None:
    jobs = """
      - name: "synthesize-data"
        verb: "synth"
        config: "synth.yaml"
        resources:
          gpu: 0
      - name: "train-model"
        verb: "train"
        config: "train.yaml"
        depends_on: ["synthesize-data"]
        env: {WANDB_RUN_NAME: "run-1"}
        args:
          - "training.learning_rate=1e-3"
          - "--training.max_steps"
          - "5"
        max_retries: 3
        retry_delay: 60
        timeout: 7200
        resources: {gpu: auto}
      - name: "infer"
        verb: "infer"
        config: "infer.yaml"
        depends_on: ["train-model"]
        resources: {gpu: 1}
        args:
          - "--interactive=false"
    """
    top = """
        description: "Complete pipeline"
        resources:
          gpus: [0, 1]
          allocation: "dynamic"
          mode: "mixed"
          local_gpus: [0, 1]
          remote:
            - name: "aws-cluster"
              cluster: "sky"
              max_jobs: 4
        env:
          HF_TOKEN: "${HF_TOKEN}"
        output_dir: "./outputs/full-pipeline"
        tui: true
        timeout: 86400
    """
    workflow = flow(jobs, top, {"HF_TOKEN": "x"})
    train = workflow.job("train-model")
    assert train.args == ("--training.learning_rate=1e-3", "--training.max_steps=5")
    assert (train.retry.limit, train.retry.delay, train.timeout) == (3, 60.0, 7200.0)
    assert workflow.job("infer").gpu == GpuRequest(1, (1,))


def test_an_oumi_uri_is_the_copy_that_was_fetched(flow: Load, tmp_path: Path) -> None:
    jobs = "- {name: a, verb: train, config: 'oumi://configs/t.yaml'}"
    assert flow(jobs, fetch=lambda uri: "train.yaml").jobs[0].config == "train.yaml"
    copy = tmp_path / "home" / "configs"
    copy.mkdir(parents=True)
    (copy / "t.yaml").write_text("training: {}\n")
    job = flow(jobs, environ={"OUMI_DIR": str(tmp_path / "home")}).jobs[0]
    assert job.config == str(copy / "t.yaml")


def test_keys_that_oumi_does_not_know_are_told_in_args_and_configs(flow: Load) -> None:
    from oumi_flow.load.configs import KeyTable, OumiKeys

    known = ["training.num_train_epochs", "training.max_steps", "training.output_dir"]
    keys = OumiKeys("0.9", {"train": KeyTable.make([*known, "model.model_name", "data.train"])})
    jobs = "- {name: a, verb: train, config: train.yaml, args: [training.num_epochs=1]}"
    with pytest.raises(FlowError) as raised:
        flow(jobs, keys=keys)
    told = {str(each.where).partition(":")[0]: each for each in raised.value.problems}
    assert told["w.yaml"].hint == 'did you mean "training.num_train_epochs"?'
    assert "training.learning_rate" in " ".join(e.message for e in raised.value.problems)


def test_a_missing_file_and_a_folder_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflow.yaml").touch()
    with pytest.raises(FlowError, match=r"workflw.yaml: no such workflow file \(did you mean"):
        load("workflw.yaml", sets={}, environ={}, snapshot=False)
    with pytest.raises(FlowError, match="expected a workflow file, got a folder"):
        load(".", sets={}, environ={}, snapshot=False)
