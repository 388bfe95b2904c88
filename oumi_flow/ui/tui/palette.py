"""The command palette: every action by its words, and every job by its name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from oumi_flow.ui.tui.help import key_words
from oumi_flow.ui.tui.keymap import ALWAYS, MAIN

if TYPE_CHECKING:
    from collections.abc import Callable

_FOUND = 50  # jobs that are offered at once


class Jobs(Provider):
    """Actions of the main screen and jobs. Names are no markup."""

    async def discover(self) -> Hits:
        for words, keys, act in self._actions():
            yield DiscoveryHit(Content(words), act, text=words, help=keys)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for words, keys, act in self._actions():
            score = matcher.match(words)
            if score > 0:
                yield Hit(score, Content(words), act, text=words, help=keys)
        app: Any = self.app
        # With thousands of jobs the matcher would be felt; what holds the query comes first.
        wanted = query.casefold()
        found = 0
        for name, row in app.source.board.rows.items():
            if wanted in name.casefold() and found < _FOUND:
                found += 1
                words = app.look.theme.text(name)
                yield Hit(
                    1.0 - found / (2 * _FOUND),
                    Content(words),
                    partial(app.choose, name),
                    text=words,
                    help=row.state.value,
                )

    def _actions(self) -> list[tuple[str, str, Callable[[], Any]]]:
        app: Any = self.app
        main = app.screen_stack[0]
        listed: list[tuple[str, str, Callable[[], Any]]] = []
        for act, node in [*((act, main) for act in MAIN), *((act, app) for act in ALWAYS)]:
            if act.id not in ("palette", "interrupt"):
                keys = key_words(app.settings.keys.get(act.id, act.keys))
                listed.append((act.words, keys, partial(self._run, node, act.action)))
        return listed

    async def _run(self, node: Any, action: str) -> None:
        await self.app.run_action(action, node)
