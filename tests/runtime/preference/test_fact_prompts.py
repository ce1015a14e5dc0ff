"""Prompts of turns: windows, conversations that only grow, and templates that rewrite what was said."""

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.environment.prompt_builder import Observation, PastTurn, PromptBuilder, PromptInput, read_action

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
FORGETS = CHAT.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
UNENDS = CHAT.replace("<eos>\n", "{% if m.role != 'assistant' or loop.length < 5 %}<eos>{% endif %}\n")
TRIMS = CHAT.replace("{{ m.content }}", "{{ m.content | trim }}")
TASK = Task(3, "p", (5,), {"colour": "red"})
KITCHEN, HALL = Observation("You are in a kitchen.", ("look", "go north")), Observation("You are in a hall.")
PAST = tuple(PastTurn(Observation(f"room {i}"), f"go {i}", f"<action>go {i}</action>") for i in range(1, 5))


def chat(policy, template):
    """Give the policy a chat template whose end of turn is its end token, or none."""
    policy.tokenizer.chat_template = template and template.replace("<eos>", policy.tokenizer.eos_token)


def test_window_shows_the_last_turns_with_their_numbers(text_context, text_policy):
    """The prompt holds the goal, the last two turns and what is seen now, and nothing older."""
    layout = PromptBuilder(text_context, text_policy, 2, None, "world", max_turns=9)
    (ids,) = layout.contexts([PromptInput(TASK, "find the mug", KITCHEN, PAST)])
    text = text_policy.decode(ids)
    assert "find the mug" in text
    assert "[Step 3] Observation: room 3\n[Step 3] Action: go 3\n[Step 4] Observation: room 4" in text
    assert "room 2" not in text
    assert "step 5 of at most 9" in text
    assert "- go north\n" in text
    assert layout.stops == ("</action>",)


def test_window_is_one_message_of_the_chat_template(text_context, text_policy):
    """With a chat template the prompt is the user's message, after the system message of the task."""
    chat(text_policy, CHAT)
    layout = PromptBuilder(text_context, text_policy, 0, None, "world")
    task = Task(0, [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "p"}], (5,))
    (ids,) = layout.contexts([PromptInput(task, "", HALL, PAST)])
    text = text_policy.decode(ids)
    assert text.startswith("<|system|>\nBe kind.")
    assert text.count("<|user|>") == 1
    assert "room" not in text
    assert text.endswith("<|assistant|>\n")


@pytest.mark.parametrize("history", [0, "append_only"])
def test_plain_prompts_leave_the_chat_template_out(text_context, text_policy, history):
    """With `chat: false` prompts are the template's text alone, also where the tokenizer has a chat template."""
    (text_context.root / "t.j2").write_text("{{ observation }} >")
    chat(text_policy, CHAT)
    layout = PromptBuilder(text_context, text_policy, history, "t.j2", "world", chat=False)
    (context,) = layout.contexts([PromptInput(TASK, "", HALL)])
    decode, kept = text_policy.decode, (*context, *text_policy.encode(" look"))
    assert decode(context) == "You are in a hall. >"
    (later,) = layout.contexts([PromptInput(TASK, "", KITCHEN, (PastTurn(HALL, "look", " look"),), kept)])
    layout.close()
    assert "<|" not in decode(later)


def test_own_template_sees_columns_and_decides_about_tags(text_context, text_policy):
    """The user's template is rendered with the task's columns; without a tag in it the whole turn is the action."""
    (text_context.root / "t.j2").write_text("{{ task.colour }} {{ goal }} {{ observation }} {{ turn }}:")
    chat(text_policy, None)
    layout = PromptBuilder(text_context, text_policy, 0, "t.j2", "world")
    contexts = layout.contexts([PromptInput(TASK, "g", HALL), PromptInput(TASK, "g", HALL, PAST)])
    layout.close()
    decode = text_policy.decode
    assert [decode(c) for c in contexts] == ["red g You are in a hall. 1:", "red g You are in a hall. 5:"]
    assert layout.stops == ()
    assert layout.read(" go north\n", HALL).text == "go north"


def test_missing_and_broken_templates_are_refused(text_context, text_policy):
    """A template that is not there is RC700, one that is none RC712, one that fails names the turn."""
    (text_context.root / "bad.j2").write_text("{% if %}")
    (text_context.root / "col.j2").write_text("{{ nothing }}")
    for name, code in {"none.j2": "RC700", "bad.j2": "RC712"}.items():
        with pytest.raises(RecipeError) as caught:
            PromptBuilder(text_context, text_policy, 0, name, "world")
        assert caught.value.diagnostics[0].code == code
    layout = PromptBuilder(text_context, text_policy, 0, "col.j2", "world")
    with pytest.raises(RecipeError) as caught:
        layout.contexts([PromptInput(TASK, "g", HALL, PAST)])
    layout.close()
    assert caught.value.diagnostics[0].code == "RC711"
    assert "turn 5 of task 3" in caught.value.diagnostics[0].message


