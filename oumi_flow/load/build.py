"""A full load: from the workflow's file to the Workflow, with every problem told at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from itertools import pairwise

from oumi_flow import graph
from oumi_flow.disk import is_glob
from oumi_flow.errors import FlowError, Problem, Where, WorkflowErrors
from oumi_flow.load.expand import Draft, Expansion
from oumi_flow.load.inputs import Reader
from oumi_flow.load.jobs import Bench
from oumi_flow.load.link import Links, cycle_problem
from oumi_flow.load.making import Making, Workshop
from oumi_flow.load.names import name_fault
from oumi_flow.load.places import Claim, Made, PlaceIndex, collisions
from oumi_flow.load.resources import Resources
from oumi_flow.load.template import Ref, Text
from oumi_flow.load.values import Scope, Session, Values
from oumi_flow.load.yaml_source import Node
from oumi_flow.model import Counts, Job, Workflow
from oumi_flow.text import parse_duration
from oumi_flow.typed import Any
from oumi_flow.verbs.keys import OumiKeys
from oumi_flow.verbs.places import to_base


def build(
    session: Session,
    path: str,
    sets: Mapping[str, str],
    keys: Callable[[], OumiKeys | None],
    fetch: Callable[[str], str] | None,
) -> Workflow:
    """The workflow of a file. Raises WorkflowErrors with every problem."""
    expansion = Expansion(session, path, sets)
    top = Top(expansion)
    links = Links(session, expansion.by_name, expansion.groups)
    bench = Bench(
        session,
        links,
        top.output_dir,
        Resources(session, top.gpus, top.remotes, top.mode),
        warm=top.typed("warm", False),
    )
    makings: dict[str, Making] = {}
    for number, draft in enumerate(expansion.drafts):
        making = bench.begin(number, draft)
        if making is not None:
            makings[draft.name] = making
    _leave_out_lost(makings)
    order = _ordered(makings, {name: each.needs for name, each in makings.items()}, session)
    _stop_if_any(session, only_if=len(order) < len(makings))
    uses_oumi = any(making.spec.needs_config for making in makings.values())
    fetched = _fetched(session, expansion.drafts, fetch)
    asked = _asked(session, keys) if uses_oumi else None
    workshop = Workshop(expansion.files, makings, top.output_dir, asked, fetched)
    for name in order:
        workshop.settle(makings[name])
    index = _indexed(makings, top.output_dir)
    reader = Reader(workshop, index)
    jobs: dict[str, Job] = {}
    for name, making in makings.items():
        job = bench.finish(making, workshop, reader)
        if job is not None:
            jobs[name] = job
    _check_collisions(session, makings, index, top)
    _stop_if_any(session)
    upstream = {name: job.upstream for name, job in jobs.items()}
    final = _ordered(makings, upstream, session)
    _stop_if_any(session)
    return top.workflow(tuple(jobs[name] for name in final), {**workshop.links, **index.links})


def _leave_out_lost(makings: dict[str, Making]) -> None:
    """Jobs that need one of which nothing could be made are checked no further."""
    for making in makings.values():
        if any(name not in makings for name in making.needs):
            making.broken = True
            making.needs = [name for name in making.needs if name in makings]
        if making.broken:
            making.forget_refs(makings)


def _stop_if_any(session: Session, only_if: bool = True) -> None:
    if session.problems and only_if:
        raise WorkflowErrors(sorted_problems(session.problems))


def sorted_problems(problems: list[Problem]) -> list[Problem]:
    """By file in the order of first mention, then by line and column."""
    files: dict[str, int] = {}
    for problem in problems:
        files.setdefault(problem.where.file if problem.where else "", len(files))

    def key(problem: Problem) -> tuple[int, int, int]:
        where = problem.where or Where("")
        return files[where.file], where.line, where.column

    return sorted(problems, key=key)


def _ordered(
    makings: Mapping[str, Making], upstream: Mapping[str, Any], session: Session
) -> list[str]:
    """Names in topological order; on a cycle its path is noted and its names are left out."""
    names = list(makings)
    order = graph.topological_order(names, upstream)
    if len(order) == len(names):
        return order
    settled = set(order)
    left = [name for name in names if name not in settled]
    cycle = graph.find_cycle(left, {name: upstream[name] for name in left})
    drafts = {name: making.draft for name, making in makings.items()}
    session.add(cycle_problem(cycle, drafts, _implied_words(cycle, makings)))
    return order


def _implied_words(cycle: list[str], makings: Mapping[str, Making]) -> str:
    """Which edges of a cycle no `depends_on` shows."""
    hidden = [
        f"{name} reads what {other} makes"
        for name, other in pairwise(cycle)
        if other not in makings[name].needs
    ]
    return f" ({'; '.join(hidden[:3])})" if hidden else ""


def _indexed(makings: Mapping[str, Making], output_dir: str) -> PlaceIndex:
    """Where every job writes, and which places their configs name instead."""
    from oumi_flow.load.configs import own_place

    index = PlaceIndex(os.getcwd(), output_dir)
    for making in makings.values():
        for output in making.counted:
            index.add(Made(making.name, output.path, output.counts))
    for making in makings.values():
        placement = making.placement
        for path in dict.fromkeys((placement.place, placement.output_dir, making.folder)):
            index.add(Made(making.name, path, Counts.ALL))
        for path in _results(making):
            index.add_result(path, making.name)
        named = own_place(making.merged, making.spec) if making.file is not None else None
        if named and not placement.kept:
            index.add_named(to_base(named, making.workdir), making.name)
    return index


def _results(making: Making) -> set[str]:
    """What a job is known to write: its verb's place, and what it promises."""
    found = {output.path for output in making.counted if not is_glob(output.path)}
    return found if making.spec.is_shell else found | {making.placement.place}


