"""WebShop's reward: how well a purchase fits the instruction."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from recipec.runtime.environment.webshop.catalogue import Instruction, Product

_FITS = 85
_COLOURS = (
    *("beige", "black", "blue", "bronze", "brown", "burgundy", "charcoal", "coral", "cream", "cyan", "gold", "gray"),
    *("green", "grey", "indigo", "ivory", "khaki", "lavender", "lime", "magenta", "maroon", "mint", "navy", "olive"),
    *("orange", "peach", "pink", "plum", "purple", "red", "rose", "rust", "silver", "tan", "teal", "turquoise"),
    *("violet", "white", "yellow"),
)
_SMALL = frozenset(
    {"a", "an", "and", "as", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "the", "to", "with"}
)
_WITHIN = "\u203a"
"""Separator of nested categories."""
_WORD = re.compile(r"[^\W_]+")


def score(bought: Product, wanted: Product, instruction: Instruction, chosen: Mapping[str, str]) -> float:
    r"""Return WebShop's score of a purchase, 1 where it fits the instruction completely.

    .. math:: r = r_\text{type} \cdot \frac{n_\text{attributes} + n_\text{options} + [\text{price} \le \text{limit}]}
              {|\text{attributes}| + |\text{options}| + 1}

    Two differences, which avoid models and packages of the authors: all but the shortest words of a name count, theirs
    counts the nouns that spaCy finds; and colours are from a fixed list.

    Source: Yao et al., `WebShop <https://arxiv.org/abs/2207.01206>`_, 2022, section 3; princeton-nlp/WebShop,
    web_agent_site/engine/goal.py.
    """
    attributes = sum(_has(bought, attribute) for attribute in instruction.attributes)
    options = _options(bought, [_colour(option) for option in instruction.options], chosen)
    fits = attributes + options + (bought.price <= instruction.price_upper)
    return kind(bought, wanted) * fits / (len(instruction.attributes) + len(instruction.options) + 1)


def kind(bought: Product, wanted: Product) -> float:
    """Return how similar the kinds of two products are, 1, 0.5, 0.1 or 0, by query, category and words of the name."""
    words, have = _words(wanted.name), _words(bought.name)
    title = len(words & have) / len(words) if words else 0.2
    common = {part.strip() for part in bought.category.split(_WITHIN)} & {
        part.strip() for part in wanted.category.split(_WITHIN)
    }
    if title == 0.0:
        return 0.0
    if title < 0.1:
        return 0.1
    return 1.0 if bought.query == wanted.query or len(common) >= 2 or title > 0.2 else 0.5


def likeness(one: str, other: str) -> float:
    """Return the similarity of two texts as sets of words, from 0 to 100; 100 where one set contains the other.

    Source: the token set ratio of `thefuzz <https://github.com/seatgeek/thefuzz>`_, with the longest common
    subsequence in place of its matching blocks.

    >>> likeness("light blue", "Blue"), round(likeness("dark red", "dark rod"))
    (100.0, 88)
    """
    left, right = (frozenset(word.lower() for word in _WORD.findall(text)) for text in (one, other))
    common = " ".join(sorted(left & right))
    if common and (left <= right or right <= left):
        return 100.0
    alone = (" ".join(sorted(left - right)), " ".join(sorted(right - left)))
    first, second = (f"{common} {rest}".strip() for rest in alone)
    pairs = [(first, second), *([(common, first), (common, second)] if common else [])]
    return max(_ratio(a, b) for a, b in pairs)


def _has(product: Product, attribute: str) -> bool:
    return any(likeness(own, attribute) > _FITS for own in product.attributes) or attribute in product.words


def _options(product: Product, wanted: Sequence[str], chosen: Mapping[str, str]) -> int:
    """Count the options of the instruction that were chosen or are in the text of the product; sizes must be equal."""
    count = 0
    for name, value in chosen.items():
        colour = _colour(value)
        alike = colour in wanted if name == "size" else any(likeness(option, colour) > _FITS for option in wanted)
        count += alike or colour in product.words
    return count


def _colour(option: str) -> str:
    """Return the first colour in an option, else the option."""
    return next((colour for colour in _COLOURS if colour in option.lower()), option.lower())


def _words(name: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(name)} - _SMALL


def _ratio(one: str, other: str) -> float:
    """Return twice the longest common subsequence by both lengths, times 100."""
    row = [0] * (len(other) + 1)
    for letter in one:
        last = 0
        for i, against in enumerate(other, 1):
            last, row[i] = row[i], last + 1 if letter == against else max(row[i], row[i - 1])
    total = len(one) + len(other)
    return 200.0 * row[-1] / total if total else 0.0
