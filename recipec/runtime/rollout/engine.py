"""Input and output of rollout engines: requests, completions, sampling parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recipec.runtime.images.picture import Picture

Key = tuple[int | str, ...]
"""Seeds the draws of one completion: recipe seed, stage, step, prompt, sample and so on."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How completions are drawn; the parameters of the samplers.

    Example: ``SamplingParams(max_length=64, temperature=0.7, top_p=0.9)``.
    """

    max_length: int
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest token."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    min_length: int = 0
    """No end-of-sequence token before this many tokens; a stop text still ends the completion."""
    stop: tuple[str, ...] = ()

    @property
    def full(self) -> bool:
        """Whether every token may be drawn at every position.

        >>> SamplingParams(8).full, SamplingParams(8, top_k=5).full, SamplingParams(8, min_length=2).full
        (True, False, False)
        """
        return self.top_p >= 1.0 and self.top_k == 0 and self.min_p == 0.0 and self.min_length == 0


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and a key for each completion that is wanted of it.

    Example: ``Request((5, 17), ((0, "explore", 3, 7, 0), (0, "explore", 3, 7, 1)))``: two samples of prompt 7.
    """

    ids: tuple[int, ...]
    keys: tuple[Key, ...]
    prompt_id: int = 0
    """Names the prompt in error messages."""
    max_length: int | None = None
    """Longest completion of this request, where it is shorter than that of the sampling parameters."""
    kv: Any = None
    """Cached keys and values of a prefix of ``ids``; without it they are computed again, with the same result."""
    keep_kv: bool = False
    """Whether completions come with their KV cache, for requests that continue them."""
    images: tuple[Picture, ...] = ()
    """The images of the prompt, in order."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy wrote: ids as drawn, the end-of-sequence token included, and their log-probabilities in nats."""

    ids: tuple[int, ...]
    logprob: tuple[float, ...]
    ended: bool
    """It ended by itself, by a token or a stop text, and was not cut at a limit."""
    kv: Any = None
    """Cached keys and values of prompt and completion, if the request wants them (``keep_kv``)."""
    given: tuple[int, int] = (0, 0)
    """Tokens from the first place on, to before the second, were put there and not drawn: they are not trained."""
