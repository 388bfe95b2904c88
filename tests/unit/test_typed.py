"""Our tuples with names are what the standard ones are."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from oumi_flow import typed


class Ours(typed.NamedTuple):
    """Told."""

    name: str
    sizes: tuple[int, ...] = (1,)
    last: str = ""

    @property
    def loud(self) -> str:
        return self.name.upper()


class Theirs(typing.NamedTuple):
    """Told."""

    name: str
    sizes: tuple[int, ...] = (1,)
    last: str = ""

    @property
    def loud(self) -> str:
        return self.name.upper()


class One(typed.NamedTuple):
    only: int


def test_it_is_made_read_and_shown_as_the_standard_one() -> None:
    assert Ours._fields == Theirs._fields
    for _ in range(25):  # before and after it is compiled
        for values in (("a", (2,), "z"), ("a",), ("a", (2,))):
            ours, theirs = Ours(*values), Theirs(*values)
            assert tuple(ours) == tuple(theirs)
            assert hash(ours) == hash(theirs)
            assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
            assert (ours.name, ours.sizes, ours.last, ours.loud) == (*theirs, theirs.loud)
        assert tuple(Ours(last="z", name="b")) == Theirs(last="z", name="b")
        assert One(3) == (3,)
    assert Ours("b") < Ours("c")
    assert Ours.__doc__ == "Told."


def test_it_is_changed_copied_and_matched_as_the_standard_one() -> None:
    one = Ours("a", (2,), "z")
    assert one._replace(last="y") == ("a", (2,), "y")
    assert one._asdict() == {"name": "a", "sizes": (2,), "last": "z"}
    assert copy.copy(one) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    assert type(pickle.loads(pickle.dumps(one))) is Ours
    match one:
        case Ours(name, sizes):
            assert (name, sizes) == ("a", (2,))
    with pytest.raises(AttributeError):
        one.name = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        one.other = "b"  # type: ignore[attr-defined]


def test_any_name_will_do() -> None:
    class Odd(typed.NamedTuple):
        cls: int
        new: int = 2

    assert Odd(cls=1) == (1, 2)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError):

        class Late(typed.NamedTuple):
            first: int = 1
            second: int  # type: ignore[misc]

    with pytest.raises(TypeError):

        class Mixed(typed.NamedTuple, Exception):  # type: ignore[misc]
            first: int

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        Ours()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        One(1, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Ours("a", other=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Ours("a")._replace(other=1)  # type: ignore[call-arg]
