"""Graphs of trivial jobs: each reads its own file and what a few others made, and writes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SHAPES = ("wide", "chain", "layers", "diamond")
_LAYER = 100
_READ = 4  # files that a job's command opens; all of its inputs would not fit a command line
_BYTES = 64  # of each: whole files of files would grow from layer to layer, until the disk is full


@dataclass(frozen=True)
class Job:
    name: str
    upstream: tuple[int, ...]
    inputs: tuple[str, ...]
    output: str
    command: str


Graph = tuple[Job, ...]


def graph(shape: str, size: int, *, shell: bool = True) -> Graph:
    """`size` jobs, upstream first. Without `shell`, their commands are plain words."""
    jobs: list[Job] = []
    for at in range(size):
        name = f"n{at:06d}"
        upstream = _upstream(shape, at, size)
        inputs = (f"in/{name}", *(jobs[index].output for index in upstream))
        output = f"out/{name}/made"
        read = " ".join(inputs[:_READ])
        command = f"head -qc {_BYTES} {read} > {output}" if shell else f"cp {inputs[0]} {output}"
        jobs.append(Job(name, upstream, inputs, output, command))
    return tuple(jobs)


def _upstream(shape: str, at: int, size: int) -> tuple[int, ...]:
    if shape == "chain":
        return (at - 1,) if at else ()
    if shape == "layers":
        above = at - at % _LAYER - _LAYER
        return () if above < 0 else tuple(above + (at + step) % _LAYER for step in (0, 3, 11))
    if shape == "diamond":
        return () if not at else tuple(range(1, at)) if at == size - 1 else (0,)
    return ()


def leaf(shape: str, size: int) -> int:
    """The job whose file is changed when one is: in a diamond, one that the last job reads."""
    return size // 2 if shape in ("wide", "diamond") else size - 1


def below(jobs: Graph, start: int) -> int:
    """How many jobs a change of one reaches, itself included."""
    reached = {start}
    for at in range(start + 1, len(jobs)):
        if not reached.isdisjoint(jobs[at].upstream):
            reached.add(at)
    return len(reached)


def lay_out(jobs: Graph, folder: Path) -> None:
    """Write the files that jobs read, and the folders that they write to: nobody is charged."""
    (folder / "in").mkdir(parents=True)
    for job in jobs:
        (folder / "in" / job.name).write_text(f"of {job.name}\n")
        (folder / job.output).parent.mkdir(parents=True)
