"""Sources of tasks: formats, masks, lengths, order, and what they refuse."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tokenizers import models
from tokenizers.processors import TemplateProcessing

from recipec.diagnostics.model import RecipeError
from recipec.host.worker_pool import WorkerPool
from recipec.runtime.data import reasoning_gym_tasks
from recipec.runtime.data.encode import Encoder
from recipec.runtime.data.files import Row
from recipec.runtime.data.mixture import Mixture
from recipec.runtime.data.reasoning_gym_tasks import ReasoningGym
from recipec.runtime.data.rollout_tasks import Rollouts
from recipec.runtime.data.sources import File
from recipec.runtime.data.text import Text
from recipec.spec import data as specs

QUESTION = [{"role": "user", "content": "hi"}]
ANSWER = [{"role": "assistant", "content": "yo"}]


def write(context, *rows, name="a.jsonl"):
    """Write rows as JSONL into the recipe's folder."""
    (context.root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def prepared(text_context, text_policy):
    """Return a function that gives a file source, read and encoded, in the order of the file."""

    def prepare(kind, **params):
        spec = specs.File(**{"path": "a.jsonl", "shuffle": False} | params)
        source = File(spec, text_context, policy=text_policy)
        source.prepare(kind)
        return source

    return prepare


@pytest.fixture
def refused(prepared):
    """Return a function that gives the diagnostic of preparing."""

    def refuse(kind, **params):
        with pytest.raises(RecipeError) as caught:
            prepared(kind, **params)
        return caught.value.diagnostics[0]

    return refuse


def trained(policy, example):
    """Return the text of the trained tokens."""
    return policy.decode(i for i, t in zip(example.ids, example.trained, strict=True) if t)


def test_plain_prompt_is_encoded_as_it_is(text_context, text_policy, prepared):
    """Without `chat` a text prompt gets no token that is not its own, and keeps the row's columns."""
    write(text_context, {"prompt": "2+2=", "answer": "4"})
    (task,) = prepared("rl").draw(1)["prompt_P"]
    assert text_policy.decode(task.prompt_ids) == "2+2="
    assert task.columns == {"prompt": "2+2=", "answer": "4"}


def test_chat_puts_system_and_prompt_into_the_template(text_context, text_policy, prepared):
    """`chat` makes the text the user's message, after `system`, and opens the assistant's turn."""
    write(text_context, {"prompt": "2+2="})
    (task,) = prepared("rl", chat=True, system="Be brief.").draw(1)["prompt_P"]
    assert text_policy.decode(task.prompt_ids) == "<bos>system\nBe brief.<eos><bos>user\n2+2=<eos><bos>assistant\n"


def test_own_system_message_wins(text_context, prepared):
    """A conversation that has a system message keeps it."""
    said = [{"role": "system", "content": "mine"}, *QUESTION]
    write(text_context, {"prompt": said})
    (task,) = prepared("rl", system="theirs").tasks
    assert list(task.prompt) == said


def test_template_renders_the_prompt(text_context, prepared):
    """A template sees the row's columns."""
    write(text_context, {"question": "2+2", "hint": "four"})
    (text_context.root / "t.j2").write_text("Q: {{ question }} ({{ hint }})\n")
    assert prepared("rl", template="t.j2").tasks[0].prompt == "Q: 2+2 (four)"


def test_completion_is_trained_with_its_end(text_context, text_policy, prepared):
    """In sft the prompt is not trained; the completion and the end token are."""
    write(text_context, {"prompt": "2+2=", "completion": "4"})
    (example,) = prepared("sft").draw(1)["completion_P"]
    assert text_policy.decode(example.ids) == "2+2=4<eos>"
    assert trained(text_policy, example) == "4<eos>"


def test_every_turn_of_the_assistant_is_trained(text_context, text_policy, prepared):
    """Of a conversation the assistant's words and end tokens are trained, and nothing else."""
    write(text_context, {"messages": [*QUESTION, *ANSWER, {"role": "user", "content": "and?"}, *ANSWER]})
    drawn = prepared("sft").draw(1)
    assert trained(text_policy, drawn["completion_P"][0]) == "yo<eos>yo<eos>"
    assert text_policy.decode(drawn["prompt_P"][0].prompt_ids) == "<bos>user\nhi<eos><bos>assistant\n"


def test_conversational_completion(text_context, text_policy, prepared):
    """Prompt and completion may both be lists of messages."""
    write(text_context, {"prompt": QUESTION, "completion": ANSWER})
    (example,) = prepared("sft").draw(1)["completion_P"]
    assert text_policy.decode(example.ids) == "<bos>user\nhi<eos><bos>assistant\nyo<eos>"
    assert trained(text_policy, example) == "yo<eos>"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": QUESTION, "chosen": ANSWER, "rejected": [{"role": "assistant", "content": "no"}]},
        {"chosen": [*QUESTION, *ANSWER], "rejected": [*QUESTION, {"role": "assistant", "content": "no"}]},
        {
            "prompt": "hi",
            "chosen": [*QUESTION, *ANSWER],
            "rejected": [*QUESTION, {"role": "assistant", "content": "no"}],
        },
        {"prompt": QUESTION, "chosen": "yo", "rejected": "no"},
    ],
    ids=["explicit", "implicit", "repeated", "text answers"],
)
def test_preference_formats(text_context, text_policy, prepared, row):
    """TRL's forms of a preference row give the same pair."""
    write(text_context, row)
    drawn = prepared("dpo").draw(1)
    assert trained(text_policy, drawn["chosen_P"][0]) == "yo<eos>"
    assert trained(text_policy, drawn["rejected_P"][0]) == "no<eos>"
    assert text_policy.decode(drawn["chosen_P"][0].ids) == "<bos>user\nhi<eos><bos>assistant\nyo<eos>"


