"""Images of rows: where they stand among tokens, what is trained, what each column carries, and what is refused."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.vision_models import CLOSE, OPEN, PATCH, SeeingPolicy, paint, write

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext
from recipec.runtime.data.scored_rows import read_rollouts, write_rows
from recipec.runtime.graph_runner import build_part
from recipec.runtime.images.picture import Picture, places
from recipec.runtime.objective import compiler_ops
from recipec.runtime.objective.cached_reference import CachedReference
from recipec.runtime.stage.group_filter import joined
from recipec.runtime.training.minibatch import microbatches
from recipec.spec import data as specs, preference as preferences

IMAGES = {OPEN, PATCH, CLOSE}
ASK = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
SAY = [{"role": "assistant", "content": [{"type": "text", "text": "A mole."}]}]


@dataclass
class Stage:
    """The context of a stage, and the parts that its data is read with."""

    context: StageContext
    policy: Any
    environment: Any = None

    @property
    def root(self):
        """The recipe's folder."""
        return self.context.root

    def build(self, spec):
        """Build the part of a spec."""
        return build_part(spec, self.context, {"policy": self.policy, "environment": self.environment})


@pytest.fixture
def seeing(tmp_path):
    """A stage with a policy that sees, and two pictures of different widths beside the data."""
    context = StageContext(root=tmp_path, cache=tmp_path / "cache", seed=0, stage="s")
    paint(tmp_path / "a.png", width=8)
    paint(tmp_path / "b.png", width=16, colour=(0, 90, 200))
    return Stage(context, SeeingPolicy())


def prepared(stage, kind, *rows, **params):
    """Return a file source over rows, in their order."""
    if rows:
        write(stage.root, *rows)
    source = stage.build(specs.File(**{"path": "a.jsonl", "shuffle": False} | params))
    source.prepare(kind)
    return source


def code(stage, kind, *rows, **params):
    """Return the code that preparing ends in."""
    with pytest.raises(RecipeError) as caught:
        prepared(stage, kind, *rows, **params)
    (found,) = caught.value.diagnostics
    return found.code


def read(stage, ids):
    """Return tokens as text, images as `[n]`."""
    return stage.policy.decode(ids)


@pytest.mark.parametrize(("kind", "column"), [("rl", "prompt"), ("sft", "messages")])
def test_a_variable_next_to_an_image_is_refused_where_nothing_writes_it(seeing, kind, column):
    """What the chat template leaves out is found with the images of the row in their places."""
    row = {column: ASK if kind == "rl" else [*ASK, *SAY], "image": "a.png"}
    assert code(seeing, kind, {**row, "chat_template_kwargs": {"note": "x"}}) == "RC878"
    prepared(seeing, kind, row)


def test_a_plain_prompt_has_its_images_before_the_text(seeing):
    """Without a conversation the images come first, in the order of the column, and the task keeps them."""
    (task,) = prepared(seeing, "rl", {"prompt": "Which?", "images": ["b.png", "a.png"]}).tasks
    assert read(seeing, task.prompt_ids) == "[4][2]Which?"
    assert [image.path for image in task.images] == ["b.png", "a.png"]


def test_one_image_without_a_list(seeing):
    """TRL's `image` column holds one."""
    (task,) = prepared(seeing, "rl", {"prompt": "Which?", "image": "a.png"}).tasks
    assert read(seeing, task.prompt_ids) == "[2]Which?"


def test_another_column_and_rows_without_images(seeing):
    """A named column is the one that is read; a row may have none there."""
    rows = [{"prompt": "x", "photo": "a.png", "images": ["gone.png"]}, {"prompt": "y", "photo": None}]
    one, two = prepared(seeing, "rl", *rows, columns={"images": "photo"}).tasks
    assert (read(seeing, one.prompt_ids), read(seeing, two.prompt_ids)) == ("[2]x", "y")


def test_chat_puts_images_into_the_message(seeing):
    """With `chat` images stand in the user's message, after the system's and before the text."""
    (task,) = prepared(seeing, "rl", {"prompt": "Which?", "image": "a.png"}, chat=True, system="Look.").tasks
    assert read(seeing, task.prompt_ids).index("Look.") < read(seeing, task.prompt_ids).index("[2]Which?")
    assert task.prompt[1]["content"] == [{"type": "image"}, {"type": "text", "text": "Which?"}]


