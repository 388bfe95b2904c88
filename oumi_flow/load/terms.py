"""What is agreed for a job's run and has no part in what it makes: retries, limits, words."""

from __future__ import annotations

from oumi_flow.load.expand import Draft
from oumi_flow.model import Retry
from oumi_flow.text import parse_duration
from oumi_flow.typed import NamedTuple

# The fields that they are made of: what no matrix value has a hand in, the jobs of an entry share.
TERM_FIELDS = (
    *("max_retries", "retry_delay", "retry_backoff", "timeout", "grace"),
    *("priority", "always_run", "warm", "cache", "description"),
)


class Terms(NamedTuple):
    """Durations are in seconds."""

    retry: Retry
    timeout: float | None
    grace: float
    priority: int
    always_run: bool
    warm: bool
    cache: bool
    description: str
    where: str


def terms_of(draft: Draft, *, warm: bool) -> Terms:
    """The terms of one job; `warm` where it says nothing."""
    named, grace = draft.fields["name"], _seconds(draft, "grace")
    return Terms(
        retry=Retry(
            int(draft.typed("max_retries", 0)),
            _seconds(draft, "retry_delay") or 0.0,
            float(draft.typed("retry_backoff", 1)),
        ),
        timeout=_seconds(draft, "timeout"),
        grace=30.0 if grace is None else grace,
        priority=int(draft.typed("priority", 0)),
        always_run=draft.typed("always_run", False),
        warm=draft.typed("warm", warm),
        cache=draft.typed("cache", True),
        description=_description(draft),
        where=f"{named.source.name}:{named.at >> 32}",
    )


def _description(draft: Draft) -> str:
    text = draft.text("description")
    return (text.plain or "") if text is not None else ""


def _seconds(draft: Draft, field: str) -> float | None:
    value = draft.typed(field)
    return None if value is None else parse_duration(value)
