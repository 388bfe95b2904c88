"""What tells one content of a file from another, and how a whole file is put in place.

Numbers and bytes only, so that whoever is in a hurry can have it: imports nothing that an
interpreter has not loaded, until content is digested. Does not know what a file means.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# A change within this time of the stamp could leave the stamp as it is: kernels date files by a
# tick of up to 10 ms, coarse file systems (FAT, some network ones) by up to 2 s.
FINE_NS = 20_000_000
COARSE_NS = 2_000_000_000

SMALL = 1 << 14  # bytes: one read is all that such a file costs
_BIG = 1 << 20
_CHUNK = 1 << 23


def unrest(mtime_ns: int, ctime_ns: int, now_ns: int) -> int:
    """Nanoseconds until a stamp taken at `now_ns` (unix time) counts as settled; <= 0: it does."""
    changed = ctime_ns
    # A time of modification in the future was set by hand: it says nothing of the last change.
    if ctime_ns < mtime_ns <= now_ns:
        changed = mtime_ns
    coarse = ctime_ns % 1_000_000 == 0
    return changed + (COARSE_NS if coarse else FINE_NS) - now_ns + 1


def digest_content(descriptor: int, size: int) -> str:
    """The digest of an open file of about `size` bytes, 32 hex digits. Blocks. Raises OSError."""
    from blake3 import blake3

    if size < SMALL:
        data = os.read(descriptor, SMALL)
        if len(data) < SMALL:  # less than was asked for: to its end
            return str(blake3(data).hexdigest(16))
        os.lseek(descriptor, 0, os.SEEK_SET)
    if size > _BIG:
        try:
            return _digest_rest(descriptor, blake3(max_threads=blake3.AUTO), _CHUNK)
        except BaseException as fault:
            if type(fault).__name__ != "PanicException":  # the system gives it no threads
                raise
        os.lseek(descriptor, 0, os.SEEK_SET)
    return _digest_rest(descriptor, blake3(), _CHUNK if size > _BIG else max(size + 1, 1 << 14))


def _digest_rest(descriptor: int, hasher: Any, chunk: int) -> str:
    # Chunks, not a map: a file that is cut while it is mapped kills the process.
    buffer = bytearray(chunk)
    view = memoryview(buffer)
    while True:
        count = os.readv(descriptor, [buffer])
        if not count:
            return str(hasher.hexdigest(16))
        hasher.update(view[:count])


def atomic_write(
    path: str,
    data: bytes | Iterable[bytes | memoryview],
    mode: int = 0o666,
    *,
    durable: bool = False,
) -> None:
    """Put a whole file in place by rename: readers see the old one or the new one.

    `data` may come in pieces, of which one is in memory at a time. `mode` is cut by the umask.
    `durable`: it is the new one also after a power cut. Raises OSError, and what `data` raises.
    """
    temporary = f"{path}.{os.getpid()}.{time.monotonic_ns():x}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            for piece in (data,) if isinstance(data, bytes) else data:
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        try:  # noqa: SIM105 - contextlib would have to be loaded for it
            os.unlink(temporary)
        except OSError:
            pass
        raise
    if durable:
        sync_folder(os.path.dirname(path) or ".")


def sync_folder(folder: str) -> None:
    """Make renames and removals in `folder` last through a power cut, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse; then it is as safe as they are
        pass
    finally:
        os.close(descriptor)
