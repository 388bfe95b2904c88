"""Command lines of runs, written again for another process or another day; answers as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from oumi_flow.errors import FlowError
from oumi_flow.executors.mask import SHORTEST_MASKED

MASK = "****"
_SET = "--set"

# Flags that belong to one invocation, with whether they take a word of their own.
_PLACE = {"-C": True, "--run-id": True, "--detach": False}
# What was forced once and finished is not to be forced again.
_FORCE = {"-f": True, "--force": True, "-F": False, "--force-all": False}


def in_background(words: Sequence[str]) -> list[str]:
    """The same run, for a process that stands in the base folder already."""
    return _without(words, _PLACE)


def again(words: Sequence[str]) -> list[str]:
    """The same run once more, from wherever."""
    return _without(words, {**_PLACE, **_FORCE})


def masked(words: Sequence[str], values: Iterable[str]) -> list[str]:
    """A command line to be kept, without the values of secrets, which it can have by `--set` only.

    A short one hides what it is the whole of, a longer one also what it is a part of.
    """
    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        _, is_set, value = _setting(before, word)
        if is_set and any(
            one == value or (len(one) >= SHORTEST_MASKED and one in value) for one in values if one
        ):
            word = word[: len(word) - len(value)] + MASK
        kept.append(word)
    return kept


def refuse_masked(words: Sequence[str], run_id: str) -> None:
    """Raise FlowError for a command line that `masked` took a secret out of."""
    if any(_setting(*pair)[2] == MASK for pair in zip(["", *words], words, strict=False)):
        raise FlowError(
            f"run {run_id} was given a secret on its command line, which is kept nowhere",
            hint="start it as you did then; a secret is best taken from the shell: `${HF_TOKEN}`",
        )


def _setting(before: str, word: str) -> tuple[str, str, str]:
    """Name, "=" and value of a `--set NAME=VALUE` or `--set=NAME=VALUE`; all "" for other words."""
    if before == _SET:
        return word.partition("=")
    if word.startswith(f"{_SET}="):
        return word.removeprefix(f"{_SET}=").partition("=")
    return "", "", ""


def _without(words: Sequence[str], flags: dict[str, bool]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in flags:
            skip = flags[word]
        elif not _is_joined(word, flags):
            kept.append(word)
    return kept


def _is_joined(word: str, flags: dict[str, bool]) -> bool:
    """`--run-id=X`, `-CDIR`."""
    if word.startswith("--"):
        return word.partition("=")[0] in flags and "=" in word
    return len(word) > 2 and word[:2] in flags and flags[word[:2]]


def to_json(value: object) -> str:
    """JSON for people and programs, in characters that stdout has."""
    import json

    ascii_only = (sys.stdout.encoding or "").lower().replace("_", "-") not in ("utf-8", "utf8")
    return json.dumps(value, ensure_ascii=ascii_only, indent=2)
