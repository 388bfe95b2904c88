"""The words for reasons, made in this one place: plan, `why`, `status`, log and JSON all use them.

Knows no disk and no judge. Texts from files are shown so that they cannot drive a terminal.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from oumi_flow.model import Code, Reason, Step, Trace
from oumi_flow.text import duration
from oumi_flow.typed import Any

# So many keys or paths of one kind are named, then `(+4 more)`.
NAMED = 3
# Of a job whose result will be brought back.
TO_RESTORE = "in cache: will be restored"
_WIDTH = 60


def words(reason: Reason, verbose: bool = False) -> str:
    """One reason as a user reads it; `verbose` adds differences in full (more lines)."""
    return _line([reason], verbose)


def lines(reasons: Iterable[Reason], verbose: bool = False) -> list[str]:
    """All reasons, those of one kind in one line; `verbose` names every one of them."""
    groups: dict[tuple[object, ...], list[Reason]] = {}
    for reason in reasons:
        groups.setdefault(_kind(reason), []).append(reason)
    return [_line(group, verbose) for group in groups.values()]


def of_step(step: Step, verbose: bool = False) -> list[str]:
    """Why a job is to run; the first line says too if its result will come from the cache."""
    found = lines(step.reasons, verbose)
    if step.restores:
        found[:1] = [f"{found[0]}; {TO_RESTORE}" if found else TO_RESTORE]
    return found


def headline(reasons: Sequence[Reason]) -> str:
    """The first line: what matters most. "" for no reasons."""
    if not reasons:
        return ""
    kind = _kind(reasons[0])
    return _line([reason for reason in reasons if _kind(reason) == kind], False)


def up_to_date(trace: Trace | None) -> str:
    """`up to date (made 2026-01-03 11:20, took 42m)`, in local time."""
    return "up to date" if trace is None else f"up to date ({_made(trace)})"


def restored(trace: Trace) -> str:
    """`restored from cache (made 2026-01-03 11:20, took 42m)`, in local time."""
    return f"restored from cache ({_made(trace)})"


def _made(trace: Trace) -> str:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(trace.finished))
    if trace.exit_code is None:
        return f"taken as made {made}"
    return f"made {made}, took {duration(trace.finished - trace.started)}"


def value(what: Any, verbose: bool = False) -> str:
    """A config value or the like, in the spelling of YAML; long ones are cut unless `verbose`."""
    if isinstance(what, str):
        text = printable(what) if what and what == what.strip() else f'"{printable(what)}"'
    elif what is None or isinstance(what, bool):
        text = {None: "null", True: "true", False: "false"}[what]
    else:
        text = printable(str(what))
    if len(text) > _WIDTH and not verbose:
        return text[: _WIDTH - 1] + "…"
    return text


def printable(text: str) -> str:
    """The text with control characters and broken bytes written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _kind(reason: Reason) -> tuple[object, ...]:
    """Reasons of the same kind share a line."""
    code = reason.code
    if code in (Code.FORCED, Code.COMMAND_CHANGED, Code.SOFTWARE_CHANGED, Code.UPSTREAM_CHANGED):
        return (code, reason.subject)
    if code in (Code.CONFIG_CHANGED, Code.ENV_CHANGED, Code.INPUT_CHANGED):
        return (code, reason.change)
    return (code,)


