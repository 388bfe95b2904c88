"""`dataclass` as everybody knows it, made for programs that have to start at once.

The standard one brings `inspect` with it, and compiles six methods a class when a module is
imported: together that is a quarter of what a run with one stale job spends on imports. Here a
class is a loop over its annotations, and its `__init__` is compiled when it has been used some
times. Of most of a hundred classes a run makes few objects, or none.

That nobody changes what is `frozen` is for type checkers to see, who know these classes as the
standard ones: to refuse it when it happens would make each object three times as dear.

Imports nothing that is not loaded anyway. It takes `frozen`, `slots` and `eq`, and refuses what it
does not know: `__post_init__`, a `__setattr__`, and fields that are not for `__init__`. Annotations
have to be strings (`from __future__ import annotations`). The standard library's functions take
these classes for dataclasses, since they are told when they ask.
"""

from __future__ import annotations

from operator import attrgetter
from reprlib import recursive_repr

_FILLED = 20  # objects of a class before its `__init__` is compiled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import MISSING as MISSING
    from dataclasses import Field as Field
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import fields as fields
    from dataclasses import replace as replace
    from typing import Any
else:

    class MISSING:
        """Instead of a default, where there is none."""

    class Field:
        """What is known of one field; the names are those of `dataclasses.Field`."""

        __slots__ = ("compare", "default", "default_factory", "kw_only", "name", "repr", "type")

        def __init__(self, default, default_factory, kw_only, compare, repr):
            self.default, self.default_factory = default, default_factory
            self.kw_only, self.compare, self.repr = kw_only, compare, repr
            self.name = self.type = ""

    def field(*, default=MISSING, default_factory=MISSING, kw_only=False, compare=True, repr=True):
        """More about a field than its default; see `dataclasses.field`."""
        return Field(default, default_factory, kw_only, compare, repr)

    def fields(cls):
        """All fields of a class, or of an object of it, in their order."""
        return tuple(_fields_of(cls if isinstance(cls, type) else type(cls)))

    def replace(one, **changes):
        """A new object with other values for these fields; see `dataclasses.replace`."""
        for each in _fields_of(type(one)):
            if each.name not in changes:
                changes[each.name] = getattr(one, each.name)
        return type(one)(**changes)

    def dataclass(*, frozen=False, slots=False, eq=True):
        """A class decorator; see `dataclasses.dataclass`."""

        def decorate(cls):
            known = _gathered(cls, frozen)
            made = _with_slots(cls, known) if slots else cls
            made.__our_fields__, made.__our_frozen__ = list(known.values()), frozen
            made.__dataclass_fields__ = _Standard()
            own = cls.__dict__
            if "__match_args__" not in own:
                made.__match_args__ = tuple(f.name for f in known.values() if not f.kw_only)
            if "__init__" not in own:
                made.__init__ = _late_init(made)
            if "__repr__" not in own:
                made.__repr__ = _repr
            if eq:
                by_value, hash_of = _comparing(known)
                if "__eq__" not in own:
                    made.__eq__ = by_value
                if own.get("__hash__") is None:  # Python puts a None where there is an `__eq__`
                    made.__hash__ = hash_of if frozen else None
            return made

        return decorate


def values_of(one: Any) -> dict[str, Any]:
    """The values of an object by the names of its fields, not copied.

    Raises TypeError for what is no dataclass of ours.
    """
    return {each.name: getattr(one, each.name) for each in _fields_of(type(one))}


def _fields_of(cls: Any) -> list[Any]:
    try:
        found: list[Any] = cls.__our_fields__
    except AttributeError:
        raise TypeError(f"{cls.__name__} is no dataclass of ours") from None
    return found


_NOT_OURS = {"__post_init__", "__setattr__", "__delattr__"}


def _gathered(cls: Any, frozen: bool) -> dict[str, Any]:
    """All fields by name, those of its bases first. What is left in the class are defaults."""
    known: dict[str, Any] = {}
    for base in cls.__mro__[-2::-1]:
        own = base.__dict__
        known.update((each.name, each) for each in own.get("__our_fields__", ()))
        ours = own.get("__our_frozen__")
        if not (own.keys().isdisjoint(_NOT_OURS) if ours is None else ours is frozen):
            raise TypeError(f"{cls.__name__}: more than this dataclass can")
    for name, annotation in cls.__annotations__.items():
        kind = annotation.partition("[")[0].rpartition(".")[2]
        if kind == "ClassVar":
            continue
        if kind in ("InitVar", "KW_ONLY"):
            raise TypeError(f"{cls.__name__}.{name}: more than this dataclass can")
        given = cls.__dict__.get(name, MISSING)
        made: Any = given
        if not isinstance(given, Field):
            made = field(default=given)
        elif made.default is not MISSING:
            setattr(cls, name, made.default)
        else:
            delattr(cls, name)
        if type(made.default).__hash__ is None:
            raise TypeError(f"{cls.__name__}.{name}: all objects would share this default")
        made.name, made.type = name, annotation
        known[name] = made
    places = [_may_be_left_out(each) for each in known.values() if not each.kw_only]
    if places != sorted(places):
        raise TypeError(f"{cls.__name__}: a field without a default after one that has one")
    return known


