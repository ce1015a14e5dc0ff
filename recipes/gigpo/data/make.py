"""Generate the shipped catalogue: ``python make.py``.

Every product is synthetic, generated from the word lists below; no product, brand, price or text is from a real shop.
The format is that of WebShop's released files, so that recipes work with those files without changes.
The same lists give the same bytes.
"""  # noqa: INP001

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
ABOUT = "Synthetic products, made by make.py from its own word lists; any likeness to real ones is chance."
EACH = 8  # products per kind
BRANDS = ("Avelo", "Brindle", "Corvani", "Dunmere", "Elstow", "Farrow", "Gelder", "Harrowby", "Ilmarin", "Jessop")
COLOURS = ("black", "white", "red", "blue", "green", "gray", "navy", "pink", "brown", "yellow", "purple", "silver")
CLOTHES = ("small", "medium", "large", "x-large")
SHOES = ("6", "7", "8", "9", "10", "11")
# kind: category, shelf, materials, attributes, further options in addition to the colour, lowest price
KINDS: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...], dict[str, tuple[str, ...]], int]] = {
    "water bottle": (
        "garden", "Home|Kitchen|Bottles", ("stainless steel", "glass", "tritan"),
        ("leak proof", "dishwasher safe", "bpa free", "double walled", "wide mouth"),
        {"size": ("12 ounce", "20 ounce", "32 ounce")}, 9),
    "desk lamp": (
        "garden", "Home|Lighting|Desk Lamps", ("aluminum", "wood", "plastic"),
        ("dimmable", "usb powered", "touch control", "foldable", "energy saving"), {}, 18),
    "coffee mug": (
        "garden", "Home|Kitchen|Mugs", ("ceramic", "porcelain", "enamel"),
        ("microwave safe", "dishwasher safe", "hand painted", "stackable", "with lid"),
        {"size": ("8 ounce", "12 ounce", "16 ounce")}, 6),
    "throw pillow": (
        "garden", "Home|Bedding|Pillows", ("cotton", "linen", "velvet"),
        ("machine washable", "hypoallergenic", "hidden zipper", "super soft", "fade resistant"),
        {"size": ("16x16", "18x18", "20x20")}, 11),
    "area rug": (
        "garden", "Home|Floor|Rugs", ("wool", "jute", "cotton"),
        ("non slip", "easy clean", "machine washable", "low pile", "stain resistant"),
        {"size": ("2x3", "4x6", "5x8")}, 35),
    "bookshelf": (
        "garden", "Home|Furniture|Shelves", ("oak", "steel", "bamboo"),
        ("wall mounted", "easy assemble", "heavy duty", "space saving", "adjustable shelves"), {}, 42),
    "running shoes": (
        "fashion", "Clothing|Shoes|Athletic", ("mesh", "knit", "leather"),
        ("slip resistant", "arch support", "lightweight", "quick drying", "memory foam"), {"size": SHOES}, 39),
    "hiking boots": (
        "fashion", "Clothing|Shoes|Outdoor", ("leather", "suede", "nylon"),
        ("waterproof", "ankle support", "rubber sole", "insulated", "steel toe"), {"size": SHOES}, 58),
    "t-shirt": (
        "fashion", "Clothing|Tops|T-Shirts", ("cotton", "bamboo", "polyester"),
        ("machine washable", "short sleeve", "moisture wicking", "tagless", "slim fit"), {"size": CLOTHES}, 8),
    "rain jacket": (
        "fashion", "Clothing|Outerwear|Jackets", ("nylon", "polyester", "rubber"),
        ("waterproof", "packable", "windproof", "with hood", "reflective"), {"size": CLOTHES}, 33),
    "wool socks": (
        "fashion", "Clothing|Accessories|Socks", ("merino", "alpaca", "lambswool"),
        ("cushioned", "odor resistant", "seamless toe", "knee high", "machine washable"), {"size": CLOTHES}, 7),
    "backpack": (
        "fashion", "Luggage|Bags|Backpacks", ("canvas", "nylon", "leather"),
        ("water resistant", "laptop sleeve", "padded straps", "anti theft", "carry on"),
        {"size": ("20 liter", "30 liter", "40 liter")}, 28),
    "wireless headphones": (
        "electronics", "Electronics|Audio|Headphones", ("aluminum", "plastic", "bamboo"),
        ("noise cancelling", "long battery life", "fast charging", "foldable", "water resistant"), {}, 45),
    "bluetooth speaker": (
        "electronics", "Electronics|Audio|Speakers", ("fabric", "aluminum", "silicone"),
        ("waterproof", "hands free", "long battery life", "stereo sound", "shock proof"), {}, 25),
    "phone case": (
        "electronics", "Electronics|Phones|Cases", ("silicone", "leather", "carbon fiber"),
        ("drop protection", "wireless charging", "anti scratch", "with kickstand", "slim fit"),
        {"size": ("5.8 inch", "6.1 inch", "6.7 inch")}, 9),
    "usb cable": (
        "electronics", "Electronics|Computers|Cables", ("nylon braided", "silicone", "rubber"),
        ("fast charging", "gold plated", "tangle free", "high speed", "right angle"),
        {"size": ("3 feet", "6 feet", "10 feet")}, 5),
    "wireless mouse": (
        "electronics", "Electronics|Computers|Mice", ("plastic", "rubber coated", "wooden"),
        ("silent click", "rechargeable", "ergonomic", "left handed", "long battery life"), {}, 12),
    "alarm clock": (
        "electronics", "Electronics|Home|Clocks", ("wood", "plastic", "metal"),
        ("battery powered", "dimmable", "dual alarm", "usb port", "easy read"), {}, 14),
    "hand cream": (
        "beauty", "Beauty|Skin|Hands", ("shea butter", "aloe vera", "olive oil"),
        ("fragrance free", "cruelty free", "fast absorbing", "paraben free", "for dry skin"),
        {"size": ("1 ounce", "3 ounce", "8 ounce")}, 5),
    "shampoo": (
        "beauty", "Beauty|Hair|Shampoo", ("argan oil", "coconut oil", "tea tree"),
        ("sulfate free", "paraben free", "cruelty free", "for damaged hair", "color safe"),
        {"size": ("8 ounce", "16 ounce", "33 ounce")}, 8),
    "hair brush": (
        "beauty", "Beauty|Hair|Brushes", ("bamboo", "boar bristle", "nylon"),
        ("detangling", "anti static", "non slip grip", "travel size", "heat resistant"), {}, 7),
    "soap bar": (
        "beauty", "Beauty|Bath|Soap", ("olive oil", "goat milk", "oatmeal"),
        ("fragrance free", "hand made", "cruelty free", "plastic free", "for sensitive skin"),
        {"size": ("pack of 1", "pack of 3", "pack of 6")}, 4),
    "green tea": (
        "grocery", "Grocery|Drinks|Tea", ("jasmine", "mint", "lemon"),
        ("caffeine free", "certified organic", "sugar free", "individually wrapped", "non gmo"),
        {"size": ("20 bags", "50 bags", "100 bags")}, 4),
    "trail mix": (
        "grocery", "Grocery|Snacks|Nuts", ("almond", "cashew", "walnut"),
        ("gluten free", "low sodium", "high protein", "non gmo", "resealable bag"),
        {"size": ("6 ounce", "12 ounce", "24 ounce")}, 6),
    "dark chocolate": (
        "grocery", "Grocery|Snacks|Chocolate", ("sea salt", "orange", "hazelnut"),
        ("dairy free", "fair trade", "sugar free", "gluten free", "certified organic"),
        {"size": ("pack of 1", "pack of 4", "pack of 12")}, 3),
    "olive oil": (
        "grocery", "Grocery|Cooking|Oils", ("extra virgin", "garlic", "lemon"),
        ("cold pressed", "certified organic", "first harvest", "glass bottle", "kosher certified"),
        {"size": ("8 ounce", "16 ounce", "1 liter")}, 10),
    "yoga mat": (
        "sports", "Sports|Fitness|Mats", ("cork", "natural rubber", "foam"),
        ("non slip", "extra thick", "easy clean", "with strap", "odor free"), {}, 19),
    "camping tent": (
        "sports", "Sports|Outdoor|Tents", ("nylon", "canvas", "polyester"),
        ("waterproof", "easy setup", "windproof", "with vestibule", "lightweight"),
        {"size": ("2 person", "4 person", "6 person")}, 64),
    "dog leash": (
        "pets", "Pets|Dogs|Leashes", ("nylon", "leather", "rope"),
        ("reflective", "padded handle", "heavy duty", "chew proof", "tangle free"),
        {"size": ("4 feet", "6 feet", "10 feet")}, 8),
    "cat bed": (
        "pets", "Pets|Cats|Beds", ("plush", "wicker", "felt"),
        ("machine washable", "self warming", "non slip", "calming", "foldable"), {"size": CLOTHES[:3]}, 16),
}  # fmt: skip
WITHOUT_COLOUR = {"hand cream", "shampoo", "soap bar", "green tea", "trail mix", "dark chocolate", "olive oil"}


