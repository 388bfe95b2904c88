"""`run --detach`: the same run in a session of its own, which no terminal can end."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from oumi_flow.errors import INTERNAL, OK, FlowError
from oumi_flow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from subprocess import Popen

    from oumi_flow.commands.opening import Opened
    from oumi_flow.store import Store


def detach(options: argparse.Namespace, opened: Opened) -> int:
    """Start the run in the background and print its id once it has begun.

    Blocks until its first event is on disk. Raises FlowError with what it said if it did not start.
    """
    run_id = start(options.command_line, opened.store)
    if run_id:
        try:
            print(run_id, flush=True)
        except OSError as fault:
            raise FlowError(
                f"run {run_id} has started; its id cannot be written: {fault.strerror}",
                hint=f"`oumi-flow cancel {run_id}` stops it",
                exit_code=INTERNAL,
            ) from fault
        print(
            f"running in the background; `oumi-flow monitor {run_id}` watches it, "
            f"`oumi-flow cancel {run_id}` stops it",
            file=sys.stderr,
        )
    return OK


def start(
    words: Sequence[str],
    store: Store,
    *,
    meanwhile: Callable[[], object] = lambda: None,
    tell: Callable[[str], object] = print,
) -> str:
    """Start the run of that command line, from the folder we stand in, in a session of its own.

    Returns its id once its first event is on disk; "" when there was nothing to do, and `tell` has
    been told so. `meanwhile` is done while it starts. Raises FlowError with what it said.
    """
    import subprocess

    from oumi_flow.commands.web import without_page
    from oumi_flow.commands.words import in_background
    from oumi_flow.store.files import told
    from oumi_flow.store.runs import new_run_id

    run_id = new_run_id()
    store.files.make_folder(store.paths.run_folder(run_id))
    said = f"{store.paths.run_folder(run_id)}/output.txt"
    words = in_background(words)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with told(said, "write"), open(os.open(said, flags, store.files.mode), "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "oumi_flow", *words, "--no-tui", "--run-id", run_id, "-C", "."],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=without_page(os.environ),
            start_new_session=True,
        )
    events = store.paths.events(run_id)
    try:
        meanwhile()
        while not os.path.exists(events):
            code = process.poll()
            if code is not None:
                tell(_did_not_start(store, run_id, said, code))
                return ""
            time.sleep(0.02)
    except KeyboardInterrupt:  # nobody has been told its name
        process.terminate()
        process.wait()
        raise
    _let_go(process)
    return run_id


def ask_for(words: Sequence[str]) -> None:
    """Start another command of ours that ends by itself, and do not wait for it."""
    import subprocess

    _let_go(
        subprocess.Popen(
            [sys.executable, "-m", "oumi_flow", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    )


def _let_go(process: Popen[bytes]) -> None:
    """It lives on: nothing here waits for it, nor is to warn of that; its end leaves no zombie."""
    process.returncode = OK

    def reap() -> None:
        with suppress(OSError):
            os.waitpid(process.pid, 0)

    threading.Thread(target=reap, name="reaper", daemon=True).start()


def _did_not_start(store: Store, run_id: str, said: str, code: int) -> str:
    """Its last words. Raises FlowError unless they are that there was nothing to do."""
    from shutil import rmtree

    with open(said, encoding="utf-8", errors="replace") as text:
        message = text.read().strip()
    try:
        if code != OK and not message:  # perhaps there was no room for its words
            store.files.append(said, b"\n")
    finally:
        rmtree(store.paths.run_folder(run_id), ignore_errors=True)
    if code == OK:
        return message
    what, _, hint = message.removeprefix("error: ").partition("\n")
    what = what or f"it ended with exit code {code} and no word"
    raise FlowError(f"the run did not start: {what}", hint=hint.strip(), exit_code=code)
