"""State files that are torn, garbage or something else; logs and output of any size and kind."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from oumi_flow.cli import main
from oumi_flow.executors import state_dir
from oumi_flow.executors.base import Handle
from oumi_flow.executors.handles import read_exit, recorded
from oumi_flow.model import LastAttempt
from oumi_flow.store import Store, attempts
from tests.flow.conftest import Result, Space

FAULTS = ("internal error", "a fault of oumi-flow itself", "Traceback")

# Wherever it is put, nothing may be made of it.
GARBAGE = {
    "empty": b"",
    "zeros": bytes(4096),
    "binary": random.Random(1).randbytes(4096),
    "text": b"not json at all\n",
    "list": b"[1, 2, 3]\n",
    "null": b"null\n",
    "number": b"1e999\n",
    "deep": b"[" * 100_000,
    "types": b'{"format": 1, "token": [], "state": 7, "handle": 3, "job": null, "inputs": []}\n',
    "newer": b'{"format": 999, "job": "b"}\n',
    "long number": b'{"format": 1, "number": ' + b"9" * 10_000 + b"}\n",
    "surrogates": b'{"format": 1, "token": "\\ud800", "job": "\\udfff"}\n',
}

STATE_FILES = [
    "out/.oumi-flow/lock",
    "out/.oumi-flow/index",
    "out/.oumi-flow/owner.json",
    "out/.oumi-flow/runs/RUN/events.jsonl",
    "out/.oumi-flow/runs/RUN/control.jsonl",
    "out/b/.oumi-flow/done.json",
    "out/b/.oumi-flow/attempt.json",
    "out/b/.oumi-flow/exit.json",
    "out/b/.oumi-flow/previous.json",
    "out/b/.oumi-flow/progress.json",
    "out/b/.oumi-flow/metrics.jsonl",
    "../home/cache/SNAPSHOT",
    "../home/cache/BASE",
    "../home/state/runs/RUN.json",
]

LOOKS = (
    ["run", "workflow.yaml", "--dry-run"],
    ["run", "workflow.yaml", "--dry-run", "--json"],
    ["why", "workflow.yaml", "b"],
    ["status"],
    ["status", "workflow.yaml"],
    ["status", "workflow.yaml", "--json"],
    ["monitor", "workflow.yaml"],
    ["logs", "workflow.yaml", "b"],
    ["errors", "workflow.yaml"],
    ["metrics", "workflow.yaml"],
    ["validate", "workflow.yaml"],
    ["cancel", "workflow.yaml"],
)

AFTER_FAILURE = tuple(words for words in LOOKS if words[0] in ("run", "why", "status", "errors"))


def build(space: Space, ends: str = "") -> None:
    space.write("data.txt", "data\n")
    space.workflow(
        space.job("a", "cp data.txt a.txt", inputs=["data.txt"], outputs=["a.txt"]),
        space.job("b", f"(cat a.txt; echo b) > b.txt; {ends}", inputs=["a.txt"], outputs=["b.txt"]),
        space.job("c", "(cat b.txt; echo c) > c.txt", inputs=["b.txt"], outputs=["c.txt"]),
    )


def state_file(space: Space, pattern: str) -> Path:
    """The file meant; one that is not there yet gets a place."""
    if "RUN" in pattern:
        runs = sorted((space.root / "out/.oumi-flow/runs").iterdir())
        pattern = pattern.replace("RUN", runs[-1].name)
    folder, _, name = pattern.rpartition("/")
    if name in ("SNAPSHOT", "BASE"):
        suffix = ".base" if name == "BASE" else ".json"
        (path,) = (path for path in (space.root / folder).rglob(f"*{suffix}"))
        return path
    return space.root / pattern


def in_process(space: Space, words: list[str], capsys: pytest.CaptureFixture[str]) -> Result:
    code = main(words)
    out, err = capsys.readouterr()
    assert not any(fault in out + err for fault in FAULTS), f"{words}: {out}{err}"
    assert code in (0, 1, 2), f"{words}: {code}: {out}{err}"
    return Result(code, out, err)


def assert_clean_build(space: Space) -> None:
    result = space.run()
    assert not any(fault in result.text for fault in FAULTS), result.text
    assert result.code == 0, result.text
    assert space.read("c.txt") == "data\nb\nc\n"
    space.ran()
    again = space.run()
    assert (again.code, space.ran()) == (0, []), again.text


@pytest.fixture
def here(space: Space, monkeypatch: pytest.MonkeyPatch) -> Space:
    """A space in which the test's own process stands, so that a command costs no interpreter."""
    monkeypatch.chdir(space.root)
    for name in list(os.environ):
        if name.startswith(("OUMI_FLOW_", "CUDA_")):
            monkeypatch.delenv(name)
    for name, value in space.env.items():
        if name.startswith("OUMI_FLOW_"):
            monkeypatch.setenv(name, value)
    return space


