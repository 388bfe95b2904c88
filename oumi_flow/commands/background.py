"""`run --detach`: the same run in a session of its own, which no terminal can end."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from oumi_flow.errors import OK, FlowError

if TYPE_CHECKING:
    from oumi_flow.commands.opening import Opened


def detach(options: argparse.Namespace, opened: Opened) -> int:
    """Start the run in the background and print its id once it has begun.

    Blocks until its first event is on disk. Raises FlowError with what it said if it did not start.
    """
    import subprocess

    from oumi_flow.commands.words import in_background
    from oumi_flow.store.runs import new_run_id

    store, run_id = opened.store, new_run_id()
    store.files.make_folder(store.paths.run_folder(run_id))
    said = f"{store.paths.run_folder(run_id)}/output.txt"
    words = in_background(options.command_line)
    with open(said, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "oumi_flow", *words, "--no-tui", "--run-id", run_id, "-C", "."],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    events = store.paths.events(run_id)
    while not os.path.exists(events):
        code = process.poll()
        if code is not None:
            with open(said, encoding="utf-8", errors="replace") as text:
                message = text.read().strip()
            if code == OK:
                print(message)
                return OK
            what, _, hint = message.removeprefix("error: ").partition("\n")
            raise FlowError(f"the run did not start: {what}", hint=hint.strip(), exit_code=code)
        time.sleep(0.02)
    process.returncode = OK  # it lives on: nothing here waits for it, nor is to warn of that
    print(run_id)
    print(
        f"running in the background; `oumi-flow monitor {run_id}` watches it, "
        f"`oumi-flow cancel {run_id}` stops it",
        file=sys.stderr,
    )
    return OK
