"""Who of those that wait may take which of the free tokens. Pure: knows no files, clocks or GPUs.

Everybody who waits is a claim, and the claims stand in line, the oldest first. One that could be
served right now has its tokens kept for it. One that cannot, and has waited for long (`aged`),
keeps every free token that it could use, so that the machine drains for it. One that cannot and has
not keeps nothing: smaller ones may overtake it. So a wide job is never starved by narrow ones, and
tokens do not lie idle for one that has only just come.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from oumi_flow.dataclass import dataclass, replace


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody waits for: of each group, so many of its tokens. Groups share no token."""

    needs: tuple[tuple[int, tuple[str, ...]], ...]
    aged: bool = False
    choosy: bool = False  # the order within a group is a wish, not only a way to write it

    @property
    def usable(self) -> frozenset[str]:
        return frozenset(token for _, tokens in self.needs for token in tokens)

    def without(self, tokens: Collection[str]) -> Claim:
        """The same for whoever cannot use these."""
        needs = tuple((n, tuple(t for t in group if t not in tokens)) for n, group in self.needs)
        return replace(self, needs=needs)


def share(line: Sequence[Claim], place: int, free: Collection[str]) -> tuple[str, ...] | None:
    """The tokens that the claim at `place` of the line may take now; None: it has to wait.

    Whatever it takes changes nothing of what those before it would get.
    """
    left = set(free) - kept(line, place, free).keys()
    claim = line[place]
    return _choose(claim, left, {} if claim.choosy else _sought(line))


def kept(line: Sequence[Claim], place: int, free: Collection[str]) -> dict[str, int]:
    """The free tokens that those before `place` keep: token -> whose, as a place in the line."""
    sought = _sought(line)
    left, keeps = set(free), dict[str, int]()
    for position, claim in enumerate(line[:place]):
        mine = _choose(claim, left, sought)
        if mine is None and claim.aged:
            mine = tuple(left & claim.usable)
        for token in mine or ():
            keeps[token] = position
            left.discard(token)
    return keeps


def _choose(
    claim: Claim, left: Collection[str], sought: Mapping[str, float]
) -> tuple[str, ...] | None:
    chosen: list[str] = []
    for count, group in claim.needs:
        there = [token for token in group if token in left]
        if len(there) < count:
            return None
        chosen += sorted(there, key=lambda token: sought.get(token, 0.0))[:count]
    return tuple(chosen)


def _sought(line: Sequence[Claim]) -> dict[str, float]:
    """How much each token is in demand: whoever has a choice leaves alone what others have not."""
    sought: dict[str, float] = {}
    for claim in line:
        for count, group in claim.needs:
            for token in group:
                sought[token] = sought.get(token, 0.0) + count / len(group)
    return sought
