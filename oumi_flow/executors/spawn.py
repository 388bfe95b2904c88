"""From a command to a running process, or to the words that say why there is none."""

from __future__ import annotations

import errno
import os
import signal

from oumi_flow.executors.files import read_all

DEFAULTS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class CannotStart(Exception):
    """In words for the user, without "could not start: "."""


def find_program(name: bytes, path: bytes) -> bytes:
    """As execvp(3) finds it. Raises CannotStart."""
    if b"/" in name:
        return name
    for folder in path.split(b":"):
        candidate = os.path.join(folder or b".", name)
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    raise CannotStart(f"there is no program {os.fsdecode(name)!r} on its PATH")


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
            setsigdef=DEFAULTS,
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
            for number in DEFAULTS:
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
    problem = read_all(failed)
    os.close(failed)
    if problem:
        os.waitpid(pid, 0)
        raise OSError(int(problem), os.strerror(int(problem)))
    return pid
