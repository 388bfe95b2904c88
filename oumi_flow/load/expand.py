"""From files to drafts: one for each job, matrix and `uses` unfolded, defaults merged in.

Knows what a workflow file holds; not what a verb does, nor where anything lies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from oumi_flow.dataclass import dataclass
from oumi_flow.errors import FlowError, Problem, Where, WorkflowErrors
from oumi_flow.load import schema
from oumi_flow.load.entry import Entry
from oumi_flow.load.matrix import Combination, combinations
from oumi_flow.load.mend import take_out
from oumi_flow.load.names import name_fault
from oumi_flow.load.template import Text
from oumi_flow.load.values import Scope, Session, Values
from oumi_flow.load.yaml_source import MAX_BYTES, Node, decode, parse
from oumi_flow.model import Stamp
from oumi_flow.text import did_you_mean, size
from oumi_flow.typed import Any

MAX_JOBS = 200_000
MAX_NESTING = 20

# What a job that `uses` another file may say; the rest belongs to the jobs of that file.
_USES_FIELDS = frozenset({"name", "description", "uses", "vars", "env", "depends_on", "matrix"})


@dataclass(slots=True)
class Draft:
    """A job whose fields are not filled in yet."""

    name: str
    node: Node
    entry: Entry
    fields: Mapping[str, Node]
    values: Values
    scope: Scope
    group_needs: tuple[tuple[Node, Text, Scope], ...] = ()  # depends_on of the groups it is in

    @property
    def where(self) -> Where:
        return self.fields["name"].where

    def typed(self, field: str, default: Any = None) -> Any:
        """The plain value of a field; the default when it is absent or faulty."""
        node = self.fields.get(field)
        if node is None:
            return default
        value = self.values.typed(node)
        return default if value is None else value

    def text(self, field: str) -> Text | None:
        """The text of a field; None when it is absent."""
        node = self.fields.get(field)
        return None if node is None else self.values.text(node)

    def texts(self, field: str) -> list[tuple[Text, Node]]:
        """The texts of a list field."""
        node = self.fields.get(field)
        if node is None:
            return []
        return [(self.values.text(each), each) for each in node.value]


class Files:
    """Reads workflow files, each once. Raises WorkflowErrors or FlowError for what is no YAML."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.roots: dict[str, Node | None] = {}

    def read(self, path: str) -> Node | None:
        """A file's document; None when the schema refuses it (its problems are noted)."""
        if path not in self.roots:
            self.roots[path] = self._read(path)
        return self.roots[path]

    def _read(self, path: str) -> Node | None:
        root = parse(decode(path, self.read_bytes(path, "workflow file")))
        if not isinstance(root.value, dict):
            raise WorkflowErrors(
                [root.problem(f"expected a mapping with `name` and `jobs`, got {_kind(root)}")]
            )
        report = schema.check(root)
        for problem in report.problems:
            self.session.add(problem)
        self.session.late.update(report.late)
        if report.problems:
            lost = take_out(root, report.problems)
            if lost is None or schema.check(root).problems:
                return None
            self.session.lost |= lost
        return root

    def read_bytes(self, path: str, what: str) -> bytes:
        """A file's bytes, its stamp noted as a source. Raises FlowError."""
        try:
            return self.read_source(path)
        except FileNotFoundError:
            folder = os.path.dirname(path) or "."
            here = os.listdir(folder) if os.path.isdir(folder) else []
            near = did_you_mean(os.path.basename(path), here)
            raise FlowError(f"{path}: no such {what}", hint=near) from None
        except IsADirectoryError:
            raise FlowError(f"{path}: expected a {what}, got a folder") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise FlowError(f"{path}: cannot read the {what}: {reason}") from None
        except ValueError as error:
            raise FlowError(f"{path}: the {what} is refused: {error}") from None

    def read_source(self, path: str) -> bytes:
        """A file's bytes, its stamp noted as a source. Raises OSError or ValueError."""
        import stat
        import time

        from oumi_flow.disk import is_settled, stamp_of

        self.session.sources.setdefault(path, None)
        # Not blocking: a pipe without a writer must not hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(path)
            if not stat.S_ISREG(found.st_mode) and path != "/dev/stdin":
                raise ValueError("expected a regular file")
            stamp: Stamp = stamp_of(found)
            self.session.sources[path] = stamp
            if not is_settled(stamp, time.time_ns()):
                self.session.settled = False
            data = b"" if found.st_size > MAX_BYTES else file.read(MAX_BYTES + 1)
        if found.st_size > MAX_BYTES or len(data) > MAX_BYTES:
            got = size(max(found.st_size, len(data)))
            raise ValueError(f"too large: expected at most {size(MAX_BYTES)}, got {got}")
        return data


