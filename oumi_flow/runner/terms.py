"""The words in which the loop speaks with its workers, the executor's pilot and its caller.

Values and protocols only. Every message goes one way: to the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from oumi_flow.dataclass import dataclass, field
from oumi_flow.executors.base import Attempt, Exit, Handle
from oumi_flow.model import JobState, Outcome, Reason, Step, Trace
from oumi_flow.progress import Follower
from oumi_flow.schedule.line import Rank
from oumi_flow.typed import Any, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Options:
    """How to run. Seconds for times; `gpus` are the indices that this run may use."""

    run_id: str
    max_parallel: int = 1
    gpus: tuple[int, ...] = ()
    allocation: str = "dynamic"
    fail_fast: bool = False
    timeout: float | None = None  # of the whole run
    control_every: float = 0.2  # how often requests from outside are looked for


@dataclass(frozen=True, slots=True)
class Verdict:
    """What looking at a ready job again came to."""

    state: JobState  # QUEUED: it runs; UP_TO_DATE, RESTORED: it does not; FAILED: cannot be said
    reasons: tuple[Reason, ...] = ()
    words: tuple[str, ...] = ()  # the reasons as a user reads them
    detail: str = ""  # of FAILED, and the cause told for UP_TO_DATE and RESTORED
    trace: Trace | None = None  # of RESTORED
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the loop itself ends an attempt, and what that makes of the job."""

    state: JobState  # CANCELLED or FAILED
    detail: str  # `SIGINT`, `cancelled`, `workflow timed out after 24h`
    record: str  # state in attempt.json: interrupted | cancelled | failed


@dataclass(frozen=True, slots=True)
class Prepared:
    """An attempt about to start (or taken over), with what its end will be held against."""

    attempt: Attempt
    build_key: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    began: float = 0.0  # unix seconds; files older than this were not made by the attempt
    gpus: int = 0
    indices: tuple[int, ...] = ()  # of the leased GPUs
    devices: tuple[str, ...] = ()  # the same as in CUDA_VISIBLE_DEVICES
    detail: str = ""  # `resumes from checkpoint-800`
    follower: Follower | None = None  # made before the start, where that matters
    notes: tuple[str, ...] = ()


class Lease(Protocol):
    """GPUs that are ours until `close`."""

    @property
    def devices(self) -> Sequence[int]: ...
    @property
    def visible(self) -> str: ...
    @property
    def descriptors(self) -> Sequence[int]: ...
    def close(self) -> None: ...


class Worker(Protocol):
    """What the loop has done in workers. Each call may block, and raises FlowError or OSError."""

    def is_brief(self, step: Step, number: int, exit: Exit | None = None) -> bool:
        """Whether to prepare an attempt, or, with `exit`, to conclude it, is a matter of a moment.

        Does not block, but for a few stats on the disk that the loop writes to.
        """

    def judges(self, step: Step) -> bool:
        """Whether `recheck` is wanted before this job starts. Does not block."""

    def recheck(self, step: Step) -> Verdict: ...

    def may_restore(self, step: Step) -> bool:
        """Whether `restore` is wanted before this job is queued. Does not block."""

    def restore(self, step: Step) -> Verdict:
        """Bring its result back from a cache: RESTORED; QUEUED when that cannot be."""

    def prepare(self, step: Step, number: int, lease: Lease | None) -> Prepared: ...

    def adopt(self, step: Step, handle: Handle) -> Prepared | None:
        """Take over a live process; None when what it makes is not what is wanted now."""

    def conclude(
        self, step: Step, prepared: Prepared, exit: Exit, ending: Ending | None
    ) -> Outcome: ...

    def commit(self, step: Step, prepared: Prepared, outcome: Outcome) -> None:
        """Write the marker. After that the job is done, whatever happens to the run."""

    def drop(self, step: Step, ending: Ending) -> None:
        """Record that an attempt ended without a process of ours having run to its end."""

    def shares(self, step: Step) -> bool:
        """Whether what this job made is to be shared. Does not block."""

    def share(self, step: Step) -> tuple[str, ...]:
        """Copy what this job made to where it is shared; returns notes."""

    def abandon(self) -> None:
        """End any `share` soon, undone. Does not block."""


