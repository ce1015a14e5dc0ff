"""What a message tells to write instead, for mistakes of people who come from other tools."""

import pytest

from recipec.compile import compile_recipe

RECIPE = """\
recipec: 1
name: mistaken
stages:
  explore:
    kind: rl
    from: org/model
    extends: [recipec:algorithms/grpo]
    data: {path: tasks.jsonl, max_length: 512}
    reward: {right: {type: exact_match}}
    budget: {steps: 10, prompts_per_step: 8}
evaluate:
  held_out: {data: {path: test.jsonl}, sampler: {max_completion_length: 8}}
"""
RIGHT, STEPS = "{right: {type: exact_match}}", "steps: 10"


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        (RIGHT, '{right: "lambda c: len(c)"}', "RC134", "`use: [./rewards.py]` at the top names"),
        (RIGHT, "{right: {type: my_rewards.score}}", "RC131", "`{type: function, name: score}`"),
        (RIGHT, "{right: {type: rewards.py}}", "RC131", "`{type: function, name: rewards}`"),
        (RIGHT, "{right: {type: function, name: score, target: 200}}", "RC130", "parameter a default, `target=200`"),
        (RIGHT, '{right: {type: regex_format, pattern: "("}}', "RC150", "unterminated"),
        (RIGHT, "{right: {type: regex_format, pattern: '(ab'}}", "RC150", r"close character 1, `(`, or write `\("),
        (RIGHT, "{right: {type: regex_format, pattern: 'ab)'}}", "RC150", r"change character 3, `)`, or write `\)"),
        ("    reward:", "    advantage: grpo\n    reward:", "RC134", "`advantage: {NAME: {type: group_relative}}`"),
        ("    reward:", "    gradient_checkpointing: true\n    reward:", "RC130", "`machine: {train: {gradient_check"),
        ("max_length: 512", 'template: "Q: {question}"', "RC172", "a column is `{{ NAME }}`"),
        ("    data:", "    policy: {chat_template: 'recipec:chat/lama'}\n    data:", "RC173", "`recipec:chat/llama3`"),
        ("    reward:", "    policy: {chat_template: 'recipec:chat/x'}\n    reward:", "RC173", "`recipec:chat/gemma`"),
        ("max_length: 512", 'prompt_template: "{{ prompt }}"', "RC130", "did you mean `template`?"),
        ("path: tasks.jsonl", 'path: "${HOME}/tasks.jsonl"', "RC127", "`--set vars.home=…`"),
        ("org/model", "models/qwen/base", "RC172", "`./models/qwen/base`"),
        ("max_completion_length: 8", "n: 8", "RC130", "here it is `sampler.num_generations`"),
        ("name: mistaken", "name: my run/v2", "RC132", "write `name: my-run-v2`"),
        ("name: mistaken", "name: mistaken\nmachine: {rollout: vllm}", "RC134", "write `rollout: {type: vllm}`"),
        (STEPS, "tokens: 1000000", "RC130", "known keys: `steps`, `epochs`"),
        ("    reward:", "    prefer: {kind: dpo}\n    reward:", "RC130", "below `stages`, in line with `explore`"),
        (STEPS, "steps: 10, step: {kind: sft}", "RC130", "below `stages`, in line with `explore`"),
        ("org/model", "hf:org/model", "RC172", "write `org/model`"),
        ("org/model", "org/model:main", "RC172", "write `org/model@main`"),
        ("org/model", "org/model/main", "RC172", "write `org/model@main`"),
        ("evaluate:\n", "", "RC133", "belongs under `evaluate:` at the top"),
        ("    reward:", "    sampler: {stop_token_ids: [5]}\n    reward:", "RC130", "texts of `sampler.stop`"),
        ("org/model", "[org/model]", "RC132", "write it without brackets: `from: org/model`"),
        ("    from: org/model", "    policy: org/model", "RC134", "`from: org/model`"),
        ("    reward:", "    optimizer: {name: adamw_torch}\n    reward:", "RC130", "write `type: adamw`"),
        ("    reward:", "    optimizer: {betas: (0.9, 0.95)}\n    reward:", "RC100", "write `betas: [0.9, 0.95]`"),
        ("    reward:", "    optimizer: {learning_rate: 1e\u22126}\n    reward:", "RC132", "`learning_rate: 1e-6`"),
        ("    reward:", "    allow: [RC401]\n    reward:", "RC134", "`allow: {RC401: "),
        ("    reward:", "    sampler: [top_p: 0.9, top_k: 5]\n    reward:", "RC134", "`sampler: {top_p: 0.9, top"),
        ("    reward:", "    loss: {name: clipped}\n    reward:", "RC130", "`type` names it: remove this key"),
        ("    reward:", "    sampler: {type: tree, num_generations: 8}\n    reward:", "RC130", "has `trees` times"),
        (
            "name: mistaken",
            "name: mistaken\nmachine: {train: {type: deepspeed, offload_optimizer: true}}",
            "RC130",
            "did you mean `offload`?",
        ),
        ("    reward:", "    optimizer: {learning_rate: 1e-4f}\n    reward:", "RC132", "`learning_rate: 0.0001`"),
        ("    reward:", "    optimizer: {learning_rate: $lr}\n    reward:", "RC132", '`learning_rate: "${vars.lr}"`'),
        ("    from: org/model", "    model: org/model", "RC130", "`model` is several tools' name; here it is `from`"),
        ("recipec:algorithms/grpo", "recipec:algorithm/grpo", "RC120", "mean `recipec:algorithms/grpo`"),
        ("name: mistaken", "name: mistaken\nvars: [{a: 1}]", "RC132", "write the keys of `vars` without dashes"),
        ("max_length: 512", 'max_length: "${explore.budget.steps}"', "RC127", "`stages.explore.budget.steps`?"),
        (STEPS, "steps: 10 * 3", "RC132", "a recipe does not compute: write `steps: 30`"),
        (STEPS, "steps: '10'", "RC132", "without quotes it is a number: `steps: 10`"),
        (STEPS, "steps: 10//ten", "RC132", "a comment begins with ` #`: write `steps: 10`"),
        (STEPS, "hours: 2", "RC130", "a length is not given in time: write `steps` or `epochs`"),
        ("    reward:", "    loss: {beta: off}\n    reward:", "RC132", "leave `beta` out"),
        ("    reward:", "    loss: {beta: false}\n    reward:", "RC132", "leave `beta` out"),
        ("    reward:", "    loss: beta = 0.1\n    reward:", "RC134", "place of a colon: write `beta: 0.1`"),
        ("    reward:", "    optimizer: {warmup_ratio: 3}\n    reward:", "RC132", "`warmup_ratio: 0.03`"),
        ("    reward:", "    optimizer: {l\u0435arning_rate: 1.0e-5}\n    reward:", "RC130", "Letter 2 is U+0435"),
        (RIGHT, "{right: score}", "RC134", "`right: {type: function, name: score}`"),
        ("{path: tasks.jsonl, max_length: 512}", "[{path: a.jsonl}, {path: b.jsonl}]", "RC134", "{type: mix, sour"),
        ("path: tasks.jsonl", "path: tasks.jsonl, train_on_inputs: false", "RC130", "drop the key"),
        ("name: mistaken", "name: mistaken\nmachine: {precision: bf16}", "RC130", "`policy: {type: causal_lm, dty"),
        ("name: mistaken", "name: mistaken\nx-shared: {a: 1}", "RC130", "belong under `vars`"),
        ("evaluate:", "imitate: {kind: sft, from: org/model}\nevaluate:", "RC130", "indent it below `stages`"),
        ("max_length: 512", 'max_length: "${vars.length}"', "RC127", "there is no `vars`"),
        (STEPS, "steps: 10#", "RC132", "a comment has a space before `#`: write `steps: 10`"),
        (RIGHT, "{right: {type: exact_match, column: solution}}", "RC130", "did you mean `answer`?"),
        (RIGHT, "{right: {type: length, max: 9}}", "RC130", "did you mean `max_length`?"),
        (RIGHT, "{right: {type: regex_format, pattern: \u201cx\u201d}}", "RC154", "plain quotes"),
        ("    reward:", "\u00a0   reward:", "RC153", "write plain spaces"),
        ("path: tasks.jsonl", "path: tasks.jsonl, prompt_column: question", "RC130", "`columns: {prompt: question}`"),
        ("{path: test.jsonl}", "{type: mix, sources: {a: a.jsonl}}", "RC132", "write `a: {path: a.jsonl}`"),
        ("{path: test.jsonl}", "{type: mix, sources: {a: {path: a}}, weights: [1]}", "RC130", "a `weight` of its own"),
        ("sampler: {max", "metrics: [pass_at_8], sampler: {max", "RC132", "write `pass@8`"),
        ("    extends:", "    extend:", "RC130", "did you mean `extends`?"),
        ("{path: tasks.jsonl, max_length: 512}", "$vars.qa", "RC134", 'a reference is written `data: "${vars.qa}"`'),
        ("    reward:", "    reference: none\n    reward:", "RC134", "leave `reference` out"),
        ("    reward:", "    sampler: {top_p: 90}\n    reward:", "RC132", "a share is written `top_p: 0.9`"),
        ("    reward:", "    policy: {quantization: {type: nf4}}\n    reward:", "RC132", "write `quantization: nf4`"),
        ("    reward:", "    optimizer: {betas: 0.9}\n    reward:", "RC132", "The default is `[0.9, 0.999]`."),
        ("    reward:", "    policy: {temperature: 1.0}\n    reward:", "RC130", "belongs to sampler `chain`"),
        ("org/model", "stages.explore", "RC301", "name an earlier stage"),
        ("path: tasks.jsonl", "hub: org/tasks, name: main", "RC130", "write `config: main`"),
        (STEPS, "steps: 10, early_stopping_patience: 3", "RC130", "a run does not stop by its loss"),
        ("evaluate:", "machine: {services: {s: 'http://x'}}\nevaluate:", "RC132", "write `s: {url: http://x}`"),
        ("stages:", "stage:", "RC130", "did you mean `stages`?"),
        ("sampler: {max", "metrics: [pass@0], sampler: {max", "RC132", "write `pass@1`"),
        ("    reward:", "    loss: {clip_eps: 0.2}\n    reward:", "RC130", "here it is `loss.epsilon`"),
        ("    reward:", "    loss: {ratio: token_level}\n    reward:", "RC132", "did you mean `token`?"),
        ("    reward:", "    reference: org/model\n    reward:", "RC134", "write `reference: {from: org/model}`"),
        ("    reward:", "    reference: {model: org/model}\n    reward:", "RC130", "did you mean `from`?"),
        (RIGHT, "{right: {type: model, model: org/model}}", "RC130", "did you mean `from`?"),
        ("max_length: 512", "weight: 0.5", "RC130", "sources: {NAME: {path: …, weight: 0.5}}"),
        ("max_length: 512", "template: alpaca", "RC172", "a Jinja file, such as `./prompt.j2`"),
        ("max_length: 512", "overlong: skip", "RC132", "is `drop` here"),
        ("max_length: 512", "chat: chatml", "RC132", "write `chat: true`"),
        (STEPS, "steps: 10, save_every: epoch", "RC132", "`saves_per_epoch: 1`"),
        ("evaluate:", "machine: {devices: '0,1'}\nevaluate:", "RC132", "write how many: `devices: 2`"),
        ("sampler: {max", "reward: {}, sampler: {max", "RC134", "leave it out for the rewards of the first rl stage"),
        ("sampler: {max", "reward: {r: null}, sampler: {max", "RC134", "leave it out for the rewards of the first rl"),
        ("sampler: {max", "metrics: [perplexity], sampler: {max", "RC132", "is `loss` here"),
        ("kind: rl", "kind: preference", "RC132", "is `dpo` here"),
        (f"    reward: {RIGHT}", "    reward:\n    right: {type: exact_match}", "RC130", "indent it below that key"),
        ("    reward:", "    sampler: {type: tree, num_generations: 4}\n    reward:", "RC130", "to sampler `chain`"),
        (RIGHT, '{right: {type: judge, rubric: "Is this answer right?"}}', "RC172", "a sentence is not read here"),
        ("    reward:", "    allow: {RC9999: why}\n    reward:", "RC146", "`recipec ls codes` lists them"),
        ("evaluate:", "machine: {services: {s: {url: x, api_key: abc}}}\nevaluate:", "RC651", "`key_variable: "),
        ("name: mistaken", "name: mistaken\npush_to_hub: true", "RC130", "`recipec export RUN --to hub:org/name`"),
        ("    reward:", "    loss: {epsilon: {low: 0.2, high: 0.28}}\n    reward:",
         "RC132", "`epsilon: 0.2, epsilon_high: 0.28`"),
        ("    reward:", "    loss: {epsilon: [0.2, 0.28]}\n    reward:", "RC132", "`epsilon: 0.2, epsilon_high: 0.28`"),
        ("    reward:", "    loss: (beta: 0)\n    reward:", "RC105", "write `loss: {beta: 0}`"),
        (f"reward: {RIGHT}", "reward: right: {type: exact_match}", "RC105", f"write `reward: {RIGHT}`"),
        ("    reward:", "    optimizer: {learning_rate: {{ lr }}}\n    reward:", "RC109", '`"${vars.lr}"`'),
        ("    reward:", "    optimizer: {learning_rate: 5,0e-4}\n    reward:",
         "RC100", "write `learning_rate: 5.0e-4`"),
        ("    reward:", "    optimizer:\n      learning_rate = 1e-5\n      schedule = cosine\n    reward:",
         "RC134", "`schedule: cosine`, each"),
        ("    reward:", '    sampler: {stop: "\\n"}\n    reward:', "RC132", '`stop: ["\\n"]`'),
        ("    reward:", "    optimizer: {betas: [0.9, 0.95], warmup_updates: [5, 5]}\n    reward:",
         "RC132", "stands for all of them: `warmup_updates: 5`"),
        (STEPS, "steps: 10, save_every: 10m", "RC132", "`save_every` is a number, not a time in minutes"),
        ("stages:", "true: 1\nstages:", "RC109", "YAML reads `true` as a value"),
        ("evaluate:", "  explore: {kind: rl}\nevaluate:", "RC107", "another name, such as `explore_2`"),
        ("evaluate:", "---\nevaluate:", "RC111", "remove the line `---`"),
        (f"{STEPS}, prompts_per_step: 8", f"{STEPS}, train_batch_size: 8, ppo_mini_batch_size: 4",
         "RC130", "is verl's name; here it is `budget.prompts_per_step`"),
        ("    reward:", "    loss: {loss_type: dr_grpo}\n    reward:",
         "RC130", "axolotl's name; here it is `loss.aggregate: fixed`"),
        ("    reward:", "    policy: {peft: {peft_type: LORA, r: 8}}\n    reward:", "RC130", "`r` is `policy.lora.r`"),
        ("    reward:", "    policy: {adapter: qlora}\n    reward:", "RC130", "with `policy.quantization: nf4`"),
        ("    reward:", "    algorithm: {adv_estimator: gigpo}\n    reward:",
         "RC130", "`extends: [recipec:algorithms/gigpo]`"),
        ("    reward:", "    sampler: {generation_kwargs: {top_k: 50}}\n    reward:",
         "RC130", "without `generation_kwargs`: `top_k: 50`"),
        ("    reward:", "    reference: {type: lagged, every: 4}\n    reward:",
         "RC130", "did you mean `sync_every_updates`?"),
        ("max_length: 512", "type: sharegpt", "RC131", "other tools call `sharegpt` is `file`"),
        ("evaluate:", "evaluate:\n  eval_steps: 50", "RC134", "here it is `evaluate.NAME.every`"),
        ("name: mistaken", "name: mistaken\nseeds: [0, 1]", "RC130", "`recipec run RECIPE --each seed=0,1`"),
        ("kind: rl", "type: rl", "RC130", "did you mean `kind`?"),
        ("kind: rl", "kind: distill", "RC132", "and `loss: {type: gkd}`"),
        ("    reward:", "    policy: {type: qwen2_vl}\n    reward:", "RC131", "is `vision_lm` here"),
        ("    reward:", "    critic: {model: org/m}\n    reward:", "RC130", "did you mean `from`?"),
        ("evaluate:", "machine: {devices: all}\nevaluate:", "RC132", "write how many"),
        (RIGHT, '{right: {type: judge, url: "http://h/v1"}}', "RC130", "write `service: NAME` here"),
        ("stages:", "system_prompt: Think.\nstages:", "RC130", "here it is `data.system` of a stage"),
        ("evaluate:", "machine: {gradient_accumulation: 4}\nevaluate:",
         "RC130", "one number counts the rows of a whole step"),
        ("    reward:", "    policy: {gradient_checkpointing: true}\n    reward:",
         "RC130", "`machine.train: {type: fsdp}`"),
        ("evaluate:", 'machine: {services: {s: {url: "http://u:pass@10.0.0.1"}}}\nevaluate:',
         "RC651", "`key_variable: "),
        (
            "stages:\n  explore:\n",
            "stages:\n  - explore:\n",
            "RC134",
            "`stages: {explore: {kind: rl, from: org/model,",
        ),
    ],
)  # fmt: skip
def test_what_to_write_instead(tmp_path, old, new, code, says):
    """The message has the code, and its help has the text to write, under the names of this tool."""
    assert old in RECIPE
    (tmp_path / "r.yaml").write_text(RECIPE.replace(old, new))
    (one, *_) = [one for one in compile_recipe(tmp_path / "r.yaml").diagnostics if one.code == code]
    assert says in one.message + one.help, one


