"""The verbs: their table, the commands they become, the results they leave.

Knows what oumi's command line and its outputs look like. Never knows YAML, or whether a job is
stale.
"""

from oumi_flow.verbs.command import Arg, build_command, normal_args, parse_args, shell_command
from oumi_flow.verbs.plain import teaches, without_shell
from oumi_flow.verbs.results import (
    counted_path,
    done,
    keeps_checkpoints_only,
    model_file,
    publish_results,
    task_results,
)
from oumi_flow.verbs.table import VERBS, CliOption, VerbSpec, known_verbs, verb

__all__ = [
    "VERBS",
    "Arg",
    "CliOption",
    "VerbSpec",
    "build_command",
    "counted_path",
    "done",
    "keeps_checkpoints_only",
    "known_verbs",
    "model_file",
    "normal_args",
    "parse_args",
    "publish_results",
    "shell_command",
    "task_results",
    "teaches",
    "verb",
    "without_shell",
]
