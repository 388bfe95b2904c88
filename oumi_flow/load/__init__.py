"""Loads a workflow: YAML with positions, schema, expansion, references, and the snapshot of it all.

Never says whether anything is stale. Importing this room imports no YAML: a load that finds its
snapshot valid needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from oumi_flow.model import Workflow
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oumi_flow.verbs.keys import OumiKeys


def load(
    path: str,
    *,
    sets: Mapping[str, str],
    environ: Mapping[str, str],
    keys: OumiKeys | Callable[[], OumiKeys | None] | None = None,
    fetch: Callable[[str], str] | None = None,
    snapshot: bool = True,
    anew: bool = False,
) -> Workflow:
    """The workflow of a file, fully expanded; paths are relative to the working directory.

    `sets` are values for its vars. `keys` are the config keys that oumi knows, or a function that
    asks for them, called on a full load only. `fetch` gives the local copy of an `oumi://` URI.
    With `snapshot` an earlier load of the same is taken over where nothing it was read from has
    changed, but with `anew` it is replaced. Raises FlowError, mostly WorkflowErrors with every
    problem.
    """
    import gc

    from oumi_flow.load.snapshot import read_snapshot, write_snapshot

    if snapshot and not anew:
        found = read_snapshot(path, sets, environ, checked=keys is not None)
        if found is not None:
            return found
    from oumi_flow.load.build import build
    from oumi_flow.load.secrets import shows_secret, templates_of
    from oumi_flow.load.values import Session

    session = Session(environ)
    # Millions of nodes without cycles: collecting them in between costs more than the load.
    collecting = gc.isenabled()
    gc.disable()
    try:
        ask = keys if callable(keys) else lambda: keys
        workflow = build(session, path, sets, ask, fetch)
        keeps = snapshot and session.settled and not session.literal_secrets
        if keeps and not shows_secret(templates_of(workflow), environ, sets.values()):
            write_snapshot(workflow, sets, environ, checked=keys is not None)
    finally:
        if collecting:
            gc.enable()
    return workflow
