"""Reads YAML into nodes that remember where they stand and how they were spelled.

Types follow the core schema of YAML 1.2 (`1e-4` is a float, `yes` and `012` are no booleans or
octals), plus `<<` merges, which people write. Duplicate keys, tags, several documents, and files
beyond the limits below are refused. Knows nothing of what the nodes mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from oumi_flow.errors import FlowError, Problem, Where, WorkflowErrors
from oumi_flow.typed import Any

MAX_BYTES = 20_000_000
MAX_DEPTH = 100
MAX_ALIASED = 1_000_000  # nodes that aliases may stand for, all together
_LONGEST_SHOWN = 2000

_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_OTHER_BASE = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_NUMERIC_START = frozenset("0123456789+-.")
# https://yaml.org/spec/1.2.2/#54-line-break-characters, and those of 1.1, which libyaml counts.
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


class Source:
    """A text file, for telling places in it."""

    __slots__ = ("_lines", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._lines: list[str] | None = None

    def line(self, number: int) -> str:
        """That line, from 1; "" when there is none."""
        if self._lines is None:
            self._lines = _BREAK.split(self.text)
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    def where(self, line: int, column: int) -> Where:
        """The place of that line and column, both from 1."""
        shown = self.line(line)
        return Where(self.name, line, column, shown if len(shown) <= _LONGEST_SHOWN else "")

    def problem(self, message: str, at: int, hint: str = "") -> Problem:
        return Problem(message, self.where(at >> 32, at & 0xFFFFFFFF), hint)


class Node:
    """A value in a file.

    `value` is None, bool, int, float, str, a list of nodes or a dict of them by key; `text` is a
    scalar as the file spells it. `at` is line << 32 | column; `keys` has the same for each key.
    """

    __slots__ = ("at", "keys", "source", "text", "value")

    def __init__(
        self,
        value: Any,
        at: int,
        source: Source,
        text: str = "",
        keys: dict[str, int] | None = None,
    ) -> None:
        self.value = value
        self.at = at
        self.source = source
        self.text = text
        self.keys = keys

    @property
    def where(self) -> Where:
        return self.source.where(self.at >> 32, self.at & 0xFFFFFFFF)

    def key_where(self, key: str) -> Where:
        """Where that key of this mapping stands."""
        at = (self.keys or {}).get(key, self.at)
        return self.source.where(at >> 32, at & 0xFFFFFFFF)

    def where_of(self, fragment: str) -> Where:
        """Where that part of a scalar's text stands, as near as the file's spelling tells."""
        line, column = self.at >> 32, (self.at & 0xFFFFFFFF) - 1
        for number in range(line, line + self.text.count("\n") + 3):
            found = self.source.line(number).find(fragment, column)
            if found >= 0:
                return self.source.where(number, found + 1)
            column = 0
        return self.where

    def problem(self, message: str, hint: str = "") -> Problem:
        return Problem(message, self.where, hint)

    def plain(self) -> Any:
        """The value without places: what `yaml.safe_load` would return, typed by YAML 1.2."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def scalar(text: str) -> Any:
    """What a plain (unquoted) scalar means: None, bool, int, float or the text itself."""
    if not text or text[0] not in _NUMERIC_START:
        return _WORDS.get(text, text)
    if _INT.match(text):
        # A number of thousands of digits is refused by int(); as a float it is merely huge.
        return int(text) if len(text) < 1000 else float(text)
    if _FLOAT.match(text):
        return float(text)
    if _OTHER_BASE.match(text):
        return int(text, 0) if len(text) < 1000 else text
    return _WORDS.get(text, text)


