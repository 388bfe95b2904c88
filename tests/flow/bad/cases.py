"""Broken workflows, each with the place and a part of the message that its author shall see.

`▸` in a text marks the place; it is taken out before the file is written. A unit test hands every
case to `load`, a flow test to the command line.
"""

# ruff: noqa: E501  (a file's line broken over several is harder to read than a long one)

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MARK = "▸"
NAME = "workflow.yaml"

CONFIG_TRAIN = """\
model: {model_name: org/tiny}
data: {train: {datasets: [{dataset_name: text_sft_jsonl, dataset_path: data/train.jsonl}]}}
training: {output_dir: out/train, max_steps: 2}
"""
CONFIG_EVAL = """\
model: {model_name: org/tiny}
tasks: [{evaluation_backend: custom, task_name: toy}]
"""
CONFIG_INFER = """\
model: {model_name: org/tiny}
engine: NATIVE
"""
CONFIG_JUDGE = """\
judge_params: {prompt_template: "{request}"}
inference_config: {model: {model_name: org/tiny}}
"""
ALWAYS: dict[str, str | bytes] = {
    "train.yaml": CONFIG_TRAIN,
    "eval.yaml": CONFIG_EVAL,
    "infer.yaml": CONFIG_INFER,
    "judge.yaml": CONFIG_JUDGE,
    "data/train.jsonl": "{}\n",
    "data/more.jsonl": "{}\n",
}


@dataclass(frozen=True)
class Case:
    """`place` is `file:line:column`, or only the file where no line can be given."""

    name: str
    message: str
    text: str | bytes = ""
    hint: str = ""
    files: dict[str, str | bytes] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    place: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def expected_place(self) -> str:
        """From the mark, in whatever file it stands."""
        if self.place:
            return self.place
        for name, text in {NAME: self.text, **self.files}.items():
            if isinstance(text, str) and MARK in text:
                before = text[: text.index(MARK)].split("\n")
                return f"{name}:{len(before)}:{len(before[-1]) + 1}"
        raise AssertionError(f"{self.name}: no mark")

    def write(self, folder: Path) -> None:
        for name, text in {**ALWAYS, **self.files, NAME: self.text}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = text if isinstance(text, bytes) else text.replace(MARK, "").encode()
            path.write_bytes(data)


def shell(rest: str, top: str = "") -> str:
    """A workflow of one shell job with more lines in it."""
    lines = "".join(f"    {line}\n" for line in rest.splitlines())
    return f"name: w\n{top}jobs:\n  - name: a\n    verb: shell\n    run: echo\n{lines}"


def train(rest: str, top: str = "") -> str:
    """The same with a train job."""
    lines = "".join(f"    {line}\n" for line in rest.splitlines())
    return f"name: w\n{top}jobs:\n  - name: a\n    verb: train\n    config: train.yaml\n{lines}"


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 6)
)

YAML = [
    Case("empty file", "the file is empty", f"{MARK}"),
    Case("only comments", "the file is empty", f"{MARK}# nothing\n"),
    Case("a list", "expected a mapping with `name` and `jobs`, got a list", f"{MARK}- a\n"),
    Case("a word", 'expected a mapping with `name` and `jobs`, got "hello"', f"{MARK}hello\n"),
    Case("a tab", "cannot start any token", f"name: w\njobs:\n{MARK}\t- name: a\n", "a tab"),
    Case(
        "a colon too many", "mapping values are not allowed", f"name: w\ndescription: a{MARK}: b\n"
    ),
    Case("unclosed quote", "unexpected end of stream", f'name: {MARK}"w\njobs: []\n'),
    Case("unclosed list", "not YAML", f"name: w\njobs: [a, b\n{MARK}"),
    Case(
        "bare expression in braces",
        "not YAML",
        f"name: w\njobs:\n  - {{name: a, verb: shell, run: ${MARK}{{{{ vars.x }}}}}}\n",
        "quote text that holds ${ } inside [ ] or { }",
    ),
    Case(
        "duplicate key",
        'duplicate key "name": it stands in line 1',
        f"name: w\n{MARK}name: v\njobs: []\n",
    ),
    Case("duplicate key in a job", 'duplicate key "run"', shell(f"{MARK}run: ls")),
    Case(
        "python tag",
        "tags are not allowed, got !!python/object/apply:os.system",
        f"name: {MARK}!!python/object/apply:os.system [ls]\n",
    ),
    Case("standard tag", "tags are not allowed, got !!str", f"name: {MARK}!!str 5\n"),
    Case("own tag", "tags are not allowed, got !env", shell(f"description: {MARK}!env X")),
    Case("two documents", "expected one YAML document", shell("") + f"{MARK}---\nname: b\n"),
    Case("too deep", "nested too deeply", "a: " + "[" * 99 + f"{MARK}[" + "[" * 500),
    Case("billion laughs", "aliases stand for too much", LAUGHS, place=f"{NAME}:6:45"),
    Case("alias in itself", "stands inside what it names", f"a: &a [{MARK}*a]\n"),
    Case("unknown alias", "unknown alias *b", f"a: {MARK}*b\n"),
    Case("list as key", "got a list or mapping as a key", f"name: w\n? {MARK}[a]\n: b\n"),
    Case(
        "control character", "control characters are not allowed, got U+0007", f"name: w{MARK}\a\n"
    ),
    Case("NUL", "control characters are not allowed, got U+0000", f"name: {MARK}\0\n"),
    Case("not UTF-8", "not UTF-8", b"name: w\ndescription: caf\xe9\n", place=f"{NAME}:2:17"),
    Case("UTF-16", "not UTF-8", "name: w\n".encode("utf-16"), place=f"{NAME}:1:1"),
    Case("binary", "not UTF-8", b"\x89PNG\r\n\x1a\n\0\0", place=f"{NAME}:1:1"),
    Case("too large", "too large: expected at most 20.0 MB", b"# " + b"x" * 21_000_000, place=NAME),
]

