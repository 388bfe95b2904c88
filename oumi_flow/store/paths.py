"""Where every state file of an output folder lies. Touches no disk."""

from __future__ import annotations

STATE = ".oumi-flow"


class Paths:
    """Paths below `output_dir`, relative to the working folder if `output_dir` is."""

    __slots__ = ("output_dir", "state")

    def __init__(self, output_dir: str) -> None:
        self.output_dir = output_dir
        self.state = f"{output_dir}/{STATE}"

    # One job's

    def job_folder(self, job: str) -> str:
        return f"{self.output_dir}/{job}"

    def job_state(self, job: str) -> str:
        return f"{self.output_dir}/{job}/{STATE}"

    def marker(self, job: str) -> str:
        """The trace of the last success; not there while outputs may be changing."""
        return f"{self.output_dir}/{job}/{STATE}/done.json"

    def previous(self, job: str) -> str:
        """The marker as it was before the latest attempt began: for words, never for trust."""
        return f"{self.output_dir}/{job}/{STATE}/previous.json"

    def attempt(self, job: str) -> str:
        return f"{self.output_dir}/{job}/{STATE}/attempt.json"

    def exit(self, job: str) -> str:
        return f"{self.output_dir}/{job}/{STATE}/exit.json"

    def progress(self, job: str) -> str:
        return f"{self.output_dir}/{job}/{STATE}/progress.json"

    def metrics(self, job: str) -> str:
        return f"{self.output_dir}/{job}/{STATE}/metrics.jsonl"

    def mixed(self, job: str) -> str:
        """There if the job's promised folders held what it had not made when it first ran."""
        return f"{self.output_dir}/{job}/{STATE}/mixed"

    def config_copy(self, job: str) -> str:
        return f"{self.output_dir}/{job}/{STATE}/config.yaml"

    def old(self, job: str) -> str:
        """What the last unfinished attempt left."""
        return f"{self.output_dir}/{job}/{STATE}/old"

    def former(self, job: str) -> str:
        """What lay in the job's folder that no unfinished attempt left: mostly a result."""
        return f"{self.output_dir}/{job}/{STATE}/previous"

    def log(self, job: str, back: int = 0) -> str:
        """The log of the newest attempt (`back` 0), of the one before it (1) …"""
        name = f"job.log.{back}" if back else "job.log"
        return f"{self.output_dir}/{job}/{name}"

    # The workflow's

    @property
    def lock(self) -> str:
        return f"{self.state}/lock"

    @property
    def owner(self) -> str:
        return f"{self.state}/owner.json"

    @property
    def index(self) -> str:
        return f"{self.state}/index"

    @property
    def cache(self) -> str:
        return f"{self.state}/cache"

    @property
    def runs(self) -> str:
        return f"{self.state}/runs"

    def run_folder(self, run_id: str) -> str:
        return f"{self.state}/runs/{run_id}"

    def events(self, run_id: str) -> str:
        return f"{self.state}/runs/{run_id}/events.jsonl"

    def control(self, run_id: str) -> str:
        return f"{self.state}/runs/{run_id}/control.jsonl"
