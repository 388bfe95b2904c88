"""Fills in `${{ … }}` and `${VAR}` as far as one file tells, and notes what was asked of the shell.

What belongs to other jobs stays a `Ref`. Knows how names are looked up, not what fields mean.
"""

from __future__ import annotations

from collections.abc import Mapping

from oumi_flow.dataclass import dataclass, field
from oumi_flow.errors import Problem
from oumi_flow.load.entry import Entry, Form, form_of
from oumi_flow.load.matrix import Combination
from oumi_flow.load.schema import Check, check_late
from oumi_flow.load.secrets import is_secret_name
from oumi_flow.load.template import (
    Expression,
    Fault,
    Ref,
    Secret,
    Text,
    Token,
    Variable,
    joined,
)
from oumi_flow.load.yaml_source import Node
from oumi_flow.model import Stamp
from oumi_flow.text import did_you_mean
from oumi_flow.typed import Any

EMPTY = Text()
BROKEN = Text((), broken=True)
_JOB_WORDS = ("output_dir", "log", "outputs")


@dataclass(slots=True)
class Session:
    """What one load gathers: problems, and everything that the result depends on."""

    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    variables: dict[str, str | None] = field(default_factory=dict)
    needs: dict[str, None] = field(default_factory=dict)
    sources: dict[str, Stamp | None] = field(default_factory=dict)
    settled: bool = True  # no file read was changed so recently that its stamp proves nothing
    literal_secrets: bool = False
    late: dict[int, tuple[Check, str]] = field(default_factory=dict)
    tokens: dict[tuple[str, bool], tuple[Token, ...]] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)  # ids of job nodes of which a part was refused

    def add(self, problem: Problem) -> None:
        """Notes a problem, once: a matrix makes the same one many times."""
        key = (str(problem.where), problem.message)
        if key not in self.seen:
            self.seen.add(key)
            self.problems.append(problem)

    def fault(self, node: Node, message: str, hint: str = "") -> None:
        self.add(node.problem(message, hint))


class Scope:
    """What the texts of one file may name. `prefix` is that of its jobs: "" or `nightly/`."""

    __slots__ = (
        "_active",
        "_env",
        "_vars",
        "env_nodes",
        "given",
        "given_env",
        "groups",
        "jobs",
        "name",
        "outer",
        "prefix",
        "secrets",
        "session",
        "top",
        "var_nodes",
    )

    def __init__(
        self,
        session: Session,
        root: Node,
        *,
        prefix: str = "",
        outer: Scope | None = None,
        given: Mapping[str, Text] | None = None,
        given_env: Mapping[str, Text] | None = None,
    ) -> None:
        fields = root.value
        self.session = session
        self.top: dict[str, Node] = fields
        self.prefix = prefix
        self.outer = outer
        self.given = dict(given or {})
        self.given_env = dict(given_env or {})
        self.var_nodes: dict[str, Node] = fields["vars"].value if "vars" in fields else {}
        self.env_nodes: dict[str, Node] = fields["env"].value if "env" in fields else {}
        named = [node.text for node in fields["secrets"].value] if "secrets" in fields else []
        self.secrets: frozenset[str] = frozenset(named) | (
            outer.secrets if outer is not None else frozenset()
        )
        self.name: str = outer.name if outer is not None else fields["name"].text
        self.jobs: dict[str, None] = {}  # names as this file knows them
        self.groups: dict[str, list[str]] = {}  # `nightly` -> full names of its jobs
        self._vars: dict[str, Text] = {}
        self._env: dict[str, Text] | None = None
        self._active: set[str] = set()

    def inherited(self, field: str) -> tuple[Node, Scope] | None:
        """A field of this file, else of the nearest one that uses it, and whose it is."""
        if field in self.top:
            return self.top[field], self
        return self.outer.inherited(field) if self.outer is not None else None

    def is_secret(self, name: str) -> bool:
        return name in self.secrets or is_secret_name(name)

    def var(self, name: str) -> Text | None:
        """The value of `vars.NAME`; None when the file has no such var."""
        if name in self.given:
            return self.given[name]
        if name not in self.var_nodes:
            return None
        if name not in self._vars:
            node = self.var_nodes[name]
            if name in self._active:
                self.session.fault(node, f"vars.{name} is made of itself")
                return BROKEN
            self._active.add(name)
            self._vars[name] = Values(self).text(node)
            self._active.discard(name)
        return self._vars[name]

    @property
    def env(self) -> dict[str, Text]:
        """The environment that the file and those that use it declare for every job."""
        if self._env is None:
            self._env = dict(self.outer.env) if self.outer is not None else {}
            values = Values(self)
            for name, node in self.env_nodes.items():
                self._env[name] = values.env_text(name, node, self._env)
            self._env.update(self.given_env)
        return self._env


