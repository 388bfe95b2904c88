"""Which checkpoint folders a training may go on from. The files are built by their formats."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from oumi_flow.runner.checkpoints import is_whole


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", b"\x80\x02.")
        file.writestr("archive/data/0", bytes(300))
    return content.getvalue()


def safetensors(rows: int = 3) -> bytes:
    tensors = {
        f"w{n}": {"dtype": "F32", "shape": [16], "data_offsets": [64 * n, 64 * (n + 1)]}
        for n in range(rows)
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(64 * rows)


STATE = b'{"global_step": 20, "log_history": []}\n'
PLAIN = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": safetensors(),
    "optimizer.pt": archive(),
    "rng_state.pth": archive(),
    "scheduler.pt": archive(),
    "tokenizer.json": b'{"version": "1.0"}\n',
    "trainer_state.json": STATE,
    "training_args.bin": archive(),
}
SHARDS = {"w0": "model-00001-of-00002.safetensors", "w1": "model-00002-of-00002.safetensors"}
SHARDED = {
    **{name: data for name, data in PLAIN.items() if name != "model.safetensors"},
    "model.safetensors.index.json": json.dumps({"weight_map": SHARDS}).encode(),
    **dict.fromkeys(SHARDS.values(), safetensors(1)),
}
ADAPTER = {
    **{name: data for name, data in PLAIN.items() if name != "model.safetensors"},
    "adapter_model.safetensors": safetensors(),
    "adapter_config.json": b"{}",
}
FSDP = {
    **{name: PLAIN[name] for name in ("scheduler.pt", "trainer_state.json")},
    "pytorch_model_fsdp_0/__0_0.distcp": b"tensors",
    "pytorch_model_fsdp_0/.metadata": b"\x80\x04.",
    "optimizer_0/__0_0.distcp": b"tensors",
    "optimizer_0/.metadata": b"\x80\x04.",
    "rng_state_0.pth": archive(),
    "rng_state_1.pth": archive(),
}
DEEPSPEED = {
    "global_step20/mp_rank_00_model_states.pt": archive(),
    "global_step20/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt": archive(),
    "latest": b"global_step20",
    "rng_state_0.pth": archive(),
    "trainer_state.json": STATE,
}
LAYOUTS = {
    "plain": PLAIN,
    "sharded": SHARDED,
    "adapter": ADAPTER,
    "fsdp": FSDP,
    "deepspeed": DEEPSPEED,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint-20"


def lay(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_checkpoint_is_taken(folder: Path, layout: str) -> None:
    lay(folder, LAYOUTS[layout])
    assert is_whole(str(folder))


def test_an_optimizer_saved_the_old_way_is_taken(folder: Path) -> None:
    lay(folder, {**PLAIN, "optimizer.pt": b"\x80\x02}q\x00."})
    assert is_whole(str(folder))


@pytest.mark.parametrize("name", [name for name in PLAIN if not name.startswith("tok")])
@pytest.mark.parametrize("size", [0, 1, 0.5, -1])
def test_a_file_cut_off_anywhere_is_seen(folder: Path, name: str, size: float) -> None:
    data = PLAIN[name].rstrip()
    end = int(len(data) * size) if size == 0.5 else int(size)
    lay(folder, {**PLAIN, name: data[:end]})
    assert not is_whole(str(folder))


@pytest.mark.parametrize("name", [*PLAIN, *SHARDS.values()])
def test_zeros_in_place_of_a_file_are_seen(folder: Path, name: str) -> None:
    """What a file system may leave of young files when the machine goes down."""
    layout = SHARDED if name in SHARDED else PLAIN
    lay(folder, {**layout, name: bytes(len(layout[name]))})
    assert not is_whole(str(folder))


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        *(
            ("plain", name)
            for name in (
                "model.safetensors",
                "optimizer.pt",
                "rng_state.pth",
                "scheduler.pt",
                "trainer_state.json",
            )
        ),
        *(("sharded", name) for name in SHARDS.values()),
        ("adapter", "adapter_model.safetensors"),
        ("deepspeed", "rng_state_0.pth"),
    ],
)
def test_a_part_that_is_missing_is_seen(folder: Path, layout: str, name: str) -> None:
    """As of a checkpoint that was being deleted; the trainer goes on without most of them."""
    lay(folder, LAYOUTS[layout])
    (folder / name).unlink()
    assert not is_whole(str(folder))


@pytest.mark.parametrize(
    "header",
    [b"[]", b"7", b'{"w": 3}', b'{"w": {}}', b'{"w": {"data_offsets": []}}', b'{"w": nul', b""],
)
def test_a_header_that_is_none_is_seen(folder: Path, header: bytes) -> None:
    lay(folder, {**PLAIN, "model.safetensors": struct.pack("<Q", len(header)) + header})
    assert not is_whole(str(folder))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("nowhere", path)])
@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.json"])
def test_what_is_no_file_holds_nothing_up(
    folder: Path, name: str, make: Callable[[str], None]
) -> None:
    lay(folder, PLAIN)
    (folder / name).unlink()
    make(str(folder / name))
    assert not is_whole(str(folder))


def test_an_older_one_than_asked_for_is_not_taken(folder: Path) -> None:
    lay(folder, PLAIN)
    os.utime(folder / "trainer_state.json", (1000.0, 1000.0))
    assert is_whole(str(folder), 999.0)
    assert not is_whole(str(folder), 1001.0)
