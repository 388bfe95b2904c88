"""Processes of attempts whose supervisors are gone: found by what they cannot hide, and stopped.

A supervisor finds its own by descent. This is for the rest, on the way back from a fault. Knows no
state files.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from oumi_flow.executors import processes
from oumi_flow.executors.base import TOKEN_VARIABLE, Handle
from oumi_flow.executors.processes import Process

_STUBBORN = 10.0  # seconds for the kernel to end what was killed


def stop_leftovers(handles: Sequence[Handle], grace: float = 5.0) -> int:
    """Stop all processes of attempts whose supervisors are gone; how many there were.

    They are known by TOKEN_VARIABLE in their environment, by a session that such a process
    leads or is in, and by descent from them. Blocks until they are gone, which is at most
    `grace` seconds and what the kernel needs; what may not be signalled, or hangs in the
    kernel for ten seconds more, is left.
    """
    tokens = {handle.token for handle in handles if handle.token}
    if not tokens:
        return 0
    seen: set[tuple[int, int]] = set()
    kill_at = time.monotonic() + grace
    pause = 0.01
    while remnants := _remnants(tokens):
        killing = time.monotonic() >= kill_at
        signalled = False
        for process in remnants:
            name = (process.pid, process.start_ticks)
            if killing or name not in seen:
                sent = _signal_exactly(process, signal.SIGKILL if killing else signal.SIGTERM)
                signalled = sent or signalled
            seen.add(name)
        if killing and (not signalled or time.monotonic() >= kill_at + _STUBBORN):
            break
        time.sleep(pause)
        pause = min(0.25, pause * 1.5)
    return len(seen)


def _remnants(tokens: set[str]) -> list[Process]:
    """Living processes that belong to attempts with these tokens, ourselves excepted."""
    marks = [f"{TOKEN_VARIABLE}={token}".encode() for token in tokens]
    living = [one for one in processes.all_processes() if one.lives and one.pid != os.getpid()]
    found = {one.pid for one in living if _is_marked(one.pid, marks)}
    sessions = {one.session for one in living if one.pid in found} - {os.getsid(0), 0}
    size = -1
    while size != len(found):
        size = len(found)
        found |= {one.pid for one in living if one.parent in found or one.session in sessions}
    return [one for one in living if one.pid in found]


def _is_marked(pid: int, marks: list[bytes]) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return False
    return any(mark in variables for mark in marks)


def _signal_exactly(process: Process, number: int) -> bool:
    """Signal that process, not one that has its pid by now. False: it may not be signalled."""
    now = processes.read_process(process.pid)
    if now is None or now.start_ticks != process.start_ticks:
        return True
    sent = processes.send_signal(process.pid, number)
    processes.send_signal(process.pid, signal.SIGCONT)
    return sent
