"""`args` as texts: a list as it stands, a mapping as the words that oumi reads as the same values.

Oumi reads what follows `key=` as YAML, so text that would be something else there, or less, is
quoted. Knows nothing of what a key means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from oumi_flow.load.expand import Draft
from oumi_flow.load.template import Part, Text, joined
from oumi_flow.load.yaml_source import Node, scalar
from oumi_flow.verbs.table import VerbSpec

_OF_LISTS = frozenset(",[]{}:?")  # anywhere in an item
_INDICATORS = frozenset("[]{}\"'&*!|>%@`#,")  # https://yaml.org/spec/1.2.2/#53-indicator-characters


def args_of(draft: Draft, spec: VerbSpec) -> list[tuple[Text, Node]]:
    """The `args` of a job, each with the node that it is from."""
    node = draft.fields.get("args")
    if node is None:
        return []
    if isinstance(node.value, list):
        return draft.texts("args")
    return [
        (_word(draft, name, value, spec.option(f"--{name}") is None), value)
        for name, value in _leaves(node, "")
    ]


def _leaves(node: Node, prefix: str) -> Iterator[tuple[str, Node]]:
    """`{training: {max_steps: 5}}` is training.max_steps, 5."""
    for key, value in node.value.items():
        if isinstance(value.value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _word(draft: Draft, name: str, value: Node, of_yaml: bool) -> Text:
    """`name=value`. `of_yaml`: the value is read as YAML, and not as an option's text."""
    many = isinstance(value.value, list)
    nodes = value.value if many else [value]
    texts = [draft.values.text(each) for each in nodes]
    pieces: list[Part] = [f"{name}=["] if many else [f"{name}="]
    for number, (each, text) in enumerate(zip(nodes, texts, strict=True)):
        pieces += [", "] if number else []
        pieces += _quoted(text) if of_yaml and _needs_quotes(each, text, many) else text.parts
    pieces += ["]"] if many else []
    whole = joined([Text((piece,)) for piece in pieces])
    return Text(whole.parts, any(text.broken for text in texts))


def _needs_quotes(node: Node, text: Text, in_list: bool) -> bool:
    """Whether it is text that would be read as anything else without quotes.

    What an expression stands for may be meant as a number or a list: that is left alone.
    """
    if not isinstance(node.value, str):
        return False
    shown = "".join(part if isinstance(part, str) else "x" for part in text.parts)
    if "${{" in node.text:
        return shown[:1] not in _INDICATORS and _is_cut(shown)
    return (
        not isinstance(scalar(shown), str)
        or shown != shown.strip()
        or shown[0] in _INDICATORS
        or shown[:2] in ("- ", "? ", ": ")
        or shown in ("-", "?", "=", "<<")  # the last two are tags of YAML 1.1, which oumi reads
        or _is_cut(shown)
        or (in_list and not _OF_LISTS.isdisjoint(shown))
    )


def _is_cut(text: str) -> bool:
    """Whether YAML would read a part of it as a key, or as a comment."""
    return any(each in text for each in (": ", " #", "\n", "\t")) or text.endswith(":")


def _quoted(text: Text) -> list[Part]:
    inner = [
        json.dumps(part, ensure_ascii=False)[1:-1] if isinstance(part, str) else part
        for part in text.parts
    ]
    return ['"', *inner, '"']
