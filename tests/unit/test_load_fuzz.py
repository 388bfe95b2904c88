"""Whatever a workflow file holds, it is loaded or refused in words."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_flow.errors import FlowError, Problem
from oumi_flow.load import load

GOOD = """\
name: w
description: "words"
output_dir: out
env: {A: "${HOME:-x}", HF_TOKEN: "${HF_TOKEN:-y}"}
vars: {base: train.yaml, n: 2}
defaults: {max_retries: "${{ vars.n }}", env: {B: 1}}
resources: {gpus: [0, 1], max_parallel: 4, allocation: fixed}
jobs:
  - {name: prep, verb: shell, run: "echo x", outputs: [o/a.txt]}
  - name: train-${{ matrix.lr }}
    verb: train
    config: ${{ vars.base }}
    matrix: {lr: [1e-4, 3e-4], include: [{lr: 1}], exclude: [{lr: 3e-4}]}
    depends_on: [prep, "pr*"]
    args: ["training.learning_rate=${{ matrix.lr }}"]
    inputs: ["${{ jobs.prep.outputs.0 }}"]
    resources: {gpu: auto}
    timeout: 2h
  - name: eval
    verb: evaluate
    config: eval.yaml
    args: {model: {model_name: "${{ jobs.train-1e-4.output_dir }}"}}
  - {name: nightly, uses: more.yaml, vars: {m: "${{ jobs.eval.output_dir }}"}}
"""
MORE = "name: m\nvars: {m: x}\njobs: [{name: s, verb: shell, run: 'cat ${{ vars.m }}'}]\n"
FILES = {
    "train.yaml": "model: {model_name: org/m}\ntraining: {output_dir: out/t}\n",
    "eval.yaml": "model: {model_name: org/m}\n",
    "more.yaml": MORE,
}
# Pieces that mean something to the reader of a workflow.
PIECES = [
    "${{", "}}", "${", "}", "$$", "jobs.", "matrix.", "vars.", ".output_dir", "[", "]", "{", "}",
    ": ", "- ", "\n", "  ", "'", '"', "&a", "*a", "<<: ", "!!x ", "|", ">", "#", "null", "true",
    "1e400", "-1", ".nan", "é", "\u202e", "\0", "\t", "*", "?", "../", "/", "name", "uses: w.yaml",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def project() -> object:
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, text in FILES.items():
            Path(name).write_text(text)
        yield
        os.chdir(here)


def attempt(data: bytes, name: str = "w.yaml") -> None:
    Path(name).write_bytes(data)
    problems: tuple[Problem, ...] = ()
    try:
        load("w.yaml", sets={}, environ={"HOME": "/h"}, snapshot=False)
    except FlowError as error:
        problems = error.problems or (Problem(""),)
    assert all(problem.message for problem in problems)


def test_the_file_that_is_mutated_is_a_good_one() -> None:
    Path("w.yaml").write_text(GOOD)
    assert len(load("w.yaml", sets={}, environ={}, snapshot=False).jobs) == 5


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    attempt(data)


@settings(max_examples=400, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_mutations_of_a_good_file(rng: random.Random, changes: int) -> None:
    text = GOOD
    for _ in range(changes):
        at = rng.randrange(len(text))
        end = min(len(text), at + rng.choice([0, 0, 1, 3, 12, 60]))
        piece = rng.choice([*PIECES, "", text[rng.randrange(len(text)) :][: rng.randrange(30)]])
        text = text[:at] + piece + text[end:] or "x"
    attempt(text.encode())


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(PIECES) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=250, deadline=None)
@given(st.data(), json_like)
def test_any_value_in_any_field(data: st.DataObject, value: object) -> None:
    import json

    from oumi_flow.load.schema import read_schema

    properties = read_schema()["properties"]
    job = read_schema()["$defs"]["job"]["properties"]
    fields = {"name": "w", "jobs": [{"name": "a", "verb": "shell", "run": "x"}]}
    name = data.draw(st.sampled_from([*properties, *(f"jobs.{key}" for key in job)]))
    if name.startswith("jobs."):
        fields["jobs"][0][name.removeprefix("jobs.")] = value  # type: ignore[index]
    else:
        fields[name] = value  # type: ignore[assignment]
    attempt(json.dumps(fields).encode())
