"""Four-bit weights under an adapter, where a GPU and bitsandbytes are."""

import pytest
import torch
from support.images import SIZES, build, conversations, gradients, scored, use

from recipec.runtime.model import quantization
from recipec.runtime.model.origin import Origin
from recipec.spec.policy import Lora

pytestmark = pytest.mark.skipif(bool(quantization.problem()), reason=quantization.problem() or "it can")


def test_an_adapter_over_four_bits(tmp_path, monkeypatch):
    """Only the adapter trains; a tree gives what rows give; what is saved is plain weights and the adapter."""
    monkeypatch.setitem(SIZES, "hidden_size", 64)
    build(tmp_path).save(tmp_path / "model")
    given = {"quantization": "nf4", "lora": Lora(r=2)}
    policy = build(tmp_path, origin=Origin("directory", "model"), device="cuda", **given)
    batch, _ = conversations(policy)
    assert all("lora_" in name for name in gradients(policy, batch))
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.add_(0.05)
        expected = scored(policy, batch)
        use(policy, "trie")
        assert (scored(policy, batch) - expected).abs().max() < 1e-3
    policy.save(tmp_path / "again")
    plain = build(tmp_path, origin=Origin("directory", "again", adapter="continue"), device="cuda")
    with torch.no_grad():
        assert (scored(plain, batch) - expected).abs().max() < 1e-2
