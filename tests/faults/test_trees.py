"""Trees of processes as users start and stop them: terminals, kills, timeouts, two at once."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.executors import processes
from tests.flow.conftest import Result, Space, wait_for

# Everybody writes a pid to `pids` and then lives for ever, deaf to SIGTERM: a child, a child in a
# session of its own, a double-forked daemon (with ENV as its environment), one that stopped itself.
FAMILY = r"""
import os, signal, sys, time

def stay():
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\n")
    while True:
        time.sleep(1000)

signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    stay()
if os.fork() == 0:
    os.setsid()
    stay()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open("pids", "a") as file:
            file.write(f"{os.getpid()}\n")
        nap = "import time\nwhile True: time.sleep(1000)"
        os.execve(sys.executable, [sys.executable, "-c", nap], ENV)
    os._exit(0)
if os.fork() == 0:
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGSTOP)
    stay()
def up():
    with open("pids", "a+") as file:
        file.seek(0)
        return len(file.read().split())

while up() < 4:
    time.sleep(0.01)
"""
COUNT = 4


def family(space: Space, then: str, env: str = "{}", **fields: Any) -> None:
    space.write("family.py", FAMILY.replace("ENV", env) + then)
    space.workflow(
        space.job("f", f"exec {sys.executable} family.py", **{"grace": 0.2, **fields}),
        space.job("after", depends_on=["f"]),
    )


def members(space: Space) -> list[int]:
    wait_for(lambda: is_up(space), "the family is up")
    return [int(word) for word in space.read("pids").split()]


def is_up(space: Space) -> bool:
    return space.exists("pids") and space.read("pids").count("\n") >= COUNT


def lives(pid: int) -> bool:
    process = processes.read_process(pid)
    return process is not None and process.lives


def supervisor_of(space: Space, job: str) -> int:
    path = space.root / f"out/{job}/.oumi-flow/attempt.json"

    def look() -> int:
        try:
            return int(json.loads(path.read_text())["handle"]["pid"])
        except (OSError, ValueError, KeyError):
            return 0

    wait_for(lambda: look() > 0, f"a supervisor of {job}")
    return look()


def finish(process: subprocess.Popen[str]) -> Result:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, out + err
    assert "internal error" not in out + err, out + err
    return Result(process.returncode, out, err)


STAY = "\nstay()\n"


def test_a_daemon_that_a_finished_job_left_is_stopped(space: Space) -> None:
    family(space, "")
    result = space.run()
    assert result.code == 0, result.text
    assert space.ran() == ["f", "after"]
    assert [pid for pid in members(space) if lives(pid)] == []


def test_a_timeout_ends_the_whole_tree(space: Space) -> None:
    for limit in (1.5, 9.5, 40):  # on a slow machine it may strike before all are up
        family(space, STAY, timeout=limit)
        result = space.run()
        assert result.code == 1, result.text
        assert f"timed out after {limit}s" in result.text
        if is_up(space):
            break
        (space.root / "pids").unlink(missing_ok=True)
    assert [pid for pid in members(space) if lives(pid)] == []
    assert f"timed out after {limit}s" in space.run("--dry-run").text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_run_ends_the_whole_tree(space: Space, number: signal.Signals) -> None:
    family(space, STAY)
    process = space.start("run", "workflow.yaml", "--no-tui")
    pids = members(space)
    process.send_signal(number)
    result = finish(process)
    assert result.code == 128 + number, result.text
    assert [pid for pid in pids if lives(pid)] == []


def test_a_second_signal_does_not_wait_for_the_grace(space: Space) -> None:
    family(space, STAY, grace="1h")
    process = space.start("run", "workflow.yaml", "--no-tui")
    pids = members(space)
    process.send_signal(signal.SIGINT)
    control = space.root / "out/.oumi-flow/runs"
    wait_for(
        lambda: any("cancelled" in one.read_text() for one in control.glob("*/events.jsonl")),
        "the first is heard",
    )
    assert all(lives(pid) for pid in pids)
    process.send_signal(signal.SIGINT)
    result = finish(process)
    assert result.code == 130, result.text
    assert [pid for pid in pids if lives(pid)] == []


def test_a_job_that_is_stopped_can_be_cancelled(space: Space) -> None:
    space.workflow(space.job("s", "echo $$ > pids; kill -STOP $$; echo awake", grace=5))
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("pids") and space.read("pids") != "", "it is up")
    pid = int(space.read("pids"))

    def stopped() -> bool:
        seen = processes.read_process(pid)
        return seen is not None and seen.state == "T"

    wait_for(stopped, "it has stopped itself")
    cancelled = space.command("cancel", "workflow.yaml", "s")
    assert cancelled.code == 0
    assert finish(process).code == 1
    assert not lives(pid)


# killed -9


def test_runner_and_supervisor_killed_the_rest_is_stopped_first(space: Space) -> None:
    # The daemon has forgotten parents, session and environment: it still writes to the job's log.
    family(space, STAY)
    process = space.start("run", "workflow.yaml", "--no-tui")
    supervisor = supervisor_of(space, "f")
    pids = members(space)
    process.kill()
    os.kill(supervisor, signal.SIGKILL)
    finish(process)
    wait_for(lambda: not lives(supervisor), "it is dead")
    assert all(lives(pid) for pid in pids)
    for words in (["run", "workflow.yaml", "--dry-run"], ["why", "workflow.yaml", "f"]):
        assert "last attempt was interrupted (lost)" in space.command(*words).out
    told = space.command("status", "workflow.yaml").out
    assert "interrupted" in told, told
    remnants = " ".join(map(str, pids))
    space.workflow(
        # It says whether anybody of the first attempt is there still, zombies aside.
        space.job(
            "f",
            f"for p in {remnants}; do grep -s '^State:' /proc/$p/status | grep -v Z"
            " && exit 9; done; echo alone",
        )
    )
    result = space.run()
    try:
        assert result.code == 0, result.text
        assert "lost" in result.text
        assert [pid for pid in pids if lives(pid)] == []
    finally:
        for pid in pids:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("killed", ["runner", "runner and supervisor"])
def test_cancel_ends_what_a_lost_run_left_and_says_so(space: Space, killed: str) -> None:
    run = "echo $$ > pids; while :; do sleep 0.05; done"
    space.workflow(space.job("f", run, grace=1), space.job("g"))
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("pids") and space.read("pids") != "", "it is up")
    pid = int(space.read("pids"))
    supervisor = supervisor_of(space, "f")
    process.kill()
    if killed != "runner":
        os.kill(supervisor, signal.SIGKILL)
        wait_for(lambda: not lives(supervisor), "it is dead")
    finish(process)
    assert lives(pid)
    other = space.command("cancel", "workflow.yaml", "g")
    assert other.code == 0
    assert lives(pid), "another job was asked for"
    result = space.command("cancel", "workflow.yaml", "f")
    assert result.code == 0, result.text
    assert not lives(pid)
    assert result.out.startswith("f: "), result.text
    again = space.command("cancel", "workflow.yaml")
    assert "nothing runs" in again.text
    space.workflow(space.job("f"), space.job("g"))
    space.ran()
    assert space.run().code == 0
    assert "f" in space.ran()


def test_a_job_that_outlived_its_run_is_not_cleaned_touched_or_renamed_away(space: Space) -> None:
    """Or the next run would know nothing of it, and start it a second time."""
    run = "mkdir alone; echo $$ > pids; while [ ! -e go ]; do sleep 0.05; done; rmdir alone"
    jobs = [space.job("f", run), space.job("g")]
    space.workflow(*jobs)
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("pids") and space.read("pids") != "", "it is up")
    process.kill()
    finish(process)
    pid = int(space.read("pids"))
    for words in (["clean", "workflow.yaml", "-y"], ["touch", "workflow.yaml", "f"]):
        result = space.command(*words)
        assert result.code == 3, result.text
        assert '"f" of a lost run still runs' in result.err
    space.workflow({**jobs[0], "name": "new"}, jobs[1])
    for words in (
        ["rename", "workflow.yaml", "f", "new"],
        ["clean", "workflow.yaml", "--orphans", "-y"],
    ):
        assert space.command(*words).code == 3
    assert space.command("clean", "workflow.yaml", "-y", "g").code == 0
    space.workflow(*jobs)
    assert lives(pid)
    space.write("go", "")
    assert space.run().code == 0
    assert space.ran().count("f") == 1


def name_of(pid: int) -> str:
    """What it calls itself; "" where it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_the_server_killed_costs_no_job(space: Space) -> None:
    space.workflow(
        space.job("a", "touch up; while [ ! -e go ]; do sleep 0.02; done"),
        space.job("b", depends_on=["a"]),
    )
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("up"), "a runs")
    (server,) = [
        pid for pid in processes.descendants(process.pid) if name_of(pid) == "oumi-flow-serve"
    ]
    os.kill(server, signal.SIGKILL)
    space.write("go", "")
    result = finish(process)
    assert result.code == 0, result.text
    assert space.ran() == ["a", "b"]


