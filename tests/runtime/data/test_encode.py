"""Prompts, answers and conversations in tokens: what a row keeps, and how messages name what is refused."""

import pytest
from support.encoding_corpus import bot, policy_of, user

from recipec.diagnostics.model import RecipeError
from recipec.runtime.data.encode import Encoder
from recipec.runtime.data.files import Row
from recipec.runtime.images.picture import Picture

ROW = Row(4, "a.jsonl", 5, {"text": [user("hi")]})
TURN = "<|im_start|>{{ m.role }}\n%s<|im_end|>\n"
TEMPLATE = (
    "{%% for m in messages %%}%s{%% endfor %%}{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)


def policy_with(content):
    """Return a policy with a chat template that writes the content of a message in this way."""
    policy = policy_of("gpt2", "chatml")
    policy.tokenizer.chat_template = TEMPLATE % (TURN % content)
    return policy


def refused(function, *args, **kwargs):
    """Return the diagnostic of a call, which names the row."""
    with pytest.raises(RecipeError) as error:
        function(*args, **kwargs)
    (found,) = error.value.diagnostics
    assert (found.spans[0].file, found.spans[0].line) == ("a.jsonl", 5)
    assert "a.jsonl, row 5" in found.message
    return found


PARTS = (
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}"
)


def test_an_answer_as_one_message_follows_a_plain_prompt():
    """A completion of one message of the assistant is its text; of more there is no text."""
    encoder = Encoder(policy_of("gpt2", "chatml"))
    task = encoder.task(ROW, "2+2=")
    example = encoder.example(ROW, task, [bot("4")])
    assert example == encoder.example(ROW, task, "4")
    assert example.prompt_id == 4
    for answer in ([bot("4"), bot("5")], [user("4")], []):
        found = refused(encoder.example, ROW, task, answer)
        assert found.code == "RC706"
        assert "`completion`" in found.message


def test_a_short_text_in_parts_is_looked_for_by_changing_it():
    """A template writes the texts of parts; a text too short to be found by itself is compared with another one."""
    talk = [user([{"type": "text", "text": "hi"}]), bot("ok")]
    example = Encoder(policy_with(PARTS)).conversation(ROW, talk)
    assert example.ids == Encoder(policy_with(PARTS)).conversation(ROW, [user("hi"), bot("ok")]).ids
    found = refused(Encoder(policy_with("{{ m.content if m.content is string }}")).conversation, ROW, talk)
    assert found.code == "RC878"
    assert "`messages[0].content` is not written by the chat template" in found.message


def test_a_text_that_is_left_out_next_to_a_variable():
    """Contents are compared under the variables of the row: that the template writes those hides nothing."""
    policy = policy_with("{{ note }}{{ m.content if m.role == 'assistant' }}")
    found = refused(Encoder(policy).conversation, ROW, [user("hi"), bot("ok")], variables={"note": "x"})
    assert found.code == "RC878"
    assert "`messages[0].content`" in found.message


def test_a_variable_that_is_not_written():
    """RC878 names it, and why that matters."""
    found = refused(Encoder(policy_of("gpt2", "chatml")).task, ROW, [user("hi")], variables={"note": "x"})
    assert found.code == "RC878"
    assert "`note` is not written by the chat template: the policy would never see it" in found.message


def test_a_template_that_refuses_other_texts():
    """A text is not called left out where the template refuses the one that it is compared with."""
    picky = "{{ raise_exception('no digits') if '1' in m.content else m.content }}"
    example = Encoder(policy_with(picky)).conversation(ROW, [user("hi"), bot("ok")])
    assert example == Encoder(policy_with("{{ m.content }}")).conversation(ROW, [user("hi"), bot("ok")])


@pytest.mark.parametrize("variables", [{}, {"note": "x"}])
def test_what_a_template_refuses_has_the_place_of_its_row(variables):
    """RC730 of a prompt, and of a conversation, also where it is compared with itself without a variable."""
    encoder = Encoder(policy_with("{{ raise_exception('too long') }}"))
    for function, messages in ((encoder.task, [user("hi")]), (encoder.conversation, [user("hi"), bot("ok")])):
        found = refused(function, ROW, messages, variables=variables)
        assert found.code == "RC730"
        assert "too long" in found.message


def test_rows_without_a_text_are_named():
    """An empty prompt, a conversation without an answer, and a text that is a conversation, with the name of each."""
    encoder = Encoder(policy_of("gpt2", "chatml"))
    assert "`prompt`" in refused(encoder.task, ROW, "").message
    found = refused(encoder.conversation, ROW, [user("hi")])
    assert (found.code, "`messages`" in found.message) == ("RC706", True)
    found = refused(encoder.plain_text, ROW, "text")
    assert (found.code, "`text`" in found.message) == ("RC706", True)


def test_images_next_to_plain_text_are_named():
    """A row of plain text has no place for an image."""
    image = Picture("9f", "a.png", {}, (7, 8))
    found = refused(Encoder(policy_of("gpt2", "chatml")).plain_text, ROW, "text", images=(image,))
    assert found.code == "RC878"
    assert "`images` belongs to a prompt" in found.message