@pytest.mark.parametrize(("value", "edit"), [("90", "0.9"), ("1.5", None)])
def test_only_a_whole_number_is_read_as_a_percentage(tmp_path, value, edit):
    """`top_p: 90` is written 0.9, and 1.5, which is no usual percentage, has no edit that `--fix` could write."""
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("    reward:", f"    sampler: {{top_p: {value}}}\n    reward:"))
    found = [d for d in compile_recipe(path).diagnostics if d.code == "RC132"]
    assert [d.fix and d.fix.text for d in found] == [edit]


def test_a_missing_key_of_an_included_section_is_shown_in_the_recipe(tmp_path):
    """Its file is where the user can write; the section of the fragment comes after."""
    (tmp_path / "r.yaml").write_text(RECIPE.replace(f"    budget: {{{STEPS}, prompts_per_step: 8}}\n", ""))
    found = [one for one in compile_recipe(tmp_path / "r.yaml").diagnostics if one.code in {"RC133", "RC138"}]
    assert [one.code for one in found] == ["RC133", "RC138"]
    for one in found:
        assert (one.spans[0].file, one.spans[0].line, one.spans[0].column) == (str(tmp_path / "r.yaml"), 4, 3)
        assert one.spans[1].file == "recipec:algorithms/grpo.yaml"


