"""Files of other tools: RC170 and RC910 to RC912."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, diagnostic, file_span
from recipec.diagnostics.phrases import listed


@diagnostic("RC170", "foreign-file")
def foreign_file(file: str, tool: str, *, read: bool = True) -> Finding:
    """A file is the configuration or the script of another tool, not a recipe.

    What it checks: whether most of the names in the file are those of TRL, verl, EasyR1, axolotl, LLaMA-Factory,
    OpenRLHF, prime-rl, SkyRL, open-instruct, AReaL or ROLL, and it has neither `recipec` nor `stages`.
    Why it matters: every one of its keys would be an error.
    Example: a verl script with `actor_rollout_ref.model.path=…`.
    How to fix: `recipec import FILE` writes a recipe with the same settings, and lists what changes in meaning and what
    cannot be written. It does not read files of every tool that is named; `recipec new` writes a recipe to start from.
    """
    remedy = (
        f"`recipec import {file}` writes a recipe with its settings, and lists what changes in meaning"
        if read
        else "`recipec import` does not read such files: `recipec new` writes a recipe to start from"
    )
    return Finding(f"{file} is a file of {tool}, not a recipe", file_span(file), help=remedy)


@diagnostic("RC910", "nothing-to-import")
def nothing_to_import(file: str, problem: str, settings: Sequence[str] = ()) -> Finding:
    """A file to import has no names with values.

    What it checks: whether the file is YAML, TOML, or a shell script with a command that has arguments
    `key=value` or `--flag value`. Scripts are read and never run.
    Why it matters: there is nothing to translate.
    Example: a Python script, or a script that only calls other scripts.
    How to fix: import the YAML or TOML file, or the script that calls the trainer.
    """
    text = f"nothing in {file} can be imported: {problem or 'it has no keys'}"
    return Finding(text, file_span(file), help=_of_settings(settings))


def _of_settings(settings: Sequence[str]) -> str:
    return f"it starts a program with the settings of {listed(settings, 5)}: import that file" if settings else ""


@diagnostic("RC911", "unknown-tool")
def unknown_tool(file: str, known: Sequence[str], of: str = "", settings: Sequence[str] = ()) -> Finding:
    """A file to import is of no tool that is known, or of one with names that are not read.

    What it checks: whether the names in the file are mostly those of one tool.
    Why it matters: the same name means different things in different tools.
    Example: the configuration of a data pipeline.
    How to fix: import a training configuration of a known tool.
    """
    if of:
        help_ = f"write a recipe: `recipec ls` lists shipped ones. `import` reads files of {listed(known, 20)}"
        return Finding(f"{file} is a file of {of}, which `import` does not read", file_span(file), help=help_)
    text = f"{file} is not a training configuration of {listed(known, 20)}"
    return Finding(text, file_span(file), help=_of_settings(settings))


@diagnostic("RC912", "unknown-trainer")
def unknown_trainer(trainer: str, tool: str, known: Sequence[str]) -> Finding:
    """`--trainer` names a trainer that the tool of the file does not have.

    Why it matters: the trainer decides the objective and the defaults.
    Example: `--trainer grpo` with a LLaMA-Factory file.
    How to fix: use one of the trainers listed.
    """
    return Finding(f"{tool} has no trainer `{trainer}`", help=f"trainers are {listed(known, 20)}")
