"""From a draft to a Job: its fields checked against its verb, its command and fingerprint made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from functools import cache

from oumi_flow import staleness
from oumi_flow.errors import Problem
from oumi_flow.load.args import args_of
from oumi_flow.load.environment import counted_env, environment, plain_env
from oumi_flow.load.expand import Draft
from oumi_flow.load.inputs import Reader, Reading, needs_input
from oumi_flow.load.link import Links
from oumi_flow.load.making import HERE, Making, Texts, Workshop
from oumi_flow.load.places import Made
from oumi_flow.load.resources import GPU_VARIABLE, Resources
from oumi_flow.load.template import Text
from oumi_flow.load.terms import TERM_FIELDS, terms_of
from oumi_flow.load.values import Session
from oumi_flow.load.yaml_source import Node
from oumi_flow.model import Command, Job
from oumi_flow.text import did_you_mean
from oumi_flow.typed import Any
from oumi_flow.verbs.command import Args, build_command, normal_args, parse_args, shell_command
from oumi_flow.verbs.places import to_workdir
from oumi_flow.verbs.table import VerbSpec, file_of, known_verbs, verb


class Bench:
    """What making jobs needs of the workflow."""

    def __init__(
        self,
        session: Session,
        links: Links,
        output_dir: str,
        resources: Resources,
        *,
        warm: bool,
    ) -> None:
        self.session = session
        self.links = links
        self.output_dir = output_dir
        self.resources = resources
        self.warm = warm
        # A valid name below a folder that has one itself leaves nothing to tidy.
        self._is_below = not output_dir.endswith(("/", "."))
        self._verbs: dict[str, VerbSpec | None] = {}
        self._which = cache(shutil.which)  # for one load: most jobs ask for the same programs

    # -------------------------------------------------------------- beginning

    def begin(self, number: int, draft: Draft) -> Making | None:
        """A job with its verb known and its texts taken apart; None when that fails."""
        if id(draft.node) in self.session.lost:
            # What can be said of it without the part that was refused.
            if "verb" in draft.fields:
                self._spec(draft)
            self.links.depends_on(draft)
            return None
        fields, once = draft.fields, draft.entry.once
        spec = once("spec", ("verb",), lambda: self._fitting_spec(draft))
        if spec is None:
            return None
        needs = self.links.depends_on(draft) if "depends_on" in fields else []
        making = Making(draft.name, number, draft, spec, self._folder(draft), needs)
        making.env = once("env", ("env",), draft.values.env)
        if "run" in fields:
            self._take_run(making, fields["run"])
        if "args" in fields:
            making.args = args_of(draft, making.spec)
        if "inputs" in fields:
            making.inputs = draft.texts("inputs")
        if "outputs" in fields:
            making.outputs = self._outputs(making)
        making.workdir_text = once("workdir", ("workdir",), lambda: self._workdir_text(draft))
        self._take_refs(making)
        group = draft.scope.prefix
        if not any(group and name.startswith(group) for name in making.needs):
            for name in self.links.group_needs(draft):
                if name not in making.needs:
                    making.needs.append(name)
        return making

    def _folder(self, draft: Draft) -> str:
        folder = f"{self.output_dir}/{draft.name}"
        return folder if self._is_below else os.path.normpath(folder)

    def _outputs(self, making: Making) -> Texts:
        texts = making.draft.texts("outputs")
        for text, node in texts:
            if text.plain == "" and not text.broken:
                self.session.fault(node, "outputs: expected a path, got an empty text")
                making.broken = True
        return [each for each in texts if each[0].plain != ""]

    def _fitting_spec(self, draft: Draft) -> VerbSpec | None:
        spec = self._spec(draft)
        return spec if spec is not None and self._fields_fit(draft, spec) else None

    def _spec(self, draft: Draft) -> VerbSpec | None:
        node = draft.fields.get("verb")
        if node is None:
            hint = did_you_mean("verb", [k for k in draft.fields if k != "name"])
            hint = hint or "for example `verb: train`, or `verb: shell` with `run:`"
            self.session.add(Problem('job: the key "verb" is missing', draft.node.where, hint))
            return None
        name = draft.values.plain(node, "verb")
        if name is None:
            return None
        if name not in self._verbs:
            try:
                found = self._verbs[name] = verb(name)
            except KeyError:
                self._verbs[name] = None
            else:
                self._note_plug_in(found)
        spec = self._verbs[name]
        if spec is None:
            names = known_verbs()
            self.session.fault(
                node,
                f'unknown verb "{name}": expected one of {", ".join(names)}',
                did_you_mean(name, names),
            )
        return spec

    def _note_plug_in(self, spec: VerbSpec) -> None:
        """What was made of its file is not taken any more once that is another one."""
        from oumi_flow.disk import stamp

        if file := file_of(spec):
            self.session.sources.setdefault(file, stamp(file))

    def _fields_fit(self, draft: Draft, spec: VerbSpec) -> bool:
        """Whether the job has what its verb needs, and nothing that has no effect there."""
        fields, session = draft.fields, self.session
        needed = "run" if spec.is_shell else "config" if spec.needs_config else ""
        if needed and needed not in fields:
            other = "config" if spec.is_shell else "run"
            hint = f"`{other}` is for another verb" if other in fields else ""
            session.fault(
                fields["verb"], f'verb {spec.name} needs the key "{needed}", which is missing', hint
            )
            return False
        idle = ["config", "args", "judge", "fingerprint"] if spec.is_shell else ["run"]
        if not spec.is_shell and spec.name != "judge":
            idle.append("judge")
        fits = True
        for field in idle:
            if field in fields and field in draft.node.value:
                where = draft.node.key_where(field)
                hint = {"args": "put them into `run`", "config": "an oumi verb?"}.get(field, "")
                session.add(Problem(f"`{field}` has no effect on verb {spec.name}", where, hint))
                fits = False
        return fits

    def _take_run(self, making: Making, node: Node) -> None:
        values = making.draft.values
        making.run_is_list = isinstance(node.value, list)
        words = node.value if making.run_is_list else [node]
        making.run = [(values.text(each, run=True), each) for each in words]

    def _workdir_text(self, draft: Draft) -> Text:
        own = draft.text("workdir")
        if own is not None:
            return own
        inherited = draft.scope.inherited("workdir")
        if inherited is None:
            return HERE
        node, scope = inherited
        from oumi_flow.load.values import Values

        return Values(scope).text(node)

    def _take_refs(self, making: Making) -> None:
        """References that a job holds are dependencies; those to nowhere break it."""
        draft = making.draft
        env_nodes = draft.entry.env_nodes
        named = draft.fields["name"]
        holders = [*making.run, *making.args, *making.inputs, *making.outputs]
        holders += [(text, env_nodes.get(name, named)) for name, text in making.env.items()]
        holders.append((making.workdir_text, draft.fields.get("workdir", named)))
        for text, node in holders:
            if text.broken:
                making.broken = True
            if text.plain is not None:
                continue
            for ref in text.refs:
                if not self.links.check(ref, node, draft):
                    making.broken = True
                elif ref.job:
                    making.refs.append((ref, node))
                    if ref.job not in making.needs:
                        making.needs.append(ref.job)
        if self.session.late:
            for field, node in draft.fields.items():
                if field != "matrix":
                    draft.values.typed(node)  # also what nobody asks for must be right

    # ----------------------------------------------------------------- ending

    def finish(self, making: Making, workshop: Workshop, reader: Reader) -> Job | None:
        """The job, once all that it refers to has its place. None when something is wrong."""
        draft, spec, session = making.draft, making.spec, self.session
        if making.broken:
            return None
        self._check_output_numbers(making, workshop)
        self._check_fields(making, reader)
        missing = needs_input(spec, making)
        if missing:
            hint = (
                f"set it in {making.config} or in `args`"
                if not missing.startswith("--")
                else f'args: ["{missing}=FILE.jsonl"]'
            )
            message = f"verb {spec.name} needs {missing}: without it oumi has nothing to do"
            session.fault(draft.fields["config"], message, hint)
        before = len(session.problems)
        reading = reader.read(making)
        once = draft.entry.once
        if GPU_VARIABLE in making.env:
            gpu = self.resources.gpu(making, workshop)
        else:
            gpu = once("gpu", ("verb", "resources"), lambda: self.resources.gpu(making, workshop))
        executor = once("executor", ("resources",), lambda: self.resources.executor(draft))
        parts = self._parts(making, workshop, reading)
        if len(session.problems) > before or missing:
            return None
        secret_env: dict[str, str] = {}
        env = plain_env(making)
        if env is None:
            env, secret_env = environment(making, workshop)
        depends_on = upstream = tuple(making.needs)
        implied: tuple[str, ...] = ()
        if reading.implied:
            upstream = tuple(dict.fromkeys([*making.needs, *reading.implied]))
            implied = tuple(name for name in upstream if name not in making.needs)
        args: tuple[str, ...] = ()
        words = Args()
        if not spec.is_shell:
            words = parse_args(making.words, spec)
            args = normal_args(words, spec)
            if reading.overrides:
                args = (*args, *reading.overrides)
                words = Args([*words, *parse_args(reading.overrides, spec)])
        argv = self._argv(making, workshop, words)
        terms = once("terms", TERM_FIELDS, lambda: terms_of(draft, warm=self.warm))
        return Job(
            name=making.name,
            verb=spec.name,
            folder=making.folder,
            place=making.placement.place,
            command=Command(argv, making.workdir, env, spec.progress),
            parts=parts,
            fingerprint=staleness.fingerprint(parts),
            description=terms.description,
            config=making.config,
            args=args,
            inputs=tuple(reading.inputs.values()),
            outputs=tuple(making.counted),
            depends_on=depends_on,
            implied=implied,
            upstream=upstream,
            secret_env=secret_env,
            gpu=gpu,
            executor=executor,
            retry=terms.retry,
            timeout=terms.timeout,
            grace=terms.grace,
            priority=terms.priority,
            always_run=terms.always_run,
            warm=terms.warm,
            cache=terms.cache,
            where=terms.where,
        )

    def _argv(self, making: Making, workshop: Workshop, args: Args) -> tuple[str, ...]:
        if making.spec.is_shell:
            words = [workshop.real(text, making, for_workdir=True) for text, _ in making.run]
            return shell_command(words if making.run_is_list else words[0], self._which)
        copy = f"{making.folder}/.oumi-flow/config.yaml"
        return build_command(
            making.spec,
            oumi=("oumi",),
            config=to_workdir(copy, making.workdir) if making.config else "",
            args=args,
            redirect=making.placement.redirect,
            mode=making.draft.typed("judge", "dataset"),
        )

    def _parts(self, making: Making, workshop: Workshop, reading: Reading) -> dict[str, Any]:
        """What the fingerprint is made of: all in canonical form."""
        from oumi_flow.load.configs import counted

        draft, spec = making.draft, making.spec

        def canon(text: Text) -> str:
            return reading.symbols(workshop.canon(text, making))

        run: Any = None
        if spec.is_shell:
            words = [canon(text) for text, _ in making.run]
            run = words if making.run_is_list else words[0]
        config: dict[str, Any] = {}
        if making.file is not None:
            print_ = draft.typed("fingerprint", {})
            config = counted(reading.flat, spec, print_.get("ignore", ()), print_.get("also", ()))
        env: Mapping[str, str | None]
        plain = plain_env(making)
        if plain is not None:
            env = draft.entry.once("counted env", ("env",), lambda: counted_env(plain))
        else:
            env = counted_env(
                {
                    name: None if any(text.secrets) else canon(text)
                    for name, text in making.env.items()
                }
            )
        others = list(reading.others)
        if not spec.is_shell and any("{mode}" in word for word in spec.argv):
            mode = draft.typed("judge", "dataset")
            others += [f"judge {mode}"] if mode != "dataset" else []
        return {
            "verb": spec.name,
            "run": run,
            "config": config,
            "args": others,
            "env": env,
            "workdir": canon(making.workdir_text)
            if making.workdir_text.plain is None and any(making.workdir_text.refs)
            else making.workdir_written,
            "outputs": [making.key_of(path) for path in making.declared],
        }

    def _check_fields(self, making: Making, reader: Reader) -> None:
        """What can be said of run, config, workdir and outputs once all places are known."""
        fields, session = making.draft.fields, self.session
        if making.run and not making.run_is_list and making.run[0][0].plain == "":
            session.fault(making.run[0][1], "run: expected a command, got an empty text")
        if making.config:
            made, _ = reader.index.find(making.config, making.name)
            if isinstance(made, Made):
                session.fault(
                    fields["config"],
                    f'config: {making.config} is made by job "{made.job}", '
                    "but a config is read before anything runs",
                    "make it beforehand, or hand its values over in `args`",
                )
        if making.workdir != "." and not os.path.isdir(making.workdir):
            made, _ = reader.index.find(making.workdir, making.name)
            if made is None:
                node = fields.get("workdir") or self._inherited_workdir(making)
                session.fault(
                    node,
                    f'workdir: "{making.workdir}" is no folder and no job makes it',
                    reader.workshop.near(making.workdir),
                )

    @staticmethod
    def _inherited_workdir(making: Making) -> Node:
        inherited = making.draft.scope.inherited("workdir")
        return inherited[0] if inherited is not None else making.draft.fields["name"]

    def _check_output_numbers(self, making: Making, workshop: Workshop) -> None:
        for ref, node in making.refs:
            if ref.what != "outputs":
                continue
            have = len(workshop.makings[ref.job].declared)
            if ref.number >= have:
                message = f'job "{ref.job}" has no output {ref.number}: it lists {have}'
                hint = "counted from 0" if have else "list them under its `outputs`"
                self.session.add(Problem(message, node.where_of(ref.written), hint))