def test_a_variable_that_an_alias_repeats_is_used(tmp_path):
    """Only one that neither a reference nor an alias names is reported."""
    text = RECIPE.replace("name: mistaken", "name: mistaken\nvars: {steps: &n 10, other: 1}")
    (tmp_path / "r.yaml").write_text(text.replace(STEPS, "steps: *n"))
    (one,) = [one for one in compile_recipe(tmp_path / "r.yaml").diagnostics if one.is_error]
    assert (one.code, one.path) == ("RC143", "vars.other")


def test_counts_of_a_budget_that_stand_in_the_stage_are_not_also_missing(tmp_path):
    """Each has one diagnostic, which names the budget."""
    flat = RECIPE.replace(f"budget: {{{STEPS}, prompts_per_step: 8}}", f"{STEPS}\n    prompts_per_step: 8")
    (tmp_path / "r.yaml").write_text(flat)
    found = [one for one in compile_recipe(tmp_path / "r.yaml").diagnostics if one.is_error]
    assert [(one.code, "belongs to `budget`" in one.help) for one in found] == [("RC130", True)] * 2


def test_a_file_that_was_read_in_part_lacks_nothing(tmp_path):
    """What could not be read may hold what a section needs: the broken line is the only error."""
    (tmp_path / "r.yaml").write_text(RECIPE.replace("path: tasks.jsonl", 'path: "C:\\data\\tasks.jsonl"'))
    assert [one.code for one in compile_recipe(tmp_path / "r.yaml").diagnostics if one.is_error] == ["RC105"]


