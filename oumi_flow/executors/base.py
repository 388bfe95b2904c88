"""What every executor speaks: attempts in, handles back, exits at the end, and lookup by name.

Knows no plan, no marker, no screen, and of no particular way to run a process. Killing the runner
and running again is the same story for all executors: an `Attempt`'s intent is on disk
(`attempt.json`, written by the loop) before `submit`, its handle before its process starts, and
how it ended there, too, whether or not anybody still listens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from oumi_flow.dataclass import dataclass, fields, values_of
from oumi_flow.errors import FlowError
from oumi_flow.typed import Any, Protocol

# In the environment of every process of a job, so that its remnants can be told by it.
TOKEN_VARIABLE = "OUMI_FLOW_ATTEMPT_TOKEN"
TOKEN_LENGTH = 16  # characters


@dataclass(frozen=True, slots=True)
class Warmth:
    """A process to fork jobs from: that Python, after it has imported `modules` in `cwd` and `env`.

    The first of `modules` must be there, the others may be missing. `program` is the Python
    script that jobs run, beside which it looks for modules as the script would.
    """

    python: str
    program: str
    modules: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]


# The same as a shell's argv, without the shell: words, and files to open in this order. Of each the
# descriptor, how (<, > or >>) and its path from `cwd`, or & and the descriptor to copy.
Direct = tuple[tuple[str, ...], Sequence[tuple[int, str, str]]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a job, with all that its process needs. Never written to disk: `env` has secrets.

    Paths are relative to the base folder (the runner's cwd) or absolute. Times are seconds.
    """

    run_id: str
    job: str
    number: int  # 1, 2 … within its run
    token: str  # random; names the process that belongs to this attempt
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]  # the full environment, nothing is added but TOKEN_VARIABLE
    state_dir: str  # <job>/.oumi-flow; holds attempt.json with this token already
    log: str  # appended to; made if it is not there
    mask: tuple[str, ...] = ()  # values to write as **** (those of six characters and more)
    limit: float | None = None  # from the start of its process; None: no timeout
    grace: float = 30.0  # between SIGTERM and SIGKILL
    direct: Direct | None = None  # tried first; `argv` is for what turns out not to be so plain
    descriptors: tuple[int, ...] = ()  # of token locks; the caller keeps and closes its own
    warmth: Warmth | None = None  # to be forked from such a process, where that can be
    cold: str = ""  # why it is not, in words


