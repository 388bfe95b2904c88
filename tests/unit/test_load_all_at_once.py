"""Errors of all kinds are told together: what the schema refuses does not hide the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from oumi_flow.errors import WorkflowErrors
from oumi_flow.load import load


def errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> list[str]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.yaml").write_text(text)
    with pytest.raises(WorkflowErrors) as caught:
        load("w.yaml", sets={}, environ={"OUMI_FLOW_HOME": str(tmp_path / "home")})
    return [
        f"{problem.where.line}:{problem.where.column} {problem.message}"
        for problem in caught.value.problems
        if problem.where is not None
    ]


def test_schema_verbs_names_and_dependencies_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = errors(
        tmp_path,
        monkeypatch,
        "name: x\n"
        "timeout: soon\n"
        "jobs:\n"
        "  - {name: a, verb: trian, confg: c.yaml}\n"
        '  - {name: b, verb: shell, run: "true", depends_on: [aa], max_retries: "3"}\n'
        "  - {name: b, verb: shell, run: 3}\n"
        "  - {name: c, verb: infer, config: none.yaml}\n"
        '  - {name: d, verb: shell, run: "true", inputs: [gone.txt]}\n',
    )
    fragments = [
        ("2:10", "timeout"),
        ("4:21", 'unknown verb "trian"'),
        ("4:28", 'unknown key "confg"'),
        ("5:54", 'no job "aa"'),
        ("5:72", "max_retries"),
        ("6:12", 'a second job named "b"'),
        ("6:33", "run"),
        ("7:36", "none.yaml"),
        ("8:50", "gone.txt"),
    ]
    assert [line.split()[0] for line in told] == [place for place, _ in fragments], told
    for line, (_, words) in zip(told, fragments, strict=True):
        assert words in line


def test_what_was_taken_out_leads_to_no_further_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = errors(
        tmp_path,
        monkeypatch,
        "name: x\n"
        "jobs:\n"
        '  - {name: a, verb: shell, run: "true", outputs: 3}\n'
        '  - {name: b, verb: shell, run: "cat ${{ jobs.a.outputs.0 }}"}\n'
        '  - {name: c, verb: shell, run: "true", depends_on: [a, b]}\n',
    )
    assert len(told) == 1, told
    assert told[0].startswith("3:50 ")
