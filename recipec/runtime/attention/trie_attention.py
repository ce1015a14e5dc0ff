"""Prefix-tree attention, for the architectures that certify."""

from __future__ import annotations

from typing import Any

from recipec.diagnostics.errors import attention as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention import interface
from recipec.runtime.attention.certification.cache import certificate
from recipec.runtime.attention.kernels import flash
from recipec.runtime.attention.prefix_sharing import PrefixSharing
from recipec.runtime.protocols import Policy, Sharing


class TrieAttention(PrefixSharing):
    """All common prefixes are shared; see :class:`recipec.spec.attention.Trie`."""

    def bind(self, policy: Policy) -> None:
        """Bind the model if its architecture certifies.

        Raises:
            RecipeError: RC830, it does not certify; RC831, the kernel does not support the model.
        """
        config: Any = policy.model.config
        if self.spec.kernel == "flex" and policy.device.type != "cuda":
            raise RecipeError(errors.kernel_not_here("flex", "it has no backward pass on a CPU"))
        capped = getattr(config.get_text_config(), "attn_logit_softcapping", None)
        if self.spec.kernel == "flash" and capped and not flash.caps(policy.device):
            raise RecipeError(errors.kernel_not_here("flash", "the layers cap their scores"))
        certified = certificate(config, self.context.cache)
        if not certified.equal:
            raise RecipeError(
                errors.not_certified(self.spec.type_name, str(config.model_type), certified.why, shares=True)
            )
        self.layers, _ = interface.install(policy.model)
        self.hands_over = certified.hands_over


class SharedPrefix(TrieAttention):
    """Whole prompts alone are shared; see :class:`recipec.spec.attention.SharedPrefix`."""

    sharing: Sharing = "prompts"
