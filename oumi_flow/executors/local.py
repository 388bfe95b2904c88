"""Jobs as processes of this machine, each under a supervisor of its own (supervise.py).

Starts the server that forks the supervisors, hands it attempts, and hears of their ends. When the
server is gone, or the attempts are those of a lost run, their supervisors are watched one by one:
by descriptors of their processes, and exit.json at the end. Never knows what a job is for.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from oumi_flow.executors import supervise
from oumi_flow.executors.base import (
    TOKEN_VARIABLE,
    Attempt,
    Exit,
    Handle,
    Rejected,
    Submitted,
    Unknown,
)

_SEND_TIMEOUT = 30.0  # seconds for a server that does not read; it is dead or stopped then
_LOOK_AGAIN = 0.2  # seconds between looks at processes that no descriptor stands for
_STUBBORN = 10.0  # seconds for the kernel to end what was killed
_OPEN_STATES = ("starting", "running")  # of an attempt that nobody has written an end for
_KEPT_VARIABLES = ("PATH", "TMPDIR", TOKEN_VARIABLE)  # the server needs no secrets


class LocalExecutor:
    """See base.Executor. Costs nothing until the first `submit`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._server: _Server | None = None
        self._own: dict[str, Handle] = {}  # submitted here, no end known
        self._adopted: dict[str, _Watched] = {}  # watched by their supervisor's process
        self._ended: dict[str, Exit] = {}  # not told yet
        self._asked: dict[str, int] = {}  # token -> strongest signal sent
        self._poller = select.poll()
        self._reports, self._report_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._reports.setblocking(False)
        self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poller.register(self._reports, select.POLLIN)
        self._poller.register(self._woken, select.POLLIN)
        self._polling = False

    def check(self) -> list[str]:
        problems = []
        if not os.path.exists("/proc/self/stat"):
            problems.append("jobs need /proc to be supervised, and it is not mounted here")
        if not sys.executable:
            problems.append("this Python does not know its own program, which supervises jobs")
        return problems

    # starting

    def submit(self, attempts: Sequence[Attempt]) -> list[Submitted]:
        """Raises nothing: what cannot be started is Rejected. Blocks while the server is behind."""
        with self._lock:
            results = [self._submit(attempt) for attempt in attempts]
        if self._polling:
            self.wake()
        return results

    def _submit(self, attempt: Attempt) -> Submitted:
        try:
            line = _order(attempt)
        except (UnicodeError, ValueError) as error:
            return Rejected(attempt.token, f"could not start: {error}")
        if len(attempt.descriptors) > supervise.MAX_DESCRIPTORS:
            return Rejected(attempt.token, "could not start: too many GPU tokens at once")
        try:
            if self._server is not None and self._server.is_gone():
                self._drop_server()
            if self._server is None:
                self._server = _Server(self._report_end)
                self._poller.register(self._server.orders, select.POLLHUP)
        except OSError as error:
            return Rejected(attempt.token, f"could not start its supervisor: {error.strerror}")
        handle = Handle(
            token=attempt.token,
            job=attempt.job,
            state_dir=attempt.state_dir,
            log=attempt.log,
            run_id=attempt.run_id,
            number=attempt.number,
        )
        try:
            self._server.send(line, attempt.descriptors)
        except OSError as error:
            self._own[attempt.token] = handle
            self._drop_server()  # settles what has become of it, like all others
            return Unknown(attempt.token, f"its supervisor's server is gone ({error})")
        self._own[attempt.token] = handle
        return handle

    def _drop_server(self) -> None:
        """The server died under us: its supervisors live on, each watched by itself now."""
        if self._server is None:
            return
        self._poller.unregister(self._server.orders)
        self._server.close()
        self._server = None
        own, self._own = self._own, {}
        for token, handle in own.items():
            self._read_reports()
            if token not in self._ended:
                self._adopt(_settled(handle))

    # watching

    def poll(
        self, handles: Sequence[Handle], deadline: float | None = None
    ) -> tuple[dict[str, Exit], bool]:
        with self._lock:
            for handle in handles:
                if handle.token not in self._own and handle.token not in self._ended:
                    self._adopt(handle)
            self._polling = True
        try:
            woken = False
            while True:
                with self._lock:
                    self._collect()
                    tokens = [one.token for one in handles if one.token in self._ended]
                    ended = {token: self._ended.pop(token) for token in tokens}
                    wait = self._patience(deadline)
                if ended or woken or (deadline is not None and time.monotonic() >= deadline):
                    return ended, True
                ready = self._poller.poll(None if wait is None else wait * 1000 + 1)
                woken = any(fd == self._woken for fd, _ in ready) and self._swallow_wakes()
        finally:
            self._polling = False

    def _patience(self, deadline: float | None) -> float | None:
        """Seconds to wait for descriptors before another look is due."""
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if any(watched.pidfd < 0 for watched in self._adopted.values()):
            wait = _LOOK_AGAIN if wait is None else min(wait, _LOOK_AGAIN)
        return wait if wait is None else min(wait, 86400.0)

    def _collect(self) -> None:
        """Move whatever has ended to `_ended`."""
        self._read_reports()
        if self._server is not None and self._server.is_gone():
            self._drop_server()
        gone = [one.token for one in self._adopted.values() if one.has_ended()]
        if gone:
            self._read_reports()  # their last words, if they had some to say to us
        for token in gone:
            watched = self._unwatch(token)
            if watched is not None:
                self._end_silently(watched.handle)

    def _read_reports(self) -> None:
        while True:
            try:
                packet = self._reports.recv(1 << 16)
            except BlockingIOError:
                return
            report = json.loads(packet)
            token: str = report["token"]
            watched = self._unwatch(token)  # if its server has died meanwhile
            handle = self._own.pop(token, None) or (watched.handle if watched else None)
            if handle is None:
                continue
            if "gone" in report:
                self._end_silently(handle)
            else:
                self._end(Exit.from_json(report))

    def _end(self, exit: Exit) -> None:
        self._asked.pop(exit.token, None)
        self._ended[exit.token] = exit

    def _end_silently(self, handle: Handle) -> None:
        """Its supervisor is gone; what it left on disk says how, or nobody knows."""
        found = read_exit(handle.state_dir, handle.token)
        if found is None:
            self.stop_leftovers([handle], grace=0.0)
            found = Exit(handle.token, lost=True, finished=time.time())
        self._end(found)

    def _adopt(self, handle: Handle) -> None:
        if handle.token in self._adopted:
            return
        watched = _Watched(handle)
        self._adopted[handle.token] = watched
        if watched.pidfd >= 0:
            self._poller.register(watched.pidfd, select.POLLIN)

    def _unwatch(self, token: str) -> _Watched | None:
        watched = self._adopted.pop(token, None)
        if watched is not None and watched.pidfd >= 0:
            self._poller.unregister(watched.pidfd)
            watched.close()
        return watched

    def _swallow_wakes(self) -> bool:
        try:
            os.read(self._woken, 4096)
        except BlockingIOError:
            return False
        return True

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full: the poll will wake
            os.write(self._waker, b"w")

    # stopping

    def cancel(self, handles: Sequence[Handle], grace: float, now: bool = False) -> None:
        """As base.Executor. A local supervisor keeps its attempt's own `grace`; 0 means `now`."""
        number = signal.SIGUSR1 if now or grace <= 0 else signal.SIGTERM
        with self._lock:
            for handle in handles:
                before = self._asked.get(handle.token, 0)
                if before == signal.SIGUSR1 or before == number:
                    continue  # a second SIGTERM would mean "at once"
                self._asked[handle.token] = number
                self._ask(handle, number)

    def _ask(self, handle: Handle, number: int) -> None:
        if handle.token in self._own and self._server is not None:
            order = {"cancel": handle.token, "now": number == signal.SIGUSR1}
            try:
                self._server.send(_line(order), ())
                return
            except OSError:
                self._drop_server()
        if handle.token in self._ended:
            return
        self._adopt(handle)
        watched = self._adopted[handle.token]
        if not watched.has_ended():
            supervise.send_signal(watched.handle.pid, number)

    # what earlier runs left

    def find(self, state_dirs: Sequence[str], grace: float = 5.0) -> list[Handle]:
        """As base.Executor. Also stops what is left of jobs whose supervisor was killed.

        Those get SIGTERM, and SIGKILL after `grace` seconds; it blocks as long. They are not in
        the result: an attempt without exit.json whose supervisor is gone was interrupted.
        """
        alive: list[Handle] = []
        headless: list[Handle] = []
        for state_dir in state_dirs:
            handle = _open_attempt(state_dir)
            if handle is None:
                continue
            if is_alive(handle):
                alive.append(handle)
            elif read_exit(state_dir, handle.token) is None and handle.boot_id == _boot():
                headless.append(handle)
        self.stop_leftovers(headless, grace)
        return alive

    def stop_leftovers(self, handles: Sequence[Handle], grace: float = 5.0) -> int:
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

    def log(self, handle: Handle) -> str:
        return handle.log

    def close(self) -> None:
        """Ends the server. Supervisors and their jobs live on. Calling it again is harmless."""
        with self._lock:
            if self._server is not None:
                self._poller.unregister(self._server.orders)
                self._server.close()
                self._server = None
            for watched in self._adopted.values():
                watched.close()
            self._adopted.clear()
            if self._waker >= 0:
                os.close(self._woken)
                os.close(self._waker)
                self._woken = self._waker = -1
            self._reports.close()
            self._report_end.close()


