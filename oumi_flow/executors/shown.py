"""What the kernel shows others of this process: command line and environment, as it was started.

A fork that is no copy of its parent any more says so here, where `ps`, `pkill` and those who look
for processes of a lost attempt read it. The memory is written over where it lies; where the kernel
does not say where that is, or who asks may not know, nothing happens. Standard library only.
"""

from __future__ import annotations

from collections.abc import Collection

from oumi_flow.executors.files import slurp

# In /proc/PID/stat, counted from behind the name; proc(5).
_ARGUMENTS, _ENVIRONMENT = 45, 47


def show_command(name: bytes) -> None:
    """Be seen under this name, cut to the room that there is."""
    start, size = _place(_ARGUMENTS)
    _write(start, name[: max(0, size - 1)].ljust(size, b"\0"))


def hide_variables(kept: Collection[bytes]) -> None:
    """Let none be seen but those of these names. What the process itself knows stays as it is."""
    start, size = _place(_ENVIRONMENT)
    shown = slurp("/proc/self/environ")
    if len(shown) != size:
        return
    pairs = shown.split(b"\0")
    seen = [pair if pair.partition(b"=")[0] in kept else bytes(len(pair)) for pair in pairs]
    _write(start, b"\0".join(seen))


def show_variable(name: bytes, value: bytes) -> None:
    """Let one that was there from the start, with a value of that length, be seen with this."""
    start, _ = _place(_ENVIRONMENT)
    block = b"\0" + slurp("/proc/self/environ")
    at = block.find(b"\0" + name + b"=")
    was = block[at + 1 :].partition(b"\0")[0]
    if at >= 0 and len(was) == len(name) + 1 + len(value):
        _write(start and start + at, name + b"=" + value)


def _place(field: int) -> tuple[int, int]:
    """Where it begins, and how many bytes it has; 0 where that is not to be known."""
    fields = slurp("/proc/self/stat").rpartition(b")")[2].split()
    start, end = int(fields[field]), int(fields[field + 1])
    return start, end - start


def _write(address: int, data: bytes) -> None:
    import ctypes

    if address:
        ctypes.memmove(address, data, len(data))
