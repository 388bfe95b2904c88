"""The runner's end of a process that forks supervisors: starting it, telling it, leaving it.

There are two kinds: one of our own Python, and one that has imported the modules of warm jobs. The
first is a fork of the runner where that is still small and alone, since to start an interpreter
costs as much as to run ten jobs; else it is started like the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence

import oumi_flow
from oumi_flow.executors.base import TOKEN_LENGTH, TOKEN_VARIABLE, Attempt, Warmth
from oumi_flow.executors.company import Company
from oumi_flow.executors.files import slurp
from oumi_flow.executors.hearing import CAUGHT
from oumi_flow.executors.orders import base_line, line_of
from oumi_flow.executors.spawn import DEFAULTS
from oumi_flow.executors.wire import ORDERS, REPORTS
from oumi_flow.sockets import send_fds, socket, stream

_SEND_TIMEOUT = 30.0  # seconds for a server that does not read; it is dead or stopped then
_MOST_COPIED = 1 << 26  # bytes of memory of a runner that is forked
# Of a message with descriptors, when the system has too many on their way, or too little memory.
_TOO_MUCH = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_KEPT_VARIABLES = ("PATH", "TMPDIR", TOKEN_VARIABLE)  # the server needs no secrets


class NoSocketError(Exception):
    """There is none to speak to one more supervisor by; in the system's words."""


class ServerProcess:
    """Our end of the process that forks supervisors."""

    def __init__(self, report_end: socket, warmth: Warmth | None = None) -> None:
        """Raises OSError when no process can be started."""
        self.base: Mapping[str, str] | None = None  # an environment to say differences from
        self._first = b""  # goes ahead of the first order
        self.ready = warmth is None  # else it takes no order before it says that it is
        self.held: dict[str, Attempt] = {}  # until then, by token
        self.company = Company()
        self.orders, theirs = stream()
        self.orders.settimeout(_SEND_TIMEOUT)
        try:
            if warmth is None and _is_small_and_alone():
                self.pid = _fork(theirs, report_end)
            else:
                self.pid = _start(theirs, report_end, warmth)
        except BaseException:
            self.orders.close()
            raise
        finally:
            theirs.close()
        self._hangup = select.poll()
        self._hangup.register(self.orders, select.POLLHUP)

    def speak_from(self, base: Mapping[str, str]) -> None:
        """Say in orders how an environment differs from this one (orders.py).

        Raises UnicodeError, ValueError for text that no process can be given.
        """
        self._first = base_line(base)
        self.base = base

    def start(self, token: str, order: bytes, descriptors: Sequence[int]) -> None:
        """Have an attempt looked after, by one who is free or by a new supervisor.

        Raises NoSocketError, and OSError when the server is of no use any more.
        """
        if self.company.hand_over(token, order, descriptors):
            return
        try:
            channel = self.company.hire(token)
        except OSError as error:
            raise NoSocketError(error.strerror) from error
        with contextlib.closing(channel):
            line = b"%b %d %b\n" % (token.encode(), len(descriptors) + 1, order)
            try:
                self._send(line, (channel.fileno(), *descriptors))
            except NoSocketError:
                self.company.gone(token)
                raise

    def cancel(self, token: str, now: bool) -> None:
        """Have whoever looks after that attempt asked to stop it. Raises OSError as `start`."""
        if name := self.company.ask(token):
            self._send(line_of({"cancel": name, "now": now}))

    def _send(self, line: bytes, descriptors: Sequence[int] = ()) -> None:
        line, sent = self._first + line, 0
        if descriptors:
            try:
                sent = send_fds(self.orders, line, descriptors)
            except OSError as error:
                if error.errno in _TOO_MUCH:  # nothing has gone, and the next one may
                    raise NoSocketError(error.strerror) from error
                raise
        self._first = b""
        self.orders.sendall(line[sent:])

    def is_gone(self) -> bool:
        return bool(self._hangup.poll(0))

    def close(self) -> None:
        """It leaves when it sees the end of its orders; a stopped one is not waited for."""
        if free := self.company.dismiss():
            self.orders.setblocking(False)
            with contextlib.suppress(OSError):
                self._send(line_of({"free": free}))
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


def _start(orders: socket, reports: socket, warmth: Warmth | None) -> int:
    import fcntl

    # Source descriptors above all targets: no dup2 can overwrite one, none is its own target.
    try:
        sources = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 16) for one in (orders, reports)]
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # There are no such numbers below the limit (fcntl(2)).
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from error
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


def _is_small_and_alone() -> bool:
    """Whether a fork would be worth it, and safe: locks of other threads would never be opened.

    A server has what its parent had for as long as it lives.
    """
    sizes = slurp("/proc/self/statm").split()  # none where nothing can be opened any more
    if not sizes or int(sizes[1]) * resource.getpagesize() >= _MOST_COPIED:
        return False
    return len(os.listdir("/proc/self/task")) == 1


def _fork(orders: socket, reports: socket) -> int:
    """A server that is a copy of this process. Raises OSError."""
    # Before the fork: what we have open, the run's lock too, is not to be held a moment longer.
    from oumi_flow.executors.supervise import become_server

    kept = [os.fsencode(name) for name in os.environ if _is_kept(name)]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
    try:
        pid = os.fork()
        if pid == 0:
            become_server(orders.fileno(), reports.fileno(), kept)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


# By import rather than by path: a program given by path is compiled at every start.
_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(oumi_flow.__file__)))


def _own_python() -> tuple[list[str], Mapping[str, str]]:
    program = f"import sys; sys.path.append({_FOLDER!r}); "
    program += "from oumi_flow.executors.supervise import main; main()"
    env = {name: value for name, value in os.environ.items() if _is_kept(name)}
    return [sys.executable, "-I", "-S", "-c", program], env


def _is_kept(name: str) -> bool:
    return name in _KEPT_VARIABLES or name.startswith("LD_")


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
