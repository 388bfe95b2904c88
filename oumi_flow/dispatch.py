"""Finds the command of a command line, calls it, and turns whatever happens into an exit code.

Knows nothing below `commands` but `flags` and `errors`. Only the parser of the command that was
asked for is built, and a command's code is imported when it is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from oumi_flow import __version__
from oumi_flow.errors import BAD_WORKFLOW, INTERNAL, OK, FlowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oumi_flow.seal import Look


def run_command(words: list[str], look: Look | None = None) -> int:
    """Run one command line and return its exit code (SPEC §4.4). Streams are settled.

    `look`: what came of looking at its seal.
    """
    if look is not None and look.flags:
        return guarded(lambda: _run_again(words, look))
    return guarded(lambda: _dispatch(words, look))


def guarded(do: Callable[[], int]) -> int:
    """What `do` returns, or the exit code of what it raises, which a user is told in words."""
    try:
        done = do()
        _flush()  # a fault of writing is told here, not by the dying interpreter
        return done
    except FlowError as error:
        return _tell(error)
    except BrokenPipeError:
        from oumi_flow.commands.views import forget_stdout

        forget_stdout()  # whoever read it has gone
        return 0
    except KeyboardInterrupt:
        return 130
    except SystemExit as stop:  # argparse: a usage error or --help
        return stop.code if isinstance(stop.code, int) else BAD_WORKFLOW
    except MemoryError:
        print("error: out of memory", file=sys.stderr)
        return INTERNAL
    except OSError as error:
        return _tell(_as_flow_error(error))
    except UnicodeEncodeError as error:
        if sys.getfilesystemencoding() == "utf-8":
            return _confess(error)
        name = ascii(error.object[:100])
        words = f"a name cannot be written in this locale's {error.encoding}: {name}"
        return _tell(FlowError(words, hint="set LC_ALL=C.UTF-8, or another that is UTF-8"))
    except Exception as error:  # noqa: BLE001 - no traceback ever reaches a user
        return _confess(error)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _as_flow_error(error) from error


def _run_again(words: list[str], look: Look) -> int:
    """A run that was parsed before: to build a parser costs as much as a small plan."""
    from types import SimpleNamespace

    from oumi_flow.commands.run import run

    options: Any = SimpleNamespace(**look.flags)
    options.command_line, options.look, options.flags = words, look, look.flags
    return run(options)


def _dispatch(words: list[str], look: Look | None = None) -> int:
    from oumi_flow.flags import COMMANDS, PROG, overview

    if not words or words[0] in ("-h", "--help", "help"):
        if len(words) > 1 and words[0] == "help" and words[1] not in ("-h", "--help"):
            return _dispatch([words[1], "--help"])
        print(overview())
        return OK if words else BAD_WORKFLOW
    if len(words) > 2 and words[0] == "-C":  # as with make and git: before the command too
        words = [words[2], "-C", words[1], *words[3:]]
    command = COMMANDS.get(words[0])
    if command is None:
        from oumi_flow.text import did_you_mean

        known = [name for name in COMMANDS if not name.startswith("_")]
        raise FlowError(
            f'unknown command "{words[0]}"',
            hint=did_you_mean(words[0], known) or f"`{PROG} --help` lists the commands",
        )
    from oumi_flow.parser import parse

    options = parse(words[0], words[1:])
    flags = dict(vars(options))
    for name in ("file", "target"):
        if getattr(options, name, None) == "":
            raise FlowError(
                f'{PROG} {words[0]}: the workflow file is called "", which is no name',
                hint="is a variable of your shell empty?",
            )
    folder = getattr(options, "chdir", None)
    if folder:
        # As make does: go there first. Commands may go to a workflow's base folder; nobody else.
        try:
            os.chdir(folder)
        except OSError as error:
            raise FlowError(f"-C {folder}: {error.strerror}") from error
    options.command_line, options.look, options.flags = words, look, flags
    module, _, function = command.does.partition(":")
    from importlib import import_module

    done: int = getattr(import_module(f"oumi_flow.commands.{module}"), function)(options)
    return done


def _tell(error: FlowError) -> int:
    from oumi_flow.ui.errors import show

    print(show(error.problems, sys.stderr), file=sys.stderr)
    return error.exit_code


def _as_flow_error(error: OSError) -> FlowError:
    """Faults of the system that no room foresaw, with what they most likely mean."""
    words = error.strerror or str(error)
    if error.filename:
        name = error.filename
        return FlowError(f"{os.fsdecode(name)}: {words}", exit_code=INTERNAL)
    try:
        os.getcwd()
    except OSError:
        return FlowError("the folder that you are in is gone", hint="go to one that is there")
    from oumi_flow.commands.views import forget_stdout

    forget_stdout()  # its writes are those that name no file
    return FlowError(f"cannot write the output: {words}", exit_code=INTERNAL)


def _confess(error: Exception) -> int:
    """Our own fault: say so in one line; the traceback goes to a file, never to the user."""
    import tempfile
    import traceback

    from oumi_flow.flags import PROG

    where = "there was no place to write down the details"
    with (
        suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w", prefix="oumi-flow-", suffix=".txt", delete=False, encoding="utf-8"
        ) as report,
    ):
        report.write(f"{PROG} {__version__}\n{sys.argv}\n")
        traceback.print_exc(file=report)
        where = f"details: {report.name}"
    print(
        f"error: a fault of {PROG} itself: {type(error).__name__}: {error}\n"
        f"  {where}; nothing that had finished is lost",
        file=sys.stderr,
    )
    return INTERNAL
