"""Policies as a stage builds them: loaded, then given an attention."""

from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.spec.attention import Dense
from recipec.spec.policy import CausalLm as Spec

SCRATCH = Origin("scratch")


def dense_policy(spec: Spec, context: StageContext, origin: Origin = SCRATCH) -> CausalLm:
    """Build or load a policy that computes samples right-padded."""
    policy = spec.load()(spec, context, origin)
    policy.set_attention(DenseAttention(Dense(), context))
    return policy
