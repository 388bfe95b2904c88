"""The screen in real terminals: tmux sessions driven by keys, over real runs.

What is on a terminal is asked of tmux until it is what it should be; nothing here waits for time.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

pytest.importorskip("textual")
if shutil.which("tmux") is None:
    pytest.skip("no tmux", allow_module_level=True)

from oumi_flow.model import EMPTY
from tests.flow.conftest import Space, space, wait_for
from tests.ui.story import golden

__all__ = ["space"]

GO = "while [ ! -e go ]; do sleep 0.05; done"


class Terminals:
    """A tmux server of our own."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._socket = str(folder / "tmux")
        self._env = {**env, "TERM": "xterm-256color", "LANG": "C.UTF-8", "TZ": "UTC"}
        for name in ("CI", "NO_COLOR", "TMUX", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS"):
            self._env.pop(name, None)
        self._count = 0

    def tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, "-f", os.devnull, *words],
            env=self._env,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def open(
        self,
        space: Space,
        *words: str,
        size: tuple[int, int] = (100, 30),
        env: Mapping[str, str] = EMPTY,
        python: Sequence[str] = ("-m", "oumi_flow"),
    ) -> Terminal:
        """A terminal with that command of ours in it; when it ends, its exit code is said."""
        self._count += 1
        name = f"t{self._count}"
        command = shlex.join([sys.executable, *python, *words])
        settings = "".join(f"{key}={shlex.quote(value)} " for key, value in env.items())
        script = f'{settings}{command}; echo "exit code $?."; exec cat'
        self.tmux(
            *("new-session", "-d", "-s", name, "-x", str(size[0]), "-y", str(size[1])),
            *("-c", str(space.root), script),
        )
        return Terminal(self, name)

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True)


class Terminal:
    def __init__(self, all_of_them: Terminals, name: str) -> None:
        self._tmux, self._name = all_of_them.tmux, name

    def text(self) -> str:
        """What is on it now."""
        lines = self._tmux("capture-pane", "-p", "-t", self._name).split("\n")
        return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"

    def coloured(self) -> str:
        return self._tmux("capture-pane", "-e", "-p", "-t", self._name)

    def sees(self, *words: str) -> str:
        """Waits until all of it is there; returns the screen."""
        shown = ""

        def there() -> bool:
            nonlocal shown
            shown = self.text()
            return all(word in shown for word in words)

        try:
            wait_for(there, f"on the screen: {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{shown}") from None
        return shown

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", "-t", self._name, *keys)

    def resize(self, columns: int, lines: int) -> None:
        self._tmux("resize-window", "-t", self._name, "-x", str(columns), "-y", str(lines))

    @property
    def viewer(self) -> int:
        """The pid of the command in it."""
        shell = self._tmux("display", "-p", "-t", self._name, "#{pane_pid}").strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(children[0])

    def hang_up(self) -> None:
        self._tmux("kill-session", "-t", self._name)


@pytest.fixture
def terminals(space: Space, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminals]:
    opened = Terminals(tmp_path_factory.mktemp("tmux"), space.env)
    yield opened
    opened.close()
    space.write("go", "")  # nothing waits any more


def waiting(space: Space) -> None:
    space.workflow(
        space.job("train", f"echo 'step 3/10 loss=0.5'; {GO}"),
        space.job("after", "echo accuracy=0.75", depends_on=["train"]),
    )


def run_id(space: Space) -> str:
    runs = sorted((space.root / "out/.oumi-flow/runs").iterdir())
    return runs[-1].name


def ended(space: Space) -> bool:
    return (
        "run_finished"
        in (space.root / "out/.oumi-flow/runs" / run_id(space) / "events.jsonl").read_text()
    )


def stable(text: str) -> str:
    """A screen without what differs from run to run."""
    text = re.sub(r"\d{8}-\d{6}-\w{4}", "RUN", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "THEN", text)
    text = re.sub(r"\d+(\.\d)?s\b|\d+m \d\ds", "TIME", text)
    return re.sub(r" {2,}|─{2,}|━+", lambda found: found[0][:2], text)


SIZES = ((160, 45), (100, 30), (80, 24), (40, 8))


def test_four_sizes_of_one_run(space: Space, terminals: Terminals) -> None:
    waiting(space)
    opened = {160: terminals.open(space, "run", "workflow.yaml", size=SIZES[0])}
    opened[160].sees("3/10 steps")
    for columns, lines in SIZES[1:]:
        opened[columns] = terminals.open(space, "monitor", size=(columns, lines))
    for columns, terminal in opened.items():
        terminal.sees("train", "running")
        if columns == 40:
            terminal.press("End")  # there is room for one card
        terminal.sees("after", "waiting")
        if columns > 40:
            terminal.sees("Shell: 30%", "3/10 steps", "Loss 0.5", "Running (0/2 completed)")
    space.write("go", "")
    for columns, terminal in opened.items():
        terminal.sees("done", "2/2")
        terminal.press("Home")
        if columns > 40:
            terminal.sees("step 3/10 loss=0.5", "accuracy 0.75", "Completed: 2")
        picture = f"terminal_{columns}"
        path = Path(__file__).parent / "golden" / f"{picture}.txt"
        if os.environ.get("WRITE_GOLDEN"):
            path.write_text(stable(terminal.text()), encoding="utf-8")
        wait_for(
            lambda terminal=terminal, picture=picture: stable(terminal.text()) == golden(picture),  # type: ignore[misc]
            f"{picture}, but {stable(terminal.text())}",
        )
        terminal.press("q")
        terminal.sees("2 done in ", "exit code 0.")


