"""Moments in words: local time with its zone, so that a page says the same wherever it is read."""

from __future__ import annotations

import time


def moment(at: float | None) -> str:
    """`2026-01-03 11:20:00 UTC`; "" for none."""
    if at is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at)).strip()
