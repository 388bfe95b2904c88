"""GPU tokens: which GPUs are there, and who may use which.

One token a GPU: a locked file in a folder that all runs and users of the host share. The lock
belongs to the open file, not to a process, and the job and its supervisor inherit it: the kernel
frees it when the last of them is gone, however that came about. So tokens are only ever closed,
never unlocked, and a file that nobody holds locked is a free GPU whatever is written in it.

Knows nothing of jobs' order or verbs. Asks NVML lazily, and trusts numbers where there is none.

`OUMI_FLOW_FAKE_GPUS` names a JSON file that stands in for NVML. It is read anew at every question:
a list of objects with `index`, and optionally `uuid`, `name`, `memory_total` and `memory_used`
(bytes), `utilization` (percent), `processes` (`[{"pid": 12}, …]`), `mig` (UUIDs of instances, or
objects with `uuid`), `lost` (true or false).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from oumi_flow.errors import FlowError
from oumi_flow.model import GpuRequest

# Shared by all users, so not $TMPDIR, which often is one user's or one job's.
DEFAULT_LOCK_DIR = "/tmp/oumi-flow-locks"

# Where a lock is not seen by all hosts, or lost with a connection.
_NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs",
    "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs",
    "panfs", "smb3", "smbfs", "wekafs",
})  # fmt: skip
_SURVEY_KEPT = 1.0  # seconds; NVML takes some milliseconds a GPU


@dataclass(frozen=True, slots=True)
class Gpu:
    """One thing that a token stands for: a GPU, or a MIG instance of one."""

    index: int  # NVML's number of the (physical) GPU
    uuid: str = ""  # "" without NVML
    name: str = ""
    memory_total: int = 0  # bytes
    memory_used: int = 0
    utilization: float = 0.0  # percent
    processes: tuple[int, ...] = ()  # pids that compute on it
    mig: str = ""  # UUID of the instance; "" for a whole GPU
    lost: bool = False

    @property
    def token(self) -> str:
        """The name of its lock file, without extension."""
        return f"gpu-{self.mig or self.uuid or self.index}"

    @property
    def visible(self) -> str:
        """Its name in CUDA_VISIBLE_DEVICES: the index, as vLLM fails on UUIDs, but for MIG."""
        return self.mig or str(self.index)

    @property
    def busyness(self) -> tuple[float, float]:
        """Share of memory in use, then utilisation: the smaller, the better to start on."""
        return (
            self.memory_used / self.memory_total if self.memory_total else 0.0,
            self.utilization,
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a token, as its lock file says. Empty where the file does not say."""

    index: int
    run: str = ""
    user: str = ""
    job: str = ""
    since: float = 0.0  # unix seconds

    def __str__(self) -> str:
        """`held by run R, user U`."""
        if not self.run:
            return f"held by user {self.user}" if self.user else "held by another run"
        return f"held by run {self.run}, user {self.user}"


# --- what is there -------------------------------------------------------------------------------


