"""The embedded sampling engine against transformers' own decoding, and against itself in other batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_models import byte_tokenizer, sampling_policy, tiny_model
from transformers.generation import logits_process as processors

from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention import packed
from recipec.runtime.context import StageContext
from recipec.runtime.rng import rng_for
from recipec.runtime.rollout import gqa_decoding
from recipec.runtime.rollout.engine import Request, SamplingParams
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.runtime.rollout.kv_cache import CacheLayer, ModelRunner
from recipec.runtime.rollout.stop_strings import StopStrings
from recipec.runtime.rollout.token_sampling import draw, invert, truncate
from recipec.spec.rollout_engine import Hf as Spec

VOCABULARY = 96
PROMPTS = [(10, 11, 12, 13, 14), (20, 21), (30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41)]


def make_model(kind):
    """Build a tiny model with weights large enough for sharp distributions."""
    return tiny_model(kind, 8, vocab_size=VOCABULARY, max_position_embeddings=128, bos_token_id=1, eos_token_id=2)


def make_engine(model, stop_ids=(2,), max_rows=64, tokenizer=None):
    """Build an engine over a model, without a recipe."""
    context = StageContext(root=Path(), cache=Path(), seed=0, stage="explore")
    return HfEngine(Spec(max_rows=max_rows), context, policy=sampling_policy(model, tokenizer, stop_ids))


def requests(samples, prompts=PROMPTS):
    """One request a prompt, with keys of its own."""
    return [Request(p, tuple((0, "explore", 0, i, s) for s in range(samples)), i) for i, p in enumerate(prompts)]


@torch.no_grad()
def trainer_logprobs(model, prompt, ids, temperature):
    """Log-probabilities as a trainer computes them: one forward over the whole sequence, nothing truncated."""
    logits = model(torch.tensor([[*prompt, *ids]])).logits.float()[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "window", "mixed"])
def test_greedy_equals_generate(kind):
    """Prompts of unequal length in one batch give, token by token, what generate gives each prompt alone."""
    model = make_model(kind)
    found = make_engine(model).generate(requests(1), SamplingParams(20, temperature=0.0))
    for prompt, (completion,) in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        peer = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, eos_token_id=2, pad_token_id=0
        )
        assert completion.ids == tuple(peer[0, len(prompt) :].tolist())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "window", "mixed"])
@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0},
        {"temperature": 0.6, "top_p": 0.8},
        {"temperature": 1.7, "top_k": 5, "min_p": 0.05},
        {"temperature": 1.0, "min_length": 12},
    ],
)
def test_logprobs_are_the_trainers(kind, params):
    """The recorded log-probability is the trainer's, of the full distribution divided by the temperature."""
    model = make_model(kind)
    found = make_engine(model, stop_ids=range(2, 12), max_rows=7).generate(requests(3), SamplingParams(24, **params))
    for prompt, completions in zip(PROMPTS, found, strict=True):
        for completion in completions:
            peer = trainer_logprobs(model, prompt, completion.ids, params["temperature"])
            assert torch.tensor(completion.logprob) == pytest.approx(peer, abs=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager", packed.NAME])
def test_any_attention_of_the_model_serves(attention, monkeypatch):
    """Greedy text is the same under every attention, which is the model's own again afterwards."""
    model = make_model("llama")
    expected = make_engine(model).generate(requests(2), SamplingParams(12, temperature=0.0))
    model.set_attn_implementation(attention)
    used = []
    attend = gqa_decoding._attend
    monkeypatch.setattr(gqa_decoding, "_attend", lambda *args, **kwargs: used.append(1) or attend(*args, **kwargs))
    found = make_engine(model).generate(requests(2), SamplingParams(12, temperature=0.0))
    assert [[c.ids for c in group] for group in found] == [[c.ids for c in group] for group in expected]
    assert model.config._attn_implementation == attention
    assert bool(used) == (attention != "eager")


def test_group_prompt_is_read_once():
    """Each prompt's tokens pass through the model once, however many rows and batches the group takes."""
    model = make_model("llama")
    seen = []
    model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    make_engine(model, stop_ids=(), max_rows=3).generate(requests(8, PROMPTS[:1]), SamplingParams(4))
    assert [shape for shape in seen if shape[1] > 1] == [(1, 5)]
    assert sum(rows for rows, width in seen if width == 1) == 8 * 3


@pytest.mark.parametrize("max_rows", [1, 4, 64])
def test_rows_do_not_depend_on_their_neighbours(max_rows):
    """A row draws the same tokens alone, in batches of another size, and beside other prompts."""
    model = make_model("llama")
    sampling = SamplingParams(16, temperature=0.9)
    found = make_engine(model, max_rows=max_rows).generate(requests(4), sampling)
    for request, completions in zip(requests(4), found, strict=True):
        for key, completion in zip(request.keys, completions, strict=True):
            ((alone,),) = make_engine(model).generate([Request(request.ids, (key,))], sampling)
            assert alone.ids == completion.ids


def test_same_bits_twice():
    """Two calls give equal ids and bit-equal log-probabilities."""
    model = make_model("llama")
    first, second = (make_engine(model).generate(requests(5), SamplingParams(16)) for _ in range(2))
    assert first == second


def test_finished_rows_leave_the_batch():
    """Rows that ended are no longer computed once they are a quarter of the batch."""
    model = make_model("llama")
    batches = []
    model.register_forward_pre_hook(
        lambda _, __, kwargs: batches.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    (found,) = make_engine(model, stop_ids=range(2, 20)).generate(requests(8, PROMPTS[:1]), SamplingParams(40))
    assert len({len(completion.ids) for completion in found}) > 2
    for t, rows in enumerate(batches[1:], 1):
        alive = sum(len(completion.ids) > t for completion in found)
        assert alive <= rows
        assert alive > 0.75 * rows


def test_stop_ids_and_lengths():
    """The end token is kept and marks the row as ended; before min_length it is never drawn; max_length cuts."""
    model = make_model("llama")
    (found,) = make_engine(model, stop_ids=range(2, 30)).generate(
        requests(16, PROMPTS[:1]), SamplingParams(12, min_length=3, temperature=2.0)
    )
    assert any(c.ended for c in found)
    for completion in found:
        assert 3 < len(completion.ids) <= 12
        assert completion.ended == (completion.ids[-1] in range(2, 30))
        assert not any(i in range(2, 30) for i in completion.ids[:-1])


def test_completion_stays_within_the_positions():
    """Learned positions end: a completion is cut there, and a prompt that leaves none is refused with its task."""
    engine = make_engine(make_model("gpt2"), stop_ids=())
    found = engine.generate(requests(2, [tuple(range(3, 95)) + (5,) * 28, (5, 6)]), SamplingParams(30))
    assert [[len(c.ids) for c in group] for group in found] == [[8, 8], [30, 30]]
    with pytest.raises(RecipeError, match="task 1 has 128 tokens"):
        engine.generate(requests(1, [(5,), (5,) * 128]), SamplingParams(4))
    with pytest.raises(RecipeError, match="no tokens"):
        engine.generate(requests(1, [()]), SamplingParams(4))


@pytest.mark.parametrize("params", [{}, {"temperature": 0.0}, {"top_p": 0.9}, {"top_k": 3}, {"min_length": 2}])
@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_diverged_weights_are_refused(broken, params):
    """Logits that are not numbers end in a coded complaint, however tokens are drawn."""
    model = make_model("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(broken)
    with pytest.raises(RecipeError) as refused:
        make_engine(model).generate(requests(2), SamplingParams(4, **params))
    assert refused.value.diagnostics[0].code == "RC784"


def test_a_temperature_by_which_nothing_can_be_divided_is_refused():
    """Logits over 1e-45 are infinite: RC784 again."""
    with pytest.raises(RecipeError) as refused:
        make_engine(make_model("llama")).generate(requests(2), SamplingParams(4, temperature=1e-45))
    assert refused.value.diagnostics[0].code == "RC784"


@pytest.mark.parametrize("vocabulary", [1, 2, 50, 99, 100, 103, 128, 1000])
def test_weights_that_are_no_numbers_name_a_token_of_the_vocabulary(vocabulary):
    """The blocks of the sum are filled up beyond it: no token of the filling is drawn."""
    weights = torch.full((3, vocabulary), torch.nan)
    uniform = torch.tensor([[0.0], [0.5], [1.0 - 1e-16]], dtype=torch.float64)
    assert (invert(weights, uniform) < vocabulary).all()


def test_mode_is_given_back_and_dropout_is_off():
    """Sampling switches a training model to evaluation and back."""
    model = make_model("gpt2").train()
    engine = make_engine(model)
    first, second = (engine.generate(requests(2), SamplingParams(8)) for _ in range(2))
    assert first == second
    assert model.training


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixed"])
def test_rows_fork_and_go_on(kind):
    """Rows taken from a cache and fed more tokens have the logits of the whole sequence read afresh."""
    model = make_model(kind)
    runner = ModelRunner(model)
    with torch.no_grad():
        parent = runner.prefill([PROMPTS[0], PROMPTS[1]])
        child = parent.select_rows(torch.tensor([1, 0, 1]))
        child.append_tokens(torch.tensor([[50, 51], [52, 53], [54, 55]]))
        for row, ids in enumerate([(*PROMPTS[1], 50, 51), (*PROMPTS[0], 52, 53), (*PROMPTS[1], 54, 55)]):
            whole = model(torch.tensor([ids])).logits[0, -1]
            assert child.logits_RV[row] == pytest.approx(whole, abs=1e-4)
        parent.append_tokens(torch.tensor([[0, 60], [61, 62]]), torch.tensor([[False, True], [True, True]]))
        for row, ids in enumerate([(*PROMPTS[0], 60), (*PROMPTS[1], 61, 62)]):
            if kind != "mixed":  # a gap counts as a token in a window
                assert parent.logits_RV[row] == pytest.approx(model(torch.tensor([ids])).logits[0, -1], abs=1e-4)


def test_room_grows_and_keeps():
    """A layer's columns survive growth, and a fork does not write into its parent."""
    room = CacheLayer()
    columns = torch.randn(2, 1, 200, 4)
    for t in range(150):
        keys, values = room.update(columns[:, :, t : t + 1], -columns[:, :, t : t + 1])
    assert torch.equal(keys, columns[:, :, :150])
    assert torch.equal(values, -columns[:, :, :150])
    fork = room.select_rows(torch.tensor([1, 1]), 1)
    fork.update(columns[:, :, 199:], columns[:, :, 199:])
    keys, _ = room.update(columns[:, :, 150:151], columns[:, :, 150:151])
    assert torch.equal(keys, columns[:, :, :151])
    assert torch.equal(fork.keys[0, :, :150], columns[1, :, :150])


@pytest.mark.parametrize("params", [{}, {"temperature": 0.5}, {"top_k": 6}, {"top_p": 0.7, "min_p": 0.1}])
def test_draws_follow_the_distribution(params):
    """A chi-square test of many draws against the truncated distribution, at a fixed seed."""
    torch.manual_seed(3)
    sampling = SamplingParams(1, **params)
    logits = torch.randn(1, 16) * 1.5
    count = 20_000
    uniform = torch.from_numpy(rng_for("chi-square").random(count))
    token, _ = draw(logits.expand(count, -1), uniform, sampling)
    scaled = logits / sampling.temperature
    weight = truncate((scaled - scaled.max()).exp(), sampling)[0].double()
    expected = count * weight / weight.sum()
    observed = torch.bincount(token, minlength=16)
    kept = expected > 0
    assert not observed[~kept].any()
    freedom = int(kept.sum()) - 1
    statistic = ((observed - expected)[kept] ** 2 / expected[kept]).sum().item()
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5


def test_extreme_uniforms_draw_possible_tokens():
    """The smallest and the largest number below 1 give tokens of positive probability."""
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]]).expand(2, -1)
    token, logprob = draw(logits, torch.tensor([0.0, np.nextafter(1.0, 0.0)]), SamplingParams(1))
    assert token.tolist() == [1, 2]
    assert torch.isfinite(logprob).all()


