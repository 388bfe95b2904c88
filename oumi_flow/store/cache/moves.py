"""Moving results between their place and the local cache, so that a kill at any instant loses none.

On its way out a result lies in `out-…`, on its way back in `in-…`, both beside the entries, each
with `moves.json`: what is moved from where. That is written before the first rename. An exchange
that was cut off ends, by `mend`, with everything in the cache and nothing in its place; no marker
vouches for that place then, so the job is judged anew, and finds what it wants in the cache.

Everything here is done by whoever holds the output folder's lock, one call at a time for a job.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress

from oumi_flow.dataclass import dataclass
from oumi_flow.errors import FlowError
from oumi_flow.hashing import blake2b
from oumi_flow.model import Trace
from oumi_flow.store.cache import entry
from oumi_flow.store.cache.shelves import Moved, Shelf, list_names
from oumi_flow.store.files import Files, read_json, told

OUT, IN = "out-", "in-"
MOVES = "moves.json"
_NEW_TRACE = "trace.new"


@dataclass(frozen=True, slots=True)
class Intent:
    job: str
    key: str
    moved: tuple[Moved, ...]


class Leaving:
    """A result on its way into the cache. `begin` changes nothing of it; after that its marker
    has to go before `finish` moves it."""

    def __init__(self, cache: str, files: Files, job: str) -> None:
        self._cache, self._files, self._job = cache, files, job
        self.folder = f"{cache}/{OUT}{_short(job)}"

    def begin(self, trace: Trace, proof: str, size: int, moved: Sequence[Moved]) -> None:
        """Write down what is going to be moved. Raises FlowError or OSError."""
        self._key, self._moved = trace.build_key, moved
        self._files.make_folder(self._cache)
        os.mkdir(self.folder, 0o700 if self._files.private else 0o777)
        try:
            entry.write(self.folder, self._files, trace, proof, size, _NEW_TRACE)
            _write_intent(self.folder, self._files, self._job, self._key, moved)
        except BaseException:
            entry.delete(self.folder)
            raise

    def finish(self) -> None:
        """Move it, and make it an entry. Raises OSError when that cannot be: all is as before.

        Raises FlowError when it is not: the job must not start until `mend` has ended the move.
        """
        try:
            for each in self._moved:
                move_out(self.folder, each)
            seal(self._cache, self.folder, self._key)
        except OSError:
            with told(self.folder, "move back what is in it"):
                self.give_up()
            raise

    def give_up(self) -> None:
        """Put back what was moved. Raises OSError when that cannot be either."""
        for each in self._moved:
            move_in(self.folder, each)
        with suppress(FileNotFoundError):
            os.unlink(f"{self.folder}/{MOVES}")
        entry.remove(self.folder)


class Coming:
    """A result on its way out of the cache: taken from the others in one step by `take`."""

    def __init__(self, cache: str, files: Files, job: str) -> None:
        self._cache, self._files, self._job = cache, files, job
        self.folder = f"{cache}/{IN}{_short(job)}"
        self.moved: tuple[Moved, ...] = ()

    def take(self, path: str, key: str) -> bool:
        """Claim an entry or a copy of one; whether it was there."""
        self._key = key
        try:
            os.rename(path, self.folder)
        except OSError:
            return False
        return True

    def begin(self, shelves: Sequence[Shelf]) -> None:
        """Write down what goes where; only once nothing lies there. Raises FlowError, OSError."""
        found = []
        for shelf in shelves:
            names = tuple(list_names(f"{self.folder}/{shelf.name}"))
            if not all(shelf.may_hold(name) for name in names):
                raise FlowError(f"{self.folder}/{shelf.name}: holds what was never put there")
            found.append(Moved(shelf.name, shelf.folder, names))
        _write_intent(self.folder, self._files, self._job, self._key, found)
        self.moved = tuple(found)

    def move(self) -> None:
        """Put all of it in its place. Raises OSError."""
        for each in self.moved:
            os.makedirs(each.folder, exist_ok=True)
            for name in each.names:
                target = f"{each.folder}/{name}"
                if os.path.lexists(target):
                    raise FileExistsError(17, "something is in the way", target)
                os.rename(f"{self.folder}/{each.shelf}/{name}", target)

    def give_up(self) -> None:
        """Make it an entry again, with all that was moved. Raises OSError."""
        unmove(self._cache, self.folder, Intent(self._job, self._key, self.moved))

    def done(self) -> None:
        """It is in its place and its marker is written: nothing of the entry is left."""
        entry.remove(self.folder)


def move_out(folder: str, moved: Moved) -> None:
    """Move names into their shelf; what was moved before stays there. Raises OSError."""
    if moved.names:
        with suppress(FileExistsError):
            os.mkdir(f"{folder}/{moved.shelf}")
    for name in moved.names:
        target = f"{folder}/{moved.shelf}/{name}"
        if not os.path.lexists(target):
            os.rename(f"{moved.folder}/{name}", target)


def move_in(folder: str, moved: Moved) -> None:
    """Move names back to where they were, as far as nothing lies there. Raises OSError."""
    for name in moved.names:
        source, target = f"{folder}/{moved.shelf}/{name}", f"{moved.folder}/{name}"
        if os.path.lexists(source) and not os.path.lexists(target):
            os.rename(source, target)


def seal(cache: str, folder: str, key: str) -> None:
    """What was moved out is an entry from now on, in place of an older one. Raises OSError."""
    with suppress(FileNotFoundError):
        os.rename(f"{folder}/{_NEW_TRACE}", f"{folder}/{entry.TRACE}")
    with suppress(FileNotFoundError):
        os.unlink(f"{folder}/{MOVES}")
    _settle(cache, folder, key)


def unmove(cache: str, folder: str, intent: Intent) -> None:
    """Take back what was moved in, and let it be an entry again. Raises OSError."""
    for each in intent.moved:
        shelf = f"{folder}/{each.shelf}"
        for name in each.names:
            if os.path.lexists(f"{each.folder}/{name}") and not os.path.lexists(f"{shelf}/{name}"):
                os.rename(f"{each.folder}/{name}", f"{shelf}/{name}")
    with suppress(FileNotFoundError):
        os.unlink(f"{folder}/{MOVES}")
    _settle(cache, folder, intent.key)


def mend(cache: str, marker_key: str, name: str) -> None:
    """Bring to its end what was cut off in `out-…` or `in-…`. Raises OSError.

    `marker_key`: the build key that the job's marker vouches for now, "" without a marker.
    """
    folder = f"{cache}/{name}"
    intent = read_intent(folder)
    if name.startswith(OUT):
        if intent is None:
            # Either not begun, or an entry but for its name.
            found = _key_inside(folder)
            if found:
                _settle(cache, folder, found)
            else:
                entry.remove(folder)
        elif marker_key:  # nothing was moved; or somebody vouched for what is left, by `touch`
            for each in intent.moved:
                move_in(folder, each)
            entry.remove(folder)
        else:
            for shelf, place, names in intent.moved:
                left = tuple(name for name in names if os.path.lexists(f"{place}/{name}"))
                move_out(folder, Moved(shelf, place, left))
            seal(cache, folder, intent.key)
    elif intent is None:
        # Taken, but nothing moved; or not even whole.
        found = _key_inside(folder)
        if found:
            _settle(cache, folder, found)
        else:
            entry.remove(folder)
    elif marker_key:  # it is in its place; or what lies there is something else
        entry.remove(folder)
    else:
        unmove(cache, folder, intent)


def read_intent(folder: str) -> Intent | None:
    """What was going to be moved; None when that was not written down, or is torn."""
    try:
        record = read_json(f"{folder}/{MOVES}") or {}
        job, key, moved = record.get("job"), record.get("key"), record.get("moved") or ()
        if not isinstance(job, str) or not isinstance(key, str) or not entry.is_key(key):
            return None
        found = tuple(
            Moved(str(shelf), str(place), tuple(map(str, names))) for shelf, place, names in moved
        )
    except (FlowError, TypeError, ValueError):
        return None
    return Intent(job, key, found)


def job_of(folder: str) -> str:
    """Whose result was on its way; "" when nobody knows."""
    intent = read_intent(folder)
    return intent.job if intent is not None else ""


def _write_intent(folder: str, files: Files, job: str, key: str, moved: Sequence[Moved]) -> None:
    record = {"job": job, "key": key, "moved": [list(each) for each in moved]}
    files.write_json(f"{folder}/{MOVES}", record)


def _settle(cache: str, folder: str, key: str) -> None:
    target = f"{cache}/{key}"
    while True:
        if os.path.lexists(target):
            entry.remove(target)
        try:
            os.rename(folder, target)
        except OSError as error:
            # Another job of equal key was quicker, and its result is no better than this one.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not entry.is_there(target):
                raise
        else:
            return


def _key_inside(folder: str) -> str:
    """The build key of the entry that lies in a folder of another name, "" if there is none."""
    try:
        found = entry.read(folder, "")
    except OSError:
        return ""
    return found.trace.build_key if found is not None else ""


def _short(job: str) -> str:
    return blake2b(os.fsencode(job), digest_size=12).hexdigest()
