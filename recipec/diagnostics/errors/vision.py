"""Vision-language models: RC850 to RC857."""

from __future__ import annotations

from collections.abc import Iterable

from recipec.diagnostics.model import Finding, diagnostic
from recipec.diagnostics.phrases import listed


@diagnostic("RC850", "other-kind-of-model")
def other_kind(folder: str, model: str, wanted: str) -> Finding:
    """The `policy.type` is `causal_lm` for a vision-language model, or `vision_lm` for a text model.

    Why it matters: a text model cannot take images, and a vision-language model loaded as text would never see any.
    Example: `from: Qwen/Qwen2-VL-2B-Instruct` with `policy: {type: causal_lm}`.
    How to fix: change `policy.type`, or use another model.
    """
    return Finding(f"{folder} is a `{model}` model", help=f"set policy.type to `{wanted}`, or use another model")


@diagnostic("RC851", "images-and-places-differ")
def miscounted(images: int, places: int, what: str) -> Finding:
    """A prompt has more or fewer places for images than there are images.

    What it checks: the `image` parts of the messages, the image tokens that the chat template writes, and the tokens of
    each row, against the images that belong to them.
    Why it matters: an image would take the place of another, or be left out.
    Example: two `{"type": "image"}` parts and one file under `images`.
    How to fix: give one image for each `image` part, in the same order, and use a chat template that writes the model's
    image token for each.
    """
    return Finding(f"{what} has places for {places} images, but {images} were given")


@diagnostic("RC852", "image-over-context")
def image_too_large(path: str, tokens: int, positions: int) -> Finding:
    """A single image needs more tokens than the model has positions.

    Why it matters: no positions are left for the question and the answer.
    Example: a photograph of 12 megapixels for a model with 4,096 positions.
    How to fix: set `policy.image.size` or `policy.image.max_pixels`, so that images become smaller.
    """
    return Finding(f"image {path} needs {tokens:,} tokens, but the model has {positions:,} positions")


@diagnostic("RC853", "unknown-vision-family")
def unknown_family(file: str, model: str, known: Iterable[str]) -> Finding:
    """The `model_type` in `config.json` is a vision-language model that is not supported.

    Why it matters: each family places images and positions differently; a wrong placement would not fail, but give
    wrong results.
    Example: `policy: {type: vision_lm}` with a LLaVA model.
    How to fix: use a model of a supported family.
    """
    return Finding(f"{file}: `{model}` models are not supported", help=f"use a model of one of these: {listed(known)}")


@diagnostic("RC854", "no-image-processor")
def no_processor(folder: str, problem: str) -> Finding:
    """The description of a model's image processor is missing or cannot be used, or the tokenizer has no image tokens.

    Why it matters: the model was trained with its own sizes, means and deviations of pixels.
    Example: a directory with model and tokenizer, but without `preprocessor_config.json`.
    How to fix: give the whole directory, as `save_pretrained` of model and processor wrote it.
    """
    return Finding(f"images cannot be prepared for the model in {folder}: {problem}")


@diagnostic("RC855", "image-refused")
def image_refused(path: str, problem: str) -> Finding:
    """The model's image processor rejects an image.

    Why it matters: the row would lose its image.
    Example: an image of 4,000 by 10 pixels for a model that accepts an aspect ratio of at most 200.
    How to fix: leave the row out, or set `policy.image.size` and `policy.image.fit`.
    """
    return Finding(f"image {path} cannot be prepared for the model: {problem}")


@diagnostic("RC856", "image-parameter-of-another-family")
def foreign_param(param: str, model: str) -> Finding:
    """One of `min_pixels`, `max_pixels` and `split` under `policy.image` does not exist for this model family.

    Why it matters: images would have another size than the recipe says.
    Example: `image: {split: false}` with a Qwen2-VL model.
    How to fix: use `policy.image.size` and `policy.image.fit`, which every family has, or leave the parameter out.
    """
    return Finding(f"policy.image.{param} has no effect on a `{model}` model")


@diagnostic("RC857", "reference-sees-otherwise")
def other_family(name: str, model: str, mine: str) -> Finding:
    """The reference model is of another family than the policy, a vision-language model.

    Why it matters: both must see the same pixels, or the difference of their log-probabilities is meaningless.
    Example: `reference: {from: ./idefics}` for a policy that is a Qwen2-VL model.
    How to fix: use a reference of the policy's family.
    """
    return Finding(f"reference `{name}` is a `{model}` model, but the policy is a `{mine}` model")
