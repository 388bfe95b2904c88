"""A cache in a folder that workflows and users of a group share: copied in, copied out.

An entry is made under another name and renamed; it is removed by renaming it away. So a reader
has a whole entry or a miss, and two who make the same one do not meet. Rights follow the folder's
group and the umask; what a workflow with secrets makes is its user's alone.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from oumi_flow import identity
from oumi_flow.model import Trace
from oumi_flow.store.cache import entry
from oumi_flow.store.cache.copying import copy_all
from oumi_flow.store.cache.room import Room
from oumi_flow.store.cache.shelves import Moved, Shelf, list_names, survey
from oumi_flow.store.files import Files

# What somebody is making or removing; of another host it counts as forgotten after a day.
_BUSY = ".busy-"
_FORGOTTEN_S = 86400.0


class Shared:
    """Raises OSError and FlowError from every call; whoever calls goes on without."""

    def __init__(self, folder: str, files: Files, max_size: int | None) -> None:
        self.folder, self._files, self._max_size = folder, files, max_size
        self._room = Room(folder, max_size, _busy_name)
        self._is_tidy = False

    def holds(self, key: str) -> bool:
        return entry.is_there(f"{self.folder}/{key}")

    def read(self, key: str) -> entry.Entry | None:
        """What an entry says of itself; None when there is none."""
        return entry.read(f"{self.folder}/{key}", key)

    def copy_out(
        self, kept: entry.Entry, shelves: Sequence[Shelf], target: str, go_on: Callable[[], bool]
    ) -> entry.Entry | None:
        """Copy an entry to the new folder `target`; what it is there, None if it went meanwhile."""
        folder = f"{self.folder}/{kept.trace.build_key}"
        parts = [
            Moved(shelf.name, f"{folder}/{shelf.name}", tuple(names))
            for shelf in shelves
            if (names := list_names(f"{folder}/{shelf.name}"))
        ]
        if not entry.is_there(folder):
            return None  # removed before all of it was listed
        os.mkdir(target, 0o700 if self._files.private else 0o777)
        try:
            whole = survey(parts).proof == kept.proof
            copy_all(parts, target, self._files.private, go_on)
        except FileNotFoundError:
            return None  # removed while it was read
        # Where our disk cannot hold the times or rights of theirs, the copy is no less whole.
        here = [Moved(shelf, f"{target}/{shelf}", names) for shelf, _, names in parts]
        proof = survey(here).proof if whole else kept.proof
        size = entry.size_of(folder)
        entry.write(target, self._files, kept.trace, proof, size, entry.TRACE)
        entry.mark_used(folder)
        return entry.Entry(kept.trace, proof)

    def keep(self, trace: Trace, moved: Sequence[Moved], go_on: Callable[[], bool]) -> None:
        """Copy a result in, unless it is there already or too large. Raises Abandoned too."""
        target = f"{self.folder}/{trace.build_key}"
        os.makedirs(self.folder, exist_ok=True)
        if entry.read(target, trace.build_key) is not None:
            entry.mark_used(target)
            return
        limit = entry.limit_of(self.folder, self._max_size)
        before = survey(moved)
        if before.size > limit:
            return
        private = self._files.private
        making = f"{self.folder}/{_busy_name()}"
        os.mkdir(making, 0o700 if private else 0o777)
        try:
            copy_all(moved, making, private, go_on)
            copied = [Moved(shelf, f"{making}/{shelf}", names) for shelf, _, names in moved]
            after = survey(copied)
            entry.write(making, self._files, trace, after.proof, before.size, entry.TRACE)
            try:
                os.rename(making, target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                # Somebody was quicker, or what lies there is no entry.
                if entry.read(target, trace.build_key) is None and self.remove(trace.build_key):
                    os.rename(making, target)
        finally:
            entry.delete(making)
        self._tidy()
        self._room.make(trace.build_key)

    def remove(self, key: str) -> bool:
        removed = entry.remove(f"{self.folder}/{key}", _busy_name())
        self._room.forget()
        return removed

    def _tidy(self) -> None:
        """Delete what killed processes were making or removing, once a run."""
        if self._is_tidy:
            return
        self._is_tidy = True
        for name in os.listdir(self.folder):
            if name.startswith(_BUSY) and _is_forgotten(f"{self.folder}/{name}", name):
                entry.delete(f"{self.folder}/{name}")


def _busy_name() -> str:
    return f"{_BUSY}{os.getpid()}-{os.urandom(6).hex()}-{identity.host()}"


def _is_forgotten(path: str, name: str) -> bool:
    pid, _, rest = name.removeprefix(_BUSY).partition("-")
    if rest.partition("-")[2] == identity.host() and pid.isdigit():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass
    with suppress(OSError):
        return time.time() - os.lstat(path).st_mtime > _FORGOTTEN_S
    return False
