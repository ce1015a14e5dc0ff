"""Reward models: they learn preferences, are saved as sequence classifiers, and go on from saved ones."""

import json
import math
from typing import Any

import pytest
import torch
from support.small_recipes import MODEL, Folder, rows
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from recipec.component import components_of
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.context import StageContext
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.reward_model import RewardModel
from recipec.runtime.objective.compiler_ops import weigh_pairs
from recipec.spec import policy as policy_spec
from recipec.spec.attention import Dense

PAIRS = rows(
    *({"prompt": f"p{i}", "chosen": "yes" + "b" * (i % 3), "rejected": f"no {i}", "margin": i / 8} for i in range(12))
)
HELD_OUT = rows(*({"prompt": f"q{i}", "chosen": "yes" + "c" * (i % 2), "rejected": f"no {i}"} for i in range(6)))
RECIPE = f"""\
recipec: 1
name: small
stages:
  judge:
    kind: rm
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 2.0e-2}}
    budget: {{epochs: 6, pairs_per_step: 4, updates_per_step: 2, microbatch_tokens: 48}}
  again:
    kind: rm
    from: judge
    data: {{path: a.jsonl}}
    attention: {{type: dense}}
    loss: {{margin: column, center: 0.01}}
    budget: {{steps: 1, pairs_per_step: 4}}
evaluate:
  held_out: {{data: {{path: b.jsonl}}, metrics: [margin]}}
"""


def test_a_reward_model_is_trained_saved_and_continued(folder: Any) -> None:
    """Held-out loss falls and accuracy rises; the library gives a saved model's scores; the next stage begins there."""
    assert isinstance(folder, Folder)
    ended = folder.run(RECIPE, a__jsonl=PAIRS, b__jsonl=HELD_OUT)
    assert ended.code == 0, ended.err
    stages = folder.path / "runs/small/stages"
    lines = [json.loads(line) for line in (stages / "judge/metrics.jsonl").read_text().splitlines()]
    before, after = lines[0], lines[-1]
    assert after["eval/held_out/margin_loss"] < before["eval/held_out/margin_loss"] - 0.3
    assert after["eval/held_out/margin_share"] == 1.0
    assert after["rewards/accuracies"] == 1.0

    path = stages / "judge/policy"
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert model.config.num_labels == 1
    context = StageContext(folder.path, folder.path, 0, "again")
    own = RewardModel(policy_spec.CausalLm(), context, Origin("directory", str(path)))
    own.set_attention(DenseAttention(Dense(), context))
    batch = tokenizer(["p1yes<eos>", "q no 4", "p"], return_tensors="pt", padding=True, padding_side="right")
    with torch.no_grad():
        theirs = model(**batch).logits[:, 0]
        ours = own.scores(batch.input_ids, batch.attention_mask.bool())
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert ours.std() > 0.1

    after = [json.loads(line) for line in (stages / "again/metrics.jsonl").read_text().splitlines()]
    assert after[0]["rewards/accuracies"] == 1.0
    ended = folder.run(
        RECIPE, "--out", "other", a__jsonl=PAIRS.replace('"margin": 0.5', '"gap": 0.5'), b__jsonl=HELD_OUT
    )
    assert (ended.code, ended.first) == (1, "RC950")


ADAPTED = f"""\
recipec: 1
name: small
stages:
  judge:
    kind: rm
{MODEL}\
      lora: {{r: 4, alpha: 8}}
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 2.0e-2}}
    budget: {{epochs: 8, pairs_per_step: 4}}
  again:
    kind: rm
    from: judge
    adapter: continue
    data: {{path: a.jsonl}}
    budget: {{steps: 1, pairs_per_step: 4}}
  explore:
    kind: rl
{MODEL}\
    data: {{path: a.jsonl}}
    sampler: {{num_generations: 4, max_completion_length: 6}}
    reward: {{quality: {{type: model, from: judge}}}}
    advantage: {{group: {{type: group_relative}}}}
    loss: {{type: clipped}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 1, prompts_per_step: 4}}
evaluate:
  held_out: {{data: {{path: b.jsonl}}, metrics: [margin]}}
"""


