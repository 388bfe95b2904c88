#!/usr/bin/env python3
"""How the recorded figures moved: each by its first, its previous and its newest value.

    python bench/history.py [WORD...]        # only figures with all these words in their names

Figures come from benchmarks that were run with `--record`, a JSON object a line in `history.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator

from measure import HISTORY, table


def entries() -> Iterator[dict[str, object]]:
    """All records, oldest first; lines that are none (a torn last one) are passed over."""
    if not HISTORY.exists():
        return
    for line in HISTORY.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("figures"), dict):
            yield record


def rows(records: Iterable[dict[str, object]], words: list[str]) -> list[list[str]]:
    series: dict[str, list[tuple[float, str]]] = {}
    for record in records:
        figures = record["figures"]
        assert isinstance(figures, dict)
        for name, value in figures.items():
            full = f"{record['bench']}: {name}"
            if all(word in full for word in words):
                series.setdefault(full, []).append((float(value), str(record["commit"])))
    found = []
    for name, values in sorted(series.items()):
        (first, _), (newest, commit) = values[0], values[-1]
        before = values[-2][0] if len(values) > 1 else newest
        change = f"{(newest / before - 1) * 100:+.0f} %" if before else ""
        found.append([name, f"{first:.3f}", f"{before:.3f}", f"{newest:.3f}", change, commit])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="WORD")
    found = rows(entries(), parser.parse_args().words)
    if not found:
        sys.exit("no figures recorded; run a benchmark with --record")
    print(table(["figure", "first", "before", "newest", "change", "commit"], found))


if __name__ == "__main__":
    main()
