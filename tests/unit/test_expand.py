"""vars, matrix, defaults, uses, patterns and texts, as the jobs that come out of them."""

# ruff: noqa: E501  (a job of a workflow is read best in one line)

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from oumi_flow.load import load
from oumi_flow.model import Job, Workflow

Load = Callable[..., Workflow]


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads the text of a workflow; keyword `files` holds more files."""
    monkeypatch.chdir(tmp_path)

    def load_text(
        text: str,
        files: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        **sets: str,
    ) -> Workflow:
        for name, content in {"w.yaml": text, **(files or {})}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(content), encoding="utf-8")
        return load("w.yaml", sets=sets, environ=environ or {}, snapshot=False)

    return load_text


def names(workflow: Workflow) -> list[str]:
    return [job.name for job in workflow.jobs]


def script(job: Job) -> str:
    return job.command.argv[-1]


# https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#example-expanding-configurations
GITHUB = """
name: w
jobs:
  - name: j-${{ matrix.fruit }}-${{ matrix.animal }}-${{ matrix.color }}-${{ matrix.shape }}-
    verb: shell
    run: x
    matrix:
      fruit: [apple, pear]
      animal: [cat, dog]
      include:
        - color: green
        - {color: pink, animal: cat}
        - {fruit: apple, shape: circle}
        - {fruit: banana}
        - {fruit: banana, animal: cat}
