"""Texts of `run:` that mean the same without the shell they are given to.

A shell's start costs more than many a small job. A text of one program with plain words, and files
for its input and output, is started directly; whoever starts it goes back to the shell as soon as
anything is not as plain as it looked, so that the shell's own words for it are what the user sees.
Knows the grammar of such texts, not what lies on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable

from oumi_flow.pattern import pattern
from oumi_flow.typed import NamedTuple

# What bash itself runs or reads: a text that starts with one of these needs a shell.
_BASH = """
! . : [ [[ ]] { } alias bg bind break builtin caller case cd command compgen complete compopt
continue coproc declare dirs disown do done echo elif else enable esac eval exec exit export
false fc fg fi for function getopts hash help history if in jobs kill let local logout mapfile
popd printf pushd pwd read readarray readonly return select set shift shopt source suspend test
then time times trap true type typeset ulimit umask unalias unset until wait while
"""
SHELL_WORDS = frozenset(_BASH.split())

# What a shell takes for space around words; Python knows more of it.
BLANKS = " \t\n"
PLAIN = pattern(r"[\w@%+:,./-]+(?:[ \t]+[\w@%+=:,./-]+)*\Z")
_REDIRECTED = pattern(
    r"(?P<words>[\w@%+:,./-]+(?:[ \t]+[\w@%+=:,./-]+)*?)"
    r"(?P<files>(?:[ \t]+(?:2>&1|(?:2>>?|>>?|<)[ \t]*[\w@%+=:,./-]+))*)\Z"
)
_FILE = pattern(r"2>&1|(2>>|2>|>>|>|<)[ \t]*([\w@%+=:,./-]+)")
_SHELLS = (("bash", "-euo", "pipefail", "-c"), ("sh", "-eu", "-c"))
_TEACHERS = frozenset({"BASHOPTS", "BASH_ENV", "EXECIGNORE", "SHELLOPTS"})
# Names that a shell reads in a way of its own, or that mean another file in another process.
_SPECIAL = ("/dev/", "/proc/")


class Redirect(NamedTuple):
    """`how` is <, > or >>, and `path` from the job's workdir; or & and a descriptor's number."""

    descriptor: int
    how: str
    path: str


class Direct(NamedTuple):
    argv: tuple[str, ...]
    redirects: tuple[Redirect, ...]  # to be made in this order


def teaches(names: Iterable[str]) -> bool:
    """Whether one of these variables may teach a shell what a word means."""
    return any(name in _TEACHERS or name.startswith("BASH_FUNC_") for name in names)


def without_shell(argv: tuple[str, ...]) -> Direct | None:
    """What a shell's `argv` comes to if it is started directly; None if that may be another thing.

    It is another thing if the process's environment `teaches` the shell.
    """
    if argv[:-1] not in _SHELLS:
        return None
    found = _REDIRECTED.match(argv[-1].strip(BLANKS))
    if found is None:
        return None
    words = tuple(found["words"].split())
    if words[0] in SHELL_WORDS:
        return None
    redirects = []
    for part in _FILE.finditer(found["files"]):
        how, path = part[1], part[2]
        if how is None:
            redirects.append(Redirect(2, "&", "1"))
            continue
        if path.startswith(_SPECIAL) and path != "/dev/null":
            return None
        descriptor = 2 if how.startswith("2") else 0 if how == "<" else 1
        redirects.append(Redirect(descriptor, how.lstrip("2"), path))
    return Direct(words, tuple(redirects))
