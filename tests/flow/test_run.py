"""What a user sees of `run`, again and again."""

from __future__ import annotations

from tests.flow.conftest import Space


def pipeline(space: Space, *, word: str = "hello", env: dict[str, str] | None = None) -> None:
    """prep -> train -> two evals; content flows through files."""
    space.workflow(
        space.job("prep", "cat data.txt > prep.txt", inputs=["data.txt"], outputs=["prep.txt"]),
        space.job(
            "train",
            f"(echo {word}; cat prep.txt) > model.txt",
            inputs=["prep.txt"],
            outputs=["model.txt"],
            env=env or {},
        ),
        space.job("eval-a", "wc -c < model.txt > a.txt", inputs=["model.txt"], outputs=["a.txt"]),
        space.job("eval-b", "wc -l < model.txt > b.txt", inputs=["model.txt"], outputs=["b.txt"]),
    )


def test_first_run_does_everything_in_order(space: Space) -> None:
    space.write("data.txt", "one\n")
    pipeline(space)
    result = space.run()
    assert result.code == 0, result.text
    ran = space.ran()
    assert ran[:2] == ["prep", "train"]
    assert sorted(ran[2:]) == ["eval-a", "eval-b"]
    assert space.read("b.txt").strip() == "2"


def test_second_run_does_nothing_and_says_so(space: Space) -> None:
    space.write("data.txt", "one\n")
    pipeline(space)
    assert space.run().code == 0
    space.ran()
    result = space.run()
    assert (result.code, space.ran()) == (0, [])
    assert "up to date" in result.text
    assert len(result.text.strip().splitlines()) == 1, result.text


def test_an_edited_input_reruns_what_needs_it_and_says_why(space: Space) -> None:
    space.write("data.txt", "one\n")
    pipeline(space)
    space.run()
    space.ran()
    space.write("data.txt", "two\n")
    result = space.run()
    assert space.ran()[:2] == ["prep", "train"]
    assert "input changed: data.txt" in result.text


def test_a_touched_input_runs_nothing(space: Space) -> None:
    data = space.write("data.txt", "one\n")
    pipeline(space)
    space.run()
    space.ran()
    data.touch()
    assert space.run().code == 0
    assert space.ran() == []


def test_same_content_cuts_the_wave_off(space: Space) -> None:
    space.write("data.txt", "one\n")
    space.workflow(
        space.job("sort", "sort -u data.txt > s.txt", inputs=["data.txt"], outputs=["s.txt"]),
        space.job("use", "cp s.txt u.txt", inputs=["s.txt"], outputs=["u.txt"]),
    )
    space.run()
    space.ran()
    space.write("data.txt", "one\none\n")
    dry = space.run("--dry-run")
    assert "input changed: data.txt" in dry.text
    assert "waits for sort; skipped if its output comes out the same" in dry.text
    assert space.ran() == []
    result = space.run()
    assert result.code == 0
    assert space.ran() == ["sort"]


def test_a_changed_command_and_env_are_reasons(space: Space) -> None:
    space.write("data.txt", "one\n")
    pipeline(space, env={"LR": "1"})
    space.run()
    space.ran()
    pipeline(space, word="bye", env={"LR": "2"})
    result = space.run("-v")
    assert "command changed" in result.text
    assert "env changed: LR: 1 → 2" in result.text
    # The first eval counts bytes and the word got shorter; the second counts lines.
    assert sorted(space.ran()) == ["eval-a", "eval-b", "train"]


def test_a_deleted_or_edited_output_is_made_again(space: Space) -> None:
    space.write("data.txt", "one\n")
    pipeline(space)
    space.run()
    space.ran()
    (space.root / "prep.txt").unlink()
    result = space.run()
    assert "output missing: prep.txt" in result.text
    assert space.ran() == ["prep"]
    space.write("model.txt", "garbage\n")
    result = space.run()
    assert "output changed since it was made: model.txt" in result.text
    assert space.ran() == ["train"]
    assert space.read("model.txt") == "hello\none\n"


def test_a_failure_blocks_what_needs_it_and_only_that(space: Space) -> None:
    space.workflow(
        space.job("bad", "echo oh no; exit 3", outputs=["x.txt"]),
        space.job("after", "cp x.txt y.txt", inputs=["x.txt"]),
        space.job("aside", "true"),
    )
    result = space.run()
    assert result.code == 1
    assert sorted(space.ran()) == ["aside", "bad"]
    assert "exit 3" in result.text
    assert "oh no" in result.text
    again = space.run("--dry-run")
    assert "last attempt failed (exit 3)" in again.text


def test_a_promised_output_that_is_not_there_is_a_failure(space: Space) -> None:
    space.workflow(space.job("liar", "true", outputs=["never.txt"]))
    result = space.run()
    assert result.code == 1
    assert "did not write never.txt" in result.text
    assert "did not write never.txt" in space.run("--dry-run").text


def test_retries_count_attempts_and_keep_logs(space: Space) -> None:
    space.workflow(
        space.job(
            "flaky",
            'echo attempt $OUMI_FLOW_ATTEMPT; [ "$OUMI_FLOW_ATTEMPT" = 3 ]',
            max_retries=3,
            retry_delay=0,
        )
    )
    result = space.run()
    assert result.code == 0, result.text
    assert space.ran() == ["flaky"] * 3
    assert "attempt 3" in space.read("out/flaky/job.log")
    assert "attempt 1" in space.read("out/flaky/job.log.2")


