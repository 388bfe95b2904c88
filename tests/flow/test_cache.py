"""Results of earlier build keys: kept when a job runs afresh, back when they are wanted again."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.cli import main
from oumi_flow.store.cache import shelves
from tests.flow.conftest import Result, Space, delete

CACHE = "out/.oumi-flow/cache"


def ok(result: Result) -> Result:
    assert result.code == 0, result.text
    return result


def two(space: Space, value: object, **fields: Any) -> None:
    """a -> b; what both make is told by one value."""
    space.workflow(
        space.job("a", f"echo {value} > a.txt", outputs=["a.txt"]),
        space.job("b", "(cat a.txt; echo b) > b.txt", inputs=["a.txt"], outputs=["b.txt"]),
        **fields,
    )


def entries(space: Space, folder: str = CACHE) -> list[Path]:
    """The entries of a cache, least recently used first."""
    found = [path for path in (space.root / folder).glob("*") if len(path.name) == 32]
    return sorted(found, key=lambda path: (path / "trace.json").stat().st_mtime_ns)


Quick = Callable[..., str]


@pytest.fixture
def quick(
    space: Space, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Quick:
    """A run in this process, for tests of many runs; returns what it said."""
    monkeypatch.chdir(space.root)
    for name in ("OUMI_FLOW_HOME", "OUMI_FLOW_LOCK_DIR"):
        monkeypatch.setenv(name, space.env[name])

    def run(*words: str) -> str:
        code = main(["run", "workflow.yaml", "--no-tui", *words])
        said = capfd.readouterr()
        assert code == 0, said
        return said.out + said.err

    return run


# back and forth


def test_an_edit_that_is_taken_back_runs_nothing(space: Space) -> None:
    for value in (1, 2):
        two(space, value)
        ok(space.run())
        assert space.ran() == ["a", "b"]
    before = os.stat(space.root / "b.txt").st_ino
    two(space, 1)
    result = ok(space.run())
    assert space.ran() == []
    assert result.out.count("restored from cache (made ") == 2, result.out
    assert "2 restored" in result.out
    assert space.read("b.txt") == "1\nb\n"
    assert os.stat(space.root / "b.txt").st_ino != before
    assert "up to date" in ok(space.run()).out
    status = ok(space.command("status", "workflow.yaml")).text
    assert "2/2" in status or "2 restored" in status, status


def test_back_and_forth_ten_times(space: Space, quick: Quick) -> None:
    for value in (1, 2):
        two(space, value)
        quick()
    inodes: dict[int, int] = {}
    space.ran()
    for turn in range(10):
        value = 1 + turn % 2
        two(space, value)
        quick()
        assert space.ran() == []
        assert space.read("b.txt") == f"{value}\nb\n"
        seen = os.stat(space.root / "a.txt")
        assert seen.st_nlink == 1
        # Moved, not copied.
        assert inodes.setdefault(value, seen.st_ino) == seen.st_ino
        assert len(entries(space)) == 2
    assert not list((space.root / CACHE).glob("*-*"))


def test_a_plan_says_what_will_be_restored_and_reads_nothing(space: Space) -> None:
    for value in (1, 2, 1):
        two(space, value)
        if value == 1 and entries(space):
            break
        ok(space.run())
    seen = {path: path.stat().st_atime_ns for path in (space.root / CACHE).rglob("*.txt")}
    dry = ok(space.run("--dry-run")).out
    assert "command changed; in cache: will be restored" in dry
    rows = json.loads(ok(space.run("-n", "--json")).out.splitlines()[1])["rows"]
    assert [row["restores"] for row in rows] == [True, False]
    why = ok(space.command("why", "workflow.yaml", "a")).out
    assert "in cache: will be restored" in why
    assert seen == {path: path.stat().st_atime_ns for path in seen}
    assert space.read("a.txt") == "2\n"
    assert "in cache" not in ok(space.run("--dry-run", "--force", "a")).out
    told = ok(space.run("--json")).out.splitlines()
    planned = next(event for event in map(json.loads, told) if event["kind"] == "planned")
    assert planned["rows"][0]["reasons"] == ["command changed; in cache: will be restored"]


def test_what_comes_out_the_same_leaves_the_rest_alone(space: Space) -> None:
    def write(value: int) -> None:
        space.workflow(
            space.job(
                "a", f"echo {value} > a.txt; echo 7 > same.txt", outputs=["a.txt", "same.txt"]
            ),
            space.job("b", "cat same.txt > b.txt", inputs=["same.txt"], outputs=["b.txt"]),
        )

    for value, ran in ((1, ["a", "b"]), (2, ["a"]), (1, [])):
        write(value)
        result = ok(space.run())
        assert space.ran() == ran
    assert "1 restored, 1 up to date" in result.out, result.out


# what is kept


def test_folders_links_rights_and_times_come_back(space: Space) -> None:
    body = """
    d=$OUMI_FLOW_OUTPUT_DIR
    mkdir -p $d/model/empty far/below
    echo VALUE > $d/model/weights; chmod +x $d/model/weights; ln -s weights $d/model/link
    touch -d 2001-02-03 $d/model/old; truncate -s 50M $d/model/sparse
    echo extra > $d/undeclared; echo VALUE > far/below/x"""

    def write(value: int) -> None:
        job = space.job("a", body.replace("VALUE", str(value)))
        space.workflow({**job, "outputs": ["${{ job.output_dir }}/model", "far"]})

    def seen() -> dict[str, tuple[int, int, str]]:
        found = {}
        for top in ("out/a", "far"):
            for path in sorted((space.root / top).rglob("*")):
                if ".oumi-flow" in path.parts or path.name.startswith("job.log"):
                    continue
                info = path.lstat()
                text = path.read_bytes().hex() if info.st_size < 1000 and path.is_file() else ""
                when = 0 if path.is_dir() else info.st_mtime_ns
                found[str(path.relative_to(space.root))] = (info.st_mode, when, text)
        return found

    write(1)
    ok(space.run())
    first = seen()
    assert first["out/a/model/weights"][0] & stat.S_IXUSR
    write(2)
    ok(space.run("--cache", "shared"))
    assert seen() != first
    write(1)
    ok(space.run("--cache", "shared"))
    assert seen() == first
    # And the same of a copy.
    second = space.elsewhere(space.root.parent / "other")
    second.root.mkdir()
    write(2)
    (second.root / "workflow.yaml").write_text(space.read("workflow.yaml"))
    ok(second.command("run", "workflow.yaml", "--no-tui", "--cache", str(space.root / "shared")))
    assert second.ran() == []
    weights = second.root / "out/a/model/weights"
    assert weights.read_text() == "2\n"
    assert weights.stat().st_mode & stat.S_IXUSR
    assert os.readlink(second.root / "out/a/model/link") == "weights"
    assert (second.root / "out/a/model/empty").is_dir()
    old = (space.root / "out/a/model/old").stat()
    assert (second.root / "out/a/model/old").stat().st_mtime_ns == old.st_mtime_ns
    assert (second.root / "out/a/model/sparse").stat().st_blocks < 1000
    assert (second.root / "out/a/undeclared").read_text() == "extra\n"
    assert (second.root / "far/below/x").read_text() == "2\n"


def test_a_job_that_writes_in_place_spoils_nothing(space: Space, quick: Quick) -> None:
    def write(value: int) -> None:
        # Opens what is there instead of making a new file.
        body = f"python3 -c \"f = open('a.txt', 'a+'); f.truncate(0); f.write('{value}')\""
        space.workflow(space.job("a", body, outputs=["a.txt"]))

    for value, ran in ((1, 1), (2, 1), (1, 0), (2, 0), (3, 1), (1, 0)):
        write(value)
        quick("--cache", "shared")
        assert len(space.ran()) == ran
        assert space.read("a.txt") == str(value)


OUMI = f"""#!{sys.executable}
import pathlib, sys
if sys.argv[1:2] != ["train"]:
    sys.exit(1)
