"""Completions of prompts with images by vLLM: the trainer's log-probabilities, for every family that is trained."""

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.policies import dense_policy

from recipec.diagnostics.model import RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.runtime.context import StageContext
from recipec.runtime.rollout.engine import Request, SamplingParams
from recipec.runtime.rollout.rows import sampled_columns
from recipec.runtime.rollout.vllm_engine import check
from recipec.runtime.rollout.weight_transfer import WeightTransfer
from recipec.spec.policy import Lora, VisionLm, VisionScratch
from recipec.spec.rollout_engine import Hf, Vllm

INSTALLED = importlib.util.find_spec("vllm") is not None
VLLM = [
    pytest.mark.engines,
    pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed: make test-engines"),
    pytest.mark.filterwarnings("ignore"),  # libraries of vLLM warn of each other
]
OF_QWEN = [  # vLLM imports their image processors, which need it
    *VLLM,
    pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"),
]
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
ENGINES = [
    pytest.param(Hf(max_rows=8), "qwen2_vl", id="hf-qwen2_vl"),
    *(pytest.param(Vllm(cpu_cache=0.05, max_rows=16), name, id=f"vllm-{name}", marks=OF_QWEN) for name in FAMILIES),
    pytest.param(Vllm(cpu_cache=0.05, max_rows=16), "idefics3", id="vllm-idefics3", marks=VLLM),
]
SAMPLING = SamplingParams(12, temperature=0.7)


class Shown:
    """A policy that reads images, with an engine that samples from it."""

    def __init__(self, spec, family, **policy):
        context = StageContext(root=Path(), cache=Path(), seed=0, stage="explore", temperature=0.7)
        scratch = VisionScratch(
            architecture=family, hidden_size=128, layers=2, heads=2, intermediate_size=64, max_positions=128
        )
        self.policy = dense_policy(VisionLm(scratch=scratch, **policy), context)
        self.move(3.0)  # sharp distributions
        self.engine = spec.load()(spec, context, policy=self.policy)
        trainer = SimpleNamespace(weights=lambda: iter(self.policy.model.state_dict().items()))
        self.transfer = WeightTransfer(spec, self.engine, trainer, self.policy, context)
        self.transfer.update()
        one, other = self.policy.sample_pictures()
        self.prompts = [
            ((10, *one.tokens, 11, 12), (one,)),
            ((10, *other.tokens, 11, *one.tokens, 12), (other, one)),
            ((13, 14, 15), ()),
        ]

    @torch.no_grad()
    def move(self, factor, named=""):
        """Multiply the matrices with a name."""
        for name, weight in self.policy.model.named_parameters():
            if named in name and weight.ndim > 1:
                weight.mul_(factor)

    def write(self, prompts=None):
        """Complete the prompts, with keys of their own."""
        requests = [
            Request(ids, tuple((0, "x", len(ids), s) for s in range(3)), i, images=images)
            for i, (ids, images) in enumerate(prompts or self.prompts)
        ]
        return self.engine.generate(requests, SAMPLING)

    @torch.no_grad()
    def gap(self, groups):
        """Largest difference of log-probabilities to the trainer's, in nats."""
        pairs = [(p, one) for p, group in zip(self.prompts, groups, strict=True) for one in group]
        made = sampled_columns([(ids, one) for (ids, _), one in pairs])
        shown = [(picture, i) for i, ((_, images), _) in enumerate(pairs) for picture in images]
        found = self.policy.logprobs(
            *(made[name] for name in ("tokens_RT", "attend_RT", "trained_RT")),
            [picture for picture, _ in shown],
            torch.tensor([i for _, i in shown]),
            entropy=False,
        )
        return float((found["logprob_RT"] - made["sampler_logprob_RT"])[made["trained_RT"]].abs().max())


def written(groups):
    """Ids of completions."""
    return [one.ids for group in groups for one in group]


@pytest.mark.parametrize(("spec", "family"), ENGINES)
def test_completions_of_images_have_the_trainers_log_probabilities(spec, family):
    """With one image, two and none; after the encoder alone has changed; a row depends on its prompt alone."""
    shown = Shown(spec, family)
    try:
        groups = shown.write()
        assert shown.gap(groups) < 1e-4
        assert written(shown.write(shown.prompts[1:2])) == written(groups[1:2])
        tower = shown.policy.family.tower
        shown.move(1.5, tower)
        shown.transfer.update(1)
        after = shown.write()
        assert shown.gap(after) < 1e-4
        assert written(after[2:]) == written(groups[2:])
        assert written(after[:2]) != written(groups[:2])
    finally:
        shown.engine.close()


def test_a_model_that_reads_images_needs_torchvision_in_vllm(monkeypatch):
    """The run is refused before it starts (RC716); a text model needs it not, nor do servers elsewhere."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchvision" else name)
    found = [
        [(one.code, "`torchvision`" in one.message) for one in check(spec, PreflightRequest(Path(), sees=sees))]
        for spec, sees in ((Vllm(), True), (Vllm(), False), (Vllm(servers=("http://a:1",)), True))
    ]
    assert found == [[("RC716", True)], [], []]


@pytest.mark.parametrize("spec", [pytest.param(Vllm(cpu_cache=0.05, max_rows=16), id="vllm", marks=VLLM)])
def test_an_adapter_beside_images_is_sampled_with(spec):
    """An adapter of the decoder is handed over; the probe, which shows images, finds one that is not."""
    shown = Shown(spec, "idefics3", lora=Lora(r=4, alpha=8))
    try:
        assert math.isfinite(shown.transfer.gap)
        shown.move(2.0, "lora_")
        with torch.no_grad():
            for name, weight in shown.policy.model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(0, 0.2)
        assert shown.gap(shown.write()) > 1e-3
        shown.transfer.update(1)
        assert shown.gap(shown.write()) < 1e-4
    finally:
        shown.engine.close()


@pytest.mark.parametrize("spec", [pytest.param(Vllm(cpu_cache=0.05, max_rows=16), id="vllm", marks=VLLM)])
def test_an_encoder_that_does_not_arrive_is_found(spec):
    """The probe shows images, so that an old encoder in vLLM ends the run (RC786)."""
    shown = Shown(spec, "idefics3")
    tower = shown.policy.family.tower
    try:
        shown.transfer.train_engine.weights = lambda: (
            (name, weight) for name, weight in shown.policy.model.state_dict().items() if tower not in name
        )
        shown.move(4.0, tower)
        with pytest.raises(RecipeError, match="RC786"):
            shown.transfer.update(1)
    finally:
        shown.engine.close()
