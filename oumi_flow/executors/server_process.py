"""The runner's end of the process that forks supervisors: starting it, telling it, leaving it."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Sequence

import oumi_flow
from oumi_flow.executors.base import TOKEN_VARIABLE
from oumi_flow.executors.wire import ORDERS, REPORTS

_SEND_TIMEOUT = 30.0  # seconds for a server that does not read; it is dead or stopped then
_KEPT_VARIABLES = ("PATH", "TMPDIR", TOKEN_VARIABLE)  # the server needs no secrets


class ServerProcess:
    """Our end of the process that forks supervisors."""

    def __init__(self, report_end: socket.socket) -> None:
        """Raises OSError when no process can be started."""
        self.orders, theirs = socket.socketpair()
        self.orders.settimeout(_SEND_TIMEOUT)
        try:
            self.pid = _start(theirs, report_end)
        except OSError:
            self.orders.close()
            raise
        finally:
            theirs.close()

    def send(self, line: bytes, descriptors: Sequence[int]) -> None:
        """Raises OSError; the server is of no use any more then."""
        sent = 0
        if descriptors:
            sent = socket.send_fds(self.orders, [line], list(descriptors))
        self.orders.sendall(line[sent:])

    def is_gone(self) -> bool:
        poller = select.poll()
        poller.register(self.orders, select.POLLHUP)
        return bool(poller.poll(0))

    def close(self) -> None:
        """It leaves when it sees the end of its orders; a stopped one is not waited for."""
        self.orders.close()
        deadline = time.monotonic() + 2.0
        pause = 0.0005
        while True:
            try:
                if os.waitpid(self.pid, os.WNOHANG)[0] or time.monotonic() > deadline:
                    return
            except ChildProcessError:
                return
            time.sleep(pause)
            pause = min(0.05, pause * 2)


def _start(orders: socket.socket, reports: socket.socket) -> int:
    import fcntl

    # Source descriptors above all targets: no dup2 can overwrite one, none is its own target.
    sources = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 16) for one in (orders, reports)]
    folder = os.path.dirname(os.path.dirname(os.path.abspath(oumi_flow.__file__)))
    # By import rather than by path: a program given by path is compiled at every start.
    program = f"import sys; sys.path.append({folder!r}); "
    program += "from oumi_flow.executors.supervise import main; main()"
    env = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith("LD_")
    }
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", program],
            env,
            file_actions=[
                *null,
                (os.POSIX_SPAWN_DUP2, sources[0], ORDERS),
                (os.POSIX_SPAWN_DUP2, sources[1], REPORTS),
            ],
            setsigmask=(),
        )
    finally:
        for fd in sources:
            os.close(fd)
