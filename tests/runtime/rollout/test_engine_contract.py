"""What every rollout engine does: the same tests over `hf` and, where it is installed, over `vllm`.

The bounds are those of float32 on a CPU.
"""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.policies import dense_policy

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.rollout.engine import Request, SamplingParams
from recipec.runtime.rollout.rows import sampled_columns
from recipec.runtime.rollout.weight_transfer import WeightTransfer
from recipec.spec.policy import CausalLm, Lora, Scratch
from recipec.spec.rollout_engine import Hf, Vllm

INSTALLED = importlib.util.find_spec("vllm") is not None
VLLM = pytest.param(
    Vllm(cpu_cache=0.05, max_rows=64),
    id="vllm",
    marks=[
        pytest.mark.engines,
        pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed: make test-engines"),
        pytest.mark.filterwarnings("ignore"),  # libraries of vLLM warn of each other
    ],
)
ENGINES = [pytest.param(Hf(max_rows=8), id="hf"), VLLM]
PROMPTS = [(10, 11, 12, 13, 14), (20, 21), tuple(range(30, 42))]
TEMPERATURE = 0.7


class Sampling:
    """A policy with an engine that samples from it, as a stage has them."""

    def __init__(self, spec, left_out="", **policy):
        context = StageContext(root=Path(), cache=Path(), seed=0, stage="explore", temperature=TEMPERATURE)
        model = Scratch(hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=64, max_positions=64)
        self.policy = dense_policy(CausalLm(scratch=model, **policy), context)
        self.move(4.0)  # sharp distributions
        self.engine = spec.load()(spec, context, policy=self.policy)
        self.left_out = left_out
        """A part of the names of weights that the engine is not given."""
        trainer = SimpleNamespace(weights=self.weights)
        self.transfer = WeightTransfer(spec, self.engine, trainer, self.policy, context)
        self.transfer.update()

    def weights(self):
        """Yield the weights as a training engine does."""
        for name, weight in self.policy.model.state_dict().items():
            if not self.left_out or self.left_out not in name:
                yield name, weight

    @torch.no_grad()
    def move(self, factor, named=""):
        """Multiply the trained matrices with a name."""
        for name, weight in self.policy.trainable_parameters().items():
            if named in name and weight.ndim > 1:
                weight.mul_(factor)

    def write(self, samples=3, prompts=PROMPTS, **params):
        """Complete the prompts, with a key for each completion."""
        requests = [Request(p, tuple((0, "x", i, s) for s in range(samples)), i) for i, p in enumerate(prompts)]
        params = {"max_length": 20, "temperature": TEMPERATURE, **params}
        return self.engine.generate(requests, SamplingParams(**params))

    def text(self, ids):
        """Decode with control tokens."""
        return self.policy.tokenizer.decode(list(ids))

    @torch.no_grad()
    def gap(self, groups, prompts=PROMPTS):
        """Largest difference of the log-probabilities to those of the trainer, in nats."""
        rows = [(prompt, one) for prompt, group in zip(prompts, groups, strict=True) for one in group]
        made = sampled_columns(rows)
        found = self.policy.logprobs(made["tokens_RT"], made["attend_RT"], made["trained_RT"], entropy=False)
        return float((found["logprob_RT"] - made["sampler_logprob_RT"])[made["trained_RT"]].abs().max())


@pytest.fixture(scope="module", params=ENGINES)
def sampling(request):
    """One engine for all tests that leave the weights alone."""
    made = Sampling(request.param)
    yield made
    made.engine.close()


@pytest.fixture(params=ENGINES)
def moving(request):
    """An engine of the test's own."""
    made = Sampling(request.param)
    yield made
    made.engine.close()


def test_ids_are_kept_as_sampled(sampling):
    """A completion ends with the stop token, which is kept, or at the limit; no stop token is inside."""
    stops = set(sampling.policy.stop_ids)
    found = [one for group in sampling.write(40) for one in group]
    assert {one.ended for one in found} == {True, False}
    for one in found:
        assert len(one.ids) == len(one.logprob)
        assert not stops & set(one.ids[:-1])
        assert one.ended == (one.ids[-1] in stops)
        assert one.ended or len(one.ids) == 20


