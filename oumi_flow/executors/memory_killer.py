"""The kernel's memory killer, by its counters: how many processes it has ended, and within what.

Where a cgroup counts for us, the count is of the processes of that cgroup (jobs that run beside us
are in it too); elsewhere it is of the whole machine, and no more than a hint. Knows not whom it
ended, and nothing of killers that are no kernel (systemd-oomd, earlyoom): those send a signal like
everybody.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from oumi_flow.executors.files import slurp

_MOST = 1 << 16  # bytes
_KEY = b"oom_kill "  # the same in all three files, since Linux 4.13


class MemoryKiller:
    """One counter, found once and held open; reading it costs a microsecond and raises nothing.

    `scope` is "cgroup", "host", or "" where nothing counts.
    """

    def __init__(self, proc: str = "/proc") -> None:
        self.scope, self._fd = "", -1
        for path, scope in (*_of_cgroups(proc), (f"{proc}/vmstat", "host")):
            with contextlib.suppress(OSError):
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if self.count() is not None:
                    self.scope = scope
                    return
                os.close(self._fd)
                self._fd = -1

    def count(self) -> int | None:
        """Since boot, or since the cgroup was made. None: it cannot be read (any more)."""
        try:
            return _number_in(os.pread(self._fd, _MOST, 0))
        except OSError:
            return None


def _number_in(text: bytes) -> int | None:
    data = b"\n" + text
    at = data.find(b"\n" + _KEY)
    if at < 0:
        return None
    number = data[at + 1 + len(_KEY) :].partition(b"\n")[0]
    return int(number) if number.isdigit() else None


def _of_cgroups(proc: str) -> Iterator[tuple[str, str]]:
    """Where our own memory cgroup counts, or the nearest above it that does (cgroups(7)).

    A cgroup of version 2 counts what is below it too, one of version 1 itself alone; either counts
    its own processes whichever limit was met, that of the whole machine included.
    """
    own: dict[str, str] = {}  # "memory" for version 1, "" for version 2
    for line in os.fsdecode(slurp(f"{proc}/self/cgroup")).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for name in controllers.split(","):
            own[name] = path
    for line in os.fsdecode(slurp(f"{proc}/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        root, mount = fields[3], fields[4]
        if kind[0] == "cgroup" and "memory" in kind[2].split(",") and "memory" in own:
            yield f"{_within(mount, root, own['memory'])}/memory.oom_control", "cgroup"
        elif kind[0] == "cgroup2" and "" in own:
            folder = _within(mount, root, own[""])
            while len(folder) >= len(mount):
                yield f"{folder}/memory.events", "cgroup"
                folder = folder.rpartition("/")[0]


def _within(mount: str, root: str, path: str) -> str:
    """The folder of a cgroup below a mount that shows the hierarchy from `root` on."""
    root = root.rstrip("/")
    if path != root and not path.startswith(root + "/"):
        return mount  # of another namespace: what is mounted here is all that can be seen
    return (mount + path[len(root) :]).rstrip("/")