SCHEMA = [
    Case("no jobs", 'a workflow: the key "jobs" is missing', f"{MARK}name: w\n"),
    Case(
        "empty jobs",
        "jobs: expected a list of jobs, got an empty list",
        f"name: w\njobs: {MARK}[]\n",
    ),
    Case(
        "jobs as a mapping",
        "jobs: expected a list of jobs, got a mapping",
        f"name: w\njobs:\n  {MARK}a: {{verb: shell}}\n",
    ),
    Case(
        "no name",
        'the key "name" is missing',
        f"{MARK}nam: w\njobs: [{{name: a, verb: shell, run: x}}]\n",
        'is "nam" a slip of it?',
    ),
    Case(
        "unknown key",
        'unknown key "descripton"',
        shell(f"{MARK}descripton: x"),
        'did you mean "description"?',
    ),
    Case(
        "unknown key at the top",
        'unknown key "outptu_dir"',
        shell("", f"{MARK}outptu_dir: x\n"),
        'did you mean "output_dir"?',
    ),
    Case(
        "unknown key in resources",
        'unknown key "gpu" in resources',
        shell("", f"resources: {{{MARK}gpu: [0]}}\n"),
        'did you mean "gpus"?',
    ),
    Case(
        "unknown key in defaults",
        'unknown key "max_retry" in defaults',
        shell("", f"defaults: {{{MARK}max_retry: 1}}\n"),
        'did you mean "max_retries"?',
    ),
    Case(
        "number as text",
        'max_retries: expected a whole number of at least 0, got "2" (text)',
        shell(f'max_retries: {MARK}"2"'),
        "leave out the quotes",
    ),
    Case(
        "bool as number",
        "max_retries: expected a whole number of at least 0, got true",
        shell(f"max_retries: {MARK}true"),
    ),
    Case(
        "float as whole number",
        "expected a whole number of at least 0, got 1.5",
        shell(f"max_retries: {MARK}1.5"),
    ),
    Case(
        "negative retries",
        "expected a whole number of at least 0, got -1",
        shell(f"max_retries: {MARK}-1"),
    ),
    Case(
        "number as name",
        "jobs[0].name: expected text, got 5",
        f"name: w\njobs: [{{name: {MARK}5, verb: shell, run: x}}]\n",
        'quote it: "5"',
    ),
    Case(
        "yes is no bool",
        'expected true or false, got "yes"',
        shell(f"always_run: {MARK}yes"),
        "write true or false",
    ),
    Case(
        "text as bool",
        'expected true or false, got "true" (text)',
        shell(f'always_run: {MARK}"true"'),
        "leave out the quotes",
    ),
    Case(
        "bad duration",
        'timeout: expected seconds, or a duration such as 90s, 30m, 2h or 1d, got "2 hours"',
        shell(f"timeout: {MARK}2 hours"),
    ),
    Case("endless duration", "timeout: expected seconds", shell(f"timeout: {MARK}.inf")),
    Case(
        "text for a list",
        'depends_on: expected a list of text, got "b"',
        shell(f"depends_on: {MARK}b"),
        "a list is written [b]",
    ),
    Case(
        "nothing for a list",
        "inputs: expected a list of text, got nothing",
        shell(f"inputs:{MARK}"),
    ),
    Case(
        "number in a list",
        "inputs[1]: expected text, got 7",
        shell(f"inputs: [a, {MARK}7]"),
        'quote it: "7"',
    ),
    Case(
        "allocation",
        'expected one of dynamic, fixed, load_balanced, got "dynamc"',
        shell("", f"resources: {{allocation: {MARK}dynamc}}\n"),
        'did you mean "dynamic"?',
    ),
    Case(
        "gpu word",
        'resources.gpu: expected a GPU number, a list of them, auto or none, got "autoo"',
        shell(f"resources: {{gpu: {MARK}autoo}}"),
        'did you mean "auto"?',
    ),
    Case(
        "gpu list of text",
        'resources.gpu[1]: expected a whole number, got "1"',
        shell(f'resources: {{gpu: [0, {MARK}"1"]}}'),
    ),
    Case(
        "gpu twice",
        "resources.gpus: 0 is named twice",
        shell("", f"resources: {{gpus: [0, {MARK}0]}}\n"),
    ),
    Case(
        "no parallel jobs",
        "max_parallel: expected a whole number of at least 1, got 0",
        shell("", f"resources: {{max_parallel: {MARK}0}}\n"),
    ),
    Case(
        "env of nothing",
        "env.X: expected text, a number, true or false, got nothing",
        shell(f"env: {{X: {MARK}}}"),
        'an empty text is written ""',
    ),
    Case(
        "env of a list",
        "env.X: expected text, a number, true or false, got a list",
        shell(f"env: {{X: {MARK}[1]}}"),
    ),
    Case(
        "env name",
        'env: expected a name of letters, digits and _, got the key "a-b"',
        shell(f"env: {{{MARK}a-b: 1}}"),
    ),
    Case(
        "matrix axis",
        "matrix.lr: expected a list of values, got 5",
        shell(f"matrix: {{lr: {MARK}5}}"),
    ),
    Case(
        "empty matrix axis",
        "matrix.lr: expected a list of values, got an empty list",
        shell(f"matrix: {{lr: {MARK}[]}}"),
    ),
    Case(
        "empty matrix",
        "matrix: expected a mapping, got an empty mapping",
        shell(f"matrix: {MARK}{{}}"),
    ),
    Case(
        "judge mode", "judge: expected one of dataset, conversations", shell(f"judge: {MARK}data")
    ),
    Case(
        "empty run",
        "run: expected a list of words, got an empty list",
        "name: w\njobs: [{name: a, verb: shell, run: " + MARK + "[]}]\n",
    ),
    Case(
        "remote kind",
        "kind: expected one of slurm, oumi-launch",
        shell("", f"resources: {{remote: [{{name: c, kind: {MARK}ssh}}]}}\n"),
    ),
    Case(
        "cache size",
        "cache.max_size: expected bytes or a size such as 500MB or 2TB",
        shell("", f"cache: {{max_size: {MARK}big}}\n"),
    ),
]

