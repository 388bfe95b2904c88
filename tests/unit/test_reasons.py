"""The words a user reads, as SPEC §3 has them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from oumi_flow.model import Code, Reason, Trace
from oumi_flow.reasons import headline, lines, up_to_date, value, words


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


NOON_2026_01_03 = 1767441600.0

CASES = [
    (Reason(Code.FORCED, "--force"), "forced by --force"),
    (Reason(Code.FORCED, "always_run"), "always_run is set"),
    (Reason(Code.NEVER_RUN), "has not run here before"),
    (
        Reason(Code.NEVER_RUN, "old", "w.yaml", "new"),
        "has not run here before; looks like old renamed: oumi-flow rename w.yaml old new",
    ),
    (
        Reason(Code.NEVER_RUN, "a b", "w.yaml", "c d"),
        "has not run here before; looks like a b renamed: oumi-flow rename w.yaml 'a b' 'c d'",
    ),
    (Reason(Code.INTERRUPTED, ""), "last attempt was interrupted"),
    (Reason(Code.INTERRUPTED, "cancelled", 1.0), "last attempt was interrupted (cancelled)"),
    (Reason(Code.INTERRUPTED, "lost"), "last attempt was interrupted (lost)"),
    (
        Reason(Code.INTERRUPTED, "SIGINT", NOON_2026_01_03),
        "last attempt was interrupted (SIGINT, 2026-01-03 12:00)",
    ),
    (
        Reason(Code.INTERRUPTED, "lost", after="checkpoint-800"),
        "last attempt was interrupted (lost); resumes from checkpoint-800",
    ),
    (Reason(Code.FAILED, "exit 1"), "last attempt failed (exit 1)"),
    (Reason(Code.FAILED, "killed by signal 9"), "last attempt failed (killed by signal 9)"),
    (Reason(Code.FAILED, "timed out after 2h"), "last attempt failed (timed out after 2h)"),
    (Reason(Code.FAILED, "did not write out/x"), "last attempt failed (did not write out/x)"),
    (Reason(Code.OUTPUT_MISSING, "out/x"), "output missing: out/x"),
    (Reason(Code.OUTPUT_CHANGED, "out/x"), "output changed since it was made: out/x"),
    (
        Reason(Code.COMMAND_CHANGED, "verb", "infer", "evaluate"),
        "verb changed: infer → evaluate",
    ),
    (Reason(Code.COMMAND_CHANGED, "command", ("a",), ("b",)), "command changed"),
    (Reason(Code.COMMAND_CHANGED, "workdir", "A", "B"), "workdir changed: A → B"),
    (
        Reason(Code.CONFIG_CHANGED, "training.learning_rate", 0.0001, 0.0003, "changed"),
        "config changed: training.learning_rate: 0.0001 → 0.0003",
    ),
    (Reason(Code.CONFIG_CHANGED, "a.b", None, 1, "added"), "config key added: a.b"),
    (Reason(Code.CONFIG_CHANGED, "a.b", 1, None, "removed"), "config key removed: a.b"),
    (Reason(Code.ENV_CHANGED, "LR", "1", "2", "changed"), "env changed: LR: 1 → 2"),
    (Reason(Code.ENV_CHANGED, "LR", None, "2", "added"), "env added: LR"),
    (Reason(Code.ENV_CHANGED, "LR", "1", None, "removed"), "env removed: LR"),
    (Reason(Code.ENV_CHANGED, "T", None, "x", "changed"), "env changed: T: value hidden"),
    (Reason(Code.ENV_CHANGED, "T", "x", None, "changed"), "env changed: T: value hidden"),
    (Reason(Code.ENV_CHANGED, "T", None, None, "added"), "env added: T (value hidden)"),
    (Reason(Code.INPUT_CHANGED, "d/x", change="changed"), "input changed: d/x"),
    (Reason(Code.INPUT_CHANGED, "d/x", change="added"), "input added: d/x"),
    (Reason(Code.INPUT_CHANGED, "d/x", change="removed"), "input removed: d/x"),
    (
        Reason(Code.INPUT_CHANGED, "d/x", change="changed while it ran"),
        "input changed: d/x (while it ran)",
    ),
    (Reason(Code.UPSTREAM_CHANGED, "prep", after="out/p"), "prep made a new out/p"),
    (Reason(Code.UPSTREAM_CHANGED, "prep", after=""), "prep made a new result"),
    (
        Reason(Code.OUTPUTS_SET_CHANGED, before=("old",), after=("new", "more")),
        "outputs list changed: + new, + more, - old",
    ),
    (Reason(Code.SOFTWARE_CHANGED, "oumi", "0.9", "0.10"), "oumi changed: 0.9 → 0.10"),
    (
        Reason(Code.UPSTREAM_PENDING, "train"),
        "waits for train; skipped if its output comes out the same",
    ),
]


@pytest.mark.parametrize(("reason", "text"), CASES, ids=[text for _, text in CASES])
def test_words(reason: Reason, text: str) -> None:
    assert words(reason) == text
    assert headline([reason]) == text
    assert lines([reason]) == [text]


def test_every_code_has_words() -> None:
    assert {reason.code for reason, _ in CASES} == set(Code)


def test_an_interruption_today_is_told_by_its_hour() -> None:
    now = time.time()
    at = time.strftime("%H:%M", time.localtime(now))
    text = words(Reason(Code.INTERRUPTED, "SIGTERM", now))
    # Were midnight to fall between the two looks at the clock, the date would be told as well.
    assert text.startswith("last attempt was interrupted (SIGTERM, ")
    assert text.endswith(f"{at})")


def config(number: int) -> list[Reason]:
    return [Reason(Code.CONFIG_CHANGED, f"k{i}", 1, 2, "changed") for i in range(number)]


def test_three_keys_are_named_then_counted() -> None:
    assert lines(config(3)) == ["config changed: k0: 1 → 2, k1: 1 → 2, k2: 1 → 2"]
    assert lines(config(7)) == ["config changed: k0: 1 → 2, k1: 1 → 2, k2: 1 → 2 (+4 more)"]
    assert "k6" in lines(config(7), verbose=True)[0]


def test_reasons_of_one_kind_share_a_line_and_the_order_stays() -> None:
    reasons = [
        *config(1),
        Reason(Code.CONFIG_CHANGED, "new", None, 1, "added"),
        Reason(Code.INPUT_CHANGED, "a", change="changed"),
        Reason(Code.INPUT_CHANGED, "b", change="changed"),
        Reason(Code.INPUT_CHANGED, "c", change="removed"),
        Reason(Code.UPSTREAM_CHANGED, "up", after="x"),
        Reason(Code.UPSTREAM_CHANGED, "up", after="y"),
        Reason(Code.UPSTREAM_CHANGED, "other", after="z"),
    ]
    assert lines(reasons) == [
        "config changed: k0: 1 → 2",
        "config key added: new",
        "input changed: a, b",
        "input removed: c",
        "up made a new x, y",
        "other made a new z",
    ]
    assert headline(reasons) == "config changed: k0: 1 → 2"
    assert headline([]) == ""


def test_several_pending_upstreams_are_one_line() -> None:
    reasons = [Reason(Code.UPSTREAM_PENDING, f"t{i}") for i in range(5)]
    assert lines(reasons) == [
        "waits for t0, t1, t2 (+2 more); skipped if its output comes out the same"
    ]


def test_a_changed_command_is_shown_in_full_when_asked_for() -> None:
    reason = Reason(Code.COMMAND_CHANGED, "command", ("make x", "same"), ("make y", "same"))
    assert words(reason, verbose=True).splitlines() == [
        "command changed:",
        "  - make x",
        "  + make y",
        "    same",
    ]


@pytest.mark.parametrize(
    ("what", "text"),
    [
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (1, "1"),
        (1e-05, "1e-05"),
        ("x", "x"),
        ("", '""'),
        (" x", '" x"'),
        ("a\x1b[31mb\n", '"a\\x1b[31mb\\n"'),
        ([], "[]"),
        ({}, "{}"),
        ("y" * 100, "y" * 59 + "…"),
    ],
)
def test_values(what: object, text: str) -> None:
    assert value(what) == text


def test_long_values_are_whole_when_asked_for() -> None:
    assert value("y" * 100, verbose=True) == "y" * 100


def test_nothing_from_a_file_drives_the_terminal() -> None:
    evil = "a\x1b]0;owned\x07\u202e\udcff"
    for code in Code:
        for change in ("changed", "added"):
            text = words(Reason(code, evil, (evil,), (evil,), change), verbose=True)
            assert all(char.isprintable() or char == "\n" for char in text), code


def trace(**changes: object) -> Trace:
    fields = {
        "job": "a",
        "fingerprint": "",
        "parts": {},
        "build_key": "",
        "inputs": {},
        "input_paths": {},
        "outputs": {},
        "started": NOON_2026_01_03 - 42 * 60,
        "finished": NOON_2026_01_03,
        **changes,
    }
    return Trace(**fields)  # type: ignore[arg-type]


def test_up_to_date() -> None:
    assert up_to_date(trace()) == "up to date (made 2026-01-03 12:00, took 42m)"
    assert up_to_date(trace(exit_code=None)) == "up to date (taken as made 2026-01-03 12:00)"
    assert up_to_date(None) == "up to date"
