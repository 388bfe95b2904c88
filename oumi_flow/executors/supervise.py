"""The supervisor of local jobs: a small program of its own, standard library only.

One single-threaded server process a run forks one supervisor per attempt, so a job costs a fork
instead of an interpreter. The server is started with two sockets:

* descriptor 3, a stream: one JSON line per order, with the descriptors of token locks attached.
  `{"start": {...}, "descriptors": N}` or `{"cancel": TOKEN, "now": BOOL}`. Text in orders is bytes
  decoded as Latin-1, so that any path or value survives. When it closes, the server leaves.
* descriptor 4, packets: one JSON object per attempt that ended, what exit.json says, or
  `{"token": TOKEN, "gone": true}` of a supervisor that died without a word.

A supervisor leads a session of its own and owes nothing to server or runner: killed -9, they leave
it at work. It records itself in attempt.json, starts the job, keeps timeout and grace, leaves no
process of the job behind, and writes exit.json. SIGTERM asks it to stop the job politely, a second
one (or SIGUSR1) to kill it.

Knows nothing of plans, markers, GPUs; never imports the rest of oumi_flow.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import json
import os
import select
import signal
import socket
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

FORMAT = 1
ORDERS, REPORTS = 3, 4  # the server's descriptors
MAX_DESCRIPTORS = 253  # what the kernel lets travel in one message (SCM_MAX_FD)
SHORTEST_MASKED = 6  # characters; shorter secrets would mask half the log
_CHUNK = 1 << 16  # bytes
_CHUNKS_AT_ONCE = 16  # then the clock and the signals have their turn
_LONGEST_WAIT = 86400.0  # seconds; poll(2) takes no number of any size
_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36  # <linux/prctl.h>
_STOPPERS = {signal.SIGTERM, signal.SIGUSR1}
_DEFAULTS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
# Caught, not ignored: a caught signal is back at its default in whatever we start.
_CAUGHT = (*_STOPPERS, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)


# --- processes -----------------------------------------------------------------------------------


class Process(NamedTuple):
    """One line of /proc/PID/stat, as far as we care (proc(5))."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start_ticks: int  # since boot; with the pid it names a process for ever

    @property
    def lives(self) -> bool:
        return self.state not in "ZXx"


def read_process(pid: int) -> Process | None:
    """The process as it is now; None when there is none (or it may not be seen)."""
    text = _slurp(f"/proc/{pid}/stat")
    head, _, rest = text.rpartition(b")")  # a process may have brackets in its name
    if not head:
        return None
    fields = rest.split()
    return Process(
        pid,
        fields[0].decode(),
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        _start_ticks(text),
    )


def _start_ticks(text: bytes) -> int:
    return int(text.rpartition(b")")[2].split()[19])


def all_processes() -> list[Process]:
    """Everything that /proc shows."""
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether that very process runs. A zombie does not."""
    process = read_process(pid) if pid > 0 else None
    return process is not None and process.start_ticks == start_ticks and process.lives


def boot_id() -> str:
    """Changes with every boot; "" where the kernel does not say."""
    return _slurp("/proc/sys/kernel/random/boot_id").decode().strip()


def descendants(root: int) -> set[int]:
    """Pids below `root`, zombies included. May miss what is forked while we look."""
    found: set[int] = set()
    todo = [root]
    while todo:
        for child in _children(todo.pop()):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        path = f"/proc/{pid}/task/{thread}/children"
        text = _slurp(path)
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


def _slurp(path: str, dir_fd: int | None = None) -> bytes:
    """A whole small file; b"" when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=dir_fd)
    except OSError:
        return b""
    try:
        return _read_all(fd)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, _CHUNK):
        parts.append(part)
    return b"".join(parts)


# --- state files ---------------------------------------------------------------------------------


class Refused(Exception):
    """This attempt must not start; nothing may be written for it."""


