"""The supervisors of one server, as the runner knows them: who looks after what, and who is free.

A fork with what follows from it (pages that are copied, an exit) costs more than all else that a
supervisor does, so one whose attempt has ended, with nothing left of it, waits for another. It says
so with its report of the end, hears of the next attempt by a socket of its own, whose other end is
here, and leaves when that closes. A supervisor is called by the token of its first attempt. Knows
nothing of what attempts are.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence

from oumi_flow.executors.wire import LONGEST_ORDER
from oumi_flow.sockets import MSG_DONTWAIT, packets, send_fds, socket

_MOST_FREE = 16
# Descriptors that are left to all else that a run opens: the files of its jobs, tokens, the log.
_LEFT = 64


class _Member:
    """One supervisor."""

    __slots__ = ("asked", "channel", "name", "token")

    def __init__(self, name: str, channel: socket) -> None:
        self.name = self.token = name  # of the attempt that it looks after; "" for none
        self.channel = channel
        self.asked = False  # to stop that


class Company:
    """Never blocks."""

    def __init__(self) -> None:
        self._members: dict[str, _Member] = {}
        self._busy: dict[str, _Member] = {}
        self._free: list[_Member] = []
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._highest = soft - _LEFT if soft != resource.RLIM_INFINITY else None

    def hire(self, token: str) -> socket:
        """A supervisor is about to be forked for this attempt: its end of the socket to hear by.

        To be closed here once it was sent. Raises OSError.
        """
        ours, theirs = packets()
        if self._highest is not None and ours.fileno() > self._highest:
            ours.close()  # it leaves after this attempt
        self._members[token] = self._busy[token] = _Member(token, ours)
        return theirs

    def hand_over(self, token: str, order: bytes, descriptors: Sequence[int]) -> bool:
        """Give an attempt to one who is free; False when there is none."""
        while self._free and len(order) <= LONGEST_ORDER:
            member = self._free.pop()
            try:
                send_fds(member.channel, order, descriptors, MSG_DONTWAIT)
            except BlockingIOError:  # it lives, and does not read
                self._free.append(member)
                return False
            except OSError:  # gone, though we have not heard of it yet
                self._let_go(member)
                continue
            member.token = token
            self._busy[token] = member
            return True
        return False

    def ended(self, token: str, stays: bool) -> None:
        """That attempt is over; `stays`: its supervisor waits for another."""
        member = self._busy.pop(token, None)
        if member is None:
            return
        member.token = ""
        # A signal for that attempt may still be on its way: it must not meet another.
        there_are_enough = len(self._free) >= _MOST_FREE
        if not stays or member.asked or there_are_enough or member.channel.fileno() < 0:
            self._let_go(member)
        else:
            self._free.append(member)

    def ask(self, token: str) -> str:
        """The name of who looks after that attempt, and is about to be asked to stop it, or ""."""
        member = self._busy.get(token)
        if member is None:
            return ""
        member.asked = True
        return member.name

    def gone(self, name: str) -> str:
        """One has died: the token of the attempt that it was looking after, or ""."""
        member = self._members.get(name)
        if member is None:
            return ""
        self._busy.pop(member.token, None)
        if member in self._free:
            self._free.remove(member)
        self._let_go(member)
        return member.token

    def dismiss(self) -> list[str]:
        """Let all go, the busy ones when their attempts are over; the names of the free ones."""
        free = [member.name for member in self._free]
        for member in list(self._members.values()):
            self._let_go(member)
        self._busy.clear()
        self._free.clear()
        return free

    def _let_go(self, member: _Member) -> None:
        member.channel.close()
        del self._members[member.name]
