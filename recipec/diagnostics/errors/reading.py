"""What can be wrong with the words of a recipe: RC130 to RC199.

Each function builds the diagnostic of one mistake; ``reading/recipe.py`` finds them.
"""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, Fix, Span, diagnostic

Spans = tuple[Span, ...]
_READ = "every key is read by something: a key that nothing reads would leave a default in place without a word"


def _listed(names: Sequence[str], most: int = 24) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


@diagnostic("RC130", "unknown-key")
def unknown_key(
    key: str, where: str, path: str, spans: Spans, keys: Sequence[str], advice: str = "", fix: Fix | None = None
) -> Finding:
    """A key is not one that this place of the recipe knows.

    What it checks: every key of every mapping of the file against the fields of what reads it.
    Why it matters: a key that nothing reads leaves a default in place without a word, and the run is not the one meant.
    Example: `loss: {type: clipped, epsilom: 0.2}`.
    Use instead: the key suggested; the names of TRL, verl, axolotl and others are answered with ours.
    """
    allowed = f"keys known here: {_listed(keys)}" if keys else "no keys are known here"
    return Finding(f"unknown key `{key}` in {where}", spans, _READ, advice or allowed, path, fix)


@diagnostic("RC131", "unknown-component")
def unknown_component(
    name: str, slot: str, path: str, spans: Spans, names: Sequence[str], advice: str = "", fix: Fix | None = None
) -> Finding:
    """The `type` of a component is not one that its slot knows.

    What it checks: `type` against the components of the slot, ours and those of installed plug-ins.
    Why it matters: there is nothing to run, and no parameters to check.
    Example: `advantage: {credit: {type: group_relativ}}`.
    Use instead: `recipec ls` prints every component of every slot.
    """
    return Finding(
        f"unknown {slot} `{name}`",
        spans,
        f"nothing of that name fills the slot `{slot}`",
        advice or f"the components of `{slot}` are {_listed(names)}",
        path,
        fix,
    )


@diagnostic("RC132", "bad-value")
def bad_value(
    key: str, shown: str, expected: str, path: str, spans: Spans, advice: str = "", fix: Fix | None = None
) -> Finding:
    """A value is not what its key takes.

    What it checks: type, bounds and choice of every value. Text is never turned into a number, nor 1 into true.
    Why it matters: a value of another kind was meant to say something that it does not say.
    Example: `learning_rate: "1e-5"` (text), `epsilon: 2`, `kl: k4`.
    Use instead: what the message says; `recipec show COMPONENT` prints every parameter with its unit and default.
    """
    return Finding(f"`{key}` must be {expected}; it is {shown}", spans, "", advice, path, fix)


@diagnostic("RC133", "missing-key")
def missing_key(key: str, where: str, path: str, spans: Spans, about: str) -> Finding:
    """A key that must be given is not.

    What it checks: keys without a default.
    Why it matters: there is no value that would be right for everyone.
    Example: `reward: {form: {type: regex_format}}` without `pattern`.
    Use instead: give the key that the message names.
    """
    return Finding(
        f"{where} needs `{key}`", spans, "it has no default: no value is right for everyone", f"`{key}`: {about}", path
    )


@diagnostic("RC134", "not-a-mapping")
def not_a_mapping(where: str, shown: str, path: str, spans: Spans, advice: str = "", fix: Fix | None = None) -> Finding:
    """A place that holds keys holds a single value or a list.

    What it checks: that components and sections are mappings.
    Why it matters: a bare name leaves no room for parameters, and a list no names by which one of them could be
    changed.
    Example: `attention: packed`.
    Use instead: `attention: {type: packed}`.
    """
    return Finding(f"{where} must be a mapping of keys; it is {shown}", spans, "", advice, path, fix)


