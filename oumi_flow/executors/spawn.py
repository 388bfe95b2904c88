"""From a command to a running process, or to the words that say why there is none."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from collections.abc import Sequence
from functools import cache

from oumi_flow.executors.files import read_all

TYPE_CHECKING = False  # an import that is an eighth of the server's start
if TYPE_CHECKING:
    from typing import Any

DEFAULTS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class CannotStart(Exception):
    """In words for the user, without "could not start: "."""


def find_program(name: bytes, path: bytes) -> bytes:
    """As execvp(3) finds it. Raises CannotStart."""
    if b"/" in name:
        return name
    for folder in path.split(b":"):
        candidate = (folder or b".") + b"/" + name
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    raise CannotStart(f"there is no program {os.fsdecode(name)!r} on its PATH")


_OPEN = {
    "<": os.O_RDONLY,
    ">": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    ">>": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}


def open_all(redirects: Sequence[Any]) -> list[tuple[int, int]]:
    """Open what a command's input and output go to: for each our descriptor and its own.

    Raises OSError for what cannot be opened at once or is no plain file; nothing is open then.
    """
    copies: list[tuple[int, int]] = []
    try:
        for target, how, path in redirects:
            if how == "&":
                copies.append((int(path), target))
                continue
            name = path.encode("latin-1")
            # Before it is opened: who waits at the other end of a pipe would take us for the job.
            with contextlib.suppress(FileNotFoundError):
                _ask_plain(path, os.stat(name))
            fd = os.open(name, _OPEN[how] | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
            copies.append((fd, target))
            _ask_plain(path, os.fstat(fd))
            os.set_blocking(fd, True)
    except OSError:
        close_all(copies)
        raise
    return copies


def _ask_plain(path: str, seen: os.stat_result) -> None:
    """Raises OSError for pipes and the like, and for files of /proc: they are of who opens them."""
    if path != os.devnull and (not stat.S_ISREG(seen.st_mode) or seen.st_dev == _proc()):
        raise OSError(errno.EINVAL, "not a plain file")


@cache
def _proc() -> int:
    """The device that /proc is."""
    return os.stat("/proc/self").st_dev


def close_all(copies: Sequence[tuple[int, int]]) -> None:
    """Close ours of what `open_all` opened. Nothing was written through them: never raises."""
    for fd, _ in copies:
        if fd > 2:
            with contextlib.suppress(OSError):
                os.close(fd)


def why_not(program: bytes, error: OSError) -> str:
    """In words, what `spawn` met."""
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


def spawn(
    program: bytes,
    argv: list[bytes],
    env: dict[bytes, bytes],
    output: int,
    copies: Sequence[tuple[int, int]] = (),
) -> int:
    """Start a process in a session of its own, all signals at their defaults. Raises OSError.

    Its output and errors go to `output`; then each of `copies` makes one of our descriptors, or
    one of its own, another one of its own.
    """
    try:
        return os.posix_spawn(
            program,
            argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
                *((os.POSIX_SPAWN_DUP2, source, target) for source, target in copies),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULTS,
        )
    except NotImplementedError:  # a Python built for a C library without POSIX_SPAWN_SETSID
        return _fork_exec(program, argv, env, output, copies)


def _fork_exec(
    program: bytes,
    argv: list[bytes],
    env: dict[bytes, bytes],
    output: int,
    copies: Sequence[tuple[int, int]],
) -> int:
    failed, failing = os.pipe2(os.O_CLOEXEC)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for number in DEFAULTS:
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            for source, target in copies:
                os.dup2(source, target)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(program, argv, env)
        except OSError as error:
            os.write(failing, str(error.errno).encode())
        finally:
            os._exit(127)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.close(failing)
    problem = read_all(failed)
    os.close(failed)
    if problem:
        os.waitpid(pid, 0)
        raise OSError(int(problem), os.strerror(int(problem)))
    return pid
