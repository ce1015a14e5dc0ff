"""Reading: what is wrong is said in place and in plain words, once; what could be read is handed on."""

import re

import pytest

from recipec.compile import check_recipe
from recipec.component import components_of
from recipec.diagnostics.model import Diagnostic
from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source
from recipec.reading.field_descriptions import FORMS
from recipec.reading.foreign import tables
from recipec.reading.foreign.values import fragment, value_names
from recipec.reading.recipe import Reading, read_recipe
from recipec.spec.loss import Clipped, Nll
from recipec.spec.recipe import SLOTS, Evaluation, Recipe, Stage
from recipec.yaml_io import from_yaml

GOOD = """\
recipec: 1
name: good
stages:
  learn:
    kind: sft
    from: scratch
    data: {path: data/a.jsonl}
    policy: {scratch: {hidden_size: 64, layers: 2, heads: 2}}
    optimizer: {learning_rate: 1e-3}
    budget: {steps: 5, rows_per_step: 4}
  explore:
    kind: rl
    from: learn
    data: {type: reasoning_gym, task: chain_sum, size: 10}
    sampler: {num_generations: 8, stop: [x]}
    reward: {right: {type: verifier}}
    advantage: {group: {type: group_relative, group: by_prompt_R}}
    loss: {type: clipped, epsilon: 0.2, kl: k3}
    optimizer: {betas: [0.9, 0.99]}
    budget: {steps: 5, prompts_per_step: 8}
  align:
    kind: dpo
    from: explore
    preference: {type: best_vs_worst, rollouts: explore.rollouts}
    budget: {epochs: 1, pairs_per_step: 2}
evaluate:
  held: {data: {path: b.jsonl}, metrics: [accuracy]}
machine: {devices: 1, rollout: {type: hf}}
"""


def read(text: str, *overrides: str, file: str = "mine.yaml") -> Reading:
    """Read a recipe from text."""
    return read_recipe(resolve(read_source(file, text), overrides))


def edited(before: str, after: str) -> Reading:
    """Read the good recipe with one edit."""
    assert GOOD.count(before) == 1
    return read(GOOD.replace(before, after))


def under(reading: Reading, diagnostic: Diagnostic) -> str:
    """Return the text under the primary span."""
    span = diagnostic.spans[0]
    line = reading.resolved.text(span.file).split("\n")[span.line - 1]
    return line[span.column - 1 : span.end_column - 1] if span.end_line == span.line else line[span.column - 1 :]


def test_a_good_recipe_is_read_whole():
    """Nothing is said of a good recipe, and every slot has its component."""
    reading = read(GOOD)
    assert reading.diagnostics == ()
    assert reading.recipe is not None
    assert reading.recipe.stages["explore"].loss == Clipped(epsilon=0.2, kl="k3")
    assert reading.recipe == from_yaml(GOOD)


