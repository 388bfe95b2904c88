"""The table of flags as a parser, and what argparse finds wrong in our own words.

A run that is answered or begun from its seal never comes here: the seal has kept its flags.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from oumi_flow.errors import FlowError
from oumi_flow.flags import COMMANDS, HIDDEN, PROG, Arg, Command


def parse(name: str, words: Sequence[str]) -> argparse.Namespace:
    """The flags of one command line, without the command's name. Raises FlowError."""
    # `--dag` takes its value only after `=`, or it would swallow the file's name.
    words = ["--dag=dot" if word == "--dag" else word for word in words]
    return _parser_of(name, COMMANDS[name]).parse_intermixed_args(words)


def _parser_of(name: str, command: Command) -> argparse.ArgumentParser:
    """The argument parser of one command."""

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise _usage_error(command, message, name)

    parser = Parser(
        prog=f"{PROG} {name}",
        description=command.summary[:1].upper() + command.summary[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  {line}" for line in command.examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for arg in command.args:
        settings = dict(arg.settings)
        if settings["help"] == HIDDEN:
            settings["help"] = argparse.SUPPRESS
        parser.add_argument(*arg.names, **settings)
    return parser


def _usage_error(command: Command, message: str, name: str) -> FlowError:
    """What argparse says, in our words and with the nearest thing that it would have taken."""
    from oumi_flow.text import did_you_mean

    said, _, rest = message.partition(": ")
    if said == "the following arguments are required":
        needed = {a.settings.get("metavar", a.names[0]) for a in command.args if _is_needed(a)}
        words = [word for word in rest.split(", ") if word in needed] or [rest]
        message = f"{' and '.join(words)} missing"
    elif said.startswith("argument "):
        flag = said.removeprefix("argument ")
        message = f"{flag}: {rest}"
        if rest.startswith("ignored explicit argument"):
            message = f"{flag} takes no value, got {_quoted(rest)}"
        arg = next((a for a in command.args if flag in ("/".join(a.names), *a.names)), None)
        choices = arg.settings.get("choices", ()) if arg is not None else ()
        if choices:
            got = _quoted(rest)
            message = f"{flag}: expected {' | '.join(choices)}, got {got}"
            hint = did_you_mean(got, choices)
            if hint:
                return FlowError(f"{PROG} {name}: {message}", hint=hint)
    elif said == "unrecognized arguments":
        words = rest.split()
        flags = [flag for arg in command.args for flag in arg.names if flag.startswith("-")]
        stray = next((word for word in words if word.startswith("-")), "")
        message = f'no flag "{stray}"' if stray else f'one argument too many: "{words[0]}"'
        hint = did_you_mean(stray.partition("=")[0], flags) if stray else ""
        if hint:
            return FlowError(f"{PROG} {name}: {message}", hint=hint)
    return FlowError(f"{PROG} {name}: {message}", hint=f"`{PROG} {name} --help` shows how")


def _quoted(text: str) -> str:
    return text.partition("'")[2].partition("'")[0]


def _is_needed(arg: Arg) -> bool:
    return not arg.names[0].startswith("-") and arg.settings.get("nargs") not in ("*", "?")
