"""Compare losses and gradients with those of TRL on the same batch and weights, in float32.

Each objective is computed on one random Llama in three ways: by TRL's own trainer, unchanged; by recipec's policy and
loss; and by a plain float64 forward pass, row by row, as the exact value.
Old and reference log-probabilities are those of the policy with noise, so that clipping and KL have an effect.
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
from losses_cases import CASES, CONTRASTIVE, MAX_COMPLETION
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.gkd import GKDTrainer

from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.batch import Example
from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.reward_model import RewardModel
from recipec.runtime.model.scratch import characters
from recipec.runtime.objective import compiler_ops
from recipec.runtime.objective.critic import Decoder
from recipec.runtime.objective.distillation import Teacher, gkd
from recipec.runtime.objective.gae import value_loss
from recipec.runtime.objective.loss import dpo, nll
from recipec.spec import loss as spec, policy as policy_spec
from recipec.spec.attention import Dense

ROWS, TEMPERATURE = 8, 0.7
TOKENIZER = characters()


def draw_examples(draw, rows):
    """Draw prompts of 5 to 20 tokens and completions of 8 to 48."""
    made = []
    for row in range(rows):
        prompt, answer = (
            int(torch.randint(*span, (1,), generator=draw)) for span in ((5, 21), (8, MAX_COMPLETION + 1))
        )
        ids = torch.randint(4, len(TOKENIZER), (prompt + answer,), generator=draw).tolist()
        made.append(Example(row, tuple(ids), (False,) * prompt + (True,) * answer))
    return made


def left_padded(sequences):
    """Pad prompts as TRL does."""
    width = max(map(len, sequences))
    ids = torch.tensor([[0] * (width - len(s)) + list(s) for s in sequences])
    return ids, torch.tensor([[0] * (width - len(s)) + [1] * len(s) for s in sequences])


def answered(column_RT, trained_RT):
    """Remove the prompts from a column, as TRL does."""
    rows = [row[mask].tolist() for row, mask in zip(column_RT, trained_RT, strict=True)]
    return compiler_ops.pad_rows(rows, torch.float32)


def exact(model, columns, temperature):
    """Return float64 log-probabilities, one unpadded row at a time."""
    logprob_RT = torch.zeros(columns["tokens_RT"].shape, dtype=torch.float64)
    rows = []
    for tokens_T, attend_T, zero_T in zip(columns["tokens_RT"], columns["attend_RT"], logprob_RT, strict=True):
        ids = tokens_T[attend_T]
        logp = torch.log_softmax(model(input_ids=ids[None]).logits[0, :-1] / temperature, -1)
        picked = logp.gather(1, ids[1:, None])[:, 0]
        rows.append(torch.cat([zero_T[:1], picked, zero_T[len(ids) :]]))
    return torch.stack(rows) * columns["trained_RT"]


def gradient(loss, parameters):
    """Return the loss and the gradient of all parameters, in float64."""
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    assert all(g is not None for g in grads)
    return float(loss.detach()), torch.cat([g.double().flatten() for g in grads])


class Models:
    """Three copies of one random model."""

    def __init__(self, folder):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(TOKENIZER), hidden_size=128, intermediate_size=256, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.08,
            tie_word_embeddings=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        self.folder = folder
        LlamaForCausalLM(config).save_pretrained(folder / "model")
        TOKENIZER.save_pretrained(folder / "model")
        self.theirs = LlamaForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
        self.judge = copy.deepcopy(self.theirs).double()
        self.names = [name for name, _ in self.theirs.named_parameters()]

    def ours(self, temperature):
        """Load recipec's policy."""
        context = StageContext(self.folder, self.folder, seed=0, stage="bench", temperature=temperature)
        policy = CausalLm(policy_spec.CausalLm(), context, Origin("directory", str(self.folder / "model")))
        policy.set_attention(DenseAttention(Dense(), context))
        return policy

    def three(self, columns, objective, theirs, temperature=1.0):
        """Return loss and gradient of TRL, of recipec, and the exact ones."""
        policy = self.ours(temperature)
        ours = policy.logprobs(columns["tokens_RT"], columns["attend_RT"], columns["trained_RT"])["logprob_RT"]
        judged = exact(self.judge, columns, temperature)
        named = dict(policy.model.named_parameters())
        return (
            gradient(theirs, list(self.theirs.parameters())),
            gradient(objective(ours), [named[name] for name in self.names]),
            gradient(objective(judged), list(self.judge.parameters())),
        )