MISTAKES = {
    "misspelt key": ("epsilon: 0.2", "epsilom: 0.2", "RC130", "epsilom", "did you mean `epsilon`?"),
    "swapped letters": ("devices: 1", "devicse: 1", "RC130", "devicse", "did you mean `devices`"),
    "camel case": ("num_generations: 8", "numGenerations: 8", "RC130", "numGenerations", "`num_generations`"),
    "verl's name": ("epsilon: 0.2", "clip_ratio: 0.2", "RC130", "clip_ratio", "in `loss` it is `epsilon`; "),
    "another unit": (
        "prompts_per_step: 8", "generation_batch_size: 8", "RC130", "generation_batch_size", "divided by num_gener",
    ),
    "another place": ("kind: rl", "kind: rl\n    num_generations: 4", "RC130", "num_generations", "sampler `chain`"),
    "nested key": ("layers: 2", "layers: 2, hedas: 2", "RC130", "hedas", "did you mean `heads`?"),
    "the Python name": ("from: scratch", "from_: scratch", "RC130", "from_", "did you mean `from`?"),
    "unknown component": ("type: group_relative", "type: group_relativ", "RC131", "group_relativ", "`group_relative`"),
    "published name": ("type: clipped", "type: dr_grpo", "RC131", "dr_grpo", "extends: [recipec:algorithms/dr_grpo]"),
    "engine of the other side": ("{type: hf}", "{type: local}", "RC131", "local", "`hf`, `vllm`"),
    "text for a number": ("1e-3", '"1e-3"', "RC132", '"1e-3"', "without quotes it is a number"),
    "true for a number": ("devices: 1", "devices: true", "RC132", "true", ""),
    "a fraction for a count": ("{epochs: 1,", "{epochs: 1.0,", "RC132", "1.0", "write `epochs: 1`"),
    "out of bounds": ("epsilon: 0.2", "epsilon: 2", "RC132", "2", "Lower clip range"),
    "not finite": ("epsilon: 0.2", "epsilon: .inf", "RC132", ".inf", ""),
    "too large": ("size: 10", "size: 99999999999999999999", "RC132", "99999999999999999999", ""),
    "misspelt choice": ("kl: k3", "kl: k4", "RC132", "k4", "did you mean"),
    "verl's choice": ("kl: k3", "kl: low_var_kl", "RC132", "low_var_kl", "is `k3` here"),
    "one text for a list": ("stop: [x]", "stop: x", "RC132", "x", '`stop: ["x"]`'),
    "a short list": ("[0.9, 0.99]", "[0.9]", "RC132", "[0.9]", ""),
    "a long list": ("[0.9, 0.99]", "[0.9, 0.9, 0.9]", "RC132", "[0.9, 0.9, 0.9]", ""),
    "a wrong item": ("[0.9, 0.99]", "[0.9, x]", "RC132", "x", ""),
    "a metric": ("[accuracy]", "[pas@3]", "RC132", "pas@3", "`pass@K`"),
    "the kind": ("kind: dpo", "kind: grpo", "RC132", "grpo", "recipec:algorithms/grpo"),
    "a name with a blank": ("name: good", "name: a b", "RC132", "a b", ""),
    "a param without default": (", size: 10", "", "RC133", "data", "`size`: an integer of at least 1, in tasks"),
    "a level without type": ("{type: verifier}", "{weight: 2}", "RC133", "right", "one of `verifier`"),
    "no kind": ("    kind: dpo\n", "", "RC133", "align", "`rl`, `sft`, `dpo`"),
    "no count": (", pairs_per_step: 2", "", "RC133", "budget", "Preference pairs per step"),
    "a bare name": ("preference: {type: best_vs_worst, rollouts: explore.rollouts}", "attention: packed", "RC134",
                    "packed", "{type: packed}"),
    "a list of levels": ("{right: {type: verifier}}", "[{type: verifier}, length, mine]", "RC134",
                         "[{type: verifier}, length, mine]", "mine: {type: function, name: mine}}`"),
    "a component in a list": ("    kind: dpo", "    kind: dpo\n    attention: [packed]", "RC134", "[packed]",
                              "write `attention: {type: packed}`"),
    "two components": ("    kind: dpo", "    kind: dpo\n    attention: [{type: packed}, dense]", "RC134",
                       "[{type: packed}, dense]", "one `attention`, not 2: write `attention: {type: packed}`"),
    "a list of files": ("data: {path: b.jsonl}", "data: [b.jsonl, more/c.jsonl]", "RC134", "[b.jsonl, more/c.jsonl]",
                        "{type: mix, sources: {b: {path: b.jsonl}, c: {path: more/c.jsonl}}}"),
    "keys with dashes": ("{epochs: 1, pairs_per_step: 2}", "[epochs: 1, pairs_per_step: 2]", "RC134",
                         "[epochs: 1, pairs_per_step: 2]", "dashes: `budget: {epochs: 1, pairs_per_step: 2}`"),
    "a slot elsewhere": ("    kind: dpo", "    kind: dpo\n    grouping: {type: anchor_state}", "RC135", "grouping",
                               "`rl` stages have `grouping`"),
    "a missing slot": ("    reward: {right: {type: verifier}}\n", "", "RC136", "explore", "`verifier`"),
    "empty levels": ("reward: {right: {type: verifier}}", "reward: {}", "RC136", "explore", "`verifier`"),
    "the wrong unit": ("prompts_per_step: 8", "rows_per_step: 8", "RC137", "rows_per_step", "`prompts_per_step`"),
    "two lengths": ("{epochs: 1,", "{epochs: 1, steps: 2,", "RC138", "steps", "keep one"),
    "no length": ("{epochs: 1, ", "{", "RC138", "budget", "give one"),
    "two cuts": ("prompts_per_step: 8", "prompts_per_step: 8, updates_per_step: 2, rows_per_update: 8", "RC138",
                 "updates_per_step", "keep one"),
    "a stage's name": ("  align:", "  Align-1:", "RC140", "Align-1", "write `align_1`"),
    "a stage called scratch": ("  align:", "  scratch:", "RC140", "scratch", ""),
    "a level's name": ("{right: {", "{Right: {", "RC140", "Right", "write `right`"),
    "another format": ("recipec: 1", "recipec: 2", "RC141", "2", "recipec: 1"),
    "true is no format": ("recipec: 1", "recipec: true", "RC141", "true", "recipec: 1"),
    "no format": ("recipec: 1\n", "", "RC141", "name", "recipec: 1"),
    "another reference": ("epsilon: 0.2", 'epsilon: "{{ vars.e }}"', "RC132", '"{{ vars.e }}"',
                          '`epsilon: "${vars.e}"`'),
    "levels under another key": ("    reward: {right", "    rewards: {right", "RC130", "rewards", "mean `reward`?"),
    "a section of a slot": ("    kind: dpo", "    kind: dpo\n    lora: {r: 8}", "RC130", "lora",
                            "write `policy: {lora: {…}}`"),
    "a key of the loss": ("    kind: dpo", "    kind: dpo\n    beta: 0.1", "RC130", "beta",
                          "`beta` belongs to loss `dpo`; write `loss: {beta: 0.1}`"),
    "an engine as a sampler": ("sampler: {", "sampler: {type: vllm, ", "RC131", "vllm",
                               "`machine: {rollout: {type: vllm}}`"),
    "the file of a function": ("{type: verifier}", "{type: function, name: score, path: rewards.py}", "RC130", "path",
                               "at the top of the recipe: `use: [./rewards.py]`"),
    "a synonym": ("{type: verifier}", "{type: model, path: org/judge}", "RC130", "path", "did you mean `from`?"),
    "a number with a unit": ("epsilon: 0.2", "epsilon: 0.2f", "RC132", "0.2f", "write `epsilon: 0.2`"),
    "thousands as k": ("size: 10", "size: 2k", "RC132", "2k", "write `size: 2000`"),
    "digits in groups": ("size: 10", "size: 2_000", "RC132", "2_000", "write `size: 2000`"),
    "a comma at the end": ("name: good", "name: good,", "RC132", "good,", "write `name: good`"),
    "numbers in a text": ("[0.9, 0.99]", '"0.9, 0.99"', "RC132", '"0.9, 0.99"', "write `betas: [0.9, 0.99]`"),
    "names in a text": ("stop: [x]", "stop: 'x,y'", "RC132", "'x,y'", '`stop: ["x", "y"]`'),
    "a part of an epoch": ("{epochs: 1,", "{epochs: 0.5,", "RC132", "0.5", "is counted in `steps`"),
    "a slot in a slot": ("{path: data/a.jsonl}", "{path: data/a.jsonl, loss: {type: nll}}", "RC130", "loss",
                         "write it in line with `data`"),
    "a tracker as a text": ("stages:", "trackers: wandb\nstages:", "RC134", "wandb",
                            "`trackers: {NAME: {type: wandb}}`"),
    "trackers in a list": ("stages:", "trackers: [wandb]\nstages:", "RC134", "[wandb]",
                           "`trackers: {wandb: {type: wandb}}`"),
    "a weight for a level": ("{right: {type: verifier}}", "{right: {type: verifier}, kl: 0.1}", "RC134", "0.1",
                             "weight: 0.1}"),
    "a level as a text": ("reward: {right: {type: verifier}}", "reward: verifier", "RC134", "verifier",
                          "write `reward: {NAME: {type: verifier}}`"),
    "every epoch": ("metrics: [accuracy]", "metrics: [accuracy], every: epoch", "RC132", "epoch", "`per_epoch: 1`"),
    "several values": ("epsilon: 0.2", "epsilon: [0.1, 0.2]", "RC132", "[0.1, 0.2]",
                       "--each stages.explore.loss.epsilon=0.1,0.2"),
    "numbers of GPUs": ("{devices: 1", "{devices: [0, 1]", "RC132", "[0, 1]", "`devices: 2`; which ones is `CUDA_VIS"),
    "a list in quotes": ("metrics: [accuracy]", 'metrics: "[loss]"', "RC132", '"[loss]"', "without quotes it is"),
    "the beginning of a key": ("num_generations: 8", "num_generations: 8, temp: 0.7", "RC130", "temp",
                               "did you mean `temperature`?"),
    "a word that two tools do not mean alike": ("{path: b.jsonl}", "{path: b.jsonl, streaming: true}", "RC130",
                                                "streaming", "is not needed here: data is read and"),
    "a word with several meanings": ("kl: k3", "kl_coef: 0.1", "RC130", "kl_coef", "in `loss` it is `beta`; "),
    "several paths": ("{path: b.jsonl}", "{path: [b.jsonl, c.jsonl]}", "RC132", "[b.jsonl, c.jsonl]",
                      "{type: mix, sources: {b: {path: b.jsonl}, c: {path: c.jsonl}}}"),
    "true for a section": ("    kind: dpo", "    kind: dpo\n    policy: {lora: true}", "RC132", "true",
                           "`lora: {r: …}`"),
    "columns as a list": ("{path: b.jsonl}", "{path: b.jsonl, columns: [question]}", "RC132", "[question]",
                          "write `columns: {prompt: question}`"),
    "columns the other way": ("{path: b.jsonl}", "{path: b.jsonl, columns: {question: prompt}}", "RC130", "question",
                              "write `prompt: question`"),
    "an engine's key": ("{devices: 1", "{gradient_checkpointing: true, devices: 1", "RC130", "gradient_checkpointing",
                        "write `machine: {train: {gradient_checkpointing: true}}`"),
    "a longer name": ("{path: b.jsonl}", "{path: b.jsonl, system_text: Hi}", "RC130", "system_text",
                      "mean `system`?"),
    "another tool's name of this slot": ("num_generations: 8", "num_generations: 8, max_tokens: 9", "RC130",
                                         "max_tokens", "name; here it is `sampler.max_completion_length`"),
    "PEFT's name": ("    kind: dpo", "    kind: dpo\n    peft_config: {r: 16}", "RC130", "peft_config",
                    "`policy.lora`"),
    "one of several GPUs": ("{devices: 1", "{device: cuda:1, devices: 1", "RC132", "cuda:1", "CUDA_VISIBLE_DEVICES=1"),
    "a stage for its rollouts": ("explore.rollouts", "explore", "RC144", "explore", "write `explore.rollouts`"),
    "an evaluation without a name": ("  held: {data: {path: b.jsonl}, metrics", "  {data: {path: b.jsonl}, metrics",
                                     "RC149", "evaluate", "`evaluate: {NAME: {data: …, metrics: …}}`"),
    "a tracker without a name": ("stages:", "trackers: {type: wandb}\nstages:", "RC149", "trackers",
                                 "`trackers: {NAME: {type: wandb, …}}`"),
    "a share in percent": ("kl: k3", "epsilon_high: 28%", "RC132", "28%", "`epsilon_high: 0.28`"),
    "a bare choice": ("    kind: dpo", "    kind: dpo\n    loss: ipo", "RC134", "ipo", "`{type: dpo, variant: ipo}`"),
    "a tracker at the top": ("stages:", "wandb: {project: x}\nstages:", "RC130", "wandb",
                             "`trackers: {NAME: {type: wandb, project: …}}`"),
    "weights of levels": ("{right: {type: verifier}}", "{right: {type: verifier}, weights: [1.0]}", "RC134", "[1.0]",
                          "each level of `reward` has a `weight` of its own"),
    "stop words": ("stop: [x]", "stop_words: [x]", "RC130", "stop_words", "did you mean `stop`?"),
    "a slot at the top": ("stages:", "data: {path: a.jsonl}\nstages:", "RC130", "data", "`data` belongs to a stage"),
    "a text for a list of choices": ("metrics: [accuracy]", "metrics: accuracy", "RC132", "accuracy",
                                     "`metrics: [accuracy]`"),
    "a similar choice for a list": ("metrics: [accuracy]", "metrics: acc", "RC132", "acc", "`metrics: [accuracy]`"),
    "an unread variable": ("stages:", "vars: {lr: 1}\nstages:", "RC143", "lr", "${vars.lr}"),
    "no such signal": ("group: by_prompt_R", "group: by_prompts_R", "RC144", "by_prompts_R", "mean `by_prompt_R`?"),
    "no such artifact": ("explore.rollouts", "explore.rollout", "RC144", "explore.rollout", "`explore.rollouts`"),
    "a module for a file": ("stages:", "use: [my.rewards]\nstages:", "RC145", "my.rewards", "./rewards.py"),
    "no origin": ("    from: explore\n", "", "RC148", "align", "(`learn`, `explore`)"),
    "an unnamed level": ("{right: {type: verifier}}", "{type: verifier}", "RC149", "{type: verifier}", "{NAME: {type"),
    "two places": ("{path: b.jsonl}", "{path: b.jsonl, hub: a/b}", "RC150", "data", ""),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_mistake_is_one_diagnostic_at_its_place(mistake):
    """Each mistake gives exactly one error, with its code, under the right text, with the right advice."""
    before, after, code, text, advice = MISTAKES[mistake]
    reading = edited(before, after)
    assert [d.code for d in reading.diagnostics] == [code], [d.message for d in reading.diagnostics]
    found = reading.diagnostics[0]
    assert under(reading, found) == text
    assert advice in f"{found.message} {found.help}"
    assert reading.recipe is None


@pytest.mark.parametrize("mistake", MISTAKES)
def test_messages_are_plain_words(mistake):
    """The validator's own vocabulary reaches nobody."""
    before, after, *_ = MISTAKES[mistake]
    for found in edited(before, after).diagnostics:
        said = f"{found.message} {found.why} {found.help}"
        assert not re.search(
            r"[Ii]nput should|[Ee]xtra inputs|[Ff]ield required|valid (integer|number)|validation", said
        )


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_fix_repairs_what_it_was_offered_for(mistake):
    """Applying the fix leaves the diagnostic behind."""
    before, after, *_ = MISTAKES[mistake]
    text = GOOD.replace(before, after)
    for found in read(text).diagnostics:
        if found.fix is not None:
            lines, span = text.split("\n"), found.fix.span
            line = lines[span.line - 1]
            lines[span.line - 1] = line[: span.column - 1] + found.fix.text + line[span.end_column - 1 :]
            assert found not in read("\n".join(lines)).diagnostics
            assert found.code not in [d.code for d in read("\n".join(lines)).diagnostics]


def test_format_version_belongs_first():
    """Another key before `recipec` is a warning, and the recipe is read all the same."""
    reading = read(GOOD.replace("recipec: 1\nname: good\n", "name: good\nrecipec: 1\n"))
    assert [(d.code, d.severity) for d in reading.diagnostics] == [("RC142", "warning")]
    assert reading.recipe is not None


def test_empty_stages_are_said():
    """A recipe with `stages` and nothing in it is no fragment."""
    assert [d.code for d in read("recipec: 1\nname: a\nstages: {}\n").diagnostics] == ["RC147"]


def test_all_mistakes_are_found_in_one_reading():
    """Mistakes in the same component do not hide each other."""
    reading = edited("epsilon: 0.2, kl: k3", "epsilom: 1, beta: -1, kl: k9, entropy: x")
    assert [d.code for d in reading.diagnostics] == ["RC130", "RC132", "RC132", "RC132"]


def test_a_broken_component_counts_for_what_its_class_declares():
    """A component that could not be read is there for later passes, without a spec."""
    part = edited("rollouts: explore.rollouts", "rollouts: 3").stages["align"].of("preference")[0]
    assert part.spec is None
    assert part.cls is not None
    assert part.could_provide() == ("prompt_P", "chosen_P", "rejected_P")


def test_an_unknown_component_counts_for_what_its_slot_could_give():
    """Nothing later complains of a signal that the misspelt component would have given."""
    part = edited("sampler: {", "sampler: {type: chian, ").stages["explore"].of("sampler")[0]
    assert part.cls is None
    assert {"tokens_RT", "by_tree_R"} <= set(part.could_provide())


def test_readable_parts_of_a_broken_stage_are_handed_on():
    """A bad kind hides neither the origin nor the budget nor the components."""
    row = edited("kind: rl", "kind: r").stages["explore"]
    assert (row.kind, row.origin) == (None, "learn")
    assert row.budget is not None
    assert row.of("loss")[0].spec == Clipped(epsilon=0.2, kl="k3")


def test_what_a_kind_has_without_being_told_is_there():
    """Default loss, policy that crosses, reference and attention are parts that are not given."""
    reading = read(GOOD)
    assert reading.stages["learn"].of("loss")[0].spec == Nll()
    crossed = reading.stages["align"].of("policy")[0]
    assert (crossed.given, crossed.path) == (False, ("stages", "learn", "policy"))
    assert [part.name for part in reading.stages["align"].of("reference")] == ["frozen"]
    assert reading.stages["learn"].of("reference") == ()


def test_every_key_has_a_reader():
    """Each key of the file is recorded with what consumed it."""
    consumed = read(GOOD).consumed
    assert consumed["stages.explore.loss.epsilon"] == "explore/loss"
    assert consumed["stages.explore.advantage.group.type"] == "explore/advantage.group"
    assert consumed["stages.explore.kind"] == "explore"
    assert consumed["evaluate.held.data.path"] == "evaluate.held/data"
    assert consumed["machine.rollout.type"] == "machine"
    assert consumed["name"] == "recipe"


def test_null_is_absent():
    """A slot or a parameter that is null is as if it had not been written."""
    recipe = edited("kind: rl", "kind: rl\n    grouping: null").recipe
    assert recipe == read(GOOD).recipe
    assert edited("kl: k3", "kl: null").recipe is not None


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("recipec: 1\nloss: {type: clipped, epsilon: 0.3}\n", []),
        ("recipec: 1\nloss: {epsilon_high: 0.3}\noptimizer: {learning_rate: 1}\n", []),
        ("recipec: 1\nloss: {type: clipped, epsilom: 0.3}\n", ["RC130"]),
        ("recipec: 1\nmachine: {devices: 0}\n", ["RC132"]),
        ("recipec: 1\ndata: {template: a.j2}\nreward: {form: {type: regex_format}}\n", []),
        ("recipec: 1\nbudget: {rows_per_step: 4}\nvars: {a: 1}\n", []),
        ("recipec: 1\nkind: rl\nbudget: {rows_per_step: 4}\n", ["RC137"]),
        ("loss: {type: clipped}\n", ["RC141"]),
        ("recipec: 1\nstage: {}\n", ["RC130"]),
    ],
)
def test_a_file_without_stages_is_read_as_a_fragment(text, codes):
    """What a fragment says is checked; what it leaves out, the recipe that extends it may say."""
    reading = read(text)
    assert [d.code for d in reading.diagnostics] == codes
    assert reading.fragment
    assert reading.recipe is None


