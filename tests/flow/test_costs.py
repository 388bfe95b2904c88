"""What a job costs in system calls, counted and not timed: the difference of two cold runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.flow.conftest import Space

CALLS = (
    "openat,rename,renameat,renameat2,mkdir,unlink,unlinkat,clone,clone3,fork,vfork,execve,fsync"
)
CALL = re.compile(r"^\d+ +(\w+)\((.*)")
FORKS = {"clone", "clone3", "fork", "vfork"}


def calls_of(space: Space, root: Path, jobs: int, cold: bool = True) -> Counter[str]:
    """The calls of all processes of a run of `jobs` small jobs, cold or with all that there is."""
    if cold:
        shutil.rmtree(space.root / "out", ignore_errors=True)
    space.workflow(
        *(
            {
                "name": f"job{number}",
                "verb": "shell",
                "run": f"cat data.txt > out/job{number}/a.txt",
                "inputs": ["data.txt"],
                "outputs": [f"out/job{number}/a.txt"],
            }
            for number in range(jobs)
        ),
        resources={"max_parallel": 2},
    )
    trace = root / "trace"
    argv = ["strace", "-f", "-qq", "-e", f"trace={CALLS}", "-o", str(trace), "--"]
    argv += [sys.executable, "-m", "oumi_flow", "run", "workflow.yaml", "--no-tui"]
    done = subprocess.run(argv, cwd=space.root, env=space.env, capture_output=True, check=False)
    if done.returncode != 0 and "ptrace" in done.stderr.decode():
        pytest.skip("nothing can be traced here")
    assert done.returncode == 0, done.stderr.decode()
    count: Counter[str] = Counter()
    for line in trace.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if match is None:
            continue
        call, words = match.groups()
        if call in FORKS:
            count["threads" if "CLONE_THREAD" in words else "forks"] += 1
        elif call == "openat":
            ours = f'"{space.root}' in words or '"/' not in words
            count["creates" if "O_CREAT" in words else "reads" if ours else "others"] += 1
        elif call.startswith("rename"):
            count["renames"] += 1
        else:
            count[call.removesuffix("at")] += 1
    return count


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_small_job_costs_one_process_one_rename_and_no_more(space: Space, tmp_path: Path) -> None:
    space.write("data.txt", "x\n")
    # The first one also makes what is there once for all runs.
    _, few, many = (calls_of(space, tmp_path, jobs) for jobs in (1, 10, 30))
    each = {call: (many[call] - few[call]) / 20 for call in few | many}
    assert each["execve"] == 1, each  # no shell
    assert each["renames"] == 1, each  # done.json
    assert each["mkdir"] == 2, each
    assert each["forks"] <= 1.3, each  # its supervisor had another before; one more now and then
    assert each["creates"] <= 6.1, each  # those three, what the job makes, its log by two hands
    assert each["reads"] <= 12, each  # three of them before the run, to see what was there
    assert each.get("unlink", 0) == each.get("fsync", 0) == 0, each
    # None of its own: where tracing makes files slow, the workers of a run of two are six, once.
    assert many["threads"] - few["threads"] <= 6, (few, many)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_job_costs_the_same_however_many_results_are_kept(space: Space, tmp_path: Path) -> None:
    """Each job that runs again moves its earlier result to the cache, beside all the others."""
    space.write("data.txt", "x\n")
    calls_of(space, tmp_path, 30)
    reads = []
    for number in range(4):
        space.write("data.txt", f"{number}\n")
        reads.append(calls_of(space, tmp_path, 30, cold=False)["reads"])
    # One look at all that are kept: two files each.
    assert reads[3] - reads[1] <= 2 * 60 + 30, reads


# Runs the command line, and prints what memory its end takes beyond what the run had kept.
END = """
import gc, sys, tracemalloc
from oumi_flow.cli import main
from oumi_flow.runner.work import Work

settle, kept = Work.settle, []

def settle_at_the_end(self, reported=()):
    gc.collect()
    tracemalloc.reset_peak()
    kept.append(tracemalloc.get_traced_memory()[0])
    settle(self, reported)

Work.settle = settle_at_the_end
tracemalloc.start()
code = main(["run", "workflow.yaml", "--no-tui"])
print(tracemalloc.get_traced_memory()[1] - kept[0])
sys.exit(code)
"""


def test_the_end_of_a_run_takes_little_memory_for_each_job(space: Space) -> None:
    """Index and seal are made of all jobs, and yet of few of them at a time."""
    few, many = 50, 250
    taken = []
    for jobs in (few, many):
        names = [f"j{number:03}" for number in range(jobs)]
        space.workflow(
            *(
                {"name": name, "verb": "shell", "run": f"touch {name}", "outputs": [name]}
                for name in names
            ),
        )
        done = subprocess.run(
            [sys.executable, "-c", END],
            cwd=space.root,
            env=space.env,
            capture_output=True,
            check=True,
            text=True,
        )
        taken.append(int(done.stdout.splitlines()[-1]))
        shutil.rmtree(space.root / "out")
    each = (taken[1] - taken[0]) / (many - few)
    assert each < 2500, f"{each:.0f} bytes for each job"
