"""A shell script as the command that trains: the words of its program, and ``key=value`` and ``--flag`` arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from recipec.importing.shell_flow import Flow
from recipec.importing.shell_words import REDIRECTION, Lexer, Word, expanded, plain

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
_BY_USE = re.compile(r"\$\{([A-Za-z_]\w*):?=((?:[^{}]|\$\{[^{}]*\})*)\}")
_SETTING = re.compile(r"(?:\+\+|\+|~)?([A-Za-z_][\w.@/-]*)=(.*)", re.DOTALL)
_FLAG = re.compile(r"--?([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)
_ARGUMENT = re.compile(r"\$(?:[@*\d]|\{[@*\d].*\})")
_OUTSIDE = re.compile(r'"?\$\{(\w+):?[-=]\}"?')
"""A value that who starts the script may give, and is empty otherwise."""
_STARTERS = {
    *("python", "python3", "uv", "accelerate", "accelerate.commands.launch", "torchrun", "torch.distributed.run"),
    *("torch.distributed.launch", "deepspeed", "ray", "srun", "source", "--"),
}
"""Words that start another program: what follows is not of the program before."""
_KEYWORDS = re.compile(
    r"if|then|else|elif|fi|for|while|do|done|case|esac|in|function|[{}!]|time|exec|nohup|sudo|export|local|declare|"
    r"readonly|set"
)
MOST_COMMANDS = 2000
"""Commands of a script that are read."""
MOST_WORDS = 5000
"""Words of a command that are read."""
MOST_CHARACTERS = 65_536
"""Characters of one variable; a longer one counts as not known."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: ``Argument("trainer.nnodes", "1", 12)``."""

    name: str
    value: str | bool | list[str]
    line: int
    unresolved: tuple[str, ...] = ()
    after: int = 0
    """Words of the command before it."""
    added: bool = False
    """Whether Hydra shall take the name although it does not know it: ``+NAME=VALUE``."""