class StateDir:
    """The folder of a job's state files, held open: it may be renamed or its cwd left meanwhile.

    While somebody holds the lock on the folder itself, nobody else changes who an attempt is.
    """

    def __init__(self, path: str | bytes) -> None:
        """Raises OSError when there is no such folder."""
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.mode = 0o666

    def close(self) -> None:
        os.close(self.fd)

    def lock(self) -> None:
        """Held until `unlock` or `close`; waits. Does nothing where folders cannot be locked."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
                raise

    def unlock(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def read(self, name: str) -> dict[str, Any]:
        """The JSON object of a state file; {} when it is missing, torn or something else."""
        try:
            data = json.loads(_slurp(name, self.fd))
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

    def write(self, name: str, data: dict[str, Any]) -> None:
        """Replace a state file, by rename, with the mode of attempt.json. Raises OSError."""
        draft = f"{name}.{os.getpid()}~"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(draft, flags, self.mode, dir_fd=self.fd)
        try:
            _write_all(fd, json.dumps(data).encode() + b"\n")
        except OSError:
            os.unlink(draft, dir_fd=self.fd)
            raise
        finally:
            os.close(fd)
        os.rename(draft, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def claim(self, token: str, handle: dict[str, Any]) -> None:
        """Record in attempt.json who looks after it. Raises Refused when that is not ours to do."""
        self.lock()
        try:
            attempt = self.read("attempt.json")
            if attempt.get("token") != token:
                raise Refused("its attempt.json is gone or tells of another attempt")
            if attempt.get("revoked"):
                raise Refused("another run has taken over")
            self.mode = stat.S_IMODE(os.stat("attempt.json", dir_fd=self.fd).st_mode)
            self.write("attempt.json", {**attempt, "handle": handle})
        finally:
            self.unlock()

    def revoke(self, token: str) -> dict[str, Any]:
        """The handle of that attempt; if it has none, {}, and then it can never get one."""
        self.lock()
        try:
            attempt = self.read("attempt.json")
            if attempt.get("token") != token:
                return {}
            handle = attempt.get("handle")
            if isinstance(handle, dict):
                return handle
            self.mode = stat.S_IMODE(os.stat("attempt.json", dir_fd=self.fd).st_mode)
            self.write("attempt.json", {**attempt, "revoked": True})
            return {}
        finally:
            self.unlock()


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


# --- masking -------------------------------------------------------------------------------------


class Masker:
    """Writes bytes through, with every secret replaced, also one that comes in pieces."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        import re

        self._secrets = sorted(set(secrets), key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets)))
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be written now. At most one secret's length stays behind."""
        data = self._held + data
        limit = self._first_beginning(data)
        done: list[bytes] = []
        position = 0
        for match in self._pattern.finditer(data):
            if match.start() >= limit:
                break  # a longer secret may begin here
            done += (data[position : match.start()], b"****")
            position = match.end()
        end = max(limit, position)
        done.append(data[position:end])
        self._held = data[end:]
        return b"".join(done)

    def finish(self) -> bytes:
        """What stayed behind, at the end of everything."""
        rest, self._held = self._held, b""
        return self._pattern.sub(b"****", rest)

    def _first_beginning(self, data: bytes) -> int:
        """Where the earliest secret begins that `data` ends in the middle of."""
        longest = len(self._secrets[0])
        for start in range(max(0, len(data) - longest + 1), len(data)):
            tail = data[start:]
            if any(len(tail) < len(one) and one.startswith(tail) for one in self._secrets):
                return start
        return len(data)


# --- one attempt ---------------------------------------------------------------------------------


class CannotStart(Exception):
    """In words for the user, without "could not start: "."""


