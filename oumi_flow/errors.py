"""What can go wrong in words a user understands, and the exit code each case ends in.

Knows nothing of how an error is printed: that is the command line's affair.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OK = 0
JOBS_FAILED = 1
BAD_WORKFLOW = 2
LOCKED = 3
INTERNAL = 4


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a text file; `line` and `column` count from 1, 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0
    source: str = ""  # the line itself, shown with a caret below `column`

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: `message` says what, what was expected and what was got, in one line."""

    message: str
    where: Where | None = None
    hint: str = ""  # what to do next, for example `did you mean "train"?`

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"


@dataclass(eq=False)
class FlowError(Exception):
    """A fault that the user can mend. `exit_code` is one of this module's constants."""

    message: str
    where: Where | None = None
    hint: str = ""
    exit_code: int = field(default=BAD_WORKFLOW, kw_only=True)

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
