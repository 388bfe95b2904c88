"""`notify:` of a workflow: a command of the user's, told of failures and of the end by JSON.

Its fate never touches the run: it gets its own thread and 30 seconds; what goes wrong is a warning.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Collection, Mapping

from oumi_flow.events import Event, JobFinished, RunFinished, RunStarted

_LIMIT = 30.0


class Notifier:
    """A listener: runs the command for each failed job and once at the end of the run."""

    def __init__(self, command: str, secrets: Collection[str] = ()) -> None:
        """`secrets`: values that must not show in what the command says."""
        self._command = command
        self._secrets = sorted(secrets, key=len, reverse=True)
        self._about: dict[str, object] = {}
        self._threads: list[threading.Thread] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._about = {
                "run_id": event.run_id,
                "workflow": event.workflow,
                "output_dir": os.path.abspath(event.output_dir),
                "host": event.host,
                "user": event.user,
            }
        elif isinstance(event, JobFinished) and event.state == "failed":
            self._tell({"event": "failed", "job": event.job, "cause": event.cause})
        elif isinstance(event, RunFinished):
            self._tell(
                {"event": "finished", "state": event.state, "cause": event.cause}
                | {"counts": event.counts, "took": event.took}
            )

    def close(self) -> None:
        """Wait for the commands under way, at most their own limit."""
        for thread in self._threads:
            thread.join(_LIMIT + 1)

    def _tell(self, what: Mapping[str, object]) -> None:
        import json

        text = json.dumps({**self._about, **what}, ensure_ascii=False) + "\n"
        thread = threading.Thread(target=self._run, args=(text,), name="notify", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _run(self, text: str) -> None:
        import subprocess

        from oumi_flow.verbs import shell_command

        try:
            done = subprocess.run(
                shell_command(self._command),
                input=text,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            words = f"took more than {_LIMIT:.0f} s"
        except OSError as fault:
            words = str(fault)
        else:
            if done.returncode == 0:
                return
            said = done.stderr
            for value in self._secrets:
                said = said.replace(value, "****")
            words = f"exit {done.returncode}: {said.strip()[-200:]}"
        print(f"warning: notify: {words}", file=sys.stderr)