@pytest.mark.parametrize(
    "params",
    [{"top_k": 7}, {"top_p": 0.6}, {"min_p": 0.2}, {"top_k": 9, "top_p": 0.8, "min_p": 0.05}, {"top_p": 1e-9}],
)
def test_truncation_keeps_the_sets_of_transformers(params):
    """The tokens left to draw from are those that transformers' processors leave."""
    torch.manual_seed(1)
    logits = torch.randn(200, 40) * 2
    logits[:50] = logits[:50].round()  # ties
    peer = logits
    for name, warper in (
        ("top_k", processors.TopKLogitsWarper),
        ("top_p", processors.TopPLogitsWarper),
        ("min_p", processors.MinPLogitsWarper),
    ):
        if name in params:
            peer = warper(params[name])(None, peer)
    ours = truncate((logits - logits.amax(-1, keepdim=True)).exp(), SamplingParams(1, **params))
    same = ((ours > 0) == torch.isfinite(peer)).all(-1)
    assert same[50:].all()
    assert same.all() or "top_p" in params  # among equals, either may go


def run_stops(tokenizer, texts, ids):
    """Feed one row token by token; return at which token it ends."""
    stops = StopStrings(texts, tokenizer)
    stops.watch(1)
    for t, token in enumerate(ids):
        if stops.completed([0], torch.tensor([token]))[0]:
            return t
    return None


