"""The log of a run's events, and the requests made to a run: lines of JSON, append only.

Knows lines and when a log has ended; what an event means is its reader's affair.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping

from oumi_flow.events import Event, RunFinished, from_line, to_bytes
from oumi_flow.store.files import Files, told
from oumi_flow.typed import Any

POLL_S = 0.1
_BLOCK = 1 << 20


class EventLog:
    """Appends events; each is on its way to the disk, whole, when `append` returns."""

    def __init__(self, path: str, files: Files) -> None:
        self.path = path
        self._files = files
        self._torn = False
        self._descriptor = self._open()

    def append(self, event: Event) -> None:
        """Write one event. Raises FlowError; later calls may succeed again (the disk was full)."""
        data = to_bytes(event)
        if self._torn:  # end the line that was cut, so that only it is lost
            data = b"\n" + data
        with told(self.path, "write"):
            self._torn = True
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._torn = False

    def restore(self) -> bool:
        """Copy what was told so far to our path, if its file is gone from there; whether it was.

        Raises FlowError; then it goes on in the file that it had.
        """
        if os.path.lexists(self.path):
            return False
        size, data = os.fstat(self._descriptor).st_size, b""
        with told(self.path, "read"):
            while len(data) < size and (block := os.pread(self._descriptor, _BLOCK, len(data))):
                data += block
        self._files.write(self.path, data)
        before, self._descriptor = self._descriptor, self._open()
        os.close(before)
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        self._files.make_folder(os.path.dirname(self.path))
        with told(self.path, "write"):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            return os.open(self.path, flags, self._files.mode)


class Lines:
    """The complete lines of a growing file, each once. A missing file has none yet.

    `anew`: another file of that name is read from its beginning, and not on from where we were.
    """

    def __init__(self, path: str, *, anew: bool = False) -> None:
        self._path, self._anew = path, anew
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._rest = b""

    def new(self) -> Iterator[str]:
        """The lines that came since the last call."""
        try:
            # A fifo that lies there would hold us up.
            if not stat.S_ISREG(os.stat(self._path).st_mode):
                return
            file = open(self._path, "rb")  # noqa: SIM115 - closed below, opened apart to catch
        except OSError:
            return
        with file:
            if self._anew:
                seen = os.fstat(file.fileno())
                if self._file != (seen.st_dev, seen.st_ino) or seen.st_size < self._offset:
                    self._file = seen.st_dev, seen.st_ino
                    self._offset, self._rest = 0, b""
            file.seek(self._offset)
            while block := file.read(_BLOCK):
                self._offset += len(block)
                *lines, self._rest = (self._rest + block).split(b"\n")
                for line in lines:
                    if line:
                        yield line.decode("utf-8", "replace")


def read_events(path: str) -> Iterator[Event]:
    """The events told so far; torn or unknown lines are skipped."""
    for line in Lines(path).new():
        event = from_line(line)
        if event is not None:
            yield event


def follow_events(
    path: str, alive: Callable[[], bool], sleep: Callable[[float], object] = time.sleep
) -> Iterator[Event]:
    """The events told so far and those to come, until RunFinished or until `alive` says no.

    Blocks between events. `alive` is asked only when nothing new has come.
    """
    lines = Lines(path)
    last_look = False
    while True:
        quiet = True
        for line in lines.new():
            event = from_line(line)
            if event is None:
                continue
            quiet = False
            yield event
            if isinstance(event, RunFinished):
                return
        if not quiet:
            continue
        if last_look:
            return
        # What it wrote before it died is read once more.
        last_look = not alive()
        if not last_look:
            sleep(POLL_S)


def request(path: str, wish: Mapping[str, Any], files: Files) -> None:
    """Ask something of a run, for example `{"kind": "cancel", "jobs": [...]}`. Raises FlowError."""
    files.make_folder(os.path.dirname(path))
    line = json.dumps(dict(wish), ensure_ascii=True, separators=(",", ":"))
    # The newline before it ends a line that somebody else was cut off in.
    files.append(path, b"\n" + line.encode() + b"\n")


class ControlReader:
    """Requests to a run, each told once."""

    def __init__(self, path: str) -> None:
        self._lines = Lines(path, anew=True)  # its folder may be deleted, and made anew

    def poll(self) -> list[dict[str, Any]]:
        """The requests that came since the last call; what is no JSON object is left out."""
        found = []
        for line in self._lines.new():
            try:
                wish = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(wish, dict):
                found.append(wish)
        return found
