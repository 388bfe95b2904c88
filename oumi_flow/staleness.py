"""Says whether a job is stale, and why: the one judge that plan, recheck and `status` all ask.

Pure: what lies on disk is asked of a `DiskProtocol`, what happened before is handed in as a `Past`.
Does not know where markers live, what a verb is, or how a process is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from oumi_flow.model import FORMAT, Counts, Evidence, Value


class DiskProtocol(Protocol):
    """What the judge needs to see of the disk; disk.Disk is the real one."""

    def observe(self, path: str, counts: Counts, known: Evidence | None = None) -> Evidence:
        """What lies at `path` now; `known` is earlier evidence whose stamps may be trusted."""
        ...


def fingerprint(parts: Mapping[str, Value]) -> str:
    """The digest of what would be done, from its parts by value: 32 hex digits.

    Two parts that are equal as JSON values give the same one, whatever the order of their keys.
    The order of the `outputs` list says nothing about what is made, so it does not count.
    """
    if isinstance(parts.get("outputs"), (list, tuple)):
        parts = {**parts, "outputs": sorted(parts["outputs"], key=str)}
    return _digest({"format": FORMAT, **parts})


def build_key(fingerprint: str, inputs: Mapping[str, str]) -> str:
    """The digest of what would be done to which content; `inputs` maps Input.key to digest."""
    return _digest({"format": FORMAT, "fingerprint": fingerprint, "inputs": dict(inputs)})


def _digest(value: Value) -> str:
    import json
    from hashlib import blake2b

    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    # File names that are no UTF-8 reach us as lone surrogates.
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
