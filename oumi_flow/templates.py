"""Workflows to start from: the files of `examples/`, which the wheel carries.

Lists them and copies them. Knows no YAML: what belongs to a template are the files that its
workflow names, and those that these name.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from oumi_flow.dataclass import dataclass
from oumi_flow.errors import FlowError
from oumi_flow.text import did_you_mean

# As `init` should offer them: from little to much. A workflow file below examples/.
_WORKFLOWS = (
    "minimal/workflow.yaml",
    "hello/workflow.yaml",
    "quickstart/workflow.yaml",
    "workflows/simple_train_eval.yaml",
    "workflows/parallel_eval.yaml",
    "workflows/hyperparameter_sweep.yaml",
    "workflows/multi_model_pipeline.yaml",
    "workflows/full_pipeline.yaml",
)
_WRITTEN = "workflow.yaml"  # what the workflow is called in its new place
_REFERENCE = re.compile(r"\$\{\{.*?\}\}")
_PATH = re.compile(r"[\w./*-]+")
_TEXT = (".yaml", ".txt")
_DESCRIPTION = re.compile(r"^description:\s*(.+)$", re.MULTILINE)
_SCHEMA_LINE = re.compile(r"\A# yaml-language-server:.*\n(#\n)?")


@dataclass(frozen=True, slots=True)
class Template:
    """`source` is the workflow file, absolute."""

    name: str
    summary: str
    source: str


def templates() -> tuple[Template, ...]:
    """All templates, from little to much. Raises FlowError if the installation lacks them."""
    return tuple(_template(path) for path in _WORKFLOWS)


def template(name: str) -> Template:
    """The template of that name. Raises FlowError."""
    found = templates()
    for each in found:
        if each.name == name:
            return each
    names = [each.name for each in found]
    raise FlowError(
        f'there is no template "{name}"',
        hint=did_you_mean(name, names) or f"there are {', '.join(names)}",
    )


def files(of: Template) -> dict[str, str]:
    """What belongs to a template: path in its new place -> file it is copied from."""
    root = os.path.dirname(of.source)
    found = {_WRITTEN: of.source}
    pending = [of.source]
    while pending:
        source = pending.pop()
        if not source.endswith(_TEXT):
            continue
        for path in _named_in(_read(source).decode(), root):
            if path not in found and os.path.join(root, path) != of.source:
                found[path] = os.path.join(root, path)
                pending.append(found[path])
    return dict(sorted(found.items(), key=lambda item: (item[0] != _WRITTEN, item[0])))


def write(name: str, folder: str) -> list[str]:
    """Copy a template into a folder, made if it is not there; returns the files written.

    Leaves nothing if any of the files is there already or cannot be written. Raises FlowError.
    """
    chosen = template(name)
    wanted = {
        os.path.normpath(os.path.join(folder, to)): source for to, source in files(chosen).items()
    }
    there = [path for path in wanted if os.path.lexists(path)]
    if there:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise FlowError(
            f"{there[0]} is there already{more}; nothing was written",
            hint=f"another folder: oumi-flow init --template {name} DIR",
        )
    written: list[str] = []
    for path, source in wanted.items():
        content = _read(source)
        if source == chosen.source:
            content = _as_own(content.decode(), os.path.basename(source)).encode()
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "xb") as file:
                written.append(path)
                file.write(content)
        except OSError as error:
            for each in written:  # lest they are in the way of the next try
                with suppress(OSError):
                    os.unlink(each)
            raise FlowError(f"cannot write {path}: {error.strerror}") from error
    return written


def _template(path: str) -> Template:
    source = os.path.join(_root(), path)
    folder, file = path.split("/")
    name = file.removesuffix(".yaml") if folder == "workflows" else folder
    match = _DESCRIPTION.search(_read(source).decode())
    return Template(name, match[1] if match else "", source)


def _named_in(text: str, root: str) -> list[str]:
    """Files below `root` whose paths a text names; a folder stands for all in it.

    `${{ … }}` may be any word. What jobs make (`outputs/`) belongs to nobody.
    """
    from glob import glob

    named: list[str] = []
    for word in _PATH.findall(_REFERENCE.sub("*", text)):
        first = word.split("/")[0]
        if "/" not in word and "." not in word:
            continue
        if first in ("", "*", ".", "..", "outputs", "out"):
            continue
        for path in sorted(glob(word, root_dir=root)):
            named += _below(path, root)
    return named


def _below(path: str, root: str) -> list[str]:
    if os.path.isfile(os.path.join(root, path)):
        return [os.path.normpath(path)]
    found = []
    for folder, folders, names in os.walk(os.path.join(root, path)):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        found += [os.path.relpath(os.path.join(folder, name), root) for name in sorted(names)]
    return found


def _as_own(text: str, name: str) -> str:
    """The workflow as its new owner's: no line about our schema's place, its new name."""
    text = _SCHEMA_LINE.sub("", text)
    return text.replace(name, _WRITTEN)


def _root() -> str:
    """`examples/`: in the package (a wheel), or beside it (a checkout)."""
    package = os.path.dirname(os.path.abspath(__file__))
    inside = os.path.join(package, "examples")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "examples")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise FlowError(
            f"the templates are not there: {path}: {error.strerror}",
            hint="this installation of oumi-flow is not whole; install it anew",
        ) from error
