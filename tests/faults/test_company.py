"""Supervisors that look after one attempt after the other, and what must not come of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from oumi_flow.executors import hearing, processes
from oumi_flow.executors.base import Handle
from oumi_flow.executors.company import Company
from oumi_flow.executors.wire import LONGEST_ORDER
from oumi_flow.sockets import MSG_DONTWAIT, packets
from tests.faults.test_supervisor import Space, is_idle, lives, space, until

__all__ = ["space"]


def free_of(space: Space) -> list[int]:
    """Supervisors of our server that look after nobody."""
    server = space.executor._server
    assert server is not None
    own = [one for one in processes.all_processes() if one.parent == server.pid and one.lives]
    busy = {pid for pid, _ in processes.supervisors_at([str(space.root)])}
    return [one.pid for one in own if one.pid not in busy]


def gone(pid: int) -> bool:
    return not lives(pid)


def over(space: Space, job: str, text: str = "true", **more: object) -> Handle:
    """A job that has ended, with the pid of its supervisor."""
    handle = space.bash(job, text, **more)
    space.end(handle)
    return space.supervisor(handle)


def test_one_supervisor_looks_after_one_job_after_the_other(space: Space) -> None:
    pids = {free(space, over(space, f"job{number}", "exit 3")) for number in range(8)}
    assert len(pids) == 1
    before = len(os.listdir(f"/proc/{pids.copy().pop()}/fd"))
    for number in range(30):
        free(space, over(space, f"m{number}", "sleep 0.01 & exit 0", cwd=str(space.root / "out")))
    (pid,) = free_of(space)
    assert {pid} == pids
    assert len(os.listdir(f"/proc/{pid}/fd")) == before
    assert os.path.samefile(f"/proc/{pid}/cwd", os.getcwd())


def free(space: Space, handle: Handle) -> int:
    """The supervisor's pid, once it waits for another job."""
    until(lambda: handle.pid in free_of(space) and is_idle(space, handle.pid))
    return handle.pid


def test_as_many_as_run_at_once(space: Space) -> None:
    for _ in range(2):
        handles = [space.bash(f"job{n}", "until [ -e go ]; do sleep 0.01; done") for n in range(3)]
        assert len({space.supervisor(handle).pid for handle in handles}) == 3
        (space.root / "go").touch()
        assert [end.code for end in space.ends(handles)] == [0, 0, 0]
        (space.root / "go").unlink()
        until(lambda: len(free_of(space)) == 3, "all three are free")


def test_each_job_has_its_own_environment_folder_and_log(space: Space) -> None:
    path = {"PATH": os.environ["PATH"]}
    over(space, "a", "export", env={**path, "ONLY_A": "1", "BOTH": "a"})
    (space.root / "d").mkdir()
    text = 'pwd; echo "${ONLY_A-none} $BOTH $ONLY_B"'
    over(space, "b", text, env={**path, "BOTH": "b", "ONLY_B": "2"}, cwd=str(space.root / "d"))
    assert space.log("b") == f"{space.root}/d\nnone b 2\n"


def test_a_supervisor_that_was_asked_to_stop_is_not_given_another_job(space: Space) -> None:
    first = space.bash("a", "sleep 60")
    pid = space.supervisor(first).pid
    space.executor.cancel([first], 0, now=True)
    assert space.end(first).cancelled
    assert over(space, "b").pid != pid
    until(lambda: not lives(pid), "it leaves")


def test_a_supervisor_that_could_not_write_down_an_end_is_not_given_another_job(
    space: Space,
) -> None:
    """Or what it looks after then could be stopped in the name of what is over."""
    spoil = 'ln "$OUT/attempt.json" "$OUT/copy" && mkdir -p "$OUT/exit.json/x"'
    first = over(space, "a", spoil, env=with_out(space, "a"))
    second = space.bash("b", "sleep 60")
    assert space.supervisor(second).pid != first.pid
    until(lambda: not lives(first.pid), "it leaves")
    folders = [first.state_dir, second.state_dir]
    assert [handle.job for handle in space.executor.find(folders)] == ["b"]
    space.executor.cancel([second], 0, now=True)
    assert space.end(second).cancelled


