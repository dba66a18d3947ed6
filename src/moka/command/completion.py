"""Scripts with which bash, zsh and fish complete commands, flags and files: `caffe completion`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from moka.command.commands import Command
from moka.command.flags import COMMON, Flag
from moka.command.run import run
from moka.command.table import COMMANDS, PROGRAMS
from moka.errors import UsageError, did_you_mean


def bash() -> str:
    """The script for bash: `source <(caffe completion bash)`."""
    cases = "\n".join(_bash_case(command) for command in COMMANDS.values())
    names = " ".join([*COMMANDS, "help"])
    programs = "\n".join(
        f"complete -o default -F _caffe_program {name}" for name in _tool_programs()
    )
    return f"""\
_caffe_words() {{
    local flags="" choices="" arguments=""
    case "$1" in
{cases}
    esac
    local previous="${{COMP_WORDS[COMP_CWORD-1]}}" word="${{COMP_WORDS[COMP_CWORD]}}" each
    if [[ "$previous" == "=" ]]; then previous="${{COMP_WORDS[COMP_CWORD-2]}}"; fi
    if [[ "$word" == "=" ]]; then previous="${{COMP_WORDS[COMP_CWORD-1]}}"; word=""; fi
    for each in $choices; do
        if [[ "${{previous##*-}}" == "${{each%%:*}}" ]]; then
            each="${{each#*:}}"
            COMPREPLY=($(compgen -W "${{each//,/ }}" -- "$word"))
            return
        fi
    done
    if [[ "$word" == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$word"))
    elif [[ "$arguments" != "" ]]; then
        COMPREPLY=($(compgen -W "$arguments" -- "$word"))
    fi
}}
_caffe() {{
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]] || [[ $COMP_CWORD -eq 2 && "${{COMP_WORDS[1]}}" == help ]]; then
        COMPREPLY=($(compgen -W "{names}" -- "${{COMP_WORDS[COMP_CWORD]}}"))
    else
        _caffe_words "${{COMP_WORDS[1]}}"
    fi
}}
_caffe_program() {{
    COMPREPLY=()
    _caffe_words "${{COMP_WORDS[0]##*/}}"
}}
complete -o default -F _caffe {" ".join(PROGRAMS)}
{programs}
"""


def _bash_case(command: Command) -> str:
    names = "|".join(dict.fromkeys([command.name, *dict(command.programs)]))
    flags = " ".join(f"--{flag.name}" for flag in _flags(command))
    choices = " ".join(f"{f.name}:{','.join(f.choices)}" for f in command.flags if f.choices)
    arguments = " ".join(_fixed_words(command))
    return f'    {names}) flags="{flags}" choices="{choices}" arguments="{arguments}" ;;'


def zsh() -> str:
    """The script for zsh: `source <(caffe completion zsh)`."""
    described = "\n".join(
        f"        {_quoted(f'{name}:{help}')}" for name, help in _described_names()
    )
    cases = "\n".join(_zsh_case(command) for command in COMMANDS.values())
    return f"""\
#compdef {" ".join([*PROGRAMS, *_tool_programs()])}
_caffe_words() {{
    case "$1" in
{cases}
        *) _files ;;
    esac
}}
_caffe() {{
    local -a commands
    commands=(
{described}
    )
    if [[ "$service" != caffe && "$service" != moka ]]; then
        _caffe_words "$service"
    elif (( CURRENT == 2 )) || [[ "${{words[2]}}" == help ]]; then
        _describe command commands
    else
        local name="${{words[2]}}"
        shift words
        (( CURRENT-- ))
        _caffe_words "$name"
    fi
}}
compdef _caffe {" ".join([*PROGRAMS, *_tool_programs()])}
"""


def _zsh_case(command: Command) -> str:
    names = "|".join(dict.fromkeys([command.name, *dict(command.programs)]))
    lines = []
    for flag in _flags(command):
        help = _first_sentence(flag).replace("[", "(").replace("]", ")").replace(":", " -")
        value = ""
        if not isinstance(flag.default, bool):
            value = f":value:({' '.join(flag.choices)})" if flag.choices else ":value:_files"
        lines.append(_quoted(f"--{flag.name}{'' if not value else '='}[{help}]{value}"))
    words = " ".join(_fixed_words(command))
    lines.append(_quoted(f"*:argument:({words})" if words else "*:file:_files"))
    return f"        {names}) _arguments \\\n            " + " \\\n            ".join(lines) + " ;;"


def fish() -> str:
    """The script for fish: `caffe completion fish | source`."""
    return "\n".join(_fish_lines()) + "\n"


def _fish_lines() -> Iterator[str]:
    for program in PROGRAMS:
        for name, help in _described_names():
            yield (
                f"complete -c {program} -f -n __fish_use_subcommand -a {name} -d {_escaped(help)}"
            )
        for command in COMMANDS.values():
            condition = f"-n '__fish_seen_subcommand_from {command.name}' "
            yield from _fish_flags(f"complete -c {program} {condition}", command)
    for command in COMMANDS.values():
        for program in dict(command.programs):
            yield from _fish_flags(f"complete -c {program} ", command)


def _fish_flags(start: str, command: Command) -> Iterator[str]:
    for flag in _flags(command):
        value = ""
        if not isinstance(flag.default, bool):
            value = f" -x -a '{' '.join(flag.choices)}'" if flag.choices else " -r"
        yield f"{start}-l {flag.name}{value} -d {_escaped(_first_sentence(flag))}"
    if words := _fixed_words(command):
        yield f"{start}-f -a '{' '.join(words)}'"


def _described_names() -> Iterable[tuple[str, str]]:
    yield from ((command.name, command.help) for command in COMMANDS.values())
    yield "help", "show a command's help"


def _flags(command: Command) -> tuple[Flag, ...]:
    return (*command.flags, *COMMON)


def _fixed_words(command: Command) -> list[str]:
    """The words that the first argument can be: of `info|head|verify DB` the first three."""
    first = command.arguments.partition(" ")[0]
    return first.split("|") if "|" in first else []


def _tool_programs() -> list[str]:
    return [name for command in COMMANDS.values() for name in dict(command.programs)]


def _first_sentence(flag: Flag) -> str:
    text = flag.help.removeprefix("Optional; ")
    return text.partition(". ")[0].rstrip(".")


def _quoted(text: str) -> str:
    """For bash and zsh: within apostrophes."""
    return "'" + text.replace("'", "'\\''") + "'"


def _escaped(text: str) -> str:
    """For fish: within apostrophes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe completion SHELL`."""
    return run("completion", _print, argv)


def _print(words: list[str], flags: dict[str, Any]) -> None:
    if words[0] not in SHELLS:
        raise UsageError(
            f"there is no completion for {words[0]}.",
            advice=did_you_mean(words[0], SHELLS) or f"Known: {', '.join(SHELLS)}.",
        )
    print(SHELLS[words[0]](), end="")
