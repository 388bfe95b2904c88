"""Commands that need no run: `init`, `templates`, `schema`, `completion`."""

from __future__ import annotations

import os

from oumi_flow.text import quoted
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def init(options: argparse.Namespace) -> int:
    """Copy a template into a folder; refuses to overwrite. Raises FlowError."""
    from oumi_flow import templates

    written = templates.write(options.template, options.folder)
    for path in written:
        print(f"  created {path}")
    # Paths in the file are relative to its folder, so that is where to go.
    there = os.path.normpath(options.folder)
    where = "" if there == "." else f" -C {quoted(there)}"
    print(f"next: oumi-flow run workflow.yaml{where} --dry-run")
    return 0


def list_templates(options: argparse.Namespace) -> int:
    """One line a template."""
    from oumi_flow import templates as room

    rows = room.templates()
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:<{width}}  {row.summary}")
    return 0


def schema(options: argparse.Namespace) -> int:
    """The JSON Schema, as it is checked."""
    from oumi_flow.load.schema import schema_text

    print(schema_text(), end="")
    return 0


def completion(options: argparse.Namespace) -> int:
    """A script for the shell to evaluate."""
    from oumi_flow.commands import shells

    print(shells.script(options.shell), end="")
    return 0


def job_names(options: argparse.Namespace) -> int:
    """For completion: the job names of a file, a line each; silent about anything wrong."""
    from oumi_flow.commands.opening import open_workflow, settle_base
    from oumi_flow.errors import FlowError

    options.sets, options.oumi = [], None
    try:
        settle_base(options)
        for job in open_workflow(options).jobs:
            print(job.name)
    except FlowError:
        return 2
    return 0
