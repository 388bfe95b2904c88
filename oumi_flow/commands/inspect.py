"""Commands that look at a workflow and run nothing: `validate`, `dag`, `why`."""

from __future__ import annotations

import os
import sys

from oumi_flow.errors import FlowError
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from oumi_flow.model import Plan

_WORDS = {"run": "will run"}


def validate(options: argparse.Namespace) -> int:
    """The summary of a valid workflow; a wrong one raises FlowError with every problem."""
    import gc

    gc.disable()  # as `run` does: what is loaded stays until the end
    try:
        return _validate(options)
    finally:
        gc.freeze()  # nor is it looked through as the interpreter ends
        gc.enable()


def _validate(options: argparse.Namespace) -> int:
    from oumi_flow.commands.opening import open_workflow, settle_base
    from oumi_flow.commands.resources import check_gpus
    from oumi_flow.ui.tables import validate_summary
    from oumi_flow.ui.theme import theme_of

    settle_base(options)
    workflow = open_workflow(options, snapshot=False)
    check_gpus(workflow)
    print(validate_summary(workflow, theme_of(sys.stdout)))
    return 0


def dag(options: argparse.Namespace) -> int:
    """The graph: DOT on stdout, or a file of the kind that its name ends in."""
    from oumi_flow.commands.opening import make_plan, open_all
    from oumi_flow.commands.reporting import write_file

    # Where the user stands, which may not be the workflow's base folder.
    path = None if options.output is None else os.path.abspath(options.output)
    plan = make_plan(open_all(options), options)
    if path is None:
        sys.stdout.write(drawing(plan, "dot", every=options.all))
        return 0
    kinds = {".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".svg": "svg"}
    ending = os.path.splitext(path)[1]
    if ending not in kinds:
        raise FlowError(f"-o {options.output}: expected a name ending in .svg, .dot or .mmd")
    text = drawing(plan, kinds[ending], every=options.all)
    write_file(path, text.encode("utf-8", "surrogateescape"), f"-o {options.output}")
    print(f"wrote {options.output}", file=sys.stderr)
    return 0


def drawing(plan: Plan, kind: str, *, every: bool = False) -> str:
    """The plan's graph as `dot`, `mermaid` or `svg`. Raises FlowError without graphviz."""
    from oumi_flow.graph.drawing import Node, to_dot, to_mermaid
    from oumi_flow.reasons import headline, up_to_date

    nodes = [
        Node(
            name=step.job.name,
            verb=step.job.verb,
            state=_WORDS.get(step.decision.value, step.decision.value),
            upstream=step.job.upstream,
            implied=step.job.implied,
            reason=headline(step.reasons) if step.reasons else up_to_date(step.past.trace),
        )
        for step in plan.steps
    ]
    if kind == "mermaid":
        return to_mermaid(nodes, every=every)
    dot = to_dot(nodes, title=plan.workflow.name, every=every)
    return dot if kind == "dot" else _svg(dot)


def _svg(dot: str) -> str:
    import subprocess

    try:
        done = subprocess.run(
            ["dot", "-Tsvg"],
            input=dot,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
    except FileNotFoundError:
        raise FlowError(
            "SVG needs graphviz: no `dot` on PATH",
            hint="install graphviz, or write DOT or Mermaid: -o dag.dot, -o dag.mmd",
        ) from None
    if done.returncode:
        raise FlowError(f"graphviz failed: {done.stderr.strip()}")
    return done.stdout


def why(options: argparse.Namespace) -> int:
    """One job: its reasons, what it waits for, what would run after it."""
    from oumi_flow.commands.opening import make_plan, open_all
    from oumi_flow.commands.planning import running_now
    from oumi_flow.commands.targets import one_job
    from oumi_flow.commands.words import to_json
    from oumi_flow.graph import descendants
    from oumi_flow.model import Decision
    from oumi_flow.reasons import of_step, up_to_date
    from oumi_flow.ui.tables import Why, why_text
    from oumi_flow.ui.theme import theme_of

    opened = open_all(options)
    name = one_job(options.job, opened.workflow)
    plan = make_plan(opened, options)
    steps = {step.job.name: step for step in plan.steps}
    step = steps[name]
    job = step.job
    upstream = {name: step.job.upstream for name, step in steps.items()}
    after = descendants([job.name], upstream)
    reasons = of_step(step, verbose=bool(options.verbose)) or [up_to_date(step.past.trace)]
    running = running_now(plan, opened.store)
    if job.name in running:
        reasons = [running[job.name]]
    up_to_date_now = step.decision is Decision.UP_TO_DATE
    answer = Why(
        job=job.name,
        verb=job.verb,
        decision=step.decision.value,
        reasons=reasons,
        waits_for=[
            (name, _WORDS.get(steps[name].decision.value, steps[name].decision.value))
            for name in job.upstream
            if up_to_date_now or steps[name].decision is not Decision.UP_TO_DATE
        ],
        runs_after=[name for name in upstream if name in after],
        notes=[f"needs {name} because its config names a path of it" for name in job.implied],
    )
    if options.json:
        from dataclasses import asdict

        print(to_json(asdict(answer)))
    else:
        print(why_text(answer, theme_of(sys.stdout)))
    return 0
