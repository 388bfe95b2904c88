"""The folder of lock files that all runs and users of a host share, and what a holder writes there.

Files are made with care for who else may write into the folder: exclusively, following no link.
Knows nothing of which token to take.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time

from oumi_flow import identity
from oumi_flow.dataclass import dataclass
from oumi_flow.errors import FlowError

# Where a lock is not seen by all hosts, or lost with a connection.
_NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs",
    "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs",
    "panfs", "smb3", "smbfs", "wekafs",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a token, as its lock file says. Empty where the file does not say."""

    index: int
    run: str = ""
    user: str = ""
    job: str = ""
    since: float = 0.0  # unix seconds

    token: str = ""

    @property
    def clock(self) -> str:
        """`14:02`, with the day if that is another one: since when it is held."""
        try:
            then, now = time.localtime(self.since), time.localtime()
        except (OverflowError, ValueError, OSError):
            return "long ago"
        return time.strftime("%H:%M" if then[:3] == now[:3] else "%b %d %H:%M", then)

    def __str__(self) -> str:
        """`held by run R, user U, job J since 14:02`."""
        if not self.run:
            return f"held by user {self.user}" if self.user else "held by another run"
        job = f", job {self.job}" if self.job else ""
        since = f" since {self.clock}" if self.since else ""
        return f"held by run {self.run}, user {self.user}{job}{since}"


def prepare_folder(root: str) -> str:
    """The folder of this boot's locks, made if need be. Raises FlowError when it cannot serve."""
    kind = file_system(root)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise FlowError(
            f"GPU locks cannot lie on a network file system: {root} is on {kind}",
            hint="set OUMI_FLOW_LOCK_DIR to a folder on a disk of this host",
        )
    # Locks end with a boot; a folder each keeps what was written in old ones out of sight.
    folder = os.path.join(root, _boot_id())
    try:
        for path in (root, folder):
            make_shared_folder(path)
    except OSError as error:
        raise useless(root, error.strerror) from error
    return folder


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "boot"


def make_shared_folder(path: str) -> None:
    """A folder for everybody, in which each may remove but their own. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    seen = os.lstat(path)
    if not stat.S_ISDIR(seen.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "not a folder (links are not followed)")
    if seen.st_uid == os.geteuid() and stat.S_IMODE(seen.st_mode) != 0o1777:
        os.chmod(path, 0o1777)  # in spite of the umask


def useless(root: str, detail: str | None) -> FlowError:
    return FlowError(
        f"the folder of GPU locks, {root}, cannot be used: {detail}",
        hint="set OUMI_FLOW_LOCK_DIR to a folder that all users of this host may write to",
    )


def open_lock(path: str) -> int:
    """A descriptor of the lock file, made if need be. Raises FlowError.

    No O_CREAT on a file that may exist: in a sticky folder the kernel refuses that for a file of
    another user (fs.protected_regular). No link is followed, no fifo waited for.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    folder = os.path.dirname(path)
    try:
        while True:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, flags)
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    os.close(fd)
                    raise OSError(errno.EINVAL, f"{path} is not a plain file")
                return fd
            _create_lock(path)
    except OSError as error:
        raise useless(os.path.dirname(folder), f"{error.strerror} ({path})") from error


def _create_lock(path: str) -> None:
    """Appears with its final mode at once: others may open it the moment it has its name."""
    draft = f"{path}.{os.urandom(8).hex()}~"  # pids are the same in many a container
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o666)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(fd)
        os.unlink(draft)


def is_same_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def write_holder(fd: int, run_id: str, job: str) -> None:
    """For people only, so a full disk does not matter."""
    text = json.dumps({"run": run_id, "user": user_name(), "job": job, "since": time.time()})
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)


def read_holder(path: str, index: int, token: str = "") -> Holder | None:
    """None when nobody holds it. Looks by a shared lock, let go at once."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            pass
        data = json.loads(os.pread(fd, 4096, 0))
        return Holder(
            index,
            run=str(data.get("run", "")),
            user=str(data.get("user", "")),
            job=str(data.get("job", "")),
            since=float(data.get("since", 0.0)),
            token=token,
        )
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return Holder(index, token=token)  # anybody may have written there
    finally:
        os.close(fd)


def is_locked(path: str) -> bool:
    """Whether anybody holds it now. Looks by a shared lock, let go at once; makes no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(fd)


def user_name() -> str:
    """Of this process; its number where it has no name."""
    return identity.user_of(os.geteuid())


def file_system(path: str) -> str:
    """The type of the file system that `path` is on or would be on, from mountinfo (proc(5))."""
    path = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, rest = line.partition(" - ")
        point = _unescape(mount.split(" ")[4])
        below = path == point or path.startswith(point.rstrip("/") + "/")
        if below and len(point) >= len(best):  # a later mount at one point hides the earlier
            best, kind = point, rest.split(" ")[0]
    return kind


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