def test_an_alias_of_nothing_leaves_its_value_unknown(tmp_path):
    """No default takes its place, so that nothing else is said."""
    (tmp_path / "r.yaml").write_text(
        RECIPE.replace("    reward:", "    optimizer: {learning_rate: *lr}\n    policy: {lora: {r: 8}}\n    reward:")
    )
    assert [one.code for one in compile_recipe(tmp_path / "r.yaml").diagnostics] == ["RC116"]


def test_a_value_that_a_component_rejects_is_shown_itself(tmp_path):
    """RC150 of one key points at its value, and RC150 of a section at its key."""
    (tmp_path / "r.yaml").write_text(RECIPE.replace(RIGHT, '{right: {type: regex_format, pattern: "("}}'))
    (one,) = [one for one in compile_recipe(tmp_path / "r.yaml").diagnostics if one.code == "RC150"]
    assert one.spans[0].column == 1 + len("    reward: {right: {type: regex_format, pattern: ")
    scratch = "scratch\n    policy: {scratch: {hidden_size: 30, layers: 1, heads: 4}}"
    (tmp_path / "r.yaml").write_text(RECIPE.replace("org/model", scratch))
    (one,) = [one for one in compile_recipe(tmp_path / "r.yaml").diagnostics if one.code == "RC150"]
    assert (one.spans[0].line, one.spans[0].column) == (7, 14)
    assert "hidden_size 30 is not a multiple of heads 4" in one.message