JOBS = [
    Case(
        "no verb", 'the key "verb" is missing', f"name: w\njobs:\n  - {MARK}name: a\n    run: x\n"
    ),
    Case(
        "unknown verb",
        'unknown verb "trian"',
        f"name: w\njobs:\n  - {{name: a, verb: {MARK}trian, config: train.yaml}}\n",
        'did you mean "train"?',
    ),
    Case(
        "no config",
        'verb train needs the key "config"',
        f"name: w\njobs:\n  - {{name: a, verb: {MARK}train}}\n",
    ),
    Case(
        "no run",
        'verb shell needs the key "run"',
        f"name: w\njobs:\n  - {{name: a, verb: {MARK}shell}}\n",
    ),
    Case("run of train", "`run` has no effect on verb train", train(f"{MARK}run: ls")),
    Case(
        "args of shell",
        "`args` has no effect on verb shell",
        shell(f"{MARK}args: [a=b]"),
        "put them into `run`",
    ),
    Case("judge of train", "`judge` has no effect on verb train", train(f"{MARK}judge: dataset")),
    Case(
        "config is not there",
        "nope.yaml does not exist",
        f"name: w\njobs:\n  - {{name: a, verb: train, config: {MARK}nope.yaml}}\n",
    ),
    Case(
        "config nearly there",
        "does not exist",
        f"name: w\njobs:\n  - {{name: a, verb: train, config: {MARK}trian.yaml}}\n",
        'did you mean "train.yaml"?',
    ),
    Case(
        "config is a folder",
        "is a folder",
        f"name: w\njobs:\n  - {{name: a, verb: train, config: {MARK}data}}\n",
    ),
    Case(
        "config is no YAML",
        "not valid YAML",
        train(""),
        files={"train.yaml": f"model: {{a: b\ntraining{MARK}: x\n"},
    ),
    Case(
        "config with a key twice",
        'duplicate key "model"',
        train(""),
        files={"train.yaml": f"model: {{}}\n{MARK}model: {{}}\n"},
    ),
    Case(
        "config is a reference",
        "config: expected a file that is there before anything runs",
        f'name: w\njobs:\n  - {{name: a, verb: shell, run: x}}\n  - {{name: b, verb: train, config: {MARK}"${{{{ jobs.a.output_dir }}}}/c.yaml"}}\n',
    ),
    Case(
        "uri not fetched",
        "is not fetched: cannot be checked offline",
        f'name: w\njobs:\n  - {{name: a, verb: train, config: {MARK}"oumi://configs/x.yaml"}}\n',
        "oumi fetch oumi://configs/x.yaml",
    ),
    Case(
        "infer without input",
        "verb infer needs input_path",
        f"name: w\njobs:\n  - {{name: a, verb: infer, config: {MARK}infer.yaml}}\n",
        "set it in infer.yaml or in `args`",
    ),
    Case(
        "judge without input",
        "verb judge needs --input",
        f"name: w\njobs:\n  - {{name: a, verb: judge, config: {MARK}judge.yaml}}\n",
    ),
    Case(
        "arg without value",
        "has no value",
        train(f"args: [{MARK}training.max_steps]"),
        "write key=value",
    ),
    Case(
        "arg of a list",
        "no entry 3 in the list",
        train(f'args: [{MARK}"data.train.datasets[3].dataset_path=x"]'),
    ),
    Case(
        "missing input",
        'inputs: "data/nope.jsonl" does not exist and no job makes it',
        shell(f"inputs: [{MARK}data/nope.jsonl]"),
    ),
    Case(
        "missing glob",
        'inputs: "data/*.csv" matches nothing',
        shell(f'inputs: [{MARK}"data/*.csv"]'),
    ),
    Case(
        "input near",
        "does not exist",
        shell(f"inputs: [{MARK}data/trian.jsonl]"),
        'did you mean "data/train.jsonl"?',
    ),
    Case(
        "missing dataset",
        '"data/none.jsonl" does not exist and no job makes it',
        train(""),
        files={
            "train.yaml": f"data: {{train: {{datasets: [{{{MARK}dataset_path: data/none.jsonl}}]}}}}\n"
        },
    ),
    Case(
        "missing dataset in args",
        "does not exist and no job makes it",
        train(f'args: [{MARK}"data.train.datasets[0].dataset_path=./x"]'),
    ),
    Case(
        "own output as input",
        '"a.txt" is an output of the job itself',
        shell(f"outputs: [a.txt]\ninputs: [{MARK}a.txt]"),
    ),
    Case(
        "gpu and gpus",
        "`gpu` and `gpus` say the same",
        shell(f"resources: {{gpu: 0, gpus: {MARK}2}}"),
    ),
    Case(
        "gpu not listed",
        "GPU 5 is not among the workflow's GPUs 0, 1",
        shell(f"resources: {{gpu: {MARK}5}}", "resources: {gpus: [0, 1]}\n"),
    ),
    Case(
        "too many gpus",
        "3 GPUs are asked for, the workflow has 2",
        shell(f"resources: {{gpus: {MARK}3}}", "resources: {gpus: [0, 1]}\n"),
    ),
    Case(
        "gpu where none is",
        "allows none",
        shell(f"resources: {{gpu: {MARK}auto}}", "resources: {gpus: []}\n"),
        "gpu: none",
    ),
    Case(
        "gpu contradiction",
        "resources contradict env.CUDA_VISIBLE_DEVICES",
        shell(f'resources: {{gpu: {MARK}0}}\nenv: {{CUDA_VISIBLE_DEVICES: "1"}}'),
    ),
    Case(
        "gpu pin",
        "expected GPU numbers such as 0,1",
        shell(f"env: {{CUDA_VISIBLE_DEVICES: {MARK}all}}"),
    ),
    Case(
        "unknown remote",
        'no remote "clutser"',
        shell(f"resources: {{remote: {MARK}clutser}}", "resources: {remote: [{name: cluster}]}\n"),
        'did you mean "cluster"?',
    ),
    Case(
        "remote refused",
        "`mode: local` refuses remotes",
        shell(f"resources: {{remote: {MARK}c}}", "resources: {mode: local, remote: [{name: c}]}\n"),
    ),
    Case("mode remote", "needs a remote", shell("", f"resources: {{mode: {MARK}remote}}\n")),
]

