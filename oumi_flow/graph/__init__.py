"""Names and edges: order, cycles, closures, the longest way; `graph.drawing` makes pictures.

A graph is `upstream`: name -> the names it needs. Names that are no key of it are ignored, so a
part of a larger graph can be handed in. Knows nothing of disks, states or staleness. networkx is
imported only inside the function that explains an error, because its import costs more than a whole
run with nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

Upstream = Mapping[str, Iterable[str]]
_DRAWABLE = 30_000


def topological_order(names: Sequence[str], upstream: Upstream) -> list[str]:
    """`names` with everything after what it needs, else in the order given.

    Names on a cycle, or behind one, are left out: a result shorter than `names` means that
    `find_cycle` has something to say. Among names that could come next the earliest in `names`
    comes first, so an order that is valid already is returned as it is.
    """
    place = {name: number for number, name in enumerate(names)}
    if _is_ordered(names, upstream, place):
        return list(names)
    after: dict[str, list[str]] = {name: [] for name in names}
    missing: dict[str, int] = {}
    for name in names:
        needs = {other for other in upstream.get(name, ()) if other in place}
        missing[name] = len(needs)
        for other in needs:
            after[other].append(name)
    free = [place[name] for name in names if not missing[name]]
    heapify(free)
    order: list[str] = []
    while free:
        name = names[heappop(free)]
        order.append(name)
        for later in after[name]:
            missing[later] -= 1
            if not missing[later]:
                heappush(free, place[later])
    return order


def _is_ordered(names: Sequence[str], upstream: Upstream, place: Mapping[str, int]) -> bool:
    """Whether each name comes after all of those that it needs."""
    for number, name in enumerate(names):
        for other in upstream.get(name, ()):
            if place.get(other, -1) >= number:
                return False
    return True


def find_cycle(names: Sequence[str], upstream: Upstream) -> list[str]:
    """A cycle as `["a", "b", "a"]`, each needing the next; [] when there is none.

    It begins with the one of its names that comes first in `names`.
    """
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(names)
    graph.add_edges_from(
        (name, other) for name in names for other in upstream.get(name, ()) if other in graph
    )
    try:
        found = nx.find_cycle(graph)
    except nx.NetworkXNoCycle:
        return []
    cycle = [edge[0] for edge in found]
    place = {name: number for number, name in enumerate(names)}
    start = cycle.index(min(cycle, key=lambda name: place[name]))
    return [*cycle[start:], *cycle[:start], cycle[start]]


def ancestors(names: Iterable[str], upstream: Upstream) -> set[str]:
    """Everything that `names` need, directly or not, without themselves."""
    start = set(names)
    return _reachable(start, upstream) - start


def descendants(names: Iterable[str], upstream: Upstream) -> set[str]:
    """Everything that needs one of `names`, directly or not, without themselves."""
    start = set(names)
    return _reachable(start, downstream(upstream)) - start


def downstream(upstream: Upstream) -> dict[str, list[str]]:
    """The edges turned round: name -> the names that need it, in the order of `upstream`."""
    turned: dict[str, list[str]] = {name: [] for name in upstream}
    for name, needs in upstream.items():
        for other in dict.fromkeys(needs):
            if other in turned:
                turned[other].append(name)
    return turned


def remaining_path(
    order: Sequence[str], upstream: Upstream, durations: Mapping[str, float]
) -> dict[str, float]:
    """Seconds of the longest path that begins with each job, its own included.

    `order` is topological; a job without a duration counts 0. One walk, so quick at any size.
    """
    below = dict.fromkeys(order, 0.0)
    for name in reversed(order):
        own = below[name] = below[name] + durations.get(name, 0.0)
        for other in upstream.get(name, ()):
            if other in below and below[other] < own:
                below[other] = own
    return below


def critical_path(
    order: Sequence[str], upstream: Upstream, durations: Mapping[str, float]
) -> list[str]:
    """The chain of jobs that takes longest, first job first; [] for no jobs."""
    if not order:
        return []
    remaining = remaining_path(order, upstream, durations)
    after = downstream({name: upstream.get(name, ()) for name in order})
    path: list[str] = []
    choice = list(order)
    while choice:
        # The first of equals, so that the answer does not hang on the order of a set.
        path.append(max(choice, key=lambda name: remaining[name]))
        choice = after[path[-1]]
    return path


def transitive_reduction(upstream: Upstream) -> dict[str, tuple[str, ...]]:
    """The same graph without the edges that a longer way implies. There must be no cycle.

    A picture of more than 30 000 jobs helps nobody: such a graph is returned as it is.
    """
    # networkx has this too, and takes minutes for a chain of 10 000; sets of bits take seconds.
    needs = {
        name: [n for n in dict.fromkeys(others) if n in upstream]
        for name, others in upstream.items()
    }
    if len(needs) > _DRAWABLE:
        return {name: tuple(others) for name, others in needs.items()}
    order = topological_order(list(needs), needs)
    place = {name: number for number, name in enumerate(order)}
    above: dict[str, int] = {}  # a bit for each ancestor
    reduced: dict[str, tuple[str, ...]] = {}
    for name in order:
        seen, kept = 0, set()
        # From the nearest: whatever it needs itself comes later in this loop.
        for other in sorted(needs[name], key=lambda n: place[n], reverse=True):
            bit = 1 << place[other]
            if not seen & bit:
                kept.add(other)
                seen |= bit | above[other]
        above[name] = seen
        reduced[name] = tuple(other for other in needs[name] if other in kept)
    return {name: reduced[name] for name in needs}


def _reachable(start: Iterable[str], edges: Upstream) -> set[str]:
    seen: set[str] = set()
    ahead = list(start)
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead.extend(edges.get(name, ()))
    return seen
