"""GPU tokens: what is there, what a request may have, and how a lease behaves."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from oumi_flow.errors import FlowError
from oumi_flow.model import GpuRequest
from oumi_flow.tokens import (
    Gpu,
    Lease,
    TokenPool,
    assign_fixed,
    check_request,
    discover,
    file_system,
    survey,
    user_name,
)
from oumi_flow.tokens.strangers import Sight

ANY = GpuRequest(1)


def some(count: int) -> list[Gpu]:
    return [Gpu(index) for index in range(count)]


class Host:
    """A lock folder, GPUs that a test rewrites, and pools that are closed at the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.leases: list[Lease] = []
        self.environ: dict[str, str] = {}

    def fake(self, *gpus: dict[str, Any]) -> None:
        path = self.root / "gpus.json"
        path.write_text(json.dumps([{"index": index} | gpu for index, gpu in enumerate(gpus)]))
        self.environ["OUMI_FLOW_FAKE_GPUS"] = str(path)

    def pool(self, gpus: list[Gpu] | None = None, run_id: str = "run-1") -> TokenPool:
        found = discover(self.environ) if gpus is None else gpus
        return TokenPool(found, str(self.root / "locks"), run_id=run_id, environ=self.environ)

    def lease(self, pool: TokenPool, request: GpuRequest = ANY, **more: Any) -> Lease:
        lease = pool.try_lease(request, **more)
        assert lease is not None
        self.leases.append(lease)
        return lease


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    for lease in host.leases:
        lease.close()


# what is there


def test_no_nvml_means_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def broken() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", broken)
    assert discover({}) == ()


@pytest.mark.gpu
@pytest.mark.skipif(not os.path.exists("/dev/nvidiactl"), reason="no NVIDIA driver here")
def test_real_gpus_are_found() -> None:
    gpus = discover({})
    assert gpus
    numbers = list(dict.fromkeys(gpu.index for gpu in gpus))
    assert numbers == list(range(len(numbers)))
    assert all(gpu.uuid.startswith("GPU-") and gpu.memory_total > 0 for gpu in gpus)
    assert all(gpu.mig.startswith("MIG-") for gpu in gpus if gpu.mig)  # one a part of a split one
    assert not any(gpu.lost for gpu in gpus)
    # What NVML says of those who compute can be put in words, again and again.
    sight = Sight(gpus, {})
    for gpu in gpus:
        assert sight.of(gpu.token) == gpu
        assert sight.stranger(gpu) == "" or "which is no job of ours" in sight.stranger(gpu)
    assert discover({}) == gpus or len(discover({})) == len(gpus)


class Nvml:
    """As much of pynvml as is asked, with a GPU that has fallen off the bus in two ways."""

    NVML_ERROR_GPU_IS_LOST = 15
    NVML_DEVICE_MIG_ENABLE = 1

    class NVMLError(Exception):
        def __init__(self, value: int) -> None:
            self.value = value

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(handle: int, *_: Any) -> Any:
            if name == "nvmlDeviceGetHandleByIndex" and handle != 1:
                return handle
            if name == "nvmlDeviceGetUUID":
                return f"GPU-{handle}"
            if name == "nvmlDeviceGetMigMode" and handle == 0:
                return [0, 0]
            lost = handle in (1, 2)
            raise self.NVMLError(self.NVML_ERROR_GPU_IS_LOST if lost else 3)

        return answer

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int:
        return 3


def test_nvml_says_that_a_gpu_is_lost_by_its_handle_or_by_any_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    assert discover({}) == (
        Gpu(0, "GPU-0"),
        Gpu(1, lost=True),
        Gpu(2, "GPU-2", lost=True),
    )


def test_gpus_come_from_the_file_that_stands_in_for_nvml(host: Host) -> None:
    host.fake(
        {"uuid": "GPU-a", "name": "H", "memory_total": 80, "memory_used": 8, "utilization": 5},
        {"uuid": "GPU-b", "processes": [{"pid": 12}], "lost": True},
        {"uuid": "GPU-c", "memory_total": 9, "mig": ["MIG-1", {"uuid": "MIG-2", "memory_used": 3}]},
    )
    assert discover(host.environ) == (
        Gpu(0, "GPU-a", "H", 80, 8, 5.0),
        Gpu(1, "GPU-b", processes=(12,), lost=True),
        Gpu(2, "GPU-c", memory_total=9, mig="MIG-1"),
        Gpu(2, "GPU-c", memory_total=9, memory_used=3, mig="MIG-2"),
    )


