"""Writes docs/reference/cli.md from the table of commands; a test holds the two together.

python docs/make_cli_reference.py
"""

from __future__ import annotations

from pathlib import Path

from oumi_flow.flags import COMMANDS, GROUPS, HIDDEN, Arg

HEAD = """# Commands

<!-- Made by docs/make_cli_reference.py from the table in oumi_flow/flags.py. -->

`oumi-flow COMMAND --help` says the same. FILE is a workflow file, JOB a job's name; where several
jobs may be named, `train-*` is every job that matches. stdout is for the answer, stderr for talk;
`NO_COLOR`, `TERM=dumb`, pipes and CI get plain lines.
"""

TAIL = """
## Exit codes

| code | meaning |
|---|---|
| 0 | fine; also: detached from |
| 1 | a job failed, was cancelled or blocked |
| 2 | a bad workflow or usage; nothing ran |
| 3 | another run holds the output folder |
| 4 | a fault of oumi-flow itself |
| 129, 130, 143 | ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM |

## Environment

| variable | meaning |
|---|---|
| `OUMI_FLOW_OUMI` | the command that runs oumi, where `--oumi` is not given |
| `OUMI_FLOW_HOME` | where this user's list of runs and caches lie |
| `OUMI_FLOW_LOCK_DIR` | where the locks of GPUs lie; all users of a machine need the same |
| `OUMI_FLOW_GPU_PATIENCE` | seconds that a job that wants GPUs is overtaken by smaller ones: 60 |
| `CUDA_VISIBLE_DEVICES` | bounds the GPUs that a run uses |
| `NO_COLOR` | no colours |

A job finds `OUMI_FLOW_JOB`, `OUMI_FLOW_OUTPUT_DIR` (its own folder, absolute) and
`OUMI_FLOW_ATTEMPT` (1, 2 …) in its environment, beside `CUDA_VISIBLE_DEVICES` for the GPUs it was
given, `PYTHONUNBUFFERED=1` and `DO_NOT_TRACK=1`.
"""


def page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    for title, names in GROUPS:
        parts.append(f"\n## {title}\n")
        parts += [_command(name) for name in names]
    return "".join([*parts, TAIL])


def _command(name: str) -> str:
    command = COMMANDS[name]
    told = [arg for arg in command.args if arg.settings.get("help") != HIDDEN]
    usage = " ".join(_usage(arg) for arg in told if not arg.names[0].startswith("-"))
    lines = [
        f"\n### `{' '.join(['oumi-flow', name, usage]).strip()}`\n",
        f"{_sentence(command.summary)}\n",
    ]
    if told:
        lines.append("| argument | what it does |\n|---|---|")
        lines += [
            f"| {_cell(_flag(arg))} | {_cell(arg.settings.get('help', ''))} |" for arg in told
        ]
        lines.append("")
    lines += ["```console", *(f"$ {example}" for example in command.examples), "```", ""]
    return "\n".join(lines)


def _usage(arg: Arg) -> str:
    word = _value(arg) or arg.names[0]
    many = arg.settings.get("nargs")
    return {"*": f"[{word}…]", "+": f"{word}…", "?": f"[{word}]"}.get(str(many), word)


def _flag(arg: Arg) -> str:
    if not arg.names[0].startswith("-"):
        return f"`{_value(arg) or arg.names[0]}`"
    value = "" if "action" in arg.settings and "metavar" not in arg.settings else _value(arg)
    if arg.settings.get("nargs") == "?":
        return ", ".join(f"`{name}[={value}]`" for name in arg.names)
    return ", ".join(f"`{name} {value}`".replace(" `", "`") for name in arg.names)


def _value(arg: Arg) -> str:
    choices = arg.settings.get("choices")
    return str(arg.settings.get("metavar") or ("|".join(choices) if choices else ""))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("%%", "%")


if __name__ == "__main__":
    Path(__file__).with_name("reference").joinpath("cli.md").write_text(page(), encoding="utf-8")