def test_template_that_rewrites_the_past_is_refused(text_context, text_policy, refused):
    """A chat template that changes earlier turns cannot be trained on: RC710."""
    text_policy.tokenizer.chat_template = (
        "{% for m in messages %}{{ loop.revindex }}{{ m['content'] }}<eos>{% endfor %}"
    )
    write(text_context, {"messages": [*QUESTION, *ANSWER]})
    assert refused("sft").code == "RC710"


def test_what_follows_the_end_token_is_left_out(text_context, text_policy, prepared):
    """A template's newline after the end token is neither trained nor kept at the end."""
    text_policy.tokenizer.chat_template = (
        "{% for m in messages %}<bos>{{ m['role'] }}\n{{ m['content'] }}<eos>\n{% endfor %}"
        "{% if add_generation_prompt %}<bos>assistant\n{% endif %}"
    )
    write(text_context, {"messages": [*QUESTION, *ANSWER, *QUESTION, *ANSWER]})
    (example,) = prepared("sft").draw(1)["completion_P"]
    assert trained(text_policy, example) == "yo<eos>yo<eos>"
    assert example.ids[-1] == text_policy.eos_id


def test_answer_that_melts_into_the_open_turn(text_context, text_policy, prepared):
    """Where the tokenizer joins an answer's first letters with the turn's end, they are encoded as the model writes."""
    vocabulary = text_policy.tokenizer.get_vocab()
    joined = len(vocabulary)
    newline = next(token for token, index in vocabulary.items() if [index] == text_policy.encode("\n"))
    text_policy.tokenizer.backend_tokenizer.model = models.BPE(
        vocab=vocabulary | {newline * 2: joined}, merges=[(newline, newline)]
    )
    text_policy.text = Text(text_policy.tokenizer)
    assert text_policy.encode("\n\n") == [joined]
    write(text_context, {"messages": [*QUESTION, {"role": "assistant", "content": "\nyo"}, *QUESTION, *ANSWER]})
    drawn = prepared("sft").draw(1)
    example, prompt_ids = drawn["completion_P"][0], drawn["prompt_P"][0].prompt_ids
    assert joined not in example.ids
    assert example.ids[: len(prompt_ids)] == prompt_ids
    assert trained(text_policy, example) == "\nyo<eos>yo<eos>"