def test_a_timeout_is_a_failure_with_that_cause(space: Space) -> None:
    space.workflow(space.job("slow", "sleep 600", timeout=1, grace=1))
    result = space.run()
    assert result.code == 1
    assert "timed out after 1" in result.text


def test_targets_omit_and_force(space: Space) -> None:
    space.write("data.txt", "one\n")
    pipeline(space)
    assert space.run("eval-a").code == 0
    assert space.ran() == ["prep", "train", "eval-a"]
    nothing = space.run("--omit", "*")
    assert nothing.code == 2
    assert "--omit leaves no job to run" in nothing.err
    assert space.run("--omit", "eval-b").code == 0
    assert space.ran() == []
    assert space.run("eval-a", "-f", "train").code == 0
    assert space.ran() == ["train"]
    result = space.run("nope")
    assert result.code == 2
    assert "nope" in result.err


def test_fail_fast_stops_what_runs(space: Space) -> None:
    space.workflow(
        space.job("bad", "while [ ! -e long.started ]; do sleep 0.02; done; exit 1"),
        space.job("long", "touch long.started; sleep 600", grace=1),
        resources={"max_parallel": 2},
    )
    result = space.run("--fail-fast")
    assert result.code == 1
    assert sorted(space.ran()) == ["bad", "long"]
    assert "cancelled" in result.text


def test_max_parallel_is_kept(space: Space) -> None:
    body = "mkdir busy.$$; echo busy.* | wc -w >> seen; sleep 0.05; rmdir busy.$$"
    space.workflow(*(space.job(f"j{i}", body) for i in range(6)))
    assert space.run("-j2").code == 0
    assert max(int(line) for line in space.read("seen").split()) <= 2


def test_dry_run_writes_nothing(space: Space) -> None:
    space.write("data.txt", "one\n")
    pipeline(space)
    result = space.run("--dry-run")
    assert result.code == 0
    assert not space.exists("out")
    assert "has not run here before" in result.text


def test_started_from_another_folder_is_refused_with_advice(space: Space) -> None:
    space.write("data.txt", "one\n")
    pipeline(space)
    assert space.run().code == 0
    (space.root / "sub").mkdir()
    result = space.command("run", "../workflow.yaml", "-C", "sub", "--no-tui")
    assert result.code == 2  # -C means it, but data.txt is not there
    moved = space.elsewhere(space.root / "sub")
    result = moved.command("run", "../workflow.yaml", "--no-tui")
    assert result.code == 2
    assert f"-C {space.root}" in result.err


def test_a_moved_project_stays_up_to_date(space: Space) -> None:
    space.write("data.txt", "one\n")
    pipeline(space)
    space.run()
    space.ran()
    new = space.root.parent / "elsewhere"
    space.root.rename(new)
    space.root = new
    assert space.run().code == 0
    assert space.ran() == []


def test_json_events_on_stdout(space: Space) -> None:
    import json

    space.workflow(space.job("a"))
    result = space.run("--json")
    kinds = [json.loads(line)["kind"] for line in result.out.splitlines()]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_finished"
    assert "job_finished" in kinds


def test_always_run_and_orphans(space: Space) -> None:
    space.workflow(space.job("a", always_run=True), space.job("b"))
    space.run()
    space.ran()
    space.workflow(space.job("a", always_run=True))
    result = space.run()
    assert space.ran() == ["a"]
    assert "always_run is set" in result.text
    assert "b" in space.run("--dry-run").text
    assert space.command("clean", "workflow.yaml", "--orphans", "-y").code == 0
    assert not space.exists("out/b")
    assert space.exists("out/a")


def test_folders_of_jobs_no_longer_in_the_file_are_told_of_once(space: Space) -> None:
    space.workflow(space.job("a"), space.job("b"), space.job("c"))
    space.run()
    space.workflow(space.job("a"))
    first = space.run()
    assert first.out.strip() == "flow: up to date (1 job)"
    assert "2 folders of jobs that are no longer in the file: b, c" in first.err
    assert "oumi-flow clean workflow.yaml --orphans" in first.err
    assert space.run().err == ""
    space.workflow(space.job("a", "echo changed"))
    assert "no longer in the file" not in space.run().text
    assert "no longer in the file" in space.run("--dry-run").text


def test_rename_keeps_what_was_made(space: Space) -> None:
    space.workflow(
        space.job("old", "date +%N > ${{ job.output_dir }}/x", outputs=["${{ job.output_dir }}/x"])
    )
    body = {
        "run": "date +%N > ${{ job.output_dir }}/x",
        "outputs": ["${{ job.output_dir }}/x"],
        "verb": "shell",
    }
    space.workflow({"name": "old", **body})
    space.run()
    made = space.read("out/old/x")
    space.workflow({"name": "new", **body})
    dry = space.run("--dry-run")
    assert "looks like old renamed: oumi-flow rename workflow.yaml old new" in dry.text
    assert space.command("rename", "workflow.yaml", "old", "new").code == 0
    result = space.run()
    assert "up to date" in result.text
    assert space.read("out/new/x") == made


def test_touch_takes_what_is_there(space: Space) -> None:
    space.write("data.txt", "one\n")
    pipeline(space)
    space.write("prep.txt", "by hand\n")
    result = space.command("touch", "workflow.yaml", "prep")
    assert result.code == 0, result.text
    space.run()
    assert "prep" not in space.ran()
    result = space.command("touch", "workflow.yaml", "eval-c")
    assert result.code == 2
