"""A catalogue of products with shopping instructions, in the format of WebShop's released files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from recipec.diagnostics.errors import data as data_errors, environment as errors
from recipec.diagnostics.model import RecipeError

ANY_PRICE = 1_000_000.0
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_PRICE = re.compile(r"\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Product:
    """A product.

    Example: ``Product("B01", "Red Mug", 4.0, "$4.00", "mugs", "Mugs", options={"size": ("s", "m")})``.
    """

    asin: str
    name: str
    price: float
    price_tag: str
    query: str
    category: str
    description: str = ""
    features: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] | None = None
    reviews: tuple[str, ...] = ()
    rating: str = "N.A."

    @property
    def words(self) -> str:
        """All text of the product in lower case, which is also searched for attributes."""
        return "\n".join((self.name, *self.features, self.description)).lower()


@dataclass(frozen=True, slots=True)
class Instruction:
    """A shopping instruction.

    Example: ``Instruction("a red mug", "B01", ("dishwasher safe",), ("red",), 10.0)``.
    """

    text: str
    asin: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    price_upper: float


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Products by number, and instructions in the order of the file."""

    products: Mapping[str, Product]
    instructions: tuple[Instruction, ...]


def read_catalogue(path: Path, instructions: Path | None, shown: tuple[str, str]) -> Catalogue:
    """Read a catalogue and its instructions; messages name the two files ``shown``.

    The catalogue is a list of products, or a mapping with ``products``.  Instructions are in ``instructions``
    of a product, or in a separate file by product: a list for each, as in ``items_human_ins.json``, or one
    mapping for each with ``instruction`` and ``attributes``, as in ``items_ins_v2.json``.

    Raises:
        RecipeError: RC700 a file is missing, RC824 a file cannot be read, RC811 there are no instructions.
    """
    content = _json(path, shown[0])
    rows = content.get("products") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not rows:
        problem = "it holds no products" if rows == [] else "it is not a list of products"
        raise RecipeError(errors.bad_catalogue(shown[0], problem))
    apart = {} if instructions is None else _json(instructions, shown[1])
    if not isinstance(apart, dict):
        raise RecipeError(errors.bad_catalogue(shown[1], "it is not a mapping from products to instructions"))
    products: dict[str, Product] = {}
    wanted: list[Instruction] = []
    for index, row in enumerate(rows):
        try:
            product = _product(row, apart)
            if product.asin not in products:
                products[product.asin] = product
                wanted += _instructions(row.get("instructions", []), product)
        except (TypeError, ValueError) as error:
            asin = str(row.get("asin", ""))[:20] if isinstance(row, dict) else ""
            raise RecipeError(errors.bad_catalogue(shown[0], _entry(index, asin, error))) from None
    for index, (asin, listed) in enumerate(apart.items()):
        try:
            if asin in products:
                wanted += _instructions(listed, products[asin])
        except (TypeError, ValueError) as error:
            raise RecipeError(errors.bad_catalogue(shown[1], _entry(index, asin[:20], error))) from None
    if not wanted:
        problem, remedy = f"{shown[0]} has no instructions", "name their file under `instructions`"
        raise RecipeError(errors.no_tasks("webshop", "", problem, remedy))
    return Catalogue(products, tuple(wanted))


def _entry(index: int, asin: str, problem: Exception) -> str:
    return f"entry {index}{f' ({asin})' if asin else ''}: {problem}"


def _json(path: Path, shown: str) -> Any:
    try:
        content = path.read_bytes()
        parsed = json.loads(content)
        if _HALF.search(content):  # json reads half a surrogate pair, which cannot be encoded
            json.dumps(parsed, ensure_ascii=False).encode()
    except OSError as error:
        raise RecipeError(data_errors.data_missing(shown, error.strerror or str(error))) from None
    except UnicodeDecodeError as error:
        raise RecipeError(errors.bad_catalogue(shown, f"this is not UTF-8 (byte {error.start})")) from None
    except UnicodeEncodeError:
        raise RecipeError(errors.bad_catalogue(shown, "a text in it holds half a surrogate pair")) from None
    except json.JSONDecodeError as error:
        raise RecipeError(
            errors.bad_catalogue(shown, f"this is not JSON: {error.msg}", error.lineno, error.colno)
        ) from None
    except (RecursionError, ValueError) as error:
        raise RecipeError(errors.bad_catalogue(shown, f"this cannot be read: {error}")) from None
    return parsed


