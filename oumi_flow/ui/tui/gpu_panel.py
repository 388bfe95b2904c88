"""The GPUs of this machine: load, memory, and who holds each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from oumi_flow.board import Board
from oumi_flow.text import size
from oumi_flow.ui.frame import bar
from oumi_flow.ui.layout import cut
from oumi_flow.ui.tables import GpuRow
from oumi_flow.ui.theme import Line, Theme
from oumi_flow.ui.tui.painted import Painted

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from oumi_flow.ui.tui.app import FlowApp

_BAR = 20


class GpuPanel(ModalScreen[None]):
    """Shows what the app has asked the driver lately, and asks it to go on asking."""

    app: FlowApp
    DEFAULT_CSS = """
    GpuPanel { align: center middle; background: transparent; }
    GpuPanel > VerticalScroll { width: 96; max-width: 100%; height: auto; max-height: 100%;
        border: round $primary; background: $surface; padding: 0 1; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar = [Binding("escape,enter,q,g", "leave", "back", show=False)]

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box") as box:
            box.border_title = "GPUs"
            yield Painted(self.app.look, self._lines, id="gpu-lines")

    def on_mount(self) -> None:
        self.app.ask_gpus()

    def tick(self, changed: bool) -> None:
        self.query_one("#gpu-lines", Painted).repaint()

    def _lines(self, width: int) -> list[Line]:
        return gpu_lines(self.app.gpu_rows, self.app.source.board, self.app.look.at(width))

    def action_leave(self) -> None:
        self.dismiss(None)


def gpu_lines(rows: Sequence[GpuRow], board: Board, theme: Theme) -> list[Line]:
    """Three lines a GPU: what it is, load and memory, who holds it."""
    if not rows:
        return [[("muted", "no GPUs found: jobs run on the CPU")]]
    used = set(board.devices)
    lines: list[Line] = []
    for row in rows:
        if lines:
            lines.append([])
        mine = "" if row.index in used or not used else "  not of this run"
        lines.append([("strong", f"GPU {row.index}  "), ("", row.name), ("muted", mine)])
        load: Line = []
        if row.utilization is not None:
            load += [("muted", "load "), *bar([("busy", row.utilization / 100)], _BAR, theme)]
            load.append(("", f"{row.utilization:>4.0f}%   "))
        if row.memory_total:
            share = row.memory_used / row.memory_total
            load += [("muted", "memory "), *bar([("busy", share)], _BAR, theme)]
            load.append(("", f" {size(row.memory_used)} of {size(row.memory_total)}"))
        lines.append([("", "  "), *load])
        holder: Line = [("good", "free")]
        if row.holder:
            holder = [("muted", "held by "), ("", row.holder)]
        elif row.stranger:
            holder = [("warn", "used by a process outside oumi-flow")]
        lines.append([("", "  "), *((style, theme.text(text)) for style, text in holder)])
    return [cut(line, theme.width, theme) for line in lines]
