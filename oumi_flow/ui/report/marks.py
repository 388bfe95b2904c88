"""How a state is told on the page: a word, a glyph, and a kind that has a colour and a pattern."""

from __future__ import annotations

from collections.abc import Mapping

from oumi_flow.ui.report.markup import Markup, el

# state -> glyph, kind. The kinds are classes of style.py; a state is never told by colour alone.
_MARKS: Mapping[str, tuple[str, str]] = {
    "planned": ("·", "quiet"),
    "waiting": ("·", "quiet"),
    "ready": ("·", "quiet"),
    "queued": ("◌", "quiet"),
    "running": ("●", "busy"),
    "retrying": ("↻", "warn"),
    "done": ("✓", "good"),
    "failed": ("✗", "bad"),
    "cancelled": ("⊘", "warn"),
    "up to date": ("=", "quiet"),
    "restored": ("+", "good"),
    "blocked": ("⊝", "warn"),
    "interrupted": ("!", "warn"),
    "lost": ("!", "bad"),
}
# As they are told in counts and legends.
ORDER = (
    "running",
    "retrying",
    "queued",
    "ready",
    "waiting",
    "done",
    "restored",
    "up to date",
    "failed",
    "blocked",
    "cancelled",
    "interrupted",
)


def glyph(state: str) -> str:
    return _MARKS.get(state, ("·", ""))[0]


def kind(state: str) -> str:
    """good | bad | warn | busy | quiet"""
    return _MARKS.get(state, ("", "quiet"))[1]


def badge(state: str, word: str = "") -> Markup:
    """A state in a line of text: its glyph and its word."""
    sign = el("span", glyph(state), aria_hidden="true")
    return el("span", sign, f" {word or state}", class_=f"state {kind(state)}")
