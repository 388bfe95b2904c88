"""GPU tokens with real processes that hold them, fight for them and are killed."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.executors import processes
from oumi_flow.executors.local import LocalExecutor
from oumi_flow.model import GpuRequest
from oumi_flow.tokens import Gpu, TokenPool

ROOT = str(Path(__file__).parents[2])
PATIENCE = 120.0  # seconds

RUNNER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from oumi_flow.executors.base import Attempt
from oumi_flow.executors.local import LocalExecutor
from oumi_flow.model import GpuRequest
from oumi_flow.tokens import Gpu, TokenPool
pool = TokenPool([Gpu(0), Gpu(1)], sys.argv[2], run_id="lost-run")
lease = pool.try_lease(GpuRequest(1), holder="train")
job = json.loads(sys.argv[3])
executor = LocalExecutor()
handles = executor.submit([Attempt(descriptors=lease.descriptors, **job)])
while True:
    executor.poll(handles)
"""


def until(look: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


def is_free(pool: TokenPool, index: int) -> bool:
    lease = pool.try_lease(GpuRequest(1, (index,)))
    if lease is None:
        return False
    lease.close()
    return True


@pytest.mark.parametrize("killed", ["runner", "runner and supervisor"])
def test_a_token_is_held_until_the_jobs_tree_is_gone(tmp_path: Path, killed: str) -> None:
    """The job's first process ends at once; its child is what holds on."""
    locks, state, gate = tmp_path / "locks", tmp_path / "job" / ".oumi-flow", tmp_path / "gate"
    os.mkfifo(gate)
    state.mkdir(parents=True)
    token = secrets.token_hex(8)
    (state / "attempt.json").write_text(json.dumps({"token": token, "state": "starting"}))
    script = f"trap '' TERM; (echo $BASHPID; read line < {gate}) & wait"
    job = {
        "run_id": "lost-run",
        "job": "train",
        "number": 1,
        "token": token,
        "argv": ["bash", "-c", script],
        "cwd": ".",
        "env": {"PATH": os.environ["PATH"]},
        "state_dir": str(state),
        "log": str(tmp_path / "job.log"),
        "grace": 1000.0,
    }
    argv = [sys.executable, "-c", RUNNER, ROOT, str(locks), json.dumps(job)]
    log = tmp_path / "job.log"
    with subprocess.Popen(argv) as runner:
        until(lambda: log.exists() and log.read_text().endswith("\n"), "the job is up")
        runner.kill()
    pool = TokenPool([Gpu(0), Gpu(1)], str(locks), run_id="next")
    executor = LocalExecutor()
    (handle,) = executor.find([str(state)])
    assert not is_free(pool, 0)
    assert "GPU 0: held by run lost-run" in pool.waiting_for(GpuRequest(1, (0,)))
    assert is_free(pool, 1)
    if killed == "runner and supervisor":
        os.kill(handle.pid, signal.SIGKILL)
        until(lambda: not processes.is_alive(handle.pid, handle.start_ticks), "it is dead")
        assert not is_free(pool, 0)  # the job computes on it still
        assert executor.find([str(state)], grace=0) == []
    else:
        gate.write_text("go on\n")
        executor.poll([handle])
    until(lambda: is_free(pool, 0), "GPU 0 is free")
    executor.close()


NEEDY = """
import json, os, random, sys, time
sys.path.insert(0, sys.argv[1])
from oumi_flow.model import GpuRequest
from oumi_flow.tokens import Gpu, TokenPool
locks, arena, rounds, seed, wants, most = *sys.argv[2:4], *map(int, sys.argv[4:8])
dice = random.Random(seed)
pool = TokenPool([Gpu(index) for index in range(8)], locks, run_id=f"run-{os.getpid()}")
log = os.open(f"{arena}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

def say(**words):
    os.write(log, (json.dumps({"pid": os.getpid(), **words}) + "\\n").encode())

for number in range(rounds):
    request = GpuRequest(wants or dice.choice([1, 1, 1, 2, 3, 5, 8]))
    if not wants and dice.random() < 0.3:
        named = tuple(sorted(dice.sample(range(8), dice.choice([1, 1, 2]))))
        request = GpuRequest(len(named), named)
    since, stood = time.monotonic(), None
    say(number=number, wants=request.count, since=since)
    while True:
        asked = time.monotonic()
        lease = pool.try_lease(request, holder=f"job-{number}", waited=asked - since)
        if lease is not None:
            break
        if stood is None and any(one.run == f"run-{os.getpid()}" for one in pool.waiting()):
            stood = time.monotonic()
            say(number=number, stood=stood)
        time.sleep(pool.pause(request))
    for device in lease.devices:
        path = f"{arena}/{device}"
        try:
            os.symlink(str(os.getpid()), path)
        except FileExistsError:
            other = int(os.readlink(path))
            open(f"{arena}/met-{other}-{device}-{os.getpid()}", "w").close()
            os.unlink(path)
            os.symlink(str(os.getpid()), path)
    say(number=number, asked=asked, got=lease.devices)
    time.sleep(dice.random() * most / 1000)
    for device in lease.devices:
        os.unlink(f"{arena}/{device}")
    lease.close()
pool.close()
"""


class Arena:
    """Processes that want some of eight GPUs, and mark what they have: the killed leave marks."""

    patience = 0.4  # seconds

    def __init__(self, root: Path) -> None:
        self.locks, self.folder = str(root / "locks"), root / "arena"
        self.folder.mkdir()
        self.started: list[subprocess.Popen[bytes]] = []

    def needy(
        self, seed: int, rounds: int, wants: int = 0, most: int = 20
    ) -> subprocess.Popen[bytes]:
        """Wants so many GPUs (0: as the dice fall), and holds them for at most so many ms."""
        numbers = map(str, (rounds, seed, wants, most))
        words = [sys.executable, "-c", NEEDY, ROOT, self.locks, str(self.folder), *numbers]
        environ = {**os.environ, "OUMI_FLOW_GPU_PATIENCE": str(self.patience)}
        self.started.append(subprocess.Popen(words, env=environ))
        return self.started[-1]

    def told(self) -> list[dict[str, Any]]:
        log = self.folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def met(self) -> set[int]:
        """Who was found on a GPU by somebody else who has it."""
        return {int(path.name.split("-")[1]) for path in self.folder.glob("met-*")}

    def overtaken(self) -> list[int]:
        """For each wish for all tokens, how often younger ones were served once it was aged."""
        wishes: dict[tuple[int, int], dict[str, Any]] = {}
        for words in self.told():
            wishes.setdefault((words["pid"], words["number"]), {}).update(words)
        counts = []
        for wish in wishes.values():
            if wish["wants"] < 8 or "stood" not in wish or "got" not in wish:
                continue
            aged = max(wish["since"] + self.patience, wish["stood"])
            counts.append(
                sum(
                    other["since"] > wish["since"] and aged < other["asked"] < wish["asked"]
                    for other in wishes.values()
                    if "got" in other
                )
            )
        return counts


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    arena = Arena(tmp_path)
    yield arena
    for process in arena.started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_many_processes_never_share_a_token_and_none_is_lost(arena: Arena) -> None:
    """Random needs, random holds, random kills: exclusive, nothing lost, all served, in turn."""
    dice = random.Random(7)
    needy = [arena.needy(seed, rounds=10) for seed in range(12)]
    killed = set()
    for seed in range(12, 18):
        goal = len(arena.told()) + 12
        while len(arena.told()) < goal and needy[-1].poll() is None:
            time.sleep(0.01)
        victim = needy.pop(dice.randrange(len(needy)))
        victim.kill()
        victim.wait()
        killed.add(victim.pid)
        needy.append(arena.needy(seed, rounds=10))
    assert [one.wait(PATIENCE) for one in needy] == [0] * 12
    assert arena.met() - killed == set()
    served = [words["pid"] for words in arena.told() if "got" in words]
    assert all(served.count(one.pid) == 10 for one in needy)
    assert max(arena.overtaken(), default=0) <= 8
    pool = TokenPool([Gpu(index) for index in range(8)], arena.locks)
    last = pool.try_lease(GpuRequest(8))
    assert last is not None
    last.close()
    assert pool.waiting() == ()
    assert left_in_the_queue(arena.locks) == []  # the dead are swept


def left_in_the_queue(locks: str) -> list[str]:
    return sorted(path.name for path in Path(locks).glob("*/queue/[0-9]*"))


def test_a_wide_job_is_not_starved_by_narrow_ones_without_end(arena: Arena) -> None:
    narrow = [arena.needy(seed, rounds=100_000, wants=1, most=200) for seed in range(10)]
    until(lambda: len(arena.told()) > 50, "the narrow ones keep all busy")
    wide = arena.needy(99, rounds=3, wants=8, most=10)
    assert wide.wait(PATIENCE) == 0
    assert all(one.poll() is None for one in narrow)
    overtaken = arena.overtaken()
    assert len(overtaken) == 3
    assert max(overtaken) <= 8
    # While it waited and was not aged, they went on.
    began = min(words["since"] for words in arena.told() if words.get("wants") == 8)
    soon = [w for w in arena.told() if "got" in w and 0 < w["asked"] - began < arena.patience]
    assert any(len(words["got"]) == 1 for words in soon)


def test_one_who_is_stopped_keeps_the_place_and_holds_nobody_up(arena: Arena) -> None:
    """Also where it is stopped while everybody waits for it to be done with its turn."""
    pool = TokenPool([Gpu(index) for index in range(8)], arena.locks)
    lease = pool.try_lease(GpuRequest(8))
    assert lease is not None
    stopped = arena.needy(1, rounds=1, wants=1)
    until(lambda: any("stood" in words for words in arena.told()), "it is in line")
    stopped.send_signal(signal.SIGSTOP)
    (folder,) = Path(arena.locks).glob("*/queue")
    turn = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(turn, fcntl.LOCK_EX)
    lease.close()
    other = arena.needy(2, rounds=3, wants=8, most=1)
    assert other.wait(PATIENCE) == 0
    stopped.send_signal(signal.SIGCONT)
    assert stopped.wait(PATIENCE) == 0
    os.close(turn)


def rubbish(folder: Path) -> None:
    """Everything that is no ticket of anybody who waits."""
    age = f"{1:020}"  # older than all
    needs = json.dumps({"needs": [[8, [f"gpu-{index}" for index in range(8)]]]})
    live = f"{time.monotonic_ns():020}"
    texts = {
        "a-dead": f"{live}\n{needs}",
        "b-no-json": f"{live}\n{{[",
        "c-empty": "",
        "d-huge": f"{live}\n" + "[" * 200_000,
        "e-paths": f'{live}\n{{"needs": [[1, ["../../etc/passwd"]]]}}',
        "f-none": f'{live}\n{{"needs": []}}',
        "g-minus": f'{live}\n{{"needs": [[-1, ["gpu-0"]]]}}',
        "h-words": f'{live}\n{{"needs": "gpu-0"}}',
        "i-asleep": f"{1:020}\n{needs}",
        "j-dict": f"{live}\n5",
        "k-bytes": "\udcff\0\n\0",
    }
    for number, text in enumerate(texts.values()):
        name = f"{age}-1-{number:08x}"
        (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    for number in range(20, 40):
        (folder / f"something-{number}").write_text(needs)
        (folder / f"{age}-1-{number:08x}~").write_text(needs)
    os.mkfifo(folder / f"{age}-2-00000001")
    (folder / f"{age}-3-00000001").symlink_to(folder / "nothing")
    (folder / f"{age}-3-00000002").symlink_to("/dev/zero")
    (folder / f"{age}-4-00000001").mkdir()


@pytest.mark.parametrize("locked", [False, True])
def test_rubbish_among_the_tickets_holds_nobody_up(arena: Arena, locked: bool) -> None:
    pool = TokenPool([Gpu(index) for index in range(8)], arena.locks)
    first = pool.try_lease(GpuRequest(1))
    assert first is not None
    first.close()
    (boot,) = Path(arena.locks).iterdir()
    folder = boot / "queue"
    folder.mkdir(exist_ok=True)
    rubbish(folder)
    held = []
    for path in folder.iterdir() if locked else ():
        if path.is_file() and not path.is_symlink() and not path.name.endswith("-1-00000000"):
            held.append(os.open(path, os.O_RDWR))
            fcntl.flock(held[-1], fcntl.LOCK_EX)
    needy = [arena.needy(seed, rounds=3) for seed in range(3)]
    assert [one.wait(PATIENCE) for one in needy] == [0] * 3
    assert arena.met() == set()
    for fd in held:
        os.close(fd)


def put_instead(folder: Path, away: Path, instead: str) -> None:
    """Where the folder was that is away now: raises FileExistsError if one is there again."""
    if instead == "a file":
        folder.touch(exist_ok=False)
    elif instead == "a link":
        folder.symlink_to(away)
    elif instead == "a lock that is a fifo":
        folder.mkdir()
        os.mkfifo(folder / "lock")


@pytest.mark.parametrize("instead", ["nothing", "a file", "a link", "a lock that is a fifo"])
def test_a_folder_of_tickets_that_is_none_holds_nobody_up(arena: Arena, instead: str) -> None:
    """It goes, or becomes something else, while many wait."""
    needy = [arena.needy(seed, rounds=8) for seed in range(4)]
    until(lambda: len(arena.told()) > 8, "they are at it")
    (boot,) = Path(arena.locks).iterdir()
    folder = boot / "queue"
    until(folder.exists, "somebody waits")
    for attempt in itertools.count():
        # Whoever waits makes the folder anew at once, maybe before anything else stands there.
        away = boot / f"away-{attempt}"
        folder.rename(away)
        with contextlib.suppress(FileExistsError):
            put_instead(folder, away, instead)
            break
        until(folder.exists, "somebody waits again")
    assert [one.wait(PATIENCE) for one in needy] == [0] * 4
    assert arena.met() == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
def test_users_wait_in_one_line(arena: Arena) -> None:
    """A ticket that another user left behind dead, or made unreadable, harms nobody."""
    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:
        os.chmod(open_to_all, 0o755)
        arena.locks = f"{open_to_all}/locks"
        users_wait_in_one_line(arena)


def users_wait_in_one_line(arena: Arena) -> None:
    pool = TokenPool([Gpu(0)], arena.locks)
    lease = pool.try_lease(GpuRequest(1))
    assert lease is not None
    code = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from oumi_flow.model import GpuRequest
from oumi_flow.tokens import Gpu, TokenPool
# Once as root, for the rest of Python may lie where others must not look.
TokenPool([Gpu(0)], sys.argv[2] + "-of-root").try_lease(GpuRequest(1)).close()
os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))
pool = TokenPool([Gpu(0)], sys.argv[2], run_id=f"run-{os.getuid()}")
began = time.monotonic()
while (lease := pool.try_lease(GpuRequest(1), waited=time.monotonic() - began)) is None:
    time.sleep(pool.pause(GpuRequest(1)))
