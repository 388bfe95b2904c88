"""What a job may be called: its name becomes a folder, a word on screens and in command lines."""

from __future__ import annotations

import re

MAX_BYTES = 200
_SAFE = re.compile(r"[A-Za-z0-9_@+=,][A-Za-z0-9 _.@+=,-]*\Z")
_SIGNS = frozenset(" ._-+@=,")


def name_fault(name: str) -> tuple[str, str] | None:
    """A message and a hint when that is no name for a job, else None."""
    if _SAFE.match(name) and len(name) <= MAX_BYTES and not name.endswith((" ", ".")):
        return None
    if not name.strip():
        return "name: expected text, got an empty one", ""
    if len(name.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        got = len(name.encode("utf-8", "surrogatepass"))
        return f"name: expected at most {MAX_BYTES} bytes, got {got}", "it becomes a folder's name"
    if name[0] in "-.":
        return f'name "{name}": a name cannot begin with "{name[0]}"', ""
    if name != name.strip() or name.endswith("."):
        return f'name "{name}": a name cannot begin or end with a space, or end with a dot', ""
    for sign in name:
        if not _allowed(sign):
            shown = sign if sign.isprintable() else f"U+{ord(sign):04X}"
            safe = "".join(each if _allowed(each) else "-" for each in name)
            hint = "only `uses` makes a /" if sign == "/" else f'for example "{safe}"'
            return f"name: the character {shown} is not allowed", hint
    return None


def _allowed(sign: str) -> bool:
    """Letters and digits of any script, marks that belong to them, and a few signs."""
    import unicodedata

    return sign in _SIGNS or unicodedata.category(sign)[0] in "LMN"
