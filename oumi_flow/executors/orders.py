"""What the runner tells its server, as lines of JSON (wire.py has the protocol)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from oumi_flow.executors.base import TOKEN_VARIABLE, Attempt


def order_of(attempt: Attempt) -> bytes:
    """The line that starts an attempt. Raises ValueError for text that no process can be given."""
    env = {_text(name): _text(value) for name, value in attempt.env.items()}
    env[TOKEN_VARIABLE] = attempt.token
    if any("=" in name or not name for name in env):
        raise ValueError("a variable of its environment has an empty name or one with =")
    start = {
        "token": attempt.token,
        "run_id": attempt.run_id,
        "job": attempt.job,
        "number": attempt.number,
        "argv": [_text(word) for word in attempt.argv],
        "cwd": _text(attempt.cwd),
        "env": env,
        "mask": [_text(value) for value in attempt.mask],
        "limit": attempt.limit,
        "grace": attempt.grace,
        "state_dir": _text(attempt.state_dir),
        "log": _text(attempt.log),
        "cold": attempt.cold,
    }
    return line_of({"start": start, "descriptors": len(attempt.descriptors)})


def line_of(order: Mapping[str, Any]) -> bytes:
    return json.dumps(order, separators=(",", ":")).encode() + b"\n"


def _text(value: str) -> str:
    """Bytes as Latin-1, the form that orders have."""
    if "\0" in value:
        raise ValueError("its command line or environment holds a zero byte")
    return value if value.isascii() else os.fsencode(value).decode("latin-1")
