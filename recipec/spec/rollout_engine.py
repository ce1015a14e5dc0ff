"""Rollout engines: who samples completions from the policy."""

from __future__ import annotations

from typing import ClassVar, Literal

from recipec.component import Component, component, param


class RolloutEngine(Component):
    """Base class of rollout engines; the facts below are what checks and plans read."""

    slot: ClassVar[str] = "rollout_engine"
    shares_weights: ClassVar[bool] = False
    """Whether it samples with the policy's own weights and code, so that log-probabilities are those of training."""
    reads_images: ClassVar[bool] = True
    """Whether it can sample from a policy that reads images."""
    takes_quantized: ClassVar[bool] = True
    """Whether it can sample from a policy with weights of fewer bits."""
    max_adapter_rank: ClassVar[int | None] = None
    """Largest rank of a LoRA adapter that it computes with; ``None`` for any."""
    rows_param: ClassVar[str] = ""
    """The parameter that bounds the sequences decoded together, where a larger group has its prompt computed again;
    empty where a group of any size shares its prompt."""

    unadapted: ClassVar[tuple[str, ...]] = ()
    """Names of layers whose adapters it cannot apply."""

    def weights_dtype(self) -> str | None:
        """Return the data type of its own copy of the weights; ``None`` where it is that of the policy."""
        return None

    def memory_share(self) -> float | None:
        """Return the share of a device that its weights and KV cache fill; ``None`` where nothing bounds them."""
        return None

    def sleeps(self) -> bool:
        """Whether it releases the memory of the device while the policy is trained."""
        return False

    def rows_together(self) -> int:
        """Return the most sequences that are decoded together."""
        bound: int = getattr(self, self.rows_param) if self.rows_param else 256
        return bound

    def weight_partitions(self) -> int:
        """Return over how many devices its own copy of the weights is spread; 0 where it has none.

        >>> Vllm(tensor_parallel=2).weight_partitions(), Hf().weight_partitions()
        (2, 0)
        """
        return 0 if self.shares_weights else 1

    def cache_bytes(self) -> float:
        """Return the most bytes of keys and values that are kept between the turns of episodes."""
        return 0.0


@component("rollout_engine", impl="recipec.runtime.rollout.hf_engine:HfEngine", uses=("policy",))
class Hf(RolloutEngine):
    """Generate in this process with Transformers; the prompt of a group is computed once.

    References:
        Wolf et al., `Transformers <https://arxiv.org/abs/1910.03771>`_, 2020.
    """

    shares_weights: ClassVar[bool] = True
    rows_param: ClassVar[str] = "max_rows"

    type: Literal["hf"] = "hf"
    max_rows: int = param(64, "Maximum number of sequences decoded together.", unit="sequences", ge=1)
    max_memory: float = param(
        2.0, "Maximum KV cache kept between the turns of episodes; the rest is recomputed.", unit="GiB", ge=0
    )

    def cache_bytes(self) -> float:
        """Return `max_memory`."""
        return self.max_memory * 2**30


@component("rollout_engine", uses=("policy",))
class Vllm(RolloutEngine):
    """Generate with vLLM."""

    reads_images: ClassVar[bool] = False
    takes_quantized: ClassVar[bool] = False
    max_adapter_rank: ClassVar[int | None] = 512
    unadapted: ClassVar[tuple[str, ...]] = ("embed_tokens", "lm_head")

    type: Literal["vllm"] = "vllm"
    tensor_parallel: int = param(1, "Number of devices that share a model (tensor parallelism).", ge=1)
    dtype: Literal["float32", "bfloat16"] | None = param(
        None, "Data type of its weights; that of the policy if omitted."
    )
    memory: float = param(0.5, "Share of a GPU's memory for the copy of the weights and the KV cache.", gt=0, lt=1)

    def weights_dtype(self) -> str | None:
        """Return `dtype`."""
        return self.dtype

    def memory_share(self) -> float | None:
        """Return `memory`."""
        return self.memory

    def weight_partitions(self) -> int:
        """Return `tensor_parallel`."""
        return self.tensor_parallel