def test_beginning_of_text(text_context, text_policy, prepared):
    """Where the tokenizer itself puts a token before a text, a plain prompt has it, and an answer has not."""
    text_policy.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", text_policy.tokenizer.bos_token_id)]
    )
    write(text_context, {"prompt": "2+2=", "completion": "4"})
    (example,) = prepared("sft").draw(1)["completion_P"]
    assert text_policy.decode(example.ids) == "<bos>2+2=4<eos>"


def test_overlong_rows(text_context, prepared, refused):
    """A row over `max_length` stops the run, is dropped and counted, or is cut, as the recipe says."""
    write(text_context, {"prompt": "ab", "completion": "cdefgh"}, {"prompt": "ab", "completion": "c"})
    found = refused("sft", max_length=5)
    assert (found.code, found.spans[0].file, found.spans[0].line) == ("RC708", "a.jsonl", 1)
    dropped = prepared("sft", max_length=5, overlong="drop")
    assert (len(dropped), dropped.left_out) == (1, 1)
    cut = prepared("sft", max_length=5, overlong="truncate")
    assert [len(e.ids) for e in cut.draw(2)["completion_P"]] == [5, 4]
    assert cut.truncated == 1
    assert refused("sft", max_length=1, overlong="drop").code == "RC702"
    assert refused("rl", max_length=1).code == "RC708"


@pytest.mark.parametrize(
    ("rule", "said"), [("drop", "1 are left out and 0 cut, 1"), ("truncate", "0 are left out and 1 cut, 2")]
)
def test_rows_that_are_too_long_are_reported(text_context, text_policy, rule, said):
    """A run says how many rows it leaves out or cuts, and nothing where there are none."""
    write(text_context, {"prompt": "ab", "completion": "cdefgh"}, {"prompt": "ab", "completion": "c"})
    lines: list[str] = []
    for length in (5, 50):
        spec = specs.File(path="a.jsonl", max_length=length, overlong=rule)
        File(spec, replace(text_context, say=lines.append), policy=text_policy).prepare("sft")
    assert lines == [f"a.jsonl: of rows that are too long, {said} are used"]


def test_truncation_that_leaves_nothing_to_learn_drops_the_row(text_context, prepared):
    """A cut that removes the whole answer leaves the row out."""
    write(text_context, {"prompt": "abcdef", "completion": "g"}, {"prompt": "a", "completion": "g"})
    source = prepared("sft", max_length=4, overlong="truncate")
    assert (len(source), source.left_out) == (1, 1)


@pytest.mark.parametrize(("side", "prompt", "answers"), [("right", "abcd", "cd ed"), ("left", "cdef", "gh ij")])
def test_prompts_and_pairs_are_cut_on_either_side(text_context, text_policy, prepared, side, prompt, answers):
    """Prompts of rl and both rows of a pair lose their beginning or their end; what trains is what is left."""
    write(text_context, {"prompt": "abcdef", "chosen": "gh", "rejected": "ij"})
    how = {"overlong": "truncate", "truncation_side": side}
    (task,) = prepared("rl", max_length=4, **how).draw(1)["prompt_P"]
    assert text_policy.decode(task.prompt_ids) == prompt
    source = prepared("dpo", max_length=7 if side == "right" else 5, **how)
    pair = source.draw(1)
    found = [text_policy.decode(pair[name][0].ids) for name in ("chosen_P", "rejected_P")]
    assert found == (["abcdefg", "abcdefi"] if side == "right" else ["efgh<eos>", "efij<eos>"])
    assert [trained(text_policy, pair["chosen_P"][0])] == [("g" if side == "right" else "gh<eos>")]
    assert source.truncated == 1


