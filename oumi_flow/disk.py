"""Looks at files: stamps, digests of content with a memo, and writes whole files at once.

Does not know what the files mean: which of them are model files is handed in. A stamp proves
nothing by itself; it is trusted only when it was taken long enough after the file's last change
that a later change must have given another one (`settled`).
"""

from __future__ import annotations

import errno
import os
import stat as modes
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from oumi_flow.errors import BAD_WORKFLOW, FlowError
from oumi_flow.model import MISSING, Counts, Evidence, FileEvidence, Stamp

if TYPE_CHECKING:
    import re

# A change within this time of the stamp could leave the stamp as it is: kernels date files by a
# tick of up to 10 ms, coarse file systems (FAT, some network ones) by up to 2 s.
_FINE_NS = 20_000_000
_COARSE_NS = 2_000_000_000

_OWN_FOLDER = ".oumi-flow"
_TRIALS_TABLE = "trials_results.csv"
# Columns of optuna's table that differ between equal studies.
_TRIALS_TIMES = frozenset({"datetime_start", "datetime_complete", "duration"})

_NO_STAMP = Stamp(0, 0, 0, 0)
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})
_BIG = 1 << 20
_CHUNK = 1 << 23

# Digests of what has no content of its own; no hex digits, so they are equal to no content.
_EMPTY_FOLDER = "folder"
_LOOP = "seen"


