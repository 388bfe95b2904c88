"""A training of the real oumi on the screen: what it has come to is there while it goes on.

It waits half way, just before it ends a checkpoint, so that what there is to see stays; all of it
comes from the metrics file that oumi itself writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.flow.conftest import wait_for
from tests.oumi.test_resume_real import STEPS, Real
from tests.ui.test_tui_terminal import Terminals

HALF = 12


@pytest.fixture
def real(
    tmp_path: Path, tiny: Path, oumi: tuple[str, ...], oumi_env: Mapping[str, str]
) -> Iterator[Real]:
    space = Real(tmp_path, tiny, oumi, oumi_env)
    yield space
    (space.root / "hold").unlink(missing_ok=True)  # nothing waits any more


def test_steps_loss_rate_and_time_left_are_on_the_screen_while_it_trains(
    real: Real, tmp_path: Path
) -> None:
    real.write_training()
    real.hold(f"checkpoint-{HALF}/trainer_state.json")
    run, _ = real.start_and_hold()
    (step, loss), *_ = reversed(real.steps())
    assert step == HALF
    terminals = Terminals(tmp_path, real.env)
    try:
        terminal = terminals.open(real, "monitor", "workflow.yaml", size=(120, 32))
        shown = terminal.sees(f"{HALF}/{STEPS} steps", "50%", "Running (0/2 completed)")
        assert re.search(rf"[Ll]oss {loss:.3f}", shown), shown
        assert re.search(r"(LR|lr|Rate) [\d.]+e-", shown), shown
        assert re.search(r"ETA ~?\d+", shown), shown

        terminal.press("Enter")
        terminal.sees("1 log", "2 curves")
        terminal.press("2")
        terminal.sees("overlay", "loss")
        wait_for(lambda: re.search("[\u2801-\u28ff]", terminal.text()), "drawn on cells of dots")
        terminal.press("Escape")

        (real.root / "hold").unlink()
        terminal.sees("Completed (2/2 completed)")
        terminal.press("q")
        terminal.sees("exit code 0.")
    finally:
        terminals.close()
    run.communicate()
    assert run.returncode == 0
