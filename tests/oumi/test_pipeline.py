"""The whole tool with the whole oumi: all seven verbs in one workflow, then what reruns and why.

The quickstart is the workflow, so this also shows that what the README tells to run does run.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oumi_flow.oumi_cli import python_of

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
HEAVY = (
    "yaml",
    "jsonschema",
    "networkx",
    "rich",
    "textual",
    "filelock",
    "pynvml",
    "blake3",
    "oumi",
)


class Project:
    def __init__(self, root: Path, oumi: tuple[str, ...]) -> None:
        self.root = root / "quickstart"
        shutil.copytree(QUICKSTART, self.root, ignore=shutil.ignore_patterns("outputs"))
        config = self.root / "configs/train.yaml"
        text, found = re.subn(r"(learning_rate:) \S+", r"\1 1e-3", config.read_text())
        assert found == 1
        config.write_text(text)
        self.env = {
            **os.environ,
            "OUMI_FLOW_HOME": str(root / "home"),
            "OUMI_FLOW_OUMI": shlex.join(oumi),
            # The first job is a script that wants oumi's packages.
            "PATH": os.path.dirname(python_of(oumi) or "") + os.pathsep + os.environ["PATH"],
        }

    def run(self, *args: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "oumi_flow", "run", "workflow.yaml", "--no-tui", *args],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        text = done.stdout + done.stderr
        assert "Traceback" not in done.stderr, text
        assert done.returncode == 0, text
        return text

    def plan(self, *args: str) -> dict[str, dict[str, object]]:
        """Decision and reasons of each job, from the events of a dry run."""
        lines = self.run("--dry-run", "--json", *args).splitlines()
        rows = next(event["rows"] for line in lines if "rows" in (event := json.loads(line)))
        return {row["job"]: row for row in rows}

    def decisions(self, *args: str) -> dict[str, object]:
        return {job: row["decision"] for job, row in self.plan(*args).items()}

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        text = file.read_text()
        assert old in text, f"{path} does not say {old!r}"
        file.write_text(text.replace(old, new))

    def made(self, job: str) -> Path:
        return self.root / "outputs" / "quickstart" / job


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, oumi: tuple[str, ...]) -> Project:
    """The quickstart, built once."""
    project = Project(tmp_path_factory.mktemp("pipeline"), oumi)
    text = project.run()
    assert "8 done" in text, text
    return project


def up_to_date(project: Project, *args: str) -> bool:
    return set(project.decisions(*args).values()) == {"up to date"}


def test_every_verb_wrote_its_result(project: Project) -> None:
    made = project.made
    assert len(made("synth").joinpath("data.jsonl").read_text().splitlines()) > 0
    assert (made("train") / "model.safetensors").exists()
    results = json.loads((made("evaluate") / "results.json").read_text())
    assert all(isinstance(v, (int, float)) for task in results.values() for v in task.values())
    assert (made("infer") / "predictions.jsonl").read_text()
    assert (made("judge") / "judgments.jsonl").read_text()
    assert list((made("quantize") / "model").glob("*.safetensors"))
    assert (made("tune") / "trials_results.csv").exists()


def test_the_second_run_starts_no_process_and_imports_nothing_heavy(
    project: Project, tmp_path: Path
) -> None:
    project.run()  # whatever stamps were too young have been looked at by now
    seen = tmp_path / "seen"
    watcher = tmp_path / "sitecustomize.py"
    watcher.write_text(
        "import atexit, sys\n"
        "started = []\n"
        "names = ('subprocess.Popen', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.exec')\n"
        "sys.addaudithook(lambda name, args: started.append(name) if name in names else None)\n"
        f"atexit.register(lambda: open({str(seen)!r}, 'w').write("
        "'\\n'.join([*started, '--', *sys.modules])))\n"
    )
    env = dict(project.env)
    project.env["PYTHONPATH"] = str(tmp_path)
    try:
        text = project.run()
    finally:
        project.env = env
    assert text.strip() == "quickstart: up to date (8 jobs)"
    started, modules = seen.read_text().split("--\n")
    assert started.strip() == ""
    assert not set(HEAVY) & set(modules.split())


def test_comments_and_order_of_keys_rerun_nothing(project: Project) -> None:
    config = project.root / "configs/train.yaml"
    before = config.read_text()
    config.write_text("# a remark\n" + before.replace("\n", "  # another\n", 1))
    assert up_to_date(project)
    head, _, training = before.partition("training:\n")
    keys = training.splitlines()
    config.write_text("training:\n" + "\n".join(reversed(keys)) + "\n" + head)
    assert up_to_date(project)
    config.write_text(before)
    assert up_to_date(project)


def test_a_key_that_cannot_change_the_result_reruns_nothing(project: Project) -> None:
    project.edit("configs/train.yaml", "logging_steps: 5", "logging_steps: 1")
    assert up_to_date(project)
    project.edit("configs/train.yaml", "logging_steps: 1", "logging_steps: 5")


def test_another_learning_rate_reruns_train_and_says_so(project: Project) -> None:
    project.edit("configs/train.yaml", "learning_rate: 1e-3", "learning_rate: 2e-3")
    plan = project.plan()
    assert plan["train"]["decision"] == "run"
    words = "config changed: training.learning_rate: 0.001 → 0.002"
    assert plan["train"]["reasons"] == [words]
    assert words in project.run("--dry-run")
    assert plan["evaluate"]["decision"] == "may run"
    assert plan["setup"]["decision"] == plan["synth"]["decision"] == "up to date"
    # Said by `args` it is the same thing: the file's 0.002, overridden with 0.001, is as built.
    project.edit(
        "workflow.yaml",
        "verb: train, config: configs/train.yaml",
        "verb: train, config: configs/train.yaml, args: [training.learning_rate=0.001]",
    )
    assert up_to_date(project)
    project.edit("workflow.yaml", ", args: [training.learning_rate=0.001]", "")
    project.edit("configs/train.yaml", "learning_rate: 2e-3", "learning_rate: 1e-3")
    assert up_to_date(project)


def test_dependents_follow_only_changed_weights(project: Project) -> None:
    targets = ("infer", "judge")
    text = project.run(*targets, "--force", "train")
    assert "forced by --force" in text
    assert "1 done" in text, "the same weights came out, and something followed"
    # Really another model: everything after it follows.
    project.edit("configs/train.yaml", "learning_rate: 1e-3", "learning_rate: 2e-3")
    text = project.run(*targets)
    assert "train made a new" in text
    assert "infer" in text
    assert up_to_date(project, *targets)


def test_metrics_come_from_the_verbs_own_files(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "oumi_flow", "metrics", "workflow.yaml", "--json"],
        cwd=project.root,
        env=project.env,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {row["job"]: row["metrics"] for row in json.loads(done.stdout)}
    assert "train_loss" in rows["train"]
    assert rows["evaluate"]
    assert rows["judge"]
