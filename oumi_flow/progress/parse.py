"""A line of output -> what it says of progress, or nothing.

The formats are those of oumi 0.9 (tqdm bars, printed dicts, its metrics file) and the plain
habits of scripts (`step 3/10`, `loss=0.5`). Reads no file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from oumi_flow.pattern import pattern
from oumi_flow.typed import Any, NamedTuple

LONGEST = 8192  # characters of a line that are looked at
MOST_METRICS = 64  # names kept of one job

_ESCAPES = pattern(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = pattern(r"[\x00-\x08\x0b-\x1f\x7f]")
_BAR = pattern(
    r"(?P<title>[^|%\r]*?):?\s*(?P<percent>\d{1,3})%\|[^|]*\|\s*"
    r"(?P<done>\d+(?:\.\d+)?[kMGT]?)/(?P<total>\d+(?:\.\d+)?[kMGT]?)\s+\["
)
_DRAWN_BAR = pattern(r"[^|\[\]]*\d{1,3}%\|[^|]*\|[^\[\]]*\[[^\]]*\]")
_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
# Bars of getting ready or tidying up, which say nothing of the work itself.
_CHORES = pattern(
    r"(?i)\b(loading|writing|saving|generating \w+ split|map|filter|fetching|download\w*|"
    r"tokeniz\w+|packing|truncating|applying|converting|adding|extracting|casting|creating|"
    r"flattening|upload\w*)\b"
)
_NUMBER = r"[-+]?(?:\d+(?:_\d{3})*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_COUNTED = (
    r"steps?|epochs?|iter(?:ation)?s?|batch(?:es)?|trials?|samples?|rows?|files?|chunks?|parts?|"
    r"items?|tasks?|shards?|examples?"
)
_STEP = pattern(
    rf"(?i)(?:\b(?P<unit>{_COUNTED})\s*[:=#]?\s*|^\s*\[\s*)(?P<done>\d+)\s*(?:/|\bof\b)\s*"
    r"(?P<total>\d+)\b"
)
_STEP_AFTER = pattern(rf"(?i)\b(?P<done>\d+)\s*/\s*(?P<total>\d+)\s+(?P<unit>{_COUNTED})\b")
_PAIR = pattern(
    rf"(?<![\w./-])(?P<key>[A-Za-z_][\w./-]{{0,63}})\s?=\s?(?P<value>{_NUMBER}|nan|-?inf)(?![\w.:/-])"
)


class Bar(NamedTuple):
    title: str
    done: float
    total: float

    @property
    def is_chore(self) -> bool:
        return bool(_CHORES.search(self.title))


class Count(NamedTuple):
    done: float
    total: float | None
    unit: str


def clean(line: str) -> str:
    """The line without terminal escapes and control characters."""
    return _CONTROLS.sub("", _ESCAPES.sub("", line[:LONGEST]))


def bar_of(line: str) -> Bar | None:
    """The last tqdm bar in a line."""
    if "%|" not in line:
        return None
    bars = list(_BAR.finditer(line[-LONGEST:]))
    if not bars:
        return None
    found = bars[-1]
    return Bar(found["title"].strip(), _scaled(found["done"]), _scaled(found["total"]))


def without_bars(line: str) -> str:
    """What else a line holds: a traceback often starts right behind an unfinished bar."""
    return _DRAWN_BAR.sub("", line) if "%|" in line else line


def _scaled(text: str) -> float:
    return float(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else float(text)


def number_of(value: Any) -> float | None:
    """A number, or text that is one (oumi prints metrics as text); None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return _float(value)
    if isinstance(value, str) and len(value) <= 40:
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _float(value: int | float) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row, by name; NaN stays, for a diverged run must be seen."""
    found: dict[str, float] = {}
    for key, value in row.items():
        number = number_of(value)
        if number is not None and len(found) < MOST_METRICS:
            found[str(key)[:64]] = number
    return found


def json_row(line: str) -> dict[str, Any] | None:
    """The object of a line of JSON; None for a torn line or anything else."""
    if not line.startswith("{") or len(line) > LONGEST:
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def dict_row(line: str) -> dict[str, Any] | None:
    """The dict of a line as trainers print it: `{'loss': '6.261', 'epoch': '0.06'}`."""
    start = line.find("{'")
    if start < 0 or len(line) > LONGEST or not line.rstrip().endswith("}"):
        return None
    import ast

    text = re.sub(r"(?<=[ :])nan\b", "'nan'", line[start:].strip())
    try:
        row = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def count_of(line: str) -> Count | None:
    """`step 3/10`, `epoch 2 of 5`, `[3/10] …`, `3/10 files`."""
    found = _STEP.search(line) or _STEP_AFTER.search(line)
    if found is None:
        return None
    done, total = float(found["done"]), float(found["total"])
    if total <= 0 or done > total:
        return None
    unit = (found["unit"] or "step").lower()
    return Count(done, total, unit if unit.endswith("s") else unit + "s")


def pairs_of(line: str) -> dict[str, float]:
    """The `key=value` of a line whose values are numbers; names all in capitals are variables."""
    return {
        found["key"]: float(found["value"].replace("_", ""))
        for found in _PAIR.finditer(line)
        if not found["key"].isupper()
    }
