"""The schema, the Job, the verb table, the reference and the examples speak of the same fields."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_flow.errors import FlowError
from oumi_flow.load import schema
from oumi_flow.load.yaml_source import Source, parse
from oumi_flow.model import Job
from oumi_flow.verbs import VERBS

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "schema" / "workflow.schema.json").read_text(encoding="utf-8"))
JOB = SCHEMA["$defs"]["job"]["properties"]
ORACLE = jsonschema.Draft202012Validator(SCHEMA)
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
CASES = runpy.run_path(str(ROOT / "tests" / "flow" / "bad" / "cases.py"))

# Fields of a job under another name, or made into others, or gone after loading.
SPOKEN_OF_ELSEWHERE = {
    "resources": {"gpu", "executor"},
    "max_retries": {"retry"},
    "retry_delay": {"retry"},
    "retry_backoff": {"retry"},
    "run": {"command"},
    "workdir": {"command"},
    "judge": {"command"},
    "env": {"command", "secret_env"},
    "fingerprint": {"parts", "fingerprint"},
    "matrix": {"name"},
    "uses": {"name"},
    "vars": {"name"},
}
MADE_BY_LOADING = {"folder", "place", "implied", "upstream", "where"}


def documented(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of the schema with its path."""
    for name, each in node.get("properties", {}).items():
        yield f"{path}{name}", each
        yield from documented(each, f"{path}{name}.")
    if isinstance(node.get("items"), dict):
        yield from documented(node["items"], f"{path}[].")


ALL = [*documented(SCHEMA), *((f"job.{k}", v) for k, v in documented(SCHEMA["$defs"]["job"]))]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(("path", "property_"), ALL, ids=[path for path, _ in ALL])
def test_every_field_is_described_with_an_example_that_fits(path: str, property_: Any) -> None:
    if path.startswith("defaults."):
        assert property_ == {"$ref": f"#/$defs/job/properties/{path.removeprefix('defaults.')}"}
        return
    assert property_["description"].endswith((".", ")"))
    assert property_["examples"]
    validator = ORACLE.evolve(schema={**property_, "$defs": SCHEMA["$defs"]})
    for example in property_["examples"]:
        assert list(validator.iter_errors(example)) == []
    if "default" in property_:
        assert validator.is_valid(property_["default"])


def test_every_field_of_a_job_arrives_in_the_job() -> None:
    names = {field.name for field in fields(Job)}
    reached = set().union(*(SPOKEN_OF_ELSEWHERE.get(name, {name}) for name in JOB))
    assert reached | MADE_BY_LOADING == names


def test_defaults_are_those_of_the_model() -> None:
    model = {field.name: field.default for field in fields(Job)}
    for name in ("priority", "always_run", "warm", "cache"):
        assert JOB[name]["default"] == model[name]


def test_defaults_may_hold_every_field_of_a_job_but_its_identity() -> None:
    assert set(SCHEMA["properties"]["defaults"]["properties"]) == set(JOB) - {
        "name",
        "uses",
        "vars",
    }


def test_the_schema_offers_the_verbs_of_the_table() -> None:
    offered = set(JOB["verb"]["anyOf"][0]["enum"])
    assert offered == {name for spec in VERBS for name in (spec.name, *spec.aliases)}


def test_the_reference_speaks_of_every_field() -> None:
    text = (ROOT / "docs" / "reference" / "workflow.md").read_text(encoding="utf-8")
    for path, property_ in ALL:
        if not path.startswith("defaults."):
            assert f"`{path.rpartition('.')[2]}`" in text, path
            for value in (
                each for branch in property_.get("anyOf", ()) for each in branch.get("enum", ())
            ):
                assert f"`{value}`" in text, (path, value)


def workflows() -> list[Path]:
    found = []
    for path in EXAMPLES:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and "jobs" in value:
            found.append(path)
    return found


@pytest.mark.parametrize("path", workflows(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_fits_the_schema(path: Path) -> None:
    node = parse(Source(str(path), path.read_text(encoding="utf-8")))
    assert schema.check(node).problems == []
    assert list(ORACLE.iter_errors(node.plain())) == []


# ------------------------------------------------------ our checker and jsonschema agree


def agrees(text: str) -> bool:
    """Whether both say the same of a document."""
    try:
        node = parse(Source("w.yaml", text))
    except FlowError:
        return True
    return bool(schema.check(node).problems) is not ORACLE.is_valid(node.plain())


BROKEN = [case for case in CASES["CASES"] if isinstance(case.text, str)]


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_both_checkers_agree_on_broken_workflows(case: Any) -> None:
    # JSON knows no infinity, so jsonschema has nothing to say of it.
    assert agrees(case.text.replace(CASES["MARK"], "")) or ".inf" in case.text


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.sampled_from(
        [0.5, 1.0, -0.5, "", "a", "2h", "90", "${{ vars.x }}", "auto", "fixed", "5GB"]
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["a", "gpu", "gpus", "1x", "include", "name"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([path for path, _ in ALL if not path.startswith("defaults.")]), values)
def test_both_checkers_agree_on_any_value_of_any_field(path: str, value: object) -> None:
    job: dict[str, object] = {"name": "a"}
    document: dict[str, Any] = {"name": "w", "jobs": [job]}
    top, _, rest = path.partition(".")
    holder = job if top == "job" else document
    names = rest.split(".") if top == "job" else path.replace(".[]", "").split(".")
    for name in names[:-1]:
        holder = holder.setdefault(name, {"name": "r"} if name == "remote" else {})  # type: ignore[assignment]
    if isinstance(holder, dict):
        holder[names[-1]] = value
    assert agrees(json.dumps(document))
