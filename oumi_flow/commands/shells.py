"""Completion scripts, made from the same table of commands and flags as the parser.

Job names are asked of the tool itself (`oumi-flow _jobs FILE`), which reads the snapshot.
"""

from __future__ import annotations

from oumi_flow.flags import COMMANDS, HIDDEN, Command

_BASH = """\
# oumi-flow completion for bash: eval "$(oumi-flow completion bash)"
_oumi_flow() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]}} file= i
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{commands} --help --version" -- "$word"))
    return
  fi
  case $word in
    -*)
      case $command in
{flags}
      esac
      return ;;
  esac
  for ((i = 2; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in *.yaml | *.yml) file=${{COMP_WORDS[i]}} ;; esac
  done
  case $command in
    completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$word")); return ;;
    {with_jobs})
      if [ -n "$file" ]; then
        local IFS=$'\\n'
        COMPREPLY=($(compgen -W "$(oumi-flow _jobs "$file" 2>/dev/null)" -- "$word"))
        return
      fi ;;
  esac
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen -f -X '!*.y*ml' -- "$word") $(compgen -d -- "$word"))
}}
complete -F _oumi_flow oumi-flow
"""

_ZSH = """\
# oumi-flow completion for zsh: eval "$(oumi-flow completion zsh)"
_oumi_flow() {{
  local -a commands flags jobs
  local file=${{words[(r)*.y(a|)ml]}}
  commands=(
{commands}
  )
  if (( CURRENT == 2 )); then
    _describe -t commands 'command' commands
    return
  fi
  case ${{words[2]}} in
{flags}
  esac
  if [[ $PREFIX == -* ]]; then
    compadd -- $flags
    return
  fi
  case ${{words[2]}} in
    completion) compadd bash zsh fish; return ;;
    {with_jobs})
      if [[ -n $file && $CURRENT -gt 3 ]]; then
        jobs=("${{(@f)$(oumi-flow _jobs $file 2>/dev/null)}}")
        compadd -- $jobs
        return
      fi ;;
  esac
  _files -g '*.y(a|)ml'
}}
compdef _oumi_flow oumi-flow
"""

_FISH_HEAD = """\
# oumi-flow completion for fish: oumi-flow completion fish | source
function __oumi_flow_jobs
    for word in (commandline -opc)
        if string match -q -r '\\.ya?ml$' -- $word
            oumi-flow _jobs $word 2>/dev/null
            return
        end
    end
end
complete -c oumi-flow -f
complete -c oumi-flow -n __fish_use_subcommand -l help -d 'what there is'
complete -c oumi-flow -n __fish_use_subcommand -l version -d 'the version'
"""


def script(shell: str) -> str:
    """The completion script of `bash`, `zsh` or `fish`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _public() -> dict[str, Command]:
    return {name: command for name, command in COMMANDS.items() if not name.startswith("_")}


def _flags(command: Command) -> list[str]:
    return [
        flag
        for arg in command.args
        for flag in arg.names
        if flag.startswith("-") and arg.settings.get("help") != HIDDEN
    ] + ["--help"]


def _with_jobs() -> str:
    names = [
        name
        for name, command in _public().items()
        if any(arg.complete == "job" for arg in command.args)
    ]
    return " | ".join(names)


def _bash() -> str:
    flags = "\n".join(
        f'        {name}) COMPREPLY=($(compgen -W "{" ".join(_flags(command))}" -- "$word")) ;;'
        for name, command in _public().items()
    )
    return _BASH.format(commands=" ".join(_public()), flags=flags, with_jobs=_with_jobs())


def _zsh() -> str:
    commands = "\n".join(
        f"    {_quote(f'{name}:{command.summary}')}" for name, command in _public().items()
    )
    flags = "\n".join(
        f"    {name}) flags=({' '.join(_flags(command))}) ;;" for name, command in _public().items()
    )
    return _ZSH.format(commands=commands, flags=flags, with_jobs=_with_jobs())


def _fish() -> str:
    lines = [_FISH_HEAD]
    for name, command in _public().items():
        seen = f"complete -c oumi-flow -n '__fish_seen_subcommand_from {name}'"
        about = _quote(command.summary)
        lines.append(f"complete -c oumi-flow -n __fish_use_subcommand -a {name} -d {about}\n")
        for arg in command.args:
            if arg.settings.get("help") == HIDDEN:
                continue
            if arg.names[0].startswith("-"):
                words = " ".join(
                    f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                    for flag in arg.names
                )
                lines.append(f"{seen} {words} -d {_quote(arg.settings['help'])}\n")
            elif arg.complete == "file":
                lines.append(f"{seen} -F\n")
            elif arg.complete == "job":
                lines.append(f"{seen} -a '(__oumi_flow_jobs)'\n")
    lines.append(
        "complete -c oumi-flow -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n"
    )
    return "".join(lines)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
