"""Docs tell what is there: links, commands, reasons and the YAML they show."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from oumi_flow.flags import COMMANDS
from oumi_flow.load import schema
from oumi_flow.load.yaml_source import Source, parse
from oumi_flow.model import Code
from oumi_flow.verbs import VERBS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
# Made from a real run when a version is released.
PICTURES = {"docs/img/quickstart.svg"}
MACHINE_PATHS = re.compile(r"/(root|home/\w+|opt|work|Users)/")


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "#")) or target in PICTURES:
            continue
        file = (page.parent / target.partition("#")[0]).resolve()
        assert file.exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_workflows_shown_are_valid(page: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    for block in blocks:
        if not re.search(r"^name:", block, re.M):
            continue  # a part of one, or another tool's file
        problems = schema.check(parse(Source(page.name, block))).problems
        assert not problems, f"{block}\n{problems}"


def test_the_page_of_commands_is_made_from_the_table() -> None:
    made = runpy.run_path(str(DOCS / "make_cli_reference.py"))["page"]()
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert page == made, "run `python docs/make_cli_reference.py`"


def test_every_command_named_in_the_docs_exists() -> None:
    known = {name for name in COMMANDS if not name.startswith("_")}
    for page in PAGES:
        used = re.findall(r"(?:^\$ |`)oumi-flow ([a-z]+)", page.read_text(encoding="utf-8"), re.M)
        assert set(used) <= known, f"{page.name}: {set(used) - known}"


def test_every_verb_and_every_kind_of_reason_is_told() -> None:
    verbs = (DOCS / "reference" / "verbs.md").read_text(encoding="utf-8")
    for spec in VERBS:
        for name in (spec.name, *spec.aliases):
            assert f"`{name}`" in verbs
    reasons = (DOCS / "reference" / "staleness.md").read_text(encoding="utf-8")
    assert [code.value for code in Code] == re.findall(r"^\| ([a-z ]+?) \| [`]", reasons, re.M)


def test_every_decision_is_listed() -> None:
    index = (DOCS / "adr" / "index.md").read_text(encoding="utf-8")
    for page in (DOCS / "adr").glob("[0-9]*.md"):
        assert f"]({page.name})" in index, page.name
        assert re.search(r"^Status: .*20\d\d-\d\d-\d\d", page.read_text(encoding="utf-8"), re.M)


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        name = str(page.relative_to(DOCS))
        assert name in navigation or re.match(r"adr/\d", name), name


@pytest.mark.parametrize("mark", ["quickstart", "test"])
def test_readme_has_its_one_line_commands(mark: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.search(rf"^<!-- {mark} -->\n```bash\n(.*?)^```$", readme, re.M | re.S)
    assert match
    assert match[1].count("\n") == 1
    assert match[1].startswith("python3 -m venv ")


def test_no_path_of_somebodys_machine_is_told() -> None:
    for page in PAGES:
        assert not MACHINE_PATHS.search(page.read_text(encoding="utf-8")), page.name


def test_every_test_of_the_fault_table_exists() -> None:
    page = (DOCS / "explanation" / "faults.md").read_text(encoding="utf-8")
    told = set(re.findall(r"\b(test_\w+)`", page))
    files = [
        file
        for room in ("faults", "flow", "oumi", "ui", "unit")
        for file in ROOT.glob(f"tests/{room}/*.py")
    ]
    there = set(re.findall(r"^def (test_\w+)", "\n".join(f.read_text() for f in files), re.M))
    assert len(told) > 40
    assert told <= there, told - there
