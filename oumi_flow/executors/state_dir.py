"""A job's folder of state files: what an attempt is, who looks after it, how it ended.

All of that is in attempt.json, which runner and supervisors change; who of them may, they settle by
a lock on the folder. A supervisor holds attempt.json itself locked while it looks after it: that
shows to those who cannot see its process, on another host or in another container. Knows what makes
an attempt startable, not what the rest of the file says.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time

from oumi_flow.encoding import encoder
from oumi_flow.executors.files import slurp, write_all

TYPE_CHECKING = False  # an import that is an eighth of the server's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


_ATTEMPT = "attempt.json"
_EXIT = "exit.json"  # how the attempt ended, where attempt.json had no room for that
_END = b"}\n"  # of a state file
_PAGE = 4096  # bytes
_PAUSES = (0.001, 0.002, 0.004)  # seconds between looks at a file that makes no sense


class Refused(Exception):
    """This attempt must not start; nothing may be written for it."""


class StateDir:
    """The folder of a job's state files, held open: it may be renamed or its cwd left meanwhile.

    While somebody holds the lock on the folder itself, nobody else changes who an attempt is.
    """

    def __init__(self, path: str | bytes) -> None:
        """Raises OSError when there is no such folder."""
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.mode = 0o666
        self._claimed: tuple[int, int] | None = None  # inode and size of attempt.json since then
        self._held = -1  # attempt.json, locked

    def close(self) -> None:
        os.close(self.fd)
        if self._held >= 0:
            with contextlib.suppress(OSError):
                os.close(self._held)

    def lock(self) -> None:
        """Held until `unlock` or `close`; waits. Does nothing where folders cannot be locked."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
                raise

    def unlock(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def read(self, name: str) -> dict[str, Any]:
        """The JSON object of a state file; {} when it is missing, torn or something else."""
        for pause in (*_PAUSES, 0.0):
            data = _parse(text := slurp(name, self.fd))
            if data is not None or not text:
                break
            time.sleep(pause)  # a handle is just being added to it
        return data if isinstance(data, dict) else {}

    def write(self, name: str, text: bytes) -> None:
        """Put a state file in place, with the mode of attempt.json. Raises OSError.

        One that was not there is written by one call where it belongs: before that it is empty,
        which is as good as not there. One that was is replaced by rename.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        draft = name
        try:
            fd = os.open(name, flags, self.mode, dir_fd=self.fd)
        except FileExistsError:
            draft = f"{name}.{os.getpid()}~"
            flags ^= os.O_EXCL | os.O_TRUNC
            fd = os.open(draft, flags, self.mode, dir_fd=self.fd)
        try:
            write_all(fd, text)
        except OSError:
            os.unlink(draft, dir_fd=self.fd)
            raise
        finally:
            os.close(fd)
        if draft is not name:
            os.rename(draft, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def claim(self, token: str, handle: dict[str, Any]) -> None:
        """Record in attempt.json who looks after it, and hold that locked until `close`.

        Raises Refused when that is not ours to do.
        """
        told = _encode(handle).encode()
        self.lock()
        try:
            more = b'"handle":' + told
            if self._with_record(lambda fd: self._claim_plain(fd, token, more), hold=True):
                return
            attempt = self.read(_ATTEMPT)
            if attempt.get("token") != token:
                raise Refused("its attempt.json is gone or tells of another attempt")
            if attempt.get("revoked"):
                raise Refused("another run has taken over")
            self.mode = stat.S_IMODE(os.stat(_ATTEMPT, dir_fd=self.fd).st_mode)
            self.write(_ATTEMPT, to_text({**attempt, "handle": handle}))
            self._with_record(self._note, hold=True)
        finally:
            self.unlock()

    def end(self, report: bytes) -> None:
        """Record how the attempt that was claimed ended: a JSON object. Raises OSError.

        Where attempt.json is not as it was left by `claim`, it is told in a file of its own.
        """
        more = b'"exit":' + report.rstrip()
        if self._claimed is None or not self._with_record(lambda fd: self._end_in(fd, more)):
            self.write(_EXIT, report)

    def ended(self, token: str) -> dict[str, Any]:
        """How that attempt ended, as far as it was recorded; else {}."""
        attempt = self.read(_ATTEMPT)
        if attempt.get("token") == token and isinstance(attempt.get("exit"), dict):
            found: dict[str, Any] = attempt["exit"]
        else:
            found = self.read(_EXIT)
        return found if found.get("token") == token else {}

    def is_held(self) -> bool:
        """Whether a supervisor, wherever it runs, looks after the attempt in attempt.json."""
        try:
            fd = os.open(_ATTEMPT, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self.fd)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # it cannot be known here
            return False
        finally:
            os.close(fd)
        return False

    def _with_record(self, do: Callable[[int], bool], hold: bool = False) -> bool:
        """What `do` makes of attempt.json, opened; False where it is not to be had, or fails.

        `hold`: where it made something of it, it stays open and locked, if files can be.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(_ATTEMPT, flags, dir_fd=self.fd)
            try:
                done = do(fd)
                if done and hold:
                    with contextlib.suppress(OSError):
                        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        self._held, fd = fd, -1
                return done
            finally:
                if fd >= 0:
                    os.close(fd)  # which may tell that nothing was written (NFS)
        except OSError:
            return False

    def _note(self, fd: int) -> bool:
        seen = os.fstat(fd)
        self._claimed = seen.st_ino, seen.st_size
        return True

    def _claim_plain(self, fd: int, token: str, more: bytes) -> bool:
        """Add to a record that says nothing but that this attempt is to start; raises OSError."""
        text = os.pread(fd, _PAGE + 1, 0)
        # A string in it has no quotes but escaped ones, so these are its keys and a value, and
        # of no object within, such as a handle is.
        if b'"token":"%b"' % token.encode() not in text or b'"revoked":' in text:
            return False
        if not text.startswith(b"{") or b"{" in text[1:] or not text.endswith(_END):
            return False
        seen = os.fstat(fd)
        self.mode = stat.S_IMODE(seen.st_mode)
        return len(text) == seen.st_size and self._add(fd, seen, more)

    def _end_in(self, fd: int, more: bytes) -> bool:
        """Add to a record that is as it was claimed; raises OSError."""
        seen, end = os.fstat(fd), len(_END)
        if self._claimed != (seen.st_ino, seen.st_size):
            return False
        return os.pread(fd, end, seen.st_size - end) == _END and self._add(fd, seen, more)

    def _add(self, fd: int, seen: os.stat_result, more: bytes) -> bool:
        """Add a value to a record where it lies; False: that cannot be done, all is as it was.

        A new file, and an inode that is freed by a rename, are dear where a file system looks over
        those freed lately for each that is made (ext4 without a journal): of a thousand jobs, by
        more than all else that is done for one. The end of one page is written by one call, so no
        kill leaves half of it; a power cut may, and then the attempt is as good as never begun.
        There is room for it on a full disk, too. Raises OSError, when all is as it was, or cannot
        be made so.
        """
        size, end, rest = seen.st_size, len(_END), b"," + more + _END
        if not stat.S_ISREG(seen.st_mode) or seen.st_nlink != 1 or size + len(rest) > _PAGE:
            return False
        with contextlib.suppress(OSError):
            if os.pwrite(fd, rest, size - end) == len(rest):
                self._claimed = seen.st_ino, size - end + len(rest)
                return True
        os.pwrite(fd, _END, size - end)
        os.ftruncate(fd, size)
        return False

    def revoke(self, token: str) -> dict[str, Any]:
        """The handle of that attempt; if it has none, {}, and then it can never get one."""
        self.lock()
        try:
            attempt = self.read(_ATTEMPT)
            if attempt.get("token") != token:
                return {}
            handle = attempt.get("handle")
            if isinstance(handle, dict):
                return handle
            self.mode = stat.S_IMODE(os.stat(_ATTEMPT, dir_fd=self.fd).st_mode)
            self.write(_ATTEMPT, to_text({**attempt, "revoked": True}))
            return {}
        finally:
            self.unlock()


def to_text(data: dict[str, Any]) -> bytes:
    """The content of a state file."""
    return _encode(data).encode() + b"\n"


def _parse(text: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_encode = encoder()
