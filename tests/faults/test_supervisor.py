"""Jobs under their supervisors, with real processes, signals and kills.

Nothing here passes or fails by the clock: whatever takes time is waited for by what it writes,
with a deadline that only a broken build reaches.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from oumi_flow.executors import processes, server_process
from oumi_flow.executors.base import TOKEN_VARIABLE, Attempt, Exit, Handle, Rejected, Warmth
from oumi_flow.executors.handles import is_alive, read_exit, recorded
from oumi_flow.executors.leftovers import stop_leftovers
from oumi_flow.executors.local import LocalExecutor
from oumi_flow.executors.spawn import close_all, spawn
from oumi_flow.executors.state_dir import to_text
from oumi_flow.sockets import send_fds
from oumi_flow.verbs import without_shell
from tests.flow.conftest import delete

T = TypeVar("T")
PATIENCE = 60.0  # seconds


def until(look: Callable[[], T | None], what: str = "") -> T:
    """What `look` returns once that is something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"in {PATIENCE:.0f} s never: {what or look}")


def written(path: Path) -> str:
    """The text of a file once its last line is whole."""

    def look() -> str | None:
        text = path.read_text() if path.exists() else ""
        return text if text.endswith("\n") else None

    return until(look, f"a line in {path}")


def pids_in(path: Path, count: int) -> list[int]:
    def look() -> list[int] | None:
        words = path.read_text().split() if path.exists() else []
        return [int(word) for word in words] if len(words) == count else None

    return until(look, f"{count} pids in {path}")


def lives(pid: int) -> bool:
    process = processes.read_process(pid)
    return process is not None and process.lives


class Space:
    """A folder with jobs, and an executor that runs them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.executor = LocalExecutor()

    def state_dir(self, job: str) -> Path:
        return self.root / "out" / job / ".oumi-flow"

    def attempt_json(self, job: str) -> dict[str, Any]:
        """What is recorded of the job's attempt; {} while something is added to it."""
        with contextlib.suppress(ValueError):
            found: dict[str, Any] = json.loads((self.state_dir(job) / "attempt.json").read_text())
            return found
        return {}

    def attempt(self, job: str, argv: Sequence[str], **more: Any) -> Attempt:
        """With its intent on disk, as the loop would leave it."""
        folder = self.state_dir(job)
        folder.mkdir(parents=True, exist_ok=True)
        token = secrets.token_hex(8)
        intent = {"token": token, "state": "starting", "run_id": "r", "number": 1}
        (folder / "attempt.json").write_bytes(to_text(intent))
        values: dict[str, Any] = {
            "run_id": "r",
            "job": job,
            "number": 1,
            "token": token,
            "argv": tuple(argv),
            "cwd": str(self.root),
            "env": {"PATH": os.environ["PATH"]},
            "state_dir": str(folder),
            "log": str(folder.parent / "job.log"),
        }
        return Attempt(**(values | more))

    def submit(self, job: str, argv: Sequence[str], **more: Any) -> Handle:
        (handle,) = self.executor.submit([self.attempt(job, argv, **more)])
        assert isinstance(handle, Handle)
        return handle

    def bash(self, job: str, text: str, **more: Any) -> Handle:
        return self.submit(job, ["bash", "-c", text], **more)

    def python(self, job: str, text: str, **more: Any) -> Handle:
        return self.submit(job, [sys.executable, "-c", textwrap.dedent(text)], **more)

    def end(self, handle: Handle) -> Exit:
        (end,) = self.ends([handle])
        return end

    def ends(self, handles: Sequence[Handle]) -> list[Exit]:
        """How they ended, in that order."""
        ends: dict[str, Exit] = {}
        while len(ends) < len(handles):
            waiting = [handle for handle in handles if handle.token not in ends]
            more, complete = self.executor.poll(waiting, time.monotonic() + PATIENCE)
            assert complete
            assert more, f"{len(waiting)} have not ended"
            ends |= more
        return [ends[handle.token] for handle in handles]

    def log(self, job: str) -> str:
        return (self.root / "out" / job / "job.log").read_text()

    def supervisor(self, handle: Handle) -> Handle:
        """The handle with its supervisor's pid, once that is on disk."""

        def look() -> Handle | None:
            found = recorded(handle.state_dir)
            return found if found and found.token == handle.token else None

        return until(look, f"a handle of {handle.job}")


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    space = Space(tmp_path)
    yield space
    found = space.executor.find([str(one) for one in tmp_path.glob("out/*/.oumi-flow")], grace=0)
    space.executor.cancel(found, 0, now=True)
    for handle in found:
        space.end(handle)
    space.executor.close()


