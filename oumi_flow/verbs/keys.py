"""Which config keys each verb of the installed oumi knows, and the nearest one to a slip.

A value made elsewhere (by asking oumi once) and handed in; knows no process, file or YAML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from oumi_flow.dataclass import dataclass, field
from oumi_flow.errors import Problem, Where
from oumi_flow.pattern import pattern
from oumi_flow.text import nearest
from oumi_flow.typed import Any

# Options that `args` may not hold: the config is a field of its own, the others run nothing.
_NOT_ARGS = frozenset({"--config", "-c", "--list", "--help", "-h"})

_INDEX = pattern(r"\[\d+\]|\.\d+(?=\.|\[|\Z)")
_SPLIT = pattern(r"[^.\[\]]+|\[[^\]]*\]")


def pattern_of(key: str) -> str:
    """A key with its list indexes as `[*]`: `tasks.0.name` and `tasks[0].name` are one."""
    return _INDEX.sub("[*]", key)


@dataclass(frozen=True, slots=True)
class KeyTable:
    """The keys of one verb's config class: `keys` with `[*]` for lists, `free` subtrees."""

    keys: frozenset[str]
    free: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()  # the verb's own, with their dashes
    inner: frozenset[str] = field(default=frozenset(), repr=False)  # all proper prefixes of keys

    @staticmethod
    def make(
        keys: Iterable[str], free: Iterable[str] = (), options: Iterable[str] = ()
    ) -> KeyTable:
        known, open_ = frozenset(keys), frozenset(free)
        inner = frozenset(prefix for key in known | open_ for prefix in _prefixes(key))
        return KeyTable(known, open_, frozenset(options) - _NOT_ARGS, inner)

    def knows(self, key: str) -> bool:
        """Whether `key` (indexes as they come) may be set: leaf, subtree, below a free one."""
        pattern = pattern_of(key)
        if pattern in self.keys or pattern in self.free or pattern in self.inner:
            return True
        return any(prefix in self.free for prefix in _prefixes(pattern))

    def nearest(self, key: str) -> str:
        """The known key that `key` is probably a slip of; "" when none is near."""
        pattern = pattern_of(key)
        parent, _, last = pattern.rpartition(".")
        leaves = self.keys | self.free | {name[2:] for name in self.options if name[:2] == "--"}
        siblings = {}
        for known in leaves | self.inner:
            above, _, name = known.rpartition(".")
            if above == parent:
                siblings[name] = known
        if near := nearest(last, siblings):
            return self._as_written(key, siblings[near])
        same_name = sorted(known for known in leaves if known.rpartition(".")[2] == last)
        if same_name:
            return nearest(pattern, same_name) or min(same_name, key=len)
        return self._as_written(key, nearest(pattern, leaves))

    @staticmethod
    def _as_written(key: str, found: str) -> str:
        """`found` with the indexes that `key` has, where their number agrees."""
        indexes = [match.strip(".[]") for match in _INDEX.findall(key)]
        if found.count("[*]") != len(indexes):
            return found
        for index in indexes:
            found = found.replace("[*]", f"[{index}]", 1)
        return found


@dataclass(frozen=True, slots=True)
class OumiKeys:
    """What one version of oumi takes, by canonical verb name."""

    version: str
    tables: Mapping[str, KeyTable]

    def check(self, verb: str, arg: str) -> str:
        """What is wrong with an override `--key=value` (dashes optional), with a hint; or ""."""
        problem = self.problem(verb, arg)
        return str(problem) if problem else ""

    def problem(self, verb: str, arg: str, where: Where | None = None) -> Problem | None:
        """The same as a Problem. A verb that oumi was not asked about passes."""
        table = self.tables.get(verb)
        if table is None:
            return None
        name = arg.split("=", 1)[0].split(None, 1)[0] if arg.strip() else ""
        key = name.lstrip("-")
        if not key or name in table.options or f"--{key}" in table.options or table.knows(key):
            return None
        return self._unknown(verb, table, key, where)

    def problems_of(
        self, verb: str, values: Mapping[str, Any], places: Mapping[tuple[str | int, ...], Where]
    ) -> list[Problem]:
        """The keys of a config file that its verb does not know, each with its place."""
        table = self.tables.get(verb)
        if table is None:
            return []
        found: list[Problem] = []
        self._walk(verb, table, (), "", values, places, found)
        return found

    def _walk(
        self,
        verb: str,
        table: KeyTable,
        path: tuple[str | int, ...],
        key: str,
        value: Any,
        places: Mapping[tuple[str | int, ...], Where],
        found: list[Problem],
    ) -> None:
        if key and (pattern_of(key) in table.free or not _holds_keys(value)):
            return
        if isinstance(value, Mapping):
            for name, item in value.items():
                below = f"{key}.{name}" if key else str(name)
                here = (*path, str(name))
                if not table.knows(below):
                    found.append(
                        self._unknown(verb, table, below, places.get(here) or places.get(()))
                    )
                else:
                    self._walk(verb, table, here, below, item, places, found)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for index, item in enumerate(value):
                if isinstance(item, Mapping):
                    self._walk(verb, table, (*path, index), f"{key}[{index}]", item, places, found)

    @staticmethod
    def _unknown(verb: str, table: KeyTable, key: str, where: Where | None) -> Problem:
        near = table.nearest(key)
        hint = f'did you mean "{near}"?' if near else ""
        return Problem(f'unknown key "{key}" of oumi {verb}', where, hint)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "verbs": {
                verb: {
                    "keys": sorted(table.keys),
                    "free": sorted(table.free),
                    "options": sorted(table.options),
                }
                for verb, table in self.tables.items()
            },
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> OumiKeys:
        """The inverse of `to_json`. Raises KeyError, TypeError or AttributeError on other data."""
        return OumiKeys(
            str(data["version"]),
            {
                str(verb): KeyTable.make(table["keys"], table["free"], table["options"])
                for verb, table in data["verbs"].items()
            },
        )


def _holds_keys(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, Sequence) and not isinstance(value, str)
    )


def _prefixes(key: str) -> list[str]:
    """`a.b[*].c` -> `a`, `a.b`, `a.b[*]`."""
    ends = [match.end() for match in _SPLIT.finditer(key)]
    return [key[:end] for end in ends[:-1]]