class _Server:
    """Our end of the process that forks supervisors."""

    def __init__(self, report_end: socket.socket) -> None:
        """Raises OSError when no process can be started."""
        self.orders, theirs = socket.socketpair()
        self.orders.settimeout(_SEND_TIMEOUT)
        try:
            self.pid = _start_server(theirs, report_end)
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


def _start_server(orders: socket.socket, reports: socket.socket) -> int:
    import fcntl

    # Source descriptors above all targets: no dup2 can overwrite one, none is its own target.
    sources = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 16) for one in (orders, reports)]
    folder = os.path.dirname(supervise.__file__)
    # By import rather than by path: a program given by path is compiled at every start.
    program = f"import sys; sys.path.append({folder!r}); import supervise; supervise.main()"
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
                (os.POSIX_SPAWN_DUP2, sources[0], supervise.ORDERS),
                (os.POSIX_SPAWN_DUP2, sources[1], supervise.REPORTS),
            ],
            setsigmask=(),
        )
    finally:
        for fd in sources:
            os.close(fd)


class _Watched:
    """A supervisor that is no child of our server, seen from outside."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle if handle.pid else _settled(handle)
        self.token = handle.token
        self.pidfd = -1
        if is_alive(self.handle) and hasattr(os, "pidfd_open"):
            try:
                self.pidfd = os.pidfd_open(self.handle.pid)
            except OSError:
                self.pidfd = -1

    def has_ended(self) -> bool:
        return not is_alive(self.handle)

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


# --- state files and processes -------------------------------------------------------------------


def recorded(state_dir: str) -> Handle | None:
    """The handle in that folder's attempt.json, of a live process or a dead one. Writes nothing."""
    try:
        state = supervise.StateDir(state_dir)
    except OSError:
        return None
    try:
        return _as_handle(state.read("attempt.json").get("handle"), state_dir)
    finally:
        state.close()


