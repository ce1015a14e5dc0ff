"""The reference is the policy as it entered the stage, however it is kept."""

from pathlib import Path

import pytest
import torch
from support.policies import dense_policy

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.objective.reference import Frozen, Lagged
from recipec.spec import policy as specs, reference

SCRATCH = specs.Scratch(hidden_size=32, layers=2, heads=4, kv_heads=2, max_positions=64)
LORA = specs.Lora(r=4)


def load(folder: Path, spec: specs.CausalLm, origin: Origin, **also) -> CausalLm:
    """Load a policy into a context of its own."""
    context = StageContext(root=folder, cache=folder / "cache", seed=0, stage="s", temperature=0.7, **also)
    return dense_policy(spec, context, origin)


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return two rows, the second one shorter."""
    tokens = torch.arange(12).view(2, 6) * 7 % 90 + 4
    attend = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    trained = attend & (torch.arange(6) > 1)
    return tokens, attend, trained


def train(policy: CausalLm) -> None:
    """Take two large steps, so that the second matrices of adapters leave 0."""
    optimizer = torch.optim.SGD(policy.trainable_parameters().values(), lr=1.0)
    for _ in range(2):
        loss = -policy(*rows())["logprob_RT"].sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def trained_adapter(tmp_path: Path) -> Path:
    """Leave a policy with a trained adapter behind, as a stage does."""
    policy = load(tmp_path, specs.CausalLm(scratch=SCRATCH, lora=LORA), Origin("scratch"))
    train(policy)
    policy.save(tmp_path / "parent")
    return tmp_path / "parent"


@pytest.mark.parametrize("lora", [None, LORA])
def test_frozen_is_the_policy_that_entered(tmp_path, lora):
    """After updates the frozen reference still gives the first log-probabilities, and the policy does not."""
    policy = load(tmp_path, specs.CausalLm(scratch=SCRATCH, lora=lora), Origin("scratch"))
    entered = policy(*rows())["logprob_RT"].detach()
    frozen = Frozen(reference.Frozen(), policy.context, policy=policy)
    assert frozen.mode == ("adapter_off" if lora else "weights_copy")
    train(policy)
    found = frozen(*rows())["ref_logprob_RT"]
    assert torch.allclose(found, entered, atol=1e-6)
    assert not found.requires_grad
    assert not torch.allclose(policy(*rows())["logprob_RT"], entered, atol=1e-2)


def test_frozen_under_a_continued_adapter_is_not_the_base(tmp_path):
    """With `adapter: continue` the reference is base and adapter as they came, which the base alone is not."""
    parent = trained_adapter(tmp_path)
    policy = load(tmp_path, specs.CausalLm(lora=LORA), Origin("directory", str(parent), adapter="continue"))
    entered = policy(*rows())["logprob_RT"].detach()
    with policy.disable_adapter():
        base = policy(*rows())["logprob_RT"].detach()
    frozen = Frozen(reference.Frozen(), policy.context, policy=policy)
    assert frozen.mode == "adapter_copy"
    assert set(frozen.copies) == set(policy.trainable_parameters())
    train(policy)
    assert torch.equal(frozen(*rows())["ref_logprob_RT"], entered)
    assert not torch.allclose(base, entered, atol=1e-2)


def test_frozen_after_a_merge_is_the_merged_policy(tmp_path):
    """With `adapter: merge` and a new adapter, the adapter off gives what the parent's policy was."""
    parent = trained_adapter(tmp_path)
    whole = load(tmp_path, specs.CausalLm(), Origin("directory", str(parent), adapter="continue"))
    policy = load(tmp_path, specs.CausalLm(lora=specs.Lora(r=2)), Origin("directory", str(parent), adapter="merge"))
    frozen = Frozen(reference.Frozen(), policy.context, policy=policy)
    train(policy)
    assert frozen.mode == "adapter_off"
    assert torch.allclose(frozen(*rows())["ref_logprob_RT"], whole(*rows())["logprob_RT"], atol=1e-5)


def test_the_reference_leaves_the_policy_alone(tmp_path):
    """Asking the reference changes neither weights nor mode nor gradients of the policy."""
    policy = load(tmp_path, specs.CausalLm(scratch=SCRATCH), Origin("scratch"))
    frozen = Frozen(reference.Frozen(), policy.context, policy=policy)
    train(policy)
    policy.train()
    before = policy.fingerprint()
    loss = policy(*rows())["logprob_RT"].sum()
    frozen(*rows())
    assert policy.fingerprint() == before
    assert policy.model.training
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.trainable_parameters().values())


def test_another_model_is_loaded_with_its_adapter(tmp_path):
    """`from` names a directory or a stage; an adapter found there is part of the reference."""
    parent = trained_adapter(tmp_path)
    whole = load(tmp_path, specs.CausalLm(), Origin("directory", str(parent), adapter="continue"))
    expected = whole(*rows())["logprob_RT"]
    policy = load(tmp_path, specs.CausalLm(scratch=SCRATCH), Origin("scratch"), artifacts={"explore.policy": parent})
    for named in ("./parent", "explore"):
        frozen = Frozen(reference.Frozen(from_=named), policy.context, policy=policy)
        assert torch.allclose(frozen(*rows())["ref_logprob_RT"], expected, atol=1e-5)


def test_another_model_with_another_tokenizer_is_refused(tmp_path):
    """Log-probabilities of ids that mean other tokens are no reference."""
    scratch = SCRATCH.model_copy(update={"tokenizer": "bytes"})
    load(tmp_path, specs.CausalLm(scratch=scratch), Origin("scratch")).save(tmp_path / "other")
    policy = load(tmp_path, specs.CausalLm(scratch=SCRATCH), Origin("scratch"))
    with pytest.raises(RecipeError) as refused:
        Frozen(reference.Frozen(from_="./other"), policy.context, policy=policy)
    assert refused.value.diagnostics[0].code == "RC725"


@pytest.mark.parametrize("lora", [None, LORA])
def test_lagged_follows_every_so_many_updates(tmp_path, lora):
    """The copy is refreshed after each period, and a loaded state gives the same copy."""
    policy = load(tmp_path, specs.CausalLm(scratch=SCRATCH, lora=lora), Origin("scratch"))
    lagged = Lagged(reference.Lagged(sync_every_updates=2), policy.context, policy=policy)
    entered = policy(*rows())["logprob_RT"].detach()
    train(policy)
    lagged.after_update(1)
    assert torch.equal(lagged(*rows())["ref_logprob_RT"], entered)
    lagged.after_update(2)
    copied = policy(*rows())["logprob_RT"].detach()
    assert torch.equal(lagged(*rows())["ref_logprob_RT"], copied)
    state = lagged.state()
    train(policy)
    other = Lagged(reference.Lagged(sync_every_updates=2), policy.context, policy=policy)
    other.load(state)
    assert torch.equal(other(*rows())["ref_logprob_RT"], copied)
    assert other.synced == 2
