"""Lines of events: what was told comes back, and nothing else is taken for an event."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from oumi_flow import events
from oumi_flow.board import fold
from oumi_flow.board.outlook import time_left
from oumi_flow.events import Event, from_line, to_line

TOLD: list[Event] = [
    events.RunStarted("r", "w", "w.yaml", "out", 7, "host", "me", 2, (0, 1), 2.5),
    events.Planned(1, 0, 0, (events.Row("a", "train", "run", ("why",), ("b",), 1.5, "out/a", -1),)),
    events.JobQueued("a", "a slot", ("why",)),
    events.JobStarted("a", 2, ("0",), "out/a/job.log", True, "resumes from checkpoint-8"),
    events.JobRetrying("a", 1, 2.5, "exit 1"),
    events.JobFinished("a", "done", 0, "", 1.5, 1, {"loss": 0.5, "name": "x"}),
    events.Note("mind the gap", "warning", "a"),
    events.RunFinished("done", {"done": 1}, 2.0, "", 1.5),
]


@pytest.mark.parametrize("event", TOLD, ids=lambda event: event.kind)
def test_what_was_told_comes_back(event: Event) -> None:
    event = replace(event, seq=3, at=1e9)
    assert from_line(to_line(event)) == event


@pytest.mark.parametrize("event", TOLD, ids=lambda event: event.kind)
def test_a_value_of_another_kind_is_no_event_or_does_no_harm(event: Event) -> None:
    data = json.loads(to_line(replace(event, seq=3, at=1e9)))
    wrong: list[Any] = [
        None,
        "x",
        -1,
        1.5,
        1e300,
        float("nan"),
        True,
        [],
        [None],
        [[1]],
        {},
        {"a": []},
    ]
    for key in data:
        for value in wrong:
            made = from_line(json.dumps({**data, key: value}))
            if made is not None:
                board = fold([*TOLD[:2], made])
                board.elapsed(2e9)
                board.gpu_seconds(2e9)
                time_left(board, 2e9)
        missing = {name: value for name, value in data.items() if name != key}
        from_line(json.dumps(missing))


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "5", '{"kind": []}', '{"kind": "news"}', "[" * 99999]
)
def test_other_lines_are_none(line: str) -> None:
    assert from_line(line) is None


def test_what_a_newer_version_adds_is_passed_over() -> None:
    line = to_line(TOLD[6]).replace("{", '{"more": [1], ', 1)
    assert from_line(line) == TOLD[6]
