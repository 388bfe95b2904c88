"""A server of local jobs that has imported what they need: it forks a job instead of starting one.

The same server and the same supervisors as in supervise.py, run by the Python of the user's oumi.
Before it takes orders it imports the modules it was told to and notes what they read of the
environment on the way; a job whose environment differs in that starts as a program, with words
that say why. Refuses to serve where a fork would not be safe: a GPU in use, a Python thread at
work. Standard library and siblings only, on any Python from 3.10.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

from oumi_flow.executors.forking import Forge, Reborn
from oumi_flow.executors.supervise import serve, settle_in
from oumi_flow.executors.wire import ORDERS, REPORTS
from oumi_flow.sockets import socket
from oumi_flow.typed import Any


def main(modules: Sequence[str], cwd: str) -> None:
    """The server; in a child that it forked, a job from its first line to its last.

    The modules are imported in `cwd`. It serves from where it was: paths in orders start there.
    """
    # Nobody else may import us, nor we anything from where we come from.
    for name in [name for name in sys.modules if name.partition(".")[0] == "oumi_flow"]:
        del sys.modules[name]
    prctl = settle_in()
    base = os.getcwd()
    with _ended_by_hangup():
        with contextlib.suppress(OSError):  # no job can go there either, and each says so
            os.chdir(cwd)
        forge, problem = _import_ahead(modules)
    os.chdir(base)
    _tell(problem)
    reborn = None
    if not problem:
        try:
            serve(prctl, forge)
        except Reborn as job:
            reborn = job
    if reborn is not None:  # outside of any `except`: what the job raises has no such context
        reborn.run(prctl)
        return
    atexit._run_exitfuncs()
    os._exit(0)


def _import_ahead(modules: Sequence[str]) -> tuple[Forge, str]:
    """What to fork jobs by, and what speaks against it."""
    given = dict(os.environ)
    problem = ""
    top = modules[0].partition(".")[0]
    with _noting_reads() as names, _functions_kept(top):
        for module in (top, *modules):
            try:
                __import__(module)
            except ModuleNotFoundError as missing:
                its_own = f"{module}.".startswith(f"{missing.name}.")
                if not its_own or module in (top, modules[0]):
                    problem = f"cannot import {module}: {missing}"
            except BaseException as fault:  # noqa: BLE001 - an import may raise or exit as it likes
                problem = f"cannot import {module}: {type(fault).__name__}: {fault}"
            if problem:
                break
    return Forge(given, names), problem or _unsafe()


@contextlib.contextmanager
def _noting_reads() -> Iterator[set[str]]:
    """The names that are looked up in `os.environ` meanwhile, or set."""
    names: set[str] = set()
    environ: Any = os.environ
    encode = environ.encodekey

    def noting(name: str) -> Any:
        # Who goes through all of them (as tqdm does) looks for a family: see forking.py.
        goes_through = sys._getframe(2).f_code.co_name in ("__iter__", "copy")
        if isinstance(name, str) and not goes_through:  # some ask for bytes first, in vain
            names.add(name)
        return encode(name)

    environ.encodekey = noting
    try:
        yield names
    finally:
        environ.encodekey = encode


class _CalledModule(ModuleType):
    """In the place of a function, which it still is."""

    instead: Callable[..., Any]

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.instead(*args, **named)


@contextlib.contextmanager
def _functions_kept(name: str) -> Iterator[None]:
    """Those of a package that an import puts a module of the same name over stay callable.

    `oumi.quantize` is a function until the module `oumi.quantize` is imported, which a started
    oumi does later than it takes hold of the function.
    """
    before: dict[str, Any] = {}
    with contextlib.suppress(ImportError):
        before = dict(vars(__import__(name)))
    yield
    for word, function in before.items():
        module = sys.modules.get(f"{name}.{word}")
        if callable(function) and module is not None and type(module) is ModuleType:
            module.__class__ = _CalledModule
            vars(module)["instead"] = function


def _unsafe() -> str:
    """Why no child of this process could be a job as good as any; "" when nothing is known."""
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith("/dev/nvidia"):
                return "importing it opens a GPU, which no fork can use"
    # Threads of C libraries are idle pools, which their libraries give up before a fork.
    names = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
    return f"importing it leaves threads at work: {', '.join(names)}" if names else ""


@contextlib.contextmanager
def _ended_by_hangup() -> Iterator[None]:
    """While we import, the kernel ends us with our runner: by SIGIO, as that sends no order yet."""
    flags = fcntl.fcntl(ORDERS, fcntl.F_GETFL)
    fcntl.fcntl(ORDERS, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(ORDERS, fcntl.F_SETFL, flags | os.O_ASYNC)
    poller = select.poll()
    poller.register(ORDERS, select.POLLIN)
    if poller.poll(0):  # it was gone before
        os._exit(0)
    try:
        yield
    finally:
        fcntl.fcntl(ORDERS, fcntl.F_SETFL, flags)


def _tell(problem: str) -> None:
    """That orders may come, or why none should."""
    reports = socket(fileno=os.dup(REPORTS))
    with contextlib.suppress(OSError), contextlib.closing(reports):
        reports.send(json.dumps({"warm": problem}).encode())