# what a job is given


def test_a_job_gets_its_environment_folder_and_nothing_to_read(space: Space) -> None:
    folder = space.root / "wörk dir"
    folder.mkdir()
    handle = space.bash(
        "a",
        "pwd; echo $GREETING; env | grep OUMI; cat; echo done; exit 7",
        cwd=str(folder),
        env={"PATH": os.environ["PATH"], "GREETING": "hällo wörld"},
    )
    end = space.end(handle)
    assert (end.code, end.signal, end.error, end.lost) == (7, None, "", False)
    assert 0 < end.started <= end.finished
    text = space.log("a")
    assert text == f"{folder}\nhällo wörld\n{TOKEN_VARIABLE}={handle.token}\ndone\n"
    left = space.attempt_json("a")["exit"]
    assert Exit.from_json(left) == end
    assert left["format"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "cat in",
        "cat in absent > out",
        "cat < in > d/out 2>&1",
        "cat in >> in2",
        "sh -c false 2>err",
        "cat > /dev/null < in",
        "cat in in2 > out",
        "cat < ../../../../../../../../../proc/self/comm",
        "env --absent > out 2>> err",
        "./tale > out",  # no #! line: a shell runs it all the same
        "cat in > no/out",
        "cat < no",
        "cat in > d",
        "absent > out",
    ],
)
def test_without_its_shell_a_text_does_the_same(space: Space, text: str) -> None:
    argv = ("bash", "-euo", "pipefail", "-c", text)
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    seen = []
    for name, direct in (("with", None), ("without", without_shell(argv))):
        place = space.root / name
        (place / "d").mkdir(parents=True)
        for file in ("in", "in2"):
            (place / file).write_text(f"{file}\n")
        (place / "tale").write_text("echo from a tale\n")
        (place / "tale").chmod(0o755)
        handle = space.submit(name, argv, cwd=str(place), env=env, direct=direct)
        end = space.end(handle)
        files = {
            str(file.relative_to(place)): (file.read_text(), file.stat().st_mode)
            for file in sorted(place.rglob("*"))
            if file.is_file()
        }
        seen.append((end.code, end.signal, end.error, space.log(name), files))
    assert (name, direct is not None) == ("without", True)
    assert seen[0] == seen[1]


def test_without_its_shell_a_job_knows_its_folder_all_the_same(space: Space) -> None:
    argv = ("bash", "-euo", "pipefail", "-c", "printenv PWD 2>&1")
    env = {"PATH": os.environ["PATH"], "PWD": "/elsewhere"}
    for job, direct in (("with", None), ("without", without_shell(argv))):
        place = space.root / f"in-{job}"
        place.mkdir()
        handle = space.submit(job, argv, cwd=str(place), env=env, direct=direct)
        assert space.end(handle).code == 0
        assert space.log(job) == f"{place}\n"
    assert direct is not None


@pytest.mark.parametrize(("target", "how", "flags"), [(0, "<", os.O_WRONLY), (1, ">", os.O_RDONLY)])
def test_who_waits_at_the_other_end_of_a_pipe_meets_the_job_alone(
    space: Space, target: int, how: str, flags: int
) -> None:
    """It must not be opened and closed again before the shell opens it."""
    pipe = space.root / "pipe"
    os.mkfifo(pipe)
    opened: list[int] = []
    peer = threading.Thread(target=lambda: opened.append(os.open(pipe, flags)))
    peer.start()
    stat = Path(f"/proc/self/task/{peer.native_id}/stat")
    until(lambda: stat.read_text().rpartition(")")[2][1] == "S", "it waits in its open")
    try:
        direct = (("true",), [(target, how, str(pipe))])
        handle = space.submit("job", ("bash", "-c", "echo sh"), direct=direct)
        assert space.end(handle).code == 0
        assert opened == []
    finally:
        let_go = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        peer.join(60)
        for fd in (let_go, *opened):
            os.close(fd)


def test_closing_our_copy_of_a_file_never_raises() -> None:
    """A disk may fail just then; whoever took that for a start that failed would start twice."""
    last = os.open(os.devnull, os.O_WRONLY)
    close_all([(1_000_000, 1), (last, 2)])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(last)


def test_the_shell_is_started_only_for_what_it_is_needed_for(space: Space) -> None:
    os.mkfifo(space.root / "fifo")
    argv = ("bash", "-c", "echo sh")
    for job, file, said in (("a", "plain", ""), ("b", "no/way", "sh\n"), ("c", "fifo", "sh\n")):
        direct = (("true",), [(1, ">", file)])
        assert space.end(space.submit(job, argv, direct=direct)).code == 0
        assert space.log(job) == said, file