JOBS += [
    Case(
        "config made by a job",
        'is made by job "a", but a config is read before',
        "name: w\njobs:\n  - {name: a, verb: shell, run: x, outputs: [train.yaml2]}\n"
        f"  - {{name: b, verb: train, config: {MARK}train.yaml2}}\n",
        files={"train.yaml2": CONFIG_TRAIN},
    ),
    Case(
        "output over the workflow",
        "is a file that the workflow itself is read from",
        shell(f"outputs: [{MARK}workflow.yaml]"),
    ),
    Case(
        "output around the workflow",
        "holds workflow.yaml, which the workflow itself is read from",
        "name: w\noutput_dir: /tmp/elsewhere\n"
        f'jobs: [{{name: a, verb: shell, run: x, outputs: [{MARK}"."]}}]\n',
    ),
    Case(
        "output of ours",
        "is a file of oumi-flow's own",
        shell(f'outputs: [{MARK}"${{{{ job.output_dir }}}}/.oumi-flow/done.json"]'),
    ),
    Case(
        "output log",
        "is a file of oumi-flow's own",
        shell(f'outputs: [{MARK}"${{{{ job.output_dir }}}}/job.log"]'),
    ),
    Case(
        "output pattern",
        "is a pattern: expected a file or a folder",
        shell(f'outputs: [{MARK}"*.txt"]'),
    ),
    Case(
        "output of nothing",
        "outputs: expected a path, got an empty text",
        shell(f'outputs: [{MARK}"${{NOTHING:-}}"]'),
    ),
    Case(
        "input of nothing",
        "inputs: expected a path, got an empty text",
        shell(f'inputs: [{MARK}"${{NOTHING:-}}"]'),
    ),
    Case(
        "workdir is not there",
        'workdir: "dat" is no folder',
        shell(f"workdir: {MARK}dat"),
        'did you mean "data"?',
    ),
    Case("NUL by escape", "got U+0000", shell(f'description: {MARK}"a\\0b"')),
    Case(
        "output_dir pattern",
        "the signs *, ? and [ are not allowed",
        shell("", f"output_dir: {MARK}o[1]\n"),
    ),
    Case(
        "output_dir is a file",
        "train.yaml is a file, expected a folder",
        shell("", f"output_dir: {MARK}train.yaml\n"),
    ),
    Case(
        "home",
        "does not exist and no job makes it",
        shell(f"inputs: [{MARK}~/x]"),
        "write ${HOME} for ~",
    ),
]

