"""Parts of the GPU check that have to hold before anything is timed; each returns its figures or raises WrongError."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
import trie_gpu
from gpu_place import Place, SkipError, WrongError, metrics, middle, write_rows
from safetensors.torch import load_file
from trie_cases import batch_of, tree

from recipec.runtime.attention.kernels import flash, flex, reference
from recipec.runtime.distributed.process_group import alone
from recipec.runtime.training import fsdp_engine
from recipec.runtime.training.local_engine import LocalEngine

RULE = 2.0
"""Largest error of a bfloat16 kernel, as a multiple of that of plain bfloat16 products."""
EXACT = 1e-4
"""Largest error in float32, where only the order of sums differs."""
NF4 = 0.02
"""Largest mean difference of log-probabilities between NF4 weights and what they stand for, in nats."""
TRAIN = """\
recipec: 1
name: gpu
stages:
  learn:
    kind: sft
    from: {model}
    policy: {{type: causal_lm, dtype: {dtype}{more}}}
    data: {{path: ./rows.jsonl}}
    optimizer: {{learning_rate: 1.0e-4}}
    budget: {{steps: {steps}, rows_per_step: {rows}, microbatch_tokens: {tokens}}}
"""
EXPLORE = """\
recipec: 1
name: gpu
machine: {{rollout: {engine}, train: {{gradient_checkpointing: true}}}}
stages:
  explore:
    kind: rl
    from: {model}
    policy: {{type: causal_lm, dtype: {dtype}{more}}}
    data: {{path: ./rows.jsonl}}
    sampler: {{num_generations: 8, max_completion_length: {length}}}
    reward: {{shape: {{type: regex_format, pattern: ".*7.*"}}}}
    advantage: {{group: {{type: group_relative}}}}
    loss: {{type: clipped, beta: 0.01}}
    optimizer: {{learning_rate: 1.0e-6}}
    budget: {{steps: {steps}, prompts_per_step: {prompts}, microbatch_tokens: {tokens}}}
