"""Room in a cache: beyond its limit the least recently used entries go.

To look at all entries for each that comes would make a run of N jobs cost N² looks. So their sum is
kept in mind, and once some have to go, their order too. Others may use the same cache: after each
eighth of the limit that came, and before anything is removed for the first time, all is looked at
again; an entry is removed only if nobody has used it since.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

from oumi_flow.store.cache import entry
from oumi_flow.typed import NamedTuple

_LOOK_AGAIN = 8  # times while as much comes as there may be


class _Kept(NamedTuple):
    """In the order in which they go: torn ones have no time of use."""

    used: int  # ns
    name: str
    size: int  # bytes


class Room:
    """Safe to use from many threads; one of them looks, or removes, at a time."""

    def __init__(
        self, folder: str, max_size: int | None, aside: Callable[[], str] = lambda: ""
    ) -> None:
        """`max_size`: bytes, as `entry.limit_of` takes them; `aside`: a name for what goes."""
        self._folder, self._max_size, self._aside = folder, max_size, aside
        self._lock = Lock()
        self._total = 0  # bytes, as far as we know
        self._came: int | None = None  # bytes since we looked; None: we never did
        # All entries in the order in which they go, by name; None before some had to.
        self._order: dict[str, _Kept] | None = None

    def make(self, key: str) -> None:
        """The entry of that build key has come: let others go for it, and itself last of all."""
        with self._lock, suppress(OSError):
            limit = entry.limit_of(self._folder, self._max_size)
            new = self._kept(key)
            if self._came is None or self._came + new.size > limit // _LOOK_AGAIN:
                self._look()
            else:
                self._came += new.size
                self._total += new.size
                if self._order is not None:
                    if (old := self._order.pop(key, None)) is not None:
                        self._total -= old.size
                    self._order[key] = new
            if self._total > limit and self._order is None:
                self._look(ordered=True)
            while self._total > limit and self._order:
                self._let_go(key)

    def let_out(self, key: str, take: Callable[[], bool]) -> bool:
        """Have an entry taken out by `take`, which says whether it was there."""
        with self._lock:
            size = entry.size_of(f"{self._folder}/{key}")
            if not take():
                return False
            self._total = max(0, self._total - size)
            if self._order is not None:
                self._order.pop(key, None)
            return True

    def forget(self) -> None:
        """Something else became of entries: look at all when the next one comes."""
        with self._lock:
            self._came = None

    def _look(self, ordered: bool = False) -> None:
        found = [self._kept(name) for name in os.listdir(self._folder) if entry.is_key(name)]
        self._total, self._came = sum(each.size for each in found), 0
        if ordered or self._order is not None:
            self._order = {each.name: each for each in sorted(found)}

    def _kept(self, name: str) -> _Kept:
        path = f"{self._folder}/{name}"
        return _Kept(entry.last_used(path), name, entry.size_of(path))

    def _let_go(self, key: str) -> None:
        """The next one, if it is still as we knew it."""
        assert self._order is not None
        first = self._order.pop(next(iter(self._order)))
        if first.name == key and self._order:
            self._order[key] = first
            return
        path = f"{self._folder}/{first.name}"
        used = entry.last_used(path)
        if used > first.used:
            self._order[first.name] = first._replace(used=used)
        elif entry.remove(path, self._aside()) or not os.path.lexists(path):
            self._total -= first.size
