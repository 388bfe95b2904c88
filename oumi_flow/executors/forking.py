"""A job as a fork of a process that has imported its modules, made to be as if started afresh.

Session, signals, streams, environment, argv, random states, limits, exit code and traceback are
those that the program would have had. Where the imports read something of the environment that a
job has otherwise, a fork would not be the same, and `Forge.why_cold` says so. Standard library
and siblings only, on any Python from 3.10.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType

from oumi_flow.executors.base import TOKEN_VARIABLE
from oumi_flow.executors.files import slurp
from oumi_flow.executors.hearing import CAUGHT
from oumi_flow.executors.shown import show_variable
from oumi_flow.executors.wire import ORDERS, REPORTS
from oumi_flow.typed import Any

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_WRITERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
_PR_SET_NAME = 15  # <linux/prctl.h>
# Read by the interpreter, the loader and C libraries as they start, past `os.environ`; the last one
# by whoever goes through the whole of it.
_EARLY = (
    *("PYTHON", "LD_", "LC_", "LANG", "GLIBC_", "MALLOC_", "MIMALLOC_", "ARROW_", "TBB_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "NUMEXPR_"),
    *("ATEN_", "C10_", "TORCH_", "PYTORCH_", "DNNL_", "ONEDNN_", "RAYON_", "RUST_", "TQDM_"),
)
_USER_MODULES = "OUMI_EXTRA_DEPS_FILE"
# Of our own making, one for each job; no import can have made anything of them.
_OF_THE_JOB = frozenset({TOKEN_VARIABLE, "MASTER_PORT", _VISIBLE})


class Forge:
    """What a process was before and after its imports, and jobs forked from it."""

    def __init__(self, given: Mapping[str, str], read: Iterable[str]) -> None:
        """`given`: the environment before the imports; `read`: the names they looked up."""
        self._given, self._cwd = given, os.getcwd()
        names = given.keys() | os.environ.keys()
        self._made = {
            name: os.environ.get(name) for name in names if given.get(name) != os.environ.get(name)
        }
        self._read = {*read, *self._made} - _OF_THE_JOB
        if _registry() is not None:
            self._read.discard(_USER_MODULES)  # see _await_user_modules
        self._signals: dict[int, Any] = {number: signal.getsignal(number) for number in CAUGHT}
        self._open = _open_descriptors() - {ORDERS, REPORTS}

    def why_cold(self, env: Mapping[bytes, bytes]) -> str:
        """What of a job's environment and folder a fork would not heed; "" when nothing is.

        The supervisor that asks is in the job's folder.
        """
        if os.getcwd() != self._cwd:
            return "its workdir is not the one in which its modules were imported"
        wanted = {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()}
        if bool(self._given.get(_VISIBLE)) != bool(wanted.get(_VISIBLE)):
            return "one with GPUs and one without are not forked from the same process"
        differ = [
            name
            for name in sorted(self._given.keys() | wanted.keys())
            if self._given.get(name) != wanted.get(name)
            and (name in self._read or name.startswith(_EARLY))
        ]
        if not differ:
            return ""
        return f"{', '.join(differ)}: read while importing, and this job has it otherwise"

    def start(
        self,
        program: bytes,
        argv: list[bytes],
        env: Mapping[bytes, bytes],
        output: int,
        descriptors: Sequence[int],
    ) -> int:
        """The pid of a child that runs a Python program; in the child it raises `Reborn`."""
        wanted = dict(env)
        for name, value in self._made.items():
            if value is None:
                wanted.pop(os.fsencode(name), None)
            else:
                wanted[os.fsencode(name)] = os.fsencode(value)
        reborn = Reborn(
            os.fsdecode(program),
            slurp(os.fsdecode(program)),
            [os.fsdecode(word) for word in argv],
            wanted,
            output,
            {0, 1, 2, *self._open, *descriptors},
            self._signals,
            resource.getrlimit(resource.RLIMIT_CORE),
        )
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if not pid:
            raise reborn
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return pid


class Reborn(BaseException):
    """Raised in the child, to leave everything that the server and its supervisor were doing."""

    def __init__(
        self,
        program: str,
        source: bytes,
        argv: list[str],
        env: Mapping[bytes, bytes],
        output: int,
        keep: set[int],
        signals: Mapping[int, Any],
        cores: tuple[int, int],
    ) -> None:
        super().__init__()
        self.program, self.source, self.argv, self.env = program, source, argv, env
        self.output, self.keep, self.signals, self.cores = output, keep, signals, cores

    def run(self, prctl: Callable[..., Any]) -> None:
        """Be the job, to its last line; what it raises goes on as if it were alone here."""
        self.__traceback__ = None
        os.setsid()
        prctl(_PR_SET_NAME, os.path.basename(os.fsencode(self.program))[:15], 0, 0, 0)
        self._take_streams()
        self._take_environment()
        signal.set_wakeup_fd(-1)
        for number, handler in self.signals.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        resource.setrlimit(resource.RLIMIT_CORE, self.cores)
        _seed_anew()
        _replace_temporary_folders()
        _await_user_modules()
        gc.enable()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _run_program(self.program, self.source, self.argv)

    def _take_streams(self) -> None:
        # Not new objects: what was imported may hold those that are there.
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (self.output, 1), (self.output, 2)):
            os.dup2(source, target)
        for fd in _open_descriptors() - self.keep:
            os.close(fd)

    def _take_environment(self) -> None:
        for name in set(os.environb) - set(self.env):
            del os.environb[name]
        for name, value in self.env.items():
            if os.environb.get(name) != value:
                os.environb[name] = value
        time.tzset()
        # By it a job without supervisor is found; the server was started with one as long.
        show_variable(TOKEN_VARIABLE.encode(), self.env.get(TOKEN_VARIABLE.encode(), b""))


def _open_descriptors() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one by which we look
            os.fstat(int(name))
            found.add(int(name))
    return found


def _seed_anew() -> None:
    """Siblings would draw alike. Python's own generator seeds itself after a fork."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()  # that of the CPU, which alone starts anywhere


