"""Policies that see: equal to the stock models under every attention, in training and in sampling."""

import json
from contextlib import contextmanager

import pytest
import torch
import transformers
from PIL import Image
from support.images import FAMILIES, ask, build, columns, conversations, gradients, noise, scored, stock_of, use
from transformers import AutoModelForImageTextToText

from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention.certification.run import certify
from recipec.runtime.attention.certification.tiny_config import shrink
from recipec.runtime.batch import Batch
from recipec.runtime.model.origin import Origin
from recipec.runtime.objective.reference import Frozen, Lagged
from recipec.runtime.rollout.engine import Request, SamplingParams
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.runtime.training.optimizer import AdamW, freeze
from recipec.runtime.vision.vision_lm import VisionLm
from recipec.spec import policy as specs, reference, rollout_engine
from recipec.spec.optimizer import Adamw

ATTENTIONS = ("dense", "packed", "trie", "shared_prefix")


@contextmanager
def refused(code):
    """Expect a refusal with one code."""
    with pytest.raises(RecipeError) as caught:
        yield caught
    assert [found.code for found in caught.value.diagnostics] == [code]


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_stock_model(tmp_path, family):
    """Log-probabilities of rows with images are the stock forward's on the stock inputs, under every attention."""
    policy = build(tmp_path, family)
    batch, rows = conversations(policy)
    batch["trained_RT"][:, 0] = False
    with torch.no_grad():
        expected = stock_of(policy, batch, rows)
        for kind in ATTENTIONS:
            use(policy, kind)
            assert (scored(policy, batch) - expected).abs().max() < 1e-5, kind


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_everything(tmp_path, family, checkpointing):
    """Every attention gives dense gradients of decoder, projector and encoder, computed again or kept."""
    policy = build(tmp_path, family)
    batch, _ = conversations(policy)
    expected = gradients(policy, batch)
    assert any("vis" in name for name in expected)
    if checkpointing:
        policy.train()
        policy.enable_gradient_checkpointing()
    for kind in ATTENTIONS[1:]:
        use(policy, kind)
        found = gradients(policy, batch)
        assert found.keys() == expected.keys()
        for name, grad in expected.items():
            assert (found[name] - grad).norm() <= 1e-5 * grad.norm() + 1e-6, (kind, name)


def test_the_trie_tells_images_apart(tmp_path):
    """Rows with one image share its tokens; equal words behind another image are computed anew."""
    policy = build(tmp_path)
    batch, rows = conversations(policy)
    use(policy, "trie")
    with torch.no_grad():
        scored(policy, batch.rows(torch.tensor([0, 1])))
        same = policy.attention.shared.tokens
        scored(policy, batch.rows(torch.tensor([0, 2])))
    lengths = [len(ids) - 1 for ids, _ in rows]
    begin = rows[0][0].index(rows[0][1][0].tokens[1])
    shared = next(i for i, (a, b) in enumerate(zip(rows[0][0], rows[1][0], strict=False)) if a != b)
    assert same == lengths[0] + lengths[1] - shared
    assert policy.attention.shared.tokens - same == lengths[0] + lengths[2] - begin


def test_an_image_is_encoded_once_a_pass(tmp_path):
    """However many rows show it; and once altogether where the encoder stays as it is, with the same gradients."""
    policy = build(tmp_path)
    batch, _ = conversations(policy)
    assert len(batch["pixels_I"]) == 5
    expected = gradients(policy, batch)
    assert policy.encoder.encoded == 2
    freeze(policy.model, ["vision", "projector"], policy.module_groups())
    with torch.inference_mode():
        scored(policy, batch)
    assert policy.encoder.encoded == 4
    found = gradients(policy, batch)
    assert policy.encoder.encoded == 4
    assert {name for name in expected if "visual" not in name} == found.keys()
    assert all(torch.allclose(grad, expected[name], atol=1e-6) for name, grad in found.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_projector_trains_behind_a_frozen_encoder(tmp_path, family):
    """Where the projector trains, nothing that it made is kept: its gradients are there, pass after pass."""
    policy = build(tmp_path, family)
    batch, _ = conversations(policy)
    expected = gradients(policy, batch)
    freeze(policy.model, ["vision"], policy.module_groups())
    own = {id(p) for p in policy.module_groups()["projector"]}
    names = {name for name, p in policy.model.named_parameters() if id(p) in own}
    for _ in range(2):
        found = gradients(policy, batch)
        assert names <= found.keys()
        assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in names)


