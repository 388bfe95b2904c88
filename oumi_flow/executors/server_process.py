"""The runner's end of a process that forks supervisors: starting it, telling it, leaving it.

There are two kinds: one of our own Python, and one that has imported the modules of warm jobs.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Mapping, Sequence

import oumi_flow
from oumi_flow.executors.base import TOKEN_LENGTH, TOKEN_VARIABLE, Attempt, Warmth
from oumi_flow.executors.orders import base_line
from oumi_flow.executors.spawn import DEFAULTS
from oumi_flow.executors.wire import ORDERS, REPORTS

_SEND_TIMEOUT = 30.0  # seconds for a server that does not read; it is dead or stopped then
_KEPT_VARIABLES = ("PATH", "TMPDIR", TOKEN_VARIABLE)  # the server needs no secrets


class ServerProcess:
    """Our end of the process that forks supervisors."""

    def __init__(
        self,
        report_end: socket.socket,
        base: Mapping[str, str],
        warmth: Warmth | None = None,
    ) -> None:
        """`base` is an environment to say differences from (orders.py).

        Raises OSError when no process can be started.
        """
        self.base = base
        self._first = base_line(base)  # goes ahead of the first order
        self.ready = warmth is None  # else it takes no order before it says that it is
        self.held: dict[str, Attempt] = {}  # until then, by token
        self.orders, theirs = socket.socketpair()
        self.orders.settimeout(_SEND_TIMEOUT)
        try:
            self.pid = _start(theirs, report_end, warmth)
        except OSError:
            self.orders.close()
            raise
        finally:
            theirs.close()
        self._hangup = select.poll()
        self._hangup.register(self.orders, select.POLLHUP)

    def send(self, line: bytes, descriptors: Sequence[int]) -> None:
        """Raises OSError; the server is of no use any more then."""
        line, self._first = self._first + line, b""
        sent = 0
        if descriptors:
            sent = socket.send_fds(self.orders, [line], list(descriptors))
        self.orders.sendall(line[sent:])

    def is_gone(self) -> bool:
        return bool(self._hangup.poll(0))

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


def _start(orders: socket.socket, reports: socket.socket, warmth: Warmth | None) -> int:
    import fcntl

    # Source descriptors above all targets: no dup2 can overwrite one, none is its own target.
    sources = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 16) for one in (orders, reports)]
    argv, env = _own_python() if warmth is None else _python_of(warmth)
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            env,
            file_actions=[
                *null,
                (os.POSIX_SPAWN_DUP2, sources[0], ORDERS),
                (os.POSIX_SPAWN_DUP2, sources[1], REPORTS),
            ],
            setsigmask=(),
            # As a job has them; of our own, the server makes what it needs.
            setsigdef=() if warmth is None else DEFAULTS,
        )
    finally:
        for fd in sources:
            os.close(fd)


# By import rather than by path: a program given by path is compiled at every start.
_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(oumi_flow.__file__)))


def _own_python() -> tuple[list[str], Mapping[str, str]]:
    program = f"import sys; sys.path.append({_FOLDER!r}); "
    program += "from oumi_flow.executors.supervise import main; main()"
    env = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith("LD_")
    }
    return [sys.executable, "-I", "-S", "-c", program], env


def _python_of(warmth: Warmth) -> tuple[list[str], Mapping[str, str]]:
    """It finds modules where the jobs' program does, which may know another oumi_flow than us."""
    beside = os.path.dirname(os.path.realpath(warmth.program))
    package = os.path.join(_FOLDER, "oumi_flow")
    program = f"""import sys, importlib.util as util
if not getattr(sys.flags, "safe_path", False):
    sys.path[0] = {beside!r}
spec = util.spec_from_file_location("oumi_flow", {os.path.join(package, "__init__.py")!r},
                                    submodule_search_locations=[{package!r}])
sys.modules["oumi_flow"] = util.module_from_spec(spec)
from oumi_flow.executors.ahead import main
main({warmth.modules!r}, {warmth.cwd!r})
"""
    # Of a length that a job's own can be written over (forking.py).
    token = os.environ.get(TOKEN_VARIABLE, "-" * TOKEN_LENGTH)
    return [warmth.python, "-c", program], {**warmth.env, TOKEN_VARIABLE: token}