TWO = "  - {name: b, verb: shell, run: x}\n"

NAMES = [
    Case(
        "slash",
        "the character / is not allowed",
        f"name: w\njobs:\n  - {{name: {MARK}a/b, verb: shell, run: x}}\n",
    ),
    Case(
        "dot first",
        'cannot begin with "."',
        f"name: w\njobs:\n  - {{name: {MARK}.oumi-flow, verb: shell, run: x}}\n",
    ),
    Case(
        "dash first",
        'cannot begin with "-"',
        f"name: w\njobs:\n  - {{name: {MARK}-rf, verb: shell, run: x}}\n",
    ),
    Case(
        "parent",
        'cannot begin with "."',
        f"name: w\njobs:\n  - {{name: {MARK}.., verb: shell, run: x}}\n",
    ),
    Case(
        "shell signs",
        "the character ; is not allowed",
        f'name: w\njobs:\n  - {{name: {MARK}"a;rm", verb: shell, run: x}}\n',
    ),
    Case(
        "newline",
        "the character U+000A is not allowed",
        f'name: w\njobs:\n  - {{name: {MARK}"a\\nb", verb: shell, run: x}}\n',
    ),
    Case(
        "bidi",
        "the character U+202E is not allowed",
        f'name: w\njobs:\n  - {{name: {MARK}"a\\u202Eb", verb: shell, run: x}}\n',
    ),
    Case(
        "zero width",
        "the character U+200B is not allowed",
        f'name: w\njobs:\n  - {{name: {MARK}"a\\u200Bb", verb: shell, run: x}}\n',
    ),
    Case(
        "long",
        "expected at most 200 bytes, got 202",
        f"name: w\njobs:\n  - {{name: {MARK}{'é' * 101}, verb: shell, run: x}}\n",
    ),
    Case(
        "blank",
        "got an empty one",
        f'name: w\njobs:\n  - {{name: {MARK}" ", verb: shell, run: x}}\n',
    ),
    Case(
        "twice",
        'a second job named "a"',
        shell("") + f"  - {{name: {MARK}a, verb: shell, run: x}}\n",
    ),
    Case(
        "twice by matrix",
        'a second job named "t"',
        f"name: w\njobs:\n  - {{name: {MARK}t, verb: shell, run: x, matrix: {{lr: [1, 2]}}}}\n",
        "put ${{ matrix.lr }} into the name",
    ),
    Case(
        "case",
        '"a" and "A" differ only in case',
        shell("") + f"  - {{name: {MARK}A, verb: shell, run: x}}\n",
    ),
    Case(
        "unicode form",
        "differ only in case or Unicode form",
        f"name: w\njobs:\n  - {{name: caf\u00e9, verb: shell, run: x}}\n  - {{name: {MARK}cafe\u0301, verb: shell, run: x}}\n",
    ),
    Case(
        "workflow name",
        "the character / is not allowed",
        f"name: {MARK}a/b\njobs: [{{name: a, verb: shell, run: x}}]\n",
    ),
    Case(
        "unknown upstream",
        'no job "tain"',
        shell(f"depends_on: [{MARK}tain]") + "  - {name: train, verb: shell, run: x}\n",
        'did you mean "train"?',
    ),
    Case(
        "sweep as upstream",
        'no job "t"',
        shell(f"depends_on: [{MARK}t]")
        + '  - {name: "t-${{ matrix.i }}", verb: shell, run: x, matrix: {i: [1, 2]}}\n',
        '"t-*" is all 2 of t',
    ),
    Case("empty pattern", 'no job matches "x-*"', shell(f'depends_on: [{MARK}"x-*"]')),
    Case(
        "itself",
        '"a" depends on itself',
        f"name: w\njobs:\n  - {{name: {MARK}a, verb: shell, run: x, depends_on: [a]}}\n",
    ),
    Case(
        "circle",
        "jobs depend on each other in a circle: a → c → b → a",
        f"name: w\njobs:\n  - {{name: {MARK}a, verb: shell, run: x, depends_on: [c]}}\n  - {{name: b, verb: shell, run: x, depends_on: [a]}}\n"
        "  - {name: c, verb: shell, run: x, depends_on: [b]}\n",
    ),
    Case(
        "circle by reference",
        "a → b → a",
        f'name: w\njobs:\n  - {{name: {MARK}a, verb: shell, run: x, env: {{X: "${{{{ jobs.b.output_dir }}}}"}}}}\n'
        "  - {name: b, verb: shell, run: x, depends_on: [a]}\n",
    ),
    Case(
        "circle by files",
        "a → b → a (a reads what b makes; b reads what a makes)",
        f"name: w\njobs:\n  - {{name: {MARK}a, verb: shell, run: x, inputs: [b.txt], outputs: [a.txt]}}\n"
        "  - {name: b, verb: shell, run: x, inputs: [a.txt], outputs: [b.txt]}\n",
    ),
    Case(
        "same output",
        'the output x.txt of job "b" is the output of job "a" too',
        shell("outputs: [x.txt]")
        + f"  - {{name: b, verb: shell, run: x, outputs: [{MARK}./x.txt]}}\n",
    ),
    Case(
        "output inside",
        'the output d/x.txt of job "b" lies inside the output d of job "a"',
        shell("outputs: [d]") + f"  - {{name: b, verb: shell, run: x, outputs: [{MARK}d/x.txt]}}\n",
    ),
    Case(
        "output in a folder",
        'lies inside the folder outputs/w/a of job "a"',
        shell("") + f"  - {{name: b, verb: shell, run: x, outputs: [{MARK}outputs/w/a/x.txt]}}\n",
    ),
    Case("output over all", "holds the output_dir", shell(f"outputs: [{MARK}outputs]")),
    Case(
        "same place",
        'is the place of job "a" too',
        train("args: [training.output_dir=m]")
        + f"  - {{name: {MARK}b, verb: train, config: train.yaml, args: [training.output_dir=m]}}\n",
    ),
    Case(
        "several name the place",
        "the place that the configs of several jobs name: t-1, t-2",
        'name: w\njobs:\n  - {name: "t-${{ matrix.i }}", verb: train, config: train.yaml, matrix: {i: [1, 2]}}\n'
        "  - {name: e, verb: evaluate, config: eval2.yaml}\n",
        "say which: ${{ jobs.t-1.output_dir }}",
        files={"eval2.yaml": f"model: {{{MARK}model_name: out/train}}\n"},
    ),
]