def test_answers_of_a_pair_follow_the_same_cut_prompt(text_context, text_policy, prepared):
    """Where the beginning is cut, both rows lose as much of it as the longer one must."""
    write(text_context, {"prompt": "abcdef", "chosen": "ghij", "rejected": "k"})
    source = prepared("dpo", max_length=7, overlong="truncate", truncation_side="left")
    pair = source.draw(1)
    found = [text_policy.decode(pair[name][0].ids) for name in ("chosen_P", "rejected_P")]
    assert found == ["efghij<eos>", "efk<eos>"]


def test_null_columns_are_absent(text_context, text_policy, prepared):
    """Files that hold rows of several formats have nulls in the columns of the others."""
    empty = {"prompt": None, "completion": None, "messages": None, "text": None}
    write(
        text_context,
        empty | {"prompt": "ab", "completion": "cd"},
        empty | {"messages": [*QUESTION, *ANSWER]},
        empty | {"text": "ef"},
    )
    examples = prepared("sft").draw(3)["completion_P"]
    assert [trained(text_policy, example) for example in examples] == ["cd<eos>", "yo<eos>", "f<eos>"]


@pytest.mark.parametrize(
    ("label", "good"),
    [(True, True), (False, False), (1, True), (0, False), (1.0, True), ("true", True), ("False", False)]
    + [(label, None) for label in (None, 2, -1, "yes", "1", [True])],
)
def test_labels_of_answers(text_context, prepared, label, good):
    """Labels are true or false; 1 and 0 and the words themselves mean the same, all else is no label."""
    write(text_context, {"prompt": "a", "completion": "b", "label": label})
    assert [example.label for example in prepared("sft").draw(1)["completion_P"]] == [good]


def test_a_share_of_the_rows_is_held_out(text_context, prepared):
    """The two parts are disjoint and whole, the same in every stage, and others under another seed."""
    write(text_context, *({"prompt": f"p{i}"} for i in range(20)))
    parts = {
        (part, seed): {t.id for t in prepared("rl", val_share=0.25, part=part, val_seed=seed).tasks}
        for part in ("train", "val")
        for seed in (42, 7)
    }
    assert len(parts["val", 42]) == 5
    assert {t.id for t in prepared("rl", val_rows=5, part="val").tasks} == parts["val", 42]
    assert parts["train", 42] | parts["val", 42] == set(range(20))
    assert not parts["train", 42] & parts["val", 42]
    assert parts["val", 42] != parts["val", 7]
    with pytest.raises(ValueError, match="needs `val_share`"):
        specs.File(path="a.jsonl", part="val")


def test_all_tokens_are_trained(text_context, text_policy, prepared):
    """Prompts and the user's messages too, all but the first token, which nothing predicts."""
    write(text_context, {"prompt": "ab", "completion": "c"})
    (example,) = prepared("sft", train_on="all").draw(1)["completion_P"]
    assert example.trained == (False, True, True, True)
    write(text_context, {"messages": [*QUESTION, *ANSWER, *QUESTION, *ANSWER]})
    (whole,) = prepared("sft", train_on="all").draw(1)["completion_P"]
    (answers,) = prepared("sft").draw(1)["completion_P"]
    assert whole.ids == answers.ids
    assert sum(whole.trained) == len(whole.ids) - 1 > sum(answers.trained)


