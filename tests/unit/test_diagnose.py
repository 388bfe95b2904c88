"""Why a job failed, in words, from the end of its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.diagnose import diagnose, last_lines

CAPTURES = Path(__file__).parents[1] / "data" / "captures"


def log_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "job.log"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("capture", "code", "cause", "retryable"),
    [
        ("fail_oom.stdout", 1, "CUDA out of memory, tried to allocate 2.00 GiB", True),
        (
            "fail_unknown_key.stdout",
            1,
            "Config error at 'training.nope': Key 'nope' not in 'TrainingParams'",
            False,
        ),
        (
            "fail_missing_config.stdout",
            1,
            "Config file not found or path is not a file: nope.yaml",
            False,
        ),
        ("fail_missing_data.stdout", 1, "dataset_path 'data/none.jsonl' does not exist.", False),
        (
            "fail_no_dashes.stderr",
            2,
            "usage error: Invalid value: Extra arguments must start with '--'. Found argument",
            False,
        ),
        (
            "quantize_without_bitsandbytes.stdout",
            1,
            'missing module: bitsandbytes; install it beside oumi: pip install "bitsandbytes',
            False,
        ),
        (
            "fail_missing_model.stdout",
            1,
            "a model or data set is neither local nor reachable on the hub",
            True,
        ),
    ],
)
def test_recorded_failures(capture: str, code: int, cause: str, retryable: bool) -> None:
    found = diagnose(str(CAPTURES / capture), exit_code=code)
    assert found.cause.startswith(cause)
    assert found.retryable is retryable


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("RuntimeError: CUDA error: device lost", "device lost"),
        (
            "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
            "uncorrectable ECC error encountered",
        ),
        ("NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.", "Xid 79"),
        ("Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.", ""),
    ],
)
def test_a_lost_gpu_is_told_apart(tmp_path: Path, line: str, cause: str) -> None:
    found = diagnose(log_of(tmp_path, f"step 5\n{line}\n"), exit_code=1)
    assert found.cause.startswith(f"lost GPU: {cause}")
    assert found.lost_gpu
    assert found.retryable


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: CUDA error: misaligned address",
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
        "RuntimeError: CUDA error: an illegal instruction was encountered",
        "RuntimeError: CUDA error: unspecified launch failure",
        "NVRM: Xid (PCI:0000:3b:00): 13, pid=1, Graphics Exception",
    ],
)
def test_a_fault_of_the_program_loses_no_gpu(tmp_path: Path, line: str) -> None:
    """Others could not use it any more, and there may be no second one."""
    found = diagnose(log_of(tmp_path, f"step 5\n{line}\n"), exit_code=1)
    assert not found.lost_gpu
    assert found.cause in line


def test_running_out_of_gpu_memory_loses_no_gpu(tmp_path: Path) -> None:
    found = diagnose(log_of(tmp_path, "RuntimeError: CUDA error: out of memory\n"), exit_code=1)
    assert found.cause == "CUDA out of memory"
    assert not found.lost_gpu


BY_KERNEL = "out of memory, ended by the kernel's memory killer"
IN_CGROUP: dict[str, Any] = {"oom_kills": 1, "oom_scope": "cgroup"}
ON_HOST: dict[str, Any] = {"oom_kills": 1, "oom_scope": "host"}


@pytest.mark.parametrize("how", [{"signal": 9}, {"exit_code": 137}, {"exit_code": -9}])
@pytest.mark.parametrize(
    ("counted", "words"),
    [
        (IN_CGROUP, f"{BY_KERNEL}; lower its batch size"),
        (ON_HOST, "perhaps out of memory, for the kernel's memory killer was at work"),
        ({"oom_scope": "cgroup"}, "sent by a user or a program, not by the kernel's"),
        ({"oom_scope": "host"}, "sent by a user or a program, not by the kernel's"),
        ({}, "sent by a user or a program, or by the kernel for lack of memory"),
    ],
)
def test_who_sent_signal_9_is_said_as_far_as_it_is_known(
    tmp_path: Path, how: dict[str, Any], counted: dict[str, Any], words: str
) -> None:
    found = diagnose(log_of(tmp_path, "step 5\n"), **how, **counted)
    assert found.cause.startswith(f"killed by signal 9: {words}")
    assert found.retryable


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: DataLoader worker (pid 4242) is killed by signal: Killed. ",
        "subprocess.CalledProcessError: Command 'x' died with <Signals.SIGKILL: 9>.",
        "  exitcode  : -9 (pid: 4242)",
        "  traceback : Signal 9 (SIGKILL) received by PID 4242",
    ],
)
def test_a_killed_worker_is_the_cause_of_what_its_parent_says(tmp_path: Path, line: str) -> None:
    log = log_of(tmp_path, f"step 5\n{line}\n")
    words = f"a process of it was killed by signal 9: {BY_KERNEL}; "
    assert diagnose(log, exit_code=1, **IN_CGROUP).cause.startswith(words)
    words = "a process of it was killed by signal 9: sent by a user or a program, not by"
    assert diagnose(log, exit_code=1, oom_scope="cgroup").cause.startswith(words)


def test_signal_9_outweighs_what_the_job_wrote_before_and_lived_through(tmp_path: Path) -> None:
    text = (
        "ModuleNotFoundError: No module named 'apex'\ntorch.OutOfMemoryError: CUDA out of memory\n"
    )
    log = log_of(tmp_path, text)
    assert BY_KERNEL in diagnose(log, signal=9, **IN_CGROUP).cause
    assert diagnose(log, signal=9, oom_scope="cgroup").cause == "CUDA out of memory"
    module = log_of(tmp_path, text.splitlines()[0])
    found = diagnose(module, signal=9, oom_scope="cgroup")
    assert found.cause.startswith("killed by signal 9: sent by")
    assert found.retryable


def test_a_kill_that_no_parent_told_of_is_told_beside_the_error(tmp_path: Path) -> None:
    log = log_of(tmp_path, "concurrent.futures.process.BrokenProcessPool: gone\nOSError: gone\n")
    told = diagnose(log, exit_code=1, **IN_CGROUP).cause
    assert told.startswith("OSError: gone; meanwhile the kernel's memory killer ended a process")
    assert diagnose(log, exit_code=1, **ON_HOST).cause == "OSError: gone"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0", BY_KERNEL),
        ("[1.2] Out of memory: Killed process 4242 (python)", BY_KERNEL),
        ("MemoryError", "out of memory (RAM)"),
        ("OSError: [Errno 12] Cannot allocate memory", "out of memory (RAM)"),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory", "out of memory (RAM)"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out of memory (RAM)"),
    ],
)
def test_want_of_memory_that_the_log_tells_of(tmp_path: Path, line: str, cause: str) -> None:
    found = diagnose(log_of(tmp_path, f"step 5\n{line}\n"), exit_code=1)
    assert found.cause.startswith(f"{cause}; lower its batch size")
    assert found.retryable


def test_a_missing_module_is_named_with_its_package(tmp_path: Path) -> None:
    text = "Traceback:\nModuleNotFoundError: No module named 'optuna'\n"
    found = diagnose(log_of(tmp_path, text), exit_code=1)
    assert (
        found.cause
        == 'missing module: optuna; install it beside oumi: pip install "oumi[tune]==0.9.*"'
    )
    assert not found.retryable


def test_exit_2_of_another_program_is_no_usage_error(tmp_path: Path) -> None:
    found = diagnose(log_of(tmp_path, "make: *** [all] Error 1\n"), exit_code=2)
    assert found == ("", True, False)


def test_any_other_exception_is_quoted(tmp_path: Path) -> None:
    text = "Traceback (most recent call last):\n  File x\nValueError: bad seed\n\nIf you believe\n"
    assert diagnose(log_of(tmp_path, text), exit_code=1).cause == "ValueError: bad seed"


def test_nothing_known_is_no_cause(tmp_path: Path) -> None:
    assert diagnose(log_of(tmp_path, "bye\n"), exit_code=3).cause == ""
    assert diagnose(str(tmp_path / "gone"), exit_code=1).cause == ""


def test_last_lines_leave_bars_and_boilerplate_out() -> None:
    assert last_lines(str(CAPTURES / "fail_oom.stdout"), 2) == [
        'GiB.")',
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    ]
    assert all("it/s" not in line for line in last_lines(str(CAPTURES / "train.stderr"), 100))


def test_text_right_behind_a_bar_is_kept(tmp_path: Path) -> None:
    bar = "\r  5%|5  | 1/20 [00:01<00:09,  2.1it/s]"
    text = f"{bar}Traceback (most recent call last):\n\x1b[31mE\x1b[0m\n"
    assert last_lines(log_of(tmp_path, text)) == ["Traceback (most recent call last):", "E"]


@given(st.binary(max_size=400))
def test_any_log_can_be_looked_at(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "job.log"
    path.write_bytes(data)
    diagnose(str(path), exit_code=1)
    last_lines(str(path))
