"""Reads one config file: its values, and where each key stands.

YAML is read as oumi reads it (through OmegaConf): floats of YAML 1.2, `yes` and `on` are true,
no dates, duplicate keys refused, `${…}` left alone. Knows no verb and no workflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from oumi_flow.dataclass import dataclass, field
from oumi_flow.errors import Problem, Where, WorkflowErrors
from oumi_flow.typed import Any

MAX_BYTES = 20_000_000
MAX_DEPTH = 100
MAX_VALUES = 1_000_000
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"
# libyaml 0.2.6 and later read ahead and stop at 1000 levels by themselves, in these words.
_LIBYAML_DEPTH = "maximum nesting depth"

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A config as read. `places` is where each key stands, by its path of keys and indexes."""

    path: str
    values: dict[str, Any]
    places: Mapping[Path, Where]
    flats: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)  # see `flatten`

    def where(self, key: str) -> Where:
        """The place of a dotted key as `flatten` writes it; the file when it is not in it."""
        return self.places.get(tokens_of(key), Where(self.path))


def read_config(path: str, read: Callable[[str], bytes]) -> dict[str, Any]:
    """The content of a config file. Raises WorkflowErrors with positions."""
    return read_config_file(path, read).values


def read_config_file(path: str, read: Callable[[str], bytes]) -> ConfigFile:
    """A config file with the place of each key.

    `read` gives its bytes and may raise OSError. Raises WorkflowErrors, each problem with its
    place: not there, not readable, bad YAML, too large, too deep, or not a mapping.
    """
    import yaml

    data = _bytes_of(path, read)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refused(path, "is not UTF-8 text", Where(path, line, 1)) from None
    lines = text.splitlines()
    try:
        _check_depth(path, text, lines)
        loader = yaml_loader()(text)
        try:
            node = loader.get_single_node()
            _check_size(path, node, lines)
            values = loader.construct_document(node) if node is not None else {}
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if _LIBYAML_DEPTH in str(error.problem):
            raise _refused(path, _TOO_DEEP, _where(path, mark, lines)) from None
        what = " ".join(filter(None, (error.problem, error.context and f"({error.context})")))
        raise _refused(path, f"is not valid YAML: {what}", _where(path, mark, lines)) from None
    except yaml.YAMLError as error:
        what = str(error).splitlines()[0] if str(error) else "unreadable"
        raise _refused(path, f"is not valid YAML: {what}", Where(path)) from None
    except (ValueError, OverflowError) as error:
        raise _refused(path, f"holds a value that cannot be read: {error}", Where(path)) from None
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "a single value"
        where = Where(path, 1, 1, _line(lines, 1))
        raise _refused(path, f"must hold keys and values, got {kind}", where)
    places: dict[Path, Where] = {(): Where(path)}
    _collect_places(path, node, (), lines, places)
    return ConfigFile(path, values, places)


def _bytes_of(path: str, read: Callable[[str], bytes]) -> bytes:
    try:
        data = read(path)
    except FileNotFoundError:
        raise _refused(path, "does not exist", Where(path)) from None
    except IsADirectoryError:
        raise _refused(path, "is a folder, expected a YAML file", Where(path)) from None
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror or error}", Where(path)) from None
    if len(data) > MAX_BYTES:
        raise _refused(path, f"is larger than {MAX_BYTES // 1_000_000} MB", Where(path))
    return data


def _refused(path: str, what: str, where: Where) -> WorkflowErrors:
    return WorkflowErrors([Problem(f"config file {path} {what}", where)])


# Text that YAML reads as itself, and numbers, so that most overrides need no parser.
_PLAIN_TEXT = re.compile(r"[A-Za-z_/][\w./-]*\Z", re.ASCII)
_WHOLE = re.compile(r"(?:0|-?[1-9][0-9]{0,17})\Z")
_DECIMAL = re.compile(
    r"-?[0-9]{1,17}(?:\.[0-9]{1,17}(?:[eE][-+][0-9]{1,3})?|[eE][-+]?[0-9]{1,3})\Z"
)
_NOT_TEXT = frozenset({"true", "false", "yes", "no", "on", "off", "null"})


