"""Small image-text models of each family, noise to show them, and rows of conversations about it."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from support.policies import SCRATCH, dense_policy

from recipec.runtime.batch import Batch, pad_rows
from recipec.runtime.context import StageContext
from recipec.runtime.model.origin import Origin
from recipec.runtime.vision.vision_lm import VisionLm
from recipec.spec import attention as attentions, policy as specs

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3")
SIZES = {
    "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "intermediate_size": 48, "max_positions": 320,
    "image_size": 24, "patch_size": 4, "vision_heads": 2,
}  # fmt: skip


def build(
    root: Path, family: str = "qwen2_vl", origin: Origin | None = None, device: str = "cpu", **params
) -> VisionLm:
    """Build or load a policy; a new one has weights so large that attention matters."""
    context = StageContext(root, root / "cache", 0, "s", device=torch.device(device))
    if origin is None:
        params["scratch"] = specs.VisionScratch(architecture=family, **SIZES)
    policy = dense_policy(specs.VisionLm(**params), context, origin or SCRATCH)
    if origin is None:
        draw = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                if ".lora_" not in name:
                    parameter.add_((0.1 * torch.randn(parameter.shape, generator=draw)).to(parameter.dtype))
    return policy


@cache
def noise(seed: int, width: int = 24, height: int = 16) -> Image.Image:
    """Return an image of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def ask(count: int, text: str = "what?") -> list[dict]:
    """Return a conversation that shows so many images."""
    return [{"role": "user", "content": [*({"type": "image"} for _ in range(count)), {"type": "text", "text": text}]}]


def conversations(policy: VisionLm) -> tuple[Batch, list]:
    """Lay out rows with two images, one, none, and the same words about another image; each with what it shows."""
    one, other = policy.picture(noise(0), "one.png"), policy.picture(noise(1, 16, 24), "other.png")
    rows = [
        (policy.render(ask(len(shown), text), images=shown) + policy.encode(answer), shown)
        for shown, text, answer in (
            ([one], "what?", "yes"),
            ([one], "what?", "no, yes"),
            ([other], "what?", "yes"),
            ([one, other], "same?", "no"),
            ([], "hello", "you"),
        )
    ]
    tokens_RT = pad_rows([ids for ids, _ in rows], torch.int64)
    lengths_R = torch.tensor([len(ids) for ids, _ in rows])
    attend_RT = torch.arange(tokens_RT.shape[1]) < lengths_R[:, None]
    shown = {policy.shown, *one.tokens}
    marks_RT = torch.tensor([[token in shown for token in row] for row in tokens_RT.tolist()])
    batch = Batch(
        tokens_RT=tokens_RT,
        attend_RT=attend_RT,
        trained_RT=attend_RT & ~marks_RT,
        pixels_I=[picture for _, found in rows for picture in found],
        image_row_I=torch.tensor([row for row, (_, found) in enumerate(rows) for _ in found]),
    )
    return batch, rows


def columns(batch: Batch) -> dict:
    """Return the columns of a batch that the policy takes."""
    return {name: batch[name] for name in ("tokens_RT", "attend_RT", "trained_RT", "pixels_I", "image_row_I")}


def use(policy: VisionLm, kind: str) -> None:
    """Let a policy compute by an attention."""
    spec = {"dense": attentions.Dense, "packed": attentions.Packed, "trie": attentions.Trie}.get(
        kind, attentions.SharedPrefix
    )()
    policy.set_attention(spec.load()(spec, policy.context))


def scored(policy: VisionLm, batch: Batch) -> torch.Tensor:
    """Log-probabilities of the trained tokens."""
    return policy.logprobs(**columns(batch), entropy=False)["logprob_RT"].cpu()[batch["trained_RT"]]


def gradients(policy: VisionLm, batch: Batch) -> dict[str, torch.Tensor]:
    """Gradients of a fixed random sum of the log-probabilities, by parameter."""
    policy.model.zero_grad()
    found = scored(policy, batch)
    weight = torch.randn(len(found), generator=torch.Generator().manual_seed(0))
    (found * weight).sum().backward()
    return {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}


def stock_of(policy: VisionLm, batch: Batch, rows: list) -> torch.Tensor:
    """Log-probabilities of the trained tokens by the stock model's own forward, a row at a time."""
    found = []
    for row, (ids, shown) in enumerate(rows):
        given = {}
        for name in shown[0].inputs if shown else ():
            given[name] = torch.cat([p.inputs[name] for p in shown], 0 if policy.family.turns else 1)
        if policy.family.turns and shown:
            given["mm_token_type_ids"] = (torch.tensor([ids]) == policy.shown).int()
        logits = policy.model(input_ids=torch.tensor([ids]), use_cache=False, **given).logits[0, :-1]
        logprob = torch.log_softmax(logits.float(), -1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
        found.append(logprob[batch["trained_RT"][row, 1 : len(ids)]])
    return torch.cat(found)
