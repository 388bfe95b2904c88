"""The run cache: results of earlier build keys, moved out of the way and back, or shared as copies.

`<output_dir>/.oumi-flow/cache/<build key>/` is this output folder's own: results move there and
back by rename. A shared folder holds copies. Knows files; does not know why a job runs, nor what
a marker vouches for beyond the evidence that it is handed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from oumi_flow.errors import FlowError
from oumi_flow.model import Evidence, Job, Trace
from oumi_flow.store.cache import entry, moves
from oumi_flow.store.cache.copying import Abandoned
from oumi_flow.store.cache.moves import Coming, Leaving
from oumi_flow.store.cache.room import Room
from oumi_flow.store.cache.shared import Shared
from oumi_flow.store.cache.shelves import (
    FOLDER,
    STATE,
    Shelf,
    device_of,
    holds_others,
    shelves_of,
    survey,
    taken_from,
)
from oumi_flow.store.files import Files
from oumi_flow.store.paths import Paths

__all__ = ["Abandoned", "Found", "RunCache", "holds_others", "keeps", "words"]


def keeps(job: Job) -> bool:
    """Whether results of this job are kept at all."""
    return job.cache and bool(job.outputs) and not job.always_run


class Found:
    """An entry that was taken from the others, to be put in the job's place or given back."""

    def __init__(
        self,
        coming: Coming,
        kept: entry.Entry,
        shelves: Sequence[Shelf],
        room: Room,
        shared: bool = False,
    ) -> None:
        self._coming, self._kept, self._shelves, self._room = coming, kept, shelves, room
        self.trace, self.is_shared = kept.trace, shared

    def put(self) -> bool:
        """Move it into its place, where nothing of the job may lie; whether all of it was whole.

        What files hold that count is not looked at. Raises OSError, FlowError.
        """
        self._coming.begin(self._shelves)
        self._coming.move()
        return survey(self._coming.moved).proof == self._kept.proof

    def give_back(self) -> None:
        """Let it be an entry again. Raises OSError."""
        try:
            self._coming.give_up()
        finally:
            self._room.forget()

    def done(self) -> None:
        self._coming.done()


