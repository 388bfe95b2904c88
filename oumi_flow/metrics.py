"""The numbers a finished job is remembered by, and the curves of a training.

Reads what each verb left in its place, bounded in time and memory. Knows no screens; what the
numbers are used for is nobody's business here.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from oumi_flow.model import Job
from oumi_flow.progress import METRICS, LineFollower, last_bytes, open_at_once, parse
from oumi_flow.typed import Any
from oumi_flow.verbs import model_file, verb

MOST_BYTES = 64 * 1024 * 1024  # of a file that is read for its numbers; beyond, its end only
LONGEST_LINE = 1024 * 1024
_HEAD = 256  # bytes, more than the line that a log begins with

# Where a training is or how fast, not how good it is.
_NOT_RESULTS = frozenset(
    {"learning_rate", "grad_norm", "num_tokens", "num_input_tokens_seen", "total_flos"}
)
_SPEED = ("_per_second", "_runtime", "_num_tokens")
# Names whose larger value is the better one; of all others with "loss" the smaller one is.
_LARGER_IS_BETTER = ("accuracy", "acc", "f1", "score", "reward", "bleu", "rouge", "exact_match")

_POSITIONS = frozenset({"step", "global_step", "done", "total", "at", "time"})

Points = dict[str, list[tuple[float, float]]]


def final(job: Job, since: float = 0.0) -> dict[str, float]:
    """The numbers of a job that has just succeeded, by name; {} when there are none.

    train: last and best losses, steps, seconds. tune: best trial and value. evaluate:
    `task/metric`. judge: mean score, rows. infer and synth: rows. quantize: bytes. shell: the last
    `key=value` of its log. `since` is when the attempt started (only evaluate asks for it, and
    only when no results.json was published). Blocks while it reads; raises nothing.
    """
    reader = _READERS.get(verb_name(job), _of_log)
    try:
        return {key: value for key, value in reader(job, since).items() if math.isfinite(value)}
    except (OSError, ValueError):
        return {}


def verb_name(job: Job) -> str:
    try:
        return verb(job.verb).name
    except KeyError:
        return job.verb


def points(folder: str, most: int = 2000) -> Points:
    """Curves of a job: metric -> (step, value) in order of steps, at most `most` points each.

    Taken from the training metrics in `folder`, else from the `metrics.jsonl` that we keep of any
    job (`folder` is its `.oumi-flow` then, or holds it). The last value of a repeated step holds;
    of several trainings in one file the latest counts; points without a step are numbered.
    """
    curves: dict[str, dict[float, float]] = {}
    for path in (
        os.path.join(folder, METRICS),
        os.path.join(folder, ".oumi-flow", "metrics.jsonl"),
        os.path.join(folder, "metrics.jsonl"),
    ):
        ended = False
        for number, row in enumerate(_rows(path)):
            if ended:
                curves = {}
            inner = row.get("metrics")
            numbers = parse.numbers_of({**row, **inner} if isinstance(inner, dict) else row)
            steps = [numbers[key] for key in ("step", "global_step", "done") if key in numbers]
            step = steps[0] if steps else float(number)
            for key, value in numbers.items():
                if key not in _POSITIONS:
                    curves.setdefault(key, {})[step] = value
            ended = "train_loss" in numbers and not isinstance(inner, dict)
        if curves:
            break
    return {key: _thinned(sorted(curve.items()), most) for key, curve in curves.items()}


def _thinned(curve: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    if len(curve) <= most:
        return curve
    stride = math.ceil(len(curve) / most)
    kept = curve[::stride]
    return kept if kept[-1] == curve[-1] else [*kept, curve[-1]]


# ---------------------------------------------------------------------- one reader a verb


def _of_training(job: Job, since: float) -> dict[str, float]:
    begun = _resumed_at(job.place)
    numbers = training_numbers(_rows(os.path.join(job.place, METRICS)), begun)
    return numbers or training_numbers(_dict_rows(os.path.join(job.folder, "job.log")))


def _resumed_at(place: str) -> float:
    """The step of the checkpoint that oumi went on from, as it wrote down; 0 for a fresh start."""
    text = last_bytes(os.path.join(place, "telemetry", "training_config.yaml"))
    found = re.search(rb"(?m)^  resume_from_checkpoint: [^\n]*checkpoint-(\d+)\b", text)
    return float(found[1]) if found else 0.0


def _dict_rows(log: str) -> Iterator[dict[str, Any]]:
    """What a trainer without a metrics file prints: `{'loss': 0.5, 'epoch': 1.0}`."""
    try:
        text = last_bytes(log, MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    for line in re.split(r"[\r\n]", text):
        row = parse.dict_row(parse.clean(line)) if "{" in line else None
        if row is not None:
            yield row


def training_numbers(
    rows: Iterable[Mapping[str, Any]], resumed_at: float = 0.0
) -> dict[str, float]:
    """Last and best values of the latest training in a metrics file.

    The file is appended to by later trainings; each ends with a row that has `train_loss`. Of a
    training that went on from a checkpoint (at step `resumed_at`) the trainer sums up what came
    after it and divides by all steps, so that number is made anew from the losses of all steps.
    """
    numbers: dict[str, float] = {}
    by_step: dict[str, dict[float, float]] = {}
    ended = False
    for row in rows:
        if ended:
            numbers, by_step, ended = {}, {}, False
        found = parse.numbers_of(row)
        step = found.pop("step", None)
        if step is not None:
            numbers["steps"] = step
        summary = "train_loss" in found
        for key, value in found.items():
            if key == "train_runtime" and not summary:
                continue
            if key == "train_runtime" or _is_result(key):
                numbers[key] = value
                if key != "epoch" and not summary and step is not None:
                    by_step.setdefault(key, {})[step] = value
        ended = summary
    for key, curve in by_step.items():
        best = best_of(key)
        values = [value for value in curve.values() if math.isfinite(value)]
        if best is not None and values:
            numbers[f"best_{key}"] = best(values)
    losses = by_step.get("loss", {})
    if "train_loss" in numbers and losses and 0 < min(losses) <= resumed_at:
        numbers["train_loss"] = _mean_of_steps(losses)
    return numbers


def _mean_of_steps(curve: Mapping[float, float]) -> float:
    """Each value is the mean of the steps since the one before."""
    steps = sorted(curve)
    widths = [step - before for before, step in zip([0.0, *steps], steps, strict=False)]
    return sum(curve[step] * width for step, width in zip(steps, widths, strict=True)) / steps[-1]


def _is_result(key: str) -> bool:
    return key not in _NOT_RESULTS and not key.endswith(_SPEED)


def best_of(key: str) -> Callable[[list[float]], float] | None:
    """`min` or `max`, whichever finds the best value of that metric; None where neither does."""
    if key.endswith("loss"):
        return min
    return max if key.endswith(_LARGER_IS_BETTER) else None


def _of_tuning(job: Job, since: float) -> dict[str, float]:
    import csv
    import io

    data = last_bytes(os.path.join(job.place, "trials_results.csv"), MOST_BYTES)
    table = list(csv.DictReader(io.StringIO(data.decode("utf-8", "replace"))))
    column = "value" if table and "value" in table[0] else "values_0"
    direction = job.parts.get("config", {}).get("tuning.evaluation_direction[0]", "minimize")
    scored = [
        (value, row)
        for row in table
        if row.get("state", "COMPLETE") == "COMPLETE"
        and (value := parse.number_of(row.get(column))) is not None
        and math.isfinite(value)
    ]
    # A trial that was killed stays RUNNING in its study for ever.
    numbers = {"trials": float(sum(row.get("state") != "RUNNING" for row in table))}
    if scored:
        choose = max if direction == "maximize" else min
        value, row = choose(scored, key=lambda item: item[0])
        numbers["best_value"] = value
        trial = parse.number_of(row.get("number"))
        if trial is not None:
            numbers["best_trial"] = trial
        for key, text in row.items():
            number = parse.number_of(text) if key and key.startswith("params_") else None
            if number is not None:
                numbers[f"best_{key[7:]}"] = number
    return numbers


def _of_evaluation(job: Job, since: float) -> dict[str, float]:
    from oumi_flow.verbs.results import RESULTS, collect_results

    try:
        with open(os.path.join(job.place, RESULTS), encoding="utf-8") as file:
            tasks = json.load(file)
    except (OSError, ValueError):
        tasks = collect_results(job.place, since)
    return {
        f"{task}/{metric}": float(value)
        for task, metrics in tasks.items()
        for metric, value in metrics.items()
        if value is not None
    }


def _of_judgments(job: Job, since: float) -> dict[str, float]:
    rows, scores = 0, []
    for row in _rows(_file_of(job)):
        rows += 1
        score = parse.number_of(row.get("aggregate_score"))
        if score is None:
            fields = row.get("field_scores")
            score = parse.number_of(fields.get("judgment")) if isinstance(fields, dict) else None
        if score is not None:
            scores.append(score)
    numbers = {"rows": float(rows)}
    if scores:
        numbers["score"] = sum(scores) / len(scores)
        if len(scores) < rows:
            numbers["scored"] = float(len(scores))
    return numbers


def _of_rows(job: Job, since: float) -> dict[str, float]:
    path = _file_of(job)
    lines, last = 0, b"\n"
    with open_at_once(path) as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
            last = block[-1:]
    return {"rows": float(lines + (last != b"\n"))}


def _of_quantized(job: Job, since: float) -> dict[str, float]:
    total = 0
    for folder, _, names in os.walk(job.place):
        for name in names:
            path = os.path.join(folder, name)
            if model_file(os.path.relpath(path, job.place)):
                total += os.stat(path).st_size
    return {"bytes": float(total)} if total else {}


def _of_log(job: Job, since: float) -> dict[str, float]:
    path = os.path.join(job.folder, "job.log")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = os.read(fd, _HEAD)
    finally:
        os.close(fd)
    if len(data) < _HEAD and data.count(b"\n") == data.startswith(b"# run "):
        return {}  # it has said nothing: our own first line, if any
    log = LineFollower(path)
    log.poll()
    return dict(log.metrics)


_READERS: dict[str, Callable[[Job, float], dict[str, float]]] = {
    "train": _of_training,
    "tune": _of_tuning,
    "evaluate": _of_evaluation,
    "judge": _of_judgments,
    "infer": _of_rows,
    "synth": _of_rows,
    "quantize": _of_quantized,
}


def _file_of(job: Job) -> str:
    """The file that a verb writes, whether the job's place is that file or its folder."""
    name = verb(job.verb).output_name
    return os.path.join(job.place, name) if os.path.isdir(job.place) else job.place


def _rows(path: str) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; of a huge file those at its end. Torn lines are left."""
    try:
        with open_at_once(path) as file:
            skip = os.fstat(file.fileno()).st_size - MOST_BYTES
            if skip > 0:
                file.seek(skip)
                file.readline(LONGEST_LINE)
            while line := file.readline(LONGEST_LINE):
                if line[:1] != b"{":
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict):
                    yield row
    except OSError:
        return