def value_of(text: str) -> Any:
    """The value of an override, typed as YAML. Raises ValueError for what is not valid YAML.

    The same text may give the same object: do not change it.
    """
    if _WHOLE.match(text):
        return int(text)
    if _PLAIN_TEXT.match(text) and text.lower() not in _NOT_TEXT:
        return text
    if _DECIMAL.match(text):
        return float(text)
    return _read_value(text)


@lru_cache(maxsize=1000)  # of a sweep, the jobs have the same few
def _read_value(text: str) -> Any:
    import yaml

    try:
        _check_depth("", text, [])
        loader = yaml_loader()(text)
        try:
            node = loader.get_single_node()
            _check_size("", node, [])
            return loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except (yaml.YAMLError, WorkflowErrors, OverflowError) as error:
        raise ValueError(str(error)) from None


@lru_cache(maxsize=1)
def yaml_loader() -> Any:
    """A YAML loader with OmegaConf's rules (omegaconf/_utils.py, get_yaml_loader)."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key_node, _ in node.value:
                if key_node.tag != yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG:
                    continue
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f'duplicate key "{key_node.value}"', key_node.start_mark
                    )
                seen.add(key_node.value)
            return super().construct_mapping(node, deep=deep)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in Loader.yaml_implicit_resolvers.items()
    }
    return Loader


_FLOAT = re.compile(
    r"""^(?:
     [-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+)
    |\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.X,
)


def _check_depth(path: str, text: str, lines: list[str]) -> None:
    """Events come one by one without recursion, so a deep file is refused before it is built."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                where = _where(path, event.start_mark, lines)
                raise _refused(path, _TOO_DEEP, where)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_size(path: str, node: Any, lines: list[str]) -> None:
    """Refuse aliases that multiply (a billion laughs) or that contain themselves."""
    sizes: dict[int, tuple[int, int]] = {}
    open_: set[int] = set()

    def size(item: Any) -> tuple[int, int]:
        """How many values, and how deep, once aliases are written out."""
        if item is None or isinstance(item.value, str):
            return 1, 0
        known = sizes.get(id(item))
        if known is not None:
            return known
        if id(item) in open_:
            raise _refused(path, "has an alias inside itself", _where(path, item.start_mark, lines))
        open_.add(id(item))
        total, depth = 1, 0
        for child in item.value:
            for part in child if isinstance(child, tuple) else (child,):
                below = size(part)
                total, depth = total + below[0], max(depth, below[1])
        if depth >= MAX_DEPTH:
            where = _where(path, item.start_mark, lines)
            raise _refused(path, _TOO_DEEP, where)
        open_.discard(id(item))
        sizes[id(item)] = total, depth + 1
        return sizes[id(item)]

    if size(node)[0] > MAX_VALUES:
        raise _refused(path, f"holds more than {MAX_VALUES} values (aliases counted)", Where(path))


def _collect_places(
    file: str, node: Any, path: Path, lines: list[str], places: dict[Path, Where]
) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node.value, str) else ""
            here = (*path, key)
            places.setdefault(here, _where(file, key_node.start_mark, lines))
            _collect_places(file, value_node, here, lines, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            here = (*path, index)
            places.setdefault(here, _where(file, item.start_mark, lines))
            _collect_places(file, item, here, lines, places)


def _where(file: str, mark: Any, lines: list[str]) -> Where:
    if mark is None:
        return Where(file)
    return Where(file, mark.line + 1, mark.column + 1, _line(lines, mark.line + 1))


def _line(lines: list[str], number: int) -> str:
    return lines[number - 1][:500] if 0 < number <= len(lines) else ""


_TOKEN = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


@lru_cache(maxsize=1000)
def tokens_of(key: str) -> tuple[str | int, ...]:
    """`a.b[0].c` -> a, b, 0, c; indexes written in brackets are numbers."""
    found: list[str | int] = []
    for match in _TOKEN.finditer(key):
        bracket, plain = match[1], match[2]
        if plain is not None:
            found.append(plain)
        elif bracket.isdecimal() and bracket.isascii():
            found.append(int(bracket))
        else:
            found.append(bracket.strip("'\""))
    return tuple(found)