def test_paths_are_relative_to_the_file_that_says_them(tmp_path):
    """A path said by an included file is moved; one of `--set` is read as if the recipe said it."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "shared").mkdir()
    shared = "recipec: 1\ndata: {template: prompts/a.j2, path: ../d.jsonl}\nfrom: ./weights\n"
    (tmp_path / "shared" / "base.yaml").write_text(shared)
    text = GOOD.replace("    from: scratch\n    data: {path: data/a.jsonl}\n", "    extends: [shared/base]\n")
    (tmp_path / "mine.yaml").write_text(text)
    file = str(tmp_path / "mine.yaml")
    stage = read_recipe(resolve(read_source(file))).recipe.stages["learn"]
    assert (stage.data.template, stage.data.path, stage.from_) == ("shared/prompts/a.j2", "d.jsonl", "./shared/weights")
    again = read_recipe(resolve(read_source(file), ["stages.learn.data.path=x/y.jsonl"])).recipe
    assert again.stages["learn"].data.path == "x/y.jsonl"


def test_a_value_of_the_command_line_is_shown_there():
    """A bad `--set` points at the command line and offers no edit of the file."""
    found = read(GOOD, "stages.explore.loss.epsilon=x").diagnostics[0]
    assert (found.code, found.spans[0].file, found.fix) == ("RC132", "<command line>", None)


def test_a_bad_reference_is_said_once():
    """The text of a reference that is wrong is not blamed for being no number."""
    reading = edited("epsilon: 0.2", 'epsilon: "${vars.nowhere}"')
    assert reading.diagnostics == ()
    assert reading.recipe is None


def test_another_tools_whole_section_is_translated():
    """Of verl's `actor_rollout_ref` the help tells what the known leaves are called here."""
    reading = read(GOOD + "actor_rollout_ref: {rollout: {n: 8}, actor: {clip_ratio: 0.2, optim: {lr: 1e-6}}}\n")
    (found,) = reading.diagnostics
    for ours in ("sampler.num_generations", "loss.epsilon", "optimizer.learning_rate"):
        assert ours in found.help


