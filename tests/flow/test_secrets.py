"""Values of secrets are in the job's environment and nowhere else."""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import stat
import urllib.parse
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.commands.watching import Watching
from oumi_flow.store import STATE, Store
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


def test_one_given_by_a_var_is_kept_nowhere(space: Space) -> None:
    space.workflow(
        space.job("job", 'echo "token is $HF_TOKEN"'),
        vars={"plain": "${PHRASE}", "given": "?"},
        env={"HF_TOKEN": "${{ vars.plain }}", "MY_KEY": "${{ vars.given }}"},
    )
    given = "correct-horse-battery"
    ran = space.run("--set", f"given={given}", PHRASE=VALUE)
    assert ran.code == 0
    for _ in range(2):  # what is a moment old is not sealed yet
        assert "up to date" in space.run("--set", f"given={given}", PHRASE=VALUE).out
    assert places_of(space, VALUE) == []
    assert places_of(space, given) == []
    resumed = space.command("resume", PHRASE=VALUE)
    assert resumed.code == 2
    assert "secret" in resumed.text


def test_a_short_one_that_is_all_of_a_setting_is_kept_nowhere(space: Space) -> None:
    space.workflow(space.job("job"), vars={"given": "?"}, env={"MY_KEY": "${{ vars.given }}"})
    assert space.run("--set", "given=pw123").code == 0
    assert "up to date" in space.run("--set=given=pw123").out
    assert places_of(space, "pw123") == []


def test_words_that_only_look_like_one_do_not_keep_a_run_from_being_resumed(space: Space) -> None:
    space.workflow(space.job("job"), vars={"glob": "?"}, env={"MODE": "${MODE}"}, secrets=["MODE"])
    assert space.run("--set", "glob=x****y", MODE="workflow").code == 0
    resumed = space.command("resume", MODE="workflow")
    assert (resumed.code, "up to date" in resumed.out) == (0, True), resumed.text


