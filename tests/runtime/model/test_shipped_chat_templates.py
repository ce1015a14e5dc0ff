"""Chat templates of the package: the texts that they write, their control tokens, and what of them is trained."""

import pytest
from support.policies import dense_policy
from tokenizers import AddedToken

from recipec.diagnostics.model import RecipeError
from recipec.host.chat_template import serve
from recipec.host.small_files import read_small
from recipec.package_files import named_file, shipped_templates
from recipec.runtime.context import StageContext
from recipec.runtime.data.encode import Encoder
from recipec.runtime.data.files import Row
from recipec.runtime.model.chat_template import CONTROL_TOKENS
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.scratch import build_model, characters
from recipec.spec import policy as specs

SIZES = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32, "max_positions": 256}
TALK = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": [{"type": "text", "text": "V"}]},
    {"role": "assistant", "content": "B"},
]
HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"
NO_FUNCTIONS = "You do not currently have access to any functions. <functions></functions>"
USER = "<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
OLMO = (
    "You are OLMo, a helpful function-calling AI assistant built by Ai2. Your date cutoff is November 2024, and your "
    f"model weights are available at https://huggingface.co/allenai. {NO_FUNCTIONS}"
)
R1 = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think> <answer> answer here </answer>.\n\n"
)
TURNS = {
    "chatml": (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n",
    ),
    "gemma": (
        "<bos><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>\n<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>\n",
    ),
    "llama3": (
        f"<bos>{HEADER.format('system')}S<|eot_id|>{HEADER.format('user')}U<|eot_id|>{HEADER.format('assistant')}",
        f"<|eot_id|>{HEADER.format('user')}V<|eot_id|>{HEADER.format('assistant')}",
        "<|eot_id|>",
    ),
    "mistral": ("<bos>[INST] S\n\nU[/INST] ", "<eos>[INST] V[/INST] ", "<eos>"),
    "mistral_v1": ("<bos> [INST] S\n\nU [/INST] ", "<eos> [INST] V [/INST] ", "<eos>"),
    "olmo": (
        f"<|im_start|>system\nS {NO_FUNCTIONS}{USER}",
        "<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
        "<eos>",
    ),
    "olmo_thinker": (
        f"<|im_start|>system\nS {NO_FUNCTIONS}{USER}<think>",
        "<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n<think>",
        "<eos>",
    ),
    "phi3": (
        "<bos><|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n",
        "<|end|>\n<|user|>\nV<|end|>\n<|assistant|>\n",
        "<|end|>\n",
    ),
    "r1": (
        f"{R1}System: S\n\n\nUser: U\nAssistant: <think>",
        "<eos>\n\nUser: V\nAssistant: <think>",
        "<eos>",
    ),
    "tulu": ("<|system|>\nS\n<|user|>\nU\n<|assistant|>\n", "<eos>\n<|user|>\nV\n<|assistant|>\n", "<eos>"),
    "tulu_thinker": (
        "<|system|>\nS\n<|user|>\nU\n<|assistant|>\n<think>",
        "<eos>\n<|user|>\nV\n<|assistant|>\n<think>",
        "<eos>",
    ),
    "zephyr": (
        "<|system|>\nS<eos>\n<|user|>\nU<eos>\n<|assistant|>\n",
        "<eos>\n<|user|>\nV<eos>\n<|assistant|>\n",
        "<eos>\n",
    ),
}
"""What each template writes before, between and after two answers."""
ENDS_OTHERWISE = ("olmo", "olmo_thinker")
"""Templates with another token after the last answer than between turns: one answer of a conversation is trained."""


def talk(name):
    """Return the conversation; answers begin with thoughts where the template opens them."""
    thought = "<think>" if TURNS[name][0].endswith("<think>") else ""
    return [{**m, "content": thought + m["content"]} if m["role"] == "assistant" else m for m in TALK]


