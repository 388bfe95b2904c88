"""Columns and paragraphs of styled text, for streams of any width. Knows no jobs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from oumi_flow.ui import cells
from oumi_flow.ui.theme import Line, Span, Theme, line_width

_LEAST = 10  # a column is not cut below this


def columns(
    rows: Sequence[Sequence[Line]],
    theme: Theme,
    *,
    header: Sequence[str] = (),
    right: Collection[int] = (),
    middle: Collection[int] = (0,),
    whole: Collection[int] = (),
    drop: Sequence[int] = (),
    indent: int = 2,
    gap: int = 2,
) -> list[Line]:
    """The rows with their cells below each other, cut to the theme's width.

    `right`: columns of numbers, never cut, as those in `whole`. `middle`: cut in their middle, as
    names are. Columns in `drop` go first when there is no room for all, then the widest is cut.
    A column that is empty everywhere is left out.
    """
    table = [*([[[("muted", word)] for word in header]] if header else []), *map(list, rows)]
    if not table:
        return []
    count = max(len(row) for row in table)
    for row in table:
        row.extend([] for _ in range(count - len(row)))
    start = 1 if header else 0
    used = [i for i in range(count) if any(line_width(row[i]) for row in table[start:])]
    widths = {i: max(line_width(row[i]) for row in table) for i in used}
    if theme.width:
        rigid = {i for i in used if i in right or i in whole}
        for column in drop:
            least = sum(w if i in rigid else min(w, _LEAST) for i, w in widths.items())
            if column in widths and indent + least + gap * (len(widths) - 1) > theme.width:
                del widths[column]
        used = list(widths)
        _shrink(widths, rigid, theme.width - indent - gap * (len(used) - 1))
    lines = []
    for row in table:
        line: Line = [("", " " * indent)]
        for i in used:
            cell = cut(row[i], widths[i], theme, i in middle)
            blanks = ("", " " * (widths[i] - line_width(cell)))
            line += [blanks, *cell] if i in right else [*cell, blanks]
            if i != used[-1]:
                line.append(("", " " * gap))
        lines.append(line)
    return lines


def _shrink(widths: dict[int, int], rigid: Collection[int], room: int) -> None:
    over = sum(widths.values()) - room
    soft = [i for i in widths if i not in rigid]
    while over > 0 and soft:
        widest = max(soft, key=lambda i: widths[i])
        if widths[widest] <= _LEAST:
            return
        # Down to the next widest, or as much as is asked; equals take turns.
        others = [widths[i] for i in soft if i != widest]
        step = min(over, max(1, widths[widest] - max([*others, _LEAST])))
        widths[widest] -= step
        over -= step


def cut(line: Line, room: int, theme: Theme, middle: bool = False) -> Line:
    """The line at most `room` columns wide."""
    if line_width(line) <= room:
        return line
    line = [span for span in line if span[1]]
    if middle and len(line) == 1:
        style, text = line[0]
        return [(style, cells.fit_middle(text, room, theme.more))]
    result: Line = []
    left = room
    for style, text in line:
        wide = cells.width(text)
        if wide > left or (wide == left and (style, text) != line[-1]):
            result.append((style, cells.fit(text + " " * room, left, theme.more)))
            return result
        result.append((style, text))
        left -= wide
    return result


def cut_first(line: Line, room: int, theme: Theme) -> Line:
    """The line at most `room` columns wide; its first span gives way first, as long as it tells."""
    over = line_width(line) - room
    if over <= 0:
        return line
    (style, text), *rest = line
    left = cells.width(text) - over
    if left < min(cells.width(text), 2 * _LEAST):
        return cut(line, room, theme)
    return [(style, cells.fit(text, left, theme.more)), *rest]


def hanging(lead: Line, text: Span, theme: Theme, *, below: int = 6, least: int = 28) -> list[Line]:
    """`lead`, then `text` beside it, wrapped under itself; below it where there is no room.

    `below` is the indent in that case, `least` the room that the text wants beside the lead.
    """
    style, words = text
    if not words:
        return [lead]
    if not theme.width:
        return [[*lead, text]]
    used = line_width(lead)
    if used + cells.width(words) <= theme.width:
        return [[*lead, text]]
    if theme.width - used >= least:
        first, *rest = cells.wrap(words, theme.width - used)
        return [[*lead, (style, first)], *([("", " " * used), (style, line)] for line in rest)]
    return [
        lead,
        *(
            [("", " " * below), (style, line)]
            for line in cells.wrap(words, max(10, theme.width - below))
        ),
    ]


def paragraph(
    spans: Iterable[Span], theme: Theme, indent: int = 0, hang: int | None = None
) -> list[Line]:
    """Spans that follow each other, broken at blanks where the width ends.

    A word that is too long stays whole: a path is there to be copied.
    `hang` is the indent of all lines but the first; default: two more than `indent`.
    """
    hang = indent + 2 if hang is None else hang
    lines: list[Line] = []
    line: Line = [("", " " * indent)] if indent else []
    used = indent
    for style, text in spans:
        if not theme.width or used + cells.width(text) <= theme.width:
            line.append((style, text))
            used += cells.width(text)
            continue
        # Each word with the blanks before it; those fall away where a new line begins.
        for word in re.findall(r" *[^ ]+| +", text):
            if used + cells.width(word) > theme.width and used > hang:
                lines.append(line)
                line, used = [("", " " * hang)], hang
                word = word.lstrip()
            if word:
                line.append((style, word))
                used += cells.width(word)
    return [*lines, line]
