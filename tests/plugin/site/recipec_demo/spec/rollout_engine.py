"""A rollout engine around the one of recipec."""

from typing import ClassVar, Literal

from recipec.component import component, param
from recipec.spec.rollout_engine import RolloutEngine


@component("rollout_engine", impl="recipec_demo.runtime.rollout_engine:DemoRollouts", uses=("policy",))
class Demo(RolloutEngine):
    """Generate as `hf` does and count the requests."""

    shares_weights: ClassVar[bool] = True
    rows_param: ClassVar[str] = "batch"

    type: Literal["demo"] = "demo"
    batch: int = param(16, "Maximum number of sequences decoded together.", unit="sequences", ge=1)
