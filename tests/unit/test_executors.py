"""What executors speak, and the parts of a supervisor that need no process."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_flow.errors import FlowError
from oumi_flow.executors.base import Attempt, Exit, Handle, Rejected, find_executor
from oumi_flow.executors.handles import is_alive, read_exit, recorded
from oumi_flow.executors.local import LocalExecutor
from oumi_flow.executors.mask import Masker
from oumi_flow.executors.memory_killer import MemoryKiller
from oumi_flow.executors.processes import boot_id, read_process
from oumi_flow.executors.state_dir import Refused, StateDir, to_text

# Few letters, so that secrets overlap, contain each other and repeat themselves.
few_letters = st.text("ab", min_size=6, max_size=9).map(str.encode)


@given(st.data())
def test_a_log_is_masked_the_same_however_it_comes_in_pieces(data: st.DataObject) -> None:
    secrets = data.draw(st.lists(few_letters, min_size=1, max_size=3))
    secrets += [secret + b"a" for secret in secrets[:1]]
    words = st.sampled_from([*secrets, *(secret[:4] for secret in secrets), b"a", b"b", b"c"])
    text = b"".join(data.draw(st.lists(words, max_size=8)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    at_once = Masker(secrets)
    whole = at_once.feed(b"".join(pieces)) + at_once.finish()
    masker = Masker(secrets)
    split = b"".join([masker.feed(piece) for piece in pieces]) + masker.finish()
    assert split == whole
    assert not any(secret in split for secret in secrets)


def test_masking_keeps_back_no_more_than_could_become_a_secret() -> None:
    masker = Masker([b"hunter2hunter2"])
    assert masker.feed(b"password: hunter2") == b"password: "
    assert masker.feed(b"hunter") == b""
    assert masker.feed(b"2 and on") == b"**** and on"
    assert masker.feed(b"hunter3") == b"hunter3"
    assert masker.finish() == b""


def test_handles_and_exits_survive_json_and_unknown_keys() -> None:
    handle = Handle("t", job="a", state_dir="x", pid=3, start_ticks=4, boot_id="b", host="h")
    again = json.loads(json.dumps(handle.to_json())) | {"later": 1}
    assert Handle.from_json(again) == handle
    end = Exit("t", code=3, started=1.5, finished=2.5, oom_kills=1, oom_scope="cgroup")
    assert Exit.from_json(json.loads(json.dumps(end.to_json()))) == end
    with pytest.raises(ValueError, match="no token"):
        Exit.from_json({"code": 0})


def test_an_unknown_executor_is_an_error_in_words() -> None:
    with pytest.raises(FlowError, match="no executor is called 'moon'"):
        find_executor("moon")
    find_executor("local").close()


def intend(folder: Path, token: str = "t1", mode: int = 0o644) -> StateDir:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "attempt.json"
    path.write_text(json.dumps({"token": token, "state": "starting", "number": 1}))
    path.chmod(mode)
    return StateDir(str(folder))


def test_a_claimed_attempt_keeps_its_intent_and_its_mode(tmp_path: Path) -> None:
    state = intend(tmp_path, mode=0o600)
    state.claim("t1", {"token": "t1", "pid": 7})
    state.write("exit.json", to_text({"token": "t1", "code": 0}))
    state.close()
    told = json.loads((tmp_path / "attempt.json").read_text())
    assert told == {
        "token": "t1",
        "state": "starting",
        "number": 1,
        "handle": {"token": "t1", "pid": 7},
    }
    assert sorted(os.listdir(tmp_path)) == ["attempt.json", "exit.json"]
    assert {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()} == {0o600}
    found = recorded(str(tmp_path))
    assert found is not None
    assert found.pid == 7


@pytest.mark.parametrize("case", ["as the loop writes it", "spaced", "linked", "long", "no end"])
def test_a_handle_is_added_where_the_attempt_lies_if_that_is_safe(
    tmp_path: Path, case: str
) -> None:
    path, copy = tmp_path / "attempt.json", tmp_path / "backup.json"
    intent = {"token": "t1", "detail": "x" * (4080 if case == "long" else 1)}
    text = json.dumps(intent) if case == "spaced" else to_text(intent).decode().rstrip()
    path.write_text(text + ("" if case == "no end" else "\n"))
    if case == "linked":
        os.link(path, copy)
    before = path.stat().st_ino
    state = StateDir(str(tmp_path))
    state.claim("t1", {"token": "t1", "pid": 7})
    assert json.loads(path.read_text()) == {**intent, "handle": {"token": "t1", "pid": 7}}
    assert (path.stat().st_ino == before) is (case == "as the loop writes it")
    assert not copy.exists() or json.loads(copy.read_text()) == intent
    with pytest.raises(Refused):
        state.claim("t2", {"token": "t2"})
    state.claim("t1", {"token": "t1", "pid": 8})
    assert json.loads(path.read_text())["handle"]["pid"] == 8
    state.close()


@pytest.mark.parametrize(
    "record",
    [
        {"token": "t2"},
        {"detail": '"token":"t1"', "token": "t2"},
        {"token": "t2", "handle": {"token": "t1"}},
        {"token": "t1", "revoked": True},
        {},
    ],
)
def test_what_is_not_ours_is_not_claimed(tmp_path: Path, record: dict[str, Any]) -> None:
    (tmp_path / "attempt.json").write_bytes(to_text(record))
    state = StateDir(str(tmp_path))
    with pytest.raises(Refused):
        state.claim("t1", {"token": "t1", "pid": 7})
    state.close()
    assert json.loads((tmp_path / "attempt.json").read_text()) == record


@pytest.mark.parametrize("case", ["in its record", "another attempt", "nothing is written"])
def test_an_end_is_recorded_with_its_attempt_or_apart(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = intend(tmp_path)
    state.claim("t1", {"token": "t1", "pid": 7})
    close = os.close

    def failing(fd: int) -> None:
        close(fd)
        if fd != state.fd:
            monkeypatch.setattr(os, "close", close)  # what is written apart may be had
            raise OSError(errno.EDQUOT, "over quota")

    if case == "another attempt":
        (tmp_path / "attempt.json").write_text(json.dumps({"token": "t2"}) + "\n")
    elif case == "nothing is written":
        monkeypatch.setattr(os, "close", failing)
    state.end(to_text({"token": "t1", "code": 3}))
    apart = case != "in its record"
    assert (tmp_path / "exit.json").exists() is apart
    assert ("exit" in json.loads((tmp_path / "attempt.json").read_text())) is (
        case != "another attempt"
    )
    assert state.ended("t1") == {"token": "t1", "code": 3}
    assert state.ended("t2") == {}
    state.close()
    found = read_exit(str(tmp_path), "t1")
    assert found is not None
    assert found.code == 3


def test_only_one_of_claim_and_revoke_can_win(tmp_path: Path) -> None:
    first = intend(tmp_path / "a")
    assert first.revoke("t1") == {}
    with pytest.raises(Refused, match="another run has taken over"):
        first.claim("t1", {"token": "t1"})
    second = intend(tmp_path / "b")
    second.claim("t1", {"token": "t1", "pid": 7})
    assert second.revoke("t1") == {"token": "t1", "pid": 7}
    with pytest.raises(Refused, match="another attempt"):
        second.claim("t2", {"token": "t2"})
    first.close()
    second.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\0\0", '{"token": 5}'])
def test_a_torn_state_file_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "attempt.json").write_text(text)
    (tmp_path / "exit.json").write_text(text)
    assert recorded(str(tmp_path)) is None
    assert read_exit(str(tmp_path), "t1") is None
    with_executor = LocalExecutor()
    assert with_executor.find([str(tmp_path), str(tmp_path / "nothing here")]) == []
    with_executor.close()


def test_a_process_is_known_by_pid_start_and_boot() -> None:
    own = read_process(os.getpid())
    assert own is not None
    handle = Handle("t", pid=own.pid, start_ticks=own.start_ticks, boot_id=boot_id())
    assert is_alive(handle)
    assert not is_alive(
        Handle("t", pid=own.pid, start_ticks=own.start_ticks + 1, boot_id=boot_id())
    )
    assert not is_alive(Handle("t", pid=own.pid, start_ticks=own.start_ticks, boot_id="earlier"))
    assert not is_alive(Handle("t"))


def kernel(root: Path, cgroup: str, mounts: str, counters: dict[str, str]) -> MemoryKiller:
    """What a kernel would show below `root`, which stands in for /proc; {} is where it lies."""
    for name, text in ({"self/cgroup": cgroup, "self/mountinfo": mounts} | counters).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{}", str(root)))
    return MemoryKiller(str(root))


V1 = """32 31 0:29 / {}/cpu rw - cgroup cgroup rw,cpu
35 31 0:32 ROOT {}/mem rw - cgroup cgroup rw,memory
"""
V2 = "35 24 0:30 ROOT {}/cg rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
EVENTS = "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "counter", "scope"),
    [
        ("0::/user.slice/a.scope\n", V2, ("cg/user.slice/a.scope/memory.events", EVENTS), "cgroup"),
        # The memory controller ends above us: what is above counts for us.
        ("0::/user.slice/a.scope\n", V2, ("cg/user.slice/memory.events", EVENTS), "cgroup"),
        ("0::/\n", V2, ("cg/memory.events", EVENTS), "cgroup"),
        (
            "4:cpu,memory:/a/b\n0::/x\n",
            V1,
            ("mem/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            "cgroup",
        ),
        # A container that sees its own cgroup as all there is.
        ("4:memory:/docker/f\n", V1, ("mem/memory.oom_control", "oom_kill 2\n"), "cgroup"),
        ("0::/../../elsewhere\n", V2, ("cg/memory.events", EVENTS), "cgroup"),
        ("0::/\n", V2, ("vmstat", "pgfault 1\noom_kill 2\npswpin 0\n"), "host"),
        ("", "", ("vmstat", "nr_free_pages 5\noom_kill 2"), "host"),
    ],
)
def test_the_memory_killer_is_counted_where_it_counts(
    tmp_path: Path, cgroup: str, mounts: str, counter: tuple[str, str], scope: str
) -> None:
    root = "/docker/f" if "docker" in cgroup else "/"
    killer = kernel(tmp_path, cgroup, mounts.replace("ROOT", root), dict([counter]))
    assert (killer.scope, killer.count()) == (scope, 2)
    (tmp_path / counter[0]).write_text("")
    assert killer.count() is None


@pytest.mark.parametrize("text", ["", "oom_kill \n", "oom_kill -1\n", "oom_killer 3\n", "\0\n"])
def test_a_kernel_that_does_not_count_kills_is_none_to_ask(tmp_path: Path, text: str) -> None:
    killer = kernel(tmp_path, "0::/\nx\n", V2 + "\nshort\n - \n", {"vmstat": text})
    assert (killer.scope, killer.count()) == ("", None)
    assert MemoryKiller(str(tmp_path / "nothing")).count() is None


def attempt(**changed: object) -> Attempt:
    values: dict[str, object] = {
        "run_id": "r",
        "job": "j",
        "number": 1,
        "token": "t",
        "argv": ("true",),
        "cwd": ".",
        "env": {},
        "state_dir": "s",
        "log": "l",
    }
    return Attempt(**(values | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"argv": ("echo", "a\0b")}, "zero byte"),
        ({"env": {"A": "\0"}}, "zero byte"),
        ({"env": {"A=B": "x"}}, "with ="),
        ({"descriptors": tuple(range(300))}, "too many GPU tokens"),
    ],
)
def test_what_no_process_can_be_given_is_rejected(changed: dict[str, object], words: str) -> None:
    executor = LocalExecutor()
    (answer,) = executor.submit([attempt(**changed)])
    executor.close()
    assert isinstance(answer, Rejected)
    assert words in answer.message
