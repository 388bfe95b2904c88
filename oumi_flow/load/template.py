"""Text with `${{ … }}` and `${VAR}` in it: taken apart here, put together in two ways.

`real` is what a job gets. `canon` is what its fingerprint counts: what depends on the names of jobs
or on where they write stays a symbol, so that neither a new name nor a moved folder makes anything
stale. Knows neither files nor jobs, only names and how they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from oumi_flow.typed import NamedTuple


class Ref(NamedTuple):
    """A value that is known only once all jobs are: `what` of `job` ("" is the job itself).

    `what` is output_dir, log, outputs, name, or out (the workflow's output_dir).
    """

    what: str
    job: str = ""
    number: int = 0
    written: str = ""  # as it stands in the file, for finding the place of an error


class Secret(NamedTuple):
    """A value that must not leave the job's environment: of a variable, or written out."""

    variable: str
    default: str | None = None  # of a variable; for "" the text itself


Part = str | Ref | Secret


class Text:
    """Text whose references are not filled in; do not change it, jobs share it.

    `broken`: a part could not be made out. `plain` is the text itself when nothing is left to fill
    in, else None.
    """

    __slots__ = ("broken", "parts", "plain")

    def __init__(self, parts: tuple[Part, ...] = (), broken: bool = False) -> None:
        self.parts = parts
        self.broken = broken
        self.plain: str | None = ""
        if parts:
            first = parts[0]
            self.plain = first if len(parts) == 1 and isinstance(first, str) else None

    @property
    def refs(self) -> Iterator[Ref]:
        return (part for part in self.parts if isinstance(part, Ref))

    @property
    def secrets(self) -> Iterator[Secret]:
        return (part for part in self.parts if isinstance(part, Secret))

    def render(self, fill: Callable[[Ref], str]) -> str:
        """The text with references filled in. There must be no secret in it."""
        return "".join(
            part if isinstance(part, str) else fill(part) if isinstance(part, Ref) else ""
            for part in self.parts
        )

    def secret_template(self, fill: Callable[[Ref], str]) -> str:
        """The text with references filled in and secrets as `${VAR}`, for `fill_secrets`."""
        return "".join(_escaped(part, fill) for part in self.parts)


def joined(pieces: list[Text]) -> Text:
    """One text of several, neighbouring plain parts made one."""
    if len(pieces) == 1:
        return pieces[0]
    parts: list[Part] = []
    for piece in pieces:
        for part in piece.parts:
            if isinstance(part, str) and parts and isinstance(parts[-1], str):
                parts[-1] += part
            elif part != "":
                parts.append(part)
    return Text(tuple(parts), any(piece.broken for piece in pieces))


def _escaped(part: Part, fill: Callable[[Ref], str]) -> str:
    if isinstance(part, str):
        return part.replace("$", "$$")
    if isinstance(part, Ref):
        return fill(part).replace("$", "$$")
    if not part.variable:
        return (part.default or "").replace("$", "$$")
    default = "" if part.default is None else f":-{part.default}"
    return f"${{{part.variable}{default}}}"


class Expression(NamedTuple):
    """`${{ … }}`: what stands inside, which may hold expressions itself."""

    inside: tuple[Token, ...]
    written: str


class Variable(NamedTuple):
    """`${NAME}` or `${NAME:-default}`."""

    name: str
    default: str | None
    written: str


class Fault(NamedTuple):
    """A part that is neither."""

    message: str
    written: str
    hint: str = ""


Token = str | Expression | Variable | Fault

_OPENING = re.compile(r"\$\$|\$\{\{|\$\{")
_OPENING_IN_RUN = re.compile(r"\$\{\{")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_EDGE = re.compile(r"\$\{\{|\}\}")


def tokens(text: str, *, run: bool = False) -> tuple[Token, ...]:
    """Takes a text apart. In a `run` text all but `${{ … }}` belongs to the shell."""
    found: list[Token] = []
    opening = _OPENING_IN_RUN if run else _OPENING
    at = 0
    while match := opening.search(text, at):
        if match.start() > at:
            found.append(text[at : match.start()])
        at = match.end()
        if match[0] == "$$":
            found.append("$")
        elif match[0] == "${{":
            end = _closing(text, at)
            written = text[match.start() : end]
            if end < 0:
                written = text[match.start() :]
                found.append(Fault("`${{` without `}}`", written))
                return tuple(found)
            found.append(Expression(tokens(text[at : end - 2]), written))
            at = end
        else:
            found.append(variable := _variable(text, match.start()))
            at = match.start() + len(variable.written)
    if at < len(text):
        found.append(text[at:])
    return tuple(found)


def _closing(text: str, at: int) -> int:
    """The end of the expression whose inside begins at `at`, -1 for none."""
    depth = 1
    while match := _EDGE.search(text, at):
        depth += 1 if match[0] == "${{" else -1
        at = match.end()
        if not depth:
            return at
    return -1


def _variable(text: str, at: int) -> Variable | Fault:
    match = _VARIABLE.match(text, at)
    if match and "${" not in (match[2] or ""):
        return Variable(match[1], match[2], match[0])
    end = text.find("}", at)
    written = text[at:] if end < 0 else text[at : end + 1]
    return Fault(
        f"cannot read `{written}`: expected ${{NAME}} or ${{NAME:-default}}",
        written,
        "write $$ for a $ that stands for itself",
    )
