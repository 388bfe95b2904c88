"""What all jobs of one entry of `jobs:` have in common: worked out once, however many there are.

Of a text it is what does not hang on the matrix, so that each job only puts in its own values; of
everything else, whatever is made of such texts alone. Knows how texts are taken apart, not what the
names in them stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter

from oumi_flow.load.template import Expression, Text, Token, tokens
from oumi_flow.load.yaml_source import Node
from oumi_flow.typed import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Form(NamedTuple):
    """A text of which nothing is missing but values of the matrix: `form % pick(values)`."""

    form: str
    pick: Callable[[Mapping[str, str]], Any]


class Entry:
    """An entry of `jobs:` with the fields of its jobs, and what was found out of them."""

    __slots__ = (
        *("_alone", "_fixed", "_kept", "_taken_apart"),
        *("env", "env_nodes", "fields", "keys", "texts"),
    )

    def __init__(
        self,
        fields: Mapping[str, Node],
        taken_apart: dict[tuple[str, bool], tuple[Token, ...]],
        keys: frozenset[str] = frozenset(),
        alone: bool = False,
    ) -> None:
        """`alone`: there is one job, so nothing is shared."""
        self.fields = fields
        self.keys = keys  # of the matrix: those that some combination has
        self.env_nodes: Mapping[str, Node] = fields["env"].value if "env" in fields else {}
        self.texts: dict[tuple[int, bool], Text | Form | None] = {}  # by id of the node, and `run`
        self.env: dict[str, Text] = {}  # values of `env_nodes` that are the same in all jobs
        self._taken_apart = taken_apart
        self._alone = alone
        self._fixed: dict[str, bool] = {}
        self._kept: dict[str, Any] = {}

    def tokens(self, text: str, run: bool = False) -> tuple[Token, ...]:
        """The parts of a text. In a `run` text all but `${{ … }}` belongs to the shell."""
        key = (text, run)
        found = self._taken_apart.get(key)
        if found is None:
            found = self._taken_apart[key] = tokens(text, run=run)
        return found

    def is_fixed(self, node: Node, run: bool = False) -> bool:
        """Whether all that a node holds says the same in every job."""
        if isinstance(node.value, dict):
            return all(self.is_fixed(each, run) for each in node.value.values())
        if isinstance(node.value, list):
            return all(self.is_fixed(each, run) for each in node.value)
        return "$" not in node.text or all(map(_is_fixed, self.tokens(node.text, run)))

    def once(self, what: str, fields: tuple[str, ...], make: Callable[[], T]) -> T:
        """What `make` gives, made once if these fields say the same in every job.

        It must depend on nothing else of the job. Problems that it notes are noted once anyway.
        """
        if what in self._kept:
            found: T = self._kept[what]
            return found
        made = make()
        if not self._alone and all(map(self._is_fixed, fields)):
            self._kept[what] = made
        return made

    def _is_fixed(self, field: str) -> bool:
        if field not in self._fixed:
            node = self.fields.get(field)
            self._fixed[field] = node is None or self.is_fixed(node)
        return self._fixed[field]


def form_of(found: tuple[Token, ...]) -> Form | None:
    """The form of a text; None when more than values of the matrix is missing."""
    form: list[str] = []
    keys: list[str] = []
    for token in found:
        if isinstance(token, str):
            form.append(token.replace("%", "%%"))
            continue
        kind, _, key = _name(token).partition(".")
        if kind != "matrix" or not key or "." in key:
            return None
        form.append("%s")
        keys.append(key)
    return Form("".join(form), itemgetter(*keys)) if keys else None


def _is_fixed(token: Token) -> bool:
    """Whether a part says the same in every job: neither the matrix nor `env` has a hand in it."""
    if not isinstance(token, Expression):
        return True
    name = _name(token)
    return name != "" and name.partition(".")[0] not in ("matrix", "env")


def _name(token: Token) -> str:
    """The name in an expression; "" where it is put together of several parts, or is none."""
    if isinstance(token, Expression) and len(token.inside) == 1:
        inside = token.inside[0]
        return inside.strip() if isinstance(inside, str) else ""
    return ""
