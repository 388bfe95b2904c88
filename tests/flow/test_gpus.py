"""GPU tokens as a user meets them, with a file that stands in for NVML."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flow.conftest import Space, wait_for

GB = 1 << 30
GO = "while [ ! -e go ]; do sleep 0.02; done"
SEEN = 'echo "$CUDA_VISIBLE_DEVICES" > ${{ job.name }}.gpu'


def have(space: Space, count: int, **more: Any) -> None:
    """Let the host have that many GPUs."""
    gpus = [
        {"index": i, "uuid": f"GPU-{i}{i}", "name": "Toy", "memory_total": 80 * GB} | more
        for i in range(count)
    ]
    space.env["OUMI_FLOW_FAKE_GPUS"] = str(space.write("gpus.json", json.dumps(gpus)))


def seen(space: Space, job: str) -> str:
    return space.read(f"{job}.gpu").strip()


def test_every_way_to_ask_and_what_the_job_sees(space: Space) -> None:
    have(space, 4)
    space.workflow(
        space.job("number", SEEN, resources={"gpu": 2}),
        space.job("auto", SEEN, resources={"gpu": "auto"}),
        space.job("named", SEEN, resources={"gpu": [1, 3]}),
        space.job("any-two", SEEN, resources={"gpus": 2}),
        space.job("none", SEEN, resources={"gpu": "none"}),
        space.job("silent", SEEN),
        space.job("pinned", SEEN, env={"CUDA_VISIBLE_DEVICES": "3"}),
    )
    result = space.run()
    assert result.code == 0, result.text
    assert seen(space, "number") == "2"
    assert seen(space, "auto") in "0123"
    assert seen(space, "named") == "1,3"
    assert re.fullmatch(r"\d,\d", seen(space, "any-two"))
    assert seen(space, "none") == ""
    assert seen(space, "silent") == ""
    assert seen(space, "pinned") == "3"
    assert re.search(r"running +named \[GPU:1,3\]", result.out)


def test_several_gpus_get_a_free_port_one_gets_none(space: Space) -> None:
    have(space, 2)
    note = "echo ${MASTER_PORT:-none} $CUDA_DEVICE_ORDER > ${{ job.name }}.port"
    space.workflow(
        space.job("one", note, resources={"gpus": 1}), space.job("two", note, resources={"gpus": 2})
    )
    assert space.run(MASTER_PORT="").code == 0
    assert space.read("one.port").split() == ["none", "PCI_BUS_ID"]
    port, _ = space.read("two.port").split()
    assert 1024 <= int(port) <= 65535


@pytest.mark.parametrize("allocation", ["dynamic", "fixed", "load_balanced"])
def test_no_two_jobs_are_on_one_gpu_at_once(space: Space, allocation: str) -> None:
    have(space, 2)
    # A folder a GPU: making it fails where somebody else is on that GPU.
    body = (
        "for gpu in ${CUDA_VISIBLE_DEVICES//,/ }; do mkdir busy-$gpu; done; sleep 0.05; "
        "for gpu in ${CUDA_VISIBLE_DEVICES//,/ }; do rmdir busy-$gpu; done"
    )
    space.workflow(
        *(space.job(f"one-{i}", body, resources={"gpu": "auto"}) for i in range(5)),
        space.job("both", body, resources={"gpus": 2}),
        space.job("zero", body, resources={"gpu": 0}),
        resources={"allocation": allocation, "max_parallel": 8},
    )
    result = space.run()
    assert result.code == 0, result.text
    assert len(space.ran()) == 7


def write_gpus(space: Space, *gpus: dict[str, Any]) -> None:
    """Rewrite them as a whole: a run may be reading."""
    rows = [{"index": i, "name": "Toy"} | gpu for i, gpu in enumerate(gpus)]
    draft = space.write("gpus.json~", json.dumps(rows))
    space.env["OUMI_FLOW_FAKE_GPUS"] = str(draft.rename(space.root / "gpus.json"))


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no job of ours."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("allocation", ["dynamic", "fixed", "load_balanced"])
def test_a_strangers_gpu_is_left_alone_until_it_is_free(
    space: Space, stranger: subprocess.Popen[bytes], allocation: str
) -> None:
    used = {"processes": [{"pid": stranger.pid}], "memory_total": GB, "memory_used": GB}
    free = {"memory_total": GB, "memory_used": GB // 2}
    write_gpus(space, used, free)
    space.workflow(
        space.job("auto", SEEN, resources={"gpu": "auto"}),
        space.job("named", SEEN, resources={"gpu": 0}),
        space.job("pinned", SEEN, env={"CUDA_VISIBLE_DEVICES": "0"}),
        resources={"allocation": allocation},
    )
    assert space.run().code == 0
    assert seen(space, "auto") == "1"
    assert seen(space, "named") == seen(space, "pinned") == "0"
    assert f"process {stranger.pid} (sleep, user " in space.command("gpus").out
    # With no other GPU it waits, says for whom, and goes on when the stranger has gone.
    write_gpus(space, used)
    run = space.start("run", "workflow.yaml", "--no-tui", "-f", "auto")
    assert run.stdout is not None
    said = ""
    while "which is no job of ours" not in said:
        line = run.stdout.readline()
        assert line, said
        said += line
    assert f"for GPU 0: used by process {stranger.pid} (sleep, user " in said
    if allocation == "dynamic":
        stranger.kill()
        stranger.wait()
    else:
        write_gpus(space, {"memory_total": GB})
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, said + out + err
    assert seen(space, "auto") == "0"


def test_a_gpu_lost_under_several_is_the_one_that_nvml_names(space: Space) -> None:
    write_gpus(space, {}, {}, {})
    body = (
        "if [ $OUMI_FLOW_ATTEMPT = 1 ]; then echo x > begun; "
        "while [ ! -e go ]; do sleep 0.02; done; "
        "echo 'RuntimeError: CUDA error: GPU is lost' >&2; exit 1; fi; " + SEEN
    )
    space.workflow(space.job("two", body, resources={"gpus": 2}, max_retries=1))
    run = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("begun"), "the job runs")
    write_gpus(space, {}, {"lost": True}, {})
    space.write("go", "")
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, out + err
    assert "GPU 1 is lost; this run goes on without it" in out + err
    assert seen(space, "two") == "0,2"
    assert re.search(r"^ +1 .*lost$", space.command("gpus").out, re.M)


def test_a_job_that_crashes_on_the_only_gpu_takes_it_from_nobody(space: Space) -> None:
    have(space, 1)
    crash = "echo 'RuntimeError: CUDA error: unspecified launch failure' >&2; exit 1"
    space.workflow(
        space.job("crash", crash, resources={"gpu": "auto"}, priority=1),
        space.job("fine", SEEN, resources={"gpu": "auto"}),
    )
    result = space.run()
    assert result.code == 1
    assert "CUDA error: unspecified launch failure" in result.text
    assert seen(space, "fine") == "0"


def test_instances_of_a_split_gpu_are_leased_one_by_one(space: Space) -> None:
    write_gpus(space, {"uuid": "GPU-a", "mig": ["MIG-1", "MIG-2"]})
    body = f"{SEEN}; echo x > ${{{{ job.name }}}}.begun; {GO}"
    space.workflow(*(space.job(f"j{i}", body, resources={"gpu": 0}) for i in range(2)))
    run = space.start("run", "workflow.yaml", "--no-tui", "-j4")
    wait_for(lambda: space.exists("j0.begun") and space.exists("j1.begun"), "both run")
    table = space.command("gpus").out
    assert "j0 of run" in table
    assert "j1 of run" in table
    space.write("go", "")
    run.communicate(timeout=60)
    assert {seen(space, "j0"), seen(space, "j1")} == {"MIG-1", "MIG-2"}


def test_three_workflows_share_two_gpus_in_turn(space: Space) -> None:
    """18 jobs, beside a process that keeps a core busy.

    GPUs come free when all who want one stand in line, so that no run is late because the machine
    held it up. A pair goes to two runs, and who got none of it gets one of the next. (Of two that
    stand up at once, either may be first, each time: how far one gets ahead has no bound.)
    """
    have(space, 2)
    body = (
        "mkdir busy-$CUDA_VISIBLE_DEVICES || echo $OUMI_FLOW_JOB >> met; "
        "me=${{ workflow.name }}-$OUMI_FLOW_JOB; echo $me >> order; "
        "while [ ! -e free-$me ]; do sleep 0.02; done; rmdir busy-$CUDA_VISIBLE_DEVICES"
    )
    names = ["one", "two", "three"]
    for name in names:
        space.workflow(
            *(space.job(f"j{i}", body, resources={"gpu": "auto"}) for i in range(6)),
            name=name,
            output_dir=f"out-{name}",
            path=f"{name}.yaml",
        )
    # Nobody begins before all stand in line.
    gate = f"echo x >> begun; {GO}"
    space.workflow(space.job("both", gate, resources={"gpus": 2}), path="gate.yaml")
    first = space.start("run", "gate.yaml", "--no-tui")
    wait_for(lambda: space.exists("begun"), "both GPUs are held")
    had: Counter[str] = Counter()
    passed_over: set[str] = set()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            runs = [space.start("run", f"{name}.yaml", "--no-tui", "-q") for name in names]
            held = [""]  # the gate's
            for end in range(2, 19, 2):
                wanting = {name for name in names if had[name] < 6}
                wait_for(lambda: len(waiters(space)) == len(wanting), "they stand")  # noqa: B023
                for who in held:
                    space.write(f"free-{who}" if who else "go", "")
                wait_for(lambda: len(began(space)) == end, "two more begin")  # noqa: B023
                held = began(space)[end - 2 :]
                served = {who.partition("-")[0] for who in held}
                assert len(served) == min(2, len(wanting)), began(space)
                assert passed_over <= served, began(space)
                had.update(who.partition("-")[0] for who in held)
                passed_over = wanting - served
            for who in held:
                space.write(f"free-{who}", "")
            for run in [first, *runs]:
                out, err = run.communicate(timeout=120)
                assert run.returncode == 0, out + err
        finally:
            busy.kill()
    assert not space.exists("met")


def began(space: Space) -> list[str]:
    return space.read("order").splitlines() if space.exists("order") else []


def waiters(space: Space) -> list[str]:
    rows = json.loads(space.command("gpus", "--json").out)
    return [str(word) for word in rows[0]["waiting"]]


def test_a_wide_job_gets_its_turn_among_single_ones_of_another_run(space: Space) -> None:
    have(space, 8)
    single = "[ -e done ] || sleep 0.$((RANDOM % 5 + 1))"
    space.workflow(
        *(space.job(f"s{i:03}", single, resources={"gpu": "auto"}) for i in range(300)),
        resources={"max_parallel": 8},
    )
    space.workflow(
        space.job("wide", f"{SEEN}; ls ran.log && wc -l < ran.log > after", resources={"gpus": 8}),
        name="wide",
        output_dir="out-wide",
        path="wide.yaml",
    )
    patience = {"OUMI_FLOW_GPU_PATIENCE": "1"}
    many = space.start("run", "workflow.yaml", "--no-tui", "-q", **patience)
    wait_for(lambda: space.exists("ran.log"), "the single ones are at it")
    wide = space.command("run", "wide.yaml", "--no-tui", **patience)
    assert wide.code == 0, wide.text
    assert seen(space, "wide") == "0,1,2,3,4,5,6,7"
    assert many.poll() is None
    assert int(space.read("after")) < 300
    space.write("done", "")
    many.communicate(timeout=120)
    assert many.returncode == 0


def test_the_flag_narrows_the_gpus_or_takes_them_away(space: Space) -> None:
    have(space, 4)
    space.workflow(space.job("a", SEEN, resources={"gpu": "auto"}))
    assert space.run("--gpus", "3").code == 0
    assert seen(space, "a") == "3"
    none = space.run("-F", "--gpus", "none")
    assert none.code == 2
    assert 'job "a"' in none.err
    unknown = space.run("-F", "--gpus", "1,7")
    assert unknown.code == 2
    assert "no GPU 7 here; NVML sees 0, 1, 2, 3" in unknown.err
    space.workflow(space.job("b", SEEN, resources={"gpu": 0}))
    outside = space.run("--gpus", "1")
    assert outside.code == 2
    assert re.search(r'job "b": .*GPU 0', outside.err)


def test_the_shells_visible_devices_bound_what_is_used(space: Space) -> None:
    have(space, 4)
    space.workflow(*(space.job(f"j{i}", SEEN, resources={"gpu": "auto"}) for i in range(3)))
    assert space.run(CUDA_VISIBLE_DEVICES="1,2").code == 0
    assert {seen(space, f"j{i}") for i in range(3)} <= {"1", "2"}
    refused = space.run("-F", CUDA_VISIBLE_DEVICES="")
    assert refused.code == 2


def test_a_gpu_where_there_is_none_is_refused_with_advice(space: Space) -> None:
    have(space, 0)
    space.workflow(space.job("a", SEEN, resources={"gpu": 0}))
    result = space.run()
    assert result.code == 2
    assert 'job "a"' in result.err
    assert "gpu: none" in result.err
    assert space.ran() == []
    # A list in the file is trusted where NVML has nothing to say, with one warning.
    space.workflow(space.job("a", SEEN, resources={"gpu": 0}), resources={"gpus": [0]})
    result = space.run()
    assert result.code == 0, result.text
    assert seen(space, "a") == "0"
    assert result.text.count("trusting the list") == 1


def test_a_gpu_that_nvml_does_not_see_fails_validate(space: Space) -> None:
    have(space, 2)
    space.workflow(space.job("a", resources={"gpu": "auto"}), resources={"gpus": [0, 9]})
    result = space.command("validate", "workflow.yaml")
    assert result.code == 2, result.text
    assert "9" in result.err
    assert "NVML sees 0, 1" in result.err
    space.workflow(space.job("a", resources={"gpu": 5}))
    result = space.command("validate", "workflow.yaml")
    assert result.code == 2, result.text
    assert "5" in result.err


def test_pins_that_contradict_resources_are_refused(space: Space) -> None:
    have(space, 4)
    space.workflow(
        space.job("a", env={"CUDA_VISIBLE_DEVICES": "3"}, resources={"gpu": 1}),
    )
    result = space.command("validate", "workflow.yaml")
    assert result.code == 2
    assert "CUDA_VISIBLE_DEVICES" in result.err


def test_a_gpu_held_by_another_run_is_waited_for_in_words(space: Space) -> None:
    have(space, 1)
    hold = f"echo x > begun; {GO}"
    space.workflow(space.job("holder", hold, resources={"gpu": 0}))
    first = space.start("run", "workflow.yaml", "--no-tui")
    wait_for(lambda: space.exists("begun"), "the first run holds the GPU")
    run_id = json.loads(space.command("status", "--json").out)[0]["run_id"]
    table = space.command("gpus")
    assert re.search(rf"holder of run {run_id}, user \w+, since \d\d:\d\d", table.out)
    rows = json.loads(space.command("gpus", "--json").out)
    assert run_id in rows[0]["holder"]
    assert rows[0]["waiting"] == []
    space.workflow(
        space.job("waiter", SEEN, resources={"gpu": "auto"}),
        space.job("free"),
        name="two",
        output_dir="out2",
        path="two.yaml",
    )
    second = space.start("run", "two.yaml", "--no-tui")
    assert second.stdout is not None
    said = ""
    while "waiting  waiter" not in said or "held by" not in said:
        line = second.stdout.readline()
        assert line, said
        said += line
    assert re.search(
        rf"for GPU 0: held by run {run_id}, user \w+, job holder since \d\d:\d\d", said
    )
    status = space.command("status", "two.yaml").out
    assert f"held by run {run_id}" in status
    # A third one is behind it, and says so.
    space.workflow(
        space.job("third", SEEN, resources={"gpu": "auto"}),
        name="three",
        output_dir="out3",
        path="three.yaml",
    )
    third = space.start("run", "three.yaml", "--no-tui")
    assert third.stdout is not None
    heard = ""
    while "in line" not in heard:
        line = third.stdout.readline()
        assert line, heard
        heard += line
    assert "2nd in line" in heard
    rows = json.loads(space.command("gpus", "--json").out)
    assert [words.split(" of ")[0] for words in rows[0]["waiting"]] == ["waiter", "third"]
    table = space.command("gpus")
    assert re.search(r"1st in line.* waiter of run .*\n.*2nd in line.* third of run", table.out)
    assert "free" in space.ran()
    space.write("go", "")
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0, said + out
    assert seen(space, "waiter") == "0"
    first.communicate(timeout=60)
    third.communicate(timeout=60)
    assert seen(space, "third") == "0"


def test_waiting_for_a_gpu_can_be_cancelled(space: Space) -> None:
    have(space, 1)
    space.workflow(
        space.job("holder", f"echo x > begun; {GO}", resources={"gpu": 0}),
        space.job("waiter", SEEN, resources={"gpu": 0}, depends_on=["early"]),
        space.job("early", "while [ ! -e begun ]; do sleep 0.02; done"),
    )
    process = space.start("run", "workflow.yaml", "--no-tui", "-j4")
    wait_for(lambda: space.exists("begun"), "the GPU is held")
    result = space.command("cancel", "workflow.yaml", "waiter")
    assert result.code == 0, result.text
    assert "waiter: cancelled" in result.out
    space.write("go", "")
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert not space.exists("waiter.gpu")


def test_cost_is_in_the_plan_and_in_the_summary(space: Space) -> None:
    have(space, 2)
    space.workflow(
        space.job("a", "sleep 1.2", resources={"gpus": 2}), resources={"cost_per_gpu_hour": 36000}
    )
    first = space.run()
    assert first.code == 0
    assert "cost" not in first.out.splitlines()[0]
    spent = re.search(r"GPU time .*, cost (\d+\.\d\d)", first.out)
    assert spent is not None, first.out
    assert float(spent[1]) >= 24
    planned = space.run("-F", "--dry-run")
    expected = re.search(r"cost (\d+\.\d\d)", planned.out)
    assert expected is not None, planned.out
    assert float(expected[1]) >= 24
    status = json.loads(space.command("status", "workflow.yaml", "--json").out)
    assert status["cost"] == pytest.approx(float(spent[1]), abs=0.01)


def test_a_patience_that_is_no_number_is_refused(space: Space) -> None:
    have(space, 1)
    space.workflow(space.job("a", resources={"gpu": "auto"}))
    result = space.run(OUMI_FLOW_GPU_PATIENCE="soon")
    assert result.code == 2, result.text
    assert 'OUMI_FLOW_GPU_PATIENCE: expected seconds such as 60, got "soon"' in result.err
    assert space.ran() == []


def test_gpus_without_any(space: Space) -> None:
    have(space, 0)
    assert "no GPUs found" in space.command("gpus").out
    assert json.loads(space.command("gpus", "--json").out) == []
    space.write("gpus.json", "not json")
    said = space.command("gpus")
    assert said.code == 2
    assert "OUMI_FLOW_FAKE_GPUS" in said.err


def test_the_longest_chain_goes_first_once_it_is_known_how_long_its_jobs_take(
    space: Space,
) -> None:
    space.workflow(
        space.job("early"),
        space.job("slow", "sleep 0.7"),
        space.job("late"),
        space.job("head"),
        space.job("tail", "sleep 2", depends_on=["head"]),
        resources={"max_parallel": 1},
    )
    assert space.run().code == 0
    assert space.ran() == ["head", "early", "slow", "late", "tail"]
    assert space.run("-F").code == 0
    assert space.ran()[:3] == ["head", "tail", "slow"]
