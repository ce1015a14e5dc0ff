"""A rollout engine that counts; see :class:`recipec_demo.spec.rollout_engine.Demo`."""

from collections.abc import Sequence

from recipec.runtime.context import StageContext
from recipec.runtime.protocols import Policy, RolloutEngine
from recipec.runtime.rollout.engine import Completion, Request, SamplingParams
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.spec.rollout_engine import Hf
from recipec_demo.spec.rollout_engine import Demo


class DemoRollouts(RolloutEngine):
    """Sample by `hf`; say how many requests there were."""

    shares_weights = True

    def __init__(self, spec: Demo, context: StageContext, *, policy: Policy) -> None:
        """Sample from ``policy``."""
        self.context = context
        self.inner = HfEngine(Hf(max_rows=spec.batch), context, policy=policy)
        self.requests = 0

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Completion]]:
        """Sample the completions of each request, in order."""
        self.requests += len(requests)
        return self.inner.generate(requests, sampling)

    def clear_cache(self) -> None:
        """Drop the caches of completions."""
        self.inner.clear_cache()

    def close(self) -> None:
        """Say how many requests there were."""
        self.context.say(f"demo engine: {self.requests} requests")
        self.inner.close()
