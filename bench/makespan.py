"""How well a run fills its GPUs: makespan against the best lower bound, by what is known of times.

    python bench/makespan.py [--sets FILE] [--most-jobs N] [--families] [--worst N]

The real loop runs generated sets of jobs, and real ones from a file, on a clock that jumps
(`scheduling/virtual_run.py`). A ratio of 1.02 means two percent longer than what no schedule can
beat; how near the bound itself is to that, `--check` says for small sets, by a solver.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scheduling.bounds import lower_bound
from scheduling.job_sets import Set, generated, real
from scheduling.virtual_run import VirtualRun, step

Known = Callable[[Set], "Iterator[tuple[float | None, float | None]]"]


def exact(made: Set) -> Iterator[tuple[float | None, float | None]]:
    yield from ((seconds, None) for seconds in made.seconds)


def off(made: Set) -> Iterator[tuple[float | None, float | None]]:
    rng = random.Random(made.name)
    yield from ((seconds * rng.uniform(0.7, 1.3), None) for seconds in made.seconds)


def medians(made: Set) -> Iterator[tuple[float | None, float | None]]:
    times: dict[str, list[float]] = {}
    for kind, seconds in zip(made.kinds, made.seconds, strict=True):
        times.setdefault(kind, []).append(seconds)
    yield from ((None, statistics.median(times[kind])) for kind in made.kinds)


def nothing(made: Set) -> Iterator[tuple[float | None, float | None]]:
    yield from ((None, None) for _ in made.kinds)


KNOWN: dict[str, Known] = {
    "exact history": exact,
    "history off by up to 30 %": off,
    "the verb's median": medians,
    "nothing known": nothing,
}


def makespan(made: Set, known: Known, allocation: str = "dynamic") -> float:
    """Seconds that a run of it takes."""
    names = [str(number) for number in range(len(made.kinds))]
    steps = [
        step(name, kind, tuple(names[o] for o in needs), gpu, took=took, usual=usual)
        for name, kind, needs, gpu, (took, usual) in zip(
            names, made.kinds, made.upstream, made.requests, known(made), strict=True
        )
    ]
    seconds = dict(zip(names, made.seconds, strict=True))
    run = VirtualRun(steps, seconds, gpus=made.gpus, slots=made.slots, allocation=allocation)
    return max(stay.end for stay in run.run().values())


def row(values: Sequence[float]) -> str:
    ordered = sorted(values)
    late = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"{statistics.mean(ordered):7.3f} {late:7.3f} {ordered[-1]:7.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sets", default=os.environ.get("OUMI_FLOW_MAKESPAN_SETS", ""))
    parser.add_argument("--most-jobs", type=int, default=2000, help="leave out larger sets")
    parser.add_argument("--only", default="", help="families with this in their name")
    parser.add_argument("--worst", type=int, default=0, help="name so many of the worst")
    parser.add_argument("--families", action="store_true", help="a row for each family")
    parser.add_argument("--json", default="", help="write all ratios to this file")
    parser.add_argument(
        "--check", type=float, default=0.0, help="seconds a small set for the solver (ortools)"
    )
    options = parser.parse_args()
    sets = list(generated())
    if options.sets:
        sets += real(options.sets)
    sets = [s for s in sets if len(s.kinds) <= options.most_jobs and options.only in s.family]
    if options.check:
        from scheduling.solver import check

        check(sets, options.check)
        return
    bounds = [lower_bound(made) for made in sets]
    print(f"{len(sets)} sets, {sum(len(made.kinds) for made in sets)} jobs")
    print(f"{'makespan / lower bound':28} {'mean':>7} {'p95':>7} {'worst':>7}  CPU")
    found: dict[str, list[float]] = {}
    for words, known in KNOWN.items():
        began = time.process_time()
        found[words] = [
            makespan(made, known) / bound for made, bound in zip(sets, bounds, strict=True)
        ]
        print(f"{words:28} {row(found[words])}  {time.process_time() - began:.0f} s", flush=True)
        if options.worst:
            ranked = sorted(zip(found[words], sets, strict=True), key=lambda pair: -pair[0])
            for ratio, made in ranked[: options.worst]:
                print(f"    {ratio:.3f}  {made.name}, {len(made.kinds)} jobs, {made.gpus} GPUs")
    if options.families:
        print(f"\n{'mean by family':28} " + " ".join(f"{words[:7]:>7}" for words in found))
        for family in dict.fromkeys(made.family for made in sets):
            means = [
                statistics.mean(r for r, m in zip(of, sets, strict=True) if m.family == family)
                for of in found.values()
            ]
            print(f"{family:28} " + " ".join(f"{mean:7.3f}" for mean in means))
    if options.json:
        rows = {
            words: dict(zip([m.name for m in sets], of, strict=True)) for words, of in found.items()
        }
        Path(options.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
