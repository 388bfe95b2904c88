"""A metric of our own for `oumi evaluate`; oumi finds this file through extra_deps.txt."""

import json
import re
from pathlib import Path

from oumi.core.registry import register_evaluation_function
from oumi.core.types.conversation import Conversation


@register_evaluation_function("sums")
def sums(task_params, inference_engine, data):
    """The share of answers that are a sum at all, and of those that are a right one."""
    rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
    rows = rows[: task_params.num_samples]
    asked = [Conversation.from_dict({"messages": row["messages"][:1]}) for row in rows]
    answers = [done.messages[-1].content for done in inference_engine.infer(asked)]
    found = [re.match(r"(\d+) plus (\d+) is (\d+)\.$", answer) for answer in answers]
    return {
        "answered": sum(map(bool, found)) / len(rows),
        "right": sum(int(match[1]) + int(match[2]) == int(match[3]) for match in found if match)
        / len(rows),
    }
