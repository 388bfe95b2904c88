"""Workflow, pasts and disk in; a plan out: one walk over the jobs in order.

Knows no verbs, no processes, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from oumi_flow.dataclass import replace
from oumi_flow.errors import FlowError, Problem, WorkflowErrors
from oumi_flow.model import (
    EMPTY,
    Code,
    Counts,
    Decision,
    Evidence,
    Job,
    LastAttempt,
    Past,
    Plan,
    Reason,
    Step,
    Trace,
    Workflow,
)
from oumi_flow.staleness import DiskProtocol, judge, key_of, observe_inputs, stands
from oumi_flow.typed import TYPE_CHECKING

_NO_PAST = Past()

# Given a job and its latest attempt: the checkpoint that it would go on from, or "".
Resumes = Callable[[Job, LastAttempt], str]
# Given a job and its build key, to be asked for only where it matters: whether it is in a cache.
Cached = Callable[[Job, Callable[[], str]], bool]

if TYPE_CHECKING:
    from typing import TypedDict

    from typing_extensions import Unpack

    class Asked(TypedDict, total=False):
        """What to judge (default: all jobs, by what they are), and what is known beforehand."""

        targets: Sequence[str]  # these and what they need; names may be globs (`train-*`), and
        # the name of a nested workflow means all its jobs
        omit: Sequence[str]  # without these and what needs them
        force: Sequence[str]
        force_all: bool
        software: Mapping[str, str] | None  # as in `judge`
        orphans: Mapping[str, Past] | Sequence[str]  # folders of jobs no longer in the file; with
        # their pasts a renamed job is recognised
        resumes: Resumes | None
        cached: Cached | None
        proven: Collection[str]  # up to date without a look, if they have a trace
        made: Collection[str]  # a moment ago, by us: no look is needed at what they made
        typical: Mapping[str, float] | None  # seconds by verb; None: `typical_times` of these jobs


def plan(
    workflow: Workflow,
    pasts: Mapping[str, Past],
    disk: DiskProtocol,
    *,
    unlisted: int = 0,
    **asked: Unpack[Asked],
) -> Plan:
    """Judge the jobs that are asked for. `unlisted`: how many are up to date without being here.

    Blocks on content whose stamp has moved. Raises FlowError for unknown names, for targets that
    need an omitted job, and for files that cannot be read.
    """
    if asked.get("typical") is None:
        past_of_each = ((job, pasts.get(job.name, _NO_PAST)) for job in workflow.jobs)
        asked["typical"] = typical_times(past_of_each)
    refreshed: dict[str, Trace] = {}
    steps = walk(workflow, lambda name: pasts.get(name, _NO_PAST), disk, refreshed, **asked)
    return Plan(workflow, tuple(steps), tuple(asked.get("orphans", ())), refreshed, unlisted)


def walk(
    workflow: Workflow,
    past_of: Callable[[str], Past],
    disk: DiskProtocol,
    refreshed: dict[str, Trace],
    **asked: Unpack[Asked],
) -> Iterator[Step]:
    """The steps of a plan one by one, for who need not have all of them at a time.

    What that finds `refreshed` is added as it goes. Blocks and raises as `plan`.
    """
    chosen = _chosen(workflow, asked.get("targets", ()), asked.get("omit", ()))
    force, force_all = asked.get("force", ()), asked.get("force_all", False)
    forced = _forced(workflow, force, force_all, chosen)
    software, proven, made = asked.get("software"), asked.get("proven", ()), asked.get("made", ())
    resumes, cached = asked.get("resumes"), asked.get("cached")
    typical = asked.get("typical") or EMPTY
    glance = _Glance(disk)
    former = _by_fingerprint(asked.get("orphans", ()))
    pending: set[str] = set()
    build_keys: dict[str, str] = {}
    for job in workflow.jobs:
        name = job.name
        if chosen is not None and name not in chosen:
            continue
        past = past_of(name)
        trace = past.trace
        if trace is not None and (
            name in proven or (name in made and stands(job, trace, build_keys))
        ):
            build_keys[name] = trace.build_key
            yield Step(job, Decision.UP_TO_DATE, (), time_of(past), past)
            continue
        judgement = judge(
            job,
            past,
            glance,
            forced="--force" if name in forced else "",
            pending=pending,
            build_keys=build_keys,
            software=software,
        )
        reasons = judgement.reasons
        if not reasons and past.trace is not None:
            build_keys[name] = past.trace.build_key
            if judgement.refreshed is not None:
                refreshed[name] = judgement.refreshed
            decision = Decision.UP_TO_DATE
        else:
            waits = all(reason.code is Code.UPSTREAM_PENDING for reason in reasons)
            decision = Decision.MAY_RUN if waits else Decision.RUN
            pending.add(name)
            if former and any(reason.code is Code.NEVER_RUN for reason in reasons):
                reasons = _with_rename(reasons, workflow, job, former, glance, pending, build_keys)
            if resumes is not None and past.attempt is not None:
                reasons = _with_resume(reasons, job, past, resumes, glance, pending, build_keys)
        restores = False
        if cached is not None and decision is Decision.RUN:
            restores = _is_cached(job, past, reasons, cached, glance, pending, build_keys)
        expected = time_of(past)
        if expected is None:
            expected = typical.get(job.verb)
        if restores:
            expected = 0.0
        yield Step(job, decision, reasons, expected, past, restores)


class _Glance:
    """A disk as it is at one moment: what several jobs share is looked at once."""

    def __init__(self, disk: DiskProtocol) -> None:
        self._disk = disk
        self._seen: dict[tuple[str, Counts], Evidence] = {}

    def observe(self, path: str, counts: Counts, known: Evidence | None = None) -> Evidence:
        key = (path, counts)
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = self._disk.observe(path, counts, known)
        return seen


# Which jobs ----------------------------------------------------------------------------------


def _chosen(workflow: Workflow, targets: Sequence[str], omit: Sequence[str]) -> set[str] | None:
    """The jobs to plan; None for all."""
    if not targets and not omit:
        return None
    names = [job.name for job in workflow.jobs]
    wanted = find_jobs(targets, names) if targets else set(names)
    left_out = find_jobs(omit, names)
    # What a glob matches is asked for as long as nothing leaves it out.
    asked_for = [name for name in targets if name in wanted]
    because: dict[str, str] = {name: name for name in left_out}
    for job in workflow.jobs:
        cause = next((because[name] for name in job.upstream if name in because), None)
        if cause is not None:
            because.setdefault(job.name, cause)
    for job in reversed(workflow.jobs):
        if job.name in wanted:
            wanted.update(job.upstream)
    for name in asked_for:
        if name in because:
            needs = "" if because[name] == name else f'; it needs "{because[name]}"'
            raise FlowError(f'job "{name}" is both asked for and left out by --omit{needs}')
    return wanted - because.keys()


def _forced(
    workflow: Workflow, force: Sequence[str], force_all: bool, chosen: set[str] | None
) -> Collection[str]:
    names = [job.name for job in workflow.jobs]
    if force_all:
        return frozenset(names)
    if not force:
        return frozenset()
    forced = find_jobs(force, names)
    for name in force:
        if chosen is not None and name in forced and name not in chosen:
            raise FlowError(
                f'--force {name}: "{name}" is not among the jobs to run',
                hint="name it as a job, or leave --force out",
            )
    return forced


def find_jobs(patterns: Iterable[str], names: Sequence[str]) -> set[str]:
    """The names meant by `patterns`: names, globs, or nested workflows.

    Raises FlowError that tells all unknown ones, with the nearest known name.
    """
    known = set(names)
    found: set[str] = set()
    problems = []
    for pattern in patterns:
        if pattern in known:
            found.add(pattern)
            continue
        matches = _matches(pattern, names)
        if not matches:
            problems.append(_unknown(pattern, names))
        found.update(matches)
    if len(problems) > 1:
        raise WorkflowErrors(problems)
    if problems:
        raise FlowError(problems[0].message, hint=problems[0].hint)
    return found


def _matches(pattern: str, names: Sequence[str]) -> list[str]:
    if any(char in pattern for char in "*?["):
        from fnmatch import translate
        from re import compile

        match = compile(translate(pattern)).match
        return [name for name in names if match(name)]
    nested = pattern.rstrip("/") + "/"
    return [name for name in names if name.startswith(nested)]


def _unknown(pattern: str, names: Sequence[str]) -> Problem:
    from oumi_flow.text import did_you_mean

    if any(char in pattern for char in "*?["):
        return Problem(f'no job matches "{pattern}"', None, _some(names))
    hint = did_you_mean(pattern, names) or _some(names)
    return Problem(f'there is no job "{pattern}" in this workflow', None, hint)


def _some(names: Sequence[str]) -> str:
    more = f" (+{len(names) - 5} more)" if len(names) > 5 else ""
    return f"its jobs: {', '.join(names[:5])}{more}" if names else "it has no jobs"


# What is added to a judgement ----------------------------------------------------------------


def _by_fingerprint(orphans: Mapping[str, Past] | Sequence[str]) -> dict[str, list[Trace]]:
    found: dict[str, list[Trace]] = {}
    if isinstance(orphans, Mapping):
        for past in orphans.values():
            if past.trace is not None:
                found.setdefault(past.trace.fingerprint, []).append(past.trace)
    return found


def _with_rename(
    reasons: tuple[Reason, ...],
    workflow: Workflow,
    job: Job,
    former: Mapping[str, Sequence[Trace]],
    disk: DiskProtocol,
    pending: Collection[str],
    build_keys: Mapping[str, str],
) -> tuple[Reason, ...]:
    """Say which job no longer in the file did the same to the same content, if one did."""
    candidates = former.get(job.fingerprint)
    if not candidates or any(item.is_made_by(pending) for item in job.inputs):
        return reasons
    for trace in candidates:
        if key_of(job, observe_inputs(job, disk, build_keys, trace.inputs)) == trace.build_key:
            hint = Reason(Code.NEVER_RUN, trace.job, workflow.path, job.name)
            return tuple(hint if reason.code is Code.NEVER_RUN else reason for reason in reasons)
    return reasons


def _with_resume(
    reasons: tuple[Reason, ...],
    job: Job,
    past: Past,
    resumes: Resumes,
    disk: DiskProtocol,
    pending: Collection[str],
    build_keys: Mapping[str, str],
) -> tuple[Reason, ...]:
    """Say from where the job goes on, where that is certain: for the same work on equal content."""
    codes = {reason.code for reason in reasons}
    if past.attempt is None or Code.FORCED in codes or not codes & {Code.INTERRUPTED, Code.FAILED}:
        return reasons
    checkpoint = resumes(job, past.attempt)
    if not checkpoint or any(item.is_made_by(pending) for item in job.inputs):
        return reasons
    known = past.previous.inputs if past.previous is not None else EMPTY
    if key_of(job, observe_inputs(job, disk, build_keys, known)) != past.attempt.build_key:
        return reasons
    return tuple(
        replace(reason, after=checkpoint)
        if reason.code in (Code.INTERRUPTED, Code.FAILED)
        else reason
        for reason in reasons
    )


def _is_cached(
    job: Job,
    past: Past,
    reasons: tuple[Reason, ...],
    cached: Cached,
    disk: DiskProtocol,
    pending: Collection[str],
    build_keys: Mapping[str, str],
) -> bool:
    """Whether the job's result will come from a cache, as far as one can know by now."""
    if any(reason.code is Code.FORCED for reason in reasons):
        return False
    if any(item.is_made_by(pending) for item in job.inputs):
        return False
    before = past.trace or past.previous
    known = before.inputs if before is not None else EMPTY
    return cached(job, lambda: key_of(job, observe_inputs(job, disk, build_keys, known)))


def typical_times(jobs: Iterable[tuple[Job, Past]]) -> dict[str, float]:
    """The median time of each verb, in seconds, from what ran before."""
    times: dict[str, list[float]] = {}
    for job, past in jobs:
        took = time_of(past)
        if took is not None:
            times.setdefault(job.verb, []).append(took)
    return medians(times)


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each list."""
    return {verb: sorted(found)[len(found) // 2] for verb, found in times.items()}


def time_of(past: Past) -> float | None:
    """The seconds that a job took when it last ran to its end; None where that is not known."""
    trace = past.trace or past.previous
    if trace is None or trace.exit_code is None or trace.finished < trace.started:
        return None
    return trace.finished - trace.started