def _may_be_left_out(each: Any) -> bool:
    return each.default is not MISSING or each.default_factory is not MISSING


def _with_slots(cls: Any, known: dict[str, Any]) -> Any:
    """The same class with a place for each field; a class cannot be given them later."""
    theirs = {name for base in cls.__mro__[1:] for name in base.__dict__.get("__slots__", ())}
    content = {
        name: value
        for name, value in cls.__dict__.items()
        if name not in known and name not in ("__dict__", "__weakref__")
    }
    content["__slots__"] = tuple(name for name in known if name not in theirs)
    made = type(cls)(cls.__name__, cls.__bases__, content)
    made.__qualname__ = cls.__qualname__
    return made


def _late_init(cls: Any) -> Any:
    """What fills the first objects field by field: to compile costs as much as forty of them."""
    left = _FILLED

    def __init__(self: Any, /, *args: Any, **named: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0 or not _filled(self, cls, args, named):
            cls.__init__ = _compiled_init(cls)
            cls.__init__(self, *args, **named)

    return __init__


def _filled(self: Any, cls: Any, args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """False where the arguments do not fit: who is compiled finds the words for it."""
    names = [each.name for each in _fields_of(cls) if not each.kw_only]
    values = {**dict(zip(names, args, strict=False)), **named}
    if len(args) > len(names) or len(values) < len(args) + len(named):
        return False
    used = 0
    for each in _fields_of(cls):
        if each.name in values:
            value = values[each.name]
            used += 1
        elif each.default is not MISSING:
            value = each.default
        elif each.default_factory is not MISSING:
            value = each.default_factory()
        else:
            return False
        setattr(self, each.name, value)
    return used == len(values)


def _compiled_init(cls: Any) -> Any:
    """The `__init__` of a class."""
    known: dict[str, Any] = {"__missing": MISSING}
    places: list[str] = []
    words = ["*"]
    lines: list[str] = []
    for each in _fields_of(cls):
        name = each.name
        known[f"__or_{name}"] = each.default
        if each.default_factory is not MISSING:
            known[f"__make_{name}"] = each.default_factory
            lines.append(f"    if {name} is __missing: {name} = __make_{name}()")
        lines.append(f"    self.{name} = {name}")
        may = _may_be_left_out(each)
        (words if each.kw_only else places).append(f"{name}=__or_{name}" if may else name)
    head = ", ".join(["self", *places, *(words if len(words) > 1 else ())])
    exec("\n".join([f"def __init__({head}):", *lines, "    pass"]), known)
    made = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"  # it stands in the words of an error
    return made


def _comparing(known: dict[str, Any]) -> tuple[Any, Any]:
    """`__eq__` and `__hash__` by the fields that count."""
    names = [name for name, each in known.items() if each.compare]
    several = attrgetter(*names) if len(names) > 1 else None

    def compared(self: Any) -> Any:
        return tuple(getattr(self, name) for name in names)

    values: Callable[[Any], Any] = several or compared

    def __eq__(self: Any, other: Any) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    def __hash__(self: Any) -> int:
        return hash(values(self))

    return __eq__, __hash__


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in _fields_of(type(self)) if f.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


class _Standard:
    """The fields as the standard library has them, made when somebody asks."""

    def __get__(self, _: object, cls: Any) -> Any:
        import dataclasses

        made: Any = dataclasses.make_dataclass(
            cls.__name__,
            [(each.name, each.type, self._as_theirs(each)) for each in _fields_of(cls)],
            namespace={"__doc__": ""},  # or a signature would be worked out for it
            init=False,
        )
        cls.__dataclass_fields__ = made.__dataclass_fields__
        return cls.__dataclass_fields__

    @staticmethod
    def _as_theirs(ours: Any) -> Any:
        import dataclasses

        given = {}
        if ours.default is not MISSING:
            given["default"] = ours.default
        if ours.default_factory is not MISSING:
            given["default_factory"] = ours.default_factory
        return dataclasses.field(
            **given, kw_only=ours.kw_only, compare=ours.compare, repr=ours.repr
        )
