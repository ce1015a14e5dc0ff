"""The policy of a vision-language model; each image is encoded once per forward pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from recipec.diagnostics.errors import vision as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext
from recipec.runtime.data.image_parts import in_parts
from recipec.runtime.data.text import protect
from recipec.runtime.images.fit import framed
from recipec.runtime.images.image_store import ImageStore
from recipec.runtime.images.picture import Picture
from recipec.runtime.model import scratch as text_scratch, weights
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.lora import unknown_target
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.vision_families import Family, family_of
from recipec.runtime.vision import processors, scratch
from recipec.runtime.vision.image_features import EncodedImage, ImageEncoder
from recipec.runtime.vision.image_tokens import Registry
from recipec.spec import policy

if TYPE_CHECKING:
    from PIL.Image import Image


class VisionLm(CausalLm):
    """A Hugging Face image-text model; see :class:`recipec.spec.policy.VisionLm`.

    In its forward passes each token of an image has an id beyond the vocabulary (:class:`.ids.Registry`), so that
    an attention that shares what rows have in common shares images exactly where they are the same.
    """

    spec: policy.VisionLm
    family: Family
    processor: Any

    def __init__(self, spec: policy.VisionLm, context: StageContext, origin: Origin) -> None:
        """Load or build the model, its adapter, its tokenizer and its image processor."""
        super().__init__(spec, context, origin)
        self._see()
        self.image_store = ImageStore(self, context.cache / "images")
        self._lists = self._takes_lists()

    def _see(self) -> None:
        """Prepare to be shown images."""
        self.family = self.family_of(self.model)
        self.shown = int(self.model.config.image_token_id)
        self.registry = Registry(self.vocabulary, self.shown)
        self._pictures: dict[str, Picture] = {}
        self.encoder = ImageEncoder(self.family)
        self._shown: EncodedImage | None = None

    @staticmethod
    def family_of(model: Any) -> Family:
        """Return the family of a model, which was looked at when it was loaded."""
        family = family_of(model.config)
        assert family is not None, model.config.model_type
        return family

    def _new(self) -> nn.Module:
        spec = self.spec.scratch
        assert spec is not None
        tokenizer = text_scratch.build_tokenizer(spec.tokenizer, self.context.root)
        self.tokenizer = scratch.with_marks(tokenizer, spec.architecture)
        model = scratch.build_model(spec, self.tokenizer, self.spec.dropout)
        self.processor = self._processor(scratch.build_processor(spec).to_dict(), model)
        return model

    def _read(self, folder: Path, dtype: torch.dtype) -> nn.Module:
        weights.inspect_folder(folder, sees=True)
        self.tokenizer = weights.load_tokenizer(folder)
        model = self._model_of(folder, dtype)
        family, config = self.family_of(model), getattr(model, "config")  # noqa: B009 - typed as a module
        self.processor = self._processor(processors.described(folder), model)
        vocabulary = self.tokenizer.get_vocab()
        if vocabulary.get(family.shown) != config.image_token_id:
            raise RecipeError(
                errors.no_processor(str(folder), f"its tokenizer has no `{family.shown}` of the model's id")
            )
        protect(self.tokenizer, [m for m in (family.shown, *family.marks) if m in vocabulary])
        return model

    def _processor(self, config: Mapping[str, Any], model: Any) -> Any:
        kind = str(model.config.model_type)
        return processors.build(config, self.family_of(model), kind, self.spec.image, self._named())

    def _decoder(self, model: nn.Module) -> str:
        return self.family_of(model).decoder

    def _targeted(self, model: nn.Module, lora: policy.Lora) -> policy.Lora:
        """Name the layers that are meant: the decoder's, and others by names that the decoder has not.

        Raises:
            RecipeError: RC732, no layer has a name among the targets.
        """
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        linear = [name for name in linear if name.startswith("model.")]  # the head stays as it is
        own = [name for name in linear if name.startswith(self.family_of(model).decoder + ".")]
        if lora.targets == "all_linear":
            return lora.model_copy(update={"targets": tuple(own)})
        chosen: list[str] = []
        for target in lora.targets:
            hits = _named(own, target) or _named(linear, target)
            if not hits:
                raise RecipeError(unknown_target(target, linear))
            chosen += hits
        return lora.model_copy(update={"targets": tuple(dict.fromkeys(chosen))})

    # text and images

    def picture(self, image: Image, path: str) -> Picture:
        """Prepare an image for the model.

        Raises:
            RecipeError: RC852, it needs more tokens than the model has positions; RC855, the processor does not take
                it.
        """
        try:
            prepared, text = self.family.prepare(self.processor, framed(image, self.spec.image))
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            raise RecipeError(errors.image_refused(path, str(error).partition("\n")[0])) from error
        tokens = tuple(int(i) for i in self.tokenizer(text, add_special_tokens=False).input_ids)
        if len(tokens) >= self.max_positions:
            raise RecipeError(errors.image_too_large(path, len(tokens), self.max_positions))
        # the encoder takes its own type; kept in it, many images need half of the memory
        inputs = {k: v.to(self.model.dtype) if v.is_floating_point() else v for k, v in sorted(prepared.items())}
        digest = hashlib.sha256(repr([(k, v.dtype, tuple(v.shape)) for k, v in inputs.items()]).encode())
        for value in inputs.values():
            digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return Picture(digest.hexdigest(), path, inputs, tokens)

    def sample_pictures(self) -> list[Picture]:
        """Return two images of noise, of different sizes."""
        from PIL.Image import fromarray  # noqa: PLC0415 - only images need Pillow

        draw = np.random.default_rng(0)
        noise = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 32), (32, 64))]
        return [self.picture(fromarray(pixels), f"noise {place}") for place, pixels in enumerate(noise)]

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        generation: bool = True,
        variables: Mapping[str, Any] | None = None,
        images: Sequence[Picture] = (),
    ) -> list[int]:
        """Encode messages by the chat template; each `image` part becomes the tokens of the next of ``images``.

        Raises:
            RecipeError: RC851, there are more or fewer images than parts; RC729, RC730.
        """
        wanted = sum(part.get("type") == "image" for message in messages for part in in_parts(message["content"]))
        if wanted != len(images):
            raise RecipeError(errors.miscounted(len(images), wanted, "a conversation"))
        shown = [{**message, "content": self._content(message["content"])} for message in messages]
        ids = self.text.render(shown, generation=generation, variables=variables)
        if ids.count(self.shown) != len(images):
            raise RecipeError(errors.miscounted(len(images), ids.count(self.shown), "what the chat template writes"))
        with_images: list[int] = []
        at = 0
        for place, picture in zip([i for i, token in enumerate(ids) if token == self.shown], images, strict=True):
            first, last = picture.tokens[0], picture.tokens[-1]
            # separators that the template writes itself are not doubled
            with_images += ids[at : place - (first != self.shown and at < place and ids[place - 1] == first)]
            with_images += picture.tokens
            at = place + 1 + (last != self.shown and ids[place + 1 : place + 2] == [last])
        return with_images + ids[at:]

    def _content(self, content: Any) -> Any:
        """Return a message's content in the form that the template takes."""
        if self._lists:
            return in_parts(content)
        if isinstance(content, str) or any(part.get("type") == "image" for part in content):
            return content
        return "".join(str(part["text"]) for part in content)

    def _takes_lists(self) -> bool:
        """Whether the chat template takes content in parts; a template that does not may silently leave text out."""
        try:
            ids = self.text.render([{"role": "user", "content": [{"type": "text", "text": "xyz"}]}])
        except RecipeError:
            return False
        text = self.text.decode(ids)
        return "xyz" in text and "'type'" not in text

    # forward passes

    def _show(self, pictures: Iterable[Picture]) -> dict[str, Picture]:
        """Give images their ids; return them by digest."""
        by_digest = {picture.digest: picture for picture in pictures}
        for picture in by_digest.values():
            self.registry.add(picture, self.family.shape(self.model, picture.inputs))
        return by_digest

    def tag_image_tokens(self, ids: Sequence[int], images: Sequence[Picture]) -> tuple[int, ...]:
        """Return a prompt's ids with those of its images.

        Raises:
            RecipeError: RC851.
        """
        self._show(images)
        row_T = np.asarray(ids, dtype=np.int64)
        if not images and not (row_T == self.shown).any():
            return tuple(ids)
        return tuple(self.registry.place(row_T, np.zeros(len(row_T), dtype=bool), images, "a prompt").tolist())

    def logprobs(
        self,
        tokens_RT: Tensor,
        attend_RT: Tensor,
        trained_RT: Tensor,
        pixels_I: Sequence[Picture] = (),
        image_row_I: Tensor | None = None,
        *,
        entropy: bool = True,
        collision: bool = False,
    ) -> dict[str, Tensor]:
        """Score rows with the images ``pixels_I``; RC851, a row has no place for an image, or a place without one."""
        with self._counted_anew():
            self._pictures = self._show(pixels_I)
            keyed_RT = self._keyed(tokens_RT, attend_RT, trained_RT, pixels_I, image_row_I)
            return super().logprobs(keyed_RT, attend_RT, trained_RT, entropy=entropy, collision=collision)

    def tag_batch(self, batch: Batch) -> Batch:
        """Return a batch in which different images have different ids, for attention that shares prefixes."""
        tokens_RT, attend_RT, trained_RT = (batch[name] for name in ("tokens_RT", "attend_RT", "trained_RT"))
        pixels_I, image_row_I = batch.get("pixels_I", ()), batch.get("image_row_I")
        with self._counted_anew():
            self._show(pixels_I)
            keyed_RT = self._keyed(tokens_RT, attend_RT, trained_RT, pixels_I, image_row_I)
        return Batch({**batch, "tokens_RT": keyed_RT})

    @contextmanager
    def _counted_anew(self) -> Iterator[None]:
        """Number images in the order of this pass, so that a prefix tree does not depend on earlier passes."""
        before, self.registry = self.registry, Registry(self.vocabulary, self.shown)
        try:
            yield
        finally:
            self.registry, self._pictures = before, {}

    def _keyed(
        self,
        tokens_RT: Tensor,
        attend_RT: Tensor,
        trained_RT: Tensor,
        pixels_I: Sequence[Picture],
        image_row_I: Tensor | None,
    ) -> Tensor:
        of_row: dict[int, list[Picture]] = {}
        for picture, row in zip(pixels_I, [] if image_row_I is None else image_row_I.tolist(), strict=True):
            of_row.setdefault(int(row), []).append(picture)
        tokens, sampled = tokens_RT.cpu().numpy().copy(), trained_RT.cpu().numpy()
        for row, length in enumerate(attend_RT.sum(-1).tolist()):
            if row in of_row or (tokens[row, :length] == self.shown).any():
                part = (row, slice(length))
                tokens[part] = self.registry.place(tokens[part], sampled[part], of_row.get(row, ()), f"row {row + 1}")
        return torch.from_numpy(tokens)

    def __call__(  # type: ignore[override]
        self,
        tokens_RT: Tensor,
        attend_RT: Tensor,
        trained_RT: Tensor,
        pixels_I: Sequence[Picture],
        image_row_I: Tensor,
    ) -> dict[str, Tensor]:
        """Score tokens: the policy's node in the graph."""
        return self.logprobs(tokens_RT, attend_RT, trained_RT, pixels_I, image_row_I)

    @contextmanager
    def _drawn(self) -> Iterator[None]:
        """Encode the images before the attention takes the layers over, under the dropout of the pass."""
        with super()._drawn(), self.encoding_images(self._pictures.values()):
            yield

    @contextmanager
    def encoding_images(self, pictures: Iterable[Picture]) -> Iterator[None]:
        """Encode each image once for everything that is computed inside."""
        named, first = self._show(pictures), self.registry.first
        shown = [(named[digest], first[digest]) for digest in sorted(named, key=first.__getitem__)]
        # ranks gather the encoder's weights together: each encodes once in every pass, whatever its rows show
        together = self.layout.collective
        if together and not shown:
            inputs = self.family.random_inputs(self.model.config.vision_config, 4)
            shown = [(Picture("", "", inputs, ()), 0)]
        if shown:
            parts = self.module_groups()
            trained = any(p.requires_grad for name in ("vision", "projector") for p in parts[name])
            features = self.encoder(self.model, [one for one, _ in shown], fixed=not trained and not together)
            counts = torch.tensor([len(one) for one in features])
            begins = torch.tensor([begin for _, begin in shown])
            self._shown = EncodedImage(
                torch.cat(features), begins.to(self.device), (counts.cumsum(0) - counts).to(self.device)
            )
        try:
            yield
        finally:
            self._shown = None

    @contextmanager
    def reading(self, ids_RT: Tensor) -> Iterator[dict[str, Tensor]]:
        """Yield what the model reads of tokens in a pass inside: the ids themselves where they are all text."""
        if self._shown is None or not bool((ids_RT >= self.vocabulary).any()):
            yield {"input_ids": ids_RT}
            return
        embedded, deeper = self.embed(ids_RT)
        # the whole model, which has the head, does not pass these arguments on to its decoder
        decoder = self.model.get_submodule(self.family.decoder)
        hook = decoder.register_forward_pre_hook(lambda _, args, kwargs: (args, kwargs | deeper), with_kwargs=True)
        try:
            yield {"inputs_embeds": embedded}
        finally:
            hook.remove()

    def embed(self, ids_RT: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Return embeddings of text and features of images, and the decoder's other arguments for images."""
        seen_RT = ids_RT >= self.vocabulary
        embedded: Tensor = self.model.get_input_embeddings()(ids_RT.masked_fill(seen_RT, 0))
        if self._shown is None:
            assert not seen_RT.any(), "a pass over images that were not shown"
            return embedded, {}
        first, *others = torch.split(self._shown.of(ids_RT[seen_RT]).to(embedded.dtype), embedded.shape[-1], -1)
        return embedded.index_put((seen_RT,), first), self.family.deeper(seen_RT, others)

    def hidden_states(self, **inputs: Any) -> Tensor:
        """Run the decoder without its head over text and images."""
        embedded, deeper = self.embed(inputs.pop("input_ids"))
        decoder = self.model.get_submodule(self.family.decoder)
        hidden: Tensor = decoder(inputs_embeds=embedded, **inputs, **deeper, use_cache=False).last_hidden_state
        return hidden

    def position_ids(self, tokens_RT: Tensor) -> Tensor | None:
        """Return positions [3, R, T] of families with M-RoPE: image rows and columns have axes of their own."""
        if not self.family.turns:
            return None
        turned_3RT, _ = self.registry.rope_positions(tokens_RT.cpu().numpy())
        return torch.from_numpy(turned_3RT).to(tokens_RT.device)

    @property
    def image_encoder(self) -> VisionLm:
        """What the sampling engine asks of a policy that sees: itself."""
        return self

    def rope_positions(
        self, ids_RT: Tensor, valid_RT: Tensor | None, counted_RT: Tensor, lead_R: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return positions of new tokens, of which ``counted_RT`` are the numbers, and how far rows lead by then."""
        if not self.family.turns:
            return counted_RT, lead_R
        if ids_RT.shape[1] == 1:  # a token that was drawn is text
            return (counted_RT + lead_R[:, None]).expand(3, -1, -1), lead_R
        valid = np.ones(ids_RT.shape, dtype=bool) if valid_RT is None else valid_RT.cpu().numpy()
        turned_3RT, ends_R = self.registry.rope_positions(ids_RT.cpu().numpy(), valid)
        begin_R1 = (counted_RT[:, 0] + lead_R)[:, None]
        lead_R = lead_R + torch.from_numpy(ends_R - valid.sum(1)).to(lead_R.device)
        return torch.from_numpy(turned_3RT).to(ids_RT.device) + begin_R1, lead_R

    def next_position(self, ids: Sequence[int]) -> int:
        """Return the position of the token that follows a row's beginning."""
        if not self.family.turns or not len(ids):
            return len(ids)
        return int(self.registry.rope_positions(np.asarray(ids, dtype=np.int64)[None])[1][0])

    # weights

    def module_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the groups that ``optimizer.freeze`` may name."""
        family = self.family_of(self.model)
        projector = [p for path in family.projectors for p in self.model.get_submodule(path).parameters()]
        own = {id(p) for p in projector}
        tower = [p for p in self.model.get_submodule(family.tower).parameters() if id(p) not in own]
        decoder = list(self.model.get_submodule(family.decoder).parameters())
        return {**super().module_groups(), "vision": tower, "projector": projector, "decoder": decoder}

    def save_text(self, folder: Path) -> None:
        """Write what turns text and images into tokens."""
        super().save_text(folder)
        processors.save(self.processor, self.family, str(self.model.config.model_type), folder)


def _named(names: Iterable[str], target: str) -> list[str]:
    """Choose the names that have ``target`` as a part: `q_proj`, `visual`, `layers.3.mlp`."""
    return [name for name in names if f".{target}." in f".{name}."]
