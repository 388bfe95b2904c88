#!/usr/bin/env python3
"""Draws terminal screens as one SVG, for README: `make_picture.py OUT.svg SCREEN…`.

A screen is what `tmux capture-pane -e -p` wrote of a real run. Screens are put one below the
other. Fonts are the reader's own: nothing is fetched.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

_COLUMNS = 96  # at least


def main(out: str, screens: list[str]) -> None:
    texts = [Path(screen).read_text(encoding="utf-8").rstrip() for screen in screens]
    lines = [Text.from_ansi(line.rstrip()) for text in texts for line in text.split("\n")]
    width = max(_COLUMNS, *(line.cell_len for line in lines))
    console = Console(record=True, width=width, file=open("/dev/null", "w"))  # noqa: SIM115
    for line in lines:
        console.print(line, soft_wrap=True)
    svg = console.export_svg(title="oumi-flow run workflow.yaml")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    # Some viewers join blanks otherwise, non-breaking ones too.
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    Path(out).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
