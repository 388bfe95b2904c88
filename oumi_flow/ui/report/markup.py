"""Elements of HTML and SVG as text, escaped where they are made.

Whatever is not `Markup` already is escaped by `el`, so no name, cause or line of a log can become
markup; links lead within the page alone. Knows nothing of runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape

from oumi_flow.typed import Any
from oumi_flow.ui import cells

_VOID = frozenset({"meta", "br", "hr", "col"})
_ACTING = re.compile("[&<>\"']")
_DRAWN = frozenset({"rect", "line", "path", "circle", "use"})  # of SVG: no content but a title


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def el(name: str, /, *inside: object, **attributes: Any) -> Markup:
    """`<name attributes>inside</name>`.

    `class_` gives `class`, `stroke_width` gives `stroke-width`; None and False leave an attribute
    out, True gives it without a value. Raises ValueError for a link that leads out of the page.
    """
    told = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        if word in ("href", "src") and not str(value).startswith("#"):
            raise ValueError(f"{value}: a report links to nothing outside of it")
        told.append(f" {word}" if value is True else f' {word}="{_attribute(value)}"')
    head = f"<{name}{''.join(told)}"
    if name in _VOID:
        return Markup(f"{head}>")
    body = join(inside)
    if not body and name in _DRAWN:
        return Markup(f"{head}/>")
    return Markup(f"{head}>{body}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """One after the other; None and False are left out."""
    return Markup("".join([part if type(part) is Markup else _inside(part) for part in parts]))


def text(words: object) -> Markup:
    """Words as they are to be read, on one line: nothing in them acts."""
    plain = cells.clean(str(words))
    return Markup(escape(plain, quote=True) if _ACTING.search(plain) else plain)


def lines(words: Iterable[str]) -> Markup:
    """Lines of text, for a `pre`."""
    return Markup("\n".join(text(word) for word in words))


def link(anchor: str, *inside: object, **attributes: Any) -> Markup:
    return el("a", *inside, href=f"#{anchor}", **attributes)


def reference(anchors: Mapping[str, str], name: str, words: object = None) -> Markup:
    """A name that leads to where it is told of, if it is; `words` stand for it."""
    shown = name if words is None else words
    return link(anchors[name], shown) if name in anchors else _markup(shown)


def num(value: float) -> str:
    """A coordinate: a tenth of a pixel is fine enough."""
    short = f"{value:.1f}"
    return short[:-2] if short.endswith(".0") else short


def _markup(part: object) -> Markup:
    return part if isinstance(part, Markup) else text(part)


def _inside(part: object) -> str:
    return "" if part is None or part is False else text(part)


def _attribute(value: object) -> str:
    if isinstance(value, (Markup, int)):
        return str(value)
    return num(value) if isinstance(value, float) else text(value)
