"""What the keys do: one table for the bindings, the help, the status bar and the user's settings.

A user's settings come as a mapping that somebody else has read from a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from textual.binding import Binding, BindingType

from oumi_flow.text import did_you_mean
from oumi_flow.ui.tui.jobs import SORTS, JobList
from oumi_flow.ui.tui.theme import THEMES

VIEWS = ("cards", "table")


class Act(NamedTuple):
    """A key, or several with commas, and what it does; `short` is for the status bar."""

    id: str
    keys: str
    action: str
    words: str
    short: str = ""


# On the main screen, in the order in which the help tells them.
MAIN = (
    Act("cancel", "c", "cancel", "stop the chosen job (asks first)", "cancel"),
    Act("again", "R", "again", "run the chosen job again, if it failed or was stopped"),
    Act(
        "filter",
        "slash",
        "filter",
        "show only jobs whose name, verb or state holds some words",
        "filter",
    ),
    Act("sort", "s", "sort", "another order: by activity, plan, name, time, metric"),
    Act("view", "t", "view", "cards, or a table with a line a job"),
    Act("refresh", "r", "refresh", "look again; go to the newest run of this folder"),
    Act("dag", "d", "dag", "the graph of jobs", "dag"),
    Act("metrics", "m", "metrics", "all jobs' numbers beside each other", "metrics"),
    Act("gpus", "g", "gpus", "the GPUs: load, memory, who holds them"),
    Act("follow", "f", "follow", "follow the log, or stop following"),
    Act("match", "n", "log('n')", "next match in the log"),
    Act("match_before", "N", "log('N')", "match before in the log"),
    Act("error", "e", "log('e')", "first error in the log"),
    Act("pager", "L", "pager", "the log in your pager ($PAGER)"),
    Act("editor", "E", "editor", "the log in your editor ($VISUAL, $EDITOR)"),
    Act("copy", "y", "copy", "copy the job's command"),
    Act("focus", "tab", "other", "between the jobs and the log"),
    Act("clear", "escape", "clear", "show all jobs again"),
)
# Everywhere.
ALWAYS = (
    Act("help", "question_mark", "help", "this help", "help"),
    Act("palette", "ctrl+p,colon", "palette", "every action and every job, by name"),
    Act("leave", "q", "leave", "leave the screen; the run goes on", "leave"),
    Act("stop", "Q", "stop", "stop the whole run (asks first)"),
    Act("interrupt", "ctrl+c", "stop", "the same"),
)
# What a screen that may only look on refuses.
WISHES = frozenset({"cancel", "again", "stop"})
_EVEN_WHILE_TYPING = ("interrupt",)


def bindings(acts: tuple[Act, ...]) -> list[BindingType]:
    return [
        Binding(
            act.keys,
            act.action,
            act.words,
            id=act.id,
            show=bool(act.short),
            priority=act.id in _EVEN_WHILE_TYPING,
        )
        for act in acts
    ]


@dataclass(frozen=True)
class Settings:
    """What a user may choose. `keys`: id of an action -> keys, separated by commas."""

    theme: str = "terminal"
    ascii: bool = False
    mouse: bool = True
    view: str = "cards"
    sort: str = "activity"
    keys: Mapping[str, str] = field(default_factory=dict)


def groups(screen: str = "") -> list[tuple[str, list[BindingType]]]:
    """All bindings under titles, those of the screen of that class first. Imports every screen."""
    from oumi_flow.ui.tui.curves import CurvesView
    from oumi_flow.ui.tui.detail import JobDetail
    from oumi_flow.ui.tui.log_lines import LogLines
    from oumi_flow.ui.tui.log_view import LogView
    from oumi_flow.ui.tui.metrics_view import CurvesScreen, Grid, MetricsView

    detail, metrics = JobDetail.__name__, (MetricsView.__name__, CurvesScreen.__name__)
    found: list[tuple[str, list[BindingType], tuple[str, ...]]] = [
        ("Everywhere", list(bindings(ALWAYS)), ()),
        ("Jobs", list(JobList.BINDINGS), ("MainScreen",)),
        ("Main screen", list(bindings(MAIN)), ("MainScreen",)),
        ("A job", list(JobDetail.BINDINGS), (detail,)),
        ("Its log", [*LogView.BINDINGS, *LogLines.BINDINGS], (detail,)),
        ("Its curves", list(CurvesView.BINDINGS), (detail, metrics[1])),
        ("Metrics", [*MetricsView.BINDINGS, *Grid.BINDINGS], metrics),
    ]
    found.sort(key=lambda group: screen not in group[2] if screen else False)
    return [(title, listed) for title, listed, _ in found]


def ids() -> list[str]:
    """Everything that a key can be given to."""
    listed = (binding for _, group in groups() for binding in group)
    return list(dict.fromkeys(str(one.id) for one in listed if isinstance(one, Binding)))


def read_settings(data: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The settings, and a word about each that is not understood; those keep their default."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    choices = {"theme": THEMES, "view": VIEWS, "sort": SORTS}
    for key, value in data.items():
        if key in choices:
            if value in choices[key]:
                values[key] = value
            else:
                problems.append(f"{key}: expected {' | '.join(choices[key])}, got {value}")
        elif key in ("ascii", "mouse"):
            if isinstance(value, bool):
                values[key] = value
            else:
                problems.append(f"{key}: expected true or false, got {value}")
        elif key == "keys":
            values["keys"] = _keys(value, problems)
        else:
            known = [*choices, "ascii", "mouse", "keys"]
            problems.append(f'no setting "{key}"; {did_you_mean(str(key), known) or known}')
    return Settings(**values), problems


def _keys(value: Any, problems: list[str]) -> dict[str, str]:
    if not isinstance(value, Mapping):
        problems.append(f"keys: expected a mapping of actions to keys, got {value}")
        return {}
    found = {}
    for name, keys in value.items():
        if name not in ids():
            hint = did_you_mean(str(name), ids()) or f"there are: {', '.join(ids())}"
            problems.append(f'keys: no action "{name}"; {hint}')
        elif not isinstance(keys, str) or not keys.strip():
            problems.append(f"keys.{name}: expected keys such as `x` or `ctrl+x,f5`, got {keys}")
        else:
            found[str(name)] = keys
    return found
