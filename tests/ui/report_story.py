"""Made-up runs for reports: a sweep on GPUs with everything in it that a page can show."""

from __future__ import annotations

import math

from oumi_flow.board import fold
from oumi_flow.events import (
    Event,
    JobFinished,
    JobQueued,
    JobRetrying,
    JobStarted,
    Note,
    Planned,
    Row,
    RunFinished,
    RunStarted,
)
from oumi_flow.ui.report.facts import Curve, FileFact, JobFact, Report
from oumi_flow.ui.report.spans import spans
from tests.ui.story import BEGAN

RATES = ("1e-5", "3e-5", "1e-4", "3e-4")
BATCHES = (8, 16)
TAIL = (
    "step 180 loss 2.31",
    '  File "trainer.py", line 88, in step',
    "    loss.backward()",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB.",
)


def sweep(rates: int = 4, batches: int = 2, gpus: int = 2) -> Report:
    """`rates` × `batches` trainings, each with its evaluation, on `gpus` GPUs; some fail."""
    names = [
        (f"lr{RATES[r] if r < 4 else f'{r}e-5'}-bs{8 * (b + 1)}", r, b)
        for r in range(rates)
        for b in range(batches)
    ]
    rows = [Row("prep", "synth", "run", ("input changed: data/seeds.jsonl",), expected=40.0)]
    rows += [
        Row(f"train-{n}", "train", "run", ("has not run here before",), ("prep",), 200.0, gpus=1)
        for n, _, _ in names
    ]
    rows += [
        Row(f"eval-{n}", "evaluate", "run", ("has not run here before",), (f"train-{n}",), gpus=1)
        for n, _, _ in names
    ]
    rows += [
        Row("baseline", "evaluate", "up to date", ("up to date (made 2026-01-02 09:10)",)),
        Row(
            "pack",
            "shell",
            "run",
            ("has not run here before",),
            tuple(f"eval-{n}" for n, *_ in names),
        ),
    ]
    events: list[Event] = [
        RunStarted(
            "20260103-112000-a1b2", "sft-sweep", "sweep.yaml", "outputs/sft-sweep", 4711, "gpu-box",
            "ada", gpus, tuple(range(gpus)), 2.5, at=BEGAN,
        ),
        Planned(len(rows) - 1, 0, 1, tuple(rows), at=BEGAN),
        JobStarted("prep", at=BEGAN + 0.2),
        JobFinished("prep", "done", 0, took=41.0, at=BEGAN + 42, metrics={"rows": 1200.0}),
        Note("no NVML here: the list of GPUs is trusted", "warning", at=BEGAN),
    ]  # fmt: skip
    facts = {
        "prep": JobFact(
            "prep", command="oumi synth -c outputs/sft-sweep/prep/.oumi-flow/config.yaml"
        )
    }
    clock = [BEGAN + 43.0] * gpus
    for number, (name, r, b) in enumerate(names):
        gpu = number % gpus
        job, begin = f"train-{name}", clock[gpu]
        events.append(JobQueued(job, "a GPU", at=BEGAN + 43))
        events.append(JobStarted(job, 1, (str(gpu),), at=begin))
        loss = 1.1 + 0.22 * abs(r % 5 - 1.6) + 0.07 * b
        fails = r == rates - 1
        if fails:
            events += [
                JobRetrying(job, 1, 20.0, "CUDA out of memory, tried to allocate 2.50 GiB",
                            at=begin + 61),
                JobStarted(job, 2, (str(gpu),), f"outputs/sft-sweep/{job}/job.log", at=begin + 81),
                JobFinished(job, "failed", 1, "CUDA out of memory, tried to allocate 2.50 GiB",
                            58.0, 1, at=begin + 139),
                JobFinished(f"eval-{name}", "blocked", None, f"upstream {job} failed",
                            at=begin + 139),
            ]  # fmt: skip
            clock[gpu] = begin + 139.5
        else:
            took = 190.0 + 31 * ((number * 7) % 5)
            metrics = {
                "loss": loss,
                "eval_loss": loss + 0.08,
                "train_runtime": took,
                "steps": 1000.0,
            }
            events.append(JobFinished(job, "done", 0, "", took, 1, metrics, at=begin + took + 0.5))
            clock[gpu] = begin + took + 1
            evaluated = clock[gpu]
            scores = {"mmlu/acc": 0.62 - 0.1 * loss, "gsm8k/exact_match": 0.41 - 0.07 * loss}
            events += [
                JobStarted(f"eval-{name}", 1, (str(gpu),), at=evaluated),
                JobFinished(f"eval-{name}", "done", 0, "", 31.0, 1, scores, at=evaluated + 31.2),
            ]
            clock[gpu] = evaluated + 31.5
            facts[f"eval-{name}"] = JobFact(f"eval-{name}", metrics=scores, values={"seed": 1})
        facts[job] = _training(job, r, b, loss, fails)
    end = max(clock)
    events += [
        JobFinished("pack", "blocked", None, f"upstream eval-{names[-1][0]} was blocked", at=end),
        RunFinished("failed", {}, end - BEGAN, "", sum(clock) - gpus * (BEGAN + 43), at=end),
    ]
    facts["baseline"] = JobFact(
        "baseline", metrics={"mmlu/acc": 0.41, "gsm8k/exact_match": 0.22}, values={"seed": 1}
    )
    events.sort(key=lambda event: event.at)
    board = fold(events)
    return Report(
        board=board,
        now=end + 60,
        spans=spans(events, board, end),
        jobs=facts,
        ends=dict.fromkeys(board.failed, TAIL),
        description="Learning rates and batch sizes of the first fine-tuning, each evaluated",
        command="oumi-flow run sweep.yaml --gpus 0,1",
        files=[
            FileFact("sweep.yaml", "the workflow", 1830, "9b2f0c41aa0d3e5be14aa1f2f37f9d10"),
            FileFact(
                "configs/sft.yaml", "the config of 8 jobs", 912, "0be3aa71f2f37f9d10e14b9b2f0c41a5"
            ),
        ],
        env={"OMP_NUM_THREADS": "8", "HF_TOKEN": "****"},
        further=[
            ("started in", "/home/ada/sft"),
            ("oumi", "0.9.0"),
            ("this page", "by oumi-flow 0.1"),
        ],
    )


