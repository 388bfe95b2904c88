"""Progress of a running job, from its verb's own files and from what it prints.

Never knows which process said a line, nor what is done with the numbers.
"""

from oumi_flow.progress.followers import METRICS, Follower, LineFollower, follower
from oumi_flow.progress.tail import LineCount, Tail, last_bytes, open_at_once
from oumi_flow.progress.totals import total_of

__all__ = [
    "METRICS",
    "Follower",
    "LineCount",
    "LineFollower",
    "Tail",
    "follower",
    "last_bytes",
    "open_at_once",
    "total_of",
]