def test_q_leaves_and_monitor_comes_back(space: Space, terminals: Terminals) -> None:
    waiting(space)
    terminal = terminals.open(space, "run", "workflow.yaml")
    terminal.sees("Running (0/2 completed)")
    terminal.press("q")
    shown = terminal.sees("exit code 0.")
    assert f"the run goes on; `oumi-flow monitor {run_id(space)}` comes back" in shown
    assert "Traceback" not in shown
    again = terminals.open(space, "monitor")
    again.sees("Running (0/2 completed)", "3/10 steps")
    space.write("go", "")
    again.sees("Completed (2/2 completed)", "accuracy 0.75")
    again.press("q")
    again.sees("2 done in ", "exit code 0.")
    # A finished run is shown too.
    past = terminals.open(space, "monitor", "workflow.yaml")
    past.sees("Completed (2/2 completed)", "accuracy 0.75")
    past.press("q")
    past.sees("exit code 0.")


def test_closing_the_terminal_and_killing_the_viewer_leave_the_run(
    space: Space, terminals: Terminals
) -> None:
    waiting(space)
    terminal = terminals.open(space, "run", "workflow.yaml")
    terminal.sees("Running (0/2 completed)", "3/10 steps")
    first = terminal.viewer
    terminal.hang_up()
    wait_for(lambda: not os.path.exists(f"/proc/{first}"), "the viewer goes with its terminal")
    second = terminals.open(space, "monitor", run_id(space))
    second.sees("Running (0/2 completed)")
    third = terminals.open(space, "monitor", "workflow.yaml")
    third.sees("Running (0/2 completed)")
    os.kill(second.viewer, signal.SIGKILL)
    second.sees("exit code 137.")
    third.sees("Running (0/2 completed)")
    os.kill(third.viewer, signal.SIGTERM)  # a polite one leaves the terminal as it was
    third.sees("the run goes on", "exit code 0.")
    assert not ended(space)
    space.write("go", "")
    wait_for(lambda: ended(space), "the run ends by itself")
    assert space.ran() == ["train", "after"]
    assert space.run().out.startswith("flow: ")


