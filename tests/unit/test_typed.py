"""Our tuples with names are what the standard ones are."""

from __future__ import annotations

import copy
import pickle
import typing
from types import ModuleType
from typing import Any

import pytest

from oumi_flow import typed


def made(module: ModuleType) -> Any:
    class Named(module.NamedTuple):  # type: ignore[misc, name-defined]
        """Told."""

        name: str
        sizes: tuple[int, ...] = (1,)
        last: str = ""

        @property
        def loud(self) -> str:
            return self.name.upper()

    return Named


class One(typed.NamedTuple):
    only: int


def test_it_is_made_read_and_shown_as_the_standard_one() -> None:
    one, other = made(typed), made(typing)
    assert one._fields == other._fields
    assert one.__doc__ == other.__doc__
    for _ in range(25):  # before and after it is compiled
        for values in (("a", (2,), "z"), ("a",), ("a", (2,))):
            ours, theirs = one(*values), other(*values)
            assert ours == theirs
            assert hash(ours) == hash(theirs)
            assert repr(ours) == repr(theirs)
            assert (ours.name, ours.sizes, ours.last, ours.loud) == (*theirs, theirs.loud)
        assert one(last="z", name="b") == other(last="z", name="b")
        assert One(3) == (3,)
    assert one("b") < one("c")


def test_it_is_changed_copied_and_matched_as_the_standard_one() -> None:
    one, other = made(typed)("a", (2,), "z"), made(typing)("a", (2,), "z")
    assert one._replace(last="y") == other._replace(last="y")
    assert one._asdict() == other._asdict()
    assert type(one).__match_args__ == type(other).__match_args__
    for name in ("name", "other"):
        for each in (one, other):
            with pytest.raises(AttributeError):
                setattr(each, name, "b")
    kept = One(3)
    for again in (copy.copy(kept), copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert again == kept
        assert type(again) is One


def test_any_name_will_do() -> None:
    class Odd(typed.NamedTuple):
        cls: int
        new: int = 2

    assert Odd(cls=1) == (1, 2)


@pytest.mark.parametrize("module", [typed, typing])
def test_what_does_not_fit_is_refused(module: ModuleType) -> None:
    named = made(module)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        named()
    with pytest.raises(TypeError):
        named("a", (), "", 4)
    with pytest.raises(TypeError):
        named("a", other=1)
    with pytest.raises((TypeError, ValueError)):
        named("a")._replace(other=1)
    with pytest.raises(TypeError):

        class Late(module.NamedTuple):  # type: ignore[misc, name-defined]
            first: int = 1
            second: int

    with pytest.raises(TypeError):

        class Mixed(module.NamedTuple, Exception):  # type: ignore[misc, name-defined]
            first: int
