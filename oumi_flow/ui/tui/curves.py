"""The curves of a job's metrics, and of other jobs' laid over them.

A widget that asks a `Source` for points about once a second while a job runs, and draws again only
if there are new ones. A value that is not a number is told in words above the chart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.strip import Strip
from textual.widget import Widget

from oumi_flow.metrics import best_of
from oumi_flow.model import JobState
from oumi_flow.text import count
from oumi_flow.ui import cells
from oumi_flow.ui.layout import cut
from oumi_flow.ui.lines import number
from oumi_flow.ui.theme import Line, Theme
from oumi_flow.ui.tui import chart as charts
from oumi_flow.ui.tui.chart import MARKS, STYLES, Curve, smoothed
from oumi_flow.ui.tui.source import Source
from oumi_flow.ui.tui.theme import Look, spark

if TYPE_CHECKING:
    from textual import events

Points = Mapping[str, Sequence[tuple[float, float]]]

MOST_CURVES = len(MARKS)  # in one chart
_ASK_SECONDS = 1.0
_SMOOTH = (0.0, 0.6, 0.9)
_LIST_FROM = 84  # columns from which the metrics stand beside the chart
_SPARK = 10
_FIRST = ("loss", "eval_loss", "train_loss", "reward", "accuracy", "learning_rate", "grad_norm")
_LAST = ("epoch", "_runtime", "_per_second", "num_tokens", "num_input_tokens_seen", "total_flos")


class CurvesView(Widget, can_focus=True):
    BINDINGS: ClassVar = [
        Binding("down,j", "metric(1)", "next metric", id="down"),
        Binding("up,k", "metric(-1)", "metric before", id="up"),
        Binding("l", "log", "logarithmic scale", id="curves_log"),
        Binding("s", "smooth", "smooth: not, a little, much", id="curves_smooth"),
        Binding("o", "overlay", "lay jobs of the same verb over it", id="curves_overlay"),
    ]

    def __init__(
        self,
        look: Look,
        source: Source,
        jobs: Sequence[str],
        *,
        others: Sequence[str] = (),
        metric: str = "",
        id: str | None = None,
    ) -> None:
        """The curves of `jobs`; `others` are those that may be laid over them."""
        super().__init__(id=id)
        self.look, self._source = look, source
        self.jobs, self.others = tuple(jobs), tuple(others)
        self.metric = metric
        self.log_scale = False
        self.overlaid = False
        self._smooth = 0
        self._points: dict[str, Points] = {}
        self._final: set[str] = set()  # jobs that had ended when they were asked
        self._asked = -math.inf
        self._lines: list[Line] = []
        self._left = 0  # columns of the list of metrics

    # -- what there is to see -------------------------------------------------------------

    def show(self, jobs: Sequence[str]) -> None:
        """The curves of other jobs."""
        self.jobs = tuple(jobs)
        self._asked = -math.inf
        self.refresh_points(0.0)
        self.redraw()

    def refresh_points(self, now: float) -> None:
        """Ask for new points, if it is time to; `now` in seconds of any clock."""
        if now - self._asked < _ASK_SECONDS:
            return
        self._asked = now
        rows = self._source.board.rows
        changed = False
        for job in self.shown():
            row = rows.get(job)
            if job in self._final and (row is None or row.state is not JobState.RUNNING):
                continue
            points = self._source.curves(job)
            changed |= _signature(points) != _signature(self._points.get(job, {}))
            self._points[job] = points
            if row is None or row.state.ended:
                self._final.add(job)
            else:
                self._final.discard(job)
        if changed:
            self.redraw()

    def shown(self) -> list[str]:
        """The jobs whose curves are in the chart, the first one's on top."""
        more = [job for job in self.others if job not in self.jobs] if self.overlaid else []
        return [*self.jobs, *more][:MOST_CURVES]

    def metrics(self) -> list[str]:
        """The names of all metrics, what says most first."""
        names = dict.fromkeys(name for job in self.shown() for name in self._points.get(job, {}))
        return sorted(names, key=rank)

    def redraw(self) -> None:
        self._lines = []
        self.refresh()

    def on_mount(self) -> None:
        self.refresh_points(0.0)

    def on_resize(self) -> None:
        self.redraw()

    # -- keys -----------------------------------------------------------------------------

    def action_metric(self, step: int) -> None:
        names = self.metrics()
        if names:
            self.metric = names[(names.index(self._metric(names)) + step) % len(names)]
            self.redraw()

    def action_log(self) -> None:
        self.log_scale = not self.log_scale
        self.redraw()

    def action_smooth(self) -> None:
        self._smooth = (self._smooth + 1) % len(_SMOOTH)
        self.redraw()

    def action_overlay(self) -> None:
        self.overlaid = not self.overlaid
        self._asked = -math.inf
        self.refresh_points(0.0)
        self.redraw()

    def on_click(self, event: events.Click) -> None:
        names = self.metrics()
        if event.x < self._left:
            place = event.y + self._first(names)
            if place < len(names):
                self.metric = names[place]
                self.redraw()

    # -- drawing --------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        if len(self._lines) != height:
            self._lines = self.lines(width, height)
        return self.look.strip(self._lines[y] if y < len(self._lines) else [], width)

    def lines(self, width: int, height: int) -> list[Line]:
        """Everything, at that size."""
        names = self.metrics()
        theme = self.look.at(width)
        self._left = 0
        if not names:
            words = "no numbers yet: curves appear with the first ones that the job tells"
            return [
                [],
                [("muted", cells.fit(f"  {words}", width, theme.more))],
                *_blanks(height - 2),
            ]
        name = self._metric(names)
        if width < _LIST_FROM or len(names) == 1:
            return self._chart(name, names, self.look.at(width), height)
        self._left = min(
            max(34, width // 3), max(cells.width(theme.text(one)) for one in names) + _SPARK + 13
        )
        listed = self._list(names, name, self.look.at(self._left - 2), height)
        beside = self._chart(name, (), self.look.at(width - self._left), height)
        return [[*_padded(a, self._left), *b] for a, b in zip(listed, beside, strict=True)]

    def _metric(self, names: Sequence[str]) -> str:
        return self.metric if self.metric in names else names[0]

    def _first(self, names: Sequence[str]) -> int:
        """The metric on the first line of the list, so that the chosen one is in sight."""
        height = self.size.height
        at = names.index(self._metric(names)) if names else 0
        return max(0, min(at - height // 2, len(names) - height))

    def _list(self, names: list[str], chosen: str, theme: Theme, height: int) -> list[Line]:
        first = self._first(names)
        room = theme.width - _SPARK - 11
        mark = "▌" if theme.unicode else ">"
        lines: list[Line] = []
        for name in names[first : first + height]:
            here = name == chosen
            points = self._points.get(self.jobs[0], {}).get(name, ())
            curve = spark([value for _, value in points], _SPARK, theme)
            last = number(points[-1][1]) if points else ""
            text = cells.fit_middle(theme.text(name), room, theme.more)
            lines.append(
                [
                    ("mark", mark if here else " "),
                    ("strong" if here else "", cells.pad(text, room)),
                    ("busy" if here else "muted", " " + cells.pad(curve, _SPARK)),
                    ("", cells.pad(last, 9, right=True)),
                ]
            )
        return [*lines, *_blanks(height - len(lines))]

    def _chart(self, name: str, names: Sequence[str], theme: Theme, height: int) -> list[Line]:
        jobs = [job for job in self.shown() if self._points.get(job, {}).get(name)]
        lines = [self._title(name, names, jobs, theme)]
        if len(jobs) > 1 or (jobs and jobs[0] != self.jobs[0]):
            lines += self._legend(name, jobs, theme, max(1, height // 4))
        alerts = [line for job in jobs for line in self._alert(name, job, len(jobs) > 1, theme)]
        lines += alerts[: max(1, height // 4)]
        lines = lines[: max(1, height - 2)] if height > 2 else []
        weight = _SMOOTH[self._smooth]
        curves: list[Curve] = []
        for place, job in reversed(list(enumerate(jobs))):
            points = self._points[job][name]
            mark = MARKS[place] if len(jobs) > 1 else ""
            if weight and len(jobs) == 1:
                curves.append(Curve(points, "muted"))
            curves.append(Curve(smoothed(points, weight), STYLES[place % len(STYLES)], mark))
        drawn = charts.chart(curves, theme, height - len(lines), log=self.log_scale)
        return [*(cut(line, theme.width, theme) for line in lines), *drawn][:height]

    def _title(self, name: str, names: Sequence[str], jobs: Sequence[str], theme: Theme) -> Line:
        line: Line = [("title", theme.text(name))]
        if len(names) > 1:
            line.append(("muted", f" {names.index(name) + 1}/{len(names)}"))
        if len(jobs) == 1:
            line += self._values(name, jobs[0], theme)
        ways = ["log scale"] if self.log_scale else []
        if self._smooth:
            ways.append(f"smoothed {_SMOOTH[self._smooth]:g}")
        if ways:
            line.append(("accent", "  " + ", ".join(ways)))
        return line

    def _legend(self, name: str, jobs: Sequence[str], theme: Theme, most: int) -> list[Line]:
        wide = max(cells.width(theme.text(job)) for job in jobs)
        lines: list[Line] = []
        for place, job in enumerate(jobs[:most]):
            style = STYLES[place % len(STYLES)]
            text = cells.pad(theme.text(job), min(wide, theme.width // 2))
            text = cells.fit_middle(text, theme.width // 2, theme.more)
            line: Line = [(style, f"{MARKS[place]} "), ("name" if job in self.jobs else "", text)]
            lines.append([*line, *self._values(name, job, theme)])
        if len(jobs) > most:
            lines[-1].append(("muted", f"  and {len(jobs) - most} more"))
        return lines

    def _values(self, name: str, job: str, theme: Theme) -> Line:
        points = self._points[job][name]
        step, last = points[-1]
        line: Line = [("muted", "  last "), ("strong", number(last))]
        choose = best_of(name)
        known = [(value, at) for at, value in points if math.isfinite(value)]
        if choose is not None and len(known) > 1:
            value = choose([value for value, _ in known])
            at = next(at for one, at in known if one == value)
            line += [("muted", "  best "), ("good", number(value)), ("muted", f" at {at:g}")]
        return [*line, ("muted", f"  step {step:g}")]

    def _alert(self, name: str, job: str, named: bool, theme: Theme) -> list[Line]:
        bad = [at for at, value in self._points[job][name] if not math.isfinite(value)]
        if not bad:
            return []
        more = f" and {count(len(bad) - 1, 'more point')}" if len(bad) > 1 else ""
        whose = f"{theme.text(job)}: " if named else ""
        words = f"{whose}{name} is not a number at step {bad[0]:g}{more}"
        return [[("bad", theme.text(f"✗ {words}"))]]


def rank(name: str) -> tuple[int, int]:
    """Metrics in the order in which they matter; equal ones keep their own."""
    if name in _FIRST:
        return 0, _FIRST.index(name)
    return (2 if name.endswith(_LAST) else 1), 0


def _signature(points: Points) -> list[tuple[str, int, str]]:
    return [(name, len(curve), repr(curve[-1:])) for name, curve in points.items()]


def _blanks(count: int) -> Iterable[Line]:
    return ([] for _ in range(count))


def _padded(line: Line, width: int) -> Line:
    used = sum(cells.width(text) for _, text in line)
    return [*line, ("", " " * (width - used))]
