"""The run cache under kills, full and read-only disks, and several runs at once.

A run is killed -9 on entering the N-th call that changes the disk: everything before it has
happened, nothing after it. The calls are those that Python tells its audit hooks of; what a
write leaves half done is between the open and the rename of a file under another name. By default
a spread sample; with OUMI_FLOW_EXHAUSTIVE=1 every one. OUMI_FLOW_SEED chooses the sample.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oumi_flow.cli import main
from oumi_flow.store import Store
from oumi_flow.store.cache import moves
from oumi_flow.store.cache.shelves import Moved, Shelf, survey
from tests.faults.test_disk import disk as disk
from tests.faults.test_disk import fill
from tests.flow.conftest import Space

EXHAUSTIVE = os.environ.get("OUMI_FLOW_EXHAUSTIVE") == "1"
SEED = int(os.environ.get("OUMI_FLOW_SEED") or time.time() // 86400)
SAMPLE = 8  # kills of each case
CACHE = "out/.oumi-flow/cache"

CHANGES = "os.rename os.remove os.mkdir os.rmdir os.symlink os.utime os.truncate"
KILLED = """
import itertools, os, signal, sys
at, log = int(sys.argv[1]), open(sys.argv[2], "w")
changes, numbers, runner = set(sys.argv[3].split()), itertools.count(1), os.getpid()
def hear(event, args):
    if event == "open":
        path, _, flags = args
        if not isinstance(path, str) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
    elif event not in changes:
        return
    if os.getpid() != runner or "/__pycache__" in str(args):
        return
    number = next(numbers)  # its own, whatever the other threads count meanwhile
    log.write(f"{event} {args}\\n")
    log.flush()
    if number == at:
        os.kill(runner, signal.SIGKILL)
