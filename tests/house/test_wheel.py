"""The wheel holds what an installation needs beyond the modules, and nothing that a try left."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from oumi_flow import templates

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def test_it_holds_every_module_the_schema_and_the_type_marker(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "oumi_flow").rglob("*.py")}
    assert modules <= names
    assert "oumi_flow/py.typed" in names
    schema = wheel.read("oumi_flow/schema/workflow.schema.json")
    assert schema == (ROOT / "schema" / "workflow.schema.json").read_bytes()


def test_it_holds_every_file_of_every_template(wheel: zipfile.ZipFile) -> None:
    wanted = {
        "oumi_flow/" + str(Path(source).relative_to(ROOT))
        for each in templates.templates()
        for source in templates.files(each).values()
    }
    assert wanted <= set(wheel.namelist())


def test_it_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    folders = {name.split("/")[1] for name in wheel.namelist() if name.startswith("oumi_flow/")}
    assert not {"outputs", "tests", "docs"} & folders
    strange = [
        name
        for name in wheel.namelist()
        if "__pycache__" in name or "/outputs/" in name or name.startswith(("tests/", "docs/"))
    ]
    assert not strange


def test_it_names_its_licence_and_its_command(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    (entry,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "oumi-flow = oumi_flow.cli:main" in wheel.read(entry).decode()
