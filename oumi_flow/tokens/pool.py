"""The tokens of some GPUs as one run sees them: leases, all or none, in turn, without waiting."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from oumi_flow.dataclass import dataclass, replace
from oumi_flow.errors import FlowError
from oumi_flow.model import GpuRequest
from oumi_flow.text import ordinal
from oumi_flow.tokens.fairness import Claim, kept, share
from oumi_flow.tokens.gpus import Gpu
from oumi_flow.tokens.locks import (
    Holder,
    is_locked,
    is_same_file,
    open_lock,
    prepare_folder,
    read_holder,
    useless,
    user_name,
    write_holder,
)
from oumi_flow.tokens.standing import Standing
from oumi_flow.tokens.strangers import Sight
from oumi_flow.tokens.tickets import Queue, Ticket

# Shared by all users, so not $TMPDIR, which often is one user's or one job's.
DEFAULT_LOCK_DIR = "/tmp/oumi-flow-locks"
DEFAULT_PATIENCE = 60.0  # seconds after which the machine drains for whoever waits


class Lease:
    """Tokens held. `close` lets go of our copies only: what inherited them goes on holding."""

    def __init__(self, gpus: Sequence[Gpu], descriptors: Sequence[int]) -> None:
        self.gpus = tuple(gpus)
        self.devices = tuple(gpu.index for gpu in gpus)  # ascending NVML numbers
        self.visible = ",".join(gpu.visible for gpu in gpus)  # for CUDA_VISIBLE_DEVICES
        self.descriptors = tuple(descriptors)  # to pass to the job
        self._opened = time.monotonic()
        self._closed: float | None = None

    @property
    def closed(self) -> bool:
        return self._closed is not None

    @property
    def seconds(self) -> float:
        """How long it was, or is so far."""
        return (self._closed or time.monotonic()) - self._opened

    def close(self) -> None:
        """Never unlocks: the lock is that of the job too, which may live on. Idempotent."""
        if self._closed is None:
            self._closed = time.monotonic()
        descriptors, self.descriptors = self.descriptors, ()
        for fd in descriptors:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class _Stander:
    """Somebody in line, as the rule of `fairness` wants to know it."""

    ticket: Ticket
    aged: bool = False
    choosy: bool = False


class TokenPool:
    """The tokens of some GPUs, as one run sees them. Not for several threads at once.

    Who waits says so with a ticket that all runs see, and everybody keeps to the order of
    `fairness`. With nobody else in line a lease costs a listing of the tickets' folder.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        lock_dir: str = "",
        *,
        run_id: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`gpus`: as they are now. Touches nothing yet, but raises FlowError for a bad setting.

        `lock_dir` "": $OUMI_FLOW_LOCK_DIR, else /tmp/oumi-flow-locks. `environ` is used for that,
        for $OUMI_FLOW_GPU_PATIENCE, and to ask NVML (or its stand-in) again.
        """
        environ = os.environ if environ is None else environ
        self._root = lock_dir or environ.get("OUMI_FLOW_LOCK_DIR") or DEFAULT_LOCK_DIR
        self._patience = _patience(environ)
        self._folder = ""  # known once it is there
        self._run_id, self._user = run_id, user_name()
        self.gpus = tuple(sorted(gpus, key=lambda gpu: (gpu.index, gpu.mig)))
        self._by_token = {gpu.token: gpu for gpu in self.gpus}
        self._aside: set[int] = {gpu.index for gpu in gpus if gpu.lost}
        self._last: frozenset[int] = frozenset()
        self._leases: list[Lease] = []
        self._past_seconds: dict[str, float] = {}  # token -> of leases that are closed
        self._sight = Sight(gpus, environ)
        self._queue: Queue | None = None  # as the folder
        self._standing: Standing | None = None
        self._tickets: dict[GpuRequest, tuple[object, Ticket]] = {}  # as they were asked for last
        self.indices = tuple(sorted({gpu.index for gpu in gpus}))
        # How many tokens each index has: more than one where a GPU is split into instances.
        self.capacity = {index: [g.index for g in gpus].count(index) for index in self.indices}

    def try_lease(
        self,
        request: GpuRequest,
        allowed: Sequence[int] | None = None,
        strategy: str = "dynamic",
        holder: str = "",
        *,
        waited: float | None = None,
        before: Mapping[GpuRequest, float] | None = None,
    ) -> Lease | None:
        """All tokens of the request or none (None), without waiting: 50 ms at the very worst.

        `allowed`: GPUs to choose from, None for all of the pool. `strategy`: `load_balanced` takes
        the least busy, any other the first. GPUs that a stranger uses are had only by number: a
        count of -1 ("auto") is one GPU, and with devices it is those, if no stranger is there.
        `holder`: the job's name, for others to read.

        `waited`: for so many seconds this run has wanted it; None: it only tries, and will not
        stand in line. `before`: requests of this run that go first and have got nothing, and how
        long they have waited. Raises FlowError when the lock folder is of no use.
        """
        asked = time.monotonic()  # all that follows may take long on a busy machine
        since = asked - (waited or 0.0)
        ticket = self._ticket(request, allowed, holder)
        free = self._free(ticket.usable)
        if _is_auto(request):
            free -= self._sight.vetoed(free).keys()
        firsts = [
            _Stander(self._ticket(other, allowed), aged=age >= self._patience)
            for other, age in (before or {}).items()
        ]
        taken = None
        if all(len(free.intersection(tokens)) >= count for count, tokens in ticket.needs):
            mine = _Stander(ticket)
            if strategy == "load_balanced":
                mine = _Stander(self._least_busy_first(ticket), choosy=True)
            taken = self._take_in_turn(request, mine, firsts, since)
        if taken is None:
            if any(first.aged and first.ticket.usable & ticket.usable for first in firsts):
                self.leave(request)  # others should not keep for it what it will not take
            elif waited is not None:
                self._stand().stand(request, ticket, since, asked)
            return None
        self.leave(request)
        for _, descriptor in taken:
            write_holder(descriptor, self._run_id, holder)
        lease = Lease([gpu for gpu, _ in taken], [descriptor for _, descriptor in taken])
        self._leases.append(lease)
        return lease

    def pause(self, request: GpuRequest) -> float:
        """Seconds after which another try is worth it, for one that got nothing."""
        return self._stand().pause(request)

    def leave(self, request: GpuRequest) -> None:
        """This run does not wait for it any more, or not now."""
        if self._standing is not None:
            self._standing.leave(request)

    def close(self) -> None:
        """Nothing waits any more. Leases stay."""
        if self._standing is not None:
            self._standing.leave_all()

    def strangers(self) -> dict[str, str]:
        """Tokens that are free, but of a GPU that a stranger uses or that is lost, with words."""
        return self._sight.vetoed(self._free(gpu.token for gpu in self.gpus))

    def free_of_strangers(self, allowed: Sequence[int]) -> tuple[int, ...]:
        """Those GPUs that whoever names none could get now or later; all, if there is none."""
        strangers = self.strangers()
        clear = {gpu.index for gpu in self.gpus if gpu.token not in strangers}
        return tuple(index for index in allowed if index in clear) or tuple(allowed)

    def waiting_for(self, request: GpuRequest, allowed: Sequence[int] | None = None) -> str:
        """Who or what is in the way of it, for people; "" when nothing seems to be.

        `GPU 0, 1: held by run R, user U, job J since 14:02; GPU 2: used by process 4711 (python,
        user bob), which is no job of ours; 2nd in line`.
        """
        names = request.devices or tuple(self.indices if allowed is None else allowed)
        why = [(index, "lost") for index in sorted(self._aside.intersection(names))]
        eligible = self._eligible(request, allowed)
        held = {holder.token: str(holder) for holder in self._holders(eligible)}
        free = {gpu.token for gpu in eligible if gpu.token not in held}
        vetoed = self._sight.vetoed(free) if _is_auto(request) else {}
        ticket = self._ticket(request, allowed)
        keeps = self._kept(request, ticket, free - vetoed.keys())
        for gpu in eligible:
            words = held.get(gpu.token) or vetoed.get(gpu.token) or keeps.get(gpu.token)
            if words:
                why.append((gpu.index, words))
        said = _say(why)
        ahead = self._stand().ahead(request)
        if ahead:
            said.append(f"{ordinal(ahead + 1)} in line")
        return "; ".join(said)

    def holders(self) -> tuple[Holder, ...]:
        """Of the tokens that anybody holds now, in order."""
        return tuple(self._holders(self.gpus))

    def waiting(self) -> tuple[Ticket, ...]:
        """All who wait for any of these GPUs, this run too, the first in line first."""
        queue = self._lines()
        ours = {gpu.token for gpu in self.gpus}
        return tuple(t for t in queue.line(queue.names()) if not ours.isdisjoint(t.usable))

    def set_aside(self, index: int) -> None:
        """A GPU that was lost: this pool leases it no more."""
        self._aside.add(index)
        self._tickets.clear()

    def take_last(self, gpus: Collection[int]) -> None:
        """Others want these by number: whoever has a choice takes another first."""
        self._last = frozenset(gpus)
        self._tickets.clear()

    # choosing

    def _eligible(self, request: GpuRequest, allowed: Sequence[int] | None) -> list[Gpu]:
        choice = set(self.indices if allowed is None else allowed) - self._aside
        if request.devices:
            choice &= set(request.devices)
        return [gpu for gpu in self.gpus if gpu.index in choice]

    def _ticket(self, request: GpuRequest, allowed: Sequence[int] | None, job: str = "") -> Ticket:
        """What the request comes to, of the tokens that it can have at all."""
        key = (request, allowed if allowed is None else tuple(allowed), job)
        known = self._tickets.get(request)
        if known is not None and known[0] == key:  # who waits asks the same again and again
            return known[1]
        eligible = self._eligible(request, allowed)
        if request.devices:
            # MIG: whichever instance is free.
            devices = sorted(set(request.devices))
            groups = [[gpu.token for gpu in eligible if gpu.index == one] for one in devices]
            needs = tuple((1, tuple(group)) for group in groups)
        else:
            eligible.sort(key=lambda gpu: gpu.index in self._last)
            needs = ((abs(request.count), tuple(gpu.token for gpu in eligible)),)
        ticket = Ticket(needs, _is_auto(request), self._run_id, self._user, job)
        self._tickets[request] = (key, ticket)
        return ticket

    def _least_busy_first(self, ticket: Ticket) -> Ticket:
        """By NVML; by the time we kept them busy where there is none."""
        spent = self._spent()

        def key(token: str) -> tuple[tuple[float, float], float]:
            gpu = self._sight.of(token)
            return (gpu.busyness if gpu else (0.0, 0.0), spent.get(token, 0.0))

        needs = tuple((count, tuple(sorted(group, key=key))) for count, group in ticket.needs)
        return replace(ticket, needs=needs)

    def _spent(self) -> dict[str, float]:
        """Seconds that this pool has held each token."""
        for lease in [lease for lease in self._leases if lease.closed]:
            self._leases.remove(lease)
            _add_time(self._past_seconds, lease)
        spent = dict(self._past_seconds)
        for lease in self._leases:
            _add_time(spent, lease)
        return spent

    def _around(
        self, request: GpuRequest, tickets: Sequence[Ticket], since: float
    ) -> tuple[list[_Stander], list[_Stander]]:
        """Of the others in line those before the request and those after it."""
        mine, now = self._stand().name(request, since), time.monotonic()
        rows = [_Stander(ticket, now - ticket.since >= self._patience) for ticket in tickets]
        older = [row for row in rows if row.ticket.name < mine]
        return older, rows[len(older) :]

    def _claims(self, line: Sequence[_Stander], free: set[str]) -> list[Claim]:
        """What each can have, as strangers' company is only for those who named the GPU."""
        any_auto = any(row.ticket.auto for row in line)
        vetoed = self._sight.vetoed(free).keys() if any_auto else ()
        claims = [Claim(row.ticket.needs, row.aged, row.choosy) for row in line]
        return [
            claim.without(vetoed) if row.ticket.auto and vetoed else claim
            for row, claim in zip(line, claims, strict=True)
        ]

    def _kept(self, request: GpuRequest, ticket: Ticket, free: set[str]) -> dict[str, str]:
        """Which of these free tokens are for somebody who waits longer, in words."""
        tickets = self._lines().line(self._stand().others()) if free else []
        older, _ = self._around(request, tickets, time.monotonic())
        if not older:
            return {}
        everywhere = self._free({token for row in older for token in row.ticket.usable})
        keeps = kept(self._claims(older, everywhere), len(older), everywhere)
        who = {token: older[position].ticket for token, position in keeps.items()}
        return {
            token: f"kept for run {first.run}, user {first.user}, job {first.job}, first in line"
            for token, first in who.items()
            if token in ticket.usable
        }

    # taking

    def _take_in_turn(
        self, request: GpuRequest, mine: _Stander, firsts: list[_Stander], since: float
    ) -> list[tuple[Gpu, int]] | None:
        names = self._stand().others()
        if not names:
            return self._take_share([*firsts, mine], len(firsts))
        with self._lines().turn():
            tickets = self._lines().line(names)
            older, younger = self._around(request, tickets, since)
            return self._take_share([*older, *firsts, mine, *younger], len(older) + len(firsts))

    def _take_share(self, line: Sequence[_Stander], place: int) -> list[tuple[Gpu, int]] | None:
        free = self._free({token for row in line for token in row.ticket.usable})
        claims = self._claims(line, free)
        while (chosen := share(claims, place, free)) is not None:
            taken: list[tuple[Gpu, int]] = []
            for gpu in (gpu for gpu in self.gpus if gpu.token in chosen):  # ascending
                descriptor = self._take(gpu)
                if descriptor is None:  # somebody was quicker
                    free.discard(gpu.token)
                    break
                taken.append((gpu, descriptor))
            else:
                return taken
            for _, descriptor in taken:
                os.close(descriptor)
        return None

    def _take(self, gpu: Gpu) -> int | None:
        """The locked descriptor of its token, or None when somebody has it."""
        from filelock import lock_descriptor

        path = self._path(gpu.token)
        while True:
            fd = open_lock(path)
            try:
                if not lock_descriptor(fd, blocking=False):
                    os.close(fd)
                    return None
                if is_same_file(fd, path):
                    return fd
            except OSError as error:
                os.close(fd)
                raise useless(self._root, error.strerror) from error
            os.close(fd)  # a cleaner of /tmp removed the file between: take the new one

    # the folder

    def _free(self, tokens: Iterable[str]) -> set[str]:
        return {token for token in tokens if not is_locked(self._path(token))}

    def _holders(self, gpus: Iterable[Gpu]) -> list[Holder]:
        seen = [read_holder(self._path(gpu.token), gpu.index, gpu.token) for gpu in gpus]
        return [holder for holder in seen if holder is not None]

    def _path(self, token: str) -> str:
        return f"{self._locks()}/{token}.lock"

    def _locks(self) -> str:
        # What tidies /tmp may take it away.
        if not self._folder or not os.path.isdir(self._folder):
            self._folder = prepare_folder(self._root)
        return self._folder

    def _lines(self) -> Queue:
        if self._queue is None:
            self._queue = Queue(self._locks())
        return self._queue

    def _stand(self) -> Standing:
        if self._standing is None:
            self._standing = Standing(self._lines())
        return self._standing


def _is_auto(request: GpuRequest) -> bool:
    """Whether no GPU was named by whoever wrote the job."""
    return request.count < 0 or not request.devices


def _patience(environ: Mapping[str, str]) -> float:
    text = environ.get("OUMI_FLOW_GPU_PATIENCE", "")
    try:
        seconds = float(text) if text else DEFAULT_PATIENCE
    except ValueError:
        seconds = -1.0
    if not seconds >= 0.0:
        raise FlowError(f'OUMI_FLOW_GPU_PATIENCE: expected seconds such as 60, got "{text}"')
    return seconds


def _add_time(spent: dict[str, float], lease: Lease) -> None:
    for gpu in lease.gpus:
        spent[gpu.token] = spent.get(gpu.token, 0.0) + lease.seconds


def _say(why: Sequence[tuple[int, str]]) -> list[str]:
    """`GPU 0, 1: held by …`: each thing once, in the order of the GPUs."""
    gpus: dict[str, list[int]] = {}
    for index, words in sorted(why):
        gpus.setdefault(words, []).append(index)
    return [f"GPU {', '.join(map(str, sorted(set(of))))}: {words}" for words, of in gpus.items()]
