"""What a verb leaves behind: which files are a model, whether it did its work, published results.

Looks into the place that a job wrote to. Knows no processes and no markers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from oumi_flow.model import Job
from oumi_flow.typed import Any
from oumi_flow.verbs.table import VerbSpec

# Left out of a model folder: what differs between identical runs, or what no reader of a model
# opens. What is left is byte-identical after an identical retrain.
NOT_MODEL = (
    "checkpoint-*",
    "logs",
    "runs",
    "telemetry",
    "tensorboard",
    "wandb",
    "events.out.tfevents.*",
    "*.log",
    "metrics_rank*.jsonl",
    "trainer_state.json",
    "training_args.bin",
    "optimizer*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*",
    "README.md",
    ".oumi-flow",
    "job.log.*",
)

RESULTS = "results.json"
# Clocks of a file server may be this far behind ours, in seconds, for a result to count as new.
_SLACK = 2.0


def model_file(relative_path: str) -> bool:
    """Whether a file below a model folder is one of its model files (SPEC §2).

    `relative_path` starts below the folder that is looked at, so that a checkpoint folder which
    somebody names is judged by what lies in it, not by its own name.
    """
    return not any(
        fnmatchcase(part, pattern) for part in relative_path.split("/") for pattern in NOT_MODEL
    )


def is_no_model(relative_path: str) -> bool:
    """Whether somebody who names that path below a model folder means what no model is made of."""
    parts = [part for part in relative_path.split("/") if not part.startswith("checkpoint-")]
    return not model_file("/".join(parts))


def done(spec: VerbSpec, job: Job, place: str, since: float) -> str:
    """ "" when the verb's done mark is there, else what is missing: `did not write PATH`.

    `since` is when the attempt started, in unix seconds (best taken from the mtime of a file
    written then in the same file system); only results whose name cannot be foretold are asked
    for their time. 0 accepts old ones. Reads folders, so it may block on slow file systems.
    """
    if spec.is_shell or not spec.done_mark:
        return ""
    if spec.publishes:
        wanted = max(1, _count_tasks(job.parts.get("config", {})))
        found = len(task_results(place, since))
        if found >= wanted:
            return ""
        some = f" ({found} of {wanted} tasks)" if found else ""
        return f"did not write {os.path.join(place, '*', 'task_result.json')}{some}"
    if "" in spec.done_mark:
        return "" if os.path.isfile(place) else f"did not write {place}"
    for folder in _marked_folders(spec, job, place):
        for pattern in spec.done_mark:
            if any(fnmatchcase(name, pattern) and model_file(name) for name in _file_names(folder)):
                return ""
    return f"did not write {os.path.join(place, spec.done_mark[0])}"


def counted_path(spec: VerbSpec, config: Mapping[str, Any], place: str) -> str:
    """What others count of a job's place: a path, or a glob pattern.

    `config` is the merged one, flat (by dotted key) or nested. A training without a final model
    is its checkpoints: `place/checkpoint-*`.
    """
    if spec.counted:
        return os.path.join(place, spec.counted)
    if keeps_checkpoints_only(spec, config):
        return os.path.join(place, spec.no_final[1])
    return place


def keeps_checkpoints_only(spec: VerbSpec, config: Mapping[str, Any]) -> bool:
    """Whether a job of this config (flat or nested) makes no final result but its checkpoints."""
    key = spec.no_final[0]
    if not key:
        return False
    if key in config:
        return config[key] is False
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value is False


def _marked_folders(spec: VerbSpec, job: Job, place: str) -> list[str]:
    if keeps_checkpoints_only(spec, job.parts.get("config", {})):
        return [
            os.path.join(place, name)
            for name in sorted(_names(place))
            if fnmatchcase(name, spec.no_final[1])
        ]
    return [place]


def _count_tasks(config: Mapping[str, Any]) -> int:
    indexes = {key[6 : key.index("]")] for key in config if key.startswith("tasks[") and "]" in key}
    return len(indexes)


def task_results(place: str, since: float) -> list[tuple[str, dict[str, Any]]]:
    """(folder, content) of each readable task_result.json made since, oldest first."""
    found: list[tuple[int, str, dict[str, Any]]] = []
    for name in sorted(_names(place)):
        path = os.path.join(place, name, "task_result.json")
        try:
            made = os.stat(path).st_mtime_ns
            if since and made / 1e9 < since - _SLACK:
                continue
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            found.append((made, name, content))
    return [(name, content) for _, name, content in sorted(found, key=lambda item: item[:2])]


def collect_results(folder: str, since: float) -> dict[str, dict[str, float | None]]:
    """task -> metric -> number, sorted, from the task results made since.

    The newest result of each task counts. Two tasks of one name in one attempt (`since` given)
    become `name` and `name#2`. A number that is not finite is None.
    """
    tasks: dict[str, dict[str, float | None]] = {}
    for _, content in task_results(folder, since):
        results = content.get("results")
        if not isinstance(results, dict):
            continue
        for task, metrics in results.items():
            numbers = dict(_numbers(metrics if isinstance(metrics, dict) else {"value": metrics}))
            name, again = str(task), 1
            while since and name in tasks:
                again += 1
                name = f"{task}#{again}"
            tasks[name] = numbers
    return {task: dict(sorted(tasks[task].items())) for task in sorted(tasks)}


def publish_results(folder: str, since: float) -> dict[str, dict[str, float | None]]:
    """Write `folder`/results.json from `collect_results`, and return what it holds.

    It has nothing of when or where, so an evaluation that came out the same makes the same file.
    Raises OSError when it cannot be written.
    """
    results = collect_results(folder, since)
    path = os.path.join(folder, RESULTS)
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    os.replace(temporary, path)
    return results


def _numbers(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, dict):
            yield from _numbers(item, f"{name}.")
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield name, item if math.isfinite(item) else None


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _file_names(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except OSError:
        return []
