"""What a job asks for to run: its GPUs, and where it goes."""

from __future__ import annotations

from oumi_flow.load.expand import Draft
from oumi_flow.load.making import Making, Workshop
from oumi_flow.load.values import Session
from oumi_flow.load.yaml_source import Node
from oumi_flow.model import GpuRequest
from oumi_flow.text import did_you_mean
from oumi_flow.typed import Any

GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"


class Resources:
    """The GPUs and remotes that the workflow has, and what its jobs may ask of them."""

    def __init__(
        self, session: Session, gpus: tuple[int, ...] | None, remotes: tuple[str, ...], mode: str
    ) -> None:
        self.session = session
        self.gpus = gpus  # None: not listed
        self.remotes = remotes
        self.mode = mode

    def executor(self, draft: Draft) -> str:
        """`local`, or the name of a remote."""
        node = draft.fields.get("resources")
        named = node.value.get("remote") if node is not None else None
        if named is None:
            everywhere = self.mode == "remote" and node is None and self.remotes
            return self.remotes[0] if everywhere else "local"
        name = draft.values.plain(named, "resources.remote")
        if name is None:
            return "local"
        if name not in self.remotes:
            hint = did_you_mean(name, self.remotes) or "list it under `resources: {remote: …}`"
            self.session.fault(named, f'no remote "{name}" in the workflow', hint)
        elif self.mode == "local":
            self.session.fault(named, "the workflow's `mode: local` refuses remotes")
        return name

    def gpu(self, making: Making, workshop: Workshop) -> GpuRequest | None:
        """The GPUs a job asks for; -1 of them means "one, if there are any"."""
        draft, session = making.draft, self.session
        node = draft.fields.get("resources")
        asked: dict[str, Node] = node.value if node is not None else {}
        request: GpuRequest | None = None
        given: Node | None = None
        if "gpu" in asked and "gpus" in asked:
            session.fault(asked["gpus"], "resources: `gpu` and `gpus` say the same, give one")
            return None
        if "gpu" in asked:
            given = asked["gpu"]
            request = _request(draft.values.typed(given))
        elif "gpus" in asked:
            given = asked["gpus"]
            count = int(draft.values.typed(given) or 0)
            request = GpuRequest(count) if count else None
        elif making.spec.gpu_default:
            request = GpuRequest(-1)
        pinned = self._pinned(making, workshop, given, request)
        if pinned is not _NOT_PINNED:
            request = pinned
        self._check_gpus(request, given or draft.fields["name"])
        return request

    def _pinned(
        self,
        making: Making,
        workshop: Workshop,
        given: Node | None,
        request: GpuRequest | None,
    ) -> GpuRequest | None:
        """What CUDA_VISIBLE_DEVICES in the job's `env` says, `_NOT_PINNED` if it is not there."""
        text = making.env.get(GPU_VARIABLE)
        if text is None or text.broken:
            return _NOT_PINNED
        node = making.draft.entry.env_nodes.get(GPU_VARIABLE, making.draft.fields["name"])
        value = workshop.real(text, making, for_workdir=True).strip()
        words = [word.strip() for word in value.split(",")] if value not in ("", "-1") else []
        if not all(word.isdecimal() and len(word) < 6 for word in words):
            self.session.fault(
                node, f'env.{GPU_VARIABLE}: expected GPU numbers such as 0,1, got "{value}"'
            )
            return _NOT_PINNED
        devices = tuple(sorted({int(word) for word in words}))
        pinned = GpuRequest(len(devices), devices) if devices else None
        if given is not None and not _agree(request, pinned):
            self.session.fault(
                given,
                f"resources contradict env.{GPU_VARIABLE}, which pins {value or 'no GPU'}",
                "leave one of them out",
            )
        return pinned

    def _check_gpus(self, request: GpuRequest | None, node: Node) -> None:
        if request is None or self.gpus is None or request.count < 0:
            return
        listed = ", ".join(map(str, self.gpus))
        if not self.gpus:
            self.session.fault(
                node,
                "a GPU is asked for, but the workflow's `resources: {gpus: []}` allows none",
                "write gpu: none, or list GPUs",
            )
        elif request.devices:
            for device in request.devices:
                if device not in self.gpus:
                    self.session.fault(
                        node, f"GPU {device} is not among the workflow's GPUs {listed}"
                    )
        elif request.count > len(self.gpus):
            self.session.fault(
                node, f"{request.count} GPUs are asked for, the workflow has {len(self.gpus)}"
            )


_NOT_PINNED = GpuRequest(-2)


def _request(value: Any) -> GpuRequest | None:
    if value == "auto":
        return GpuRequest(1)
    if isinstance(value, list):
        devices = tuple(sorted(int(each) for each in value if each is not None))
        return GpuRequest(len(devices), devices)
    if isinstance(value, (int, float)):
        return GpuRequest(1, (int(value),))
    return None


def _agree(request: GpuRequest | None, pinned: GpuRequest | None) -> bool:
    if request is None or pinned is None:
        return request is pinned
    if request.devices:
        return request.devices == pinned.devices
    return request.count in (-1, pinned.count)