@dataclass(slots=True)
class Command:
    """One command of a script."""

    words: list[str] = field(default_factory=list)
    """Words that are no arguments with a name: programs, modules, files."""
    arguments: list[Argument] = field(default_factory=list)
    line: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it was read."""

    commands: tuple[Command, ...]
    """Commands that have arguments with names."""
    assumed: tuple[tuple[int, str, str], ...] = ()
    """Line, condition and what was assumed of it, where only a shell would know."""
    settings: tuple[str, ...] = ()
    """Files with settings that its programs are started with."""
    scripts: tuple[str, ...] = ()
    """Scripts that it starts without arguments."""


def read_script(text: str) -> Script:
    """Read the commands of a script; variables are those assigned before, in the branches that are taken.

    >>> [found] = read_script("N=8; python -m verl.trainer.main_ppo x.n=$N --lr 1e-6 --bf16").commands
    >>> found.words, [(a.name, a.value, a.line) for a in found.arguments]
    (['python', 'verl.trainer.main_ppo'], [('x.n', '8', 1), ('lr', '1e-6', 1), ('bf16', True, 1)])
    """
    read, whole = _read(text), _read(text, everything=True)
    if 2 * _longest(read) >= _longest(whole):
        return read
    return replace(whole, assumed=((1, "conditions of the script", "every branch is read"),))


def _longest(script: Script) -> int:
    return max((len(command.arguments) for command in script.commands), default=0)


def _read(text: str, *, everything: bool = False) -> Script:
    variables: dict[str, list[Word]] = {}
    flow = Flow(variables, everything)
    commands: list[Command] = []
    files: list[str] = []
    scripts: list[str] = []
    for line, end in _nested(_statements(Lexer(text).words()), variables):
        words = _assigned(flow.running(line, end), variables)
        _assigned_by_use(words, variables)
        if words and words[0].text != ":":
            inner_words = (inner for word in words for inner in expanded(word, variables))
            command = _command(list(islice(inner_words, MOST_WORDS)))
            files += settings_of(command)
            scripts += [word for word in command.words[1:2] if word.endswith(".sh") and not command.arguments]
            if command.arguments and len(commands) < MOST_COMMANDS:
                commands.append(command)
    assumed = tuple((line, condition, what) for (line, condition), what in flow.assumed.items())
    return Script(tuple(commands), assumed, tuple(dict.fromkeys(files)), tuple(dict.fromkeys(scripts)))


def settings_of(command: Command) -> list[str]:
    """Return the files with settings that a program is started with, those of launchers left out."""
    given = [argument.value for argument in command.arguments if argument.name in _SETTINGS_BY]
    words = [*command.words[1:], *map(str, given)]
    return [word for word in words if word.endswith((".yaml", ".yml", ".toml")) and "$" not in word]


_SETTINGS_BY = {"config", "cfg", "config-file-path", "config_path"}
"""Arguments that name a file with settings of the program."""
_END = Word("\n", 0, operator=True)
_SHELLS = {"bash", "sh", "zsh"}


def _nested(statements: Iterator[tuple[list[Word], Word]], variables: dict[str, list[Word]]) -> Iterator[Statement]:
    """Yield the commands of a text that a shell is started with, ``bash -c "…"``, in place of that shell."""
    for words, end in statements:
        at = next((n for n, word in enumerate(words[:-2]) if word.text.rpartition("/")[2] in _SHELLS), None)
        if at is None or not re.fullmatch(r"-\w*c", words[at + 1].text) or not re.search(r"\s", words[at + 2].text):
            yield words, end
            continue
        body, _ = plain(words[at + 2].text, variables)
        yield from _statements(Lexer(body, words[at + 2].line).words())


Statement = tuple[list[Word], Word]
"""The words of a command, and the operator that ends it."""


def _statements(words: Sequence[Word]) -> Iterator[tuple[list[Word], Word]]:
    """Split words at operators that end a command, which follow; a document stays with its command, a test is whole."""
    current: list[Word] = []
    test = redirected = False
    for word in words:
        test = word.text == "[[" or (test and word.text != "]]")
        if word.operator and not test and REDIRECTION.fullmatch(word.text):
            redirected = True
        elif redirected and not word.operator:
            redirected = False
        elif not word.operator or word.text == "<<" or test:
            current.append(word)
        elif word.text == "<<<":
            continue
        else:
            redirected = False
            yield current, word
            current = []
    yield current, _END


def _assigned(words: list[Word], variables: dict[str, list[Word]]) -> list[Word]:
    """Note the variables that a command assigns, and return its other words."""
    document = next((index for index, word in enumerate(words) if word.operator), None)
    if document is not None:
        if words[0].text == "read" and document + 1 < len(words):
            body = words[document + 1]
            names = [word.text for word in words[1:document] if re.fullmatch(r"[A-Za-z_]\w*", word.text)]
            if names:
                items = [word for word in Lexer(body.text, body.line).words() if not word.operator]
                variables[names[-1]] = [inner for item in items for inner in expanded(item, variables)]
            return []
        words = words[:document]
    index = 0
    while index < len(words):
        if _KEYWORDS.fullmatch(words[index].text):
            index += 1
            continue
        assignment = _ASSIGNMENT.fullmatch(words[index].text)
        if assignment is None:
            break
        _assign(words[index], assignment, variables)
        index += 1
    return words[index:]


def _assigned_by_use(words: Sequence[Word], variables: dict[str, list[Word]]) -> None:
    """Note variables that get a default where they are used: ``${NAME:=default}``."""
    for word in words:
        for name, value in _BY_USE.findall(word.text):
            text, missing = plain(value, variables)
            variables.setdefault(name, [Word(text, word.line, tuple(missing))])


def _assign(word: Word, assignment: re.Match[str], variables: dict[str, list[Word]]) -> None:
    """Note a variable with its value at this place, as a shell does."""
    name, more, value = assignment.groups()
    if value.startswith("(") and value.endswith(")"):
        items = [item for item in Lexer(value[1:-1], word.line).words() if not item.operator]
        made = [inner for item in items for inner in expanded(item, variables)]
    else:
        text, missing = plain(value, variables)
        if name in variables and any(_ARGUMENT.fullmatch(piece) for piece in missing):
            return  # given by who starts the script: the value before is the usual one
        outside = _OUTSIDE.fullmatch(value)
        if outside and not text and outside[1] not in variables:
            missing = [outside[0].strip('"')]
        made = [Word(text, word.line, tuple(missing))]
    made = [*variables.get(name, []), *made] if more else made
    if sum(len(item.text) for item in made) <= MOST_CHARACTERS:
        variables[name] = made


def _command(words: Sequence[Word]) -> Command:
    """Tell arguments with names from the other words of a command."""
    words = [word for word in words if word.text != "\\"]  # at the end of a script
    command = Command(line=words[0].line if words else 0)
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        flag, setting = _FLAG.fullmatch(word.text), _SETTING.fullmatch(word.text)
        if flag and not re.fullmatch(r"-[\d.].*", word.text):
            name, value = flag[1], flag[2]
            if name in {"m", "module"} and value is None and index < len(words):
                command.words.append(words[index].text)
                index += 1
                continue
            unresolved = list(word.unresolved)
            items: list[str] = []
            while (
                value is None
                and index < len(words)
                and not _begins_argument(words[index].text, started=_started(command))
                and not (items and _SETTING.fullmatch(words[index].text) and _SETTING.fullmatch(items[0]) is None)
            ):
                items.append(words[index].text)
                unresolved += words[index].unresolved
                index += 1
            argument_value: str | bool | list[str] = value if value is not None else True
            if items:
                argument_value = items[0] if len(items) == 1 else [item.rstrip(",") for item in items]
            command.arguments.append(Argument(name, argument_value, word.line, tuple(unresolved), len(command.words)))
        elif setting:
            name = setting[1]
            added = word.text.startswith("+")
            command.arguments.append(Argument(name, setting[2], word.line, word.unresolved, len(command.words), added))
        elif word.text not in {"$@", "$*"} and word.text.strip():
            command.words.append(word.text)
    return command


def _started(command: Command) -> bool:
    """Whether the program is among the words already."""
    last = max((at for at, word in enumerate(command.words) if word in _STARTERS), default=-1)
    return any(word.endswith(".py") or re.fullmatch(r"[a-z_]\w*(?:\.\w+)+", word) for word in command.words[last + 1 :])


def _begins_argument(text: str, *, started: bool) -> bool:
    """Whether a word after a flag is not its value: another flag, a setting, or the script that is started."""
    if re.fullmatch(r"-?[\d.]+(?:[eE][-+]?\d+)?", text):
        return False
    return (
        (text.endswith(".py") and not started)
        or text.startswith("--")
        or text in {"$@", "$*"}
        or bool(re.fullmatch(r"-[A-Za-z]", text))
        or (bool(_SETTING.fullmatch(text)) and "." in text.split("=", 1)[0])
    )