def decode(name: str, data: bytes) -> Source:
    """The text of a file. Raises FlowError at the first byte that is not UTF-8."""
    try:
        return Source(name, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8", "replace")
        lines = _BREAK.split(good)
        where = Where(name, len(lines), len(lines[-1]) + 1, "")
        raise FlowError(
            f"not UTF-8: expected text, got the byte 0x{data[error.start]:02x}",
            where,
            "save the file as UTF-8",
        ) from None


def parse(source: Source, *, empty_is_fine: bool = False) -> Node:
    """The one document of a YAML text. Raises WorkflowErrors.

    An empty document is an error unless `empty_is_fine`, then it is a node of None.
    """
    import yaml

    problems: list[Problem] = []
    try:
        root = _Builder(source, problems).build(_events(source.text))
    except yaml.MarkedYAMLError as error:
        problems.append(_syntax_problem(source, error))
        raise WorkflowErrors(problems) from None
    except yaml.reader.ReaderError as error:
        problems.append(_character_problem(source, error))
        raise WorkflowErrors(problems) from None
    except _Refused as refused:
        problems.append(refused.problem)
        raise WorkflowErrors(problems) from None
    if root is None:
        if not empty_is_fine:
            problems.append(Problem("the file is empty: expected a mapping", source.where(1, 1)))
        else:
            root = Node(None, 1 << 32 | 1, source)
    if problems or root is None:
        raise WorkflowErrors(problems)
    return root


def _events(text: str) -> Iterator[Any]:
    """Events of libyaml where it is compiled in, else of the slower Python parser."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", None) or yaml.SafeLoader
    parser = loader(text)
    try:
        yield from iter(parser.get_event, None)
    finally:
        parser.dispose()


class _Refused(Exception):
    """A file that is refused at the first such thing, with its problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class _Builder:
    """Makes nodes of events, without recursion, so that depth costs no stack."""

    def __init__(self, source: Source, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.open_anchors: set[str] = set()
        self.aliased = 0

    def build(self, events: Iterator[Any]) -> Node | None:
        """The root, or None for a document that holds nothing."""
        import yaml

        source = self.source
        scalar_event, mapping_start = yaml.ScalarEvent, yaml.MappingStartEvent
        sequence_start, alias_event = yaml.SequenceStartEvent, yaml.AliasEvent
        ends = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
        document_start = yaml.DocumentStartEvent
        root: Node | None = None
        documents = 0
        # The innermost container that is open, the key that waits for its value there, and those
        # around it: each with its key, and what is to be known of the one inside when it ends.
        holder: Node | None = None
        key: Node | None = None
        around: list[tuple[Node | None, Node | None, str | None, int]] = []
        count = 0
        for event in events:
            kind = event.__class__
            if kind is scalar_event:
                mark = event.start_mark
                at = (mark.line + 1) << 32 | (mark.column + 1)
                count += 1
                if event.tag is not None:
                    self._refuse_tag(event.tag, at)
                text = event.value
                value = scalar(text) if event.implicit[0] else text
                node = Node(value, at, source, text)
                if "\0" in text:
                    self._refuse("control characters are not allowed, got U+0000", at)
                if event.anchor is not None:
                    self.anchors[event.anchor] = (node, 1)
            elif kind is mapping_start or kind is sequence_start:
                mark = event.start_mark
                at = (mark.line + 1) << 32 | (mark.column + 1)
                count += 1
                if event.tag is not None:
                    self._refuse_tag(event.tag, at)
                if len(around) >= MAX_DEPTH:
                    self._refuse(f"nested too deeply: expected at most {MAX_DEPTH} levels", at)
                around.append((holder, key, event.anchor, count))
                if kind is mapping_start:
                    holder = Node({}, at, source, "", {})
                else:
                    holder = Node([], at, source)
                key = None
                if event.anchor is not None:
                    self.open_anchors.add(event.anchor)
                continue
            elif kind in ends:
                assert holder is not None
                node = holder
                holder, key, anchor, before = around.pop()
                if anchor is not None:
                    self.open_anchors.discard(anchor)
                    self.anchors[anchor] = (node, count - before + 1)
            elif kind is alias_event:
                node, weight = self._aliased(event)
                count += weight
            elif kind is document_start:
                documents += 1
                if documents > 1:
                    mark = event.start_mark
                    self._refuse(
                        "expected one YAML document, got a second one",
                        (mark.line + 1) << 32 | (mark.column + 1),
                        "put it into a file of its own",
                    )
                continue
            else:
                continue
            if holder is None:
                root = node
            elif holder.keys is None:
                holder.value.append(node)
            elif key is None:
                if isinstance(node.value, (dict, list)):
                    self._refuse("expected a plain key, got a list or mapping as a key", node.at)
                key = node
            else:
                self._place(holder, key, node)
                key = None
        if root is not None and root.value is None and not root.text:
            return None
        return root

    def _place(self, holder: Node, key: Node, node: Node) -> None:
        """Puts a finished node into the mapping that is open."""
        assert holder.keys is not None
        name = key.text
        if name == "<<" and key.value == "<<":
            self._merge(holder, node)
        elif name in holder.keys:
            line = holder.keys[name] >> 32
            self.problems.append(
                key.problem(f'duplicate key "{name}": it stands in line {line} already')
            )
        else:
            # A key of its own wins over a merged one, wherever the merge stands.
            holder.value[name] = node
            holder.keys[name] = key.at

    def _merge(self, holder: Node, node: Node) -> None:
        """`<<`, https://yaml.org/type/merge.html: keys of the mapping win, then earlier ones."""
        for each in node.value if isinstance(node.value, list) else [node]:
            if not isinstance(each.value, dict):
                self.problems.append(each.problem("expected a mapping to merge with `<<`"))
                continue
            for key, value in each.value.items():
                if key not in holder.value:
                    holder.value[key] = value

    def _aliased(self, event: Any) -> tuple[Node, int]:
        at = (event.start_mark.line + 1) << 32 | (event.start_mark.column + 1)
        if event.anchor in self.open_anchors:
            self._refuse(f"the alias *{event.anchor} stands inside what it names", at)
        if event.anchor not in self.anchors:
            self._refuse(
                f"unknown alias *{event.anchor}: expected an anchor &{event.anchor} before it", at
            )
        node, weight = self.anchors[event.anchor]
        self.aliased += weight
        if self.aliased > MAX_ALIASED:
            self._refuse(f"aliases stand for too much: expected at most {MAX_ALIASED} values", at)
        return node, weight

    def _refuse_tag(self, tag: str, at: int) -> None:
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        self._refuse(f"tags are not allowed, got {shown}", at, "leave it out, or quote the value")

    def _refuse(self, message: str, at: int, hint: str = "") -> None:
        raise _Refused(self.source.problem(message, at, hint))


def _syntax_problem(source: Source, error: Any) -> Problem:
    mark = error.problem_mark or error.context_mark
    if "unexpected end of stream" in (error.problem or ""):
        mark = error.context_mark or mark  # where the quote was opened
    what = (error.problem or "cannot be read").strip()
    context = f" {error.context}" if error.context else ""
    hint = ""
    if "found character that cannot start any token" in what:
        hint = "a tab, or a value that needs quotes"
    elif "mapping values are not allowed" in what:
        hint = "quote a value that holds `: `, or check the indentation"
    where = source.where(mark.line + 1, mark.column + 1) if mark else source.where(1, 1)
    if "while parsing a flow" in context and "${" in where.source:
        hint = "quote text that holds ${ } inside [ ] or { }"
    return Problem(f"not YAML:{context} {what}".replace(":  ", ": "), where, hint)


def _character_problem(source: Source, error: Any) -> Problem:
    position = error.position if isinstance(error.position, int) else 0
    match = re.search(_UNPRINTABLE, source.text)
    if match:
        position = match.start()
    before = _BREAK.split(source.text[:position])
    character = source.text[position : position + 1]
    got = f"U+{ord(character):04X}" if character else str(error.reason)
    where = source.where(len(before), len(before[-1]) + 1)
    return Problem(f"control characters are not allowed, got {got}", where)


# What https://yaml.org/spec/1.2.2/#51-character-set leaves out. To compile it takes longer than to
# read many a file.
_UNPRINTABLE = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
