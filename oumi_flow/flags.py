"""What can be written on the command line: commands and flags as rows of a table.

The one table serves the parser, `--help`, completion and the page of commands in the docs. Knows
nothing of what a command does, only where: `module:function` below `oumi_flow.commands`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing costs as much as the rest of this table
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PROG = "oumi-flow"
HIDDEN = "hidden"  # as `help=`: the flag is ours, `--help` and completion do not tell it


class Arg:
    """One flag or positional: what `argparse.add_argument` takes, kept as data."""

    def __init__(self, *names: str, complete: str = "", **settings: Any) -> None:
        self.names = names
        self.complete = complete  # "file" | "job" | "" for the shell's completion
        self.settings = settings


class Command:
    """One command: its words, its flags, and the function of `commands` that does it."""

    def __init__(
        self, summary: str, does: str, args: Sequence[Arg], examples: Sequence[str]
    ) -> None:
        self.summary = summary
        self.does = does  # "module:function" below oumi_flow.commands
        self.args = args
        self.examples = examples


def _whole(text: str) -> int:
    """A flag's whole number. Raises what argparse tells as a usage error."""
    from argparse import ArgumentTypeError

    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a whole number, got {text}") from None


FILE = Arg("file", metavar="FILE", complete="file", help="the workflow file")
JOBS = Arg(
    "jobs", metavar="JOB", nargs="*", complete="job", help="job names; `train-*` matches many"
)
CHDIR = Arg("-C", dest="chdir", metavar="DIR", help="go to DIR first; paths are relative to it")
SET = Arg(
    "--set",
    dest="sets",
    metavar="K=V",
    action="append",
    default=[],
    help="give a variable of `vars:` another value",
)
OUMI = Arg(
    "--oumi", metavar="CMD", help="the oumi to use (else $OUMI_FLOW_OUMI, beside Python, on PATH)"
)
AS_JSON = Arg("--json", action="store_true", help="JSON on stdout")
YES = Arg("-y", "--yes", action="store_true", help="do not ask")
VERIFY = Arg("--verify", action="store_true", help="trust no time stamp: read every file again")
TRIGGERS = Arg(
    "--rerun-triggers",
    metavar="WHAT",
    choices=["software"],
    help="`software`: another version of oumi makes a job stale",
)
FILE_OR_RUN = Arg(
    "target", metavar="FILE|RUN", nargs="?", complete="file", help="a workflow file or a run id"
)

TUI = Arg(
    "--tui",
    dest="tui",
    action="store_const",
    const=True,
    help="the full screen, or an error where there can be none",
)

SELECT = [
    Arg(
        "-f",
        "--force",
        metavar="JOB",
        action="append",
        default=[],
        help="run JOB even if it is up to date",
    ),
    Arg("-F", "--force-all", action="store_true", help="run every job asked for"),
    Arg(
        "--omit",
        metavar="JOB",
        action="append",
        default=[],
        help="leave JOB out, and what needs it",
    ),
]