def test_a_mixture_reads_each_source_in_its_own_way(text_context, text_policy):
    """Rows are numbered through, taken as often as weights say, and know their source; faults name their own file."""
    write(text_context, *({"prompt": f"a{i}", "completion": "x"} for i in range(4)))
    write(text_context, *({"question": f"b{i}", "reply": "y"} for i in range(3)), name="b.jsonl")
    sources = {
        "one": specs.MixedFile(path="a.jsonl", weight=0.5),
        "two": specs.MixedFile(path="b.jsonl", weight=2, columns={"prompt": "question", "completion": "reply"}),
    }
    source = Mixture(specs.Mix(sources=sources, shuffle=False), text_context, policy=text_policy)
    source.prepare("sft")
    tasks = source.tasks
    assert len(source) == 2 + 6
    assert {t.columns["data_source"] for t in tasks} == {"one", "two"}
    assert [text_policy.decode(t.prompt_ids) for t in tasks[2:]] == ["b0", "b1", "b2"] * 2
    assert [t.id for t in tasks[2:]] == [4, 5, 6] * 2
    assert source.place(tasks[3]) == ("b.jsonl", 2)
    assert [example.prompt_id for example in source.draw(8)["completion_P"]] == [t.id for t in tasks]
    broken = specs.Mix(sources={"two": specs.MixedFile(path="b.jsonl")})
    with pytest.raises(RecipeError) as caught:
        Mixture(broken, text_context, policy=text_policy).prepare("sft")
    assert (caught.value.diagnostics[0].code, caught.value.diagnostics[0].spans[0].file) == ("RC705", "b.jsonl")


def test_conversations_of_sharegpt(text_context, text_policy, prepared):
    """`from` and `value` are read as `role` and `content`; an unknown speaker is named."""
    talk = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]
    write(text_context, {"conversations": talk}, {"conversations": [*QUESTION, *ANSWER]})
    one, other = prepared("sft", columns={"messages": "conversations"}).draw(2)["completion_P"]
    assert (one.ids, one.trained) == (other.ids, other.trained)


def test_plain_text_is_trained_whole(text_context, text_policy, prepared, refused):
    """A column `text` alone is language modelling; rows of Alpaca are told what to write."""
    write(text_context, {"text": "abc"})
    (example,) = prepared("sft").draw(1)["completion_P"]
    assert text_policy.decode(example.ids) == "abc<eos>"
    assert example.trained == (False, True, True, True)
    write(text_context, {"instruction": "Add.", "input": "2+2", "output": "4"})
    assert "template" in refused("sft").help
    how = {"columns": {"completion": "output"}, "template": "{{ instruction }} {{ input }}="}
    (example,) = prepared("sft", **how).draw(1)["completion_P"]
    assert text_policy.decode(example.ids) == "Add. 2+2=4<eos>"


def test_epochs_are_permutations_and_continue_exactly(text_context, prepared):
    """Each epoch draws every row once, in another order; a loaded source goes on where the saved one was."""
    write(text_context, *({"prompt": f"p{i}"} for i in range(10)))
    one = prepared("rl", shuffle=True)
    drawn = [t.id for _ in range(3) for t in one.draw(4)["prompt_P"]]
    assert sorted(drawn) == list(range(10))
    state = one.state()
    following = [t.id for _ in range(4) for t in one.draw(4)["prompt_P"]]
    assert following[:10] != drawn
    other = prepared("rl", shuffle=True)
    other.load(json.loads(json.dumps(state)))
    assert [t.id for _ in range(4) for t in other.draw(4)["prompt_P"]] == following


def test_answer_column_gets_our_name(text_context, prepared):
    """`columns.answer` lets rewards find it as `answer`."""
    write(text_context, {"prompt": "p", "solution": "s"})
    assert prepared("rl", columns={"answer": "solution"}).tasks[0].columns["answer"] == "s"


