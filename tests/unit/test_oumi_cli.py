"""Finding oumi, and asking it what it knows, with a stand-in for oumi."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from oumi_flow import oumi_ask, oumi_cli
from oumi_flow.errors import FlowError
from oumi_flow.oumi_cli import (
    ask_keys,
    cache_folder,
    fetch,
    fetched_path,
    find_oumi,
    missing_oumi,
    oumi_version,
    python_of,
)


def program(path: Path, text: str = "#!/bin/sh\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


# ---------------------------------------------------------------------- finding


def test_the_order_of_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = program(tmp_path / "given" / "oumi")
    named = program(tmp_path / "named" / "oumi")
    beside = program(tmp_path / "beside" / "oumi")
    on_path = program(tmp_path / "path" / "oumi")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    environ = {"OUMI_FLOW_OUMI": named, "PATH": str(tmp_path / "path")}
    assert find_oumi(given, environ) == (given,)
    assert find_oumi(None, environ) == (named,)
    del environ["OUMI_FLOW_OUMI"]
    assert find_oumi(None, environ) == (beside,)
    os.unlink(beside)
    assert find_oumi(None, environ) == (on_path,)
    os.unlink(on_path)
    assert find_oumi(None, environ) is None
    assert "pip install" in missing_oumi().hint


def test_a_command_of_several_words() -> None:
    assert find_oumi(f"{sys.executable} -m oumi", {}) == (sys.executable, "-m", "oumi")


@pytest.mark.parametrize("text", ["/no/such/oumi", "no-such-program-here", "'unclosed"])
def test_a_named_oumi_that_is_not_there_is_an_error(text: str) -> None:
    with pytest.raises(FlowError, match="--oumi: "):
        find_oumi(text, os.environ)
    with pytest.raises(FlowError, match="OUMI_FLOW_OUMI: "):
        find_oumi(None, {**os.environ, "OUMI_FLOW_OUMI": text})


def test_a_relative_command_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin" / "oumi")
    monkeypatch.chdir(tmp_path)
    assert find_oumi("bin/oumi", os.environ) == (str(tmp_path / "bin" / "oumi"),)


def test_the_python_of_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = program(tmp_path / "bin" / "python3")
    for head in (
        f"#!{python}\n",
        f"#!{python} -E\n",
        f"#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\n",
        f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
    ):
        assert python_of((program(tmp_path / "oumi", head),)) == python
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert python_of((program(tmp_path / "oumi", "#!/usr/bin/env python3\n"),)) == python
    assert python_of((python, "-m", "oumi")) == python
    for head in ("#!/bin/bash\nexec other\n", "\x7fELF", "", "#!/no/such/python\n"):
        assert python_of((program(tmp_path / "oumi", head),)) is None
    assert python_of((str(tmp_path / "gone"),)) is None


# ---------------------------------------------------------------------- a stand-in

CONFIGS = """
from __future__ import annotations
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

class Kind(str, Enum):
    A = "a"

@dataclass
class Node:
    name: str = ""
    below: Optional["Node"] = None

@dataclass
class Data:
    path: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)

@dataclass
class Training:
    learning_rate: float = 1.0
    eval_steps: int | float = 5
    kind: Kind = Kind.A
    anything: Any = None
    words: list[str] | None = None
    mixed: str | dict[str, int] = ""
    node: Node = field(default_factory=Node)

@dataclass
class TrainingConfig:
    data: list[Data] = field(default_factory=list)
    training: Training = field(default_factory=Training)
