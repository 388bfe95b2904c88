#!/usr/bin/env python3
"""Make a tiny chat model with random weights, its tokenizer, and toy data about sums.

    python3 make_tiny_model.py [FOLDER]

Writes FOLDER/model (a Llama of some 30 000 weights, as `save_pretrained` would lay it out) and
FOLDER/data. Downloads nothing, needs nothing beyond the standard library, and writes the same
bytes each time, so whatever is built from it stays up to date.
"""

from __future__ import annotations

import json
import random
import struct
import sys
from collections.abc import Iterable
from math import prod
from pathlib import Path

SPECIAL = ("<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
WORDS = ("What", "Ġis", "Ġplus", "Ġequals", "Ask", "Ġabout", "Ġa", "Ġsum", "Ġquestion")
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>' }}{{ m['content'] }}{{ '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
HIDDEN, LAYERS, HEADS, KV_HEADS, INNER, LENGTH = 32, 2, 4, 2, 64, 256


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    vocabulary, merges = make_vocabulary()
    write_tokenizer(folder / "model", vocabulary, merges)
    write_weights(folder / "model", len(vocabulary))
    write_data(folder / "data")
    print(f"wrote {folder / 'model'} and {folder / 'data'}")


def make_vocabulary() -> tuple[dict[str, int], list[list[str]]]:
    """Printable ASCII in byte-level spelling (`Ġ` is a space), and a few words merged from it."""
    tokens = [*SPECIAL, "Ġ", "Ċ", *(chr(code) for code in range(33, 127))]
    merges: list[list[str]] = []
    for word in WORDS:
        left = word[0]
        for letter in word[1:]:
            if [left, letter] not in merges:
                merges.append([left, letter])
            left += letter
            if left not in tokens:
                tokens.append(left)
    return {token: number for number, token in enumerate(tokens)}, merges


def write_tokenizer(folder: Path, vocabulary: dict[str, int], merges: list[list[str]]) -> None:
    special = [
        {
            "id": vocabulary[token],
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in SPECIAL
    ]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": vocabulary,
                "merges": merges,
            },
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "<|end|>",
            "pad_token": "<pad>",
            "model_max_length": LENGTH,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def write_weights(folder: Path, vocabulary_size: int) -> None:
    """The weights in the safetensors format: a length, a JSON header, the numbers."""
    tokens = {
        "bos_token_id": SPECIAL.index("<s>"),
        "eos_token_id": SPECIAL.index("<|end|>"),
        "pad_token_id": SPECIAL.index("<pad>"),
    }
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "float32",
            "vocab_size": vocabulary_size,
            "hidden_size": HIDDEN,
            "intermediate_size": INNER,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "max_position_embeddings": LENGTH,
            "tie_word_embeddings": False,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            **tokens,
        },
    )
    write_json(folder / "generation_config.json", {"_from_model_config": True, **tokens})

    keys_and_values = HIDDEN // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (vocabulary_size, HIDDEN),
        "model.embed_tokens.weight": (vocabulary_size, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        for name, shape in {
            "input_layernorm": (HIDDEN,),
            "mlp.down_proj": (HIDDEN, INNER),
            "mlp.gate_proj": (INNER, HIDDEN),
            "mlp.up_proj": (INNER, HIDDEN),
            "post_attention_layernorm": (HIDDEN,),
            "self_attn.k_proj": (keys_and_values, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN),
            "self_attn.q_proj": (HIDDEN, HIDDEN),
            "self_attn.v_proj": (keys_and_values, HIDDEN),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape

    draw = random.Random(0)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, shape in sorted(shapes.items()):
        start = len(body)
        for _ in range(prod(shape)):
            # A norm starts at one, everything else near nothing, as transformers has it.
            body += struct.pack("<f", 1.0 if len(shape) == 1 else draw.gauss(0.0, 0.02))
        header[name] = {
            "dtype": "F32",
            "shape": list(shape),
            "data_offsets": [start, len(body)],
        }
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + body)


def write_data(folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", [chat(*pair) for pair in sums(200, seed=1)])
    write_jsonl(folder / "validation.jsonl", [chat(*pair) for pair in sums(16, seed=2)])
    write_jsonl(folder / "questions.jsonl", [chat(question) for question, _ in sums(4, seed=3)])
    write_jsonl(
        folder / "answers.jsonl",
        [{"request": question, "response": answer} for question, answer in sums(4, seed=4)],
    )


def sums(count: int, seed: int) -> Iterable[tuple[str, str]]:
    draw = random.Random(seed)
    for _ in range(count):
        a, b = draw.randint(0, 9), draw.randint(0, 9)
        yield f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."


def chat(question: str, answer: str = "") -> dict[str, object]:
    messages = [{"role": "user", "content": question}]
    if answer:
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages}


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
