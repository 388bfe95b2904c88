"""Between a run's plan and its lock another run may come and go; if none did, one plan will do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.flow.conftest import Space

# Runs the same command line, whole, in the moment before the first one takes the lock.
OVERTAKEN = """
import subprocess, sys
from oumi_flow import planner, store
plan, lock, plans = planner.plan, store.Store.lock, []
def counted(*args, **kwargs):
    plans.append(1)
    return plan(*args, **kwargs)
def late(self, *args):
    store.Store.lock = lock
    if OVERTAKE:
        subprocess.run([sys.executable, "-m", "oumi_flow", *sys.argv[1:]], check=True)
    return lock(self, *args)
planner.plan, store.Store.lock = counted, late
from oumi_flow.cli import main
code = main(sys.argv[1:])
print("plans:", len(plans), flush=True)
sys.exit(code)
"""


def run(space: Space, overtake: bool) -> str:
    program = OVERTAKEN.replace("OVERTAKE", str(overtake))
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "workflow.yaml", "--no-tui"],
        cwd=space.root,
        env=space.env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("ran_before", [False, True], ids=["first run", "later run"])
def test_what_another_run_made_meanwhile_is_not_made_again(space: Space, ran_before: bool) -> None:
    space.write("in.txt", "1\n")
    space.workflow(space.job("one", inputs=["in.txt"]), space.job("two"))
    if ran_before:
        assert space.run().code == 0
        space.ran()
        space.write("in.txt", "2\n")
    told = run(space, overtake=True)
    assert sorted(space.ran()) == (["one"] if ran_before else ["one", "two"])
    assert "up to date (2 jobs)\nplans: 2" in told


@pytest.mark.parametrize("ran_before", [False, True], ids=["first run", "later run"])
def test_where_nobody_came_between_the_plan_is_made_once(space: Space, ran_before: bool) -> None:
    space.write("in.txt", "1\n")
    space.workflow(space.job("one", inputs=["in.txt"]))
    if ran_before:
        assert space.run().code == 0
        space.write("in.txt", "2\n")
    assert run(space, overtake=False).endswith("plans: 1\n")
