"""Which jobs of a plan are forked from a process that has imported their modules, and which not.

The verb's row and the job's config say whether it can be; the oumi found says whether there is
anything to fork from. Starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from oumi_flow import verbs
from oumi_flow.executors.base import Warmth
from oumi_flow.model import Decision, Job, Step
from oumi_flow.runner.children import Children

# It names modules for the job itself to load.
_USER_MODULES = "OUMI_EXTRA_DEPS_FILE"


class Warming:
    """For one plan. `words` tell which warm jobs start cold all the same, and why."""

    def __init__(
        self, steps: Iterable[Step], oumi: Sequence[str], children: Children, sees_gpus: bool
    ) -> None:
        steps = [step for step in steps if step.decision is not Decision.UP_TO_DATE]
        wanted = [step.job for step in steps if step.job.warm]
        self._why = {job.name: _why_cold(job) for job in wanted}
        self.words = _in_words(self._why)
        self.warmth: Warmth | None = None
        self.is_due = False  # whether a job will be forked whatever its upstreams make
        warm = [job for job in wanted if not self._why[job.name]]
        if not warm:
            return
        from oumi_flow.oumi_cli import interpreter_of

        python = interpreter_of(oumi)
        if python is None:
            self.words += (f"`warm`: {' '.join(oumi)} is no script of a Python; jobs start cold",)
            return
        modules = dict.fromkeys(name for job in warm for name in verbs.verb(job.verb).imports)
        env = children.shared_env(warm[0], sees_gpus and warm[0].gpu is not None)
        env.pop(_USER_MODULES, None)
        self.warmth = Warmth(python, oumi[0], tuple(modules), warm[0].command.cwd, env)
        running = {step.job.name for step in steps if step.decision is Decision.RUN}
        self.is_due = any(job.name in running for job in warm)

    def of(self, job: Job) -> Warmth | None:
        """What to fork the job from; None: it starts by itself."""
        return self.warmth if self._why.get(job.name) == "" else None


def _why_cold(job: Job) -> str:
    spec = verbs.verb(job.verb)
    if not spec.imports:
        return f"{job.verb} cannot be forked"
    if job.gpu is not None and job.gpu.count > 1:
        return "it has several GPUs"
    config = job.parts.get("config")
    if isinstance(config, Mapping):
        for key, value in spec.spawns:
            if str(config.get(key)).upper() == value:
                return f"{key}: {config[key]} starts processes of its own"
    return ""


def _in_words(why: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each reason."""
    jobs: dict[str, list[str]] = {}
    for name, words in why.items():
        if words:
            jobs.setdefault(words, []).append(name)
    return tuple(
        f"`warm`: {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''} "
        f"start{'s' if len(names) == 1 else ''} cold: {words}"
        for words, names in jobs.items()
    )
