"""A job on its way from draft to Job: what its texts say once all other jobs are known.

Here are the steps that each job takes for itself, in the order of references: its command's texts
in both forms, its merged config, and where it writes. What it reads of others is in inputs.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from oumi_flow.dataclass import dataclass, field
from oumi_flow.errors import FlowError, Problem, WorkflowErrors
from oumi_flow.load.config_file import ConfigFile, read_config_file
from oumi_flow.load.configs import ArgProblem, merge, own_place
from oumi_flow.load.expand import Draft, Files
from oumi_flow.load.template import Ref, Text
from oumi_flow.load.yaml_source import Node
from oumi_flow.model import EMPTY, Counts, Output
from oumi_flow.typed import Any
from oumi_flow.verbs.command import Args, parse_args
from oumi_flow.verbs.keys import OumiKeys
from oumi_flow.verbs.places import Placement, choose_place, inside, to_base, to_workdir
from oumi_flow.verbs.results import counted_path
from oumi_flow.verbs.table import VerbSpec

# Stands for the job of that number until it is known how a job counts its upstreams. The signs
# are of Unicode's private use area: printable for YAML, and nobody's words.
MARK = "\ue000"
_MARKED = "\ue000{}\ue001"
MARKS = re.compile("\ue000(\\d+)\ue001")


Texts = Sequence[tuple[Text, Node]]
HERE = Text((".",))
_NOWHERE = Placement("", "", "")


@dataclass(slots=True)
class Making:
    """What is known of a job so far. Paths are relative to the base folder."""

    name: str
    number: int
    draft: Draft
    spec: VerbSpec
    folder: str
    needs: list[str]  # written, by name
    refs: list[tuple[Ref, Node]] = field(default_factory=list)
    run: Texts = ()
    run_is_list: bool = False
    args: Texts = ()
    env: Mapping[str, Text] = field(default_factory=lambda: EMPTY)
    inputs: Texts = ()
    outputs: Texts = ()
    workdir_text: Text = HERE
    # Known once all that it refers to is.
    workdir_written: str = "."
    workdir: str = "."  # the same, or where it really lies: `..` leads from there
    real_args: Sequence[str] = ()
    words: Sequence[str] | Args = ()  # of `real_args`, taken apart where they can be
    config: str = ""
    file: ConfigFile | None = None
    merged: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    others: Sequence[str] = ()
    canon_merged: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    canon_others: Sequence[str] = ()
    placement: Placement = _NOWHERE
    declared: Sequence[str] = ()
    counted: Sequence[Output] = ()  # see `counted_outputs`
    broken: bool = False

    def key_of(self, path: str) -> str:
        """A path with the job's own folder written as `@`, that of the workflow as `@out`.

        Both may be moved.
        """
        if inside(path, self.folder):
            return f"@{path[len(self.folder) :]}"
        root = self.folder.removesuffix(self.name).rstrip("/")
        return f"@out{path[len(root) :]}" if root and inside(path, root) else path

    def take_args(self, args: Sequence[str]) -> None:
        """Keeps `args` as the job gets them. What is wrong with one is told where they are used."""
        self.real_args = self.words = args
        with suppress(FlowError):
            self.words = parse_args(args, self.spec)

    def forget_refs(self, known: Mapping[str, Making]) -> None:
        """Drops texts that refer to a job that is not known."""

        def holds(text: Text) -> bool:
            return all(not ref.job or ref.job in known for ref in text.refs)

        self.refs = [each for each in self.refs if each[0].job in known]
        self.run = [each for each in self.run if holds(each[0])]
        self.args = [each for each in self.args if holds(each[0])]
        self.inputs = [each for each in self.inputs if holds(each[0])]
        self.outputs = [each for each in self.outputs if holds(each[0])]
        self.env = {name: text for name, text in self.env.items() if holds(text)}
        if not holds(self.workdir_text):
            self.workdir_text = HERE


class Workshop:
    """Takes the steps. `makings` holds every job by name; a job's upstreams come before it."""

    def __init__(
        self,
        files: Files,
        makings: Mapping[str, Making],
        output_dir: str,
        keys: OumiKeys | None,
        fetched: Mapping[str, str],
    ) -> None:
        self.files = files
        self.session = files.session
        self.makings = makings
        self.output_dir = output_dir
        self.keys = keys
        self.fetched = fetched  # oumi:// URI -> path
        self._configs: dict[str, ConfigFile | None] = {}
        self._checked: set[tuple[str, str]] = set()
        self._real: dict[str, str] = {}
        self.links: dict[str, str] = {}  # followed here, and where they lead

    # ------------------------------------------------------------------ texts

    def real_path(self, ref: Ref, making: Making) -> str:
        """The path that a reference stands for, relative to the base folder."""
        if ref.what == "out":
            return self.output_dir
        other = self.makings[ref.job] if ref.job else making
        if ref.what == "log":
            return f"{other.folder}/job.log"
        if ref.what == "outputs":
            return other.declared[ref.number] if ref.number < len(other.declared) else other.folder
        if other is making:
            return making.placement.output_dir or making.folder
        return other.placement.output_dir

    def real(self, text: Text, making: Making, *, for_workdir: bool) -> str:
        """What the job gets; paths fit its workdir, or the base folder for path fields."""

        if text.plain is not None:
            return text.plain

        def fill(ref: Ref) -> str:
            if ref.what == "name":
                return making.name
            path = self.real_path(ref, making)
            return to_workdir(path, making.workdir) if for_workdir else path

        return text.render(fill)

    def canon(self, text: Text, making: Making) -> str:
        """What counts: names of jobs and places of output are symbols."""
        if text.plain is not None:
            return text.plain
        return text.render(lambda ref: self.symbol(ref, making))

    def symbol(self, ref: Ref, making: Making) -> str:
        """`@`, `@name`, `@out`, or the mark of an upstream."""
        if ref.what == "name":
            return "@name"
        if ref.what == "out":
            return "@out"
        if not ref.job:
            return "@"
        other = self.makings[ref.job]
        mark = _MARKED.format(other.number)
        if ref.what == "log":
            return f"{mark}.log"
        if ref.what == "outputs":
            return self.below(other, self.real_path(ref, making))
        return mark

    def below(self, other: Making, path: str) -> str:
        """The canonical form of a path that another job makes: `@N/below`, as a mark."""
        mark = _MARKED.format(other.number)
        top = other.placement.output_dir
        if inside(path, top):
            rest = path[len(top) :].strip("/")
            return f"{mark}/{rest}" if rest else mark
        if inside(path, other.folder):
            # The result lies elsewhere, so this is a name of its own.
            return f"{mark}:{path[len(other.folder) :]}"
        # An output elsewhere goes by its path: its number is another one when others are added.
        return f"{mark}={other.key_of(path)}"

    # ------------------------------------------------------------------ steps

    def settle(self, making: Making) -> None:
        """Everything of a job that others may refer to: workdir, config, place, outputs."""
        if making.workdir_text is not HERE:
            making.workdir_written = self._workdir(making)
            making.workdir = self._really(making.workdir_written)
        if making.args:
            making.args = [each for each in making.args if not each[0].broken]
            making.take_args([self.real(text, making, for_workdir=True) for text, _ in making.args])
        if making.spec.needs_config:
            self._read_config(making)
        # A job's own outputs may lie in its place: they are asked for in words first.
        choosing = [
            self.real(text, making, for_workdir=False)
            for text, node in making.outputs
            if not _names_own_place((text, node))
        ]
        try:
            making.placement = choose_place(
                making.spec,
                folder=making.folder,
                own_place=own_place(making.merged, making.spec),
                args=making.words,
                outputs=choosing,
                workdir=making.workdir,
            )
        except FlowError:
            # Said already, when the config was merged.
            making.broken = True
            making.placement = Placement(making.folder, making.folder, "")
        making.declared = [
            to_base(self.real(text, making, for_workdir=False), ".") for text, _ in making.outputs
        ]
        if any(map(_names_own_place, making.args)):
            self._fill_own_place(making)
        making.counted = counted_outputs(making)

    def _fill_own_place(self, making: Making) -> None:
        """`${{ job.output_dir }}` in `args` was filled in before the place was known."""
        key = making.spec.output_key
        making.take_args(
            [
                # The word that chose the place means the job's folder by it.
                real if key and real.lstrip("-").startswith(f"{key}=") else again
                for real, again in zip(
                    making.real_args,
                    [self.real(text, making, for_workdir=True) for text, _ in making.args],
                    strict=True,
                )
            ]
        )
        if making.file is not None:
            self._merge(making)

    def _workdir(self, making: Making) -> str:
        return to_base(self.real(making.workdir_text, making, for_workdir=False), ".")

    def _really(self, path: str) -> str:
        """A path, or behind links the absolute one that it stands for."""
        if path not in self._real:
            whole = os.path.abspath(path)
            real = self._real[path] = os.path.realpath(whole)
            if real == whole:
                self._real[path] = path
            else:
                self.links[whole] = real
        return self._real[path]

    def _read_config(self, making: Making) -> None:
        node = making.draft.fields.get("config")
        if node is None:
            return
        text = making.draft.values.text(node)
        if text.broken:
            making.broken = True
            return
        if any(ref.what != "out" for ref in text.refs) or any(text.secrets):
            self.session.fault(
                node, "config: expected a file that is there before anything runs, got a reference"
            )
            making.broken = True
            return
        path = self.real(text, making, for_workdir=False)
        if path.startswith("oumi://") and path not in self.fetched:
            making.broken = True  # said when it was looked for
            return
        making.config = self.fetched.get(path, path)
        making.file = self._config(making.config, node)
        if making.file is None:
            making.broken = True
            return
        self._merge(making)
        self._check_keys(making)

    def _config(self, path: str, node: Node) -> ConfigFile | None:
        if path not in self._configs:
            try:
                self._configs[path] = read_config_file(path, self._read)
            except WorkflowErrors as errors:
                self._configs[path] = None
                for problem in errors.problems:
                    inside_file = problem.where is not None and problem.where.line
                    where = problem.where if inside_file else node.where
                    hint = problem.hint or ("" if inside_file else self.near(path))
                    self.session.add(Problem(problem.message, where, hint))
        return self._configs[path]

    def _read(self, path: str) -> bytes:
        try:
            return self.files.read_source(path)
        except ValueError as error:
            raise OSError(0, str(error)) from None

    def near(self, path: str) -> str:
        import os

        from oumi_flow.text import did_you_mean

        folder, name = os.path.split(path)
        for link in (folder, path):
            if os.path.islink(link) and not os.path.exists(link):
                return f"{link} is a link that leads nowhere, to {os.readlink(link)}"
        try:
            here = os.listdir(folder or ".")
        except OSError:
            return f"no folder {folder}" if folder else ""
        near = did_you_mean(name, [each for each in here if each != name])
        return near and f'did you mean "{os.path.join(folder, near[14:-2])}"?'

    def _merge(self, making: Making) -> None:
        assert making.file is not None
        values, spec = making.file.values, making.spec
        found: list[ArgProblem] = []
        making.merged, making.others = merge(values, making.words, spec, found)
        for each in found:
            node = self._arg_node(making, each.arg)
            self.session.add(node.problem(each.message, each.hint))
            making.broken = True
        if found or all(text.plain is not None for text, _ in making.args):
            making.canon_merged, making.canon_others = making.merged, making.others
            return
        canon_args = [self.canon(text, making) for text, _ in making.args]
        making.canon_merged, making.canon_others = merge(values, canon_args, spec, [])

    def _arg_node(self, making: Making, arg: str) -> Node:
        """The entry of `args` that a word came from."""
        key = arg.partition("=")[0].lstrip("-")
        for (_, node), real in zip(making.args, making.real_args, strict=False):
            if real.lstrip("-").startswith(key) if key else not _is_arg(real, making.spec):
                return node
        return making.draft.fields.get("args", making.draft.node)

    def _check_keys(self, making: Making) -> None:
        """Keys that this oumi does not know, in `args` and in the config."""
        if self.keys is None or making.file is None:
            return
        try:
            words = [arg.text for arg in parse_args(making.words, making.spec)]
        except FlowError:
            return
        for word in words:
            node = self._arg_node(making, word)
            problem = self.keys.problem(making.spec.name, word, node.where)
            if problem is not None:
                self.session.add(Problem(f"args: {problem.message}", problem.where, problem.hint))
        if (making.spec.name, making.config) not in self._checked:
            self._checked.add((making.spec.name, making.config))
            file = making.file
            for problem in self.keys.problems_of(making.spec.name, file.values, file.places):
                self.session.add(problem)


def counted_outputs(making: Making) -> list[Output]:
    """What others count of a job: its verb's result, then what it promises beside that."""
    spec, placement = making.spec, making.placement
    outputs: list[Output] = []
    if not spec.is_shell:
        path = counted_path(spec, making.merged, placement.place)
        outputs.append(Output(making.key_of(path), path, spec.counts))
    seen = {output.path for output in outputs}
    for path in making.declared:
        if path not in seen:
            seen.add(path)
            outputs.append(Output(making.key_of(path), path, Counts.ALL, True))
        else:
            outputs = [
                Output(each.key, each.path, each.counts, True) if each.path == path else each
                for each in outputs
            ]
    return outputs


def _names_own_place(written: tuple[Text, Node]) -> bool:
    text = written[0]
    if text.plain is not None:
        return False
    return any(ref.what == "output_dir" and not ref.job for ref in text.refs)


def _is_arg(word: str, spec: VerbSpec) -> bool:
    try:
        parse_args([word], spec)
    except FlowError:
        return False
    return True
