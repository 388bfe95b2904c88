"""An output folder that lies in another one: each workflow knows its own jobs only."""

from __future__ import annotations

from tests.flow.conftest import Space, wait_for

EVAL = ("run", "eval.yaml", "--no-tui")
GO = "echo x >> begun; while [ ! -e go ]; do sleep 0.02; done"


def both(space: Space, inner: str = "echo x > $OUMI_FLOW_OUTPUT_DIR/y") -> None:
    space.workflow(space.job("a", "true"), name="top", output_dir="outputs")
    space.workflow(
        space.job("long", inner, outputs=["${{ job.output_dir }}/y"]),
        name="inner",
        output_dir="outputs/eval",
        path="eval.yaml",
    )


def test_it_is_not_left_over_from_a_job(space: Space) -> None:
    both(space)
    assert space.command(*EVAL).code == 0
    result = space.run()
    assert result.code == 0
    assert "no longer in the file" not in result.text
    result = space.command("clean", "workflow.yaml", "--orphans", "-y")
    assert result.code == 0
    assert "nothing to remove" in result.text
    assert space.exists("outputs/eval/long/y")


def test_its_jobs_are_not_stopped(space: Space) -> None:
    both(space, f"{GO}; echo x > $OUMI_FLOW_OUTPUT_DIR/y")
    assert space.run().code == 0
    run = space.start(*EVAL)
    wait_for(lambda: space.exists("begun"), "it runs")
    assert "long" not in space.command("status", "workflow.yaml").text
    assert "long" not in space.command("cancel", "workflow.yaml").text
    space.write("go", "")
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, out + err


def test_a_job_of_the_same_folder_is_refused(space: Space) -> None:
    both(space)
    assert space.command(*EVAL).code == 0
    space.workflow(space.job("eval", "true"), name="top", output_dir="outputs")
    result = space.run()
    assert result.code == 1
    assert "outputs/eval: is the output folder of another workflow" in result.text
    result = space.command("clean", "workflow.yaml", "-y")
    assert result.code == 2
    assert space.exists("outputs/eval/long/y"), result.text
    assert "up to date" in space.command(*EVAL).text
