"""The shop: grammar of actions, pages, the published score, catalogues of users, and a customer who errs never."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.package_files import shipped
from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import Turn
from recipec.runtime.environment.webshop.catalogue import Instruction, Product, read_catalogue
from recipec.runtime.environment.webshop.pages import SEARCH, Page
from recipec.runtime.environment.webshop.purchase_reward import kind, likeness, score
from recipec.runtime.environment.webshop.shop import Webshop
from recipec.spec import environment as specs

MUG = Product(
    "B1",
    "Acme Red Mug",
    8.0,
    "$8.00",
    "coffee mug",
    "Home \u203a Kitchen \u203a Mugs",
    "holds tea",
    features=("glossy",),
    attributes=("microwave safe",),
)


@pytest.fixture(scope="module")
def shop(kept_context, kept_policy):
    """The shipped catalogue."""
    made = Webshop(specs.Webshop(), kept_context, policy=kept_policy)
    yield made
    made.close()


def turn(text):
    """What a policy writes, without its ids."""
    return Turn((7, 8, 9), f"<think>so</think><action>{text}</action>")


def purchase(shop, number):
    """The pages of a customer who knows the product, to the purchase."""
    wanted = shop.catalogue.instructions[number]
    product = shop.catalogue.products[wanted.asin]
    customer = shop.games._shop
    page = customer.act(Page(), f"search[{product.name}]", wanted)
    while f"click[{product.asin.lower()}]" not in customer.actions(page) and "click[next >]" in customer.actions(page):
        page = customer.act(page, "click[next >]", wanted)
    page = customer.act(page, f"click[{product.asin.lower()}]", wanted)
    for option in wanted.options:
        page = customer.act(page, f"click[{option}]", wanted)
    return customer.act(page, "click[buy now]", wanted)


def test_a_perfect_customer_gets_everything(shop):
    """Who searches a product by name, chooses what is asked and buys it scores 1, on 95 % of the instructions."""
    many = len(shop.catalogue.instructions)
    scores = [purchase(shop, number).score for number in range(many)]
    assert many >= 300
    assert sum(score == 1.0 for score in scores) >= 0.95 * many
    assert all(0 <= score <= 1 for score in scores)


def test_an_episode_through_the_environment(shop):
    """Search, item, options, purchase: the last turn earns 10, the state key is the page, and pages list actions."""
    (task,) = shop.tasks("test", 1, 3)
    wanted = shop.catalogue.instructions[task["goal"]]
    product = shop.catalogue.products[wanted.asin]
    (position,) = shop.start([Task(0, "", (), task)])
    assert position.notes.shown.actions == (SEARCH,)
    assert position.notes.goal == wanted.text
    asked = [f"search[{product.name}]", f"click[{product.asin}]", *(f"click[{o}]" for o in wanted.options)]
    for action in (*asked, "click[Buy Now]"):
        assert position.state == position.observation
        (position,) = shop.step([position], [turn(action)])
    assert position.ended
    assert position.reward == 10.0


def test_a_wrong_purchase_earns_nothing(shop):
    """A purchase that is not all that was asked for ends the episode with 0."""
    (task,) = shop.tasks("train", 1, 0)
    (position,) = shop.start([Task(0, "", (), task)])
    other = next(p for p in shop.catalogue.products.values() if p.query not in task["instruction"])
    for action in (f"search[{other.name}]", f"click[{other.asin}]", "click[buy now]"):
        (position,) = shop.step([position], [turn(action)])
    assert position.ended
    assert position.reward == 0.0


def test_a_page_can_be_left_more_than_once(shop):
    """Turns from one position do not see each other; a forgotten page is found again."""
    (task,) = shop.tasks("train", 1, 0)
    (start,) = shop.start([Task(0, "", (), task)])
    (results,) = shop.step([start], [turn("search[lamp]")])
    first, second = results.notes.shown.actions[-2:]
    before = shop.step([results] * 2, [turn(first), turn(second)])
    shop.games._pages.clear()
    assert shop.step([results] * 2, [turn(first), turn(second)]) == before
    assert before[0].observation != before[1].observation


def test_pages_and_buttons(shop):
    """Ten products a page, forward and back; tabs return to the item with its options; else nothing happens."""
    customer, wanted = shop.games._shop, shop.catalogue.instructions[0]
    page = customer.act(Page(), "search[steel cotton leather nylon bamboo]", wanted)
    asins = [a for a in customer.actions(page) if a.startswith("click[s0")]
    assert len(asins) == 10
    assert "click[< prev]" not in customer.actions(page)
    second = customer.act(page, "click[Next >]", wanted)
    assert second.number == 2
    assert customer.act(second, "click[< prev]", wanted) == page
    item = customer.act(page, asins[0], wanted)
    option = next(values[0] for values in shop.catalogue.products[item.asin].options.values())
    chosen = customer.act(item, f"click[{option}]", wanted)
    assert f": {option}" in customer.text(chosen)
    for tab in ("description", "features", "reviews"):
        shown = customer.act(chosen, f"click[{tab}]", wanted)
        assert customer.actions(shown) == ["click[back to search]", "click[< prev]"]
        assert customer.act(shown, "click[< prev]", wanted) == chosen
    for nothing in ("click[fly]", "search[]", "buy now", "", "click[buy now] please", "click[next >]"):
        assert customer.act(item, nothing, wanted) == item
    assert customer.act(item, "click[back to search]", wanted) == Page()


def test_the_score_as_published():
    """The share of attributes, options and price that fit, times how much of the same kind the product is."""
    wanted = Instruction("a red mug", "B1", ("microwave safe", "glossy"), ("red",), 10.0)
    assert score(MUG, MUG, wanted, {"color": "red"}) == 1.0
    assert score(MUG, MUG, wanted, {}) == 0.75
    assert score(MUG, MUG, wanted, {"color": "blue"}) == 0.75
    assert score(MUG, MUG, Instruction("", "B1", ("vegan",), (), 5.0), {}) == 0.0
    assert score(MUG, MUG, Instruction("", "B1", ("vegan",), (), 8.0), {}) == 0.5


@pytest.mark.parametrize(
    ("name", "query", "category", "expected"),
    [
        ("Acme Red Mug", "other", "Toys", 1.0),  # the words of the name
        ("Mug Tree Stand", "coffee mug", "Toys", 1.0),  # the query
        ("Bolt", "coffee mug", "Home \u203a Kitchen", 0.0),  # no word in common, whatever else is
    ],
)
def test_kinds_of_products(name, query, category, expected):
    """Query, category and name decide; a name without a word in common is of no kind at all."""
    assert kind(Product("B2", name, 1.0, "", query, category), MUG) == expected


def test_kinds_between():
    """Few words in common count half unless query or category agree, very few a tenth."""
    long = Product("B3", " ".join(f"w{i}" for i in range(8)), 1.0, "", "q", "A \u203a B")
    longer = Product("B4", " ".join(f"w{i}" for i in range(20)), 1.0, "", "q", "A \u203a B")
    one = Product("B5", "w0", 1.0, "", "other", "C")
    assert kind(one, long) == 0.5
    assert kind(Product("B5", "w0", 1.0, "", "other", "A \u203a B"), long) == 1.0
    assert kind(one, longer) == 0.1


def test_sets_of_words():
    """Order and repetition do not matter; a set within another fits wholly; typing errors count a little."""
    assert likeness("safe microwave", "Microwave-Safe safe") == 100.0
    assert likeness("", "x") == 0.0
    assert likeness("leak proof bottle", "leak prof bottle") > 85 > likeness("waterproof", "wireless")


def test_users_files_as_released(tmp_path: Path):
    """WebShop's own forms are read: ranges of prices, options with a stroke, human and synthetic instructions."""
    item = {
        "asin": "B00", "name": "Mug", "category": "garden", "query": "Mugs ", "product_category": "Home \u203a Mugs",
        "pricing": "$7.00$9.00", "small_description": "one", "full_description": None,
        "customization_options": {"Color": [{"value": "Red/Blue", "image": None}], "Size": None},
    }  # fmt: skip
    (tmp_path / "items.json").write_text(json.dumps([item, item]))
    human = {"B00": [{"instruction": "a mug.", "instruction_attributes": ["tall"], "instruction_options": ["red"]}]}
    (tmp_path / "human.json").write_text(json.dumps(human | {"B99": []}))
    made = read_catalogue(tmp_path / "items.json", tmp_path / "human.json", ("items.json", "human.json"))
    product = made.products["B00"]
    assert 7 <= product.price <= 9
    assert product.options == {"color": ("red | blue",)}
    assert (product.query, product.features) == ("mugs", ("one",))
    (wanted,) = made.instructions
    assert wanted.text.startswith("a mug, and price lower than ")
    assert wanted.price_upper > product.price

    synthetic = {"B00": {"attributes": ["tall"], "instruction": "a mug", "instruction_attributes": ["tall"]}}
    (tmp_path / "ins.json").write_text(json.dumps(synthetic))
    made = read_catalogue(tmp_path / "items.json", tmp_path / "ins.json", ("items.json", "ins.json"))
    assert made.products["B00"].attributes == ("tall",)
    assert made.instructions[0].options == ("red | blue",)