def _training(job: str, rate: int, batch: int, loss: float, fails: bool) -> JobFact:
    points = 18 if fails else 100
    curve: list[tuple[float, float]] = [
        (n * 10.0, loss + 1.9 * math.exp(-n / 14) + 0.03 * math.sin(n * 12.9898 + rate + 3 * batch))
        for n in range(1, points + 1)
    ]
    if fails:
        curve[9:12] = [(100.0, math.nan), (110.0, math.nan), (120.0, math.nan)]
    top = float(RATES[rate] if rate < 4 else f"{rate}e-5")
    curves: dict[str, Curve] = {
        "loss": curve,
        "eval_loss": [(x, y + 0.08) for x, y in curve[9::10]],
        "learning_rate": [
            (n * 10.0, top * (1 + math.cos(math.pi * n / 100)) / 2) for n in range(1, points + 1)
        ],
        "grad_norm": [(x, 0.4 + y / 3) for x, y in curve],
    }
    folder = f"outputs/sft-sweep/{job}"
    done = not fails
    return JobFact(
        name=job,
        command=f"oumi train -c {folder}/.oumi-flow/config.yaml --training.learning_rate={top:g}",
        config="configs/sft.yaml",
        values={
            "model.model_name": "HuggingFaceTB/SmolLM2-135M",
            "training.learning_rate": top,
            "training.per_device_train_batch_size": 8 * (batch + 1),
        },
        env={"OMP_NUM_THREADS": "8", "HF_TOKEN": "****", "NCCL_DEBUG": "WARN"},
        inputs=[
            FileFact(
                "outputs/sft-sweep/prep",
                "made by prep; a folder of 2 files",
                12_400_000,
                "77" * 16 if done else "",
            ),
            FileFact("data/train.jsonl", "", 1_240_000, "5d" * 16 if done else ""),
        ],
        outputs=[FileFact(f"{folder}/output", "a folder of 6 files", 271_000_000, "c4" * 16)]
        if done
        else (),
        metrics={"loss": loss, "eval_loss": loss + 0.08, "train_runtime": 201.0, "steps": 1000.0}
        if done
        else {},
        curves=curves,
        log=f"{folder}/job.log",
        made=BEGAN + 300 if done else None,
        made_by="20260103-112000-a1b2" if done else "",
        fingerprint="3f" * 16 if done else "",
        build_key="a9" * 16 if done else "",
        versions={"oumi": "0.9.0"} if done else {},
    )
