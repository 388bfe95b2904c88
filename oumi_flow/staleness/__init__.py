"""Says whether a job is stale, and why: the one judge that plan, recheck and `status` all ask.

Pure: what lies on disk is asked of a `DiskProtocol`, what happened before is handed in as a `Past`.
Does not know where markers live, what a verb is, or how a process is run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache

from oumi_flow.dataclass import dataclass, replace
from oumi_flow.hashing import blake2b
from oumi_flow.model import (
    EMPTY,
    FORMAT,
    Code,
    Counts,
    Evidence,
    Input,
    Job,
    LastAttempt,
    Output,
    Past,
    Reason,
    Trace,
    Value,
)
from oumi_flow.typed import Any, Protocol


class DiskProtocol(Protocol):
    """What the judge needs to see of the disk; disk.Disk is the real one."""

    def observe(self, path: str, counts: Counts, known: Evidence | None = None) -> Evidence:
        """What lies at `path` now; `known` is earlier evidence whose stamps may be trusted."""
        ...


# Looks at what lies at a path and counts so, by what is known of it.
Look = Callable[[str, Counts, Evidence], Evidence]


@dataclass(frozen=True, slots=True)
class Judgement:
    """No reasons: up to date. `refreshed` is then the trace with newer stamps of equal content."""

    reasons: tuple[Reason, ...] = ()
    refreshed: Trace | None = None


def fingerprint(parts: Mapping[str, Value]) -> str:
    """The digest of what would be done, from its parts by value: 32 hex digits.

    Two parts that are equal as JSON values give the same one, whatever the order of their keys.
    The order of the `outputs` list says nothing about what is made, so it does not count.
    """
    whole = {"format": FORMAT, **parts}
    outputs = parts.get("outputs")
    if isinstance(outputs, (list, tuple)) and len(outputs) > 1:
        whole["outputs"] = sorted(outputs, key=str)
    return _digest(whole)


def build_key(fingerprint: str, inputs: Mapping[str, str]) -> str:
    """The digest of what would be done to which content; `inputs` maps Input.key to digest."""
    return _digest({"format": FORMAT, "fingerprint": fingerprint, "inputs": dict(inputs)})


def key_of(job: Job, inputs: Mapping[str, Evidence]) -> str:
    """The build key of a job whose inputs were seen like this."""
    return build_key(job.fingerprint, {key: seen.digest for key, seen in inputs.items()})


def judge(
    job: Job,
    past: Past,
    disk: DiskProtocol,
    *,
    forced: str = "",
    pending: Collection[str] = frozenset(),
    build_keys: Mapping[str, str] = EMPTY,
    software: Mapping[str, str] | None = None,
) -> Judgement:
    """All reasons why the job is stale, in the order of SPEC §3.

    `forced` is the flag that asks for it. Inputs made by jobs in `pending` are not looked at:
    what they will be is not known yet; with no other reason the job waits for those. `build_keys`
    has the build keys of all other upstreams. `software` maps a tool to its version now; None
    leaves versions out. Blocks on content whose stamp has moved. Raises what `disk` raises.
    """
    reasons = [Reason(Code.FORCED, forced)] if forced else []
    if job.always_run:
        reasons.append(Reason(Code.FORCED, "always_run"))
    trace = past.trace if past.trace is not None and past.trace.format == FORMAT else None
    unfinished = _unfinished(past.attempt, trace)
    if unfinished is not None:
        reasons.append(unfinished)
        trace, before = None, trace or past.previous
    elif trace is None:
        return Judgement((*reasons, Reason(Code.NEVER_RUN)))
    else:
        before = trace
    if before is None:
        return Judgement(tuple(reasons))

    outputs: dict[str, Evidence] = {}
    if trace is not None:
        outputs = _judge_outputs(job, trace, disk, reasons)
    if before.fingerprint != job.fingerprint:
        from oumi_flow.staleness.differences import differences  # for the words of few jobs

        reasons += differences(before.parts, job.parts)
    inputs = _judge_inputs(job, before, disk, pending, build_keys, reasons)
    _judge_output_list(job, before, reasons)
    if software is not None:
        reasons += [
            Reason(Code.SOFTWARE_CHANGED, tool, before.versions[tool], version)
            for tool, version in sorted(software.items())
            if before.versions.get(tool, version) != version
        ]
    if reasons or trace is None:
        return Judgement(tuple(reasons))
    waits = tuple(
        Reason(Code.UPSTREAM_PENDING, name)
        for name in dict.fromkeys(
            name for i in job.inputs for name in (i.producer, *i.makers) if name in pending
        )
    )
    if waits:
        return Judgement(waits)
    if outputs or inputs:
        trace = replace(
            trace,
            inputs={**trace.inputs, **inputs},
            outputs={**trace.outputs, **outputs},
        )
        return Judgement((), trace)
    return Judgement()


def stands(job: Job, trace: Trace, build_keys: Mapping[str, str]) -> bool:
    """Whether the job is up to date if all that its trace has seen on disk is as it was seen.

    What `judge` would say then, without a look. `build_keys` has those of all its upstreams.
    """
    if job.always_run or trace.format != FORMAT or trace.fingerprint != job.fingerprint:
        return False
    if trace.changed_while_ran or trace.outputs.keys() != {item.key for item in job.outputs}:
        return False
    if trace.inputs.keys() != {item.key for item in job.inputs}:
        return False
    return all(
        (seen := trace.inputs[item.key]).kind != "ran"
        or seen.digest == build_keys.get(item.producer, "")
        for item in job.inputs
    )


# What a run needs around an attempt ----------------------------------------------------------


def observe_inputs(
    job: Job,
    disk: DiskProtocol,
    build_keys: Mapping[str, str],
    known: Mapping[str, Evidence] = EMPTY,
) -> dict[str, Evidence]:
    """What the job would read now, by Input.key. Blocks on content. Raises what `disk` raises."""
    return {item.key: _look(item, disk, build_keys, known.get(item.key)) for item in job.inputs}


def observe_outputs(
    job: Job, disk: DiskProtocol, known: Mapping[str, Evidence] = EMPTY
) -> dict[str, Evidence]:
    """What the job's outputs are now, by Output.key. Blocks on content."""
    return {
        item.key: disk.observe(item.path, item.counts, known.get(item.key)) for item in job.outputs
    }


