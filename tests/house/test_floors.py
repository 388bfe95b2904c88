"""The floors of the house, read from the source: which room imports which, what none does.

A room is a module or package directly below `oumi_flow`. It imports from lower floors only.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "oumi_flow"

FLOORS: dict[str, int] = {
    "typed": -1,  # words of annotations
    "__init__": 0,  # the version
    "dataclass": 0,
    "encoding": 0,
    "hashing": 0,
    "identity": 0,
    "pattern": 0,
    "sockets": 0,
    "model": 1,
    "content": 1,
    "errors": 1,
    "text": 1,
    "verbs": 2,
    "graph": 2,
    "staleness": 2,
    "reasons": 2,
    "disk": 2,
    "progress": 2,
    "tokens": 2,
    "executors": 2,
    "schedule": 3,
    "events": 2,
    "oumi_ask": 2,
    "load": 3,
    "planner": 3,
    "store": 3,
    "metrics": 3,
    "diagnose": 3,
    "oumi_cli": 3,
    "templates": 3,
    "board": 3,
    "runner": 4,
    "ui": 4,
    "flags": 2,
    "parser": 3,
    "seal": 3,
    "commands": 5,
    "dispatch": 6,
    "cli": 7,
    "__main__": 8,
}
# Roads that go against the rule, each with the reason for it.
ALLOWED: dict[tuple[str, str], str] = {}


@cache
def modules() -> tuple[tuple[str, str, ast.Module], ...]:
    """(room, path below the package, syntax tree) of every module."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        below = path.relative_to(PACKAGE)
        room = below.parts[0].removesuffix(".py")
        found.append((room, str(below), ast.parse(path.read_text(encoding="utf-8"))))
    return tuple(found)


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every module that is imported, wherever the import stands: (dotted name, line)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the road"
            assert node.module
            if node.module == "oumi_flow":
                for name in node.names:
                    yield f"oumi_flow.{name.name}", node.lineno
            else:
                yield node.module, node.lineno


