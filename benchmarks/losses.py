"""Compare losses and gradients with those of TRL on the same batch and weights, in float32.

Each objective is computed on one random Llama in three ways: by TRL's own trainer, unchanged; by recipec's policy and
loss; and by a plain float64 forward pass, row by row, as the exact value.
Old and reference log-probabilities are those of the policy with noise, so that clipping and KL have an effect.
Where TRL 1.16 has no trainer (`formula`), the other side is the formula of the authors on a plain forward pass.
TRL's KL is the plain k3 of the papers: `use_bias_correction_kl`, which multiplies it by the ratio, is off.

    pip install 'recipec[train,bench]'
    python benchmarks/losses.py

Prints a Markdown table.  Errors are relative; a loss is small where positive and negative advantages cancel.
Goals: 1e-6 for the loss, 5e-6 for the gradient by norm, ours against TRL's.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from pathlib import Path

import datasets
import torch
import transformers
import trl
from losses_cases import CASES, FORMULAS, WEIGHED
from losses_pairs import contrastive, labelled, odds, preference, reward_model
from losses_policy import formula, policy_gradient, weighed
from losses_shared import ROWS, TOKENIZER, Models, arguments, draw_examples, gradient
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM
from trl.experimental.gkd import GKDTrainer

from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.objective import compiler_ops
from recipec.runtime.objective.critic import Decoder
from recipec.runtime.objective.distillation import Teacher, gkd
from recipec.runtime.objective.gae import value_loss
from recipec.runtime.objective.loss import nll
from recipec.spec import loss as spec, policy as policy_spec
from recipec.spec.attention import Dense


def imitation(models, draw):
    """Compare SFT on completions."""
    columns = compiler_ops.collate_completions(draw_examples(draw, ROWS))
    weight_RT = compiler_ops.weigh(columns["trained_RT"], aggregate="token_mean")["weight_RT"]
    trainer = trl.SFTTrainer(
        models.theirs, arguments(trl.SFTConfig, models.folder),
        train_dataset=datasets.Dataset.from_list([{"prompt": "a", "completion": "b"}] * ROWS),
        processing_class=TOKENIZER,
    )  # fmt: skip
    trainer.model.train()
    inputs = {
        "input_ids": columns["tokens_RT"], "attention_mask": columns["attend_RT"].long(),
        "labels": columns["tokens_RT"].masked_fill(~columns["trained_RT"], -100),
    }  # fmt: skip
    loss = trainer.compute_loss(trainer.model, inputs)
    return models.three(columns, lambda logprob_RT: nll(logprob_RT, columns["trained_RT"], weight_RT)["loss"], loss)


def critic(models, draw):
    """Compare the value loss of PPO with the formula of verl and of former TRL, on a classifier with one output.

    TRL 1.16 has no PPO any more, so that the other side is written here.
    """
    columns = compiler_ops.collate_completions(draw_examples(draw, ROWS))
    tokens_RT, attend_RT, trained_RT = (columns[name] for name in ("tokens_RT", "attend_RT", "trained_RT"))
    theirs = AutoModelForSequenceClassification.from_pretrained(models.folder / "model", num_labels=1)
    theirs.save_pretrained(models.folder / "classifier")
    TOKENIZER.save_pretrained(models.folder / "classifier")
    judge = copy.deepcopy(theirs).double()
    context = StageContext(models.folder, models.folder, seed=0, stage="bench")
    ours = Decoder(policy_spec.CausalLm(), context, Origin("directory", str(models.folder / "classifier")))
    ours.set_attention(DenseAttention(Dense(), context))
    old_RT, return_RT = (torch.randn(tokens_RT.shape, generator=draw) * 0.3 for _ in range(2))

    def published(model):
        hidden = model.model(input_ids=tokens_RT, attention_mask=attend_RT.long()).last_hidden_state
        vpred = torch.nn.functional.pad(model.score(hidden)[:, :-1, 0], (1, 0))
        vpredclipped = torch.clamp(vpred, old_RT - 0.2, old_RT + 0.2)
        losses = torch.max(torch.square(vpred - return_RT), torch.square(vpredclipped - return_RT))
        return 0.5 * (losses * trained_RT).sum() / trained_RT.sum()

    weight_RT = compiler_ops.weigh(trained_RT, aggregate="token_mean")["weight_RT"]
    value_RT = ours.values(tokens_RT, attend_RT, trained_RT)
    params = {"cliprange_value": 0.2, "coefficient": 1.0}
    mine = value_loss(value_RT, old_RT, return_RT, trained_RT, weight_RT, **params)["loss"]
    named = dict(ours.model.named_parameters())
    return (
        gradient(published(theirs), list(theirs.parameters())),
        gradient(mine, [named[name] for name, _ in theirs.named_parameters()]),
        gradient(published(judge), list(judge.parameters())),
    )


def distillation(models, draw, beta):
    """Compare GKD, with a teacher of other weights, on whole distributions."""
    columns = compiler_ops.collate_completions(draw_examples(draw, ROWS))
    trained_RT = columns["trained_RT"]
    tokens = {"input_ids": columns["tokens_RT"], "attention_mask": columns["attend_RT"].long()}
    torch.manual_seed(1)
    teacher = LlamaForCausalLM(models.theirs.config)
    teacher.save_pretrained(models.folder / "teacher")
    TOKENIZER.save_pretrained(models.folder / "teacher")
    context = StageContext(models.folder, models.folder, seed=0, stage="bench")
    other = CausalLm(policy_spec.CausalLm(), context, Origin("directory", str(models.folder / "teacher")))
    other.set_attention(DenseAttention(Dense(), context))
    policy = models.ours(1.0)

    def published(student, teacher):
        with torch.no_grad():
            logits = teacher(**tokens).logits[:, :-1]
        labels = tokens["input_ids"].masked_fill(~trained_RT, -100)[:, 1:]
        return GKDTrainer.generalized_jsd_loss(student(**tokens).logits[:, :-1], logits, labels=labels, beta=beta)

    weight_RT = compiler_ops.weigh(trained_RT, aggregate="token_mean")["weight_RT"]
    made = Teacher(other, beta).compared(policy, columns["tokens_RT"], columns["attend_RT"], trained_RT)
    named = dict(policy.model.named_parameters())
    return (
        gradient(published(models.theirs, teacher), list(models.theirs.parameters())),
        gradient(
            gkd(made["divergence_RT"], trained_RT, weight_RT, clamp=None)["loss"],
            [named[name] for name in models.names],
        ),
        gradient(published(models.judge, copy.deepcopy(teacher).double()), list(models.judge.parameters())),
    )


def row(name, theirs, ours, judge):
    """Return one line of the table."""
    loss = [abs(a[0] - b[0]) / abs(judge[0]) for a, b in ((ours, theirs), (ours, judge), (theirs, judge))]
    size = judge[1].norm()
    grad = [float((a[1] - b[1]).norm() / size) for a, b in ((ours, theirs), (ours, judge), (theirs, judge))]
    cells = [f"{x:.1e}" for pair in zip(loss, grad, strict=True) for x in pair]
    return f"| {name} | {judge[0]:.4f} | " + " | ".join(cells) + " |"


def compared(folder, draw):
    """Yield the name of each objective with its loss and gradient by TRL, by recipec, and the exact ones."""

    def case(function, *params):
        return function(Models(Path(folder)), draw, *params)

    yield from ((name, case(policy_gradient, *params)) for name, params in CASES.items())
    yield from ((name, case(weighed, *params)) for name, params in WEIGHED.items())
    yield from ((name, case(formula, *params)) for name, params in FORMULAS.items())
    yield "DPO", case(preference, "sigmoid", {})
    yield "IPO", case(preference, "ipo", {"variant": "ipo", "length_normalised": True})
    yield "CPO", case(contrastive, {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0}, spec.Cpo())
    simpo = {"loss_type": "simpo", "beta": 2.5, "simpo_gamma": 1.375, "cpo_alpha": 0.0}
    yield "SimPO", case(contrastive, simpo, spec.Simpo(beta=2.5, gamma=1.375))
    yield "ORPO", case(odds)
    yield "KTO", case(labelled)
    centred = {"center_rewards_coefficient": 0.01}, spec.BradleyTerry(margin="column", center=0.01)
    yield "reward model", case(reward_model, *centred)
    yield "critic of PPO (formula)", case(critic)
    yield from ((f"GKD, beta {beta:g}", case(distillation, beta)) for beta in (0.0, 0.5, 1.0))
    yield "SFT", case(imitation)


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(1)
    print(f"TRL {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}, CPU, float32\n")
    print(
        "| objective | value | ours/TRL: loss | gradient | ours/exact: loss | gradient | TRL/exact: loss | gradient |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (ours, theirs, judge) in compared(folder, draw):
            print(row(name, ours, theirs, judge), flush=True)


if __name__ == "__main__":
    main()
