"""The run lock: one live run an output folder, and one workflow an output folder.

Two locks of the kernel, which end with their holder, however that dies, so there is nothing to
unlock by hand. One is on a file in the folder, never deleted by us: it holds for whoever sees the
folder, from other hosts and under other names too. The other is on the folder's place, by the name
of a socket: it holds on this host even when somebody deletes the folder, or moves it away and puts
another there. What the file says is for words only.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import closing, suppress

from oumi_flow import identity
from oumi_flow.disk import is_settled, stamp_of
from oumi_flow.errors import BAD_WORKFLOW, FlowError, Locked
from oumi_flow.hashing import blake2b
from oumi_flow.model import FORMAT, Stamp
from oumi_flow.sockets import AF_UNIX, SO_PEERCRED, SOCK_STREAM, SOL_SOCKET, socket
from oumi_flow.store.files import Files, parse, read_bytes, read_json, to_json, told
from oumi_flow.store.paths import Paths
from oumi_flow.typed import Any

# Who merely looks whether the lock is held takes it for a moment; that long we try again.
_PATIENCE_S = 0.3
# A live run whose folder was deleted makes it anew within this time, and then says who it is.
_KEPT_ANEW_S = 1.0


class _Foreign(FlowError):
    """The folder was made by a workflow of another file and name."""


class RunLock:
    """The lock, held from `take` until `close` or the end of the process. A context manager.

    `descriptor` is closed on exec; who forks without exec has to close it in the child, or the
    child holds the folder.
    """

    def __init__(self, paths: Paths, files: Files) -> None:
        self._paths = paths
        self._files = files
        self._whose = ("", "", "")
        self._place: socket | None = None
        self.descriptor = -1
        self.found: Stamp | None = None  # of the lock file, as whoever had it last left it

    def take(self, run_id: str, name: str, path: str) -> RunLock:
        """Take the lock for a run of workflow `name` in file `path`. Does not wait.

        Raises Locked (exit 3) when a live run has it, FlowError (exit 2) when the folder belongs
        to another workflow or cannot be written.
        """
        self._whose = (run_id, name, path)
        try:
            self._files.make_folder(self._paths.state, BAD_WORKFLOW)
            self._take_place()
            self._take_file()
        except BaseException:
            self.close()
            raise
        return self

    def keep(self) -> bool:
        """To be asked now and then: hold the file that is at our path now, if it is another one.

        Returns whether it is: the folder, or what is in it, was deleted or moved away under us.
        Raises Locked when another run holds it or it belongs to another workflow: then nothing in
        it is ours any more; FlowError when there is no place left to make it in. Costs a look at
        the disk; one that fails says nothing.
        """
        if self._is_ours(self.descriptor):
            return False
        before, self.descriptor = self.descriptor, -1
        try:
            self._files.make_folder(self._paths.state)
            self._take_file()
        except (Locked, _Foreign) as fault:
            os.close(before)
            raise Locked(fault.message, fault.hint) from fault
        except FlowError:
            self.descriptor = before  # perhaps its disk is full: next time
            if not os.path.isabs(self._paths.output_dir) and not _stands_somewhere():
                words = "the folder that this run stands in was deleted"
                raise FlowError(f"{words}; nothing can be recorded any more") from None
            return False
        os.close(before)
        return True

    def was_free_since(self, before: Stamp | None, then_ns: int) -> bool:
        """Whether nobody else has had the lock since its file had the stamp `before`.

        Every holder signs the file, once, when he takes the lock: of one who had it when the stamp
        was taken this says nothing. `then_ns` (unix time): not later than the stamp was taken.
        """
        if self.found is None:
            return False
        if before is None:
            return self.found.size == 0  # made by us: nobody has signed it yet
        return self.found == before and is_settled(before, then_ns)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self._place is not None:
            self._place.close()
            self._place = None

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_file(self) -> None:
        until = time.monotonic() + _PATIENCE_S
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        while self.descriptor < 0:
            with told(self._paths.lock, "open", BAD_WORKFLOW):
                descriptor = os.open(self._paths.lock, flags, self._files.mode)
            try:
                if not self._try(descriptor):
                    if time.monotonic() >= until:
                        raise _held(self._paths, said(self._paths) or {})
                    time.sleep(0.02)
                elif self._is_ours(descriptor):  # else deleted since we opened it
                    self._check_owner(*self._whose[1:])
                    self.found = stamp_of(os.fstat(descriptor))
                    self._sign(descriptor, *self._whose)
                    self.descriptor = descriptor
            finally:
                if self.descriptor != descriptor:
                    os.close(descriptor)

    def _take_place(self) -> None:
        # In the abstract namespace: no file, nothing to clean up, gone with its holder.
        place = socket(AF_UNIX, SOCK_STREAM)
        name = b""
        try:
            name = _place_of(self._paths.output_dir)
            place.bind(name)
            place.listen()  # so that who comes later may ask the kernel who we are
        except OSError as error:
            place.close()
            if error.errno != errno.EADDRINUSE:
                return  # where there are no such sockets, the file alone has to do
            raise _held(self._paths, self._who_has(name)) from error
        self._place = place

    def _who_has(self, name: bytes) -> dict[str, Any]:
        """What the holder of our place says of itself, or the kernel of it. Waits a moment."""
        peer = _peer(name)
        until = time.monotonic() + _KEPT_ANEW_S
        while time.monotonic() < until:
            who = holder(self._paths) or {}
            # Until it has signed, the words are those of an earlier one.
            if who and peer.get("pid", 0) in (0, who.get("pid")):
                return who
            time.sleep(0.02)
        return peer

    def _try(self, descriptor: int) -> bool:
        import fcntl

        with told(self._paths.lock, "lock", BAD_WORKFLOW):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _is_ours(self, descriptor: int) -> bool:
        """Whether the file at our path is the one that this descriptor is of."""
        try:
            there = os.stat(self._paths.lock)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # nobody knows: a network file system that hangs is no lost folder
        return os.path.samestat(there, os.fstat(descriptor))

    def _check_owner(self, name: str, path: str) -> None:
        """Refuse a folder that a workflow of another file *and* another name made."""
        here = _relative(path, self._paths.output_dir)
        owner = read_json(self._paths.owner) or {}
        was_name, was_path = owner.get("workflow"), owner.get("path")
        if isinstance(was_name, str) and isinstance(was_path, str):
            if was_name != name and was_path != here:
                was = os.path.normpath(os.path.join(self._paths.output_dir, was_path))
                raise _Foreign(
                    f'{self._paths.output_dir}: belongs to the workflow "{was_name}" of {was}, '
                    f'not to "{name}" of {path}',
                    hint="give this workflow an `output_dir` of its own; if it replaces the other "
                    f"one, remove {self._paths.owner}",
                )
            if was_name == name and was_path == here:
                return
        self._files.write_json(self._paths.owner, {"workflow": name, "path": here})

    def _sign(self, descriptor: int, run_id: str, name: str, path: str) -> None:
        text = to_json(
            {
                "format": FORMAT,
                "pid": os.getpid(),
                "host": identity.host(),
                "user": identity.user(),
                "run_id": run_id,
                "workflow": name,
                "path": path,
                "started": time.time(),
            }
        )
        with told(self._paths.lock, "write", BAD_WORKFLOW):
            # In place, as another file would be another lock. A reader in between may see torn
            # words: it then knows that the folder is held, not by whom.
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))


def holder(paths: Paths) -> dict[str, Any] | None:
    """What the live run that holds the lock says of itself; None when nobody holds it.

    Keys: pid, host, user, run_id, workflow, path, started; fewer if it is only just starting.
    """
    import fcntl

    try:
        descriptor = os.open(paths.lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return said(paths) or {}
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def said(paths: Paths) -> dict[str, Any] | None:
    """What the latest holder wrote into the lock file, alive or not."""
    found = read_bytes(paths.lock)
    value = parse(found[0]) if found is not None else None
    return value if isinstance(value, dict) else None


def _stands_somewhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    except OSError:  # it may be there and not be named
        return True
    return True


def _held(paths: Paths, who: dict[str, Any]) -> Locked:
    run, pid = who.get("run_id"), who.get("pid", "?")
    words = f"(pid {pid} on {who.get('host', '?')}, user {who.get('user', '?')})"
    if run is None:  # it is only just starting, or its folder was deleted
        return Locked(
            f"{paths.output_dir}: another run holds this folder {words}",
            hint="wait until it has ended; `oumi-flow status` lists your runs",
        )
    return Locked(
        f"{paths.output_dir}: run {run} holds this folder {words}",
        hint=f"`oumi-flow monitor {run}` watches it, `oumi-flow cancel {run}` stops it",
    )


def _place_of(output_dir: str) -> bytes:
    """A socket's name for the place of a folder: what it is called, and in which folder.

    Not its path, which in a container may be that of another folder.
    """
    parent, name = os.path.split(os.path.realpath(output_dir))
    seen = os.stat(parent)
    digest = blake2b(os.fsencode(name), digest_size=16).hexdigest()
    return f"\0oumi-flow/{seen.st_dev:x}/{seen.st_ino:x}/{digest}".encode()


def _peer(name: bytes) -> dict[str, Any]:
    """What the kernel says of the process that listens at that name."""
    import struct

    with suppress(OSError), closing(socket(AF_UNIX, SOCK_STREAM)) as peer:
        peer.setblocking(False)
        peer.connect(name)
        pid, user, _ = struct.unpack("3i", peer.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))
        return {"pid": pid, "user": identity.user_of(user), "host": identity.host()}
    return {}


def _relative(path: str, output_dir: str) -> str:
    """The workflow file as seen from the output folder: the same after both have moved."""
    return os.path.relpath(os.path.realpath(path), os.path.realpath(output_dir))
