"""The run lock: one live run an output folder, and one workflow an output folder.

A kernel lock on a file that is never deleted: it ends with its holder, however that dies, so there
is nothing to unlock by hand. What the file says is for words only.
"""

from __future__ import annotations

import os
import time
from typing import Any

from oumi_flow.errors import BAD_WORKFLOW, FlowError, Locked
from oumi_flow.model import FORMAT
from oumi_flow.store.files import Files, parse, read_bytes, read_json, to_json, told
from oumi_flow.store.paths import Paths

# Who merely looks whether the lock is held takes it for a moment; that long we try again.
_PATIENCE_S = 0.3


class RunLock:
    """The lock, held from `take` until `close` or the end of the process. A context manager.

    `descriptor` is closed on exec; who forks without exec has to close it in the child, or the
    child holds the folder.
    """

    def __init__(self, paths: Paths, files: Files) -> None:
        self._paths = paths
        self._files = files
        self.descriptor = -1

    def take(self, run_id: str, name: str, path: str) -> RunLock:
        """Take the lock for a run of workflow `name` in file `path`. Does not wait.

        Raises Locked (exit 3) when a live run has it, FlowError (exit 2) when the folder belongs
        to another workflow or cannot be written.
        """
        self._files.make_folder(self._paths.state, BAD_WORKFLOW)
        with told(self._paths.lock, "open", BAD_WORKFLOW):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._paths.lock, flags, self._files.mode)
        try:
            until = time.monotonic() + _PATIENCE_S
            while not self._try(descriptor):
                if time.monotonic() >= until:
                    raise self._held()
                time.sleep(0.02)
            self._check_owner(name, path)
            self._sign(descriptor, run_id, name, path)
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor
        return self

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try(self, descriptor: int) -> bool:
        import fcntl

        with told(self._paths.lock, "lock", BAD_WORKFLOW):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _held(self) -> Locked:
        who = said(self._paths) or {}
        run = who.get("run_id", "another run")
        return Locked(
            f"{self._paths.output_dir}: run {run} holds this folder "
            f"(pid {who.get('pid', '?')} on {who.get('host', '?')}, user {who.get('user', '?')})",
            hint=f"`oumi-flow monitor {run}` watches it, `oumi-flow cancel {run}` stops it",
        )

    def _check_owner(self, name: str, path: str) -> None:
        """Refuse a folder that a workflow of another file *and* another name made."""
        here = _relative(path, self._paths.output_dir)
        owner = read_json(self._paths.owner) or {}
        was_name, was_path = owner.get("workflow"), owner.get("path")
        if isinstance(was_name, str) and isinstance(was_path, str):
            if was_name != name and was_path != here:
                was = os.path.normpath(os.path.join(self._paths.output_dir, was_path))
                raise FlowError(
                    f'{self._paths.output_dir}: belongs to the workflow "{was_name}" of {was}, '
                    f'not to "{name}" of {path}',
                    hint="give this workflow an `output_dir` of its own; if it replaces the other "
                    f"one, remove {self._paths.owner}",
                )
            if was_name == name and was_path == here:
                return
        self._files.write_json(self._paths.owner, {"workflow": name, "path": here})

    def _sign(self, descriptor: int, run_id: str, name: str, path: str) -> None:
        import getpass
        import socket

        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a user id without a name, as in containers
            user = str(os.getuid())
        text = to_json(
            {
                "format": FORMAT,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "user": user,
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


def _relative(path: str, output_dir: str) -> str:
    """The workflow file as seen from the output folder: the same after both have moved."""
    return os.path.relpath(os.path.realpath(path), os.path.realpath(output_dir))
