"""Sets of jobs to schedule: generated families of ML work, and real ones from a file.

Each is seeded, so that the same call makes the same set. Times are seconds.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from oumi_flow.model import GpuRequest

ONE = GpuRequest(1)
SIZES = (1, 1, 1, 1, 2, 2, 4, 8)


@dataclass
class Set:
    """Jobs in topological order, the machine, and what kind of work each is."""

    family: str
    name: str
    gpus: int
    slots: int
    kinds: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    requests: list[GpuRequest | None] = field(default_factory=list)
    upstream: list[list[int]] = field(default_factory=list)

    def add(
        self,
        kind: str,
        seconds: float,
        needs: list[int] | tuple[int, ...] = (),
        gpu: GpuRequest | None = ONE,
    ) -> int:
        self.kinds.append(kind)
        self.seconds.append(max(0.01, round(seconds, 2)))
        self.requests.append(gpu)
        self.upstream.append(sorted(set(needs)))
        return len(self.kinds) - 1


def about(rng: random.Random, seconds: float, sigma: float = 0.5) -> float:
    """A duration as jobs have them: many near the usual, some far longer."""
    return seconds * rng.lognormvariate(0, sigma)


def wide(rng: random.Random, gpus: int) -> GpuRequest:
    return GpuRequest(min(gpus, rng.choice(SIZES)))


# The families ----------------------------------------------------------------------------------


def sweep_with_stragglers(rng: random.Random, made: Set, jobs: int) -> None:
    for _ in range(jobs):
        made.add(
            "train", about(rng, 1800, 0.3) * (rng.choice((3, 5, 8)) if rng.random() < 0.05 else 1)
        )


def train_then_evals(rng: random.Random, made: Set, jobs: int) -> None:
    while len(made.kinds) < jobs:
        train = made.add("train", about(rng, 3600, 0.6))
        for _ in range(rng.randint(2, 6)):
            made.add("evaluate", about(rng, 400, 0.7), [train])


def pipelines(rng: random.Random, made: Set, jobs: int) -> None:
    for _ in range(max(1, jobs // 6)):
        size = rng.lognormvariate(0, 0.7)
        synth = made.add("synth", about(rng, 300) * size)
        train = made.add("train", about(rng, 3000) * size, [synth])
        quantize = made.add("quantize", about(rng, 200) * size, [train])
        infer = made.add("infer", about(rng, 500) * size, [quantize])
        made.add("judge", about(rng, 150), [infer])
        made.add("evaluate", about(rng, 600) * size, [train])


def random_layered(rng: random.Random, made: Set, jobs: int) -> None:
    before: list[int] = []
    while len(made.kinds) < jobs:
        layer = []
        for _ in range(rng.randint(2, max(6, made.gpus * 4))):
            needs = rng.sample(before, min(len(before), rng.randint(1, 3))) if before else []
            kind = rng.choice(("train", "infer", "evaluate"))
            usual = {"train": 1200, "infer": 300, "evaluate": 200}[kind]
            layer.append(made.add(kind, about(rng, usual, 0.7), needs))
        before = layer


def mixed_sizes(rng: random.Random, made: Set, jobs: int) -> None:
    for _ in range(jobs):
        gpu = wide(rng, made.gpus)
        made.add("train", about(rng, 900, 0.8) * gpu.count**0.3, gpu=gpu)


def mixed_sizes_in_chains(rng: random.Random, made: Set, jobs: int) -> None:
    while len(made.kinds) < jobs:
        train = made.add("train", about(rng, 2400, 0.6), gpu=wide(rng, made.gpus))
        merged = made.add("quantize", about(rng, 200), [train])
        for _ in range(rng.randint(1, 3)):
            made.add(
                "evaluate",
                about(rng, 500),
                [merged],
                GpuRequest(min(made.gpus, rng.choice((1, 1, 2)))),
            )


def evals_on_shared_upstreams(rng: random.Random, made: Set, jobs: int) -> None:
    data = [made.add("synth", about(rng, 300)) for _ in range(3)]
    models = [
        made.add("train", about(rng, 2400, 0.7), [rng.choice(data)])
        for _ in range(max(3, jobs // 8))
    ]
    while len(made.kinds) < jobs:
        made.add("evaluate", about(rng, 500, 0.8), rng.sample(models, rng.randint(1, 3)))


def long_pole(rng: random.Random, made: Set, jobs: int) -> None:
    first = made.add("synth", about(rng, 120))
    work = [made.add("infer", about(rng, 300, 0.4), [first]) for _ in range(jobs - 3)]
    share = sum(made.seconds) / made.gpus
    work.append(made.add("train", share * rng.uniform(0.6, 0.95), [first]))
    made.add("judge", about(rng, 60), work)


def cpu_before_and_after(rng: random.Random, made: Set, jobs: int) -> None:
    for _ in range(max(2, jobs // 3)):
        data = made.add("shell", about(rng, 300, 0.6), gpu=None)
        train = made.add("train", about(rng, 1500, 0.6), [data])
        made.add("shell", about(rng, 200, 0.6), [train], None)


def pinned_beside_auto(rng: random.Random, made: Set, jobs: int) -> None:
    for _ in range(jobs):
        if rng.random() < 0.3:
            named = GpuRequest(1, (rng.randrange(max(1, made.gpus // 2)),))
            made.add("infer", about(rng, 600, 0.6), gpu=named)
        else:
            made.add("train", about(rng, 900, 0.8))


def whole_machine_between(rng: random.Random, made: Set, jobs: int) -> None:
    for _ in range(max(2, jobs // 20)):
        made.add("tune", about(rng, 900, 0.5), gpu=GpuRequest(made.gpus))
    while len(made.kinds) < jobs:
        train = made.add(
            "train", about(rng, 1200, 0.6), gpu=GpuRequest(min(made.gpus, rng.choice((1, 1, 2))))
        )
        made.add("evaluate", about(rng, 300, 0.5), [train])


def rounds(rng: random.Random, made: Set, jobs: int) -> None:
    """Distillation in rounds: infer by many, judge all, train the next."""
    needs: list[int] = []
    while len(made.kinds) < jobs:
        shards = [
            made.add("infer", about(rng, 400, 0.5), needs)
            for _ in range(rng.randint(made.gpus, 3 * made.gpus))
        ]
        judged = [made.add("judge", about(rng, 100), [shard]) for shard in shards]
        needs = [made.add("train", about(rng, 900), judged, GpuRequest(min(made.gpus, 4)))]


FAMILIES: tuple[Callable[[random.Random, Set, int], None], ...] = (
    sweep_with_stragglers,
    train_then_evals,
    pipelines,
    random_layered,
    mixed_sizes,
    mixed_sizes_in_chains,
    evals_on_shared_upstreams,
    long_pole,
    cpu_before_and_after,
    pinned_beside_auto,
    whole_machine_between,
    rounds,
)
# (GPUs, jobs): from a workstation to eight nodes.
MACHINES = (
    (2, 20),
    (4, 40),
    (4, 120),
    (8, 60),
    (8, 200),
    (8, 600),
    (16, 300),
    (32, 1000),
    (64, 2000),
)


def generated(most: int = 2000) -> Iterator[Set]:
    """Every family on every machine, sets of at most so many jobs."""
    for make in FAMILIES:
        for number, (gpus, jobs) in enumerate(MACHINES):
            if jobs > most:
                continue
            rng = random.Random(f"{make.__name__} {number}")
            family = make.__name__.replace("_", " ")
            slots = gpus if make is cpu_before_and_after else 2 * gpus
            made = Set(family, f"{family} #{number}", gpus, slots)
            make(rng, made, jobs)
            yield made


def real(path: str | Path) -> Iterator[Set]:
    """Sets from a file: a list of {name, kind, jobs}, on machines of several sizes.

    `kind` "dag": jobs are [name, seconds, upstream numbers], of one GPU each; "bag":
    [name, seconds, [], GPUs].
    """
    for row in json.loads(Path(path).read_text(encoding="utf-8")):
        for gpus in (4, 16) if row["kind"] == "dag" else (8, 16):
            made = Set("real " + row["kind"] + "s", f"{row['name']} on {gpus}", gpus, 2 * gpus)
            for number, job in enumerate(row["jobs"]):
                count = job[3] if len(job) > 3 else 1
                made.add(job[0], job[1], [], GpuRequest(count) if count else None)
                made.upstream[number] = sorted(set(job[2]))
            yield in_order(made)


def in_order(made: Set) -> Set:
    """The same with every job after what it needs, else as in the file."""
    count = len(made.kinds)
    below: list[list[int]] = [[] for _ in range(count)]
    missing = [len(needs) for needs in made.upstream]
    for job, needs in enumerate(made.upstream):
        for other in needs:
            below[other].append(job)
    from heapq import heappop, heappush

    free = [job for job in range(count) if not missing[job]]
    order: list[int] = []
    while free:
        job = heappop(free)
        order.append(job)
        for later in below[job]:
            missing[later] -= 1
            if not missing[later]:
                heappush(free, later)
    assert len(order) == count, f"{made.name}: a cycle"
    place = {job: number for number, job in enumerate(order)}
    return Set(
        made.family,
        made.name,
        made.gpus,
        made.slots,
        [made.kinds[job] for job in order],
        [made.seconds[job] for job in order],
        [made.requests[job] for job in order],
        [sorted(place[other] for other in made.upstream[job]) for job in order],
    )
