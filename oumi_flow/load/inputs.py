"""What a job reads: files that lie there, and what other jobs make.

Asks the disk only whether a path exists. Knows nothing of content.
"""

from __future__ import annotations

import glob
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping

from oumi_flow.dataclass import dataclass, field
from oumi_flow.disk import is_settled, stamp
from oumi_flow.errors import Problem, Where
from oumi_flow.load.configs import flatten, input_values
from oumi_flow.load.making import MARK, MARKS, Making, Workshop
from oumi_flow.load.places import Made, PlaceIndex
from oumi_flow.load.template import Ref, Text
from oumi_flow.load.yaml_source import Node
from oumi_flow.model import EMPTY, Counts, Input
from oumi_flow.verbs.places import inside, to_base, to_workdir
from oumi_flow.verbs.results import is_no_model
from oumi_flow.verbs.table import VerbSpec

_GLOB = re.compile(r"[*?\[]")
# What follows a reference in a command and still belongs to the path; what may come after that.
_PATH = re.compile(r"/[\w./@%+=,~-]*")
_AFTER = frozenset(" \t\n\"';|&<>)`")
_QUOTE = re.compile(r"""(["'])[^\s"']*\Z""")  # opened in the word that goes on
_DATA = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".xlsx", ".txt", ".yaml", ".yml")
_ADAPTER = "adapter_config.json"
_OF_MODELS = re.compile(r"(^|[._])(model|tokenizer|teacher|adapter)")
_OF_DATA = re.compile(r"(^|[._])(eval|dataset)_kwargs\b")  # whose keys are anybody's words


@dataclass(slots=True)
class Reading:
    """What was found out about a job's inputs."""

    inputs: dict[str, Input] = field(default_factory=dict)  # by path
    implied: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)  # of config keys that name another's place
    flat: dict[str, object] = field(default_factory=dict)  # the canonical config, marks in it
    others: list[str] = field(default_factory=list)
    named: set[str] = field(default_factory=set)  # upstreams of which something is named
    ordinals: dict[int, int] = field(default_factory=dict)  # number of a job -> N of `@N`

    def symbols(self, text: str) -> str:
        """Marks as `@N`, N in order of appearance."""
        if MARK not in text:
            return text
        return MARKS.sub(lambda match: f"@{self.ordinal(int(match[1]))}", text)

    def ordinal(self, number: int) -> int:
        return self.ordinals.setdefault(number, len(self.ordinals))


