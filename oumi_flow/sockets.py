"""Sockets between the processes of one machine, which carry descriptors too.

What `socket` builds on. That itself brings selectors, and enumerations of every family, kind and
flag, for which no run of ours has a use.
"""

from __future__ import annotations

import sys
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    SCM_RIGHTS,
    SO_PEERCRED,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from _socket import socketpair as _socketpair
from collections.abc import Iterable

__all__ = [
    "AF_UNIX",
    "MSG_DONTWAIT",
    "SOCK_STREAM",
    "SOL_SOCKET",
    "SO_PEERCRED",
    "packets",
    "recv_fds",
    "send_fds",
    "socket",
    "stream",
]

MAX_DESCRIPTORS = 253  # what the kernel lets travel in one message (SCM_MAX_FD)
_INT = 4  # bytes of a descriptor


def stream() -> tuple[socket, socket]:
    """Two ends of a stream of bytes, neither inherited. Raises OSError."""
    return _socketpair(AF_UNIX, SOCK_STREAM)


def packets() -> tuple[socket, socket]:
    """Two ends between which packets stay whole, neither inherited. Raises OSError."""
    return _socketpair(AF_UNIX, SOCK_SEQPACKET)


def send_fds(to: socket, data: bytes, descriptors: Iterable[int], flags: int = 0) -> int:
    """Send both in one message; returns how many bytes of `data` went. Raises OSError."""
    numbers = b"".join(fd.to_bytes(_INT, sys.byteorder, signed=True) for fd in descriptors)
    return to.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, numbers)], flags)


def recv_fds(of: socket, size: int) -> tuple[bytes, list[int]]:
    """What comes, at most `size` bytes, and its descriptors, not inherited. Raises OSError."""
    data, extra, _, _ = of.recvmsg(size, CMSG_SPACE(MAX_DESCRIPTORS * _INT), MSG_CMSG_CLOEXEC)
    come: list[int] = []
    for level, kind, numbers in extra:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            whole = len(numbers) // _INT * _INT
            come += memoryview(numbers[:whole]).cast("i")
    return data, come
