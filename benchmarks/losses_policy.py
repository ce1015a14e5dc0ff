"""Objectives of rl for `losses.py`, next to the trainers of TRL or to formulas that it lacks."""

from __future__ import annotations

from dataclasses import dataclass, field

import datasets
import torch
from losses_cases import BNPO, GRPO, MAX_COMPLETION
from losses_shared import ROWS, TEMPERATURE, TOKENIZER, answered, arguments, draw_examples, exact, left_padded

from recipec.runtime.objective import compiler_ops
from recipec.runtime.objective.covariance import select_tokens

SHIFT = 0.05
"""Nats by which all old log-probabilities are lower, where the covariances of old and new ones shall be equal."""


@dataclass
class Rollouts:
    """Completions of one prompt with advantages, under older weights, those of the reference and of another engine."""

    examples: list
    columns: dict
    old_RT: torch.Tensor
    ref_RT: torch.Tensor
    sampler_RT: torch.Tensor
    advantage_R: torch.Tensor
    given: dict = field(default_factory=dict)

    @classmethod
    def drawn(cls, models, draw):
        """Draw rows, and log-probabilities around those of the model."""
        examples = draw_examples(draw, ROWS)
        columns = compiler_ops.collate_completions(examples)
        trained_RT = columns["trained_RT"]
        with torch.no_grad():
            base_RT = exact(models.judge, columns, TEMPERATURE).float()
        noise = [size * torch.randn(base_RT.shape, generator=draw) * trained_RT for size in (0.3, 0.3, 0.2)]
        old_RT = base_RT + noise[0]
        return cls(examples, columns, old_RT, base_RT + noise[1], old_RT + noise[2], torch.randn(ROWS, generator=draw))

    def objective(self, form, selected_RT=None):
        """Return an objective as a function of log-probabilities."""
        trained_RT = self.columns["trained_RT"]
        weighed = compiler_ops.weigh(trained_RT, aggregate=form.aggregate, normaliser=form.normaliser)
        given = {
            "ratio_to_RT": self.old_RT, "ref_logprob_RT": self.ref_RT, "sampler_logprob_RT": self.sampler_RT,
            "advantage_RT": self.credit(), "trained_RT": trained_RT, "turn_RT": self.columns["turn_RT"],
            "weight_RT": weighed["weight_RT"], "selected_RT": selected_RT,
        }  # fmt: skip

        def loss(logprob_RT):
            columns = {name: {**given, "logprob_RT": logprob_RT}.get(name) for name in form.parameters()}
            return form.load()(**columns, **form.params())["loss"]

        return loss

    def credit(self):
        """Return the advantage of each token."""
        return compiler_ops.broadcast(self.advantage_R, self.columns["trained_RT"])["advantage_RT"]

    def inputs(self):
        """Return the rows as TRL's trainers get them."""
        trained_RT = self.columns["trained_RT"]
        answers = [[t for t, on in zip(e.ids, e.trained, strict=True) if on] for e in self.examples]
        prompts = [e.ids[: len(e.ids) - len(a)] for e, a in zip(self.examples, answers, strict=True)]
        prompt_ids, prompt_mask = left_padded(prompts)
        old_RT = answered(self.old_RT, trained_RT)
        return {
            "prompt_ids": prompt_ids, "prompt_mask": prompt_mask, "advantages": self.advantage_R,
            "completion_ids": compiler_ops.pad_rows(answers, torch.int64),
            "completion_mask": compiler_ops.pad_rows([[1] * len(a) for a in answers], torch.int64),
            "old_per_token_logps": old_RT, "old_logps": old_RT.sum(-1),
            "ref_per_token_logps": answered(self.ref_RT, trained_RT), "num_items_in_batch": trained_RT.sum(),
        }  # fmt: skip


def policy_gradient(models, draw, trainer, config, theirs, form, weights=None):
    """Compare an objective of rl, with k3 KL."""
    rows = Rollouts.drawn(models, draw)
    trainer = trainer(
        models.theirs, lambda completions, **_: [0.0] * len(completions),
        arguments(
            config, models.folder, num_generations=ROWS, temperature=TEMPERATURE, max_completion_length=MAX_COMPLETION,
            **theirs,
        ),
        train_dataset=datasets.Dataset.from_list([{"prompt": "a"}] * ROWS), processing_class=TOKENIZER,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    inputs = rows.inputs()
    if weights is not None:
        trainer.use_vllm = True  # the switch of the correction; nothing is generated
        sampled_RT = answered(rows.sampler_RT, rows.columns["trained_RT"])
        inputs["importance_sampling_ratio"] = weights(
            inputs["old_per_token_logps"] - sampled_RT, inputs["completion_mask"]
        )
    loss = trainer._compute_loss(trainer.model, inputs)  # noqa: SLF001 - this function is what is compared
    return models.three(rows.columns, rows.objective(form), loss, TEMPERATURE)


def weighed(models, draw, weights, form):
    """Compare corrections of another engine's log-probabilities, multiplied with TRL's loss by TRL."""
    return policy_gradient(models, draw, *GRPO, BNPO, form, weights)


def formula(models, draw, published, form, bounds):
    """Compare an objective with a formula on a plain forward pass of the model."""
    rows = Rollouts.drawn(models, draw)
    columns, trained_RT = rows.columns, rows.columns["trained_RT"]
    with torch.no_grad():
        rows.old_RT = exact(models.judge, columns, TEMPERATURE).float() - SHIFT * trained_RT
    weight_RT = compiler_ops.weigh(trained_RT, aggregate=form.aggregate, normaliser=None)["weight_RT"]
    selected = select_tokens(
        rows.old_RT, rows.credit(), trained_RT, weight_RT, columns["tokens_RT"], share=form.share, **bounds
    )
    logits = models.theirs(input_ids=columns["tokens_RT"], attention_mask=columns["attend_RT"].long()).logits
    logp = torch.log_softmax(logits[:, :-1] / TEMPERATURE, -1).gather(2, columns["tokens_RT"][:, 1:, None])[..., 0]
    kept = trained_RT[:, 1:]
    loss = published(logp[kept], rows.old_RT[:, 1:][kept], rows.credit()[:, 1:][kept])
    return models.three(columns, rows.objective(form, selected["selected_RT"]), loss, TEMPERATURE)