def discover(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The GPUs of this host, in NVML's order; those of CUDA_VISIBLE_DEVICES if that is set.

    A GPU split by MIG comes as its instances. Without NVML, or a working driver: none.
    Raises FlowError when OUMI_FLOW_FAKE_GPUS cannot be read.
    """
    gpus = survey(environ)
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    return gpus if visible is None else _visible(gpus, visible)


def survey(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """As `discover`, but all of them. Takes some milliseconds a GPU."""
    fake = environ.get("OUMI_FLOW_FAKE_GPUS")
    return _read_fake(fake) if fake else _ask_nvml()


def _visible(gpus: tuple[Gpu, ...], listed: str) -> tuple[Gpu, ...]:
    """As CUDA reads it: numbers or beginnings of UUIDs, up to the first that means nothing."""
    found: dict[str, Gpu] = {}
    for word in (word.strip() for word in listed.split(",")):
        matches = [gpu for gpu in gpus if word and _is_named(gpu, word)]
        if not matches:
            break
        found |= {gpu.token: gpu for gpu in matches}
    return tuple(gpu for gpu in gpus if gpu.token in found)


def _is_named(gpu: Gpu, word: str) -> bool:
    if word.isdigit():
        return gpu.index == int(word)
    return any(name.startswith(word) for name in (gpu.uuid, gpu.mig) if name)


def _read_fake(path: str) -> tuple[Gpu, ...]:
    try:
        with open(path, encoding="utf-8") as file:
            entries = json.load(file)
        return tuple(gpu for entry in entries for gpu in _fake_gpu(entry))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlowError(
            f"OUMI_FLOW_FAKE_GPUS: {path} is no list of GPUs: {error}",
            hint="unset the variable to see the real ones",
        ) from error


def _fake_gpu(entry: Mapping[str, Any]) -> list[Gpu]:
    gpu = Gpu(
        index=int(entry["index"]),
        uuid=str(entry.get("uuid", "")),
        name=str(entry.get("name", "")),
        memory_total=int(entry.get("memory_total", 0)),
        memory_used=int(entry.get("memory_used", 0)),
        utilization=float(entry.get("utilization", 0.0)),
        processes=tuple(int(process["pid"]) for process in entry.get("processes", ())),
        lost=bool(entry.get("lost", False)),
    )
    instances = [one if isinstance(one, str) else str(one["uuid"]) for one in entry.get("mig", ())]
    return [replace(gpu, mig=uuid) for uuid in instances] or [gpu]


def _ask_nvml() -> tuple[Gpu, ...]:
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()  # no driver, no GPU, or none that works: then there is none for us
    try:
        count: int = pynvml.nvmlDeviceGetCount()
        return tuple(gpu for index in range(count) for gpu in _nvml_gpu(pynvml, index))
    except pynvml.NVMLError:
        return ()
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _nvml_gpu(nvml: Any, index: int) -> list[Gpu]:
    def ask(question: Callable[..., Any], *args: Any) -> Any:
        """None for what this GPU, driver or right does not answer."""
        try:
            return question(*args)
        except nvml.NVMLError:
            return None

    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError:
        return [Gpu(index, lost=True)]  # fallen off the bus
    memory = ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    rates = ask(nvml.nvmlDeviceGetUtilizationRates, handle)
    gpu = Gpu(
        index=index,
        uuid=uuid,
        name=_text(ask(nvml.nvmlDeviceGetName, handle) or ""),
        memory_total=memory.total if memory else 0,
        memory_used=memory.used if memory else 0,
        utilization=float(rates.gpu) if rates else 0.0,
        processes=_pids(ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle)),
    )
    return _nvml_instances(nvml, ask, handle, gpu) or [gpu]


def _nvml_instances(nvml: Any, ask: Callable[..., Any], handle: Any, gpu: Gpu) -> list[Gpu]:
    mode = ask(nvml.nvmlDeviceGetMigMode, handle)
    if not mode or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return []
    instances = []
    for number in range(ask(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        one = ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
        if one is None:
            continue
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, one)
        instances.append(
            replace(
                gpu,
                mig=_text(nvml.nvmlDeviceGetUUID(one)),
                memory_total=memory.total if memory else 0,
                memory_used=memory.used if memory else 0,
                processes=_pids(ask(nvml.nvmlDeviceGetComputeRunningProcesses, one)),
            )
        )
    return instances


def _pids(processes: Any) -> tuple[int, ...]:
    return tuple(int(process.pid) for process in processes or ())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


# --- who has it ----------------------------------------------------------------------------------


class Lease:
    """Tokens held. `close` lets go of our copies only: what inherited them goes on holding."""

    def __init__(self, gpus: Sequence[Gpu], descriptors: Sequence[int]) -> None:
        self.gpus = tuple(gpus)
        self.devices = tuple(gpu.index for gpu in gpus)  # ascending NVML numbers
        self.visible = ",".join(gpu.visible for gpu in gpus)  # for CUDA_VISIBLE_DEVICES
        self.descriptors = tuple(descriptors)  # to pass to the job
        self._opened = time.monotonic()
        self._closed: float | None = None

    @property
    def closed(self) -> bool:
        return self._closed is not None

    @property
    def seconds(self) -> float:
        """How long it was, or is so far."""
        return (self._closed or time.monotonic()) - self._opened

    def close(self) -> None:
        """Never unlocks: the lock is that of the job too, which may live on. Idempotent."""
        if self._closed is None:
            self._closed = time.monotonic()
        descriptors, self.descriptors = self.descriptors, ()
        for fd in descriptors:
            os.close(fd)


class TokenPool:
    """The tokens of some GPUs, as one run sees them. Not for several threads at once.

    Whoever comes first gets them. Fair order among runs needs no more than a `tickets` folder
    beside the locks: `try_lease` is the one place that would ask it.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        lock_dir: str = "",
        *,
        run_id: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`lock_dir` "": $OUMI_FLOW_LOCK_DIR, else /tmp/oumi-flow-locks. Touches nothing yet.

        `environ` is used for that, and to ask NVML (or its stand-in) again.
        """
        self._environ = os.environ if environ is None else environ
        self._root = lock_dir or self._environ.get("OUMI_FLOW_LOCK_DIR") or DEFAULT_LOCK_DIR
        self._folder = ""  # known once it is there
        self._run_id = run_id
        self._gpus = tuple(sorted(gpus, key=lambda gpu: (gpu.index, gpu.mig)))
        self._aside: set[int] = {gpu.index for gpu in gpus if gpu.lost}
        self._leases: list[Lease] = []
        self._past_seconds: dict[str, float] = {}  # token -> of leases that are closed
        self._survey: tuple[float, tuple[Gpu, ...]] = (0.0, ())
        self.indices = tuple(sorted({gpu.index for gpu in gpus}))
        # How many tokens each index has: more than one where a GPU is split into instances.
        self.capacity = {index: [g.index for g in gpus].count(index) for index in self.indices}

    def try_lease(
        self,
        request: GpuRequest,
        allowed: Sequence[int] | None = None,
        strategy: str = "dynamic",
        holder: str = "",
    ) -> Lease | None:
        """All tokens of the request or none (None), without waiting.

        `allowed`: GPUs to choose from, None for all of the pool. `strategy`: `dynamic` takes any,
        `fixed` is `dynamic` for whoever already put the devices in the request, `load_balanced`
        the least busy and none that a stranger uses. `holder`: the job's name, for others to read.
        A count of -1 ("auto") is one GPU. Raises FlowError when the lock folder is of no use.
        """
        eligible = self._eligible(request, allowed)
        if strategy == "load_balanced":
            eligible = self._least_busy_first(eligible)
        if request.devices:
            devices = sorted(set(request.devices))
            groups = [[gpu for gpu in eligible if gpu.index == index] for index in devices]
            taken = self._take_one_of_each(groups)
        else:
            taken = self._take_any(eligible, 1 if request.count < 0 else request.count)
        if taken is None:
            return None
        taken.sort(key=lambda pair: (pair[0].index, pair[0].mig))
        for _, descriptor in taken:
            _write_holder(descriptor, self._run_id, holder)
        lease = Lease([gpu for gpu, _ in taken], [descriptor for _, descriptor in taken])
        self._leases.append(lease)
        return lease

    def waiting_for(
        self,
        request: GpuRequest,
        allowed: Sequence[int] | None = None,
        strategy: str = "dynamic",
    ) -> str:
        """`GPU 0: held by run R, user U`, for each GPU in the way; "" when none seems to be."""
        eligible = self._eligible(request, allowed)
        held = self._holders(eligible)
        words = {holder.index: str(holder) for holder in held}
        names = request.devices or tuple(self.indices if allowed is None else allowed)
        words |= dict.fromkeys(self._aside & set(names), "lost")
        if strategy == "load_balanced":
            for gpu in self._fresh(eligible):
                if gpu.processes and gpu.index not in words:
                    words[gpu.index] = (
                        f"in use by process {gpu.processes[0]}, which is no job of ours"
                    )
        return "; ".join(f"GPU {index}: {words[index]}" for index in sorted(words))

    def holders(self) -> tuple[Holder, ...]:
        """Of the tokens that anybody holds now, in order."""
        return tuple(self._holders(self._gpus))

    def set_aside(self, index: int) -> None:
        """A GPU that was lost: this pool leases it no more."""
        self._aside.add(index)

    # choosing

    def _eligible(self, request: GpuRequest, allowed: Sequence[int] | None) -> list[Gpu]:
        choice = set(self.indices if allowed is None else allowed) - self._aside
        if request.devices:
            choice &= set(request.devices)
        return [gpu for gpu in self._gpus if gpu.index in choice]

    def _least_busy_first(self, gpus: list[Gpu]) -> list[Gpu]:
        """By NVML; by the time we kept them busy where there is none. Strangers' are left out.

        A GPU whose token is free has no process of any run of ours: whoever computes on it is a
        stranger. So only the free ones are asked about.
        """
        free = [gpu for gpu in gpus if _read_holder(self._path(gpu), gpu.index) is None]
        usable = [gpu for gpu in self._fresh(free) if not gpu.lost and not gpu.processes]
        spent = self._spent()
        return sorted(
            usable, key=lambda gpu: (gpu.busyness, spent.get(gpu.token, 0.0), gpu.index, gpu.mig)
        )

    def _fresh(self, gpus: list[Gpu]) -> list[Gpu]:
        """The same, with what NVML says of them now."""
        if not gpus:
            return []
        asked, seen = self._survey
        if "OUMI_FLOW_FAKE_GPUS" in self._environ or time.monotonic() - asked > _SURVEY_KEPT:
            seen = survey(self._environ)
            self._survey = (time.monotonic(), seen)
        now = {gpu.token: gpu for gpu in seen}
        return [now.get(gpu.token, gpu) for gpu in gpus]

    def _spent(self) -> dict[str, float]:
        """Seconds that this pool has held each token."""
        for lease in [lease for lease in self._leases if lease.closed]:
            self._leases.remove(lease)
            _add_time(self._past_seconds, lease)
        spent = dict(self._past_seconds)
        for lease in self._leases:
            _add_time(spent, lease)
        return spent

    # locking

    def _take_any(self, gpus: Sequence[Gpu], wanted: int) -> list[tuple[Gpu, int]] | None:
        taken: list[tuple[Gpu, int]] = []
        for position, gpu in enumerate(gpus):
            if len(taken) == wanted or len(taken) + len(gpus) - position < wanted:
                break
            descriptor = self._take(gpu)
            if descriptor is not None:
                taken.append((gpu, descriptor))
        if len(taken) == wanted:
            return taken
        _let_go(taken)
        return None

    def _take_one_of_each(self, groups: Sequence[Sequence[Gpu]]) -> list[tuple[Gpu, int]] | None:
        taken: list[tuple[Gpu, int]] = []
        for group in groups:
            one = self._take_any(group, 1)  # MIG: whichever instance is free
            if one is None:
                _let_go(taken)
                return None
            taken += one
        return taken

    def _take(self, gpu: Gpu) -> int | None:
        """The locked descriptor of its token, or None when somebody has it."""
        from filelock import lock_descriptor

        path = self._path(gpu)
        while True:
            fd = _open_lock(path)
            try:
                if not lock_descriptor(fd, blocking=False):
                    os.close(fd)
                    return None
                if _is_same_file(fd, path):
                    return fd
            except OSError as error:
                os.close(fd)
                raise _useless(self._root, error.strerror) from error
            os.close(fd)  # a cleaner of /tmp removed the file between: take the new one

    def _path(self, gpu: Gpu) -> str:
        if not self._folder:
            self._folder = _prepare_folder(self._root)
        return os.path.join(self._folder, f"{gpu.token}.lock")

    def _holders(self, gpus: Iterable[Gpu]) -> list[Holder]:
        found = []
        for gpu in gpus:
            holder = _read_holder(self._path(gpu), gpu.index)
            if holder is not None:
                found.append(holder)
        return found


def _let_go(taken: list[tuple[Gpu, int]]) -> None:
    for _, descriptor in taken:
        os.close(descriptor)


def _add_time(spent: dict[str, float], lease: Lease) -> None:
    for gpu in lease.gpus:
        spent[gpu.token] = spent.get(gpu.token, 0.0) + lease.seconds


def _prepare_folder(root: str) -> str:
    """The folder of this boot's locks, made if need be. Raises FlowError when it cannot serve."""
    kind = file_system(root)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise FlowError(
            f"GPU locks cannot lie on a network file system: {root} is on {kind}",
            hint="set OUMI_FLOW_LOCK_DIR to a folder on a disk of this host",
        )
    # Locks end with a boot; a folder each keeps what was written in old ones out of sight.
    folder = os.path.join(root, _boot_id())
    for path in (root, folder):
        _make_shared_folder(path, root)
    return folder


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "boot"


def _make_shared_folder(path: str, root: str) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        seen = os.lstat(path)
        if not stat.S_ISDIR(seen.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a folder (links are not followed)")
        if seen.st_uid == os.geteuid() and stat.S_IMODE(seen.st_mode) != 0o1777:
            os.chmod(path, 0o1777)  # in spite of the umask: it is for everybody
    except OSError as error:
        raise _useless(root, error.strerror) from error


def _useless(root: str, detail: str | None) -> FlowError:
    return FlowError(
        f"the folder of GPU locks, {root}, cannot be used: {detail}",
        hint="set OUMI_FLOW_LOCK_DIR to a folder that all users of this host may write to",
    )


def _open_lock(path: str) -> int:
    """A descriptor of the lock file, made if need be. Raises FlowError.

    No O_CREAT on a file that may exist: in a sticky folder the kernel refuses that for a file of
    another user (fs.protected_regular). No link is followed, no fifo waited for.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    folder = os.path.dirname(path)
    try:
        while True:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, flags)
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    os.close(fd)
                    raise OSError(errno.EINVAL, f"{path} is not a plain file")
                return fd
            _create_lock(path)
    except OSError as error:
        raise _useless(os.path.dirname(folder), f"{error.strerror} ({path})") from error


def _create_lock(path: str) -> None:
    """Appears with its final mode at once: others may open it the moment it has its name."""
    draft = f"{path}.{os.getpid()}~"
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o666)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(fd)
        os.unlink(draft)


def _is_same_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _write_holder(fd: int, run_id: str, job: str) -> None:
    """For people only, so a full disk does not matter."""
    text = json.dumps({"run": run_id, "user": user_name(), "job": job, "since": time.time()})
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)


def _read_holder(path: str, index: int) -> Holder | None:
    """None when nobody holds it. Looks by a shared lock, let go at once."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            pass
        data = json.loads(os.pread(fd, 4096, 0))
        return Holder(
            index,
            run=str(data.get("run", "")),
            user=str(data.get("user", "")),
            job=str(data.get("job", "")),
            since=float(data.get("since", 0.0)),
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return Holder(index)
    finally:
        os.close(fd)


def user_name() -> str:
    """Of this process; its number where it has no name."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def file_system(path: str) -> str:
    """The type of the file system that `path` is on or would be on, from mountinfo (proc(5))."""
    path = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, rest = line.partition(" - ")
        point = _unescape(mount.split(" ")[4])
        below = path == point or path.startswith(point.rstrip("/") + "/")
        if below and len(point) >= len(best):  # a later mount at one point hides the earlier
            best, kind = point, rest.split(" ")[0]
    return kind


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


# --- planning with them --------------------------------------------------------------------------


def assign_fixed(
    jobs: Iterable[tuple[str, float | None, int]], gpus: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Which GPUs each job is bound to: the longest first, onto the least loaded.

    `jobs`: name, expected seconds (None: as the mean of the others, or 1), count of GPUs. A count
    beyond what there is gets them all.
    """
    jobs = list(jobs)
    known = [seconds for _, seconds, _ in jobs if seconds is not None]
    usual = sum(known) / len(known) if known else 1.0
    load = dict.fromkeys(gpus, 0.0)
    bound: dict[str, tuple[int, ...]] = {}
    expected = [(name, usual if seconds is None else seconds, n) for name, seconds, n in jobs]
    for name, seconds, count in sorted(expected, key=lambda job: -job[1]):
        chosen = sorted(load, key=lambda gpu: (load[gpu], gpu))[: max(1, count)]
        for gpu in chosen:
            load[gpu] += seconds
        bound[name] = tuple(sorted(chosen))
    return bound


def check_request(request: GpuRequest, available: Sequence[int], *, listed: bool = False) -> str:
    """ "" when such a request can ever be met, else an error with advice.

    `available`: indices of the workflow's GPUs. `listed`: the workflow names them itself.
    """
    if request.count < 0:
        return ""  # auto if there are any
    wanted = max(request.count, len(request.devices))
    if not available and wanted:
        return (
            f"it wants {_gpus(request)}, and there is no GPU here: say `gpu: none` to run on the"
            " CPU, or list this host's GPUs as `resources: {gpus: [0]}` of the workflow"
        )
    there = "those to use are" if listed else "this host has"
    names = ", ".join(map(str, available))
    unknown = [str(index) for index in request.devices if index not in available]
    if unknown:
        return f"it wants GPU {', '.join(unknown)}, and {there} {names}"
    if wanted > len(available):
        return f"it wants {wanted} GPUs at once, and {there} {len(available)} ({names})"
    return ""


def _gpus(request: GpuRequest) -> str:
    if request.devices:
        return f"GPU {', '.join(map(str, request.devices))}"
    return "a GPU" if request.count == 1 else f"{request.count} GPUs"