def test_an_adapter_is_trained_together_with_the_head(folder: Any) -> None:
    """Adapter and head move, nothing else does; saved, merged and as a reward the model gives the same scores."""
    assert isinstance(folder, Folder)
    ended = folder.run(ADAPTED, a__jsonl=PAIRS, b__jsonl=HELD_OUT)
    assert ended.code == 0, ended.err
    stages = folder.path / "runs/small/stages"
    lines = [json.loads(line) for line in (stages / "judge/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["eval/held_out/margin_loss"] < lines[0]["eval/held_out/margin_loss"] - 0.3
    going_on = json.loads((stages / "again/metrics.jsonl").read_text().splitlines()[0])
    assert going_on["eval/held_out/margin_loss"] == pytest.approx(lines[-1]["eval/held_out/margin_loss"], abs=1e-6)

    adapter = json.loads((stages / "judge/policy/adapter_config.json").read_text())
    assert "score" not in adapter["target_modules"]
    merged = folder.call("export", "runs/small", "--stage", "judge", "--merge", "--to", "merged")
    assert merged.code == 0, merged.err
    card = (folder.path / "merged/README.md").read_text()
    assert "pipeline_tag: text-classification\n" in card
    assert "this is the reward model after the stage `judge`" in card
    tokenizer = AutoTokenizer.from_pretrained(folder.path / "merged")
    batch = tokenizer(["p1yes<eos>", "q no 4", "p"], return_tensors="pt", padding=True, padding_side="right")
    found = []
    for path in (stages / "judge/policy", folder.path / "merged"):
        with torch.no_grad():
            found.append(AutoModelForSequenceClassification.from_pretrained(path).eval()(**batch).logits[:, 0])
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)
    assert found[0].std() > 0.1
    row = json.loads((stages / "explore/samples/step-000001.jsonl").read_text().splitlines()[0])
    ids = tokenizer(f"p{row['prompt_id']}{row['text']}<eos>", return_tensors="pt").input_ids
    with torch.no_grad():
        expected = float(AutoModelForSequenceClassification.from_pretrained(folder.path / "merged")(ids).logits)
    assert row["reward"] == pytest.approx(expected, abs=1e-5)


def test_weights_under_the_adapter_of_a_reward_model_stay(folder: Any) -> None:
    """Of a model with an adapter, the parameters that take part in training are the adapter's and the head's."""
    assert isinstance(folder, Folder)
    scratch = policy_spec.Scratch(architecture="llama", hidden_size=16, layers=1, heads=2)
    spec = policy_spec.CausalLm(scratch=scratch, lora=policy_spec.Lora(r=2))
    model = RewardModel(spec, StageContext(folder.path, folder.path, 0, "judge"), Origin("scratch"))
    kinds = {"score" if name.startswith("score.") else name.rsplit(".", 3)[-3] for name in model.trainable_parameters()}
    assert kinds == {"score", "lora_A", "lora_B"}
    assert not any("score" in name and "lora" in name for name, _ in model.model.named_parameters())


@pytest.mark.parametrize(("margin", "center"), [("none", 0.0), ("column", 0.0), ("column", 0.05)])
def test_the_objective_is_the_published_one(margin: str, center: float) -> None:
    """Loss and gradient are those of TRL's formula, pair by pair, whatever the order of the rows."""
    spec = components_of("loss")["bradley_terry"](margin=margin, center=center)
    score_R = torch.tensor([1.5, -0.25, 0.5, 2.0, -1.0, 0.0], dtype=torch.float64, requires_grad=True)
    by_pair_R, chosen_R = torch.tensor([0, 0, 1, 2, 2, 1]), torch.tensor([True, False, False, False, True, True])
    margin_R = torch.tensor([0.5, 0.5, 0.0, 2.0, 2.0, 0.0], dtype=torch.float64) if margin == "column" else None
    made = spec.load()(score_R, by_pair_R, chosen_R, weigh_pairs(by_pair_R)["weight_R"], margin_R, **spec.params())
    made["loss"].backward()
    pairs = [(1.5, -0.25, 0.5), (0.0, 0.5, 0.0), (-1.0, 2.0, 2.0)]
    gaps = [one - other - (by if margin == "column" else 0.0) for one, other, by in pairs]
    expected = sum(math.log1p(math.exp(-gap)) for gap in gaps) / 3
    expected += center * sum((one + other) ** 2 for one, other, _ in pairs) / 3
    assert float(made["loss"].detach()) == pytest.approx(expected, abs=1e-6)
    slope = -1 / (1 + math.exp(gaps[0])) / 3 + center * 2 * (1.5 - 0.25) / 3
    assert score_R.grad is not None
    assert float(score_R.grad[0]) == pytest.approx(slope, abs=1e-6)
    assert float(made["metric/rewards/accuracies"]) == pytest.approx(1 / 3)


LEARN = f"""\
recipec: 1
name: small
stages:
  judge:
    kind: rm
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 2.0e-2}}
    budget: {{epochs: 3, pairs_per_step: 4}}
  explore:
    kind: rl
{MODEL}\
    data: {{path: a.jsonl, chat: CHAT}}
    sampler: {{num_generations: 4, max_completion_length: 6}}
    reward: {{quality: {{type: model, from: judge, batch_size: 3, max_length: LONGEST}}}}
    advantage: {{group: {{type: group_relative}}}}
    loss: {{type: clipped}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 2, prompts_per_step: 4}}
"""


@pytest.mark.parametrize("chat", ["false", "true"])
def test_rollouts_are_scored_by_an_earlier_stage(chat: str, folder: Any) -> None:
    """Rewards are the scores of the library's classifier for prompt and answer; what is too long has none."""
    assert isinstance(folder, Folder)
    text = LEARN.replace("CHAT", chat).replace("LONGEST", "40" if chat == "true" else "8")
    ended = folder.run(text, a__jsonl=PAIRS)
    assert ended.code == 0, ended.err
    stages = folder.path / "runs/small/stages"
    model = AutoModelForSequenceClassification.from_pretrained(stages / "judge/policy").eval()
    tokenizer = AutoTokenizer.from_pretrained(stages / "judge/policy")
    lines = (stages / "explore/samples/step-000001.jsonl").read_text().splitlines()
    scored = [row for row in map(json.loads, lines) if row["reward"] is not None]
    assert 0 < len(scored)
    for row in scored:
        if chat == "true":
            messages = [
                {"role": "user", "content": f"p{row['prompt_id']}"},
                {"role": "assistant", "content": row["text"]},
            ]
            ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True).input_ids
        else:
            ids = tokenizer(f"p{row['prompt_id']}{row['text']}<eos>", return_tensors="pt").input_ids
        with torch.no_grad():
            expected = float(model(ids).logits)
        assert row["reward"] == pytest.approx(expected, abs=1e-5)
        assert ids.shape[1] <= (40 if chat == "true" else 8)
    metrics = json.loads((stages / "explore/metrics.jsonl").read_text().splitlines()[0])
    assert (metrics["rewards/too_long"] > 0) == (len(scored) < len(lines))
