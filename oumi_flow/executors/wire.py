"""What a runner and its server of supervisors say to each other.

The server is started with two sockets:

* descriptor 3, a stream: one JSON line per order, with the descriptors of token locks attached.
  `{"start": {...}, "descriptors": N}` or `{"cancel": TOKEN, "now": BOOL}`; before the first of them
  `{"base": {...}}`, the environment that orders say differences from. Text in orders is bytes
  decoded as Latin-1, so that any path or value survives. When it closes, the server leaves.
* descriptor 4, packets: one JSON object per attempt that ended, as it is recorded, or
  `{"token": TOKEN, "gone": true}` of a supervisor that died without a word. A server that imports
  ahead (ahead.py) is sent no order before it says `{"warm": ""}`; it says `{"warm": WHY}` and
  leaves when it cannot serve.

A supervisor that is free hears of its next attempt from the server by a socket of its own, whose
packets are lines of orders; when that closes, it leaves.
"""

from __future__ import annotations

ORDERS, REPORTS = 3, 4  # the server's descriptors


def to_bytes(text: str) -> bytes:
    """Text of an order as the bytes that it stands for."""
    return text.encode("latin-1")
