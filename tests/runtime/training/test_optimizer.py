"""The update and its schedule."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.model.state_files import join_tensors, split_tensors
from recipec.runtime.training.optimizer import Adafactor, AdamW, Muon
from recipec.spec import optimizer as specs
from recipec.spec.optimizer import Adamw


def make(model: nn.Module, total: int = 10, **params: object) -> AdamW:
    """Bind an optimizer to a policy around a model."""
    policy = SimpleNamespace(model=model, module_groups=dict)
    optimizer = AdamW(Adamw(**params), StageContext(Path(), Path(), 0, "explore"), policy=policy)
    optimizer.bind(total)
    return optimizer


def model() -> nn.Sequential:
    """A small model, always the same."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))


def one_update(net: nn.Module, optimizer: AdamW, scale: float = 1.0) -> dict[str, float]:
    """Take one update on a fixed input."""
    (scale * net(torch.ones(2, 3))).sum().backward()
    return optimizer.step([7], 0)


def test_equals_torch_with_clipping() -> None:
    """With a bound and no decay the update is torch's own clip and AdamW."""
    ours, theirs = model(), model()
    one_update(ours, make(ours, learning_rate=0.1, max_grad_norm=0.5))
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.0)
    theirs(torch.ones(2, 3)).sum().backward()
    nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    reference.step()

    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_gradients_of_micro_batches_add_up() -> None:
    """Two backward passes and one step are one pass of the sum."""
    ours, whole = model(), model()
    optimizer = make(ours, learning_rate=0.1)
    ours(torch.ones(1, 3)).sum().backward()
    ours(torch.ones(1, 3)).sum().backward()
    optimizer.step([], 0)
    one_update(whole, make(whole, learning_rate=0.1))

    for a, b in zip(ours.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_schedules() -> None:
    """Warm-up rises in a line; cosine ends near 0, linear halves at the middle, constant stays."""
    net = model()
    cosine = make(net, 10, learning_rate=1.0, schedule="cosine", warmup_updates=3)
    linear = make(net, 10, learning_rate=1.0, schedule="linear")

    assert [cosine.learning_rate(i) for i in range(3)] == [0.25, 0.5, 0.75]
    assert cosine.learning_rate(3) == 1.0
    assert cosine.learning_rate(9) < 0.06
    assert linear.learning_rate(5) == 0.5
    assert make(net, 10, learning_rate=2.0, warmup_ratio=0.5).learning_rate(4) == pytest.approx(2 * 5 / 6)


@pytest.mark.parametrize(
    ("params", "theirs"),
    [
        (
            {"schedule": "cosine", "min_ratio": 0.1},
            lambda o: transformers.get_cosine_with_min_lr_schedule_with_warmup(o, 0, 20, min_lr_rate=0.1),
        ),
        (
            {"schedule": "wsd", "decay_ratio": 0.25, "min_ratio": 0.2},
            lambda o: transformers.get_wsd_schedule(
                o, num_warmup_steps=0, num_decay_steps=5, num_training_steps=20, decay_type="linear", min_lr_ratio=0.2
            ),
        ),
        ({"schedule": "linear"}, lambda o: transformers.get_linear_schedule_with_warmup(o, 0, 20)),
    ],
)
def test_schedules_are_those_of_transformers(params, theirs) -> None:
    """With a floor, and with a decay at the end, every update has the learning rate of the library."""
    ours = make(model(), 20, learning_rate=0.5, **params)
    optimizer = torch.optim.SGD(model().parameters(), lr=0.5)
    schedule = theirs(optimizer)
    for update in range(20):
        assert ours.learning_rate(update) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_a_gradient_that_is_not_finite_stops_before_the_update() -> None:
    """The weights stay as they were and the diagnostic names the prompts."""
    net = model()
    before = [p.clone() for p in net.parameters()]
    with pytest.raises(RecipeError) as refused:
        one_update(net, make(net), scale=float("nan"))

    assert refused.value.diagnostics[0].code == "RC763"
    assert "7" in refused.value.diagnostics[0].message
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize(("dtype", "rate"), [(torch.float32, 1e39), (torch.bfloat16, 1e39), (torch.bfloat16, 3.4e38)])
@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_weights_that_are_not_finite_after_the_update_stop_the_run(dtype, rate, nonfinite) -> None:
    """The gradient is fine and the update is not: it cannot be skipped any more, and nothing is saved after it."""
    net = model().to(dtype)
    optimizer = make(net, learning_rate=rate, nonfinite=nonfinite, schedule="constant")
    net(torch.ones(2, 3, dtype=dtype)).sum().backward()
    with pytest.raises(RecipeError) as refused:
        optimizer.step([7], 0)
    assert refused.value.diagnostics[0].code == "RC763"
    assert "weight" in refused.value.diagnostics[0].message


def test_skipping_has_an_end() -> None:
    """Under `skip` three such updates in a row are left out, the fourth stops the run."""
    net = model()
    optimizer = make(net, nonfinite="skip")
    for _ in range(3):
        assert one_update(net, optimizer, scale=float("nan"))["skipped_updates"] == 1.0
    with pytest.raises(RecipeError):
        one_update(net, optimizer, scale=float("nan"))


def test_frozen_parts_stay() -> None:
    """A name or dotted part freezes what matches; one that matches nothing is refused."""
    net = model()
    before = net[0].weight.clone()
    one_update(net, make(net, learning_rate=0.1, freeze=("0",)))

    assert torch.equal(before, net[0].weight)
    with pytest.raises(RecipeError) as refused:
        make(model(), freeze=("vision",))
    assert refused.value.diagnostics[0].code == "RC773"


def test_small_updates_of_bfloat16_weights_are_not_lost() -> None:
    """A float32 copy gathers what one update is too small to show."""
    net = model().to(torch.bfloat16)
    before = net[0].weight.float().clone()
    optimizer = make(net, 1000, learning_rate=1e-4)
    for _ in range(100):
        net(torch.ones(2, 3, dtype=torch.bfloat16)).float().sum().backward()
        optimizer.step([], 0)

    assert float((net[0].weight.detach().float() - before.detach()).abs().max()) > 5e-3


def test_continues_with_the_same_bits() -> None:
    """State saved and loaded gives the update that would have come."""
    straight, resumed = model(), model()
    one = make(straight, learning_rate=0.1)
    for _ in range(3):
        one_update(straight, one)
    first = make(resumed, learning_rate=0.1)
    for _ in range(2):
        one_update(resumed, first)
    second = make(resumed, learning_rate=0.1)
    second.load(first.state())
    one_update(resumed, second)

    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU"))])  # fmt: skip
def test_state_lies_where_the_weights_are(device: str) -> None:
    """What is loaded from the CPU, the count of steps among it, is used by a kernel on the weights' device."""
    net = model().to(device)
    optimizer = make(net)
    net(torch.ones(2, 3, device=device)).sum().backward()
    optimizer.step([], 0)
    stored = optimizer.state()
    for moments in stored["moments"].values():
        moments |= {name: value.cpu() for name, value in moments.items()}
    again = make(net)
    again.load(stored)

    assert {v.device.type for state in again.weights.optimizers[0].state.values() for v in state.values()} == {device}
    net(torch.ones(2, 3, device=device)).sum().backward()
    again.step([], 0)


def test_no_gradient_outlives_its_update() -> None:
    """Float32 copies keep no gradient while the next batch is sampled."""
    net = model().to(torch.bfloat16)
    optimizer = make(net)
    net(torch.ones(2, 3, dtype=torch.bfloat16)).sum().backward()
    optimizer.step([], 0)

    assert all(master.grad is None for master in optimizer.weights.masters.values())


def test_more_updates_than_were_planned():
    """An update that is half of a planned one goes half as far; a warm-up in updates counts those that are taken."""
    net = torch.nn.Linear(1, 1, bias=False)
    for params, rates in (
        ({"schedule": "linear"}, [2.0, 1.5, 1.0, 0.5]),
        ({"schedule": "constant", "warmup_updates": 3}, [0.5, 1.0, 1.5, 2.0]),
        ({"schedule": "constant", "warmup_ratio": 0.5}, [1.0, 1.5, 2.0, 2.0]),
    ):
        optimizer = make(net, 2, learning_rate=2.0, **params)
        optimizer.pace = 0.5
        found = []
        for _ in range(4):
            net.weight.sum().backward()
            found.append(optimizer.step([], 0)["learning_rate"])
        assert found == rates


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_a_loss_that_is_not_finite_has_the_rule_of_the_gradient(nonfinite) -> None:
    """It stops the run, or is skipped and counted, also where the gradient is finite."""
    net = model()
    optimizer = make(net, nonfinite=nonfinite)
    before = [p.clone() for p in net.parameters()]
    net(torch.ones(2, 3)).sum().backward()
    if nonfinite == "skip":
        assert optimizer.step([7], 0, float("nan"))["skipped_updates"] == 1.0
    else:
        with pytest.raises(RecipeError) as refused:
            optimizer.step([7], 0, float("nan"))
        assert refused.value.diagnostics[0].code == "RC763"
        assert "the loss" in refused.value.diagnostics[0].message
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def small() -> Any:
    """A decoder of a few thousand parameters, always the same."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=20, tie_word_embeddings=False, **shape))


def bound(kind: Any, spec: Any, net: Any) -> Any:
    """Bind an optimizer to a decoder."""
    policy = SimpleNamespace(model=net, module_groups=dict)
    optimizer = kind(spec, StageContext(Path(), Path(), 0, "explore"), policy=policy)
    optimizer.bind(10)
    return optimizer


def backward(net: Any) -> None:
    """Add the gradient of a fixed text."""
    ids = torch.arange(12)[None]
    net(input_ids=ids, labels=ids).loss.backward()


def test_muon_and_adamw_have_their_parts() -> None:
    """Matrices of layers get torch's Muon, embeddings, head and norms torch's AdamW, at one learning rate."""
    ours, theirs = small(), small()
    spec = specs.Muon(learning_rate=0.02, weight_decay=0.1, max_grad_norm=0)
    optimizer = bound(Muon, spec, ours)
    inside = [p for n, p in theirs.named_parameters() if p.ndim == 2 and "layers" in n]
    ends = [p for n, p in theirs.named_parameters() if p.ndim == 2 and "layers" not in n]
    plain = [p for p in theirs.parameters() if p.ndim == 1]
    assert (len(inside), len(ends)) == (7, 2)
    groups = [{"params": ends, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    muon = torch.optim.Muon(inside, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(groups, lr=0.02, betas=(0.9, 0.95))
    for _ in range(3):
        backward(ours)
        optimizer.step([], 0)
        backward(theirs)
        for one in (muon, adam):
            one.step()
            one.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_adafactor_is_that_of_torch() -> None:
    """Rates are relative to the size of a weight, norms are not decayed."""
    ours, theirs = small(), small()
    optimizer = bound(Adafactor, specs.Adafactor(learning_rate=0.05, weight_decay=0.1, max_grad_norm=0), ours)
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    reference = torch.optim.Adafactor(groups, lr=0.05)
    for _ in range(3):
        backward(ours)
        optimizer.step([], 0)
        backward(theirs)
        reference.step()
        reference.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "spec"), [(Muon, specs.Muon()), (Adafactor, specs.Adafactor())])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_their_state_is_continued(kind: Any, spec: Any, dtype: torch.dtype) -> None:
    """A run that was interrupted after two updates has the bits of one that was not."""
    straight, resumed = small().to(dtype), small().to(dtype)
    whole, begun = bound(kind, spec, straight), bound(kind, spec, resumed)
    for _ in range(2):
        backward(straight)
        whole.step([], 0)
        backward(resumed)
        begun.step([], 0)
    plain, tensors = split_tensors(begun.state())
    again = bound(kind, spec, resumed)
    again.load(join_tensors(json.loads(json.dumps(plain)), tensors))
    for net, optimizer in ((straight, whole), (resumed, again)):
        backward(net)
        optimizer.step([], 0)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