def product(kind: str, number: int, rng: Random) -> dict[str, Any]:
    """Generate one product of a kind, with one or two instructions that it fits."""
    category, shelf, materials, known, second, lowest = KINDS[kind]
    brand, material = rng.choice(BRANDS), materials[number % len(materials)]
    attributes = rng.sample(known, 3)
    options: dict[str, tuple[str, ...]] = {}
    if kind not in WITHOUT_COLOUR:
        options["color"] = tuple(rng.sample(COLOURS, 4))
    options |= second
    price = lowest + rng.randint(0, 2 * lowest) + rng.choice((0.49, 0.95, 0.99))
    return {
        "asin": f"S{list(KINDS).index(kind):03d}{number:03d}",
        "name": f"{brand} {material} {kind}, {attributes[0]}, model {number + 1}".title(),
        "category": category,
        "query": kind,
        "product_category": " \u203a ".join(shelf.split("|")),
        "pricing": f"${price:.2f}",
        "attributes": [*attributes, material],
        "customization_options": {name: [{"value": value} for value in values] for name, values in options.items()},
        "small_description": [f"It is {attribute}." for attribute in attributes] + [f"Made with {material}."],
        "full_description": f"A {kind} by {brand}, made with {material}. It is {', '.join(attributes)}.",
        "instructions": [instruction(kind, attributes, material, options, rng) for _ in range(rng.randint(1, 2))],
    }


def instruction(
    kind: str, attributes: list[str], material: str, options: dict[str, tuple[str, ...]], rng: Random
) -> dict[str, Any]:
    """Generate an instruction from some attributes and the options of a product."""
    asked = [*rng.sample(attributes, rng.randint(1, 2)), *([material] if rng.random() < 0.5 else [])]
    chosen = {name: rng.choice(values) for name, values in options.items()}
    opening = rng.choice(("i am looking for a", "i need a", "find me a", "i want to buy a"))
    wanted = ", and ".join(f"{name}: {value}" for name, value in chosen.items())
    return {
        "instruction": f"{opening} {kind} that is {' and '.join(asked)}" + (f", with {wanted}" if wanted else ""),
        "instruction_attributes": asked,
        "instruction_options": list(chosen.values()),
    }


def main() -> None:
    """Write the catalogue next to this file, one product per line."""
    rng = Random(20)  # noqa: S311 - generated products, not secrets
    products = [product(kind, number, rng) for kind in KINDS for number in range(EACH)]
    lines = ",\n".join(json.dumps(made, ensure_ascii=False) for made in products)
    text = f'{{"about": {json.dumps(ABOUT)}, "products": [\n{lines}\n]}}\n'
    (HERE / "catalogue.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