def test_a_server_is_no_copy_of_its_runner(space: Space) -> None:
    """It is forked from there: with another name, without its variables, and with nothing open."""
    space.workflow(space.job("a", "touch up; while [ ! -e go ]; do sleep 0.02; done"))
    process = space.start("run", "workflow.yaml", "--no-tui", API_TOKEN="tell-nobody")
    wait_for(lambda: space.exists("up"), "a runs")
    ours = {
        pid: name
        for pid in processes.descendants(process.pid)
        if "oumi-flow" in (name := name_of(pid))
    }
    assert sorted(ours.values()) == ["oumi-flow-job", "oumi-flow-serve"]
    for pid, name in ours.items():
        folder = Path(f"/proc/{pid}")
        assert (folder / "cmdline").read_bytes().strip(b"\0") == b"oumi-flow-serve"
        shown = dict(
            pair.split(b"=", 1) for pair in (folder / "environ").read_bytes().split(b"\0") if pair
        )
        assert shown.keys() <= {b"PATH", b"TMPDIR", b"LD_LIBRARY_PATH"}
        assert os.getsid(pid) == pid != os.getsid(process.pid)
        held = {os.readlink(each) for each in (folder / "fd").iterdir()}
        names = {each for each in held if each.startswith("/") and "cgroup" not in each}
        # A supervisor holds the log and the state folder of its job.
        theirs = {each for each in names if name == "oumi-flow-job" and "/out/a" in each}
        assert names - theirs == {"/dev/null"}
    space.write("go", "")
    assert finish(process).code == 0


