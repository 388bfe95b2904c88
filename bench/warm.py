"""What warm jobs save with the real oumi, on every verb: CPU-seconds and whether the bytes agree.

    python bench/warm.py --oumi /path/to/oumi [--jobs 12]

One run of all seven verbs cold, one warm; then `--jobs` small jobs (infer, evaluate, judge) warm.
Of a run all processes count, the server's imports included: this program is the subreaper of its
children, so nothing that they leave escapes it. A single job's figure is its supervisor's, as the
run's events have it. Cold costs of the many small jobs are those of the first run, each as often
as it occurs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests" / "oumi"
SHORT = {
    "train": ["training.max_steps=4", "training.save_steps=2"],
    "judge": ["--input=data/judge_in.jsonl"],
}
CONFIGS = {"evaluate": "eval_custom"}
VERBS = ("infer", "evaluate", "judge", "train", "quantize", "synth", "tune")
SMALL = ("infer", "evaluate", "judge")
MADE = {
    "infer": "predictions.jsonl",
    "evaluate": "results.json",
    "judge": "judgments.jsonl",
    "train": "model.safetensors",
    "quantize": "model/model.safetensors",
    "synth": "data.jsonl",
    "tune": "trials_results.csv",
}
UNSEEDED = ("synth", "tune")  # draw other samples each time, cold too
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def job(name: str, verb: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "verb": verb,
        "config": f"configs/{CONFIGS.get(verb, verb)}.yaml",
        "args": SHORT.get(verb, []),
    }
    if verb == "evaluate":
        found["env"] = {"OUMI_EXTRA_DEPS_FILE": "extra_deps.txt"}
    return found


def cpu() -> float:
    """Seconds of all processes that have ended below us."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(folder: Path, name: str, warm: bool, jobs: list[dict[str, Any]], env: Any) -> float:
    """CPU-seconds of the whole run."""
    fields = {"name": name, "output_dir": name, "warm": warm, "jobs": jobs}
    (folder / f"{name}.yaml").write_text(json.dumps(fields))
    before = cpu()
    command = [sys.executable, "-m", "oumi_flow", "run", f"{name}.yaml", "--no-tui", "-j", "2"]
    subprocess.run(command, cwd=folder, env=env, check=True, stdout=sys.stderr)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return cpu() - before


def seconds(folder: Path, name: str) -> dict[str, float]:
    """CPU-seconds of each job."""
    (log,) = (folder / name / ".oumi-flow" / "runs").glob("*/events.jsonl")
    found = {}
    for event in map(json.loads, log.read_text().splitlines()):
        if event["kind"] == "job_finished":
            found[event["job"]] = event["cpu"]
        elif event["kind"] == "note" and "started cold" in event["text"]:
            print(event["text"])
    return found


def same(folder: Path, verb: str) -> str:
    cold, warm = (folder / name / verb / MADE[verb] for name in ("cold", "warm"))
    if verb in UNSEEDED:
        shapes = [len(path.read_text().splitlines()) for path in (cold, warm)]
        return "rows" if shapes[0] == shapes[1] else "NO"
    return "bytes" if cold.read_bytes() == warm.read_bytes() else "NO"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--oumi", required=True, help="the script of an installed oumi")
    parser.add_argument("--jobs", type=int, default=12, help="how many small ones")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "DO_NOT_TRACK")
        env = {
            **os.environ,
            **dict.fromkeys(offline, "1"),
            "PYTHONPATH": str(HERE.parent),
            "OUMI_FLOW_OUMI": options.oumi,
            "OUMI_FLOW_HOME": str(folder / "home"),
            "HF_HOME": str(folder / "hf"),
            "CUDA_VISIBLE_DEVICES": "",
        }
        python = Path(options.oumi).parent / "python"
        subprocess.run([python, TESTS / "make_tiny_model.py", folder], env=env, check=True)
        shutil.copytree(TESTS / "configs", folder / "configs")
        for name in ("toy_eval.py", "extra_deps.txt"):
            shutil.copy(TESTS / name, folder)

        every = [job(verb, verb) for verb in VERBS]
        totals = {name: run(folder, name, name == "warm", every, env) for name in ("cold", "warm")}
        cold, warm = seconds(folder, "cold"), seconds(folder, "warm")
        print(f"{'verb':10}{'cold':>8}{'warm':>8}   same")
        for verb in VERBS:
            print(f"{verb:10}{cold[verb]:8.1f}{warm[verb]:8.1f}   {same(folder, verb)}")
        print(f"{'in all':10}{totals['cold']:8.1f}{totals['warm']:8.1f}   imports included")

        verbs = [SMALL[at % len(SMALL)] for at in range(options.jobs)]
        many = run(folder, "many", True, [job(f"{v}-{at}", v) for at, v in enumerate(verbs)], env)
        by_itself = sum(cold[verb] for verb in verbs)
        print(f"{options.jobs} small jobs: cold {by_itself:.0f}, warm {many:.0f}, ", end="")
        print(f"{by_itself / many:.1f} times less")


if __name__ == "__main__":
    main()
