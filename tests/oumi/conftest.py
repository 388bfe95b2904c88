"""The real oumi, a tiny model made once, and a way to run one verb as the runner would.

oumi is looked for as the tool itself does (OUMI_FLOW_OUMI, beside this Python, PATH). Without one
these tests are skipped, or fail where OUMI_FLOW_REQUIRE_OUMI=1 says that there should be one.
Each run of a verb costs some 40 CPU-seconds, nearly all of them imports.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from oumi_flow.errors import FlowError
from oumi_flow.load.configs import counted, flatten, merge, own_place, read_config
from oumi_flow.model import Command, Job
from oumi_flow.oumi_cli import find_oumi, missing_oumi, python_of
from oumi_flow.verbs import build_command, verb
from oumi_flow.verbs.places import choose_place

HERE = Path(__file__).parent
FILES = ("toy_eval.py", "extra_deps.txt")
LIMIT = 900.0  # seconds of one verb on a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.oumi)
            item.add_marker(pytest.mark.timeout(2 * LIMIT))


@pytest.fixture(scope="session")
def oumi() -> tuple[str, ...]:
    """The command of the real oumi."""
    try:
        command = find_oumi(None, os.environ)
    except FlowError as error:
        pytest.fail(str(error))
    if command is not None and python_of(command) is not None:
        return command
    if os.environ.get("OUMI_FLOW_REQUIRE_OUMI") == "1":
        pytest.fail(f"OUMI_FLOW_REQUIRE_OUMI=1, but {missing_oumi()}")
    pytest.skip("the real oumi is not installed; OUMI_FLOW_OUMI names it")


@pytest.fixture(scope="session")
def oumi_env(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment in which oumi stays offline, silent, on the CPU, and out of the home."""
    home = tmp_path_factory.mktemp("home")
    return {
        **os.environ,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OUMI_FLOW_HOME": str(home / "oumi-flow"),
    }


@pytest.fixture(scope="session")
def tiny(
    oumi: tuple[str, ...],
    oumi_env: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with `tiny-model/`, `data/*.jsonl`, `configs/*.yaml` and a custom evaluation.

    Made once a session: do not change what is in it, work below it in a folder of your own.
    """
    folder = tmp_path_factory.mktemp("tiny")
    python = python_of(oumi)
    assert python is not None
    subprocess.run(
        [python, str(HERE / "make_tiny_model.py"), str(folder)],
        env=dict(oumi_env),
        check=True,
        capture_output=True,
        timeout=LIMIT,
    )
    shutil.copytree(HERE / "configs", folder / "configs")
    for name in FILES:
        shutil.copy(HERE / name, folder / name)
    return folder


@dataclass(frozen=True)
class Ran:
    """One run of a verb."""

    job: Job
    code: int
    log: str
    output_dir: str

    @property
    def place(self) -> Path:
        return Path(self.job.place)

    @property
    def text(self) -> str:
        return Path(self.log).read_text(errors="replace")


@dataclass(frozen=True)
class Bench:
    """Runs verbs in `base`, their folders below `out/`."""

    oumi: tuple[str, ...]
    env: Mapping[str, str]
    base: Path

    def run(
        self,
        name: str,
        verb_name: str,
        config: str,
        args: Sequence[str] = (),
        *,
        extra: Sequence[str] = (),
        mode: str = "dataset",
        env: Mapping[str, str] | None = None,
    ) -> Ran:
        """Run one verb with the command that the tool would give it. Blocks for a minute."""
        spec = verb(verb_name)
        merged, _ = merge(
            read_config(config, lambda path: (self.base / path).read_bytes()), args, spec
        )
        folder = self.base / "out" / name
        folder.mkdir(parents=True)
        placed = choose_place(
            spec,
            folder=str(folder),
            own_place=own_place(merged, spec),
            args=args,
            outputs=(),
        )
        argv = build_command(
            spec,
            oumi=self.oumi,
            config=config,
            args=args,
            redirect=placed.redirect,
            extra=extra,
            mode=mode,
        )
        log = folder / "job.log"
        with log.open("wb") as output:
            code = subprocess.run(
                argv,
                cwd=self.base,
                env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
                check=False,
            ).returncode
        job = Job(
            name=name,
            verb=spec.name,
            folder=str(folder),
            place=placed.place,
            command=Command(argv),
            parts={"config": counted(flatten(merged), spec)},
            fingerprint="",
        )
        return Ran(job, code, str(log), placed.output_dir)


@pytest.fixture(scope="session")
def bench(oumi: tuple[str, ...], oumi_env: Mapping[str, str], tiny: Path) -> Bench:
    return Bench(oumi, oumi_env, tiny)
