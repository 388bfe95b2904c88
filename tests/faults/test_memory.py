"""Memory that runs out, and signal 9 from elsewhere: which of them it was.

Where this machine lets a test make a cgroup with a limit (root, or a user's systemd), the kernel's
own memory killer ends real jobs; elsewhere those tests are skipped. What a kernel counts is played
by files in one test, which runs everywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oumi_flow.diagnose import diagnose
from oumi_flow.executors.base import Attempt, Exit
from oumi_flow.executors.handles import read_exit
from oumi_flow.executors.orders import order_of
from oumi_flow.executors.wire import FREE
from tests.flow.conftest import Result, Space, wait_for

LIMIT = 400 << 20  # bytes, of the run with all of its jobs
EAT = "x = bytearray(b'x') * (2 << 30)"  # more than that, and touched
BY_KERNEL = "out of memory, ended by the kernel's memory killer; lower its batch size"
Within = Callable[..., Result]


def put(path: str, text: str) -> None:
    """Into a file of the kernel's. Makes none: raises OSError where there is none."""
    with open(path, "r+b", buffering=0) as file:
        file.write(text.encode())


def own_cgroups() -> dict[str, str]:
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return {name: path for _, names, path in lines for name in names.split(",")}


def limited_cgroups() -> Iterator[tuple[str, str, str]]:
    """Folder, file of the limit, file of the limit with swap: where a cgroup might be made."""
    own = own_cgroups()
    name = f"oumi-flow-test-{secrets.token_hex(4)}"
    if "memory" in own:
        folder = f"/sys/fs/cgroup/memory{own['memory'].rstrip('/')}/{name}"
        yield folder, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
    for parent in (own.get("", "/").rstrip("/"), ""):
        # One with processes can have no children with limits, save the root of all.
        yield f"/sys/fs/cgroup{parent}/{name}", "memory.max", "memory.swap.max"


@pytest.fixture
def within(space: Space) -> Iterator[Within]:
    """Runs the command with a limit on its memory, in a cgroup of its own."""
    made = ""
    prefix: list[str] = []
    for folder, limit, with_swap in limited_cgroups():
        with contextlib.suppress(OSError):
            os.mkdir(folder)
            made = folder
            put(f"{folder}/{limit}", str(LIMIT))
            with contextlib.suppress(OSError):  # a kernel without swap accounting
                put(f"{folder}/{with_swap}", str(LIMIT if "memsw" in with_swap else 0))
            prefix = ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
            break
        if made:
            os.rmdir(made)
            made = ""
    if not prefix and shutil.which("systemd-run"):
        scope = ["systemd-run", "--user", "--scope", "-q", "-p", f"MemoryMax={LIMIT}"]
        scope += ["-p", "MemorySwapMax=0"]
        if subprocess.run([*scope, "true"], capture_output=True).returncode == 0:
            prefix = scope
    if not prefix:
        pytest.skip("no cgroup with a memory limit can be made here")

    def command(*words: str) -> Result:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "oumi_flow", *words],
            cwd=space.root,
            env=space.env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    yield command
    if made:
        procs = Path(made, "cgroup.procs")
        wait_for(lambda: not procs.read_text(), "the cgroup is empty")
        os.rmdir(made)


def test_a_job_that_the_kernels_memory_killer_ended_is_told_so(
    space: Space, within: Within
) -> None:
    """The job's first process; then the child of its shell; then a worker of its program."""
    space.write("eat.py", EAT)
    loader = """
    import subprocess, sys
    if subprocess.run([sys.executable, "eat.py"]).returncode == -9:
        sys.exit("RuntimeError: DataLoader worker (pid 4242) is killed by signal: Killed. ")
    """
    space.write("loader.py", textwrap.dedent(loader))
    space.workflow(
        space.job("itself", f"exec {sys.executable} eat.py"),
        space.job("child", f"{sys.executable} eat.py; exit $?"),
        space.job("worker", f"exec {sys.executable} loader.py"),
    )
    result = within("run", "workflow.yaml", "--no-tui", "-j", "1")
    assert result.code == 1, result.text
    assert f"killed by signal 9: {BY_KERNEL}" in result.text
    assert f"exit 137: killed by signal 9: {BY_KERNEL}" in result.text
    assert f"exit 1: a process of it was killed by signal 9: {BY_KERNEL}" in result.text
    for job in ("itself", "child", "worker"):
        seen = space.end_of(job)
        assert (seen["oom_kills"], seen["oom_scope"]) == (1, "cgroup"), seen


