"""The policy: a causal language model, its tokenizer, and the log-probabilities of tokens under it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from recipec.runtime import head, scratch, weights
from recipec.runtime.attention.dense import Dense
from recipec.runtime.draws import generator
from recipec.runtime.setting import Setting
from recipec.runtime.text import Text
from recipec.spec import attention, policy

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where weights come from, as ``from:`` says it; stages are directories by now.

    Example: ``Origin("directory", "runs/a/stages/explore/policy", adapter="continue")``.
    """

    kind: Literal["scratch", "directory", "hub", "package"]
    name: str = ""
    """Directory, ``org/name[@revision]``, or ``DIST[/FILE.gguf]``."""
    adapter: Literal["continue", "merge"] | None = None
    """What becomes of the adapter found there, or in ``adapter_path``."""
    adapter_path: Path | None = None


class Attention(Protocol):
    """How the rows of one micro-batch share a forward pass."""

    def bind(self, policy: CausalLm) -> None:
        """Prepare a policy, or refuse it."""

    def predictors(self, policy: CausalLm, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor) -> head.Predictors:
        """Return the hidden states before each scored position, each unique one once."""


class CausalLm:
    """A Hugging Face decoder; see :class:`recipec.spec.policy.CausalLm`."""

    def __init__(self, spec: policy.CausalLm, setting: Setting, origin: Origin) -> None:
        """Load or build the model, its adapter and its tokenizer."""
        self.spec, self.setting, self.origin = spec, setting, origin
        self.device = setting.device
        self.model: Any = self._load()
        self.text = Text(self.tokenizer)
        self.model.to(device=self.device, dtype=_DTYPES[spec.dtype])
        self.model.eval()
        self.calls = 0
        self.use(Dense(attention.Dense(), setting))

    def _load(self) -> nn.Module:
        if self.origin.kind == "scratch":
            assert self.spec.scratch is not None
            self.tokenizer = scratch.build_tokenizer(self.spec.scratch.tokenizer, self.setting.root)
            return scratch.build_model(self.spec.scratch, self.tokenizer, self.spec.dropout)
        folder = Path(self.origin.name)
        self.tokenizer = weights.load_tokenizer(folder)
        return weights.load_model(folder, self.spec.dropout)

    # text

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a turn."""
        configured = self.model.generation_config.eos_token_id
        listed = configured if isinstance(configured, list) else [configured]
        return tuple(dict.fromkeys(int(i) for i in (self.tokenizer.eos_token_id, *listed) if i is not None))

    @property
    def eos_id(self) -> int:
        """The id that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def pad_id(self) -> int:
        """The id of padding; it is never attended, so eos does where there is none."""
        pad = self.tokenizer.pad_token_id
        return self.eos_id if pad is None else int(pad)

    @property
    def max_positions(self) -> int:
        """Longest sequence that the model takes."""
        config = self.model.config.get_text_config()
        found = getattr(config, "max_position_embeddings", None)
        return 1 << 31 if found is None else int(found)

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(self.model.config.get_text_config().vocab_size)

    def encode(self, text: str) -> list[int]:
        """Encode text; where it spells a control token, that is letters only."""
        return self.text.encode(text)

    def render(self, messages: Sequence[Mapping[str, Any]], *, generation: bool = True) -> list[int]:
        """Encode messages by the chat template, which alone writes control tokens."""
        return self.text.render(messages, generation=generation)

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids, leaving control tokens out."""
        return self.text.decode(ids)

    # log-probabilities

    def use(self, attention: Attention) -> None:
        """Let ``attention`` arrange the rows of every later forward pass."""
        attention.bind(self)
        self.attention = attention

    def hidden(self, **inputs: Any) -> Tensor:
        """Run the decoder without its head."""
        decoder = getattr(self.model, self.model.base_model_prefix)
        found: Tensor = decoder(**inputs, use_cache=False).last_hidden_state
        return found

    def head(self, hidden_UH: Tensor) -> Tensor:
        """Compute the logits of hidden states."""
        return head.own_head(self.model, hidden_UH)

    def logprobs(
        self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, *, entropy: bool = True
    ) -> dict[str, Tensor]:
        """Return ``logprob_RT`` and, if asked, ``entropy_RT``: float32, in nats, zero where a token is not trained.

        Position t holds log p(token t | tokens before t) with the logits divided by the stage's temperature.
        """
        tokens_RT, attend_RT = tokens_RT.to(self.device), attend_RT.to(self.device)
        scored_RT = trained_RT.to(self.device) & attend_RT
        scored_RT[:, 0] = False
        with self._drawn():
            found = self.attention.predictors(self, tokens_RT, attend_RT, scored_RT)
        logprob_M, entropy_M = head.score(self.head, found, self.vocabulary, self.setting.temperature, entropy=entropy)
        made = {"logprob_RT": _placed(logprob_M, scored_RT)}
        if entropy:
            made["entropy_RT"] = _placed(entropy_M, scored_RT)
        return made

    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor) -> dict[str, Tensor]:
        """Score tokens: the policy's node in the graph."""
        return self.logprobs(tokens_RT, attend_RT, trained_RT)

    @contextmanager
    def _drawn(self) -> Iterator[None]:
        """Let dropout masks come from the number of this call, not from what was drawn before."""
        if not self.model.training:
            yield
            return
        seed = generator(self.setting.seed, self.setting.stage, "dropout", self.calls).integers(1 << 63)
        self.calls += 1
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(seed))
            yield

    # weights

    def train(self) -> None:
        """Switch dropout on, where the recipe has any."""
        self.model.train()

    def eval(self) -> None:
        """Switch dropout off."""
        self.model.eval()

    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters that are trained, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def save(self, folder: Path) -> None:
        """Write weights, configuration and tokenizer so that ``from_pretrained`` loads them."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def state(self) -> dict[str, Any]:
        """Trained weights and the number of dropout masks drawn."""
        return {"calls": self.calls, "weights": {name: p.detach() for name, p in self.trained().items()}}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.calls = int(state["calls"])
        parameters = dict(self.model.named_parameters())
        for name, tensor in state["weights"].items():
            parameters[name].copy_(tensor)

    @torch.no_grad()
    def fingerprint(self) -> str:
        """Hash every weight, in hexadecimal."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
            digest.update(flat.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _placed(value_M: Tensor, scored_RT: Tensor) -> Tensor:
    return torch.zeros(scored_RT.shape, device=value_M.device).masked_scatter(scored_RT, value_M)
