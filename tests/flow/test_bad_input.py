"""What a user sees of a broken workflow: place, message, the line with a caret; no traceback."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TABLE = runpy.run_path(str(Path(__file__).parent / "bad" / "cases.py"))
# Every start of an interpreter costs; the unit tests go through all of the table.
CASES: list[Any] = TABLE["CASES"][::4]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_broken_workflow_ends_in_2_and_a_place(case: Any, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    case.write(folder)
    # An oumi that cannot be asked for its keys, so that nothing depends on the one installed.
    stub = tmp_path / "oumi"
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith("OUMI")},
        "OUMI_FLOW_HOME": str(tmp_path / "home"),
        "OUMI_DIR": str(tmp_path / "fetched"),
        "OUMI_FLOW_OUMI": str(stub),
        "NO_COLOR": "1",
        **case.environ,
    }
    words = [word for name, value in case.sets.items() for word in ("--set", f"{name}={value}")]
    result = subprocess.run(
        [sys.executable, "-m", "oumi_flow", "validate", "workflow.yaml", *words],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert case.message in result.stderr
    assert case.expected_place in result.stderr
    lineless = "UTF" in case.name or case.name in ("binary", "empty file")
    if case.expected_place.count(":") == 2 and not lineless:
        assert "^" in result.stderr
    assert list(folder.glob("outputs")) == []
