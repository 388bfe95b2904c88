"""Merges `args` into a verb's config, and says what the result means.

The merge follows `merge_with_dotlist` of OmegaConf, by which oumi does it. Knows neither the
workflow file, nor other jobs, nor whether a job is stale.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from oumi_flow.errors import FlowError
from oumi_flow.load.config_file import (
    ConfigFile,
    read_config,
    read_config_file,
    tokens_of,
    value_of,
)
from oumi_flow.typed import Any, NamedTuple
from oumi_flow.verbs.command import Arg, Args, parse_args
from oumi_flow.verbs.keys import KeyTable, OumiKeys, pattern_of
from oumi_flow.verbs.table import VerbSpec

__all__ = [
    "ArgProblem",
    "ConfigFile",
    "KeyTable",
    "OumiKeys",
    "canonical",
    "counted",
    "flatten",
    "input_values",
    "merge",
    "own_place",
    "pattern_of",
    "read_config",
    "read_config_file",
]


LONGEST_DEFAULT = 100  # entries of a list that oumi may have of itself


class ArgProblem(NamedTuple):
    """Something wrong with one of `args`."""

    arg: str
    message: str
    hint: str = ""


# ---------------------------------------------------------------------- merging


def merge(
    config: Mapping[str, Any],
    args: Sequence[str] | Args,
    spec: VerbSpec,
    problems: list[ArgProblem] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The config with `args` merged in, and those `args` that are no config keys.

    Left out of the second are options that cannot change results (`--verbose`) and the one that
    says where the output goes. The config is not changed; the result shares with it what no
    override touches, so do not change that either. What is wrong with an arg is appended to
    `problems`; without that list the first one is raised as FlowError.
    """
    merged: dict[str, Any] = dict(config)
    others: list[str] = []
    try:
        parsed = parse_args(args, spec)
    except FlowError as error:
        if problems is None:
            raise
        problems.append(ArgProblem("", error.message, error.hint))
        return merged, others
    # oumi applies the verb's own options after all other overrides.
    for arg in sorted(parsed, key=lambda arg: arg.option is not None):
        if arg.config_key:
            found = _override(merged, arg)
            if found is not None:
                if problems is None:
                    raise FlowError(found.message, hint=found.hint)
                problems.append(found)
        elif arg.option is not None and arg.option.counts and arg.key != spec.output_key:
            others.append(arg.text)
    return merged, others


def _override(merged: dict[str, Any], arg: Arg) -> ArgProblem | None:
    if arg.option is not None and arg.option.no_effect and arg.value == arg.option.no_effect:
        return None
    try:
        value = value_of(arg.value or "")
    except ValueError:
        return ArgProblem(
            arg.text,
            f'args: the value of "{arg.key}" is not valid YAML: {arg.value}',
            "quote it, as in key='\"text: with signs\"'",
        )
    said = _set(merged, tokens_of(arg.config_key), value)
    return ArgProblem(arg.text, f"args: {said}") if said else None


def _set(root: Any, tokens: Sequence[str | int], value: Any) -> str:
    """`OmegaConf.update` on plain containers, copying those on the way. Returns what is wrong."""
    for at, token in enumerate(tokens):
        if isinstance(root, list):
            name = _joined(tokens[:at])
            if not str(token).isdecimal():
                return f'"{name}" is a list in the config, expected an index, got "{token}"'
            if int(token) >= len(root):
                have = f"it has {len(root)}" if root else "it is empty"
                return (
                    f'no entry {token} in the list "{name}" of the config; {have}, counted from 0'
                )
        key: Any = int(token) if isinstance(root, list) else str(token)
        present = isinstance(root, list) or key in root
        child = root[key] if present else None
        if at == len(tokens) - 1:
            if isinstance(child, dict) and isinstance(value, dict):
                value = _merged_maps(child, value)
            root[key] = value
            return ""
        following = tokens[at + 1]
        if isinstance(child, (dict, list)):
            child = child.copy()
        elif isinstance(following, int) and not present:
            # A list that the config leaves to oumi's defaults: its length is not known here.
            if following > LONGEST_DEFAULT:
                return f'no entry {following} in the list "{_joined(tokens[: at + 1])}"'
            child = [None] * (following + 1)
        else:
            child = {}
        root[key] = child
        root = child
    return ""


