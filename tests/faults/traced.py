"""The command with one of its threads or processes under strace. A program, not a test.

    python traced.py ROLE LOG INJECT WORDS...

ROLE is the thread `main`, `worker_0` (there is but one here), `pilot` …, or `server` (the process
that forks supervisors), or `supervisors` (the server with all it forks, up to the start of a job),
or `all` to record each in `LOG.ROLE`. INJECT is what strace does to it, as
`rename:signal=KILL:when=3`, or `-` for nothing.

strace counts `when` for each call and for each tracee, and a thread is a tracee: under `strace -f`
of the whole command the n-th call of a worker would hide behind the n-th of the main thread. So
one thread is attached to before it has done anything, and its calls alone are counted.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from typing import Any

from oumi_flow.runner.crew import Crew

# All that changes what others can see: files, locks, processes, messages.
CALLS = (
    "openat,write,pwrite64,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,"
    "linkat,symlink,symlinkat,ftruncate,fsync,fdatasync,flock,fcntl,fchmod,fchmodat,chmod,"
    "utimensat,copy_file_range,sendfile,fork,vfork,clone,clone3,execve,sendmsg,sendto,kill,"
    "pidfd_send_signal,setsid,exit_group"
)
_PR_SET_PTRACER, _ANYBODY = 0x59616D61, -1  # <linux/prctl.h>: where only parents may trace
_WAIT = """
def is_alone():
    with open("/proc/self/status") as file:
        return "TracerPid:\\t0\\n" in file.read()
import time
while is_alone():
    time.sleep(0.001)
"""

# What the server opens to get going would be counted before what its supervisors do.
_AT_FIRST_FORK = """
import os
def fork(fork=os.fork, words={words!r}, wait={wait!r}):
    os.fork = fork
    os.posix_spawnp("strace", [*words, str(os.getpid())], os.environ, setsigmask=())
    exec(wait, {{}})
    return fork()
os.fork = fork
"""


def main() -> int:
    role, log, inject, *words = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
    tracer = Tracer(role, log, inject)
    tracer.watch_threads()
    tracer.watch_server()
    use_one_worker()
    from oumi_flow.cli import main as command

    sys.argv[1:] = words
    tracer.attach("main", threading.get_native_id())
    return command()


class Tracer:
    def __init__(self, role: str, log: str, inject: str) -> None:
        self.role, self.log, self.inject = role, log, inject

    def wants(self, role: str) -> bool:
        return self.role in (role, "all")

    def strace(self, role: str) -> list[str]:
        words = ["strace", "-qq", "-y", "-s", "0", "-o", f"{self.log}.{role}"]
        words += ["-e", f"trace={CALLS}", "-e", "signal=none"]
        if self.inject != "-":
            words += ["-e", f"inject={self.inject}"]
        return words

    def attach(self, role: str, tid: int) -> None:
        """Returns once that thread is traced."""
        if not self.wants(role):
            return
        words = [*self.strace(role), "-p", str(tid)]
        strace = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
        while not _is_traced(tid):
            if strace.poll() is not None:
                raise SystemExit("strace cannot attach")
            time.sleep(0.001)
        strace.returncode = 0  # it ends with what it traces; nobody waits for it

    def watch_threads(self) -> None:
        run = threading.Thread.run

        def traced(thread: threading.Thread) -> None:
            self.attach(thread.name, threading.get_native_id())
            run(thread)

        threading.Thread.run = traced  # type: ignore[method-assign, assignment]

    def watch_server(self) -> None:
        """The first is a fork of ours; one after it, once there are threads, is started."""
        spawn, fork = os.posix_spawn, os.fork

        def spawned(path: Any, argv: Any, env: Any, **more: Any) -> int:
            if "supervise" not in argv[-1]:
                return spawn(path, argv, env, **more)
            if self.role == "server":
                pid = spawn(path, [*argv[:-1], _WAIT + argv[-1]], env, **more)
                self.attach("server", pid)
                return pid
            if self.wants("supervisors"):
                argv = [*argv[:-1], self.at_first_fork() + argv[-1]]
            return spawn(path, argv, env, **more)

        def forked() -> int:
            pid = fork()
            if pid > 0:
                if self.role == "server":
                    self.attach("server", pid)
                return pid
            os.posix_spawn, os.fork = spawn, fork
            if self.role == "server":
                exec(_WAIT, {})
            elif self.wants("supervisors"):
                exec(self.at_first_fork(), {})
            return pid

        os.posix_spawn, os.fork = spawned, forked

    def at_first_fork(self) -> str:
        words = [*self.strace("supervisors"), "-f", "-b", "execve", "-p"]
        return _AT_FIRST_FORK.format(words=words, wait=_WAIT)


def use_one_worker() -> None:
    """Or each run would share its work out to threads in another way, and count otherwise."""
    begin = Crew.__init__

    def alone(crew: Crew, size: int) -> None:
        begin(crew, 1)

    Crew.__init__ = alone  # type: ignore[method-assign, assignment]


def _is_traced(tid: int) -> bool:
    for place in (f"/proc/self/task/{tid}/status", f"/proc/{tid}/status"):
        try:
            with open(place, encoding="utf-8", errors="replace") as file:
                return "TracerPid:\t0\n" not in file.read()
        except FileNotFoundError:
            continue
    return True  # gone already


if __name__ == "__main__":
    sys.exit(main())