@pytest.mark.parametrize("frozen", [(), ("vision", "projector")])
def test_nothing_seen_before_changes_a_bit(tmp_path, frozen):
    """A pass gives the same bits whatever images came before: a run that is continued is the run that was not cut."""
    policy, fresh = build(tmp_path), build(tmp_path)
    batch, _ = conversations(policy)
    for one in (policy, fresh):
        use(one, "trie")
        freeze(one.model, frozen, one.module_groups())
    with torch.no_grad():
        for row in (2, 3, 0):
            scored(policy, batch.rows(torch.tensor([row])))
        policy.tag_image_tokens(policy.render(ask(1), images=batch["pixels_I"][2:3]), batch["pixels_I"][2:3])
    assert torch.equal(policy.tag_batch(batch)["tokens_RT"], fresh.tag_batch(batch)["tokens_RT"])
    assert torch.equal(scored(policy, batch), scored(fresh, batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_is_what_is_trained_on(tmp_path, family):
    """Log-probabilities of what was sampled, mixed prompts in a batch, are the trainer's; memories change none."""
    policy = build(tmp_path, family)
    one, other = policy.picture(noise(0), "one.png"), policy.picture(noise(1, 16, 24), "other.png")
    prompts = [((one, other), "compare"), ((), "hello to all of you"), ((other,), "so"), ((one,), "so")]
    engine = HfEngine(rollout_engine.Hf(max_rows=3), policy.context, policy=policy)
    requests = [
        Request(tuple(policy.render(ask(len(shown), text), images=shown)), ((n, 0), (n, 1)), n, keep_kv=True,
                images=shown)
        for n, (shown, text) in enumerate(prompts)
    ]  # fmt: skip
    made = engine.generate(requests, SamplingParams(max_length=10, temperature=1.0))
    for request, completions in zip(requests, made, strict=True):
        for completion in completions:
            assert trained_off(policy, request, completion) < 1e-5
    turns = [
        Request((*r.ids, *c[0].ids, *policy.render(ask(1, "again"), images=[one])), ((n, 9),), images=(*r.images, one),
                kv=c[0].kv)
        for n, (r, c) in enumerate(zip(requests, made, strict=True))
    ]  # fmt: skip
    for request, (completion,) in zip(turns, engine.generate(turns, SamplingParams(max_length=4)), strict=True):
        assert request.kv is not None
        assert trained_off(policy, request, completion) < 1e-5


def trained_off(policy, request, completion):
    """Largest difference between a completion's log-probabilities and the trainer's."""
    tokens = torch.tensor([[*request.ids, *completion.ids]])
    trained = torch.arange(tokens.shape[1])[None] >= len(request.ids)
    images = (list(request.images), torch.zeros(len(request.images), dtype=torch.int64))
    with torch.no_grad():
        found = policy.logprobs(tokens, torch.ones_like(trained), trained, *images, entropy=False)["logprob_RT"]
    return float((found[trained] - torch.tensor(completion.logprob)).abs().max())


def test_an_image_token_that_was_sampled_is_text(tmp_path):
    """A policy may write its image token: no image is looked for, and none is moved."""
    policy = build(tmp_path)
    one = policy.picture(noise(0), "one.png")
    prompt = policy.render(ask(1), images=[one])
    tokens = torch.tensor([[*prompt, policy.shown, policy.shown, 7]])
    trained = torch.arange(tokens.shape[1])[None] >= len(prompt)
    found = policy.logprobs(tokens, torch.ones_like(trained), trained, [one], torch.tensor([0]))["logprob_RT"]
    assert (found[trained] < 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_folders_load_anywhere(tmp_path, family):
    """The folder loads with the library's own classes and as a policy, which prepares images alike."""
    policy = build(tmp_path, family, image=specs.Images(size=20))
    policy.save(tmp_path / "model")
    again = build(tmp_path, origin=Origin("directory", "model"), image=specs.Images(size=20))
    assert again.fingerprint() == policy.fingerprint()
    mine, its = policy.picture(noise(0), "a"), again.picture(noise(0), "b")
    assert (mine.digest, mine.tokens) == (its.digest, its.tokens)
    stock = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert type(stock) is type(policy.model)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "model", use_fast=False)
    assert type(processor) is type(policy.processor)


@pytest.mark.parametrize("split", [False, True])
def test_tokens_are_those_of_the_joint_processor(tmp_path, split):
    """Idefics3's own processor, which needs no torchvision, writes the same ids for text and image, tiles included."""
    policy = build(tmp_path, "idefics3")
    policy.processor = transformers.Idefics3ImageProcessorPil(
        size={"longest_edge": 48}, max_image_size={"longest_edge": 24}, do_image_splitting=split
    )
    policy.save(tmp_path / "model")
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "model")
    said = [*ask(1, "one?"), {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}, *ask(1, "and?")]
    images = [noise(0, 48, 30), noise(1)]
    text = processor.apply_chat_template(said, add_generation_prompt=True)
    expected = processor(text=text, images=images, return_tensors="pt", add_special_tokens=False)
    shown = [policy.picture(image, "x") for image in images]
    assert policy.render(said, images=shown) == expected["input_ids"][0].tolist()
    assert shown[0].inputs["pixel_values"].shape[1] == (5 if split else 1)
    tokens = expected["input_ids"]
    trained = torch.ones_like(tokens, dtype=torch.bool) & (tokens != policy.shown)
    with torch.no_grad():
        found = policy.logprobs(tokens, torch.ones_like(trained), trained, shown, torch.tensor([0, 0]))["logprob_RT"]
        logits = policy.model(**expected).logits[0, :-1]
    wanted = torch.log_softmax(logits, -1).gather(-1, tokens[0, 1:, None])[:, 0]
    assert (found[0, 1:] - wanted)[trained[0, 1:]].abs().max() < 1e-5


@pytest.mark.parametrize(
    ("targets", "inside", "outside"),
    [
        ("all_linear", "language_model", "visual"),
        (("q_proj", "down_proj"), "language_model", "visual"),
        (("visual",), "visual", "language_model"),
        (("qkv",), "visual", "language_model"),
    ],
)
def test_adapters_stay_out_of_the_encoder(tmp_path, targets, inside, outside):
    """All linear layers are the decoder's; the encoder's get adapters only by names that are theirs alone."""
    policy = build(tmp_path, lora=specs.Lora(r=2, targets=targets))
    names = policy.trainable_parameters()
    assert names
    assert all(inside in name and outside not in name and "lora_" in name for name in names)
    policy.save(tmp_path / "model")
    again = build(tmp_path, origin=Origin("directory", "model", adapter="continue"))
    assert again.trainable_parameters().keys() == names.keys()


def test_references_see_the_same_pixels(tmp_path):
    """A frozen reference behind a fresh adapter and a lagged copy give the entering policy's log-probabilities."""
    policy = build(tmp_path, lora=specs.Lora(r=2))
    batch, _ = conversations(policy)
    frozen = Frozen(reference.Frozen(), policy.context, policy=policy)
    lagged = Lagged(reference.Lagged(), policy.context, policy=policy)
    with torch.no_grad():
        entered = policy.logprobs(**columns(batch))["logprob_RT"]
        for parameter in policy.trainable_parameters().values():
            parameter.add_(0.1)
        assert not torch.allclose(policy.logprobs(**columns(batch))["logprob_RT"], entered, atol=1e-3)
    for kept in (frozen, lagged):
        found = kept(**columns(batch))["ref_logprob_RT"]
        assert torch.allclose(found, entered, atol=1e-6)
    swapped = Batch({**batch, "pixels_I": batch["pixels_I"][::-1]})
    assert not torch.allclose(frozen(**columns(swapped))["ref_logprob_RT"], entered, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_parts_stay(tmp_path, family):
    """What is frozen is not among the trained parameters, gets no gradient and no place in the optimizer."""
    policy = build(tmp_path, family)
    batch, _ = conversations(policy)
    optimizer = AdamW(Adamw(freeze=("vision", "embeddings")), policy.context, policy=policy)
    optimizer.bind(1)
    parts = policy.module_groups()
    frozen = {id(p) for name in ("vision", "embeddings") for p in parts[name]}
    assert frozen.isdisjoint({id(p) for p in parts["projector"]})
    assert not frozen & {id(p) for p in policy.trainable_parameters().values()}
    assert optimizer.named.keys() == policy.trainable_parameters().keys()
    assert (
        Lagged(reference.Lagged(), policy.context, policy=policy).copies.keys() == policy.trainable_parameters().keys()
    )
    assert all("connector" in n or "merger" in n or "vis" not in n for n in gradients(policy, batch))


def test_unknown_parts_are_named(tmp_path):
    """A part that the policy does not have is refused with those that it has."""
    policy = build(tmp_path)
    with refused("RC773") as caught:
        freeze(policy.model, ["eyes"], policy.module_groups())
    assert "`projector`" in caught.value.diagnostics[0].message


@pytest.mark.parametrize("family", FAMILIES)
def test_low_precision(tmp_path, family):
    """In bfloat16 every attention is as far from float32 as dense rows are."""
    exact, policy = build(tmp_path, family), build(tmp_path, family, dtype="bfloat16")
    batch, _ = conversations(policy)
    with torch.no_grad():
        expected = scored(exact, conversations(exact)[0])
        off = {}
        for kind in ATTENTIONS[:3]:
            use(policy, kind)
            off[kind] = (scored(policy, batch) - expected).pow(2).mean().sqrt()
    assert max(off.values()) < 1.5 * off["dense"] + 1e-3


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3", "smolvlm"])
def test_architectures_are_certified(kind):
    """A small model of each family gives the results of its own forward pass, images of different sizes included."""
    config = transformers.AutoConfig.for_model(kind)
    if kind.startswith("qwen"):
        config.text_config.rope_parameters["mrope_section"] = [16, 24, 24]
    found = certify(shrink(config))
    assert found.equal, found.why
    assert found.max_gradient_error < 1e-5


def test_the_certificate_sees_wrong_positions(monkeypatch):
    """Images at positions that count on, as text does, are not certified."""
    config = transformers.AutoConfig.for_model("qwen2_vl")
    config.text_config.rope_parameters["mrope_section"] = [16, 24, 24]
    monkeypatch.setattr(VisionLm, "position_ids", lambda *_: None)
    assert not certify(shrink(config)).equal


@pytest.mark.parametrize(("fit", "size", "corner"), [
    ("letterbox", (20, 20), (0, 0, 0)), ("stretch", (20, 20), (255, 255, 255)), ("crop", (20, 20), (255, 255, 255)),
    ("none", (20, 10), (255, 255, 255)),
])  # fmt: skip
def test_fits(tmp_path, fit, size, corner):
    """An image becomes a square with bars, distorted, by its middle, or not a square."""
    from recipec.runtime.images.fit import framed

    found = framed(Image.new("RGB", (40, 20), "white"), specs.Images(size=20, fit=fit))
    assert (found.size, found.getpixel((0, 0))) == (size, corner)


def test_areas(tmp_path):
    """Fewer pixels make fewer tokens."""
    large, small = build(tmp_path), build(tmp_path, image=specs.Images(max_pixels=128))
    counts = [len(policy.picture(noise(0), "a").tokens) for policy in (large, small)]
    assert counts == [6 + 2, 1 + 2]


def test_separators_of_images_stand_once(tmp_path):
    """A template may write the marks around an image or leave them out: the model reads the same, each mark once."""
    start = "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] if p['type'] == 'text' else '"
    found = []
    for name, image in (("all", "<|vision_start|><|image_pad|><|vision_end|>"), ("bare", "<|image_pad|>")):
        (tmp_path / f"{name}.jinja").write_text(f"{start}{image}' }}}}{{% endfor %}}{{% endfor %}}")
        policy = build(tmp_path, chat_template=f"{name}.jinja")
        one, other = policy.picture(noise(0), "one.png"), policy.picture(noise(1, 16, 24), "other.png")
        found.append(policy.render(ask(2, "same?") + ask(1, "so"), images=[one, other, one]))
        assert found[-1] == [*one.tokens, *other.tokens, *policy.encode("same?"), *one.tokens, *policy.encode("so")]
    assert found[0] == found[1]


def test_what_is_no_image(tmp_path):
    """Text that spells an image token is text; templates that know no parts are given text."""
    policy = build(tmp_path)
    ids = policy.render([{"role": "user", "content": "<|image_pad|>"}])
    assert policy.shown not in ids
    assert policy.decode(ids).count("<|image_pad|>") == 1
    (tmp_path / "plain.jinja").write_text("{% for m in messages %}{{ m['content'] + '!' }}{% endfor %}")
    plain = build(tmp_path, chat_template="plain.jinja")
    assert plain.decode(plain.render([{"role": "user", "content": [{"type": "text", "text": "a"}]}])) == "a!"


REFUSED = [
    (lambda p: p.render(ask(2), images=[p.picture(noise(0), "a")]), "RC851"),
    (lambda p: p.render([{"role": "user", "content": "a"}], images=[p.picture(noise(0), "a")]), "RC851"),
    (lambda p: p.tag_image_tokens(p.render(ask(1), images=[p.picture(noise(0), "a")]), []), "RC851"),
    (lambda p: p.tag_image_tokens(p.encode("hello"), [p.picture(noise(0), "a")]), "RC851"),
    (lambda p: p.picture(Image.new("RGB", (3000, 10)), "long.png"), "RC855"),
    (lambda p: setattr(p.processor, "size", {"shortest_edge": 64, "longest_edge": 1 << 20})
     or p.picture(Image.new("RGB", (200, 200)), "large.png"), "RC852"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "code"), REFUSED)
def test_refusals(tmp_path, act, code):
    """Images that do not fit their places, the model or its processor are refused with a code."""
    with refused(code):
        act(build(tmp_path))


def test_parameters_of_another_family(tmp_path):
    """A parameter that means nothing to a family is refused, not ignored."""
    with refused("RC856"):
        build(tmp_path, "idefics3", image=specs.Images(max_pixels=100))
    with refused("RC856"):
        build(tmp_path, "qwen2_vl", image=specs.Images(split=True))


def test_folders_that_lack_something(tmp_path):
    """A folder without its image processor, or whose tokenizer lacks the image token, is refused."""
    build(tmp_path).save(tmp_path / "model")
    origin = Origin("directory", "model")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (tmp_path / "model" / name).unlink()
    with refused("RC854"):
        build(tmp_path, origin=origin)
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps({"auto_map": {"X": "a.b"}}))
    with refused("RC600"):
        build(tmp_path, origin=origin)