TEXTS = [
    Case(
        "unknown var",
        'no var "bas"',
        shell(f'description: x\nenv: {{X: "{MARK}${{{{ vars.bas }}}}"}}', "vars: {base: 1}\n"),
        'did you mean "base"?',
    ),
    Case(
        "unknown --set",
        '--set bas: no var "bas"',
        shell("", "vars: {base: 1}\n"),
        'did you mean "base"?',
        sets={"bas": "2"},
        place=NAME,
    ),
    Case(
        "var of itself",
        "vars.a is made of itself",
        shell(
            'env: {X: "${{ vars.a }}"}',
            f'vars: {{a: {MARK}"${{{{ vars.b }}}}", b: "${{{{ vars.a }}}}"}}\n',
        ),
    ),
    Case(
        "unknown matrix key",
        'no matrix key "r"',
        shell(f'matrix: {{lr: [1]}}\nenv: {{X: "{MARK}${{{{ matrix.r }}}}"}}'),
        'did you mean "lr"?',
    ),
    Case(
        "matrix outside",
        "matrix is only known inside a job",
        shell("", f'env: {{X: "{MARK}${{{{ matrix.lr }}}}"}}\n'),
    ),
    Case(
        "unknown env",
        'no "Y" in `env`',
        shell(f'env: {{X: "{MARK}${{{{ env.Y }}}}"}}'),
        "the shell's variable is ${Y}",
    ),
    Case(
        "unknown kind",
        "cannot read `${{ github.sha }}`",
        shell(f'env: {{X: "{MARK}${{{{ github.sha }}}}"}}'),
    ),
    Case(
        "bare word",
        "cannot read `${{ base }}`",
        shell(f'env: {{X: "{MARK}${{{{ base }}}}"}}', "vars: {base: 1}\n"),
        "is it vars.base?",
    ),
    Case("unclosed expression", "`${{` without `}}`", shell(f"env: {{X: 'a {MARK}${{{{ vars.x'}}")),
    Case(
        "strange variable",
        "cannot read `${a b}`",
        shell(f"env: {{X: '{MARK}${{a b}}'}}"),
        "write $$ for a $",
    ),
    Case(
        "unset variable",
        "${NOT_SET_HERE} is not set in the shell",
        shell(f"description: x\ninputs: ['data/{MARK}${{NOT_SET_HERE}}']"),
    ),
    Case(
        "unset secret",
        "${MY_API_KEY} is not set in the shell",
        shell(f"env: {{K: '{MARK}${{MY_API_KEY}}'}}"),
    ),
    Case(
        "secret in args",
        "${HF_TOKEN} is a secret",
        train(f"args: ['model.model_name={MARK}${{HF_TOKEN}}']"),
        "put it into `env`",
        environ={"HF_TOKEN": "abcdefgh"},
    ),
    Case(
        "secret by env",
        "env.HF_TOKEN holds a secret",
        shell(f"env: {{HF_TOKEN: '${{HF_TOKEN}}'}}\ninputs: ['{MARK}${{{{ env.HF_TOKEN }}}}']"),
        environ={"HF_TOKEN": "abcdefgh"},
    ),
    Case(
        "listed secret",
        "${LOGIN} is a secret",
        shell(f"inputs: ['{MARK}${{LOGIN}}']", "secrets: [LOGIN]\n"),
        environ={"LOGIN": "abcdefgh"},
    ),
    Case(
        "unknown job",
        'no job "trian"',
        shell(f'env: {{X: "{MARK}${{{{ jobs.trian.output_dir }}}}"}}')
        + "  - {name: train, verb: shell, run: x}\n",
        'did you mean "train"?',
    ),
    Case(
        "unknown job in run",
        'no job "b"',
        f"name: w\njobs:\n  - name: a\n    verb: shell\n    run: |\n      echo\n      cat {MARK}${{{{ jobs.b.log }}}}\n",
    ),
    Case(
        "unknown property",
        "expected jobs.NAME.output_dir, jobs.NAME.log",
        shell(f'env: {{X: "{MARK}${{{{ jobs.b.outputdir }}}}"}}') + TWO,
        'did you mean "output_dir"?',
    ),
    Case(
        "no such output",
        'job "b" has no output 1: it lists 0',
        shell(f'env: {{X: "{MARK}${{{{ jobs.b.outputs.1 }}}}"}}') + TWO,
    ),
    Case(
        "reference in a name",
        "name: expected text that is known before anything runs",
        f'name: w\njobs:\n  - {{name: {MARK}"x-${{{{ jobs.b.output_dir }}}}", verb: shell, run: x}}\n'
        + TWO,
    ),
    Case(
        "filled in number",
        'max_retries: expected a whole number of at least 0, got "many"',
        shell(f'max_retries: {MARK}"${{{{ vars.n }}}}"', "vars: {n: many}\n"),
    ),
    Case(
        "filled in gpu",
        "resources.gpu: expected a GPU number",
        shell(f'resources: {{gpu: {MARK}"${{{{ vars.n }}}}"}}', "vars: {n: some}\n"),
    ),
    Case(
        "exclude key",
        'no key "lrr" in the matrix',
        shell(f"matrix: {{lr: [1], exclude: [{{{MARK}lrr: 1}}]}}"),
        'did you mean "lr"?',
    ),
    Case(
        "all excluded",
        "matrix: no combination is left",
        shell(f"matrix: {MARK}{{lr: [1], exclude: [{{lr: 1}}]}}"),
    ),
    Case(
        "huge matrix",
        "expected at most 100000 combinations",
        shell(
            f"matrix: {MARK}"
            "{" + ", ".join(f"k{n}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]" for n in range(9)) + "}"
        ),
    ),
]

