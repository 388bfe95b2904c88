"""Signals that come to server and supervisors, as numbers to read beside everything else.

Knows which are caught and which of them ask to stop; not what is done about it.
"""

from __future__ import annotations

import os
import signal

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
