"""The widget that draws a log: a window on it, moved by keys and mouse, with a bar at its side.

Nothing here waits: each look at the file is a stat, and a read of what is in sight if that said it
changed; a search goes on in steps between two drawings.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from oumi_flow.text import size
from oumi_flow.ui import cells
from oumi_flow.ui.theme import Line, Span
from oumi_flow.ui.tui.log_index import LogIndex, LogLine, Search, search_error, search_for
from oumi_flow.ui.tui.log_window import Row, Window, cropped
from oumi_flow.ui.tui.theme import Look

if TYPE_CHECKING:
    from textual import events
    from textual.timer import Timer

PathOf = Callable[[int], str]  # 0: the newest attempt, 1: the one before it …

LOOK_SECONDS = 0.25  # between two looks at the file
_STEP_SECONDS = 0.015  # of searching between two drawings
_MOST_BACK = 99
_WHEEL = 3  # rows


class LogLines(Widget, can_focus=True):
    BINDINGS: ClassVar = [
        Binding("down,j", "move(1)", "a line down", id="down"),
        Binding("up,k", "move(-1)", "a line up", id="up"),
        Binding("pagedown,space", "page(1)", "a page down", id="page_down"),
        Binding("pageup,b", "page(-1)", "a page up", id="page_up"),
        Binding("home", "start", "the log's beginning", id="top"),
        Binding("end,G", "end", "the log's end", id="bottom"),
        Binding("greater_than_sign,shift+right", "aside(1)", "to the right", id="log_right"),
        Binding("less_than_sign,shift+left", "aside(-1)", "to the left", id="log_left"),
    ]
    ALLOW_SELECT = True

    class Moved(Message):
        """The place, what is shown, or what is said of it has changed."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.look = look
        self.window = Window(LogIndex(""))
        self.back = 0
        self.needle = ""
        self._path_of: PathOf = lambda back: ""
        self._empty = ""
        self._mark: int | None = None  # where the line begins that was found
        self._search: Search | None = None
        self._what = ""  # is searched for, in words
        self._said: Span = ("", "")  # what came of it
        self._stepping: Timer | None = None
        self._grip: int | None = None  # the row of the bar's thumb that the mouse holds
        self._counted = True

    # -- the log ------------------------------------------------------------------------------

    def open(self, path_of: PathOf, back: int, empty: str) -> None:
        self._path_of, self._empty = path_of, empty
        self._show(back)

    def _show(self, back: int) -> None:
        wrap = self.window.wrap
        self.window.index.close()
        self.back = back
        self.window = Window(LogIndex(self._path_of(back)))
        self.window.wrap = wrap
        self.forget()
        self._mark = None
        self.window.index.refresh()
        self._measure()

    def on_mount(self) -> None:
        self.set_interval(LOOK_SECONDS, self._look)

    def on_unmount(self) -> None:
        self.window.index.close()

    def on_resize(self) -> None:
        self._measure()

    def _measure(self) -> None:
        self.window.width = max(1, self.size.width - 1)  # the bar's column
        self.window.height = max(1, self.size.height)
        self._drawn()

    def _drawn(self) -> None:
        """The place or the log has changed: read, draw and tell."""
        self.window.fill()
        self.refresh()
        self.post_message(self.Moved())

    def _look(self) -> None:
        """A stat; more only if that says so."""
        if not self.is_on_screen:
            return
        window, index = self.window, self.window.index
        before = index.inode
        touched = window.at_end
        change = index.refresh()
        if change == "replaced" and before and self._moved_back(before):
            return
        if change == "replaced":
            self._mark = None
            window.top = window.part = 0
            self._stop()
        if change == "replaced" or (change == "grown" and (window.follow or touched)):
            self._drawn()
        elif change == "grown" or not self._counted:
            self.post_message(self.Moved())
        if not window.follow:
            self._counted = index.count()

    def _moved_back(self, inode: tuple[int, int]) -> bool:
        """A new attempt began: who reads what the last one said goes on reading it."""
        if self.window.follow and not self.back:
            return False
        older = LogIndex(self._path_of(self.back + 1))
        older.refresh()
        if older.inode != inode:
            older.close()
            return False
        self.window.index.close()
        self.window.index = older
        self.back += 1
        self._drawn()
        return True

    def attempt(self, step: int) -> None:
        """The log of an older attempt, or a newer one if negative; stays where there is none."""
        back = self.back + step
        if not 0 <= back <= _MOST_BACK or (back and not os.path.exists(self._path_of(back))):
            self._said = ("muted", "no older attempt" if step > 0 else "this is the newest attempt")
            self._drawn()
            return
        self._show(back)

    # -- moving -------------------------------------------------------------------------------

    def follow(self, on: bool) -> None:
        self.window.follow = on
        self._drawn()

    def wrap(self) -> None:
        self.window.wrap = not self.window.wrap
        self.window.left = self.window.part = 0
        self._drawn()

    def action_move(self, rows: int) -> None:
        self.window.move(rows)
        self._drawn()

    def action_page(self, pages: int) -> None:
        self.action_move(pages * max(1, self.window.height - 1))

    def action_start(self) -> None:
        self.window.move_to(0)
        self._drawn()

    def action_end(self) -> None:
        self.follow(True)

    def action_aside(self, steps: int) -> None:
        self.window.aside(steps)
        self._drawn()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(_WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-_WHEEL)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.x == self.size.width - 1 and self._has_bar():
            event.stop()
            first, last = self._thumb()
            self._grip = event.y - first if first <= event.y <= last else 0
            self.capture_mouse()
            self._drag(event.y)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._grip is not None:
            self._drag(event.y)

    def on_mouse_up(self) -> None:
        if self._grip is not None:
            self._grip = None
            self.release_mouse()

    def _drag(self, y: int) -> None:
        height = self.window.height
        first, last = self._thumb()
        top = y - (self._grip or 0)
        if top + (last - first) >= height - 1:
            self.follow(True)
        else:
            self.window.move_to(int(max(0, top) / height * self.window.index.size))
            self._drawn()

    # -- searching ----------------------------------------------------------------------------

    @property
    def searched(self) -> bool:
        """Whether something is being looked for, or marked."""
        return bool(self.needle) or self._search is not None or self._mark is not None

    def forget(self) -> None:
        """End a search, and mark nothing any more."""
        self._stop()
        self.needle, self._said, self._mark = "", ("", ""), None
        self._drawn()

    def search(self, words: str) -> None:
        """Backwards from the end of what is in sight: of a log the newest matters most."""
        self.needle, self._mark = words, None
        if not words:
            self.forget()
            return
        rows = self.window.rows
        at = rows[-1].line.end if rows else 0
        self._start(search_for(self.window.index, words, at, backwards=True), f"/{words}")

    def go_on(self, step: int) -> None:
        """The next match below, or above if negative."""
        if not self.needle:
            return
        rows = self.window.rows
        here = self._found_line()
        if step > 0:
            at = here.end if here else rows[0].line.start if rows else 0
        else:
            at = here.start if here else rows[-1].line.end if rows else 0
        self._start(
            search_for(self.window.index, self.needle, at, backwards=step < 0), f"/{self.needle}"
        )

    def error(self) -> None:
        """The first line that says an error; at one already, the next."""
        here = self._found_line() if self._what == "error" and not self.needle else None
        self.needle = ""
        self._start(search_error(self.window.index, here.end if here else 0), "error")

    def _found_line(self) -> LogLine | None:
        found = (row.line for row in self.window.rows if row.line.start == self._mark)
        return next(found, None)

    def _start(self, search: Search, what: str) -> None:
        self._stop()
        self._search, self._what, self._said = search, what, ("", "")
        self._step()
        if self._search is not None:
            self._stepping = self.set_interval(1 / 30, self._step)

    def _stop(self) -> None:
        self._search = None
        if self._stepping is not None:
            self._stepping.stop()
            self._stepping = None

    def _step(self) -> None:
        search = self._search
        if search is None:
            return
        until = time.monotonic() + _STEP_SECONDS
        while not search.over and time.monotonic() < until:
            search.step()
        if search.over:
            self._stop()
            if search.found is None:
                where = "above" if search.backwards else "below"
                again = self._mark is not None or self.needle
                self._said = ("warn", f"no {'more ' if again else ''}{self._what} {where}")
            else:
                self._mark = search.found.start
                if not self.window.shows(self._mark) or self.window.follow:
                    self.window.move_to(self._mark, self.window.height // 3)
                self._to_the_match(search.found)
        self._drawn()

    def _to_the_match(self, line: LogLine) -> None:
        """Bring a match that is far to the right into sight."""
        at = line.text.lower().find(self.needle.lower()) if self.needle else -1
        if self.window.wrap or at < 0:
            return
        begin = cells.width(line.text[:at])
        end = begin + cells.width(self.needle)
        if not self.window.left <= begin <= end <= self.window.left + self.window.width:
            self.window.left = max(0, end - self.window.width * 2 // 3) if begin > 10 else 0

    # -- drawing ------------------------------------------------------------------------------

    def words(self) -> Line:
        """Where in which log it is."""
        window, index = self.window, self.window.index
        dot = " · " if self.look.theme.unicode else " - "
        parts: list[Span] = [("muted", os.path.basename(index.path) or "no log")]
        if self.back:
            parts.append(
                (
                    "warn",
                    "attempt before the newest"
                    if self.back == 1
                    else f"{self.back} attempts before the newest",
                )
            )
        if index.there:
            if window.follow:
                parts.append(("good", "following"))
            else:
                parts.append(("", self._place()))
        if window.wrap:
            parts.append(("muted", "wrapped"))
        elif window.left:
            parts.append(("muted", f"from column {window.left + 1}"))
        if self._search is not None:
            parts.append(("busy", f"searching {self._what} {self._search.share:.0%}"))
        elif self._said[1]:
            parts.append(self._said)
        elif self.needle:
            parts.append(("muted", f"/{self.needle}"))
        line: Line = []
        for number, part in enumerate(parts):
            if number:
                line.append(("muted", dot))
            line.append(part)
        return line

    def _place(self) -> str:
        window, index = self.window, self.window.index
        if not window.rows:
            return ""
        number = index.number(window.rows[-1].line.start)
        lines = f"line {number:,}, " if number is not None else ""
        return f"{lines}{window.shares[1]:.0%} of {size(index.size)}"

    def _has_bar(self) -> bool:
        return not (self.window.at_start and self.window.at_end)

    def _thumb(self) -> tuple[int, int]:
        """First and last row of the bar's thumb."""
        height = self.window.height
        begin, end = self.window.shares
        length = max(1, round((end - begin) * height))
        if self.window.at_end:
            return height - length, height - 1
        first = min(int(begin * height), height - length - (0 if height == length else 1))
        return max(0, first), max(0, first) + length - 1

    def render_line(self, y: int) -> Strip:
        window, width = self.window, self.size.width
        room = max(1, width - 1)
        if y >= len(window.rows):
            if window.rows or y != min(1, self.size.height - 1):
                return Strip.blank(width)
            return self.look.strip([("muted", f"  {self._empty}")], width)
        strip = self.look.strip(self._line(window.rows[y], room, y), room)
        bar: Span = ("", " ")
        if self._has_bar():
            first, last = self._thumb()
            thumb = first <= y <= last
            if self.look.theme.unicode:
                bar = ("muted", "█") if thumb else ("rule", "│")
            else:
                bar = ("muted", "#") if thumb else ("rule", "|")
        return Strip.join([strip, self.look.strip([bar], width - room)]).apply_offsets(0, y)

    def _line(self, row: Row, room: int, y: int) -> Line:
        text = cropped(row.text, self.window.left)
        cut = cells.width(text) > room or (row.line.cut and not self.window.wrap)
        if cut:
            more = self.look.theme.more
            text = cells.fit(text + more, room, more)
        if row.line.start == self._mark and not self.needle:
            return [("match", text)]
        selected = self._selected(text, y)
        if selected is not None:
            return selected
        return highlighted(text, row.kind, self.needle)

    def _selected(self, text: str, y: int) -> Line | None:
        selection = self.text_selection
        span = selection.get_span(y) if selection is not None else None
        if span is None:
            return None
        start, end = span
        end = len(text) if end < 0 else end
        return [("", text[:start]), ("chosen", text[start:end]), ("", text[end:])]

    def get_selection(self, selection: object) -> tuple[str, str] | None:
        text = "\n".join(cropped(row.text, self.window.left) for row in self.window.rows)
        extract = getattr(selection, "extract", None)
        return (extract(text), "\n") if extract is not None else None

    def selection_updated(self, selection: object) -> None:
        self.refresh()


def highlighted(text: str, style: str, needle: str) -> Line:
    """The text with every `needle` in it marked."""
    if not needle:
        return [(style, text)]
    fold = needle == needle.lower()
    searched, line, at = text.lower() if fold else text, [], 0
    if len(searched) != len(text):  # a few letters grow when they are made small
        return [(style, text)]
    while (hit := searched.find(needle, at)) >= 0:
        line += [(style, text[at:hit]), ("match", text[hit : hit + len(needle)])]
        at = hit + len(needle)
    return [*line, (style, text[at:])]
