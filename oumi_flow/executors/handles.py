"""Attempts as they are on disk: whose process looks after them, whether it lives, how they ended.

Reads the state files of one folder at a time; the only thing it ever writes is that an attempt
which nobody looks after yet may not be started any more. Stops nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from oumi_flow import identity
from oumi_flow.executors import processes
from oumi_flow.executors.base import Exit, Handle
from oumi_flow.executors.processes import boot_id
from oumi_flow.executors.state_dir import StateDir
from oumi_flow.typed import Any

_OWNER = "owner.json"  # in the state folder of an output folder, never in a job's
_OPEN_STATES = ("starting", "running")  # of an attempt that nobody has written an end for


def recorded(state_dir: str) -> Handle | None:
    """The handle in that folder's attempt.json, of a live process or a dead one. Writes nothing."""
    try:
        state = StateDir(state_dir)
    except OSError:
        return None
    try:
        return _as_handle(state.read("attempt.json").get("handle"), state_dir)
    finally:
        state.close()


def is_alive(handle: Handle) -> bool:
    """Whether its supervisor runs: that pid, started at that time, since that boot.

    That may look after another attempt by now, if it is recorded how this one ended.
    """
    return handle.boot_id == boot_id() and processes.is_alive(handle.pid, handle.start_ticks)


def refuse_living_elsewhere(handle: Handle) -> None:
    """Raise Locked if its supervisor runs on another host: it holds its record locked."""
    if handle.host in ("", identity.host()):
        return
    try:
        state = StateDir(handle.state_dir)
    except OSError:
        return
    try:
        if not state.is_held():
            return
    finally:
        state.close()
    from oumi_flow.errors import Locked

    where = f"{handle.host} (supervisor pid {handle.pid})"
    raise Locked(
        f'job "{handle.job}" of a lost run still runs on {where}',
        hint="give the command there; "
        f"if that machine is gone for good, remove {handle.state_dir}/attempt.json",
    )


def living(folder: str) -> list[Handle]:
    """Attempts of any run of that output folder that go on under their supervisors.

    Those of another workflow, whose output folder lies in this one, are not among them.
    """
    found, top = [], os.path.realpath(folder)
    for pid, state_dir in processes.supervisors_at([folder]):
        handle = recorded(state_dir)
        if handle is None or handle.pid != pid or not is_alive(handle):
            continue
        if _is_of_another(state_dir, top):
            continue
        if read_exit(state_dir, handle.token) is None:  # else it is about to go
            found.append(handle)
    return sorted(found, key=lambda handle: handle.job)


def _is_of_another(state_dir: str, top: str) -> bool:
    """Whether an output folder that lies in `top` stands between the two."""
    folder, state = os.path.split(state_dir)
    while len(folder := os.path.dirname(folder)) > len(top):
        if os.path.lexists(f"{folder}/{state}/{_OWNER}"):
            return True
    return False


def read_exit(state_dir: str, token: str) -> Exit | None:
    """How that attempt ended, as its supervisor recorded it; None when it did not."""
    try:
        state = StateDir(state_dir)
    except OSError:
        return None
    try:
        data = state.ended(token)
    finally:
        state.close()
    return Exit.from_json(data) if data else None


def open_attempt(state_dir: str) -> Handle | None:
    """The handle of an attempt without an end; one without a handle can never start after this."""
    try:
        state = StateDir(state_dir)
    except OSError:
        return None
    try:
        state.lock()  # or one that is about to have a handle looks as if it had none
        attempt = state.read("attempt.json")
        state.unlock()
        token = attempt.get("token")
        if attempt.get("state", "running") not in _OPEN_STATES or not isinstance(token, str):
            return None
        return _as_handle(attempt.get("handle") or state.revoke(token), state_dir)
    except OSError:
        return None
    finally:
        state.close()


def settled(handle: Handle) -> Handle:
    """The handle as its supervisor recorded it. One that has not done so by now never will."""
    try:
        state = StateDir(handle.state_dir)
    except OSError:
        return handle
    try:
        return _as_handle(state.revoke(handle.token), handle.state_dir) or handle
    except OSError:
        return handle
    finally:
        state.close()


def _as_handle(data: Any, state_dir: str) -> Handle | None:
    if not isinstance(data, Mapping):
        return None
    try:
        return Handle.from_json({**data, "state_dir": state_dir})
    except ValueError:
        return None


class Watched:
    """A supervisor that is no child of our server, seen from outside."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle if handle.pid else settled(handle)
        self.token = handle.token
        self.pidfd = -1
        if is_alive(self.handle) and hasattr(os, "pidfd_open"):
            try:
                self.pidfd = os.pidfd_open(self.handle.pid)
            except OSError:
                self.pidfd = -1

    def has_ended(self) -> bool:
        return not is_alive(self.handle) or self._told()

    def _told(self) -> bool:
        return read_exit(self.handle.state_dir, self.token) is not None

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