AS_IT_FORKS = """
import os, signal, sys
from oumi_flow.cli import main
fork, runner = os.fork, os.getpid()
# So that what the run opens has other numbers than what the fork has anew in their place.
others = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
def killed_as_it_forks():
    if fork():
        os.kill(runner, signal.SIGKILL)
    while os.getppid() == runner:
        pass
    return 0
os.fork = killed_as_it_forks
sys.exit(main(["run", "workflow.yaml", "--no-tui"]))
"""


def test_a_runner_killed_as_it_forks_its_server_leaves_no_lock(space: Space) -> None:
    space.workflow(space.job("a"))
    argv = [sys.executable, "-c", AS_IT_FORKS]
    killed = subprocess.run(argv, cwd=space.root, env=space.env, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    result = space.run()
    assert result.code == 0, result.text
    assert space.ran() == ["a"]


@pytest.mark.parametrize("limit", range(9, 20))
def test_with_too_few_descriptors_it_says_so(space: Space, limit: int) -> None:
    space.workflow(space.job("a"))
    words = f'ulimit -n {limit}; exec "{sys.executable}" -m oumi_flow run workflow.yaml --no-tui'
    argv = ["bash", "-c", words]
    done = subprocess.run(
        argv, cwd=space.root, env=space.env, capture_output=True, text=True, timeout=60
    )
    told = done.stdout + done.stderr
    for ours in ("Traceback", "fault of oumi-flow", "list index"):
        assert ours not in told, told
    assert done.returncode == 0 or "Too many open files" in told, told
    assert space.run().code == 0
    assert space.ran() == ["a"]


@pytest.mark.parametrize("limit", [40, 60])
def test_jobs_that_ran_well_do_not_fail_for_want_of_descriptors(space: Space, limit: int) -> None:
    """However many run at once: there are some left to look at what they made."""
    text = "sleep 0.3; echo x > out/$OUMI_FLOW_JOB/x"
    space.workflow(*(space.job(f"j{n}", text, outputs=[f"out/j{n}/x"]) for n in range(60)))
    command = f'"{sys.executable}" -m oumi_flow run workflow.yaml --no-tui -j 60'
    done = subprocess.run(
        ["bash", "-c", f"ulimit -n {limit}; exec {command}"],
        cwd=space.root,
        env=space.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# terminals


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, space: Space, *words: str) -> None:
        environ = {**space.env, "TERM": "xterm-256color"}
        for name in ("CI", "NO_COLOR", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS"):
            environ.pop(name, None)
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(space.root)
                os.execve(sys.executable, [sys.executable, *words], environ)
            finally:
                os._exit(99)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.master)
        self.shown = b""
        self.closed = False

    def read(self) -> None:
        """Take what is there."""
        while not self.closed and select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:  # nobody has it open any more
                return
            if not data:
                return
            self.shown += data

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            self.read()
            return condition()

        try:
            wait_for(look, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.shown[-2000:]!r}") from error

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def hang_up(self) -> None:
        self.closed = True
        os.close(self.master)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        status: list[int] = []

        def ended() -> bool:
            self.read()
            pid, how = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                status.append(os.waitstatus_to_exitcode(how))
            return bool(pid)

        wait_for(ended, "it ends")
        self.read()
        return status[0]

    def assert_clean(self) -> None:
        """The cursor is there, no mode is left set, and the prompt would begin a line."""
        text = self.shown.decode()
        assert "Traceback" not in text, text
        for mode in ("25", "1049", "7"):
            changes = re.findall(rf"\x1b\[\?{mode}([hl])", text)
            usual = "l" if mode == "1049" else "h"
            assert not changes or changes[-1] == usual, f"mode {mode}: {changes}"
        styles = re.findall(r"\x1b\[([\d;]*)m", text)
        assert not styles or styles[-1] in ("", "0"), styles[-5:]
        assert text.endswith("\n") or re.search(r"\n(\x1b\[[\d;?]*[a-zA-Z])+\Z", text), text[-200:]
        assert termios.tcgetattr(self.master) == self.before


RUN = ("-m", "oumi_flow", "run", "workflow.yaml", "--no-tui")  # in this process


def waiting_job(space: Space, **fields: Any) -> None:
    run = "trap '' TERM; echo $$ > pids; while [ ! -e go ]; do sleep 0.05; done"
    fields = {"grace": 0.2, **fields}
    space.workflow(space.job("w", run, **fields), space.job("after", depends_on=["w"]))


def first_pid(space: Space, terminal: Terminal) -> int:
    terminal.wait_for(lambda: space.exists("pids") and space.read("pids") != "", "the job is up")
    return int(space.read("pids"))


def test_ctrl_c_leaves_the_terminal_as_it_was(space: Space) -> None:
    waiting_job(space)
    terminal = Terminal(space, *RUN)
    pid = first_pid(space, terminal)
    terminal.wait_for(lambda: b"2 will run" in terminal.shown, "it is shown")
    terminal.type(b"\x03")
    assert terminal.wait() == 130
    terminal.assert_clean()
    terminal.hang_up()
    assert not lives(pid)
    assert "interrupted (SIGINT" in space.run("--dry-run").text


def test_ctrl_c_twice_does_not_wait_for_the_grace(space: Space) -> None:
    waiting_job(space, grace="1h")
    terminal = Terminal(space, *RUN)
    pid = first_pid(space, terminal)
    terminal.type(b"\x03")
    runs = space.root / "out/.oumi-flow/runs"
    terminal.wait_for(
        lambda: any("cancelled" in one.read_text() for one in runs.glob("*/events.jsonl")),
        "the first is heard",
    )
    assert lives(pid)
    terminal.type(b"\x03")
    assert terminal.wait() == 130
    terminal.assert_clean()
    terminal.hang_up()
    assert not lives(pid)


def test_closing_the_terminal_stops_the_run_politely(space: Space) -> None:
    waiting_job(space)
    terminal = Terminal(space, *RUN)
    pid = first_pid(space, terminal)
    terminal.hang_up()
    assert terminal.wait() == 129
    assert not lives(pid)
    assert "interrupted (SIGHUP" in space.run("--dry-run").text


def test_a_terminal_that_says_twice_that_it_closes_is_no_hurry(space: Space) -> None:
    """The kernel tells the run, and an interactive shell hands it on: a job has its grace."""
    save = "trap 'touch asked; while [ ! -e go ]; do sleep 0.02; done; touch saved; exit 1' TERM"
    space.workflow(space.job("a", f"{save}; touch up; while :; do sleep 0.02; done", grace=60))
    run = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("up"), "the job is up")
    run.send_signal(signal.SIGHUP)
    wait_for(lambda: space.exists("asked"), "the job was asked to end")
    run.send_signal(signal.SIGHUP)
    assert "running" in space.command("status", "workflow.yaml").text
    space.write("go", "")
    assert finish(run).code == 129
    assert space.exists("saved")