class Supervision:
    """One attempt from its fork to its exit.json. Lives in a process of its own."""

    def __init__(
        self, order: dict[str, Any], descriptors: Sequence[int], boot: str, host: str
    ) -> None:
        self.order = order
        self.token: str = order["token"]
        self.descriptors = descriptors
        self.boot = boot
        self.host = host
        self.state: StateDir | None = None
        self.log = -1
        self.pipe = -1  # the reading end, when the log is masked
        self.masker: Masker | None = None
        self.main = 0  # pid of the job's first process
        self.main_status: int | None = None
        self.started = 0.0
        self.timed_out = False
        self.cancelled = False
        self.asked = False  # to stop, by a signal
        self.error = ""
        self.kill_at: float | None = None  # monotonic; None: nobody has been asked to stop
        self.kill_pause = 0.01
        self.refusals = 0
        self.wakeup = _hear_signals()

    def run(self) -> dict[str, Any]:
        """The whole attempt. Returns what to report."""
        try:
            self._begin()
        except Refused as refused:
            return {"token": self.token, "error": f"could not start: {refused}"}
        except CannotStart as problem:
            self.error = f"could not start: {problem}"
        if self.main:
            self._watch()
        report = self._report()
        self._leave_exit_json(report)
        return report

    # starting

    def _begin(self) -> None:
        try:
            self.state = StateDir(_bytes(self.order["state_dir"]))
            self.state.claim(self.token, self._handle())
        except OSError as error:
            raise CannotStart(f"attempt.json: {error.strerror}") from error
        self.log = self._open_log()
        output = self._open_mask() or self.log
        cwd = _bytes(self.order["cwd"])
        try:
            os.chdir(cwd)  # this process is the job's own
        except OSError as error:
            raise CannotStart(f"its workdir {os.fsdecode(cwd)}: {error.strerror}") from error
        self._read_signals()
        if self.cancelled:
            return
        self.started = time.time()
        self.began = time.monotonic()
        self.main = self._spawn(output)
        if output != self.log:
            os.close(output)
        else:
            os.close(self.log)
            self.log = -1

    def _handle(self) -> dict[str, Any]:
        return {
            "token": self.token,
            "job": self.order["job"],
            "run_id": self.order["run_id"],
            "number": self.order["number"],
            "log": os.fsdecode(_bytes(self.order["log"])),
            "executor": "local",
            "pid": os.getpid(),
            "start_ticks": _start_ticks(_slurp("/proc/self/stat")),
            "boot_id": self.boot,
            "host": self.host,
        }

    def _open_log(self) -> int:
        path = _bytes(self.order["log"])
        assert self.state is not None
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(path, flags, self.state.mode)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a plain file")
        except OSError as error:
            raise CannotStart(f"its log {os.fsdecode(path)}: {error.strerror}") from error
        os.set_blocking(fd, True)
        return fd

    def _open_mask(self) -> int:
        """Where a job with secrets writes to; 0 for one without."""
        secrets = [_bytes(text) for text in self.order["mask"]]
        secrets = [one for one in secrets if len(one.decode("utf-8", "replace")) >= SHORTEST_MASKED]
        if not secrets:
            return 0
        self.masker = Masker(secrets)
        self.pipe, output = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.pipe, False)
        return output

    def _spawn(self, output: int) -> int:
        argv = [_bytes(word) for word in self.order["argv"]]
        env = {_bytes(name): _bytes(value) for name, value in self.order["env"].items()}
        for fd in self.descriptors:
            os.set_inheritable(fd, True)
        program = _find_program(argv[0], env.get(b"PATH", os.fsencode(os.defpath)))
        try:
            return spawn(program, argv, env, output)
        except OSError as error:
            raise CannotStart(_why_not(program, error)) from error

    # watching

    def _watch(self) -> None:
        limit: float | None = self.order["limit"]
        deadline = None if limit is None else self.began + limit
        while self._reap():
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                deadline = None
                if self.main_status is None and self.kill_at is None:
                    self.timed_out = True
                    self._ask_to_stop()
            if self.main_status is not None and self.kill_at is None:
                self._ask_to_stop()  # leftovers of a job that has ended
            if self.kill_at is not None and now >= self.kill_at and not self._kill():
                break
            times = [at for at in (deadline, self.kill_at) if at is not None]
            self._wait(max(0.0, min(times) - time.monotonic()) if times else None)
        self._relay(1024)
        self._flush()

    def _reap(self) -> bool:
        """Whether any process of the job is left. As subreaper we are parent to all orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid == self.main:
                self.main_status = status

    def _wait(self, seconds: float | None) -> None:
        poller = select.poll()
        poller.register(self.wakeup, select.POLLIN)
        if self.pipe >= 0:
            poller.register(self.pipe, select.POLLIN)
        poller.poll(None if seconds is None else min(seconds, _LONGEST_WAIT) * 1000 + 1)
        self._read_signals()
        self._relay(_CHUNKS_AT_ONCE)

    def _read_signals(self) -> None:
        for number in _drain(self.wakeup):
            if number not in _STOPPERS:
                continue
            at_once = self.asked or number == signal.SIGUSR1
            self.asked = True
            if self.main_status is None:
                self.cancelled = True
            if not self.main:
                continue
            if at_once:
                self.kill_at = time.monotonic()
            elif self.kill_at is None:
                self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        """SIGTERM to everybody there is now; what they start to tidy up is let be until the end."""
        tree = descendants(os.getpid()) | descendants(os.getpid())
        for pid in tree:
            send_signal(pid, signal.SIGTERM)
        for pid in tree:
            send_signal(pid, signal.SIGCONT)
        self.kill_at = time.monotonic() + max(0.0, self.order["grace"])

    def _kill(self) -> bool:
        """SIGKILL to everybody; True: look again soon. False: the rest is beyond our rights."""
        session = os.getsid(0)
        tree = descendants(os.getpid())
        for group in {_group(pid, session) for pid in tree} - {0}:
            # A group dies as one: a fork cannot slip away from under the signal.
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        allowed = [send_signal(pid, signal.SIGKILL) for pid in tree]
        self.refusals = self.refusals + 1 if tree and not any(allowed) else 0
        if self.refusals > 20:
            pids = ", ".join(map(str, sorted(tree)))
            self.error = f"may not stop what it left behind (pid {pids})"
            return False
        self.kill_at = time.monotonic() + self.kill_pause
        self.kill_pause = min(1.0, self.kill_pause * 1.5)
        return True

    def _relay(self, chunks: int) -> None:
        """Move what the job has said to its log, masked."""
        for _ in range(chunks):
            if self.pipe < 0:
                return
            try:
                data = os.read(self.pipe, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                os.close(self.pipe)
                self.pipe = -1
                return
            assert self.masker is not None
            self._write_log(self.masker.feed(data))

    def _flush(self) -> None:
        if self.masker is not None and self.log >= 0:
            self._write_log(self.masker.finish())

    def _write_log(self, data: bytes) -> None:
        try:
            _write_all(self.log, data)
        except OSError as error:
            # What it meets when it writes by itself: its output fails.
            self.error = f"could not write its log: {error.strerror}"
            if self.pipe >= 0:
                os.close(self.pipe)
                self.pipe = -1

    # the end

    def _report(self) -> dict[str, Any]:
        code = number = None
        if self.main_status is not None:
            status = os.waitstatus_to_exitcode(self.main_status)
            code, number = (status, None) if status >= 0 else (None, -status)
        return {
            "format": FORMAT,
            "token": self.token,
            "code": code,
            "signal": number,
            "timed_out": self.timed_out,
            "cancelled": self.cancelled,
            "started": self.started,
            "finished": time.time(),
            "error": self.error,
            "host": self.host,
        }

    def _leave_exit_json(self, report: dict[str, Any]) -> None:
        # A full disk, a deleted folder: whoever listens is told all the same.
        with contextlib.suppress(OSError):
            if self.state is not None:
                self.state.write("exit.json", report)


def _find_program(name: bytes, path: bytes) -> bytes:
    """As execvp(3) finds it. Raises CannotStart."""
    if b"/" in name:
        return name
    for folder in path.split(b":"):
        candidate = os.path.join(folder or b".", name)
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    raise CannotStart(f"there is no program {os.fsdecode(name)!r} on its PATH")


def _why_not(program: bytes, error: OSError) -> str:
    name = os.fsdecode(program)
    if error.errno == errno.ENOENT and os.path.exists(program):
        return f"the interpreter that {name} names in its first line is not there"
    if error.errno == errno.ENOENT:
        return f"there is no program {name}"
    if error.errno == errno.ENOEXEC:
        return f"{name} is no program and has no #! line"
    if error.errno == errno.E2BIG:
        return "its command line and environment are too long together"
    return f"{name}: {error.strerror}"


def spawn(program: bytes, argv: list[bytes], env: dict[bytes, bytes], output: int) -> int:
    """Start a process in a session of its own, all signals at their defaults. Raises OSError."""
    try:
        return os.posix_spawn(
            program,
            argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULTS,
        )
    except NotImplementedError:  # a Python built for a C library without POSIX_SPAWN_SETSID
        return _fork_exec(program, argv, env, output)


def _fork_exec(program: bytes, argv: list[bytes], env: dict[bytes, bytes], output: int) -> int:
    failed, failing = os.pipe2(os.O_CLOEXEC)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for number in _DEFAULTS:
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(program, argv, env)
        except OSError as error:
            os.write(failing, str(error.errno).encode())
        finally:
            os._exit(127)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.close(failing)
    problem = _read_all(failed)
    os.close(failed)
    if problem:
        os.waitpid(pid, 0)
        raise OSError(int(problem), os.strerror(int(problem)))
    return pid


def _group(pid: int, own_session: int) -> int:
    """The process group of a process that is certainly not in our session; else 0."""
    try:
        return 0 if os.getsid(pid) == own_session else os.getpgid(pid)
    except OSError:
        return 0


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


# --- signals -------------------------------------------------------------------------------------


def _hear_signals() -> int:
    """A descriptor from which `_drain` reads the numbers of caught signals that came.

    Handlers are set once, in the server: its children inherit them.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reading


