"""Where a verb's output goes: to the job's own folder, or to the place that somebody chose.

Works on paths as text; looks at no file. Paths inside configs and args are relative to the job's
`workdir`, all others here to the base folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from oumi_flow.dataclass import dataclass
from oumi_flow.verbs.command import Args, parse_args
from oumi_flow.verbs.table import VerbSpec


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job's result lies.

    `place` is what the verb is told: a folder, or for infer, synth and judge a file. Two jobs
    collide when their places do. `output_dir` is the folder that `${{ jobs.X.output_dir }}`
    stands for: `place`, or the folder of that file. `redirect` is the word for the command line,
    "" where the command says it already. `kept` tells who chose another place: args | outputs.
    """

    place: str
    output_dir: str
    redirect: str
    kept: str = ""


def choose_place(
    spec: VerbSpec,
    *,
    folder: str,
    own_place: str | None,
    args: Sequence[str] | Args,
    outputs: Sequence[str],
    workdir: str = ".",
) -> Placement:
    """Decide where a job writes.

    Each verb's output goes to the job's `folder`, whatever place its config names (`own_place`,
    from `configs.own_place`), so that one config serves many jobs. Two things in the workflow
    file keep another place: the output key in `args`, or one of `outputs` (declared, relative to
    the base folder) that is the config's place or lies inside it. Raises as `parse_args`.
    """
    if spec.is_shell or not spec.output_key:
        return Placement(folder, folder, "")
    for arg in reversed(parse_args(args, spec)):
        if spec.output_key == (arg.config_key or arg.key) and arg.value:
            return _placed(spec, to_base(arg.value, workdir), "", "args")
    if own_place:
        place = to_base(own_place, workdir)
        if any(inside(to_base(output, "."), place) for output in outputs):
            # The config says it, but for verbs that heed their own option alone.
            redirect = "" if not spec.config_place_key else _redirect(spec, place, workdir)
            return _placed(spec, place, redirect, "outputs")
    place = os.path.join(folder, spec.output_name) if spec.output_name else folder
    return _placed(spec, place, _redirect(spec, place, workdir), "")


def to_base(path: str, workdir: str) -> str:
    """A path as written for a process in `workdir`, relative to the base folder and tidy."""
    if workdir == "." or path.startswith("/"):
        return os.path.normpath(path)
    return os.path.normpath(os.path.join(workdir, path))


def to_workdir(path: str, workdir: str) -> str:
    """A path relative to the base folder, as a process in `workdir` must name it.

    With an absolute workdir the path becomes absolute too: that is right from anywhere.
    """
    if workdir == "." or path.startswith("/"):
        return path
    if os.path.isabs(workdir):
        return os.path.abspath(path)
    return os.path.relpath(path, workdir) if os.path.normpath(workdir) != "." else path


def inside(path: str, place: str) -> bool:
    """Whether `path` is `place` or lies below it (both tidy)."""
    return path == place or path.startswith(place.rstrip("/") + "/")


def _placed(spec: VerbSpec, place: str, redirect: str, kept: str) -> Placement:
    output_dir = (os.path.dirname(place) or ".") if spec.output_file else place
    return Placement(place, output_dir, redirect, kept)


def _redirect(spec: VerbSpec, place: str, workdir: str) -> str:
    return f"--{spec.output_key}={to_workdir(place, workdir)}"