@pytest.mark.parametrize("text", ["", "{}{", "5", '["x"]', "[{}]", '[{"index": "a"}]'])
def test_a_broken_stand_in_is_an_error_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gpus.json"
    path.write_text(text)
    with pytest.raises(FlowError, match="is no list of GPUs"):
        discover({"OUMI_FLOW_FAKE_GPUS": str(path)})


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", [1]),
        ("2,0", [0, 2]),
        ("", []),
        ("-1", []),
        ("0,-1,2", [0]),  # CUDA stops at the first it does not know
        ("GPU-b", [1]),
        ("GPU-bb, 0", [0, 1]),
        ("7", []),
    ],
)
def test_cuda_visible_devices_limits_what_is_there(
    host: Host, visible: str, expected: list[int]
) -> None:
    host.fake({"uuid": "GPU-aa"}, {"uuid": "GPU-bb"}, {"uuid": "GPU-cc"})
    found = discover(host.environ | {"CUDA_VISIBLE_DEVICES": visible})
    assert [gpu.index for gpu in found] == expected


# leases


def test_all_or_none_in_ascending_order(host: Host) -> None:
    pool, other = host.pool(some(4)), host.pool(some(4), "run-2")
    three = host.lease(pool, GpuRequest(3))
    assert (three.devices, three.visible) == ((0, 1, 2), "0,1,2")
    assert other.try_lease(GpuRequest(2)) is None
    last = host.lease(other, GpuRequest(1))  # the failed try kept nothing
    assert last.devices == (3,)
    three.close()
    three.close()
    assert host.lease(other, GpuRequest(-1)).devices == (0,)  # auto
    assert host.lease(other, GpuRequest(1), allowed=(2, 3)).devices == (2,)
    assert other.try_lease(GpuRequest(1), allowed=()) is None


def test_a_try_that_fails_gives_back_what_it_took(host: Host) -> None:
    host.lease(host.pool(some(4)), GpuRequest(2, (1, 3)))
    other = host.pool(some(4), "run-2")
    assert other.try_lease(GpuRequest(3)) is None
    assert other.try_lease(GpuRequest(2, (0, 1))) is None
    assert [holder.index for holder in other.holders()] == [1, 3]
    assert host.lease(other, GpuRequest(2)).devices == (0, 2)


def test_closing_a_lease_never_unlocks_it_for_those_who_inherited_it(host: Host) -> None:
    pool = host.pool(some(1))
    lease = host.lease(pool)
    inherited = os.dup(lease.descriptors[0])
    lease.close()
    assert pool.try_lease(ANY) is None
    os.close(inherited)
    assert host.lease(pool).devices == (0,)