@diagnostic("RC135", "slot-not-in-kind")
def slot_not_in_kind(slot: str, kind: str, path: str, spans: Spans, kinds: Sequence[str]) -> Finding:
    """A stage has a slot that its kind does not have.

    What it checks: the slots of a stage against the table of slots of `rl`, `sft` and `dpo`.
    Why it matters: nothing would read the slot.
    Example: an `sft` stage with `advantage`.
    Use instead: drop the slot, or change the `kind` of the stage.
    """
    return Finding(
        f"a stage of kind `{kind}` has no `{slot}`",
        spans,
        f"nothing in a `{kind}` stage would read it",
        f"drop it, or change `kind`: {_listed(kinds)} stages have `{slot}`",
        path,
    )


@diagnostic("RC136", "slot-missing")
def slot_missing(slot: str, kind: str, path: str, spans: Spans, names: Sequence[str], *, levels: bool) -> Finding:
    """A stage lacks a slot that its kind needs.

    What it checks: the slots of a stage against the table of slots of `rl`, `sft` and `dpo`.
    Why it matters: the stage could not run without it, and no default would be right for everyone.
    Example: an `rl` stage without `reward`.
    Use instead: add the slot.
    """
    form = f"{slot}: {{NAME: {{type: …}}}}" if levels else f"{slot}: {{type: …}}"
    return Finding(
        f"a stage of kind `{kind}` needs `{slot}`",
        spans,
        "there is no default for it that is right for everyone",
        f"add `{form}` with one of {_listed(names)}",
        path,
    )


@diagnostic("RC137", "wrong-count")
def wrong_count(key: str, kind: str, path: str, spans: Spans, instead: str, fix: Fix | None = None) -> Finding:
    """A budget counts in a unit that the kind of its stage does not have.

    What it checks: `prompts_per_…` stands in `rl` stages, `rows_per_step` in `sft`, `pairs_per_step` in `dpo`.
    Why it matters: a prompt of an `rl` stage becomes many rows and a pair is two; a count in the wrong unit is a batch
    of another size.
    Example: `rows_per_step: 8` in an `rl` stage.
    Use instead: the count that the message names.
    """
    return Finding(
        f"`{key}` does not count what a stage of kind `{kind}` works through",
        spans,
        "prompts, rows and pairs are different units: one prompt becomes many rows in rl, and a pair is two rows",
        f"use `{instead}`",
        path,
        fix,
    )


@diagnostic("RC138", "how-long")
def how_long(path: str, spans: Spans, *, both: bool) -> Finding:
    """A budget says its length twice, or not at all.

    What it checks: exactly one of `steps` and `epochs`.
    Why it matters: two lengths contradict each other; none would never end.
    Example: `budget: {steps: 100, epochs: 2, rows_per_step: 8}`.
    Use instead: one of the two.
    """
    if both:
        return Finding(
            "the budget has both `steps` and `epochs`", spans, "they contradict each other", "keep one", path
        )
    return Finding(
        "the budget has neither `steps` nor `epochs`", spans, "the stage would not know when to end", "give one", path
    )


@diagnostic("RC139", "how-many-updates")
def how_many_updates(keys: Sequence[str], path: str, spans: Spans) -> Finding:
    """A budget says in more than one way how a step is cut into updates.

    What it checks: at most one of `updates_per_step`, `prompts_per_update` and `rows_per_update`.
    Why it matters: each of them decides the size of a minibatch.
    Example: `budget: {steps: 9, prompts_per_step: 8, updates_per_step: 2, rows_per_update: 16}`.
    Use instead: one of them.
    """
    return Finding(
        f"the budget cuts a step into updates in {len(keys)} ways: {_listed(keys)}",
        spans,
        "each of them decides the size of a minibatch",
        "keep one",
        path,
    )