class Reader:
    """Finds the inputs of jobs, once every job has its place."""

    def __init__(self, workshop: Workshop, index: PlaceIndex) -> None:
        self.workshop = workshop
        self.session = workshop.session
        self.index = index
        self._exists: dict[str, bool] = {}
        self._nobodys: set[str] = set()  # paths of which no job makes anything

    def read(self, making: Making) -> Reading:
        """All inputs of a job, in an order that does not hang on the order of keys."""
        reading = Reading()
        for text, _ in making.run:
            self._references(making, text, reading, of_shell=not making.run_is_list)
        if making.file is not None:
            self._config(making, reading)
        for text, _ in making.args:
            self._references(making, text, reading)
        for name in sorted(making.env):
            if making.env[name].plain is None:
                self._references(making, making.env[name], reading)
        for text, node in making.inputs:
            if not text.broken:
                self._declared(making, text, node, reading)
        if making.spec.needs_config:
            self._extra_dependencies(making, reading)
        for name in making.needs:
            if name not in reading.named:
                self._bare(making, name, reading)
        return reading

    # ------------------------------------------------------------- references

    def _references(
        self, making: Making, text: Text, reading: Reading, of_shell: bool = False
    ) -> None:
        """`${{ jobs.X.output_dir }}/below` within a text: what it names is read."""
        if text.plain is not None:
            return
        parts = text.parts
        for number, part in enumerate(parts):
            if not isinstance(part, Ref) or not part.job:
                continue
            other = self.workshop.makings[part.job]
            reading.ordinal(other.number)
            if part.what == "log":
                continue
            before = parts[number - 1] if number else ""
            after = parts[number + 1] if number + 1 < len(parts) else ""
            rest = ""
            if isinstance(after, str) and (match := _PATH.match(after)):
                rest = match[0]
                is_last = number + 2 == len(parts)
                word = before if isinstance(before, str) else ""
                if not _is_over(rest, after[len(rest) :], is_last, word, of_shell):
                    rest = rest[: rest.rfind("/")]  # some file there: all of that folder counts
            path = to_base(self.workshop.real_path(part, making) + rest.rstrip("/.,="), ".")
            self._of_upstream(other, path, reading)

    def _of_upstream(self, other: Making, path: str, reading: Reading) -> str:
        """Notes what of another job is read at a path; returns its canonical form, as a mark."""
        reading.named.add(other.name)
        outputs = other.counted
        primary = outputs[0] if outputs and not other.spec.is_shell else None
        canon = self.workshop.below(other, path)
        if primary and path in (other.placement.place, other.placement.output_dir, other.folder):
            path, counts = primary.path, primary.counts
        elif primary and path.startswith(f"{other.placement.place}/"):
            # Below what counts by a rule: a trial's folder holds a model, a checkpoint is one.
            counts = Counts.MODEL if primary.counts is Counts.TRIALS else primary.counts
            if counts is Counts.MODEL and is_no_model(path[len(other.placement.place) + 1 :]):
                counts = Counts.ALL  # somebody wants to see the logs, not the model
        else:
            counts = Counts.ALL
        self._note(path, counts, other, reading)
        return canon

    def _note(self, path: str, counts: Counts, other: Making, reading: Reading) -> None:
        key = reading.symbols(self.workshop.below(other, path))
        reading.inputs.setdefault(path, Input(key, path, counts, other.name))

    def _bare(self, making: Making, name: str, reading: Reading) -> None:
        """An upstream of which nothing is named: all that counts of it."""
        other = self.workshop.makings[name]
        outputs = other.counted
        if not outputs:
            key = f"@{reading.ordinal(other.number)}"
            reading.inputs.setdefault(key, Input(key, "", Counts.RAN, name))
        for number, output in enumerate(outputs):
            # What lies inside the verb's result counts by the rule of that.
            if number == 0 or other.spec.is_shell or not inside(output.path, other.placement.place):
                self._note(output.path, output.counts, other, reading)

    # ------------------------------------------------------------------ config

    def _config(self, making: Making, reading: Reading) -> None:
        """Config keys that name files, folders, or what other jobs make."""
        spec = making.spec
        flat = reading.flat = flatten(making.merged, making.file)
        wanted = sorted(input_values(flat, spec, making.others))
        if making.canon_merged is not making.merged:
            reading.flat = flatten(making.canon_merged, making.file)
        reading.others = list(making.canon_others)
        for key, value in wanted:
            if "://" in value:
                continue
            path = to_base(value, making.workdir)
            found, below, makers = self._who_makes(path, making)
            if found is None:
                self._local(making, key, value, path, makers, reading)
                continue
            if isinstance(found, Made) and found.job == making.name:
                continue  # a job's own place is no input
            if isinstance(found, list):
                if len(found) > 1:
                    names = ", ".join(found[:4]) + (", …" if len(found) > 4 else "")
                    self.session.add(
                        Problem(
                            f'{key}: "{value}" is the place that the configs of several jobs '
                            f"name: {names}",
                            self._key_where(making, key),
                            f"say which: ${{{{ jobs.{found[0]}.output_dir }}}}",
                        )
                    )
                    continue
                other = self.workshop.makings[found[0]]
                top = other.placement.place
                path = f"{top}/{below}" if below else top
                self._override(making, key, to_workdir(path, making.workdir), reading)
            else:
                other = self.workshop.makings[found.job]
                path = found.below(below)
            if other.name not in making.needs:
                reading.implied.append(other.name)
            self._replace(key, self._of_upstream(other, path, reading), reading)
        # Numbers go by sorted keys, so that neither the order of keys in the config nor
        # moving a value from the config to `args` changes any.
        for key, value_now in sorted(_marked(reading.flat)):
            reading.flat[key] = reading.symbols(value_now)
        reading.others = [reading.symbols(word) for word in reading.others]

    @staticmethod
    def _override(making: Making, key: str, value: str, reading: Reading) -> None:
        name = key if key.startswith("--") else f"--{key}"
        reading.overrides.append(f"{name}={value}")

    @staticmethod
    def _replace(key: str, canon: str, reading: Reading) -> None:
        if key in reading.flat:
            reading.flat[key] = canon
            return
        reading.others = [
            f"{key}={canon}" if word.startswith(f"{key}=") else word for word in reading.others
        ]

    def _who_makes(
        self, path: str, making: Making
    ) -> tuple[Made | list[str] | None, str, Mapping[str, str]]:
        """What `PlaceIndex.find` says of a path; where it is no job, who makes a part of it."""
        if path in self._nobodys:
            return None, "", EMPTY
        found, below = self.index.find(path, making.name)
        if isinstance(found, Made):
            return found, below, EMPTY
        makers = self.index.makers(path)
        if found is None and not makers:
            self._nobodys.add(path)
        return found, below, makers

    def _local(
        self,
        making: Making,
        key: str,
        value: str,
        path: str,
        makers: Mapping[str, str],
        reading: Reading,
    ) -> None:
        """A value that no job makes: an input when it is there, else perhaps a name on a hub."""
        if making.name in makers:  # a folder around everything: no job can wait for itself
            makers = {}
        if makers or self._is_there(path):
            is_model = _OF_MODELS.search(key) and not _OF_DATA.search(key)
            counts = Counts.MODEL if is_model else Counts.ALL
            self._gather(making, path, counts, makers, reading)
            if is_model:
                self._base_of(making, path, reading)
        elif _is_clearly_local(key, value):
            self.session.add(
                Problem(
                    f'{key}: "{value}" does not exist and no job makes it',
                    self._key_where(making, key),
                    _relative_to(making),
                )
            )

    def _base_of(self, making: Making, adapter: str, reading: Reading) -> None:
        """The model below an adapter, which oumi loads as well: a folder, or a name on a hub."""
        try:
            record = json.loads(self.workshop.files.read_source(f"{adapter}/{_ADAPTER}"))
            base = record["base_model_name_or_path"]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return  # no adapter; or one that oumi will say more about
        if not isinstance(base, str) or not base or "://" in base:
            return
        path = to_base(base, making.workdir)
        found, below, makers = self._who_makes(path, making)
        if isinstance(found, Made) and found.job != making.name:
            if found.job not in making.needs:
                reading.implied.append(found.job)
            self._of_upstream(self.workshop.makings[found.job], found.below(below), reading)
        elif found is None and making.name not in makers and (makers or self._is_there(path)):
            self._gather(making, path, Counts.MODEL, makers, reading)

    def _key_where(self, making: Making, key: str) -> Where:
        """Where a config key got its value: in `args`, or in the config file."""
        name = key.lstrip("-")
        for (_, node), real in zip(making.args, making.real_args, strict=False):
            word = real.lstrip("-")
            if word.startswith((f"{name}=", f"{name} ")) or word == name:
                return node.where
        assert making.file is not None
        where = making.file.where(key)
        return where if where.line else making.draft.fields["config"].where

    # ---------------------------------------------------------------- declared

    def _declared(self, making: Making, text: Text, node: Node, reading: Reading) -> None:
        if text.plain == "":
            self.session.fault(node, "inputs: expected a path, got an empty text")
            return
        path = to_base(self.workshop.real(text, making, for_workdir=False), ".")
        if text.plain is None:
            for ref in text.refs:
                if ref.job:
                    reading.ordinal(self.workshop.makings[ref.job].number)
                    reading.named.add(ref.job)
            if any(ref.what == "log" for ref in text.refs):
                return
        found, below, makers = self._who_makes(path, making)
        if isinstance(found, Made) and found.job == making.name:
            self.session.fault(node, f'inputs: "{path}" is an output of the job itself')
            return
        if isinstance(found, Made):
            other = self.workshop.makings[found.job]
            if other.name not in making.needs:
                reading.implied.append(other.name)
            self._of_upstream(other, found.below(below), reading)
            return
        if making.name in makers:
            own = self._shown(makers[making.name])
            self.session.fault(
                node,
                f'inputs: "{path}" takes in {own}, which the job itself makes',
                "what a job makes cannot be what it is made of: name less, or write it elsewhere",
            )
            return
        if not makers and not self._is_there(path):
            what = "matches nothing" if _GLOB.search(path) else "does not exist"
            home = "write ${HOME} for ~" if path.startswith("~") else ""
            self.session.fault(
                node,
                f'inputs: "{path}" {what} and no job makes it',
                home or self.workshop.near(path),
            )
            return
        self._gather(making, path, Counts.ALL, makers, reading)

    def _gather(
        self,
        making: Making,
        path: str,
        counts: Counts,
        makers: Iterable[str],
        reading: Reading,
    ) -> None:
        """Notes a path of which other jobs make parts, or none."""
        names = sorted(makers)
        if names:
            reading.implied += [name for name in names if name not in making.needs]
            reading.named.update(names)
        reading.inputs.setdefault(path, Input(path, path, counts, makers=tuple(names)))

    def _shown(self, absolute: str) -> str:
        base = f"{self.index.base}/"
        return absolute[len(base) :] if absolute.startswith(base) else absolute

    def _is_there(self, path: str) -> bool:
        """Whether a path exists, or a glob matches; what is not there is noted as a source."""
        if path not in self._exists:
            there = self.index.exists(path)
            if not there and (pattern := _GLOB.search(path)):
                # A name that comes to the folder from now on may be the first to match.
                folder = os.path.dirname(path[: pattern.start()]) or "."
                was = stamp(folder)
                there = next(glob.iglob(path, recursive=True), None) is not None
                if not there:
                    self.session.sources.setdefault(folder, was)
                    self.session.settled &= was is None or is_settled(was, time.time_ns())
            elif not there:
                self.session.sources.setdefault(path, None)
            self._exists[path] = there
        return self._exists[path]

    def _extra_dependencies(self, making: Making, reading: Reading) -> None:
        """`$OUMI_EXTRA_DEPS_FILE`: a file that lists Python files, one a line (oumi's registry)."""
        name = "OUMI_EXTRA_DEPS_FILE"
        if name in making.env:
            text = making.env[name]
            path = "" if any(text.secrets) else self.workshop.real(text, making, for_workdir=True)
        else:
            path = self.session.environ.get(name, "")
            self.session.variables[name] = self.session.environ.get(name)
        if not path:
            return
        path = to_base(path, making.workdir)
        for each in (path, *self._listed(path, making)):
            found, _ = self.index.find(each, making.name)
            if isinstance(found, Made) and found.job != making.name:
                other = self.workshop.makings[found.job]
                if other.name not in making.needs:
                    reading.implied.append(other.name)
                self._of_upstream(other, each, reading)
            else:
                reading.inputs.setdefault(each, Input(each, each))

    def _listed(self, path: str, making: Making) -> Iterator[str]:
        try:
            lines = self.workshop.files.read_source(path).decode("utf-8", "replace").splitlines()
        except (OSError, ValueError):
            return
        for line in lines:
            if line.strip() and not line.strip().startswith("#"):  # as oumi reads it
                yield to_base(line.strip(), making.workdir)