def test_a_lock_file_that_goes_while_it_is_taken_is_taken_anew(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    import filelock

    take = filelock.lock_descriptor
    removed: list[Path] = []

    def meddle(fd: int, *, blocking: bool = True) -> bool:
        if not removed:
            removed.extend((host.root / "locks").glob("*/gpu-0.lock"))
            removed[0].unlink()
        return take(fd, blocking=blocking)

    monkeypatch.setattr(filelock, "lock_descriptor", meddle)
    lease = host.lease(host.pool(some(1)))
    assert os.path.samestat(os.fstat(lease.descriptors[0]), removed[0].stat())


def test_named_devices_are_had_or_waited_for(host: Host) -> None:
    pool = host.pool(some(4))
    held = host.lease(pool, GpuRequest(1, (2,)), holder="train")
    assert pool.try_lease(GpuRequest(2, (1, 2))) is None
    assert host.lease(pool, GpuRequest(2, (3, 1))).devices == (1, 3)
    assert pool.try_lease(GpuRequest(1, (9,))) is None
    held.close()
    assert host.lease(pool, GpuRequest(1, (2,))).visible == "2"


def test_who_holds_a_token_can_be_read_by_others(host: Host) -> None:
    host.lease(host.pool(some(3)), GpuRequest(1, (1,)), holder="train-1")
    other = host.pool(some(3), "run-2")
    (holder,) = other.holders()
    assert (holder.index, holder.run, holder.job) == (1, "run-1", "train-1")
    assert holder.user == user_name()
    assert holder.since > 0
    since = time.strftime("%H:%M", time.localtime(holder.since))
    assert holder.clock.endswith(since)  # its day before that, if it was another one
    words = f"GPU 1: held by run run-1, user {user_name()}, job train-1 since {holder.clock}"
    assert other.waiting_for(GpuRequest(2, (0, 1))) == words
    assert other.waiting_for(ANY, allowed=(0, 2)) == ""
    host.leases.pop().close()
    assert other.holders() == ()
    assert other.waiting_for(GpuRequest(1, (1,))) == ""


@pytest.mark.parametrize(
    "garbage", [b"\0{[", b'{"since": 1' + b"0" * 400 + b"}", b"[" * 4096, b'{"since": "x"}']
)
def test_a_holder_that_wrote_garbage_still_holds(host: Host, garbage: bytes) -> None:
    lease = host.lease(host.pool(some(1)))
    os.ftruncate(lease.descriptors[0], 0)
    os.pwrite(lease.descriptors[0], garbage, 0)
    assert host.pool(some(1)).waiting_for(ANY) == "GPU 0: held by another run"


def test_least_busy_first(host: Host) -> None:
    gpu = {"memory_total": 100}
    host.fake(
        gpu | {"memory_used": 50},
        gpu | {"memory_used": 10, "utilization": 90},
        gpu | {"memory_used": 10, "utilization": 20},
    )
    pool = host.pool()
    order = [host.lease(pool, strategy="load_balanced").devices for _ in range(3)]
    assert order == [(2,), (1,), (0,)]
    assert pool.try_lease(ANY, strategy="load_balanced") is None


def until(look: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no job of ours."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        name = Path(f"/proc/{process.pid}/comm")
        until(lambda: name.read_text() == "sleep\n", "it has its name")
        yield process
        process.kill()


@pytest.mark.parametrize("strategy", ["dynamic", "fixed", "load_balanced"])
def test_nobody_is_put_beside_a_stranger_who_did_not_ask_for_it(
    host: Host, strategy: str, stranger: subprocess.Popen[bytes]
) -> None:
    host.fake({"processes": [{"pid": stranger.pid}]}, {})
    pool = host.pool()
    bound = GpuRequest(-1, (0,))
    words = f"used by process {stranger.pid} (sleep, user {user_name()}), which is no job of ours"
    assert pool.strangers() == {"gpu-0": words}
    assert pool.free_of_strangers((0, 1)) == (1,)
    assert pool.free_of_strangers((0,)) == (0,)
    assert host.lease(pool, strategy=strategy).devices == (1,)
    for auto in (ANY, bound, GpuRequest(2)):
        assert pool.try_lease(auto, strategy=strategy) is None
        assert f"GPU 0: {words}" in pool.waiting_for(auto)
    named = GpuRequest(1, (0,))
    assert pool.waiting_for(named) == ""
    host.lease(pool, named, strategy=strategy).close()
    # The stranger goes, though NVML is slow to notice: a dead process is in nobody's way.
    stranger.kill()
    stranger.wait()
    assert host.lease(pool, bound, strategy=strategy).devices == (0,)


def test_strangers_come_and_go_while_a_run_lasts(
    host: Host, stranger: subprocess.Popen[bytes]
) -> None:
    host.fake({})
    pool = host.pool()
    host.lease(pool).close()
    host.fake({"processes": [{"pid": stranger.pid}]})

    def can_be_had() -> bool:
        lease = pool.try_lease(ANY)
        if lease is not None:
            lease.close()
        return lease is not None

    until(lambda: not can_be_had(), "the stranger is seen")
    host.fake({})
    until(can_be_had, "the stranger is gone")


def test_nvml_is_asked_about_once_a_second_when_nothing_is_in_the_way(
    host: Host, monkeypatch: pytest.MonkeyPatch, stranger: subprocess.Popen[bytes]
) -> None:
    asked = []
    clock = [100.0]

    def count(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
        asked.append(clock[0])
        return survey(environ)

    monkeypatch.setattr("oumi_flow.tokens.strangers.survey", count)
    monkeypatch.setattr("oumi_flow.tokens.strangers.time.monotonic", lambda: clock[0])
    host.fake({}, {})
    pool = host.pool()

    def rounds() -> list[float]:
        asked.clear()
        for _ in range(400):
            lease = pool.try_lease(ANY)
            if lease is not None:
                lease.close()
            clock[0] += 0.01
        return asked

    assert len(rounds()) <= 4
    host.fake({"processes": [{"pid": stranger.pid}]}, {"processes": [{"pid": stranger.pid}]})
    # Asked at once, for it may be the end of a job of ours; then ever more rarely.
    assert 5 <= len(rounds()) <= 12
    later = rounds()
    assert later[1] - later[0] > 0.9
    named = GpuRequest(1, (0,))
    asked.clear()
    for _ in range(400):
        clock[0] += 0.01
        host.lease(pool, named).close()
    assert asked == []  # whoever names a GPU wants it anyway


def test_in_a_container_a_process_that_is_not_seen_may_live(
    host: Host, monkeypatch: pytest.MonkeyPatch, stranger: subprocess.Popen[bytes]
) -> None:
    stranger.kill()
    stranger.wait()
    gpu = Gpu(0, processes=(stranger.pid,))
    for sees_all, words in (
        (True, ""),
        (False, f"used by process {stranger.pid}, which is no job of ours"),
    ):
        monkeypatch.setattr(
            "oumi_flow.tokens.strangers._sees_all_processes", lambda sees=sees_all: sees
        )
        assert Sight([gpu], {}).stranger(gpu) == words


def test_without_nvml_the_one_used_least_so_far_is_taken(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oumi_flow.tokens.strangers.survey", lambda environ: ())
    pool = host.pool(some(3))
    order = []
    for _ in range(6):
        lease = host.lease(pool, strategy="load_balanced")
        order.append(lease.devices[0])
        lease.close()
    assert order[:3] == [0, 1, 2]


def test_a_lost_gpu_is_set_aside(host: Host) -> None:
    host.fake({"lost": True}, {}, {})
    pool = host.pool()
    pool.set_aside(1)
    assert host.lease(pool).devices == (2,)
    assert pool.waiting_for(ANY).startswith("GPU 0, 1: lost; GPU 2: held by run run-1")


def test_a_gpu_that_nvml_loses_meanwhile_is_had_by_nobody_who_did_not_name_it(host: Host) -> None:
    host.fake({"uuid": "GPU-a"})
    pool = host.pool()
    host.lease(pool).close()
    host.fake({"lost": True})  # NVML knows no UUID of it any more

    def is_had() -> bool:
        lease = pool.try_lease(ANY)
        if lease is not None:
            lease.close()
        return lease is not None

    until(lambda: not is_had(), "it is known to be lost")
    assert pool.waiting_for(ANY) == "GPU 0: lost"


def test_mig_instances_have_tokens_of_their_own(host: Host) -> None:
    host.fake({"uuid": "GPU-a", "mig": ["MIG-1", "MIG-2"]}, {"uuid": "GPU-b"})
    pool = host.pool()
    assert pool.indices == (0, 1)
    first = host.lease(pool, GpuRequest(1, (0,)))
    second = host.lease(pool, GpuRequest(1, (0,)))
    assert (first.visible, second.visible) == ("MIG-1", "MIG-2")
    assert pool.try_lease(GpuRequest(1, (0,))) is None
    assert host.lease(pool).visible == "1"


# the line

NARROW, WIDE = GpuRequest(1), GpuRequest(2)


def test_with_nobody_in_line_there_is_no_ticket(host: Host) -> None:
    pool = host.pool(some(2))
    lease = host.lease(pool, waited=100.0)
    assert list((host.root / "locks").glob("*/queue")) == []
    assert pool.try_lease(WIDE, waited=0.01) is None  # a moment needs none either
    assert list((host.root / "locks").glob("*/queue")) == []
    lease.close()


def test_whoever_waits_longer_goes_first_whatever_is_asked_later(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that stands still: how long a busy machine holds us up is nobody's waiting."""
    now = time.monotonic()
    monkeypatch.setattr("oumi_flow.tokens.standing.time.monotonic", lambda: now)
    holder, first, second = (host.pool(some(1), run) for run in ("holder", "first", "second"))
    lease = host.lease(holder, holder="train")
    assert second.try_lease(NARROW, waited=1.0, holder="b") is None
    assert first.try_lease(NARROW, waited=2.0, holder="a") is None
    assert [ticket.run for ticket in holder.waiting()] == ["first", "second"]
    lease.close()
    assert holder.try_lease(NARROW) is None
    assert second.try_lease(NARROW, waited=1.0, holder="b") is None
    words = f"GPU 0: kept for run first, user {user_name()}, job a, first in line"
    assert second.waiting_for(NARROW) == words
    host.lease(first, NARROW, waited=2.0, holder="a").close()
    host.lease(second, NARROW, waited=1.0, holder="b").close()
    assert holder.waiting() == ()


def test_a_try_that_takes_long_costs_nobody_his_place(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that began to wait later may be quicker to stand in line."""
    holder, first, second = (host.pool(some(1), run) for run in ("holder", "first", "second"))
    host.lease(holder)

    def slow(tokens: Iterable[str]) -> set[str]:
        assert second.try_lease(NARROW, waited=1.0) is None
        return set()

    monkeypatch.setattr(first, "_free", slow)
    assert first.try_lease(NARROW, waited=1.0) is None
    assert [ticket.run for ticket in holder.waiting()] == ["first", "second"]


@pytest.mark.parametrize("count", ["Infinity", "1" + "0" * 400, "2", "NaN"])
def test_a_ticket_that_asks_for_what_cannot_be_is_none(host: Host, count: str) -> None:
    """Anybody may write tickets."""
    holder, waits = host.pool(some(1), "holder"), host.pool(some(1), "waits")
    lease = host.lease(holder)
    assert waits.try_lease(NARROW, waited=1.0) is None
    (ticket,) = (host.root / "locks").glob("*/queue/[0-9]*")
    text = ticket.read_text()
    wrong = ticket.with_name(ticket.name[:-8] + "00000000")
    wrong.write_text(text.replace("[[1,", f"[[{count},"))
    assert wrong.read_text() != text
    with open(wrong) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert [each.run for each in holder.waiting()] == ["waits"]
        assert waits.try_lease(NARROW, waited=1.0) is None
        lease.close()
        host.lease(waits, NARROW, waited=1.0).close()


def test_a_request_that_is_given_up_leaves_the_line(host: Host) -> None:
    lease = host.lease(host.pool(some(1)))
    pool, other = host.pool(some(1), "run-2"), host.pool(some(1), "run-3")
    assert pool.try_lease(NARROW, waited=1.0) is None
    lease.close()
    assert other.try_lease(NARROW) is None
    pool.leave(NARROW)
    host.lease(other, NARROW)


def test_inside_a_run_one_that_waits_for_long_is_not_overtaken_by_those_behind(host: Host) -> None:
    host.environ["OUMI_FLOW_GPU_PATIENCE"] = "10"
    lease = host.lease(host.pool(some(2), "holder"))
    pool, other = host.pool(some(2)), host.pool(some(2), "other")
    assert host.lease(pool, NARROW, waited=0.0, before={WIDE: 5.0}).devices == (1,)
    host.leases.pop().close()
    assert pool.try_lease(NARROW, waited=20.0, before={WIDE: 11.0}) is None
    # It does not stand in line meanwhile: others may have what it will not take.
    assert host.lease(other, NARROW).devices == (1,)
    lease.close()


# the folder


def test_what_a_killed_process_left_in_the_folder_of_locks_is_in_nobodys_way(host: Host) -> None:
    """In another container its pid may be ours."""
    pool = host.pool([Gpu(0, "GPU-a")])
    host.lease(pool).close()
    (boot,) = (host.root / "locks").iterdir()
    (boot / f"gpu-GPU-b.lock.{os.getpid()}~").touch()
    host.lease(host.pool([Gpu(1, "GPU-b")])).close()


def test_a_folder_of_locks_that_was_removed_is_made_anew(host: Host) -> None:
    host.fake({}, {})
    pool, other = host.pool(), host.pool(run_id="run-2")
    host.lease(pool)
    shutil.rmtree(host.root / "locks")
    assert host.lease(other).devices
    assert pool.try_lease(GpuRequest(count=2), waited=1.0) is None
    assert other.waiting()
    shutil.rmtree(host.root / "locks")
    assert pool.try_lease(GpuRequest(count=2), waited=2.0) is not None


def test_everybody_may_use_the_folder_and_its_locks(host: Host) -> None:
    before = os.umask(0o077)
    try:
        host.lease(host.pool([Gpu(0, "GPU-a")]))
    finally:
        os.umask(before)
    (boot,) = (host.root / "locks").iterdir()
    assert [path.name for path in boot.iterdir()] == ["gpu-GPU-a.lock"]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (boot.parent, boot, *boot.iterdir())]
    assert modes == [0o1777, 0o1777, 0o666]


@pytest.mark.parametrize("trap", ["link", "fifo", "folder"])
def test_a_trap_in_place_of_a_lock_is_refused(host: Host, trap: str) -> None:
    host.lease(host.pool(some(1)))
    (boot,) = (host.root / "locks").iterdir()
    victim = host.root / "victim"
    victim.write_text("precious")
    path = boot / "gpu-7.lock"
    if trap == "link":
        path.symlink_to(victim)
    elif trap == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(FlowError, match="cannot be used"):
        host.pool([Gpu(7)]).try_lease(ANY)
    assert victim.read_text() == "precious"
    assert host.pool([Gpu(7)]).holders() == ()


def test_a_folder_that_is_a_link_or_a_file_is_refused(host: Host) -> None:
    (host.root / "elsewhere").mkdir()
    (host.root / "locks").symlink_to(host.root / "elsewhere")
    with pytest.raises(FlowError, match="OUMI_FLOW_LOCK_DIR"):
        host.pool(some(1)).try_lease(ANY)
    (host.root / "locks").unlink()
    (host.root / "locks").write_text("")
    with pytest.raises(FlowError, match="not a folder"):
        host.pool(some(1)).try_lease(ANY)


def test_network_file_systems_are_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oumi_flow.tokens.locks.file_system", lambda path: "nfs4")
    with pytest.raises(FlowError, match=r"network file system: .* is on nfs4"):
        host.pool(some(1)).try_lease(ANY)


def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    assert file_system("/proc/self/no/such/thing") == "proc"
    assert file_system("/") not in ("", "proc")


def test_the_folder_comes_from_the_environment(tmp_path: Path) -> None:
    pool = TokenPool(some(1), environ={"OUMI_FLOW_LOCK_DIR": str(tmp_path / "here")})
    assert not (tmp_path / "here").exists()
    lease = pool.try_lease(ANY)
    assert lease is not None
    lease.close()
    assert (tmp_path / "here").is_dir()


# planning


def test_fixed_binds_the_longest_first_to_the_least_loaded() -> None:
    jobs = [("a", 10.0, 1), ("b", 60.0, 1), ("c", 30.0, 1), ("d", 20.0, 1), ("e", None, 1)]
    # e counts as the mean, 30; so b | c e | … in order of length
    assert assign_fixed(jobs, [0, 1]) == {"b": (0,), "c": (1,), "e": (1,), "d": (0,), "a": (1,)}
    assert assign_fixed([("x", None, 2), ("y", None, 9)], [4, 5, 6]) == {
        "x": (4, 5),
        "y": (4, 5, 6),
    }
    assert assign_fixed([], [0]) == {}


@pytest.mark.parametrize(
    ("request_", "available", "listed", "words"),
    [
        (GpuRequest(1), [0], False, ""),
        (GpuRequest(-1), [], False, ""),
        (GpuRequest(2, (0, 3)), [0, 3], True, ""),
        (GpuRequest(1), [], False, "wants a GPU, and there is no GPU here: say `gpu: none`"),
        (GpuRequest(1, (0,)), [], False, "wants GPU 0, and there is no GPU here"),
        (GpuRequest(4), [0, 1], False, "wants 4 GPUs at once, and this host has 2 (0, 1)"),
        (GpuRequest(2, (1, 5)), [0, 1], True, "wants GPU 5, and those to use are 0, 1"),
    ],
)
def test_a_request_that_can_never_be_met_gets_advice(
    request_: GpuRequest, available: list[int], listed: bool, words: str
) -> None:
    found = check_request(request_, available, listed=listed)
    assert words in found if words else found == ""