@pytest.mark.parametrize(
    ("kind", "row", "code", "word"),
    [
        ("rl", {"promt": "x"}, "RC705", "did you mean `promt`"),
        ("rl", {"prompt": ""}, "RC707", "`prompt` is empty"),
        ("rl", {"prompt": " \n"}, "RC707", "empty"),
        ("rl", {"prompt": 7}, "RC706", "a number"),
        ("rl", {"prompt": None}, "RC706", "null"),
        ("rl", {"prompt": []}, "RC707", "empty"),
        ("rl", {"prompt": "\ud800"}, "RC706", "surrogate"),
        ("rl", {"prompt": ["hi"]}, "RC706", "chat message"),
        ("rl", {"prompt": json.dumps(QUESTION)}, "RC706", "written out as text"),
        ("sft", {"prompt": str(QUESTION), "completion": "y"}, "RC706", "written out as text"),
        ("dpo", {"prompt": "x", "chosen": "y", "rejected": json.dumps(ANSWER)}, "RC706", "written out as text"),
        ("sft", {"prompt": "x", "completion": str(QUESTION)}, "RC706", "written out as text"),
        ("rl", {"prompt": [{"from": "human", "value": "hi"}]}, "RC706", "`role` and `content`"),
        ("rl", {"prompt": [{"role": "human", "content": "hi"}]}, "RC706", "role 'human'"),
        ("rl", {"prompt": [{"role": "user", "content": None}]}, "RC706", "null"),
        ("rl", {"prompt": [{"role": ["user"], "content": "x"}]}, "RC706", "role"),
        ("rl", {"prompt": [*QUESTION, *ANSWER]}, "RC706", "assistant"),
        ("sft", {"prompt": "x"}, "RC705", "completion"),
        ("sft", {"prompt": "x", "completion": ""}, "RC707", "completion"),
        ("sft", {"messages": QUESTION}, "RC706", "no message of the assistant"),
        ("sft", {"messages": "x"}, "RC706", "list of chat messages"),
        ("sft", {"prompt": "x", "completion": QUESTION}, "RC706", "plain text"),
        ("dpo", {"prompt": "x", "chosen": "y"}, "RC705", "rejected"),
        ("dpo", {"chosen": QUESTION, "rejected": QUESTION}, "RC706", "begin with the prompt"),
    ],
)
def test_broken_rows_are_named(text_context, refused, kind, row, code, word):
    """Each mistake in a row is a coded diagnostic with its file and line."""
    good = {"prompt": "x", "completion": "y", "chosen": "y", "rejected": "z"}
    write(text_context, good, row)
    found = refused(kind)
    assert found.code == code, found
    assert word in found.message + found.help
    assert "a.jsonl, row 2" in found.message
    assert (found.spans[0].file, found.spans[0].line) == ("a.jsonl", 2)


def test_json_that_is_no_conversation_is_text(text_context, text_policy, prepared):
    """Rows may teach JSON: lists of objects with keys such as `from` and `value` are trained as they are."""
    written = '[{"from": "Paris", "to": "Rome", "value": 3}]'
    write(text_context, {"prompt": "x", "completion": written})
    (example,) = prepared("sft").draw(1)["completion_P"]
    assert trained(text_policy, example) == f"{written}<eos>"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["user", "assistant", "hi"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["rl", "sft", "dpo"]),
    st.lists(
        st.binary(max_size=40)
        | st.dictionaries(
            st.sampled_from(["prompt", "completion", "chosen", "rejected", "messages"]), JSON, max_size=4
        ).map(lambda row: json.dumps(row).encode()),
        max_size=4,
    ),
)
def test_garbage_is_read_or_refused(text_context, prepared, kind, lines):
    """Whatever a file holds, it is read or refused with a code: no other exception."""
    (text_context.root / "a.jsonl").write_bytes(b"\n".join(lines))
    try:
        source = prepared(kind)
    except RecipeError as caught:
        codes = {diagnostic.code[:3] for diagnostic in caught.diagnostics}
    else:
        codes = {"RC7"} if len(source) else set()
    assert codes == {"RC7"}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["<eos>", "<bos>", "<pad>", "<unk>", "a", " ", "é", "<", "eos>", "\ue000"]), min_size=1)
)
def test_text_never_becomes_control_tokens(any_policy, pieces):
    """Prompts and answers that spell control tokens are letters, in plain text and in conversations."""
    text = "x" + "".join(pieces)
    row = Row(0, "f", 1, {})
    unknown = {any_policy.tokenizer.unk_token_id}
    plain = Encoder(any_policy)
    example = plain.example(row, plain.task(row, text), text)
    assert not set(example.ids[:-1]) & any_policy.control_ids - unknown
    chat = Encoder(any_policy, chat=True)
    ids, bare = (chat.example(row, chat.task(row, said), said).ids for said in (text, "x"))
    controls = [i for i in ids if i in any_policy.control_ids - unknown]
    assert controls == [i for i in bare if i in any_policy.control_ids - unknown]


