"""Who and where we are, as others are told. For words only: no right hangs on it."""

from __future__ import annotations

import os


def host() -> str:
    """The name of this machine, as gethostname(2) gives it."""
    return os.uname().nodename


def user() -> str:
    """Who works here: what the environment says, as `getpass.getuser` has it, or who we run as."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        if said := os.environ.get(name):
            return said
    return user_of(os.getuid())


def user_of(number: int) -> str:
    """The name of a user, or the number of one without, as in containers."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OSError):
        return str(number)