def test_a_log_that_has_a_head_is_appended_to(space: Space) -> None:
    attempt = space.attempt("a", ["bash", "-c", "echo out; echo err >&2"])
    Path(attempt.log).write_text("# run r, attempt 1\n")
    (handle,) = space.executor.submit([attempt])
    assert isinstance(handle, Handle)
    assert space.end(handle).code == 0
    assert space.log("a") == "# run r, attempt 1\nout\nerr\n"


def test_a_job_inherits_its_token_and_no_other_descriptor(space: Space, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("")
    token = os.open(tmp_path / "token", os.O_RDWR)
    other = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(other, True)
    look = "import os; print(sorted(os.readlink(f'/proc/self/fd/{n}') for n in range(64)"
    look += " if os.path.exists(f'/proc/self/fd/{n}')))"
    handle = space.python("a", look, descriptors=(token,))
    os.close(token)
    os.close(other)
    assert space.end(handle).code == 0
    log = str(space.root / "out" / "a" / "job.log")
    assert space.log("a") == f"{sorted(['/dev/null', log, log, str(tmp_path / 'token')])}\n"


def test_a_job_never_inherits_ignored_or_blocked_signals(space: Space) -> None:
    """Started from a shell with `&`, or under nohup, a runner has signals ignored."""
    program = f"""
    import signal, sys
    sys.path.insert(0, {str(Path(__file__).parents[2])!r})
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD])
    from oumi_flow.executors.base import Attempt, Handle
    from oumi_flow.executors.local import LocalExecutor
    executor = LocalExecutor()
    handles = executor.submit([{space.attempt("a", ["cat", "/proc/self/status"])!r}])
    ends = {{}}
    while not ends:
        ends, _ = executor.poll(handles)
    executor.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=PATIENCE)
    masks = dict(line.split(":\t") for line in space.log("a").splitlines() if line[:3] == "Sig")
    real = (1 << 31) - 1  # beyond are signals of the C library's own
    assert [int(masks[name], 16) & real for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_a_job_leads_a_session_of_its_own_and_so_does_its_supervisor(space: Space) -> None:
    handle = space.bash("a", f"echo $$ > {space.root}/pid; exec sleep 1000")
    (pid,) = pids_in(space.root / "pid", 1)
    supervisor = space.supervisor(handle).pid
    sessions = {os.getsid(pid), os.getsid(supervisor), os.getsid(0)}
    assert sessions == {pid, supervisor, os.getsid(0)}
    assert len(sessions) == 3
    space.executor.cancel([handle], 30.0)
    assert space.end(handle).cancelled


@pytest.mark.parametrize(
    ("argv", "more", "words"),
    [
        (["no-such-program"], {}, "there is no program 'no-such-program' on its PATH"),
        (["./nothing"], {}, "there is no program ./nothing"),
        (["./script"], {}, "interpreter"),
        (["./data"], {}, "no program and has no #! line"),
        (["./plain"], {}, "Permission denied"),
        (["true"], {"cwd": "no/such/folder"}, "its workdir no/such/folder: No such file"),
        (["true", "x" * 3_000_000], {}, "too long together"),
    ],
)
def test_what_cannot_start_says_why(
    space: Space, argv: list[str], more: dict[str, Any], words: str
) -> None:
    for name, text, mode in (
        ("script", "#!/no/such/interpreter\n", 0o755),
        ("data", "just words\n", 0o755),
        ("plain", "#!/bin/sh\n", 0o644),
    ):
        (space.root / name).write_text(text)
        (space.root / name).chmod(mode)
    end = space.end(space.submit("a", argv, **more))
    assert end.error.startswith("could not start: ")
    assert words in end.error
    assert (end.code, end.signal, end.lost) == (None, None, False)
    assert read_exit(str(space.state_dir("a")), end.token) == end


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_a_log_that_is_no_file_is_an_error_and_no_hang(space: Space, kind: str) -> None:
    attempt = space.attempt("a", ["true"])
    os.mkfifo(attempt.log) if kind == "fifo" else os.mkdir(attempt.log)
    (handle,) = space.executor.submit([attempt])
    assert isinstance(handle, Handle)
    assert "could not start: its log" in space.end(handle).error


def test_a_python_without_posix_spawn_setsid_forks_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*args: object, **more: object) -> int:
        raise NotImplementedError

    monkeypatch.setattr(os, "posix_spawn", missing)
    with open(tmp_path / "log", "wb") as log:
        program = shutil.which("bash")
        assert program is not None
        script = [b"bash", b"-c", b"ps -o sid= -p $$; echo $$; grep SigIgn /proc/self/status"]
        env = {b"PATH": os.environb[b"PATH"]}
        pid = spawn(program.encode(), script, env, log.fileno())
        assert os.waitpid(pid, 0)[1] == 0
        with pytest.raises(FileNotFoundError):
            spawn(b"/no/such", [b"x"], {}, log.fileno())
    session, own, ignored = (tmp_path / "log").read_text().splitlines()
    assert int(session) == int(own) == pid
    assert int(ignored.split()[1], 16) == 0


# masking


def test_secrets_are_masked_in_the_log_also_across_writes(space: Space) -> None:
    secret = "s3cr3t-välue"
    handle = space.python(
        "a",
        """
        import os, sys
        text = ("say " + os.environ["KEY"] + ".\\n").encode()
        for k in range(len(text)):
            os.write(1 + k % 2, text[k:k + 1])
        os.write(1, b"x" * 65530 + os.environb[b"KEY"] * 3 + b" short\\n")
        os.write(1, b"the end, s3cr3t")
        """,
        env={"KEY": secret},
        mask=(secret, "short"),
    )
    assert space.end(handle).code == 0
    assert space.log("a") == f"say ****.\n{'x' * 65530}************ short\nthe end, s3cr3t"


def test_a_masked_log_that_cannot_be_written_fails_the_job(space: Space) -> None:
    """As it fails a job that writes by itself."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    program = f"""
    {limit}
    import sys
    sys.path.insert(0, {str(Path(__file__).parents[2])!r})
    from oumi_flow.executors.base import Attempt
    from oumi_flow.executors.local import LocalExecutor
    executor = LocalExecutor()
    handles = executor.submit([{space.attempt("a", ["yes"], mask=("secret",))!r}])
    ends = {{}}
    while not ends:
        ends, _ = executor.poll(handles)
    (end,) = ends.values()
    assert end.signal == 13, end
    assert end.error == "could not write its log: File too large", end
    executor.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=PATIENCE)


