"""What differs between two sets of parts of a job, as reasons for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from oumi_flow.model import Code, Reason, Value
from oumi_flow.staleness import text_of
from oumi_flow.typed import Any

_TOLD_APART = frozenset({"verb", "config", "env", "workdir", "outputs"})


def differences(before: Mapping[str, Value], after: Mapping[str, Value]) -> list[Reason]:
    """Reasons for fingerprints that differ, from the parts by value. Never none."""
    found = list(_recipe(before, after))
    found += _mapping(Code.CONFIG_CHANGED, before.get("config"), after.get("config"))
    found += _mapping(Code.ENV_CHANGED, before.get("env"), after.get("env"))
    if not found and _set(before.get("outputs")) == _set(after.get("outputs")):
        # The parts do not show it, but what would be done is not what was done.
        found.append(Reason(Code.COMMAND_CHANGED, "command"))
    return found


def _recipe(before: Mapping[str, Value], after: Mapping[str, Value]) -> Iterator[Reason]:
    if before.get("verb") != after.get("verb"):
        yield Reason(Code.COMMAND_CHANGED, "verb", before.get("verb"), after.get("verb"))
    was, now = _command_lines(before), _command_lines(after)
    if was != now:
        yield Reason(Code.COMMAND_CHANGED, "command", was, now)
    if before.get("workdir") != after.get("workdir"):
        yield Reason(Code.COMMAND_CHANGED, "workdir", before.get("workdir"), after.get("workdir"))


def _command_lines(parts: Mapping[str, Value]) -> tuple[str, ...]:
    """The command for people: the lines of its text, its arguments, whatever else there is."""
    run = parts.get("run")
    lines = run.splitlines() if isinstance(run, str) else [str(word) for word in run or ()]
    if isinstance(run, str) and run.endswith("\n\n"):
        lines.append("")
    lines += [str(word) for word in parts.get("args") or ()]
    for name in sorted(parts.keys() - _TOLD_APART - {"run", "args"}):
        lines.append(f"{name}: {text_of(parts[name])}")
    return tuple(lines)


def _mapping(code: Code, before: Any, after: Any) -> list[Reason]:
    was: Mapping[str, Value] = before or {}
    now: Mapping[str, Value] = after or {}
    both = sorted(was.keys() & now.keys())
    found = [
        Reason(code, key, was[key], now[key], "changed")
        for key in both
        if text_of(was[key]) != text_of(now[key])
    ]
    found += [Reason(code, key, None, now[key], "added") for key in sorted(now.keys() - was.keys())]
    found += [
        Reason(code, key, was[key], None, "removed") for key in sorted(was.keys() - now.keys())
    ]
    return found


def _set(values: Any) -> frozenset[str]:
    return frozenset(map(str, values or ()))
