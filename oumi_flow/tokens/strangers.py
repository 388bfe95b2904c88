"""Who computes on a GPU without a token: what NVML says now, asked no more often than it must be.

A GPU whose token is free has no process of any job of ours: whoever computes on it is a stranger.
`of` and `vetoed` may ask NVML, which takes some milliseconds a GPU, at most about once a second
unless something is in the way. Knows nothing of locks: callers say which tokens are free.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence

from oumi_flow import identity
from oumi_flow.errors import FlowError
from oumi_flow.tokens.gpus import Gpu, survey

# Seconds. What is in the way may be the end of a job of ours, so it is asked about again soon.
_KEPT, _FIRST_AGAIN = 1.0, 0.05
_BLIND = 60.0  # where there is no NVML

_FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of the kernel's proc_ns.h
_SERVICES = ("nvidia-cuda-mps",)  # computes for others; such names are cut off at 15 characters


class Sight:
    """One run's view of the GPUs. For one thread."""

    def __init__(self, gpus: Sequence[Gpu], environ: Mapping[str, str]) -> None:
        """`gpus`: as they were just now."""
        self._environ = environ
        # NVML counts processes as the whole machine does; in a container their numbers are not
        # ours, and one that we do not see may well live.
        self._sees_all = "OUMI_FLOW_FAKE_GPUS" in environ or _sees_all_processes()
        self._has_nvml = "OUMI_FLOW_FAKE_GPUS" in environ or any(gpu.uuid for gpu in gpus)
        self._seen = {gpu.token: gpu for gpu in gpus}
        self._asked = time.monotonic()
        self._kept = _KEPT
        self._pauses: dict[str, float] = {}  # token in somebody's use -> seconds between questions

    def of(self, token: str) -> Gpu | None:
        """What is known of it, at most about a second old."""
        if time.monotonic() - self._asked > self._kept:
            self._ask()
        return self._seen.get(token)

    def vetoed(self, tokens: Iterable[str]) -> dict[str, str]:
        """Which of these free tokens nobody gets who did not name the GPU, and why, in words."""
        tokens = list(tokens)
        found = self._in_the_way(tokens)
        age = time.monotonic() - self._asked
        due = [token for token in found if age >= self._pauses.get(token, _FIRST_AGAIN)]
        if due:
            self._ask()
            found = self._in_the_way(tokens)
            for token in due:
                self._pauses[token] = min(2 * self._pauses.get(token, _FIRST_AGAIN), _KEPT)
        for token in tokens:
            if token not in found:
                self._pauses.pop(token, None)
        return found

    def stranger(self, gpu: Gpu) -> str:
        """`used by process 4711 (python, user bob), which is no job of ours`; "" when by none."""
        living = [pid for pid in gpu.processes if not self._sees_all or _computes(pid)]
        if not living:
            return ""
        more = f" and {len(living) - 1} more" if len(living) > 1 else ""
        known = _who(living[0]) if self._sees_all else ""
        return f"used by process {living[0]}{known}{more}, which is no job of ours"

    def _in_the_way(self, tokens: Iterable[str]) -> dict[str, str]:
        found = {}
        for token in tokens:
            gpu = self.of(token)
            if gpu is not None and (words := "lost" if gpu.lost else self.stranger(gpu)):
                found[token] = words
        return found

    def _ask(self) -> None:
        self._asked = time.monotonic()
        try:
            there = survey(self._environ)
        except FlowError:  # the file that stands in is just being written
            return
        self._kept = _KEPT if there or self._has_nvml else _BLIND
        now = {gpu.token: gpu for gpu in there}
        # NVML knows no UUID of one that is lost.
        lost = {gpu.index for gpu in there if gpu.lost}
        known = [gpu for token, gpu in self._seen.items() if token not in now and gpu.index in lost]
        self._seen = now | {gpu.token: Gpu(gpu.index, gpu.uuid, lost=True) for gpu in known}


def _sees_all_processes() -> bool:
    try:
        return os.readlink("/proc/self/ns/pid") == _FIRST_NAMESPACE
    except OSError:
        return False


def _computes(pid: int) -> bool:
    """Whether it lives, and for itself."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
    except OSError:  # not to be seen by us
        return True
    return rest.split()[0] not in "ZX" and not name.startswith(_SERVICES)


def _who(pid: int) -> str:
    """` (python, user bob)`, as far as we may know."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            words = [file.read().strip()]
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return ""
    words.append(f"user {identity.user_of(owner)}")
    return f" ({', '.join(words)})"