class Disk:
    """Observes paths (relative ones from the working folder). Safe to use from many threads.

    `model_file` says of a path below a folder whether it is one of the folder's model files.
    With `verify` no stamp from an earlier run is trusted: each file is digested once.
    """

    def __init__(self, model_file: Callable[[str], bool], *, verify: bool = False) -> None:
        self._model_file = model_file
        self._verify = verify
        self._memo: dict[str, FileEvidence] = {}  # path (and reader) -> what was last read there
        self._locks: dict[str, Lock] = {}
        self._guard = Lock()
        self.digested = 0  # files read so far, for tests and `-v`

    def observe(self, path: str, counts: Counts, known: Evidence | None = None) -> Evidence:
        """What lies at `path` now, as far as `counts` counts it; MISSING when nothing does.

        Files with the settled stamp they have in `known` are not read again; when all are, and
        nothing else is there, the answer is `known` itself. A path with `*`, `?` or `[` that is
        no file itself is a glob. Blocks on content. Raises FlowError for what cannot be read.
        """
        return self._observe(path, counts, known, wait=False)

    def settle(self, path: str, counts: Counts, known: Evidence) -> Evidence:
        """Like `observe`, but waits until the stamps it takes are settled (at most about 2 s)."""
        return self._observe(path, counts, known, wait=True)

    def forget(self, prefix: str = "") -> None:
        """Drop what is remembered of `prefix` and below: a job has written there."""
        below = prefix.rstrip("/") + "/"
        for path in list(self._memo):
            if not prefix or path.startswith(below) or path.partition("\0")[0] == prefix:
                self._memo.pop(path, None)

    def _observe(self, path: str, counts: Counts, known: Evidence | None, wait: bool) -> Evidence:
        try:
            seen = os.stat(path)
        except OSError as error:
            if error.errno not in _GONE:
                raise _unreadable(path, error) from error
            if _is_glob(path):
                return self._glob(path, counts, known, wait)
            return MISSING
        except ValueError:  # a NUL in it
            return MISSING
        if modes.S_ISREG(seen.st_mode):
            return self._file(path, seen, counts, known, wait)
        if modes.S_ISDIR(seen.st_mode):
            return self._folder(path, counts, known, wait)
        raise FlowError(
            f"{path}: is a {_special(seen.st_mode)}, which has no content to compare",
            hint="name a file or a folder",
        )

    def _file(
        self, path: str, seen: os.stat_result, counts: Counts, known: Evidence | None, wait: bool
    ) -> Evidence:
        old = known.files[0] if known is not None and known.kind == "file" and known.files else None
        table = counts is Counts.TRIALS and os.path.basename(path) == _TRIALS_TABLE
        now = self._content(path, "", seen, old, wait, table)
        if now is None:
            return MISSING
        if now is old and known is not None:
            return known
        return Evidence("file", now.digest, (now,))

    def _folder(self, path: str, counts: Counts, known: Evidence | None, wait: bool) -> Evidence:
        entries = _walk(path, self._rule(path, counts), self._model_file)
        return _bundle("folder", self._read_all(path, entries, known, wait), known)

    def _glob(self, path: str, counts: Counts, known: Evidence | None, wait: bool) -> Evidence:
        entries: list[tuple[str, os.stat_result | str, bool]] = []
        folders: set[str] = set()
        for match in _matches(path):
            if any(parent in folders for parent in _parents(match)):
                continue  # counted with its folder
            try:
                seen = os.stat(match)
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise _unreadable(match, error) from error
            if modes.S_ISREG(seen.st_mode):
                entries.append((match, seen, False))
            elif modes.S_ISDIR(seen.st_mode):
                folders.add(match)
                below = list(_walk(match, self._rule(match, counts), self._model_file))
                entries += [(f"{match}/{name}", what, table) for name, what, table in below]
                if not below:
                    entries.append((match, _EMPTY_FOLDER, False))
            else:
                entries.append((match, _special(seen.st_mode), False))
        return _bundle("glob", self._read_all("", iter(entries), known, wait), known)

    def _rule(self, path: str, counts: Counts) -> Counts:
        """The rule for a folder: below a tune's place its trials, below one of them a model."""
        if counts is not Counts.TRIALS:
            return counts
        try:
            names = os.listdir(path)
        except OSError:
            return counts
        if any(name == _TRIALS_TABLE or name.startswith("trial_") for name in names):
            return Counts.TRIALS
        return Counts.MODEL

    def _read_all(
        self,
        top: str,
        entries: Iterator[tuple[str, os.stat_result | str, bool]],
        known: Evidence | None,
        wait: bool,
    ) -> list[FileEvidence]:
        olds = {file.path: file for file in known.files} if known is not None else {}
        found = []
        for name, what, table in entries:
            old = olds.get(name)
            if isinstance(what, str):  # a kind instead of content
                now: FileEvidence | None = FileEvidence(name, _NO_STAMP, what, True)
                if old == now:
                    now = old
            else:
                full = f"{top}/{name}" if top else name
                now = self._content(full, name, what, old, wait, table)
            if now is not None:
                found.append(now)
        found.sort(key=lambda file: file.path)
        return found

    def _content(
        self,
        path: str,
        name: str,
        seen: os.stat_result,
        old: FileEvidence | None,
        wait: bool,
        table: bool,
    ) -> FileEvidence | None:
        """The evidence of one regular file, read only if no trusted stamp vouches for it."""
        stamp = Stamp(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)
        if old is not None and old.settled and old.stamp == stamp and not self._verify:
            self._memo[f"{path}\0table" if table else path] = old
            return old
        key = f"{path}\0table" if table else path
        remembered = self._recall(key, name, stamp)
        if remembered is not None:
            return remembered
        key = os.path.realpath(path) + key[len(path) :]
        with self._turn(key):  # of several threads that want the same content, one reads it
            remembered = self._recall(key, name, stamp)
            if remembered is None:
                remembered = self._read(path, name, wait, table)
                if remembered is not None:
                    self._memo[key] = remembered
        with self._guard:
            self._locks.pop(key, None)
        return remembered

    def _recall(self, key: str, name: str, stamp: Stamp) -> FileEvidence | None:
        file = self._memo.get(key)
        if file is None or not file.settled or file.stamp != stamp:
            return None
        return file if file.path == name else file._replace(path=name)

    def _turn(self, key: str) -> Lock:
        with self._guard:
            return self._locks.setdefault(key, Lock())

    def _read(self, path: str, name: str, wait: bool, table: bool) -> FileEvidence | None:
        """Digest a file; its stamp is taken before and after, so that both belong together."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise _unreadable(path, error) from error
        try:
            before, settled = _take_stamp(descriptor, wait)
            if table:
                digest = _digest_table(descriptor)
            else:
                digest = _digest_content(descriptor, before.size)
            after = stamp_of(os.fstat(descriptor))
        except OSError as error:
            raise _unreadable(path, error) from error
        finally:
            os.close(descriptor)
        self.digested += 1
        # A file that moved while it was read is not to be trusted by that stamp later on.
        return FileEvidence(name, after, digest, settled and before == after)


def _walk(
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
            try:
                seen = entry.stat()
            except OSError as error:
                if error.errno not in _GONE and error.errno != errno.ELOOP:
                    raise _unreadable(entry.path, error) from error
                if everything and entry.is_symlink():
                    yield name, _dangling(entry.path), False
                continue
            if modes.S_ISDIR(seen.st_mode):
                place = (seen.st_dev, seen.st_ino)
                if entry.is_symlink():
                    if place in followed or _lies_in(chain, place):
                        if everything:
                            yield name, _LOOP, False
                        continue
                    followed.add(place)
                waiting.append((entry.path, name + "/", (place, chain)))
            elif not _counted(name, counts, model_file):
                continue
            elif modes.S_ISREG(seen.st_mode):
                yield name, seen, counts is Counts.TRIALS and name == _TRIALS_TABLE
            elif everything:
                yield name, _special(seen.st_mode), False
        if empty and prefix and everything:
            yield prefix[:-1], _EMPTY_FOLDER, False


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
            entries = [entry for entry in listing if not _is_ours(entry.name)]
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise _unreadable(folder or ".", error) from error
    entries.sort(key=lambda entry: entry.name)
    return entries


def _counted(name: str, counts: Counts, model_file: Callable[[str], bool]) -> bool:
    if counts is Counts.ALL:
        return True
    if counts is Counts.MODEL:
        return model_file(name)
    if counts is Counts.TRIALS:
        first, slash, rest = name.partition("/")
        if slash:
            return first.startswith("trial_") and model_file(rest)
        return name == _TRIALS_TABLE
    return False


def stamp(path: str) -> Stamp | None:
    """The stamp of what `path` leads to; None when nothing is there or it cannot be looked at."""
    try:
        return stamp_of(os.stat(path))
    except (OSError, ValueError):
        return None


def stamp_of(seen: os.stat_result) -> Stamp:
    """The part of a stat that changes when the file does."""
    return Stamp(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


def is_settled(taken: Stamp, now_ns: int) -> bool:
    """Whether a change after `now_ns` (unix time), when the stamp was taken, must show in it."""
    return _unrest(taken, now_ns) <= 0


def atomic_write(path: str, data: bytes, mode: int = 0o666, *, durable: bool = False) -> None:
    """Put a whole file in place by rename: readers see the old one or the new one.

    `mode` is cut by the umask. `durable`: it is the new one also after a power cut. Raises OSError.
    """
    temporary = f"{path}.{os.getpid()}.{time.monotonic_ns():x}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
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


def _unrest(taken: Stamp, now_ns: int) -> int:
    """Nanoseconds until the stamp counts as settled; <= 0: it does."""
    changed = taken.ctime_ns
    # A time of modification in the future was set by hand: it says nothing of the last change.
    if taken.ctime_ns < taken.mtime_ns <= now_ns:
        changed = taken.mtime_ns
    coarse = taken.ctime_ns % 1_000_000 == 0
    return changed + (_COARSE_NS if coarse else _FINE_NS) - now_ns + 1


def _take_stamp(descriptor: int, wait: bool) -> tuple[Stamp, bool]:
    taken = stamp_of(os.fstat(descriptor))
    now = time.time_ns()
    rest = _unrest(taken, now)
    if wait and 0 < rest <= _COARSE_NS + _FINE_NS:
        time.sleep(rest / 1e9)
        taken = stamp_of(os.fstat(descriptor))
        rest = _unrest(taken, time.time_ns())
    return taken, rest <= 0


def _digest_content(descriptor: int, size: int) -> str:
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO) if size > _BIG else blake3()
    # Chunks, not a map: a file that is cut while it is mapped kills the process.
    buffer = bytearray(_CHUNK if size > _BIG else max(size + 1, 1 << 14))
    view = memoryview(buffer)
    while True:
        count = os.readv(descriptor, [buffer])
        if not count:
            return str(hasher.hexdigest(16))
        hasher.update(view[:count])


def _digest_table(descriptor: int) -> str:
    """The digest of optuna's table without the columns of dates and durations."""
    import csv
    import io
    from hashlib import blake2b

    with open(descriptor, "rb", closefd=False) as file:
        text = file.read().decode("utf-8", "surrogateescape")
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error:
        rows = [[text]]
    header = rows[0] if rows else []
    dropped = {i for i, name in enumerate(header) if name in _TRIALS_TIMES}
    kept = [[cell for i, cell in enumerate(row) if i not in dropped] for row in rows]
    return blake2b(repr(kept).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _bundle(kind: str, found: list[FileEvidence], known: Evidence | None) -> Evidence:
    """Evidence of many files: its digest is that of their sorted (path, kind or content)."""
    if (
        known is not None
        and known.kind == kind
        and len(known.files) == len(found)
        and all(a is b for a, b in zip(known.files, found, strict=True))
    ):
        return known
    from hashlib import blake2b

    hasher = blake2b(digest_size=16)
    for file in found:
        hasher.update(os.fsencode(file.path) + b"\0" + file.digest.encode() + b"\0")
    return Evidence(kind, hasher.hexdigest(), tuple(found))


def _is_ours(name: str) -> bool:
    """Our state folder and the logs of attempts: they never count."""
    if name == _OWN_FOLDER or name == "job.log":
        return True
    return name.startswith("job.log.") and name[8:].isdigit()


def _special(mode: int) -> str:
    if modes.S_ISFIFO(mode):
        return "fifo"
    if modes.S_ISSOCK(mode):
        return "socket"
    return "device"


def _dangling(path: str) -> str:
    """What stands for the content of a link that leads nowhere: where it points to."""
    from hashlib import blake2b

    try:
        target = os.readlink(path)
    except OSError:
        target = ""
    return "link:" + blake2b(os.fsencode(target), digest_size=16).hexdigest()


def _unreadable(path: str, error: OSError) -> FlowError:
    hint = {
        errno.EACCES: f"`ls -ld {path}` shows its mode; `chmod u+r` (folders: `u+rx`) allows it",
        errno.EPERM: f"`ls -ld {path}` shows its mode and owner",
        errno.ELOOP: "it is a symbolic link that leads back to itself: remove or mend it",
        errno.ENAMETOOLONG: "the system allows 255 bytes for a name and 4096 for a path",
        errno.EIO: "the disk or the network file system failed to read it",
        errno.EMFILE: "too many open files: raise `ulimit -n`",
    }.get(error.errno or 0, "")
    return FlowError(
        f"{path}: cannot be read: {error.strerror or error}", hint=hint, exit_code=BAD_WORKFLOW
    )


def _is_glob(path: str) -> bool:
    return any(char in path for char in "*?[")


def _matches(pattern: str) -> list[str]:
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
    elif not _is_glob(part):
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
            elif entry.is_dir():
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
            if entry.is_dir() and not entry.name.startswith(".")
        ]


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _regex(part: str) -> re.Pattern[str]:
    import re
    from fnmatch import translate

    return re.compile(translate(part))
