"""The screen driven by keys, without a terminal.

async def story(at: At) -> None:
    await at.press("enter")
    await at.sees("curves")            # waits until the words are on the screen
drive(StorySource(tmp_path), story, size=(80, 24))
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from rich.style import Style
from textual.pilot import Pilot

from oumi_flow.ui.theme import Theme
from oumi_flow.ui.tui.app import FlowApp
from oumi_flow.ui.tui.keymap import Settings
from tests.ui.tui_source import StorySource

PATIENCE = 60.0  # seconds


class At:
    """The screen as somebody sees it, and their keys."""

    def __init__(self, pilot: Pilot[None], app: FlowApp, source: StorySource) -> None:
        self.pilot, self.app, self.source = pilot, app, source

    def text(self) -> str:
        """What is on the screen, without blanks at the ends of lines."""
        screen = self.app.screen
        strips = screen._compositor.render_strips(screen.size)
        return "\n".join(strip.text.rstrip() for strip in strips)

    def style_of(self, words: str) -> Style:
        """How the first piece of the screen that holds these words is drawn, colours alone."""
        screen = self.app.screen
        for strip in screen._compositor.render_strips(screen.size):
            for text, style, _ in strip:
                if words in text and style is not None:
                    return Style(color=style.color, bold=style.bold)
        raise AssertionError(self.text())

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, asked: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not asked():
            assert time.monotonic() < deadline, self.text()
            await self.pilot.pause(0.02)

    async def sees(self, *words: str) -> None:
        await self.until(lambda: all(word in self.text() for word in words))

    async def misses(self, *words: str) -> None:
        """Waits until none of the words is there."""
        await self.until(lambda: not any(word in self.text() for word in words))


class Lasting(FlowApp):
    NOTIFICATION_TIMEOUT = 600  # seconds: none goes before a slow machine has seen it


def drive(
    source: StorySource,
    story: Callable[[At], Awaitable[None]],
    *,
    size: tuple[int, int] = (100, 30),
    encoding: str = "utf-8",
    color: bool = True,
    settings: Settings | None = None,
    read_only: bool = False,
) -> None:
    """Open the screen over the source, live the story, close it."""

    async def live() -> None:
        theme = Theme(color=color, encoding=encoding)
        app = Lasting(source, theme, settings, clock=lambda: source.now, read_only=read_only)
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            await story(At(pilot, app, source))
        if app.fault is not None:
            raise app.fault

    asyncio.run(live())
