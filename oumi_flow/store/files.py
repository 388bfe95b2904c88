"""Reading and writing small state files: faults told in words, permissions, torn content.

A file that cannot be understood is as good as none; a file that cannot be written is an error
that names it and what to do.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from stat import S_ISREG

from oumi_flow.disk import atomic_write
from oumi_flow.encoding import encoder
from oumi_flow.errors import BAD_WORKFLOW, JOBS_FAILED, LOCKED, FlowError
from oumi_flow.model import FORMAT
from oumi_flow.store.paths import STATE
from oumi_flow.typed import Any

# More than this is no state file of ours.
_LIMIT = 1 << 30
_PAGE = 4096  # bytes

_NO_LOCKS = "this file system has no locks: choose an `output_dir` on one that has them"

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space (`df -h .`), then run again",
    errno.EDQUOT: "your quota is used up (`quota -s`): free some space, then run again",
    errno.EROFS: "the file system is read-only: choose an `output_dir` that can be written",
    errno.EACCES: "no permission: `ls -ld` on it and its folders shows who may do what",
    errno.EPERM: "no permission: `ls -ld` on it and its folders shows who may do what",
    errno.ENOTDIR: "a part of this path is a file, not a folder: move that file away",
    errno.EEXIST: "there is a file where a folder is needed: move that file away",
    errno.EISDIR: "there is a folder where a file is needed: move that folder away",
    errno.ENAMETOOLONG: "the path is too long for this file system: choose a shorter `output_dir`",
    errno.EMFILE: "too many open files: raise `ulimit -n`",
    errno.EIO: "the disk or the network file system failed",
    errno.ENOLCK: _NO_LOCKS,
    errno.ENOSYS: _NO_LOCKS,
    errno.EOPNOTSUPP: _NO_LOCKS,
}


class told:
    """Turn an OSError into a FlowError: `doing` is like "write"."""

    # Entered many times a job, and cheaper so than as a generator.
    __slots__ = ("_doing", "_exit_code", "_path")

    def __init__(self, path: str, doing: str, exit_code: int = JOBS_FAILED) -> None:
        self._path, self._doing, self._exit_code = path, doing, exit_code

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        # When something is renamed onto a folder, that folder is what is in the way.
        in_the_way = error.filename2 if error.errno in (errno.EISDIR, errno.ENOTEMPTY) else None
        where = in_the_way or error.filename
        where = where if isinstance(where, str) else self._path
        raise FlowError(
            f"{where}: cannot {self._doing}: {error.strerror or error}",
            hint=_ADVICE.get(error.errno or 0, ""),
            exit_code=self._exit_code,
        ) from error


class Files:
    """Writes with the permissions of one store: `private` means 0600 and 0700.

    `barred`: why nothing may be written any more. Every write raises FlowError then.
    """

    __slots__ = ("barred", "private")

    def __init__(self, private: bool) -> None:
        self.private = private
        self.barred = ""

    @property
    def mode(self) -> int:
        return 0o600 if self.private else 0o666

    def make_folder(self, path: str, exit_code: int = JOBS_FAILED) -> bool:
        """Make a state folder and its parents; False: it is there already. Raises FlowError."""
        self._ask_leave()
        mode = 0o700 if self.private else 0o777
        with told(path, "make the folder", exit_code):
            try:
                os.mkdir(path, mode)
            except FileNotFoundError:
                parent = os.path.dirname(path)
                if STATE in parent.split("/"):
                    self.make_folder(parent, exit_code)
                elif parent:
                    os.makedirs(parent, exist_ok=True)
                with suppress(FileExistsError):
                    os.mkdir(path, mode)
            except OSError:  # most often it is there, whatever else could be said against making it
                if not os.path.isdir(path):
                    raise
                return False
        return True

    def write(self, path: str, data: bytes | Sequence[bytes], *, durable: bool = False) -> None:
        """Put a whole file in place, making its folder if needed. Raises FlowError."""
        self._ask_leave()
        with told(path, "write"):
            try:
                atomic_write(path, data, self.mode, durable=durable)
            except FileNotFoundError:
                self.make_folder(os.path.dirname(path) or ".")
                atomic_write(path, data, self.mode, durable=durable)

    def write_json(self, path: str, value: dict[str, Any], *, durable: bool = False) -> None:
        """As `write`, of one JSON object with our format's number in it."""
        self.write(path, to_json({"format": FORMAT, **value}), durable=durable)

    def become(self, path: str, final: str, data: bytes) -> bool:
        """As `write` of `final`, by a small file that is at `path` and is written over and renamed.

        Before it is renamed, all of `data` stands at `path`: one page is written by one call. False
        where that cannot be done; then `path` is as it was, or holds `data`. Raises FlowError when
        nothing may be written.
        """
        self._ask_leave()
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(path, flags)
            try:
                if not self._fill(descriptor, data):
                    return False
            finally:
                os.close(descriptor)
            os.rename(path, final)
        except OSError:
            return False
        return True

    def _fill(self, descriptor: int, data: bytes) -> bool:
        """Write over a small file that is nobody else's; False: it is as it was."""
        seen = os.fstat(descriptor)
        whole = data.ljust(seen.st_size)  # JSON may end in blanks
        if not S_ISREG(seen.st_mode) or seen.st_nlink != 1 or len(whole) > _PAGE:
            return False
        if self.private and seen.st_mode & 0o077:  # made before there was a secret to keep
            return False
        before = os.pread(descriptor, _PAGE, 0)
        if os.pwrite(descriptor, whole, 0) == len(whole):
            return True
        os.pwrite(descriptor, before, 0)
        os.ftruncate(descriptor, len(before))
        return False

    def write_new(self, path: str, data: bytes) -> None:
        """As `write`, of a file that was not there: it may be found empty, by a crash too.

        Without the rename, as for some a file that says nothing is as good as none.
        """
        self._ask_leave()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(path, flags, self.mode)
            try:
                whole = os.write(descriptor, data) == len(data)
            finally:
                os.close(descriptor)
        except OSError:
            whole = False
        if not whole:
            self.write(path, data)

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of a file in one write. Raises FlowError."""
        self._ask_leave()
        with told(path, "write"):
            # A fifo that lies there must not hold us up.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(path, flags, self.mode)
            try:
                if os.write(descriptor, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)

    def _ask_leave(self) -> None:
        if self.barred:
            raise FlowError(self.barred, exit_code=LOCKED)


def to_json(value: Any) -> bytes:
    """One line. ASCII, as file names may hold bytes that are no UTF-8."""
    return _encode(value).encode("ascii") + b"\n"


def parse(data: bytes) -> Any:
    """The JSON value, or None for anything torn or strange."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def read_bytes(path: str) -> tuple[bytes, os.stat_result] | None:
    """Content and stat of one and the same file; None when it is not there or far too large.

    Raises FlowError when it is there and cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        with told(path, "read", BAD_WORKFLOW):
            raise error
    with told(path, "read", BAD_WORKFLOW), open(descriptor, "rb") as file:
        seen = os.fstat(descriptor)
        if seen.st_size > _LIMIT:
            return None
        return file.read(), seen


def read_json(path: str) -> dict[str, Any] | None:
    """The JSON object of a state file; None when it is missing, torn or of another format."""
    found = read_bytes(path)
    value = parse(found[0]) if found is not None else None
    if isinstance(value, dict) and value.get("format") == FORMAT:
        return value
    return None


def _plain(value: Any) -> Any:
    """What json does not know: read-only mappings."""
    return dict(value)


_encode = encoder(_plain)
