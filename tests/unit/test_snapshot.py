"""A snapshot is taken where a full load would make the same, needs no YAML, and holds no secret."""

# ruff: noqa: E501  (a job of a workflow is read best in one line)

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import oumi_flow.load.build
from oumi_flow.disk import is_settled, stamp
from oumi_flow.load import load
from oumi_flow.load.snapshot import record_base, recorded_base
from oumi_flow.model import Workflow

TEXT = """
name: w
vars: {v: 1}
env: {A: "${SHELL_A:-none}", HF_TOKEN: "${HF_TOKEN}"}
resources: {gpus: [0, 1]}
jobs:
  - {name: t, verb: train, config: train.yaml, args: ["training.seed=${{ vars.v }}"], resources: {gpus: 2}}
  - {name: e, verb: evaluate, config: eval.yaml, args: ["model.model_name=${{ jobs.t.output_dir }}"]}
  - {name: n, uses: more.yaml}
"""
FILES = {
    "w.yaml": TEXT,
    "train.yaml": "model: {model_name: org/tiny}\ntraining: {max_steps: 2}\n",
    "eval.yaml": "tasks: [{task_name: toy}]\n",
    "more.yaml": "name: m\njobs: [{name: s, verb: shell, run: echo, outputs: [x.txt]}]\n",
}