def test_a_template_renders_text_and_images_stand_before_it(seeing):
    """`template` writes the text; the images of the row come before it."""
    (seeing.root / "t.j2").write_text("Sex: {{ sex }}. What is this?")
    (task,) = prepared(seeing, "rl", {"sex": "f", "image": "a.png"}, template="t.j2").tasks
    assert read(seeing, task.prompt_ids) == "[2]Sex: f. What is this?"


def test_places_in_messages_are_kept(seeing):
    """Where a conversation says where its images stand, they stand there."""
    content = [
        {"type": "text", "text": "Is "},
        {"type": "image"},
        {"type": "text", "text": " like "},
        {"type": "image"},
    ]
    row = {"prompt": [{"role": "user", "content": content}], "images": ["a.png", "b.png"]}
    (task,) = prepared(seeing, "rl", row).tasks
    assert "Is [2] like [4]" in read(seeing, task.prompt_ids)


def test_messages_without_places_get_them_before_the_first_text_of_the_user(seeing):
    """A conversation of plain texts has its images before what the user says first."""
    said = (("system", "S"), ("user", "What?"), ("assistant", "A nevus."), ("user", "Sure?"))
    row = {"prompt": [{"role": role, "content": text} for role, text in said], "images": ["a.png"]}
    (task,) = prepared(seeing, "rl", row).tasks
    assert "[2]What?" in read(seeing, task.prompt_ids)


def test_letters_that_look_like_a_place_stay_letters(seeing):
    """Text that spells a mark of images is text; only parts of messages are places."""
    (task,) = prepared(seeing, "rl", {"prompt": "<image><|image_pad|>", "image": "a.png"}).tasks
    assert read(seeing, task.prompt_ids) == "[2]<image><|image_pad|>"
    assert sum(token in IMAGES for token in task.prompt_ids) == 4


SFT = [
    {"prompt": "What?", "completion": "A mole.", "images": ["a.png", "b.png"]},
    {"prompt": ASK, "completion": SAY, "images": ["a.png"]},
    {"messages": [*ASK, *SAY, *ASK, *SAY], "images": ["a.png", "b.png"]},
    {"messages": [{"role": "user", "content": "What?"}, *SAY], "images": ["b.png"]},
]


@pytest.mark.parametrize("row", SFT)
def test_tokens_of_images_are_never_trained(seeing, row):
    """Whatever the form of an example, the loss sees answers, and the row all of its images."""
    (columns,) = prepared(seeing, "sft", row).slices(1)
    (example,) = columns["completion_P"]
    assert "[" not in read(seeing, [i for i, t in zip(example.ids, example.trained, strict=True) if t])
    assert not any(t for i, t in zip(example.ids, example.trained, strict=True) if i in IMAGES)
    assert [image.path for image in example.images] == row["images"]
    assert len(places(example.ids, example.images)) == len(row["images"])


def test_images_after_the_last_answer_are_no_part_of_the_row(seeing):
    """What stands after the last trained turn is cut off, its images too."""
    row = {"messages": [*ASK, *SAY, *ASK], "images": ["a.png", "b.png"]}
    (columns,) = prepared(seeing, "sft", row).slices(1)
    (task,), (example,) = columns["prompt_P"], columns["completion_P"]
    assert [image.path for image in example.images] == ["a.png"]
    assert task.images == example.images


def test_chosen_and_rejected_see_the_same_picture(seeing):
    """Both answers of a pair carry the very object of their prompt, in either form of the data."""
    plain = {"prompt": "What?", "chosen": "A mole.", "rejected": "A cat.", "images": ["a.png"]}
    whole = {
        "chosen": [*ASK, *SAY],
        "rejected": [*ASK, {"role": "assistant", "content": "A cat."}],
        "images": ["b.png"],
    }
    (columns,) = prepared(seeing, "dpo", plain, whole).slices(2)
    for task, chosen, rejected in zip(columns["prompt_P"], columns["chosen_P"], columns["rejected_P"], strict=True):
        assert task.images[0] is chosen.images[0] is rejected.images[0]
    made = compiler_ops.images_of_pairs(columns["chosen_P"], columns["rejected_P"])
    assert made["image_row_I"].tolist() == [0, 1, 2, 3]
    assert made["pixels_I"][0] is made["pixels_I"][1]


def test_truncation_never_parts_an_image(seeing):
    """A cut inside an image falls before it, and the row then carries one image less."""
    row = {"messages": [*ASK, *SAY, *ASK, *SAY], "images": ["a.png", "b.png"]}
    (columns,) = prepared(seeing, "sft", row).slices(1)
    (example,) = columns["completion_P"]
    begin, end = places(example.ids, example.images)[1]
    for bound in (begin, begin + 1, end - 1, end):
        (cut,) = next(prepared(seeing, "sft", max_length=bound, overlong="truncate").slices(1))["completion_P"]
        assert len(cut.ids) == (end if bound == end else begin)
        assert len(cut.images) == 1 + (bound == end)


