"""Parts of the GPU check that measure: updates of long rows, shared prefixes, and GRPO steps with vLLM."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
import trie_gpu
from gpu_place import Place, SkipError, metrics, middle, write_rows
from gpu_proofs import EXPLORE, LORA, TRAIN
from trie_cases import batch_of, flat

from recipec.runtime.attention import flops

ADAPTER = ", lora: {r: 16, targets: all_linear}"


def updates(place: Place) -> dict[str, float]:
    """S1: tokens per second of updates of rows of 16,384 tokens: all of a 0.6B model, an adapter of a 4B one."""
    found: dict[str, float] = {}
    long = place.size(16384, 32)
    for title, model, more in (("0.6B", "small", ""), ("4B, adapter of rank 16", "large", ADAPTER)):
        name = f"updates-{model}"
        write_rows(place.folder / name / "rows.jsonl", 8, 1, long - 2, place.shape(model)["vocab_size"])
        text = TRAIN.format(model=place.model(model), dtype="bfloat16", more=more, steps=4, rows=2, tokens=long)
        settings = ("stages.learn.attention.type=packed", f"stages.learn.data.max_length={long}",
                    "machine.train.gradient_checkpointing=true")  # fmt: skip
        with place.peak() as peak:
            steps = metrics(place.run(name, text, *settings), "learn")
        seconds = middle(steps, "seconds/update")
        found |= {
            f"{title}: tokens per second": 2 * long / seconds,
            f"{title}: MFU": _operations(place, model, 2, long, frozen=bool(more)) / seconds / _peak_flops(place),
            f"{title}: GiB": peak["gib"],
        }
    return found


def _operations(place: Place, model: str, rows: int, long: int, *, frozen: bool) -> float:
    """Return the FLOPs of an update without what checkpointing computes again; those of adapters are left out."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(place.model(model)))
    made.requires_grad_(not frozen)
    return flops.required(flops.sizes(made), rows * long, rows * long * (long + 1) // 2, rows * long, backward=True)


def _peak_flops(place: Place) -> float:
    name = torch.cuda.get_device_name() if place.gpu else ""
    return next((peak for part, peak in trie_gpu.PEAK.items() if part in name), float("nan"))


def prefixes(place: Place) -> dict[str, float]:
    """S2: forward and backward of 32 answers to a prompt of 8,192 tokens, over the best of dense and packed rows."""
    bench = trie_gpu.Bench(place.device, trie_gpu.TINY if place.toy else trie_gpu.FULL, place.folder)
    policy = bench.policy(bench.scale.small, torch.bfloat16)
    prompt, answer, rows = (24, 4, 4) if place.toy else (8192, 1024, 32)
    batch = batch_of(flat(bench.text, prompt, [answer] * rows))
    dense, least = trie_gpu.minimal(policy, batch)
    took = trie_gpu.speed(bench, policy, batch, (1,))
    best = min(value for name, value in took.items() if name != "trie")
    return {
        "speed-up": best / took["trie"],
        "ideal": dense / least,
        "MFU of what is computed": bench.share(least, took["trie"]),
        "MFU, shared tokens counted for each row": bench.share(dense, took["trie"]),
    }


def steps(place: Place) -> dict[str, float]:
    """S3, S5, S6, S8: a GRPO step of a 0.6B model with vLLM on the same device, whole and in parts."""
    found = _explored(place, "steps", "")
    if place.gpu and importlib.util.find_spec("trl") is not None:
        found["TRL, colocated vLLM: step, s"] = trl_step(place)
    return found


def adapter_steps(place: Place) -> dict[str, float]:
    """S5 with an adapter: what it takes to hand over a new version of it."""
    return _explored(place, "adapter-steps", LORA)


def _explored(place: Place, name: str, more: str) -> dict[str, float]:
    engine = "{type: vllm, max_context_length: 1024, memory: 0.4}"
    if importlib.util.find_spec("vllm") is None:
        if place.gpu:
            raise SkipError("vLLM is not installed")
        engine = "{type: hf}"
    write_rows(place.folder / name / "rows.jsonl", 64, 64, 4, place.shape("small")["vocab_size"])
    text = EXPLORE.format(
        engine=engine, model=place.model("small"), dtype="bfloat16", more=more, length=place.size(512, 8),
        steps=place.size(5, 2), prompts=place.size(32, 2), tokens=place.size(16384, 512),
    )  # fmt: skip
    slept: dict[str, list[float]] = {"sleep": [], "wake": []}
    with place.peak() as peak, clocked_sleep(slept, place):
        made = metrics(place.run(name, text), "explore")
    found = {"GiB": peak["gib"]}
    for title, metric in {
        "step, s": "seconds/step",
        "rollout, s": "seconds/rollout",
        "update, s": "seconds/update",
        "weight transfer, s": "seconds/weight_transfer",
        "gap of log-probabilities, nats": "sampling/sampling_logp_difference/mean",
    }.items():
        found[title] = middle(made, metric)
    for act, seconds in slept.items():
        if seconds:
            found[f"{act}, s"] = sorted(seconds)[len(seconds) // 2]
    if slept["sleep"] and slept["wake"]:
        found["sleep and wake, share of a step"] = (found["sleep, s"] + found["wake, s"]) / found["step, s"]
    return found


@contextmanager
def clocked_sleep(slept: dict[str, list[float]], place: Place) -> Iterator[None]:
    """Note how long vLLM takes to fall asleep and to wake up: weights and cache together."""
    from recipec.runtime.rollout.vllm_engine import VllmEngine

    start = VllmEngine._start  # noqa: SLF001 - vLLM starts with the first weights

    def clock(act, function):
        def timed(*args, **keys):
            if place.gpu:
                torch.cuda.synchronize()
            began = time.perf_counter()
            function(*args, **keys)
            if place.gpu:
                torch.cuda.synchronize()
            if act == "wake" and args and args[0] == ["kv_cache"]:
                slept[act][-1] += time.perf_counter() - began  # the second half of waking up
            else:
                slept[act].append(time.perf_counter() - began)

        return timed

    def started(engine, rank):
        start(engine, rank)
        engine.llm.sleep = clock("sleep", engine.llm.sleep)
        engine.llm.wake_up = clock("wake", engine.llm.wake_up)

    with mock.patch.object(VllmEngine, "_start", started):
        yield


def trl_step(place: Place) -> float:
    """Return the median seconds of the same step with TRL's GRPOTrainer and vLLM on the same device."""
    import itertools
    import json
    import statistics
    import tempfile

    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            torch.cuda.synchronize()
            ends.append(time.perf_counter())

    rows = map(json.loads, (place.folder / "steps" / "rows.jsonl").read_text().splitlines())
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=5,
        per_device_train_batch_size=32,
        gradient_accumulation_steps=8,
        num_generations=8,
        max_completion_length=512,
        learning_rate=1e-6,
        beta=0.01,
        bf16=True,
        gradient_checkpointing=True,
        use_vllm=True,
        vllm_mode="colocate",
        vllm_gpu_memory_utilization=0.4,
        vllm_enable_sleep_mode=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    model = place.model("small")
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16),
        reward_funcs=lambda completions, **_: [float("7" in text) for text in completions],
        args=config,
        train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[Clock()],
    )
    trainer.train()
    return statistics.median(b - a for a, b in itertools.pairwise(ends))
