"""The frozen data types that flow through the house, and the enums of states and reasons.

Does no I/O and imports nothing beyond the standard library. Every path is relative to the base
folder (where the command was started, or `-C DIR`) unless it was written as an absolute one.
Times are seconds as float (wall clock in unix seconds UTC), sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from types import MappingProxyType

from oumi_flow.dataclass import dataclass, field
from oumi_flow.typed import Any, NamedTuple

# Every state file carries this number; another one means "stale", never an error.
FORMAT = 1

# A leaf of a config in canonical form, or a container that is empty.
Value = Any
EMPTY: Mapping[str, Any] = MappingProxyType({})


class Counts(str, Enum):
    """Which files below a path are its content, for whoever depends on it."""

    ALL = "all"  # every file
    MODEL = "model"  # the model files of a folder (SPEC §2); a named file counts always
    TRIALS = "trials"  # model files of each `trial_*`, and trials_results.csv without dates
    RAN = "ran"  # no file: the upstream's build key


class Stamp(NamedTuple):
    """Cheap evidence that a file is the one we knew."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class FileEvidence(NamedTuple):
    """One file as it was seen. `path` is relative to the observed path, "" for that path itself."""

    path: str
    stamp: Stamp
    digest: str
    settled: bool  # False: the stamp was taken too soon after the last change to be trusted


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen at a path: its digest is equal if and only if its content is."""

    kind: str  # "file" | "folder" | "glob" | "missing" | "ran"
    digest: str
    files: tuple[FileEvidence, ...] = ()

    @property
    def settled(self) -> bool:
        return all(file.settled for file in self.files)


MISSING = Evidence("missing", "")


@dataclass(frozen=True, slots=True)
class Input:
    """Something that a job reads.

    `key` names it in traces: the path itself, or for what an upstream makes `@N` or `@N/below`
    (the Nth upstream reference of the job), so that renaming a job changes no key.
    A path with `*`, `?` or `[` in it is a glob and is observed as the set of its matches.
    """

    key: str
    path: str
    counts: Counts = Counts.ALL
    producer: str = ""  # the job that makes it; "" for what lies there by itself
    makers: tuple[str, ...] = ()  # the jobs that make parts of it: of a folder, or of a glob

    def is_made_by(self, jobs: Collection[str]) -> bool:
        """Whether one of these jobs makes it, or a part of it."""
        return self.producer in jobs or any(name in jobs for name in self.makers)


@dataclass(frozen=True, slots=True)
class Output:
    """Something that a job makes. `key` is its path, with the job's own folder written as `@`."""

    key: str
    path: str
    counts: Counts = Counts.ALL
    declared: bool = False  # promised under `outputs:`


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """`count` GPUs, or exactly the `devices` named (then `count == len(devices)`).

    A count of -1 means any one, if there is one; with `devices`: that one, which nobody named but
    `fixed` allocation bound the job to.
    """

    count: int
    devices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """At most `limit` further attempts, the nth after `delay * backoff ** (n - 1)` seconds."""

    limit: int = 0
    delay: float = 0.0
    backoff: float = 1.0


@dataclass(frozen=True, slots=True)
class Command:
    """How to run a job. `env` is what we add; secrets are added to it at the start only.

    `cwd` is relative to the base folder; paths inside `argv` are relative to `cwd`.
    """

    argv: tuple[str, ...]
    cwd: str = "."
    env: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    progress: str = "lines"  # name of a parser in progress.py


