"""Finds the user's oumi and asks it what it knows: its version, its config keys, its configs.

Asking for keys costs one process once per installed oumi; the version costs a look into a folder.
Nothing here imports oumi. Knows no workflow and no job.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence

from oumi_flow.errors import FlowError
from oumi_flow.hashing import blake2b
from oumi_flow.typed import TYPE_CHECKING, Any
from oumi_flow.verbs.keys import OumiKeys

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
ASK_TIMEOUT = 300.0  # seconds; a cold import on a busy machine took more than a minute
FETCH_TIMEOUT = 120.0
FAILURE_KEPT = 3600.0  # seconds after which an oumi that could not be asked is asked again
PREFIX = "oumi://"

Command = tuple[str, ...]


# ---------------------------------------------------------------------- finding


def find_oumi(explicit: str | None, environ: Mapping[str, str]) -> Command | None:
    """The command that runs oumi, or None when there is none.

    Looked for in this order: `explicit` (`--oumi CMD`), OUMI_FLOW_OUMI, beside the running
    Python, on PATH. The first two may hold several words (`python -m oumi`); one that names no
    program raises FlowError, for falling back to another oumi would surprise.
    """
    for source, text in (("--oumi", explicit), ("OUMI_FLOW_OUMI", environ.get("OUMI_FLOW_OUMI"))):
        if text and text.strip():
            return _given(source, text, environ)
    beside = os.path.join(os.path.dirname(sys.executable), "oumi")
    if _runs(beside):
        return (beside,)
    found = _which("oumi", environ)
    return (found,) if found else None


def missing_oumi() -> FlowError:
    """The error for when `find_oumi` finds none."""
    return FlowError(
        "oumi was not found: neither beside this Python nor on PATH",
        hint='install it with `pip install "oumi==0.9.*"`, or name it with --oumi CMD '
        "or OUMI_FLOW_OUMI",
    )


def _given(source: str, text: str, environ: Mapping[str, str]) -> Command:
    import shlex

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise FlowError(f"{source}: cannot read the command {text!r}: {error}") from None
    program = _which(words[0], environ) if words else None
    if program is None:
        raise FlowError(
            f"{source}: no such program: {text}", hint="give the path of the oumi to use"
        )
    return (program, *words[1:])


def _which(name: str, environ: Mapping[str, str]) -> str | None:
    import shutil

    name = os.path.expanduser(name)
    found = shutil.which(name, path=environ.get("PATH", os.defpath))
    # Jobs start in another folder.
    return os.path.abspath(found) if found else None


def _runs(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def python_of(command: Command) -> str | None:
    """The Python that an oumi command runs in, or None when that cannot be seen.

    That is the command's own first word (`python -m oumi`) or what the script's first lines name:
    `#!/path/python`, `#!/usr/bin/env python3`, or the `exec` line pip writes for long paths.
    """
    import shutil

    program = command[0]
    if os.path.basename(program).startswith("python"):
        return program
    try:
        with open(program, "rb") as file:
            head = file.read(2048).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    if not head or not head[0].startswith("#!"):
        return None
    words = head[0][2:].split()
    if words and os.path.basename(words[0]) == "env" and len(words) > 1:
        return shutil.which(words[-1]) if "python" in words[-1] else None
    if words and "python" in os.path.basename(words[0]):
        return words[0] if _runs(words[0]) else None
    if len(head) > 1 and head[1].startswith("'''exec' "):
        path = head[1][len("'''exec' ") :].split(' "$0"')[0].strip().strip('"')
        return path if _runs(path) else None
    return None


def interpreter_of(command: Sequence[str]) -> str | None:
    """The Python that runs `command` as a script, without options; None when it is no such thing.

    Only then is running the script in a fork of that Python the same as starting it.
    """
    python = python_of(tuple(command))
    if len(command) != 1 or python in (None, command[0]):
        return None
    try:
        with open(command[0], "rb") as file:
            line = os.fsdecode(file.readline(2048))
    except OSError:
        return None
    options = line.split()[1:]
    if os.path.basename(line.split()[0]) == "env":
        options = options[1:]
    return None if options and "python" in line else python


# ---------------------------------------------------------------------- version


def oumi_version(command: Command) -> str:
    """The version of an oumi, from its folder in site-packages; "" when that is not found.

    Imports nothing and starts nothing.
    """
    info = _dist_info(command)
    return info.name[len("oumi-") : -len(".dist-info")] if info else ""


def _dist_info(command: Command) -> Path | None:
    from pathlib import Path

    homes = [Path(command[0]).parent.parent]
    python = python_of(command)
    if python:
        homes.append(Path(python).parent.parent)
    for home in homes:
        for library in ("lib", "lib64"):
            for packages in ("site-packages", "dist-packages"):
                found = sorted(home.glob(f"{library}/python3*/{packages}/oumi-*.dist-info"))
                if found:
                    return found[-1]
    return None


# ---------------------------------------------------------------------- config keys


def cache_folder(environ: Mapping[str, str]) -> str:
    """The user's cache folder of oumi-flow: below OUMI_FLOW_HOME, XDG_CACHE_HOME or ~/.cache."""
    if home := environ.get("OUMI_FLOW_HOME"):
        return os.path.join(home, "cache")
    root = environ.get("XDG_CACHE_HOME") or os.path.join(_home(environ), ".cache")
    return os.path.join(root, "oumi-flow")