def test_a_viewer_that_ignores_hang_ups_goes_with_its_terminal(space: Space) -> None:
    """As under nohup; reading from a terminal that is gone took a core for ever."""
    space.workflow(space.job("a"))
    assert space.run().code == 0
    here, there = os.openpty()
    env = {**space.env, "TERM": "xterm-256color"}
    for name in ("CI", "NO_COLOR"):
        env.pop(name, None)
    viewer = subprocess.Popen(
        [sys.executable, "-m", "oumi_flow", "monitor"],
        cwd=space.root,
        env=env,
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    os.close(there)
    seen = b""
    while b"Completed" not in seen:
        seen += os.read(here, 1 << 16)
    os.close(here)
    try:
        assert viewer.wait(60) == -signal.SIGHUP
    finally:
        viewer.kill()


def test_two_viewers_see_the_same_and_one_may_stop_a_job(
    space: Space, terminals: Terminals
) -> None:
    waiting(space)
    one = terminals.open(space, "run", "workflow.yaml")
    one.sees("Running (0/2 completed)", "3/10 steps")
    two = terminals.open(space, "monitor", size=(80, 24))
    two.sees("Running (0/2 completed)", "3/10 steps")
    two.press("c")
    two.sees("Stop train?", "1 job will be blocked: after")
    two.press("y")
    for terminal in (one, two):
        terminal.sees("Status: Cancelled" if terminal is one else "Cancelled", "blocked")
        terminal.press("q")
        terminal.sees("1 cancelled", "exit code 1.")


def test_ctrl_c_asks_then_stops_the_run(space: Space, terminals: Terminals) -> None:
    waiting(space)
    terminal = terminals.open(space, "run", "workflow.yaml")
    terminal.sees("Running (0/2 completed)", "3/10 steps")
    terminal.press("C-c")
    terminal.sees("Stop the run?", "1 running job will be stopped")
    terminal.press("Escape")
    wait_for(lambda: "Stop the run?" not in terminal.text(), "the question goes")
    assert not ended(space)
    terminal.press("Q")
    terminal.sees("Stop the run?")
    terminal.press("y")
    terminal.sees("Status: Cancelled")
    terminal.press("q")
    terminal.sees("exit code 1.")


def test_R_runs_what_failed_again(space: Space, terminals: Terminals) -> None:
    space.workflow(space.job("a", "cat there"), space.job("b", depends_on=["a"]))
    terminal = terminals.open(space, "run", "workflow.yaml")
    terminal.sees("Status: Failed", "exit 1", "No such file or directory")
    first = run_id(space)
    space.write("there", "now\n")
    terminal.press("R")
    terminal.sees("Completed (1/1 completed)")
    assert run_id(space) != first
    terminal.press("q")
    terminal.sees("exit code 0.")


def test_a_lost_run_is_told_as_such(space: Space, terminals: Terminals) -> None:
    waiting(space)
    terminal = terminals.open(space, "run", "workflow.yaml")
    terminal.sees("Running (0/2 completed)", "3/10 steps")
    lock = (space.root / "out/.oumi-flow/lock").read_text()
    os.kill(int(re.search(r'"pid":\s*(\d+)', lock)[1]), signal.SIGKILL)  # type: ignore[index]
    terminal.sees("Status: Lost", "running (runner lost)")
    other = terminals.open(space, "monitor")
    other.sees("Status: Lost", "last heard of after ", "running (runner lost)")
    space.write("go", "")


def test_the_window_changes_its_size(space: Space, terminals: Terminals) -> None:
    """Whatever size the shell has exported: that of another window, or of this one once."""
    waiting(space)
    stale = {"COLUMNS": "80", "LINES": "24"}
    terminal = terminals.open(space, "run", "workflow.yaml", size=(160, 45), env=stale)
    terminal.sees("─ Log  train", "┬─ Run", "3/10 steps")
    terminal.resize(40, 8)
    wait_for(lambda: "Log" not in terminal.text(), "the log goes")
    terminal.sees("train", "running")
    terminal.resize(100, 30)
    terminal.sees("─ Log  train", "─ Run", "3/10 steps")


def test_pager_and_editor_come_and_go(space: Space, terminals: Terminals) -> None:
    waiting(space)
    terminal = terminals.open(space, "run", "workflow.yaml", env={"PAGER": "less", "EDITOR": "cat"})
    terminal.sees("3/10 steps")
    terminal.press("L")
    terminal.sees("step 3/10 loss=0.5", "(END)")
    terminal.press("q")
    terminal.sees("Status: Running")
    terminal.press("E")
    terminal.sees("Status: Running")


def test_colour_only_where_wanted(space: Space, terminals: Terminals) -> None:
    waiting(space)
    coloured = terminals.open(space, "run", "workflow.yaml")
    coloured.sees("running", "3/10 steps")
    colours = r"\x1b\[(\d+;)*(3[0-7]|9[0-7]|4[0-7]|38|48)[;m]"
    assert re.search(colours, coloured.coloured())
    plain = terminals.open(space, "monitor", env={"NO_COLOR": "1"})
    plain.sees("● train", "running", "3/10 steps", "▌")
    assert not re.search(colours, plain.coloured())


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"CI": "true"}])
def test_no_screen_where_it_is_not_wanted(
    space: Space, terminals: Terminals, env: dict[str, str]
) -> None:
    space.workflow(space.job("a"))
    terminal = terminals.open(space, "run", "workflow.yaml", env=env)
    terminal.sees("1 done in", "exit code 0.")
    terminal = terminals.open(space, "run", "workflow.yaml", "-F", "--tui", env={"TERM": "dumb"})
    terminal.sees("error: --tui: this terminal cannot move its cursor", "exit code 2.")


def test_without_textual_there_is_a_hint_once_and_the_live_block(
    space: Space, terminals: Terminals
) -> None:
    without = "import sys; sys.modules['textual'] = None; from oumi_flow.cli import main; "
    python = ("-c", without + "sys.exit(main(sys.argv[1:]))")
    hint = "pip install 'oumi-flow[tui]'"
    space.workflow(space.job("a"))
    first = terminals.open(space, "run", "workflow.yaml", python=python)
    first.sees(hint, "1 done in", "exit code 0.")
    second = terminals.open(space, "run", "workflow.yaml", "-F", python=python)
    assert hint not in second.sees("1 done in", "exit code 0.")
    third = terminals.open(space, "run", "workflow.yaml", "-F", "--tui", python=python)
    third.sees("error: --tui: textual is not installed", hint, "exit code 2.")


def test_the_users_settings(space: Space, terminals: Terminals) -> None:
    waiting(space)
    config = Path(space.env["OUMI_FLOW_HOME"]) / "config"
    config.mkdir(parents=True)
    (config / "tui.yaml").write_text("theme: dark\nview: table\nkeys: {leave: x}\n")
    terminal = terminals.open(space, "run", "workflow.yaml")
    terminal.sees("running", "x leave")
    assert "Shell:" not in terminal.text()
    terminal.press("x")
    terminal.sees("exit code 0.")
    (config / "tui.yaml").write_text("keys: {leaf: x}\n")
    terminal = terminals.open(space, "monitor")
    terminal.sees('did you mean "leave"?', "exit code 2.")


def test_flags_that_exclude_each_other(space: Space) -> None:
    space.workflow(space.job("a"))
    for words in (["--tui", "--json"], ["--tui", "--detach"]):
        refused = space.command("run", "workflow.yaml", *words)
        assert refused.code == 2
        assert "exclude each other" in refused.err
    refused = space.command("run", "workflow.yaml", "--tui")
    assert refused.code == 2
    assert "--tui: stdin is no terminal" in refused.err