"""


@pytest.fixture
def oumi(tmp_path: Path) -> str:
    """An `oumi` whose Python is this one, with a package of config classes and no command line."""
    home = tmp_path / "venv"
    packages = home / "lib" / "python3.11" / "site-packages"
    configs = packages / "oumi" / "core" / "configs"
    configs.mkdir(parents=True)
    for folder in (packages / "oumi", packages / "oumi" / "core"):
        (folder / "__init__.py").touch()
    (configs / "__init__.py").write_text(CONFIGS)
    info = packages / "oumi-0.9.1.dist-info"
    info.mkdir()
    (info / "RECORD").touch()
    python = program(
        home / "bin" / "python",
        f"#!/bin/sh\necho asked >> {tmp_path}/asked\n"
        f'PYTHONPATH={packages} exec {sys.executable} "$@"\n',
    )
    return program(home / "bin" / "oumi", f"#!{python}\n")


def times_asked(tmp_path: Path) -> int:
    path = tmp_path / "asked"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_the_version_is_read_without_starting_anything(tmp_path: Path, oumi: str) -> None:
    assert oumi_version((oumi,)) == "0.9.1"
    assert oumi_version((program(tmp_path / "other" / "oumi"),)) == ""
    assert times_asked(tmp_path) == 0


def test_oumi_is_asked_for_its_keys_once(tmp_path: Path, oumi: str) -> None:
    keys = ask_keys((oumi,), str(tmp_path / "cache"))
    assert keys is not None
    assert keys.version == "0.9.1"
    table = keys.tables["train"]
    assert table.keys == {
        "data",
        "data[*].path",
        "training.learning_rate",
        "training.eval_steps",
        "training.kind",
        "training.words",
        "training.words[*]",
        "training.node.name",
    }
    assert table.free == {
        "data[*].kwargs",
        "training.anything",
        "training.mixed",
        "training.node.below",
    }
    assert "infer" not in keys.tables
    assert ask_keys((oumi,), str(tmp_path / "cache")) == keys
    assert times_asked(tmp_path) == 1


def test_another_oumi_in_the_same_place_is_asked_again(tmp_path: Path, oumi: str) -> None:
    cache = str(tmp_path / "cache")
    ask_keys((oumi,), cache)
    packages = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    (packages / "oumi-0.9.1.dist-info" / "RECORD").write_text("newer\n")
    ask_keys((oumi,), cache)
    assert times_asked(tmp_path) == 2


def test_an_oumi_that_cannot_be_asked_is_not_asked_at_each_run(tmp_path: Path, oumi: str) -> None:
    packages = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    (packages / "oumi" / "core" / "configs" / "__init__.py").write_text("raise SystemExit(3)\n")
    cache = str(tmp_path / "cache")
    assert ask_keys((oumi,), cache) is None
    assert ask_keys((oumi,), cache) is None
    assert times_asked(tmp_path) == 1
    # After an hour it is given another chance.
    (kept,) = (tmp_path / "cache").iterdir()
    os.utime(kept, (1, 1))
    assert ask_keys((oumi,), cache) is None
    assert times_asked(tmp_path) == 2


def test_a_wrapper_that_hides_its_python_is_not_asked(tmp_path: Path) -> None:
    assert ask_keys((program(tmp_path / "oumi"),), str(tmp_path / "cache")) is None
    assert not (tmp_path / "cache").exists()


def test_a_spoilt_or_unwritable_cache_costs_time_only(tmp_path: Path, oumi: str) -> None:
    cache = tmp_path / "cache"
    keys = ask_keys((oumi,), str(cache))
    (kept,) = cache.iterdir()
    for text in ("{", "[]", json.dumps({"format": 99}), json.dumps({"format": 1, "answer": 3})):
        kept.write_text(text)
        assert ask_keys((oumi,), str(cache)) == keys
    (tmp_path / "file").touch()
    assert ask_keys((oumi,), str(tmp_path / "file" / "below")) == keys


def test_a_silent_oumi_is_given_up(
    tmp_path: Path, oumi: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    (packages / "oumi" / "core" / "configs" / "__init__.py").write_text(
        "import time\ntime.sleep(600)\n"
    )
    monkeypatch.setattr(oumi_cli, "ASK_TIMEOUT", 0.5)
    assert ask_keys((oumi,), str(tmp_path / "cache")) is None
    assert not (tmp_path / "cache").exists()


def test_where_the_cache_lies() -> None:
    assert cache_folder({"OUMI_FLOW_HOME": "/h", "XDG_CACHE_HOME": "/x"}) == "/h/cache"
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == "/x/oumi-flow"
    assert cache_folder({"HOME": "/home/u"}) == "/home/u/.cache/oumi-flow"


def test_the_program_that_asks_needs_nothing_of_ours() -> None:
    assert "oumi_flow" not in Path(oumi_ask.__file__).read_text()


# ---------------------------------------------------------------------- fetching


def test_where_fetched_configs_lie() -> None:
    assert fetched_path("oumi://configs/a/b.yaml", {"OUMI_DIR": "/d"}) == "/d/configs/a/b.yaml"
    assert fetched_path("oumi://c.yaml", {"HOME": "/h"}) == "/h/.oumi/fetch/c.yaml"


@pytest.mark.parametrize("uri", ["oumi://../x", "oumi://a/../../x", "oumi://", "oumi://a//b"])
def test_a_uri_that_leads_out_is_refused(uri: str) -> None:
    with pytest.raises(FlowError, match="not a path of an oumi config"):
        fetched_path(uri, {"OUMI_DIR": "/d"})


def test_a_config_is_fetched_once(tmp_path: Path) -> None:
    stand_in = program(
        tmp_path / "oumi",
        '#!/bin/sh\necho "$@" >> "$OUMI_DIR/calls"\nmkdir -p "$OUMI_DIR/configs"\n'
        'echo "a: 1" > "$OUMI_DIR/configs/x.yaml"\n',
    )
    environ = {**os.environ, "OUMI_DIR": str(tmp_path)}
    for _ in range(2):
        assert fetch("oumi://configs/x.yaml", (stand_in,), environ) == str(
            tmp_path / "configs" / "x.yaml"
        )
    assert (tmp_path / "calls").read_text() == "fetch oumi://configs/x.yaml\n"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("404 Client Error: Not Found for url", "oumi has no such config"),
        ("Temporary failure in name resolution", "offline"),
    ],
)
def test_a_config_that_cannot_be_fetched(tmp_path: Path, said: str, words: str) -> None:
    stand_in = program(tmp_path / "oumi", f"#!/bin/sh\necho '{said}'\nexit 1\n")
    with pytest.raises(FlowError, match=words):
        fetch("oumi://configs/x.yaml", (stand_in,), {**os.environ, "OUMI_DIR": str(tmp_path)})
    with pytest.raises(FlowError, match="oumi was not found"):
        fetch("oumi://configs/x.yaml", None, {"OUMI_DIR": str(tmp_path)})
