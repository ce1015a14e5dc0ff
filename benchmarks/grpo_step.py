"""Time a GRPO step of a tiny random Llama: recipec against TRL's GRPOTrainer, generation and update separately.

Both sides load the same weights and tokenizer, get the same prompts, and do the same work: a group of 8 completions
of one prompt, 64 new tokens, float32 on the CPU, one AdamW update, no reference model.
Each side runs in its own process, in turns; the figures are medians over the steps of all turns.

    python benchmarks/grpo_step.py --trl-python ENV/bin/python

ENV is an environment with ``trl==1.16.0``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GROUP, NEW_TOKENS, PROMPT_TOKENS, VOCABULARY = 8, 64, 24, 4096
LEARNING_RATE, WARM = 1e-5, 2
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}


def prompts(count):
    return [
        " ".join(f"w{2 + (37 * i + 11 * t) % (VOCABULARY - 2)}" for t in range(PROMPT_TOKENS)) for i in range(count)
    ]


def score(text):
    """Reward: the share of sevens, which differs between completions."""
    return text.count("7") / (1 + len(text))


def now():
    """Return wall seconds and CPU seconds; other processes disturb the latter less."""
    return time.perf_counter(), time.process_time()


def since(began, ended):
    return [b - a for a, b in zip(began, ended, strict=True)]


def write_model(folder):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", *(f"w{i}" for i in range(2, VOCABULARY))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, words[0]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<eos>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(folder)


def run_trl(folder, steps):
    """Run TRL; generation is the time of ``_generate``, with encoding and decoding."""
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    ends, generation = [], []

    class Timed(GRPOTrainer):
        def _generate(self, *args, **kwargs):
            began = now()
            found = super()._generate(*args, **kwargs)
            generation.append(since(began, now()))
            return found

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            ends.append(now())

    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps + WARM,
        per_device_train_batch_size=GROUP,
        gradient_accumulation_steps=1,
        num_generations=GROUP,
        max_completion_length=NEW_TOKENS,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        beta=0.0,
        temperature=1.0,
        gradient_checkpointing=False,
        disable_tqdm=True,
        seed=0,
    )
    trainer = Timed(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        reward_funcs=lambda completions, **_: [score(c) for c in completions],
        args=config,
        train_dataset=Dataset.from_dict({"prompt": prompts(64)}),
        processing_class=AutoTokenizer.from_pretrained(folder),
        callbacks=[Clock()],
    )
    trainer.train()
    step = [since(a, b) for a, b in itertools.pairwise(ends)][WARM - 1 :]
    lengths = [entry["completions/mean_length"] for entry in trainer.state.log_history if "reward" in entry]
    return {
        "name": f"trl {trl.__version__}",
        "step": step,
        "generation": generation[WARM:],
        "length": statistics.mean(lengths[WARM:]),
    }


def run_ours(folder, steps):
    """Run the components of the step in the order of the graph: no old-policy pass, no reference pass."""
    import torch

    from recipec.runtime.attention.dense import DenseAttention
    from recipec.runtime.batch import Task
    from recipec.runtime.context import StageContext
    from recipec.runtime.model.causal_lm import CausalLm
    from recipec.runtime.model.origin import Origin
    from recipec.runtime.objective import advantage, compiler_ops, loss
    from recipec.runtime.rollout.chain import ChainSampler
    from recipec.runtime.rollout.hf_engine import HfEngine
    from recipec.runtime.training.optimizer import AdamW
    from recipec.spec import advantage as credit, attention, loss as objective, machine, optimizer, policy, sampler

    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    context = StageContext(root=folder, cache=folder, seed=0, stage="bench")
    model = CausalLm(policy.CausalLm(), context, Origin("directory", str(folder)))
    model.use(DenseAttention(attention.Dense(), context))
    engine = HfEngine(machine.Hf(), context, policy=model)
    sampling = sampler.Chain(num_generations=GROUP, max_completion_length=NEW_TOKENS)
    chain = ChainSampler(sampling, context, policy=model, rollout_engine=engine)
    update = AdamW(optimizer.Adamw(learning_rate=LEARNING_RATE), context, policy=model)
    update.bind(steps + WARM)
    grouped, clipped = credit.GroupRelative().params(), objective.Clipped().params()
    tasks = [Task(i, text, tuple(model.encode(text))) for i, text in enumerate(prompts(64))]
    found = {"step": [], "generation": [], "length": []}
    for number in range(steps + WARM):
        began = now()
        rows = chain([tasks[number % len(tasks)]], step=number)
        drawn = now()
        reward_R = torch.tensor([score(text) for text in rows["text_R"]], dtype=torch.float64)
        by_R = rows["by_prompt_R"]
        credit_R = advantage.group_relative(reward_R, by_R, rows["error_R"], None, **grouped)["advantage_R"]
        credit_RT = compiler_ops.broadcast(credit_R, rows["trained_RT"])["advantage_RT"]
        weight_RT = compiler_ops.weigh(rows["trained_RT"], aggregate="token_mean")["weight_RT"]
        model.train()
        scored = model.logprobs(rows["tokens_RT"], rows["attend_RT"], rows["trained_RT"])
        logprob_RT, given = scored["logprob_RT"], (rows["trained_RT"], rows["turn_RT"], weight_RT)
        made = loss.clipped(logprob_RT, logprob_RT.detach(), credit_RT, *given, None, None, None, None, **clipped)
        made["loss"].backward()
        update.step([], number)
        engine.forget()
        ended = now()
        if number >= WARM:
            found["step"].append(since(began, ended))
            found["generation"].append(since(began, drawn))
            found["length"].append(float(rows["trained_RT"].sum()) / GROUP)
    return {"name": "recipec", **found, "length": statistics.mean(found["length"])}


def turn(python, side, folder, steps, threads):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [python, __file__, "--side", side, "--folder", str(folder), "--steps", str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(options):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder)
        turns = {"ours": [], "trl": []}
        for _ in range(options.turns):
            turns["ours"].append(turn(sys.executable, "ours", folder, options.steps, options.threads))
            turns["trl"].append(turn(options.trl_python, "trl", folder, options.steps, options.threads))
    return {
        "threads": options.threads,
        "steps": options.steps,
        "turns": options.turns,
        "names": [turns[side][0]["name"] for side in turns],
        "mean_length": [statistics.mean(t["length"] for t in turns[side]) for side in turns],
        **{f"{clock}_ms": medians(turns, i) for i, clock in enumerate(("wall", "cpu"))},
    }


def medians(turns, clock):
    """Return medians in milliseconds for each phase: ours, TRL, and their ratio."""
    found = {}
    for phase in ("generation", "update", "step"):
        sides = []
        for side in ("ours", "trl"):
            pairs = [(s[clock], g[clock]) for t in turns[side] for s, g in zip(t["step"], t["generation"], strict=True)]
            values = {
                "generation": [g for _, g in pairs],
                "update": [s - g for s, g in pairs],
                "step": [s for s, _ in pairs],
            }
            sides.append(1e3 * statistics.median(values[phase]))
        found[phase] = [*sides, sides[0] / sides[1]]
    return found


def table(result):
    names, threads = result["names"], result["threads"]
    rows = [f"| ms, {threads} thread(s) | {names[0]} | {names[1]} | ratio |", "|---|---|---|---|"]
    for clock in ("wall", "cpu"):
        figures = result[f"{clock}_ms"].items()
        rows += [
            f"| {phase}, {clock} | {ours:.1f} | {trl:.1f} | {ratio:.2f} |" for phase, (ours, trl, ratio) in figures
        ]
    ours, trl = result["mean_length"]
    return "\n".join([*rows, f"| mean length, tokens | {ours:.1f} | {trl:.1f} | |"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trl-python", default=sys.executable, help="Python of an environment with trl")
    parser.add_argument("--steps", type=int, default=15, help="timed steps per turn")
    parser.add_argument("--turns", type=int, default=3, help="turns of each side, one process each")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each side")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--side", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps({"ours": run_ours, "trl": run_trl}[options.side](options.folder, options.steps)))
        return
    result = compare(options)
    print(table(result))
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