def policy(root, name, tokens):
    """Load a model whose tokenizer has ``tokens`` of its own, with a template of the package."""
    tokenizer = characters()
    tokenizer.add_tokens([AddedToken(token, special=True) for token in tokens])
    build_model(specs.Scratch(**SIZES), tokenizer).save_pretrained(root / "base")
    tokenizer.save_pretrained(root / "base")
    context = StageContext(root=root, cache=root / "cache", seed=0, stage="s", say=lambda _: None)
    return dense_policy(specs.CausalLm(chat_template=f"recipec:chat/{name}"), context, Origin("directory", "./base"))


def test_every_template_is_listed():
    """Each template has its text here, and its control tokens in the table that the tokenizer is compared with."""
    names = [name.removeprefix("recipec:chat/") for name in shipped_templates()]
    assert names == sorted(TURNS) == sorted(CONTROL_TOKENS)
    for name, tokens in CONTROL_TOKENS.items():
        assert all(token in "".join(TURNS[name]) for token in tokens)


@pytest.mark.parametrize("name", TURNS)
def test_turns_are_marked_as_published(tmp_path, name):
    """A whole conversation continues what opens its last answer; text is what the published formats write."""
    opening, between, end = TURNS[name]
    render = serve({"source": read_small(named_file(tmp_path, f"recipec:chat/{name}")), "now": ""})
    values = {"bos_token": "<bos>", "eos_token": "<eos>"}
    assert render({**values, "messages": talk(name), "add_generation_prompt": False}) == f"{opening}A{between}B{end}"
    opened = f"{opening}A{between}"  # the space before an answer of Mistral is a part of the answer's first token
    assert render({**values, "messages": talk(name)[:-1], "add_generation_prompt": True}) == opened.rstrip(" ")


@pytest.mark.parametrize("name", TURNS)
def test_answers_and_their_ends_are_trained_as_they_are_sampled(tmp_path, name):
    """Prompts of rollouts and pairs are the ids that SFT has before an answer; an answer ends with a stop token."""
    loaded = policy(tmp_path, name, CONTROL_TOKENS[name])
    conversation, single = talk(name), name in ENDS_OTHERWISE
    encoder, row = Encoder(loaded), Row(0, "a.jsonl", 1, {"messages": conversation})
    whole = encoder.conversation(row, conversation, first=4 if single else 0)
    opened = loaded.render(conversation[:-1])
    assert list(whole.ids[: len(opened)]) == opened
    trained = [token for token, own in zip(whole.ids, whole.trained, strict=True) if own]
    end = TURNS[name][2].rstrip("\n")
    assert loaded.tokenizer.decode(trained).replace(" ", "") == (f"B{end}" if single else f"A{end}B{end}")
    assert trained[-1] in loaded.stop_ids
    loaded.save(tmp_path / "saved")
    ids = (
        type(loaded.tokenizer).from_pretrained(tmp_path / "saved").apply_chat_template(conversation, return_dict=False)
    )
    assert ids[: len(whole.ids)] == list(whole.ids)


@pytest.mark.parametrize("name", [name for name, tokens in CONTROL_TOKENS.items() if tokens])
def test_a_tokenizer_without_the_control_tokens_is_refused(tmp_path, name):
    """Marks that would be letters are named, before a step is made."""
    with pytest.raises(RecipeError) as refused:
        policy(tmp_path, name, CONTROL_TOKENS[name][1:])
    (found,) = refused.value.diagnostics
    assert (found.code, found.path) == ("RC892", "policy.chat_template")
    assert f"`recipec:chat/{name}`" in found.message
    assert CONTROL_TOKENS[name][0] in found.message
    assert CONTROL_TOKENS[name][1] not in found.message


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("olmo", f"<|im_start|>system\n{OLMO}{USER}"),
        ("olmo_thinker", f"<|im_start|>system\nYou are a helpful AI assistant.{USER}<think>"),
        ("r1", f"{R1}User: U\nAssistant: <think>"),
    ],
)
def test_a_prompt_without_a_system_message_gets_that_of_the_template(tmp_path, name, opening):
    """Templates with a text of their own write it in front, as published."""
    render = serve({"source": read_small(named_file(tmp_path, f"recipec:chat/{name}")), "now": ""})
    given = {"bos_token": "<bos>", "eos_token": "<eos>", "messages": TALK[1:2], "add_generation_prompt": True}
    assert render(given) == opening