def with_out(space: Space, job: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "OUT": str(space.state_dir(job))}


def test_what_a_job_used_of_the_cpu_is_its_own(space: Space) -> None:
    busy = over(space, "a", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
    free(space, busy)
    idle = over(space, "b", "true")
    assert idle.pid == busy.pid
    used = [space.attempt_json(job)["exit"]["cpu"] for job in "ab"]
    assert used[1] < used[0]


def test_one_who_is_free_and_does_not_read_is_neither_waited_for_nor_given_up() -> None:
    staff = Company()
    theirs = staff.hire("first")
    staff.ended("first", stays=True)
    filled = 0
    while staff.hand_over(f"{filled}", b"unread" * 1000, []):
        staff.ended(f"{filled}", stays=True)
        filled += 1
    assert filled
    while theirs.recv(10_000, MSG_DONTWAIT):
        if staff.hand_over("last", b"an order", []):
            break
    else:
        pytest.fail("it was given up")
    assert staff.ask("last") == "first"
    assert staff.dismiss() == []
    theirs.close()


def test_who_is_free_has_said_so_of_its_latest_attempt_and_was_not_asked_to_stop() -> None:
    staff = Company()
    ends = [staff.hire(name) for name in "abc"]
    staff.ended("a", stays=False)
    assert staff.ask("b") == "b"
    staff.ended("b", stays=True)
    assert not staff.hand_over("d", b"an order", [])
    staff.ended("c", stays=True)
    assert staff.hand_over("d", b"an order", [])
    assert not staff.hand_over("e", b"an order", [])
    staff.ended("c", stays=True)  # which is over
    assert not staff.hand_over("e", b"an order", [])
    assert [staff.ask(token) for token in "abcde"] == ["", "", "", "c", ""]
    assert [staff.gone(name) for name in "abc"] == ["", "", "d"]
    assert staff.gone("c") == ""
    assert [end.recv(64, MSG_DONTWAIT) for end in ends] == [b"", b"", b"an order"]
    assert ends[2].recv(64, MSG_DONTWAIT) == b""
    for end in ends:
        end.close()


def test_no_more_are_kept_free_than_are_of_use_and_none_for_an_order_that_is_too_long() -> None:
    staff = Company()
    names = [f"{number}" for number in range(20)]
    ends = [staff.hire(name) for name in names]
    for name in names:
        staff.ended(name, stays=True)
    assert not staff.hand_over("long", b"x" * (LONGEST_ORDER + 1), [])
    assert staff.gone(names[0]) == ""
    assert staff.dismiss() == names[1:16]
    assert not staff.hand_over("late", b"an order", [])
    for end in ends:
        end.close()


def test_supervisors_take_no_descriptors_that_the_run_itself_needs() -> None:
    text = """
import os, resource
from oumi_flow.executors.company import Company
resource.setrlimit(resource.RLIMIT_NOFILE, (80, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
staff = Company()
names = [f"{number}" for number in range(100)]
for name in names:
    staff.hire(name).close()
assert 12 < max(map(int, os.listdir("/proc/self/fd"))) < 20
for name in reversed(names):
    staff.ended(name, stays=True)
free = set(staff.dismiss())
assert free and free < set(names[:20]), free
"""
    subprocess.run([sys.executable, "-c", text], check=True)


def test_an_order_that_meets_a_signal_is_taken() -> None:
    ours, theirs = packets()
    reading, writing = os.pipe()
    # Both are there before it looks: the signal was for nobody.
    os.write(writing, bytes([signal.SIGTERM]))
    with pytest.MonkeyPatch.context() as patch:
        taken = hearing.asked_to_stop

        def late(wakeup: int) -> bool:
            ours.send(b"an order")
            return taken(wakeup)

        patch.setattr(hearing, "asked_to_stop", late)
        hear = hearing.hear_orders(theirs, reading)
        assert hear() == (b"an order", [])
        patch.undo()
        os.write(writing, bytes([signal.SIGTERM]))
        with pytest.raises(hearing.Signalled):
            hear()
        ours.close()
        assert hear() is None
    theirs.close()
    os.close(reading)
    os.close(writing)


def test_a_supervisor_that_knew_secrets_is_not_given_another_job(space: Space) -> None:
    known = over(space, "a", "echo $S", env={"PATH": os.environ["PATH"], "S": "s3cret-value"},
                 mask=("s3cret-value",))  # fmt: skip
    assert over(space, "b").pid != known.pid


def test_a_free_supervisor_that_is_killed_costs_no_job(space: Space) -> None:
    for number, how in enumerate((signal.SIGKILL, signal.SIGTERM)):
        pid = free(space, over(space, f"a{number}"))
        assert free_of(space) == [pid]
        os.kill(pid, how)
        until(partial(gone, pid), "it is gone")
        handle = space.bash(f"b{number}", "exit 5")
        assert space.end(handle).code == 5
        free(space, space.supervisor(handle))  # so that the next job is its, too


def test_a_job_that_has_ended_is_over_though_its_supervisor_has_another(space: Space) -> None:
    """Its run may be killed before it wrote down what came of it."""
    first = over(space, "a")
    free(space, first)
    second = space.bash("b", "sleep 60")
    assert space.supervisor(second).pid == first.pid
    folders = [first.state_dir, second.state_dir]
    assert [handle.job for handle in space.executor.find(folders)] == ["b"]
    root = str(space.root)
    until(lambda: [handle.job for handle in space.executor.living(root)] == ["b"])
    space.executor.cancel([first], 0, now=True)
    assert space.end(first).code == 0
    assert lives(first.pid)
    assert "exit" not in space.attempt_json("b")
    space.executor.cancel([second], 0, now=True)
    assert space.end(second).cancelled


@pytest.fixture
def freed(space: Space) -> Iterator[int]:
    over(space, "a")
    (pid,) = until(lambda: free_of(space))
    yield pid
    until(lambda: not lives(pid), "the free one has left")


def test_free_supervisors_go_with_their_executor(space: Space, freed: int) -> None:
    space.executor.close()
    assert not lives(freed)


def test_free_supervisors_go_with_a_killed_server(space: Space, freed: int) -> None:
    server = space.executor._server
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: space.executor.poll([], 0.0) and space.executor._server is None)


