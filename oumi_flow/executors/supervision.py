"""One attempt of a job, from the record of who looks after it to that of how it ended.

Lives in a process forked by the server (supervise.py), which looks after one attempt at a time, in
a session of its own and subreaper of all that the job starts: keeps timeout and grace, masks the
log where there are secrets, leaves no process of the job behind. SIGTERM asks it to stop the job
politely, a second one (or SIGUSR1) to kill it. Knows its order and nothing else; standard library
only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from oumi_flow.executors.cores import Cores
from oumi_flow.executors.files import slurp, write_all
from oumi_flow.executors.hearing import STOPPERS, drain
from oumi_flow.executors.mask import SHORTEST_MASKED, Masker
from oumi_flow.executors.memory_killer import MemoryKiller
from oumi_flow.executors.processes import (
    descendants,
    group_outside,
    send_signal,
    start_ticks_in,
)
from oumi_flow.executors.spawn import (
    CannotStart,
    close_all,
    find_program,
    open_all,
    spawn,
    why_not,
)
from oumi_flow.executors.state_dir import Refused, StateDir, to_text
from oumi_flow.executors.wire import to_bytes

TYPE_CHECKING = False  # an import that is an eighth of the server's start
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Forge(Protocol):
        """Starts a program that is imported already; see forking.py."""

        def why_cold(self, env: Mapping[bytes, bytes]) -> str: ...
        def start(
            self,
            program: bytes,
            argv: list[bytes],
            env: Mapping[bytes, bytes],
            output: int,
            descriptors: Sequence[int],
        ) -> int: ...


FORMAT = 1  # of what is recorded of an end
_CHUNK = 1 << 16  # bytes
_CHUNKS_AT_ONCE = 16  # then the clock and the signals have their turn
_LONGEST_WAIT = 10.0  # seconds; then a look, in case that a wake-up was lost


class Supervision:
    """One attempt from its fork to the record of its end. Lives in a process of its own."""

    def __init__(
        self,
        order: dict[str, Any],
        descriptors: Sequence[int],
        boot: str,
        host: str,
        killer: MemoryKiller,
        cores: Cores,
        wakeup: int,
        base: Mapping[bytes, bytes],
        forge: Forge | None = None,
    ) -> None:
        """`base` is the environment that the order says differences from.

        From `wakeup` the signals that came can be read.
        """
        self.order = order
        self.token: str = order["token"]
        self.descriptors = descriptors
        self.boot = boot
        self.host = host
        self.killer = killer
        self.cores = cores
        self.forge = forge
        self.cold: str = order["cold"]
        self.kills_before: int | None = None
        self.kills = 0  # by the kernel's memory killer, while the job ran
        self.kills_scope = ""  # where they were counted
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
        self.recorded = False  # how it ended
        self.kill_at: float | None = None  # monotonic; None: nobody has been asked to stop
        self.kill_pause = 0.01
        self.refusals = 0
        self.wakeup = wakeup
        self.base = base
        self.cpu_before = _cpu_of_children()

    def run(self) -> bytes:
        """The whole attempt. Returns what to report; nothing of it is open or left then."""
        if self.forge is not None:
            return self._run()  # all goes with this process, and a job forked from it comes by here
        try:
            return self._run()
        finally:
            if self.state is not None:
                self.state.close()
            for fd in (self.log, self.pipe):
                if fd >= 0:
                    os.close(fd)

    def _run(self) -> bytes:
        try:
            self._begin()
        except Refused as refused:
            return to_text({"token": self.token, "error": f"could not start: {refused}"})
        except CannotStart as problem:
            self.error = f"could not start: {problem}"
        if self.main:
            self._watch()
        report = to_text(self._report())
        self._record_end(report)
        return report

    @property
    def is_spotless(self) -> bool:
        """Whether this process may look after another attempt: nothing of this one clings to it.

        Neither a process that could not be stopped, nor a signal that may be followed by another,
        nor secrets, nor a record by which we would still be looking after it.
        """
        clings = self.asked or self.error or self.refusals or self.masker or self.order["mask"]
        return self.recorded and not clings

    # starting

    def _begin(self) -> None:
        try:
            self.state = StateDir(to_bytes(self.order["state_dir"]))
            self.state.claim(self.token, self._handle())
        except OSError as error:
            raise CannotStart(f"attempt.json: {error.strerror}") from error
        self.log = self._open_log()
        output = self._open_mask() or self.log
        self._read_signals()
        if self.cancelled:
            return
        self.kills_before = self.killer.count()
        self.started = time.time()
        self.began = time.monotonic()
        with self._in_workdir():
            self.main = self._spawn(output)
        if output != self.log:
            os.close(output)
        else:
            os.close(self.log)
            self.log = -1

    @contextlib.contextmanager
    def _in_workdir(self) -> Iterator[None]:
        """What is started within starts there. The folder need not be there any longer."""
        cwd = to_bytes(self.order["cwd"])
        if cwd == b".":
            yield
            return
        # There is no way back for a job that is forked from here.
        here = -1 if self.forge else os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                os.chdir(cwd)
            except OSError as error:
                raise CannotStart(f"its workdir {os.fsdecode(cwd)}: {error.strerror}") from error
            try:
                yield
            finally:
                if here >= 0:
                    os.fchdir(here)
        finally:
            if here >= 0:
                os.close(here)

    def _handle(self) -> dict[str, Any]:
        return {
            "token": self.token,
            "job": self.order["job"],
            "run_id": self.order["run_id"],
            "number": self.order["number"],
            "log": os.fsdecode(to_bytes(self.order["log"])),
            "executor": "local",
            "pid": os.getpid(),
            "start_ticks": _start_of(os.getpid()),
            "boot_id": self.boot,
            "host": self.host,
        }

    def _open_log(self) -> int:
        path = to_bytes(self.order["log"])
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
        secrets = [to_bytes(text) for text in self.order["mask"]]
        secrets = [one for one in secrets if len(one.decode("utf-8", "replace")) >= SHORTEST_MASKED]
        if not secrets:
            return 0
        self.masker = Masker(secrets)
        self.pipe, output = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.pipe, False)
        return output

    def _spawn(self, output: int) -> int:
        env = dict(self.base)
        for name in self.order["without"]:
            env.pop(to_bytes(name), None)
        for name, value in self.order["env"].items():
            env[to_bytes(name)] = to_bytes(value)
        for fd in self.descriptors:
            os.set_inheritable(fd, True)
        if (direct := self.order["direct"]) is not None:
            # Whatever is in the way is for the shell to meet, which has its words for it.
            with contextlib.suppress(OSError, CannotStart):
                copies = open_all(direct[1])
                try:
                    # A shell would say so; the rest of what it sets is about itself.
                    there = {**env, b"PWD": os.getcwdb()}
                    return self._start(direct[0], there, output, copies)
                finally:
                    close_all(copies)  # raises nothing, or what has started would start again
        return self._start(self.order["argv"], env, output, ())

    def _start(
        self,
        words: Sequence[str],
        env: dict[bytes, bytes],
        output: int,
        copies: Sequence[tuple[int, int]],
    ) -> int:
        argv = [to_bytes(word) for word in words]
        program = find_program(argv[0], env.get(b"PATH", os.fsencode(os.defpath)))
        if self.forge is not None:
            self.cold = self.forge.why_cold(env)
        try:
            with self.cores.allowed():
                if self.forge is not None and not self.cold:
                    return self.forge.start(program, argv, env, output, self.descriptors)
                return spawn(program, argv, env, output, copies)
        except OSError as error:
            raise CannotStart(why_not(program, error)) from error

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
                if status:
                    self._count_kills()

    def _count_kills(self) -> None:
        """The kernel counts before it kills, so at the end of a victim its count is there."""
        now = self.killer.count()
        if now is not None and self.kills_before is not None:
            self.kills = max(0, now - self.kills_before)
            self.kills_scope = self.killer.scope

    def _wait(self, seconds: float | None) -> None:
        poller = select.poll()
        poller.register(self.wakeup, select.POLLIN)
        if self.pipe >= 0:
            poller.register(self.pipe, select.POLLIN)
        seconds = _LONGEST_WAIT if seconds is None else min(seconds, _LONGEST_WAIT)
        poller.poll(seconds * 1000 + 1)
        self._read_signals()
        self._relay(_CHUNKS_AT_ONCE)

    def _read_signals(self) -> None:
        for number in drain(self.wakeup):
            if number not in STOPPERS:
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
        """SIGTERM to everybody there is now; what they start to tidy up is let be until the end.

        Parents first: a shell that heard of its child's end before its own would, under `set -e`,
        take it for a failure and leave without its trap.
        """
        tree = dict.fromkeys(descendants(os.getpid()) + descendants(os.getpid()))
        for pid in tree:
            send_signal(pid, signal.SIGTERM)
        for pid in tree:
            send_signal(pid, signal.SIGCONT)
        self.kill_at = time.monotonic() + max(0.0, self.order["grace"])

    def _kill(self) -> bool:
        """SIGKILL to everybody; True: look again soon. False: the rest is beyond our rights."""
        session = os.getsid(0)
        tree = descendants(os.getpid())
        for group in {group_outside(pid, session) for pid in tree} - {0}:
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
            write_all(self.log, data)
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
            "oom_kills": self.kills,
            "oom_scope": self.kills_scope,
            "cold": self.cold,
            "cpu": round(_cpu_of_children() - self.cpu_before, 2),
        }

    def _record_end(self, report: bytes) -> None:
        # A full disk, a deleted folder: whoever listens is told all the same.
        with contextlib.suppress(OSError):
            if self.state is not None:
                self.state.end(report)
                self.recorded = True


@cache
def _start_of(pid: int) -> int:
    """Of this process, which has that pid; one that is forked from it has another."""
    return start_ticks_in(slurp(f"/proc/{pid}/stat"))


def _cpu_of_children() -> float:
    """Seconds of all that this process has waited for, in any of its attempts."""
    return sum(os.times()[2:4])
