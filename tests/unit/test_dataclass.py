"""Our dataclasses differ from the standard ones in what they cost, and in who keeps them frozen."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from types import ModuleType
from typing import Any, ClassVar

import pytest

from oumi_flow import dataclass as flow
from oumi_flow.dataclass import dataclass as ours
from oumi_flow.dataclass import field, values_of


def classes(module: ModuleType, **options: bool) -> tuple[Any, Any]:
    decorate: Callable[..., Any] = module.dataclass
    field = module.field

    @decorate(**options)
    class Base:
        kind: ClassVar[str] = "base"
        seq: int = field(default=0, kw_only=True)

    @decorate(**options)
    class Sub(Base):
        kind: ClassVar[str] = "sub"
        name: str
        tags: list[str] = field(default_factory=list)
        hidden: int = field(default=1, compare=False, repr=False)

        @property
        def loud(self) -> str:
            return self.name.upper()

    return Base, Sub


OPTIONS = [{"frozen": True, "slots": True}, {"slots": True}, {"frozen": True}]


def outcome(do: Callable[[], object]) -> object:
    try:
        return do()
    except (TypeError, AttributeError) as error:
        return type(error).__name__


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "do",
    [
        lambda base, sub: repr(sub("x", ["y"], seq=3)).replace("classes.<locals>.", ""),
        lambda base, sub: repr(base()),
        lambda base, sub: sub("x") == sub("x", hidden=2),
        lambda base, sub: sub("x") == sub("y"),
        lambda base, sub: sub("x") == base(),
        lambda base, sub: sub("x") != 1,
        lambda base, sub: sub(),
        lambda base, sub: sub("x", unknown=1),
        lambda base, sub: base(1),
        lambda base, sub: hash(base(seq=2)) == hash(base(seq=2)),
        lambda base, sub: hash(sub("x")),
        lambda base, sub: [f.name for f in fields(sub)],
        lambda base, sub: dataclasses.is_dataclass(sub),
        lambda base, sub: replace(sub("x"), name="y").name,
        lambda base, sub: dataclasses.asdict(sub("x", ["y"])),
        lambda base, sub: (sub("x").loud, sub.kind, base.kind),
        lambda base, sub: sub("x").tags is sub("x").tags,
        lambda base, sub: sub.__match_args__,
        lambda base, sub: copy.deepcopy(sub("x", ["y"])) == sub("x", ["y"]),
        lambda base, sub: copy.copy(sub("x")).name,
        lambda base, sub: hasattr(sub("x"), "__dict__"),
    ],
)
def test_they_do_the_same(options: dict[str, bool], do: Callable[[Any, Any], object]) -> None:
    same = outcome(lambda: do(*classes(dataclasses, **options)))
    base, sub = classes(flow, **options)
    assert outcome(lambda: do(base, sub)) == same
    use(base)
    use(sub, "x")
    assert outcome(lambda: do(base, sub)) == same


def use(cls: Any, *args: str) -> None:
    """So often that what is compiled late is compiled."""
    for _ in range(100):
        cls(*args)


def test_whatever_comes_first_the_rest_is_there_too() -> None:
    for first in (repr, hash, lambda each: each == each):
        base, _ = classes(flow, frozen=True, slots=True)
        made = base.__new__(base)
        made.seq = 5
        assert first(made)
        assert base(seq=5) == made


def test_a_method_of_its_own_stays() -> None:
    @ours(frozen=True)
    class Own:
        number: int

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    assert Own(1) == Own(2)
    assert hash(Own(1)) == 7


@pytest.mark.parametrize("made", [ours, dataclasses.dataclass])
def test_one_with_an_equality_of_its_own_has_a_hash_if_it_is_frozen(made: Any) -> None:
    @made(frozen=True)
    class Own:
        number: int

        def __eq__(self, other: object) -> bool:
            return True

    one: Any = Own
    assert hash(one(1)) == hash(one(1))


def test_without_eq_an_object_is_itself() -> None:
    @ours(frozen=True, slots=True, eq=False)
    class Row:
        name: str

    one = Row("x")
    assert one == one
    assert one != Row("x")
    assert {one: 1}[one] == 1


def test_what_it_does_not_know_it_refuses() -> None:
    with pytest.raises(TypeError):

        @ours(frozen=True)
        class Post:
            def __post_init__(self) -> None: ...

    with pytest.raises(TypeError):

        @ours(frozen=False)
        class Watched:
            number: int

            def __setattr__(self, name: str, value: object) -> None: ...

    @ours(frozen=True)
    class Base:
        number: int

    with pytest.raises(TypeError):

        @ours(frozen=False)
        class Thawed(Base):  # type: ignore[misc]
            other: int

    with pytest.raises(TypeError):

        @ours()
        class Late:
            first: int = 1
            second: int  # type: ignore[misc]

    with pytest.raises(TypeError):

        @ours()
        class Passed:
            number: dataclasses.InitVar[int]

    with pytest.raises(TypeError):

        @ours()
        class Hidden:
            number: int = field(default=1, init=False)

    with pytest.raises(TypeError):

        @ours()
        class Shared:
            names: list[str] = []  # noqa: RUF012 - what is refused


def test_its_own_functions_do_as_the_standard_ones() -> None:
    _, sub = classes(flow, frozen=True, slots=True)
    one = sub("x", ["y"], seq=3)
    assert [f.name for f in flow.fields(one)] == [f.name for f in fields(one)]
    assert [str(f.type) for f in flow.fields(sub)] == [f.type for f in fields(sub)]
    assert flow.replace(one, name="z") == replace(one, name="z")
    assert values_of(one) == dataclasses.asdict(one)
    with pytest.raises(TypeError):
        flow.replace(one, unknown=1)
    with pytest.raises(TypeError):
        values_of("no dataclass")


def test_only_what_is_used_often_is_compiled() -> None:
    _, sub = classes(flow, frozen=True, slots=True)
    late = sub.__init__
    assert sub("x").name == "x"
    assert sub.__init__ is late
    use(sub, "x")
    assert sub.__init__ is not late


def test_who_changes_a_frozen_one_hears_of_it_from_the_type_checker() -> None:
    text = "from oumi_flow.model import Output; Output('a', 'b').path = 'c'"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "-c", text],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Property "path" defined in "Output" is read-only' in done.stdout