"""


def test_include_does_what_the_documentation_of_github_actions_shows(flow: Load) -> None:
    assert names(flow(GITHUB)) == [
        "j-apple-cat-pink-circle-",
        "j-apple-dog-green-circle-",
        "j-pear-cat-pink--",
        "j-pear-dog-green--",
        "j-banana----",
        "j-banana-cat---",
    ]


def test_exclude_takes_out_all_that_match_a_part(flow: Load) -> None:
    workflow = flow("""
        name: w
        jobs:
          - name: ${{ matrix.os }}-${{ matrix.v }}-${{ matrix.env }}
            verb: shell
            run: x
            matrix:
              os: [mac, win]
              v: [12, 14, 16]
              env: [staging, production]
              exclude:
                - {os: mac, v: 12, env: production}
                - {os: win, v: 16.0}
    """)
    assert len(workflow.jobs) == 12 - 1 - 2
    assert "mac-12-production" not in names(workflow)
    assert not any(name.startswith("win-16") for name in names(workflow))


def test_include_alone_makes_one_job_each(flow: Load) -> None:
    text = """
        name: w
        jobs:
          - {name: "j-${{ matrix.a }}", verb: shell, run: x, matrix: {include: [{a: 1}, {a: 2}]}}
    """
    assert names(flow(text)) == ["j-1", "j-2"]


def test_true_is_not_1_in_a_matrix(flow: Load) -> None:
    text = """
        name: w
        jobs:
          - name: j-${{ matrix.a }}
            verb: shell
            run: x
            matrix: {a: [1, true], exclude: [{a: true}]}
    """
    assert names(flow(text)) == ["j-1"]


def test_numbers_are_inserted_as_the_file_spells_them(flow: Load) -> None:
    text = """
        name: w
        jobs:
          - {name: "t-${{ matrix.lr }}", verb: shell, run: "x ${{ matrix.lr }}", matrix: {lr: [1e-4, 3.0e-4, 010, "1.50"]}}
    """
    workflow = flow(text)
    assert names(workflow) == ["t-1e-4", "t-3.0e-4", "t-010", "t-1.50"]


def test_a_matrix_may_hold_mappings(flow: Load) -> None:
    text = """
        name: w
        jobs:
          - name: ${{ matrix.model.name }}
            verb: shell
            run: echo "${{ matrix.model.size }}" .
            matrix: {model: [{name: small, size: 1}, {name: large, size: 7}]}
    """
    workflow = flow(text)
    assert [(job.name, script(job)) for job in workflow.jobs] == [
        ("small", 'echo "1" .'),
        ("large", 'echo "7" .'),
    ]


def test_inner_expressions_come_first(flow: Load) -> None:
    text = """
        name: w
        jobs:
          - {name: "t-${{ matrix.i }}", verb: shell, run: x, matrix: {i: [1, 2]}}
          - name: e-${{ matrix.i }}
            verb: shell
            run: x "${{ jobs.t-${{ matrix.i }}.output_dir }}"
            matrix: {i: [1, 2]}
    """
    workflow = flow(text)
    assert workflow.job("e-2").upstream == ("t-2",)
    assert script(workflow.job("e-2")) == 'x "outputs/w/t-2"'


def test_vars_may_use_vars_and_set_overrides_them(flow: Load) -> None:
    text = """
        name: w
        vars: {a: 1e-4, b: "x-${{ vars.a }}"}
        jobs: [{name: "j-${{ vars.b }}", verb: shell, run: x}]
    """
    assert names(flow(text)) == ["j-x-1e-4"]
    assert names(flow(text, a="7")) == ["j-x-7"]


def test_what_is_filled_in_is_typed_where_a_number_is_wanted(flow: Load) -> None:
    text = """
        name: w
        vars: {n: 3, t: 2h, g: auto}
        jobs:
          - name: a
            verb: shell
            run: x
            max_retries: ${{ vars.n }}
            timeout: ${{ vars.t }}
            always_run: ${YES:-true}
            resources: {gpu: "${{ vars.g }}"}
    """
    job = flow(text).jobs[0]
    assert job.retry.limit == 3
    assert job.timeout == 7200.0
    assert job.always_run is True
    assert job.gpu is not None
    assert job.gpu.count == 1


def test_defaults_hold_where_a_job_says_nothing_and_mappings_merge(flow: Load) -> None:
    text = """
        name: w
        defaults: {verb: shell, max_retries: 2, env: {A: 1, B: 2}, resources: {gpu: none}}
        jobs:
          - {name: a, run: x}
          - {name: b, run: x, max_retries: 0, env: {B: 3}, resources: {gpus: 2}}
    """
    a, b = flow(text).jobs
    assert (a.retry.limit, a.command.env) == (2, {"A": "1", "B": "2"})
    assert (b.retry.limit, b.command.env) == (0, {"A": "1", "B": "3"})
    assert a.gpu is None
    assert b.gpu is not None
    assert b.gpu.count == 2


def test_variables_come_from_the_shell_in_values_but_not_in_run(flow: Load) -> None:
    text = """
        name: w
        env: {A: "${HOME}/x", B: "${NOPE:-def}", C: "$$5 $x"}
        jobs: [{name: a, verb: shell, run: "echo ${HOME} $$ ${{ env.B }}"}]
    """
    job = flow(text, environ={"HOME": "/h"}).jobs[0]
    assert job.command.env == {"A": "/h/x", "B": "def", "C": "$5 $x"}
    assert script(job) == "echo ${HOME} $$ def"


def test_an_empty_variable_takes_the_default_but_is_set_without_one(flow: Load) -> None:
    text = """
        name: w
        jobs: [{name: a, verb: shell, run: x, env: {A: "${E:-d}", B: "${E}"}}]
    """
    assert flow(text, environ={"E": ""}).jobs[0].command.env == {"A": "d", "B": ""}


def test_env_of_a_job_may_extend_that_of_the_workflow(flow: Load) -> None:
    text = """
        name: w
        env: {P: base}
        jobs: [{name: a, verb: shell, run: x, env: {P: "more:${{ env.P }}", Q: "${{ env.P }}"}}]
    """
    assert flow(text).jobs[0].command.env == {"P": "more:base", "Q": "more:base"}


def test_a_pattern_is_every_job_that_matches_but_oneself(flow: Load) -> None:
    text = """
        name: w
        jobs:
          - {name: "t-${{ matrix.i }}", verb: shell, run: x, matrix: {i: [2, 1]}}
          - {name: other, verb: shell, run: x}
          - {name: t-all, verb: shell, run: x, depends_on: ["t-*"]}
    """
    assert flow(text).job("t-all").upstream == ("t-1", "t-2")


def test_jobs_come_in_topological_order_and_file_order_among_equals(flow: Load) -> None:
    text = """
        name: w
        jobs:
          - {name: c, verb: shell, run: x, depends_on: [b]}
          - {name: z, verb: shell, run: x}
          - {name: b, verb: shell, run: x}
    """
    assert names(flow(text)) == ["z", "b", "c"]


SUITE = """
name: suite
output_dir: elsewhere
timeout: 5s
resources: {max_parallel: 1}
vars: {model: none, n: 1}
env: {INNER: suite, BOTH: suite}
defaults: {max_retries: 7}
jobs:
  - {name: first, verb: shell, run: 'echo "${{ vars.model }}"', outputs: ["${{ job.output_dir }}/x"]}
  - {name: last, verb: shell, run: 'cat "${{ jobs.first.outputs.0 }}" ${{ vars.n }}'}
