"""What `typing` offers, for modules that are loaded before a run does anything.

`typing` itself is as dear as eight modules of ours, and its `NamedTuple` compiles every annotation
of every class, though nobody reads them: together that is a sixth of what a run with one stale job
spends on imports. Here names that only stand in annotations are nothing, and a tuple with names has
what tuples with names have. Type checkers see the real ones. Imports nothing that is not loaded
anyway.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Any
    from typing import BinaryIO as BinaryIO
    from typing import ClassVar as ClassVar
    from typing import Generic as Generic
    from typing import Literal as Literal
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import TextIO as TextIO
    from typing import TypeVar as TypeVar
else:
    from _collections import _tuplegetter  # as for `collections.namedtuple`

    class _Word:
        """Stands in annotations, and as a base of classes; with anything in brackets too."""

        __slots__ = ()

        def __class_getitem__(cls, _):
            return cls

    class Protocol(_Word):
        __slots__ = ()

    class Generic(_Word):
        __slots__ = ()

    Any = BinaryIO = ClassVar = Literal = NoReturn = TextIO = _Word

    def TypeVar(name, *_, **__):
        return name

    class _Naming(type):
        """Makes a class with annotations a tuple with a name for each of its places."""

        def __new__(cls, name, bases, content):
            if not bases:
                return super().__new__(cls, name, bases, content)
            if bases != (NamedTuple,):
                raise TypeError(f"{name}: a tuple with names has no other bases")
            fields = tuple(content.get("__annotations__", ()))
            defaults = {each: content[each] for each in fields if each in content}
            if [each in defaults for each in fields] != sorted(each in defaults for each in fields):
                raise TypeError(f"{name}: a field without a default after one that has one")
            for place, each in enumerate(fields):
                content[each] = _tuplegetter(place, f"field {place}")
            content |= {"__slots__": (), "_fields": fields, "__match_args__": fields}
            made = type(name, (_Named,), content)
            made.__new__ = _early_new(made, fields, defaults)
            return made

    class NamedTuple(metaclass=_Naming):
        """See `typing.NamedTuple`; without `_make` and `_field_defaults`."""

    class _Named(tuple):
        __slots__ = ()
        _fields = ()

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **changes):
            return type(self)(**{**self._asdict(), **changes})

        def __repr__(self):
            shown = (f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({', '.join(shown)})"

        def __getnewargs__(self):
            return tuple(self)

    def _early_new(made, fields, defaults):
        """The `__new__` of a class until it is used with names or defaults, or more than a little.

        Most are not, and to compile one takes as long as to make a class.
        """
        left = 20

        def __new__(cls, /, *values, **named):
            nonlocal left
            left -= 1
            if left and not named and len(values) == len(fields):
                return tuple.__new__(cls, values)
            made.__new__ = _compiled_new(fields, defaults)
            return made.__new__(cls, *values, **named)

        return __new__

    def _compiled_new(fields, defaults):
        known = {"__new": tuple.__new__, **{f"__or_{name}": of for name, of in defaults.items()}}
        heads = [f"{name}=__or_{name}" if name in defaults else name for name in fields]
        body = f"__new(__cls, ({', '.join(fields)}{',' * (len(fields) == 1)}))"
        exec(f"def __new__({', '.join(['__cls', *heads])}):\n    return {body}\n", known)
        return known["__new__"]