def test_reasoning_gym_tasks_score_themselves(text_context, text_policy):
    """Tasks carry question, answer and their own verifier; another seed gives other tasks."""
    source = ReasoningGym(
        specs.ReasoningGym(task="chain_sum", size=4, options={"max_digits": 1}, prompt_suffix="\n", shuffle=False),
        text_context,
        policy=text_policy,
    )
    source.prepare("rl")
    task = source.tasks[2]
    assert task.prompt == task.columns["question"] + "\n"
    assert task.score(task.columns["answer"]) == 1.0
    assert task.score("no number") < 1.0
    source.prepare("sft")
    drawn = source.draw(1)
    assert trained(text_policy, drawn["completion_P"][0]) == drawn["prompt_P"][0].columns["answer"] + "<eos>"
    source.close()
    again = ReasoningGym(source.spec, text_context, policy=text_policy)  # whose tasks are made already
    again.prepare("rl")
    assert again.tasks[2].score(task.columns["answer"]) == 1.0
    again.close()


def test_reasoning_gym_tasks_are_made_once(text_context, text_policy, monkeypatch):
    """A second source of the same tasks asks no process to make them; another seed and many tasks need one."""
    asked = []

    def ask(pool, requests, seconds):
        assert requests == [None]
        asked.append(pool.argument)
        number = pool.argument["seed"]
        return [[{"question": f"{i}+{number}", "answer": f"{i + number}"} for i in range(pool.argument["size"])]]

    monkeypatch.setattr(WorkerPool, "ask", ask)
    monkeypatch.setattr(reasoning_gym_tasks, "_MADE", {})
    monkeypatch.setattr(reasoning_gym_tasks, "_FEW", 3)

    def prompts(**params):
        spec = specs.ReasoningGym(task="chain_sum", **{"size": 3, "shuffle": False} | params)
        source = ReasoningGym(spec, text_context, policy=text_policy)
        source.prepare("rl")
        return [task.prompt for task in source.tasks]

    assert prompts() == prompts() == ["0+0", "1+0", "2+0"]
    assert prompts(limit=2) == ["0+0", "1+0"]
    assert len(asked) == 1
    assert prompts(task_seed=1) == prompts(task_seed=1) == ["0+1", "1+1", "2+1"]
    assert len(asked) == 2
    assert prompts(size=4) == prompts(size=4)
    assert len(asked) == 4


def test_reasoning_gym_tasks_can_be_mixed(text_context, text_policy):
    """The task `composite` draws from several tasks by weight, and each is judged by its own verifier."""
    mixed = [{"name": name, "weight": 1, "config": {}} for name in ("chain_sum", "spell_backward")]
    source = ReasoningGym(
        specs.ReasoningGym(task="composite", size=8, options={"datasets": mixed}), text_context, policy=text_policy
    )
    source.prepare("rl")
    assert {task.columns["metadata"]["source_dataset"] for task in source.tasks} == {"chain_sum", "spell_backward"}
    assert all(task.score(task.columns["answer"]) == 1.0 for task in source.tasks)
    source.close()