"""
LORA = ", lora: {r: 16, targets: [q_proj, k_proj, v_proj, o_proj]}"


def kernels(place: Place) -> dict[str, float]:
    """Compare each flash kernel of this machine with plain products, through a prefix tree; outputs and gradients."""
    device = torch.device(place.device)
    found: dict[str, float] = {}
    sides = {"CPU": flash.Cpu()} if not place.gpu else {"torch": flash.Torch()}
    if place.gpu and importlib.util.find_spec("flash_attn") is not None:
        sides["flash-attn"] = flash.Package()
        found["flash-attn is used"] = float(isinstance(flash.kernel(device), flash.Package))
    bench = trie_gpu.Bench(place.device, trie_gpu.TINY if place.toy else trie_gpu.FULL, place.folder)
    for name, side in sides.items():
        with mock.patch.object(flash, "kernel", lambda _device, side=side: side):
            found[f"{name}: error / that of plain bfloat16"] = ratio = trie_gpu.kernels_agree(bench)
        if not ratio <= RULE:
            raise WrongError(f"the flash kernel of {name} is {ratio:.2f} times as far off as plain bfloat16 products")
    found["flex: error / that of plain bfloat16"] = ratio = _flex(bench, backward=place.gpu)
    if not ratio <= RULE:
        raise WrongError(f"flex attention is {ratio:.2f} times as far off as plain bfloat16 products")
    return found


def _flex(bench: trie_gpu.Bench, *, backward: bool) -> float:
    """Return the error of flex attention over that of plain products; its backward pass needs a GPU."""
    merged = trie_gpu.merge(batch_of(tree(bench.text, **bench.scale.tree)[:6]))
    drawn = torch.Generator().manual_seed(1)
    shapes = [(heads, merged.size, 64) for heads in (4, 2, 2)]
    exact = [torch.randn(shape, generator=drawn, dtype=torch.float64).to(bench.device) for shape in shapes]
    layer = reference.Layer(64**-0.5)

    def run(attend, dtype):
        given = [tensor.to(dtype).requires_grad_(backward) for tensor in exact]
        out = attend(*given)
        grads = torch.autograd.grad(out, given, torch.ones_like(out)) if backward else ()
        return [tensor.detach().double() for tensor in (out, *grads)]

    def plain(q, k, v):
        return reference.by_mask(q, k, v, merged, layer, stock=False)

    expected, low = run(plain, torch.float64), run(plain, torch.bfloat16)
    found = run(lambda q, k, v: flex.attend(q, k, v, merged, layer), torch.bfloat16)
    return max(trie_gpu.off(f, e) / trie_gpu.off(x, e) for f, e, x in zip(found, expected, low, strict=True))


def models(place: Place) -> dict[str, float]:
    """Compare a whole model over a prefix tree with dense rows: log-probabilities and gradients."""
    bench = trie_gpu.Bench(place.device, trie_gpu.TINY if place.toy else trie_gpu.FULL, place.folder)
    exact, low = trie_gpu.models_agree(bench)
    if not (exact <= EXACT and low <= trie_gpu.WORSE):
        raise WrongError(f"prefix tree and dense rows: {exact:.1e} in float32, {low:.2f} in bfloat16")
    return {"float32: largest error": exact, "bfloat16: error / that of dense rows": low}


def narrow(place: Place) -> dict[str, float]:
    """Compare log-probabilities of NF4 weights with those of the bfloat16 weights that they stand for."""
    from recipec.runtime.attention.dense import DenseAttention
    from recipec.runtime.context import StageContext
    from recipec.runtime.model import quantization
    from recipec.runtime.model.causal_lm import CausalLm
    from recipec.runtime.model.origin import Origin
    from recipec.spec import attention, policy

    if why := quantization.problem(place.device):
        raise SkipError(why)
    context = StageContext(root=place.folder, cache=place.folder, seed=0, stage="learn")
    origin = Origin("directory", str(place.model("small")))
    lora = policy.Lora(r=16, targets=("q_proj", "v_proj"))
    small = CausalLm(policy.CausalLm(dtype="bfloat16", quantization="nf4", lora=lora), context, origin)
    whole = CausalLm(policy.CausalLm(dtype="bfloat16"), context, origin)
    state = {name.replace("base_model.model.", ""): tensor for name, tensor in small.model.state_dict().items()}
    whole.model.load_state_dict(quantization.restored(small.model, state), strict=False)
    tokens_RT = torch.randint(2, place.shape("small")["vocab_size"], (4, place.size(256, 16)))
    all_RT = torch.ones_like(tokens_RT, dtype=torch.bool)
    made = []
    for one in (small, whole):
        one.use(DenseAttention(attention.Dense(), context))
        with torch.no_grad():
            made.append(one.logprobs(tokens_RT, all_RT, all_RT, entropy=False)["logprob_RT"].cpu())
    gap = float((made[0] - made[1]).abs().mean())
    if not gap <= NF4:
        raise WrongError(f"NF4 weights give log-probabilities that are {gap:.3f} nats off on average")
    return {"mean difference, nats": gap}


def sampler(place: Place) -> dict[str, float]:
    """Sample with vLLM, with all weights and with an adapter: a run stops where log-probabilities differ (RC787).

    On a GPU the engine sleeps during each update, so that the steps after it show what waking up restores.
    """
    if importlib.util.find_spec("vllm") is None:
        raise SkipError("vLLM is not installed")
    found = {}
    for name, dtype, more in (("float32", "float32", ""), ("bfloat16", "bfloat16", ""), ("LoRA", "bfloat16", LORA)):
        home = place.folder / f"vllm-{name}"
        write_rows(home / "rows.jsonl", 16, 12, 4, place.shape("small")["vocab_size"])
        text = EXPLORE.format(
            engine="{type: vllm, max_context_length: 256, memory: 0.3, eager: true}",
            model=place.model("small"), dtype=dtype, more=more, length=place.size(64, 8), steps=3, prompts=4,
            tokens=place.size(8192, 256),
        )  # fmt: skip
        steps = metrics(place.run(f"vllm-{name}", text), "explore")
        found[f"{name}: after the last transfer, nats"] = steps[-1]["sampling/probe_logp_difference"]
        found[f"{name}: of sampled tokens, nats"] = middle(steps, "sampling/sampling_logp_difference/mean")
    return found


def shards(place: Place) -> dict[str, float]:
    """Train on one rank in shards of FSDP2 and of ZeRO-3, and compare the weights with those of `local`."""
    text = TRAIN.format(model=place.model("small"), dtype="float32", more="", steps=3, rows=2,
                        tokens=place.size(4096, 256))  # fmt: skip
    runs = {}
    for name in ("local", "fsdp", "zero3"):
        write_rows(place.folder / f"shards-{name}" / "rows.jsonl", 8, 8, place.size(504, 24), 90)
    runs["local"] = place.run("shards-local", text)
    with sharded_alone() as spread:
        runs["fsdp"] = place.run("shards-fsdp", text, "machine.train.type=fsdp")
    if not spread:
        raise WrongError(f"nothing was sharded; delete {runs['fsdp']} to run it again")
    if importlib.util.find_spec("deepspeed") is not None:
        # offload makes DeepSpeed partition on one rank, too
        train = "machine.train={type: deepspeed, zero: 3, offload: true}"
        runs["zero3"] = place.run("shards-zero3", text, train)
    found = {f"{name}: largest difference": _apart(runs["local"], run) for name, run in runs.items() if name != "local"}
    if not max(found.values()) <= EXACT:
        raise WrongError(f"shards and whole weights differ: {found}")
    return found


@contextmanager
def sharded_alone() -> Iterator[list[object]]:
    """Let FSDP2 shard on one rank, which otherwise trains like `local`; yield what was sharded."""
    spread: list[object] = []

    def begin(engine, spec, context, *, policy, optimizer):
        LocalEngine.__init__(engine, spec, context, policy=policy, optimizer=optimizer)
        alone()
        policy.layout = fsdp_engine.ShardedWeights(policy.model, spec, 1)
        spread.append(policy.layout)

    with mock.patch.object(fsdp_engine.FsdpEngine, "__init__", begin):
        yield spread
    if dist.is_initialized():
        dist.destroy_process_group()


def _apart(one: Path, other: Path) -> float:
    """Return the largest difference of a weight between two runs."""
    mine, its = (
        {name: tensor for file in sorted((run / "stages" / "learn" / "policy").glob("*.safetensors"))
         for name, tensor in load_file(file).items()}
        for run in (one, other)
    )  # fmt: skip
    if mine.keys() != its.keys():
        raise WrongError(f"weights have other names: {sorted(mine.keys() ^ its.keys())[:3]}")
    return max(float((mine[name].double() - its[name].double()).abs().max()) for name in mine)
