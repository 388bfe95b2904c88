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
from collections.abc import Callable, Collection, Iterator
from threading import Lock

from oumi_flow.content import SMALL, atomic_write, digest_content, sync_folder
from oumi_flow.disk.files import (
    GONE,
    digest_table,
    is_settled,
    stamp,
    stamp_of,
    take_stamp,
    unreadable,
)
from oumi_flow.disk.walk import (
    EMPTY_FOLDER,
    TRIALS_TABLE,
    found_below,
    is_glob,
    matches,
    parents,
    special,
)
from oumi_flow.errors import FlowError
from oumi_flow.hashing import blake2b
from oumi_flow.model import MISSING, Counts, Evidence, FileEvidence, Stamp

__all__ = ["Disk", "atomic_write", "is_glob", "is_settled", "stamp", "stamp_of", "sync_folder"]

_NO_STAMP = Stamp(0, 0, 0, 0)


class Disk:
    """Observes paths (relative ones from the working folder). Safe to use from many threads.

    `model_file` says of a path below a folder whether it is one of the folder's model files; a
    folder of which it says no is not entered.
    With `verify` no stamp from an earlier run is trusted: each file is digested once.
    """

    def __init__(self, model_file: Callable[[str], bool], *, verify: bool = False) -> None:
        self._model_file = model_file
        self._verify = verify
        self._memo: dict[str, FileEvidence] = {}  # path (and reader) -> what was last read there
        self._locks: dict[str, Lock] = {}
        self._guard = Lock()
        self._far: set[str] = set()  # folders
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

    def confirm(self, path: str, known: Evidence, near: Collection[int]) -> Evidence:
        """`known` with a stamp that may be trusted, if it is of one plain file that is as it was.

        `known` itself where it is not, where that cannot be told yet, and where nothing is asked:
        beside a file that was not on one of the devices `near`. Reads no more than was read then,
        and nothing where this content was seen under the same stamp once it was to be trusted:
        whatever has changed since has given it another one.
        """
        old = known.files[0] if known.kind == "file" else None
        if old is None:
            return known
        # An input is mostly somebody's output, and has been confirmed as that.
        now = self._recall(path, old.path, old.stamp)
        if now is not None and now.digest == old.digest:
            return Evidence("file", old.digest, (now,))
        if os.path.dirname(path) in self._far:
            return known
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return known
        try:
            seen = os.fstat(descriptor)
            if seen.st_dev not in near:
                self._far.add(os.path.dirname(path))
                return known
            # A change from here on would show, as this stamp has rested.
            if stamp_of(seen) != old.stamp or not is_settled(old.stamp, time.time_ns()):
                return known
            if digest_content(descriptor, seen.st_size) != old.digest:
                return known
        except OSError:
            return known
        finally:
            os.close(descriptor)
        self.digested += 1
        now = self._memo[path] = old._replace(settled=True)
        return Evidence("file", old.digest, (now,))

    def size(self, path: str, near: Collection[int]) -> int | None:
        """How many bytes it takes to observe what lies at `path`: of a plain file, or of nothing.

        None: it cannot be told (a folder, a glob, a pipe), or it does not lie on one of the devices
        `near`: a folder where a file is found elsewhere, perhaps behind a network, is not asked a
        second time.
        """
        folder = os.path.dirname(path)
        if folder in self._far:
            return None
        try:
            seen = os.stat(path)
        except (OSError, ValueError):
            return None if is_glob(path) else 0
        if seen.st_dev not in near:
            self._far.add(folder)
            return None
        return seen.st_size if modes.S_ISREG(seen.st_mode) else None

    def forget(self, prefix: str = "") -> None:
        """Drop what is remembered of `prefix` and below: a job has written there."""
        spellings = {prefix.rstrip("/"), os.path.realpath(prefix)}
        below = tuple(f"{spelling}/" for spelling in spellings)
        for key in list(self._memo):
            path = key.partition("\0")[0]
            if not prefix or path in spellings or path.startswith(below):
                self._memo.pop(key, None)

    def _observe(self, path: str, counts: Counts, known: Evidence | None, wait: bool) -> Evidence:
        try:
            seen = os.stat(path)
        except OSError as error:
            if error.errno not in GONE:
                raise unreadable(path, error) from error
            if is_glob(path):
                return self._glob(path, counts, known, wait)
            return MISSING
        except ValueError:  # a NUL in it
            return MISSING
        if modes.S_ISREG(seen.st_mode):
            return self._file(path, seen, counts, known, wait)
        if modes.S_ISDIR(seen.st_mode):
            return self._folder(path, counts, known, wait)
        raise FlowError(
            f"{path}: is a {special(seen.st_mode)}, which has no content to compare",
            hint="name a file or a folder",
        )

    def _file(
        self, path: str, seen: os.stat_result, counts: Counts, known: Evidence | None, wait: bool
    ) -> Evidence:
        old = known.files[0] if known is not None and known.kind == "file" and known.files else None
        table = counts is Counts.TRIALS and os.path.basename(path) == TRIALS_TABLE
        now = self._content(path, "", seen, old, wait, table)
        if now is None:
            return MISSING
        if now is old and known is not None:
            return known
        return Evidence("file", now.digest, (now,))

    def _folder(self, path: str, counts: Counts, known: Evidence | None, wait: bool) -> Evidence:
        entries = found_below(path, self._rule(path, counts), self._model_file)
        return _bundle("folder", self._read_all(path, entries, known, wait), known)

    def _glob(self, path: str, counts: Counts, known: Evidence | None, wait: bool) -> Evidence:
        entries: list[tuple[str, os.stat_result | str, bool]] = []
        folders: set[str] = set()
        for match in matches(path):
            if any(parent in folders for parent in parents(match)):
                continue  # counted with its folder
            try:
                seen = os.stat(match)
            except OSError as error:
                if error.errno in GONE or error.errno == errno.ELOOP:
                    continue  # a link that leads nowhere, or to itself
                raise unreadable(match, error) from error
            if modes.S_ISREG(seen.st_mode):
                entries.append((match, seen, False))
            elif modes.S_ISDIR(seen.st_mode):
                folders.add(match)
                below = list(found_below(match, self._rule(match, counts), self._model_file))
                entries += [(f"{match}/{name}", what, table) for name, what, table in below]
                if not below:
                    entries.append((match, EMPTY_FOLDER, False))
            else:
                entries.append((match, special(seen.st_mode), False))
        return _bundle("glob", self._read_all("", iter(entries), known, wait), known)

    def _rule(self, path: str, counts: Counts) -> Counts:
        """The rule for a folder: below a tune's place its trials, below one of them a model."""
        if counts is not Counts.TRIALS:
            return counts
        try:
            names = os.listdir(path)
        except OSError:
            return counts
        if any(name == TRIALS_TABLE or name.startswith("trial_") for name in names):
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
        if stamp.size <= SMALL:  # sooner read twice than asked for its real name, and waited for
            return self._remember(key, self._read(path, name, wait, table))
        key = os.path.realpath(path) + key[len(path) :]
        with self._turn(key):  # of several threads that want the same content, one reads it
            remembered = self._recall(key, name, stamp)
            if remembered is None:
                remembered = self._remember(key, self._read(path, name, wait, table))
        with self._guard:
            self._locks.pop(key, None)
        return remembered

    def _recall(self, key: str, name: str, stamp: Stamp) -> FileEvidence | None:
        file = self._memo.get(key)
        if file is None or not file.settled or file.stamp != stamp:
            return None
        return file if file.path == name else file._replace(path=name)

    def _remember(self, key: str, file: FileEvidence | None) -> FileEvidence | None:
        """For the next who asks; what is not settled would be of no use to anybody."""
        if file is not None and file.settled:
            self._memo[key] = file
        else:
            self._memo.pop(key, None)
        return file

    def _turn(self, key: str) -> Lock:
        with self._guard:
            return self._locks.setdefault(key, Lock())

    def _read(self, path: str, name: str, wait: bool, table: bool) -> FileEvidence | None:
        """Digest a file; its stamp is taken before and after, so that both belong together."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in GONE:
                return None
            raise unreadable(path, error) from error
        try:
            before, settled = take_stamp(descriptor, wait)
            if table:
                digest = digest_table(descriptor)
            else:
                digest = digest_content(descriptor, before.size)
            after = stamp_of(os.fstat(descriptor))
        except OSError as error:
            raise unreadable(path, error) from error
        finally:
            os.close(descriptor)
        self.digested += 1
        # A file that moved while it was read is not to be trusted by that stamp later on.
        return FileEvidence(name, after, digest, settled and before == after)


def _bundle(kind: str, found: list[FileEvidence], known: Evidence | None) -> Evidence:
    """Evidence of many files: its digest is that of their sorted (path, kind or content)."""
    if (
        known is not None
        and known.kind == kind
        and len(known.files) == len(found)
        and all(a is b for a, b in zip(known.files, found, strict=True))
    ):
        return known
    hasher = blake2b(digest_size=16)
    for file in found:
        hasher.update(os.fsencode(file.path) + b"\0" + file.digest.encode() + b"\0")
    return Evidence(kind, hasher.hexdigest(), tuple(found))
