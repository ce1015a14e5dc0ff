"""Compare the memory that a plan counts with the bytes of the tensors that a run holds.

    python benchmarks/planned_memory.py
    PLANNED_MEMORY_FOLDER=/tmp/pm torchrun --nproc-per-node 2 benchmarks/planned_memory.py fsdp 1
    PLANNED_MEMORY_FOLDER=/tmp/pm torchrun --nproc-per-node 2 benchmarks/planned_memory.py fsdp 1 2

A new Llama is trained on rows of full length, in float32 and bfloat16, with and without gradient checkpointing and an
adapter; with several processes one of these cases, by its number, in an empty folder, and with the number of processes
that share the tokens of a pass.  State is counted at the first
update: weights, gradients, the float32 copies and the moments of this process.
Activations are what autograd saves in the forward pass of a micro-batch; with checkpointing a plan also counts the
layer that is computed again.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

HIDDEN, LAYERS, POSITIONS, ROWS = 512, 6, 512, 4
ADAPTER = "\n      lora: {r: 16}"
RECIPE = """\
recipec: 1
name: planned
machine: {{devices: {devices}, device: cpu, train: {engine}}}
stages:
  learn:
    kind: sft
    from: scratch
    policy:
      dtype: {dtype}{lora}
      scratch: {{hidden_size: {hidden}, layers: {layers}, heads: 8, kv_heads: 4, intermediate_size: {inner},
                tokenizer: bytes, max_positions: {positions}, tie_embeddings: false}}
    attention: {{type: packed}}
    data: {{path: ./rows.jsonl, max_length: {positions}}}
    optimizer: {{learning_rate: 1.0e-5}}
    budget: {{steps: 1, rows_per_step: {rows}, microbatch_tokens: {tokens}}}
"""
CASES = (
    ("float32", "", False),
    ("bfloat16", "", False),
    ("bfloat16", "", True),
    ("bfloat16", ADAPTER, False),
)


def storage(tensor):
    """Return what holds a tensor in this process: of a shard its own part."""
    own = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return own.untyped_storage()


def size(tensors):
    """Bytes of tensors that are in this process; a storage that several share counts once."""
    held = [storage(tensor) for tensor in tensors]
    return sum({one.data_ptr(): one.nbytes() for one in held}.values())


def recipe(
    dtype,
    lora,
    *,
    checkpointing,
    engine="local",
    devices=1,
    hidden=HIDDEN,
    layers=LAYERS,
    positions=POSITIONS,
    spread=1,
):
    """Return a recipe with one update of one micro-batch in each process, or in each team of ``spread`` processes."""
    shared = f", sequence_parallel: {spread}" if spread > 1 else ""
    train = f"{{type: {engine}, gradient_checkpointing: {str(checkpointing).lower()}{shared}}}"
    return RECIPE.format(
        devices=devices, engine=train, dtype=dtype, lora=lora, hidden=hidden, layers=layers, positions=positions,
        rows=ROWS, tokens=ROWS * positions * spread // devices, inner=hidden * 11 // 4,
    )  # fmt: skip


def measured(folder, text, positions=POSITIONS):
    """Run a recipe; return what its plan counts and what was there."""
    import torch

    from recipec.cli.commands import app
    from recipec.runtime.training.local_engine import LocalEngine
    from recipec.runtime.training.optimizer import AdamW

    found, weights, saved = {}, set(), {}
    backward, step = LocalEngine.update, AdamW.step

    def keep(tensor):
        if storage(tensor).data_ptr() not in weights:
            saved[storage(tensor).data_ptr()] = storage(tensor).nbytes()
        return tensor

    def update(engine, *args, **keys):
        weights.update(storage(p).data_ptr() for p in engine.policy.model.parameters())
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            return backward(engine, *args, **keys)

    def at_step(optimizer, *args, **keys):
        named, masters = optimizer.named, optimizer.weights.masters
        found["weights"] = size(optimizer.policy.model.parameters())

        def count(*_):
            grads = [p.grad for p in named.values()] + [m.grad for m in masters.values()]
            found["gradients"] = size(g for g in grads if g is not None)

        hooks = [part.register_step_pre_hook(count) for part in optimizer.weights.optimizers]
        made = step(optimizer, *args, **keys)
        for hook in hooks:
            hook.remove()
        copies = [m for name, m in masters.items() if m is not named[name]]
        states = [state for part in optimizer.weights.optimizers for state in part.state.values()]
        moments = [v for state in states for v in state.values() if v.ndim]
        found["optimizer"] = size([*copies, *moments])
        return made

    row = {"prompt": "q" * (positions // 2), "completion": "a" * (positions // 2 - 1)}
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(ROWS)))
    LocalEngine.update, AdamW.step = update, at_step
    try:
        (folder / "r.yaml").write_text(text)
        app(["run", str(folder / "r.yaml"), "--out", str(folder / "out"), "--quiet"], standalone_mode=False)
    finally:
        LocalEngine.update, AdamW.step = backward, step
    found["activations"] = sum(saved.values())
    plan = json.loads((folder / "out" / "plan.json").read_text())["stages"][0]
    planned = {one["name"]: one["bytes"] for one in plan["memory"]}
    planned["weights"] += planned.get("adapter", 0.0)
    return planned, found


def main() -> None:
    """Print a table for each case; of several processes the first prints."""
    engine = sys.argv[1] if len(sys.argv) > 1 else "local"
    devices, leads = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK", "0") == "0"
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else None
    spread = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    for number, (dtype, lora, checkpointing) in enumerate(CASES):
        if chosen not in {None, number}:
            continue
        text = recipe(dtype, lora, checkpointing=checkpointing, engine=engine, devices=devices, spread=spread)
        place = os.environ.get("PLANNED_MEMORY_FOLDER")  # one folder for all processes
        folder = Path(place or tempfile.mkdtemp()) / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        planned, found = measured(folder, text)
        if leads:
            title = f"{dtype}{', adapter' if lora else ''}{', checkpointing' if checkpointing else ''}"
            print(f"{engine} on {devices}: {title}{f', tokens over {spread}' if spread > 1 else ''}")
            for name, held in found.items():
                print(f"  {name:<12} planned {planned[name] / 1e6:8.2f} MB  measured {held / 1e6:8.2f} MB  "
                      f"{planned[name] / held if held else 0:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