"""
OUTER = """
name: w
output_dir: out
timeout: 1h
env: {OUTER: w, BOTH: w}
jobs:
  - {name: prep, verb: shell, run: x}
  - {name: make, verb: shell, run: x}
  - name: n
    uses: suite.yaml
    vars: {model: "${{ jobs.make.output_dir }}/m"}
    depends_on: [prep]
  - {name: after, verb: shell, run: x, depends_on: [n]}
  - {name: one, verb: shell, run: x, inputs: ["${{ jobs.n/last.output_dir }}"]}
"""


def test_uses_takes_jobs_vars_env_and_defaults_of_the_other_file(flow: Load) -> None:
    workflow = flow(OUTER, {"suite.yaml": SUITE})
    first, last = workflow.job("n/first"), workflow.job("n/last")
    assert first.folder == "out/n/first"
    assert first.retry.limit == 7
    assert first.command.env == {"OUTER": "w", "INNER": "suite", "BOTH": "suite"}
    assert script(first) == 'echo "out/make/m"'
    assert script(last) == 'cat "out/n/first/x" 1'
    assert workflow.timeout == 3600.0
    assert workflow.max_parallel is None


def test_a_group_is_waited_for_as_a_whole_and_waits_as_a_whole(flow: Load) -> None:
    workflow = flow(OUTER, {"suite.yaml": SUITE})
    assert workflow.job("after").upstream == ("n/first", "n/last")
    assert workflow.job("n/first").upstream == ("make", "prep")
    assert workflow.job("n/last").upstream == ("n/first",)
    assert workflow.job("one").upstream == ("n/last",)


def test_a_group_may_have_a_matrix_and_groups_inside(flow: Load) -> None:
    top = """
        name: w
        jobs:
          - {name: "g-${{ matrix.i }}", uses: middle.yaml, matrix: {i: [1, 2]}, vars: {n: "${{ matrix.i }}"}}
          - {name: end, verb: shell, run: x, depends_on: ["g-1/in", "g-2/*"]}
    """
    middle = """
        name: m
        vars: {n: 0}
        jobs: [{name: in, uses: inner.yaml, vars: {k: "${{ vars.n }}"}}]
    """
    inner = """
        name: i
        vars: {k: 0}
        jobs: [{name: "j${{ vars.k }}", verb: shell, run: x}]
    """
    workflow = flow(top, {"middle.yaml": middle, "inner.yaml": inner})
    assert names(workflow) == ["g-1/in/j1", "g-2/in/j2", "end"]
    assert workflow.job("end").upstream == ("g-1/in/j1", "g-2/in/j2")


@pytest.mark.parametrize("own", ["", "env: {X: '1'}, "])
def test_defaults_are_not_for_groups(flow: Load, own: str) -> None:
    """Whatever else the group's entry says: its file has defaults of its own."""
    text = f"""
        name: w
        defaults: {{env: {{D: "1"}}, timeout: 5}}
        jobs: [{{name: g, {own}uses: u.yaml}}]
    """
    job = flow(text, {"u.yaml": "name: u\njobs: [{name: a, verb: shell, run: x}]\n"}).jobs[0]
    assert "D" not in job.command.env
    assert ("X" in job.command.env) is bool(own)