def test_names_of_other_tools_are_read_only_after_a_mistake():
    """A recipe without mistakes does not load the tables; one unknown key does."""
    tables.rows_by_last_word.cache_clear()
    assert read(GOOD).diagnostics == ()
    assert tables.rows_by_last_word.cache_info().currsize == 0
    assert edited("epsilon: 0.2", "cliprange: 0.2").diagnostics
    assert tables.rows_by_last_word.cache_info().currsize == 1


def test_values_of_other_tools_are_ours_somewhere():
    """Every translated value is a choice of some parameter, a kind, or a signal."""
    sections = (Evaluation, *(cls for slot in SLOTS for cls in components_of(slot.name).values()))
    choices = str([cls.model_json_schema() for cls in sections])
    for ours in value_names().values.values():
        assert f"'{ours}'" in choices or ours in {"rl", "dpo", "cuda", "ref_logprob_RT", "old_logprob_RT"}, ours


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "gspo", "rloo", "grpo-pp"])
def test_published_settings_that_are_named_are_shipped(name):
    """Whoever types a paper's name is led to a fragment that exists and in which nothing is wrong."""
    text = f"recipec: 1\nkind: rl\nextends: [{fragment(name)}]\n"
    data = resolve(read_source("mine.yaml", text))
    assert data.diagnostics == ()
    assert read_recipe(data).diagnostics == ()