def test_the_screen_does_not_run_again_what_was_given_one(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.workflow(
        space.job("job", "exit 1"), vars={"given": "?"}, env={"MY_KEY": "${{ vars.given }}"}
    )
    assert space.run("--set", "given=correct-horse").code == 1
    monkeypatch.chdir(space.root)
    monkeypatch.setenv("OUMI_FLOW_HOME", space.env["OUMI_FLOW_HOME"])
    store = Store("out")
    run_id = store.latest_run()
    assert run_id is not None
    watching = Watching(store, run_id, "workflow.yaml")
    try:
        assert "secret" in watching.run_again([])
    finally:
        watching.close()
    assert store.latest_run() == run_id
    assert space.ran() == ["job"]


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


# Everything at once: every kind of value, every command, every byte that is left.

VALUES = {
    "HF_TOKEN": "hf_Ab+/c.d$[x]*(y)^\\z",
    "API_KEY": "sk-literal-0123456789",
    "SSH_KEY": "-----BEGIN KEY-----\nbGluZSBvbmU=\nbGluZSB0d28=\n-----END KEY-----",
    "DB_PASSWORD": "пароль-ключ-ß€",
    "FIRST_SECRET": "prefix-of-both",
    "LONG_SECRET": "prefix-of-both-and-more",
    "PHRASE": "correct horse battery staple",
    "PIN_SECRET": "a1b2",
}


def forms(value: str) -> dict[str, bytes]:
    """A value as it is, and as it looks in other clothes."""
    data = value.encode()
    return {
        "plain": data,
        "base64": base64.b64encode(data).rstrip(b"="),
        "quoted": urllib.parse.quote(value, safe="").encode(),
        "json": json.dumps(value)[1:-1].encode(),
        "utf-8 json": json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        "repr": repr(value)[1:-1].encode(),
    }


HIDDEN = {
    f"{name} ({form})": data
    for name, value in VALUES.items()
    if len(value) >= 6
    for form, data in forms(value).items()
}


def leaks(data: bytes) -> list[str]:
    return [name for name, value in HIDDEN.items() if value in data]


def command_lines() -> dict[str, bytes]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[entry.name] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
    return found


def supervising() -> list[int]:
    """Servers and supervisors of this user's runs, by what they call themselves."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            name = (entry / "comm").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue
        if name.startswith("oumi-flow-"):
            found.append(int(entry.name))
    return found


def everything(space: Space) -> None:
    """Jobs that print all they know, live, fail, and are tried again."""
    shout = "env; env >&2; for v in " + " ".join(f'"${name}"' for name in VALUES)
    shout += '; do echo "<$v>"; printf %s "$v" >&2; done'
    env = {name: f"${{{name}}}" for name in VALUES if name not in ("API_KEY", "PHRASE")}
    hook = space.write("hook.sh", 'cat >> told.json\nprintf %s\\\\n "$HF_TOKEN" >&2; exit 3\n')
    space.workflow(
        space.job("loud", f"{shout}; touch up; {GO}", outputs=["up"]),
        space.job("bad", f"{shout}; exit 3", max_retries=1, retry_delay=0, depends_on=["loud"]),
        space.job("after", shout, depends_on=["bad"]),
        env={**env, "API_KEY": VALUES["API_KEY"], "PHRASE_VAR": "${PHRASE}"},
        secrets=["PHRASE_VAR"],
        notify=f"sh {hook.name}",
    )


def test_no_value_of_any_kind_is_left_anywhere(space: Space) -> None:
    everything(space)
    environ = {name: value for name, value in VALUES.items() if name != "API_KEY"}
    before = os.umask(0)  # so that no mode is right by luck
    try:
        process = space.start("run", "workflow.yaml", "--no-tui", "-v", "-j2", **environ)
        wait_for(lambda: space.exists("up") or process.poll() is not None, "a job runs")
        assert process.poll() is None
        for pid, line in command_lines().items():
            assert not leaks(line), f"command line of {pid}: {leaks(line)}"
        for number in supervising():
            with suppress(OSError):
                assert not leaks(Path(f"/proc/{number}/environ").read_bytes())
        live = [space.command("status", "workflow.yaml"), space.command("status", "--json")]
        space.write("go", "")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1, out + err
        assert "exit 3: ****" in err, err  # what the hook said
        said = {"run": out + err, "live": "".join(one.text for one in live)}
        run = max(path.name for path in (space.root / "out/.oumi-flow/runs").iterdir())
        for words in (
            "run workflow.yaml -n -v",
            "run workflow.yaml -n --json",
            "run workflow.yaml --json",
            "run workflow.yaml --dag",
            "run workflow.yaml --detach",
            "monitor workflow.yaml",
            "dag workflow.yaml",
            "dag workflow.yaml -o flow.mmd",
            "validate workflow.yaml",
            "why workflow.yaml bad -v",
            "why workflow.yaml bad -v --json",
            "status",
            "status workflow.yaml --json",
            "errors workflow.yaml",
            "errors workflow.yaml --json",
            "metrics workflow.yaml --json",
            "logs workflow.yaml bad",
            "logs workflow.yaml bad --attempt 1",
            "logs workflow.yaml bad --errors",
            "touch workflow.yaml loud",
            "rename workflow.yaml after after",
            "cancel workflow.yaml",
            f"resume {run}",
            "clean workflow.yaml after -y",
            "run workflow.yaml --set nothing=there",
        ):
            said[words] = space.command(*words.split(), **environ).text
            if words.endswith("--detach"):
                space.command("monitor", "workflow.yaml")
    finally:
        os.umask(before)
    assert {
        words: leaks(text.encode()) for words, text in said.items() if leaks(text.encode())
    } == {}
    found = {}
    for folder, folders, names in os.walk(space.root.parent):
        for name in names:
            path = Path(folder, name)
            if path != space.root / "workflow.yaml" and leaks(path.read_bytes()):
                found[str(path)] = leaks(path.read_bytes())
        assert not any(leaks(os.fsencode(name)) for name in [*folders, *names])
    assert found == {}
    assert "<****>" in space.read("out/bad/job.log")
    assert "<a1b2>" in space.read("out/bad/job.log")  # too short: half the log would be masked
    assert_private(space)


def assert_private(space: Space) -> None:
    """State files and logs are for their user alone, whatever the umask."""
    places = [space.root / "out", Path(space.env["OUMI_FLOW_HOME"])]
    for place in places:
        for folder, _, names in os.walk(place):
            if STATE in Path(folder).parts or (place != places[0] and names):
                mode = stat.S_IMODE(os.stat(folder).st_mode)
                assert not mode & 0o077, f"{folder}: {mode:o}"
            for name in names:
                mode = stat.S_IMODE(os.lstat(Path(folder, name)).st_mode)
                state = STATE in Path(folder).parts or name.startswith("job.log")
                if state or place != places[0]:
                    assert mode == 0o600, f"{folder}/{name}: {mode:o}"


def folder_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:  # it has ended
        return ""


def test_a_crashed_supervisor_leaves_no_core_with_a_value_in_it(space: Space) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern != "core" or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("cores do not go to the working folder here")
    secretive(space, f"touch begun; {GO}")
    before = set(supervising())
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    try:
        process = space.start("run", "workflow.yaml", "--no-tui", HF_TOKEN=VALUE)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
    wait_for(lambda: space.exists("begun") or process.poll() is not None, "the job runs")
    ours = [pid for pid in set(supervising()) - before if folder_of(pid) == str(space.root)]
    assert len(ours) == 2  # the server and one supervisor
    for pid in ours:
        os.kill(pid, signal.SIGSEGV)
    space.write("go", "")
    process.communicate(timeout=60)
    assert places_of(space, VALUE) == []


def test_a_job_has_the_limit_of_cores_that_its_user_has(space: Space) -> None:
    """What is withheld from the supervisor is not withheld from its job."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    wanted = hard if 0 <= hard < 2**20 else 2**20
    space.workflow(space.job("job", "ulimit -c > limit"))
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (wanted, hard))
    try:
        assert space.run().code == 0
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert int(space.read("limit")) == wanted // 1024
