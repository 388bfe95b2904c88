"""What can go wrong in words a user understands, and the exit code each case ends in.

Knows nothing of how an error is printed: that is the command line's affair.
"""

from __future__ import annotations

OK = 0
JOBS_FAILED = 1
BAD_WORKFLOW = 2
LOCKED = 3
INTERNAL = 4


# Written out, as dataclasses cost 20 ms to import: as much as the interpreter itself.
class _Row:
    """Equal where its class and values are."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self._values()!r}"

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


class Where(_Row):
    """A place in a text file; `line` and `column` count from 1, 0 means unknown.

    `source` is the line itself, shown with a caret below `column`.
    """

    __slots__ = ("column", "file", "line", "source")

    def __init__(self, file: str, line: int = 0, column: int = 0, source: str = "") -> None:
        self.file, self.line, self.column, self.source = file, line, column, source

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"


class Problem(_Row):
    """One thing wrong: `message` says what, what was expected and what was got, in one line.

    `hint` is what to do next, for example `did you mean "train"?`
    """

    __slots__ = ("hint", "message", "where")

    def __init__(self, message: str, where: Where | None = None, hint: str = "") -> None:
        self.message, self.where, self.hint = message, where, hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"


class FlowError(Exception):
    """A fault that the user can mend. `exit_code` is one of this module's constants."""

    def __init__(
        self,
        message: str,
        where: Where | None = None,
        hint: str = "",
        *,
        exit_code: int = BAD_WORKFLOW,
    ) -> None:
        super().__init__(message)
        self.message, self.where, self.hint, self.exit_code = message, where, hint, exit_code

    def __str__(self) -> str:
        return str(Problem(self.message, self.where, self.hint))

    @property
    def problems(self) -> tuple[Problem, ...]:
        return (Problem(self.message, self.where, self.hint),)


class WorkflowErrors(FlowError):
    """Everything wrong with a workflow, told at once."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        super().__init__(f"{len(problems)} error(s) in the workflow")
        self._problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self._problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._problems


class Locked(FlowError):
    """Another live run holds the output folder."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, None, hint, exit_code=LOCKED)
