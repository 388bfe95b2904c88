"""What has to run again and what has not: edges, content, and work that must not be lost."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.disk import is_settled, stamp_of
from tests.flow.conftest import Space, wait_for

# Does what each verb promises: a model made of the data it was given, predictions of the model,
# results of the model. Data and models are found by the words `data=` and `model=` of the args,
# else in the config.
OUMI = r"""#!/bin/bash
set -eu
verb=$1; shift
[ "$verb" = judge ] && shift
echo "$verb $*" >> words.log
config=; declare -A given
while [ $# -gt 0 ]; do
  case $1 in
    -c) config=$2; shift 2;;
    --*=*) word=${1#--}; given[${word%%=*}]=${word#*=}; shift;;
    *) shift;;
  esac
done
echo "$OUMI_FLOW_JOB" >> ran.log
value() { # the last part of a key: from the words, else from the config
  local found=${given[$1]:-}
  [ -n "$found" ] || found=$(sed -n "s/^[- ]*${1##*.}: *//p" "$config" | head -n 1)
  echo "$found"
}
said() {
  if [ -d "$1" ]; then cat "$1"/*.safetensors; elif [ -f "$1" ]; then cat "$1"; else echo "$1"; fi
}
whole() { # a checkpoint that a trainer has finished
  mkdir "$1"
  printf '\2\0\0\0\0\0\0\0{}' > "$1/model.safetensors"
  local part; for part in optimizer.pt scheduler.pt rng_state.pth; do
    { printf 'PK\5\6'; head -c 18 /dev/zero; } > "$1/$part"
  done
  echo '{}' > "$1/trainer_state.json"
}
case $verb in
  train)
    out=${given[training.output_dir]}; mkdir -p "$out"
    if [ -n "${CHECKPOINT:-}" ]; then
      whole "$out/checkpoint-$CHECKPOINT"
    fi
    [ -z "${FAIL:-}" ] || exit 1
    data=${given[data.train.datasets[0].dataset_path]:-$(value dataset_path)}
    { said "$data"; value training.learning_rate; } > "$out/model.safetensors"
    date +%N > "$out/trainer_state.json";;
  evaluate)
    out=${given[output_dir]}/lm_$(date +%N); mkdir -p "$out"
    model=$(value model.model_name)
    size=$(said "$model" | wc -c)
    printf '{"results": {"task": {"acc": %s}}}' "$size" > "$out/task_result.json";;
  infer|synth)
    said "$(value model.model_name)" > "${given[output_path]}";;
  judge)
    cat "${given[input]}" > "${given[output]}";;
esac
"""

DATA = "data:\n  train:\n    datasets:\n      - dataset_path: hub/data\n"


@pytest.fixture
def oumi(space: Space) -> Space:
    """A space whose oumi is a stand-in that writes what the real one would."""
    script = space.write("bin/oumi", OUMI)
    script.chmod(0o755)
    space.env["OUMI_FLOW_OUMI"] = str(script)
    return space


def ran(space: Space, *args: str, **env: str) -> list[str]:
    """The jobs that a run of the workflow ran."""
    result = space.run(*args, **env)
    assert result.code == 0, result.text
    return space.ran()


def rests(path: Path) -> bool:
    """Whether its last change is long enough ago for its stamp to be trusted."""
    return is_settled(stamp_of(path.stat()), time.time_ns())


def copy(source: str, target: str) -> dict[str, Any]:
    return {"run": f"cat {source} > {target}", "inputs": [source], "outputs": [target]}


# Edges ---------------------------------------------------------------------------------------


def test_a_glob_over_what_jobs_make_waits_for_them(space: Space) -> None:
    space.write("a.txt", "1\n")
    jobs = [
        space.job("make", "cat a.txt > made-1.txt", inputs=["a.txt"], outputs=["made-1.txt"]),
        space.job("use", "cat made-*.txt > all", inputs=["made-*.txt"], outputs=["all"]),
    ]
    space.workflow(*jobs)
    assert ran(space) == ["make", "use"]
    space.write("a.txt", "2\n")
    assert ran(space) == ["make", "use"]
    assert space.read("all") == "2\n"
    assert ran(space) == []
    (space.root / "made-1.txt").unlink()
    assert ran(space) == ["make"]
    assert ran(space) == []


@pytest.mark.parametrize(
    "pattern", ["made/**/x.txt", "made/*", "mad?/x.txt", "**/x.txt", "./made/../made/*.txt"]
)
def test_a_glob_finds_its_makers(space: Space, pattern: str) -> None:
    space.write("a.txt", "1\n")
    space.workflow(
        space.job("use", "cat made/x.txt > all", inputs=[pattern], outputs=["all"]),
        space.job("make", "cat a.txt > made/x.txt", inputs=["a.txt"], outputs=["made/x.txt"]),
    )
    assert ran(space) == ["make", "use"]
    space.write("a.txt", "2\n")
    assert ran(space) == ["make", "use"]
    assert ran(space) == []


def test_a_glob_into_the_place_of_a_job_waits_for_it(oumi: Space) -> None:
    space = oumi
    space.write("d.txt", "1\n")
    space.write("t.yaml", DATA.replace("hub/data", "d.txt"))
    space.workflow(
        space.job(
            "use",
            "cat out/t-*/*.safetensors > all",
            inputs=["out/t-*/*.safetensors"],
            outputs=["all"],
        ),
        {"name": "t-1", "verb": "train", "config": "t.yaml"},
    )
    assert ran(space) == ["t-1", "use"]
    space.write("d.txt", "2\n")
    assert ran(space) == ["t-1", "use"]
    assert ran(space) == []


