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
    "phi3": (
        "<bos><|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n",
        "<|end|>\n<|user|>\nV<|end|>\n<|assistant|>\n",
        "<|end|>\n",
    ),
    "tulu": ("<|system|>\nS\n<|user|>\nU\n<|assistant|>\n", "<eos>\n<|user|>\nV\n<|assistant|>\n", "<eos>"),
    "zephyr": (
        "<|system|>\nS<eos>\n<|user|>\nU<eos>\n<|assistant|>\n",
        "<eos>\n<|user|>\nV<eos>\n<|assistant|>\n",
        "<eos>\n",
    ),
}
"""What each template writes before, between and after two answers."""


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
    assert render({**values, "messages": TALK, "add_generation_prompt": False}) == f"{opening}A{between}B{end}"
    opened = f"{opening}A{between}"  # the space before an answer of Mistral is a part of the answer's first token
    assert render({**values, "messages": TALK[:-1], "add_generation_prompt": True}) == opened.rstrip(" ")


@pytest.mark.parametrize("name", TURNS)
def test_answers_and_their_ends_are_trained_as_they_are_sampled(tmp_path, name):
    """Prompts of rollouts and pairs are the ids that SFT has before an answer; an answer ends with a stop token."""
    loaded = policy(tmp_path, name, CONTROL_TOKENS[name])
    encoder, row = Encoder(loaded), Row(0, "a.jsonl", 1, {"messages": TALK})
    whole = encoder.conversation(row, TALK)
    opened = loaded.render(TALK[:-1])
    assert list(whole.ids[: len(opened)]) == opened
    trained = [token for token, own in zip(whole.ids, whole.trained, strict=True) if own]
    end = TURNS[name][2].rstrip("\n")
    assert loaded.tokenizer.decode(trained).replace(" ", "") == f"A{end}B{end}"
    assert trained[-1] in loaded.stop_ids
    loaded.save(tmp_path / "saved")
    ids = type(loaded.tokenizer).from_pretrained(tmp_path / "saved").apply_chat_template(TALK, return_dict=False)
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
