"""Why a job failed, in words, from the end of its log."""

from __future__ import annotations

from pathlib import Path

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
    "line",
    [
        "RuntimeError: CUDA error: unspecified launch failure",
        "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
        "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.",
        "Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.",
    ],
)
def test_a_lost_gpu_is_told_apart(tmp_path: Path, line: str) -> None:
    found = diagnose(log_of(tmp_path, f"step 5\n{line}\n"), exit_code=1)
    assert found.cause.startswith("lost GPU: ")
    assert found.lost_gpu
    assert found.retryable


def test_running_out_of_gpu_memory_loses_no_gpu(tmp_path: Path) -> None:
    found = diagnose(log_of(tmp_path, "RuntimeError: CUDA error: out of memory\n"), exit_code=1)
    assert found.cause == "CUDA out of memory"
    assert not found.lost_gpu


@pytest.mark.parametrize("how", [{"signal": 9}, {"exit_code": 137}, {"exit_code": -9}])
def test_killed_by_the_kernel(tmp_path: Path, how: dict[str, int]) -> None:
    found = diagnose(log_of(tmp_path, "step 5\n"), **how)
    assert "signal 9" in found.cause
    assert "memory" in found.cause


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