def _merged_maps(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(one)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged_maps(merged[key], value) if both else value
    return merged


def _joined(tokens: Iterable[str | int]) -> str:
    text = ""
    for token in tokens:
        text += f"[{token}]" if isinstance(token, int) else f".{token}" if text else str(token)
    return text


# ---------------------------------------------------------------------- meaning


# What a container flattens to, by its id and its dotted key.
Flats = dict[tuple[int, str], dict[str, Any]]


def flatten(config: Mapping[str, Any], file: ConfigFile | None = None) -> dict[str, Any]:
    """Leaves by dotted key (`tasks[0].name`), in canonical form; empty containers are leaves.

    `file` is what `config` was merged from: a container of it that no override has touched is the
    same one in every job, and is walked once.
    """
    flat: dict[str, Any] = {}
    if file is not None and not file.flats:
        _note(file.values, "", file.flats)
    _flatten(config, "", flat, file.flats if file is not None else {})
    return flat


def _note(value: Any, key: str, known: Flats) -> None:
    for below, item in _entries(value, key):
        if isinstance(item, (dict, list)):
            _note(item, below, known)
    if value:
        flat: dict[str, Any] = {}
        _flatten(value, key, flat, known)
        known[id(value), key] = flat


# What these say is canonical as it is.
_PLAIN = frozenset({str, int, bool, type(None)})


def _flatten(value: Any, key: str, flat: dict[str, Any], known: Flats) -> None:
    for below, item in _entries(value, key):
        if item.__class__ in _PLAIN:
            flat[below] = item
        elif (id(item), below) in known:
            flat.update(known[id(item), below])
        elif isinstance(item, (dict, list, tuple, Mapping)) and item:
            _flatten(item, below, flat, known)
        else:
            flat[below] = canonical(item)


_TEXT = frozenset({str})


def _entries(value: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(value, (dict, Mapping)):  # the second is asked for long
        names = tuple(value)
        # 1, 1.0 and true are one key to a cache, and three to YAML.
        known = _dotted if _TEXT.issuperset(map(type, names)) else _dotted.__wrapped__
        return list(zip(known(key, names), value.values(), strict=True))
    return [(f"{key}[{index}]", item) for index, item in enumerate(value)]


@lru_cache(maxsize=1000)  # the configs of a sweep have the same keys
def _dotted(key: str, names: tuple[Any, ...]) -> list[str]:
    """The dotted keys of what lies in a mapping."""
    start = f"{key}." if key else ""
    return [start + _part(name) for name in names]


def _part(name: Any) -> str:
    """A key within a dotted key; text that would read as something else is quoted."""
    return _quoted(name) if isinstance(name, str) else str(canonical(name))


@lru_cache(maxsize=1000)
def _quoted(name: str) -> str:
    odd = not name or any(sign in name for sign in '.[]"') or name.lstrip("-").isdigit()
    return json.dumps(name, ensure_ascii=False) if odd else name


def canonical(value: Any) -> Any:
    """One form for values that mean the same: `1e-4` and `0.0001`, `1.0` and `1`.

    Booleans stay booleans and text stays text. What JSON cannot hold becomes text.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return ".nan"
        if math.isinf(value):
            return ".inf" if value > 0 else "-.inf"
        return int(value) if value.is_integer() and abs(value) < 1e22 else value
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def counted(
    flat: Mapping[str, Any],
    spec: VerbSpec,
    ignore: Sequence[str] = (),
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """The keys that count for the fingerprint, sorted.

    The verb's `ignored_keys` do not, nor those that match `ignore`; what matches `also` does in
    any case. A pattern that names a subtree means all of it.
    """
    chosen = _chosen_keys(tuple(flat), (*spec.ignored_keys, *ignore), tuple(also))
    return {key: flat[key] for key in chosen}


@lru_cache(maxsize=64)  # the configs of a sweep have the same keys
def _chosen_keys(
    keys: tuple[str, ...], ignore: tuple[str, ...], also: tuple[str, ...]
) -> tuple[str, ...]:
    drop, keep = _any_of(ignore), _any_of(also)
    return tuple(key for key in sorted(keys) if keep(key) or not drop(key))


def input_values(
    flat: Mapping[str, Any],
    spec: VerbSpec,
    others: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """(key, value) of each key of a flat config that may name a local input and holds text.

    `others` are the args that are no config keys, for verbs that read an input from one of
    their own options (`--input` of judge). Whether a value is a path is not asked here.
    """
    wanted = _wanted_keys(tuple(flat), spec.input_keys)
    found = [(key, flat[key]) for key in wanted if flat[key] and isinstance(flat[key], str)]
    options = [key for key in spec.input_keys if key.startswith("--")]
    for word in others:
        name, _, value = word.partition("=")
        if name in options and value:
            found.append((name, value))
    return found


@lru_cache(maxsize=64)
def _wanted_keys(keys: tuple[str, ...], patterns: tuple[str, ...]) -> tuple[str, ...]:
    wanted = _any_of(tuple(each for each in patterns if not each.startswith("--")))
    return tuple(key for key in keys if wanted(key))


def own_place(merged: Mapping[str, Any], spec: VerbSpec) -> str | None:
    """The output place that the config (with args merged) names, relative to the workdir."""
    key = spec.config_place_key or spec.output_key
    if not key:
        return None
    value: Any = merged
    for token in tokens_of(key):
        if not isinstance(value, Mapping):
            return None
        value = value.get(token)
    return value if isinstance(value, str) and value else None


@lru_cache(maxsize=64)
def _any_of(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    texts = [_regex(pattern) for pattern in patterns]
    if not texts:
        return lambda key: False
    compiled = re.compile("|".join(texts))
    return lambda key: compiled.fullmatch(key) is not None


def _regex(pattern: str) -> str:
    """See verbs/table.py for the patterns; a pattern matches what lies below it too."""
    text = pattern.removesuffix(".**")
    parts = re.split(r"(\[\*\]|\*\*|\*|\?)", text)
    signs = {"[*]": r"\[\d+\]", "**": ".*", "*": r"[^.\[\]]*", "?": r"[^.\[\]]"}
    body = "".join(signs.get(part, re.escape(part)) for part in parts)
    return rf"(?:{body})(?:[.\[].*)?"
