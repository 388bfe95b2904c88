"""What the runner tells its server, as lines of JSON (wire.py has the protocol)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from oumi_flow.encoding import encoder
from oumi_flow.executors.base import TOKEN_VARIABLE, Attempt
from oumi_flow.model import EMPTY
from oumi_flow.typed import Any


def base_of(attempt: Attempt) -> dict[str, str]:
    """The environment, without secrets, that the attempts of a run mostly have in common.

    Raises as `order_of`.
    """
    base = {name: value for name, value in attempt.env.items() if value not in attempt.mask}
    _as_env(base)
    return base


def base_line(base: Mapping[str, str]) -> bytes:
    """The line that goes before orders which are made with this base."""
    return line_of({"base": _as_env(base)})


def order_of(attempt: Attempt, base: Mapping[str, str] = EMPTY) -> bytes:
    """What starts an attempt. Raises ValueError for text that no process can be given."""
    given = attempt.env
    env = _as_env({name: value for name, value in given.items() if base.get(name) != value})
    env[TOKEN_VARIABLE] = attempt.token
    start = {
        "token": attempt.token,
        "run_id": attempt.run_id,
        "job": attempt.job,
        "number": attempt.number,
        "argv": [_text(word) for word in attempt.argv],
        "direct": _direct(attempt),
        "cwd": _text(attempt.cwd),
        "env": env,
        "without": [_text(name) for name in base if name not in given],
        "mask": [_text(value) for value in attempt.mask],
        "limit": attempt.limit,
        "grace": attempt.grace,
        "state_dir": _text(attempt.state_dir),
        "log": _text(attempt.log),
        "cold": attempt.cold,
    }
    return _encode(start).encode()


def _as_env(env: Mapping[str, str]) -> dict[str, str]:
    if any("=" in name or not name for name in env):
        raise ValueError("a variable of its environment has an empty name or one with =")
    return {_text(name): _text(value) for name, value in env.items()}


def _direct(attempt: Attempt) -> Any:
    if attempt.direct is None:
        return None
    words, files = attempt.direct
    return [_text(word) for word in words], [(fd, how, _text(path)) for fd, how, path in files]


def line_of(order: Mapping[str, Any]) -> bytes:
    return _encode(order).encode() + b"\n"


_encode = encoder()


def _text(value: str) -> str:
    """Bytes as Latin-1, the form that orders have."""
    if "\0" in value:
        raise ValueError("its command line or environment holds a zero byte")
    return value if value.isascii() else os.fsencode(value).decode("latin-1")
