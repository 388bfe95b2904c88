"""The help: made from the bindings that are in force, so it is never behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from textual.binding import Binding, BindingType

from oumi_flow.ui import cells
from oumi_flow.ui.theme import Line

_NAMES = {
    "slash": "/",
    "question_mark": "?",
    "colon": ":",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "enter": "Enter",
    "escape": "Esc",
    "tab": "Tab",
    "home": "Home",
    "end": "End",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "up": "Up",
    "down": "Down",
    "left": "Left",
    "right": "Right",
    "space": "Space",
}
COLUMN = 16


def key_words(keys: str) -> str:
    """`down,j` as a person reads it: `Down j`."""
    return " ".join(_name(key.strip()) for key in keys.split(","))


def _name(key: str) -> str:
    *held, last = key.split("+")
    last = _NAMES.get(last, last)
    return "".join(f"{one.capitalize()}-" for one in held) + last


def help_lines(
    groups: Iterable[tuple[str, Iterable[BindingType]]], changed: Mapping[str, str]
) -> list[Line]:
    """A section a group. `changed`: keys that the user has given to a binding's id."""
    lines: list[Line] = []
    for title, listed in groups:
        lines += [[], [("title", title)]] if lines else [[("title", title)]]
        for binding in listed:
            if not isinstance(binding, Binding):
                continue
            keys = key_words(changed.get(binding.id or "", binding.key))
            blanks = " " * max(1, COLUMN - cells.width(keys))
            lines.append([("key", keys), ("", f"{blanks}{binding.description}")])
    return lines