def test_images_count_in_lengths(seeing):
    """`max_length` counts the tokens that stand for an image."""
    row = {"prompt": "ab", "images": ["b.png"]}
    assert len(prepared(seeing, "rl", row, max_length=8)) == 1
    assert code(seeing, "rl", row, max_length=7) == "RC708"


PART = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}]
BAD = [
    ({"prompt": "x"}, "RC860"),
    ({"prompt": "x", "photo": "a.png"}, "RC860"),
    ({"prompt": "x", "images": []}, "RC860"),
    ({"prompt": "x", "images": None}, "RC860"),
    ({"prompt": "x", "images": ["../a.png"]}, "RC862"),
    ({"prompt": "x", "images": ["/a.png"]}, "RC862"),
    ({"prompt": "x", "images": ["https://example.org/a.png"]}, "RC862"),
    ({"prompt": "x", "images": ["gone.png"]}, "RC862"),
    ({"prompt": "x", "images": ["."]}, "RC862"),
    ({"prompt": "x", "images": ["a.jsonl"]}, "RC862"),
    ({"prompt": PART, "images": ["a.png"]}, "RC866"),
    ({"prompt": PART, "images": ["a.png"] * 3}, "RC866"),
    ({"prompt": [{"role": "system", "content": "x"}], "images": ["a.png"]}, "RC866"),
    ({"prompt": "x", "images": 3}, "RC867"),
    ({"prompt": "x", "images": [None]}, "RC867"),
    ({"prompt": "x", "images": ["a.png"], "image": "a.png"}, "RC867"),
    ({"prompt": "x", "images": [["a.png"]]}, "RC867"),
    ({"prompt": "x", "images": {"bytes": "…", "path": "a.png"}}, "RC867"),
    ({"prompt": "x", "images": [{"bytes": "…"}]}, "RC867"),
    ({"prompt": [{"role": "user", "content": [{"type": "video"}]}], "images": ["a.png"]}, "RC868"),
    ({"prompt": [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}], "images": ["a.png"]}, "RC868"),
    ({"prompt": [{"role": "user", "content": ["x"]}], "images": ["a.png"]}, "RC868"),
    ({"prompt": [{"role": "user", "content": [{"type": "text"}]}], "images": ["a.png"]}, "RC868"),
    ({"prompt": [{"role": "user", "content": {"type": "image"}}], "images": ["a.png"]}, "RC706"),
    ({"prompt": [*ASK, {"role": "assistant", "content": [{"type": "image"}]}, *ASK], "images": ["a.png"]}, "RC868"),
]


@pytest.mark.parametrize(("row", "wanted"), BAD)
def test_rows_that_cannot_be_shown_are_refused(seeing, row, wanted):
    """Each broken row ends in one code, before anything is trained."""
    assert code(seeing, "rl", row) == wanted


def test_a_named_column_must_be_there(seeing):
    """Where the recipe names the column of the images, a row without it is an error."""
    assert code(seeing, "rl", {"prompt": "x", "images": ["a.png"]}, columns={"images": "photo"}) == "RC705"


def test_rows_may_be_text_alone_knowingly(seeing):
    """With the empty name no image is looked for."""
    (task,) = prepared(seeing, "rl", {"prompt": "x", "images": ["gone.png"]}, columns={"images": ""}).tasks
    assert task.images == ()


def test_who_cannot_see_is_not_asked(seeing, text_policy):
    """Rows with images are refused where the policy reads text alone, or an environment writes the prompts."""
    row = {"prompt": "x", "images": ["a.png"]}
    seeing.environment = SimpleNamespace()
    assert code(seeing, "rl", row) == "RC861"
    seeing.environment, seeing.policy = None, text_policy
    assert code(seeing, "rl", row) == "RC861"
    assert len(prepared(seeing, "rl", row, columns={"images": ""})) == 1


def test_images_of_the_hub_are_not_fetched(seeing, monkeypatch):
    """Rows of the hub that name images end in a code that says what to do."""
    write(seeing.root, {"prompt": "x", "images": ["a.png"]})
    monkeypatch.setattr("recipec.runtime.data.sources.hub_folder", lambda _: seeing.root / "a.jsonl")
    assert code(seeing, "rl", path=None, hub="org/moles") == "RC862"


