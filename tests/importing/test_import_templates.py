"""Chat templates that tools have under a name: each name means what the tool of the file means by it."""

import pytest

from recipec.importing.run import import_recipe
from recipec.package_files import shipped_templates
from recipec.reading.foreign.tables import tools

LLAMA_FACTORY = "stage: sft\nmodel_name_or_path: {model}\ntemplate: {name}\ndataset: a\ncutoff_len: 64\nlora_rank: 8\n"
AXOLOTL = (
    "base_model: {model}\nchat_template: {name}\nmicro_batch_size: 1\nsequence_len: 64\nlearning_rate: 1e-5\n"
    "datasets:\n  - {{path: org/d, type: chat_template}}\n"
)
OPEN_INSTRUCT = (
    "python open_instruct/grpo_fast.py --model_name_or_path {model} --chat_template_name {name} "
    "--dataset_mixer_list org/d 1.0 --num_samples_per_prompt_rollout 8 --response_length 64"
)
ROLL = (
    "pretrain: {model}\nadv_estimator: grpo\nnum_return_sequences_in_group: 8\nrollout_batch_size: 8\n"
    "actor_train: {{data_args: {{template: {name}, file_name: [a.jsonl]}}, training_args: {{learning_rate: 1.0e-6}}}}\n"
)
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


def imported(file, text, **values):
    """Import a file, and return the settings and the names that cannot be written with their reasons."""
    made = import_recipe(file, text.format(**values)).made
    settings = {path: setting.value for path, setting in made.settings.items()}
    return settings, {fate.name: fate.text for fate in made.fates if fate.verdict == "missing"}


@pytest.mark.parametrize(
    ("file", "text", "model", "name", "expected"),
    [
        ("a.yaml", LLAMA_FACTORY, "meta-llama/Llama-3.1-8B-Instruct", "llama3", "recipec:chat/llama3"),
        ("a.yaml", LLAMA_FACTORY, "Qwen/Qwen3-8B", "qwen3_nothink", "recipec:chat/chatml"),
        ("a.yaml", LLAMA_FACTORY, "Qwen/Qwen3-8B", "qwen3", None),
        ("a.yml", AXOLOTL, "org/m", "phi_3", "recipec:chat/phi3"),
        ("a.yml", AXOLOTL, "Qwen/Qwen3-8B", "qwen3", None),
        ("a.sh", OPEN_INSTRUCT, "allenai/Olmo-3-7B-Think-SFT", "olmo_thinker", "recipec:chat/olmo_thinker"),
        ("a.sh", OPEN_INSTRUCT, "Qwen/Qwen2.5-7B", "r1_simple_chat_postpend_think", "recipec:chat/r1"),
        ("a.sh", OPEN_INSTRUCT, "allenai/Olmo-3-7B", "olmo123", None),
        ("a.sh", OPEN_INSTRUCT, "org/m", "zephyr", "recipec:chat/zephyr"),
        ("a.yaml", ROLL, "Qwen/Qwen2.5-7B", "qwen2_5", None),
        ("a.yaml", ROLL, "org/m", "chatml", "recipec:chat/chatml"),
    ],
)
def test_a_name_is_the_template_of_its_tool(file, text, model, name, expected):
    """What the tool writes out is written out; what is the tokenizer's own is left to it."""
    settings, missing = imported(file, text, model=model, name=name)
    assert settings.get("policy.chat_template") == expected
    assert not [key for key in missing if "template" in key]


@pytest.mark.parametrize(
    ("file", "text", "name", "why"),
    [
        ("a.yaml", LLAMA_FACTORY, "zephyr", "a system message of its own"),
        ("a.yaml", LLAMA_FACTORY, "phi_3", "no template of the package"),
        ("a.yml", AXOLOTL, "zephyr", "no template of the package"),
        ("a.sh", OPEN_INSTRUCT, "olmo_thinker_rlzero", "an instruction around the prompt"),
        ("a.yaml", ROLL, "longcot_V3", "no template of the package"),
    ],
)
def test_a_template_that_is_not_shipped_is_said(file, text, name, why):
    """The same name may be another template in another tool, or none."""
    settings, missing = imported(file, text, model="org/m", name=name)
    assert "policy.chat_template" not in settings
    (reason,) = [text for key, text in missing.items() if "template" in key]
    assert why in reason


def test_the_default_system_message_of_a_template_is_kept():
    """LLaMA-Factory's `qwen` has a system message, which `default_system` replaces."""
    settings, _ = imported("a.yaml", LLAMA_FACTORY, model="org/m", name="qwen")
    assert settings["policy.chat_template"] == "recipec:chat/chatml"
    assert settings["data.system"] == QWEN
    settings, missing = imported("a.yaml", LLAMA_FACTORY + "default_system: Be brief.\n", model="org/m", name="qwen")
    assert settings["data.system"] == "Be brief."
    assert settings["policy.chat_template"] == "recipec:chat/chatml"
    assert not missing


def test_every_template_in_the_tables_is_shipped():
    """A table names no template that the package does not have."""
    for tool in tools():
        for value in tool.choices.get("template", {}).values():
            text = value.get("policy.chat_template") if isinstance(value, dict) else value
            assert text == "" or text.startswith("!") or text in shipped_templates()
