"""`report`: what the page says of real runs, what is never in it, and where it is written."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.flow.conftest import Space, wait_for
from tests.unit.test_report import Reader, check

VALUE = "hunter3-marlin-43"
GO = "while [ ! -e go ]; do sleep 0.02; done"
LOSSES = "for n in 1 2 3; do echo \"{'loss': 0.$n, 'epoch': $n}\"; done"


def mixed(space: Space) -> None:
    """One that works, two that fail alike, one tried twice, one blocked, markup in words."""
    space.write("data.txt", "first")
    space.workflow(
        space.job("good", f"{LOSSES}\necho made > made.txt", outputs=["made.txt"]),
        space.job("bad-1", "echo noise 1; echo 'ValueError: <b>no</b> such column'; exit 3"),
        space.job("bad-2", "echo noise 2; echo 'ValueError: <b>no</b> such column'; exit 3"),
        space.job("twice", "[ -e tried ] || { touch tried; exit 5; }", max_retries=1),
        space.job("after + co", "true", depends_on=["bad-1"], inputs=["data.txt"]),
        description="A <script>alert(1)</script> of runs",
        env={"HF_TOKEN": "${HF_TOKEN}", "PLAIN": "seen"},
        resources={"max_parallel": 1},  # those that failed are told in that order
    )  # fmt: skip


def run(space: Space, *args: str) -> int:
    return space.run(*args, HF_TOKEN=VALUE).code


def report(space: Space, *args: str) -> Reader:
    done = space.command("report", *args, HF_TOKEN=VALUE)
    assert done.code == 0, done.text
    assert done.out == ""
    assert "wrote report.html" in done.err
    return check(space.read("report.html"))


def test_a_run_with_failures_is_told_whole(space: Space) -> None:
    mixed(space)
    assert run(space, "--set", "x=1") == 2  # no such variable: nothing is told yet
    said = space.command("report", "workflow.yaml", HF_TOKEN=VALUE)
    assert said.code == 2
    assert "has not been run yet" in said.err
    assert run(space) == 1
    read = report(space, "workflow.yaml")
    for words in (
        "flow", "failed", "2 of 5", "A <script>alert(1)</script> of runs",
        "ValueError: <b>no</b> such column", "2 jobs: bad-1, bad-2", "held up 1 job: after + co",
        "tried again", "upstream bad-1 failed", "oumi-flow run workflow.yaml", "loss 0.3",
        "workflow.yaml", "made.txt", "PLAIN", "****", "By job", "Graph", "out/good/job.log",
    ):  # fmt: skip
        assert words in read.text, words
    assert "script" not in {tag for tag, _ in read.elements}
    marker = json.loads(space.read("out/good/.oumi-flow/done.json"))
    assert marker["fingerprint"] in read.text
    assert marker["build_key"] in read.text
    digests = [evidence[1] for evidence in marker["outputs"].values()]
    assert digests
    assert all(digest in read.text for digest in digests)


def test_no_secret_is_in_it(space: Space) -> None:
    mixed(space)
    data = json.loads(space.read("workflow.yaml"))
    data["jobs"][1]["run"] += "; echo never"
    data["jobs"].append(space.job("loud", 'echo "token $HF_TOKEN"; exit 7'))
    data["vars"] = {"api_key": "none"}
    space.write("workflow.yaml", json.dumps(data))
    assert run(space, "--set", "api_key=sk-0123456789", f"--set=api_key={VALUE}-set") == 1
    read = report(space, "workflow.yaml")
    assert "token ****" in read.text
    assert "api_key=****" in read.text
    assert "HF_TOKEN" in read.text
    text = space.read("report.html")
    assert VALUE not in text
    assert "sk-0123456789" not in text


def test_a_past_run_is_told_as_it_was(space: Space) -> None:
    space.write("data.txt", "first")
    space.workflow(
        space.job("a", "cat data.txt > a.out", inputs=["data.txt"], outputs=["a.out"]),
        space.job("b", "echo loss=0.7"),
    )  # fmt: skip
    assert run(space) == 0
    first = json.loads(space.command("status", "--json").out)[0]["run_id"]
    digest = json.loads(space.read("out/a/.oumi-flow/done.json"))["inputs"]["data.txt"][1]
    space.write("data.txt", "second")
    assert run(space) == 0
    now = report(space, "workflow.yaml")
    assert "1 done, 1 up to date" in now.text
    assert "input changed: data.txt" in now.text
    past = report(space, first)
    assert first in past.text
    assert "2 of 2" in past.text
    assert "has made this job again" in past.text
    assert digest not in past.text + now.text
    # Without the workflow file there is less to tell, and that is said.
    os.unlink(space.root / "workflow.yaml")
    less = report(space, first)
    assert "is not there or does not load as it is now" in less.text
    assert "loss" in less.text


def test_a_live_run_and_a_lost_one(space: Space) -> None:
    space.workflow(
        space.job("first", "echo loss=0.5"),
        space.job("slow", f"echo x > begun; {GO}", depends_on=["first"]),
        space.job("next", depends_on=["slow"]),
    )
    process = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("begun"), "slow runs")
    live = report(space, "workflow.yaml")
    assert "The run had not ended when this was written" in live.text
    assert "1 of 3" in live.text
    assert "● running" in live.text
    process.send_signal(signal.SIGKILL)
    process.communicate()
    lost = report(space)
    assert "The run was lost" in lost.text
    assert re.search(r"last heard of after \d", lost.text)
    assert not re.search(r"\btook \d", lost.text)
    assert "1 job of it live on" in lost.text
    space.write("go", "")
    wait_for(lambda: space.end_of("slow"), "slow ends")
    over = report(space, "workflow.yaml")
    assert "! interrupted" in over.text
    assert "live on" not in over.text


def test_where_it_is_written(space: Space, tmp_path: Path) -> None:
    space.workflow(space.job("a"))
    assert run(space) == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    here = space.elsewhere(elsewhere)
    target = str(space.root / "workflow.yaml")
    # From another folder: it lies where one stands, not where the run does.
    assert here.command("report", target).code == 0
    assert here.exists("report.html")
    assert not space.exists("report.html")
    assert here.command("report", target).code == 0  # ours: replaced
    page = here.command("report", target, "-o", "-")
    assert page.code == 0
    assert page.err == ""
    check(page.out)
    assert here.command("report", target, "-o", "/dev/stdout").out[:15] == "<!DOCTYPE html>"
    (elsewhere / "link.html").symlink_to("kept.html")
    here.write("kept.html", "old")
    assert here.command("report", target, "-o", "link.html").code == 0
    assert (elsewhere / "link.html").is_symlink()
    check(here.read("kept.html"))
    # Somebody else's page is replaced only when it is named.
    here.write("report.html", "<p>mine</p>")
    said = here.command("report", target)
    assert said.code == 2
    assert "no report of ours" in said.err
    assert here.read("report.html") == "<p>mine</p>"
    assert here.command("report", target, "-o", "report.html").code == 0
    assert sorted(os.listdir(elsewhere)) == ["kept.html", "link.html", "report.html"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("out", "-o out: expected the name of a file"),
        ("new/", "-o new/: expected the name of a file"),
        ("", "expected the name of a file"),
        ("no/such/page.html", "there is no folder"),
        ("data.txt/page.html", "there is no folder"),
        ("/proc/page.html", "-o /proc/page.html: cannot write"),
        ("workflow.yaml", "-o workflow.yaml: that is the workflow file"),
    ],
)
def test_a_place_where_no_page_can_be_is_refused(space: Space, path: str, words: str) -> None:
    space.write("data.txt", "x")
    space.workflow(space.job("a"))
    before = space.read("workflow.yaml")
    assert run(space) == 0
    said = space.command("report", "workflow.yaml", "-o", path)
    assert said.code == 2
    assert words in said.err
    assert space.read("workflow.yaml") == before
