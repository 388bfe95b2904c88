"""What a runner and its server of supervisors say to each other.

The server is started with two sockets:

* descriptor 3, a stream: one line per order. `TOKEN N {...}` has a supervisor forked for an
  attempt, with N descriptors attached: its end of a socket, and those of token locks.
  `{"cancel": NAME, "now": BOOL}` has a supervisor signalled; its name is the token of its first
  attempt. Before the first of them comes `{"base": {...}}`, the environment that orders say
  differences from. Text in orders is bytes decoded as Latin-1, so that any path or value survives.
  When it closes, the server leaves, after those that `{"free": [NAME, ...]}` told of.
* descriptor 4, packets: one JSON object per attempt that ended, as it is recorded, after a `+` if
  its supervisor is free for another one. Or `{"gone": NAME}` of a supervisor that died without a
  word. A server that imports ahead (ahead.py) is sent no order before it says `{"warm": ""}`; it
  says `{"warm": WHY}` and leaves when it cannot serve.

A supervisor that is free hears of its next attempt from the runner, by the socket that came with
it, whose packets are the objects of such lines; when that closes, it leaves.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # an import that is an eighth of the server's start
if TYPE_CHECKING:
    from typing import Any

ORDERS, REPORTS = 3, 4  # the server's descriptors
FREE = b"+"  # before a report
LONGEST_ORDER = 1 << 16  # bytes of a packet; more might not fit into a socket


def to_bytes(text: str) -> bytes:
    """Text of an order as the bytes that it stands for."""
    return text.encode("latin-1")


def decoded(text: bytes) -> dict[str, Any]:
    """The object of a line or packet."""
    found: dict[str, Any] = _decode(text.decode("ascii"))[0]
    return found


_decode = json.JSONDecoder().raw_decode  # `loads` looks for encodings and blanks first
