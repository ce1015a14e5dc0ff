"""Rollout engines: who samples completions from the policy."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from recipec.component import Component, component, load_object, param

SHARE = 0.5
"""Share of a device's memory of an engine with weights of its own, where nothing says otherwise."""

_SERVERS = "recipec.runtime.rollout.vllm_servers:VllmServers"


class RolloutEngine(Component):
    """Base class of rollout engines; the facts below are what checks and plans read."""

    slot: ClassVar[str] = "rollout_engine"
    shares_weights: ClassVar[bool] = False
    """Whether it samples with the policy's own weights and code, so that log-probabilities are those of training."""
    takes_quantized: ClassVar[bool] = True
    """Whether it can sample from a policy with weights of fewer bits."""
    max_adapter_rank: ClassVar[int | None] = None
    """Largest rank of a LoRA adapter that it computes with; ``None`` for any."""
    min_temperature: ClassVar[float] = 0.0
    """Smallest sampling temperature above 0 that it takes as it is."""
    full_logprobs: ClassVar[bool] = True
    """Whether log-probabilities are those of the whole distribution where sampling leaves tokens out; otherwise they
    are then NaN."""
    rows_param: ClassVar[str] = ""
    """The parameter that bounds the sequences decoded together, where a larger group has its prompt computed again;
    empty where a group of any size shares its prompt."""
    unadapted: ClassVar[tuple[str, ...]] = ()
    """Names of layers with adapters that it cannot apply."""

    def reads_images(self) -> bool:
        """Whether it can sample from a policy that reads images."""
        return True

    def processes(self) -> int:
        """Return how many processes of its own it samples in; 0 for those that train."""
        return 0

    def apart(self) -> bool:
        """Whether it samples in processes of its own."""
        return self.processes() > 0

    def weights_dtype(self) -> str | None:
        """Return the data type of its own copy of the weights; ``None`` where it is that of the policy."""
        return None

    def memory_share(self) -> float | None:
        """Return the share of a device that its weights and KV cache fill; ``None`` where nothing bounds them."""
        return None

    def fills_rest(self) -> bool:
        """Whether a plan chooses its share of a device."""
        return False

    def with_share(self, share: float) -> Self | None:  # noqa: ARG002 - an engine with a share reads it
        """Return the engine with another share of a device, which is its parameter `memory`; None if it has none."""
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

    def gap_bound(self, dtype: str) -> float:
        """Return by how many nats its log-probabilities may differ from those of a policy of ``dtype``, on average.

        >>> [engine.gap_bound("float32") for engine in (Hf(), Vllm(dtype="bfloat16"), Vllm(max_gap=0.5))]
        [0.001, 0.1, 0.5]
        """
        return 0.001 if dtype == "float32" else 0.1

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


@component("rollout_engine", impl="recipec.runtime.rollout.vllm_engine:VllmEngine", uses=("policy",))
class Vllm(RolloutEngine):
    """Generate with vLLM, from a copy of the weights that is updated after each step.

    It runs in this process, or as `servers`: processes that are started for the run, or servers at given URLs. Servers
    read weights from the run directory, so that others need the same file system, and have to be started with
    `--enable-scale-out --logprobs-mode processed_logprobs --served-model-name policy` and `VLLM_SERVER_DEV_MODE=1`.
    Adapters need `--enable-lora --max-lora-rank R` and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`, too.
    Requests to a server that died or hangs are sent again.

    The log-probabilities of the copy are compared with the policy's after each update.

    References:
        Kwon et al., `Efficient Memory Management for Large Language Model Serving with PagedAttention
        <https://arxiv.org/abs/2309.06180>`_, 2023.
    """

    extra: ClassVar[str] = "vllm"
    preflight: ClassVar[str] = "recipec.runtime.rollout.vllm_engine:check"
    takes_quantized: ClassVar[bool] = False
    max_adapter_rank: ClassVar[int | None] = 512
    min_temperature: ClassVar[float] = 0.01
    full_logprobs: ClassVar[bool] = False
    unadapted: ClassVar[tuple[str, ...]] = ("embed_tokens", "lm_head")

    type: Literal["vllm"] = "vllm"
    tensor_parallel: int = param(1, "Number of devices that share a model (tensor parallelism).", unit="devices", ge=1)
    dtype: Literal["float32", "bfloat16"] | None = param(
        None, "Data type of its weights; that of the policy if omitted."
    )
    max_rows: int = param(256, "Maximum number of sequences decoded together.", unit="sequences", ge=1)
    max_context_length: int | None = param(
        None,
        "Maximum length of prompt and response; what the model's positions and the KV cache allow if omitted.",
        unit="tokens",
        ge=2,
    )
    memory: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = param(
        SHARE,
        "Share of a GPU's memory for the copy of the weights and the KV cache; `auto` is what the policy leaves on "
        "`machine.accelerator`.",
    )
    cpu_cache: float = param(1.0, "KV cache where there is no GPU.", unit="GiB", gt=0)
    sleep: bool = param(True, "On a GPU, release the memory while the policy is trained.")
    eager: bool = param(False, "Skip CUDA graphs: starts faster, samples slower. Without a GPU there are none.")
    max_gap: float | None = param(
        None,
        "Maximum mean difference of its log-probabilities to the policy's; 0.001 in float32, 0.1 in bfloat16 if "
        "omitted.",
        unit="nats",
        gt=0,
    )
    servers: Annotated[int, Field(ge=1)] | tuple[str, ...] = param(
        (), "Number of servers to start, or URLs of running ones; in this process if omitted."
    )
    deadline: float = param(
        600.0, "Time for one request to a server; one that takes longer is given up.", unit="s", gt=0
    )
    max_restarts: int = param(3, "Maximum number of servers that are started again in a stage.", unit="starts", ge=0)

    def load(self) -> Callable[..., Any]:
        """Import the class for engines in this process, or the one for servers."""
        return load_object(_SERVERS) if self.apart() else super().load()

    def reads_images(self) -> bool:
        """Whether it samples in this process: requests to servers have token ids alone.

        >>> Vllm().reads_images(), Vllm(servers=2).reads_images()
        (True, False)
        """
        return not self.apart()

    def processes(self) -> int:
        """Return the number of `servers`."""
        return self.servers if isinstance(self.servers, int) else len(self.servers)

    def elsewhere(self) -> bool:
        """Whether the `servers` are given by their URLs, so that nothing of vLLM is needed here."""
        return isinstance(self.servers, tuple) and bool(self.servers)

    def rows_together(self) -> int:
        """Return `max_rows`."""
        return self.max_rows

    def weights_dtype(self) -> str | None:
        """Return `dtype`."""
        return self.dtype

    def memory_share(self) -> float | None:
        """Return `memory`."""
        return None if isinstance(self.memory, str) else self.memory

    def with_share(self, share: float) -> Self:
        """Return the engine with another `memory`."""
        return self.model_copy(update={"memory": share})

    def fills_rest(self) -> bool:
        """Whether `memory` is to be chosen."""
        return isinstance(self.memory, str)

    def sleeps(self) -> bool:
        """Return `sleep`."""
        return self.sleep

    def weight_partitions(self) -> int:
        """Return `tensor_parallel`."""
        return self.tensor_parallel

    def gap_bound(self, dtype: str) -> float:
        """Return `max_gap`, or what rounding explains in the coarser one of both data types."""
        if self.max_gap is not None:
            return self.max_gap
        return super().gap_bound(dtype if self.dtype in {None, "float32"} else str(self.dtype))
