"""What server and supervisors hear: signals, as numbers to read beside all else, and orders.

Knows which signals are caught and which of them ask to stop; not what is done about it.
"""

from __future__ import annotations

import os
import select
import signal

from oumi_flow.executors.wire import LONGEST_ORDER
from oumi_flow.sockets import recv_fds, socket

TYPE_CHECKING = False  # an import that is an eighth of the server's start
if TYPE_CHECKING:
    from collections.abc import Callable

STOPPERS = {signal.SIGTERM, signal.SIGUSR1}
# Caught, not ignored: a caught signal is back at its default in whatever we start.
CAUGHT = (*STOPPERS, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)


def hear_signals() -> int:
    """A descriptor from which `drain` reads the numbers of caught signals that came.

    Handlers are set once, in the server: its children inherit them.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reading


def noticed(number: int, frame: object) -> None:
    """The number went into the wakeup descriptor; there is nothing else to do."""


def drain(wakeup: int) -> bytes:
    try:
        return os.read(wakeup, 512)
    except BlockingIOError:
        return b""


def asked_to_stop(wakeup: int) -> bool:
    return not STOPPERS.isdisjoint(map(signal.Signals, drain(wakeup)))


class Signalled(Exception):
    """The supervisor is to leave, though an order may be on its way to it."""


def hear_orders(channel: socket, wakeup: int) -> Callable[[], tuple[bytes, list[int]] | None]:
    """What waits for another attempt, and gives its order and descriptors.

    It gives None when there will be no more, and raises Signalled.
    """
    poller = select.poll()
    poller.register(channel, select.POLLIN)

    def hear() -> tuple[bytes, list[int]] | None:
        poller.register(wakeup, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            # The order first: a signal that came with it is for that attempt.
            if channel.fileno() in ready:
                order, descriptors = recv_fds(channel, LONGEST_ORDER)
                return (order, descriptors) if order else None
            if asked_to_stop(wakeup):
                # An order that came meanwhile has nobody else; the signal was not for it.
                poller.unregister(wakeup)
                if not poller.poll(0):
                    raise Signalled

    return hear
