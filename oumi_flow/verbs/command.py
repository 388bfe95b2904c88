"""From a job's fields to the words of its command.

Reads no file and no config: `args` are taken apart as text. For shell jobs PATH is looked at, to
tell a program from a word that only a shell understands.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache

from oumi_flow.errors import FlowError
from oumi_flow.pattern import pattern
from oumi_flow.typed import NamedTuple
from oumi_flow.verbs.plain import BLANKS, PLAIN, SHELL_WORDS
from oumi_flow.verbs.table import CliOption, VerbSpec

# Finds a program of that name on PATH.
Which = Callable[[str], "str | None"]


class Arg(NamedTuple):
    """One entry of `args`: an override of a config key, or an option of the verb itself."""

    key: str  # without dashes
    value: str | None
    option: CliOption | None = None

    @property
    def config_key(self) -> str:
        """The config key it sets, "" for an option that is none."""
        if self.option is not None:
            return self.option.key
        return self.key

    @property
    def text(self) -> str:
        """As oumi takes it: `--key=value`, or a flag."""
        if self.option is not None and not self.option.takes_value:
            off = self.value is not None and self.value.strip().lower() in _NO
            return self.option.negative if off and self.option.negative else self.option.name
        name = self.option.name if self.option is not None else f"--{self.key}"
        return f"{name}={self.value}"


class Args(tuple[Arg, ...]):
    """Words of `args` that have been taken apart."""

    __slots__ = ()


_NO = frozenset({"false", "no", "off", "0"})
_OF_THE_JOB = "the config is a field of the job: `config: PATH`"
_RUNS_NOTHING = "with it oumi runs nothing"
_NOT_ARGS = {
    "--config": _OF_THE_JOB,
    "-c": _OF_THE_JOB,
    "--list": _RUNS_NOTHING,
    "--help": _RUNS_NOTHING,
    "-h": _RUNS_NOTHING,
}
_KEY = pattern(r"[A-Za-z_][\w.\[\]-]*\Z")


def parse_args(args: Sequence[str] | Args, spec: VerbSpec) -> Args:
    """Take `args` apart; dashes are optional, and `--key value` is read as `--key=value`.

    What has been taken apart is returned as it is. Raises FlowError for an entry that is neither an
    override nor an option of the verb.
    """
    if isinstance(args, Args):
        return args
    found: list[Arg] = []
    words = [str(word).strip() for word in args]
    at = 0
    while at < len(words):
        word, at = words[at], at + 1
        if not word:
            continue
        arg = _parsed(word, spec)
        if arg.value is None:
            if at >= len(words) or words[at].startswith("--"):
                raise FlowError(f'args: "{word}" has no value', hint="write key=value")
            arg, at = arg._replace(value=words[at]), at + 1
        found.append(arg)
    return Args(found)


@lru_cache(maxsize=1000)  # the jobs of a sweep have much the same words
def _parsed(word: str, spec: VerbSpec) -> Arg:
    """One word of `args`; no value where that is the next word."""
    value: str | None
    name, equals, value = word.partition("=")
    if len(name.split()) > 1:
        # `--key value` in one string; the value may hold signs of equality.
        name, value = word.split(None, 1)
        equals = "="
    name, value = name.strip(), value.strip()
    key = name.lstrip("-")
    dashed = name if name.startswith("-") and name[1:] == key else f"--{key}"
    if dashed in _NOT_ARGS:
        raise FlowError(f'args: "{word}" cannot be given here', hint=_NOT_ARGS[dashed])
    option = spec.option(dashed)
    if option is not None and not option.takes_value:
        if dashed == option.negative:
            value = "false" if not equals or value.lower() not in _NO else "true"
        elif not equals:
            value = "true"
        return Arg(option.name.lstrip("-"), value, option)
    if option is None and not _names_a_key(name, key):
        raise FlowError(
            f'args: "{word}" is neither an override nor an option of {spec.name}',
            hint="write key=value, for example training.max_steps=100",
        )
    return Arg(option.name.lstrip("-") if option else key, value if equals else None, option)


def _names_a_key(name: str, key: str) -> bool:
    single_dash = name.startswith("-") and not name.startswith("--")
    return bool(_KEY.match(key)) and not single_dash


def normal_args(args: Sequence[str] | Args, spec: VerbSpec) -> tuple[str, ...]:
    """`args` as the command gets them, `--key=value` each. Raises as `parse_args`."""
    return tuple([arg.text for arg in parse_args(args, spec)])


def build_command(
    spec: VerbSpec,
    *,
    oumi: tuple[str, ...],
    config: str,
    args: Sequence[str] | Args,
    redirect: str,
    extra: Sequence[str] = (),
    mode: str = "dataset",
) -> tuple[str, ...]:
    """The argv of an oumi verb.

    `redirect` is a finished word such as `--output_dir=D`, or "" where the place is kept; it
    comes after `args`, and `extra` (the resume flag) last, for the last one wins in oumi.
    `mode` is `dataset` or `conversations`, for judge.
    """
    words = [*oumi, *(word.replace("{mode}", mode) for word in spec.argv)]
    if config and spec.config_flag:
        words += [spec.config_flag, config]
    words += normal_args(args, spec)
    if redirect:
        words.append(redirect)
    words += extra
    return tuple(words)


def shell_command(run: str | Sequence[str], which: Which | None = None) -> tuple[str, ...]:
    """The argv of a `run:`; `which` finds programs on PATH (default: as they are now).

    A list of words starts as it is. So does a text of plain words, without anything that a shell
    would interpret, whose first is a program on PATH. Any other text is one argument of
    `bash -euo pipefail -c`, or of `sh -eu -c` where there is no bash.
    """
    import shutil

    find = which or shutil.which
    if not isinstance(run, str):
        return tuple(run)
    text = run.strip(BLANKS)
    if PLAIN.match(text):
        words = text.split()
        if _is_program(words[0], find):
            return tuple(words)
    if find("bash"):
        return ("bash", "-euo", "pipefail", "-c", run)
    return ("sh", "-eu", "-c", run)


def _is_program(word: str, which: Which) -> bool:
    if word in SHELL_WORDS:
        return False
    if "/" in word:
        # A relative one is relative to the job's workdir, which is not known here.
        return os.path.isabs(word) and os.path.isfile(word) and os.access(word, os.X_OK)
    return which(word) is not None
