"""A vision-language policy around a model that is in memory already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recipec.runtime.images.picture import Picture
from recipec.runtime.model.given_model import GivenModel
from recipec.runtime.vision.vision_lm import VisionLm
from recipec.spec.policy import VisionLm as Spec


class GivenVisionLm(VisionLm, GivenModel):
    """It has neither tokenizer nor image processor; its images are random arguments of the encoder."""

    def __init__(self, model: Any, cache: Path) -> None:
        """Take the model as it is."""
        GivenModel.__init__(self, model, cache)  # the constructor of VisionLm loads a model
        self.spec = Spec()
        self._see()

    def sample_pictures(self) -> list[Picture]:
        """Draw two images, of different sizes if the encoder takes several."""
        separators = [token for token in range(self.vocabulary) if token != self.shown][-2:]
        pictures = []
        for name, rows in (("one", 4), ("other", 2)):
            inputs = self.family.random_inputs(self.model.config.vision_config, rows)
            with torch.no_grad():
                (features_FH,) = self.family.features(self.model, [inputs])
            tokens = (separators[0], *[self.shown] * len(features_FH), separators[1])
            pictures.append(Picture(name, name, inputs, tokens))
        return pictures
