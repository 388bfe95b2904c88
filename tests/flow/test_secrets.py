"""Values of secrets are in the job's environment and nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.flow.conftest import Space, wait_for

VALUE = "hunter2-swordfish-42"
GO = "while [ ! -e go ]; do sleep 0.02; done"


def secretive(space: Space, run: str, **fields: Any) -> None:
    space.workflow(
        space.job("job", run, **fields), space.job("next", depends_on=["job"]),
        env={"HF_TOKEN": "${HF_TOKEN}", "PLAIN": "seen"},
    )  # fmt: skip


def places_of(space: Space, value: str) -> list[str]:
    """Files below the project, the user's folders and the lock folder that hold `value`."""
    found = []
    for folder, _, names in os.walk(space.root.parent):
        for name in names:
            path = Path(folder, name)
            if value.encode() in path.read_bytes() or value in str(path):
                found.append(str(path.relative_to(space.root.parent)))
    return found


def test_no_value_is_on_disk_or_on_any_screen(space: Space) -> None:
    secretive(
        space,
        '[ "$HF_TOKEN" = hunter2-swordfish-42 ] || [ "$HF_TOKEN" = other-swordfish-43 ]\n'
        'echo "token is $HF_TOKEN"; printf "%s" "$HF_TOKEN" >&2; exit 3',
        max_retries=1,
        retry_delay=0,
    )
    text = space.read("workflow.yaml").replace("hunter2-swordfish-42", "h''unter2-swordfish-42")
    space.write("workflow.yaml", text)
    said = space.run("-v", "-j1", HF_TOKEN=VALUE)
    assert said.code == 1
    assert "exit 3" in said.text
    for words in (
        ["run", "workflow.yaml", "-n", "-v"],
        ["run", "workflow.yaml", "-n", "--json"],
        ["run", "workflow.yaml", "--dag"],
        ["run", "workflow.yaml", "--json"],
        ["why", "workflow.yaml", "job", "-v", "--json"],
        ["status", "workflow.yaml", "--json"],
        ["errors", "workflow.yaml"],
        ["logs", "workflow.yaml", "job"],
        ["logs", "workflow.yaml", "job", "--attempt", "1"],
        ["validate", "workflow.yaml"],
        ["metrics", "workflow.yaml", "--json"],
    ):
        assert VALUE not in space.command(*words, HF_TOKEN=VALUE).text, words
    assert VALUE not in said.text
    assert places_of(space, VALUE) == []
    assert "token is ****" in space.read("out/job/job.log")


def test_a_value_is_in_no_command_line(space: Space) -> None:
    secretive(space, f"echo x > begun; {GO}")
    process = space.start("run", "workflow.yaml", "--no-tui", HF_TOKEN=VALUE)
    wait_for(lambda: space.exists("begun"), "the job runs")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            assert VALUE.encode() not in line, line
    space.write("go", "")
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_rotating_one_reruns_nothing_and_a_plain_one_does(space: Space) -> None:
    secretive(space, "true")
    assert space.run(HF_TOKEN=VALUE).code == 0
    space.ran()
    assert "up to date" in space.run(HF_TOKEN="other-" + VALUE).out
    assert space.ran() == []


def test_an_unset_one_is_an_error_before_anything_runs(space: Space) -> None:
    secretive(space, "true")
    env = {key: value for key, value in space.env.items() if key != "HF_TOKEN"}
    space.env = env
    said = space.run()
    assert said.code == 2
    assert "HF_TOKEN" in said.err
    assert "workflow.yaml:" in said.err
    assert space.ran() == []


def test_state_files_are_private(space: Space) -> None:
    secretive(space, "echo hello", outputs=["made.txt"])
    data = space.read("workflow.yaml").replace("echo hello", "echo hello > made.txt")
    space.write("workflow.yaml", data)
    old = os.umask(0o022)
    try:
        assert space.run(HF_TOKEN=VALUE).code == 0
    finally:
        os.umask(old)
    for folder, _, names in os.walk(space.root / "out"):
        if "/.oumi-flow" in folder:
            assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700, folder
            for name in names:
                mode = stat.S_IMODE(os.stat(Path(folder, name)).st_mode)
                assert mode == 0o600, f"{folder}/{name}: {mode:o}"
    log = space.root / "out/job/job.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    for folder, _, names in os.walk(space.env["OUMI_FLOW_HOME"]):
        for name in names:
            assert stat.S_IMODE(os.stat(Path(folder, name)).st_mode) == 0o600


def test_listed_ones_and_names_that_only_look_like_one(space: Space) -> None:
    space.workflow(
        space.job("job", 'echo "$MY_PASSPHRASE $TOKENIZERS_PARALLELISM"'),
        env={"MY_PASSPHRASE": "${PHRASE}", "TOKENIZERS_PARALLELISM": "${PARALLEL}"},
        secrets=["MY_PASSPHRASE"],
    )
    assert space.run(PHRASE=VALUE, PARALLEL="parallel-value").code == 0
    log = space.read("out/job/job.log")
    assert "**** parallel-value" in log
    assert places_of(space, VALUE) == []
    space.ran()
    assert "up to date" in space.run(PHRASE="else-" + VALUE, PARALLEL="parallel-value").out
    changed = space.run(PHRASE=VALUE, PARALLEL="serial-value")
    assert "env changed: TOKENIZERS_PARALLELISM: parallel-value → serial-value" in changed.out


def test_a_literal_one_is_kept_nowhere_but_in_the_file(space: Space) -> None:
    space.workflow(space.job("job", 'echo "$API_KEY"'), env={"API_KEY": VALUE})
    assert space.run().code == 0
    assert "up to date" in space.run().out
    assert places_of(space, VALUE) == ["project/workflow.yaml"]


@pytest.mark.parametrize("field", ["run", "args", "output_dir"])
def test_a_secret_outside_env_is_refused(space: Space, field: str) -> None:
    job = space.job("job")
    fields: dict[str, Any] = {}
    if field == "run":
        job["workdir"] = "${HF_TOKEN}"
    elif field == "args":
        job = {"name": "job", "verb": "train", "config": "c.yaml", "args": ["a=${HF_TOKEN}"]}
        space.write("c.yaml", "model: {model_name: x}\n")
    else:
        fields["output_dir"] = "out-${HF_TOKEN}"
    space.workflow(job, **fields)
    said = space.command("validate", "workflow.yaml", HF_TOKEN=VALUE)
    assert said.code == 2
    assert "HF_TOKEN" in said.err
    assert VALUE not in said.text


def test_a_value_split_over_writes_is_masked(space: Space) -> None:
    half = len(VALUE) // 2
    secretive(
        space,
        f'printf "%s" "${{HF_TOKEN:0:{half}}}"; sleep 0.1; printf "%s\\n" "${{HF_TOKEN:{half}}}"',
    )
    assert space.run(HF_TOKEN=VALUE).code == 0
    assert places_of(space, VALUE) == []
