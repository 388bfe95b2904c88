"""The server of local jobs: a small process of its own, standard library and siblings only.

One single-threaded server process a run forks the supervisors of attempts (supervision.py), as many
as there are at a time, so a job costs neither an interpreter nor, mostly, a fork: whose attempt is
over is handed the next by the runner (company.py). The server takes orders and tells of deaths
(wire.py), and leaves when the orders' socket closes. A supervisor
leads a session of its own and owes nothing to server or runner: killed -9, they leave it at work.

Knows nothing of plans, markers, GPUs. What it imports of oumi_flow is what supervisors are made
of, and that imports the standard library alone: every import is paid for by every run.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Collection

from oumi_flow.executors.cores import Cores
from oumi_flow.executors.hearing import (
    CAUGHT,
    Signalled,
    asked_to_stop,
    drain,
    hear_orders,
    hear_signals,
    noticed,
)
from oumi_flow.executors.memory_killer import MemoryKiller
from oumi_flow.executors.processes import SERVER, SUPERVISOR, boot_id, send_signal
from oumi_flow.executors.supervision import Supervision
from oumi_flow.executors.wire import FREE, ORDERS, REPORTS, decoded, to_bytes
from oumi_flow.identity import host
from oumi_flow.sockets import MSG_DONTWAIT, recv_fds, socket

TYPE_CHECKING = False  # an import that is an eighth of the server's start
if TYPE_CHECKING:
    from typing import Any

    from oumi_flow.executors.supervision import Forge

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36  # <linux/prctl.h>
_MOST_ATTEMPTS = 500  # of one supervisor, so that nothing can pile up in it
_GOODBYE = 1.0  # seconds for the free ones to leave


class Server:
    """Takes orders, forks supervisors, and says which of them died without a word."""

    def __init__(
        self,
        orders: socket,
        reports: socket,
        prctl: Callable[..., Any],
        killer: MemoryKiller,
        forge: Forge | None = None,
    ) -> None:
        self.orders = orders
        self.reports = reports
        self.prctl = prctl
        self.killer = killer
        self.forge = forge
        self.cores = Cores()
        self.boot = boot_id()
        self.host = host()
        for number in CAUGHT:  # none of them ends us: the closed socket does
            signal.signal(number, noticed)
        self.wakeup = hear_signals()
        self.buffer = b""
        self.descriptors: deque[int] = deque()  # come with orders not read to their end yet
        self.pids: dict[str, int] = {}  # of supervisors, by name
        self.names: dict[int, str] = {}
        self.leaving: list[str] = []  # those that are free, at the end
        self.base: dict[bytes, bytes] = {}  # the environment that orders say differences from
        self.unsaid: deque[bytes] = deque()

    def serve(self) -> None:
        """Until the runner has closed its end."""
        poller = select.poll()
        poller.register(self.orders, select.POLLIN)
        poller.register(self.wakeup, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll(100 if self.unsaid else None)}
            if self.wakeup in ready:
                drain(self.wakeup)
                self._reap()
            self._say()
            if self.orders.fileno() in ready and not self._take_orders():
                self._see_off()
                return

    def _take_orders(self) -> bool:
        data, descriptors = recv_fds(self.orders, 1 << 16)
        if not data:
            return False
        self.descriptors += descriptors
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            if not line.startswith(b"{"):
                token, count, start = line.split(b" ", 2)
                come = [self.descriptors.popleft() for _ in range(int(count))]
                self._fork(token.decode(), start, come)
                for fd in come:
                    os.close(fd)
                continue
            order = json.loads(line)
            if "cancel" in order and (pid := self.pids.get(order["cancel"])):
                send_signal(pid, signal.SIGUSR1 if order["now"] else signal.SIGTERM)
            elif "base" in order:
                pairs = order["base"].items()
                self.base = {to_bytes(name): to_bytes(value) for name, value in pairs}
            elif "free" in order:
                self.leaving = order["free"]
        return True

    def _fork(self, token: str, start: bytes, come: list[int]) -> None:
        # Signals wait until the child has its own way of hearing them.
        signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._tell({"token": token, "error": f"could not start: {error.strerror}"})
            return
        if pid == 0:
            self._become_supervisor(start, come)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.pids[token], self.names[pid] = pid, token

    def _become_supervisor(self, start: bytes, come: list[int]) -> None:
        """Returns never. A job that is forked from here leaves by what `Forge.start` raises."""
        status, pid = 1, os.getpid()
        try:
            os.setsid()
            self.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            self.prctl(_PR_SET_NAME, SUPERVISOR, 0, 0, 0)
            self.orders.close()
            for fd in (self.wakeup, *self.descriptors):
                os.close(fd)
            self.wakeup = hear_signals()
            channel, *descriptors = come
            hear = hear_orders(socket(fileno=channel), self.wakeup)
            # Who has forked a job by itself, with all that was imported for it, is not used again.
            for left in reversed(range(1 if self.forge is not None else _MOST_ATTEMPTS)):
                stays = self._look_after(decoded(start), descriptors, left > 0)
                found = hear() if stays else None
                if found is None:
                    status = 0
                    break
                start, descriptors = found
        except Signalled:
            status = 4  # all is not well if an order was on its way
        except OSError:
            status = 3  # nobody listens
        finally:
            if os.getpid() == pid:
                os._exit(status)

    def _look_after(self, order: dict[str, Any], descriptors: list[int], may_stay: bool) -> bool:
        """One attempt from start to end; whether we are free for another. Raises OSError."""
        attempt = Supervision(
            order,
            descriptors,
            self.boot,
            self.host,
            self.killer,
            self.cores,
            self.wakeup,
            self.base,
            self.forge,
        )
        report = attempt.run()
        for fd in descriptors:
            os.close(fd)  # the tree is gone: whoever waits for the token need not wait for us
        stays = may_stay and attempt.is_spotless and not asked_to_stop(self.wakeup)
        self.reports.send(FREE + report if stays else report)
        return stays

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            name = self.names.pop(pid, "")
            self.pids.pop(name, None)
            if name and status:
                self._tell({"gone": name})

    def _see_off(self) -> None:
        """Wait for the free ones, who leave too, as long as that may take."""
        poller = select.poll()
        poller.register(self.wakeup, select.POLLIN)
        until = time.monotonic() + _GOODBYE
        while not self.pids.keys().isdisjoint(self.leaving):
            if (left := until - time.monotonic()) <= 0:
                return
            poller.poll(left * 1000)
            drain(self.wakeup)
            self._reap()

    def _tell(self, report: dict[str, Any]) -> None:
        self.unsaid.append(json.dumps(report).encode())

    def _say(self) -> None:
        """Never wait for the runner here: it may be waiting for us."""
        while self.unsaid:
            try:
                self.reports.send(self.unsaid[0], MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                pass  # nobody listens
            self.unsaid.popleft()


def settle_in() -> Callable[..., Any]:
    """Leaves the terminal, and whatever its parent had open, alone. Returns prctl(2)."""
    for fd in [int(name) for name in os.listdir("/proc/self/fd") if int(name) > REPORTS]:
        with contextlib.suppress(OSError):
            os.close(fd)  # whatever the runner was given without being told
    for fd in (ORDERS, REPORTS):
        os.set_inheritable(fd, False)
    os.setsid()
    import ctypes

    prctl: Callable[..., Any] = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_NAME, SERVER, 0, 0, 0)
    return prctl


def serve(prctl: Callable[..., Any], forge: Forge | None = None) -> None:
    """Until the runner has closed its end."""
    orders = socket(fileno=ORDERS)
    with contextlib.closing(socket(fileno=REPORTS)) as reports:
        server = Server(orders, reports, prctl, MemoryKiller(), forge)
        gc.disable()
        gc.freeze()  # keeps the pages shared with the children
        server.serve()


def become_server(orders: int, reports: int, kept: Collection[bytes]) -> None:
    """As a fork of the runner. Returns never, and does nothing that the runner has still to do.

    `kept` are the variables that others may see of us.
    """
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        # Above all targets: none of them is written over before it is read.
        ours = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 16) for one in (orders, reports)]
        for source, target in zip((null, null, null, *ours), range(REPORTS + 1), strict=True):
            os.dup2(source, target)
        prctl = settle_in()
        from oumi_flow.executors.shown import hide_variables, show_command

        show_command(SERVER)
        hide_variables(kept)
        serve(prctl)
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    """The server."""
    serve(settle_in())


if __name__ == "__main__":
    main()