print(os.getuid(), flush=True)
"""

    def user(number: int) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", code, ROOT, arena.locks, str(number)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        arena.started.append(process)
        until(lambda: f"run-{number}" in [one.run for one in pool.waiting()], "in line")
        return process

    first, dead, last = user(4001), user(4002), user(4003)
    assert [one.run for one in pool.waiting()] == ["run-4001", "run-4002", "run-4003"]
    dead.kill()
    dead.wait()
    (folder,) = Path(arena.locks).glob("*/queue")
    hidden = folder / f"{1:020}-9-00000009"
    hidden.write_text("mine")
    hidden.chmod(0o000)
    os.chown(hidden, 4009, 4009)
    lease.close()
    for process, number in ((first, 4001), (last, 4003)):
        out, _ = process.communicate(timeout=PATIENCE)
        assert out.split() == [b"%d" % number]


def test_a_lock_file_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    """A cleaner of /tmp may take a file that nobody holds."""
    pool = TokenPool([Gpu(0)], str(tmp_path / "locks"))
    assert is_free(pool, 0)
    (path,) = (tmp_path / "locks").glob("*/gpu-0.lock")
    path.unlink()
    lease = pool.try_lease(GpuRequest(1))
    assert lease is not None
    assert os.path.samestat(os.fstat(lease.descriptors[0]), path.stat())
    assert not is_free(TokenPool([Gpu(0)], str(tmp_path / "locks")), 0)
    lease.close()