class Values:
    """Looks up the names in a file's texts: those of a job when there is one."""

    __slots__ = ("_active", "_cell", "combination", "entry", "scope", "session")

    def __init__(
        self, scope: Scope, combination: Combination | None = None, entry: Entry | None = None
    ) -> None:
        self.scope = scope
        self.session = scope.session
        self.combination = combination  # None: outside of a job
        self.entry = entry or Entry({}, scope.session.tokens)
        self._active: set[str] = set()
        self._cell = _plain_values(combination or {}, self.entry.keys)

    def text(self, node: Node, *, run: bool = False) -> Text:
        """The text of a scalar, filled in. Faults are noted, and make it `broken`."""
        key = (id(node), run)
        texts = self.entry.texts
        known = texts[key] if key in texts else self._learn(node, run)
        if isinstance(known, Text):
            return known
        if known is not None:
            try:
                word = known.form % known.pick(self._cell)
            except KeyError:  # there is more to a value than its text
                pass
            else:
                return Text((word,)) if word else EMPTY
        return self._text(node, run, None, None)

    def _learn(self, node: Node, run: bool) -> Text | Form | None:
        """What of a text all jobs of the entry share."""
        entry = self.entry
        found: Text | Form | None
        if entry.is_fixed(node, run):
            found = self._text(node, run, None, None)
        else:
            found = form_of(entry.tokens(node.text, run))
        entry.texts[id(node), run] = found
        return found

    def env_text(self, name: str, node: Node, outer: Mapping[str, Text]) -> Text:
        """The value of a declared variable; `outer` is what `env.K` means beside the job's own."""
        text = self._text(node, False, name, outer)
        if not self.scope.is_secret(name):
            return text
        parts = tuple(
            Secret("", part) if isinstance(part, str) else part for part in text.parts or ("",)
        )
        if any(isinstance(part, Secret) and not part.variable and part.default for part in parts):
            self.session.literal_secrets = True
        return Text(parts, text.broken)

    def env(self) -> dict[str, Text]:
        """All that the job and its files declare."""
        outer, entry = self.scope.env, self.entry
        if not entry.env_nodes:
            return outer
        merged = dict(outer)
        for name, node in entry.env_nodes.items():
            if name in entry.env:
                merged[name] = entry.env[name]
                continue
            self._active = {name}
            merged[name] = self.env_text(name, node, outer)
            if entry.is_fixed(node):
                entry.env[name] = merged[name]
        self._active = set()
        return merged

    def typed(self, node: Node) -> Any:
        """The plain value of a node, expressions filled in and checked against the schema."""
        if isinstance(node.value, list):
            return [self.typed(each) for each in node.value]
        if isinstance(node.value, dict):
            return {key: self.typed(each) for key, each in node.value.items()}
        late = self.session.late.get(id(node))
        if late is None:
            return node.value
        text = self.text(node)
        if text.broken:
            return None
        plain = text.plain
        if plain is None:
            self.session.fault(node, "a reference to a job's result cannot be used here")
            return None
        value, problems = check_late(node, plain, late)
        for problem in problems:
            self.session.add(problem)
        return None if problems else value

    def plain(self, node: Node, what: str) -> str | None:
        """Text that must be known before anything runs; None (and a problem) when it is not."""
        text = self.text(node)
        if text.broken:
            return None
        if text.plain is None:
            self.session.fault(
                node, f"{what}: expected text that is known before anything runs, got a reference"
            )
        return text.plain

    def _text(
        self, node: Node, run: bool, env_name: str | None, env: Mapping[str, Text] | None
    ) -> Text:
        text: str = node.text
        if "$" not in text:
            return Text((text,) if text else ())
        return self._fill(self.entry.tokens(text, run), node, env_name, env)

    def _fill(
        self,
        found: tuple[Token, ...],
        node: Node,
        env_name: str | None,
        env: Mapping[str, Text] | None,
    ) -> Text:
        pieces: list[Text] = []
        for token in found:
            if isinstance(token, str):
                pieces.append(Text((token,)))
            elif isinstance(token, Variable):
                pieces.append(self._variable(token, node, env_name))
            elif isinstance(token, Expression):
                pieces.append(self._expression(token, node, env_name, env))
            else:
                pieces.append(self._fault(token, node))
        return joined(pieces)

    def _fault(self, fault: Fault, node: Node) -> Text:
        self.session.add(Problem(fault.message, node.where_of(fault.written), fault.hint))
        return BROKEN

    def _variable(self, token: Variable, node: Node, env_name: str | None) -> Text:
        name, session = token.name, self.session
        secret = self.scope.is_secret(name)
        if secret and env_name is None:
            hint = f"put it into `env` and let the job read ${name}"
            message = f"${{{name}}} is a secret: only values of `env` may hold it"
            session.add(Problem(message, node.where_of(token.written), hint))
            return BROKEN
        held = session.environ.get(name)
        # https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_06_02
        value = held if held or token.default is None else token.default
        if secret or (env_name is not None and self.scope.is_secret(env_name)):
            if token.default is None:
                session.needs[name] = None
        else:
            session.variables[name] = held
        if value is None:
            hint = f"export {name}, or write ${{{name}:-default}}"
            message = f"${{{name}}} is not set in the shell"
            session.add(Problem(message, node.where_of(token.written), hint))
            return BROKEN
        if secret or (env_name is not None and self.scope.is_secret(env_name)):
            if token.default:
                session.literal_secrets = True
            return Text((Secret(name, token.default),))
        return Text((value,) if value else ())

    def _expression(
        self,
        token: Expression,
        node: Node,
        env_name: str | None,
        env: Mapping[str, Text] | None,
    ) -> Text:
        name: str | None
        if len(token.inside) == 1 and isinstance(token.inside[0], str):
            name = token.inside[0]
        else:
            inside = self._fill(token.inside, node, env_name, env)
            if inside.broken:
                return BROKEN
            name = inside.plain
        if name is None:
            message = f"`{token.written}`: a reference inside a reference must be plain text"
            self.session.add(Problem(message, node.where_of(token.written)))
            return BROKEN
        found = self._look_up(name.strip(), token.written, env_name, env)
        if isinstance(found, Text):
            return found
        message, hint = found
        self.session.add(Problem(message, node.where_of(token.written), hint))
        return BROKEN

    def _look_up(
        self,
        name: str,
        written: str,
        env_name: str | None,
        env: Mapping[str, Text] | None,
    ) -> Text | tuple[str, str]:
        """What a name stands for, or a message and a hint."""
        kind, _, rest = name.partition(".")
        if kind == "vars":
            found = self.scope.var(rest)
            if found is not None:
                return self._guarded(found, name, env_name)
            known = {**self.scope.var_nodes, **self.scope.given}
            hint = did_you_mean(rest, known) or "declare it under `vars`"
            return f'no var "{rest}"', hint
        if kind == "matrix":
            return self._matrix(rest)
        if kind == "env":
            return self._env(rest, env_name, env)
        if kind == "workflow" and rest in ("name", "output_dir"):
            return Text((self.scope.name if rest == "name" else Ref("out", written=written),))
        if kind == "job" and rest in ("name", "output_dir"):
            return Text((Ref(rest, written=written),))
        if kind == "jobs":
            ref = self._job_ref(rest, written)
            if ref is not None:
                return Text((ref,))
            expected = "jobs.NAME.output_dir, jobs.NAME.log or jobs.NAME.outputs.N"
            near = did_you_mean(rest.rpartition(".")[2], _JOB_WORDS)
            return f"cannot read `{written}`: expected {expected}", near
        expected = f"vars.K, matrix.K, env.K, {', '.join(_PLAIN_NAMES)} or jobs.NAME.output_dir"
        near = did_you_mean(name, _PLAIN_NAMES) if "." in name else f"is it vars.{name}?"
        return f"cannot read `{written}`: expected {expected}", near

    def _guarded(self, text: Text, name: str, env_name: str | None) -> Text | tuple[str, str]:
        if env_name is None and any(text.secrets):
            return f"{name} holds a secret: only values of `env` may", ""
        return text

    def _matrix(self, rest: str) -> Text | tuple[str, str]:
        if self.combination is None:
            return "matrix is only known inside a job", ""
        key, _, below = rest.partition(".")
        if key not in self.combination:
            if key in self.entry.keys:
                return Text()  # as in GitHub Actions: other combinations have it
            hint = did_you_mean(key, self.entry.keys) or "this job's `matrix` has no such key"
            return f'no matrix key "{key}"', hint
        node = self.combination[key]
        while below and isinstance(node.value, dict):
            part, _, below = below.partition(".")
            if part not in node.value:
                return f'no "{part}" in matrix.{key}', did_you_mean(part, node.value)
            node = node.value[part]
        if below or isinstance(node.value, dict):
            return f"matrix.{rest}: expected a single value, got a mapping or less", ""
        if "$" not in node.text:
            return Text((node.text,) if node.text else ())
        return Values(self.scope).text(node)

    def _env(
        self, name: str, env_name: str | None, env: Mapping[str, Text] | None
    ) -> Text | tuple[str, str]:
        outer = self.scope.env if env is None else env
        if name in self.entry.env_nodes and name not in self._active:
            self._active.add(name)
            found = self.env_text(name, self.entry.env_nodes[name], self.scope.env)
            self._active.discard(name)
        elif name in outer:
            found = outer[name]
        else:
            hint = did_you_mean(name, {**outer, **self.entry.env_nodes})
            return f'no "{name}" in `env`', hint or f"the shell's variable is ${{{name}}}"
        return self._guarded(found, f"env.{name}", env_name)

    def _job_ref(self, rest: str, written: str) -> Ref | None:
        name, _, last = rest.rpartition(".")
        prefix = self.scope.prefix
        if last in ("output_dir", "log") and name:
            return Ref(last, prefix + name, written=written)
        name, _, word = name.rpartition(".")
        if word == "outputs" and name and last.isdecimal() and len(last) < 10:
            return Ref("outputs", prefix + name, int(last), written)
        return None


def _plain_values(combination: Combination, keys: frozenset[str]) -> dict[str, str]:
    """Those of a combination's values that are text as it stands, as they are inserted."""
    found = {
        key: node.text
        for key, node in combination.items()
        if "$" not in node.text and not isinstance(node.value, dict)
    }
    if len(combination) < len(keys):
        found.update(dict.fromkeys(keys - combination.keys(), ""))
    return found


_PLAIN_NAMES = ("workflow.name", "workflow.output_dir", "job.name", "job.output_dir")
