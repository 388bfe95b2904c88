"""Warm jobs: forks of a process that has imported ahead, with all that a started process has.

The oumi here is a stand-in of the same shape (standin/), so that the machinery runs with real
processes and signals in no time. Its `infer` runs the Python text that is the job's input.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.lost import assert_all_let_go, end_all, processes_of
from tests.flow.conftest import Space, wait_for

STANDIN = Path(__file__).with_name("standin")


class Standin:
    """A space with a stand-in for oumi, and jobs that run Python under it."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.lib = space.root.parent / "lib"
        shutil.copytree(STANDIN, self.lib, ignore=shutil.ignore_patterns("__pycache__"))
        script = space.root.parent / "bin" / "oumi"
        script.parent.mkdir()
        script.write_text(
            f"#!{sys.executable}\nimport sys\nfrom oumi.cli.main import run\n"
            'if __name__ == "__main__":\n    sys.exit(run())\n'
        )
        script.chmod(0o755)
        space.env |= {
            "OUMI_FLOW_OUMI": str(script),
            "PYTHONPATH": str(self.lib),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "default",
        }
        self.log = self.lib / "oumi/cli/imports.log"

    def job(self, name: str, text: str, **fields: Any) -> dict[str, Any]:
        """An infer job that runs `text`, and then leaves a result."""
        self.space.write(f"{name}.py", text + "\nopen(place, 'w').write('{}')\n")
        self.space.write(f"{name}.yaml", f"engine: NATIVE\ninput_path: {name}.py\n")
        return {"name": name, "verb": "infer", "config": f"{name}.yaml", **fields}

    def workflow(self, *jobs: dict[str, Any], **fields: Any) -> None:
        self.space.workflow(*jobs, **{"warm": True, **fields})

    def importers(self) -> list[int]:
        """The processes that have imported oumi's command line since the last call."""
        pids = [int(word) for word in self.log.read_text().split()] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return pids


@pytest.fixture
def standin(space: Space) -> Iterator[Standin]:
    yield Standin(space)
    end_all(space)


# What a process can find out about itself, but for what differs between any two processes.
LOOK = """
import gc, json, locale, os, resource, signal, subprocess, sys, threading
main = sys.modules["__main__"]
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
found = {
    "pid": os.getpid(),
    "env": {k: v for k, v in os.environ.items() if k != "OUMI_FLOW_ATTEMPT_TOKEN"},
    "getenv": subprocess.check_output(["sh", "-c", "echo $SET_BY_IMPORT $MINE"], text=True),
    "cwd": os.getcwd(), "argv": sys.argv, "path": sys.path, "orig_argv": sys.orig_argv,
    "flags": str(sys.flags), "prefix": sys.prefix, "executable": sys.executable,
    "main": [main.__name__, main.__file__, main.__dict__.get("__package__"), str(main.__spec__)],
    "signals": {n: str(signal.getsignal(n)) for n in sorted(signal.valid_signals())},
    "masked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "wakeup": signal.set_wakeup_fd(-1),
    "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "files": sorted(os.readlink(f"/proc/self/fd/{f}") for f in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{f}") and int(f) < 3),
    "open": [os.readlink(f"/proc/self/fd/{f}") for f in os.listdir("/proc/self/fd")
             if int(f) > 2 and os.path.exists(f"/proc/self/fd/{f}")],
    "streams": [str(sys.stdin.encoding), sys.stdout.encoding, sys.stdout.write_through,
                sys.stdout.errors, sys.stderr.errors, sys.stdout.isatty(), SAID is sys.stdout],
    "umask": os.umask(0o22), "nice": os.nice(0), "threads": len(threading.enumerate()),
    "limits": [resource.getrlimit(n) for n in range(16)],
    "gc": [gc.isenabled(), gc.get_threshold()],
    "name": open("/proc/self/comm").read(), "terminal": stat[4],
    "ours": sorted(name for name in sys.modules if name.startswith("oumi_flow")),
    "hf": HF_HOME, "locale": locale.getlocale(),
}
json.dump(found, open(os.path.dirname(place) + "/found.json", "w"), indent=1, sort_keys=True)
"""


