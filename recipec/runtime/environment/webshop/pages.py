"""The pages of the shop as plain values, and the actions on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from recipec.runtime.environment.webshop.catalogue import Catalogue, Instruction, Product
from recipec.runtime.environment.webshop.purchase_reward import score

FOUND = 50
"""Most products of a search, as released."""
PER_PAGE = 10
SEARCH = "search[<words>]"
BACK, NEXT, PREVIOUS, BUY = "back to search", "next >", "< prev", "buy now"
TABS = ("description", "features", "reviews")
_ACTION = re.compile(r"(search|click)\[(.+)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """The page that a customer sees, an immutable value.

    Example: ``Page()`` is the first page.
    """

    kind: Literal["search", "results", "item", "tab", "done"] = "search"
    words: str = ""
    found: tuple[str, ...] = ()
    number: int = 1
    """Page of the results."""
    asin: str = ""
    chosen: tuple[tuple[str, str], ...] = ()
    """Options chosen: name and value."""
    tab: str = ""
    score: float = 0.0
    """Reward of the purchase."""


class Shop:
    """Pages over a catalogue.

    ``search`` returns the numbers of the best products for words, at most a given number.
    """

    def __init__(self, catalogue: Catalogue, search: Callable[[str, int], Sequence[str]]) -> None:
        self.catalogue = catalogue
        self.search = search

    def act(self, page: Page, action: str, instruction: Instruction) -> Page:
        """Take an action: ``search[words]`` anywhere, or ``click[...]`` on a text of the page; others do nothing."""
        call = _ACTION.fullmatch(action.strip())
        if call is None or page.kind == "done":
            return page
        verb, argument = call[1], call[2].strip().lower()
        if verb == "search":
            return Page("results", argument, tuple(self.search(argument, FOUND)))
        return self._clicked(page, argument, instruction) if argument in self.clickable(page) else page

    def clickable(self, page: Page) -> list[str]:
        """List what can be clicked on a page, in lower case."""
        if page.kind == "results":
            last = -(-len(page.found) // PER_PAGE)
            turns = [NEXT] * (page.number < last) + [PREVIOUS] * (page.number > 1)
            return [BACK, *turns, *(asin.lower() for asin in _shown(page))]
        if page.kind == "item":
            options = [value for values in (self._product(page).options or {}).values() for value in values]
            return [BACK, PREVIOUS, *dict.fromkeys(options), *TABS, BUY]
        return [BACK, PREVIOUS] if page.kind == "tab" else []

    def actions(self, page: Page) -> list[str]:
        """List the actions of a page."""
        return [SEARCH] if page.kind == "search" else [f"click[{text}]" for text in self.clickable(page)]

    def text(self, page: Page) -> str:
        """Return the text of a page, its parts separated by ``[SEP]``."""
        return " [SEP] ".join(self._parts(page))

    def _clicked(self, page: Page, argument: str, instruction: Instruction) -> Page:
        if argument == BACK:
            return Page()
        if page.kind == "results":
            if argument in {NEXT, PREVIOUS}:
                return replace(page, number=page.number + (1 if argument == NEXT else -1))
            return replace(page, kind="item", asin=next(asin for asin in _shown(page) if asin.lower() == argument))
        if argument == PREVIOUS:
            item = page.kind == "item"
            return replace(page, kind="results", asin="", chosen=()) if item else replace(page, kind="item", tab="")
        return self._of_item(page, argument, instruction)

    def _of_item(self, page: Page, argument: str, instruction: Instruction) -> Page:
        """Choose an option, open a tab, or buy."""
        product = self._product(page)
        named = [name for name, values in (product.options or {}).items() if argument in values]
        if named:  # an option with the name of a button is the option; of two equal ones the last counts, as released
            chosen = {**dict(page.chosen), named[-1]: argument}
            return replace(page, chosen=tuple(sorted(chosen.items())))
        if argument in TABS:
            return replace(page, kind="tab", tab=argument)
        wanted = self.catalogue.products[instruction.asin]
        return replace(page, kind="done", score=score(product, wanted, instruction, dict(page.chosen)))

    def _product(self, page: Page) -> Product:
        return self.catalogue.products[page.asin]

    def _parts(self, page: Page) -> list[str]:
        if page.kind == "search":
            return ["Search"]
        if page.kind == "done":
            return ["Thank you for shopping with us", f"Your score: {page.score:.2f}"]
        if page.kind == "results":
            parts = ["Back to Search", f"Page {page.number} (Total results: {len(page.found)})"]
            if len(page.found) > page.number * PER_PAGE:
                parts.append("Next >")
            if page.number > 1:
                parts.append("< Prev")
            for asin in _shown(page):
                product = self.catalogue.products[asin]
                parts += [asin, product.name, product.price_tag]
            return parts
        product = self._product(page)
        if page.kind == "tab":
            texts = {"description": (product.description,), "features": product.features, "reviews": product.reviews}
            return ["Back to Search", "< Prev", *(texts[page.tab] if any(texts[page.tab]) else ("None",))]
        options = [part for name, values in (product.options or {}).items() for part in (name, *values)]
        chosen = [f"You have chosen {name}: {value}" for name, value in page.chosen]
        price = [product.name, f"Price: {product.price_tag}", f"Rating: {product.rating}"]
        return ["Back to Search", "< Prev", *options, *chosen, *price, "Description", "Features", "Reviews", "Buy Now"]


def _shown(page: Page) -> tuple[str, ...]:
    return page.found[(page.number - 1) * PER_PAGE : page.number * PER_PAGE]
