"""Objectives of pairs and of labelled answers for `losses.py`, next to the trainers of TRL."""

from __future__ import annotations

import copy
from dataclasses import replace

import datasets
import torch
import trl
from losses_shared import ROWS, TOKENIZER, arguments, draw_examples, exact, gradient
from transformers import AutoModelForSequenceClassification
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.context import StageContext
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.reward_model import RewardModel
from recipec.runtime.objective import compiler_ops, labelled_answers
from recipec.runtime.objective.loss import dpo
from recipec.runtime.objective.preference_losses import kto, orpo
from recipec.spec import loss as spec, policy as policy_spec
from recipec.spec.attention import Dense


def preference(models, draw, kind, params):
    """Compare DPO."""
    chosen, rejected = draw_examples(draw, ROWS), draw_examples(draw, ROWS)
    columns = compiler_ops.collate_pairs(chosen, rejected)
    with torch.no_grad():
        base_RT = exact(models.judge, columns, 1.0).float()
    ref_RT = base_RT + 0.3 * torch.randn(base_RT.shape, generator=draw) * columns["trained_RT"]
    weight_R = compiler_ops.weigh_pairs(columns["by_pair_R"])["weight_R"]

    def objective(logprob_RT):
        shared = (ref_RT, columns["trained_RT"], columns["by_pair_R"], columns["chosen_R"], weight_R)
        return dpo(logprob_RT, *shared, **spec.Dpo(**params).params())["loss"]

    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    trainer = trl.DPOTrainer(
        models.theirs, None, arguments(trl.DPOConfig, models.folder, loss_type=[kind], beta=0.1),
        train_dataset=datasets.Dataset.from_list([pair] * ROWS), processing_class=TOKENIZER,
    )  # fmt: skip
    trainer.precompute_ref_logps = True  # the same reference for both, as the option of the trainer does
    trainer.model.train()
    order = torch.cat([torch.arange(0, 2 * ROWS, 2), torch.arange(1, 2 * ROWS, 2)])
    sums = ref_RT.double().sum(-1).float()[order]
    inputs = {
        "input_ids": columns["tokens_RT"][order], "attention_mask": columns["attend_RT"][order].long(),
        "completion_mask": columns["trained_RT"][order].long(),
        "ref_chosen_logps": sums[:ROWS], "ref_rejected_logps": sums[ROWS:],
    }  # fmt: skip
    loss = trainer._compute_loss(trainer.model, inputs, return_outputs=False)  # noqa: SLF001
    return models.three(columns, objective, loss)


def contrastive(models, draw, params, form):
    """Compare objectives of pairs that need no reference."""
    columns = compiler_ops.collate_pairs(draw_examples(draw, ROWS), draw_examples(draw, ROWS))
    trained_RT, pairs = columns["trained_RT"], {name: columns[name] for name in ("by_pair_R", "chosen_R")}
    weights = compiler_ops.weigh_pairs(pairs["by_pair_R"]) | compiler_ops.weigh_chosen(trained_RT, pairs["chosen_R"])

    def objective(logprob_RT):
        given = {"logprob_RT": logprob_RT, "trained_RT": trained_RT, **pairs, **weights}
        return form.load()(**{name: given.get(name) for name in form.parameters()}, **form.params())["loss"]

    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    trainer = CPOTrainer(
        models.theirs, arguments(CPOConfig, models.folder, **params),
        train_dataset=datasets.Dataset.from_list([pair] * ROWS), processing_class=TOKENIZER,
    )  # fmt: skip
    trainer.model.train()
    batch = {}
    for name, place in (("chosen", 0), ("rejected", 1)):
        ids_RT = columns["tokens_RT"][place::2]
        batch[f"{name}_input_ids"] = ids_RT
        batch[f"{name}_attention_mask"] = columns["attend_RT"][place::2].long()
        batch[f"{name}_labels"] = ids_RT.masked_fill(~trained_RT[place::2], -100)
    loss, _ = trainer.get_batch_loss_metrics(trainer.model, batch)
    return models.three(columns, objective, loss)