def moved_inputs(
    job: Job, before: Mapping[str, Evidence], disk: DiskProtocol, build_keys: Mapping[str, str]
) -> tuple[str, ...]:
    """Keys of inputs whose content is no longer what was seen before the attempt began."""
    now = observe_inputs(job, disk, build_keys, before)
    return tuple(key for key, seen in now.items() if seen.digest != before[key].digest)


def trace_of(
    job: Job,
    inputs: Mapping[str, Evidence],
    outputs: Mapping[str, Evidence],
    *,
    started: float,
    finished: float,
    build_key: str = "",
    **rest: Any,
) -> Trace:
    """The trace of a job that has just been made from `inputs`; `rest` are fields of Trace.

    `build_key`: of job and inputs, if it is known already.
    """
    return Trace(
        job=job.name,
        fingerprint=job.fingerprint,
        parts=job.parts,
        build_key=build_key or key_of(job, inputs),
        inputs=inputs,
        input_paths={item.key: item.path for item in job.inputs},
        outputs=outputs,
        started=started,
        finished=finished,
        **rest,
    )


def settle(made: Iterable[tuple[Job, Trace]], look: Look) -> Iterator[Trace]:
    """Look once more at what was seen too soon after its last change.

    Yields the traces that got newer stamps, for the index. Content that has changed meanwhile keeps
    its old evidence: the next run has to notice. Blocks as `look` does: `Disk.settle` waits for up
    to about 2 s in all where times are coarse, some 20 ms elsewhere. Raises what it raises.
    """
    for job, trace in made:
        inputs = _settled(job.inputs, trace.inputs, look)
        outputs = _settled(job.outputs, trace.outputs, look)
        if inputs is not trace.inputs or outputs is not trace.outputs:
            yield replace(trace, inputs=inputs, outputs=outputs)


def unsettled(job: Job, trace: Trace) -> Iterator[Input | Output]:
    """What of a job was seen too soon after its last change for its stamp to be trusted."""
    yield from _unsettled(job.inputs, trace.inputs)
    yield from _unsettled(job.outputs, trace.outputs)


def _settled(
    items: Iterable[Input | Output], found: Mapping[str, Evidence], look: Look
) -> Mapping[str, Evidence]:
    newer = {}
    for item in _unsettled(items, found):
        known = found[item.key]
        seen = look(item.path, item.counts, known)
        if seen is not known and seen.digest == known.digest:
            newer[item.key] = seen
    return {**found, **newer} if newer else found


def _unsettled(
    items: Iterable[Input | Output], found: Mapping[str, Evidence]
) -> Iterator[Input | Output]:
    return (item for item in items if item.key in found and not found[item.key].settled)


# The parts of a judgement --------------------------------------------------------------------


def _unfinished(attempt: LastAttempt | None, trace: Trace | None) -> Reason | None:
    """Why the latest attempt says that the job is stale; None when it says nothing."""
    if attempt is None or attempt.state == "done":
        return None
    if trace is not None:
        if (attempt.run_id, attempt.number) == (trace.run_id, trace.attempt):
            return None  # the marker was written, the end of the attempt was not
        if attempt.started < trace.finished:
            return None
    if attempt.state == "failed":
        detail = attempt.detail
        if not detail and attempt.exit_code is not None:
            detail = f"exit {attempt.exit_code}"
        return Reason(Code.FAILED, detail)
    if attempt.state in ("cancelled", "interrupted"):
        detail = attempt.detail or ("cancelled" if attempt.state == "cancelled" else "")
        return Reason(Code.INTERRUPTED, detail, before=attempt.finished or None)
    return Reason(Code.INTERRUPTED, "lost")