def test_logprobs_are_the_trainers(sampling):
    """They are of the whole distribution at the sampling temperature; at 0 the likeliest token is taken."""
    assert sampling.gap(sampling.write()) < 1e-5
    greedy = sampling.write(2, temperature=0.0)
    assert all(one.ids == other.ids for one, other in greedy)
    with torch.no_grad():
        logits = sampling.policy.model(torch.tensor([PROMPTS[0]])).logits[0, -1].float()
    assert greedy[0][0].ids[0] == int(logits.argmax())
    assert greedy[0][0].logprob[0] == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-5)


def test_a_row_depends_on_its_prompt_and_key_alone(sampling):
    """The same key gives the same row in a larger batch, alone, in another order, and in a group of one."""
    whole = sampling.write(4)
    keys = [tuple((0, "x", i, s) for s in range(4)) for i in range(3)]
    params = SamplingParams(20, temperature=TEMPERATURE)
    turned = sampling.engine.generate([Request(PROMPTS[i], keys[i][::-1], i) for i in (2, 1, 0)], params)
    assert [group[::-1] for group in turned[::-1]] == whole
    for i, s in ((0, 3), (2, 1)):
        ((alone,),) = sampling.engine.generate([Request(PROMPTS[i], (keys[i][s],), i)], params)
        assert alone.ids == whole[i][s].ids
    assert len({one.ids for group in whole for one in group}) > 10


def test_stop_texts_end_a_completion_at_the_token_that_completes_them(sampling):
    """The row is the beginning of the one without stop texts; it ends even before the shortest allowed length."""
    free = sampling.write(12)
    texts = tuple({sampling.text(one.ids[3:5]) for group in free for one in group[:3]})
    for least in (0, 12):
        found = sampling.write(12, stop=texts, min_length=least)
        stopped = [one for group in found for one in group if any(text in sampling.text(one.ids) for text in texts)]
        assert len(stopped) >= 3
        for one in stopped:
            assert one.ended
            assert not any(text in sampling.text(one.ids[:-1]) for text in texts)
        if not least:
            assert sampling.gap(found) < 1e-5
            for group, others in zip(free, found, strict=True):
                assert all(one.ids[: len(other.ids)] == other.ids for one, other in zip(group, others, strict=True))


def test_lengths(sampling):
    """No end before the shortest length, none after the longest of the request or the last position of the model."""
    found = [one for group in sampling.write(30, min_length=6) for one in group]
    assert min(len(one.ids) for one in found) >= 6
    params = SamplingParams(60, temperature=TEMPERATURE, min_length=60)
    short, long = sampling.engine.generate(
        [Request((5, 6), ((0,),), max_length=3), Request(tuple(range(10, 60)), ((1,),))], params
    )
    assert [len(short[0].ids), len(long[0].ids)] == [3, 14]
    for prompt in ((), tuple(range(10, 74))):
        with pytest.raises(RecipeError) as refused:
            sampling.engine.generate([Request(prompt, ((0,),), 7)], params)
        assert refused.value.diagnostics[0].code == "RC783"
        assert "task 7" in refused.value.diagnostics[0].message


def test_more_prompts_than_a_forward_pass_takes(sampling):
    """A batch that is read in several passes gives what its last prompt gives alone."""
    prompts = [tuple((i * j) % 90 + 3 for j in range(1, 61)) for i in range(1, 61)]
    found = sampling.write(1, prompts, max_length=3)
    assert sampling.gap(found, prompts) < 1e-5
    key = (0, "x", len(prompts) - 1, 0)
    alone = sampling.engine.generate([Request(prompts[-1], (key,))], SamplingParams(3, temperature=TEMPERATURE))
    assert alone[0][0].ids == found[-1][0].ids