out = pathlib.Path(next(w.split("=", 1)[1] for w in sys.argv if "output_dir" in w))
with open("ran.log", "a") as log:
    log.write("t\\n")
(out / "checkpoint-5").mkdir(parents=True, exist_ok=True)
(out / "checkpoint-5" / "trainer_state.json").write_text("{{}}")
config = pathlib.Path(sys.argv[sys.argv.index("-c") + 1]).read_text()
(out / "model.safetensors").write_text(config)
(out / "metrics_rank0000.jsonl").write_text('{{"train/loss": 0.5, "step": 5}}\\n')
"""


@pytest.mark.parametrize("place", ["", "models/sft"])
def test_a_training_comes_back_with_all_of_its_folder(space: Space, place: str) -> None:
    space.write("bin/oumi", OUMI).chmod(0o755)
    space.env["OUMI_FLOW_OUMI"] = str(space.root / "bin/oumi")
    job: dict[str, Any] = {"name": "t", "verb": "train", "config": "train.yaml"}
    if place:
        job["args"] = [f"training.output_dir={place}"]
        space.write(f"{place}/README.md", "mine\n")
    space.workflow(
        job,
        {
            **space.job("use", "cat $M/model.safetensors > use.txt"),
            "env": {"M": "${{ jobs.t.output_dir }}"},
            "outputs": ["use.txt"],
        },
    )
    for step, ran in ((10, ["t", "use"]), (20, ["t", "use"]), (10, []), (20, [])):
        space.write("train.yaml", f"training:\n  max_steps: {step}\n")
        ok(space.run())
        assert space.ran() == ran
        assert f"max_steps: {step}" in space.read("use.txt")
        home = space.root / (place or "out/t")
        assert f"max_steps: {step}" in (home / "model.safetensors").read_text()
        assert (home / "checkpoint-5").is_dir()
        if place:
            assert space.read(f"{place}/README.md") == "mine\n"
        metrics = json.loads(ok(space.command("metrics", "workflow.yaml", "--json")).out)
        assert "0.5" in json.dumps(metrics)


def test_a_job_may_keep_its_outputs_where_they_are(space: Space) -> None:
    for value in (1, 2, 1):
        job = space.job("a", f"cat a.txt || true; echo {value} >> a.txt", outputs=["a.txt"])
        space.workflow({**job, "cache": False})
        ok(space.run())
        assert space.ran() == ["a"]
    assert space.read("a.txt") == "1\n2\n1\n"
    assert not space.exists(CACHE)


def test_what_is_forced_or_always_run_runs(space: Space) -> None:
    for value in (1, 2):
        two(space, value)
        ok(space.run())
    two(space, 1)
    space.ran()
    ok(space.run("--force", "a"))
    assert space.ran() == ["a"]
    space.workflow(space.job("n", "date +%N > n.txt", outputs=["n.txt"], always_run=True))
    for _ in range(2):
        ok(space.run())
        assert space.ran() == ["n"]
    space.workflow(space.job("n", "date > n.txt", outputs=["n.txt"], always_run=True))
    ok(space.run())
    assert space.ran() == ["n"]


def test_an_output_that_somebody_changed_is_not_kept(space: Space) -> None:
    two(space, 1)
    ok(space.run())
    space.write("a.txt", "mine\n")
    two(space, 2)
    ok(space.run())
    space.ran()
    two(space, 1)
    ok(space.run())
    assert space.ran() == ["a"]  # b had been made from 1 and not been touched
    assert space.read("b.txt") == "1\nb\n"


def test_what_lies_in_the_way_is_not_lost(space: Space) -> None:
    for value in (1, 2):
        two(space, value)
        ok(space.run())
    space.write("a.txt", "mine\n")
    two(space, 1)
    space.ran()
    ok(space.run())
    assert space.ran() == []
    assert space.read("a.txt") == "1\n"
    kept = list((space.root / "out/a/.oumi-flow/previous").rglob("a.txt"))
    assert [path.read_text() for path in kept] == ["mine\n"]


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_link_leads_to_is_never_moved(space: Space, shared: bool) -> None:
    """Neither into the cache, where it would be evicted some day, nor over by what comes back."""
    space.write("base/model", "mine\n")
    cache: dict[str, Any] = {"cache": {"dir": "shared"}} if shared else {}
    for value in (1, 2, 1):
        job = space.job("a", f"ln -sfn base current; : {value}", outputs=["current"])
        space.workflow(job, **cache)
        ok(space.run())
        assert space.read("base/model") == "mine\n"
        assert os.readlink(space.root / "current") == "base"
    space.write("base/model", "newer\n")
    ok(space.run())
    assert space.read("base/model") == "newer\n"


def test_the_workdir_of_a_job_stays_where_it_is(space: Space) -> None:
    space.write("build/src/main.c", "int main;\n")
    for value in (1, 2, 1):
        job = space.job("a", f"echo {value} > ../made", outputs=["build"], workdir="build/src")
        job["run"] = job["run"].replace("ran", "../../ran")
        space.workflow(job)
        ok(space.run())
        assert space.read("build/made") == f"{value}\n"
    assert space.read("build/src/main.c") == "int main;\n"


def test_a_folder_with_files_of_somebody_else_stays_where_it_is(
    space: Space, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else these would go to the cache with the result, and from there, some day, for good."""
    monkeypatch.setattr(shelves, "_SLACK", 0.0)
    space.write("data/raw.csv", "mine\n")
    for value in (1, 2, 1):
        space.workflow(space.job("a", f"echo {value} > data/made", outputs=["data"]))
        quick()
        assert space.read("data/raw.csv") == "mine\n"
        assert space.read("data/made") == f"{value}\n"
    assert space.ran() == ["a"] * 3
    # What a job alone has made there is kept, also where an attempt before had begun it.
    again = "[ -e own/part ] || { echo > own/part; false; }"
    for value, runs in ((1, 2), (2, 2), (1, 0)):
        run = f"mkdir -p own; echo {value} > own/made; {again}"
        space.workflow(space.job("b", run, outputs=["own"], max_retries=1, retry_delay=0))
        quick()
        assert space.read("own/made") == f"{value}\n"
        assert space.ran() == ["b"] * runs


