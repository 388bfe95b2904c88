"""The supervisors of one server: which attempt each looks after, and who is free for the next.

A fork with what follows from it (pages that are copied, an exit) costs more than all else that a
supervisor does, so one whose attempt has ended, with nothing left of it, waits for another. It
says so by its pid in a pipe, hears of the next attempt by a socket of its own, and leaves when that
closes. Standard library only; knows nothing of what attempts are.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Sequence

from oumi_flow.executors.hearing import STOPPERS, drain
from oumi_flow.executors.processes import send_signal
from oumi_flow.sockets import MSG_DONTWAIT, recv_fds, send_fds, socket

MOST_ATTEMPTS = 500  # of one supervisor, so that nothing can pile up in it
_MOST_FREE = 16
_LONGEST_LINE = 1 << 16  # bytes; more might not fit into a socket
_PID = 4  # bytes
_LAST_WORDS = 0.1  # seconds for those who have told of an end to say that they are free
_GOODBYE = 1.0  # and for the free ones to leave


class _Member:
    """One supervisor, as its server sees it."""

    __slots__ = ("asked", "channel", "pid", "token")

    def __init__(self, pid: int, channel: socket, token: str) -> None:
        self.pid = pid
        self.channel = channel
        self.token = token  # of the attempt that it looks after; "" for none
        self.asked = False  # to stop that


class Company:
    """Both ends: the server's, and (`tell_free`, `leave`, `hear_orders`) what its forks do."""

    def __init__(self) -> None:
        self.freed, self._freeing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._members: dict[int, _Member] = {}
        self._busy: dict[str, _Member] = {}
        self._free: list[_Member] = []

    # the server's

    def hire(self, pid: int, channel: socket, token: str) -> None:
        """A new supervisor, at work already."""
        self._members[pid] = self._busy[token] = _Member(pid, channel, token)

    @property
    def is_busy(self) -> bool:
        """Whether one looks after an attempt, as far as was noted."""
        return bool(self._busy)

    def hand_over(self, token: str, line: bytes, descriptors: Sequence[int]) -> bool:
        """Give an attempt to one who is free; False when there is none. Never blocks."""
        self.note_freed()
        while self._free and len(line) <= _LONGEST_LINE:
            member = self._free.pop()
            try:
                send_fds(member.channel, line, descriptors, MSG_DONTWAIT)
            except BlockingIOError:  # it lives, and does not read
                self._free.append(member)
                return False
            except OSError:  # gone, though we have not heard of it yet
                member.channel.close()
                continue
            member.token = token
            self._busy[token] = member
            return True
        return False

    def note_freed(self) -> None:
        """Take note of those who have said that they are free."""
        while said := drain(self.freed):
            for at in range(0, len(said), _PID):
                self._is_free(int.from_bytes(said[at : at + _PID], "little"))

    def _is_free(self, pid: int) -> None:
        member = self._members.get(pid)
        if member is None:
            return
        self._busy.pop(member.token, None)
        member.token = ""
        # A signal for its last attempt may still be on its way: it must not meet another.
        if member.asked or len(self._free) >= _MOST_FREE:
            member.channel.close()
        else:
            self._free.append(member)

    def ask(self, token: str, number: int) -> None:
        """Signal the supervisor of that attempt, if there is one."""
        self.note_freed()
        member = self._busy.get(token)
        if member is not None:
            member.asked = True
            send_signal(member.pid, number)

    def gone(self, pid: int) -> str:
        """One has ended: the token of the attempt that it was looking after, or ""."""
        self.note_freed()
        member = self._members.pop(pid, None)
        if member is None:
            return ""
        member.channel.close()
        self._busy.pop(member.token, None)
        if member in self._free:
            self._free.remove(member)
        return member.token

    def dismiss(self) -> None:
        """Let all go: the free ones at once, the others when they are. Blocks for the former."""
        until = time.monotonic() + _LAST_WORDS
        poller = select.poll()
        poller.register(self.freed, select.POLLIN)
        while self._busy and (left := until - time.monotonic()) > 0:
            poller.poll(left * 1000)
            self.note_freed()
        self.note_freed()
        for member in self._members.values():
            member.channel.close()
        until = time.monotonic() + _GOODBYE
        for member in self._free:
            with contextlib.suppress(ChildProcessError):
                while not os.waitpid(member.pid, os.WNOHANG)[0] and time.monotonic() < until:
                    time.sleep(0.0005)

    # a supervisor's

    def leave(self) -> None:
        """In a fork: nothing of the server's is held."""
        os.close(self.freed)
        for member in self._members.values():
            member.channel.close()

    def tell_free(self) -> None:
        """Raises OSError when nobody can be told."""
        os.write(self._freeing, os.getpid().to_bytes(_PID, "little"))


def hear_orders(channel: socket, wakeup: int) -> Callable[[], tuple[bytes, list[int]] | None]:
    """Waits for another attempt: its order and descriptors. None: the supervisor is to leave."""
    poller = select.poll()
    poller.register(channel, select.POLLIN)

    def hear() -> tuple[bytes, list[int]] | None:
        poller.register(wakeup, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            # The order first: a signal that came with it is for that attempt.
            if channel.fileno() in ready:
                line, descriptors = recv_fds(channel, _LONGEST_LINE)
                return (line, descriptors) if line else None
            if asked_to_stop(wakeup):
                # An order that came meanwhile has nobody else; the signal was not for it.
                poller.unregister(wakeup)
                if not poller.poll(0):
                    return None

    return hear


def asked_to_stop(wakeup: int) -> bool:
    return not STOPPERS.isdisjoint(map(signal.Signals, drain(wakeup)))