def is_alive(handle: Handle) -> bool:
    """Whether its supervisor runs: that pid, started at that time, since that boot."""
    return handle.boot_id == _boot() and supervise.is_alive(handle.pid, handle.start_ticks)


def read_exit(state_dir: str, token: str) -> Exit | None:
    """What exit.json says of that attempt; None when it says nothing of it."""
    try:
        state = supervise.StateDir(state_dir)
    except OSError:
        return None
    try:
        data = state.read("exit.json")
    finally:
        state.close()
    return Exit.from_json(data) if data.get("token") == token else None


def _open_attempt(state_dir: str) -> Handle | None:
    """The handle of an attempt without an end; one without a handle can never start after this."""
    try:
        state = supervise.StateDir(state_dir)
    except OSError:
        return None
    try:
        attempt = state.read("attempt.json")
        token = attempt.get("token")
        if attempt.get("state", "running") not in _OPEN_STATES or not isinstance(token, str):
            return None
        return _as_handle(attempt.get("handle") or state.revoke(token), state_dir)
    except OSError:
        return None
    finally:
        state.close()


def _settled(handle: Handle) -> Handle:
    """The handle as its supervisor recorded it. One that has not done so by now never will."""
    try:
        state = supervise.StateDir(handle.state_dir)
    except OSError:
        return handle
    try:
        return _as_handle(state.revoke(handle.token), handle.state_dir) or handle
    except OSError:
        return handle
    finally:
        state.close()


def _as_handle(data: Any, state_dir: str) -> Handle | None:
    if not isinstance(data, Mapping):
        return None
    try:
        return Handle.from_json({**data, "state_dir": state_dir})
    except ValueError:
        return None


def _boot() -> str:
    return supervise.boot_id()


def _remnants(tokens: set[str]) -> list[supervise.Process]:
    """Living processes that belong to attempts with these tokens, ourselves excepted."""
    marks = [f"{TOKEN_VARIABLE}={token}".encode() for token in tokens]
    living = [one for one in supervise.all_processes() if one.lives and one.pid != os.getpid()]
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


def _signal_exactly(process: supervise.Process, number: int) -> bool:
    """Signal that process, not one that has its pid by now. False: it may not be signalled."""
    now = supervise.read_process(process.pid)
    if now is None or now.start_ticks != process.start_ticks:
        return True
    sent = supervise.send_signal(process.pid, number)
    supervise.send_signal(process.pid, signal.SIGCONT)
    return sent


# --- orders --------------------------------------------------------------------------------------


def _order(attempt: Attempt) -> bytes:
    """The line that starts an attempt. Raises ValueError for text that no process can be given."""
    env = {_text(name): _text(value) for name, value in attempt.env.items()}
    env[TOKEN_VARIABLE] = attempt.token
    if any("=" in name or not name for name in env):
        raise ValueError("a variable of its environment has an empty name or one with =")
    start = {
        "token": attempt.token,
        "run_id": attempt.run_id,
        "job": attempt.job,
        "number": attempt.number,
        "argv": [_text(word) for word in attempt.argv],
        "cwd": _text(attempt.cwd),
        "env": env,
        "mask": [_text(value) for value in attempt.mask],
        "limit": attempt.limit,
        "grace": attempt.grace,
        "state_dir": _text(attempt.state_dir),
        "log": _text(attempt.log),
    }
    return _line({"start": start, "descriptors": len(attempt.descriptors)})


def _line(order: Mapping[str, Any]) -> bytes:
    return json.dumps(order, separators=(",", ":")).encode() + b"\n"


def _text(value: str) -> str:
    """Bytes as Latin-1, the form that orders have."""
    if "\0" in value:
        raise ValueError("its command line or environment holds a zero byte")
    return value if value.isascii() else os.fsencode(value).decode("latin-1")
