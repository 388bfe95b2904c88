"""The server of local jobs: a small program of its own, standard library and siblings only.

One single-threaded server process a run forks one supervisor per attempt (supervision.py), so a
job costs a fork instead of an interpreter. It takes orders and tells of ends (wire.py), and leaves
when the orders' socket closes. A supervisor leads a session of its own and owes nothing to server
or runner: killed -9, they leave it at work.

Knows nothing of plans, markers, GPUs. What it imports of oumi_flow is what supervisors are made
of, and that imports the standard library alone: every import is paid for by every run.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable

from oumi_flow.executors.cores import Cores
from oumi_flow.executors.hearing import CAUGHT, drain, hear_signals, noticed
from oumi_flow.executors.memory_killer import MemoryKiller
from oumi_flow.executors.processes import SERVER, SUPERVISOR, boot_id, send_signal
from oumi_flow.executors.supervision import Supervision
from oumi_flow.executors.wire import MAX_DESCRIPTORS, ORDERS, REPORTS

TYPE_CHECKING = False  # an import that is an eighth of the server's start
if TYPE_CHECKING:
    from typing import Any

    from oumi_flow.executors.supervision import Forge

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36  # <linux/prctl.h>


class Server:
    """Takes orders, forks supervisors, and says which of them died without a word."""

    def __init__(
        self,
        orders: socket.socket,
        reports: socket.socket,
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
        self.host = socket.gethostname()
        for number in CAUGHT:  # none of them ends us: the closed socket does
            signal.signal(number, noticed)
        self.wakeup = hear_signals()
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
                drain(self.wakeup)
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
        signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
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

    def _become_supervisor(self, order: dict[str, Any], descriptors: list[int]) -> None:
        """Returns never. A job that is forked from here leaves by what `Forge.start` raises."""
        status, pid = 1, os.getpid()
        try:
            os.setsid()
            self.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            self.prctl(_PR_SET_NAME, SUPERVISOR, 0, 0, 0)
            self.orders.close()
            for fd in (self.wakeup, *self.descriptors):
                os.close(fd)
            report = Supervision(
                order, descriptors, self.boot, self.host, self.killer, self.cores, self.forge
            ).run()
            for fd in descriptors:
                os.close(fd)  # the tree is gone: whoever waits for the token need not wait for us
            self.reports.send(json.dumps(report).encode())
            status = 0
        except OSError:
            status = 3  # nobody listens
        finally:
            if os.getpid() == pid:
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


def settle_in() -> Callable[..., Any]:
    """Leaves the terminal, and whatever its parent had open, alone. Returns prctl(2)."""
    import ctypes

    os.setsid()
    for fd in (ORDERS, REPORTS):
        os.set_inheritable(fd, False)
    for fd in [int(name) for name in os.listdir("/proc/self/fd") if int(name) > REPORTS]:
        with contextlib.suppress(OSError):
            os.close(fd)  # whatever the runner was given without being told
    prctl: Callable[..., Any] = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_NAME, SERVER, 0, 0, 0)
    return prctl


def serve(prctl: Callable[..., Any], forge: Forge | None = None) -> None:
    """Until the runner has closed its end."""
    orders = socket.socket(fileno=ORDERS)
    with socket.socket(fileno=REPORTS) as reports:
        server = Server(orders, reports, prctl, MemoryKiller(), forge)
        gc.disable()
        gc.freeze()  # keeps the pages shared with the children
        server.serve()


def main() -> None:
    """The server."""
    serve(settle_in())


if __name__ == "__main__":
    main()