def _check_collisions(
    session: Session, makings: Mapping[str, Making], index: PlaceIndex, top: Top
) -> None:
    claims: list[Claim] = []
    root = index.absolute(top.output_dir)
    sources = {index.absolute(path) for path in top.expansion.files.roots}
    for making in makings.values():
        owned = [(making.folder, "folder")]
        if making.placement.place != making.folder:
            owned.append((making.placement.place, "place"))
        owned += [(path, "output") for path in making.declared]
        for path, what in owned:
            absolute = index.absolute(path)
            fault = _output_fault(path, absolute, root, sources) if what == "output" else ""
            if fault:
                _claim_fault(session, making, path, fault)
                continue
            if what == "output" and (root == absolute or root.startswith(f"{absolute}/")):
                _claim_fault(session, making, path, f"holds the output_dir {top.output_dir}")
                continue
            claims.append(Claim(index.canonical(absolute), making.name, path, what))
    for outer, inner in collisions(claims):
        making = makings[inner.job]
        if outer.path == inner.path:
            words = f'is the {outer.what} of job "{outer.job}" too'
        else:
            words = f'lies inside the {outer.what} {outer.shown} of job "{outer.job}"'
        _claim_fault(session, making, inner.shown, words, inner.what)


def _output_fault(path: str, absolute: str, root: str, sources: set[str]) -> str:
    """Why no job may promise that path, else ""."""
    if is_glob(path):
        return "is a pattern: expected a file or a folder"
    if absolute in sources:
        return "is a file that the workflow itself is read from"
    held = next((each for each in sorted(sources) if each.startswith(f"{absolute}/")), "")
    if held:
        return f"holds {held[len(absolute) + 1 :]}, which the workflow itself is read from"
    below = absolute[len(root) :].split("/") if absolute.startswith(f"{root}/") else []
    if ".oumi-flow" in below or below[-1:] == ["job.log"]:
        return "is a file of oumi-flow's own"
    return ""


def _claim_fault(
    session: Session, making: Making, path: str, words: str, what: str = "output"
) -> None:
    node = making.draft.fields["name"]
    for (_, each), declared in zip(making.outputs, making.declared, strict=True):
        if declared == path:
            node = each
    hint = "give each job an output of its own" if "job" in words else ""
    session.fault(node, f'the {what} {path} of job "{making.name}" {words}', hint)


def _asked(session: Session, keys: Callable[[], OumiKeys | None]) -> OumiKeys | None:
    """The keys that oumi knows; a fault in asking is one problem among the others."""
    try:
        return keys()
    except FlowError as error:
        for problem in error.problems:
            session.add(problem)
        return None


def _fetched(
    session: Session, drafts: list[Draft], fetch: Callable[[str], str] | None
) -> dict[str, str]:
    """Where the files of `oumi://` configs lie."""
    found: dict[str, str] = {}
    failed: set[str] = set()
    for draft in drafts:
        node = draft.fields.get("config")
        if node is None or "oumi:" not in draft.values.text(node).render(lambda ref: ""):
            continue
        session.variables["OUMI_DIR"] = session.environ.get("OUMI_DIR")
        uri = draft.values.text(node).plain or ""
        if not uri.startswith("oumi://") or uri in found or uri in failed:
            continue
        try:
            found[uri] = fetch(uri) if fetch is not None else _fetched_before(uri, session)
        except FlowError as error:
            failed.add(uri)
            session.add(Problem(error.message, node.where, error.hint))
    return found


def _fetched_before(uri: str, session: Session) -> str:
    """The copy that `oumi fetch` made. Raises FlowError when there is none."""
    home = session.environ.get("OUMI_DIR") or os.path.expanduser("~/.oumi/fetch")
    path = os.path.join(home, os.path.normpath("/" + uri.removeprefix("oumi://")).lstrip("/"))
    if not os.path.isfile(path):
        session.sources.setdefault(path, None)
        raise FlowError(
            f"{uri} is not fetched: cannot be checked offline", hint=f"oumi fetch {uri}"
        )
    return path


_SIZE = re.compile(r"([0-9.]+) ?([kKMGT]?i?B)?\Z")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(value: Any) -> int | None:
    """Bytes from a number or `500MB`, `2 GiB`; powers of 1000, of 1024 with an `i`."""
    if isinstance(value, (int, float)):
        return int(value)
    match = _SIZE.match(str(value))
    if not match:
        return None
    unit = (match[2] or "B").upper()
    step = 1024 if "I" in unit else 1000
    return int(float(match[1]) * step ** _POWERS[unit.rstrip("B").rstrip("I")])