# the end of a process tree

FAMILY = """
import os, signal, sys, time

def note():
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\\n")

def stay():
    note()
    while True:
        time.sleep(1000)

if not os.fork():                      # a daemon, by the book, deaf to SIGTERM
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 64)
    stay()
if not os.fork():                      # a child that is stopped
    note()
    os.kill(os.getpid(), signal.SIGSTOP)
    stay()
if not os.fork():                      # one that leads a group of its own
    os.setpgid(0, 0)
    stay()
zombie = os.fork()                     # one whose parent never asks for it
if not zombie:
    os._exit(0)
"""

GO = """
while not os.path.exists(sys.argv[1]) or len(open(sys.argv[1]).read().split()) < 3:
    time.sleep(0.005)
"""


def family(space: Space, last: str, **more: Any) -> tuple[Handle, list[int]]:
    """A job with every kind of relative; their pids."""
    pids = space.root / "pids"
    handle = space.submit("a", [sys.executable, "-c", FAMILY + last, str(pids)], **more)
    return handle, pids_in(pids, 4 if "stay()" in last else 3)


def test_cancel_leaves_nobody_of_the_tree(space: Space) -> None:
    handle, pids = family(space, "stay()", grace=0.2)
    space.executor.cancel([handle], 0.2)
    end = space.end(handle)
    assert end.cancelled
    assert end.signal == signal.SIGTERM  # the first process went politely
    assert [pid for pid in pids if lives(pid)] == []


def test_cancel_at_once_waits_for_no_grace(space: Space) -> None:
    handle, pids = family(space, "signal.signal(15, signal.SIG_IGN); stay()", grace=1000.0)
    space.executor.cancel([handle], 1000.0)
    space.executor.cancel([handle], 1000.0, now=True)
    end = space.end(handle)
    assert (end.cancelled, end.signal) == (True, signal.SIGKILL)
    assert [pid for pid in pids if lives(pid)] == []


def test_leftovers_of_a_job_that_has_ended_are_stopped(space: Space) -> None:
    handle, pids = family(space, GO, grace=0.2)
    end = space.end(handle)
    assert (end.code, end.cancelled, end.timed_out) == (0, False, False)
    assert [pid for pid in pids if lives(pid)] == []


