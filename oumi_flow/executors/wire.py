"""What a runner and its server of supervisors say to each other.

The server is started with two sockets:

* descriptor 3, a stream: one line per order. `TOKEN N {...}` starts an attempt, with N descriptors
  of token locks attached; `{"cancel": TOKEN, "now": BOOL}` stops one; before the first of them
  comes `{"base": {...}}`, the environment that orders say differences from. Text in orders is bytes
  decoded as Latin-1, so that any path or value survives. When it closes, the server leaves.
* descriptor 4, packets: one JSON object per attempt that ended, as it is recorded, or
  `{"token": TOKEN, "gone": true}` of a supervisor that died without a word. A server that imports
  ahead (ahead.py) is sent no order before it says `{"warm": ""}`; it says `{"warm": WHY}` and
  leaves when it cannot serve.

A supervisor that is free hears of its next attempt from the server by a socket of its own, whose
packets are the objects of such lines; when that closes, it leaves.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # an import that is an eighth of the server's start
if TYPE_CHECKING:
    from typing import Any

ORDERS, REPORTS = 3, 4  # the server's descriptors


def to_bytes(text: str) -> bytes:
    """Text of an order as the bytes that it stands for."""
    return text.encode("latin-1")


def decoded(text: bytes) -> dict[str, Any]:
    """The object of a line or packet."""
    found: dict[str, Any] = _decode(text.decode("ascii"))[0]
    return found


_decode = json.JSONDecoder().raw_decode  # `loads` looks for encodings and blanks first