def _line(group: Sequence[Reason], verbose: bool) -> str:
    first = group[0]
    code, subject, change = first.code, printable(first.subject), first.change
    if code is Code.FORCED:
        return "always_run is set" if subject == "always_run" else f"forced by {subject}"
    if code is Code.NEVER_RUN:
        return "has not run here before" + _renamed(first)
    if code is Code.INTERRUPTED:
        return f"last attempt was interrupted{_in_brackets(subject, first.before)}{_resumes(first)}"
    if code is Code.FAILED:
        return f"last attempt failed{_in_brackets(subject, None)}{_resumes(first)}"
    if code is Code.OUTPUT_MISSING:
        return f"output missing: {_subjects(group, verbose)}"
    if code is Code.OUTPUT_CHANGED:
        return f"output changed since it was made: {_subjects(group, verbose)}"
    if code is Code.COMMAND_CHANGED:
        return _recipe(first, verbose)
    if code is Code.CONFIG_CHANGED:
        if change == "changed":
            return "config changed: " + _named([_change(r, verbose) for r in group], verbose)
        return f"config key {change}: {_subjects(group, verbose)}"
    if code is Code.ENV_CHANGED:
        return f"env {change}: " + _named([_variable(r, verbose) for r in group], verbose)
    if code is Code.INPUT_CHANGED:
        return _input(group, verbose)
    if code is Code.UPSTREAM_CHANGED:
        paths = [printable(str(r.after)) for r in group if r.after]
        return f"{subject} made a new {_named(paths, verbose) if paths else 'result'}"
    if code is Code.OUTPUTS_SET_CHANGED:
        new = [f"+ {printable(path)}" for path in first.after or ()]
        gone = [f"- {printable(path)}" for path in first.before or ()]
        return "outputs list changed: " + ", ".join(new + gone)
    if code is Code.SOFTWARE_CHANGED:
        return f"{subject} changed: {value(first.before)} → {value(first.after)}"
    return f"waits for {_subjects(group, verbose)}; skipped if its output comes out the same"


def _renamed(reason: Reason) -> str:
    if not reason.subject:
        return ""
    from shlex import quote

    command = " ".join(
        quote(printable(str(word))) for word in (reason.before, reason.subject, reason.after)
    )
    return f"; looks like {printable(reason.subject)} renamed: oumi-flow rename {command}"


def _in_brackets(detail: str, at: Any) -> str:
    """` (SIGINT, 14:02)`: the time belongs to signals, the other causes say enough."""
    if detail.startswith("SIG") and isinstance(at, (int, float)):
        then, now = time.localtime(at), time.localtime()
        today = then[:3] == now[:3]
        detail += time.strftime(", %H:%M" if today else ", %Y-%m-%d %H:%M", then)
    return f" ({detail})" if detail else ""


def _resumes(reason: Reason) -> str:
    return f"; resumes from {printable(str(reason.after))}" if reason.after else ""


def _recipe(reason: Reason, verbose: bool) -> str:
    if reason.subject != "command":
        before, after = value(reason.before, verbose), value(reason.after, verbose)
        return f"{printable(reason.subject)} changed: {before} → {after}"
    if not verbose or not (reason.before or reason.after):
        return "command changed"
    from difflib import ndiff

    # The words of a list or the lines of a text, each with - or + before it.
    changes = ndiff(list(reason.before or ()), list(reason.after or ()))
    shown = [printable(line.rstrip("\n")) for line in changes if not line.startswith("?")]
    return "\n".join(["command changed:", *(f"  {line}" for line in shown)])


def _change(reason: Reason, verbose: bool) -> str:
    before, after = value(reason.before, verbose), value(reason.after, verbose)
    return f"{printable(reason.subject)}: {before} → {after}"


def _variable(reason: Reason, verbose: bool) -> str:
    """A secret has no value in its reason: None stands for it."""
    name = printable(reason.subject)
    if reason.change == "changed":
        if reason.before is None or reason.after is None:
            return f"{name}: value hidden"
        return _change(reason, verbose)
    here = reason.after if reason.change == "added" else reason.before
    return f"{name} (value hidden)" if here is None else name


def _input(group: Sequence[Reason], verbose: bool) -> str:
    change, _, when = group[0].change.partition(" ")
    return f"input {change}: {_subjects(group, verbose)}" + (f" ({when})" if when else "")


def _subjects(group: Sequence[Reason], verbose: bool) -> str:
    return _named([printable(reason.subject) for reason in group], verbose)


def _named(items: Sequence[str], verbose: bool) -> str:
    if verbose or len(items) <= NAMED:
        return ", ".join(items)
    return ", ".join(items[:NAMED]) + f" (+{len(items) - NAMED} more)"
