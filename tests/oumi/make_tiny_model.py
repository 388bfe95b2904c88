# mypy: ignore-errors
# Run by the Python of oumi, whose packages are not those of the tests.
"""Create a tiny random-weight Llama chat model, its tokenizer and toy data sets.

Nothing is downloaded. The result is about 1 MB and lets every oumi verb run on a CPU in seconds.
Run by oumi's own Python: `python make_tiny_model.py FOLDER`.

Creates, under OUT_DIR:
    tiny-model/            HF model folder (config, safetensors, tokenizer, chat template)
    data/train.jsonl       64 two-turn conversations ({"messages": [...]})
    data/val.jsonl         16 conversations
    data/prompts.jsonl     4 user-only conversations (input of ``oumi infer``)
    data/judge_in.jsonl    4 rows {"request": ..., "response": ...} (``oumi judge dataset``)
    data/conversations.jsonl  4 two-turn conversations (``oumi judge conversations``)
    data/qa.jsonl          8 rows for the local lm-eval task in ``lm_tasks/``
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

SPECIAL = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>' }}{{ m['content'] }}{{ '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row) + "\n")


def conversations(n: int, seed: int) -> Iterator[tuple[str, str]]:
    rng = random.Random(seed)
    for _ in range(n):
        a, b = rng.randint(0, 20), rng.randint(0, 20)
        yield f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."


def make_data(out: Path) -> list[str]:
    texts: list[str] = []

    def chat(n: int, seed: int) -> Iterator[dict[str, Any]]:
        for q, a in conversations(n, seed):
            texts.extend([q, a])
            yield {
                "messages": [
                    {"role": "user", "content": q},
                    {"role": "assistant", "content": a},
                ]
            }

    data = out / "data"
    write_jsonl(data / "train.jsonl", chat(64, 1))
    write_jsonl(data / "val.jsonl", chat(16, 2))
    write_jsonl(data / "conversations.jsonl", chat(4, 3))
    write_jsonl(
        data / "prompts.jsonl",
        ({"messages": [{"role": "user", "content": q}]} for q, _ in conversations(4, 4)),
    )
    write_jsonl(
        data / "judge_in.jsonl",
        ({"request": q, "response": a} for q, a in conversations(4, 5)),
    )
    write_jsonl(
        data / "qa.jsonl",
        (
            {"question": q, "choices": [a, "I do not know."], "answer": 0}
            for q, a in conversations(8, 6)
        ),
    )
    return texts


def make_model(out: Path, texts: list[str]) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=512,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tok,
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        model_max_length=512,
    )
    fast.chat_template = CHAT_TEMPLATE

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            bos_token_id=fast.bos_token_id,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
    )
    path = out / "tiny-model"
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


if __name__ == "__main__":
    out = Path(sys.argv[1])
    make_model(out, make_data(out))