@pytest.mark.parametrize("cut", [{"top_p": 0.6}, {"top_k": 3}, {"min_p": 0.3}, {"min_length": 4}], ids=str)
def test_logprobs_where_tokens_are_left_out(sampling, cut):
    """They are those of the whole distribution, or NaN from an engine that knows only those of what is left."""
    found = sampling.write(**cut)
    if sampling.transfer.spec.full_logprobs:
        assert sampling.gap(found) < 1e-5
    else:
        assert all(math.isnan(value) for group in found for one in group for value in one.logprob)
    if "top_k" in cut:
        logits = sampling.policy.model(torch.tensor([PROMPTS[0]])).logits[0, -1]
        assert {one.ids[0] for one in found[0]} <= set(logits.topk(3).indices.tolist())


def test_later_turns_continue_earlier_ones(sampling):
    """Prompts that begin with a prompt and its completion give what they give without a cache, at equal numbers."""
    params = SamplingParams(8, temperature=TEMPERATURE)
    first = sampling.engine.generate(
        [Request(p, ((i, 0), (i, 1)), i, keep_kv=True) for i, p in enumerate(PROMPTS)], params
    )
    turns = [
        Request((*p, *one.ids, 50, 51), ((i, j, "next"),), i, kv=one.kv, keep_kv=True)
        for i, (p, group) in enumerate(zip(PROMPTS, first, strict=True))
        for j, one in enumerate(group)
    ]
    second = sampling.engine.generate(turns, params)
    assert sampling.gap(second, [turn.ids for turn in turns]) < 1e-5
    sampling.engine.clear_cache()
    fresh = sampling.engine.generate([replace(turn, kv=None, keep_kv=False) for turn in turns], params)
    assert [[one.ids for one in group] for group in fresh] == [[one.ids for one in group] for group in second]


def test_an_update_changes_rows(moving):
    """After an update completions are those of the new weights, and nothing of the old ones is left in a cache."""
    before = moving.write()
    moving.move(1.1)
    assert moving.gap(before) > 1e-2
    moving.transfer.update()
    after = moving.write()
    assert moving.gap(after) < 1e-5
    assert [[one.ids for one in group] for group in after] != [[one.ids for one in group] for group in before]


def test_weights_that_are_no_numbers(moving):
    """Log-probabilities that are not finite are RC784."""
    moving.move(math.nan)
    seen = moving.write if moving.engine.shares_weights else moving.transfer.update
    with pytest.raises(RecipeError) as refused:
        seen()
    assert refused.value.diagnostics[0].code == "RC784"


@pytest.mark.parametrize("spec", ENGINES)
def test_an_adapter_is_sampled_with(spec):
    """Completions are those of the policy with its adapter, at each version of it."""
    moving = Sampling(spec, lora=Lora(r=4, alpha=8))
    try:
        for _ in range(3):
            with torch.no_grad():
                for weight in moving.policy.trainable_parameters().values():
                    weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
            stale = moving.write()
            moving.transfer.update()
            assert moving.gap(moving.write()) < 1e-5
            assert moving.engine.shares_weights or moving.gap(stale) > 1e-2
    finally:
        moving.engine.close()


@pytest.mark.parametrize("spec", [VLLM])
@pytest.mark.parametrize("left_out", ["lm_head", "layers.1.mlp.down_proj", "layers.0.self_attn.k_proj", "model.norm"])
def test_a_weight_that_is_left_out_is_found(spec, left_out):
    """An update without a weight is RC786: above all the head, which looks up to date where it is the embeddings."""
    moving = Sampling(spec)
    try:
        with torch.no_grad():
            for weight in moving.policy.trainable_parameters().values():
                weight.mul_(1.3)
        moving.left_out = left_out
        with pytest.raises(RecipeError) as refused:
            moving.transfer.update()
        assert refused.value.diagnostics[0].code == "RC786"
        moving.left_out = ""
        moving.transfer.update()
        assert moving.transfer.gap < 1e-5
    finally:
        moving.engine.close()


@pytest.mark.parametrize("spec", [VLLM])
def test_weights_that_never_came_are_found(spec):
    """The first weights come as all later ones: without a head the engine samples from noise, which is RC787."""
    with pytest.raises(RecipeError) as refused:
        Sampling(spec, left_out="lm_head")
    assert refused.value.diagnostics[0].code == "RC787"