def test_a_folder_that_holds_what_a_job_makes_waits_for_it(space: Space) -> None:
    space.write("data/raw.txt", "1\n")
    space.workflow(
        space.job("use", "cat data/*.txt > all", inputs=["data"], outputs=["all"]),
        space.job(
            "make",
            "cat data/raw.txt > data/made.txt",
            inputs=["data/raw.txt"],
            outputs=["data/made.txt"],
        ),
    )
    assert ran(space) == ["make", "use"]
    space.write("data/raw.txt", "2\n")
    assert ran(space) == ["make", "use"]
    assert space.read("all") == "2\n2\n"
    assert ran(space) == []


def test_a_dataset_folder_that_holds_what_a_job_makes_waits_for_it(oumi: Space) -> None:
    space = oumi
    space.write("data/raw.safetensors", "1\n")
    space.write("t.yaml", "data:\n  train:\n    datasets:\n      - dataset_path: data\n")
    space.workflow(
        {"name": "t", "verb": "train", "config": "t.yaml"},
        space.job(
            "make",
            "cat data/raw.safetensors > data/made.safetensors",
            inputs=["data/raw.safetensors"],
            outputs=["data/made.safetensors"],
        ),
    )
    assert ran(space) == ["make", "t"]
    space.write("data/raw.safetensors", "2\n")
    assert ran(space) == ["make", "t"]
    assert ran(space) == []


def test_references_in_a_list_with_commas_are_seen(space: Space) -> None:
    space.write("a.txt", "1\n")
    space.workflow(
        space.job(
            "a",
            "cat a.txt > ${{ job.output_dir }}/x",
            inputs=["a.txt"],
            outputs=["${{ job.output_dir }}/x"],
        ),
        space.job(
            "b",
            "cat a.txt > ${{ job.output_dir }}/x",
            inputs=["a.txt"],
            outputs=["${{ job.output_dir }}/x"],
        ),
        space.job(
            "use",
            "files=${{ jobs.a.output_dir }}/x,${{ jobs.b.output_dir }}/x; cat ${files//,/ } > all",
            outputs=["all"],
        ),
    )
    assert ran(space)[-1] == "use"
    space.write("a.txt", "2\n")
    assert "use" in ran(space)
    assert ran(space) == []


