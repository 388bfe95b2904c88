"""Encoders that are made once say what `json.dumps` says."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.encoding import encoder

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.integers(), inner)
    ),
)


@given(VALUES, st.booleans(), st.booleans())
def test_it_says_what_json_dumps_says(value: Any, ascii_only: bool, sort_keys: bool) -> None:
    said = json.dumps(value, ensure_ascii=ascii_only, sort_keys=sort_keys, separators=(",", ":"))
    assert encoder(ascii_only=ascii_only, sort_keys=sort_keys)(value) == said


def test_what_json_does_not_know_is_for_its_default() -> None:
    value = {"b": MappingProxyType({"y": 1, "x": "é"}), "a": [MappingProxyType({})]}
    assert encoder(dict, ascii_only=False, sort_keys=True)(value) == (
        '{"a":[{}],"b":{"x":"é","y":1}}'
    )
    with pytest.raises(TypeError, match="not JSON serializable"):
        encoder()(object())


def test_what_holds_itself_ends_with_an_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(RecursionError):
        encoder()(value)
