"""The door: answers at once what it can, and hands every other command line on.

Imports nothing before it knows that it has to: the version, the overview and the answer of a run
with nothing to do cost little more than the interpreter.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command line and return its exit code (SPEC §4.4)."""
    words = list(sys.argv[1:] if argv is None else argv)
    _settle_streams()
    look = None
    try:
        if words[:1] == ["run"]:
            from oumi_flow import seal

            look = seal.look(words)
            answer = look.answer
        else:
            answer = _at_once(words)
    except KeyboardInterrupt:
        return 130
    if answer is not None:
        try:
            sys.stdout.write(answer)
            sys.stdout.flush()
            return 0
        except OSError as error:
            failed = error
        from oumi_flow.dispatch import guarded

        def fail() -> int:
            raise failed

        return guarded(fail)
    from oumi_flow.dispatch import run_command

    return run_command(words, look)


def _at_once(words: list[str]) -> str | None:
    """What to print, for command lines that need no more; None for all others."""
    if words in (["--version"], ["-V"]):
        from oumi_flow import __version__

        return f"oumi-flow {__version__}\n"
    if words in (["--help"], ["-h"]):
        from oumi_flow.flags import overview

        return overview() + "\n"
    return None


def _settle_streams() -> None:
    """Let there be a stdout and a stderr, and nothing that they cannot say."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us: `>&-`
            nowhere = os.open(os.devnull, os.O_WRONLY)
            stream = open(nowhere, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