class Watcher(Protocol):
    """Follows running jobs for whoever looks. Never raises, never blocks."""

    def started(self, step: Step, prepared: Prepared) -> None: ...
    def ended(self, job: str, failed: bool = False) -> None: ...


class Pilot(Protocol):
    """Who starts, awaits and cancels processes for the loop. No call blocks."""

    def submit(self, attempts: Sequence[Attempt]) -> None: ...
    def follow(self, handle: Handle) -> None: ...
    def cancel(self, handles: Sequence[Handle], grace: float, now: bool = False) -> None: ...


# Messages to the loop ------------------------------------------------------------------------


class Rechecked(NamedTuple):
    job: str
    verdict: Verdict


class LookedUp(NamedTuple):
    """What looking in the cache came to; `words` are those that it was asked with."""

    job: str
    verdict: Verdict
    words: tuple[str, ...] = ()


class Readied(NamedTuple):
    """`prepared` None: `detail` says why the attempt could not be prepared."""

    job: str
    prepared: Prepared | None
    detail: str = ""


class TakenOver(NamedTuple):
    """The answer to whether a live process of a lost run is still the one wanted."""

    job: str
    prepared: Prepared | None


class Submitted(NamedTuple):
    """`handle` None: it did not start; `detail` says why."""

    job: str
    token: str
    handle: Handle | None
    detail: str = ""


class Exited(NamedTuple):
    token: str
    exit: Exit


class Concluded(NamedTuple):
    job: str
    outcome: Outcome
    took: float | None


class Dropped(NamedTuple):
    """The record of an attempt without a process is written (or could not be)."""

    job: str


class Shared(NamedTuple):
    """A result is where it is shared, or was not to be brought there."""

    job: str
    notes: tuple[str, ...] = ()


class Chosen(NamedTuple):
    """The order that was found to take least; None: the one there is shall stay."""

    ranks: Mapping[str, Rank] | None
    reserves: bool = False  # whether tokens are kept for wide jobs that wait
    slots_kept: int = 0  # from jobs without a GPU, for those with one


class StopAsked(NamedTuple):
    name: str  # `SIGINT`


class Broken(NamedTuple):
    """The executor does not answer: any more, or (not `fatal`) to something asked of it."""

    detail: str
    fatal: bool = True


Message = (
    Rechecked
    | LookedUp
    | Readied
    | TakenOver
    | Submitted
    | Exited
    | Concluded
    | Dropped
    | Shared
    | Chosen
    | StopAsked
    | Broken
)


class Inbox:
    """Messages to the loop. Anybody may put one in, a signal handler too; the loop takes them."""

    def __init__(self) -> None:
        # `SimpleQueue.put` is reentrant: a signal may arrive in the middle of another put or get.
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._first: Message | None = None  # what `wait` has met
        self.bell: Callable[[], None] | None = None  # wakes a loop that waits elsewhere

    def put(self, message: Message) -> None:
        self._messages.put(message)
        bell = self.bell
        if bell is not None:
            bell()

    def take(self) -> Message | None:
        """The next one, if there is one."""
        if self._first is not None:
            message, self._first = self._first, None
            return message
        # Nobody else takes any, so what is there stays there.
        return None if self._messages.empty() else self._messages.get_nowait()

    @property
    def is_empty(self) -> bool:
        return self._first is None and self._messages.empty()

    def wait(self, seconds: float) -> None:
        """Until there is a message, or for so long."""
        if self._first is None:
            with suppress(Empty):
                self._first = self._messages.get(timeout=seconds)


class StopFlag:
    """A request to stop, safe to make from a signal handler. Owns the loop's messages."""

    def __init__(self) -> None:
        self.inbox = Inbox()

    def request(self, name: str = "SIGINT") -> None:
        """First call: stop politely. Second: at once."""
        self.inbox.put(StopAsked(name))


class Defer(Protocol):
    """Have it called soon: its answer, or what to say instead if it raises, comes as a message.

    In a worker; or, where `is_brief` says so, between two messages of the loop's, and before what
    is not to be `first`. That is not asked while moments are long. Returns whether it will be so.
    """

    def __call__(
        self,
        call: Callable[[], Message],
        instead: Callable[[str], Message],
        is_brief: Callable[[], bool] | None = None,
        first: bool = False,
    ) -> bool: ...


Control = Callable[[], Sequence[Mapping[str, Any]]]
