"""What can go wrong with games and shops: RC820 to RC829."""

from __future__ import annotations

from collections.abc import Iterable

from recipec.diagnostics.errors.data import at, nearest
from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC820", "no-games")
def no_games(folder: str, split: str, have: Iterable[str] = ()) -> Finding:
    """A folder of games holds none for a split.

    What it checks: that there is a `.tw-pddl` file, at any depth, below `games`, in the folder of each split used.
    Why it matters: without games there is no episode, and the run would find out after the model was loaded.
    Example: `games: ./alfworld` where the download put them into `./alfworld/json_2.1.1`.
    Use instead: the folder that holds `train`, `valid_seen` and `valid_unseen`; or leave `games` out: games are made.
    """
    found = sorted(have)
    where = f"{folder} has no folder `{split}` with `.tw-pddl` files" if split else f"{folder} holds no `.tw-pddl` file"
    listed = ", ".join(f"`{name}`" for name in found[:8]) or "nothing"
    return Finding(
        f"{where}; it holds {listed}",
        why="without games there is no episode",
        help="name the folder that holds `train`, `valid_seen`, `valid_unseen`, or leave `games` out to have them made",
    )


@diagnostic("RC821", "no-such-split")
def no_such_split(environment: str, split: str, have: Iterable[str]) -> Finding:
    """An environment does not have the split that the data names.

    What it checks: `split` of `data: {type: environment}` against what the environment makes.
    Why it matters: there are no such tasks.
    Example: `split: test` over `alfworld`, whose held-out splits are `valid_seen` and `valid_unseen`.
    Use instead: one of the splits that are listed.
    """
    names = list(have)
    listed = ", ".join(f"`{name}`" for name in names)
    return Finding(f"`{environment}` has no split `{split}`", help=f"{nearest(split, names)} it has {listed}".strip())


@diagnostic("RC822", "no-such-game")
def no_such_game(task: int, game: object, problem: str) -> Finding:
    """A task names a game that is not there.

    What it checks: the column `game` of each task, when its first episode begins.
    Why it matters: there is nothing to play.
    Example: rows of a file that has no column `game`.
    Use instead: `data: {type: environment}`, which lists the games; or their names in a column `game`.
    """
    return Finding(
        f"task {task} names the game {str(game)[:120]!r}: {problem}",
        help="take the tasks from `data: {type: environment}`",
    )


@diagnostic("RC823", "games-cannot-be-made")
def games_cannot_be_made(environment: str, problem: str) -> Finding:
    """Games with these settings cannot be generated.

    What it checks: that the generator makes each game of the tasks, some attempts each.
    Why it matters: there is nothing to play.
    Example: `quest_length: 30` with `rooms: 1`.
    Use instead: a shorter quest, more rooms or more objects.
    """
    return Finding(
        f"the games of `{environment}` cannot be made: {problem}",
        help="ask for a shorter quest, more rooms or more objects",
    )


@diagnostic("RC824", "bad-catalogue")
def bad_catalogue(path: str, problem: str, line: int = 0, column: int = 1) -> Finding:
    """A catalogue of products, or a file of instructions, cannot be read.

    What it checks: that it is JSON: a list of products, or a mapping with `products` and `instructions`.
    Why it matters: there is nothing to search.
    Example: a file that was cut off while it was copied.
    Use instead: WebShop's `items_shuffle.json`, or a list of objects with `asin`, `name` and `pricing`.
    """
    return Finding(
        f"{path}{f', line {line}' if line else ''}: {problem}",
        at(path, line, column) if line else (),
        help="write a JSON list of products with `asin`, `name`, `pricing` and, as needed, `customization_options`",
    )


@diagnostic("RC825", "bad-product")
def bad_product(path: str, index: int, asin: str, problem: str) -> Finding:
    """A product of a catalogue, or an instruction, lacks what buying needs or has it in another form.

    What it checks: every product: text under `asin` and `name`, and the form of prices, options and texts; every
    instruction: its text, its product, its attributes and options.
    Why it matters: a product skipped in silence makes instructions impossible, and nobody knows why.
    Example: `"pricing": {"amount": 3}`.
    Use instead: `"pricing": "$3.00"`.
    """
    named = f" ({asin})" if asin else ""
    return Finding(f"{path}, entry {index}{named}: {problem}", help="correct the entry or take it out")


@diagnostic("RC826", "no-instructions")
def no_instructions(path: str, split: str = "") -> Finding:
    """A catalogue comes without instructions to shop by.

    What it checks: that a product has `instructions`, the catalogue has them beside its products, or the recipe
    names a file of them; and that the split has one.
    Why it matters: without an instruction there is no task and no reward.
    Example: WebShop's items without `items_human_ins.json`.
    Use instead: `instructions: items_human_ins.json`.
    """
    which = f" for split `{split}`" if split else ""
    return Finding(f"{path} has no instructions{which}", help="name their file under `instructions`")
