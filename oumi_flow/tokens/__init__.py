"""GPU tokens: which GPUs are there, and who may use which.

One token a GPU: a locked file in a folder that all runs and users of the host share. The lock
belongs to the open file, not to a process, and the job and its supervisor inherit it: the kernel
frees it when the last of them is gone, however that came about. So tokens are only ever closed,
never unlocked, and a file that nobody holds locked is a free GPU whatever is written in it.

Whoever has to wait draws a ticket, a locked file too, and all keep to the order of the tickets:
`fairness` has the rule. That is courtesy; it decides who gets a token, never whether two do.

Knows nothing of jobs' order or verbs. Asks NVML lazily, and trusts numbers where there is none.
"""

from oumi_flow.tokens.gpus import Gpu, discover, lost_of, survey
from oumi_flow.tokens.locks import Holder, file_system, user_name
from oumi_flow.tokens.pool import Lease, TokenPool
from oumi_flow.tokens.requests import assign_fixed, check_request
from oumi_flow.tokens.tickets import Ticket

__all__ = [
    "Gpu",
    "Holder",
    "Lease",
    "Ticket",
    "TokenPool",
    "assign_fixed",
    "check_request",
    "discover",
    "file_system",
    "lost_of",
    "survey",
    "user_name",
]
