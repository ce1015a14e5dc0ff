"""A sampler at a lower temperature."""

from typing import Literal

from recipec.component import component, param
from recipec.spec.sampler import Chain


@component(
    "sampler",
    requires=Chain._requires,
    provides=Chain._provides,
    impl="recipec_demo.runtime.sampler:CooledSampler",
    state=True,
    uses=Chain.uses,
    draws=True,
)
class Cooled(Chain):
    """Sample chains at a part of the temperature of which log-probabilities are computed."""

    type: Literal["cooled"] = "cooled"
    cooling: float = param(0.5, "Factor of the temperature while sampling.", gt=0, le=1)
