"""Writes a graph of jobs as each tool's own file, in the way that tool is fastest with."""

from __future__ import annotations

import json
from pathlib import Path

from peers.graphs import Graph


def oumi_flow(jobs: Graph, folder: Path) -> None:
    lines = ["name: peers", "output_dir: out", "jobs:"]
    for job in jobs:
        lines += [
            f"- name: {job.name}",
            "  verb: shell",
            f"  run: {json.dumps(job.command)}",
            f"  inputs: [{', '.join(job.inputs)}]",
            f"  outputs: [{job.output}]",
        ]
    (folder / "workflow.yaml").write_text("\n".join(lines) + "\n")


def ninja(jobs: Graph, folder: Path) -> None:
    lines = ["rule run", "  command = $words"]
    for job in jobs:
        lines += [f"build {job.output}: run {' '.join(job.inputs)}", f"  words = {job.command}"]
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")


def make(jobs: Graph, folder: Path) -> None:
    lines = ["all: " + " ".join(job.output for job in jobs)]
    for job in jobs:
        lines += [f"{job.output}: {' '.join(job.inputs)}", f"\t{job.command}"]
    (folder / "Makefile").write_text("\n".join(lines) + "\n")


def doit(jobs: Graph, folder: Path) -> None:
    rows = [
        {
            "name": job.name,
            "actions": [job.command],
            "file_dep": list(job.inputs),
            "targets": [job.output],
        }
        for job in jobs
    ]
    (folder / "jobs.json").write_text(json.dumps(rows))
    (folder / "dodo.py").write_text(
        "import json\n"
        "DOIT_CONFIG = {'verbosity': 0}\n"
        "def task_all():\n"
        "    yield from json.load(open('jobs.json'))\n"
    )


def snakemake(jobs: Graph, folder: Path) -> None:
    """One rule with a wildcard: a rule a job takes it far longer."""
    rows = {job.name: [list(job.inputs), job.command] for job in jobs}
    (folder / "jobs.json").write_text(json.dumps(rows))
    (folder / "Snakefile").write_text(
        "import json\n"
        "JOBS = json.load(open('jobs.json'))\n"
        "rule all:\n"
        "    input: [f'out/{name}/made' for name in JOBS]\n"
        "rule one:\n"
        "    input: lambda wildcards: JOBS[wildcards.name][0]\n"
        "    output: 'out/{name}/made'\n"
        "    params: words=lambda wildcards: JOBS[wildcards.name][1]\n"
        "    shell: '{params.words}'\n"
    )


def dvc(jobs: Graph, folder: Path) -> None:
    stages = {
        job.name: {"cmd": job.command, "deps": list(job.inputs), "outs": [job.output]}
        for job in jobs
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}))


def luigi(jobs: Graph, folder: Path) -> None:
    rows = {
        job.name: [job.command, job.output, [jobs[at].name for at in job.upstream]] for job in jobs
    }
    (folder / "jobs.json").write_text(json.dumps(rows))
    (folder / "tasks.py").write_text(
        "import json, subprocess\n"
        "import luigi\n"
        "JOBS = json.load(open('jobs.json'))\n"
        "class One(luigi.Task):\n"
        "    name = luigi.Parameter()\n"
        "    def requires(self):\n"
        "        return [One(name=name) for name in JOBS[self.name][2]]\n"
        "    def output(self):\n"
        "        return luigi.LocalTarget(JOBS[self.name][1])\n"
        "    def run(self):\n"
        "        subprocess.run(JOBS[self.name][0], shell=True, check=True)\n"
        "class All(luigi.WrapperTask):\n"
        "    def requires(self):\n"
        "        return [One(name=name) for name in JOBS]\n"
    )
