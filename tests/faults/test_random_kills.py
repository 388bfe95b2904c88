"""Kill -9 of anybody at any time, for many rounds, while sources change: nobody starts twice.

Runner, server, supervisors and jobs are killed alone or together; at times two runs start at once,
or a `cancel` meets a run. After the last round one plain run must give what a clean build gives.
OUMI_FLOW_SEED repeats a sequence; with OUMI_FLOW_EXHAUSTIVE=1 it has 200 rounds instead of 25.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.executors.base import TOKEN_VARIABLE
from oumi_flow.executors.processes import supervisors_at
from tests.faults.lost import Lasting, assert_all_let_go, end_all, processes_of
from tests.flow.conftest import Space, wait_for

EXHAUSTIVE = os.environ.get("OUMI_FLOW_EXHAUSTIVE") == "1"
ROUNDS = 200 if EXHAUSTIVE else 25
SEED = int(os.environ.get("OUMI_FLOW_SEED") or time.time() // 86400)

# Who is killed in one round.
KINDS = (
    {"runner"},
    {"runner", "supervisor"},
    {"runner", "server"},
    {"runner", "job"},
    {"runner", "server", "supervisor", "job"},
    {"supervisor"},
    {"server"},
    {"job"},
    {"supervisor", "job"},
)
RUN = ("run", "workflow.yaml", "--no-tui", "-j3")
# Its end says what it was made of: the same made twice is an effect too many.
BODY = """\
key=$(cat {sources} | cksum | tr ' ' -)
sleep {seconds}
(echo {name}; cat {sources}) {filter} > {target}.part
mv {target}.part {target}
over() {{ echo "end {name}:$key $$" >> effects.log; }}
"""


class World(Lasting):
    """Seven jobs, of which one gives the same for most sources."""

    def __init__(self, space: Space, rng: random.Random) -> None:
        super().__init__(space)
        self.rng = rng
        space.env["TMPDIR"] = str(space.root)  # the server has it too: what is left can be told
        self.sources = {"one.txt": "1\n", "two.txt": "1\n"}
        self.reads: dict[str, list[str]] = {
            "a": ["one.txt"],
            "b": ["two.txt"],
            "same": ["a.txt"],
            "c": ["same.txt", "b.txt"],
            "d": ["a.txt", "b.txt"],
            "e": ["c.txt", "d.txt"],
            "f": ["b.txt"],
        }
        for name, text in self.sources.items():
            space.write(name, text)
        space.workflow(*(self.rule(name) for name in self.reads))
        self.killed: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()

    def rule(self, name: str) -> dict[str, Any]:
        run = BODY.format(
            name=name,
            sources=" ".join(self.reads[name]),
            seconds=self.rng.choice([0.05, 0.1, 0.2, 0.4]),
            filter="| sed -n 1p" if name == "same" else "",
            target=f"{name}.txt",
        )
        return self.job(
            name,
            run,
            inputs=self.reads[name],
            outputs=[f"{name}.txt"],
            grace=self.rng.choice([0, 2]),
        )

    def clean_build(self) -> dict[str, str]:
        made = dict(self.sources)
        for name, reads in self.reads.items():
            text = f"{name}\n" + "".join(made[path] for path in reads)
            made[f"{name}.txt"] = text.split("\n")[0] + "\n" if name == "same" else text
        return made

    def round(self, number: int) -> str:
        """One run, and what happens to it; in words, for a failure."""
        space, rng = self.space, self.rng
        words = []
        if rng.random() < 0.6:
            name = rng.choice(sorted(self.sources))
            self.sources[name] = f"{number}\n"
            space.write(name, self.sources[name])
            words.append(f"edit {name}")
        runs = [space.start(*RUN) for _ in range(2 if rng.random() < 0.15 else 1)]
        others = []
        kinds = rng.choice(KINDS)
        if kinds != {"runner"}:  # a kill before there is anybody else would be one of the runner

            def somebody_is_there() -> bool:
                return any(job for _, _, job in self.there()) or all(
                    one.poll() is not None for one in runs
                )

            wait_for(somebody_is_there, "jobs, or the end")
        time.sleep(rng.uniform(0.0, 0.5 if len(kinds) > 1 or "runner" not in kinds else 1.2))
        if rng.random() < 0.1:
            others.append(space.start("cancel", "workflow.yaml"))
            words.append("cancel")
            self.killed.update(dict.fromkeys(self.reads, 1))
        victims = self.victims(kinds, runs)
        for kind, pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.kills[kind] += 1
        words.append(f"kill {', '.join(kind for kind, _ in victims) or 'nobody'}")
        for process in runs + others:
            out, err = process.communicate(timeout=120)
            assert "Traceback" not in out + err, out + err
            assert "internal error" not in out + err, out + err
            # Whoever cancels what was killed before its first run began is told so.
            unknown = process in others and "has not been run yet" in err
            codes = (2,) if unknown else (0, 1, 3, -9)
            assert process.returncode in codes, (process.returncode, out + err)
        return "; ".join(words)

    def victims(self, kinds: set[str], runs: list[subprocess.Popen[str]]) -> list[tuple[str, int]]:
        """Whom of these kinds to kill, as (kind, pid): each runner, and of the others the most."""
        rng = self.rng
        found = [("runner", one.pid) for one in runs if "runner" in kinds and one.poll() is None]
        for kind, pid, job in self.there():
            if kind in kinds and rng.random() < 0.7:
                found.append((kind, pid))
                # The job may just have come to its end, of which nobody else knew.
                self.killed[job] += 1
        rng.shuffle(found)
        return found

    def there(self) -> list[tuple[str, int, str]]:
        """Who lives below the runners: kind, pid, and whose job it is."""
        found = []
        out = self.space.root / "out"
        jobs = {pid: Path(path).parts[-2] for pid, path in supervisors_at([str(out)])}
        for pid in processes_of(self.space):
            try:
                comm = Path(f"/proc/{pid}/comm").read_text().strip()
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            job = next((v[14:].decode() for v in environ if v.startswith(b"OUMI_FLOW_JOB=")), "")
            is_job = any(v.startswith(TOKEN_VARIABLE.encode()) for v in environ)
            if comm == "oumi-flow-serve":
                found.append(("server", pid, ""))
            elif comm == "oumi-flow-job":
                found.append(("supervisor", pid, jobs.get(pid, "")))
            elif is_job:
                found.append(("job", pid, job))
        return found

    def check(self) -> None:
        """At any time: nobody was there twice, and nothing was made twice."""
        _, ended = self.count_effects()
        for key, count in ended.items():
            name = key.partition(":")[0]
            assert count <= 1 + self.killed[name], f"{key} was made {count} times"


@pytest.mark.timeout(0 if EXHAUSTIVE else 1200)
def test_random_kills_end_in_a_clean_build(space: Space) -> None:
    world = World(space, random.Random(SEED))
    story: list[str] = []
    try:
        for number in range(2, ROUNDS + 2):
            story.append(world.round(number))
            world.check()
        result = space.command(*RUN)
        assert result.code == 0, result.text
        world.check()
        for path, text in world.clean_build().items():
            assert space.read(path) == text, path
        assert "up to date" in space.run().text
        assert_all_let_go(space)
    except AssertionError as error:
        raise AssertionError(f"OUMI_FLOW_SEED={SEED}, {story[-6:]}: {error}") from error
    finally:
        end_all(space)
    started, ended = world.count_effects()
    print(
        f"{ROUNDS} rounds, killed {dict(world.kills)}; "
        f"{started.total()} starts, {ended.total()} ends of jobs"
    )
    assert world.kills["runner"] >= ROUNDS // 5