@diagnostic("RC140", "bad-name")
def bad_name(name: str, what: str, path: str, spans: Spans, advice: str, fix: Fix | None = None) -> Finding:
    """A stage, a level or an evaluation has a name that cannot be used.

    What it checks: names begin with a small letter and go on with small letters, digits and `_`; a stage is not
    called `scratch`, which `from` understands otherwise.
    Why it matters: names become folders, metrics and parts of `STAGE.rollouts`.
    Example: `stages: {Explore-1: …}`.
    Use instead: `explore_1`.
    """
    return Finding(
        f"`{name}` cannot be the name of {what}",
        spans,
        "names become folders, metrics and parts of `STAGE.rollouts`",
        advice,
        path,
        fix,
    )


@diagnostic("RC141", "format-version")
def format_version(shown: str, path: str, spans: Spans, fix: Fix | None = None) -> Finding:
    """A recipe does not say the version of its format, or one that is not known.

    What it checks: the key `recipec`.
    Why it matters: a later version may read the same words otherwise; the number says which reading was meant.
    Example: a file that begins with `name:`.
    Use instead: `recipec: 1` as the first line.
    """
    known = f"the format version must be the number 1; it is {shown}"
    message = known if shown else "the recipe does not say its format version"
    why = "a later version may read the same words otherwise; the number says which reading is meant"
    return Finding(message, spans, why, "write `recipec: 1` as the first line", path, fix)


@diagnostic("RC142", "format-first", "warning")
def format_first(path: str, spans: Spans) -> Finding:
    """The format version is not the first key of its file.

    What it checks: that `recipec: 1` stands before every other key.
    Why it matters: people and tools that meet the file should know at its first line what it is.
    Example: `name: a` and then `recipec: 1`.
    Use instead: move the line to the top.
    """
    return Finding(
        "`recipec` is not the first key",
        spans,
        "people and tools should know at the first line how to read the rest",
        "move it to the top of the file",
        path,
    )


@diagnostic("RC143", "unread-variable")
def unread_variable(name: str, path: str, spans: Spans, advice: str = "") -> Finding:
    """A variable is defined and nothing refers to it.

    What it checks: every key below `vars` against the `${vars.…}` of the recipe.
    Why it matters: changing it would change nothing, though it looks as if it did.
    Example: `vars: {lr: 1.0e-5}` without any `${vars.lr}`.
    Use instead: refer to it, or remove it.
    """
    return Finding(
        f"nothing refers to the variable `{name}`",
        spans,
        "changing it would change nothing, though it looks as if it did",
        advice or f"write `${{vars.{name}}}` where it is meant, or remove it",
        path,
    )


@diagnostic("RC144", "unknown-signal")
def unknown_signal(name: str, key: str, path: str, spans: Spans, advice: str, fix: Fix | None = None) -> Finding:
    """A parameter names a signal that does not exist.

    What it checks: parameters that name a column (`group`, `value`, `ratio_to`) or an artifact (`rollouts`).
    Why it matters: no component provides it, whatever the recipe.
    Example: `group: by_prompts_R`.
    Use instead: the name suggested; `recipec show signals` prints the table.
    """
    return Finding(
        f"`{key}` names `{name}`, which is no signal", spans, "no component can provide it", advice, path, fix
    )


@diagnostic("RC145", "own-file")
def own_file(shown: str, path: str, spans: Spans) -> Finding:
    """An entry of `use` is not the name of a Python file beside the recipe.

    What it checks: entries of `use` are relative paths that end in `.py`.
    Why it matters: `use` names files with the user's own functions, which travel with the recipe; installed packages
    bring components through entry points instead.
    Example: `use: [my_package.rewards]`.
    Use instead: `use: [./rewards.py]`.
    """
    return Finding(
        f"`use` names {shown}, which is not a Python file beside the recipe",
        spans,
        "`use` lists files with your own functions; they are read, and run only when you allow it with --use",
        "give a relative path that ends in .py, such as `./rewards.py`",
        path,
    )


