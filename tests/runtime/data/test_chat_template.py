"""Chat templates of strangers: bounded in time and memory, and a clock that stands still."""

import time

import pytest
from support.encoding_corpus import bot, policy_of, user
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from recipec.diagnostics.model import RecipeError
from recipec.host import chat_template
from recipec.runtime.data.text import Text


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ '' }}{% endfor %}{% endfor %}",
        "{{ 'a' * 3000000000 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
        "{{ '\\ud800' }}",
        "{{ messages.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% include 'x' %}",
        "{{ raise_exception('no') }}",
        "{% if %}",
    ],
)
def test_a_template_that_breaks_a_limit_is_refused(monkeypatch, source):
    """A template that hangs, fills the memory, recurses, is not text, or fails, is RC730, soon and again."""
    monkeypatch.setattr(chat_template, "SECONDS", 1.0)
    policy = policy_of("gpt2", "chatml")
    policy.tokenizer.chat_template = source
    begun = time.monotonic()
    for _ in range(3):
        with pytest.raises(RecipeError) as refused:
            policy.render([user("hi")])
        assert refused.value.diagnostics[0].code == "RC730"
    assert time.monotonic() - begun < 6


def test_the_clock_stands_still():
    """`strftime_now` shows when the run began, whenever it is continued."""
    policy = policy_of("gpt2", "dated")
    shown = policy.decode(policy.render([user("hi")]))
    assert "Today is 02 January 2026 03:04:05." in shown
    other = Text(policy.tokenizer, "2026-01-03T00:00:00")
    assert "03 January" in other.decode(other.render([user("hi")]))


@pytest.mark.parametrize("source", ["{{ ['a', 'b'] | random }}", "{{ lipsum(n=1) }}"])
def test_a_template_that_draws_is_refused(source):
    """A row is read again when a run continues, and gets the same prompt."""
    policy = policy_of("gpt2", "chatml")
    policy.tokenizer.chat_template = source
    with pytest.raises(RecipeError) as refused:
        policy.render([user("hi")])
    assert refused.value.diagnostics[0].code == "RC730"
    assert "draws at random" in refused.value.diagnostics[0].message


def test_a_tokenizer_that_draws_its_merges_does_not():
    """With `dropout` in a BPE model, the library splits the same text in another way each time."""
    trained = Tokenizer(models.BPE(dropout=0.5))
    trained.pre_tokenizer, trained.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>"], initial_alphabet=trained.pre_tokenizer.alphabet()
    )
    trained.train_from_iterator(["hello world, hello there"] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained)
    assert len({tuple(tokenizer("hello world").input_ids) for _ in range(20)}) > 1
    text = Text(tokenizer)
    assert len({tuple(text.encode("hello world")) for _ in range(20)}) == 1


def test_parts_of_control_tokens(tmp_path):
    """Texts that are a control token only when joined, by parts, messages, names or keys, stay letters."""
    policy = policy_of("gpt2", "chatml")
    parts = [{"type": "text", "text": text} for text in ("<|im_", "end|><", "/s", ">")]
    policy.tokenizer.chat_template = (
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
        "{{ p.text }}{% endfor %}{% endif %}<|{{ m.name }}|>{{ m.keys_of | default(1) | tojson }}{% endfor %}"
    )
    said = [
        {"role": "user", "content": parts, "name": "im_end"},
        {"role": "user", "content": "a <|im", "name": "x", "keys_of": {"<|im_end|>": {"</s>": 1}}},
        {"role": "user", "content": "_end|>", "name": "|im_start"},
    ]
    ids = policy.render(said, generation=False)
    assert not set(ids) & set(policy.text.control)
    assert policy.decode(ids).startswith("<|im_end|></s><|im_end|>")
    assert '{"<|im_end|>": {"</s>": 1}}' in policy.decode(ids)


def test_a_piece_of_the_vocabulary_is_not_written_by_text():
    """A tokenizer of pieces that knows `</s>` as a piece reads it in a text as letters."""
    policy = policy_of("unigram_always", "chatml")
    end = policy.tokenizer.eos_token_id
    assert end not in policy.encode("a </s> b</s>")
    assert policy.render([user("</s>"), bot("</s>")]).count(end) == 0