def rooms_used(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for name, line in imports(tree):
        if name.startswith("oumi_flow."):
            room = name.split(".")[1]
            yield ("__init__" if room == "__version__" else room), line


def calls(tree: ast.Module, *names: str) -> Iterator[tuple[str, int]]:
    """Calls of a plain or dotted name such as `print` or `sys.exit`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in names:
                yield name, node.lineno


def test_every_room_has_its_floor() -> None:
    assert {room for room, _, _ in modules()} == set(FLOORS)


def test_rooms_import_from_lower_floors_only() -> None:
    wrong = [
        f"{path}:{line}: {room} (floor {FLOORS[room]}) imports {used} (floor {FLOORS[used]})"
        for room, path, tree in modules()
        for used, line in rooms_used(tree)
        if used != room and FLOORS[used] >= FLOORS[room] and (room, used) not in ALLOWED
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("room", "never"),
    [
        ("ui", {"runner", "executors", "store", "tokens", "load", "planner", "disk"}),
        ("board", {"runner", "executors", "store", "tokens", "ui"}),
        ("runner", {"ui", "board", "cli", "commands"}),
        ("executors", {"store", "planner", "staleness", "ui", "load"}),
        ("planner", {"verbs", "graph", "executors", "store", "disk"}),
        ("staleness", {"store", "executors", "disk"}),
        ("progress", {"executors", "runner"}),
        ("schedule", {"tokens", "executors", "disk", "store"}),
        ("verbs", {"load", "staleness", "store"}),
        ("load", {"planner", "store", "runner", "ui"}),
        ("store", {"planner", "staleness", "runner"}),
    ],
)
def test_what_never_knows_what(room: str, never: set[str]) -> None:
    wrong = [
        f"{path}:{line}: imports {used}"
        for name, path, tree in modules()
        if name == room
        for used, line in rooms_used(tree)
        if used in never
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("networkx", {"graph"}),
        ("yaml", {"load"}),
        ("jsonschema", {"load"}),
        ("textual", {"ui"}),
        ("rich", {"ui"}),
        ("pynvml", {"tokens"}),
        ("blake3", {"content"}),
        ("asyncio", {"ui"}),
        ("aiohttp", {"ui"}),
        ("textual_serve", {"ui"}),
    ],
)
def test_each_package_has_its_one_room(package: str, rooms: set[str]) -> None:
    wrong = [
        f"{path}:{line}"
        for room, path, tree in modules()
        for name, line in imports(tree)
        if name.split(".")[0] == package and room not in rooms
    ]
    assert not wrong, f"{package} is imported outside {sorted(rooms)}: {wrong}"


def supervisor_rooms() -> set[str]:
    """What the program that supervises jobs is made of, found from its start."""
    known = {path: tree for _, path, tree in modules()}
    found: set[str] = set()
    todo = ["executors/supervise.py"]
    while todo:
        path = todo.pop()
        found.add(path)
        for name, _ in imports(known[path]):
            file = name.removeprefix("oumi_flow.").replace(".", "/") + ".py"
            if name.startswith("oumi_flow") and file not in found:
                assert file in known, f"{path} imports {name}: import the module itself"
                todo.append(file)
    return found


def test_the_supervisor_needs_the_standard_library_and_its_siblings_and_the_ground() -> None:
    """It runs as a program of its own, with `-I -S`; each import costs every run."""
    rooms = supervisor_rooms()
    allowed = set(sys.stdlib_module_names) | {"__future__", "oumi_flow"}
    for _, path, tree in modules():
        if path in {*rooms, "__init__.py", "executors/__init__.py"}:
            room = path.split("/")[0].removesuffix(".py")
            assert room == "executors" or FLOORS[room] == 0
            used = {name.split(".")[0] for name, _ in imports(tree)}
            assert used <= allowed, f"{path}: {used - allowed}"
    assert "executors/supervision.py" in rooms
    program = f"import sys; sys.path.append({str(PACKAGE.parent)!r})\n"
    program += "import oumi_flow.executors.supervise\nprint(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-c", program]
    loaded = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    dear = {"dataclasses", "inspect", "logging", "pathlib", "socket", "subprocess", "threading"}
    assert not loaded & {*dear, "selectors", "typing"}


def test_nobody_prints_below_ui_and_commands() -> None:
    # oumi_ask is a program of its own, whose stdout is its answer.
    talkers = {"ui", "commands", "cli", "dispatch", "oumi_ask"}
    wrong = [
        f"{path}:{line}"
        for room, path, tree in modules()
        if room not in talkers
        for _, line in calls(tree, "print", "sys.stdout.write", "sys.stderr.write")
    ]
    assert not wrong


def test_nobody_exits_the_process() -> None:
    """Exit codes are values; the supervisor's own processes and `python -m` are what may exit."""
    programs = {"executors/ahead.py", "executors/supervise.py", "oumi_ask.py"}
    allowed = {"__main__.py", "executors/spawn.py", "executors/forking.py", *programs}
    wrong = [
        f"{path}:{line}: {name}"
        for _, path, tree in modules()
        if path not in allowed
        for name, line in calls(tree, "sys.exit", "exit", "quit", "os._exit", "os.abort")
    ]
    assert not wrong


def test_no_bare_except() -> None:
    wrong = [
        f"{path}:{node.lineno}"
        for _, path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not wrong


def test_the_process_keeps_its_environment_and_folder() -> None:
    """Environment and folder of a job go to the child. `-C` is the one change, made by commands."""
    wrong = []
    for room, path, tree in modules():
        for name, line in calls(tree, "os.putenv", "os.unsetenv", "os.environ.update"):
            wrong.append(f"{path}:{line}: {name}")
        for name, line in calls(tree, "os.chdir", "os.fchdir"):
            # A supervisor, which is its job's own process, goes to the job's folder, and whoever
            # imports for jobs to where they run.
            if room not in ("dispatch", "commands") and path not in (
                "executors/supervision.py",
                "executors/ahead.py",
            ):
                wrong.append(f"{path}:{line}: {name}")
        for node in ast.walk(tree):
            targets = (
                node.targets
                if isinstance(node, (ast.Assign, ast.Delete))
                else [node.target]
                if isinstance(node, (ast.AugAssign, ast.AnnAssign))
                else []
            )
            for target in targets:
                written = isinstance(target, ast.Subscript) and ast.unparse(target.value)
                # A job that was forked takes its environment by itself.
                if written in ("os.environ", "os.environb") and path != "executors/forking.py":
                    wrong.append(f"{path}:{target.lineno}: writes os.environ")
    assert not wrong, "\n".join(wrong)


def test_no_shell_is_asked_to_start_anything() -> None:
    wrong = []
    for _, path, tree in modules():
        wrong += [f"{path}:{line}: {name}" for name, line in calls(tree, "os.system", "os.popen")]
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                wrong.append(f"{path}:{node.value.lineno}: shell=")
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_does() -> None:
    silent = [
        path
        for _, path, tree in modules()
        if not (ast.get_docstring(tree) or "").strip() and (tree.body or path != "__init__.py")
    ]
    assert not silent
