"""Jobs as processes of this machine, each under a supervisor of its own (supervision.py).

Starts the server that forks the supervisors, hands it attempts, and hears of their ends; for warm
attempts a second one, which gets them once it is ready, and for which the first one stands in.
When a server is gone, or the attempts are those of a lost run, their supervisors are watched one by
one: by descriptors of their processes, and what they record at the end. Never knows what a job
is for.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Collection, Sequence

from oumi_flow.dataclass import replace
from oumi_flow.executors.base import (
    Attempt,
    Exit,
    Handle,
    Rejected,
    Submitted,
    Unknown,
    Warmth,
)
from oumi_flow.executors.handles import (
    Watched,
    is_alive,
    living,
    open_attempt,
    read_exit,
    refuse_living_elsewhere,
    settled,
)
from oumi_flow.executors.leftovers import stop_bereft, stop_leftovers
from oumi_flow.executors.orders import base_of, order_of
from oumi_flow.executors.processes import boot_id, send_signal
from oumi_flow.executors.server_process import NoSocketError, ServerProcess
from oumi_flow.executors.wire import FREE, decoded
from oumi_flow.model import EMPTY
from oumi_flow.sockets import MAX_DESCRIPTORS, packets

_LOOK_AGAIN = 0.2  # seconds between looks at processes that no descriptor stands for


class LocalExecutor:
    """See base.Executor. Starts nothing before `prepare`, or the first `submit`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._server: ServerProcess | None = None
        self._warm: ServerProcess | None = None  # one a run; not started again when it is gone
        self._cold = ""  # why there is none, once there is none
        self._own: dict[str, tuple[Handle, ServerProcess]] = {}  # submitted here, no end known
        self._adopted: dict[str, Watched] = {}  # watched by their supervisor's process
        self._ended: dict[str, Exit] = {}  # not told yet
        self._asked: dict[str, int] = {}  # token -> strongest signal sent
        self._poller = select.poll()
        self._reports, self._report_end = packets()
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

    def prepare(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # the first attempt will say what is wrong
            if self._server is None:
                self._server = self._start()

    def prewarm(self, warmth: Warmth) -> None:
        with self._lock:
            if self._warm is not None or self._cold:
                return
            try:
                self._warm = self._start(warmth)
                self._warm.speak_from({})
            except OSError as error:
                self._cold = f"{warmth.python} does not start: {error.strerror}"

    def _start(self, warmth: Warmth | None = None) -> ServerProcess:
        server = ServerProcess(self._report_end, warmth)
        self._poller.register(server.orders, select.POLLHUP)
        return server

    def _submit(self, attempt: Attempt) -> Submitted:
        if len(attempt.descriptors) >= MAX_DESCRIPTORS:  # one goes with them
            return Rejected(attempt.token, "could not start: too many GPU tokens at once")
        try:
            server = self._server_of(attempt)
            order = order_of(attempt, server.base or EMPTY)
        except (UnicodeError, ValueError) as error:
            return Rejected(attempt.token, f"could not start: {error}")
        except OSError as error:
            return Rejected(attempt.token, f"could not start its supervisor: {error.strerror}")
        if attempt.warmth is not None and server is not self._warm:
            order = order_of(replace(attempt, cold=self._cold), server.base or EMPTY)
        handle = Handle(
            token=attempt.token,
            job=attempt.job,
            state_dir=attempt.state_dir,
            log=attempt.log,
            run_id=attempt.run_id,
            number=attempt.number,
        )
        self._own[attempt.token] = handle, server
        if not server.ready:
            server.held[attempt.token] = attempt
            return handle
        try:
            server.start(attempt.token, order, attempt.descriptors)
        except NoSocketError as error:
            del self._own[attempt.token]
            return Rejected(attempt.token, f"could not start its supervisor: {error}")
        except OSError as error:
            self._drop_server(server)  # settles what has become of it, like all others
            return Unknown(attempt.token, f"its supervisor's server is gone ({error})")
        return handle

    def _server_of(self, attempt: Attempt) -> ServerProcess:
        """One that lives; started if need be. Raises OSError."""
        if attempt.warmth is not None:
            self.prewarm(attempt.warmth)
            self._drop_if_gone(self._warm)
            if self._warm is not None:
                return self._warm
        self._drop_if_gone(self._server)
        if self._server is None:
            self._server = self._start()
        if self._server.base is None:
            self._server.speak_from(base_of(attempt))
        return self._server

    def _warmed(self, problem: str) -> None:
        """The warm server takes orders from now on, or says why it never will."""
        server = self._warm
        if server is None:
            return
        if problem:
            self._cold = problem
            self._drop_server(server)
            return
        server.ready = True
        self._release(server)

    def _release(self, server: ServerProcess) -> None:
        """Submit what was held back: to that server, or to the one that stands in for it."""
        held, server.held = server.held, {}
        for token, attempt in held.items():
            del self._own[token]
            answer = self._submit(attempt)
            if isinstance(answer, Rejected):
                self._end(Exit(token, error=answer.message, finished=time.time()))

    def _drop_if_gone(self, server: ServerProcess | None) -> None:
        """Go on without it, once all that it has said is heard."""
        if server is None or not server.is_gone():
            return
        self._read_reports()  # perhaps why; and that may have dropped it
        if server in (self._server, self._warm):
            self._drop_server(server)

    def _drop_server(self, server: ServerProcess) -> None:
        """It died under us: its supervisors live on, each watched by itself now."""
        self._poller.unregister(server.orders)
        server.close()
        if server is self._warm:
            self._warm = None
            self._cold = self._cold or "the process to fork it from was killed"
        else:
            self._server = None
        for token, (handle, its) in list(self._own.items()):
            # What one of the others has just reported is of no concern any more.
            if its is not server or token in server.held or token not in self._own:
                continue
            del self._own[token]
            self._read_reports()
            if token not in self._ended:
                self._adopt(settled(handle))
        self._release(server)

    # watching

    def poll(
        self, handles: Sequence[Handle], deadline: float | None = None
    ) -> tuple[dict[str, Exit], bool]:
        with self._lock:
            for handle in handles:
                if handle.token not in self._own and handle.token not in self._ended:
                    self._adopt(handle)
            if self._adopted:
                self._collect(())
            self._polling = True
        try:
            woken = late = False
            while True:
                with self._lock:
                    tokens = [one.token for one in handles if one.token in self._ended]
                    ended = {token: self._ended.pop(token) for token in tokens}
                    wait = self._patience(deadline)
                if ended or woken or late:
                    return ended, True
                late = deadline is not None and time.monotonic() >= deadline
                patience = None if wait is None else wait * 1000 + 1
                ready = {fd for fd, _ in self._poller.poll(0 if late else patience)}
                woken = self._woken in ready and self._swallow_wakes()
                with self._lock:
                    self._collect(ready)
        finally:
            self._polling = False

    def _patience(self, deadline: float | None) -> float | None:
        """Seconds to wait for descriptors before another look is due."""
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if any(watched.pidfd < 0 for watched in self._adopted.values()):
            wait = _LOOK_AGAIN if wait is None else min(wait, _LOOK_AGAIN)
        return wait if wait is None else min(wait, 86400.0)

    def _collect(self, ready: Collection[int]) -> None:
        """Move whatever has ended to `_ended`; `ready` are the descriptors that say something."""
        if self._reports.fileno() in ready:
            self._read_reports()
        for server in (self._server, self._warm):
            # The number may be of one that is gone, and have been given to a new one.
            if server is not None and server.orders.fileno() in ready:
                self._drop_if_gone(server)
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
            stays = packet.startswith(FREE)
            report = decoded(packet[stays:])
            if "warm" in report:
                self._warmed(report["warm"])
                continue
            token: str = (
                self._token_of_gone(report["gone"]) if "gone" in report else report["token"]
            )
            watched = self._unwatch(token)  # if its server has died meanwhile
            own = self._own.pop(token, None)
            if own is not None:
                own[1].company.ended(token, stays)
            handle = own[0] if own else watched.handle if watched else None
            if handle is None:
                continue
            if "gone" in report:
                self._end_silently(handle)
            else:
                self._end(Exit.from_json(report))

    def _token_of_gone(self, name: str) -> str:
        """The attempt that a supervisor was looking after when it died, or ""."""
        servers = (self._server, self._warm)
        return "".join(one.company.gone(name) for one in servers if one is not None)

    def _end(self, exit: Exit) -> None:
        self._asked.pop(exit.token, None)
        self._ended[exit.token] = exit

    def _end_silently(self, handle: Handle) -> None:
        """Its supervisor is gone; what it left on disk says how, or nobody knows."""
        found = read_exit(handle.state_dir, handle.token)
        if found is None:
            stop_leftovers([handle if handle.pid else settled(handle)], grace=0.0)
            found = Exit(handle.token, lost=True, finished=time.time())
        self._end(found)

    def _adopt(self, handle: Handle) -> None:
        if handle.token in self._adopted:
            return
        watched = Watched(handle)
        self._adopted[handle.token] = watched
        if watched.pidfd >= 0:
            self._poller.register(watched.pidfd, select.POLLIN)

    def _unwatch(self, token: str) -> Watched | None:
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
        if handle.token in self._own:
            server = self._own[handle.token][1]
            if server.held.pop(handle.token, None) is not None:
                del self._own[handle.token]
                self._end(Exit(handle.token, cancelled=True, finished=time.time()))
                return
            try:
                server.cancel(handle.token, number == signal.SIGUSR1)
                return
            except OSError:
                self._drop_server(server)
        if handle.token in self._ended:
            return
        self._adopt(handle)
        watched = self._adopted[handle.token]
        if not watched.has_ended():
            send_signal(watched.handle.pid, number)

    # what earlier runs left

    def find(self, state_dirs: Sequence[str], grace: float = 5.0) -> list[Handle]:
        """As base.Executor. Also stops what is left of jobs whose supervisor was killed.

        Those get SIGTERM, and SIGKILL after `grace` seconds; it blocks as long. They are not in
        the result: an attempt without an end whose supervisor is gone was interrupted. Raises
        Locked, and stops nothing, where one lives on another host: nobody here can see to it.
        """
        alive: list[Handle] = []
        headless: list[Handle] = []
        for state_dir in state_dirs:
            handle = open_attempt(state_dir)
            if handle is None:
                continue
            if read_exit(state_dir, handle.token) is not None:
                continue  # its supervisor may live on, and look after another one
            if is_alive(handle):
                alive.append(handle)
            # Once more, as it may have ended between these two looks.
            elif read_exit(state_dir, handle.token) is None:
                refuse_living_elsewhere(handle)
                if handle.boot_id == boot_id():
                    headless.append(handle)
        stop_leftovers(headless, grace)
        return alive

    def living(self, folder: str) -> list[Handle]:
        return living(folder)

    def stop_unrecorded(self, folder: str) -> int:
        return stop_bereft(folder)

    def log(self, handle: Handle) -> str:
        return handle.log

    def close(self) -> None:
        """Ends the servers. Supervisors and their jobs live on. Calling it again is harmless."""
        with self._lock:
            for server in (self._server, self._warm):
                if server is not None:
                    self._poller.unregister(server.orders)
                    server.close()
            self._server = self._warm = None
            for watched in self._adopted.values():
                watched.close()
            self._adopted.clear()
            if self._waker >= 0:
                os.close(self._woken)
                os.close(self._waker)
                self._woken = self._waker = -1
            self._reports.close()
            self._report_end.close()