def test_every_pattern_has_words():
    """A parameter with a pattern is described in words."""
    patterns = {
        pattern
        for cls in (Recipe, Evaluation, Stage, *(cls for slot in SLOTS for cls in components_of(slot.name).values()))
        for pattern in re.findall(r"pattern='([^']*)'", str(cls.model_fields))
    }
    assert patterns
    assert {pattern.replace("\\\\", "\\") for pattern in patterns} <= set(FORMS)


def checked(before: str, after: str) -> list[Diagnostic]:
    """Check the good recipe with one edit, and an evaluation that needs no reward."""
    text = GOOD.replace("metrics: [accuracy]", "metrics: [loss]")
    assert before in text
    return list(check_recipe("r.yaml", text=text.replace(before, after)).diagnostics)


def test_a_wrong_value_at_the_end_of_reading_is_not_reported():
    """What stands before a missing comma may not be what was meant, and warnings of the rest would be guesses."""
    found = checked("num_generations: 8, stop", "num_generations: 8 stop")
    assert [d.code for d in found] == ["RC105"]


def test_a_stage_that_is_renamed_is_not_missed():
    """A `from` with the name that a stage should have gives no second error."""
    assert [d.code for d in checked("  learn:", "  Learn:")] == ["RC140"]


def test_a_component_of_another_kind_is_one_error():
    """It needs several signals that its stage cannot have, and the message says what it is for."""
    [found] = checked("optimizer: {learning_rate: 1e-3}", "loss: {type: dpo}\n    optimizer: {learning_rate: 1e-3}")
    assert found.code == "RC204"
    assert "it is for stages of kind `dpo`" in found.help


def test_the_count_of_a_fragment_is_removed_by_null():
    """Two counts, one of them from a fragment: the user's own is pointed at, and the remedy removes the other."""
    text = GOOD.replace("    from: learn\n", "    from: learn\n    extends: [recipec:algorithms/grpo]\n")
    text = text.replace("prompts_per_step: 8}", "prompts_per_step: 8, prompts_per_update: 5}")
    [found] = [d for d in read(text).diagnostics if d.code == "RC138"]
    assert found.spans[0].file == "mine.yaml"
    assert "write `updates_per_step: null`" in found.help
