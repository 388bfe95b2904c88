"""What is wrong with a workflow is told with its place, in words, and all of it at once."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.errors import FlowError
from oumi_flow.load import load

TABLE = runpy.run_path(str(Path(__file__).parents[1] / "flow" / "bad" / "cases.py"))
CASES: list[Any] = TABLE["CASES"]


def test_the_table_is_large_and_its_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 70


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_broken_workflow_is_refused_with_its_place(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    environ = {"PATH": "/bin:/usr/bin", "OUMI_DIR": str(tmp_path / "fetched"), **case.environ}
    with pytest.raises(FlowError) as raised:
        load("workflow.yaml", sets=case.sets, environ=environ, snapshot=False)
    found = [problem for problem in raised.value.problems if case.message in problem.message]
    assert found, str(raised.value)
    place = str(found[0].where) if found[0].where else found[0].message.partition(":")[0]
    assert place == case.expected_place, str(raised.value)
    assert case.hint in found[0].hint
    assert len(raised.value.problems) == 1, str(raised.value)
    if found[0].where and found[0].where.line and "UTF" not in case.name and case.name != "binary":
        line = found[0].where.source
        assert found[0].where.column <= len(line) + 1


@pytest.mark.parametrize("text", ["-1", '"-1"', "true"])
def test_no_spelling_is_advised_that_would_not_do_either(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = f"{{name: a, verb: shell, run: x, retry_delay: {text}}}"
    Path("w.yaml").write_text(f"name: w\njobs: [{job}]\n")
    with pytest.raises(FlowError) as raised:
        load("w.yaml", sets={}, environ={}, snapshot=False)
    assert [problem.hint for problem in raised.value.problems] == [""]
