"""Secrets in a stream of bytes, replaced before anybody can read them. Knows no files."""

from __future__ import annotations

from collections.abc import Iterable

SHORTEST_MASKED = 6  # characters; shorter secrets would mask half the log


class Masker:
    """Writes bytes through, with every secret replaced, also one that comes in pieces."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        import re

        self._secrets = sorted(set(secrets), key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets)))
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be written now. At most one secret's length stays behind."""
        data = self._held + data
        limit = self._first_beginning(data)
        done: list[bytes] = []
        position = 0
        for match in self._pattern.finditer(data):
            if match.start() >= limit:
                break  # a longer secret may begin here
            done += (data[position : match.start()], b"****")
            position = match.end()
        end = max(limit, position)
        done.append(data[position:end])
        self._held = data[end:]
        return b"".join(done)

    def finish(self) -> bytes:
        """What stayed behind, at the end of everything."""
        rest, self._held = self._held, b""
        return self._pattern.sub(b"****", rest)

    def _first_beginning(self, data: bytes) -> int:
        """Where the earliest secret begins that `data` ends in the middle of."""
        longest = len(self._secrets[0])
        for start in range(max(0, len(data) - longest + 1), len(data)):
            tail = data[start:]
            if any(len(tail) < len(one) and one.startswith(tail) for one in self._secrets):
                return start
        return len(data)