@pytest.mark.parametrize("key", ["extend", "include", "inherits", "_base_", "defaults"])
@pytest.mark.parametrize("stage", [True, False])
def test_a_misspelt_extends_is_the_only_error(tmp_path, key, stage):
    """What the file would have given is not reported as missing, and the help names `extends`."""
    text = RECIPE if stage else RECIPE.replace("    extends: [recipec:algorithms/grpo]\n", "") + "extends: [./b.yaml]\n"
    (tmp_path / "r.yaml").write_text(text.replace("extends:", f"{key}:"))
    found = compile_recipe(str(tmp_path / "r.yaml")).diagnostics
    assert [one.code for one in found] == ["RC130"]
    assert "`extends`" in found[0].help


def test_no_slot_of_another_kind_is_advised() -> None:
    """An `sft` stage has no preferences: a key that resembles theirs is not turned into one that is refused next."""
    text = RECIPE.replace("kind: rl", "kind: sft").replace("    reward: ", "    prefer: ")
    found = next(one for one in compile_recipe("r.yaml", text=text).diagnostics if one.code == "RC130")
    assert "`prefer`" in found.message
    assert "`preference`" not in found.help
    assert "`reward`" not in found.help


def test_what_several_names_may_be_meant_for_is_not_missing(tmp_path):
    """A key that is like two of ours is one mistake, whichever is meant."""
    scratch = "{architecture: llama, hidden_size: 8, layers: 1, num_heads: 2, max_positions: 8}"
    new = f"scratch\n    policy: {{type: causal_lm, scratch: {scratch}}}"
    (tmp_path / "r.yaml").write_text(RECIPE.replace("org/model", new))
    (one,) = [one for one in compile_recipe(tmp_path / "r.yaml").diagnostics if one.code in {"RC130", "RC133"}]
    assert one.help == "did you mean `kv_heads` or `heads`?"