class Top:
    """The workflow's own fields."""

    def __init__(self, expansion: Expansion) -> None:
        self.expansion = expansion
        self.session = expansion.session
        self.scope: Scope = expansion.scope
        self.values = Values(self.scope)
        self.fields: dict[str, Node] = expansion.root.value
        self.name = self.fields["name"].text
        self._check_name()
        self.output_dir = self._output_dir()
        self.resources: dict[str, Node] = (
            self.fields["resources"].value if "resources" in self.fields else {}
        )
        self.gpus = self._gpus()
        self.remotes, self.mode = self._remotes()

    def typed(self, field: str, default: Any = None) -> Any:
        node = self.fields.get(field)
        value = self.values.typed(node) if node is not None else None
        return default if value is None else value

    def _check_name(self) -> None:
        node = self.fields["name"]
        if "$" in self.name and self.values.text(node).plain != self.name:
            self.session.fault(node, "name: expected plain text, got an expression")
        elif "output_dir" not in self.fields:
            fault = name_fault(self.name)
            if fault:
                self.session.fault(node, fault[0], fault[1] or "or set output_dir")
        elif not self.name.isprintable():
            self.session.fault(node, "name: control characters are not allowed")

    def _output_dir(self) -> str:
        node = self.fields.get("output_dir")
        if node is None:
            return os.path.normpath(f"outputs/{self.name}")
        text = self.values.text(node)
        bad = list(text.refs)
        if bad:
            self.session.fault(node, "output_dir: expected text without references to jobs")
        path = os.path.normpath(text.plain or ".")
        if any(sign in path for sign in "*?["):
            self.session.fault(node, f"output_dir: {path}: the signs *, ? and [ are not allowed")
        if not text.broken and not bad and os.path.isfile(path):
            self.session.fault(node, f"output_dir: {path} is a file, expected a folder")
        return path

    def _gpus(self) -> tuple[int, ...] | None:
        known = self.resources.get("gpus"), self.resources.get("local_gpus")
        lists = [self.values.typed(node) for node in known if node is not None]
        if len(lists) == 2 and lists[0] != lists[1]:
            assert known[1] is not None
            self.session.fault(known[1], "resources: `local_gpus` and `gpus` differ, give one")
        if not lists or not isinstance(lists[0], list):
            return None
        return tuple(sorted(int(each) for each in lists[0] if each is not None))

    def _remotes(self) -> tuple[tuple[str, ...], str]:
        node = self.resources.get("remote")
        names: list[str] = []
        for each in node.value if node is not None else []:
            name = each.value["name"].text
            if name in names or name == "local":
                self.session.fault(each.value["name"], f'a second remote named "{name}"')
            names.append(name)
        mode = self.resources.get("mode")
        word = self.values.typed(mode) if mode is not None else None
        if mode is not None and word == "remote" and not names:
            message = "mode: remote needs a remote, none is listed"
            self.session.fault(mode, message, "list one under `remote`")
        return tuple(names), word or ("mixed" if names else "local")

    def workflow(self, jobs: tuple[Job, ...], links: Mapping[str, str]) -> Workflow:
        """The whole, once its jobs are made; `links` see `PlaceIndex`."""
        session, fields = self.session, self.fields
        cache = fields["cache"].value if "cache" in fields else {}
        max_size = self.values.typed(cache["max_size"]) if "max_size" in cache else None
        description = self.values.text(fields["description"]) if "description" in fields else Text()
        timeout = self.typed("timeout")
        resources = {
            key: self.values.typed(node) for key, node in self.resources.items() if key != "remote"
        }
        parallel = resources.get("max_parallel")
        made = Workflow(
            name=self.name,
            path=self.expansion.path,
            output_dir=self.output_dir,
            jobs=jobs,
            description=description.plain or "",
            env={
                name: text.render(self._fill)
                for name, text in self.scope.env.items()
                if not any(text.secrets)
            },
            gpus=self.gpus,
            max_parallel=None if parallel is None else int(parallel),
            allocation=resources.get("allocation") or "dynamic",
            cost_per_gpu_hour=float(resources.get("cost_per_gpu_hour") or 0.0),
            timeout=None if timeout is None else parse_duration(timeout),
            tui=self.typed("tui", True),
            notify=self._plain("notify"),
            cache_dir=self.values.plain(cache["dir"], "cache.dir") or "" if "dir" in cache else "",
            cache_max_size=None if max_size is None else parse_size(max_size),
            private=any(job.secret_env for job in jobs),
            sources=session.sources,
            variables=session.variables,
            needs=tuple(session.needs),
            links=links,
        )
        _stop_if_any(session)
        return made

    def _plain(self, field: str) -> str:
        node = self.fields.get(field)
        return (self.values.plain(node, field) or "") if node is not None else ""

    def _fill(self, ref: Ref) -> str:
        return self.output_dir if ref.what == "out" else ref.written
