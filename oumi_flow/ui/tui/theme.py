"""How meanings look on the screen: styles, glyphs, and lines of styled text as strips.

The colours are those of `ui/theme.py`: the sixteen that the terminal itself defines, so light and
dark backgrounds both stay as their owner chose them. `dark` and `light` bring their own instead.
Without colour what is said by colour is said by words, glyphs, bold and reverse all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite, nan
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from oumi_flow.model import JobState
from oumi_flow.ui import cells
from oumi_flow.ui.theme import RICH, Line, Theme

if TYPE_CHECKING:
    from textual.theme import Theme as TextualTheme

THEMES = ("terminal", "dark", "light")

_S = JobState
_GLYPHS: Mapping[JobState, str] = {
    _S.WAITING: "·",
    _S.READY: "·",
    _S.QUEUED: "◌",
    _S.RUNNING: "●",
    _S.RETRYING: "↻",
    _S.DONE: "✓",
    _S.FAILED: "✗",
    _S.CANCELLED: "⊘",
    _S.UP_TO_DATE: "=",
    _S.RESTORED: "+",
    _S.BLOCKED: "⊝",
    _S.INTERRUPTED: "!",
}
_ASCII: Mapping[JobState, str] = {
    **_GLYPHS,
    _S.WAITING: ".",
    _S.READY: ".",
    _S.QUEUED: "o",
    _S.RUNNING: "*",
    _S.RETRYING: "~",
    _S.DONE: "v",
    _S.FAILED: "x",
    _S.CANCELLED: "/",
    _S.BLOCKED: "-",
}
_SPARK = "▁▂▃▄▅▆▇█"
_SPARK_ASCII = "_.-~=*%#"

# What the screen says beyond the words of ui/theme.py.
_MORE = {
    "accent": "blue",
    "mark": "bold blue",  # the edge of what is chosen
    "chosen": "bold blue",
    "title": "bold blue",
    "key": "bold",
    "match": "reverse",
    "rule": "dim",
}
_DARK = {
    "good": "#9ece6a",
    "bad": "bold #f7768e",
    "warn": "#e0af68",
    "busy": "#7dcfff",
    "muted": "#737aa2",
    "strong": "bold #e4e8ff",
    "name": "bold #c0caf5",
    "accent": "#7aa2f7",
    "mark": "bold #7aa2f7",
    "chosen": "bold #e4e8ff on #2e3c64",
    "title": "bold #7aa2f7",
    "key": "bold #7aa2f7",
    "match": "#16161e on #e0af68",
    "rule": "#3b4261",
}
_LIGHT = {
    "good": "#3a7d2c",
    "bad": "bold #c2294a",
    "warn": "#8f5e15",
    "busy": "#0f6f9e",
    "muted": "#7c8093",
    "strong": "bold #1f2335",
    "name": "bold #2a3050",
    "accent": "#2959aa",
    "mark": "bold #2959aa",
    "chosen": "bold #1f2335 on #c9d6f5",
    "title": "bold #2959aa",
    "key": "bold #2959aa",
    "match": "#ffffff on #8f5e15",
    "rule": "#c4c8da",
}


@dataclass(frozen=True)
class Look:
    """What a screen of this terminal looks like. `theme` says what its characters are."""

    theme: Theme
    styles: Mapping[str, Style]
    name: str = "terminal"

    def at(self, width: int) -> Theme:
        """The theme for lines of that many columns."""
        return replace(self.theme, width=width)

    def glyph(self, state: JobState) -> str:
        return (_GLYPHS if self.theme.unicode else _ASCII)[state]

    def style(self, meaning: str) -> Style:
        return self.styles.get(meaning, _NONE)

    def strip(self, line: Iterable[tuple[str, str]], width: int) -> Strip:
        """The line as a strip of exactly `width` columns. Text in it is made harmless."""
        segments: list[Segment] = []
        used = 0
        text_of, style_of = self.theme.text, self.styles.get
        for meaning, words in line:
            words = text_of(words)
            wide = cells.width(words)
            if used + wide > width:
                words = cells.fit(words, width - used, "")
                wide = cells.width(words)
            if words:
                segments.append(Segment(words, style_of(meaning, _NONE)))
                used += wide
            if used >= width:
                break
        if used < width:
            segments.append(Segment(" " * (width - used), _NONE))
        # Terminals and tables of widths disagree on a few characters; ours is the one drawn by.
        return Strip(segments, width)


_NONE = Style()


def look_of(theme: Theme, name: str = "terminal") -> Look:
    """The look named so; anything unknown looks like the terminal itself."""
    table = {"dark": _DARK, "light": _LIGHT}.get(name, {**RICH, **_MORE})
    return Look(theme, {meaning: _style(words) for meaning, words in table.items()}, name)


@lru_cache(128)
def _style(words: str) -> Style:
    return Style.parse(words)


def spark(values: Iterable[float], columns: int, theme: Theme) -> str:
    """The newest of `values` as a line of little bars, at most `columns`; a gap for NaN."""
    kept = list(values)
    if not kept or columns < 2:
        return ""
    if len(kept) > columns:  # the mean of what falls into each column
        step = len(kept) / columns
        kept = [
            _mean(kept[int(n * step) : max(int(n * step) + 1, int((n + 1) * step))])
            for n in range(columns)
        ]
    known = [value for value in kept if isfinite(value)]
    if not known:
        return ""
    low, high = min(known), max(known)
    bars = _SPARK if theme.unicode else _SPARK_ASCII
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(
        bars[round((value - low) * scale) if scale else len(bars) // 2] if isfinite(value) else " "
        for value in kept
    )


def _mean(values: list[float]) -> float:
    known = [value for value in values if isfinite(value)]
    return sum(known) / len(known) if known else nan


def textual_theme(name: str) -> TextualTheme:
    """What Textual's own widgets (inputs, tabs, the palette) take their colours from."""
    from textual.theme import Theme as TextualTheme

    if name == "dark":
        return TextualTheme(
            name="flow-dark",
            primary="#7aa2f7",
            secondary="#7dcfff",
            accent="#bb9af7",
            warning="#e0af68",
            error="#f7768e",
            success="#9ece6a",
            foreground="#c0caf5",
            background="#16161e",
            surface="#1a1b26",
            panel="#24283b",
            dark=True,
            variables={
                "scrollbar": "#3b4261",
                "scrollbar-background": "#16161e",
                "scrollbar-hover": "#565f89",
                "scrollbar-active": "#7aa2f7",
                "border": "#3b4261",
                "border-blurred": "#3b4261",
            },
        )
    if name == "light":
        return TextualTheme(
            name="flow-light",
            primary="#2959aa",
            secondary="#0f6f9e",
            accent="#7847bd",
            warning="#8f5e15",
            error="#c2294a",
            success="#3a7d2c",
            foreground="#343b58",
            background="#f5f6fb",
            surface="#eceef6",
            panel="#e1e4f0",
            dark=False,
            variables={
                "scrollbar": "#c4c8da",
                "scrollbar-background": "#f5f6fb",
                "scrollbar-hover": "#a8aecb",
                "scrollbar-active": "#2959aa",
                "border": "#c4c8da",
                "border-blurred": "#c4c8da",
            },
        )
    return TextualTheme(
        name="flow-terminal",
        ansi=True,
        primary="ansi_blue",
        secondary="ansi_cyan",
        warning="ansi_yellow",
        error="ansi_red",
        success="ansi_green",
        accent="ansi_blue",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        boost="ansi_default",
        dark=True,
        variables={
            "ansi-background": "ansi_default",
            "ansi-foreground": "ansi_default",
            "input-cursor-text-style": "none",
            "border": "ansi_bright_black",
            "border-blurred": "ansi_bright_black",
            "block-cursor-foreground": "ansi_bright_white",
            "block-cursor-background": "ansi_blue",
            "block-cursor-text-style": "bold",
            "input-cursor-background": "ansi_blue",
            "input-cursor-foreground": "ansi_bright_white",
            "input-selection-background": "ansi_blue",
            "input-selection-foreground": "ansi_bright_white",
            "scrollbar": "ansi_bright_black",
            "scrollbar-hover": "ansi_blue",
            "scrollbar-active": "ansi_blue",
            "scrollbar-background": "ansi_default",
            "scrollbar-background-hover": "ansi_default",
            "scrollbar-background-active": "ansi_default",
            "screen-selection-background": "ansi_blue",
            "screen-selection-foreground": "ansi_bright_white",
        },
    )


def rule(width: int, look: Look, title: Sequence[tuple[str, str]] = ()) -> Line:
    """A line across, with a title in it."""
    dash = "─" if look.theme.unicode else "-"
    if not title:
        return [("rule", dash * width)]
    used = sum(cells.width(text) for _, text in title)
    return [("rule", dash + " "), *title, ("rule", " " + dash * max(0, width - used - 3))]
