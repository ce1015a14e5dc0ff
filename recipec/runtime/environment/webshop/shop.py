"""The shop as an environment; its pages are plain values, so it needs no worker process."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from recipec.diagnostics.errors import environment as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.package_files import named_file, shipped
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.environment.retrieval.bm25_index import Document, Index
from recipec.runtime.environment.webshop.catalogue import Catalogue, Instruction, Product, read_catalogue
from recipec.runtime.environment.webshop.pages import Page, Shop
from recipec.runtime.environment.worker_env import Games, WorkerEnv
from recipec.runtime.environment.workers import StepRequest, StepResult
from recipec.runtime.protocols import Policy
from recipec.spec import environment as specs

PERFECT = 10.0
"""Reward of a purchase that fits the instruction completely; others have 0.  Source: GiGPO's released environment."""
SPLITS = ("train", "test")
_HELD_OUT = 500
_KEPT = 1 << 15


class Webshop(WorkerEnv):
    """A shop; see :class:`recipec.spec.environment.Webshop`.

    The column ``goal`` of a task is the number of its instruction in the catalogue.  In a fixed order, the first 500
    instructions (at most a fifth) are ``test``, the others ``train``.  The state key is the text of the page.

    References:
        Yao et al., `WebShop <https://arxiv.org/abs/2207.01206>`_, 2022.
        Feng et al., `GiGPO <https://arxiv.org/abs/2505.10978>`_, 2025: reward, state key and splits.
    """

    shipped = "webshop"

    def __init__(self, spec: specs.Webshop, context: StageContext, *, policy: Policy) -> None:
        """Read the catalogue and open its index, building it the first time.

        Raises:
            RecipeError: RC700, RC761, RC802, RC811, RC824; the errors of :class:`.PromptBuilder`.
        """
        path, self.catalogue = _catalogue(spec, context.root)
        self.shown = spec.catalogue or path.name
        documents = (_document(product) for product in self.catalogue.products.values())
        key = f"webshop {hashlib.sha256(path.read_bytes()).hexdigest()}"
        self.index = Index.of(documents, context.cache, key)
        super().__init__(spec, context, policy=policy)

    @staticmethod
    def preflight(spec: specs.Webshop, request: PreflightRequest) -> None:
        """Read the catalogue, and check that the splits of the recipe exist.

        Raises:
            RecipeError: RC700, RC811, RC824.
        """
        _catalogue(spec, request.root)
        for split in request.splits:
            if split not in SPLITS:
                raise RecipeError(errors.no_tasks("webshop", split, have=SPLITS))

    def open_games(self) -> Games:
        """Return the shop in this process: actions of the policy are not executed as code."""
        return _Counter(Shop(self.catalogue, self._found), self.shown)

    def game_columns(self, task: Task) -> Mapping[str, Any]:
        """Return the instruction of a task.

        Raises:
            RecipeError: RC822, there is no such instruction.
        """
        goal, many = task.columns.get("goal"), len(self.catalogue.instructions)
        if not isinstance(goal, int) or isinstance(goal, bool) or not 0 <= goal < many:
            raise RecipeError(
                errors.no_such_game(task.id, goal, f"`goal` is the number of an instruction, 0 to {many - 1}")
            )
        return {"goal": goal}

    def close(self) -> None:
        """Close the index and the rendering process."""
        super().close()
        self.index.close()

    def _found(self, words: str, many: int) -> list[str]:
        return [document.id for document in self.index.search(words, many)]


class _Counter:
    """Takes actions in the shop; pages are cached, and others are found again from the first page."""

    def __init__(self, shop: Shop, shown: str) -> None:
        self._shop = shop
        self._shown = shown
        self._pages: OrderedDict[tuple[int, tuple[str, ...]], Page] = OrderedDict()

    def begin(self) -> None:
        """Do nothing."""

    def ask(self, wanted: Sequence[StepRequest]) -> list[StepResult | str]:
        """Return the page of each episode."""
        return [self._seen(int(one.task["goal"]), one.actions) for one in wanted]

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:
        """List instructions of a split, in a random order from ``seed``.

        Raises:
            RecipeError: RC811 the split does not exist, or is empty.
        """
        if split not in SPLITS:
            raise RecipeError(errors.no_tasks("webshop", split, have=SPLITS))
        instructions = self._shop.catalogue.instructions
        numbers = list(range(len(instructions)))
        Random(233).shuffle(numbers)  # noqa: S311 - an order, not a secret
        held_out = min(_HELD_OUT, len(numbers) // 5)
        numbers = numbers[:held_out] if split == "test" else numbers[held_out:]
        if not numbers:
            raise RecipeError(errors.no_tasks("webshop", split, f"{self._shown} has no instructions for it"))
        Random(seed).shuffle(numbers)  # noqa: S311 - an order, not a secret
        return [{"goal": n, "instruction": instructions[n].text} for n in numbers[:size]]

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _seen(self, goal: int, actions: tuple[str, ...]) -> StepResult:
        instruction = self._shop.catalogue.instructions[goal]
        page = self._page(goal, actions, instruction)
        done = page.kind == "done"
        return StepResult(
            self._shop.text(page),
            goal=instruction.text,
            reward=PERFECT if done and page.score == 1.0 else 0.0,
            terminated=done,
            actions=tuple(self._shop.actions(page)),
        )

    def _page(self, goal: int, actions: tuple[str, ...], instruction: Instruction) -> Page:
        known = next(i for i in range(len(actions), -1, -1) if not i or (goal, actions[:i]) in self._pages)
        page = self._pages[goal, actions[:known]] if known else Page()
        for i in range(known, len(actions)):
            page = self._shop.act(page, actions[i], instruction)
            self._pages[goal, actions[: i + 1]] = page
        while len(self._pages) > _KEPT:
            self._pages.popitem(last=False)
        return page


def _document(product: Product) -> Document:
    """Return the searched text of a product, as released: name, description, first feature, options."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in (product.options or {}).items())
    return Document(product.name, " ".join((product.description, *product.features[:1], options)), product.asin)


def _catalogue(spec: specs.Webshop, root: Path) -> tuple[Path, Catalogue]:
    """Read the products of a spec, and return them with their file."""
    path = shipped("recipes") / "gigpo" / "data" / "catalogue.json"
    if spec.catalogue is not None:
        path = named_file(root, spec.catalogue)
    apart = None if spec.instructions is None else named_file(root, spec.instructions)
    return path, read_catalogue(path, apart, (spec.catalogue or path.name, spec.instructions or ""))
