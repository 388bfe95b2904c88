"""Templates: what `init` copies, and that it never overwrites."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oumi_flow import templates
from oumi_flow.errors import FlowError

FIVE = {
    "simple_train_eval",
    "parallel_eval",
    "hyperparameter_sweep",
    "multi_model_pipeline",
    "full_pipeline",
}


def test_every_template_says_in_a_line_what_it_is() -> None:
    found = templates.templates()
    assert {each.name for each in found} == FIVE | {"minimal", "hello", "quickstart"}
    assert all(20 < len(each.summary) < 100 for each in found)


def test_a_copy_holds_what_its_workflow_names_and_no_more(tmp_path: Path) -> None:
    written = templates.write("hyperparameter_sweep", str(tmp_path / "sweep"))
    names = {str(Path(path).relative_to(tmp_path / "sweep")) for path in written}
    assert names == {
        "workflow.yaml",
        "configs/hub/sweep.yaml",
        "configs/tiny/sweep.yaml",
        "configs/tiny/data/train.jsonl",
        "configs/tiny/data/validation.jsonl",
        "configs/tiny/model/config.json",
        "configs/tiny/model/generation_config.json",
        "configs/tiny/model/model.safetensors",
        "configs/tiny/model/tokenizer.json",
        "configs/tiny/model/tokenizer_config.json",
    }
    assert all(Path(path).is_file() for path in written)


def test_a_copied_workflow_speaks_of_itself(tmp_path: Path) -> None:
    templates.write("simple_train_eval", str(tmp_path))
    text = (tmp_path / "workflow.yaml").read_text()
    assert "oumi-flow run workflow.yaml --set preset=tiny" in text
    assert "simple_train_eval.yaml" not in text
    assert "schema.json" not in text  # the schema does not lie where the example has it


def test_results_of_a_run_in_a_checkout_are_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = tmp_path / "examples" / "quickstart"
    (example / "configs").mkdir(parents=True)
    (example / "outputs" / "train").mkdir(parents=True)
    (example / "outputs" / "train" / "model.safetensors").write_bytes(b"weights")
    (example / "configs" / "train.yaml").write_text("path: outputs/train/model.safetensors\n")
    (example / "workflow.yaml").write_text("config: configs/train.yaml\n")
    chosen = templates.Template("quickstart", "", str(example / "workflow.yaml"))
    assert list(templates.files(chosen)) == ["workflow.yaml", "configs/train.yaml"]


def test_nothing_is_written_where_a_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.yaml").write_text("mine\n")
    with pytest.raises(FlowError, match=r"configs/train\.yaml is there already"):
        templates.write("minimal", str(tmp_path))
    assert (tmp_path / "configs" / "train.yaml").read_text() == "mine\n"
    assert not (tmp_path / "workflow.yaml").exists()


def test_what_cannot_be_written_whole_leaves_nothing_in_the_way_of_the_next_try(
    tmp_path: Path,
) -> None:
    (tmp_path / "configs").write_text("a file where a folder is needed")
    with pytest.raises(FlowError, match="cannot write"):
        templates.write("minimal", str(tmp_path))
    assert os.listdir(tmp_path) == ["configs"]
    (tmp_path / "configs").unlink()
    assert len(templates.write("minimal", str(tmp_path))) > 1


def test_a_slip_of_the_pen_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(FlowError, match="full_pipeline") as caught:
        templates.write("full-pipline", "anywhere")
    assert "did you mean" in caught.value.hint
