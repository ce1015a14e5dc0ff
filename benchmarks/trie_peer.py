"""Run the package `prefix-grouper` on the same rows, on a CPU.

The package is made for flash attention on a GPU; elsewhere, its README requires an adapter (here :func:`_adapter`).
``pg`` follows its documentation, where the head computes logits at every position; ``pg*`` computes logits of the
answers only.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from recipec.runtime.model.logprob_head import own_head

NAME = "prefix_grouper_sdpa"
HERE = find_spec("prefix_grouper") is not None


def register():
    """Register the package's attention, each of its two calls with torch's kernel, with transformers."""
    AttentionInterface.register(NAME, _attend)


def _attend(_module, query, key, value, _mask, *, prefix_grouper, scaling=None, **_):
    def adapter(q, k, v, valid):
        return _adapter(q, k, v, valid, scaling, prefix_grouper)

    return prefix_grouper.forward(adapter, query, key, value), None


def _adapter(q, k, v, valid, scaling, grouper):
    """Attend causally, aligned at the right, to the ``valid`` keys; masks are built once for all layers."""
    kept = grouper.__dict__.setdefault("masks", {})
    size = (q.shape[2], k.shape[2])
    if size not in kept:
        queries, keys = size
        at, own = torch.arange(keys), torch.arange(keys - queries, keys)[:, None]
        plain = queries == keys and bool(valid.all())
        # a padded query attends to itself: a softmax over no keys would be nan
        kept[size] = None if plain else (valid[:, None, None].bool() & (at <= own)) | (at == own)
    out = scaled_dot_product_attention(
        q, k, v, attn_mask=kept[size], is_causal=kept[size] is None, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2)


class Peer:
    """Log-probabilities of rows, computed by the package for all groups together or for one group at a time."""

    def __init__(self, model, rows, *, full, together):
        self.model, self.full = model, full
        groups = {}
        for place, row in enumerate(rows):
            groups.setdefault(tuple(row.ids[: row.prompt]), []).append(place)
        self.rows = rows
        self.parts = [list(groups.items())] if together else [[item] for item in groups.items()]

    def run(self, weight_RT):
        """Run forward and backward with these weights; return the log-probabilities of trained tokens."""
        found = {}
        for part in self.parts:
            order = [place for _, places in part for place in places]
            logprob, trained = self._part(part, order)
            weights = pad(weight_RT, (0, logprob.shape[1]))
            width = logprob.shape[1]
            weight = torch.stack([weights[r, self.rows[r].prompt : self.rows[r].prompt + width] for r in order])
            (logprob * weight * trained).sum().backward()
            for place, values, which in zip(order, logprob.detach(), trained, strict=True):
                found[place] = values[which]
        return torch.cat([found[place] for place in range(len(self.rows))])

    def _part(self, part, order):
        from prefix_grouper import PrefixGrouper

        prompts = [list(prompt) for prompt, _ in part]
        answers = [self.rows[r].ids[self.rows[r].prompt :] for r in order]
        (prompt, prompt_mask), (answer, answer_mask) = _padded(prompts), _padded(answers)
        grouper = PrefixGrouper.from_ungrouped_masks(prompt_mask, answer_mask, [len(places) for _, places in part])
        tokens = grouper.concat_input(prompt, prompt_mask, answer, answer_mask)
        positions = torch.zeros_like(tokens)
        for line, info in zip(positions, grouper.group_info, strict=True):
            ranges = [torch.arange(info.prefix_len)]
            ranges += [info.prefix_len + torch.arange(n) for n in info.suffix_lens]
            line[: info.total_len] = torch.cat(ranges)
        inputs = {"input_ids": tokens, "position_ids": positions, "prefix_grouper": grouper, "use_cache": False}
        made = self.model(**inputs).logits if self.full else self.model.model(**inputs).last_hidden_state
        _, _, made, mask = grouper.split_output(made, include_prefix_last=1)
        made, trained = made[:, :-1], mask[:, 1:].bool()
        for line, r in zip(trained, order, strict=True):
            own = torch.tensor(self.rows[r].trained[self.rows[r].prompt :])
            line[: len(own)] &= own
        if self.full:
            return made.gather(-1, answer[..., None])[..., 0] - made.logsumexp(-1), trained
        logits = own_head(self.model, made[trained])
        logprob = logits.gather(-1, answer[trained][:, None])[:, 0] - logits.logsumexp(-1)
        return torch.zeros(trained.shape).masked_scatter(trained, logprob), trained


def _padded(rows):
    width = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return tokens, torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
