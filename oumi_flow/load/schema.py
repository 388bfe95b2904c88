"""Checks nodes against schema/workflow.schema.json and says what is wrong in plain words.

The schema is compiled into small functions over nodes, for the part of JSON Schema 2020-12 that it
uses; a test holds them to the `jsonschema` package. Text with `${` in it, where the schema asks for
something else, is noted as `late` and checked again once it is filled in. Knows no rule about
workflows that the schema does not state.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import cache

from oumi_flow.errors import Problem
from oumi_flow.load.yaml_source import Node, scalar
from oumi_flow.text import did_you_mean
from oumi_flow.typed import Any

Json = Any


class Report:
    """What a check found. `final`: expressions are filled in, so none may be left."""

    __slots__ = ("final", "late", "problems")

    def __init__(self, final: bool = False) -> None:
        self.problems: list[Problem] = []
        self.late: dict[int, tuple[Check, str]] = {}  # by id of the node
        self.final = final


Check = Callable[[Node, str, Report], None]


def schema_path() -> str:
    """The schema's file: inside the installed package, else beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.join(package, "schema", "workflow.schema.json")
    if os.path.exists(installed):
        return installed
    return os.path.join(os.path.dirname(package), "schema", "workflow.schema.json")


def schema_text() -> str:
    """The schema's file as it is."""
    with open(schema_path(), encoding="utf-8") as file:
        return file.read()


@cache
def read_schema() -> Mapping[str, Json]:
    """The schema as JSON."""
    loaded: dict[str, Json] = json.loads(schema_text())
    return loaded


@cache
def compiled() -> _Compiler:
    return _Compiler(read_schema())


def check(root: Node) -> Report:
    """Everything about a workflow document that the schema does not allow."""
    report = Report()
    compiled().check(read_schema())(root, "", report)
    return report


def check_late(node: Node, text: str, late: tuple[Check, str]) -> tuple[Any, list[Problem]]:
    """The value that a filled-in expression has where it stands, and what is wrong with it.

    It stays text where text fits, else it means what it would mean unquoted in the file.
    """
    checker, label = late
    for value in (text, scalar(text)):
        report = Report(final=True)
        checker(Node(value, node.at, node.source, text), label, report)
        if not report.problems:
            break
    return value, report.problems


_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def describe(node: Node) -> str:
    """What is there, as a reader of the file would say."""
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = node.text if len(node.text) <= 60 else node.text[:57] + "…"
    if isinstance(value, str):
        shown = json.dumps(text, ensure_ascii=False)
        return f"{shown} (text)" if scalar(node.text) != node.text else shown
    return text or str(value)


def _is_type(value: Any, name: str) -> bool:
    """JSON Schema's types, with no number for a bool, and none that JSON could not hold."""
    if name == "object":
        return isinstance(value, dict)
    if name == "array":
        return isinstance(value, list)
    if name == "string":
        return isinstance(value, str)
    if name == "boolean":
        return isinstance(value, bool)
    if name == "null":
        return value is None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if isinstance(value, float) and not abs(value) < float("inf"):
        return False
    return name == "number" or value == int(value)


class _Compiler:
    """Turns a schema into a check; one function a keyword, each added only where it is used."""

    def __init__(self, root: Mapping[str, Json]) -> None:
        self.root = root
        self.refs: dict[str, Check] = {}

    def resolve(self, schema: Mapping[str, Json]) -> Mapping[str, Json]:
        """The schema that a `$ref` stands for."""
        while "$ref" in schema:
            found: Json = self.root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def check(self, schema: Mapping[str, Json]) -> Check:
        """The check of a schema. Raises KeyError on a keyword that it does not know."""
        if "$ref" in schema:
            return self._check_ref(schema["$ref"])
        if schema == self.root["$defs"]["expression"]:
            return _expression
        checks = [
            made
            for keyword in schema
            if keyword not in _SAYS_NOTHING and (made := _KEYWORDS[keyword](self, schema))
        ]
        if len(checks) == 1:
            return checks[0]

        def check_all(node: Node, label: str, report: Report) -> None:
            before = len(report.problems)
            for each in checks:
                each(node, label, report)
                if len(report.problems) > before:
                    return  # further keywords would say the same again

        return check_all

    def _check_ref(self, ref: str) -> Check:
        if ref not in self.refs:
            # Schemas may hold themselves: the name is taken before the check is made.
            self.refs[ref] = lambda node, label, report: self.refs[ref](node, label, report)
            self.refs[ref] = self.check(self.resolve({"$ref": ref}))
        return self.refs[ref]

    def expected(self, schema: Mapping[str, Json]) -> str:
        schema = self.resolve(schema)
        if "title" in schema:
            return str(schema["title"])
        kind = schema.get("type", "")
        kinds = kind if isinstance(kind, list) else [kind]
        return " or ".join(_WORDS.get(each, "something else") for each in kinds)


