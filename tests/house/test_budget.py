"""What the quick answers may cost, counted, not timed: modules loaded, files opened, looks taken.

A budget that is exceeded says what is new; one that is undercut is to be lowered here. Counted
beyond what the interpreter does for `pass`, by whatever modules and calls the two have in common.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest

from oumi_flow.load import load, template
from tests.flow.conftest import Space, wait_for

# As the console script does; with what is loaded at the end on stderr.
PROGRAM = """
import sys
before = set(sys.modules)
from oumi_flow.cli import main
code = main(sys.argv[1:])
sys.stdout.flush()
new = set(sys.modules) - before - {"__future__", *sys.builtin_module_names}
print("loaded", *sorted(new), file=sys.stderr)
"""
RUN = ("run", "workflow.yaml", "--no-tui")
DRY = (*RUN, "--dry-run")
DOOR = {"oumi_flow", "oumi_flow.cli"}
SEAL = DOOR | {"oumi_flow.seal", "zlib"}
SEAL_OF_RUN = SEAL | {"fcntl"}  # whether nobody holds the lock, for when something has moved
TOUCHED = SEAL_OF_RUN | {"oumi_flow.content", "blake3", "blake3.blake3"}
TOUCHED |= {"oumi_flow.seal.writing", "oumi_flow.seal.amending"}


@dataclass
class Seen:
    modules: set[str]
    stdout: str


def witness(space: Space, *words: str) -> Seen:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=space.root,
        env=space.env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("loaded "), done.stderr
    return Seen(set(last.split()[1:]), done.stdout)


def lay_out(space: Space, number: int) -> None:
    jobs = []
    for each in range(number):
        space.write(f"in/{each}", str(each))
        out = f"out/j{each}/o"
        (space.root / f"out/j{each}").mkdir(parents=True, exist_ok=True)
        jobs.append(
            {"name": f"j{each}", "verb": "shell", "run": f"cat in/{each} > {out}"}
            | {"inputs": [f"in/{each}"], "outputs": [out]}
        )
    space.workflow(*jobs)


def seal(space: Space, words: tuple[str, ...]) -> None:
    """Until the answer is sealed: what was written a moment ago is not trusted yet."""
    wait_for(lambda: witness(space, *words).modules <= TOUCHED, "a seal")


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return Space(tmp_path)


@pytest.fixture
def built(space: Space) -> Space:
    lay_out(space, 3)
    assert space.run().code == 0
    seal(space, RUN)
    return space


def test_the_version_loads_the_door_alone(space: Space) -> None:
    assert witness(space, "--version").modules == DOOR


def test_the_overview_loads_the_table_of_flags_and_no_parser(space: Space) -> None:
    modules = witness(space, "--help").modules
    assert DOOR | {"oumi_flow.flags"} <= modules
    assert not modules & {"argparse", "re", "dataclasses", "enum", "typing", "gettext"}
    assert len(modules) <= 6, modules


def test_nothing_to_do_loads_the_seal_alone(built: Space) -> None:
    seen = witness(built, *RUN)
    assert seen.stdout == "flow: up to date (3 jobs)\n"
    assert seen.modules | {"fcntl"} == SEAL_OF_RUN


def test_a_touched_file_loads_its_reader_besides(built: Space) -> None:
    (built.root / "in/1").touch()
    seen = witness(built, *RUN)
    assert seen.stdout == "flow: up to date (3 jobs)\n"
    assert seen.modules <= TOUCHED | {"stat", "time"}


def test_one_thing_to_do_builds_no_parser_and_loads_nothing_of_what_it_does_not_use(
    built: Space,
) -> None:
    built.write("in/1", "new")
    seen = witness(built, *RUN)
    assert "1 done" in seen.stdout
    dear = {"dataclasses", "inspect", "selectors", "socket", "typing"}
    dear |= {"argparse", "csv", "random", "secrets", "shutil"}
    dear |= {"oumi_flow.flags", "oumi_flow.parser"}
    assert not seen.modules & dear


def test_a_dry_run_of_what_never_ran_loads_the_seal_alone(space: Space) -> None:
    lay_out(space, 3)
    wait_for(lambda: witness(space, *DRY).modules == SEAL, "a seal")
    assert "3 will run" in witness(space, *DRY).stdout


def traced(space: Space, words: tuple[str, ...]) -> tuple[int, int]:
    """How many stats and how many opens (of what is there) one command line makes."""
    log = space.root / "trace"
    subprocess.run(
        ["strace", "-qq", "-o", log, "-e", "trace=%file,getdents64", sys.executable, *words],
        cwd=space.root,
        env=space.env,
        check=True,
        capture_output=True,
    )
    lines = log.read_text().splitlines()
    stats = [line for line in lines if "stat" in line.partition("(")[0]]
    opens = [line for line in lines if line.startswith("open") and " = -1 " not in line]
    return len(stats), len(opens)


def no_op(space: Space) -> None:
    assert space.run().code == 0
    seal(space, RUN)


def never_ran(space: Space) -> None:
    wait_for(lambda: witness(space, *DRY).modules == SEAL, "a seal")


@pytest.mark.parametrize(
    ("prepare", "words", "stats_a_job"), [(no_op, RUN, 3), (never_ran, DRY, 1)]
)
def test_looks_grow_by_a_few_stats_a_job_and_no_open(
    space: Space, prepare: Callable[[Space], None], words: tuple[str, ...], stats_a_job: int
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    bare = traced(space, ("-c", "pass"))
    seen = {}
    for number in (1, 101):
        shutil.rmtree(space.root / "out", ignore_errors=True)
        lay_out(space, number)
        prepare(space)
        seen[number] = traced(space, ("-c", "from oumi_flow.cli import main; main()", *words))
    assert seen[101][0] - seen[1][0] == stats_a_job * 100
    assert seen[101][1] == seen[1][1]
    # Of one job: the modules, the seal and the lock, opened once each.
    more = seen[1][1] - bare[1]
    assert more <= 12, "more is opened than the door, the seal, its modules and their folders"


def test_the_budget_sees_an_import(tmp_path: Path, space: Space) -> None:
    """The witness is no blind one: an import more in the door would be told."""
    package = tmp_path / "oumi_flow"
    made_meanwhile = shutil.ignore_patterns("__pycache__")
    shutil.copytree(
        Path(__file__).parents[2] / "oumi_flow", package, symlinks=True, ignore=made_meanwhile
    )
    door = package / "cli.py"
    door.write_text(door.read_text().replace("import sys\n", "import sys\nimport json\n", 1))
    space.env["PYTHONPATH"] = str(tmp_path)
    assert "json" in witness(space, "--version").modules


SHELL = """
name: w
env: {PROJECT: demo}
defaults: {max_retries: 1}
jobs:
  - name: cell-${{ matrix.a }}-${{ matrix.b }}
    verb: shell
    matrix: {a: [1, 2, 3, 4, 5], b: AXIS}
    run: cat data/in > out/${{ matrix.a }}-${{ matrix.b }}
    inputs: [data/in]
    outputs: ["out/${{ matrix.a }}-${{ matrix.b }}"]
    env: {MODE: fast}