def test_a_copy_on_a_disk_with_coarse_times_is_whole(
    space: Space, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What such a disk cannot hold is no damage, for which others would lose the entry."""
    two(space, 1)
    quick("--cache", "shared")
    delete(space.root / "out")
    utime = os.utime

    def coarse(path: Any, *args: Any, ns: tuple[int, int] | None = None, **more: Any) -> None:
        if ns is not None:
            more["ns"] = (ns[0] // 10**9 * 10**9, ns[1] // 10**9 * 10**9)
        utime(path, *args, **more)

    monkeypatch.setattr(os, "utime", coarse)
    space.ran()
    for name in ("a.txt", "b.txt"):
        (space.root / name).unlink()
    said = quick("--cache", "shared")
    assert "damaged" not in said
    assert space.ran() == []
    assert space.read("b.txt") == "1\nb\n"
    assert len(entries(space, "shared")) == 2


def test_an_entry_without_rights_can_be_deleted(space: Space) -> None:
    folder = space.root / "gone"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/file").write_text("x")
    for path in (folder / "deep", folder):
        path.chmod(0o500)
    program = (
        "import ctypes, sys; from oumi_flow.store.cache import entry; "
        # capset(2), version 3: also root may only what the rights of a file say then.
        "head, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(); "
        "assert ctypes.CDLL(None).capset(head, none) == 0; entry.delete(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
    assert not folder.exists()


def test_a_failure_costs_nothing_of_what_was_there(space: Space) -> None:
    two(space, 1)
    ok(space.run())
    two(space, "2; echo half > $OUMI_FLOW_OUTPUT_DIR/half; false")
    assert space.run().code == 1
    space.ran()
    two(space, 1)
    assert "in cache: will be restored" in ok(space.run("-n")).out
    ok(space.run())
    assert space.ran() == []
    assert space.read("a.txt") == "1\n"
    assert space.read("out/a/.oumi-flow/old/half") == "half\n"
    assert "up to date" in ok(space.run()).out
    assert "no failures" in ok(space.command("errors", "workflow.yaml")).text


def test_another_version_is_not_taken_where_versions_count(space: Space) -> None:
    space.write("bin/oumi", OUMI).chmod(0o755)
    space.env["OUMI_FLOW_OUMI"] = str(space.root / "bin/oumi")
    job = {"name": "t", "verb": "train", "config": "train.yaml"}
    space.workflow(job)
    for step in (10, 20, 10):
        space.write("train.yaml", f"training:\n  max_steps: {step}\n")
        ok(space.run())
    assert space.ran() == ["t", "t"]


# room


def test_the_least_recently_used_go_first(space: Space, quick: Quick) -> None:
    def write(value: int) -> None:
        job = space.job("a", f"yes {value} | head -c 100000 > a.txt || true", outputs=["a.txt"])
        space.workflow(job, cache={"max_size": "250KB"})

    for value in (1, 2, 3, 4, 5):
        write(value)
        quick()
    assert space.ran() == ["a"] * 5
    assert len(entries(space)) == 2
    write(4)
    quick()  # back, in exchange for 5: 3 and 5 are kept
    write(3)
    quick()
    assert space.ran() == []
    write(6)
    quick()  # 5, 4, 3: one too many, and 5 was used longest ago
    assert space.ran() == ["a"]
    write(4)
    quick()
    assert space.ran() == []
    write(5)
    quick()
    assert space.ran() == ["a"]


def test_what_is_larger_than_the_cache_stays_where_it_is(space: Space) -> None:
    for value in (1, 2, 1):
        job = space.job("a", f"yes {value} | head -c 100000 > a.txt || true", outputs=["a.txt"])
        space.workflow(job, cache={"max_size": "50KB"})
        ok(space.run())
        assert space.ran() == ["a"]
        assert not entries(space)


def test_clean_shows_and_removes_our_own_only(space: Space) -> None:
    for value in (1, 2):
        two(space, value, cache={"dir": "shared"})
        ok(space.run())
    asked = space.command("clean", "workflow.yaml", "--cache")
    assert asked.code != 0
    assert CACHE in asked.out
    assert "without a terminal" in asked.err
    assert len(entries(space)) == 2
    done = ok(space.command("clean", "workflow.yaml", "--cache", "-y"))
    assert "shared" in done.text
    assert not space.exists(CACHE)
    assert len(entries(space, "shared")) == 4
    assert "up to date" in ok(space.run()).out


# shared


def test_clean_takes_no_more_than_is_named(space: Space) -> None:
    space.workflow(*(space.job(name, "true") for name in ("gone-1", "gone-2", "kept")))
    ok(space.run())
    space.workflow(space.job("kept", "true"))
    result = space.command("clean", "workflow.yaml", "--cache", "kept", "-y")
    assert result.code == 2
    assert "--cache takes no JOB" in result.text
    result = space.command("clean", "workflow.yaml", "--orphans", "kept", "-y")
    assert result.code == 2
    assert 'no job "kept"' in result.text
    ok(space.command("clean", "workflow.yaml", "--orphans", "gone-1", "-y"))
    found = [name for name in ("gone-1", "gone-2", "kept") if space.exists(f"out/{name}")]
    assert found == ["gone-2", "kept"]


def test_two_workflows_share_what_they_make(space: Space) -> None:
    two(space, 1)
    ok(space.run("--cache", "shared"))
    assert space.ran() == ["a", "b"]
    made = space.root / "shared"
    assert len(entries(space, "shared")) == 2
    for file in made.rglob("*.txt"):
        assert file.stat().st_nlink == 1
        assert file.stat().st_ino != (space.root / file.name).stat().st_ino
    two(space, 1, output_dir="elsewhere", name="other", cache={"dir": "shared"})
    for name in ("a.txt", "b.txt"):
        (space.root / name).unlink()
    assert "has not run here before; in cache: will be restored" in ok(space.run("-n")).out
    result = ok(space.run())
    assert space.ran() == []
    assert "2 restored" in result.out
    assert space.read("b.txt") == "1\nb\n"
    assert len(entries(space, "shared")) == 2
    assert not [name for name in os.listdir(made) if name.startswith(".")]


def test_a_shared_result_mends_an_output(space: Space) -> None:
    two(space, 1, cache={"dir": "shared"})
    ok(space.run())
    space.ran()
    (space.root / "b.txt").unlink()
    space.write("a.txt", "mine\n")
    ok(space.run())
    assert space.ran() == []
    assert space.read("b.txt") == "1\nb\n"


def test_a_shared_cache_has_a_limit(space: Space) -> None:
    for value in (1, 2, 3):
        job = space.job("a", f"yes {value} | head -c 100000 > a.txt || true", outputs=["a.txt"])
        space.workflow(job, cache={"dir": "shared", "max_size": "250KB"})
        ok(space.run())
    assert len(entries(space, "shared")) == 2


def test_rights_follow_the_group_and_the_umask(space: Space) -> None:
    shared = space.root / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    if not shared.stat().st_mode & stat.S_ISGID:
        pytest.skip("this file system keeps no setgid")
    script = space.write("go.sh", 'umask 002; exec "$@"\n')
    space.workflow(space.job("a", "(umask 077; echo 1 > a.txt)", outputs=["a.txt"]))
    words = ["bash", str(script), sys.executable, "-m", "oumi_flow", "run", "workflow.yaml"]
    words += ["--no-tui", "--cache", "shared"]
    subprocess.run(words, cwd=space.root, env=space.env, check=True, capture_output=True)
    (entry,) = entries(space, "shared")
    assert stat.S_IMODE(entry.stat().st_mode) & 0o777 == 0o775
    assert entry.stat().st_mode & stat.S_ISGID
    for path in entry.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o777 == (0o775 if path.is_dir() else 0o664)


def test_secrets_keep_a_shared_result_to_its_user(space: Space) -> None:
    job = space.job("a", "echo 1 > a.txt", outputs=["a.txt"])
    space.workflow({**job, "env": {"HF_TOKEN": "${HF_TOKEN}"}}, cache={"dir": "shared"})
    ok(space.run(HF_TOKEN="hf_verysecret"))
    (entry,) = entries(space, "shared")
    assert stat.S_IMODE(entry.stat().st_mode) & 0o077 == 0
    assert all(
        b"verysecret" not in file.read_bytes() for file in entry.rglob("*") if file.is_file()
    )


def test_two_users_share(space: Space) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to be two users")
    try:
        subprocess.run([sys.executable, "-c", "import oumi_flow"], check=True, user=1, cwd="/")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("other users cannot run this Python or read this checkout")
    group = 60000
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        top.chmod(0o755)
        shared = top / "shared"
        shared.mkdir()
        os.chown(shared, -1, group)
        shared.chmod(0o2775)

        def run(user: int, value: int) -> bool:
            home = top / str(user)
            home.mkdir(exist_ok=True)
            os.chown(home, user, group)
            other = space.elsewhere(home)
            other.workflow(space.job("a", f"echo {value} > a.txt", outputs=["a.txt"]))
            words = [sys.executable, "-m", "oumi_flow", "run", "workflow.yaml", "--no-tui"]
            done = subprocess.run(
                [*words, "--cache", str(shared)],
                cwd=home,
                env={
                    **space.env,
                    "HOME": str(home),
                    "OUMI_FLOW_HOME": str(home / "home"),
                    "OUMI_FLOW_LOCK_DIR": str(home / "locks"),
                },
                user=user,
                group=group,
                extra_groups=[],
                umask=0o002,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert "warning" not in done.stdout + done.stderr
            assert other.read("a.txt") == f"{value}\n"
            return other.ran() == ["a"]

        assert [run(1, 1), run(2, 1), run(2, 2), run(1, 2)] == [True, False, True, False]
        # Who may write the folder may make room in it.
        assert {path.stat().st_uid for path in entries(space, str(shared))} == {1, 2}


# what is not to be trusted


def test_a_damaged_file_is_never_taken(space: Space, quick: Quick) -> None:
    body = 'echo VALUE > a.txt; cp a.txt "$OUMI_FLOW_OUTPUT_DIR/x"; date > out/a/log'

    def write(value: int) -> None:
        job = space.job("a", body.replace("VALUE", str(value)))
        space.workflow({**job, "outputs": ["a.txt", "${{ job.output_dir }}/x"]})

    write(1)
    quick()
    write(2)
    quick()
    (entry,) = entries(space)
    files = sorted(path.relative_to(entry) for path in entry.rglob("*") if path.is_file())
    assert len(files) == 5, files
    spare = space.root / "spare"
    subprocess.run(["cp", "-a", str(space.root / "out"), str(spare)], check=True)
    texts = space.read("a.txt")
    for file in files:
        for harm in ("cut", "flip", "remove", "fifo"):
            subprocess.run(["rm", "-rf", str(space.root / "out")], check=True)
            subprocess.run(["cp", "-a", str(spare), str(space.root / "out")], check=True)
            space.write("a.txt", texts)
            space.ran()
            victim = entry / file
            content = bytearray(victim.read_bytes())
            victim.unlink()
            if harm == "cut":
                victim.write_bytes(content[: len(content) // 2])
            elif harm == "flip":
                content[len(content) // 2] ^= 1
                victim.write_bytes(content)
            elif harm == "fifo":
                os.mkfifo(victim)
            write(1)
            quick()
            # The size only says how much room it takes.
            assert space.ran() == ([] if file.name == "size" else ["a"]), (file, harm)
            assert space.read("a.txt") == "1\n"
            assert space.read("out/a/x") == "1\n"
            assert "up to date" in quick()


def test_what_is_no_entry_is_none(space: Space, quick: Quick) -> None:
    two(space, 1)
    quick()
    two(space, 2)
    quick()
    keys = [path.name for path in entries(space)]

    def a_folder_for_a_trace(path: Path) -> None:
        path.mkdir()
        (path / "trace.json").mkdir()

    def a_trace_without_end(path: Path) -> None:
        path.mkdir()
        (path / "trace.json").symlink_to("/dev/zero")

    makers: list[Callable[[Path], object]] = [
        lambda path: path.write_text("x"),
        os.mkfifo,
        lambda path: path.symlink_to("/"),
        lambda path: path.symlink_to(path),
        Path.mkdir,
        a_folder_for_a_trace,
        a_trace_without_end,
    ]
    for number, make in enumerate(makers):
        for key in keys:
            path = space.root / CACHE / key
            subprocess.run(["rm", "-rf", str(path)], check=True)
            make(path)
        two(space, 1)
        space.ran()
        quick()
        assert space.ran() == ["a", "b"], number
        two(space, 2)
        quick()
        keys = [path.name for path in entries(space)]


@pytest.mark.parametrize("shared", [False, True])
def test_a_cache_that_cannot_be_one_is_told_and_done_without(space: Space, shared: bool) -> None:
    cache = space.root / ("shared" if shared else CACHE)
    cache.parent.mkdir(parents=True, exist_ok=True)
    makers: list[Callable[[Path], object]] = [
        lambda path: path.write_text("x"),
        os.mkfifo,
        lambda path: path.symlink_to(path),
    ]
    for make in makers:
        make(cache)
        for value in (1, 2):
            two(space, value)
            result = ok(space.run("--cache", "shared") if shared else space.run())
        assert "warning" in result.text
        assert "its result is not shared" in result.text or "is not kept" in result.text
        assert "Traceback" not in result.text
        assert space.ran() == ["a", "b"] * 2
        cache.unlink()
        for name in ("a.txt", "b.txt"):
            (space.root / name).unlink()
        subprocess.run(["rm", "-rf", str(space.root / CACHE)], check=True)


def test_an_entry_of_a_stranger_writes_nowhere_else(space: Space, quick: Quick) -> None:
    def write(value: int) -> None:
        space.workflow(
            space.job(
                "a", f'echo {value} > a.txt; echo x > "$OUMI_FLOW_OUTPUT_DIR/x"', outputs=["a.txt"]
            )
        )

    outside = space.root / "outside"
    outside.mkdir()
    write(1)
    quick("--cache", "shared")
    (entry,) = entries(space, "shared")
    (shelf,) = entry.glob("out.*")

    def other_names() -> None:
        (shelf / "b.txt").write_text("evil")

    def a_link_for_a_shelf() -> None:
        subprocess.run(["rm", "-r", str(shelf)], check=True)
        shelf.symlink_to(outside)
        (outside / "a.txt").write_text("1\n")

    def a_link_for_a_file() -> None:
        (shelf / "a.txt").unlink()
        (outside / "a.txt").write_text("1\n")
        (shelf / "a.txt").symlink_to(outside / "a.txt")

    def our_state() -> None:
        (entry / "folder/.oumi-flow").mkdir()
        (entry / "folder/.oumi-flow/done.json").write_text("{}")

    subprocess.run(["cp", "-a", str(entry), str(space.root / "spare")], check=True)
    for harm in (other_names, a_link_for_a_shelf, a_link_for_a_file, our_state):
        subprocess.run(["rm", "-rf", str(entry)], check=True)
        subprocess.run(["cp", "-a", str(space.root / "spare"), str(entry)], check=True)
        for path in outside.iterdir():
            path.unlink()
        harm()
        before = sorted(os.listdir(outside))
        (space.root / "a.txt").unlink()
        subprocess.run(["rm", "-rf", str(space.root / "out")], check=True)
        space.ran()
        quick("--cache", "shared")
        assert space.read("a.txt") == "1\n"
        assert not (space.root / "a.txt").is_symlink()
        assert not space.exists("b.txt")
        assert sorted(os.listdir(outside)) == before
        assert "up to date" in quick()
