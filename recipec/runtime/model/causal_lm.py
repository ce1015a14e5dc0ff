"""The policy: a causal language model, its tokenizer, and the log-probabilities of tokens under it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy, deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from recipec.diagnostics.errors import model as errors, trust
from recipec.diagnostics.model import RecipeError
from recipec.diagnostics.phrases import first_line
from recipec.runtime.context import StageContext
from recipec.runtime.data.text import Text
from recipec.runtime.images.picture import Picture
from recipec.runtime.model import (
    fixed_outputs,
    generation_config,
    logprob_head,
    lora,
    model_checks,
    quantization,
    scratch,
    turn_end,
    weights,
)
from recipec.runtime.model.cast import cast
from recipec.runtime.model.chat_template import adapt
from recipec.runtime.model.cpu_linear import use_onednn
from recipec.runtime.model.origin import Origin, folder_of
from recipec.runtime.model.positions import longest_row
from recipec.runtime.model.state_files import disk_problems, fingerprint
from recipec.runtime.model.weight_layout import WeightLayout
from recipec.runtime.protocols import Attention, Policy
from recipec.runtime.rng import rng_for
from recipec.spec import policy

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class CausalLm(Policy):
    """A Hugging Face decoder; see :class:`recipec.spec.policy.CausalLm`."""

    next_to_adapter = ""
    """Name of a layer that is trained in full next to an adapter; empty if there is none."""

    def __init__(self, spec: policy.CausalLm | policy.VisionLm, context: StageContext, origin: Origin) -> None:
        """Load or build the model, its adapter and its tokenizer; ``use`` gives it an attention."""
        self.spec, self.context, self.origin, self.device = spec, context, origin, context.device
        self.peft_model: PeftModel | None = None
        """The peft model around ``model``, where an adapter is trained."""
        self.adapter_is_new = False
        """Whether the policy without its adapter is the policy as it entered the stage."""
        self.model: Any = self._load()
        if spec.head_dtype is not None:
            logprob_head.compute_in_float32(self.model, self._named())
        self.model.to(self.device)
        use_onednn(self.model)
        self.layout = WeightLayout(self.model)
        self._check_vocabulary()
        key = "from" if spec.chat_template is None else "policy.chat_template"
        adapt(self.tokenizer, context.root, spec)
        ends = turn_end.mark(self.tokenizer, self.stop_ids, context.say)
        generation_config.set_stop_ids(self.model.generation_config, [*self.stop_ids, *ends])
        self.text = Text(self.tokenizer, context.begun, f"stages.{context.stage}.{key}")
        self.separable = self._head_separable()
        self.eval()
        fixed_outputs.check(self, origin)
        self.calls, self.temperature = 0, context.temperature
        self.compares: Callable[..., dict[str, Tensor]] | None = None
        """What the policy's node computes where a teacher's distributions are learnt."""

    def _check_vocabulary(self) -> None:
        if len(self.tokenizer) > self.vocabulary:
            raise RecipeError(errors.vocabulary_mismatch(self._named(), len(self.tokenizer), self.vocabulary))

    def _named(self) -> str:
        return self.origin.name or self.origin.kind

    def _load(self) -> nn.Module:
        dtype, parent = _DTYPES[self.spec.dtype], self.origin.adapter_path
        if self.origin.kind == "scratch":
            if self.spec.scratch is None:
                raise RecipeError(errors.bad_shape("`from` is scratch and policy.scratch is missing"))
            model: nn.Module = cast(self._new(), dtype)
        else:
            folder = folder_of(self.origin, self.context)
            if parent is None and (folder / lora.CONFIG).exists():
                parent = folder
            # a merge is done in float32: adapters are often below the resolution of bfloat16
            at = torch.float32 if self.origin.adapter == "merge" else dtype
            model = self._read(folder, at)
        if (parent is None) != (self.origin.adapter is None):
            raise RecipeError(errors.adapter_undecided(self._named(), found=parent is not None))
        if parent is not None and self.origin.adapter == "merge":
            model = cast(lora.merge(model, parent), dtype)
        if self.spec.quantization is not None:
            model = quantization.quantize(model, self._decoder(model), self.device, self.spec.quantization)
        if parent is not None and self.origin.adapter == "continue":
            self.peft_model = lora.load(model, parent, self.spec.lora)
        elif self.spec.lora is not None:
            seed = int(rng_for(self.context.seed, self.context.stage, "lora").integers(1 << 63))
            self.peft_model = lora.add(model, self._targeted(model, self.spec.lora), seed)
            self.adapter_is_new = True
        for name, parameter in model.named_parameters():  # whatever a library froze on the way
            trained = parameter.is_floating_point() if self.peft_model is None else self._is_trained_with_adapter(name)
            parameter.requires_grad_(trained)
        # layers are replaced in place: the model itself goes on working, with its own names
        return model

    def _is_trained_with_adapter(self, name: str) -> bool:
        """Whether a parameter is trained although there is an adapter."""
        return lora.is_adapter(name) or (self.next_to_adapter != "" and name.startswith(f"{self.next_to_adapter}."))

    def _new(self) -> nn.Module:
        spec = self.spec.scratch
        assert isinstance(spec, policy.Scratch)
        self.tokenizer = scratch.build_tokenizer(spec.tokenizer, self.context.root)
        return scratch.build_model(spec, self.tokenizer, self.spec.dropout)

    def _read(self, folder: Path, dtype: torch.dtype) -> nn.Module:
        weights.inspect_folder(folder)
        self.tokenizer = weights.load_tokenizer(folder)
        return self._model_of(folder, dtype)

    def _model_of(self, folder: Path, dtype: torch.dtype) -> nn.Module:
        return weights.load_model(folder, dtype, self.spec.dropout, self.context.say)

    def _decoder(self, model: Any) -> str:
        return str(model.base_model_prefix)

    def _targeted(self, model: nn.Module, lora: policy.Lora) -> policy.Lora:  # noqa: ARG002 - for vision-language models
        """Return the description of an adapter with targets that peft takes for those that are meant."""
        return lora

    @torch.no_grad()
    def _head_separable(self) -> bool:
        """Whether logits from the model's head alone are those of the whole model: tried on four tokens.

        Raises:
            RecipeError: RC602, a token changes the logits of earlier tokens, so the model is not a causal decoder;
                RC723, the logits are not finite.
        """
        self.model.eval()
        tokens = torch.arange(4, device=self.device)[None] % self.vocabulary
        logits = model_checks.first_logits(self.model, tokens, self._named())
        tokens[0, -1] = 0
        other = self.model(input_ids=tokens, use_cache=False).logits[0].float()
        tokens[0, -1] = 3 % self.vocabulary
        if not torch.allclose(logits[:-1], other[:-1], rtol=1e-3, atol=1e-3):
            raise RecipeError(
                trust.unknown_architecture(self._named(), str(self.model.config.model_type), encoder=True)
            )
        try:
            hidden = getattr(self.model, self.model.base_model_prefix)(input_ids=tokens, use_cache=False)
            parted = logprob_head.own_head(self.model, hidden.last_hidden_state[0]).float()
        except (AttributeError, TypeError, ValueError, RuntimeError, KeyError):
            return False
        return parted.shape == logits.shape and torch.allclose(parted, logits, rtol=1e-4, atol=1e-4)

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
        """Padding id; padding is never attended, so a tokenizer without one uses eos."""
        pad = self.tokenizer.pad_token_id
        return self.eos_id if pad is None else int(pad)

    @property
    def max_positions(self) -> int:
        """Longest sequence that the model takes, and computes as any shorter one."""
        longest = longest_row(self.model.config)
        return 1 << 31 if longest is None else longest

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(self.model.config.get_text_config().vocab_size)

    def encode(self, text: str, after: Sequence[int] = ()) -> list[int]:
        """Encode text that follows ids; where it spells a control token, that is letters only."""
        return self.text.encode(text, after)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        generation: bool = True,
        variables: Mapping[str, Any] | None = None,
        images: Sequence[Picture] = (),
    ) -> list[int]:
        """Encode messages by the chat template, which alone writes control tokens."""
        assert not images, "this policy reads text alone"
        return self.text.render(messages, generation=generation, variables=variables)

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids, leaving control tokens out."""
        return self.text.decode(ids)

    # log-probabilities

    def set_attention(self, attention: Attention) -> None:
        """Let ``attention`` arrange the rows of every later forward pass."""
        attention.bind(self)
        self.attention = attention

    def hidden_states(self, **inputs: Any) -> Tensor:
        """Run the decoder without its head, or with it where the family does not part from it."""
        if not self.separable:
            logits: Tensor = self.model(**inputs, use_cache=False).logits
            return logits
        decoder = getattr(self.model, self.model.base_model_prefix)
        hidden: Tensor = decoder(**inputs, use_cache=False).last_hidden_state
        return hidden

    def position_ids(self, tokens_RT: Tensor) -> Tensor | None:  # noqa: ARG002 - for vision-language models
        """Return positions [3, R, T] where tokens have other ones than their number in the row."""
        return None

    def head(self, hidden_UH: Tensor) -> Tensor:
        """Compute the logits of hidden states."""
        return logprob_head.own_head(self.model, hidden_UH) if self.separable else hidden_UH

    def logprobs(
        self,
        tokens_RT: Tensor,
        attend_RT: Tensor,
        trained_RT: Tensor,
        pixels_I: Sequence[Picture] = (),
        image_row_I: Tensor | None = None,  # noqa: ARG002 - of a policy that reads images
        *,
        entropy: bool = True,
        collision: bool = False,
    ) -> dict[str, Tensor]:
        """Return ``logprob_RT`` and ``entropy_RT``, or else ``collision_RT``: float32, 0 where not trained.

        Position t holds log p(token t | tokens before t) with the logits divided by the stage's temperature.

        Raises:
            RecipeError: RC736, a row is longer than the model's positions.
        """
        assert not pixels_I, "this policy reads text alone"
        tokens_RT, attend_RT, scored_RT = logprob_head.scored(self, tokens_RT, attend_RT, trained_RT)
        spread_of: logprob_head.SpreadOf = "collision" if collision else "entropy" if entropy else ""
        logprob_M, spread_M = self.layout.inside(lambda: self._scored(tokens_RT, attend_RT, scored_RT, spread_of))
        columns = {"logprob_RT": logprob_head.placed(logprob_M, scored_RT)}
        if spread_of:
            columns[f"{spread_of}_RT"] = logprob_head.placed(spread_M, scored_RT)
        return columns

    def sequence_scores(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, **images: Any) -> Tensor:
        """Return each row's log-probability of its trained tokens, or its score, in float64."""
        return self.logprobs(tokens_RT, attend_RT, trained_RT, **images, entropy=False)["logprob_RT"].double().sum(-1)

    def _scored(
        self, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor, spread_of: logprob_head.SpreadOf
    ) -> tuple[Tensor, Tensor]:
        with self._drawn():
            states = self.attention.target_hidden_states(self, tokens_RT, attend_RT, scored_RT)
        return logprob_head.score(self.head, states, self.vocabulary, self.temperature, spread_of=spread_of)

    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor) -> dict[str, Tensor]:
        """Score tokens, or compare their distributions: the policy's node in the graph."""
        if self.compares is not None:
            return self.compares(tokens_RT, attend_RT, trained_RT)
        return self.logprobs(tokens_RT, attend_RT, trained_RT)

    @contextmanager
    def _drawn(self) -> Iterator[None]:
        """Let dropout masks come from the number of this call, not from what was drawn before."""
        if not self.model.training:
            yield
            return
        seed = rng_for(self.context.seed, self.context.stage, "dropout", self.calls).integers(1 << 63)
        self.calls += 1
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(seed))
            yield

    # weights

    def clone(self) -> CausalLm:
        """Return this policy with weights of its own, to sample from while others are in shards."""
        twin = copy(self)
        twin.model = deepcopy(self.model)
        twin.layout = WeightLayout(twin.model)
        return twin

    def train(self) -> None:
        """Switch dropout on, where the recipe has any."""
        self.model.train()

    def eval(self) -> None:
        """Switch dropout off."""
        self.model.eval()

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass."""
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def module_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the groups that ``optimizer.freeze`` may name."""
        return {"embeddings": list(self.model.get_input_embeddings().parameters())}

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters that are trained, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def save(self, folder: Path, whole: Mapping[str, Tensor] | None = None) -> None:
        """Write weights, configuration and tokenizer so that ``from_pretrained`` loads them from the folder alone.

        An adapter is in peft's format, the weights under it in ``base``; ``AutoModelForCausalLM`` loads both.
        """
        state = dict(self.model.state_dict() if whole is None else whole)
        with weights.quiet(), disk_problems():
            if self.peft_model is None:
                self.model.save_pretrained(folder, state_dict=whole)
            else:
                self.model.save_pretrained(folder, state_dict=self._under_adapter(state))
                lora.hide_base(folder)
                plain = self.origin.kind == "hub" and self.origin.adapter is None and not self.next_to_adapter
                adapter = {name: state[name] for name in state if lora.is_adapter(name)}
                lora.save(self.peft_model, folder, self.origin.name.partition("@")[0] if plain else None, adapter)
            self.save_text(folder)

    def save_text(self, folder: Path) -> None:
        """Write what turns text into tokens."""
        self.tokenizer.save_pretrained(folder)

    def check_saveable(self) -> None:
        """Write everything but the weights into a temporary folder, before a step is paid for.

        Raises:
            RecipeError: RC738, a library refuses to write what it read.
        """
        try:
            with TemporaryDirectory() as folder, weights.quiet(), disk_problems():
                self.model.config.save_pretrained(folder)
                self.model.generation_config.save_pretrained(folder)
                if self.peft_model is not None:
                    self.peft_model.peft_config["default"].save_pretrained(folder)
                self.save_text(Path(folder))
        except OSError:
            raise
        except Exception as error:  # each library checks what it writes with exceptions of its own
            raise RecipeError(errors.unsavable(self._named(), first_line(error))) from error

    def _under_adapter(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights under the adapter, by the names they have without it."""
        base = lora.base_state(state)
        return base if self.spec.quantization is None else quantization.restored(self.model, base)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Compute with the weights under the adapter."""
        assert self.peft_model is not None, "there is no adapter to leave out"
        with self.peft_model.disable_adapter():
            yield

    def with_parameters(self, copies: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Compute with ``copies`` in place of the parameters of those names; no gradients pass through here."""
        return self.layout.with_parameters(copies)

    def state(self) -> dict[str, Any]:
        """Trained weights and the number of dropout masks drawn."""
        layout = self.layout
        weights = {name: layout.gathering(p, layout.part(p)) for name, p in self.trainable_parameters().items()}
        return {"calls": self.calls, "weights": weights}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.calls = int(state["calls"])
        parameters = dict(self.model.named_parameters())
        for name, tensor in state["weights"].items():
            self.layout.put(parameters[name], tensor)

    @torch.no_grad()
    def fingerprint(self) -> str:
        """Hash every weight, in hexadecimal."""
        return fingerprint(dict(self.layout.weights()))