GOOD = {"asin": "B", "name": "Mug", "instructions": [{"instruction": "a", "instruction_attributes": ["b"]}]}


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ('[\n {"asin": }]', "RC824", "line 2"),
        ('"x"', "RC824", "not a list of products"),
        ("[]", "RC824", "no products"),
        (json.dumps([GOOD | {"name": "\ud800 mug"}]), "RC824", "surrogate"),
        ("\udcff", "RC824", "UTF-8"),
        ("[1]", "RC824", "entry 0"),
        (json.dumps([GOOD, {"name": "Mug"}]), "RC824", "entry 1: `asin` is missing"),
        (json.dumps([GOOD | {"pricing": {"amount": 3}}]), "RC824", "`pricing`"),
        (json.dumps([GOOD | {"customization_options": {"size": "s"}}]), "RC824", "`size`"),
        (json.dumps([GOOD | {"instructions": [3]}]), "RC824", "(B)"),
        (json.dumps([GOOD | {"instructions": 3}]), "RC824", "not a list of instructions"),
        (json.dumps([GOOD | {"reviews": [3]}]), "RC824", "review"),
        (json.dumps([GOOD | {"instructions": []}]), "RC811", "no instructions"),
    ],
)
def test_broken_catalogues_are_refused(tmp_path: Path, kept_context, kept_policy, text, code, said):
    """Each mistake has its code and its place."""
    path = tmp_path / "c.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RecipeError) as refused:
        Webshop(specs.Webshop(catalogue=str(path)), kept_context, policy=kept_policy)
    assert refused.value.diagnostics[0].code == code
    assert said in refused.value.diagnostics[0].message


def test_splits_and_bad_tasks(shop):
    """Held-out instructions are no training instructions; unknown splits and numbers are refused."""
    train, test = ({row["goal"] for row in shop.tasks(split, None, 0)} for split in ("train", "test"))
    assert not train & test
    assert len(train | test) == len(shop.catalogue.instructions)
    with pytest.raises(RecipeError) as refused:
        shop.tasks("dev", None, 0)
    assert refused.value.diagnostics[0].code == "RC811"
    for columns in ({}, {"goal": 10**6}, {"goal": "x"}, {"goal": True}):
        with pytest.raises(RecipeError) as refused:
            shop.start([Task(0, "", (), columns)])
        assert refused.value.diagnostics[0].code == "RC822"


def test_the_shipped_catalogue_is_what_its_script_makes(tmp_path: Path):
    """The script makes the shipped bytes."""
    folder = shipped("recipes") / "gigpo" / "data"
    (tmp_path / "make.py").write_bytes((folder / "make.py").read_bytes())
    subprocess.run([sys.executable, "make.py"], cwd=tmp_path, check=True)
    assert (tmp_path / "catalogue.json").read_bytes() == (folder / "catalogue.json").read_bytes()