def test_a_reference_that_is_the_beginning_of_names_is_seen(space: Space) -> None:
    space.write("a.txt", "1\n")
    space.workflow(
        space.job(
            "a",
            "cat a.txt > ${{ job.output_dir }}/x-1",
            inputs=["a.txt"],
            outputs=["${{ job.output_dir }}/x-1"],
        ),
        space.job("use", "p=${{ jobs.a.output_dir }}/x; cat $p-1 > all", outputs=["all"]),
    )
    assert ran(space) == ["a", "use"]
    space.write("a.txt", "2\n")
    assert ran(space) == ["a", "use"]
    assert ran(space) == []


def test_a_glob_that_matches_the_own_output_does_not_run_for_ever(space: Space) -> None:
    space.write("a.txt", "1\n")
    space.workflow(space.job("join", "date +%N > all.txt", inputs=["*.txt"], outputs=["all.txt"]))
    result = space.run()
    if result.code == 0:
        space.ran()
        assert ran(space) == []
    else:
        assert "all.txt" in result.text


def test_a_folder_that_holds_the_own_output_does_not_run_for_ever(space: Space) -> None:
    space.write("data/a.txt", "1\n")
    space.workflow(
        space.job("join", "date +%N > data/all.txt", inputs=["data"], outputs=["data/all.txt"])
    )
    result = space.run()
    if result.code == 0:
        space.ran()
        assert ran(space) == []
    else:
        assert "all.txt" in result.text


def test_an_output_folder_that_is_a_link_is_the_folder_it_leads_to(space: Space) -> None:
    space.write("a.txt", "1\n")
    scratch = space.root.parent / "scratch"
    scratch.mkdir()
    (space.root / "out").symlink_to(scratch)
    space.workflow(
        space.job(
            "use", f"cat {scratch}/make/x > all", inputs=[f"{scratch}/make/x"], outputs=["all"]
        ),
        space.job(
            "make",
            "cat a.txt > ${{ job.output_dir }}/x",
            inputs=["a.txt"],
            outputs=["${{ job.output_dir }}/x"],
        ),
    )
    assert ran(space) == ["make", "use"]
    space.write("a.txt", "2\n")
    assert ran(space) == ["make", "use"]


def test_an_input_through_a_link_is_what_the_job_makes(space: Space) -> None:
    space.write("a.txt", "1\n")
    space.workflow(
        space.job("use", "cat latest/x > all", inputs=["latest/x"], outputs=["all"]),
        space.job(
            "make",
            "cat a.txt > ${{ job.output_dir }}/x",
            inputs=["a.txt"],
            outputs=["${{ job.output_dir }}/x"],
        ),
    )
    (space.root / "latest").symlink_to("out/make")
    assert ran(space) == ["make", "use"]
    space.write("a.txt", "2\n")
    assert ran(space) == ["make", "use"]
    assert ran(space) == []


def test_a_workdir_behind_a_link_is_where_it_leads_to(space: Space) -> None:
    """`..` and what jobs are told of each other fit the folder that the process stands in."""
    scratch = space.root.parent / "scratch"
    (scratch / "work").mkdir(parents=True)
    (space.root / "work").symlink_to(scratch / "work")
    (scratch / "a.txt").write_text("1\n")
    made = {"run": "cat ../a.txt > ${{ job.output_dir }}/x", "workdir": "work"}
    space.workflow(
        {
            "name": "make",
            "verb": "shell",
            **made,
            "inputs": [f"{scratch}/a.txt"],
            "outputs": ["${{ job.output_dir }}/x"],
        },
        {
            "name": "use",
            "verb": "shell",
            "workdir": "work",
            "run": "cat ${{ jobs.make.outputs.0 }} > ${{ job.output_dir }}/y",
            "outputs": ["${{ job.output_dir }}/y"],
        },
    )
    assert space.run().code == 0
    assert space.read("out/use/y") == "1\n"
    assert "up to date" in space.run().text
    (scratch / "a.txt").write_text("2\n")
    assert space.run().code == 0
    assert space.read("out/use/y") == "2\n"
    other = space.root.parent / "other"
    (other / "work").mkdir(parents=True)
    (space.root / "work").unlink()
    (space.root / "work").symlink_to(other / "work")
    assert "No such file" in space.run("--force-all").text