def test_under_nohup_the_run_outlives_its_terminal(space: Space) -> None:
    waiting_job(space)
    program = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    program += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    terminal = Terminal(space, "-c", program, *RUN)
    pid = first_pid(space, terminal)
    terminal.hang_up()
    assert lives(pid)
    space.write("go", "")
    assert terminal.wait() == 0
    assert space.ran() == ["w", "after"]


def test_leaving_a_monitor_by_ctrl_c_stops_nothing(space: Space) -> None:
    waiting_job(space)
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("pids") and space.read("pids") != "", "the job is up")
    terminal = Terminal(space, "-m", "oumi_flow", "monitor", "--no-tui", "workflow.yaml")
    terminal.wait_for(lambda: b"2 will run" in terminal.shown, "it is shown")
    terminal.type(b"\x03")
    assert terminal.wait() == 0
    terminal.assert_clean()
    last = terminal.shown.decode().rstrip().splitlines()[-1]
    assert last.startswith("the run goes on; `oumi-flow monitor "), terminal.shown[-500:]
    terminal.hang_up()
    assert lives(int(space.read("pids")))
    space.write("go", "")
    assert finish(process).code == 0


# two at once


def test_of_two_runs_started_at_once_one_runs(space: Space) -> None:
    """Twenty times. The loser says who won; the job never runs twice."""
    run = "mkdir alone; while [ ! -e go ]; do sleep 0.02; done; rmdir alone"
    space.workflow(space.job("a", run, always_run=True))
    for _ in range(20):
        (space.root / "go").unlink(missing_ok=True)
        pair = [space.start("run", "workflow.yaml", "--no-tui") for _ in range(2)]
        wait_for(lambda: any(one.poll() is not None for one in pair), "one gives up")  # noqa: B023
        loser, winner = sorted(pair, key=lambda one: one.poll() is None)
        result = finish(loser)
        assert result.code == 3, result.text
        assert f"pid {winner.pid} " in result.err
        assert "user " in result.err
        run_id = re.search(r"run (\d{8}-\d{6}-\w{4}) holds", result.err)
        assert run_id is not None, result.err
        space.write("go", "")
        assert finish(winner).code == 0
        assert space.exists(f"out/.oumi-flow/runs/{run_id[1]}/events.jsonl")
        assert space.ran() == ["a"]


