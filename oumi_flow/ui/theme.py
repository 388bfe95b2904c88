"""What a stream can show: colours, glyphs, columns; and pieces of text with a style.

Styles are meanings, not colours. They use the sixteen colours that every terminal's own theme
defines, and `dim` for what is secondary, so both light and dark backgrounds stay readable.
Knows nothing of jobs. rich is not needed to print these.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from oumi_flow.dataclass import dataclass
from oumi_flow.typed import TextIO
from oumi_flow.ui import cells

Span = tuple[str, str]  # style, text
Line = list[Span]

_SGR = {
    "good": "32",
    "bad": "1;31",
    "warn": "33",
    "busy": "36",
    "muted": "2",
    "strong": "1",
    "name": "1",
}
RICH = {
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
    "busy": "cyan",
    "muted": "dim",
    "strong": "bold",
    "name": "bold",
}
STATE_STYLE = {
    "waiting": "muted",
    "ready": "muted",
    "queued": "muted",
    "running": "busy",
    "retrying": "warn",
    "done": "good",
    "failed": "bad",
    "cancelled": "warn",
    "up to date": "muted",
    "restored": "good",
    "blocked": "warn",
    "interrupted": "warn",
    "lost": "bad",
    "will run": "busy",
    "may run": "warn",
}
_PLAIN = str.maketrans(
    {"→": "->", "…": "...", "·": "-", "✓": "OK", "✗": "x", "×": "x", "—": "-", "–": "-", "│": "|"}
)


@dataclass(frozen=True, slots=True)
class Theme:
    """`width` 0: no limit, lines may be as long as they are."""

    color: bool = False
    encoding: str = "utf-8"
    width: int = 0
    screen: bool = False  # a block that redraws itself is welcome

    @property
    def unicode(self) -> bool:
        return self.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")

    @property
    def more(self) -> str:
        return "…" if self.unicode else "..."

    def text(self, text: str) -> str:
        """`text` made harmless, in characters that the stream has."""
        if text.isascii() and text.isprintable():
            return text
        text = cells.clean(text)
        if self.unicode or text.isascii():
            return text
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            text = text.translate(_PLAIN)
            return text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        return text

    def paint(self, style: str, text: str) -> str:
        """Harmless `text` in that style."""
        text = self.text(text)
        if not self.color:
            return text
        code = _SGR.get(style)
        return f"\x1b[{code}m{text}\x1b[0m" if code and text else text

    def render(self, line: Iterable[Span]) -> str:
        if not self.color:
            return self.text("".join([text for _, text in line])).rstrip()
        return "".join([self.paint(style, text) for style, text in line]).rstrip()


def theme_of(stream: TextIO, environ: Mapping[str, str] | None = None) -> Theme:
    """What `stream` can show. Pipes, CI, TERM=dumb and NO_COLOR get words without colour."""
    environ = os.environ if environ is None else environ
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        terminal = stream.isatty()
    except ValueError:  # closed
        terminal = False
    lively = (
        terminal
        and environ.get("TERM", "") not in ("", "dumb")
        and not environ.get("NO_COLOR")
        and environ.get("CI", "").lower() in ("", "0", "false")
    )
    return Theme(lively, encoding, _columns(stream, environ) if terminal else 0, lively)


def _columns(stream: TextIO, environ: Mapping[str, str]) -> int:
    try:
        return int(environ["COLUMNS"])
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 80


def line_width(line: Iterable[Span]) -> int:
    return sum(cells.width(text) for _, text in line)