def test_args_may_be_a_mapping(flow: Load) -> None:
    text = """
        name: w
        jobs:
          - name: a
            verb: train
            config: c.yaml
            args: {training: {learning_rate: 1e-4, deep: [a, 2]}, data.x: "y z"}
    """
    job = flow(text, {"c.yaml": "training: {}\n"}).jobs[0]
    assert job.args == (
        "--training.learning_rate=1e-4",
        "--training.deep=[a, 2]",
        "--data.x=y z",
    )


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("plain words", "plain words"),
        ("a, b", "a, b"),
        ("https://x/y#z", "https://x/y#z"),
        ('"5"', '"5"'),
        ("5", "5"),
        ("yes", "yes"),
        ('"true"', '"true"'),
        ('""', '""'),
        ('"x #1"', '"x #1"'),
        ('"Be nice: always"', '"Be nice: always"'),
        ('"two\\nlines"', '"two\\nlines"'),
        ('"[a, b]"', '"[a, b]"'),
        ("'{% if x %}'", '"{% if x %}"'),
        ('["a, b", "c: d", e, "7", 7]', '["a, b", "c: d", e, "7", 7]'),
        ("${{ vars.n }}", "7"),
        ("${{ vars.many }}", "[1, 2]"),
        ("${{ vars.note }}", '"x #1"'),
    ],
)
def test_what_args_map_to_means_the_same_to_oumi(flow: Load, value: str, word: str) -> None:
    text = f"""
        name: w
        vars: {{n: 7, many: "[1, 2]", note: "x #1"}}
        jobs:
          - name: a
            verb: train
            config: c.yaml
            args:
              model:
                chat_template: {value}
    """
    job = flow(text, {"c.yaml": "training: {}\n"}).jobs[0]
    assert job.args == (f"--model.chat_template={word}",)


def test_ten_thousand_jobs_of_a_matrix_are_made(flow: Load) -> None:
    numbers = ", ".join(map(str, range(100)))
    text = f"""
        name: w
        jobs:
          - name: a-${{{{ matrix.i }}}}-${{{{ matrix.j }}}}
            verb: shell
            run: [echo, "${{{{ matrix.i }}}}"]
            matrix: {{i: [{numbers}], j: [{numbers}]}}
    """
    assert len(flow(text).jobs) == 10_000


def test_a_matrix_makes_the_jobs_that_one_would_write_out(flow: Load) -> None:
    """Whatever all jobs of an entry share, each is as if it stood there alone."""
    entry = """
      - name: j-{a}-{b}
        verb: shell
        run: run {a} "$HOME" {b} %s ${{{{ env.E }}}} > {a}/${{{{ job.name }}}}
        inputs: [in, "../{b}"]
        outputs: ["out/{a}%{b}", "${{{{ job.output_dir }}}}/{b}"]
        env: {{FIXED: "${{{{ vars.v }}}}", OWN: "{a}-${{{{ env.E }}}}", E: mine, HF_TOKEN: "${{HF_TOKEN}}{b}"}}
        depends_on: [first]
        priority: 2
        timeout: {b}m
        description: of {a}
      - name: after-{a}-{b}
        verb: shell
        run: [cat, "${{{{ jobs.j-{a}-{b}.outputs.0 }}}}", "${{{{ jobs.j-{a}-{b}.output_dir }}}}/x"]
    """
    top = """
    name: w
    vars: {v: 1e-4}
    env: {E: outer}
    jobs:
      - {name: first, verb: shell, run: "true", outputs: [in]}
    """
    axes = "matrix: {a: [1e-4, x], b: [0.5, 7]}"
    swept = textwrap.dedent(entry).format(a="${{ matrix.a }}", b="${{ matrix.b }}")
    swept = swept.replace("  verb: shell", f"  verb: shell\n  {axes}")
    written = "".join(
        textwrap.dedent(entry).format(a=a, b=b) for a in ("1e-4", "x") for b in ("0.5", "7")
    )
    made = [
        {
            job.name: dataclasses.replace(job, where="")
            for job in flow(
                textwrap.dedent(top) + textwrap.indent(jobs, "  "),
                {f"../{b}": "" for b in ("0.5", "7")},
                {"HF_TOKEN": "t"},
            ).jobs
        }
        for jobs in (swept, written)
    ]
    assert made[0] == made[1]
    assert len(made[0]) == 9
    # What a job's marker was written with: another one would make every user's jobs stale.
    assert made[0]["j-x-7"].fingerprint == "f25b94b8674651cbc199665fbfb3402d"
    assert made[0]["after-1e-4-0.5"].fingerprint == "172d41a65b9be4c30eef70654782d7b6"