class RunCache:
    """Each call may block on content. Two calls for one job never overlap."""

    def __init__(
        self, paths: Paths, files: Files, shared: str = "", max_size: int | None = None
    ) -> None:
        self._paths, self._files, self._max_size = paths, files, max_size
        self.folder = paths.cache
        self.shared = Shared(shared, files, max_size) if shared else None
        self._room = Room(self.folder, max_size)
        self._stuck: set[str] = set()
        self.mended = False  # there was a move that had been cut off
        self._go_on = True

    # Looking

    def is_empty(self) -> bool:
        """Whether there is nothing to look for; of a shared one nobody can say that."""
        if self.shared is not None:
            return False
        try:
            return not any(entry.is_key(name) for name in os.listdir(self.folder))
        except OSError:
            return True

    def holds(self, key: str) -> bool:
        """Whether an entry is there, by its name: nothing of it is read."""
        if entry.is_there(f"{self.folder}/{key}"):
            return True
        return self.shared is not None and self.shared.holds(key)

    # What a killed run left

    def mend(self, marker_key: Callable[[str], str]) -> list[str]:
        """Bring moves to their end that were cut off; words for what could not be.

        `marker_key`: job -> the build key that its marker vouches for, "" without a marker. To be
        called under the lock before anything is planned.
        """
        try:
            names = sorted(os.listdir(self.folder), reverse=True)  # what went out, before what came
        except OSError:
            return []
        notes = []
        for name in names:
            path = f"{self.folder}/{name}"
            if name.startswith((moves.OUT, moves.IN)):
                self.mended = True
                job = moves.job_of(path)
                try:
                    moves.mend(self.folder, marker_key(job) if job else "", name)
                except OSError as fault:
                    self._stuck.add(job)
                    notes.append(f"{path}: cannot end a move that was cut off: {words(fault)}")
            elif name.startswith(entry.GONE):
                entry.delete(path)
        return notes

    def refuse_stuck(self, job: str) -> None:
        """Raise FlowError for a job whose result is half in its place and half in the cache."""
        if job in self._stuck:
            raise FlowError(
                f"{self.folder}: a move of its result was cut off and cannot be ended",
                hint="the note at the run's start says why; then run again",
            )

    # Out of the place, into the cache

    def leave(self, job: Job, trace: Trace) -> Leaving | None:
        """Begin to move a job's result into the cache; None when it has to stay where it is.

        `trace` vouches for what lies there. From here on its marker has to go, then
        `Leaving.finish` moves. Raises OSError, FlowError: nothing has changed then.
        """
        shelves = self.shelves(job, trace.outputs)
        if shelves is None:
            return None
        moved = taken_from(shelves, job, trace.outputs)
        seen = survey(moved)
        self._files.make_folder(self.folder)
        device = os.stat(self.folder).st_dev
        if any(os.lstat(f"{m.folder}/{n}").st_dev != device for m in moved for n in m.names):
            return None
        if seen.size > entry.limit_of(self.folder, self._max_size):
            return None
        leaving = Leaving(self.folder, self._files, job.name)
        leaving.begin(trace, seen.proof, seen.size, moved)
        return leaving

    def make_room(self, key: str) -> None:
        """The entry of `key` has come: remove the least recently used ones beyond the limit."""
        self._room.make(key)

    # Out of the cache, into the place

    def take(self, job: Job, key: str) -> Found | None:
        """Take the entry of that build key, from our own cache or as a copy of a shared one.

        Raises OSError, FlowError, Abandoned when it is there and cannot be taken.
        """
        own = f"{self.folder}/{key}"
        kept = entry.read(own, key)
        coming = Coming(self.folder, self._files, job.name)
        if kept is not None:
            shelves = self.shelves(job, kept.trace.outputs)
            if shelves is None:
                return None
            if not self._room.let_out(key, lambda: coming.take(own, key)):
                return None
            return Found(coming, kept, shelves, self._room)
        if os.path.lexists(own):
            entry.remove(own)
            self._room.forget()
        kept = self.shared.read(key) if self.shared is not None else None
        if self.shared is None or kept is None:
            return None
        shelves = self.shelves(job, kept.trace.outputs)
        if shelves is None or not self._is_near(shelves):
            return None
        self._files.make_folder(self.folder)
        incoming = f"{self.folder}/{entry.GONE}{os.urandom(8).hex()}"
        try:
            copy = self.shared.copy_out(kept, shelves, incoming, self.goes_on)
            if copy is None or not coming.take(incoming, key):
                return None
            return Found(coming, copy, shelves, self._room, shared=True)
        finally:
            entry.delete(incoming)

    def discard(self, found: Found) -> None:
        """Remove an entry that is damaged and was given back, also where it is shared."""
        entry.remove(f"{self.folder}/{found.trace.build_key}")
        self._room.forget()
        if self.shared is not None and found.is_shared:
            self.shared.remove(found.trace.build_key)

    def put_aside(
        self, job: Job, trace: Trace, outputs: Mapping[str, Evidence], aside: str
    ) -> None:
        """Move what lies outside of the job's folder and in the way of a result to `aside`.

        `trace`: of the result that is to come; `outputs`: what lies there now. Raises OSError.
        """
        shelves = self.shelves(job, trace.outputs) or ()
        for shelf, folder, names in taken_from(shelves, job, outputs):
            if shelf == STATE:
                for name in names:
                    os.unlink(f"{folder}/{name}")
            if shelf in (FOLDER, STATE):
                continue
            old = f"{aside}/{shelf}"
            for name in names:
                os.makedirs(old, exist_ok=True)
                if os.path.lexists(f"{old}/{name}"):
                    entry.delete(f"{old}/{name}")
                os.rename(f"{folder}/{name}", f"{old}/{name}")

    # Shared

    def share(self, job: Job, trace: Trace) -> None:
        """Copy a result that was just made to the shared cache. Raises OSError, FlowError."""
        shelves = self.shelves(job, trace.outputs)
        if self.shared is None or shelves is None or not self._is_near(shelves):
            return
        with suppress(Abandoned):
            self.shared.keep(trace, taken_from(shelves, job, trace.outputs), self.goes_on)

    def abandon(self) -> None:
        """Copy nothing any more."""
        self._go_on = False

    def goes_on(self) -> bool:
        return self._go_on

    def _is_near(self, shelves: Sequence[Shelf]) -> bool:
        """Whether all of it lies on the file system of our own cache, by way of which it comes."""
        near = device_of(self.folder)
        return all(device_of(shelf.folder) == near for shelf in shelves)

    def shelves(self, job: Job, outputs: Mapping[str, Evidence]) -> list[Shelf] | None:
        if os.path.lexists(self._paths.mixed(job.name)):
            return None
        return shelves_of(job, self._paths.job_state(job.name), outputs)


def words(fault: Exception) -> str:
    """A fault as a user reads it."""
    if isinstance(fault, FlowError):
        return fault.message
    if isinstance(fault, OSError) and fault.strerror:
        place = fault.filename2 or fault.filename
        return f"{place}: {fault.strerror}" if place else fault.strerror
    return str(fault)
