"""Chains at a lower temperature; see :class:`recipec_demo.spec.sampler.Cooled`."""

from typing import Any

from recipec.runtime.context import StageContext
from recipec.runtime.protocols import Environment, Policy, RolloutEngine
from recipec.runtime.rollout.chain import ChainSampler
from recipec_demo.spec.sampler import Cooled


class CooledSampler(ChainSampler):
    """Sample chains by the spec of a cooler sampler."""

    def __init__(
        self,
        spec: Cooled,
        context: StageContext,
        *,
        policy: Policy,
        rollout_engine: RolloutEngine,
        environment: Environment | None = None,
    ) -> None:
        """Sample from ``policy`` by ``rollout_engine``."""
        cooler = spec.model_copy(update={"temperature": spec.temperature * spec.cooling})
        parts: dict[str, Any] = {"policy": policy, "rollout_engine": rollout_engine, "environment": environment}
        super().__init__(cooler, context, **parts)
