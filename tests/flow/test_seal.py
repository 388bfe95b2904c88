"""A run with nothing to do answers from its seal, and only while everything is as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oumi_flow.cli import main
from tests.flow.conftest import Space, wait_for

# Says on stderr whether the whole program was needed.
DOOR = """
import sys
from oumi_flow.cli import main
code = main(sys.argv[1:])
sys.stdout.flush()
print("worked out" if "oumi_flow.dispatch" in sys.modules else "sealed", file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def small(space: Space) -> Space:
    """Three jobs: files, a folder, what may be missing, and a variable; all up to date."""
    space.env["NAME"] = "one"
    space.write("data.txt", "1234\n")
    space.write("more/x.txt", "x\n")
    space.workflow(
        space.job(
            "files",
            "cp data.txt ${{ job.output_dir }}/copy.txt; cat more/* > $OUMI_FLOW_OUTPUT_DIR/all",
            inputs=["data.txt", "more"],
            outputs=["${{ job.output_dir }}/copy.txt", "${{ job.output_dir }}/all"],
        ),
        space.job(
            "folder",
            "mkdir -p made/deep; echo $NAME > made/a; echo b > made/deep/b",
            inputs=["${{ jobs.files.outputs.0 }}"],
            outputs=["made"],
            env={"NAME": "${NAME}"},
        ),
        space.job("last", depends_on=["folder"]),
    )
    assert space.run().code == 0
    settle(space)
    return space


def said(space: Space, *flags: str) -> tuple[str, str]:
    """What a run said, and whether it was sealed or worked out."""
    done = space.program(DOOR, "run", "workflow.yaml", "--no-tui", *flags)
    return done.stdout, done.stderr.split("\n")[-2]


def settle(space: Space) -> None:
    """Run until the answer is sealed: what was written a moment ago is not trusted yet."""
    wait_for(lambda: said(space) == ("flow: up to date (3 jobs)\n", "sealed"), "a seal")
    space.ran()


def seal_of(space: Space) -> Path:
    (found,) = Path(space.env["OUMI_FLOW_HOME"]).glob("cache/*.seal")
    return found


def test_the_same_command_again_needs_the_door_only(small: Space) -> None:
    assert said(small) == ("flow: up to date (3 jobs)\n", "sealed")
    assert seal_of(small).stat().st_mode & 0o777 == 0o600


def test_other_words_are_worked_out(small: Space) -> None:
    for flags in (["files"], ["--verify"], ["-j", "0"], ["--omit", "last"], ["--nonsense"]):
        assert said(small, *flags)[1] == "worked out", flags
    assert "last" in said(small, "-F")[0]


def same_size_and_times(path: Path) -> None:
    """As an editor or `cp -p` might: only the content and the change time tell."""
    before = path.stat()
    path.write_text(path.read_text()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_by_link(path: Path) -> None:
    path.rename(path.with_name("kept"))
    path.symlink_to("kept")


STALE: dict[str, tuple[Callable[[Space], object], list[str]]] = {
    "an input changed": (lambda s: s.write("data.txt", "5678\n"), ["files", "folder", "last"]),
    "an input changed behind its times": (
        lambda s: same_size_and_times(s.root / "data.txt"),
        ["files", "folder", "last"],
    ),
    "a file more in an input folder": (lambda s: s.write("more/y.txt", "y\n"), ["files"]),
    "an output is gone": (lambda s: (s.root / "out/files/copy.txt").unlink(), ["files"]),
    "an output was edited": (lambda s: s.write("out/files/copy.txt", "!"), ["files"]),
    "a file deep in an output folder is gone": (
        lambda s: (s.root / "made/deep/b").unlink(),
        ["folder", "last"],
    ),
    "a marker is gone": (lambda s: (s.root / "out/last/.oumi-flow/done.json").unlink(), ["last"]),
    "a job's folder is gone": (lambda s: shutil.rmtree(s.root / "out/last"), ["last"]),
    "all is gone": (lambda s: shutil.rmtree(s.root / "out"), ["files", "folder", "last"]),
    "a variable has another value": (lambda s: s.env.update(NAME="two"), ["folder", "last"]),
    "the file was edited": (
        lambda s: s.write("workflow.yaml", s.read("workflow.yaml").replace("cp data", "cp  data")),
        ["files"],
    ),
}


@pytest.mark.parametrize("change", STALE)
def test_what_makes_a_job_stale_breaks_the_seal(small: Space, change: str) -> None:
    do, expected = STALE[change]
    do(small)
    text, how = said(small)
    assert how == "worked out"
    assert set(small.ran()) <= set(expected)
    assert small.ran() == []
    assert "done" in text, text
    settle(small)
    assert small.ran() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.write("workflow.yaml", s.read("workflow.yaml") + "\n# a word\n"),
        lambda s: (s.root / "workflow.yaml").touch(),
        lambda s: (s.root / "out/.oumi-flow/index").unlink(),
        lambda s: (s.root / "out/last/.oumi-flow/done.json").touch(),
        lambda s: replaced_by_link(s.root / "data.txt"),  # it might be what some job makes
    ],
    ids=["a comment", "the workflow", "no index", "a marker", "linked"],
)
def test_what_makes_nothing_stale_is_looked_at_once_more(
    small: Space, change: Callable[[Space], object]
) -> None:
    change(small)
    assert said(small) == ("flow: up to date (3 jobs)\n", "worked out")
    assert small.ran() == []
    settle(small)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: (s.root / "data.txt").touch(),
        lambda s: [s.write(path, s.read(path)) for path in ("more/x.txt", "made/deep/b")],
    ],
    ids=["touched", "below folders"],
)
def test_what_was_touched_is_read_and_then_sealed_anew(
    small: Space, change: Callable[[Space], object]
) -> None:
    before = seal_of(small).read_bytes()
    change(small)
    assert said(small) == ("flow: up to date (3 jobs)\n", "sealed")
    wait_for(
        lambda: said(small)[1] == "sealed" and seal_of(small).read_bytes() != before,
        "the newer stamps in the seal",
    )
    renewed = seal_of(small).read_bytes()
    assert said(small)[1] == "sealed"
    assert seal_of(small).read_bytes() == renewed
    assert small.ran() == []
    small.write("data.txt", "4321\n")
    assert said(small)[1] == "worked out"
    assert "files" in small.ran()