def _noticed(number: int, frame: object) -> None:
    """The number went into the wakeup descriptor; there is nothing else to do."""


def _drain(wakeup: int) -> bytes:
    try:
        return os.read(wakeup, 512)
    except BlockingIOError:
        return b""


# --- the server ----------------------------------------------------------------------------------


class Server:
    """Takes orders, forks supervisors, and says which of them died without a word."""

    def __init__(
        self, orders: socket.socket, reports: socket.socket, prctl: Callable[..., Any]
    ) -> None:
        self.orders = orders
        self.reports = reports
        self.prctl = prctl
        self.boot = boot_id()
        self.host = socket.gethostname()
        for number in _CAUGHT:  # none of them ends us: the closed socket does
            signal.signal(number, _noticed)
        self.wakeup = _hear_signals()
        self.buffer = b""
        self.descriptors: deque[int] = deque()  # come with orders not read to their end yet
        self.supervisors: dict[int, str] = {}  # pid -> token
        self.pids: dict[str, int] = {}
        self.unsaid: deque[bytes] = deque()

    def serve(self) -> None:
        """Until the runner has closed its end."""
        poller = select.poll()
        poller.register(self.orders, select.POLLIN)
        poller.register(self.wakeup, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll(100 if self.unsaid else None)}
            if self.wakeup in ready:
                _drain(self.wakeup)
                self._reap()
            self._say()
            if self.orders.fileno() in ready and not self._take_orders():
                return

    def _take_orders(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(
            self.orders, 1 << 18, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return False
        self.descriptors += descriptors
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "cancel" in order:
                self._cancel(order["cancel"], order["now"])
            else:
                self._start(
                    order["start"],
                    [self.descriptors.popleft() for _ in range(order["descriptors"])],
                )
        return True

    def _start(self, order: dict[str, Any], descriptors: list[int]) -> None:
        token: str = order["token"]
        # Signals wait until the child has its own way of hearing them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _CAUGHT)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._tell({"token": token, "error": f"could not start: {error.strerror}"})
            pid = -1
        if pid == 0:
            self._become_supervisor(order, descriptors)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for fd in descriptors:
            os.close(fd)
        if pid > 0:
            self.supervisors[pid] = token
            self.pids[token] = pid

    def _become_supervisor(self, order: dict[str, Any], descriptors: list[int]) -> NoReturn:
        status = 1
        try:
            os.setsid()
            self.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            self.prctl(_PR_SET_NAME, b"oumi-flow-job", 0, 0, 0)
            self.orders.close()
            for fd in (self.wakeup, *self.descriptors):
                os.close(fd)
            report = Supervision(order, descriptors, self.boot, self.host).run()
            for fd in descriptors:
                os.close(fd)  # the tree is gone: whoever waits for the token need not wait for us
            self.reports.send(json.dumps(report).encode())
            status = 0
        except OSError:
            status = 3  # nobody listens
        finally:
            os._exit(status)

    def _cancel(self, token: str, now: bool) -> None:
        pid = self.pids.get(token)
        if pid is not None:
            send_signal(pid, signal.SIGUSR1 if now else signal.SIGTERM)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            token = self.supervisors.pop(pid, "")
            self.pids.pop(token, None)
            if token and status:
                self._tell({"token": token, "gone": True})

    def _tell(self, report: dict[str, Any]) -> None:
        self.unsaid.append(json.dumps(report).encode())

    def _say(self) -> None:
        """Never wait for the runner here: it may be waiting for us."""
        while self.unsaid:
            try:
                self.reports.send(self.unsaid[0], socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                pass  # nobody listens
            self.unsaid.popleft()


def main() -> None:
    """The server. Leaves the terminal, and whatever its parent had open, alone."""
    import ctypes

    os.setsid()
    for fd in (ORDERS, REPORTS):
        os.set_inheritable(fd, False)
    for fd in [int(name) for name in os.listdir("/proc/self/fd") if int(name) > REPORTS]:
        with contextlib.suppress(OSError):
            os.close(fd)  # whatever the runner was given without being told
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_NAME, b"oumi-flow-serve", 0, 0, 0)
    server = Server(socket.socket(fileno=ORDERS), socket.socket(fileno=REPORTS), prctl)
    gc.disable()
    gc.freeze()  # keeps the pages shared with the children
    server.serve()


if __name__ == "__main__":
    main()