@diagnostic("RC146", "bad-allow")
def bad_allow(code: str, path: str, spans: Spans, problem: str, advice: str) -> Finding:
    """An entry of `allow` has no reason, or names no code.

    What it checks: `allow` maps the code of a warning to a reason.
    Why it matters: whoever reads the recipe next should know why a warning was meant; errors cannot be allowed away.
    Example: `allow: {RC405: ""}`.
    Use instead: `allow: {RC405: "published with top_p 0.95"}`.
    """
    return Finding(
        f"`allow` cannot take `{code}`: {problem}",
        spans,
        "an allowed warning is a decision, and the next reader needs its reason",
        advice,
        path,
    )


@diagnostic("RC147", "no-stages")
def no_stages(path: str, spans: Spans, *, fragment: bool = False) -> Finding:
    """A recipe has an empty `stages`, or none where it is to be planned, compiled, run or asked for credit.

    What it checks: at least one stage.
    Why it matters: there is nothing to do. (A file without the key is a fragment, which others extend.)
    Example: `stages: {}`.
    Use instead: at least one stage, or no `stages` at all for a fragment.
    """
    return Finding(
        "this is a fragment, not a recipe: it has no `stages`" if fragment else "the recipe has no stages",
        spans,
        "there is nothing to do",
        "give the recipe that extends it" if fragment else "add one, as `stages: {learn: {kind: sft, …}}`",
        path,
    )


@diagnostic("RC148", "no-origin")
def no_origin(stage: str, path: str, spans: Spans, earlier: Sequence[str]) -> Finding:
    """A stage does not say which weights it starts from.

    What it checks: every stage has `from`.
    Why it matters: the stage before is often, but not always, what is meant, and the wrong guess trains for hours.
    Example: a second stage without `from`.
    Use instead: the name of an earlier stage, a directory (`./…`), `org/name`, `package:…` or `scratch`.
    """
    stages = f"an earlier stage ({_listed(earlier)}), " if earlier else ""
    return Finding(
        f"stage `{stage}` does not say `from` which weights it starts",
        spans,
        "it is never guessed: a wrong guess is found out after hours",
        f"add `from:` with {stages}a directory (`./…`), `org/name` of the hub, `package:…` or `scratch`",
        path,
    )


@diagnostic("RC149", "unnamed-level")
def unnamed_level(slot: str, name: str, path: str, spans: Spans) -> Finding:
    """A slot of named levels holds one component without a name.

    What it checks: `reward` and `advantage` map names to components, and the components add.
    Why it matters: the name is in the metrics, and is how one level can be changed or removed by another file.
    Example: `reward: {type: verifier}`.
    Use instead: `reward: {answer: {type: verifier}}`.
    """
    return Finding(
        f"`{slot}` holds named levels, and this `{name or 'component'}` has no name",
        spans,
        "levels add; each name is in the metrics, and is how a level is changed or removed by another file",
        f"give it a name of your choice: `{slot}: {{NAME: {{type: {name or '…'}, …}}}}`",
        path,
    )


@diagnostic("RC150", "keys-disagree")
def keys_disagree(where: str, problem: str, path: str, spans: Spans) -> Finding:
    """Keys of one component, each fine by itself, do not go together.

    What it checks: what a component says of its keys together, such as exactly one of `path` and `hub`.
    Why it matters: the component could not tell which of them is meant.
    Example: `data: {type: file, path: a.jsonl, hub: org/name}`.
    Use instead: what the message says.
    """
    return Finding(f"{where}: {problem}", spans, "its keys do not go together", "", path)


@diagnostic("RC151", "broken-plug-in")
def broken_plugin(slot: str, name: str, problem: str, path: str, spans: Spans) -> Finding:
    """An installed package offers the component that a recipe names, and cannot be imported.

    What it checks: the entry point in the group `recipec.components`.
    Why it matters: without the component's declaration nothing about it can be checked.
    Example: a package that was built for another version.
    Use instead: repair or remove the package; recipes that do not name its components never import it.
    """
    return Finding(
        f"{slot} `{name}` comes from an installed package that cannot be imported: {problem}",
        spans,
        "without the component's declaration nothing about it can be checked",
        "repair or remove the package",
        path,
    )
