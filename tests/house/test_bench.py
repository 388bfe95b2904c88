"""The benchmarks still run: what nobody runs every day would break unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def bench(script: str, *words: str) -> str:
    """What a benchmark prints. Fails with all that it said."""
    done = subprocess.run(
        [sys.executable, str(BENCH / script), *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(printed: str, table: str) -> list[list[str]]:
    """The cells of one of the tables of `compare`."""
    _, _, rest = printed.partition(f"### {table}")
    lines = [line for line in rest.partition("###")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


SCRIPTS = sorted({path.name for path in BENCH.glob("*.py")} - {"measure.py"})


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_says_what_it_does(script: str) -> None:
    assert f"python bench/{script}" in bench(script, "--help")


def test_the_graph_of_each_shape_runs_whole_and_in_order() -> None:
    shapes = {"wide": 1, "chain": 1, "layers": 1, "diamond": 2}
    printed = bench(
        "compare.py",
        *("--peers", "oumi-flow", "--shape", ",".join(shapes), "--sizes", "5"),
        *("--rounds", "1", "--what", "cold,noop,one,touched"),
    )
    for shape, reached in shapes.items():
        ran = {what: rows(printed, f"{what}, {shape}, 5 jobs")[0][6] for what in RAN}
        assert ran == {"cold": "5", "noop": "0", "one": str(reached), "touched": "0"}, printed


RAN = ("cold", "noop", "one", "touched")


def test_recorded_figures_are_shown_by_their_first_last_and_newest(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    code = (
        "import sys, measure, history; from pathlib import Path; at = Path(sys.argv[1])\n"
        "for value in (2.0, 4.0, 3.0): measure.remember('b', {'noop': value}, at)\n"
        "at.open('a').write('{\"torn')\n"
        "history.HISTORY = at\n"
        "print(history.rows(history.entries(), ['noop'])[0][:5])\n"
    )
    said = subprocess.check_output([sys.executable, "-c", code, str(history)], cwd=BENCH, text=True)
    assert said.strip() == "['b: noop', '2.000', '4.000', '3.000', '-25 %']"
    first = json.loads(history.read_text().splitlines()[0])
    assert set(first) == {"at", "bench", "commit", "cores", "python", "figures"}