def test_many_files_are_proved_as_well_as_few(space: Space) -> None:
    """More than one part of a seal holds; the one that moves is in the second."""
    space.write("data.txt", "1\n")
    for each in range(4200):
        space.write(f"many/{each:04}.txt", "")
    space.workflow(space.job("all", inputs=["many", "data.txt"]))
    assert space.run().code == 0
    wait_for(lambda: said(space)[1] == "sealed", "a seal")
    space.ran()
    for name in ("many/0000.txt", "many/4199.txt", "data.txt"):
        (space.root / name).touch()
    assert said(space)[1] == "sealed"
    wait_for(lambda: said(space)[1] == "sealed", "the newer stamps in the seal")
    space.write("many/4199.txt", "!")
    assert said(space)[1] == "worked out"
    assert space.ran() == ["all"]


@pytest.fixture
def fresh(space: Space) -> Space:
    """Two jobs that have never run, and a dry run of them that is sealed."""
    space.write("in/data.txt", "1234\n")
    space.workflow(
        space.job("reads", inputs=["in/data.txt"]),
        space.job("last", depends_on=["reads"]),
    )
    (space.root / "out/reads").mkdir(parents=True)
    wait_for(lambda: said(space, "--dry-run")[1] == "sealed", "a seal")
    return space


def test_a_dry_run_of_what_never_ran_says_the_same_again(fresh: Space) -> None:
    (next(Path(fresh.env["OUMI_FLOW_HOME"]).glob("cache/*.seal"))).unlink()
    worked_out = said(fresh, "--dry-run")
    assert worked_out[1] == "worked out"
    assert "2 will run" in worked_out[0]
    assert said(fresh, "--dry-run") == (worked_out[0], "sealed")
    assert fresh.ran() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.run(), "up to date"),
        (lambda s: s.run("reads"), "1 will run, 1 up to date"),
        (lambda s: (s.root / "in/data.txt").unlink(), ""),
        (lambda s: (s.root / "out/gone/.oumi-flow").mkdir(parents=True), "no longer in the file"),
        (lambda s: (s.root / "out/reads/gone/.oumi-flow").mkdir(parents=True), "2 will run"),
        (lambda s: shutil.rmtree(s.root / "out"), "2 will run"),
    ],
    ids=["a run", "half a run", "an input is gone", "an orphan", "a deep one", "no folder"],
)
def test_what_changes_a_dry_run_breaks_its_seal(
    fresh: Space, change: Callable[[Space], object], words: str
) -> None:
    change(fresh)
    text, how = said(fresh, "--dry-run")
    assert how != "sealed"
    assert words in text


def test_an_input_whose_link_leads_nowhere_any_more_is_missing(space: Space) -> None:
    target = space.write("elsewhere/data.txt", "1234\n")
    (space.root / "in").mkdir()
    (space.root / "in/data.txt").symlink_to("../elsewhere/data.txt")
    space.workflow(space.job("reads", inputs=["in/data.txt"]))
    for _ in range(3):  # what is a moment old is not sealed yet
        assert "1 will run" in space.run("--dry-run").out
    target.unlink()
    for words in (["--dry-run"], []):
        told = space.run(*words)
        assert told.code == 2
        assert "in/data.txt" in told.err
    assert space.ran() == []


