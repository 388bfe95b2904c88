"""Between a run's plan and its lock another run may come and go; if none did, one plan will do."""

from __future__ import annotations

import pytest

from tests.flow.conftest import Space, wait_for

# Does something in the moment between a run's plan and its lock; counts plans until jobs run.
OVERTAKEN = """
import subprocess, sys, time
from oumi_flow import planner, store
from oumi_flow.runner import running
plan, lock, go, plans = planner.plan, store.Store.lock, running.run, []
def counted(*args, **kwargs):
    plans.append(1)
    return plan(*args, **kwargs)
def gone(*args, **kwargs):
    planner.plan = plan
    return go(*args, **kwargs)
def late(self, *args):
    store.Store.lock = lock
    BETWEEN
    return lock(self, *args)
planner.plan, store.Store.lock, running.run = counted, late, gone
from oumi_flow.cli import main
code = main(sys.argv[1:])
print("plans:", len(plans), flush=True)
sys.exit(code)
"""


NOTHING = "pass"
ANOTHER_RUN = 'subprocess.run([sys.executable, "-m", "oumi_flow", *sys.argv[1:]], check=True)'
THE_END_OF_ONE = """open("go", "w").close()
    while self.holder(): time.sleep(0.01)"""


def run(space: Space, between: str, *jobs: str) -> str:
    program = OVERTAKEN.replace("BETWEEN", between)
    done = space.program(program, "run", "workflow.yaml", "--no-tui", *jobs)
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
    told = run(space, ANOTHER_RUN)
    assert sorted(space.ran()) == (["one"] if ran_before else ["one", "two"])
    assert "up to date (2 jobs)\nplans: 2" in told


@pytest.mark.parametrize("asked", [[], ["second"]], ids=["all", "one job"])
def test_what_a_run_made_that_was_there_already_is_not_made_again(
    space: Space, asked: list[str]
) -> None:
    first = space.job("first", "touch up; while [ ! -e go ]; do sleep 0.02; done")
    space.workflow(first, space.job("second"), resources={"max_parallel": 1})
    other = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("up"), "the first job runs")
    told = run(space, THE_END_OF_ONE, *asked)
    other.communicate(timeout=60)
    assert space.ran() == ["first", "second"]
    assert told.endswith("plans: 2\n")


@pytest.mark.parametrize("ran_before", [False, True], ids=["first run", "later run"])
def test_where_nobody_came_between_the_plan_is_made_once(space: Space, ran_before: bool) -> None:
    space.write("in.txt", "1\n")
    space.workflow(space.job("one", inputs=["in.txt"]))
    if ran_before:
        assert space.run().code == 0
        space.write("in.txt", "2\n")
    assert run(space, NOTHING).endswith("plans: 1\n")
