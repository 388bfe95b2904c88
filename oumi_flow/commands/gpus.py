"""`gpus`: the GPUs of this host, who holds them, who waits for them."""

from __future__ import annotations

import os
import sys
import time

from oumi_flow.errors import OK
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from oumi_flow.tokens import Ticket, TokenPool
    from oumi_flow.ui.tables import GpuRow


def gpus(options: argparse.Namespace) -> int:
    """The tokens of this host."""
    import json
    from dataclasses import asdict

    from oumi_flow.ui.tables import gpus_table
    from oumi_flow.ui.theme import theme_of

    pool = _pool()
    rows = _rows(pool)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
    else:
        waiting = [_waiter(ticket, pool) for ticket in pool.waiting()] if rows else []
        print(gpus_table(rows, theme_of(sys.stdout), waiting))
    return OK


def gpu_rows() -> list[GpuRow]:
    """The GPUs of this host, their load, and who holds them. Asks the driver: milliseconds."""
    return _rows(_pool())


def _pool() -> TokenPool:
    from oumi_flow.tokens import TokenPool, survey

    return TokenPool(survey(os.environ))


def _rows(pool: TokenPool) -> list[GpuRow]:
    from oumi_flow.ui.tables import GpuRow

    if not pool.gpus:
        return []
    holders = {holder.token: holder for holder in pool.holders()}
    strangers = pool.strangers()
    tickets = pool.waiting()
    rows = []
    for gpu in pool.gpus:
        holder = holders.get(gpu.token)
        held = ""
        if holder is not None:
            held = f"{holder.job or 'a job'} of run {holder.run}, user {holder.user}"
            held += f", since {holder.clock}" if holder.since else ""
        rows.append(
            GpuRow(
                index=gpu.index,
                name=gpu.name,
                memory_used=gpu.memory_used,
                memory_total=gpu.memory_total,
                utilization=gpu.utilization,
                holder=held,
                stranger="" if gpu.lost else strangers.get(gpu.token, ""),
                lost=gpu.lost,
                waiting=[_who(ticket) for ticket in tickets if gpu.token in ticket.usable],
            )
        )
    return rows


def _waiter(ticket: Ticket, pool: TokenPool) -> str:
    """`train of run R, user U: 2 GPUs, for 3m`."""
    from oumi_flow.text import duration

    index = {gpu.token: gpu.index for gpu in pool.gpus}
    if ticket.auto:
        wanted = sum(count for count, _ in ticket.needs)
        words = "a GPU" if wanted == 1 else f"{wanted} GPUs"
    else:
        named = sorted({index[token] for token in ticket.usable if token in index})
        words = f"GPU {', '.join(map(str, named))}"
    return f"{_who(ticket)}: {words}, for {duration(time.monotonic() - ticket.since)}"


def _who(ticket: Ticket) -> str:
    return f"{ticket.job or 'a job'} of run {ticket.run}, user {ticket.user}"