@pytest.mark.parametrize("name", ["d", "d/x"])
def test_a_path_that_becomes_a_link_to_what_a_job_makes(space: Space, name: str) -> None:
    """With the same content, so that nothing is stale for that."""
    space.write("a.txt", "1\n")
    space.write("d/x", "1\n")
    space.workflow(
        space.job("use", "cat d/x > all", inputs=[name], outputs=["all"]),
        space.job("make", "mkdir -p gen; cat a.txt > gen/x", inputs=["a.txt"], outputs=["gen"]),
    )
    assert sorted(ran(space)) == ["make", "use"]
    assert ran(space) == []
    shutil.rmtree(space.root / "d")
    (space.root / "d").symlink_to("gen")
    assert ran(space) == ["use"], "it reads what a job makes now"
    space.write("a.txt", "2\n")
    assert ran(space) == ["make", "use"]
    assert space.read("all") == "2\n"
    assert ran(space) == []


def test_two_outputs_that_links_make_one_are_refused(space: Space) -> None:
    scratch = space.root.parent / "scratch"
    scratch.mkdir()
    (space.root / "made").symlink_to(scratch)
    space.workflow(
        space.job("a", "echo a > made/x", outputs=["made/x"]),
        space.job("b", f"echo b > {scratch}/x", outputs=[f"{scratch}/x"]),
    )
    result = space.run()
    assert result.code == 2
    assert 'output of job "a" too' in result.text


# Snapshot ------------------------------------------------------------------------------------


def test_an_oumi_verb_finds_its_places_from_a_workdir_behind_a_link(oumi: Space) -> None:
    space = oumi
    scratch = space.root.parent / "scratch"
    (scratch / "wd").mkdir(parents=True)
    (space.root / "big").symlink_to(scratch)
    space.write("in.jsonl", "{}\n")
    (scratch / "in.jsonl").write_text("1\n")
    space.write("i.yaml", "model: {model_name: org/x}\ninput_path: ../in.jsonl\n")
    space.workflow({"name": "i", "verb": "infer", "config": "i.yaml", "workdir": "big/wd"})
    result = space.run()
    assert result.code == 0, result.text
    assert space.exists("out/i/predictions.jsonl")
    space.write("in.jsonl", "{2}\n")
    assert "up to date" in space.run("-n").text, "it is another file"
    (scratch / "in.jsonl").write_text("2\n")
    assert "in.jsonl" in space.run("-n").text


def test_the_model_below_an_adapter_is_an_input_too(oumi: Space) -> None:
    space = oumi
    adapter = {"base_model_name_or_path": "base"}
    space.write("lora/adapter_config.json", json.dumps(adapter))
    space.write("lora/adapter_model.safetensors", "a\n")
    space.write("base/model.safetensors", "1\n")
    space.write("other/model.safetensors", "1\n")
    space.write("i.yaml", "model:\n  model_name: lora\ninput_path: in.jsonl\n")
    space.write("in.jsonl", "{}\n")
    space.workflow({"name": "i", "verb": "infer", "config": "i.yaml"})
    assert ran(space) == ["i"]
    space.write("base/README.md", "words\n")
    assert ran(space) == []
    space.write("base/model.safetensors", "2\n")
    assert ran(space) == ["i"]
    space.write("lora/adapter_config.json", json.dumps({"base_model_name_or_path": "other"}))
    assert ran(space) == ["i"]
    space.write("other/model.safetensors", "2\n")
    assert ran(space) == ["i"]
    for broken in ("[]", "{", json.dumps({"base_model_name_or_path": 5}), "", "not/there"):
        text = broken if "/" not in broken else json.dumps({"base_model_name_or_path": broken})
        space.write("lora/adapter_config.json", text)
        assert space.run("-n").code == 0


def test_data_under_a_key_that_sounds_like_a_model_counts_whole(oumi: Space) -> None:
    space = oumi
    task = "{task_name: t, evaluation_backend: custom, eval_kwargs: {model_answers: answers}}"
    space.write("e.yaml", f"model: {{model_name: org/x}}\ntasks: [{task}]\n")
    space.write("answers/README.md", "1\n")
    space.workflow({"name": "e", "verb": "evaluate", "config": "e.yaml"})
    assert ran(space) == ["e"]
    space.write("answers/README.md", "2\n")
    assert ran(space) == ["e"]