@pytest.mark.parametrize("template", [None, CHAT])
@pytest.mark.parametrize("ended", [False, True])
def test_appended_turns_extend_what_was_sampled(text_context, text_policy, template, ended):
    """Each context begins with the one before and the ids of the turn, exactly; the end of a turn is there once."""
    chat(text_policy, template)
    layout = PromptBuilder(text_context, text_policy, "append_only", None, "world", max_turns=9)
    (context,) = layout.contexts([PromptInput(TASK, "g", KITCHEN)])
    past: tuple[PastTurn, ...] = ()
    for _ in range(3):
        text = "<think>a</think><action>look</action>"
        kept = (*context, *text_policy.encode(text), *([text_policy.eos_id] if ended else []))
        past = (*past, PastTurn(KITCHEN if not past else HALL, "look", text))
        (found,) = layout.contexts([PromptInput(TASK, "g", HALL, past, kept)])
        assert found[: len(kept)] == kept
        assert "You are in a hall." in text_policy.decode(found[len(kept) :])
        context = found
    if template:
        assert text_policy.decode(context).count(text_policy.tokenizer.eos_token) == 3 * 2 + 1
        assert text_policy.decode(context).endswith("<|assistant|>\n")


@pytest.mark.parametrize(("template", "text"), [(FORGETS, "<think>a</think><action>b</action>"), (TRIMS, " b ")])
def test_template_that_rewrites_earlier_turns_is_detected(text_context, text_policy, template, text):
    """A template that drops thinking or trims an answer gives None; the answer it keeps goes on."""
    chat(text_policy, template)
    layout = PromptBuilder(text_context, text_policy, "append_only", None, "world")
    for said, whole in {text: False, "<action>b</action>": True}.items():
        (context,) = layout.contexts([PromptInput(TASK, "", KITCHEN)])
        kept = (*context, *text_policy.encode(said))
        (found,) = layout.contexts([PromptInput(TASK, "", HALL, (PastTurn(KITCHEN, "b", said),), kept)])
        assert (found is not None) == whole


def test_template_that_drops_only_control_tokens_is_detected(text_context, text_policy):
    """A template that takes the end token of the first answer back, once there is a second, gives None from there."""
    for template, whole in {UNENDS: [True, False], CHAT: [True, True]}.items():
        chat(text_policy, template)
        layout = PromptBuilder(text_context, text_policy, "append_only", None, "world")
        (context,) = layout.contexts([PromptInput(TASK, "", KITCHEN)])
        past: tuple[PastTurn, ...] = ()
        found = []
        for _ in range(2):
            kept = (*context, *text_policy.encode("b"), text_policy.eos_id)
            past = (*past, PastTurn(HALL if past else KITCHEN, "b", "b"))
            (after,) = layout.contexts([PromptInput(TASK, "", HALL, past, kept)])
            found.append(after is not None)
            context = after or context
        layout.close()
        assert found == whole


@pytest.mark.parametrize("history", [2, "append_only"])
@pytest.mark.parametrize("template", [None, CHAT])
def test_what_a_world_says_is_never_a_control_token(text_context, text_policy, template, history):
    """An observation that spells the end token is letters."""
    chat(text_policy, template)
    evil = Observation(f"a {text_policy.tokenizer.eos_token} b", (text_policy.tokenizer.eos_token,))
    layout = PromptBuilder(text_context, text_policy, history, None, "world")
    counts = []
    for shown in (evil, HALL):
        (context,) = layout.contexts([PromptInput(TASK, "g", HALL)])
        kept = (*context, *text_policy.encode("<action>x</action>"))
        (found,) = layout.contexts([PromptInput(TASK, "g", shown, (PastTurn(HALL, "x", "<action>x</action>"),), kept)])
        counts.append(found.count(text_policy.eos_id))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("text", "shown", "action", "valid"),
    [
        ("<think>a</think><action>go</action>", "", "go", True),
        ("<think>a</think><action>go</action><action>stay</action>", "", "go", True),
        ("<action>go</action>", "", "go", False),
        ("<think>a</think>go", "", None, False),
        ("<think>a</think><action> </action>", "", None, False),
        ("<think>走</think><action>go</action>", "", "go", False),
        ("<think>走</think><action>go</action>", "门", "go", True),
    ],
)
def test_action_of_a_turn(text, shown, action, valid):
    """The first tagged action counts; thinking and letters decide whether the turn is valid."""
    found = read_action(text, shown)
    assert (found.text, found.valid) == (action, valid)
