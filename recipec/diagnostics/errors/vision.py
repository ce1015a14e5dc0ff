"""What can go wrong with models that see images: RC850 to RC859."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC850", "other-kind-of-model")
def other_kind(folder: str, model: str, wanted: str) -> Finding:
    """An image-text model is loaded as a text model, or the other way round.

    What it checks: `model_type` in `config.json` against the stage's `policy.type`.
    Why it matters: the one has no way to take images, the other would never be shown any.
    Example: `from: Qwen/Qwen2-VL-2B-Instruct` with `policy: {type: causal_lm}`.
    Use instead: the policy type that the message names.
    """
    return Finding(
        f"{folder} is a `{model}` model",
        why="the one kind has no way to take images, the other would never be shown any",
        help=f"set policy.type to `{wanted}`, or name another model",
    )


@diagnostic("RC851", "images-and-places-differ")
def miscounted(images: int, places: int, what: str) -> Finding:
    """A prompt has more or fewer places for images than there are images.

    What it checks: what the chat template writes for the `image` parts of the messages, and the tokens of each row,
    against the images that came with them.
    Why it matters: an image would be shown in the place of another, or not at all.
    Example: two `{"type": "image"}` parts and one file under `images`.
    Use instead: one file for each part, in the same order; and a chat template that writes the model's image token.
    """
    return Finding(
        f"{what} has places for {places} images, and {images} were given",
        why="an image would be shown in the place of another, or not at all",
        help="give one image for each `image` part; the chat template must write the model's image token for each",
    )


@diagnostic("RC852", "image-over-context")
def image_too_large(path: str, tokens: int, positions: int) -> Finding:
    """An image alone needs more tokens than the model has positions.

    What it checks: the tokens that stand for each image against the positions of the model.
    Why it matters: there is no room for a question and an answer beside it.
    Example: a photograph of 12 megapixels for a model with 4,096 positions.
    Use instead: `policy.image.size` or `policy.image.max_pixels`.
    """
    return Finding(
        f"image {path} needs {tokens:,} tokens, and the model has {positions:,} positions",
        why="there is no room for a question and an answer beside it",
        help="set policy.image.size or policy.image.max_pixels, so that images become smaller",
    )


@diagnostic("RC853", "unknown-vision-family")
def unknown_family(file: str, model: str, known: str) -> Finding:
    """The family of an image-text model is not known here.

    What it checks: `model_type` in `config.json` against the families whose images, separators and positions are known.
    Why it matters: images would stand in the wrong place or at the wrong positions, and nothing would fail.
    Example: `policy: {type: vision_lm}` with a LLaVA model.
    Use instead: a model of one of the families that the message names.
    """
    return Finding(
        f"{file}: images of `{model}` models are not known here",
        why="they would stand in the wrong place or at the wrong positions, and nothing would fail",
        help=f"name a model of one of these: {known}",
    )


@diagnostic("RC854", "no-image-processor")
def no_processor(folder: str, problem: str) -> Finding:
    """The description of a model's image processor is missing or cannot be used.

    What it checks: `preprocessor_config.json` (or `processor_config.json`) beside the weights, and the image tokens of
    the tokenizer.
    Why it matters: sizes, means and deviations of the pixels are the model's own.
    Example: a directory into which only model and tokenizer were saved.
    Use instead: the whole directory, as `save_pretrained` of model and processor write it.
    """
    return Finding(
        f"images cannot be prepared for the model in {folder}: {problem}",
        why="sizes, means and deviations of the pixels are the model's own",
        help="give the whole directory, as `save_pretrained` of model and processor write it",
    )


@diagnostic("RC855", "image-refused")
def image_refused(path: str, problem: str) -> Finding:
    """The model's image processor does not take an image.

    What it checks: every image while it is prepared.
    Why it matters: the row would lose its image.
    Example: an image of 4,000 by 10 pixels, for a model that takes a ratio of sides up to 200.
    Use instead: leave the row out, or set `policy.image.size` with a `fit`.
    """
    return Finding(
        f"image {path} cannot be prepared for the model: {problem}",
        why="the row would lose its image",
        help="leave the row out, or set policy.image.size and policy.image.fit",
    )


@diagnostic("RC856", "image-parameter-of-another-family")
def foreign_knob(param: str, model: str) -> Finding:
    """A parameter under `policy.image` means nothing to the model.

    What it checks: `min_pixels`, `max_pixels` and `split` against the family of the model, when it is loaded.
    Why it matters: images would have another size than the recipe says.
    Example: `image: {split: false}` with a Qwen2-VL model.
    Use instead: `size` and `fit`, which every family has.
    """
    return Finding(
        f"policy.image.{param} means nothing to a `{model}` model",
        why="images would have another size than the recipe says",
        help="use policy.image.size, or leave it out",
    )


@diagnostic("RC857", "reference-sees-otherwise")
def sees_otherwise(name: str, model: str, mine: str) -> Finding:
    """A reference from elsewhere cannot be shown the images of the policy.

    What it checks: the family of the other model against the policy's.
    Why it matters: both must see the same pixels, or the difference of their log-probabilities means nothing.
    Example: `reference: {from: ./idefics}` for a policy that is a Qwen2-VL model.
    Use instead: a reference of the policy's family.
    """
    return Finding(
        f"reference `{name}` is a `{model}` model, and the policy a `{mine}` model",
        why="both must see the same pixels, or the difference of their log-probabilities means nothing",
        help="take a reference of the policy's family",
    )