def test_a_timeout_stops_the_tree_and_says_so(space: Space) -> None:
    pids: list[int] = []
    path = space.root / "pids"
    for limit in (3.0, 12.0, 48.0):  # on a slow machine it may strike before all are up
        argv = [sys.executable, "-c", FAMILY + "stay()", str(path)]
        end = space.end(space.submit("a", argv, limit=limit, grace=0.2))
        assert (end.timed_out, end.cancelled) == (True, False)
        pids = [int(word) for word in path.read_text().split()] if path.exists() else []
        if len(pids) == 4:
            break
        path.unlink(missing_ok=True)
    assert len(pids) == 4
    assert [pid for pid in pids if lives(pid)] == []


def test_a_job_may_tidy_up_within_its_grace(space: Space) -> None:
    script = "trap 'sleep 0.1; echo tidy; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    handle = space.bash("a", script, grace=1000.0)
    written(space.root / "out" / "a" / "job.log")
    space.executor.cancel([handle], 1000.0)
    space.executor.cancel([handle], 1000.0)  # asking twice politely is still polite
    end = space.end(handle)
    assert (end.cancelled, end.code) == (True, 5)
    assert space.log("a").endswith("tidy\n")


def test_a_stopped_job_may_tidy_up_too(space: Space) -> None:
    handle = space.python(
        "a",
        f"""
        import os, signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        print(os.getpid(), file=open({str(space.root / "pid")!r}, "w"))
        os.kill(os.getpid(), signal.SIGSTOP)
        signal.pause()
        """,
        grace=1000.0,
    )
    (pid,) = pids_in(space.root / "pid", 1)
    until(lambda: getattr(processes.read_process(pid), "state", "") == "T", "it is stopped")
    space.executor.cancel([handle], 1000.0)
    assert space.end(handle).code == 5


@pytest.mark.parametrize("and_then", ["", "os.setsid()"])
def test_a_chain_of_forks_is_caught(space: Space, and_then: str) -> None:
    """Each process forks the next and leaves: whoever looks always sees the last one but one."""
    chain = "import os,signal\nsignal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\n"
    chain += f"while True:\n    if os.fork(): os._exit(0)\n    {and_then}\n"
    handle = space.submit("a", [sys.executable, "-c", chain], grace=0.05)
    written(space.root / "out" / "a" / "job.log")
    assert space.end(handle).code == 0
    # It has told of the end, and is about to go itself.
    until(lambda: not processes.supervisors_at([handle.state_dir]), "its supervisor is gone")
    assert stop_leftovers([handle], grace=0) == 0


# Sixteen that never tire of daemons, and five hundred that stay; all deaf to SIGTERM.
SWARM = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(4):
    os.fork()
print("up", flush=True)
while True:
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        time.sleep(0.005)
        os._exit(0)
    time.sleep(0.001)
"""
CROWD = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in range(500):
    if os.fork() == 0:
        if number % 3 == 0:
            os.setsid()
        if number % 5 == 0 and os.fork():
            os._exit(0)
        time.sleep(1000)
print("up", flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("program", [SWARM, CROWD], ids=["swarm", "crowd"])
def test_no_number_of_processes_is_too_much_to_end(space: Space, program: str) -> None:
    handle = space.submit("a", [sys.executable, "-c", program], grace=0.1)
    written(space.root / "out" / "a" / "job.log")
    space.executor.cancel([handle], 0.1)
    end = space.end(handle)
    assert (end.cancelled, end.signal, end.error) == (True, signal.SIGKILL, "")
    until(lambda: not processes.supervisors_at([handle.state_dir]), "its supervisor is gone")
    assert stop_leftovers([handle], grace=0) == 0


def test_the_supervisor_can_be_asked_by_signal(space: Space) -> None:
    handle = space.bash("a", "trap '' TERM; echo up; while :; do sleep 0.05; done", grace=1000.0)
    written(space.root / "out" / "a" / "job.log")
    supervisor = space.supervisor(handle).pid
    os.kill(supervisor, signal.SIGINT)  # a terminal's: not for it
    os.kill(supervisor, signal.SIGHUP)
    os.kill(supervisor, signal.SIGTERM)
    os.kill(supervisor, signal.SIGUSR1)
    end = space.end(handle)
    assert (end.cancelled, end.signal) == (True, signal.SIGKILL)


def test_a_job_cancelled_before_it_starts_does_not_start(space: Space) -> None:
    handles = [space.bash(f"j{k}", f"echo x >> {space.root}/ran") for k in range(20)]
    space.executor.cancel(handles, 0, now=True)
    ends = space.ends(handles)
    assert all(end.code == 0 or end.cancelled for end in ends)
    assert all(not end.error and not end.lost for end in ends)


# polling


def test_poll_returns_when_woken_and_at_its_deadline(space: Space) -> None:
    handle = space.bash("a", "exec sleep 1000")
    assert space.executor.poll([handle], 0.0) == ({}, True)
    space.executor.wake()
    assert space.executor.poll([handle], None) == ({}, True)
    space.executor.cancel([handle], 30.0)
    assert space.end(handle).cancelled
    assert space.executor.poll([], 0.0) == ({}, True)


def test_many_jobs_at_once_all_end(space: Space) -> None:
    handles = [space.submit(f"j{k}", ["bash", "-c", f"exit {k}"]) for k in range(40)]
    assert [end.code for end in space.ends(handles)] == list(range(40))


# kills


RUNNER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from oumi_flow.executors.base import Attempt
from oumi_flow.executors.local import LocalExecutor
executor = LocalExecutor()
handles = executor.submit(eval(sys.argv[2]))
print("submitted", flush=True)
while True:
    executor.poll(handles)
"""