def _judge_outputs(
    job: Job, trace: Trace, disk: DiskProtocol, reasons: list[Reason]
) -> dict[str, Evidence]:
    """Adds what is wrong with the outputs; returns those with newer stamps."""
    missing, changed, newer = [], [], {}
    for item in job.outputs:
        known = trace.outputs.get(item.key)
        if known is None:
            continue  # new in the list: told as such
        seen = disk.observe(item.path, item.counts, known)
        if seen is known:
            continue
        if seen.digest == known.digest and seen.kind == known.kind:
            if seen != known:
                newer[item.key] = seen
        elif seen.kind == "missing":
            missing.append(Reason(Code.OUTPUT_MISSING, item.path))
        else:
            for change, path in _changes(item.path, known, seen):
                if change == "removed":
                    missing.append(Reason(Code.OUTPUT_MISSING, path))
                else:
                    changed.append(Reason(Code.OUTPUT_CHANGED, path, change=change))
    reasons += missing
    reasons += changed
    return newer


def _judge_inputs(
    job: Job,
    before: Trace,
    disk: DiskProtocol,
    pending: Collection[str],
    build_keys: Mapping[str, str],
    reasons: list[Reason],
) -> dict[str, Evidence]:
    """Adds what is new about the inputs; returns those with newer stamps only."""
    upstream, newer = [], {}
    added = False
    for item in job.inputs:
        known = before.inputs.get(item.key)
        if known is None:
            reasons.append(Reason(Code.INPUT_CHANGED, item.path, change="added"))
            added = True
            continue
        if pending and item.is_made_by(pending):
            continue
        seen = _look(item, disk, build_keys, known)
        if item.key in before.changed_while_ran:
            reasons.append(Reason(Code.INPUT_CHANGED, item.path, change="changed while it ran"))
        elif seen is known:
            continue
        elif seen.digest == known.digest and seen.kind == known.kind:
            if seen != known:
                newer[item.key] = seen
        elif item.producer and before.input_paths.get(item.key, item.path) == item.path:
            path = "" if item.counts is Counts.RAN else item.path
            upstream.append(Reason(Code.UPSTREAM_CHANGED, item.producer, after=path))
        else:
            reasons += [
                Reason(Code.INPUT_CHANGED, path, change=change)
                for change, path in _changes(item.path, known, seen)
            ]
    if added or len(before.inputs) != len(job.inputs):
        keys = {item.key for item in job.inputs}
        reasons += [
            Reason(Code.INPUT_CHANGED, before.input_paths.get(key, key), change="removed")
            for key in before.inputs
            if key not in keys
        ]
    reasons += upstream
    return newer


def _look(
    item: Input, disk: DiskProtocol, build_keys: Mapping[str, str], known: Evidence | None
) -> Evidence:
    if item.counts is not Counts.RAN:
        seen = disk.observe(item.path, item.counts, known)
        if seen.kind != "missing" or not item.producer:
            return seen
        # The text named no file of the upstream, perhaps the beginning of several names.
    return Evidence("ran", build_keys.get(item.producer, ""))


def _changes(path: str, before: Evidence, after: Evidence) -> list[tuple[str, str]]:
    """What differs, file by file: (changed | added | removed, path)."""
    if after.kind == "missing":
        return [("removed", path)]
    if before.kind == "missing":
        return [("added", path)]
    if before.kind != after.kind or after.kind not in ("folder", "glob"):
        return [("changed", path)]
    prefix = "" if after.kind == "glob" else path.rstrip("/") + "/"
    was = {file.path: file.digest for file in before.files}
    now = {file.path: file.digest for file in after.files}
    found = [("changed", prefix + name) for name in now if was.get(name, now[name]) != now[name]]
    found += [("added", prefix + name) for name in now if name not in was]
    found += [("removed", prefix + name) for name in was if name not in now]
    return found or [("changed", path)]


def _judge_output_list(job: Job, before: Trace, reasons: list[Reason]) -> None:
    known = before.outputs
    if len(known) == len(job.outputs) and all(item.key in known for item in job.outputs):
        return
    keys = {item.key: item.path for item in job.outputs}
    gone = tuple(_shown(key, job) for key in before.outputs if key not in keys)
    new = tuple(path for key, path in keys.items() if key not in before.outputs)
    reasons.append(Reason(Code.OUTPUTS_SET_CHANGED, before=gone, after=new))


def _shown(key: str, job: Job) -> str:
    if key.startswith("@out/"):
        return job.folder.removesuffix(job.name) + key[5:]
    return job.folder + key[1:] if key == "@" or key.startswith("@/") else key


# Values as text -----------------------------------------------------------------------------


def text_of(value: Value) -> str:
    """Canonical JSON: tells 1 from true, and no NaN from another."""
    return _encoder()(value)


@cache
def _encoder() -> Callable[[Value], str]:
    from oumi_flow.encoding import encoder

    return encoder(_plain, ascii_only=False, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _digest(value: Value) -> str:
    # File names that are no UTF-8 reach us as lone surrogates.
    return blake2b(text_of(value).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