def _say(node: Node, label: str, expected: str, report: Report, hint: str = "") -> None:
    what = f"{label}: " if label else ""
    report.problems.append(node.problem(f"{what}expected {expected}, got {describe(node)}", hint))


def _expression(node: Node, label: str, report: Report) -> None:
    if isinstance(node.value, str) and "${" in node.value and not report.final:
        return
    _say(node, label, "an expression", report)


def _type(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
    wanted = schema["type"]
    names = wanted if isinstance(wanted, list) else [wanted]
    expected = compiler.expected(schema)

    def check(node: Node, label: str, report: Report) -> None:
        for name in names:
            if _is_type(node.value, name):
                return
        _say(node, label, expected, report, _type_hint(names, node))

    return check


_QUOTE_IT, _NO_QUOTES = "quote it", "leave out the quotes"


def _type_hint(names: list[str], node: Node) -> str:
    value = node.value
    if "string" in names and not isinstance(value, (dict, list, str)):
        return f'{_QUOTE_IT}: "{node.text}"' if node.text else 'an empty text is written ""'
    if "array" in names and isinstance(value, str) and value:
        return f"a list is written [{node.text}]" if len(node.text) <= 40 else ""
    if "boolean" in names and node.text.lower() in ("yes", "no", "on", "off", "y", "n"):
        return "write true or false"
    if isinstance(value, str) and _is_type(scalar(node.text), names[0]):
        return _NO_QUOTES
    return ""


def _properties(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
    """`properties` and `additionalProperties` together, as each key meets one of them."""
    known = {key: compiler.check(each) for key, each in schema.get("properties", {}).items()}
    others = schema.get("additionalProperties", True)
    other = compiler.check(others) if isinstance(others, Mapping) else None
    allowed = others is not False

    def check(node: Node, label: str, report: Report) -> None:
        if not isinstance(node.value, dict):
            return
        prefix = f"{label}." if label else ""
        for key, value in node.value.items():
            each = known.get(key, other)
            if each is not None:
                each(value, prefix + key if prefix else key, report)
            elif not allowed and key not in known:
                hint = did_you_mean(key, known) or f"known: {', '.join(known)}"
                inside = f" in {label}" if label else ""
                message = f'unknown key "{key}"{inside}'
                report.problems.append(Problem(message, node.key_where(key), hint))

    return check


def _additional(compiler: _Compiler, schema: Mapping[str, Json]) -> Check | None:
    return None if "properties" in schema else _properties(compiler, schema)


def _required(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
    names = schema["required"]
    what = compiler.expected(schema)

    def check(node: Node, label: str, report: Report) -> None:
        if not isinstance(node.value, dict):
            return
        for name in names:
            if name not in node.value:
                hint = did_you_mean(name, node.value)
                if hint:
                    hint = f'is "{hint[14:-2]}" a slip of it?'
                report.problems.append(
                    node.problem(f'{label or what}: the key "{name}" is missing', hint)
                )

    return check


def _property_names(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
    names = schema["propertyNames"]
    pattern = re.compile(names["pattern"])

    def check(node: Node, label: str, report: Report) -> None:
        if not isinstance(node.value, dict):
            return
        for key in node.value:
            if not pattern.search(key):
                where = node.key_where(key)
                message = f'{label}: expected {compiler.expected(names)}, got the key "{key}"'
                report.problems.append(Problem(message, where))

    return check


def _items(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
    item = compiler.check(schema["items"])

    def check(node: Node, label: str, report: Report) -> None:
        if isinstance(node.value, list):
            for number, each in enumerate(node.value):
                item(each, f"{label}[{number}]", report)

    return check


def _enum(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
    values = schema["enum"]
    expected = f"one of {', '.join(map(str, values))}" if len(values) > 1 else str(values[0])

    def check(node: Node, label: str, report: Report) -> None:
        if not isinstance(node.value, str) or node.value not in values:
            _say(node, label, expected, report, did_you_mean(node.text, map(str, values)))

    return check


def _any_of(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
    """The first branch that fits, else one sentence for all; never a list of branches."""
    branches = [compiler.check(each) for each in schema["anyOf"]]
    kinds = [compiler.resolve(each) for each in schema["anyOf"]]
    expected = compiler.expected(schema)
    names = [
        kind.get("type", "")
        for kind, branch in zip(kinds, branches, strict=True)
        if branch is not _expression and isinstance(kind.get("type", ""), str)
    ] or [""]

    def check(node: Node, label: str, report: Report) -> None:
        closest: list[Problem] = []
        for branch, kind in zip(branches, kinds, strict=True):
            inner = Report(report.final)
            branch(node, label, inner)
            if not inner.problems:
                report.late.update(inner.late)
                if branch is _expression:
                    report.late[id(node)] = (check, label)
                return
            # A list or mapping that is wrong inside is told by what is wrong inside.
            if isinstance(node.value, (dict, list)) and _is_type(node.value, kind.get("type", "")):
                closest = inner.problems
        if closest:
            report.problems.extend(closest)
            return
        words = [each for kind in kinds for each in kind.get("enum", ())]
        hint = did_you_mean(node.text, map(str, words))
        hint = hint or _type_hint(names, node)
        if hint.startswith((_QUOTE_IT, _NO_QUOTES)):  # only where that would do
            other = scalar(node.text) if isinstance(node.value, str) else node.text
            hint = hint if fits(other, node) else ""
        _say(node, label, expected, report, hint)

    def fits(value: Any, node: Node) -> bool:
        for branch in branches:
            inner = Report(final=True)
            branch(Node(value, node.at, node.source, node.text), "", inner)
            if not inner.problems:
                return True
        return False

    return check


def _pattern(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
    pattern = re.compile(schema["pattern"])

    def check(node: Node, label: str, report: Report) -> None:
        if isinstance(node.value, str) and not pattern.search(node.value):
            _say(node, label, compiler.expected(schema), report)

    return check


def _minimum(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
    least = schema["minimum"]

    def check(node: Node, label: str, report: Report) -> None:
        if _is_type(node.value, "number") and node.value < least:
            _say(node, label, f"at least {least}", report)

    return check


def _at_least(
    word: str, kind: type[str] | type[list[Any]] | type[dict[str, Any]], noun: str
) -> Callable[[_Compiler, Mapping[str, Json]], Check]:
    """`minLength`, `minItems`, `minProperties`: all that the format asks for is "not empty"."""

    def make(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
        least = schema[word]

        def check(node: Node, label: str, report: Report) -> None:
            if isinstance(node.value, kind) and len(node.value) < least:
                what = f"{label}: " if label else ""
                got = f"got an empty {noun}"
                report.problems.append(
                    node.problem(f"{what}expected {compiler.expected(schema)}, {got}")
                )

        return check

    return make


def _unique(compiler: _Compiler, schema: Mapping[str, Json]) -> Check:
    def check(node: Node, label: str, report: Report) -> None:
        if not isinstance(node.value, list):
            return
        seen: list[Any] = []
        for each in node.value:
            value = each.plain()
            if value in seen:
                report.problems.append(each.problem(f"{label}: {each.text} is named twice"))
            seen.append(value)

    return check


_SAYS_NOTHING = frozenset({"$schema", "$defs", "title", "description", "default", "examples"})
_KEYWORDS: dict[str, Callable[[_Compiler, Mapping[str, Json]], Check | None]] = {
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "required": _required,
    "propertyNames": _property_names,
    "items": _items,
    "enum": _enum,
    "anyOf": _any_of,
    "pattern": _pattern,
    "minimum": _minimum,
    "minLength": _at_least("minLength", str, "text"),
    "minItems": _at_least("minItems", list, "list"),
    "minProperties": _at_least("minProperties", dict, "mapping"),
    "uniqueItems": _unique,
}