def start_runner(attempts: list[Attempt], **more: Any) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[2])
    argv = [sys.executable, "-c", RUNNER, root, repr(attempts)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, **more)


def test_a_job_outlives_its_runner_and_is_found(space: Space) -> None:
    gate = space.root / "gate"
    os.mkfifo(gate)
    attempt = space.attempt("a", ["bash", "-c", f"echo up; read line < {gate}; exit $line"])
    with start_runner([attempt], start_new_session=True) as runner:
        written(Path(attempt.log))
        os.killpg(runner.pid, signal.SIGKILL)  # it and whatever else is in its session
    (found,) = space.executor.find([attempt.state_dir])
    assert (found.token, found.job, found.run_id) == (attempt.token, "a", "r")
    assert is_alive(found)
    assert read_exit(attempt.state_dir, attempt.token) is None
    gate.write_text("6\n")
    end = space.end(found)
    assert (end.code, end.lost) == (6, False)
    assert space.executor.find([attempt.state_dir]) == []


def test_exit_json_is_there_though_nobody_waited_for_it(space: Space) -> None:
    attempt = space.attempt("a", ["bash", "-c", "echo up; sleep 0.1; exit 4"], limit=1000.0)
    with start_runner([attempt]) as runner:
        written(Path(attempt.log))
        runner.kill()
    end = until(lambda: read_exit(attempt.state_dir, attempt.token), "exit.json")
    assert end.code == 4


def test_an_adopted_job_keeps_its_timeout_and_can_be_cancelled(space: Space) -> None:
    late = space.attempt("late", ["sleep", "1000"], limit=1.0, grace=0.2)
    deaf = space.attempt("deaf", ["bash", "-c", "trap '' TERM; echo up; sleep 1000"], grace=0.2)
    with start_runner([late, deaf]) as runner:
        written(Path(deaf.log))
        runner.kill()
    handles = [space.supervisor(Handle(one.token, state_dir=one.state_dir)) for one in (late, deaf)]
    assert space.end(handles[0]).timed_out
    (found,) = space.executor.find([late.state_dir, deaf.state_dir])
    space.executor.cancel([found], 0.2)
    assert space.end(found).cancelled


def test_no_runner_is_left_behind_in_the_process_list(space: Space) -> None:
    """Server and supervisor end with what they are for."""
    attempt = space.attempt("a", ["bash", "-c", "echo up; sleep 0.2"])
    with start_runner([attempt]) as runner:
        written(Path(attempt.log))
        servers = [pid for pid in processes.descendants(runner.pid) if serves(pid)]
        assert len(servers) == 1
        runner.kill()
    supervisor = space.supervisor(Handle(attempt.token, state_dir=attempt.state_dir)).pid
    until(lambda: not any(lives(pid) for pid in [*servers, supervisor]), "they are gone")