"""
TRAIN = """
name: w
jobs:
  - name: train-${{ matrix.a }}-${{ matrix.b }}
    verb: train
    config: train.yaml
    matrix: {a: [1e-5, 2e-5, 3e-5, 4e-5, 5e-5], b: AXIS}
    args: ["training.learning_rate=${{ matrix.a }}", "training.seed=${{ matrix.b }}"]
"""
CONFIG = """
model: {model_name: org/tiny, model_max_length: 512, trust_remote_code: true}
data: {train: {datasets: [{dataset_name: text_sft, dataset_path: data/in}]}}
training: {trainer_type: TRL_SFT, max_steps: 10, learning_rate: 1e-4, optimizer: adamw_torch}
"""


def load_matrix(text: str, axis: int) -> None:
    """Load the text with that many values on its matrix's long axis: five times as many jobs."""
    Path("w.yaml").write_text(text.replace("AXIS", str(list(range(axis)))))
    made = load("w.yaml", sets={}, environ={}, snapshot=False)
    assert len(made.jobs) == 5 * axis


def calls_of(do: Callable[[], None]) -> int:
    """How many functions of ours are entered."""
    count = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and "oumi_flow" in frame.f_code.co_filename

    sys.setprofile(note)
    try:
        do()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/in").write_text("1")
    Path("train.yaml").write_text(CONFIG)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("text", "budget"), [(SHELL, 120), (TRAIN, 210)], ids=["shell", "train"])
def test_a_job_of_a_matrix_costs_few_calls(text: str, budget: int) -> None:
    load_matrix(text, 2)  # what is loaded and compiled once
    few = calls_of(lambda: load_matrix(text, 20))
    many = calls_of(lambda: load_matrix(text, 40))
    assert (many - few) / 100 <= budget


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("text", [SHELL, TRAIN], ids=["shell", "train"])
def test_the_texts_of_a_matrix_are_taken_apart_once(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    real = template.tokens

    def note(text: str, *, run: bool = False) -> tuple[template.Token, ...]:
        taken.append(text)
        return real(text, run=run)

    monkeypatch.setattr("oumi_flow.load.entry.tokens", note)
    load_matrix(text, 20)
    assert len(taken) == len(set(taken)) <= 4
