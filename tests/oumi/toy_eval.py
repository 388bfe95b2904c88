# mypy: ignore-errors
# Run by the Python of oumi, whose packages are not those of the tests.
"""A custom evaluation function for eval_custom.yaml; loaded by oumi, not by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from oumi.core.registry import register_evaluation_function
from oumi.core.types.conversation import Conversation


@register_evaluation_function("toy_length")
def toy_length(task_params: Any, inference_engine: Any, config: Any) -> dict[str, float]:
    lines = Path("data/prompts.jsonl").read_text().splitlines()[: task_params.num_samples]
    rows = [Conversation.from_dict(json.loads(line)) for line in lines]
    lengths = [len(answer.messages[-1].content) for answer in inference_engine.infer(rows)]
    return {"mean_length": sum(lengths) / len(lengths), "num_samples": len(lengths)}
