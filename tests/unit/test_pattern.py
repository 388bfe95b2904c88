"""Regular expressions that are compiled at their first use."""

from __future__ import annotations

import copy
import re

import pytest

from oumi_flow.pattern import pattern


def test_it_does_what_the_compiled_one_does() -> None:
    late, early = pattern(r"(?P<x>\d)b", re.IGNORECASE), re.compile(r"(?P<x>\d)b", re.IGNORECASE)
    for _ in range(2):
        found = late.search("a1B2b")
        assert found is not None
        assert found["x"] == "1"
        assert late.sub("-", "a1B2b") == early.sub("-", "a1B2b") == "a--"
    assert copy.copy(late).findall("1b") == ["1"]


def test_nothing_is_compiled_before() -> None:
    wrong = pattern("(")
    with pytest.raises(re.error):
        wrong.match("")
