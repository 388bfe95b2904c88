"""GPU tokens: which GPUs are there, and who may use which.

One token a GPU: a locked file in a folder that all runs and users of the host share. The lock
belongs to the open file, not to a process, and the job and its supervisor inherit it: the kernel
frees it when the last of them is gone, however that came about. So tokens are only ever closed,
never unlocked, and a file that nobody holds locked is a free GPU whatever is written in it.

Knows nothing of jobs' order or verbs. Asks NVML lazily, and trusts numbers where there is none.
"""

from oumi_flow.tokens.gpus import Gpu, discover, survey
from oumi_flow.tokens.locks import Holder, file_system, user_name
from oumi_flow.tokens.pool import Lease, TokenPool
from oumi_flow.tokens.requests import assign_fixed, check_request

__all__ = [
    "Gpu",
    "Holder",
    "Lease",
    "TokenPool",
    "assign_fixed",
    "check_request",
    "discover",
    "file_system",
    "survey",
    "user_name",
]