@pytest.mark.parametrize("pattern", STATE_FILES)
def test_garbage_in_a_state_file_is_as_good_as_none(
    here: Space, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build(here)
    assert here.run().code == 0
    here.ran()
    for name, content in GARBAGE.items():
        path = state_file(here, pattern)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        for words in LOOKS:
            in_process(here, words, capsys)
            assert path.exists(), f"{words} removed {name}"
    assert_clean_build(here)


@pytest.mark.parametrize("pattern", STATE_FILES)
def test_garbage_after_a_failure_is_as_good_as_none(
    here: Space, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build(here, "exit 3")
    assert here.run().code == 1
    here.ran()
    for content in GARBAGE.values():
        path = state_file(here, pattern)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        for words in AFTER_FAILURE:
            in_process(here, words, capsys)
    build(here)
    assert_clean_build(here)


@pytest.mark.parametrize("pattern", STATE_FILES)
def test_a_state_file_cut_at_some_byte_costs_at_most_a_job(
    here: Space, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = pattern.endswith("attempt.json")  # one that came to something has none
    build(here, "exit 3" if failed else "")
    assert here.run().code == int(failed)
    here.ran()
    path = state_file(here, pattern)
    if not path.exists():
        return
    whole = path.read_bytes()
    step = max(1, len(whole) // 40)
    for length in [*range(0, len(whole), step), len(whole) - 1]:
        path.write_bytes(whole[:length])
        for words in LOOKS[:2] + LOOKS[3:5]:
            in_process(here, words, capsys)
    if failed:
        build(here)
    assert_clean_build(here)


def test_every_cut_of_every_record_reads_as_nothing_or_as_what_it_was(
    here: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every byte, by the readers themselves: no exception, and never half a record."""
    for module in (attempts, state_dir):
        monkeypatch.setattr(module, "_PAUSES", ())  # nobody is just writing
    build(here)
    assert here.run().code == 0
    store = Store("out")
    state, exit = here.root / "out/b/.oumi-flow", {"token": "0123456789abcdef", "code": 0}
    token = str(exit["token"])
    # As it is when a job has ended whose run is lost; of another one, the end is told apart.
    for name in "bc":
        store.write_attempt(name, LastAttempt("r", 1, "starting", token=token))
    supervisor = state_dir.StateDir(str(state))
    supervisor.claim(token, Handle(token, "b", pid=7).to_json())
    supervisor.end(state_dir.to_text(exit))
    supervisor.close()
    apart = here.root / "out/c/.oumi-flow"
    (apart / "exit.json").write_bytes(state_dir.to_text(exit))
    index = here.root / "out/.oumi-flow/index"
    index.rename(index.with_name("aside"))
    readers: list[tuple[Path, Callable[[], object]]] = [
        (state / "done.json", lambda: Store("out").trace("b")),
        (state / "attempt.json", lambda: store.read_attempt("b")),
        (state / "attempt.json", lambda: recorded(str(state))),
        (state / "attempt.json", lambda: store.read_exit("b", token)),
        (state / "attempt.json", lambda: read_exit(str(state), token)),
        (apart / "exit.json", lambda: store.read_exit("c", token)),
        (apart / "exit.json", lambda: read_exit(str(apart), token)),
        (index, lambda: sorted(Store("out").indexed())),
    ]
    for path, read in readers:
        if path == index:
            index.with_name("aside").rename(index)
        whole = path.read_bytes()
        full = read()
        assert full
        other = 0
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            found = read()
            assert not found or found == full, f"{path} cut at {length}: {found}"
            other += not found
        path.write_bytes(whole)
        assert other >= len(whole) - 1  # all but the cut of the last newline


@pytest.mark.parametrize("pattern", STATE_FILES)
@pytest.mark.parametrize("kind", ["folder", "fifo", "loop"])
def test_something_else_where_a_state_file_belongs_holds_nothing_up(
    space: Space, pattern: str, kind: str
) -> None:
    build(space)
    assert space.run().code == 0
    path = state_file(space, pattern)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)
    space.write("data.txt", "new\n")
    for words in (["run", "workflow.yaml", "--no-tui"], ["status"], ["status", "workflow.yaml"]):
        result = space.command(*words)
        assert not any(fault in result.text for fault in FAULTS), result.text
        if result.code:  # named, so that it can be moved away
            assert path.name in result.text, result.text
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
    result = space.run()
    assert result.code == 0, result.text
    assert space.read("c.txt") == "new\nb\nc\n"


# big and ugly logs

MEASURED = """
import re, sys
from pathlib import Path
from oumi_flow.cli import main
code = main(sys.argv[2:])
sys.stdout.flush()
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]
Path(sys.argv[1]).write_text(peak)
sys.exit(code)
"""


def measured(space: Space, *words: str) -> tuple[Result, float]:
    """Run a command; its result and the most memory that it ever had, in MB."""
    peak = space.root / "peak"
    process = subprocess.run(
        [sys.executable, "-c", MEASURED, str(peak), *words],
        cwd=space.root,
        env=space.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=250,
    )
    out, err = process.stdout.decode("utf-8", "replace"), process.stderr.decode("utf-8", "replace")
    assert not any(fault in out + err for fault in FAULTS), (out + err)[:3000]
    return Result(process.returncode, out, err), int(peak.read_text()) / 1000


FLAT = 40.0  # MB beyond what the same command needs for a short log


def looks_at(space: Space) -> dict[str, float]:
    """The memory of every command that looks at the log of the failed job b."""
    commands = {
        "errors": ["errors", "workflow.yaml"],
        "errors --json": ["errors", "workflow.yaml", "--json"],
        "status": ["status", "workflow.yaml"],
        "logs -n": ["logs", "workflow.yaml", "b", "-n", "3"],
        "dry run": ["run", "workflow.yaml", "--dry-run"],
        "metrics": ["metrics", "workflow.yaml"],
    }
    return {name: measured(space, *words)[1] for name, words in commands.items()}


def test_a_log_of_five_gigabytes_costs_no_memory(space: Space) -> None:
    space.workflow(space.job("a"), space.job("b", "exit 3", depends_on=["a"]))
    assert space.run().code == 1
    small = looks_at(space)
    with open(space.root / "out/b/job.log", "r+b") as log:
        log.truncate(5_000_000_000)
        log.seek(0, os.SEEK_END)
        log.write(b"\nCUDA out of memory\nlast words\n")
    large = looks_at(space)
    assert {name: large[name] - small[name] < FLAT for name in small} == dict.fromkeys(small, True)
    result = space.command("logs", "workflow.yaml", "b", "-n", "2")
    assert result.out == "CUDA out of memory\nlast words\n"
    # The line before is the five gigabytes: only its end is worth a look.
    result = space.command("logs", "workflow.yaml", "b", "-n", "3")
    assert result.out.endswith("\0\nCUDA out of memory\nlast words\n")
    assert len(result.out) < 2_000_000
    assert "last words" in space.command("errors", "workflow.yaml").out


def test_a_job_that_leaves_five_gigabytes_of_log_is_understood(space: Space) -> None:
    run = (
        'truncate -s 5G "$OUMI_FLOW_OUTPUT_DIR/job.log"; echo; '
        "echo torch.OutOfMemoryError: CUDA out of memory; exit 1"
    )
    space.workflow(space.job("a", "exit 1"))
    base = measured(space, "run", "workflow.yaml", "--no-tui")[1]
    space.workflow(space.job("a", run))
    result, peak = measured(space, "run", "workflow.yaml", "--no-tui")
    assert result.code == 1
    assert "CUDA out of memory" in result.text
    assert peak - base < FLAT


LONG_LINE = f"""{sys.executable} -c '
import sys
for _ in range(100): sys.stdout.write("x" * 1000000)
sys.stdout.flush()
import os, pathlib, re
status = pathlib.Path(f"/proc/{{os.getppid()}}/status").read_text()
peak = re.search(r"VmHWM:\\s*(\\d+)", status)[1]
pathlib.Path("supervisor.peak").write_text(peak)
'"""


@pytest.mark.parametrize("secret", [False, True])
def test_a_line_of_a_hundred_megabytes_costs_no_memory(space: Space, secret: bool) -> None:
    """With a secret the supervisor sees every byte, to mask it."""
    env = {"HF_TOKEN": "s3cr3t-value"} if secret else {}
    space.workflow(space.job("b", "exit 1"))
    base = measured(space, "run", "workflow.yaml", "--no-tui")[1]
    small = looks_at(space)
    space.workflow(space.job("b", f"{LONG_LINE}\nexit 1", env=env))
    result, peak = measured(space, "run", "workflow.yaml", "--no-tui")
    assert result.code == 1, result.text[:3000]
    assert (space.root / "out/b/job.log").stat().st_size > 100_000_000
    assert peak - base < FLAT
    assert int(space.read("supervisor.peak")) / 1000 < FLAT
    assert len(result.out) < 100_000
    large = looks_at(space)
    assert {name: large[name] - small[name] < FLAT for name in small} == dict.fromkeys(small, True)
    found, peak = measured(space, "logs", "workflow.yaml", "b", "--errors")
    assert peak - base < FLAT
    assert len(found.out) < 10_000_000


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "gone"])
def test_a_job_that_replaces_its_log_holds_nothing_up(space: Space, kind: str) -> None:
    make = {"fifo": "mkfifo", "folder": "mkdir", "loop": "ln -s job.log", "gone": "true"}[kind]
    run = f'cd "$OUMI_FLOW_OUTPUT_DIR"; rm job.log; {make} job.log; sleep 1; exit 3'
    space.workflow(space.job("b", run))
    result = space.run()
    assert result.code == 1, result.text
    assert "exit 3" in result.text
    for words in (["errors"], ["status"], ["logs", "b"], ["logs", "b", "-n", "2"], ["metrics"]):
        told = space.command(words[0], "workflow.yaml", *words[1:])
        assert not any(fault in told.text for fault in FAULTS), told.text
    space.workflow(space.job("b", "echo fine"))
    result = space.run()
    assert result.code == 0, result.text
    assert space.command("logs", "workflow.yaml", "b").out.endswith("fine\n")


UGLY = (
    b"\x1b[2J\x1b[H\x1b]0;owned\x07\x1b]52;c;ZXZpbA==\x07 plain\r\n"
    b"\x00\x01\x02\x7f\x80\x9b31m\xff\xfe\xc3\x28\n"
    + "zero\u200bwidth \u202eright to left\u202c \u2066x\u2069 \U0001f600 ẅ ﷽\n".encode()
    + b"a\rb\rc\rError: the end \x1b[31mred\x1b[0m\x1b[?1049h\n"
)


def test_ugly_output_is_shown_harmlessly(space: Space) -> None:
    (space.root / "ugly").write_bytes(UGLY)
    space.workflow(space.job("b", "cat ugly; exit 1"))
    space.run()
    for words in (
        ["run", "workflow.yaml", "--no-tui"],
        ["errors", "workflow.yaml"],
        ["errors", "workflow.yaml", "--json"],
        ["status", "workflow.yaml"],
        ["logs", "workflow.yaml", "b", "--errors"],
        ["run", "workflow.yaml", "--dry-run"],
        ["monitor", "workflow.yaml"],
    ):
        result = space.command(*words)
        assert "the end" in result.out or words[0] in ("status", "run", "monitor"), words
        bad = {
            char
            for char in result.text
            if char != "\n" and (ord(char) < 32 or 127 <= ord(char) < 160)
        }
        if "--json" not in words:  # for programs: as it was said, control characters escaped
            bad |= {char for char in result.text if char in "\u202e\u202c\u2066\u2069"}
        assert not bad, f"{words}: {bad}: {result.text!r}"
    assert (space.root / "out/b/job.log").read_bytes().endswith(UGLY)


def test_binary_output_with_progress_in_it_harms_nothing(space: Space) -> None:
    """Bars, dicts and steps with numbers that no counter should hold."""
    lines = [
        "step 99999999999999999999999999/3",
        "step 3/0",
        "{'loss': nan, 'step': -1}",
        "{'loss': " + "9" * 5000 + "}",
        "{" * 5000,
        "loss=inf acc=1e999 " + "k=" * 1000,
        " 200%|" + "█" * 100 + "| 12/10 [00:00<?, ?it/s]",
    ]
    space.write("lines", "\n".join(lines) + "\n")
    (space.root / "noise").write_bytes(random.Random(2).randbytes(300_000))
    run = "touch up; for i in 1 2 3 4 5 6 7; do cat lines noise lines; sleep 0.2; done"
    space.workflow(space.job("b", run))
    result = space.run("--json")
    assert result.code == 0, result.err
    for line in result.out.splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert space.command("metrics", "workflow.yaml").code == 0
    told = space.command("metrics", "workflow.yaml", "--json")
    json.loads(told.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    told = space.command("status", "workflow.yaml", "--json")
    json.loads(told.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert "up to date" in space.run().text
