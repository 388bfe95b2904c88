#!/usr/bin/env python3
"""What a huge log, a fast one, and curves cost the screen.

    python bench/logs_and_curves.py [--megabytes 1024] [--seconds 10]

Writes a log of that size into a temporary folder. The screen runs without a terminal: what a
terminal takes in is not counted. CPU is that of the screen's process alone, in percent of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from oumi_flow.ui.theme import Theme
from oumi_flow.ui.tui.app import FlowApp
from oumi_flow.ui.tui.chart import Curve, chart
from oumi_flow.ui.tui.detail import JobDetail
from oumi_flow.ui.tui.log_index import LogIndex, Search, search_error, search_for
from oumi_flow.ui.tui.log_view import LogView
from tests.ui.tui_source import StorySource

JOB = "train-1e-4"
WRITER = """
import sys, time
path, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
begin, written = time.monotonic(), 0
with open(path, "a", buffering=1) as file:
    while (now := time.monotonic() - begin) < seconds:
        while written < now * rate:
            file.write(f"{{'loss': 0.5, 'step': {written}, 'learning_rate': 1e-05}}\\n")
            written += 1
        time.sleep(0.01)
print(written)
"""


def say(what: str, value: float, unit: str) -> None:
    print(f"{what:58}{value:10.1f} {unit}")


def timed(work: Callable[[], object], repeat: int = 1) -> float:
    """CPU milliseconds of one."""
    begin = time.process_time()
    for _ in range(repeat):
        work()
    return (time.process_time() - begin) * 1000 / repeat


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def searched(search: Search) -> None:
    while not search.over:
        search.step()


def of_a_huge_log(path: Path, megabytes: int) -> None:
    line = b"{'loss': 0.512345, 'grad_norm': 0.71, 'learning_rate': 1e-05, 'epoch': 0.5}\n"
    block = line * ((1 << 20) // len(line))
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
        file.write(b"ValueError: the end\n")
    before = peak()

    def opening() -> None:
        index = LogIndex(str(path))
        index.refresh()
        index.before(index.size, 50)
        index.close()

    say(f"a log of {megabytes} MB, its last 50 lines", timed(opening, 20), "ms")
    index = LogIndex(str(path))
    index.refresh()
    middle = index.start(index.size // 2)
    say("  50 lines in its middle", timed(lambda: index.after(middle, 50), 20), "ms")
    say("  one step of a search", timed(search_for(index, "nowhere", 0).step), "ms")
    say(
        "  searched from end to end", timed(lambda: searched(search_for(index, "nowhere", 0))), "ms"
    )
    say("  its first error, at its end", timed(lambda: searched(search_error(index))), "ms")

    def counting() -> None:
        while not index.count():
            pass

    say("  all its lines counted", timed(counting), "ms")
    say("  memory more than before", peak() - before, "MB")


def of_a_long_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"before\n")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\nafter\n")
    before = peak()
    index = LogIndex(str(path))
    index.refresh()
    say("a line of 100 MB, seen first", timed(lambda: index.before(index.size, 3)), "ms")
    say("  and again", timed(lambda: index.before(index.size, 3)), "ms")
    say("  memory more than before", peak() - before, "MB")


def of_curves() -> None:
    noisy = [(float(n), math.exp(-n / 500) + 0.05 * math.sin(n * 12.9)) for n in range(2000)]
    theme = Theme(width=120)
    for count in (1, 4):
        curves = [Curve(noisy, mark="abcd"[n]) for n in range(count)]
        cost = timed(lambda curves=curves: chart(curves, theme, 30), 20)  # type: ignore[misc]
        say(f"chart of {count} x 2000 points, 120 x 30, drawn", cost, "ms")
        say("  drawn twice a second", cost * 2 / 10, "% of a core")


async def on_the_screen(
    source: StorySource, page: str, wait: Callable[[], Awaitable[None]]
) -> None:
    app = FlowApp(source, Theme(color=True), clock=time.time)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.push_screen(JobDetail(source, JOB, page))
        await pilot.pause(1.0)
        begin, cpu = time.monotonic(), time.process_time()
        await wait()
        took, used = time.monotonic() - begin, time.process_time() - cpu
        say(f"the screen with this {page}", used / took * 100, "% of a core")
        if page == "log" and (rows := app.screen.query_one(LogView).lines.window.rows):
            print(f"  the last line in sight: {rows[-1].text[:60]}")


def of_the_screen(folder: Path, seconds: float) -> None:
    source = StorySource(folder)
    source.write(JOB, "one line\n")

    async def idle() -> None:
        await asyncio.sleep(seconds)

    print(f"\na job's detail, {seconds:g} s each: a log at rest")
    asyncio.run(on_the_screen(source, "log", idle))

    async def followed() -> None:
        command = [sys.executable, "-c", WRITER, source.log(JOB), "2000", str(seconds)]
        writer = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        out, _ = await writer.communicate()
        await asyncio.sleep(0.5)
        print(f"  written: {int(out)} lines")

    print("2000 lines a second")
    asyncio.run(on_the_screen(source, "log", followed))

    async def growing() -> None:
        points = list(source.points[JOB]["loss"]) * 30
        end = time.monotonic() + seconds
        step = points[-1][0]
        while time.monotonic() < end:
            step += 1
            points.append((step, 1.2))
            source.points[JOB] = {"loss": list(points)}
            await asyncio.sleep(0.5)

    print("a curve of 2000 points that grows twice a second")
    asyncio.run(on_the_screen(source, "curves", growing))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        of_a_huge_log(folder / "huge.log", options.megabytes)
        (folder / "huge.log").unlink()
        of_a_long_line(folder / "line.log")
        of_curves()
        of_the_screen(folder, options.seconds)


if __name__ == "__main__":
    main()
