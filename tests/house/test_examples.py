"""Everything in `examples/` is valid and is what it claims to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from oumi_flow import templates
from oumi_flow.load import load
from oumi_flow.model import Workflow

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SWITCHED = sorted(path.name for path in (EXAMPLES / "workflows").glob("*.yaml"))


def loaded(monkeypatch: pytest.MonkeyPatch, folder: str, file: str, **sets: str) -> Workflow:
    monkeypatch.chdir(EXAMPLES / folder)
    return load(file, sets=sets, environ={"PATH": "/usr/bin:/bin"}, snapshot=False)


@pytest.mark.parametrize("folder", ["hello", "minimal", "quickstart"])
def test_single_examples_are_valid(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    assert loaded(monkeypatch, folder, "workflow.yaml").jobs


@pytest.mark.parametrize("preset", ["hub", "tiny"])
@pytest.mark.parametrize("file", SWITCHED)
def test_workflows_are_valid_with_both_presets(
    monkeypatch: pytest.MonkeyPatch, file: str, preset: str
) -> None:
    assert loaded(monkeypatch, "workflows", file, preset=preset).jobs


@pytest.mark.parametrize("file", SWITCHED)
def test_a_preset_changes_configs_but_neither_jobs_nor_edges(
    monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    hub = loaded(monkeypatch, "workflows", file)
    tiny = loaded(monkeypatch, "workflows", file, preset="tiny")
    assert [(job.name, job.upstream) for job in hub.jobs] == [
        (job.name, job.upstream) for job in tiny.jobs
    ]


def test_the_quickstart_has_every_verb_and_needs_no_depends_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workflow = loaded(monkeypatch, "quickstart", "workflow.yaml")
    assert {job.verb for job in workflow.jobs} == {
        "shell",
        "synth",
        "train",
        "evaluate",
        "infer",
        "judge",
        "quantize",
        "tune",
    }
    assert "depends_on" not in "".join(
        line
        for line in (EXAMPLES / "quickstart" / "workflow.yaml").read_text().splitlines()
        if not line.startswith("#")
    )
    assert {job.name: set(job.upstream) for job in workflow.jobs} == {
        "setup": set(),
        "synth": {"setup"},
        "train": {"setup", "synth"},
        "evaluate": {"setup", "train"},
        "infer": {"setup", "train"},
        "judge": {"infer"},
        "quantize": {"train"},
        "tune": {"setup"},
    }


def test_the_sweep_has_eight_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = loaded(monkeypatch, "workflows", "hyperparameter_sweep.yaml")
    assert len(workflow.jobs) == 8
    assert len({job.fingerprint for job in workflow.jobs}) == 8


def test_the_tiny_model_is_made_alike_each_time_and_is_the_one_the_workflows_use(
    tmp_path: Path,
) -> None:
    for name in ("one", "two"):
        subprocess.run(
            [sys.executable, EXAMPLES / "quickstart" / "make_tiny_model.py", tmp_path / name],
            check=True,
            capture_output=True,
        )
    made = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert made
    for path in made:
        content = (tmp_path / "one" / path).read_bytes()
        assert content == (tmp_path / "two" / path).read_bytes(), path
        shared = EXAMPLES / "workflows" / "configs" / "tiny" / path
        assert not shared.exists() or content == shared.read_bytes(), path
    model = EXAMPLES / "workflows" / "configs" / "tiny" / "model"
    assert {path.name for path in model.iterdir()} == {
        path.name for path in (tmp_path / "one" / "model").iterdir()
    }


def test_every_example_is_a_template_that_is_valid_where_it_is_copied_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for each in templates.templates():
        templates.write(each.name, str(tmp_path / each.name))
        monkeypatch.chdir(tmp_path / each.name)
        for sets in ({}, {"preset": "tiny"}) if each.name in _switched_names() else ({},):
            assert load("workflow.yaml", sets=sets, environ={}, snapshot=False).jobs, each.name


def _switched_names() -> set[str]:
    return {name.removesuffix(".yaml") for name in SWITCHED}
