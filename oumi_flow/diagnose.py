"""From the end of a job's log to the cause of its failure, in words.

Reads the last part of one file; knows the messages of oumi, PyTorch and the kernel, not who ran
the job. oumi's own errors come on stdout, with tracebacks wrapped at 80 columns.
"""

from __future__ import annotations

import re

from oumi_flow.progress import last_bytes, parse
from oumi_flow.typed import NamedTuple

TAIL = 64 * 1024  # bytes of the log that are looked at
SIGKILL = 9


class Diagnosis(NamedTuple):
    """`cause` in a few words, "" when nothing is recognised; whether trying again may help."""

    cause: str
    retryable: bool = True
    lost_gpu: bool = False


_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|"
    r"CUDA error: out of memory|HIP out of memory"
)
_TRIED = re.compile(r"Tried to allocate ([\d.]+ [KMGT]iB)")
# Not what a program brings about by itself, such as an illegal address or instruction, after which
# the next one can use that GPU. Where it is lost all the same, NVML says so.
# Xid numbers: https://docs.nvidia.com/deploy/xid-errors/
_LOST_GPU = re.compile(
    r"CUDA error: (device lost|uncorrectable ECC error encountered|unknown error|"
    r"no CUDA-capable device is detected|all CUDA-capable devices are busy or unavailable|"
    r"CUDA-capable device\(s\) is/are busy or unavailable)|"
    r"\bXid \(.*?\): (48|62|64|74|79|92|95|119|120)\b|"
    r"(GPU is lost|fallen off the bus|Unable to determine the device handle)"
)
# What a scheduler or the kernel's own log says of it.
_KILLED_FOR_MEMORY = re.compile(r"(?i)\boom[-_ ]kill|Out of memory: Killed")
_HOST_MEMORY = re.compile(
    r"Cannot allocate memory|can't allocate memory|std::bad_alloc|^MemoryError\b", re.M
)
# A process of the job, which itself ends by other means then.
_WORKER_KILLED = re.compile(
    r"DataLoader worker \(pid \d+\) is killed by signal: Killed|"
    r"died with <Signals\.SIGKILL: 9>|Signal 9 \(SIGKILL\) received by PID|exitcode\s*: -9\b"
)
_MEMORY_KILLER = "out of memory, ended by the kernel's memory killer"
_LESS_MEMORY = "lower its batch size or its workers, or run fewer jobs at once (-j)"
_CONFIG = re.compile(
    r"^Error: (Config error at .*|Config file not found.*|--input is required.*|"
    r"Input file not found.*|dataset_path .* does not exist.*)$"
)
_USAGE = re.compile(
    r"(?:Invalid value|No such option|Missing option|No such command|Option '|unrecognized).*"
)
_USAGE_TEXT = re.compile(r"[Uu]sage: ")
_MODULE = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '([\w.]+)'")
_NEEDS = (
    (re.compile(r"requires\s+bitsandbytes"), "bitsandbytes", "bitsandbytes>=0.47,<0.50"),
    (re.compile(r"(?i)optuna is not installed|requires\s+optuna"), "optuna", "oumi[tune]==0.9.*"),
    (re.compile(r"(?i)requires?\s+(?:`?autoawq|the autoawq)"), "autoawq", "autoawq"),
)
_INSTALLS = {"bitsandbytes": "bitsandbytes>=0.47,<0.50", "optuna": "oumi[tune]==0.9.*"}
_DISK = re.compile(r"No space left on device|Disk quota exceeded")
_HUB = re.compile(
    r"(We couldn't connect to|is not a local folder and is not a valid model identifier|"
    r"LocalEntryNotFoundError|OfflineModeIsEnabled)"
)
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Interrupt|Exit)): (.+)$"
)
_BOILERPLATE = re.compile(
    r"If you believe this is a bug, please file an issue|github\.com/oumi-ai/oumi/issues|"
    r"oumi\.ai/feedback|^\W*$"
)


