"""Time a GRPO step of a tiny random Llama: recipec against TRL's GRPOTrainer, generation and update separately.

Both sides load the same weights and tokenizer, get the same prompts, and do the same work: a group of 8 completions
of one prompt, 64 new tokens, float32 on the CPU, one AdamW update, no reference model.
Ours is the whole of ``recipec run``, with samples, metrics, report and a checkpoint every 10 steps; TRL saves nothing.
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


SCORE = 'text.count("7") / (1 + len(text))'
"""Reward: the share of sevens, which differs between completions."""
RECIPE = f"""
recipec: 1
name: grpo_step
use: [./rewards.py]
stages:
  explore:
    kind: rl
    from: ./model
    data: {{path: prompts.jsonl}}
    sampler: {{num_generations: {GROUP}, max_completion_length: {NEW_TOKENS}}}
    reward: {{sevens: {{type: function, name: score}}}}
    advantage: {{group: {{type: group_relative}}}}
    loss: {{type: clipped, beta: 0.0}}
    optimizer: {{learning_rate: {LEARNING_RATE}}}
    budget: {{steps: 1, prompts_per_step: 1, save_every: 10}}
"""


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


def write_recipe(home):
    lines = (json.dumps({"prompt": text}) + "\n" for text in prompts(64))
    (home / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (home / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    (home / "rewards.py").write_text(f"def score(completions):\n    return [{SCORE} for text in completions]\n")


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
        reward_funcs=lambda completions, **_: [text.count("7") / (1 + len(text)) for text in completions],
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
    """Run the recipe as `recipec run` does: journal, samples, metrics, report and checkpoints are in the time."""
    import recipec
    from recipec.runtime.rollout.hf_engine import HfEngine

    ends, generation, lengths = [], [], []
    generate = HfEngine.generate

    def timed(self, *args):
        began = now()
        found = generate(self, *args)
        generation.append(since(began, now()))
        return found

    def on_step(_stage, _step, _total, metrics):
        ends.append(now())
        lengths.append(metrics["completions/mean_length"])

    HfEngine.generate = timed
    home = folder.parent
    with tempfile.TemporaryDirectory(dir=home) as out:
        recipec.run(
            home / "recipe.yaml",
            [f"stages.explore.budget.steps={steps + WARM}"],
            out=Path(out) / "run",
            use=[home / "rewards.py"],
            on_step=on_step,
        )
    step = [since(a, b) for a, b in itertools.pairwise(ends)][WARM - 1 :]
    return {
        "name": f"recipec {recipec.__version__}",
        "step": step,
        "generation": generation[-len(step) :],
        "length": statistics.mean(lengths[WARM:]),
    }


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
        folder = Path(name) / "model"
        write_model(folder)
        write_recipe(folder.parent)
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