USES = [
    Case(
        "no such file",
        "nope.yaml: no such workflow file",
        f"name: w\njobs:\n  - {{name: n, uses: {MARK}nope.yaml}}\n",
    ),
    Case(
        "uses itself",
        "`uses` goes round in a circle: workflow.yaml → workflow.yaml",
        f"name: w\njobs:\n  - {{name: n, uses: {MARK}workflow.yaml}}\n",
    ),
    Case(
        "uses in a circle",
        "workflow.yaml → b.yaml → workflow.yaml",
        "name: w\njobs:\n  - {name: n, uses: b.yaml}\n",
        files={"b.yaml": f"name: b\njobs:\n  - {{name: m, uses: {MARK}workflow.yaml}}\n"},
    ),
    Case(
        "error inside",
        'unknown key "vreb"',
        "name: w\njobs:\n  - {name: n, uses: b.yaml}\n",
        'did you mean "verb"?',
        files={"b.yaml": f"name: b\njobs:\n  - {{name: m, {MARK}vreb: shell}}\n"},
    ),
    Case(
        "not YAML inside",
        "not YAML",
        "name: w\njobs:\n  - {name: n, uses: b.yaml}\n",
        files={"b.yaml": f"name: b{MARK}: c\n"},
    ),
    Case(
        "unknown var handed down",
        'b.yaml has no var "modle"',
        f"name: w\njobs:\n  - {{name: n, uses: b.yaml, vars: {{{MARK}modle: x}}}}\n",
        'did you mean "model"?',
        files={"b.yaml": "name: b\nvars: {model: y}\njobs:\n  - {name: m, verb: shell, run: x}\n"},
    ),
    Case(
        "field of a group",
        "`timeout` has no effect on a job that `uses` a file",
        f"name: w\njobs:\n  - {{name: n, uses: b.yaml, {MARK}timeout: 5}}\n",
        files={"b.yaml": "name: b\njobs:\n  - {name: m, verb: shell, run: x}\n"},
    ),
    Case(
        "reference to a group",
        '"n" is a group of jobs',
        f'name: w\njobs:\n  - {{name: n, uses: b.yaml}}\n  - {{name: a, verb: shell, run: x, env: {{X: "{MARK}${{{{ jobs.n.output_dir }}}}"}}}}\n',
        files={"b.yaml": "name: b\njobs:\n  - {name: m, verb: shell, run: x}\n"},
    ),
]

CASES = [*YAML, *SCHEMA, *JOBS, *NAMES, *TEXTS, *USES]