def arguments(kind, folder, **params):
    """Return the arguments of a TRL trainer that writes and reports nothing."""
    quiet = {
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
    }
    return kind(output_dir=str(folder), per_device_train_batch_size=ROWS, **quiet, **params)


def policy_gradient(models, draw, trainer, config, theirs, form):
    """Compare an objective of rl, with k3 KL."""
    examples = draw_examples(draw, ROWS)
    columns = compiler_ops.collate_completions(examples)
    trained_RT = columns["trained_RT"]
    with torch.no_grad():
        base_RT = exact(models.judge, columns, TEMPERATURE).float()
    noise = [0.3 * torch.randn(base_RT.shape, generator=draw) * trained_RT for _ in range(2)]
    old_RT, ref_RT = base_RT + noise[0], base_RT + noise[1]
    advantage_R = torch.randn(ROWS, generator=draw)
    weight_RT = compiler_ops.weigh(trained_RT, aggregate=form.aggregate, normaliser=form.normaliser)["weight_RT"]
    credit_RT = compiler_ops.broadcast(advantage_R, trained_RT)["advantage_RT"]

    def objective(logprob_RT):
        given = {
            "logprob_RT": logprob_RT, "ratio_to_RT": old_RT, "advantage_RT": credit_RT, "trained_RT": trained_RT,
            "turn_RT": columns["turn_RT"], "weight_RT": weight_RT, "ref_logprob_RT": ref_RT,
        }  # fmt: skip
        return form.load()(**{name: given.get(name) for name in form.parameters()}, **form.params())["loss"]

    trainer = trainer(
        models.theirs, lambda completions, **_: [0.0] * len(completions),
        arguments(
            config, models.folder, num_generations=ROWS, temperature=TEMPERATURE, beta=0.04,
            max_completion_length=MAX_COMPLETION, use_bias_correction_kl=False, **theirs,
        ),
        train_dataset=datasets.Dataset.from_list([{"prompt": "a"}] * ROWS), processing_class=TOKENIZER,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    answers = [[t for t, on in zip(e.ids, e.trained, strict=True) if on] for e in examples]
    prompts = [e.ids[: len(e.ids) - len(a)] for e, a in zip(examples, answers, strict=True)]
    prompt_ids, prompt_mask = left_padded(prompts)
    masks = compiler_ops.pad_rows([[1] * len(a) for a in answers], torch.int64)
    inputs = {
        "prompt_ids": prompt_ids, "prompt_mask": prompt_mask, "completion_mask": masks, "advantages": advantage_R,
        "completion_ids": compiler_ops.pad_rows(answers, torch.int64),
        "old_per_token_logps": answered(old_RT, trained_RT), "ref_per_token_logps": answered(ref_RT, trained_RT),
        "num_items_in_batch": trained_RT.sum(),
    }  # fmt: skip
    loss = trainer._compute_loss(trainer.model, inputs)  # noqa: SLF001 - this function is what is compared
    return models.three(columns, objective, loss, TEMPERATURE)


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
        for name, case in CASES.items():
            print(row(name, *policy_gradient(Models(Path(folder)), draw, *case)), flush=True)
        print(row("DPO", *preference(Models(Path(folder)), draw, "sigmoid", {})), flush=True)
        ipo = {"variant": "ipo", "length_normalised": True}
        print(row("IPO", *preference(Models(Path(folder)), draw, "ipo", ipo)), flush=True)
        for name, (params, form) in CONTRASTIVE.items():
            print(row(name, *contrastive(Models(Path(folder)), draw, params, form)), flush=True)
        centred = {"center_rewards_coefficient": 0.01}, spec.BradleyTerry(margin="column", center=0.01)
        print(row("reward model", *reward_model(Models(Path(folder)), draw, *centred)), flush=True)
        print(row("critic of PPO (formula)", *critic(Models(Path(folder)), draw)), flush=True)
        for beta in (0.0, 0.5, 1.0):
            print(row(f"GKD, beta {beta:g}", *distillation(Models(Path(folder)), draw, beta)), flush=True)
        print(row("SFT", *imitation(Models(Path(folder)), draw)), flush=True)


if __name__ == "__main__":
    main()
