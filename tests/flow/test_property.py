"""Random edits and runs always end in what a clean build gives, and run no job for nothing.

An oracle of ten lines knows what each job would write; the tool must agree with it after every
run, and may run a job only if its recipe, what it reads, or what it made has changed, and it has
not made the same before: then that comes out of the run cache.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TypedDict

import pytest

from oumi_flow.cli import main
from tests.flow.conftest import Space

SEQUENCES = int(os.environ.get("OUMI_FLOW_SEQUENCES", "200"))
BATCH = 5


class Rule(TypedDict):
    upstream: list[str]
    reads: list[str]
    word: str
    env: str
    lossy: bool


class World:
    """A random graph of jobs `jN` that concatenate, with a way to know the right answer."""

    def __init__(self, space: Space, rng: random.Random) -> None:
        self.space, self.rng = space, rng
        self.files = {f"src{i}.txt": f"{i}\n" for i in range(3)}
        self.jobs: dict[str, Rule] = {}
        self.made: dict[str, tuple[object, str]] = {}  # job -> (recipe and what it read, output)
        self.kept: set[tuple[str, object]] = set()  # job and recipe of what is in the run cache
        self.restored = 0
        self.history: list[tuple[dict[str, str], dict[str, Rule]]] = []
        self.next = 0
        for name, text in self.files.items():
            space.write(name, text)
        for _ in range(rng.randint(2, 6)):
            self.add()

    def add(self) -> None:
        name = f"j{self.next}"
        self.next += 1
        upstream = self.rng.sample(sorted(self.jobs), k=min(len(self.jobs), self.rng.randint(0, 2)))
        reads = self.rng.sample(sorted(self.files), k=self.rng.randint(0 if upstream else 1, 2))
        self.jobs[name] = {
            "upstream": upstream,
            "reads": reads,
            "word": str(self.rng.randint(0, 2)),
            "env": str(self.rng.randint(0, 1)),
            # A lossy job gives the same output for different inputs: early cutoff.
            "lossy": self.rng.random() < 0.3,
        }

    def sources(self, name: str) -> list[str]:
        job = self.jobs[name]
        return [*job["reads"], *(f"made/{up}.txt" for up in job["upstream"])]

    def write(self) -> None:
        rules = []
        names = list(self.jobs)
        self.rng.shuffle(names)  # order in the file means nothing
        for name in names:
            job = self.jobs[name]
            sources = self.sources(name)
            body = f"(echo {job['word']} $E; cat {' '.join(sources)})"
            if job["lossy"]:
                body += " | head -n 1"
            rules.append(
                {
                    "name": name,
                    "verb": "shell",
                    "run": f"echo {name} >> ran.log\n{body} > made/{name}.tmp || true\n"
                    f"mv made/{name}.tmp made/{name}.txt",
                    "env": {"E": job["env"]},
                    "inputs": sources,
                    "outputs": [f"made/{name}.txt"],
                }
            )
        self.space.workflow(*rules)

    def order(self) -> list[str]:
        done: list[str] = []
        while len(done) < len(self.jobs):
            for name, job in self.jobs.items():
                if name not in done and all(up in done for up in job["upstream"]):
                    done.append(name)
        return done

    def clean_build(self) -> tuple[dict[str, str], dict[str, object]]:
        texts: dict[str, str] = {}
        keys: dict[str, object] = {}
        for name in self.order():
            job = self.jobs[name]
            read = [self.files[file] for file in job["reads"]]
            read += [texts[up] for up in job["upstream"]]
            text = f"{job['word']} {job['env']}\n" + "".join(read)
            texts[name] = text.split("\n")[0] + "\n" if job["lossy"] else text
            keys[name] = (
                job["word"],
                job["env"],
                job["lossy"],
                tuple(self.sources(name)),
                tuple(read),
            )
        return texts, keys

    def edit(self) -> None:
        kind = self.rng.choice(
            [
                "source",
                "source",
                "touch",
                "word",
                "env",
                "drop",
                "spoil",
                "add",
                "remove",
                "nothing",
                "back",
                "back",
            ]
        )
        name = self.rng.choice(sorted(self.jobs))
        file = self.rng.choice(sorted(self.files))
        target = self.space.root / "made" / f"{name}.txt"
        if kind == "source":
            self.files[file] = f"{self.rng.randint(0, 3)}\n" * self.rng.randint(1, 2)
            self.space.write(file, self.files[file])
        elif kind == "touch":
            (self.space.root / file).touch()
        elif kind == "word":
            self.jobs[name]["word"] = str(self.rng.randint(0, 2))
        elif kind == "env":
            self.jobs[name]["env"] = str(self.rng.randint(0, 2))
        elif kind == "drop" and target.exists():
            target.unlink()
            self.made.pop(name, None)
        elif kind == "spoil" and target.exists():
            target.write_text("spoilt\n")
            self.made.pop(name, None)
        elif kind == "add" and len(self.jobs) < 9:
            self.add()
        elif kind == "back" and self.history:
            files, jobs = self.rng.choice(self.history)
            for file, text in files.items():
                self.files[file] = text
                self.space.write(file, text)
            for each in jobs.keys() & self.jobs.keys():
                self.jobs[each] = {**jobs[each]}
        elif kind == "remove" and len(self.jobs) > 2 and not self.needed(name):
            # The marker stays for when a job of that name comes back; names do not here.
            del self.jobs[name]
            self.made.pop(name, None)

    def needed(self, name: str) -> bool:
        return any(name in job["upstream"] for job in self.jobs.values())

    def run(self, which: str, capfd: pytest.CaptureFixture[str]) -> None:
        """Run what there is, and hold it against the oracle; `which`: words for where we are."""
        code = main(["run", "workflow.yaml", "--no-tui", "-j2"])
        said = capfd.readouterr()
        assert code == 0, (which, said)
        try:
            self.check()
        except AssertionError as error:
            raise AssertionError(f"{which}: {error}\n{said}") from error

    def check(self) -> None:
        texts, keys = self.clean_build()
        expected = []
        for name in self.order():
            before = self.made.get(name)
            if before == (keys[name], texts[name]):
                continue
            if before is not None:
                self.kept.add((name, before[0]))
            if (name, keys[name]) in self.kept:
                self.kept.remove((name, keys[name]))
                self.restored += 1
            else:
                expected.append(name)
        self.history.append((dict(self.files), {name: {**job} for name, job in self.jobs.items()}))
        ran = self.space.ran()
        assert sorted(ran) == sorted(expected)
        for name, text in texts.items():
            assert self.space.read(f"made/{name}.txt") == text, name
            self.made[name] = (keys[name], text)


@pytest.mark.parametrize("batch", range(SEQUENCES // BATCH))
def test_random_edits_and_runs(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(batch * BATCH, (batch + 1) * BATCH):
        folder = tmp_path / str(number)
        folder.mkdir()
        space = Space(folder)
        monkeypatch.chdir(space.root)
        for name in ("OUMI_FLOW_HOME", "OUMI_FLOW_LOCK_DIR"):
            monkeypatch.setenv(name, space.env[name])
        world = World(space, random.Random(number))
        for step in range(4):
            if step:
                for _ in range(world.rng.randint(1, 3)):
                    world.edit()
            world.write()
            world.run(f"sequence {number}, step {step}", capfd)
