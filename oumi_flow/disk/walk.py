"""Which files lie below a folder or match a glob, and which of them count."""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable, Iterator

from oumi_flow.disk.files import GONE, unreadable
from oumi_flow.hashing import blake2b
from oumi_flow.model import Counts
from oumi_flow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import re

_OWN_FOLDER = ".oumi-flow"
TRIALS_TABLE = "trials_results.csv"

# Stand in for the digest of what has no content; no hex digits, so they are equal to no content.
EMPTY_FOLDER = "folder"
LOOP = "seen"


def found_below(
    top: str, counts: Counts, model_file: Callable[[str], bool]
) -> Iterator[tuple[str, os.stat_result | str, bool]]:
    """What counts below a folder: relative path, its stat or its kind, whether it is a table.

    Folders are entered level by level. A link to a folder is followed unless that would lead
    back to a folder that it lies in, or the same folder was reached through a link before.
    """
    everything = counts is Counts.ALL
    followed: set[tuple[int, int]] = set()
    # Each folder to enter with its prefix and the chain of folders that it lies in.
    waiting: list[tuple[str, str, _Chain]] = [(top, "", _link_of(top, None))]
    for folder, prefix, chain in waiting:
        empty = True
        for entry in _entries(folder):
            empty = False
            name = prefix + entry.name
            if not everything and not _may_count(name, counts, model_file):
                continue  # not even looked at: checkpoints may be many
            try:
                seen = entry.stat()
            except OSError as error:
                if error.errno not in GONE and error.errno != errno.ELOOP:
                    raise unreadable(entry.path, error) from error
                if everything and entry.is_symlink():
                    yield name, dangling(entry.path), False
                continue
            if modes.S_ISDIR(seen.st_mode):
                place = (seen.st_dev, seen.st_ino)
                if entry.is_symlink():
                    if place in followed or _lies_in(chain, place):
                        if everything:
                            yield name, LOOP, False
                        continue
                    followed.add(place)
                waiting.append((entry.path, name + "/", (place, chain)))
            elif modes.S_ISREG(seen.st_mode):
                if counts is not Counts.TRIALS:
                    yield name, seen, False
                elif name == TRIALS_TABLE or "/" in name:
                    yield name, seen, name == TRIALS_TABLE
            elif everything:
                yield name, special(seen.st_mode), False
        if empty and prefix and everything:
            yield prefix[:-1], EMPTY_FOLDER, False


_Chain = tuple[tuple[int, int], Any] | None  # a folder, and the chain it lies in


def _link_of(folder: str, chain: _Chain) -> _Chain:
    try:
        seen = os.stat(folder)
    except OSError:
        return chain
    return ((seen.st_dev, seen.st_ino), chain)


def _lies_in(chain: _Chain, place: tuple[int, int]) -> bool:
    while chain is not None:
        if chain[0] == place:
            return True
        chain = chain[1]
    return False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Sorted entries of a folder without our own files; none when it has gone."""
    try:
        with os.scandir(folder or ".") as listing:
            entries = [entry for entry in listing if not is_ours(entry.name)]
    except OSError as error:
        if error.errno in GONE:
            return []
        raise unreadable(folder or ".", error) from error
    entries.sort(key=lambda entry: entry.name)
    return entries


def _may_count(name: str, counts: Counts, model_file: Callable[[str], bool]) -> bool:
    """Whether a file of this name counts, or a folder of this name may hold one that does."""
    if counts is Counts.MODEL:
        return model_file(name)
    if counts is Counts.TRIALS:
        first, slash, rest = name.partition("/")
        if slash:
            return first.startswith("trial_") and model_file(rest)
        return first.startswith("trial_") or name == TRIALS_TABLE
    return False


def is_ours(name: str) -> bool:
    """Our state folder and the logs of attempts: they never count."""
    if name == _OWN_FOLDER or name == "job.log":
        return True
    return name.startswith("job.log.") and name[8:].isdigit()


def special(mode: int) -> str:
    if modes.S_ISFIFO(mode):
        return "fifo"
    if modes.S_ISSOCK(mode):
        return "socket"
    return "device"


def dangling(path: str) -> str:
    """What stands for the content of a link that leads nowhere: where it points to."""
    try:
        target = os.readlink(path)
    except OSError:
        target = ""
    return "link:" + blake2b(os.fsencode(target), digest_size=16).hexdigest()


def is_glob(path: str) -> bool:
    return "*" in path or "?" in path or "[" in path


def matches(pattern: str) -> list[str]:
    """The paths that match, sorted. `**` is any number of folders; `*` matches no leading dot."""
    parts = [part for part in pattern.split("/") if part]
    start = "/" if pattern.startswith("/") else ""
    return sorted(_expand(start, parts, set()))


def _expand(base: str, parts: list[str], found: set[str]) -> set[str]:
    if not parts:
        if base:
            found.add(base.rstrip("/") or "/")
        return found
    part, rest = parts[0], parts[1:]
    if part == "**":
        while rest[:1] == ["**"]:
            rest = rest[1:]
        if not rest:  # all that lies below
            if os.path.isdir(base or "."):
                found.add(base.rstrip("/") or base or ".")
            return found
        for folder in _folders(base):
            _expand(folder, rest, found)
    elif not is_glob(part):
        path = base + part
        if rest:
            _expand(path + "/", rest, found)
        elif os.path.lexists(path):
            found.add(path)
    else:
        regex = _regex(part)
        for entry in _entries(base):
            name = entry.name
            if not regex.match(name) or (name.startswith(".") and not part.startswith(".")):
                continue
            if not rest:
                found.add(base + name)
            elif _is_folder(entry):
                _expand(base + name + "/", rest, found)
    return found


def _folders(base: str) -> Iterator[str]:
    """`base` and every folder below it, each once, hidden ones left out; with trailing `/`."""
    waiting, entered = [base], set()
    while waiting:
        folder = waiting.pop()
        try:
            here = os.stat(folder or ".")
        except OSError:
            continue
        if (here.st_dev, here.st_ino) in entered:
            continue
        entered.add((here.st_dev, here.st_ino))
        yield folder
        waiting += [
            f"{folder}{entry.name}/"
            for entry in reversed(_entries(folder))
            if _is_folder(entry) and not entry.name.startswith(".")
        ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that leads to itself is no folder
            return False
        raise unreadable(entry.path, error) from error


def parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _regex(part: str) -> re.Pattern[str]:
    import re
    from fnmatch import translate

    return re.compile(translate(part))
