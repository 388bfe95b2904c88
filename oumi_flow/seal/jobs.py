"""Which jobs looked at which paths: from what has moved, to the jobs that are to be judged again.

The second half of a seal, for which a run with nothing to do has no use. Jobs are known by their
place in the sealed plan, which is in topological order. What a job is, and whether it is stale, is
for others to say.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence

from oumi_flow.seal import Look, Numbers, OtherError, decoded, entries_of, lengths
from oumi_flow.typed import Any

# Jobs whose rows are in one frame: few are read, and written anew, when one of them has run.
ROWS = 1024


class Groups:
    """A list of numbers for each place, as two packed arrays."""

    def __init__(self, packed: tuple[bytes, bytes]) -> None:
        self._ends, self.members = (memoryview(each).cast("I") for each in packed)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place: int) -> list[int]:
        start = self._ends[place - 1] if place else 0
        return self.members[start : self._ends[place]].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        start, members = 0, self.members.tolist()
        for end in self._ends.tolist():
            yield members[start:end]
            start = end

    @staticmethod
    def packed(lists: Iterable[Sequence[int]]) -> tuple[bytes, bytes]:
        from array import array

        ends, members = array("I"), array("I")
        for numbers in lists:
            members.extend(numbers)
            ends.append(len(members))
        return ends.tobytes(), members.tobytes()


class SealedJobs:
    """The seal that a look was taken at, whole. Raises OtherError, OSError when it is not there."""

    def __init__(self, look: Look) -> None:
        self.path, self.index = look.path, look.index
        with open(self.path, "rb", buffering=0) as file:
            data = file.read(os.fstat(file.fileno()).st_size) or b""
        sizes = lengths(self.index)
        if len(data) != sum(sizes) + len(self.index) or not data.endswith(self.index):
            raise OtherError
        self._entries = entries_of(self.index)
        self.frames: list[memoryview] = []
        view, at = memoryview(data), 0
        for length in sizes:
            self.frames.append(view[at : at + length])
            at += length
        self.head: dict[str, Any] = self._in(0)
        self.parts: int = self.head["parts"]
        # After the head and the parts a frame of jobs, their rows, and whose the files of each part
        # are.
        self.jobs: dict[str, Any] = self._in(self.parts + 1)
        self.names: list[str] = self.jobs["names"].decode("utf-8", "surrogateescape").split("\0")
        self.snapshot: Numbers = self.jobs["snapshot"]
        self.upstream = Groups(self.jobs["upstream"])
        self._downstream = Groups(self.jobs["downstream"])
        self._lines = memoryview(self.jobs["lines"]).cast("Q")
        self.ends: Sequence[int] = memoryview(self.jobs["rows"]).cast("Q")  # of each row
        self.first_rows = self.parts + 2
        self.first_owners = self.first_rows + len(range(0, len(self.names), ROWS))
        if len(self.ends) != len(self.names) or len(self.frames) != self.first_owners + self.parts:
            raise OtherError

    def _in(self, frame: int) -> Any:
        return decoded(self._entries[frame], self.frames[frame])

    def part(self, number: int) -> tuple[bytes, bytes, bytes]:
        """Paths, stamps and digests of a part."""
        found: tuple[bytes, bytes, bytes] = self._in(1 + number)
        return found

    def owners(self, part: int) -> Groups:
        """Who looked at each file of a part. Nobody: who loaded the workflow."""
        return Groups(self._in(self.first_owners + part))

    def some_rows(self, number: int) -> bytes:
        """What a plan tells of each of `ROWS` jobs, as JSON with commas in between."""
        found: bytes = self._in(self.first_rows + number)
        return found

    def rows(self) -> tuple[bytes, Sequence[int]]:
        """The same of all jobs, and where each ends."""
        text = b",".join(map(self.some_rows, range(self.first_owners - self.first_rows)))
        if self.ends[-1] != len(text):
            raise OtherError
        return text, self.ends

    def line(self, place: int) -> tuple[int, int]:
        """Where in the snapshot a job begins and ends."""
        return self._lines[2 * place], self._lines[2 * place + 1]

    def touched(self, look: Look) -> set[int]:
        """The jobs that looked at what has moved. Raises OtherError if that was not jobs only."""
        found: set[int] = set()
        read: dict[int, Groups] = {}
        for file in look.moved:
            if file.part not in read:
                read[file.part] = self.owners(file.part)
            found.update(_some(read[file.part][file.place]))
        for folder in look.folders:
            found.update(_some(self.jobs["listings"].get(folder, ())))
        return found

    def with_downstream(self, jobs: Collection[int]) -> set[int]:
        """These, and all that come after them."""
        found = set(jobs)
        waiting = list(found)
        for job in waiting:  # a list that grows and not a recursion: a chain may be long
            for below in self._downstream[job]:
                if below not in found:
                    found.add(below)
                    waiting.append(below)
        return found


def _some(owners: Collection[int]) -> Collection[int]:
    if not owners:
        raise OtherError
    return owners