def test_a_warm_job_finds_all_that_a_cold_one_does(standin: Standin) -> None:
    space = standin.space
    space.env |= {"TOKEN_OF_MINE": "hunter2hunter2", "HF_HOME": "/some/where"}
    env = {"MINE": "mine", "SECRET_TOKEN": "${TOKEN_OF_MINE}"}
    job = standin.job("look", LOOK, env=env, workdir="sub")
    for name in ("look.py", "look.yaml"):
        space.write(f"sub/{name}", space.read(name))
    found = {}
    for temper in ("cold", "warm"):
        space.workflow({**job, "warm": temper == "warm"}, name=temper, output_dir=f"{temper}-out")
        done = space.run()
        assert done.code == 0, done.text + space.read(f"{temper}-out/look/job.log")
        text = space.read(f"{temper}-out/look/found.json").replace(f"{temper}-out", "out")
        found[temper] = json.loads(re.sub(r"pipe:\[\d+\]", "pipe", text))
        importers = standin.importers()
        assert (found[temper].pop("pid") in importers) == (temper == "cold")
    for key, value in found["cold"].items():
        assert found["warm"][key] == value, key
    assert found["warm"]["env"]["SECRET_TOKEN"] == "hunter2hunter2"
    assert found["warm"]["getenv"] == "yes mine\n"


ENDS = {
    "error": "def deep():\n    raise ValueError('so it is')\ndeep()",
    "one": "import sys\nsys.exit(1)",
    "two": "import sys\nprint('usage', file=sys.stderr)\nsys.exit(2)",
    "words": "import sys\nsys.exit('so it is')",
    "interrupted": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass",
    "terminated": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nwhile True: pass",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "hook": "import sys\nsys.excepthook = lambda *seen: print('hook', seen[0])\n1 / 0",
    "threads": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()",
    "unclosed": "kept = open('kept.txt', 'w')\nkept.write('all of it')",
    "streams": "import os, subprocess, sys\nprint('a')\nos.write(1, b'b\\n')\n"
    "print('c', file=sys.stderr)\nsubprocess.run(['echo', 'd'])\nprint(sys.stdin.read(), 'e')",
}


def test_a_warm_job_ends_as_a_cold_one_does(standin: Standin) -> None:
    """Exit code or signal, and every byte of the log behind its first line."""
    space = standin.space
    jobs = [standin.job(name, text) for name, text in ENDS.items()]
    seen: dict[str, dict[str, tuple[dict[str, Any], str]]] = {}
    for temper in ("cold", "warm"):
        out = f"{temper}-out"
        standin.workflow(*jobs, name=temper, output_dir=out, warm=temper == "warm")
        process = space.start("run", "workflow.yaml", "--no-tui", "-j", "2")
        process.communicate(timeout=120)
        assert process.returncode == 1
        seen[temper] = {
            name: (
                {
                    "done": space.exists(f"{out}/{name}/.oumi-flow/done.json"),
                    **space.end_of(name, out),
                },
                space.read(f"{out}/{name}/job.log").partition("\n")[2].replace(out, "out"),
            )
            for name in ENDS
        }
        assert space.read("kept.txt") == "all of it"
        (space.root / "kept.txt").unlink()
        assert len(standin.importers()) == (1 if temper == "warm" else len(ENDS))
    for name in ENDS:
        (cold, cold_log), (warm, warm_log) = seen["cold"][name], seen["warm"][name]
        assert warm["done"] is cold["done"] is ("code" not in cold), name
        for key in ("code", "signal", "error", "cold"):
            assert warm.get(key) == cold.get(key), name
        assert warm_log == cold_log, name


def test_siblings_draw_different_numbers(standin: Standin) -> None:
    text = "import random, torch\nprint(torch.default_generator.state, random.random())"
    standin.workflow(*(standin.job(name, text) for name in "abc"))
    assert standin.space.run().code == 0
    drawn = [standin.space.read(f"out/{name}/job.log").splitlines()[1] for name in "abc"]
    assert len(set(drawn)) == 3
    assert all(int(line.split()[0]) > 1 for line in drawn)


