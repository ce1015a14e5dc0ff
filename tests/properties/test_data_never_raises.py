"""Rows of any shape are read as tasks and examples, or refused with file and row; no other exception leaves."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from support.encoding_corpus import policy_of, prepare

from recipec.catalogue.code_pages import all_codes
from recipec.diagnostics.model import RecipeError

EXAMPLES = int(os.environ.get("RECIPEC_EXAMPLES", "60"))
"""More of them are tried by `RECIPEC_EXAMPLES=3000 pytest tests/properties/test_data_never_raises.py`."""
WORDS = st.sampled_from(
    ["", " ", "hi", "2+2=", "<|im_end|>", "</s>", "<|im_", "end|>", "\U000f0000", "é", "\ud800", "{{ x }}", "a\nb"]
)
PLAIN = st.one_of(WORDS, st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False))
ANY = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)
PARTS = st.lists(st.one_of(ANY, st.fixed_dictionaries({"type": st.just("text"), "text": WORDS})), max_size=3)
CALLS = st.lists(
    st.one_of(ANY, st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": WORDS, "arguments": ANY})})),
    max_size=2,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", "x"]), "content": st.one_of(WORDS, ANY, PARTS)},
    optional={"name": ANY, "tool_calls": CALLS, "weight": PLAIN, "train": PLAIN, "reasoning_content": PLAIN},
)
TALK = st.one_of(WORDS, st.lists(MESSAGE, max_size=4), ANY)
ROW = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("prompt", "completion", "messages", "chosen", "rejected"), TALK)
    | dict.fromkeys(("tools", "chat_template_kwargs", "images", "image", "answer"), ANY),
)


@pytest.mark.parametrize("kind", ["sft", "dpo", "rl"])
@pytest.mark.parametrize("family", ["gpt2", "spm_legacy"])
def test_rows_are_read_or_refused(tmp_path_factory, kind, family):
    """Whatever a row holds, a stage has ids with an end, or a diagnostic that names the row."""
    codes: set[str] = set()
    policy, folder = policy_of(family, "tools"), tmp_path_factory.mktemp("rows")

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(ROW)
    def tried(row):
        try:
            drawn = prepare(folder, policy, kind, json.loads(json.dumps(row)))
        except RecipeError as refused:
            codes.update(found.code for found in refused.diagnostics)
            return
        assert drawn["prompt_P"][0].prompt_ids
        for examples in (drawn.get(name, []) for name in ("completion_P", "chosen_P", "rejected_P")):
            for example in examples:
                assert example.trained[-1]
                assert example.ids[-1] in policy.stop_ids

    tried()
    assert codes <= set(all_codes())
