"""GPU tokens with real processes that hold them, fight for them and are killed."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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


FIGHTER = """
import os, random, sys, time
sys.path.insert(0, sys.argv[1])
from oumi_flow.model import GpuRequest
from oumi_flow.tokens import Gpu, TokenPool
locks, arena, rounds, seed = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
dice = random.Random(seed)
pool = TokenPool([Gpu(index) for index in range(3)], locks, run_id=str(os.getpid()))
done = 0
while done < rounds:
    if dice.random() < 0.3:
        request = GpuRequest(1, (dice.randrange(3),))
    else:
        request = GpuRequest(dice.choice([1, 1, 2, 3]))
    lease = pool.try_lease(request)
    if lease is None:
        time.sleep(dice.random() / 500)
        continue
    for device in lease.devices:
        path = f"{arena}/{device}"
        try:
            os.symlink(str(os.getpid()), path)
        except FileExistsError:
            other = int(os.readlink(path))
            open(f"{arena}/met-{other}-{device}-{os.getpid()}", "w").close()
            os.unlink(path)
            os.symlink(str(os.getpid()), path)
    time.sleep(dice.random() / 1000)
    for device in lease.devices:
        os.unlink(f"{arena}/{device}")
    lease.close()
    done += 1
"""


def test_many_processes_never_share_a_token_and_none_is_lost(tmp_path: Path) -> None:
    """Random needs and kills. Whoever has a token marks it: only the killed leave a mark."""
    dice = random.Random(7)
    locks, arena = tmp_path / "locks", tmp_path / "arena"
    arena.mkdir()

    def fighter(seed: int) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", FIGHTER, ROOT, str(locks), str(arena), "60", str(seed)]
        return subprocess.Popen(words)

    fighters = [fighter(seed) for seed in range(6)]
    killed = set()
    for seed in range(6, 14):
        until(lambda: any(arena.iterdir()) or fighters[-1].poll() is not None, "somebody won")
        victim = fighters.pop(dice.randrange(len(fighters)))
        victim.kill()
        victim.wait()
        killed.add(victim.pid)
        fighters.append(fighter(seed))
    assert [one.wait(PATIENCE) for one in fighters] == [0] * 6
    met = {int(path.name.split("-")[1]) for path in arena.glob("met-*")}
    assert met - killed == set()
    pool = TokenPool([Gpu(index) for index in range(3)], str(locks))
    last = pool.try_lease(GpuRequest(3))
    assert last is not None
    last.close()


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
