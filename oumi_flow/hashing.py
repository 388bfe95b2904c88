"""`blake2b` as `hashlib` has it; to import that loads OpenSSL as well, which takes 4 ms.

For keys and names. What files hold is digested in `content.py`.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # an interpreter that is built otherwise
    from hashlib import blake2b

__all__ = ["blake2b"]
