"""What the objectives of `losses.py` share: three copies of a model, rows, and the exact log-probabilities."""

from __future__ import annotations

import copy

import torch
from losses_cases import MAX_COMPLETION
from transformers import LlamaConfig, LlamaForCausalLM

from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.batch import Example
from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.scratch import characters
from recipec.runtime.objective import compiler_ops
from recipec.spec import policy as policy_spec
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
