"""Which files of a job belong together as its result: what goes into a cache entry and out again.

A shelf is a folder of the world, the names in it that are the job's, and the name that it has in
an entry. Looks at the disk, changes nothing. Does not know what an entry is.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterable, Iterator, Mapping, Sequence

from oumi_flow.disk.walk import is_glob, is_ours
from oumi_flow.hashing import blake2b
from oumi_flow.model import Counts, Evidence, Job, Trace
from oumi_flow.typed import NamedTuple

FOLDER = "folder"  # the job's own folder
STATE = "state"  # the one file of our state that goes with a result
HISTORY = "metrics.jsonl"
_SLACK = 2.0  # seconds that the clock of a file server may be behind ours


class Shelf(NamedTuple):
    """`only`: the one name that it may hold; "": any that is not ours."""

    name: str
    folder: str
    only: str = ""

    def may_hold(self, name: str) -> bool:
        return name == self.only if self.only else not is_ours(name)


class Moved(NamedTuple):
    """What of a shelf is moved: names of files and folders directly in it."""

    shelf: str
    folder: str
    names: tuple[str, ...]


class Survey(NamedTuple):
    """All that lies on some shelves: `size` in bytes, `proof` of names, kinds, sizes and times.

    `odd`: there is something that is no file, folder or link, and so cannot be copied.
    """

    size: int
    proof: str
    odd: bool


def shelves_of(job: Job, state_dir: str, outputs: Mapping[str, Evidence]) -> list[Shelf] | None:
    """The shelves of a job; None when its result cannot be taken away from where it lies.

    That is so for links, for globs outside of the job's folder, and where an input of the job, its
    workdir or the place where we stand would go with it.
    """
    own = os.path.realpath(job.folder)
    shelves = [Shelf(FOLDER, job.folder), Shelf(STATE, state_dir, HISTORY)]
    taken = [own, _real(job.folder)]
    for number, item in enumerate(sorted(job.outputs, key=lambda each: each.key)):
        path = _real(item.path)
        if _lies_in(path, own) or _lies_in(path, taken[1]):
            continue
        kind = outputs[item.key].kind if item.key in outputs else "missing"
        folder, name = os.path.split(item.path)
        if os.path.islink(item.path.rstrip("/")):
            return None  # evidence follows it, and what it leads to is somebody else's
        if kind == "file":
            shelves.append(Shelf(f"out.{number}", folder or ".", name))
        elif kind == "folder":
            shelves.append(Shelf(f"out.{number}", item.path))
            if any(_lies_in(place, path) for place in (own, _real("."), _real(job.command.cwd))):
                return None
        else:
            return None
        taken.append(path)
    reads = [_real(_fixed(item.path)) for item in job.inputs if item.path]
    if any(_lies_in(path, place) for path in reads for place in taken):
        return None
    return shelves


def holds_others(job: Job, trace: Trace, since: float) -> bool:
    """Whether a promised folder holds files from before `since`, so of somebody else.

    That is when the job was begun first, in seconds of unix time. To be asked of its first result:
    what later ones find there may be from those before.
    """
    folders = [item for item in job.outputs if trace.outputs[item.key].kind == "folder"]
    if not folders:
        return False
    own, first = os.path.realpath(job.folder), int((since - _SLACK) * 1e9)
    return any(
        0 < file.stamp.ctime_ns < first
        for item in folders
        if not _lies_in(_real(item.path), own)
        for file in trace.outputs[item.key].files
    )


def taken_from(shelves: Sequence[Shelf], job: Job, outputs: Mapping[str, Evidence]) -> list[Moved]:
    """What lies on the shelves now and is the job's. Raises OSError."""
    counted = {
        item.path: {file.path.partition("/")[0] for file in outputs[item.key].files}
        for item in job.outputs
        if item.counts is not Counts.ALL and item.key in outputs
    }
    found = []
    for shelf in shelves:
        names = list_names(shelf.folder)
        if shelf.name not in (FOLDER, STATE) and shelf.folder in counted and not shelf.only:
            # The user's own folder: a checkpoint or a README in it is not the result.
            names = [name for name in names if name in counted[shelf.folder]]
        mine = tuple(name for name in names if shelf.may_hold(name))
        found.append(Moved(shelf.name, shelf.folder, mine))
    return found


def list_names(folder: str) -> list[str]:
    """Sorted names in a folder; none where there is no folder. Raises OSError."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def survey(moved: Iterable[Moved]) -> Survey:
    """Walk what is (to be) moved, following no link. Raises OSError."""
    size, odd, hasher = 0, False, blake2b(digest_size=16)
    for shelf, folder, names in moved:
        for path, seen in _walk(folder, names):
            mode, target = seen.st_mode, b""
            words = [modes.S_IFMT(mode)]
            if modes.S_ISREG(mode):
                # A sparse file takes what it holds.
                size += min(seen.st_size, seen.st_blocks * 512)
                words += [bool(mode & 0o100), seen.st_size, seen.st_mtime_ns]
            elif modes.S_ISLNK(mode):
                target = os.readlink(os.fsencode(f"{folder}/{path}"))
            elif not modes.S_ISDIR(mode):
                odd = True
            hasher.update(os.fsencode(f"{shelf}/{path}") + b"\0" + target + b"\0")
            hasher.update(repr(words).encode())
    return Survey(size, hasher.hexdigest(), odd)


def device_of(path: str) -> int:
    """The file system of a folder, or of where it would be made. Raises OSError."""
    while True:
        try:
            return os.stat(path or ".").st_dev
        except (FileNotFoundError, NotADirectoryError):
            if not path.strip("/"):
                raise
            path = os.path.dirname(path.rstrip("/"))


def _walk(top: str, names: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
    waiting = sorted(names, reverse=True)
    while waiting:
        name = waiting.pop()
        seen = os.lstat(f"{top}/{name}")
        yield name, seen
        if modes.S_ISDIR(seen.st_mode):
            below = sorted(os.listdir(f"{top}/{name}"), reverse=True)
            waiting += [f"{name}/{each}" for each in below]


def _real(path: str) -> str:
    """Where the name really lies; a link in the last part is not followed."""
    folder, name = os.path.split(path.rstrip("/") or "/")
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(folder), name)


def _lies_in(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _fixed(path: str) -> str:
    """Of a glob the folder in which all its matches lie."""
    if not is_glob(path):
        return path
    parts = path.split("/")
    first = next(number for number, part in enumerate(parts) if is_glob(part))
    return "/".join(parts[:first]) or ("/" if path.startswith("/") else ".")