def spell(tokenizer, text):
    """Encode text byte by byte."""
    return tokenizer(text)["input_ids"]


@pytest.mark.parametrize(
    ("text", "stop", "end"),
    [
        ("abc</answer>d", "</answer>", 11),
        ("aaab", "aab", 3),
        ("x<<</a>", "</a>", 6),
        ("grün und größer", "größ", 15),
        ("one\n\ntwo", "\n\n", 4),
        ("nothing here", "zz", None),
    ],
)
def test_stop_text_ends_at_the_token_that_completes_it(text, stop, end):
    """Texts that span tokens, overlap themselves, or hold characters of several bytes are found at their last byte."""
    tokenizer = byte_tokenizer()
    assert run_stops(tokenizer, (stop, "\x07"), spell(tokenizer, text)) == end


def test_stop_text_inside_a_longer_token():
    """A token that completes the text and says more still ends the row, whole."""
    tokenizer = byte_tokenizer("r>ab")
    merged = len(tokenizer) - 1
    assert run_stops(tokenizer, ("</answer>",), [*spell(tokenizer, "x</answe"), merged, *spell(tokenizer, "c")]) == 8


def test_stop_text_after_a_long_row():
    """The window that is decoded moves on without losing a text at its edge."""
    tokenizer = byte_tokenizer()
    for length in range(100, 140):
        ids = spell(tokenizer, "é" * length + "<stop>")
        assert run_stops(tokenizer, ("<stop>",), ids) == len(ids) - 1


def test_stop_texts_end_rows_of_a_batch():
    """Rows of a batch end at the first token whose text completes the stop text, ids kept as drawn."""
    tokenizer = byte_tokenizer()
    model = tiny_model(
        "llama", 1, vocab_size=len(tokenizer) + 6, max_position_embeddings=128, bos_token_id=1, eos_token_id=2
    )
    engine = make_engine(model, stop_ids=(1,), tokenizer=tokenizer)
    stops = ("a", "e", "Qu")
    (found,) = engine.generate(requests(24, [(70, 71)]), SamplingParams(60, stop=stops))
    assert sum(c.ended for c in found) > 3
    for completion in found:
        whole, before = (tokenizer.decode(ids) for ids in (completion.ids, completion.ids[:-1]))
        assert not any(stop in before for stop in stops)
        assert completion.ended == (completion.ids[-1] == 1 or any(stop in whole for stop in stops))