def test_the_rest_of_a_component_is_read_as_the_one_that_is_meant(tmp_path):
    """A misspelt type, or `name` in its place, hides no other mistake, and refuses no key of the right component."""
    new = "    optimizer: {type: AdamW, lr: 1e-6}\n    reward:"
    machine = "machine: {rollout: {name: vllm, gpu_memory_utilization: 0.5}}\nevaluate:"
    (tmp_path / "r.yaml").write_text(RECIPE.replace("    reward:", new).replace("evaluate:", machine))
    found = [f"{one.code} {one.help}" for one in compile_recipe(tmp_path / "r.yaml").diagnostics if one.is_error]
    assert [text[:5] for text in found] == ["RC131", "RC130", "RC130", "RC130"]
    assert "here it is `optimizer.learning_rate`" in found[1]
    assert "write `type: vllm`" in found[2]
    assert found[3].endswith("here it is `machine.rollout.memory`")


@pytest.mark.parametrize(
    ("longest", "says"),
    [
        ("100000", "shorten `data.max_length` or `sampler.max_completion_length`: the model has 32768 positions"),
        ("2000", "set `microbatch_tokens` to 2512 or more"),
    ],
)
def test_a_row_beyond_the_positions_of_the_model_must_be_shortened(tmp_path, longest, says):
    """RC505 advises a larger forward pass only for rows that the model can hold."""
    sampler = f"    sampler: {{max_completion_length: {longest}}}\n    reward:"
    text = RECIPE.replace("org/model", "Qwen/Qwen2.5-0.5B").replace("    reward:", sampler)
    (tmp_path / "r.yaml").write_text(text.replace("steps: 10,", "steps: 10, microbatch_tokens: 1024,"))
    (one,) = [one for one in compile_recipe(tmp_path / "r.yaml").diagnostics if one.code == "RC505"]
    assert says in one.help