def test_what_the_imports_have_read_must_be_the_same(standin: Standin) -> None:
    """Else it starts as a program, says why, and has what it asked for."""
    space = standin.space
    text = "import os\nprint(HF_HOME, os.environ.get('LR'))"
    jobs = [
        standin.job("first", text, env={"HF_HOME": "/one", "LR": "1"}),
        standin.job("same", text, env={"HF_HOME": "/one", "LR": "2"}),
        standin.job("other", text, env={"HF_HOME": "/two", "LR": "1"}),
        standin.job("early", text, env={"HF_HOME": "/one", "OMP_NUM_THREADS": "3"}),
    ]
    standin.workflow(*jobs)
    done = space.run()
    assert done.code == 0
    assert len(standin.importers()) == 3
    assert "`warm`: other started cold: HF_HOME: read while importing" in done.text
    assert "`warm`: early started cold: OMP_NUM_THREADS: read while importing" in done.text
    said = [
        space.read(f"out/{name}/job.log").splitlines()[1] for name in ("first", "same", "other")
    ]
    assert said == ["/one 1", "/one 2", "/two 1"]


def test_each_job_loads_the_modules_that_its_user_names(standin: Standin) -> None:
    space = standin.space
    text = "from oumi.core.registry.registry import REGISTRY\nREGISTRY.look_up()"
    jobs = [standin.job(name, text) for name in "abc"]
    for job in jobs[:2]:
        name = job["name"]
        job["env"] = {"OUMI_EXTRA_DEPS_FILE": f"{name}.txt"}
        space.write(f"{name}.txt", f"of_{name}.py\n")
        space.write(f"of_{name}.py", f"print('of {name}')\n")
    standin.workflow(*jobs)
    assert space.run().code == 0
    assert len(standin.importers()) == 1
    said = [line for name in "abc" for line in space.read(f"out/{name}/job.log").splitlines()]
    assert [line for line in said if line.startswith("of ")] == ["of a", "of b"]


def test_what_cannot_be_forked_says_so_and_starts_cold(standin: Standin) -> None:
    space = standin.space
    job = standin.job("a", "print(1)")
    space.write("vllm.yaml", "engine: VLLM\ninput_path: a.py\n")
    other = {**job, "name": "b", "config": "vllm.yaml"}
    standin.workflow(job, other, space.job("c"))
    done = space.run()
    assert done.code == 0
    assert "`warm`: b starts cold: engine: VLLM starts processes of its own" in done.text
    assert "`warm`: c starts cold: shell cannot be forked" in done.text
    assert len(standin.importers()) == 2

    main = standin.lib / "oumi/cli/main.py"
    text = main.read_text()
    bad = {
        "leaves threads at work: Thread-1": "import threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        "ValueError: no": "if __import__('os').getenv('OUMI_FLOW_JOB') is None:\n"
        "    raise ValueError('no')\n",
    }
    for why, more in bad.items():
        main.write_text(text + more)
        standin.workflow(job)
        done = space.run("--force", "a")
        assert done.code == 0, done.text
        assert why in done.text


def test_an_oumi_that_is_no_script_starts_cold(standin: Standin) -> None:
    standin.space.env["OUMI_FLOW_OUMI"] = f"{sys.executable} {standin.space.env['OUMI_FLOW_OUMI']}"
    standin.workflow(standin.job("a", "print(1)"))
    done = standin.space.run()
    assert done.code == 0
    assert "jobs start cold" in done.text


def server_of(standin: Standin) -> int:
    """The pid of the warm server, once it has begun to import."""
    wait_for(lambda: standin.log.exists() and standin.log.read_text() != "", "imports began")
    return int(standin.log.read_text().split()[0])


def test_a_server_killed_while_it_imports_costs_no_job(standin: Standin) -> None:
    (standin.lib / "oumi/cli/slow").touch()
    standin.workflow(*(standin.job(name, "print(1)") for name in "ab"))
    process = standin.space.start("run", "workflow.yaml", "--no-tui")
    server = server_of(standin)
    os.kill(server, signal.SIGKILL)
    (standin.lib / "oumi/cli/slow").unlink()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert "started cold: the process to fork it from was killed" in out + err
    assert len(standin.importers()) == 3


WAIT = "import os, time\nopen('pid', 'w').write(f'{os.getpid()}\\n')\n"
WAIT += "while not os.path.exists('go'): time.sleep(0.01)\nprint(1)"


def pid_in(space: Space, name: str = "pid") -> int:
    path = space.root / name
    wait_for(lambda: path.exists() and path.read_text().endswith("\n"), name)
    return int(path.read_text())


def test_a_server_killed_while_jobs_run_costs_no_job(standin: Standin) -> None:
    space = standin.space
    standin.workflow(standin.job("a", WAIT), standin.job("b", "print(2)", depends_on=["a"]))
    process = space.start("run", "workflow.yaml", "--no-tui")
    pid_in(space)
    os.kill(server_of(standin), signal.SIGKILL)
    space.write("go", "")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert "b started cold: the process to fork it from was killed" in out + err
    assert processes_of(space) == []