@pytest.mark.parametrize(
    ("task", "options", "word"),
    [
        ("chain_sum", {"seed": 3}, "task_seed"),
        ("composite", {}, "datasets"),
        ("composite", {"datasets": {"chain_sum": 1}}, "datasets"),
        ("composite", {"datasets": [{"name": "chain_sum", "weight": 1}]}, "options of its own"),
        ("composite", {"datasets": [{"name": "chain_sum", "weight": 0, "config": {}}]}, "above 0"),
        ("composite", {"datasets": [{"name": "chain_sum", "weight": 1, "config": {"seed": 3}}]}, "task_seed"),
    ],
)
def test_reasoning_gym_options_that_no_task_has(task, options, word):
    """A mixture needs whole parts; a seed among the options would give held-out tasks the problems of the training."""
    with pytest.raises(ValueError, match=word):
        specs.ReasoningGym(task=task, size=2, options=options)


def test_reasoning_gym_answers_are_judged_elsewhere(text_context, text_policy, tmp_path):
    """A verifier that evaluates its answer cannot touch this process or its files; what hangs gets NaN."""
    source = ReasoningGym(specs.ReasoningGym(task="countdown", size=1), text_context, policy=text_policy)
    source.prepare("rl")
    target = tmp_path / "written"
    (task,) = source.tasks
    task.score(f"__import__('pathlib').Path({str(target)!r}).touch()")
    assert not target.exists()
    assert task.score(task.columns["metadata"]["expression"]) == 1.0
    source.close()


@pytest.mark.parametrize(
    ("params", "code", "word"),
    [
        ({"task": "chain_sums"}, "RC714", "`chain_sum`"),
        ({"task": "chain_sum", "options": {"max_digit": 2}}, "RC715", "max_digit"),
        ({"task": "chain_sum", "options": {"max_digits": -2}}, "RC715", "max_digits"),
    ],
)
def test_reasoning_gym_refusals(text_context, text_policy, params, code, word):
    """An unknown task and options that the task refuses are coded."""
    source = ReasoningGym(specs.ReasoningGym(size=2, **params), text_context, policy=text_policy)
    with pytest.raises(RecipeError) as caught:
        source.prepare("rl")
    found = caught.value.diagnostics[0]
    assert found.code == code
    assert word in found.message + found.help
    source.close()


def rollouts(context, *rows):
    """Write a rollouts artifact of (prompt, ids, reward); return the context that names it."""
    folder = context.root / "rollouts"
    folder.mkdir(exist_ok=True)
    common = {"step": 0, "prompt": "p", "prompt_ids": [5, 6], "text": "t", "columns": {}}
    lines = [json.dumps(common | {"prompt_id": p, "ids": ids, "reward": reward}) for p, ids, reward in rows]
    (folder / "step-000000.jsonl").write_text("\n".join(lines))
    return replace(context, artifacts={"explore.rollouts": folder})


def test_rollouts_are_imitated_with_their_own_ids(text_context, text_policy):
    """The best rows of each prompt become examples with exactly the sampled ids; failed and poor rows do not."""
    context = rollouts(text_context, (0, [7], 0.0), (0, [8], 1.0), (0, [9], None), (1, [10], 0.2), (2, [11], 1.0))
    spec = specs.Rollouts(rollouts="explore.rollouts", min_reward=0.5, shuffle=False)
    source = Rollouts(spec, context, policy=text_policy)
    source.prepare("sft")
    examples = source.draw(9)["completion_P"]
    assert [(e.prompt_id, e.ids, e.trained) for e in examples] == [
        (0, (5, 6, 8), (False, False, True)),
        (2, (5, 6, 11), (False, False, True)),
    ]


def test_rollouts_without_a_good_row_are_refused(text_context, text_policy):
    """When nothing is good enough the stage does not start: RC718."""
    context = rollouts(text_context, (0, [7], 0.0), (0, [8], None))
    source = Rollouts(specs.Rollouts(rollouts="explore.rollouts", min_reward=0.5), context, policy=text_policy)
    with pytest.raises(RecipeError) as caught:
        source.prepare("sft")
    assert caught.value.diagnostics[0].code == "RC718"