def test_parts_that_are_all_text_are_text(seeing, text_policy):
    """A conversation in parts without images is read by any policy, as the text that the parts make together."""
    seeing.policy = text_policy
    parts = [{"type": "text", "text": "What"}, {"type": "text", "text": " now?", "image": None}]
    (task,) = prepared(seeing, "rl", {"prompt": [{"role": "user", "content": parts}]}).tasks
    assert task.prompt == [{"role": "user", "content": "What now?"}]


def batch(*counts):
    """Return a batch of rows with so many images each, and the images by row."""
    images = [[Picture(f"{row}{i}", f"{row}-{i}", {}, (7,)) for i in range(n)] for row, n in enumerate(counts)]
    row_I = torch.tensor([row for row, n in enumerate(counts) for _ in range(n)], dtype=torch.int64)
    tokens_RT = torch.arange(len(counts))[:, None] + torch.zeros(len(counts), 3, dtype=torch.int64)
    flat = [image for row in images for image in row]
    made = Batch(tokens_RT=tokens_RT, pixels_I=flat, image_row_I=row_I)
    made.check()
    return made, images


@pytest.mark.parametrize("index", [[0, 1, 2], [2, 0], [1], [2, 2, 1], []])
def test_cutting_a_batch_keeps_each_row_with_its_images(index):
    """Rows that are kept, put in another order or repeated keep their images, which are numbered anew."""
    whole, images = batch(1, 0, 2)
    part = whole.rows(torch.tensor(index, dtype=torch.int64))
    part.check()
    of_row = [[p for p, r in zip(part["pixels_I"], part["image_row_I"].tolist(), strict=True) if r == place]
              for place in range(len(index))]  # fmt: skip
    assert of_row == [images[row] for row in index]
    assert part["tokens_RT"][:, 0].tolist() == index


def test_cutting_twice_is_cutting_once():
    """A minibatch of a minibatch has the images of its rows."""
    whole, _ = batch(1, 2, 0, 1)
    twice = whole.rows(torch.tensor([3, 1, 0])).rows(torch.tensor([1, 2]))
    once = whole.rows(torch.tensor([1, 0]))
    assert twice["pixels_I"] == once["pixels_I"]
    assert twice["image_row_I"].tolist() == once["image_row_I"].tolist() == [0, 0, 1]


def test_a_batch_whose_images_lost_their_rows_is_our_bug():
    """A column of images and the rows of its images are of one length."""
    made, _ = batch(1, 1)
    made["pixels_I"] = made["pixels_I"][:1]
    with pytest.raises(AssertionError, match="1 images"):
        made.check()


def test_forward_passes_count_tokens_of_images(seeing):
    """A budget of tokens holds as many rows as fit with their images expanded."""
    rows = [{"prompt": "ab", "images": ["a.png"]}, {"prompt": "ab", "images": ["b.png"]}]
    lengths_R = torch.tensor([len(task.prompt_ids) for task in prepared(seeing, "rl", *rows).tasks])
    assert lengths_R.tolist() == [6, 8]
    assert len(list(microbatches(lengths_R, None, 14, padded=False))) == 1
    assert len(list(microbatches(lengths_R, None, 13, padded=False))) == 2


def test_rows_of_several_tries_keep_their_images():
    """Where groups are sampled again, images of later tries belong to the later rows."""
    from recipec.graph import Value

    def tried(count, name):
        images = [Picture(name, name, {}, (7,)) for _ in range(count)]
        return {
            Value("prompt_P", "d"): ["p"],
            Value("by_prompt_R", "s"): torch.zeros(2, dtype=torch.int64),
            Value("pixels_I", "i"): images,
            Value("image_row_I", "i"): torch.arange(count),
        }

    made = joined([tried(2, "x"), tried(1, "y")])
    assert made[Value("image_row_I", "i")].tolist() == [0, 1, 2]
    assert [image.path for image in made[Value("pixels_I", "i")]] == ["x", "x", "y"]


def test_the_cached_reference_knows_rows_by_their_images():
    """Two rows of the same tokens about two images have two log-probabilities."""
    rows = (torch.tensor([[1, 7, 2]] * 2), torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool))
    one, other = Picture("1", "a", {}, (7,)), Picture("2", "b", {}, (7,))
    row_I = torch.tensor([0, 1])
    cache = CachedReference(lambda *_, **__: {"ref_logprob_RT": torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 4.0]])})
    cache.fill(*rows, pixels_I=[one, other], image_row_I=row_I)
    swapped = cache(*rows, pixels_I=[other, one], image_row_I=row_I)
    assert swapped["ref_logprob_RT"].tolist() == [[0.0, 3.0, 4.0], [0.0, 1.0, 2.0]]