sys.addaudithook(hear)
from oumi_flow.cli import main
sys.exit(main(sys.argv[4:]))
"""


class World:
    """Two jobs with results of every kind, made from one value."""

    def __init__(self, space: Space, *flags: str) -> None:
        self.space, self.flags = space, flags
        self.parts = [space.root, Path(space.env["OUMI_FLOW_HOME"])]
        self.spare = space.root.parent / "spare"

    def want(self, value: int) -> None:
        self.value = value
        both = f'mkdir -p far; echo {value} | tee a.txt far/x > "$OUMI_FLOW_OUTPUT_DIR/own"'
        self.space.workflow(
            self.space.job("a", both, outputs=["a.txt", "far", "${{ job.output_dir }}/own"]),
            self.space.job(
                "b",
                '(cat a.txt far/x; echo b) > "$OUMI_FLOW_OUTPUT_DIR/b"',
                inputs=["a.txt", "far"],
                outputs=["${{ job.output_dir }}/b"],
            ),
        )

    def run(self) -> list[str]:
        """A plain run; returns what ran."""
        self.space.ran()
        # In this process, as there are many; the wall between runs is what is on the disk.
        assert main(["run", "workflow.yaml", "--no-tui", *self.flags]) == 0
        self.check()
        return self.space.ran()

    def check(self) -> None:
        text = f"{self.value}\n"
        for path in ("a.txt", "far/x", "out/a/own"):
            assert self.space.read(path) == text, path
        assert self.space.read("out/b/b") == f"{text}{text}b\n"

    def save(self) -> None:
        for part in self.parts:
            shutil.copytree(part, self.spare / part.name, symlinks=True)

    def reset(self) -> None:
        for part in self.parts:
            # The folder itself stays: we stand in it.
            for path in part.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.copytree(self.spare / part.name, part, symlinks=True, dirs_exist_ok=True)

    def killed(self, at: int) -> tuple[int, list[str]]:
        """A run that is killed at its `at`-th change; how it ended, and the changes up to there."""
        log = self.space.root.parent / "changes"
        words = ["run", "workflow.yaml", "--no-tui", *self.flags]
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(at), str(log), CHANGES, *words],
            cwd=self.space.root,
            env=self.space.env,
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, log.read_text().splitlines()


def chosen(changes: list[str], about: str) -> list[int]:
    """Which of the changes to kill at: most of them about the cache."""
    if EXHAUSTIVE:
        return list(range(1, len(changes) + 1))
    rng = random.Random(SEED)
    near = [n for n, change in enumerate(changes, 1) if about in change]
    far = [n for n, change in enumerate(changes, 1) if about not in change]
    return sorted(rng.sample(near, min(SAMPLE - 3, len(near))) + rng.sample(far, min(3, len(far))))


@pytest.fixture
def here(space: Space, monkeypatch: pytest.MonkeyPatch) -> Space:
    """The space, with this process standing in it."""
    monkeypatch.chdir(space.root)
    for name in ("OUMI_FLOW_HOME", "OUMI_FLOW_LOCK_DIR"):
        monkeypatch.setenv(name, space.env[name])
    return space


@pytest.mark.timeout(7200 if EXHAUSTIVE else 600)
@pytest.mark.parametrize("case", ["back", "afresh", "shared in", "shared out"])
def test_killed_at_any_change_nothing_is_lost_and_nothing_torn(here: Space, case: str) -> None:
    space = here
    shared = case.startswith("shared")
    world = World(space, *(["--cache", "shared"] if shared else []))
    for value in (1, 2) if not shared else (1,):
        world.want(value)
        assert world.run() == ["a", "b"]
    if case == "shared out":
        shutil.rmtree(space.root / "out")
        for path in ("a.txt", "far/x"):
            (space.root / path).unlink()
    world.want({"back": 1, "afresh": 3, "shared in": 2, "shared out": 1}[case])
    world.save()
    code, changes = world.killed(0)
    assert code == 0
    world.check()
    points = chosen(changes, "shared/" if case == "shared in" else CACHE)
    assert len(points) >= SAMPLE
    for at in points:
        world.reset()
        code, done = world.killed(at)
        where = f"{case}, {at}: {done[-1]}"
        assert code == -signal.SIGKILL, where
        ran = world.run()
        if case in ("back", "shared out"):
            assert ran == [], where
        assert world.run() == [], where
        # Nor is the other result lost.
        if not shared:
            world.want(2)
            assert world.run() == [], where
            world.want(3 if case == "afresh" else 1)
            assert world.run() == [], where
            assert not list((space.root / CACHE).glob("*-*")), where
        else:
            left = [name for name in os.listdir(space.root / "shared") if name.startswith(".")]
            assert len(left) <= 1, where
        world.want({"back": 1, "afresh": 3, "shared in": 2, "shared out": 1}[case])


def test_what_a_killed_copy_left_is_removed_by_the_next(here: Space) -> None:
    space = here
    shared = space.root / "shared"
    shared.mkdir()
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = shared / f".busy-{dead.pid}-0123-{socket.gethostname()}"
    left.mkdir()
    live = shared / f".busy-{os.getpid()}-0123-{socket.gethostname()}"
    live.mkdir()
    world = World(space, "--cache", "shared")
    world.want(1)
    world.run()
    assert not left.exists()
    assert live.exists()


# disks


def half_back(space: Space) -> None:
    """As a run leaves it that was killed between two renames: one of two is back."""
    for value in (1, 2):
        run = f"mkdir -p far; echo {value} | tee far/x far/y"
        space.workflow(space.job("a", run, outputs=["far"]))
        assert space.run().code == 0
    store = Store("out")
    (entry,) = (path for path in Path(CACHE).iterdir() if len(path.name) == 32)
    trace, moved = store.trace("a"), [Moved("out.0", "far", ("x", "y"))]
    assert trace is not None
    seen = survey(moved)
    leaving = moves.Leaving(CACHE, store.files, "a")
    leaving.begin(trace, seen.proof, seen.size, moved)
    store.remove_marker("a")
    leaving.finish()
    coming = moves.Coming(CACHE, store.files, "a")
    assert coming.take(str(entry), entry.name)
    coming.begin([Shelf("folder", "out/a"), Shelf("out.0", "far")])
    os.rename(f"{coming.folder}/out.0/x", "far/x")


def test_what_is_half_moved_is_not_taken_as_made(here: Space) -> None:
    half_back(here)
    result = here.command("touch", "workflow.yaml", "a")
    assert result.code != 0
    assert "half in its place" in result.text
    here.ran()
    assert here.run().code == 0
    assert here.ran() == []
    assert [here.read(f"far/{name}") for name in "xy"] == ["2\n", "2\n"]


def test_what_cannot_be_moved_to_its_end_is_not_taken_as_made(
    here: Space, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    half_back(here)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "far")

    monkeypatch.setattr(moves, "mend", full)
    assert main(["touch", "workflow.yaml", "a"]) == 1
    said = capfd.readouterr().err
    assert "cannot end a move that was cut off: far: No space left on device" in said
    assert not here.exists("out/a/.oumi-flow/done.json")


def test_what_is_half_moved_is_not_lost_by_another_name(here: Space) -> None:
    half_back(here)
    run = "mkdir -p far; echo 1 | tee far/x far/y"
    here.workflow(here.job("b", run, outputs=["far"]))
    assert here.command("rename", "workflow.yaml", "a", "b").code == 0
    assert not [path for path in Path(CACHE).iterdir() if path.name.startswith("in-")]
    assert len([path for path in Path(CACHE).iterdir() if len(path.name) == 32]) == 2


def inside(space: Space, value: object) -> None:
    """A job whose result of 100 kB lies below the output folder."""
    run = f'yes {value} | head -c 100000 > "$OUMI_FLOW_OUTPUT_DIR/x" || true'
    job = space.job("a", run, outputs=["${{ job.output_dir }}/x"])
    space.workflow(job, cache={"max_size": "1MB"})


def test_a_full_disk_loses_nothing(space: Space, disk: Path) -> None:
    for value in (1, 2):
        inside(space, value)
        assert space.run().code == 0
    assert space.ran() == ["a", "a"]
    filler = fill(disk)
    inside(space, 1)
    result = space.run()
    # Moving takes no room, writing down what is moved takes some.
    assert result.code == 0 or "disk is full" in result.text, result.text
    assert space.ran() == []
    filler.unlink()
    result = space.run()
    assert result.code == 0, result.text
    assert space.ran() == [], result.text
    assert space.read("out/a/x").startswith("1\n")
    # In the cache, or in `old/` where that could not be.
    kept = [path.read_text()[:2] for path in (space.root / "out").rglob("x")]
    assert "2\n" in kept, kept


@pytest.mark.parametrize("flags", [(), ("--cache", "shared")])
def test_what_lies_on_another_disk_stays_there(
    space: Space, disk: Path, flags: tuple[str, ...]
) -> None:
    for value in (1, 2, 1):
        space.workflow(
            space.job("a", f"cat a.txt >> old.txt || true; echo {value} > a.txt", outputs=["a.txt"])
        )
        result = space.run(*flags)
        assert result.code == 0, result.text
        assert "warning" not in result.text
    assert space.ran() == ["a"] * 3
    assert space.read("old.txt") == "1\n2\n"


def test_a_full_shared_cache_is_told_and_done_without(space: Space, disk: Path) -> None:
    inside_root = space.job("a", "head -c 3000000 /dev/zero > a.txt", outputs=["a.txt"])
    small = space.job("b", "echo 1 > b.txt", outputs=["b.txt"])
    space.workflow(inside_root, small, output_dir="made", cache={"dir": "out", "max_size": "1GB"})
    result = space.run()
    assert result.code == 0, result.text
    assert "its result is not shared: " in result.text
    assert "No space left on device" in result.text
    left = [path for path in disk.iterdir() if len(path.name) == 32]
    assert all((path / "trace.json").exists() for path in left)
    assert not [path for path in disk.iterdir() if path.name.startswith(".")]


def test_a_shared_cache_that_cannot_be_written_can_be_read(space: Space, disk: Path) -> None:
    def write(value: int) -> None:
        job = space.job("a", f"echo {value} > a.txt", outputs=["a.txt"])
        space.workflow(job, output_dir="made", cache={"dir": "out"})

    write(1)
    assert space.run().code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    write(2)
    result = space.run()
    assert result.code == 0, result.text
    assert "its result is not shared: " in result.text
    assert "Read-only file system" in result.text
    shutil.rmtree(space.root / "made")
    write(1)
    space.ran()
    assert space.run().code == 0
    assert space.ran() == []
    assert space.read("a.txt") == "1\n"


# several at once


def test_many_runs_share_one_folder_at_once(space: Space, tmp_path: Path) -> None:
    def home(number: int) -> Space:
        root = tmp_path / f"user{number}"
        root.mkdir()
        other = space.elsewhere(root)
        other.env = {**space.env, "OUMI_FLOW_HOME": str(root / "home")}
        return other

    spaces = [home(number) for number in range(3)]
    shared = str(tmp_path / "shared")
    for value in (1, 2, 1, 3):
        jobs = [
            space.job(
                f"j{n}",
                f"yes {value}{n} | head -c 200000 > j{n}.txt || true",
                outputs=[f"j{n}.txt"],
            )
            for n in range(4)
        ]
        runs = []
        for each in spaces:
            each.workflow(*jobs, cache={"dir": shared, "max_size": "1300KB"})
            shutil.rmtree(each.root / "out", ignore_errors=True)
            runs.append(each.start("run", "workflow.yaml", "--no-tui"))
        for each, run in zip(spaces, runs, strict=True):
            out, err = run.communicate(timeout=120)
            assert run.returncode == 0, out + err
            assert "warning" not in out + err
            for n in range(4):
                assert each.read(f"j{n}.txt").startswith(f"{value}{n}\n")
    left = [path for path in Path(shared).iterdir() if len(path.name) == 32]
    assert 1 <= len(left) <= 6
    assert all((path / "trace.json").exists() for path in left)
