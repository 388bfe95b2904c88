"""Text as a terminal shows it: how wide it is, cut to fit, and made harmless.

Job names, causes and log lines come from outside. `clean` is what stands between them and the
terminal: no control or direction-changing character gets through. Knows no colours.
"""

from __future__ import annotations

import re
import unicodedata

# Format characters that turn the direction of the text round, so that a name reads as another.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SEPARATORS = frozenset("\u2028\u2029")


def clean(text: str) -> str:
    """`text` on one line, with whatever could move a cursor or change a colour spelled out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() else _spell(char) for char in text)


def _spell(char: str) -> str:
    if char in "\t\n\r":
        return " "
    category = unicodedata.category(char)
    if category == "Zs":
        return " "
    if category == "Cf" and char not in _DIRECTION:
        return char  # joiners of emoji and of several scripts
    code = ord(char)
    if category in ("Cc", "Cf", "Cs") or char in _SEPARATORS:
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    return char if code < 0x10000 else "\ufffd"


def width(text: str) -> int:
    """Columns that clean text takes."""
    return len(text) if text.isascii() else sum(map(char_width, text))


def char_width(char: str) -> int:
    """0 for combining and joining characters, 2 for wide ones, else 1."""
    if char.isascii():
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, columns: int, more: str = "…") -> str:
    """`text` cut at its end to at most `columns`, `more` showing that something went."""
    if width(text) <= columns:
        return text
    room = columns - width(more)
    if room <= 0:
        return more[: max(0, columns)]
    kept = []
    for char in text:
        room -= char_width(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept).rstrip() + more


def fit_middle(text: str, columns: int, more: str = "…") -> str:
    """Cut in the middle: the ends of names tell the jobs of a sweep apart."""
    if width(text) <= columns:
        return text
    room = columns - width(more)
    if room <= 2:
        return fit(text, columns, more)
    head = room - room * 2 // 3
    return fit(text, head + width(more), more) + _tail(text, room - head)


def _tail(text: str, columns: int) -> str:
    kept = []
    for char in reversed(text):
        columns -= char_width(char)
        if columns < 0:
            break
        kept.append(char)
    return "".join(reversed(kept))


def pad(text: str, columns: int, right: bool = False) -> str:
    """Blanks up to `columns`; after the text, or before it."""
    blanks = " " * (columns - width(text))
    return blanks + text if right else text + blanks


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most `columns`, broken at blanks where there are any."""
    if columns <= 0 or width(text) <= columns:
        return [text]
    lines: list[str] = []
    line = ""
    # Blanks at the start of the text are its own; those where a line breaks fall away.
    for word in re.findall(r"^ +[^ ]*|[^ ]+", text):
        trial = f"{line} {word}" if line else word
        if width(trial) <= columns:
            line = trial
            continue
        if line:
            lines.append(line)
        while width(word) > columns:
            piece = fit(word, columns, "")
            lines.append(piece)
            word = word[max(1, len(piece)) :]
        line = word
    return [*lines, line] if line else lines