def sampled(stage, tasks, answers):
    """Write rows as a stage does, one for each answer of each task, the later the better; return the stage after."""
    rows = [(i, answer) for i in range(len(tasks)) for answer in answers]
    ids = [[*tasks[i].prompt_ids, *stage.policy.encode(text), stage.policy.eos_id] for i, text in rows]
    width = max(map(len, ids))
    columns = {
        "prompt_P": tasks,
        "by_prompt_R": torch.tensor([i for i, _ in rows]),
        "tokens_RT": torch.tensor([[*row, *[0] * (width - len(row))] for row in ids]),
        "attend_RT": torch.tensor([[i < len(row) for i in range(width)] for row in ids]),
        "trained_RT": torch.tensor([[len(tasks[i].prompt_ids) <= t < len(row) for t in range(width)]
                                    for (i, _), row in zip(rows, ids, strict=True)]),
        "text_R": [text for _, text in rows],
        "reward_R": torch.tensor([float(answers.index(text)) for _, text in rows]),
    }  # fmt: skip
    write_rows(stage.root / "rolled" / "step-000000.jsonl", columns)
    later = replace(stage.context, artifacts={"explore.rollouts": stage.root / "rolled"})
    return Stage(later, SeeingPolicy())


def test_sampled_rows_find_their_images_again(seeing):
    """Rows record what was seen by path and digest; imitation and pairs carry it, and pairs share the object."""
    data = seeing.root / "data"
    for name in "ab":
        (seeing.root / f"{name}.png").rename(paint_folder(data) / f"{name}.png")
    write(data, {"prompt": "What?", "images": ["a.png", "b.png"]})
    tasks = prepared(seeing, "rl", path="data/a.jsonl").tasks
    later = sampled(seeing, tasks, ["bad", "good"])
    kept = json.loads((seeing.root / "rolled/step-000000.jsonl").read_text().splitlines()[0])
    assert [image["tokens"] for image in kept["images"]] == [[0, 4], [4, 10]]
    (row, _) = read_rollouts(seeing.root / "rolled", "explore.rollouts")
    assert [path for path, _ in row.images] == ["data/a.png", "data/b.png"]
    source = later.build(specs.Rollouts(rollouts="explore.rollouts"))
    source.prepare("sft")
    (columns,) = source.slices(1)
    (example,) = columns["completion_P"]
    assert [image.digest for image in example.images] == [image.digest for image in tasks[0].images]
    assert read(seeing, example.ids).startswith("[2][4]What?good")
    pairs = later.build(preferences.BestVsWorst(rollouts="explore.rollouts"))()
    assert pairs["chosen_P"][0].images[0] is pairs["rejected_P"][0].images[0] is pairs["prompt_P"][0].images[0]


def paint_folder(folder):
    """Make a folder."""
    folder.mkdir(exist_ok=True)
    return folder


def test_sampled_rows_about_another_picture_are_refused(seeing, text_policy):
    """A picture that was replaced since, or a policy that does not see, cannot learn from what was sampled."""
    tasks = prepared(seeing, "rl", {"prompt": "What?", "images": ["a.png"]}).tasks
    later = sampled(seeing, tasks, ["bad", "good"])
    paint(seeing.root / "a.png", width=8, colour=(9, 9, 9))
    for policy, expected in ((later.policy, "RC869"), (text_policy, "RC861")):
        source = Stage(later.context, policy).build(specs.Rollouts(rollouts="explore.rollouts"))
        with pytest.raises(RecipeError) as caught:
            source.prepare("sft")
        assert caught.value.diagnostics[0].code == expected


def test_a_row_of_rollouts_with_a_broken_image_entry(seeing):
    """What a hand edit left of an image's record is a coded complaint with file and line."""
    tasks = prepared(seeing, "rl", {"prompt": "What?", "images": ["a.png"]}).tasks
    later = sampled(seeing, tasks, ["good"])
    path = seeing.root / "rolled" / "step-000000.jsonl"
    row = json.loads(path.read_text())
    for broken in ([{"path": "a.png"}], 3, ["a.png"], [{"path": "../../x.png", "digest": "0"}]):
        path.write_text(json.dumps({**row, "images": broken}) + "\n")
        with pytest.raises(RecipeError) as caught:
            later.build(specs.Rollouts(rollouts="explore.rollouts")).prepare("sft")
        assert caught.value.diagnostics[0].code in {"RC717", "RC862"}