def test_a_job_that_ran_out_of_memory_is_tried_again(space: Space, within: Within) -> None:
    """Its memory may have been a neighbour's."""
    space.write("eat.py", EAT)
    run = f"[ -e second ] && exit 0; touch second; exec {sys.executable} eat.py"
    space.workflow(space.job("a", run, max_retries=1, retry_delay=0))
    result = within("run", "workflow.yaml", "--no-tui")
    assert result.code == 0, result.text
    assert BY_KERNEL in result.text
    assert space.ran() == ["a", "a"]


def test_signal_9_from_somebody_is_told_as_that(space: Space) -> None:
    space.workflow(space.job("a", "kill -9 $$"), space.job("b", "bash -c 'kill -9 $$'; exit $?"))
    result = space.run()
    assert result.code == 1, result.text
    if space.end_of("a")["oom_scope"] == "":
        pytest.skip("this kernel does not count what its memory killer ends")
    words = "killed by signal 9: sent by a user or a program, not by the kernel's memory killer"
    assert f" {words}" in result.text
    assert f"exit 137: {words}" in result.text


SERVER = """
import ctypes, socket, sys
sys.path.insert(0, sys.argv[1])
from oumi_flow.executors import supervise
from oumi_flow.executors.memory_killer import MemoryKiller
orders, reports = (socket.socket(fileno=int(word)) for word in sys.argv[3:])
supervise.Server(orders, reports, ctypes.CDLL(None).prctl, MemoryKiller(sys.argv[2])).serve()
"""


@pytest.mark.parametrize(
    ("scope", "before", "after", "words"),
    [
        ("cgroup", 5, 6, f"killed by signal 9: {BY_KERNEL}"),
        ("host", 5, 6, "killed by signal 9: perhaps out of memory, for the kernel's memory killer"),
        ("cgroup", 5, 5, "killed by signal 9: sent by a user or a program, not by the kernel's"),
        ("host", 0, 0, "killed by signal 9: sent by a user or a program, not by the kernel's"),
        ("", 0, 0, "killed by signal 9: sent by a user or a program, or by the kernel"),
    ],
)
def test_what_the_kernel_counts_while_a_job_runs_is_what_is_told(
    tmp_path: Path, scope: str, before: int, after: int, words: str
) -> None:
    """Files stand in for the kernel's counters; the job raises them before it ends itself."""
    proc, counter = tmp_path / "proc", tmp_path / "proc/vmstat"
    (proc / "self").mkdir(parents=True)
    if scope == "cgroup":
        counter = tmp_path / "cg/job/memory.events"
        counter.parent.mkdir(parents=True)
        (proc / "self/cgroup").write_text("0::/job\n")
        (proc / "self/mountinfo").write_text(f"1 1 0:1 / {tmp_path}/cg rw - cgroup2 none rw\n")
    counter.write_text(f"oom_kill {before}\n" if scope else "pgfault 1\n")
    state = tmp_path / "state"
    state.mkdir()
    (state / "attempt.json").write_text(json.dumps({"token": "t", "state": "starting"}))
    run = f"echo oom_kill {after} > {counter}; kill -9 $$" if scope else "kill -9 $$"
    attempt = Attempt(
        run_id="r",
        job="a",
        number=1,
        token="t",
        argv=("bash", "-c", run),
        cwd=str(tmp_path),
        env={"PATH": os.environ["PATH"]},
        state_dir=str(state),
        log=str(tmp_path / "job.log"),
    )
    orders, theirs = socket.socketpair()
    hear, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reports, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    passed = (theirs.fileno(), told.fileno())
    words_of_server = [str(Path(__file__).parents[2]), str(proc), *map(str, passed)]
    with subprocess.Popen([sys.executable, "-c", SERVER, *words_of_server], pass_fds=passed):
        socket.send_fds(orders, [b"t 1 %b\n" % order_of(attempt)], [channel.fileno()])
        reports.settimeout(60)
        end = Exit.from_json(json.loads(reports.recv(1 << 16).removeprefix(FREE)))
        hear.close()
        orders.close()
    for each in (theirs, hear, channel, reports, told):
        each.close()
    assert read_exit(str(state), "t") == end
    assert (end.signal, end.oom_kills, end.oom_scope) == (9, after - before, scope)
    found = diagnose(
        attempt.log, signal=end.signal, oom_kills=end.oom_kills, oom_scope=end.oom_scope
    )
    assert found.retryable
    assert found.cause.startswith(words)
