"""Processes of attempts whose supervisors are gone: found by what they cannot hide, and stopped.

A supervisor finds its own by descent. This is for the rest, on the way back from a fault. Knows no
state files.
"""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Sequence

from oumi_flow.executors import processes
from oumi_flow.executors.base import TOKEN_VARIABLE, Handle
from oumi_flow.executors.files import slurp
from oumi_flow.executors.processes import Process
from oumi_flow.typed import NamedTuple

_STUBBORN = 10.0  # seconds for the kernel to end what was killed


class _Mark(NamedTuple):
    """What an attempt has put on its processes, or what they hold of it."""

    variable: bytes
    log: str  # the name of its file, without folder; "" when it is not to be gone by
    file: tuple[int, int]  # device and inode of the log
    since: int  # start of its supervisor, in ticks since boot


def stop_leftovers(handles: Sequence[Handle], grace: float = 5.0) -> int:
    """Stop all processes of attempts whose supervisors are gone; how many there were.

    They are known by TOKEN_VARIABLE in their environment and by a session that such a process
    leads or is in; by a state folder held open, if their supervisor was killed in the instant
    before their start; by the attempt's log as their output, if they are of this user, younger
    than the attempt, and not at a terminal (who reads the log, or edits it, is let be); and by
    descent from all of these. Blocks until they are gone, which is at most `grace` seconds and
    what the kernel needs; what may not be signalled, or hangs in the kernel for ten seconds more,
    is left.
    """
    marks = [_mark(handle) for handle in handles if handle.token]
    if not marks:
        return 0
    seen: set[tuple[int, int]] = set()
    kill_at = time.monotonic() + grace
    pause = 0.01
    folders = [handle.state_dir for handle in handles if handle.state_dir]
    while remnants := _remnants(marks, folders):
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


def stop_bereft(folder: str, grace: float = 5.0) -> int:
    """Stop jobs whose records below `folder` were deleted; how many supervisors there were.

    Nobody can take them over. Their supervisors end them, politely, after `grace` seconds at once.
    Blocks until they are gone, or for ten seconds more.
    """
    asked: dict[int, int] = {}
    kill_at = time.monotonic() + grace
    while left := processes.bereft_at(folder):
        late = time.monotonic() - kill_at
        number = signal.SIGUSR1 if late >= 0 else signal.SIGTERM
        for pid in left:
            if asked.get(pid) != number:
                processes.send_signal(pid, number)
                asked[pid] = number
        if late >= _STUBBORN:
            break
        time.sleep(0.02)
    return len(asked)


def _mark(handle: Handle) -> _Mark:
    variable = f"{TOKEN_VARIABLE}={handle.token}".encode()
    if handle.log and handle.start_ticks and handle.boot_id == processes.boot_id():
        try:
            log = os.stat(handle.log)
        except OSError:
            log = None
        if log is not None and stat.S_ISREG(log.st_mode):
            name, file = os.path.basename(handle.log), (log.st_dev, log.st_ino)
            return _Mark(variable, name, file, handle.start_ticks)
    return _Mark(variable, "", (0, 0), 0)


def _remnants(marks: Sequence[_Mark], folders: Sequence[str]) -> list[Process]:
    """Living processes that belong to attempts with these marks, ourselves excepted."""
    # First: one that was about to become the job's has its token by the time we look for that.
    unborn = {pid for pid, _ in processes.supervisors_at(folders)}
    living = [one for one in processes.all_processes() if one.lives and one.pid != os.getpid()]
    found, writers = set(), set()
    for one in living:
        tokens = _tokens(one.pid)
        if any(mark.variable in tokens for mark in marks):
            found.add(one.pid)
        elif not tokens and any(_writes_log(one, mark) for mark in marks):
            writers.add(one.pid)  # of its session we cannot be as sure as of itself
    sessions = {one.session for one in living if one.pid in found} - {os.getsid(0), 0}
    found |= writers | unborn
    size = -1
    while size != len(found):
        size = len(found)
        found |= {one.pid for one in living if one.parent in found or one.session in sessions}
    return [one for one in living if one.pid in found]


def _tokens(pid: int) -> list[bytes]:
    """The variables in a process's environment that name an attempt; [] if it may not be seen."""
    name = f"{TOKEN_VARIABLE}=".encode()
    return [one for one in slurp(f"/proc/{pid}/environ").split(b"\0") if one.startswith(name)]


def _writes_log(process: Process, mark: _Mark) -> bool:
    """Whether its output or its errors go to that attempt's log, as a job's do."""
    if not mark.log or process.terminal or process.start_ticks < mark.since:
        return False
    folder = f"/proc/{process.pid}"
    for fd in ("1", "2"):
        try:
            # The name first: no file elsewhere is looked at, which may be on a disk that hangs.
            if os.path.basename(os.readlink(f"{folder}/fd/{fd}")) != mark.log:
                continue
            file, owner = os.stat(f"{folder}/fd/{fd}"), os.stat(folder).st_uid
        except OSError:  # it is gone, hides, or has closed that one
            continue
        if (file.st_dev, file.st_ino) == mark.file and owner == os.geteuid():
            return _may_write(f"{folder}/fdinfo/{fd}")
    return False


def _may_write(fdinfo: str) -> bool:
    for line in slurp(fdinfo).splitlines():
        if line.startswith(b"flags:"):
            return int(line[6:], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def _signal_exactly(process: Process, number: int) -> bool:
    """Signal that process, not one that has its pid by now. False: it may not be signalled."""
    now = processes.read_process(process.pid)
    if now is None or now.start_ticks != process.start_ticks:
        return True
    sent = processes.send_signal(process.pid, number)
    processes.send_signal(process.pid, signal.SIGCONT)
    return sent
