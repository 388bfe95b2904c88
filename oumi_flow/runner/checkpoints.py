"""Whether a checkpoint folder is whole: no part of it missing, no file of it cut off.

Knows what the trainer of transformers writes (`Trainer._save_checkpoint`, 5.16), alone, under FSDP
or under DeepSpeed; oumi's TRL trainers are made of it. Its `trainer_state.json` comes last, so a
kill leaves none; but a machine that went down may lose what was written before that, and deleting
an old checkpoint may stop anywhere. Without optimizer, schedule or random states the trainer goes
on and says nothing, to another end than an undisturbed training's.

Looks at heads and ends of files only, so it costs the same for any model; a byte changed in the
middle is not found. Changes nothing.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Collection, Iterator

from oumi_flow.typed import BinaryIO

_STATE = "trainer_state.json"
_MOST_BYTES = 256 * 1024 * 1024
_MOST_HEADER = 100 * 1024 * 1024  # of a safetensors file, by its format
_ZIP_END, _ZIP_END_SIZE = b"PK\x05\x06", 22  # without a comment; PyTorch writes none


def is_whole(checkpoint: str, since: float = 0.0) -> bool:
    """Whether a training can go on from this folder to the end it would have had.

    One that was finished before `since`, in unix seconds, is not taken. Blocks for some reads.
    """
    try:
        state = os.path.join(checkpoint, _STATE)
        return (
            os.path.isfile(state)
            and os.stat(state).st_mtime >= since
            and isinstance(_read_json(state), dict)
            and _has_all_parts(os.listdir(checkpoint))
            and all(map(_is_whole_file, _files_below(checkpoint)))
        )
    except (OSError, ValueError, RecursionError):
        return False


def _has_all_parts(names: Collection[str]) -> bool:
    if not any(name.startswith("rng_state") for name in names):
        return False
    if any(name.startswith("global_step") for name in names):
        return True  # DeepSpeed's folder of weights, optimizer and schedule
    return (
        any(map(_holds_weights, names))
        and any("optimizer" in name for name in names)
        and "scheduler.pt" in names
    )


def _holds_weights(name: str) -> bool:
    if name.startswith("pytorch_model_fsdp"):  # a folder, or a file
        return True
    return name.endswith((".safetensors", ".bin")) and name.startswith(
        ("model", "adapter_model", "pytorch_model")
    )


def _files_below(folder: str) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(parent, name)


def _is_whole_file(path: str) -> bool:
    """Whether a file ends where its format says that it does; True of formats not known here."""
    if path.endswith(".index.json"):
        return _has_all_shards(path)
    test = next((test for end, test in _TESTS.items() if path.endswith(end)), None)
    if test is None:
        return True
    if not os.path.isfile(path):
        return False  # and is not opened: a fifo would wait for a writer
    with open(path, "rb") as file:
        return test(file, os.fstat(file.fileno()).st_size)


def _has_all_shards(index: str) -> bool:
    content = _read_json(index)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict):
        return False
    folder = os.path.dirname(index)
    return all(os.path.isfile(os.path.join(folder, str(name))) for name in set(shards.values()))


def _is_whole_safetensors(file: BinaryIO, size: int) -> bool:
    """Length of a header, the header, the tensors; the header tells where the last one ends."""
    if size < 8:
        return False
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(size - 8, _MOST_HEADER):
        return False
    header = json.loads(file.read(length))
    try:
        ends = [header[name]["data_offsets"][1] for name in header if name != "__metadata__"]
        return isinstance(header, dict) and size == 8 + length + max(ends, default=0)
    except (LookupError, TypeError):
        return False


def _is_whole_archive(file: BinaryIO, size: int) -> bool:
    """What `torch.save` makes: a zip, whose directory is its end; formerly a pickle."""
    if file.read(2) != b"PK":
        file.seek(0)
        return file.read(1) == b"\x80"
    if size < _ZIP_END_SIZE:
        return False
    file.seek(size - _ZIP_END_SIZE)
    return file.read(len(_ZIP_END)) == _ZIP_END


def _is_closed_json(file: BinaryIO, size: int) -> bool:
    file.seek(max(size - 64, 0))
    return file.read().rstrip().endswith((b"}", b"]"))


_TESTS: dict[str, Callable[[BinaryIO, int], bool]] = {
    ".safetensors": _is_whole_safetensors,
    ".bin": _is_whole_archive,
    ".pt": _is_whole_archive,
    ".pth": _is_whole_archive,
    ".json": _is_closed_json,
}


def _read_json(path: str) -> object:
    with open(path, "rb") as file:
        return json.loads(file.read(_MOST_BYTES))