def test_what_comes_to_match_a_pattern_of_a_config_is_an_input(oumi: Space) -> None:
    space = oumi
    task = "{task_name: t, evaluation_backend: custom, eval_kwargs: {files: 'data/*'}}"
    space.write("e.yaml", f"model: {{model_name: org/x}}\ntasks: [{task}]\n")
    (space.root / "data").mkdir()
    os.utime(space.root / "data", (1, 1))
    space.workflow({"name": "e", "verb": "evaluate", "config": "e.yaml"})
    wait_for(lambda: rests(space.root / "data"), "the folder has rested")
    assert ran(space) == ["e"]
    assert ran(space) == []
    space.write("data/x", "1\n")
    assert ran(space) == ["e"]


def test_a_plug_in_that_changes_is_noticed(oumi: Space) -> None:
    space = oumi
    space.write("bin/oumi", "#!/bin/sh\necho $1 > verb\n")
    row = "from oumi_flow.verbs import VerbSpec\n"
    row += "ROW = VerbSpec(name='distill', argv=('{}',), output_key='output_dir')\n"
    space.write("lib/extra_verb.py", row.format("infer"))
    space.write("lib/extra-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: e\nVersion: 1\n")
    points = "[oumi_flow.verbs]\ndistill = extra_verb:ROW\n"
    space.write("lib/extra-1.0.dist-info/entry_points.txt", points)
    space.env["PYTHONPATH"] = str(space.root / "lib")
    space.write("c.yaml", "model: {model_name: org/x}\n")
    space.workflow({"name": "d", "verb": "distill", "config": "c.yaml"})
    for word in ("infer", "infer", "evaluate"):
        space.write("lib/extra_verb.py", row.format(word))
        space.run("--force-all")  # what it makes is no matter
        assert space.read("verb") == f"{word}\n"


def test_a_local_model_that_goes_away_is_a_name_on_the_hub_again(oumi: Space) -> None:
    space = oumi
    space.write("gpt2/model.safetensors", "w\n")
    space.write(
        "e.yaml", "model:\n  model_name: gpt2\ntasks:\n  - evaluation_backend: lm_harness\n"
    )
    space.workflow({"name": "e", "verb": "evaluate", "config": "e.yaml"})
    old = space.root / "workflow.yaml"
    for each in (old, space.root / "e.yaml"):
        os.utime(each)
    assert ran(space) == ["e"]
    assert ran(space) == []
    assert ran(space) == []
    (space.root / "gpt2/model.safetensors").unlink()
    (space.root / "gpt2").rmdir()
    assert ran(space) == ["e"]
    assert ran(space) == []


def test_a_glob_that_matches_nothing_any_more_is_told(space: Space) -> None:
    space.write("in-1.txt", "1\n")
    space.workflow(
        space.job("use", "cat in-*.txt > all || true", inputs=["in-*.txt"], outputs=["all"])
    )
    assert ran(space) == ["use"]
    assert ran(space) == []
    (space.root / "in-1.txt").unlink()
    result = space.run()
    assert result.code == 2
    assert "matches nothing" in result.text


def test_another_oumi_dir_is_another_config(oumi: Space) -> None:
    space = oumi
    for name, rate in (("one", "1"), ("two", "2")):
        space.write(
            f"{name}/configs/t.yaml",
            f"training:\n  learning_rate: {rate}\n{DATA}",
        )
    space.workflow({"name": "t", "verb": "train", "config": "oumi://configs/t.yaml"})
    one, two = str(space.root / "one"), str(space.root / "two")
    assert ran(space, OUMI_DIR=one) == ["t"]
    assert ran(space, OUMI_DIR=one) == []
    assert ran(space, OUMI_DIR=two) == ["t"]


# Lost and repeated work ----------------------------------------------------------------------

