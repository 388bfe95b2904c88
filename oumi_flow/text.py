"""Small words for numbers: durations, sizes, clock times; the nearest known name; commands."""

from __future__ import annotations

from collections.abc import Iterable

from oumi_flow.pattern import pattern

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = pattern(r"(\d+(?:\.\d+)?)(s|m|h|d)?\Z")


def parse_duration(text: str | float) -> float | None:
    """Seconds from `90`, `"90"`, `90s`, `30m`, `2h`, `1d`; None when it is none of these."""
    if isinstance(text, bool):
        return None
    if isinstance(text, (int, float)):
        return float(text) if 0 <= text < float("inf") else None
    match = _DURATION.match(text.strip())
    if not match:
        return None
    return float(match[1]) * _UNITS[match[2] or "s"]


def duration(seconds: float) -> str:
    """`0.3s`, `42s`, `3m 05s`, `2h 10m`, `1d 4h`: at most two units, never wider than 8."""
    if seconds < 0:
        seconds = 0.0
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s" if rest else f"{minutes}m"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 24:
        return f"{hours}h {minutes:02d}m" if minutes else f"{hours}h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days}d {hours}h" if hours else f"{days}d"


def limit(seconds: float) -> str:
    """A limit as somebody would write it, and exact: `90s`, `2h`, `1d`; `5400s` is `90m`."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and not seconds % length:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:g}s"


def size(count: float) -> str:
    """`0 B`, `812 B`, `1.4 MB`, in powers of 1000."""
    if count < 1000:
        return f"{int(count)} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.1f} {unit}" if count < 99.5 else f"{count:.0f} {unit}"
    return f"{count / 1000:.1f} PB"


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that `word` is probably a slip of; "" when none is near."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean "train"?`, or ""."""
    name = nearest(word, known)
    return f'did you mean "{name}"?' if name else ""


def ordinal(number: int) -> str:
    """`2nd`."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 job`, `3 jobs`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def quoted(*words: str) -> str:
    """Words of a command line that a user is told to type."""
    from shlex import join

    return join(words)
