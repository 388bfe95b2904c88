"""Which job makes what lies at a path, and which jobs would write over each other.

Compares paths as text, made absolute and tidy; a path that nobody makes by that name is tried
where links lead to. Looks at nothing else of a file.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from operator import itemgetter

from oumi_flow.dataclass import dataclass, field
from oumi_flow.disk import is_glob
from oumi_flow.model import Counts
from oumi_flow.typed import NamedTuple
from oumi_flow.verbs.places import inside


class Made(NamedTuple):
    """A path that a job makes. `label` names it within the job: "" its folder or place."""

    job: str
    path: str
    counts: Counts

    def below(self, rest: str) -> str:
        """What lies below it, written as its own path is."""
        return f"{self.path}/{rest}" if rest else self.path


@dataclass(slots=True)
class PlaceIndex:
    """Finds the maker of a path: the longest place that holds it."""

    base: str
    output_dir: str = "."
    real: dict[str, Made] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)  # by the places configs name
    results: list[tuple[str, str]] = field(default_factory=list)  # absolute path, its job
    links: dict[str, str] = field(default_factory=dict)  # asked for, and where they lead
    _is_sorted: bool = False
    _links: list[tuple[str, str]] | None = None  # folders that are made in, where they really lie
    _real_folders: dict[str, str] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)  # what is there, and no link to somewhere else
    _other_names: dict[str, list[str]] = field(default_factory=dict)
    _absolute: dict[str, str] = field(default_factory=dict)
    _around: dict[str, str] = field(default_factory=dict)  # see `_nearest`

    def absolute(self, path: str) -> str:
        found = self._absolute.get(path)
        if found is None:
            whole = path if path.startswith("/") else f"{self.base}/{path}"
            found = self._absolute[path] = os.path.normpath(whole)
        return found

    def add(self, made: Made) -> None:
        """Notes what a job makes; the first to name a path has it."""
        self.real.setdefault(self.absolute(made.path), made)
        self._around.clear()

    def add_named(self, path: str, job: str) -> None:
        """Notes the place that a job's config names, which is not where it writes."""
        self.named.setdefault(self.absolute(path), []).append(job)
        self._around.clear()

    def add_result(self, path: str, job: str) -> None:
        """Notes a file or folder that a job writes, for `makers`."""
        self.results.append((self.absolute(path), job))
        self._is_sorted = False

    def makers(self, path: str) -> dict[str, str]:
        """The jobs that make a part of what a folder holds or a glob matches, with what it is."""
        if not self._is_sorted:
            self.results.sort()
            self._is_sorted = True
        found: dict[str, str] = {}
        for pattern in self._names(self.absolute(path)):
            self._collect(pattern, found)
        return found

    def _collect(self, pattern: str, found: dict[str, str]) -> None:
        parts: list[str] = []
        if is_glob(pattern):
            parts = pattern.split("/")
            plain = next(number for number, part in enumerate(parts) if is_glob(part))
            pattern, parts = "/".join(parts[:plain]), parts[plain:]
        start = pattern.rstrip("/") + "/"
        for number in range(bisect_left(self.results, (start, "")), len(self.results)):
            made, job = self.results[number]
            if not made.startswith(start):
                break
            if _takes_in(parts, made[len(start) :].split("/")):
                found.setdefault(job, made)

    def find(self, path: str, own: str) -> tuple[Made | list[str] | None, str]:
        """Who makes `path`, and what of it lies below what was found.

        A list is of jobs whose configs name that place, perhaps several; where `own` is among
        them it is meant. None: nobody.
        """
        whole = self.absolute(path)
        found, below = self._find(whole, own)
        if found is None:
            for name in self._names(whole)[1:]:
                found, below = self._find(name, own)
                if found is not None:
                    break
        return found, below

    def _find(self, whole: str, own: str) -> tuple[Made | list[str] | None, str]:
        at = self._nearest(whole)
        if not at:
            return None, ""
        below = whole[len(at) :].strip("/")
        made = self.real.get(at)
        if made is not None:
            return made, below
        named = self.named[at]
        return (Made(own, at, Counts.ALL) if own in named else named), below

    def _nearest(self, whole: str) -> str:
        """The path itself or the folder closest around it of which something is noted, else ""."""
        if whole in self.real or whole in self.named:
            return whole
        at, passed = whole.rpartition("/")[0] or "/", []
        while at not in self.real and at not in self.named:
            known = self._around.get(at)
            if known is not None:
                at = known
                break
            passed.append(at)
            at = (at.rpartition("/")[0] or "/") if at != "/" else ""
            if not at:
                break
        for folder in passed:
            self._around[folder] = at
        return at

    def canonical(self, path: str) -> str:
        """An absolute path of something that is made, by the name of where it really lies."""
        for name, place in self._links_of_makers():
            if inside(path, name):
                return place + path[len(name) :]
        return path

    def _names(self, path: str) -> list[str]:
        """An absolute path, then what else it is called because of links."""
        found = self._other_names.get(path)
        if found is None:
            found = self._other_names[path] = [path]
            real = self._real_path(path)
            if real != path:
                found.append(real)
            for name, place in self._links_of_makers():
                if inside(real, place):
                    found.append(name + real[len(place) :])
        return found

    def exists(self, path: str) -> bool:
        """Whether anything lies at a path."""
        return self.absolute(path) in self._seen or os.path.exists(path)

    def _real_path(self, path: str) -> str:
        """As `os.path.realpath`, which looks at every folder on the way, each time."""
        folder, _, name = path.rpartition("/")
        try:
            is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        except (OSError, ValueError):
            is_link = False
        else:
            if not is_link:
                self._seen.add(path)
        if not name or is_link:
            return self._followed(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = self._followed(folder or "/").rstrip("/")
        return f"{self._real_folders[folder]}/{name}"

    def _followed(self, path: str) -> str:
        real = os.path.realpath(path)
        if real != path:
            self.links[path] = real
        return real

    def _links_of_makers(self) -> list[tuple[str, str]]:
        """(path, real path) of the folders that jobs' folders and promises lie in, if they differ.

        The longest first. A job's own folder is not asked: there may be 100 000.
        """
        if self._links is None:
            own = self.absolute(self.output_dir)
            tops = {os.path.dirname(own + "/")}
            for path in self.real:
                if not inside(path, own):
                    tops.add(os.path.dirname(path))
            pairs = [(top, self._followed(top)) for top in sorted(tops, key=len, reverse=True)]
            self._links = [pair for pair in pairs if pair[0] != pair[1]]
        return self._links


def _takes_in(pattern: Sequence[str], made: Sequence[str], loose: bool = False) -> bool:
    """Whether a pattern matches what is made, a folder around it, or may match what lies below.

    `loose`: a `**` came before. It says nothing of what may lie below a folder that is made.
    """
    if not pattern:
        return True
    if not made:
        return not loose
    if pattern[0] == "**":
        return _takes_in(pattern[1:], made, True) or _takes_in(pattern, made[1:], True)
    return fnmatchcase(made[0], pattern[0]) and _takes_in(pattern[1:], made[1:], loose)


class Claim(NamedTuple):
    """A path that a job owns, for finding two that get in each other's way."""

    path: str  # absolute
    job: str
    shown: str
    what: str  # folder | place | output


def collisions(claims: Iterable[Claim]) -> list[tuple[Claim, Claim]]:
    """Pairs of claims of different jobs that coincide or lie one inside the other."""
    ordered = [(claim.path.rstrip("/") + "/", claim) for claim in claims]
    ordered.sort(key=itemgetter(0))
    found: list[tuple[Claim, Claim]] = []
    open_: list[tuple[str, Claim]] = []
    for path, claim in ordered:
        while open_ and not path.startswith(open_[-1][0]):
            open_.pop()
        for _, outer in open_:
            if outer.job != claim.job:
                found.append((outer, claim))
                break
        open_.append((path, claim))
    return found
