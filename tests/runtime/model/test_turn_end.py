"""A policy stops where its chat template ends an answer: in later stages, in other tools, and in what is trained."""

import json
from pathlib import Path

import pytest
from support.policies import dense_policy
from tokenizers import AddedToken
from transformers import GenerationConfig

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.data.encode import Encoder
from recipec.runtime.data.files import Row
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.scratch import build_model, characters
from recipec.spec import policy as specs

SIZES = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32, "max_positions": 128}
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo\nno"}]
OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" + OPEN


def base(root: Path, *, special: bool = True, added: bool = True, eos: object = 2) -> Path:
    """Save a base model: its text ends with `<eos>`, id 2; the tokens of ChatML are 100 and 101 where it has them."""
    tokenizer = characters()
    if added:
        tokenizer.add_tokens([AddedToken(name, special=special) for name in ("<|im_start|>", "<|im_end|>")])
    tokenizer.chat_template = None
    model = build_model(specs.Scratch(**SIZES), tokenizer)
    model.save_pretrained(root / "base")
    tokenizer.save_pretrained(root / "base")
    (root / "base" / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    return root / "base"


def load(root: Path, folder: str, template: str | None, notes: list[str] | None = None) -> CausalLm:
    """Load a policy with a chat template."""
    if template is not None:
        (root / "t.jinja").write_text(template)
    say = ([] if notes is None else notes).append
    context = StageContext(root=root, cache=root / "cache", seed=0, stage="s", say=say)
    spec = specs.CausalLm(chat_template=None if template is None else "t.jinja")
    return dense_policy(spec, context, Origin("directory", folder))


def trained(policy: CausalLm, messages: list[dict]) -> list[int]:
    """Return the trained ids of a conversation."""
    example = Encoder(policy).conversation(Row(0, "a.jsonl", 1, {"messages": messages}), messages)
    return [token for token, own in zip(example.ids, example.trained, strict=True) if own]


ENDS = [
    # ChatML on a base model whose text ends with another token, as Qwen2.5's
    (CHATML, "<|im_end|>"),
    (CHATML.replace("<|im_end|>\n", "<|im_end|>"), "<|im_end|>"),
    (CHATML.replace("<|im_end|>\n", " \n<|im_end|>\n\n"), " \n<|im_end|>"),
    (CHATML.replace("<|im_end|>", "{{ eos_token }}"), "<eos>"),
    (CHATML.replace("<|im_end|>\n", " {{ eos_token }}"), " <eos>"),
    (CHATML.replace("<|im_end|>\n", "<|im_end|>\n{{ eos_token }}"), "<|im_end|>\n<eos>"),
    (CHATML.replace("<|im_end|>", "<pad>"), "<pad>"),
    ("{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML, "<|im_end|>"),
    (CHATML.replace("m.content", "m.content if m.content is string else m.content[0].text"), "<|im_end|>"),
    (CHATML.replace("m.content", "m.content | trim"), "<|im_end|>"),
]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(("template", "end"), ENDS)
def test_the_last_trained_token_is_a_stop_token_and_saved_as_one(tmp_path, template, end, special):
    """Whatever ends an answer stops the policy; a later stage and transformers read it from the saved folder."""
    base(tmp_path, special=special)
    notes: list[str] = []
    policy = load(tmp_path, "./base", template, notes)
    talk = [{"role": "system", "content": "be"}, *TALK] if "raise" in template else TALK
    ids = trained(policy, talk + TALK)
    assert ids[-1] in policy.stop_ids
    assert policy.tokenizer.decode(ids) == f"yo\nno{end}" * 2
    assert not set(policy.encode("yo\nno <|im_end|><eos>")) & set(policy.stop_ids)
    policy.save(tmp_path / "out")
    saved = GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id
    assert set(saved if isinstance(saved, list) else [saved]) == set(policy.stop_ids)
    assert load(tmp_path, "./out", None).stop_ids == policy.stop_ids
    assert bool(notes) == (len(policy.stop_ids) > 1)


WITHOUT = [
    CHATML.replace("<|im_end|>\n", ""),
    CHATML.replace("<|im_end|>\n", "\n"),
    CHATML.replace("<|im_end|>", "END"),
    CHATML.replace("<|im_end|>\n", "{% if m.role == 'user' or not loop.last %}<|im_end|>\n{% endif %}"),
    CHATML.replace("<|im_end|>\n", "{% if m.role == 'user' %}<|im_end|>\n{% endif %}"),
]


@pytest.mark.parametrize("template", WITHOUT)
def test_an_answer_without_an_end_is_not_trained(tmp_path, template):
    """A template that writes no token after it, or letters: RC739 names the row, the message and what to write."""
    base(tmp_path)
    policy = load(tmp_path, "./base", template)
    assert policy.stop_ids == (2,)
    with pytest.raises(RecipeError) as refused:
        trained(policy, TALK)
    (found,) = refused.value.diagnostics
    assert (found.code, found.spans[0].file, found.spans[0].line) == ("RC739", "a.jsonl", 1)
    assert "message 2" in found.message
    assert "eos_token" in found.help


def test_a_marker_that_the_tokenizer_spells_in_letters_ends_nothing(tmp_path):
    """ChatML with a tokenizer that has no such tokens."""
    base(tmp_path, added=False)
    policy = load(tmp_path, "./base", CHATML)
    with pytest.raises(RecipeError) as refused:
        trained(policy, TALK)
    assert refused.value.diagnostics[0].code == "RC739"


@pytest.mark.parametrize(("eos", "expected"), [(101, (2, 101)), ([101, 2], (2, 101)), ([], (2, 101)), (None, (2, 101))])
def test_all_stop_ids_are_saved_for_other_tools(tmp_path, eos, expected):
    """The tokenizer's own and those that the folder names, once each; what is there already is not noted."""
    base(tmp_path, eos=eos)
    notes: list[str] = []
    policy = load(tmp_path, "./base", CHATML, notes)
    assert policy.stop_ids == expected
    assert bool(notes) == (not eos)
    policy.save(tmp_path / "out")
    assert set(GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id) == set(expected)


def test_without_a_chat_template_stop_tokens_stay_as_they_are(tmp_path):
    """Text ends with the tokenizer's token alone."""
    base(tmp_path)
    assert load(tmp_path, "./base", None).stop_ids == (2,)