class Space:
    """A project whose full loads are counted."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root / "project"
        self.home = root / "home"
        self.root.mkdir()
        self.loads = 0
        self.environ = {"OUMI_FLOW_HOME": str(self.home), "HF_TOKEN": "sesame-1234"}
        build = oumi_flow.load.build.build

        def counted(*args: Any, **kwargs: Any) -> Workflow:
            self.loads += 1
            return build(*args, **kwargs)

        monkeypatch.setattr(oumi_flow.load.build, "build", counted)
        monkeypatch.chdir(self.root)
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """Writes a file and returns once its stamp proves that later changes will be seen."""
        path = self.root / name
        path.write_text(text, encoding="utf-8")
        found = stamp(str(path))
        assert found is not None
        while not is_settled(found, time.time_ns()):
            os.sched_yield()

    def load(self, **sets: str) -> Workflow:
        return load("w.yaml", sets=sets, environ=self.environ)

    def is_full(self, act: Callable[[], object]) -> bool:
        """Whether the load after that is a full one; it leaves a good snapshot behind."""
        self.load()
        act()
        before = self.loads
        self.load()
        return self.loads > before

    @property
    def files(self) -> list[Path]:
        return sorted((self.home / "cache").glob("*.json"))


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Space:
    return Space(tmp_path, monkeypatch)


def test_the_second_load_is_the_first_one_again(space: Space) -> None:
    first = space.load()
    assert space.load() == first
    assert space.loads == 1


def test_a_snapshot_is_for_the_owner_alone(space: Space) -> None:
    space.load()
    assert [path.stat().st_mode & 0o777 for path in space.files] == [0o600]


@pytest.mark.parametrize("name", FILES)
def test_an_edit_of_any_file_that_was_read_is_seen(space: Space, name: str) -> None:
    assert space.is_full(lambda: space.write(name, FILES[name] + "# more\n"))


def test_a_model_that_appears_is_seen(space: Space) -> None:
    assert space.is_full(lambda: (space.root / "org/tiny").mkdir(parents=True))


def test_what_does_not_matter_is_no_reason(space: Space) -> None:
    def act() -> None:
        space.environ["UNRELATED"] = "x"
        space.environ["HF_TOKEN"] = "another"
        space.write("unrelated.txt", "x")

    assert not space.is_full(act)


def test_a_variable_that_the_file_names_matters(space: Space) -> None:
    assert space.is_full(lambda: space.environ.update(SHELL_A="x"))
    assert space.load().jobs[0].command.env["A"] == "x"


def test_a_secret_must_still_be_there(space: Space) -> None:
    space.load()
    del space.environ["HF_TOKEN"]
    with pytest.raises(Exception, match="HF_TOKEN"):
        space.load()


def test_sets_base_folder_and_version_matter(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    space.load()
    assert "--training.seed=2" in space.load(v="2").jobs[0].args
    assert space.loads == 2
    assert space.is_full(lambda: monkeypatch.setattr("oumi_flow.load.snapshot.__version__", "x"))
    for name in FILES:
        (space.root / "sub").mkdir(exist_ok=True)
        (space.root / "sub" / name).write_text(FILES[name])
    (space.root / "sub" / "w.yaml").unlink()
    (space.root / "sub" / "w.yaml").symlink_to(space.root / "w.yaml")
    assert space.is_full(lambda: monkeypatch.chdir(space.root / "sub"))


def test_keys_that_were_not_checked_are_checked_once(space: Space) -> None:
    space.load()
    asked = []
    for _ in range(2):
        load("w.yaml", sets={}, environ=space.environ, keys=lambda: asked.append(1))
    assert len(asked) == 1


@pytest.mark.parametrize(
    "damage",
    [b"", b"\0", b"{}", b"[1]\n[2]", b"{}\n{}", b'"x"\n', b"\xff\xfe", b"[" * 100_000, None],
)
def test_a_damaged_snapshot_is_a_full_load(space: Space, damage: bytes | None) -> None:
    def act() -> None:
        (file,) = space.files
        whole = file.read_bytes()
        file.write_bytes(whole[:-40] if damage is None else damage)

    assert space.is_full(act)


def test_a_snapshot_with_other_rows_is_a_full_load(space: Space) -> None:
    def act() -> None:
        (file,) = space.files
        head, top, first, *others = file.read_text().split("\n")
        row = json.loads(first)
        row.pop()
        file.write_text("\n".join([head, top, json.dumps(row), *others]))

    assert space.is_full(act)


def test_a_snapshot_that_lacks_a_job_is_a_full_load(space: Space) -> None:
    def act() -> None:
        (file,) = space.files
        file.write_text(file.read_text().rpartition("\n")[0])

    assert space.is_full(act)


def test_no_value_of_a_secret_is_kept(space: Space) -> None:
    space.load()
    assert "sesame" not in space.files[0].read_text()


def test_a_secret_written_out_in_the_file_is_not_kept_at_all(space: Space) -> None:
    space.write("w.yaml", TEXT.replace("${HF_TOKEN}", "sesame-literal"))
    space.load()
    assert space.files == []


def test_a_cache_that_cannot_be_written_is_no_error(space: Space) -> None:
    space.home.write_text("a file, not a folder")
    assert len(space.load().jobs) == 3


def test_the_base_folder_of_a_run_is_remembered(space: Space) -> None:
    assert recorded_base("w.yaml", space.environ) is None
    record_base("w.yaml", "/some/where", space.environ)
    assert recorded_base(str(space.root / "w.yaml"), space.environ) == "/some/where"
    (file,) = (space.home / "cache").glob("*.base")
    file.write_text("nonsense")
    assert recorded_base("w.yaml", space.environ) is None


def test_a_valid_snapshot_needs_no_yaml(space: Space) -> None:
    space.load()
    script = """
        import os, sys
        from oumi_flow.load import load
        from oumi_flow.load.snapshot import recorded_base
        assert len(load("w.yaml", sets={}, environ=os.environ).jobs) == 3
        heavy = {"yaml", "jsonschema", "networkx", "blake3", "asyncio", "subprocess", "rich"}
        print(sorted(heavy & set(sys.modules)))
        print(sorted(name for name in sys.modules if name.startswith("oumi_flow.load.")))
    """
    top = Path(oumi_flow.load.__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=space.root,
        env={**os.environ, **space.environ, "PYTHONPATH": str(top)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.split("\n")[:2] == ["[]", "['oumi_flow.load.snapshot']"]
