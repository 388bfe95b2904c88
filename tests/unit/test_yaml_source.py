"""YAML means what its version 1.2 says, values know their places, hostile files are refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_flow.errors import FlowError, WorkflowErrors
from oumi_flow.load.yaml_source import Source, decode, parse, scalar


def read(text: str) -> Any:
    return parse(Source("f.yaml", text)).plain()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e-4", 1e-4),
        ("1.0e3", 1000.0),
        (".5", 0.5),
        ("6.", 6.0),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("off", "off"),
        ("null", None),
        ("~", None),
        ("nUll", "nUll"),
        ("2026-01-03", "2026-01-03"),
        ("-", "-"),
        (".", "."),
        ("+.inf", float("inf")),
        ("1e", "1e"),
        ("0b1", "0b1"),
    ],
)
def test_a_plain_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_quotes_make_text_of_anything() -> None:
    assert read("a: '1'\nb: \"true\"\nc: |\n  5\n") == {"a": "1", "b": "true", "c": "5\n"}


def test_every_value_and_key_knows_its_place_and_spelling() -> None:
    root = parse(Source("f.yaml", "a:\n  - 1e-4\n  - b: c\n"))
    number = root.value["a"].value[0]
    assert (str(number.where), number.text) == ("f.yaml:2:5", "1e-4")
    assert str(root.value["a"].value[1].key_where("b")) == "f.yaml:3:5"
    assert str(root.value["a"].value[1].value["b"].where) == "f.yaml:3:8"
    assert number.where.source == "  - 1e-4"


def test_the_place_of_a_part_of_a_text_is_found_in_block_scalars() -> None:
    root = parse(Source("f.yaml", "run: |\n  one\n  two ${{ x }}\n"))
    assert str(root.value["run"].where_of("${{ x }}")) == "f.yaml:3:7"


def test_merge_keys_yield_to_keys_that_are_written() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nall: {y: 9, <<: [*b, *m]}\n"
    assert read(text)["all"] == {"x": 1, "y": 9, "z": 4}


def test_all_duplicate_keys_are_told_at_once() -> None:
    with pytest.raises(WorkflowErrors) as raised:
        read("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert [str(problem.where) for problem in raised.value.problems] == [
        "f.yaml:2:1",
        "f.yaml:3:11",
    ]


def test_an_alias_is_the_value_that_it_names() -> None:
    assert read("a: &x [1, {b: 2}]\nc: *x\n")["c"] == [1, {"b": 2}]


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert parse(decode("f", b"\xef\xbb\xbfa: 1\n")).plain() == {"a": 1}


def test_windows_line_ends_change_nothing() -> None:
    root = parse(Source("f.yaml", "a: 1\r\nb: 2\r\n"))
    assert str(root.value["b"].where) == "f.yaml:2:4"
    assert root.value["b"].where.source == "b: 2"


def test_a_number_of_many_digits_is_read_in_no_time() -> None:
    assert read("a: " + "9" * 100_000) == {"a": float("inf")}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(FlowError):
        parse(decode("f", data))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab:-?[]{}&*!|>'\"%@`#,\n \t<~01.\ufeff\u2028é", max_size=60))
def test_any_yaml_like_text_is_read_or_refused(text: str) -> None:
    with suppress(FlowError):
        parse(Source("f", text))