COMMANDS: dict[str, Command] = {
    "run": Command(
        "run what is stale, in order, in parallel",
        "run:run",
        [
            FILE,
            JOBS,
            Arg(
                "-n",
                "--dry-run",
                action="store_true",
                help="say what would run, and why; write nothing",
            ),
            Arg(
                "--dag",
                nargs="?",
                const="dot",
                choices=["dot", "mermaid", "svg"],
                help="print the graph, coloured by state, and exit (the value only after `=`)",
            ),
            Arg("-j", "--max-parallel", metavar="N", type=_whole, help="at most N jobs at once"),
            Arg(
                "--gpus", metavar="0,1", help="the GPUs to use, by NVML's numbers; `none`: CPU only"
            ),
            *SELECT,
            Arg("--fail-fast", action="store_true", help="at the first failure stop everything"),
            SET,
            VERIFY,
            TRIGGERS,
            Arg(
                "--cache",
                dest="cache_dir",
                metavar="DIR",
                help="copy results to DIR and take them from there: shared by workflows and users",
            ),
            OUMI,
            TUI,
            Arg(
                "--no-tui",
                dest="tui",
                action="store_const",
                const=False,
                help="the live block instead, in this process",
            ),
            Arg("--detach", action="store_true", help="run in the background; prints the run id"),
            Arg("--json", action="store_true", help="events as JSON lines on stdout"),
            CHDIR,
            Arg("-v", "--verbose", action="count", default=0, help="every reason, every job"),
            Arg("-q", "--quiet", action="store_true", help="failures and the summary only"),
            Arg("--run-id", metavar="ID", help=HIDDEN),
        ],
        [
            "oumi-flow run workflow.yaml",
            "oumi-flow run workflow.yaml --dry-run",
            "oumi-flow run workflow.yaml eval-base -j2 --gpus 0,1",
            "oumi-flow run workflow.yaml --set base=configs/other.yaml",
        ],
    ),
    "validate": Command(
        "check a workflow, or tell everything that is wrong with it",
        "inspect:validate",
        [FILE, SET, OUMI, CHDIR],
        ["oumi-flow validate workflow.yaml"],
    ),
    "dag": Command(
        "draw the graph of jobs",
        "inspect:dag",
        [
            FILE,
            JOBS,
            Arg(
                "-o",
                "--output",
                metavar="PATH",
                help="f.svg, f.dot or f.mmd; without it DOT on stdout",
            ),
            Arg(
                "--all", action="store_true", help="draw each job of a sweep instead of folding it"
            ),
            *SELECT,
            SET,
            CHDIR,
        ],
        [
            "oumi-flow dag workflow.yaml -o dag.svg",
            "oumi-flow dag workflow.yaml | dot -Tpng > dag.png",
        ],
    ),
    "why": Command(
        "why a job runs or does not, and what would run after it",
        "inspect:why",
        [
            FILE,
            Arg("job", metavar="JOB", complete="job", help="the job"),
            SET,
            VERIFY,
            TRIGGERS,
            Arg("-v", "--verbose", action="count", default=0, help="with differences in full"),
            AS_JSON,
            CHDIR,
        ],
        ["oumi-flow why workflow.yaml train-1e-4"],
    ),
    "status": Command(
        "where runs and their jobs are",
        "look:status",
        [FILE_OR_RUN, AS_JSON, Arg("--running", action="store_true", help="only live runs"), CHDIR],
        ["oumi-flow status", "oumi-flow status workflow.yaml --json"],
    ),
    "monitor": Command(
        "watch a run",
        "look:monitor",
        [
            FILE_OR_RUN,
            TUI,
            Arg(
                "--no-tui",
                dest="tui",
                action="store_const",
                const=False,
                help="the live block, or plain lines",
            ),
            Arg("--read-only", action="store_true", help="refuse to stop or start anything"),
            Arg("--web", action="store_true", help="serve the screen to a browser, to look only"),
            Arg("--port", metavar="N", type=_whole, help="for --web; default: any free one"),
            Arg("--writable", action="store_true", help="for --web: may stop and start jobs too"),
            CHDIR,
        ],
        ["oumi-flow monitor", "oumi-flow monitor workflow.yaml", "oumi-flow monitor --web"],
    ),
    "logs": Command(
        "what a job printed",
        "look:logs",
        [
            FILE,
            Arg("job", metavar="JOB", complete="job", help="the job"),
            Arg("-f", "--follow", action="store_true", help="go on while it runs"),
            Arg("-n", "--lines", metavar="N", type=_whole, help="only the last N lines"),
            Arg("--attempt", metavar="K", type=_whole, help="attempt K of the newest run"),
            Arg("--errors", action="store_true", help="only lines that look like errors"),
            CHDIR,
        ],
        ["oumi-flow logs workflow.yaml train-1e-4 -f", "oumi-flow logs workflow.yaml eval -n 50"],
    ),
    "errors": Command(
        "all failures of the newest run, with their last lines",
        "look:errors",
        [
            FILE,
            Arg("-n", "--lines", metavar="N", type=_whole, default=15, help="lines a failure"),
            AS_JSON,
            CHDIR,
        ],
        ["oumi-flow errors workflow.yaml"],
    ),
    "cancel": Command(
        "stop a run, or some of its jobs; waits until they have ended",
        "control:cancel",
        [
            Arg("target", metavar="FILE|RUN", complete="file", help="a workflow file or a run id"),
            JOBS,
            CHDIR,
        ],
        ["oumi-flow cancel workflow.yaml", "oumi-flow cancel workflow.yaml train-3e-4"],
    ),
    "resume": Command(
        "run again what an earlier run was asked for, with its flags but for --force",
        "control:resume",
        [Arg("run", metavar="RUN", nargs="?", help="a run id; without it the newest run")],
        ["oumi-flow resume", "oumi-flow resume 20260103-112000-a1b2"],
    ),
    "metrics": Command(
        "jobs, their metrics, and the config keys that differ",
        "look:metrics",
        [
            FILE,
            JOBS,
            AS_JSON,
            Arg("--csv", action="store_true", help="CSV on stdout"),
            Arg("--diff", metavar="RUN", help="beside the numbers of an earlier run"),
            SET,
            CHDIR,
        ],
        ["oumi-flow metrics workflow.yaml", "oumi-flow metrics workflow.yaml 'train-*' --csv"],
    ),
    "report": Command(
        "write a run as one page of HTML, to keep, send or print",
        "reporting:report",
        [
            FILE_OR_RUN,
            Arg(
                "-o",
                "--output",
                metavar="PATH",
                help="where to (default: report.html, here; `-`: stdout)",
            ),
            CHDIR,
        ],
        [
            "oumi-flow report workflow.yaml",
            "oumi-flow report workflow.yaml -o sweep.html",
            "oumi-flow report 20260103-112000-a1b2 -o - > friday.html",
        ],
    ),
    "gpus": Command(
        "GPU tokens, who holds them, how busy they are", "gpus:gpus", [AS_JSON], ["oumi-flow gpus"]
    ),
    "touch": Command(
        "take what is there as made: write the markers, run nothing",
        "housekeeping:touch",
        [FILE, Arg("jobs", metavar="JOB", nargs="+", complete="job", help="job names"), SET, CHDIR],
        ["oumi-flow touch workflow.yaml train-1e-4"],
    ),
    "rename": Command(
        "move a job's folder and marker to its new name",
        "housekeeping:rename",
        [
            FILE,
            Arg("old", metavar="OLD", help="the name it had"),
            Arg("new", metavar="NEW", complete="job", help="its name in the file now"),
            SET,
            CHDIR,
        ],
        ["oumi-flow rename workflow.yaml train train-base"],
    ),
    "clean": Command(
        "remove what jobs made below the output folder; lists it and asks first",
        "housekeeping:clean",
        [
            FILE,
            JOBS,
            Arg(
                "--orphans",
                action="store_true",
                help="folders of jobs that are no longer in the file, of all or of JOB",
            ),
            Arg(
                "--cache",
                action="store_true",
                help="earlier results that the run cache below the output folder keeps",
            ),
            YES,
            SET,
            CHDIR,
        ],
        ["oumi-flow clean workflow.yaml", "oumi-flow clean workflow.yaml --orphans -y"],
    ),
    "init": Command(
        "write a new workflow",
        "start:init",
        [
            Arg(
                "--template", metavar="NAME", default="minimal", help="one of `oumi-flow templates`"
            ),
            Arg("folder", metavar="DIR", nargs="?", default=".", help="where to (default: here)"),
        ],
        ["oumi-flow init", "oumi-flow init --template hyperparameter_sweep sweep/"],
    ),
    "templates": Command(
        "list the templates of `init`", "start:list_templates", [], ["oumi-flow templates"]
    ),
    "schema": Command(
        "print the JSON Schema of workflow files",
        "start:schema",
        [],
        ["oumi-flow schema > workflow.schema.json"],
    ),
    "completion": Command(
        "print a script that completes commands, flags and job names",
        "start:completion",
        [Arg("shell", choices=["bash", "zsh", "fish"], help="your shell")],
        ['eval "$(oumi-flow completion bash)"', "oumi-flow completion fish | source"],
    ),
    "_jobs": Command("", "start:job_names", [FILE], []),
}

GROUPS = (
    ("Build", ("run", "validate", "dag", "why", "cancel", "resume")),
    ("Look", ("status", "monitor", "logs", "errors", "metrics", "report", "gpus")),
    ("Keep", ("touch", "rename", "clean")),
    ("Start", ("init", "templates", "schema", "completion")),
)


def overview() -> str:
    """The text of `oumi-flow --help`."""
    lines = [
        "Build tool for oumi pipelines: runs what is stale, in order, in parallel, and says why.",
        "",
        f"Usage: {PROG} COMMAND [ARGS]",
    ]
    for title, names in GROUPS:
        lines += ["", f"{title}:"]
        lines += [f"  {name:<11} {COMMANDS[name].summary}" for name in names]
    lines += [
        "",
        f"`{PROG} COMMAND --help` tells the flags, with examples.  --version prints the version.",
        "",
        "Examples:",
        f"  {PROG} init --template simple_train_eval",
        f"  {PROG} run workflow.yaml --dry-run",
        f"  {PROG} run workflow.yaml",
    ]
    return "\n".join(lines)