def _product(row: Any, apart: Mapping[str, Any]) -> Product:
    if not isinstance(row, dict):
        raise TypeError("this is not a mapping")
    asin = _text(row, "asin")
    name = _text(row, "name" if "name" in row else "Title")
    if not asin or not name:
        raise ValueError("`asin` and `name` may not be empty")
    price, tag = _price(row.get("pricing"), asin)
    features = row.get("small_description") or row.get("BulletPoints") or []
    listed = apart.get(asin)
    known = listed.get("attributes", []) if isinstance(listed, dict) else row.get("attributes") or row.get("Attributes")
    return Product(
        asin,
        name,
        price,
        tag,
        _text(row, "query", "").lower().strip(),
        _text(row, "product_category", ""),
        _text(row, "full_description" if "full_description" in row else "Description", ""),
        _texts([features] if isinstance(features, str) else features, "small_description"),
        _texts(known or [], "attributes"),
        _options(row.get("customization_options") or row.get("options") or {}),
        tuple(_review(review) for review in row.get("reviews") or ()),
        str(row.get("rating") or "N.A."),
    )


def _price(value: Any, asin: str) -> tuple[float, str]:
    """Read a price, or draw one from a range, always the same.  A missing price is 100, as released."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, list):
        value = " ".join(f"${float(price):.2f}" for price in value)
    if not isinstance(value, str) and value is not None:
        raise TypeError("`pricing` is not text, a number or a list of numbers")
    prices = [float(number.replace(",", "")) for number in _PRICE.findall(value or "")][:2]
    if not prices:
        return 100.0, "$100.00"
    if len(prices) == 1:
        return prices[0], f"${prices[0]:.2f}"
    price = Random(f"price {asin}").uniform(*prices)  # noqa: S311 - a price, not a secret
    return price, f"${prices[0]:.2f} to ${prices[1]:.2f}"


def _options(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise TypeError("`customization_options` is not a mapping")
    options = {}
    for name, values in value.items():
        if values is None:
            continue
        if not isinstance(values, list):
            raise TypeError(f"the option `{name}` is not a list")
        plain = [value.get("value") if isinstance(value, dict) else value for value in values]
        options[name.lower()] = tuple(v.strip().replace("/", " | ").lower() for v in _texts(plain, f"option `{name}`"))
    return options


def _review(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise TypeError("a review is not text or a mapping")
    return " ".join(str(value[key]) for key in ("title", "review", "body") if value.get(key))


def _instructions(value: Any, product: Product) -> Iterator[Instruction]:
    """Yield the instructions of a product; those without attributes are left out, as released."""
    drawn = isinstance(value, dict)
    if not drawn and not isinstance(value, list):
        raise TypeError("`instructions` is not a list of instructions")
    for number, one in enumerate([value] if drawn else value):
        if not isinstance(one, dict):
            raise TypeError("an instruction is not a mapping")
        attributes = _texts(one.get("instruction_attributes") or [], "instruction_attributes")
        if not attributes or one.get("instruction") is None:
            continue
        rng = Random(f"instruction {product.asin} {number}")  # noqa: S311 - an instruction, not a secret
        text = _text(one, "instruction").strip(".")
        options = one.get("instruction_options") or []
        options = _texts(list(options.values()) if isinstance(options, dict) else options, "instruction_options")
        if drawn and product.options:
            chosen = {name: rng.choice(values) for name, values in sorted(product.options.items()) if values}
            options = tuple(chosen.values())
            text += " with " + ", and ".join(f"{name}: {value}" for name, value in chosen.items())
        above = [10.0 * n for n in range(1, 100) if 10.0 * n > product.price][:4]
        if len(above) < 2:
            yield Instruction(text, product.asin, attributes, options, ANY_PRICE)
            continue
        upper = max(rng.sample(above, 2))
        yield Instruction(f"{text}, and price lower than {upper:.2f} dollars", product.asin, attributes, options, upper)


def _text(row: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = row.get(key, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"`{key}` is {'missing' if key not in row else 'not text'}")
    return value


def _texts(values: Any, key: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{key} is not a list of texts")
    return tuple(values)
