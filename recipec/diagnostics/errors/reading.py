"""Keys, values and components of a recipe: RC130 to RC151."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, Fix, Proposal, Span, diagnostic
from recipec.diagnostics.phrases import listed

Spans = tuple[Span, ...]


@diagnostic("RC130", "unknown-key")
def unknown_key(
    key: str,
    where: str,
    path: str,
    spans: Spans,
    keys: Sequence[str],
    advice: str = "",
    fix: Fix | None = None,
    proposal: Proposal | None = None,
) -> Finding:
    """A key is not known at this place of the recipe.

    Why it matters: a misspelt key would otherwise be ignored and the default used silently.
    Example: `loss: {type: clipped, epsilom: 0.2}`.
    How to fix: use one of the keys listed. Keys of TRL, verl, axolotl and other tools are answered with the one to use.
    """
    known = f"known keys: {listed(keys, 24)}" if keys else "no keys are known here"
    message = f"unknown key `{key}` in {where}"
    return Finding(message, spans, help=advice or known, path=path, fix=fix, proposal=proposal)


@diagnostic("RC131", "unknown-component")
def unknown_component(
    name: str, slot: str, path: str, spans: Spans, names: Sequence[str], advice: str = "", fix: Fix | None = None
) -> Finding:
    """The `type` of a component is not one that fits its slot, neither built in nor from an installed plug-in.

    Why it matters: there is nothing to run, and no parameters to check.
    Example: `advantage: {credit: {type: group_relativ}}`.
    How to fix: use one of the components listed; `recipec ls` prints those of every slot.
    """
    known = f"the components of `{slot}` are {listed(names, 24)}"
    return Finding(f"unknown {slot} `{name}`", spans, help=advice or known, path=path, fix=fix)


@diagnostic("RC132", "bad-value")
def bad_value(
    key: str, shown: str, expected: str, path: str, spans: Spans, advice: str = "", fix: Fix | None = None
) -> Finding:
    """A value has the wrong type, is out of bounds, or is not one of the choices.

    Why it matters: values are neither converted nor cut to their bounds, because a guess could be wrong.
    Example: `learning_rate: "1e-5"` (text), `epsilon: 2`, `kl: k4`.
    How to fix: give a value as the message describes it; `recipec show SLOT/COMPONENT` prints each parameter with its
    unit and default.
    """
    return Finding(f"`{key}` must be {expected}; it is {shown}", spans, help=advice, path=path, fix=fix)


@diagnostic("RC133", "missing-key")
def missing_key(key: str, where: str, path: str, spans: Spans, about: str) -> Finding:
    """A required key is missing.

    Why it matters: the key has no default, because no value suits every recipe.
    Example: `reward: {form: {type: regex_format}}` without `pattern`.
    How to fix: add the key.
    """
    return Finding(f"{where} needs `{key}`", spans, help=f"`{key}`: {about}", path=path)


@diagnostic("RC134", "not-a-mapping")
def not_a_mapping(where: str, shown: str, path: str, spans: Spans, advice: str = "", fix: Fix | None = None) -> Finding:
    """A recipe, a section or a component is a single value, a list, or empty.

    Why it matters: settings are read by name. A bare value has no place for parameters, and another file or `--set`
    could not change the items of a list.
    Example: `attention: packed`; a file with comments only.
    How to fix: write keys with values: `KEY: {NAME: VALUE}`, or NAME: VALUE in indented lines below the key.
    """
    return Finding(f"{where} must be a mapping of keys; it is {shown}", spans, help=advice, path=path, fix=fix)


@diagnostic("RC135", "slot-not-in-kind")
def slot_not_in_kind(slot: str, kind: str, path: str, spans: Spans, kinds: Sequence[str]) -> Finding:
    """A stage has a slot that stages of its kind do not have.

    Why it matters: the slot would be ignored.
    Example: an `sft` stage with `advantage`.
    How to fix: remove the slot, or change the `kind` of the stage.
    """
    remedy = f"remove it, or change `kind`: {listed(kinds)} stages have `{slot}`"
    return Finding(f"a stage of kind `{kind}` has no `{slot}`", spans, help=remedy, path=path)


@diagnostic("RC136", "slot-missing")
def slot_missing(slot: str, kind: str, path: str, spans: Spans, names: Sequence[str], *, levels: bool) -> Finding:
    """A stage lacks a slot that stages of its kind need.

    Why it matters: the slot has no default, because no component suits every recipe.
    Example: an `rl` stage without `reward`.
    How to fix: add the slot.
    """
    form = f"{slot}: {{NAME: {{type: …}}}}" if levels else f"{slot}: {{type: …}}"
    remedy = f"add `{form}` with one of {listed(names, 24)}"
    return Finding(f"a stage of kind `{kind}` needs `{slot}`", spans, help=remedy, path=path)


@diagnostic("RC137", "wrong-count")
def wrong_count(key: str, kind: str, path: str, spans: Spans, instead: str, fix: Fix | None = None) -> Finding:
    """A budget counts in a unit that stages of this kind do not use: `rl` counts prompts, `sft` rows, `dpo` pairs.

    Why it matters: the batch would have another size: a prompt gives many rows in `rl`, and a pair is two rows.
    Example: `rows_per_step: 8` in an `rl` stage.
    How to fix: use the count of the stage's kind.
    """
    return Finding(f"a stage of kind `{kind}` has no `{key}`", spans, help=f"use `{instead}`", path=path, fix=fix)


@diagnostic("RC138", "ambiguous-budget")
def ambiguous_budget(keys: Sequence[str], among: Sequence[str], path: str, spans: Spans, remedy: str = "") -> Finding:
    """A budget gives its length twice or not at all, or gives the size of a minibatch twice.

    What it checks: exactly one of `steps` and `epochs`; at most one of `updates_per_step`, `prompts_per_update` and
    `rows_per_update`.
    Why it matters: two of them contradict each other; without a length the stage would never end.
    Example: `budget: {steps: 100, epochs: 2, rows_per_step: 8}`.
    How to fix: keep one of them.
    """
    if not keys:
        why, remedy = (
            "without a length the stage would never end",
            f"give one of them, as in `budget: {{{among[0]}: …}}`",
        )
        return Finding(f"the budget needs one of {listed(among)}", spans, why=why, help=remedy, path=path)
    return Finding(f"the budget can have only one of {listed(keys)}", spans, help=remedy, path=path)


@diagnostic("RC140", "bad-name")
def bad_name(name: str, what: str, path: str, spans: Spans, advice: str, fix: Fix | None = None) -> Finding:
    """A stage, a level or an evaluation has a name that cannot be used.

    Why it matters: names become folders, metrics and parts of `STAGE.rollouts`; `scratch` has another meaning in
    `from`.
    Example: `stages: {Explore-1: …}`.
    How to fix: start with a lower-case letter, followed by lower-case letters, digits and `_`.
    """
    return Finding(f"`{name}` cannot be the name of {what}", spans, help=advice, path=path, fix=fix)


@diagnostic("RC141", "format-version")
def format_version(shown: str, path: str, spans: Spans, fix: Fix | None = None) -> Finding:
    """The key `recipec`, the version of the recipe format, is missing or unknown.

    Why it matters: a later version may give the same keys another meaning.
    Example: a file that begins with `name:`.
    How to fix: write `recipec: 1` as the first line.
    """
    message = f"the format version must be the number 1; it is {shown}" if shown else "the format version is missing"
    return Finding(message, spans, path=path, fix=fix)


@diagnostic("RC142", "format-first", "warning")
def format_first(path: str, spans: Spans) -> Finding:
    """The format version `recipec: 1` is not the first key of its file.

    Why it matters: people and tools recognise a recipe by its first line.
    Example: `name: a` and then `recipec: 1`.
    How to fix: move it to the top of the file.
    """
    return Finding("`recipec` is not the first key", spans, path=path)


@diagnostic("RC143", "unread-variable")
def unread_variable(name: str, path: str, spans: Spans) -> Finding:
    """A variable under `vars` is defined, but no `${vars.…}` refers to it.

    Why it matters: changing the variable would have no effect.
    Example: `vars: {lr: 1.0e-5}` without any `${vars.lr}`.
    How to fix: refer to it, or remove it.
    """
    remedy = f"write `${{vars.{name}}}` where it is meant, or remove it"
    return Finding(f"nothing refers to the variable `{name}`", spans, help=remedy, path=path)


@diagnostic("RC144", "unknown-signal")
def unknown_signal(name: str, key: str, path: str, spans: Spans, advice: str, fix: Fix | None = None) -> Finding:
    """A parameter names a signal that does not exist.

    Why it matters: no component provides the signal.
    Example: `group: by_prompts_R`.
    How to fix: use a signal of the table that `recipec ls signals` prints.
    """
    return Finding(f"`{key}` names `{name}`, which is not a signal", spans, help=advice, path=path, fix=fix)


@diagnostic("RC145", "own-file")
def own_file(shown: str, path: str, spans: Spans) -> Finding:
    """An entry of `use` is not a relative path that ends in `.py`.

    Why it matters: `use` lists files with your own functions, which are part of the recipe. Installed packages provide
    components through entry points instead.
    Example: `use: [my_package.rewards]`.
    How to fix: give the path of a Python file next to the recipe, such as `./rewards.py`.
    """
    return Finding(f"`use` names {shown}, which is not a Python file next to the recipe", spans, path=path)


@diagnostic("RC147", "no-stages")
def no_stages(path: str, spans: Spans, *, fragment: bool = False) -> Finding:
    """A recipe has empty `stages`, or a fragment, a file without `stages`, is used as a recipe.

    Why it matters: there is nothing to run.
    Example: `stages: {}`.
    How to fix: add a stage, as in `stages: {learn: {kind: sft, …}}`.
    """
    if fragment:
        message = "this is a fragment, not a recipe: it has no `stages`"
        return Finding(message, spans, help="give a recipe that extends it", path=path)
    return Finding("the recipe has no stages", spans, path=path)


@diagnostic("RC148", "no-origin")
def no_origin(stage: str, path: str, spans: Spans, earlier: Sequence[str]) -> Finding:
    """A stage does not say which weights it starts from.

    Why it matters: a wrong guess, such as the stage before, would be noticed only after hours of training.
    Example: a second stage without `from`.
    How to fix: add `from:` with an earlier stage, a directory (`./…`), `org/name` of the hub, `package:…` or `scratch`.
    """
    others = "a directory (`./…`), `org/name` of the hub, `package:…` or `scratch`"
    stages = f"an earlier stage ({listed(earlier)}), " if earlier else ""
    message = f"stage `{stage}` needs `from`, the weights it starts from"
    return Finding(message, spans, help=f"add `from:` with {stages}{others}", path=path)


@diagnostic("RC149", "unnamed-part")
def unnamed(key: str, parts: str, what: str, written: str, path: str, spans: Spans) -> Finding:
    """A `reward`, an `advantage`, `stages`, `evaluate` or `trackers` has one part without a name.

    Why it matters: these keys map names to parts. The name appears in files and metrics, and another file uses it to
    change or remove the part.
    Example: `reward: {type: verifier}`; `evaluate: {data: {path: test.jsonl}}`.
    How to fix: give it a name, as in `reward: {answer: {type: verifier}}`.
    """
    message = f"`{key}` holds named {parts}, but this {what} has no name"
    return Finding(message, spans, help=f"give it a name of your choice: `{key}: {{NAME: {written}}}`", path=path)


@diagnostic("RC150", "keys-disagree")
def keys_disagree(where: str, problem: str, path: str, spans: Spans, remedy: str = "") -> Finding:
    """The keys of a component have the right types, but the component rejects their values or their combination.

    Why it matters: the component could not work with these values, or could not tell which of them is meant.
    Example: `data: {type: file, path: a.jsonl, hub: org/name}`; a regular expression that does not compile.
    How to fix: change the values as the message says.
    """
    return Finding(f"{where}: {problem}", spans, help=remedy, path=path)


@diagnostic("RC151", "broken-plug-in")
def broken_plugin(slot: str, name: str, problem: str, path: str, spans: Spans) -> Finding:
    """An installed package registers the component that the recipe names, but cannot be imported.

    Why it matters: nothing about the component can be checked without its declaration.
    Example: a package that was built for another version.
    How to fix: repair or remove the package. Recipes that do not use its components never import it.
    """
    message = f"{slot} `{name}` comes from an installed package that cannot be imported: {problem}"
    return Finding(message, spans, path=path)