def _marked(flat: Mapping[str, object]) -> list[tuple[str, str]]:
    """The values that name what other jobs make."""
    return [(key, value) for key, value in flat.items() if isinstance(value, str) and MARK in value]


def _is_over(rest: str, after: str, is_last: bool, before: str, of_shell: bool) -> bool:
    """Whether a path that begins with `rest` ends there, and not in a name that we cannot tell.

    `before` and `after` are what stands around it, up to the next references (`is_last`: there is
    none after it); `of_shell`: they are read by one, else they are one word, or words of a list.
    """
    if not after:
        return is_last or rest[-1] in ",="
    if after[0] == ":":  # of a list of folders, or a place in a container
        return after[1:2] in ("", "/", "$", ".", "~", '"', "'", " ", "\n")
    if not of_shell:
        return after[0].isspace() and any(map(str.isspace, before))
    quote = _QUOTE.search(before)
    return after[0] == quote[1] if quote else after[0] in _AFTER


def _is_clearly_local(key: str, value: str) -> bool:
    """A path by its looks; what may be a name on a hub is left alone."""
    if value.startswith(("./", "../", "/", "~")):
        return True
    return key.rpartition(".")[2] not in ("model_name",) and value.lower().endswith(_DATA)


def _relative_to(making: Making) -> str:
    return "" if making.workdir == "." else f"it is looked for in the workdir {making.workdir}"


def needs_input(spec: VerbSpec, making: Making) -> str:
    """The key that the verb cannot do without, when neither config nor `args` set it; else ""."""
    key = REQUIRED_INPUT.get(spec.name, "")
    if not key or making.file is None:
        return ""
    flat = flatten(making.merged, making.file)
    given = {name for name, _ in input_values(flat, spec, making.others)}
    return "" if key in given else key


# Without them oumi exits 0 having done nothing, or only after it has loaded the model.
REQUIRED_INPUT = {"infer": "input_path", "judge": "--input"}