def test_a_dry_run_does_not_look_through_a_whole_disk_to_be_sealed(
    fresh: Space, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(fresh.root)
    monkeypatch.setenv("OUMI_FLOW_HOME", fresh.env["OUMI_FLOW_HOME"])
    for name in ("a", "b", "c"):
        (fresh.root / "out/reads" / name).mkdir()
    seal = seal_of(fresh)
    seal.unlink()

    def is_sealed(most: int) -> bool:
        monkeypatch.setattr("oumi_flow.commands.sealing._MOST_ENTRIES", most)
        assert main(["run", "workflow.yaml", "--no-tui", "-n"]) == 0
        return seal.exists()

    wait_for(lambda: is_sealed(4), "a seal")
    seal.unlink()
    assert not is_sealed(3)
    assert "2 will run" in capsys.readouterr().out


def test_looking_ahead_costs_no_run_its_seal(small: Space) -> None:
    for flags in (["-n"], ["--dry-run"], ["-nj2"], ["-vn"]):
        assert small.run(*flags).code == 0
        assert said(small)[1] == "sealed", flags


def test_a_variable_that_must_be_set_and_is_not_any_more(small: Space) -> None:
    del small.env["NAME"]
    assert said(small)[1] == "worked out"


def test_from_another_folder_it_says_nothing(small: Space) -> None:
    other = small.elsewhere(small.root / "more")
    (small.root / "more" / "workflow.yaml").symlink_to("../workflow.yaml")
    assert other.run().code == 2


def test_whatever_is_wrong_with_a_seal_the_answer_is_right(small: Space) -> None:
    path = seal_of(small)
    whole = path.read_bytes()
    torn = [whole[:length] for length in range(0, len(whole), max(1, len(whole) // 12))]
    flipped = [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in (0, 9, 200, -2)]
    for data in (*torn, *flipped[:3], b"\0" * 100, b"00000000", b"00000000\xff"):
        path.write_bytes(data)
        assert small.run().out == "flow: up to date (3 jobs)\n"
    path.unlink()
    path.mkdir()
    assert small.run().out == "flow: up to date (3 jobs)\n"
    path.rmdir()
    os.mkfifo(path)
    assert small.run().out == "flow: up to date (3 jobs)\n"


def test_what_no_stat_can_prove_is_not_sealed(space: Space) -> None:
    space.write("data/a.txt", "a\n")
    space.workflow(space.job("globs", inputs=["data/*.txt"]))
    assert space.run().code == 0
    for _ in range(3):
        assert space.run().out == "flow: up to date (1 job)\n"
    space.write("data/b.txt", "b\n")
    assert "added" in space.run().text
    assert space.ran() == ["globs"] * 2


@pytest.fixture
def deep(space: Space) -> Iterator[Path]:
    """A folder whose removal is not left to pytest, which would recurse."""
    path = space.root / "deep"
    path.mkdir()
    yield path
    subprocess.run(["rm", "-rf", path], check=True)


def test_a_folder_of_any_depth_is_answered_for(space: Space, deep: Path) -> None:
    here = os.open(deep, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 50):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    file = os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    space.workflow(space.job("reads", inputs=["deep"]))
    assert space.run().code == 0
    wait_for(lambda: said(space) == ("flow: up to date (1 job)\n", "sealed"), "a seal")
    os.write(file, b"!")
    assert "1 done" in space.run().text
    os.close(file)
    os.close(here)


def test_the_seal_names_no_secret(small: Space) -> None:
    data = json.loads(small.read("workflow.yaml"))
    data["jobs"][2]["env"] = {"HF_TOKEN": "${HF_TOKEN}"}
    small.write("workflow.yaml", json.dumps(data))
    small.env["HF_TOKEN"] = "hf_abcdefghijklmnopqrstuvwxyz"
    assert small.run().code == 0
    settle(small)
    assert b"hf_abcdefghij" not in seal_of(small).read_bytes()
    small.env["HF_TOKEN"] = "another"
    assert said(small)[1] == "sealed"
    del small.env["HF_TOKEN"]
    assert said(small)[1] == "worked out"


@pytest.mark.parametrize("lost", ["", "*.seal", "*.json"])
@pytest.mark.parametrize(
    ("first", "second", "ran", "found"),
    [("made", "other", ["b"], "2\n"), ("other", "made", ["a", "b"], "3\n")],
)
def test_a_link_into_what_a_job_makes_that_leads_elsewhere_is_noticed(
    space: Space, lost: str, first: str, second: str, ran: list[str], found: str
) -> None:
    """Whose input it is, and so who runs before whom, hangs on where it leads."""
    for folder in ("made", "other"):
        space.write(f"{folder}/x", "2\n")
    (space.root / "link").symlink_to(first)
    space.workflow(
        space.job(
            "a", "[ ! -e made/x ] || sleep 0.5; cp s made/x", inputs=["s"], outputs=["made/x"]
        ),
        space.job("b", "cat link/x > b", inputs=["link/x"], outputs=["b"]),
        space.job("c"),
    )
    space.write("s", "1\n")
    assert space.run().code == 0
    settle(space)
    (space.root / "link").unlink()
    (space.root / "link").symlink_to(second)
    if second == "made":
        space.write("s", "3\n")
    if lost:
        for path in Path(space.env["OUMI_FLOW_HOME"]).glob(f"cache/{lost}"):
            path.unlink()
    assert space.run().code == 0
    assert (space.ran(), space.read("b")) == (ran, found)