def test_a_runner_killed_while_modules_are_imported_leaves_nothing(standin: Standin) -> None:
    (standin.lib / "oumi/cli/slow").touch()
    standin.workflow(standin.job("a", "print(1)"))
    process = standin.space.start("run", "workflow.yaml", "--no-tui")
    server_of(standin)
    process.kill()
    process.communicate()
    wait_for(lambda: processes_of(standin.space) == [], "the server left")
    (standin.lib / "oumi/cli/slow").unlink()
    assert standin.space.run().code == 0


def test_a_warm_job_of_a_killed_runner_is_taken_over(standin: Standin) -> None:
    space = standin.space
    standin.workflow(standin.job("a", WAIT))
    process = space.start("run", "workflow.yaml", "--no-tui")
    pid = pid_in(space)
    process.kill()
    process.communicate()
    wait_for(lambda: len(processes_of(space)) == 2, "job and supervisor are alone")
    again = space.start("run", "workflow.yaml", "--no-tui")
    runs = space.root / "out/.oumi-flow/runs"
    wait_for(
        lambda: any('"adopted":true' in f.read_text() for f in runs.glob("*/events.jsonl")),
        "adoption",
    )
    space.write("go", "")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, out + err
    assert pid_in(space) == pid  # it was not started again
    assert processes_of(space) == []


def test_a_warm_job_without_supervisor_is_found_and_stopped(standin: Standin) -> None:
    """Its output goes to a pipe, as it has a secret: its token is all that it is known by."""
    space = standin.space
    space.env["MY_TOKEN"] = "hunter2hunter2"
    text = "import signal\nsignal.signal(signal.SIGPIPE, signal.SIG_IGN)\n" + WAIT
    standin.workflow(standin.job("a", text, env={"API_TOKEN": "${MY_TOKEN}"}))
    process = space.start("run", "workflow.yaml", "--no-tui")
    pid = pid_in(space)
    handle = json.loads(space.read("out/a/.oumi-flow/attempt.json"))["handle"]
    os.kill(handle["pid"], signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert pid not in processes_of(space)
    assert processes_of(space) == []


def test_a_timeout_ends_the_whole_tree_of_a_warm_job(standin: Standin) -> None:
    space = standin.space
    text = "import os, subprocess, time\n"
    text += (
        "subprocess.Popen(['setsid', 'sh', '-c', 'trap \"\" TERM; echo $$ > child; sleep 600'])\n"
    )
    text += "time.sleep(600)"
    for limit in (3, 15, 55):  # on a slow machine it may strike before both are up
        standin.workflow(standin.job("a", text, timeout=limit, grace=0.2))
        done = space.run()
        assert done.code == 1
        assert f"timed out after {limit}s" in done.text
        if space.exists("child"):
            break
    assert pid_in(space, "child") not in processes_of(space)
    assert processes_of(space) == []
    assert_all_let_go(space)


def test_a_run_stopped_while_modules_are_imported_ends_at_once(standin: Standin) -> None:
    (standin.lib / "oumi/cli/slow").touch()
    standin.workflow(standin.job("a", "print(1)"))
    process = standin.space.start("run", "workflow.yaml", "--no-tui")
    server_of(standin)
    wait_for(lambda: standin.space.exists("out/a/.oumi-flow/attempt.json"), "a is held")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert processes_of(standin.space) == []


def test_secrets_of_a_warm_job_show_nowhere(standin: Standin) -> None:
    space = standin.space
    space.env["MY_TOKEN"] = "hunter2hunter2"
    text = "import os\nprint(os.environ['API_TOKEN'])\n" + WAIT
    standin.workflow(standin.job("a", text, env={"API_TOKEN": "${MY_TOKEN}"}))
    process = space.start("run", "workflow.yaml", "--no-tui")
    pid = pid_in(space)
    for one in (pid, server_of(standin)):
        assert b"hunter2" not in Path(f"/proc/{one}/cmdline").read_bytes()
        assert b"API_TOKEN" not in Path(f"/proc/{one}/environ").read_bytes()
    space.write("go", "")
    process.communicate(timeout=120)
    assert "****" in space.read("out/a/job.log")
    assert "hunter2" not in space.read("out/a/job.log")
