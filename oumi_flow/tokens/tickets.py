"""The tickets of those who wait for GPUs: a folder `queue` beside the locks, for all users.

A ticket is a file that its owner keeps locked (`flock`, not inherited by anything), so a ticket of
a process that is gone is dead whatever it says. Its name says since when somebody waits, its first
line when the owner looked last: one who is stopped, or slept over by a laptop's lid, keeps the
place and holds nobody up. Times are of the monotonic clock, which all processes of a boot share and
no setting of the clock moves.

All of this is courtesy: nothing here raises, and where it fails tokens go to whoever comes first.
Knows nothing of which token to take, nor of GPUs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Collection, Iterator

from oumi_flow.dataclass import dataclass
from oumi_flow.errors import FlowError
from oumi_flow.pattern import pattern
from oumi_flow.tokens.locks import is_same_file, make_shared_folder, open_lock

# Seconds. An owner looks four times a second, so one that did not for so long does not look.
_ASLEEP = 5.0
_BEAT = 1.0
_TURN_PATIENCE, _TURN_PAUSE, _TURN_STUCK = 0.05, 0.001, 1.0

_MOST_BYTES = 1 << 16
_NAME = pattern(r"(\d{20})-\d+-[0-9a-f]{8}")
_TOKEN = pattern(r"gpu-[\w-]+")  # it becomes a path
_USELESS = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO}  # not for us, or no file
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Needs = tuple[tuple[int, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What somebody waits for, and who it is, for others to read."""

    needs: Needs  # of each group of tokens, so many
    auto: bool = True  # no GPU was named, so none that a stranger uses will do
    run: str = ""
    user: str = ""
    job: str = ""
    name: str = ""

    @property
    def since(self) -> float:
        """In seconds of the monotonic clock."""
        return int(self.name[:20]) / 1e9

    @property
    def usable(self) -> frozenset[str]:
        return frozenset(token for _, tokens in self.needs for token in tokens)


class Place:
    """A ticket of ours. It stands for as long as this is not dropped."""

    def __init__(self, path: str, fd: int, ticket: Ticket) -> None:
        self._path, self._fd, self.ticket = path, fd, ticket
        self._beaten = time.monotonic()

    def beat(self) -> bool:
        """Say that we still look; to be called often. False: the file is gone, draw another."""
        now = time.monotonic()
        if now - self._beaten < _BEAT:
            return True
        self._beaten = now
        try:
            os.pwrite(self._fd, _beat(), 0)
            return is_same_file(self._fd, self._path)
        except OSError:
            return False

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        os.close(self._fd)


class Queue:
    """The folder of tickets below the folder of locks. For one thread."""

    def __init__(self, locks: str) -> None:
        self._locks = locks
        self._folder = os.path.join(locks, "queue")
        self._dead: set[str] = set()  # of others, whom only they can remove
        self._stuck = 0.0  # until when nobody's turn is waited for

    def draw(self, ticket: Ticket, since: float) -> Place | None:
        """Stand in line as one who has waited since then (monotonic seconds), if that can be."""
        name = f"{beginning(since)}-{os.getpid()}-{os.urandom(4).hex()}"
        path = os.path.join(self._folder, name)
        draft = f"{path}~"
        fd = -1
        try:
            make_shared_folder(self._folder)
            fd = os.open(draft, _MAKE, 0o600)
            # Under its own name it is there locked, whole, and to be read by everybody.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(fd, _beat() + _written(ticket), 0)
            os.fchmod(fd, 0o644)
            os.rename(draft, path)
        except OSError:  # the folder is of no use, the disk full, or somebody swept our draft
            with contextlib.suppress(OSError):
                os.unlink(draft)
            if fd >= 0:
                os.close(fd)
            return None
        return Place(path, fd, _named(ticket, name))

    def names(self) -> set[str]:
        """Of tickets that may be alive, drafts among them. Costs one listing of the folder."""
        try:
            there = {name for name in os.listdir(self._folder) if _NAME.match(name)}
        except OSError:
            return set()
        self._dead &= there
        return there - self._dead

    def line(self, names: Collection[str]) -> list[Ticket]:
        """Those of them that are alive and awake, the oldest first. Sweeps away the dead."""
        found = [self._read(name) for name in sorted(names)]
        return [ticket for ticket in found if ticket is not None]

    def _read(self, name: str) -> Ticket | None:
        path = os.path.join(self._folder, name)
        try:
            fd = os.open(path, _READ)
        except OSError as fault:
            if fault.errno in _USELESS:
                self._dead.add(name)
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                self._dead.add(name)
                return None
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _parsed(name, os.pread(fd, _MOST_BYTES, 0))
            # No one name is ever used twice, so nobody can be about to lock it.
            self._dead.add(name)
            with contextlib.suppress(OSError):  # only its owner's
                os.unlink(path)
            return None
        except OSError:
            return None
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Look and take while nobody else does. Goes on without after some 50 ms.

        This keeps the order only: that no two have a token, the token's own lock sees to.
        """
        fd = -1
        with contextlib.suppress(FlowError, OSError):
            make_shared_folder(self._folder)
            fd = open_lock(os.path.join(self._folder, "lock"))
        if fd < 0:
            yield
            return
        try:
            self._await_turn(fd)
            yield
        finally:
            os.close(fd)  # frees it: nobody has inherited it

    def _await_turn(self, fd: int) -> None:
        now = time.monotonic()
        end = now if now < self._stuck else now + _TURN_PATIENCE
        while True:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() >= end:
                break
            time.sleep(_TURN_PAUSE)
        if now >= self._stuck:
            self._stuck = now + _TURN_STUCK  # somebody is stopped while it was his turn


def beginning(since: float) -> str:
    """What the name of a ticket begins with, the order of the line. `since`: monotonic seconds."""
    return f"{max(0, int(since * 1e9)):020}"


def _beat() -> bytes:
    return b"%020d\n" % time.monotonic_ns()


def _written(ticket: Ticket) -> bytes:
    data = {
        "needs": ticket.needs,
        "auto": ticket.auto,
        "run": ticket.run,
        "user": ticket.user,
        "job": ticket.job,
    }
    return json.dumps(data).encode()


def _named(ticket: Ticket, name: str) -> Ticket:
    return Ticket(ticket.needs, ticket.auto, ticket.run, ticket.user, ticket.job, name)


def _parsed(name: str, text: bytes) -> Ticket | None:
    """None for one whose owner sleeps, and for what is no ticket."""
    if not _NAME.fullmatch(name):
        return None  # a draft
    try:
        beat, _, rest = text.partition(b"\n")
        if time.monotonic_ns() - int(beat) > _ASLEEP * 1e9:
            return None
        data = json.loads(rest)
        needs = tuple((int(count), tuple(map(_token, group))) for count, group in data["needs"])
        if not needs or any(not 1 <= count <= len(group) for count, group in needs):
            return None
        who = [str(data.get(key, "")) for key in ("run", "user", "job")]
        return Ticket(needs, bool(data.get("auto", True)), who[0], who[1], who[2], name)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _token(word: object) -> str:
    if not isinstance(word, str) or not _TOKEN.fullmatch(word):
        raise ValueError("no token's name")
    return word