def _kind(node: Node) -> str:
    return schema.describe(node)


class Expansion:
    """All drafts of a workflow file, in file order, with what each file's names stand for."""

    def __init__(self, session: Session, path: str, sets: Mapping[str, str]) -> None:
        self.session = session
        self.files = Files(session)
        self.drafts: list[Draft] = []
        self.by_name: dict[str, Draft] = {}
        self.groups: dict[str, list[str]] = {}  # by full name
        self.folded: dict[str, str] = {}  # names as a careless file system sees them
        self.path = path
        root = self.files.read(path)
        if root is None:
            raise WorkflowErrors(session.problems)
        self.root = root
        given = self._sets(root, sets)
        self.scope = Scope(session, root, given=given)
        self._unfold(self.scope, root, (path,), ())

    def _sets(self, root: Node, sets: Mapping[str, str]) -> dict[str, Text]:
        known = root.value["vars"].value if "vars" in root.value else {}
        for name in sets:
            if name not in known:
                hint = did_you_mean(name, known) or (
                    f"vars of {self.path}: {', '.join(known) or 'none'}"
                )
                self.session.add(Problem(f'--set {name}: no var "{name}"', Where(self.path), hint))
        return {name: Text((value,) if value else ()) for name, value in sets.items()}

    def _unfold(
        self,
        scope: Scope,
        root: Node,
        files: tuple[str, ...],
        needs: tuple[tuple[Node, Text, Scope], ...],
    ) -> list[str]:
        """Adds the drafts of a file; returns their names."""
        defaults: dict[str, Node] = root.value["defaults"].value if "defaults" in root.value else {}
        made: list[str] = []
        for job in root.value["jobs"].value:
            # Defaults are for jobs, a group has its own file's.
            fields = dict(job.value) if "uses" in job.value else _merged(defaults, job.value)
            for values in self._combinations(scope, fields):
                if len(self.drafts) >= MAX_JOBS:
                    raise WorkflowErrors(
                        [job.problem(f"too many jobs: expected at most {MAX_JOBS}")]
                    )
                name = self._name(scope, fields["name"], values)
                if name is None:
                    continue
                draft = Draft(scope.prefix + name, job, values.entry, fields, values, scope, needs)
                if not self._claim(draft):
                    continue
                if "uses" in fields:
                    scope.groups[name] = self._nested(draft, files)
                    self.groups[draft.name] = scope.groups[name]
                    made += scope.groups[name]
                else:
                    self.drafts.append(draft)
                    self.by_name[draft.name] = draft
                    scope.jobs[name] = None
                    made.append(draft.name)
        return made

    def _combinations(self, scope: Scope, fields: dict[str, Node]) -> Iterator[Values]:
        matrix, apart = fields.get("matrix"), self.session.tokens
        if matrix is None:
            yield Values(scope, {}, Entry(fields, apart, alone=True))
            return
        problems: list[Problem] = []
        found: list[Combination] = combinations(matrix, problems)
        for problem in problems:
            self.session.add(problem)
        entry = Entry(fields, apart, frozenset(key for each in found for key in each))
        for each in found:
            yield Values(scope, each, entry)

    def _name(self, scope: Scope, node: Node, values: Values) -> str | None:
        name = values.plain(node, "name")
        if name is None:
            return None
        fault = name_fault(name)
        if fault:
            self.session.fault(node, *fault)
            return None
        return name

    def _claim(self, draft: Draft) -> bool:
        """Whether no job has that name yet, nor one that differs in case or Unicode form only."""
        name = draft.name
        folded = name.lower() if name.isascii() else _folded(name)
        other = self.folded.get(folded)
        if other is None:
            self.folded[folded] = name
            return True
        node = draft.fields["name"]
        if other == name:
            keys = [key for key in draft.entry.keys if f"matrix.{key}" not in node.text]
            hint = f"put ${{{{ matrix.{sorted(keys)[0]} }}}} into the name" if keys else ""
            self.session.fault(node, f'a second job named "{name}"', hint)
        else:
            self.session.fault(
                node,
                f'the names "{other}" and "{name}" differ only in case or Unicode form',
                "their folders would be one on some file systems",
            )
        return False

    def _nested(self, draft: Draft, files: tuple[str, ...]) -> list[str]:
        """Adds the jobs of the file that a draft `uses`; returns their names."""
        session, node = self.session, draft.fields["uses"]
        extra = [key for key in draft.fields if key not in _USES_FIELDS]
        for key in extra:
            where = draft.node.key_where(key)
            hint = "set it in that file, or in its `defaults`"
            session.add(Problem(f"`{key}` has no effect on a job that `uses` a file", where, hint))
        path = draft.values.plain(node, "uses")
        if path is None or extra:
            return []
        real = os.path.realpath(path)
        if real in (os.path.realpath(each) for each in files):
            chain = " → ".join([*files, path])
            session.fault(node, f"`uses` goes round in a circle: {chain}")
            return []
        if len(files) > MAX_NESTING:
            session.fault(node, f"`uses` is nested too deeply: expected at most {MAX_NESTING}")
            return []
        try:
            root = self.files.read(path)
        except WorkflowErrors as errors:
            for problem in errors.problems:
                session.add(problem)
            return []
        except FlowError as error:
            session.add(Problem(error.message, error.where or node.where, error.hint))
            return []
        if root is None:
            return []
        scope = Scope(
            session,
            root,
            prefix=f"{draft.name}/",
            outer=draft.scope,
            given=self._given(draft, root, path),
            given_env=self._given_env(draft),
        )
        needs = draft.group_needs
        if "depends_on" in draft.fields:
            texts = draft.texts("depends_on")
            needs = (*needs, *((each, text, draft.scope) for text, each in texts))
        return self._unfold(scope, root, (*files, path), needs)

    def _given(self, draft: Draft, root: Node, path: str) -> dict[str, Text]:
        node = draft.fields.get("vars")
        if node is None:
            return {}
        known = root.value["vars"].value if "vars" in root.value else {}
        for name in node.value:
            if name not in known:
                hint = did_you_mean(name, known) or f"its vars: {', '.join(known) or 'none'}"
                where = node.key_where(name)
                self.session.add(Problem(f'{path} has no var "{name}"', where, hint))
        return {name: draft.values.text(each) for name, each in node.value.items()}

    def _given_env(self, draft: Draft) -> dict[str, Text]:
        names = draft.fields["env"].value if "env" in draft.fields else {}
        if not names:
            return {}
        found = draft.values.env()
        return {name: found[name] for name in names}


def _folded(name: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _merged(defaults: Mapping[str, Node], job: Mapping[str, Node]) -> dict[str, Node]:
    """A job's fields over the defaults; mappings merge by key."""
    if not defaults:
        return dict(job)
    fields = {**defaults, **job}
    for key, default in defaults.items():
        own = job.get(key)
        if own is None or not isinstance(own.value, dict) or not isinstance(default.value, dict):
            continue
        inherited = dict(default.value)
        if key == "resources" and ("gpu" in own.value or "gpus" in own.value):
            # Two words for one thing: the job's own displaces both.
            inherited.pop("gpu", None)
            inherited.pop("gpus", None)
        keys = {**(default.keys or {}), **(own.keys or {})}
        fields[key] = Node({**inherited, **own.value}, own.at, own.source, "", keys)
    return fields
