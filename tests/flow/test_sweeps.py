"""Sweeps, nested workflows, variables and what a fingerprint counts, with a stand-in for oumi."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.flow.conftest import Result, Space

# Notes who ran; train copies `weights.txt` where the weights go, the other verbs write a word.
OUMI = r"""#!/bin/bash
set -eu
verb=$1
for word in "$@"; do case $word in --*=*) key=${word%%=*}; declare "v_${key//[^a-z_]/}=${word#*=}";; esac; done
echo "$OUMI_FLOW_JOB" >> ran.log
printf '%s\n' "$*" >> words.log
case $verb in
  train) mkdir -p "$v_trainingoutput_dir"; cat weights.txt > "$v_trainingoutput_dir/model.safetensors"
         date +%N > "$v_trainingoutput_dir/training_args.bin";;
  infer) echo said > "$v_output_path";;
esac
"""  # noqa: E501
TRAIN = """\
model:
  model_name: org/model
data:
  train:
    datasets:
      - dataset_name: org/data
training:
  learning_rate: 1e-4
  run_name: one
  num_train_epochs: 1
"""
INFER = "model: {model_name: org/model}\ninput_path: prompts.jsonl\n"


@pytest.fixture
def oumi(space: Space) -> Space:
    script = space.write("stand-in/oumi", OUMI)
    script.chmod(0o755)
    space.env["OUMI_FLOW_OUMI"] = str(script)
    space.write("weights.txt", "weights")
    space.write("train.yaml", TRAIN)
    space.write("infer.yaml", INFER)
    space.write("prompts.jsonl", '{"messages": []}\n')
    return space


def train(name: str = "train", **fields: Any) -> dict[str, Any]:
    return {"name": name, "verb": "train", "config": "train.yaml", **fields}


def ok(result: Result) -> Result:
    assert result.code == 0, result.text
    return result


def jobs_of(space: Space) -> list[str]:
    record = [json.loads(line) for line in ok(space.run("-n", "--json")).out.splitlines()]
    return [row["job"] for row in record[1]["rows"]]


# -- matrix ------------------------------------------------------------------------------------


def test_a_matrix_with_include_and_exclude(space: Space) -> None:
    matrix = {
        "lr": [1, 2],
        "size": ["s", "l"],
        "exclude": [{"lr": 2, "size": "l"}],
        "include": [{"lr": 9, "size": "xl"}],
    }
    space.workflow(
        space.job(
            "t-${{ matrix.lr }}-${{ matrix.size }}",
            "echo ${{ matrix.lr }} > ${{ job.name }}.txt",
            matrix=matrix,
        )
    )
    ok(space.run())
    assert sorted(space.ran()) == ["t-1-l", "t-1-s", "t-2-s", "t-9-xl"]
    assert space.read("t-9-xl.txt") == "9\n"


def test_a_new_value_runs_only_what_is_new(space: Space) -> None:
    def sweep(*values: float) -> None:
        space.workflow(
            space.job("t-${{ matrix.lr }}", "echo ${{ matrix.lr }}", matrix={"lr": list(values)})
        )

    sweep(1, 2)
    ok(space.run())
    space.ran()
    sweep(1, 2, 3)
    ok(space.run())
    assert space.ran() == ["t-3"]
    sweep(2, 1)
    dry = ok(space.run("-n"))
    assert "t-3" in dry.out
    assert "no longer in the file" in dry.out
    ok(space.run())
    assert space.ran() == []


def test_depends_on_a_glob_is_every_match(space: Space) -> None:
    space.workflow(
        space.job("last", depends_on=["t-*"]),
        space.job("t-${{ matrix.n }}", matrix={"n": [1, 2, 3]}),
        space.job("aside"),
    )
    ok(space.run("last"))
    ran = space.ran()
    assert ran[-1] == "last"
    assert sorted(ran[:-1]) == ["t-1", "t-2", "t-3"]
    space.workflow(space.job("last", depends_on=["q-*"]), space.job("t"))
    assert space.run().code == 2


def test_references_go_by_the_combination(space: Space) -> None:
    body = "echo ${{ matrix.n }} > ${{ job.output_dir }}/n"
    space.workflow(
        space.job("a-${{ matrix.n }}", body, matrix={"n": [1, 2]},
                  outputs=["${{ job.output_dir }}/n"]),
        space.job("b-${{ matrix.n }}",
                  "cat ${{ jobs.a-${{ matrix.n }}.outputs.0 }} > b$OUMI_FLOW_JOB",
                  matrix={"n": [1, 2]}),
    )  # fmt: skip
    ok(space.run())
    assert space.read("bb-2") == "2\n"
    space.ran()
    space.write("out/a-1/n", "edited\n")
    ok(space.run())
    assert space.ran() == ["a-1"]


def test_a_renamed_sweep_is_taken_over_by_rename(space: Space) -> None:
    def sweep(prefix: str) -> None:
        space.workflow(
            space.job(
                prefix + "-${{ matrix.n }}",
                "",
                matrix={"n": [1, 2]},
                outputs=["${{ job.output_dir }}/n"],
            )
            | {"run": "echo x >> ran.log; echo ${{ matrix.n }} > ${{ job.output_dir }}/n"}
        )

    sweep("old")
    ok(space.run())
    sweep("new")
    dry = ok(space.run("-n"))
    for n in (1, 2):
        advice = f"oumi-flow rename workflow.yaml old-{n} new-{n}"
        assert advice in dry.out
        ok(space.command(*advice.split()[1:]))
    space.ran()
    assert "up to date" in ok(space.run()).out
    assert space.ran() == []


# -- vars, defaults, uses ----------------------------------------------------------------------


def test_set_overrides_vars_and_is_a_reason(space: Space) -> None:
    space.workflow(space.job("a", "echo ${{ vars.word }} > a.txt"), vars={"word": "one"})
    ok(space.run())
    assert space.read("a.txt") == "one\n"
    said = ok(space.run("--set", "word=two"))
    assert "command changed" in said.out
    assert space.read("a.txt") == "two\n"
    space.ran()
    assert "up to date" in ok(space.run("--set", "word=two")).out
    ok(space.run())
    assert space.read("a.txt") == "one\n"
    wrong = space.run("--set", "wrod=x")
    assert wrong.code == 2
    assert 'did you mean "word"' in wrong.err


def test_a_shell_variable_that_changes_is_a_reason(space: Space) -> None:
    space.workflow(
        space.job("a", "echo $LR"), env={"LR": "${RATE:-0.1}", "WANDB_PROJECT": "${RATE:-x}"}
    )
    ok(space.run())
    space.ran()
    assert "up to date" in ok(space.run(UNRELATED="1")).out
    said = ok(space.run(RATE="0.2"))
    assert "env changed: LR: 0.1 → 0.2" in said.out
    assert space.ran() == ["a"]
    assert "up to date" in ok(space.run(RATE="0.2")).out


def test_defaults_merge_by_key(space: Space) -> None:
    space.workflow(
        space.job("a", "echo $A $B > a.txt", env={"B": "job"}),
        space.job("b", "echo $A $B > b.txt; exit 1", max_retries=0),
        space.job("c", "echo x >> c.txt; exit 1"),
        defaults={"env": {"A": "default", "B": "default"}, "max_retries": 1, "retry_delay": 0},
    )
    assert space.run().code == 1
    assert space.read("a.txt") == "default job\n"
    assert sorted(space.ran()) == ["a", "b", "c", "c"]


def test_nested_workflows_take_vars_and_are_a_group(space: Space) -> None:
    space.workflow(
        space.job("one", "echo ${{ vars.word }} > ${{ job.output_dir }}/w",
                  outputs=["${{ job.output_dir }}/w"]),
        space.job("two", "cat ${{ jobs.one.outputs.0 }} > two-${{ vars.word }}"),
        path="suite.yaml", name="suite", vars={"word": "default"},
    )  # fmt: skip
    space.workflow(
        {"name": "x", "uses": "suite.yaml", "vars": {"word": "${{ vars.own }}"}},
        {"name": "y", "uses": "suite.yaml"},
        space.job("after", "cat two-mine two-default > all", depends_on=["x", "y"]),
        vars={"own": "mine"},
    )
    assert jobs_of(space) == ["x/one", "x/two", "y/one", "y/two", "after"]
    ok(space.run())
    assert space.read("all") == "mine\ndefault\n"
    assert space.ran()[-1] == "after"
    assert "up to date" in ok(space.run("x/two", "y")).out
    ok(space.command("logs", "workflow.yaml", "x/one"))
    suite = space.read("suite.yaml").replace('"word": "default"', '"word": "other"')
    space.write("suite.yaml", suite)
    ok(space.run("--omit", "after"))
    assert space.exists("two-other")
    assert sorted(space.ran()) == ["one", "two"]


# -- what counts -------------------------------------------------------------------------------


def test_a_config_counts_by_meaning(oumi: Space) -> None:
    oumi.workflow(train())
    ok(oumi.run())
    assert oumi.ran() == ["train"]
    # Comments, order, spelling of numbers, and names for people change nothing.
    meant = TRAIN.replace("1e-4", "0.0001  # same").replace("run_name: one", "run_name: 'two'")
    oumi.write("train.yaml", "# note\n" + meant)
    assert "up to date" in ok(oumi.run()).out
    oumi.workflow(train(args=["training.learning_rate=1.0e-4"]))
    assert "up to date" in ok(oumi.run()).out
    oumi.workflow(train(args=["--training.learning_rate=3e-4"]))
    said = ok(oumi.run())
    assert "config changed: training.learning_rate: 0.0001 → 0.0003" in said.out
    assert oumi.ran() == ["train"]
    # The same edit in the file instead.
    oumi.workflow(train())
    oumi.write("train.yaml", TRAIN.replace("1e-4", "3e-4"))
    assert "up to date" in ok(oumi.run()).out
    oumi.write("train.yaml", TRAIN.replace("1e-4", "3e-4") + "  seed: 7\n")
    assert "config key added: training.seed" in ok(oumi.run("-n")).out


def test_fingerprint_ignores_and_adds_what_the_file_says(oumi: Space) -> None:
    rules = {"ignore": ["training.num_train_epochs"], "also": ["training.run_name"]}
    oumi.workflow(train(fingerprint=rules))
    ok(oumi.run())
    oumi.write("train.yaml", TRAIN.replace("epochs: 1", "epochs: 5"))
    assert "up to date" in ok(oumi.run()).out
    oumi.write("train.yaml", TRAIN.replace("run_name: one", "run_name: two"))
    said = ok(oumi.run())
    assert "config changed: training.run_name: one → two" in said.out


def test_same_weights_leave_the_rest_of_a_pipeline_alone(oumi: Space) -> None:
    infer = {
        "name": "infer",
        "verb": "infer",
        "config": "infer.yaml",
        "args": ["model.model_name=${{ jobs.train.output_dir }}"],
    }
    oumi.workflow(train(), infer)
    ok(oumi.run())
    assert oumi.ran() == ["train", "infer"]
    assert "model.model_name=out/train" in oumi.read("words.log")
    oumi.write("train.yaml", TRAIN + "  seed: 1\n")
    dry = ok(oumi.run("-n"))
    assert "waits for train; skipped if its output comes out the same" in dry.out
    said = ok(oumi.run())
    assert oumi.ran() == ["train"], said.out
    assert "up to date" in said.out
    oumi.write("weights.txt", "other")
    oumi.write("train.yaml", TRAIN + "  seed: 2\n")
    said = ok(oumi.run())
    assert oumi.ran() == ["train", "infer"]
    assert "train made a new out/train" in said.out


def test_metrics_of_a_sweep_show_the_keys_that_differ(oumi: Space) -> None:
    oumi.workflow(
        train(
            "t-${{ matrix.lr }}",
            matrix={"lr": [0.1, 0.2]},
            args=["training.learning_rate=${{ matrix.lr }}"],
        )
    )
    script = oumi.read("stand-in/oumi") + "echo \"{'train_loss': 0.5, 'epoch': 1.0}\"\n"
    oumi.write("stand-in/oumi", script).chmod(0o755)
    ok(oumi.run())
    table = ok(oumi.command("metrics", "workflow.yaml")).out.splitlines()
    assert table[0].split()[:2] == ["job", "learning_rate"], table
    assert table[1].split()[:2] == ["t-0.1", "0.1"]
    records = json.loads(ok(oumi.command("metrics", "workflow.yaml", "--json")).out)
    assert [record["config"] for record in records] == [
        {"training.learning_rate": 0.1},
        {"training.learning_rate": 0.2},
    ]
    csv = ok(oumi.command("metrics", "workflow.yaml", "--csv")).out.splitlines()
    assert csv[0].startswith("job,training.learning_rate,")


def test_no_oumi_is_one_error_that_helps(oumi: Space) -> None:
    oumi.workflow(train(), oumi.job("aside"))
    said = oumi.run(OUMI_FLOW_OUMI="/nowhere/oumi")
    assert said.code == 2
    assert "oumi" in said.err
    assert oumi.ran() == []
    missing = oumi.run("--oumi", "/nowhere/oumi")
    assert missing.code == 2
    assert "/nowhere/oumi" in missing.err
    del oumi.env["OUMI_FLOW_OUMI"]
    given = ok(oumi.run("--oumi", str(oumi.root / "stand-in/oumi")))
    assert "2 done" in given.out


def test_an_edit_of_the_config_while_it_runs_is_the_next_runs(oumi: Space) -> None:
    script = oumi.read("stand-in/oumi").replace(
        "set -eu", 'set -eu\nsed -i s/1e-4/9e-4/ train.yaml; cat "$3" > got.yaml'
    )
    oumi.write("stand-in/oumi", script).chmod(0o755)
    oumi.workflow(train())
    ok(oumi.run())
    assert "1e-4" in oumi.read("got.yaml")
    said = ok(oumi.run("-n"))
    assert "config changed: training.learning_rate: 0.0001 → 0.0009" in said.out