def diagnose(
    log: str,
    *,
    exit_code: int | None = None,
    signal: int | None = None,
    oom_kills: int = 0,
    oom_scope: str = "",
) -> Diagnosis:
    """Name the cause of a failed attempt from the end of its `log`.

    `exit_code` and `signal` are how the process ended (137, which shells make of a killed child,
    counts as signal 9), `oom_kills` and `oom_scope` what the kernel's memory killer did meanwhile
    (see `executors.base.Exit`). A usage or config error is not retryable: the same command can
    only fail again. Want of memory is: it may have been a neighbour's.
    """
    lines = _lines(log)
    text = "\n".join(lines)
    killed = signal == SIGKILL or exit_code in (137, -SIGKILL)
    by = "killed by signal 9" if killed else "a process of it was killed by signal 9"
    worker_killed = _WORKER_KILLED.search(text) is not None
    if found := _LOST_GPU.search(text):
        what = found[1] or (f"Xid {found[2]}" if found[2] else found[3])
        return Diagnosis(f"lost GPU: {what}", lost_gpu=True)
    if (killed or worker_killed) and oom_kills > 0 and oom_scope == "cgroup":
        return Diagnosis(f"{by}: {_MEMORY_KILLER}; {_LESS_MEMORY}")
    if _OUT_OF_MEMORY.search(text):
        tried = _TRIED.search(text)
        return Diagnosis(
            "CUDA out of memory" + (f", tried to allocate {tried[1]}" if tried else "")
        )
    if killed or worker_killed:
        said = _KILLED_FOR_MEMORY.search(text) is not None
        return Diagnosis(f"{by}: {_by_whom(said, oom_kills, oom_scope)}")
    if _KILLED_FOR_MEMORY.search(text):
        return Diagnosis(f"{_MEMORY_KILLER}; {_LESS_MEMORY}")
    if _HOST_MEMORY.search(text):
        return Diagnosis(f"out of memory (RAM); {_LESS_MEMORY}")
    if _DISK.search(text):
        return Diagnosis("no space left on the disk")
    if found := _first(_CONFIG, lines):
        return Diagnosis(found[1].strip(), retryable=False)
    if exit_code == 2 and _first(_USAGE_TEXT, lines):
        # Other programs exit with 2 too, for reasons of their own.
        found = _USAGE.search(_unboxed(lines))
        return Diagnosis(f"usage error: {found[0]}" if found else "usage error", retryable=False)
    for pattern, name, package in _NEEDS:
        if pattern.search(text):
            return Diagnosis(_missing(name, package), retryable=False)
    if modules := _MODULE.findall(text):
        name = modules[-1].split(".")[0]
        return Diagnosis(_missing(name, _INSTALLS.get(name, "")), retryable=False)
    if _HUB.search(text):
        return Diagnosis("a model or data set is neither local nor reachable on the hub")
    cause = _last_error(lines)
    if oom_kills > 0 and oom_scope == "cgroup":
        # Perhaps one of its own: not all parents tell how their children ended.
        meanwhile = "meanwhile the kernel's memory killer ended a process of this run or beside it"
        cause = f"{cause}; {meanwhile}" if cause else meanwhile
    return Diagnosis(cause)


def _by_whom(said: bool, oom_kills: int, oom_scope: str) -> str:
    """Who sent signal 9. `said`: the log has it that it was the memory killer."""
    if said:
        return f"{_MEMORY_KILLER}; {_LESS_MEMORY}"
    if oom_kills > 0:
        return (
            "perhaps out of memory, for the kernel's memory killer was at work on this machine "
            f"meanwhile; if so, {_LESS_MEMORY}"
        )
    if oom_scope:
        return "sent by a user or a program, not by the kernel's memory killer"
    return "sent by a user or a program, or by the kernel for lack of memory (RAM)"


def _last_error(lines: list[str]) -> str:
    errors = [found for line in lines[-60:] if (found := _EXCEPTION.match(line))]
    if errors:
        return f"{errors[-1][1]}: {errors[-1][2]}"[:300]
    said = [line for line in lines[-20:] if line.startswith("Error: ")]
    return said[-1][7:][:300] if said else ""


def _missing(name: str, package: str) -> str:
    advice = f'; install it beside oumi: pip install "{package}"' if package else ""
    return f"missing module: {name}{advice}"


def _first(pattern: re.Pattern[str], lines: list[str]) -> re.Match[str] | None:
    return next((found for line in lines if (found := pattern.match(line))), None)


def _unboxed(lines: list[str]) -> str:
    """The text of the box that click's errors are drawn in, joined to one line."""
    inner = [line.strip("│ ").strip() for line in lines if line.startswith("│")]
    return " ".join(inner) if inner else "\n".join(lines)


def last_lines(log: str, count: int = 10) -> list[str]:
    """The last lines of a log that say something: no bars, escapes, logo or bug-report request."""
    said = [line for line in _lines(log) if not _BOILERPLATE.search(line)]
    return said[-count:] if count > 0 else []


def _lines(log: str) -> list[str]:
    data = last_bytes(log, TAIL)
    found = []
    for raw in data.decode("utf-8", "replace").split("\n"):
        # Of what returns redraw, the last drawing is what one would see.
        drawn = [part for part in raw.split("\r") if part.strip()]
        line = parse.without_bars(parse.clean(drawn[-1])).rstrip() if drawn else ""
        if line:
            found.append(line)
    return found