@dataclass(frozen=True, slots=True)
class Handle:
    """What is needed to meet an attempt again, in this process or another. Plain JSON, no secret.

    `pid`, `start_ticks` and `boot_id` name the supervisor's process; they are 0 and "" in a handle
    that `submit` returned, since the supervisor itself records them (key `handle`).
    """

    token: str
    job: str = ""
    state_dir: str = ""
    log: str = ""
    run_id: str = ""
    number: int = 1
    executor: str = "local"
    pid: int = 0
    start_ticks: int = 0
    boot_id: str = ""
    host: str = ""

    def to_json(self) -> dict[str, Any]:
        return values_of(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Handle:
        """Unknown keys are left out. Raises ValueError when the token is missing."""
        return Handle(**_known(Handle, data))


@dataclass(frozen=True, slots=True)
class Exit:
    """How an attempt ended.

    A process that ran has `code` or `signal`; `timed_out` and `cancelled` say that we stopped it
    (it may still have made its own code of that). One that never ran has neither, but `error`, or
    `cancelled` when it was cancelled just before. `lost` stands alone. `error` beside a code or
    signal is a trouble of ours that the job is not to blame for.
    `started` and `finished` are unix seconds, 0.0 when not known. `oom_kills` counts what the
    kernel's memory killer ended before the process had: in the cgroup of the job and of those
    beside it, or on the whole machine, as `oom_scope` says ("": not counted). `cold` says why a
    process that was to be forked warm was started instead.
    """

    token: str
    code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    cancelled: bool = False
    started: float = 0.0
    finished: float = 0.0
    error: str = ""  # "could not start: …", "could not write its log: …"
    lost: bool = False  # nobody knows: its supervisor is gone and left no word of its end
    host: str = ""
    oom_kills: int = 0
    oom_scope: str = ""  # "cgroup", "host"
    cold: str = ""
    cpu: float = 0.0  # seconds of all its processes

    def to_json(self) -> dict[str, Any]:
        return values_of(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Exit:
        """Unknown keys are left out. Raises ValueError when the token is missing."""
        return Exit(**_known(Exit, data))


def _known(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(data.get("token"), str):
        raise ValueError("no token")
    names = _names(kind)
    return {key: value for key, value in data.items() if key in names}


@cache
def _names(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not started and never will be."""

    token: str
    message: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Perhaps started: `find` will know. Treat it as running until then."""

    token: str
    message: str


Submitted = Handle | Rejected | Unknown


class Executor(Protocol):
    """How commands run. One thread calls `poll`; the other calls may come from any thread.

    That thread is the loop's own, so no call waits for an engine that is slow to answer: a thread
    of the executor does.
    """

    def check(self) -> list[str]:
        """What stands in the way of running anything here, in words; empty when nothing does."""

    def submit(self, attempts: Sequence[Attempt]) -> list[Submitted]:
        """Start these, in order. Does not wait for their processes; a blocked `poll` returns."""

    def poll(
        self, handles: Sequence[Handle], deadline: float | None = None
    ) -> tuple[dict[str, Exit], bool]:
        """Ends of `handles` that were not told before, by token, and whether all could be asked.

        Blocks until one of them ended, `wake` or `submit` is called, or `time.monotonic()` has
        reached `deadline` (None: no deadline; 0: look and return). Each end is told once.
        An engine that does not answer gives `({}, False)` and changes nobody's state.
        """

    def prepare(self) -> None:
        """Attempts will come. Cheapest while the process is small and has one thread only.

        Does not wait; raises nothing.
        """

    def prewarm(self, warmth: Warmth) -> None:
        """Make ready to fork attempts of that `warmth`. Does not wait; raises nothing."""

    def cancel(self, handles: Sequence[Handle], grace: float, now: bool = False) -> None:
        """Ask for SIGTERM, `grace`, SIGKILL to the whole tree (`now`: SIGKILL). Does not wait.

        The end comes through `poll`, with `cancelled` set. Asking again is harmless.
        """

    def find(self, state_dirs: Sequence[str]) -> list[Handle]:
        """Attempts of earlier runs that are alive now, from the `attempt.json` of these folders.

        Only the run that holds the output folder may call it: a start that was intended but not
        recorded yet is made impossible, so that nothing starts behind the caller's back. Raises
        Locked for one that is alive where it cannot be reached from here.
        """

    def living(self, folder: str) -> list[Handle]:
        """Attempts of any run that are alive now and keep their records below `folder`.

        Changes nothing, so anybody may ask. One that is only just starting may be missed.
        """

    def stop_unrecorded(self, folder: str) -> int:
        """Stop attempts whose records below `folder` were deleted; how many there were.

        Only the run that holds the folder may call it. Blocks until they have ended.
        """

    def log(self, handle: Handle) -> str:
        """The path of its log."""

    def wake(self) -> None:
        """Make a `poll` that blocks (or the next one) return. Callable from any thread."""

    def close(self) -> None:
        """Let go. What runs lives on."""


def find_executor(name: str) -> Executor:
    """A new executor: `local`, or one of the entry-point group `oumi_flow.executors`.

    Raises FlowError for a name that nobody provides.
    """
    if name == "local":
        from oumi_flow.executors.local import LocalExecutor

        return LocalExecutor()
    from importlib.metadata import entry_points

    for entry in entry_points(group="oumi_flow.executors", name=name):
        executor: Executor = entry.load()()
        return executor
    raise FlowError(f"no executor is called {name!r}", hint="jobs run on `local`")