KILLED = """
import os, signal, sys
from oumi_flow.cli import main
from oumi_flow.store import Store
Store.set_aside = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def train(space: Space, rate: float, **fields: object) -> None:
    """A training that goes on from checkpoints, writes one and says what it went on from."""
    space.write("t.yaml", f"training:\n  learning_rate: {rate}\n{DATA}")
    space.workflow({"name": "t", "verb": "train", "config": "t.yaml", **fields})


def checkpoint(space: Space, folder: str) -> Path:
    """A finished checkpoint; returns its last file."""
    space.write(f"{folder}/model.safetensors", "\2" + "\0" * 7 + "{}")
    for part in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        space.write(f"{folder}/{part}", "PK\5\6" + "\0" * 18)
    return space.write(f"{folder}/trainer_state.json", "{}")


def test_a_kill_before_the_folder_is_cleared_takes_no_old_checkpoint(oumi: Space) -> None:
    space = oumi
    train(space, 0.1)
    assert ran(space) == ["t"]
    checkpoint(space, "out/t/checkpoint-90")
    train(space, 0.2)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "run", "workflow.yaml", "--no-tui"],
        cwd=space.root,
        env=space.env,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    result = space.run()
    assert result.code == 0, result.text
    assert "checkpoint-90" not in result.text + space.read("out/t/job.log")
    assert "resume" not in space.read("words.log")
    assert not space.exists("out/t/checkpoint-90")


def test_a_kept_place_gives_no_checkpoint_of_another_build(oumi: Space) -> None:
    space = oumi
    args = ["training.output_dir=models/t"]
    train(space, 0.1, args=args)
    assert ran(space) == ["t"]
    old = checkpoint(space, "models/t/checkpoint-90")
    os.utime(old, (1e9, 1e9))
    train(space, 0.2, args=args)
    assert space.run(FAIL="1").code == 1
    assert space.run(FAIL="1").code == 1
    assert ran(space) == ["t"] * 3
    assert "resume" not in space.read("words.log")


def test_a_kept_place_gives_the_checkpoint_of_this_build(oumi: Space) -> None:
    space = oumi
    train(space, 0.1, args=["training.output_dir=models/t"])
    assert space.run(FAIL="1", CHECKPOINT="10").code == 1
    assert space.run(FAIL="1").code == 1  # made none of its own
    assert ran(space) == ["t"] * 3
    assert space.read("words.log").count("resume_from_checkpoint=models/t/checkpoint-10") == 2


# What does not matter ------------------------------------------------------------------------


def test_the_order_of_outputs_does_not_matter_to_those_who_read_them(space: Space) -> None:
    def write(*outputs: str) -> None:
        space.workflow(
            space.job("a", "echo 1 > x; echo 2 > y", outputs=list(outputs)),
            space.job("b", "cat x > z", inputs=["x"], outputs=["z"]),
        )

    write("x")
    assert ran(space) == ["a", "b"]
    write("y", "x")
    assert ran(space) == ["a"]
    write("x", "y")
    assert ran(space) == []


def test_a_moved_output_folder_takes_what_lies_beside_the_jobs_along(space: Space) -> None:
    def write(folder: str) -> None:
        space.workflow(
            space.job(
                "a",
                "echo 1 > ${{ workflow.output_dir }}/shared",
                outputs=["${{ workflow.output_dir }}/shared"],
            ),
            space.job("b", "cat ${{ jobs.a.outputs.0 }} > z", outputs=["z"]),
            output_dir=folder,
        )

    write("out")
    assert ran(space) == ["a", "b"]
    (space.root / "out").rename(space.root / "runs")
    write("runs")
    assert ran(space) == []


def test_another_image_is_another_question(oumi: Space) -> None:
    space = oumi
    space.write("in.jsonl", "1\n")
    space.write("pic.png", "cat")
    space.write("i.yaml", "model:\n  model_name: hub/x\ninput_path: in.jsonl\n")
    job = {"name": "i", "verb": "infer", "config": "i.yaml", "args": ["--image=pic.png"]}
    space.workflow(job)
    assert ran(space) == ["i"]
    assert ran(space) == []
    space.write("pic.png", "dog")
    assert ran(space) == ["i"]


# Content and records -------------------------------------------------------------------------


def test_an_edit_is_seen_whatever_hides_it(space: Space) -> None:
    data = space.write("data", "1\n")
    space.workflow(space.job("a", **copy("data", "made")))
    assert ran(space) == ["a"]
    first = data.stat()

    def old_times() -> None:
        os.utime(data, ns=(first.st_atime_ns, first.st_mtime_ns))

    data.write_text("2\n")
    old_times()
    assert ran(space) == ["a"], "equal size and time"
    (space.root / "other").hardlink_to(data)
    assert ran(space) == []
    (space.root / "other").write_text("3\n")
    old_times()
    assert ran(space) == ["a"], "through another name of it"
    with data.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"4"
    assert ran(space) == ["a"], "in a mapping"
    space.write("next", "5\n").replace(data)
    old_times()
    assert ran(space) == ["a"], "another file in its place"
    assert space.read("made") == "5\n"
    assert ran(space) == []


def test_empty_folders_and_links_of_an_input_folder_count(space: Space) -> None:
    space.write("d/x", "1\n")
    space.workflow(space.job("a", "ls -lR d > made", inputs=["d"], outputs=["made"]))
    assert ran(space) == ["a"]
    link = space.root / "d/link"
    (space.root / "d/empty").mkdir()
    assert ran(space) == ["a"]
    for target in ("nowhere", "elsewhere", "x", "."):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert ran(space) == ["a"], target
    (space.root / "d/x").chmod(0o755)
    assert ran(space) == []


def test_markers_are_the_truth_and_the_index_is_none(space: Space) -> None:
    space.write("data", "1\n")
    space.workflow(space.job("a", **copy("data", "made")), space.job("b", **copy("made", "last")))
    assert ran(space) == ["a", "b"]
    marker, index = space.root / "out/a/.oumi-flow/done.json", space.root / "out/.oumi-flow/index"
    shutil.copy2(marker, space.root / "old.json")
    space.write("data", "2\n")
    assert ran(space) == ["a", "b"]
    shutil.copy2(space.root / "old.json", marker)
    assert ran(space) == ["a"], "it came out as before"
    index.unlink()
    assert ran(space) == []
    index.write_text("garbage")
    assert ran(space) == []
    shutil.copytree(space.root / "out", space.root / "copy")
    shutil.rmtree(space.root / "out")
    (space.root / "copy").rename(space.root / "out")
    assert ran(space) == []
    marker.unlink()
    assert ran(space) == ["a"]


def test_jobs_that_swap_their_names_run_and_those_who_read_them_do_not(space: Space) -> None:
    def write(one: str, two: str) -> None:
        made = "${{ job.output_dir }}/x"
        space.workflow(
            space.job(one, f": 1; echo one > {made}", outputs=[made]),
            space.job(two, f": 2; echo two > {made}", outputs=[made]),
            space.job("use", f"cat ${{{{ jobs.{one}.output_dir }}}}/x > all", outputs=["all"]),
        )

    write("a", "b")
    assert sorted(ran(space)) == ["a", "b", "use"]
    write("b", "a")
    assert sorted(ran(space)) == ["a", "b"]
    assert space.read("all") == "one\n"
    assert ran(space) == []


def test_an_edit_while_it_waits_or_runs_is_for_the_next_run(oumi: Space) -> None:
    space = oumi
    train(space, 0.1)
    space.write("data", "1\n")
    wait = "cat data > made; while [ ! -e go ]; do sleep 0.02; done"
    space.workflow(
        space.job("a", wait, inputs=["data"], outputs=["made"]),
        {"name": "t", "verb": "train", "config": "t.yaml", "depends_on": ["a"]},
    )
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("made") and space.read("made") == "1\n", "a has begun")
    space.write("t.yaml", f"training:\n  learning_rate: 0.9\n{DATA}")
    space.write("data", "2\n")
    space.write("go", "")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert space.ran() == ["a", "t"]
    assert "0.1" in space.read("out/t/model.safetensors")
    assert "input changed: data (while it ran)" in space.run("--dry-run", "-v").text
    assert ran(space) == ["a", "t"]
    assert "0.9" in space.read("out/t/model.safetensors")
    assert ran(space) == []
