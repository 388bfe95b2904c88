"""Round numbers along an axis: of values, and of durations. Pure."""

from __future__ import annotations

import math

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_STEPS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(_MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * n for n in (1, 2, 3, 6, 12)),
    *(_DAY * n for n in (1, 2, 5, 10, 20, 50, 100)),
)


def seconds(length: float, most: int = 8) -> list[float]:
    """Ticks from 0 to at most `length`, on steps that a clock has; at most `most` beside 0."""
    step = next((step for step in _STEPS if length / step <= most), _STEPS[-1])
    while length / step > most:
        step *= 2
    return [step * n for n in range(int(length / step + 1e-9) + 1)]


def values(low: float, high: float, most: int = 5) -> list[float]:
    """Ticks on round values within [low, high]; at least one, at most `most`."""
    if not high > low:
        return [low]
    for factor in (1.0, 2.0, 5.0, 10.0, 20.0):
        step = 10.0 ** math.floor(math.log10((high - low) / most)) * factor
        if not step or not math.isfinite(step):
            return [low, high]
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if first <= last and last - first + 1 <= most:
            return [_clean(n * step, step) for n in range(first, last + 1)]
    return [low, high]


def decades(low: float, high: float, most: int = 5) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten within [low, high], both greater than 0."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if first > last:
        return [low, high]
    stride = max(1, math.ceil((last - first + 1) / most))
    return [10.0**n for n in range(first, last + 1, stride)]


def tick_words(at: float) -> str:
    """A duration on an axis: `0`, `0.5s`, `30s`, `5m`, `1h 30m`, `2d`."""
    if at < 1:
        return f"{at:g}s" if at else "0"
    words = []
    rest = round(at, 1)
    for unit, length in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE)):
        count, rest = divmod(rest, length)
        if count:
            words.append(f"{int(count)}{unit}")
    if rest:
        words.append(f"{rest:g}s")
    return " ".join(words[:2])


def _clean(value: float, step: float) -> float:
    """0.30000000000000004 as 0.3."""
    digits = max(0, 2 - math.floor(math.log10(step)))
    return round(value, min(digits, 300)) + 0.0