def test_commands_that_meet_a_run_do_no_harm(space: Space) -> None:
    """Run, clean, rename, touch and cancel started together; whoever wins, a run mends it all."""
    space.write("data.txt", "data\n")
    jobs = [
        space.job("a", "cp data.txt a.txt", inputs=["data.txt"], outputs=["a.txt"]),
        space.job("b", "(cat a.txt; echo b) > b.txt", inputs=["a.txt"], outputs=["b.txt"]),
        space.job("c", "(cat b.txt; echo c) > c.txt", inputs=["b.txt"], outputs=["c.txt"]),
    ]
    commands = [
        ["run", "workflow.yaml", "--no-tui"],
        ["run", "workflow.yaml", "--no-tui", "-F"],
        ["clean", "workflow.yaml", "-y", "b"],
        ["rename", "workflow.yaml", "old", "c"],
        ["touch", "workflow.yaml", "a"],
        ["cancel", "workflow.yaml"],
        ["status", "workflow.yaml"],
    ]
    space.workflow(*jobs[:2], {**jobs[2], "name": "old"})
    assert space.run().code == 0
    space.workflow(*jobs)
    for turn in range(4):
        started = [space.start(*words) for words in commands[turn:] + commands[:turn]]
        for process in started:
            result = finish(process)
            assert "a fault of oumi-flow itself" not in result.text, result.text
            assert result.code in (0, 1, 2, 3), result.text
        result = space.run()
        assert result.code == 0, result.text
        assert space.read("c.txt") == "data\nb\nc\n"
        space.ran()
        assert space.run().code == 0
        assert space.ran() == []


def test_a_detached_run_outlives_whoever_started_it(space: Space) -> None:
    waiting_job(space)
    terminal = Terminal(space, *RUN, "--detach")
    assert terminal.wait() == 0
    run_id = re.search(rb"\d{8}-\d{6}-\w{4}", terminal.shown)
    assert run_id is not None
    terminal.hang_up()
    wait_for(lambda: space.exists("pids") and space.read("pids") != "", "the job is up")
    assert "running" in space.command("status", run_id[0].decode()).out
    result = space.command("cancel", run_id[0].decode())
    assert result.code == 0, result.text
    assert not lives(int(space.read("pids")))
    wait_for(lambda: "cancelled" in space.command("status", run_id[0].decode()).out, "its end")


def test_who_is_stopped_hears_of_it_before_his_child_does() -> None:
    """A shell under `set -e` whose child failed first would leave without its trap."""
    nest = ["bash", "-c", 'bash -c "sleep 1000; :"; :']
    tops = [subprocess.Popen(nest, start_new_session=True) for _ in range(32)]

    def pairs() -> list[list[int]]:
        return [processes.descendants(top.pid) for top in tops]

    try:
        wait_for(lambda: all(len(pair) == 2 for pair in pairs()), "all are up")
        for shell, child in pairs():
            assert processes.descendants(shell) == [child]
    finally:
        for top in tops:
            os.killpg(top.pid, signal.SIGKILL)
            top.wait()
