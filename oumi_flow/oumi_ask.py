"""A small program for oumi's own Python: print the config keys and options of each verb as JSON.

Its source is handed to `python -c`, so it imports nothing of ours, and must run on whatever
Python the user's oumi has. Knows oumi's config classes by name only; a class that is gone is left
out, and nobody checks that verb's keys.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import types
import typing
from typing import Any

CLASSES = {
    "train": "TrainingConfig",
    "tune": "TuningConfig",
    "evaluate": "EvaluationConfig",
    "infer": "InferenceConfig",
    "quantize": "QuantizationConfig",
    "synth": "SynthesisConfig",
    "judge": "JudgeConfig",
}
MODULES = {
    "SynthesisConfig": "oumi.core.configs.synthesis_config",
    "JudgeConfig": "oumi.core.configs.judge_config",
    "QuantizationConfig": "oumi.core.configs.quantization_config",
    "TuningConfig": "oumi.core.configs.tuning_config",
}
MARK = "oumi-flow keys: "


def walk(cls: Any, prefix: str, keys: set[str], free: set[str], above: tuple[Any, ...]) -> None:
    """Collect the leaves below a dataclass; `above` guards against types that hold themselves."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name = f"{prefix}.{field.name}" if prefix else field.name
        place(hints.get(field.name, Any), name, keys, free, (*above, cls))


def place(hint: Any, name: str, keys: set[str], free: set[str], above: tuple[Any, ...]) -> None:
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin is typing.Union or origin is getattr(types, "UnionType", None):
        choices = [arg for arg in args if arg is not type(None)]
        if len(choices) == 1:
            place(choices[0], name, keys, free, above)
        elif any(dataclasses.is_dataclass(c) or typing.get_origin(c) or c is Any for c in choices):
            free.add(name)
        else:
            keys.add(name)
    elif dataclasses.is_dataclass(hint):
        if hint in above:
            free.add(name)
        else:
            walk(hint, name, keys, free, above)
    elif origin in (list, tuple, set) or hint in (list, tuple, set):
        keys.add(name)
        place(args[0] if args else Any, f"{name}[*]", keys, free, above)
    elif hint is Any or hint is dict or origin is dict or hint is object:
        free.add(name)
    elif isinstance(hint, type):
        keys.add(name)
    else:
        free.add(name)


def config_class(name: str) -> Any:
    for module in ("oumi.core.configs", MODULES.get(name, "")):
        if module:
            try:
                return getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError):
                continue
    return None


def cli_options() -> dict[str, list[str]]:
    """The options of each verb's command. Empty where it is built otherwise."""
    try:
        main = importlib.import_module("oumi.cli.main")
        typer_main = importlib.import_module("typer.main")
        root = typer_main.get_command(main.get_app())
        found: dict[str, list[str]] = {}
        for verb in CLASSES:
            command = root.commands[verb]
            below = getattr(command, "commands", None) or {"": command}
            params = [param for leaf in below.values() for param in leaf.params]
            words = {
                word
                for param in params
                for word in (*param.opts, *getattr(param, "secondary_opts", ()))
                if word.startswith("-")
            }
            found[verb] = sorted(words)
        return found
    except (ImportError, AttributeError, KeyError, TypeError):
        return {}


def main() -> int:
    options = cli_options()
    verbs = {}
    for verb, name in CLASSES.items():
        cls = config_class(name)
        if cls is None:
            continue
        keys: set[str] = set()
        free: set[str] = set()
        walk(cls, "", keys, free, ())
        verbs[verb] = {
            "keys": sorted(keys),
            "free": sorted(free),
            "options": options.get(verb, []),
        }
    if not verbs:
        return 1
    sys.stdout.write("\n" + MARK + json.dumps({"verbs": verbs}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
