"""`dataclass` as everybody knows it, but for when its methods are compiled: at their first use.

The standard one compiles six methods a class when a module is imported, which takes half a
millisecond. A run has a hundred classes, and of most it never makes an object.

Imports the standard library only. It takes `frozen`, `slots` and `eq`, and refuses what it does not
know: `__post_init__`, and fields that are not for `__init__`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses

    def dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True):
        """A class decorator; see `dataclasses.dataclass`."""

        def decorate(cls: type) -> type:
            own = {*cls.__dict__, *(() if eq else ("__eq__", "__hash__"))}
            if not cls.__doc__:
                cls.__doc__ = cls.__name__  # or the signature would be worked out for it
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
            if hasattr(made, "__post_init__") or not all(f.init for f in dataclasses.fields(made)):
                raise TypeError(f"{cls.__name__}: more than this dataclass can")
            for name in _LATE:
                if name not in own:
                    setattr(made, name, _late(made, name, frozen, slots, own))
            if frozen:
                made.__setattr__, made.__delattr__ = _refuse, _refuse
                if slots:
                    made.__getstate__, made.__setstate__ = _state, _set_state
            elif "__hash__" not in own:
                made.__hash__ = None
            return made

        return decorate


_LATE = ("__init__", "__repr__", "__eq__", "__hash__")


def _late(cls: Any, name: str, frozen: bool, slots: bool, own: set[str]) -> Any:
    """A method that puts the compiled one into its place, and goes on there."""
    is_init = name == "__init__"
    together = ("__init__",) if is_init else _LATE[1:]

    def method(self: Any, *args: Any, **values: Any) -> Any:
        from dataclasses import fields, make_dataclass

        if is_init and frozen and slots:
            cls.__init__ = _storing(cls)
            return cls.__init__(self, *args, **values)
        compiled: Any = make_dataclass(
            cls.__name__,
            [(field.name, field.type, field) for field in fields(cls)],
            namespace={"__doc__": cls.__doc__},  # or a signature would be worked out for it
            init=is_init,
            repr=not is_init,
            eq=not is_init,
            frozen=frozen,
        )
        for each in together:
            if each not in own:
                setattr(cls, each, getattr(compiled, each))
        return getattr(cls, name)(self, *args, **values)

    return method


def _storing(cls: Any) -> Any:
    """The `__init__` of a frozen class with slots that finds the place of each field once.

    The standard one has `object.__setattr__` find it for each object, which is most of what making
    ten thousand jobs costs.
    """
    from dataclasses import MISSING, fields

    known: dict[str, Any] = {"MISSING": MISSING}
    places: list[str] = []
    words = ["*"]
    lines: list[str] = []
    for each in fields(cls):
        name = each.name
        known[f"set_{name}"] = getattr(cls, name).__set__
        known[f"or_{name}"] = each.default
        if each.default_factory is not MISSING:
            known[f"make_{name}"] = each.default_factory
            lines.append(f"    if {name} is MISSING: {name} = make_{name}()")
        lines.append(f"    set_{name}(self, {name})")
        must = each.default is MISSING and each.default_factory is MISSING
        (words if each.kw_only else places).append(name if must else f"{name}=or_{name}")
    head = ", ".join(["self", *places, *(words if len(words) > 1 else ())])
    exec("\n".join([f"def __init__({head}):", *lines, "    pass"]), known)
    return known["__init__"]


def _state(self: Any) -> list[Any]:
    from dataclasses import fields

    return [getattr(self, field.name) for field in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    from dataclasses import fields

    for field, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


def _refuse(self: object, name: str, *_: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot change {name!r} of a {type(self).__name__}")