def test_a_busy_supervisor_outlives_its_server_and_then_goes(space: Space) -> None:
    handle = space.bash("a", "until [ -e go ]; do sleep 0.01; done")
    pid = space.supervisor(handle).pid
    server = space.executor._server
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not lives(server.pid))
    (space.root / "go").touch()
    assert space.end(handle).code == 0
    until(lambda: space.executor.poll([], 0.0) and not lives(pid), "it leaves")


def test_a_supervisor_whose_server_is_stopped_leaves_when_nobody_listens(space: Space) -> None:
    handle = space.bash("a", "until [ -e go ]; do sleep 0.01; done")
    pid = space.supervisor(handle).pid
    server = space.executor._server
    assert server is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        space.executor._reports.close()  # as when the runner is killed
        (space.root / "go").touch()
        until(lambda: not lives(pid), "it leaves")
        assert space.attempt_json("a")["exit"]["code"] == 0
    finally:
        os.kill(server.pid, signal.SIGKILL)
        space.executor.close()


def test_a_supervisor_makes_and_frees_no_inode(space: Space) -> None:
    """Each that is freed makes every new file dearer for minutes on some file systems."""
    attempt = space.attempt("a", ["bash", "-c", "true"])
    before = (space.state_dir("a") / "attempt.json").stat().st_ino
    (handle,) = space.executor.submit([attempt])
    assert isinstance(handle, Handle)
    space.end(handle)
    assert os.listdir(space.state_dir("a")) == ["attempt.json"]
    assert space.supervisor(handle).pid > 0
    assert (space.state_dir("a") / "attempt.json").stat().st_ino == before