@dataclass(frozen=True, slots=True)
class Job:
    """One rule, with everything expanded. Of the SPEC's fields those that matter after loading."""

    name: str
    verb: str  # canonical name of a row of the verb table
    folder: str  # <output_dir>/<name>
    place: str  # where the verb's result lies; `folder` itself for shell
    command: Command
    parts: Mapping[str, Value]  # what the fingerprint is made of, see staleness.py
    fingerprint: str
    description: str = ""
    config: str = ""  # the config file as given; "" for none
    args: tuple[str, ...] = ()  # `--key=value`, as the job gets them, redirects not included
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    depends_on: tuple[str, ...] = ()  # written or referred to
    implied: tuple[str, ...] = ()  # upstreams known only from a path in the config
    upstream: tuple[str, ...] = ()  # depends_on + implied, in that order, without repeats
    secret_env: Mapping[str, str] = field(
        default_factory=lambda: EMPTY
    )  # name -> template with ${VAR}; resolved at the start
    gpu: GpuRequest | None = None
    executor: str = "local"  # or the name of a remote
    retry: Retry = Retry()
    timeout: float | None = None
    grace: float = 30.0
    priority: int = 0
    always_run: bool = False
    warm: bool = False
    cache: bool = True
    where: str = ""  # file:line of its definition


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow file, fully expanded, its jobs in topological order (file order among equals)."""

    name: str
    path: str
    output_dir: str
    jobs: tuple[Job, ...]
    description: str = ""
    env: Mapping[str, str] = field(
        default_factory=lambda: EMPTY
    )  # non-secret, for `report` and the like; jobs carry their own
    gpus: tuple[int, ...] | None = None  # as listed in the file; None: discover
    max_parallel: int | None = None
    allocation: str = "dynamic"  # dynamic | fixed | load_balanced
    cost_per_gpu_hour: float = 0.0
    timeout: float | None = None
    tui: bool = True
    notify: str = ""
    cache_dir: str = ""
    cache_max_size: int | None = None
    private: bool = False  # has secrets: state files are 0600, folders 0700
    sources: Mapping[str, Stamp | None] = field(
        default_factory=lambda: EMPTY
    )  # every file read while loading; None: not there
    variables: Mapping[str, str | None] = field(
        default_factory=lambda: EMPTY
    )  # shell variables named, with what they held
    needs: tuple[str, ...] = ()  # secret variables that must be set, values never kept
    links: Mapping[str, str] = field(
        default_factory=lambda: EMPTY
    )  # paths asked for their makers that lead elsewhere, with where
    warnings: tuple[str, ...] = ()

    def job(self, name: str) -> Job:
        """The job of that name. Raises KeyError."""
        for job in self.jobs:
            if job.name == name:
                return job
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Trace:
    """What a marker holds: the proof that a job's outputs belong to its inputs."""

    job: str
    fingerprint: str
    parts: Mapping[str, Value]
    build_key: str
    inputs: Mapping[str, Evidence]  # by Input.key
    input_paths: Mapping[str, str]  # Input.key -> path at that time, for words
    outputs: Mapping[str, Evidence]  # by Output.key
    started: float
    finished: float
    run_id: str = ""
    attempt: int = 1
    exit_code: int | None = 0  # None: taken over by `touch`
    changed_while_ran: tuple[str, ...] = ()  # keys of inputs that moved under the job
    gpus: int = 0
    metrics: Mapping[str, Value] = field(
        default_factory=lambda: EMPTY
    )  # last/best numbers, see progress.py
    versions: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """The latest attempt of a job, as `attempt.json` tells it."""

    run_id: str
    number: int  # 1, 2 … within its run
    state: str  # starting | running | done | failed | cancelled | interrupted
    detail: str = ""  # our words: `exit 1`, `timed out after 2h`, `SIGINT`, `lost`
    build_key: str = ""
    token: str = ""  # random, names the process that belongs to it
    started: float = 0.0
    finished: float = 0.0
    exit_code: int | None = None
    gpus: int = 0
    since: float = 0.0  # when the first of those attempts started that it goes on from; 0: its own

    @property
    def is_open(self) -> bool:
        """Whether nobody has written down how it ended."""
        return self.state in ("starting", "running")

    @property
    def is_unsettled(self) -> bool:
        """Of a job without a marker: whether a run was killed before it was done with this."""
        return self.is_open or self.state == "done"


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a job before judging it."""

    trace: Trace | None = None
    attempt: LastAttempt | None = None  # only looked at where there is no trace
    previous: Trace | None = None  # what the marker said before that attempt began


class Code(str, Enum):
    """Why a job is stale, in the order in which reasons are told."""

    FORCED = "forced"
    NEVER_RUN = "never run"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    OUTPUT_MISSING = "output missing"
    OUTPUT_CHANGED = "output changed"
    COMMAND_CHANGED = "recipe"
    CONFIG_CHANGED = "config"
    ENV_CHANGED = "env"
    INPUT_CHANGED = "input"
    UPSTREAM_CHANGED = "upstream"
    OUTPUTS_SET_CHANGED = "outputs set"
    SOFTWARE_CHANGED = "software"
    UPSTREAM_PENDING = "may run"


@dataclass(frozen=True, slots=True)
class Reason:
    """`subject` is the file, key or job at fault; reasons.py makes the words."""

    code: Code
    subject: str = ""
    before: Value = None
    after: Value = None
    change: str = ""  # changed | added | removed, and other small words a code needs


class Decision(str, Enum):
    RUN = "run"
    MAY_RUN = "may run"
    UP_TO_DATE = "up to date"


@dataclass(frozen=True, slots=True)
class Step:
    job: Job
    decision: Decision
    reasons: tuple[Reason, ...] = ()
    expected: float | None = None  # seconds, from an earlier trace
    past: Past = Past()
    restores: bool = False  # an entry of a cache has its build key


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs asked for, in topological order, each with its decision."""

    workflow: Workflow
    steps: tuple[Step, ...]
    orphans: tuple[str, ...] = ()  # names of job folders that no job in the file owns
    refreshed: Mapping[str, Trace] = field(default_factory=dict)  # same content, newer stamps
    unlisted: int = 0  # further jobs, which are known to be up to date without a look at each

    @property
    def to_run(self) -> int:
        return sum(step.decision is Decision.RUN for step in self.steps)

    @property
    def may_run(self) -> int:
        return sum(step.decision is Decision.MAY_RUN for step in self.steps)

    @property
    def up_to_date(self) -> int:
        return self.unlisted + sum(step.decision is Decision.UP_TO_DATE for step in self.steps)

    @property
    def jobs(self) -> int:
        """How many jobs were asked for."""
        return self.unlisted + len(self.steps)


class JobState(str, Enum):
    WAITING = "waiting"
    READY = "ready"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UP_TO_DATE = "up to date"
    RESTORED = "restored"
    BLOCKED = "blocked"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        return self in _ENDED

    @property
    def succeeded(self) -> bool:
        return self in _SUCCEEDED


_SUCCEEDED = frozenset({JobState.DONE, JobState.UP_TO_DATE, JobState.RESTORED})
_ENDED = _SUCCEEDED | {
    JobState.FAILED,
    JobState.CANCELLED,
    JobState.BLOCKED,
    JobState.INTERRUPTED,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: DONE with its trace, else FAILED or CANCELLED with words for it."""

    state: JobState
    detail: str = ""
    exit_code: int | None = None
    trace: Trace | None = None
    retryable: bool = True
    lost_gpu: int | None = None  # a GPU that fell off the bus under it: set aside


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a running job is. `done`/`total` in `unit` (steps, rows, trials …); None: not known."""

    done: float | None = None
    total: float | None = None
    unit: str = ""
    metrics: Mapping[str, float] = field(default_factory=lambda: EMPTY)  # latest value of each