def _registry() -> Any:
    """Of oumi's parts, which loads the user's modules when it is first asked; None elsewhere."""
    module = sys.modules.get("oumi.core.registry.registry")
    registry = getattr(module, "REGISTRY", None)
    return registry if hasattr(registry, "_initialized") else None


def _await_user_modules() -> None:
    """It was asked by the imports already. At the next question it loads those of this job."""
    registry = _registry()
    if registry is not None and os.environ.get(_USER_MODULES):
        registry._initialized = False


def _replace_temporary_folders() -> None:
    """Made by imports, they are the server's, which removes them; a job has some of its own."""
    registry: Any = weakref.finalize
    for finalizer in list(registry._registry):
        found = finalizer.peek()
        folder: Any = found and found[0]
        if isinstance(folder, tempfile.TemporaryDirectory):
            finalizer.detach()
            suffix = os.path.basename(folder.name)[len(tempfile.template) + 8 :]
            type(folder).__init__(folder, suffix=suffix)


def _run_program(program: str, source: bytes, argv: list[str]) -> None:
    """As the interpreter runs a script. Its tracebacks begin in the script."""
    main = ModuleType("__main__")
    main.__file__ = program
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    sys.argv = argv
    sys.orig_argv = [sys.executable, *argv]
    status = 0
    try:
        exec(compile(source, program, "exec"), main.__dict__)
    except SystemExit as asked:
        if asked.code is not None and not isinstance(asked.code, int):
            os.write(2, f"{asked.code}\n".encode(errors="backslashreplace"))
        status = asked.code & 0xFF if isinstance(asked.code, int) else int(asked.code is not None)
    except BaseException as fault:  # noqa: BLE001 - told, as the interpreter would
        trace = fault.__traceback__
        fault.__traceback__ = trace and trace.tb_next
        sys.excepthook(type(fault), fault, fault.__traceback__)
        status = -signal.SIGINT if isinstance(fault, KeyboardInterrupt) else 1
    _end(status)


def _end(status: int) -> None:
    """As the interpreter ends, but for taking apart what was imported: that is 0.8 s of CPU."""
    shutdown: Any = threading
    shutdown._shutdown()  # waits for threads
    atexit._run_exitfuncs()
    # Frozen objects, those of the imports, are not among these.
    files = [one for one in gc.get_objects() if issubclass(type(one), _WRITERS)]
    for one in [*files, sys.stdout, sys.stderr]:
        with contextlib.suppress(OSError, ValueError):  # closed, or the disk is full
            one.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
