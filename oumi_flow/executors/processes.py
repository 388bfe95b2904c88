"""Processes of this machine as /proc shows them: who lives, who is whose child, and signals.

Of a process that may not be seen nothing is known; standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from oumi_flow.executors.files import slurp

SUPERVISOR = b"oumi-flow-job"  # what a supervisor calls itself; the job has a name of its own
SERVER = b"oumi-flow-serve"  # what forks them; at most 15 characters, prctl(2)


class Process:
    """One line of /proc/PID/stat, as far as we care (proc(5))."""

    __slots__ = ("group", "parent", "pid", "session", "start_ticks", "state", "terminal")

    def __init__(self, pid: int, fields: list[bytes]) -> None:
        """`fields` are those behind the name, which may hold anything."""
        self.pid = pid
        self.state = fields[0].decode()
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.terminal = int(fields[4])  # device number of the one that controls it; 0: none does
        self.start_ticks = int(fields[19])  # since boot; with the pid a name for ever

    @property
    def lives(self) -> bool:
        return self.state not in "ZXx"


def read_process(pid: int) -> Process | None:
    """The process as it is now; None when there is none (or it may not be seen)."""
    text = slurp(f"/proc/{pid}/stat")
    head, _, rest = text.rpartition(b")")  # a process may have brackets in its name
    if not head:
        return None
    return Process(pid, rest.split())


def start_ticks_in(text: bytes) -> int:
    """The start time in what /proc/PID/stat says."""
    return int(text.rpartition(b")")[2].split()[19])


def all_processes() -> list[Process]:
    """Everything that /proc shows."""
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def supervisors_at(folders: Iterable[str]) -> list[tuple[int, str]]:
    """Supervisors that keep their records in one of `folders` or below: pid and state folder.

    Or in the instant before its start, a job: it is a copy of its supervisor as yet. Costs a look
    at every process of the machine, not at every folder, of which there may be 100 000.
    """
    tops = tuple(os.path.realpath(folder).rstrip("/") + "/" for folder in folders)
    found = []
    for pid, held in _supervisors() if tops else ():
        below = [path for path in held if f"{path}/".startswith(tops) and os.path.isdir(path)]
        if below:
            # For a moment it also holds the folder that it comes back to from the job's workdir.
            found.append((pid, max(below, key=lambda p: os.path.lexists(f"{p}/attempt.json"))))
    return found


def bereft_at(folder: str) -> list[int]:
    """Supervisors of lost runs whose records below `folder` were deleted, with their folder.

    They look after a job that nothing on the disk tells of any more. Costs as `supervisors_at`.
    """
    top = os.path.realpath(folder).rstrip("/") + "/"
    return [
        pid
        for pid, held in _supervisors()
        if any(
            path.startswith(top) and path.endswith(" (deleted)") and os.path.isdir(fd)
            for path, fd in held.items()
        )
        and not _has_server(pid)
    ]


def _has_server(pid: int) -> bool:
    """Whether the server that forked this supervisor is there: then so is its run."""
    process = read_process(pid)
    return process is not None and slurp(f"/proc/{process.parent}/comm").strip() == SERVER


def _supervisors() -> Iterator[tuple[int, dict[str, str]]]:
    """Those that we may look into, each with what it holds open: path -> its name in /proc."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or slurp(f"/proc/{name}/comm").strip() != SUPERVISOR:
            continue
        folder = f"/proc/{name}/fd"
        try:
            held = {os.readlink(f"{folder}/{fd}"): f"{folder}/{fd}" for fd in os.listdir(folder)}
        except OSError:  # somebody else's, or gone
            continue
        yield int(name), held


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether that very process runs. A zombie does not."""
    process = read_process(pid) if pid > 0 else None
    return process is not None and process.start_ticks == start_ticks and process.lives


def boot_id() -> str:
    """Changes with every boot; "" where the kernel does not say."""
    return slurp("/proc/sys/kernel/random/boot_id").decode().strip()


def descendants(root: int) -> list[int]:
    """Pids below `root`, parents before their children, zombies included.

    May miss what is forked while we look.
    """
    found: dict[int, None] = {}
    todo = [root]
    while todo:
        for child in _children(todo.pop()):
            if child not in found:
                found[child] = None
                todo.append(child)
    return list(found)


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        path = f"/proc/{pid}/task/{thread}/children"
        text = slurp(path)
        if not text and not os.path.exists(path) and os.path.exists(f"/proc/{pid}"):
            # A kernel without CONFIG_PROC_CHILDREN.
            return [process.pid for process in all_processes() if process.parent == pid]
        found += map(int, text.split())
    return found


def send_signal(pid: int, number: int) -> bool:
    """Whether the process could be signalled, or was gone already; False: it is not ours."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def group_outside(pid: int, own_session: int) -> int:
    """The process group of a process that is certainly not in our session; else 0."""
    try:
        return 0 if os.getsid(pid) == own_session else os.getpgid(pid)
    except OSError:
        return 0