def serves(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "oumi-flow-serve\n"
    except OSError:  # it has ended
        return False


def test_a_killed_supervisor_loses_the_attempt_and_leaves_no_process(space: Space) -> None:
    handle, pids = family(space, "stay()")
    os.kill(space.supervisor(handle).pid, signal.SIGKILL)
    end = space.end(handle)
    assert (end.lost, end.code, end.signal) == (True, None, None)
    until(lambda: not any(lives(pid) for pid in pids), "the tree is gone")


def test_what_a_lost_run_and_its_killed_supervisor_left_is_stopped_by_find(space: Space) -> None:
    pids = space.root / "pids"
    argv = [sys.executable, "-c", FAMILY + "stay()", str(pids)]
    attempt = space.attempt("a", argv)
    with start_runner([attempt]) as runner:
        family_pids = pids_in(pids, 4)
        supervisor = space.supervisor(Handle(attempt.token, state_dir=attempt.state_dir))
        runner.kill()
        runner.wait()
        os.kill(supervisor.pid, signal.SIGKILL)
    until(lambda: not is_alive(supervisor))
    assert all(lives(pid) for pid in family_pids)
    assert space.executor.find([attempt.state_dir], grace=0.1) == []
    assert [pid for pid in family_pids if lives(pid)] == []


STRANGER = "import sys, time; print('up', file=open(sys.argv[1], 'w')); time.sleep(1000)"
TERMINAL = """
import os, pty, sys, time
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
if pty.fork()[0] == 0:
    os.dup2(log, 1), os.dup2(log, 2)
    print(os.getpid(), file=open(sys.argv[1], "w"))
time.sleep(1000)
"""


def ticks() -> int:
    """Now, as starts of processes are told."""
    return int(float(Path("/proc/uptime").read_text().split()[0]) * os.sysconf("SC_CLK_TCK"))


def started(pid: int) -> int:
    process = processes.read_process(pid)
    assert process is not None
    return process.start_ticks


def test_who_only_has_a_lost_jobs_log_open_is_let_be(space: Space) -> None:
    """A reader, an editor, another attempt, what was there before, what a user does by hand."""
    attempt = space.attempt("a", ["bash", "-c", "echo $$ > pid; sleep 1000"], grace=0)
    log = Path(attempt.log)
    log.write_text("# run r\n")
    others: dict[str, subprocess.Popen[bytes]] = {}

    def stranger(name: str, program: str = STRANGER, *words: str, **more: Any) -> None:
        up = str(space.root / name)
        argv = [sys.executable, "-c", program, up, *words]
        others[name] = subprocess.Popen(argv, start_new_session=True, **more)
        written(Path(up))

    with open(log, "ab") as writing, open(log, "rb") as reading, open(log, "r+b") as editing:
        stranger("earlier", stdout=writing, stderr=writing)
        until(lambda: ticks() > started(others["earlier"].pid) + 1, "another tick")
        with start_runner([attempt]) as runner:
            (pid,) = pids_in(space.root / "pid", 1)
            supervisor = space.supervisor(Handle(attempt.token, state_dir=attempt.state_dir))
            runner.kill()
            runner.wait()
            os.kill(supervisor.pid, signal.SIGKILL)
        stranger("reader", stdout=reading, stderr=subprocess.DEVNULL)
        stranger("editor", pass_fds=[editing.fileno()], stdout=subprocess.DEVNULL)
        stranger("other", stdout=writing, env={TOKEN_VARIABLE: "another", **os.environ})
        stranger("by hand", TERMINAL, str(log))
        stranger("left behind", stdout=writing, stderr=subprocess.DEVNULL)
    (typed,) = pids_in(space.root / "by hand", 1)
    until(lambda: not is_alive(supervisor))
    try:
        assert space.executor.find([attempt.state_dir], grace=0) == []
        assert not lives(pid)
        assert lives(typed)
        gone = [name for name, process in others.items() if process.poll() is not None]
        assert gone == ["left behind"]  # as a daemon that a job left would be
    finally:
        os.kill(typed, signal.SIGKILL)
        for process in others.values():
            process.kill()
            process.wait()


def test_a_killed_server_costs_no_attempt(space: Space) -> None:
    gate = space.root / "gate"
    os.mkfifo(gate)
    handle = space.bash("a", f"echo up; read line < {gate}; exit $line")
    written(space.root / "out" / "a" / "job.log")
    (server,) = [pid for pid in processes.descendants(os.getpid()) if serves(pid)]
    os.kill(server, signal.SIGKILL)
    until(lambda: not lives(server))
    other = space.bash("b", "exit 3")
    assert space.end(other).code == 3
    gate.write_text("9\n")
    assert space.end(handle).code == 9


def test_an_end_that_is_heard_of_as_the_server_is_found_dead_loses_no_other(space: Space) -> None:
    gate = space.root / "gate"
    os.mkfifo(gate)
    lasting = space.bash("a", f"echo up; read line < {gate}; exit $line")
    written(space.root / "out" / "a" / "job.log")
    ended = space.bash("b", "exit 4")
    until(lambda: "exit" in space.attempt_json("b"))
    supervisor = space.attempt_json("b")["handle"]["pid"]
    (server,) = [pid for pid in processes.descendants(os.getpid()) if serves(pid)]
    os.kill(server, signal.SIGSTOP)
    until(lambda: getattr(processes.read_process(server), "state", "") == "T", "it is stopped")
    unread = space.bash("c", "exit 5")
    os.kill(server, signal.SIGKILL)
    until(lambda: not lives(server))
    until(lambda: is_idle(space, supervisor), "it has told of its end, which nobody has read")
    other = space.bash("d", "exit 6")
    assert [space.end(each).code for each in (ended, other)] == [4, 6]
    assert space.end(unread).lost
    gate.write_text("9\n")
    assert space.end(lasting).code == 9


def is_idle(space: Space, pid: int) -> bool:
    """Whether a supervisor waits for another attempt."""
    seen = processes.read_process(pid)
    busy = {pid for pid, _ in processes.supervisors_at([str(space.root)])}
    return pid not in busy and seen is not None and seen.state == "S"


def test_a_server_that_could_not_import_says_why_though_it_has_gone_before(space: Space) -> None:
    env = {"PATH": os.environ["PATH"]}
    warmth = Warmth(sys.executable, "", ("no_module_of_that_name",), str(space.root), env)
    space.executor.prewarm(warmth)
    warm = space.executor._warm
    assert warm is not None
    until(warm.is_gone, "it has gone")
    end = space.end(space.bash("a", "exit 0", warmth=warmth))
    assert end.code == 0
    assert "no_module_of_that_name" in end.cold


def test_an_order_that_the_system_does_not_carry_is_refused_and_costs_no_server(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = True

    def send(to: Any, data: bytes, descriptors: Any, flags: int = 0) -> int:
        if refuse:
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
        return send_fds(to, data, descriptors, flags)

    monkeypatch.setattr(server_process, "send_fds", send)
    space.executor.prepare()
    server = space.executor._server
    assert server is not None
    (answer,) = space.executor.submit([space.attempt("a", ["touch", "ran"])])
    assert isinstance(answer, Rejected)
    assert answer.message.startswith("could not start its supervisor: Too many references")
    refuse = False
    assert space.end(space.bash("b", "exit 0")).code == 0
    assert space.executor._server is server
    assert not (space.root / "ran").exists()


def test_a_server_killed_with_orders_unread_starts_none_of_them(space: Space) -> None:
    first = space.bash("a", "exit 0", mask=("so that nobody is free afterwards",))
    assert space.end(first).code == 0
    (server,) = [pid for pid in processes.descendants(os.getpid()) if serves(pid)]
    os.kill(server, signal.SIGSTOP)
    until(lambda: getattr(processes.read_process(server), "state", "") == "T", "it is stopped")
    handle = space.bash("b", f"echo ran > {space.root}/ran")
    os.kill(server, signal.SIGKILL)
    end = space.end(handle)
    assert end.lost
    again = space.bash("b", "exit 2")
    assert space.end(again).code == 2
    assert not (space.root / "ran").exists()


def test_a_start_that_nobody_recorded_yet_can_be_ruled_out(space: Space) -> None:
    """The runner is killed between intent and start; the next run must not race its server."""
    attempt = space.attempt("a", ["bash", "-c", f"echo ran > {space.root}/ran"])
    assert space.executor.find([attempt.state_dir]) == []
    (handle,) = space.executor.submit([attempt])
    assert isinstance(handle, Handle)
    end = space.end(handle)
    assert end.error == "could not start: another run has taken over"
    assert not (space.root / "ran").exists()
    assert os.listdir(space.state_dir("a")) == ["attempt.json"]
    assert "exit" not in space.attempt_json("a")


def test_an_attempt_of_another_boot_is_over(space: Space) -> None:
    handle = space.bash("a", "echo up; exec sleep 1000")
    written(space.root / "out" / "a" / "job.log")
    path = space.state_dir("a") / "attempt.json"
    true = path.read_text()
    told = json.loads(true)
    told["handle"]["boot_id"] = "earlier"
    path.write_text(json.dumps(told))
    assert space.executor.find([str(path.parent)], grace=0) == []
    path.write_text(true)
    assert [one.token for one in space.executor.find([str(path.parent)])] == [handle.token]
    space.executor.cancel([handle], 30.0)
    assert space.end(handle).cancelled


def test_a_folder_deleted_under_a_job_is_no_hang(space: Space) -> None:
    handle = space.bash("a", "echo up; sleep 0.1; exit 3")
    written(space.root / "out" / "a" / "job.log")
    delete(space.root / "out")
    assert space.end(handle).code == 3


def test_an_executor_that_was_closed_leaves_its_jobs_to_the_next(space: Space) -> None:
    handle = space.bash("a", "sleep 0.05; exit 3")
    space.supervisor(handle)
    space.executor.close()
    space.executor.close()
    space.executor = LocalExecutor()
    assert space.end(handle).code == 3
