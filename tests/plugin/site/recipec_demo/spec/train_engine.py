"""A training engine around the one of recipec."""

from typing import ClassVar, Literal

from recipec.component import component
from recipec.spec.train_engine import TrainEngine


@component("train_engine", impl="recipec_demo.runtime.train_engine:DemoUpdates", uses=("policy", "optimizer"))
class Demo(TrainEngine):
    """Train as `local` does and count the updates."""

    max_devices: ClassVar[int | None] = 1

    type: Literal["demo"] = "demo"