def reward_model(models, draw, params, form):
    """Compare the objective of a reward model, on a classifier with one output."""
    columns = compiler_ops.collate_pairs(draw_examples(draw, ROWS), draw_examples(draw, ROWS))
    weight_R = compiler_ops.weigh_pairs(columns["by_pair_R"])["weight_R"]
    margin_R = torch.rand(ROWS, generator=draw).repeat_interleave(2)
    theirs = AutoModelForSequenceClassification.from_pretrained(models.folder / "model", num_labels=1)
    theirs.save_pretrained(models.folder / "classifier")
    TOKENIZER.save_pretrained(models.folder / "classifier")
    judge = copy.deepcopy(theirs).double()
    context = StageContext(models.folder, models.folder, seed=0, stage="bench")
    ours = RewardModel(policy_spec.CausalLm(), context, Origin("directory", str(models.folder / "classifier")))
    ours.set_attention(DenseAttention(Dense(), context))

    def objective(model_score_R):
        shared = (columns["by_pair_R"], columns["chosen_R"], weight_R, margin_R)
        return form.load()(model_score_R, *shared, **form.params())["loss"]

    trainer = trl.RewardTrainer(
        theirs, arguments(trl.RewardConfig, models.folder, **params),
        train_dataset=datasets.Dataset.from_list([{"chosen": "b", "rejected": "c"}] * ROWS), processing_class=TOKENIZER,
    )  # fmt: skip
    trainer.model.train()
    order = torch.cat([torch.arange(0, 2 * ROWS, 2), torch.arange(1, 2 * ROWS, 2)])
    given = {"input_ids": columns["tokens_RT"], "attention_mask": columns["attend_RT"].long()}
    batch = {name: column[order] for name, column in given.items()}
    loss = trainer.compute_loss(trainer.model, {**batch, "margin": margin_R[::2]})
    names = [name for name, _ in theirs.named_parameters()]
    named = dict(ours.model.named_parameters())
    return (
        gradient(loss, list(theirs.parameters())),
        gradient(objective(ours.scores(columns["tokens_RT"], columns["attend_RT"])), [named[name] for name in names]),
        gradient(objective(judge(**given).logits[:, 0]), list(judge.parameters())),
    )


def odds(models, draw):
    """Compare ORPO: TRL's odds ratio and the likelihood of the answer, to which TRL adds the prompt's."""
    columns = compiler_ops.collate_pairs(draw_examples(draw, ROWS), draw_examples(draw, ROWS))
    trained_RT, pairs = columns["trained_RT"], {name: columns[name] for name in ("by_pair_R", "chosen_R")}
    weights = compiler_ops.weigh_pairs(pairs["by_pair_R"]) | compiler_ops.weigh_chosen(trained_RT, pairs["chosen_R"])
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    trainer = ORPOTrainer(
        models.theirs, arguments(ORPOConfig, models.folder, beta=0.1),
        train_dataset=datasets.Dataset.from_list([pair] * ROWS), processing_class=TOKENIZER,
    )  # fmt: skip
    trainer.model.train()
    logits = trainer.model(input_ids=columns["tokens_RT"], attention_mask=columns["attend_RT"].long()).logits
    labels = columns["tokens_RT"].masked_fill(~trained_RT, -100)
    mean_R = trainer.get_batch_logps(logits, labels, average_log_prob=True)
    likelihood = torch.nn.functional.cross_entropy(logits[::2, :-1].flatten(0, 1), labels[::2, 1:].flatten())
    loss = likelihood - trainer.odds_ratio_loss(mean_R[::2], mean_R[1::2])[0].mean()

    def objective(logprob_RT):
        given = {"logprob_RT": logprob_RT, "trained_RT": trained_RT, **pairs, **weights}
        return orpo(**{name: given[name] for name in spec.Orpo.parameters()}, beta=0.1)["loss"]

    return models.three(columns, objective, loss)


def labelled(models, draw):
    """Compare KTO, with a baseline of mismatched answers."""
    answers = [replace(e, label=place % 3 > 0) for place, e in enumerate(draw_examples(draw, ROWS))]
    columns = labelled_answers.collate_labelled(answers)
    trained_RT = columns["trained_RT"]
    with torch.no_grad():
        old_RT = exact(models.judge, columns, 1.0).float()
    ref_RT = old_RT + 0.3 * torch.randn(old_RT.shape, generator=draw) * trained_RT - 0.02 * trained_RT
    baseline = labelled_answers.mismatch_baseline(old_RT, ref_RT, trained_RT, columns["mismatched_R"])
    weights = labelled_answers.weigh_labelled(columns["mismatched_R"])

    def objective(logprob_RT):
        shared = (ref_RT, trained_RT, columns["desirable_R"], baseline["baseline_R"], weights["weight_R"])
        return kto(logprob_RT, *shared, **spec.Kto(**SHARES).params())["loss"]

    rows = [{"prompt": "a", "completion": "b", "label": place % 2 == 0} for place in range(ROWS)]
    trainer = trl.KTOTrainer(
        models.theirs, None, arguments(trl.KTOConfig, models.folder, **SHARES),
        train_dataset=datasets.Dataset.from_list(rows), processing_class=TOKENIZER,
    )  # fmt: skip
    trainer.precompute_ref_logps = True  # the same reference for both, as the option of the trainer does
    trainer.model.train()
    given = {"input_ids": columns["tokens_RT"], "attention_mask": columns["attend_RT"].long()}
    given["completion_mask"], given["ref_logps"] = trained_RT.long(), ref_RT.double().sum(-1).float()
    batch = {name: column[::2] for name, column in given.items()}
    batch |= {f"KL_{name}": column[1::2] for name, column in given.items() if name != "ref_logps"}
    batch |= {"ref_KL_logps": given["ref_logps"][1::2], "label": columns["desirable_R"][::2]}
    loss = trainer._compute_loss(trainer.model, batch, return_outputs=False)  # noqa: SLF001
    return models.three(columns, objective, loss)


SHARES = {"beta": 0.1, "desirable_weight": 1.5, "undesirable_weight": 0.5}