def ask_keys(command: Command, cache: str | Mapping[str, str]) -> OumiKeys | None:
    """The config keys and options of each verb; None for an oumi that cannot be asked.

    Runs oumi's Python once per installed oumi (it imports much: 10 to 60 s, blocking); the answer
    is kept in `cache`: a folder, or the environment that says where the user's cache folder is.
    A failure is kept for an hour, a timeout is not.
    """
    cache_dir = cache if isinstance(cache, str) else cache_folder(cache)
    from pathlib import Path

    python = python_of(command)
    if python is None:
        return None
    version = oumi_version(command)
    path = Path(cache_dir) / f"oumi-keys-{version or 'unknown'}-{_stamp(command, python)}.json"
    known = _read_answer(path)
    if known is not None:
        return _keys_of(known, version)
    answer = _ask(python)
    if answer is not None:
        _keep(path, answer)
        return _keys_of(answer, version)
    return None


def _stamp(command: Command, python: str) -> str:
    """Changes when another oumi is installed in the same place."""
    digest = blake2b(digest_size=8)
    info = _dist_info(command)
    for path in (command[0], python, str(info / "RECORD") if info else ""):
        try:
            status = os.stat(path)
            seen = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0"
        except OSError:
            seen = f"{path}\0-\0"
        digest.update(seen.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _ask(python: str) -> dict[str, Any] | None:
    """What the program in oumi_ask.py prints; `{}` when it fails, None when it takes too long."""
    import subprocess

    from oumi_flow import oumi_ask

    with open(oumi_ask.__file__, encoding="utf-8") as file:
        source = file.read()
    # Offline, silent and without GPUs: a question about names must not start anything.
    env = {
        **os.environ,
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    try:
        done = subprocess.run(
            [python, "-c", source],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            cwd="/",  # `-c` puts the current folder first on sys.path
            timeout=ASK_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError:
        return {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(oumi_ask.MARK):
            try:
                answer = json.loads(line[len(oumi_ask.MARK) :])
            except ValueError:
                return {}
            return answer if isinstance(answer, dict) else {}
    return {}


def _keys_of(answer: Mapping[str, Any], version: str) -> OumiKeys | None:
    try:
        return OumiKeys.from_json({"version": version, "verbs": answer["verbs"]})
    except (KeyError, TypeError, AttributeError):
        return None


def _read_answer(path: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        age = time.time() - path.stat().st_mtime
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("format") != FORMAT:
        return None
    answer = kept.get("answer")
    if not isinstance(answer, dict) or (not answer and age > FAILURE_KEPT):
        return None
    return answer


def _keep(path: Path, answer: Mapping[str, Any]) -> None:
    """Write by rename; a cache that cannot be written costs the next run time, nothing else."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"format": FORMAT, "answer": answer}), encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()


# ---------------------------------------------------------------------- configs by URI


def fetched_path(uri: str, environ: Mapping[str, str]) -> str:
    """Where `oumi fetch` keeps the file of an `oumi://` URI: below $OUMI_DIR or ~/.oumi/fetch.

    Raises FlowError for a URI that leads out of that folder.
    """
    relative = uri[len(PREFIX) :] if uri.lower().startswith(PREFIX) else uri
    parts = relative.lstrip("/").split("/")
    if not relative.strip("/") or any(part in ("", ".", "..") for part in parts):
        raise FlowError(f"not a path of an oumi config: {uri}", hint="write oumi://configs/…yaml")
    root = environ.get("OUMI_DIR") or os.path.join(_home(environ), ".oumi", "fetch")
    return os.path.join(os.path.expanduser(root), *parts)


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or os.path.expanduser("~")


def fetch(uri: str, command: Command | None, environ: Mapping[str, str] | None = None) -> str:
    """The local file of an `oumi://` URI, downloaded by `oumi fetch` unless it is there already.

    Blocks for up to two minutes. Raises FlowError when it is not there and cannot be fetched.
    """
    import subprocess

    env = dict(os.environ if environ is None else environ)
    path = fetched_path(uri, env)
    if os.path.isfile(path):
        return path
    if command is None:
        raise missing_oumi()
    env["DO_NOT_TRACK"] = "1"
    advice = f"run `oumi fetch {uri}` where there is a network, or copy the file to {path}"
    try:
        done = subprocess.run(
            [*command, "fetch", uri],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            timeout=FETCH_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FlowError(
            f"could not fetch {uri}: no answer in {FETCH_TIMEOUT:.0f}s", hint=advice
        ) from None
    except OSError as error:
        raise FlowError(f"could not fetch {uri}: {error.strerror or error}", hint=advice) from None
    if os.path.isfile(path):
        return path
    said = done.stdout.decode("utf-8", "replace")
    if "404" in said and "Not Found" in said:
        raise FlowError(f"could not fetch {uri}: oumi has no such config", hint="check its path")
    raise FlowError(f"could not fetch {uri} (exit {done.returncode}); offline?", hint=advice)
