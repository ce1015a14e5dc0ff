"""Tokenizer families x chat templates x shapes of rows; the whole product is `benchmarks/encoding.py`."""

import pytest
from support.chat_templates import TEMPLATES
from support.encoding_corpus import NEED_TOOLS, SHAPES, check, policy_of, prepare
from support.tokenizer_families import FAMILIES, LOSSY, STRIPS


@pytest.mark.parametrize("place", range(len(FAMILIES)), ids=list(FAMILIES))
def test_every_kind_of_stage_has_the_same_ids(tmp_path, place):
    """sft, dpo, rl and environments agree on a conversation, and its control tokens are those of the template."""
    family, names = list(FAMILIES)[place], list(TEMPLATES)
    for step, template in enumerate((names[place % len(names)], names[(place * 5 + 1) % len(names)])):
        policy = policy_of(family, template, list(STRIPS)[(place + step) % 4])
        for shape in list(SHAPES)[(place + step) % 5 :: 5]:
            refused = check(tmp_path, policy, template, shape)
            assert refused is None or (shape in NEED_TOOLS and refused.code == "RC878"), (template, shape, refused)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in LOSSY])
@pytest.mark.parametrize(
    ("prompt", "answer"), [("2+2=", "4"), ("a", "b"), ("a ", " b"), ("Q:\n", "\nb"), ("你", "好"), ("x <b>", "</b>")]
)
def test_prompt_and_completion_decode_to_their_text(tmp_path, family, prompt, answer):
    """No tokenizer puts a space between a prompt and the completion that continues it."""
    policy = policy_of(family, "plain")
    row = {"prompt": prompt, "completion": answer, "chosen": answer, "rejected": "c"}
    (example,) = prepare(tmp_path, policy, "sft", row)["completion_P"]
    (chosen,) = prepare(tmp_path, policy, "dpo", row)["chosen_P"]
    assert chosen.ids == example.ids
    assert policy.decode(example.ids) == policy.decode(policy.encode(prompt + answer))
    assert policy.decode(example.ids).removeprefix(" ") == prompt + answer
    start = example.trained.index(True)
    context = example.ids[:start]
    assert policy.decode([*context, *policy.encode("\n\nobs", context)]).endswith(f"{prompt}\n\nobs")
