"""Environments, their tasks, games and catalogues: RC810 to RC824, RC962."""

from __future__ import annotations

from collections.abc import Iterable

from recipec.diagnostics.model import Finding, Span, diagnostic, file_span
from recipec.diagnostics.phrases import did_you_mean, listed


@diagnostic("RC810", "environment-broken")
def environment_broken(name: str, problem: str, spans: tuple[Span, ...] = ()) -> Finding:
    """An environment cannot be built from its settings, or its class cannot be loaded from the files under `use`.

    What it checks: a separate process builds the environment once, when the stage starts.
    Why it matters: without it no rollout can start.
    Example: `environment: {type: gymnasium, id: FrozenLake-v1, options: {map_name: 9x9}}`; `{type: own, name: Maze}`
    where maze.py raises when it is imported.
    How to fix: correct the settings or the file that the message names.
    """
    options = "its arguments are `environment.options`, such as `options: {size: 4}`"
    arguments = "TypeError" in problem and "__init__" in problem
    return Finding(f"the environment `{name}` cannot be built: {problem}", spans, help=options if arguments else "")


@diagnostic("RC811", "no-tasks")
def no_tasks(
    name: str,
    split: str,
    problem: str = "",
    remedy: str = "",
    have: Iterable[str] = (),
    spans: tuple[Span, ...] = (),
) -> Finding:
    """An environment has no tasks for the split that the data names.

    What it checks: `split` of `data: {type: environment}`: the tasks that an environment lists, the `.tw-pddl` files
    below `games`, the instructions of a product catalogue.
    Why it matters: without tasks there are no rollouts.
    Example: `data: {type: environment, split: test}` for `alfworld`, which has `train`, `valid_seen` and
    `valid_unseen`; `games: ./alfworld` where the games are in `./alfworld/json_2.1.1`.
    How to fix: use a split that the environment has, let your own `tasks` return at least one for it, correct the path
    of games or instructions, or take the tasks from a file with `data: {path: …}`.
    """
    known = list(have)
    where = f" for split `{split}`" if split else ""
    message = f"the environment `{name}` has no tasks{where}: {problem or f'its splits are {listed(known)}'}"
    return Finding(message, spans, help=remedy or did_you_mean(split, known))


@diagnostic("RC812", "unknown-gymnasium")
def unknown_gymnasium(name: str, near: str) -> Finding:
    """The recipe names an environment that gymnasium itself does not register.

    Why it matters: environments of other packages, and names of the form `module:Name`, would import code; a recipe
    does not.
    Example: `environment: {type: gymnasium, id: FrozenLake-v9}`.
    How to fix: use a name of gymnasium's registry, or wrap the environment in a class of your own: `environment: {type:
    own, name: …}`.
    """
    message = f"gymnasium has no environment `{name}`"
    return Finding(message, help=f"did you mean `{near}`?" if near else "")


@diagnostic("RC822", "no-such-game")
def no_such_game(task: int, game: object, problem: str) -> Finding:
    """A task names a game or an instruction that does not exist.

    Why it matters: its rollout cannot start.
    Example: rows of a file that has no column `game`.
    How to fix: take the tasks from `data: {type: environment}`, or put the names of games in a column `game`.
    """
    return Finding(f"task {task} names the game {str(game)[:120]!r}: {problem}")


@diagnostic("RC823", "games-cannot-be-made")
def games_cannot_be_made(environment: str, problem: str) -> Finding:
    """Games with these settings cannot be generated, after several attempts each.

    Why it matters: without games there are no rollouts.
    Example: `quest_length: 30` with `rooms: 1`.
    How to fix: set a shorter quest, more rooms or more objects.
    """
    return Finding(f"the games of `{environment}` cannot be generated: {problem}")


@diagnostic("RC824", "bad-catalogue")
def bad_catalogue(path: str, problem: str, line: int = 0, column: int = 1) -> Finding:
    """A product catalogue or a file of instructions is not valid JSON, or an entry of it has another form.

    What it checks: a list of products, or a mapping with `products` and `instructions`; of each product, text under
    `asin` and `name` and the form of prices, options and texts; of each instruction, text, product, attributes,
    options.
    Why it matters: skipping a product would silently make instructions impossible.
    Example: a file that was cut off while it was copied; `"pricing": {"amount": 3}` instead of `"pricing": "$3.00"`.
    How to fix: use WebShop's `items_shuffle.json`, or write a list of products with `asin`, `name`, `pricing` and, if
    needed, `customization_options`.
    """
    where = f"{path}, line {line}" if line else path
    return Finding(f"{where}: {problem}", file_span(path, line, column) if line else ())


@diagnostic("RC962", "tools-unseen")
def tools_unseen(problem: str) -> Finding:
    """The chat template of the policy does not show tools, or not what they return.

    What it checks: a short conversation with and without the tools of the environment, and with a message of the role
    `tool`.
    Why it matters: the policy would never learn that it has tools, or never read a result.
    Example: `environment: {type: tool_use, functions: [search]}` with a model that has a template for plain chats.
    How to fix: use a model with a chat template for tools, such as Qwen2.5, Qwen3, Llama 3.1 or Mistral, or give one by
    `policy.chat_template`.
    """
    return Finding(f"the chat template cannot be used with tools: {problem}")


@diagnostic("RC963", "episodes-differ", "warning")
def episodes_differ(first: str, second: str, key: str) -> Finding:
    """An environment answers the same task, seed and actions differently when they are played again.

    What it checks: an episode of the user's environment is played twice with fixed actions.
    Why it matters: the rollouts of a prompt do not begin alike, so that their rewards cannot be compared; a run that
    was stopped does not continue to the same weights; and with `replayable: true` a tree continues another episode.
    Example: `random.choice` in `reset` without its `seed`; a file or a clock that is read.
    How to fix: draw with the seed that `reset` gets, as in `self.rng = random.Random(seed)`, and keep nothing between
    episodes. An environment that is meant to differ, such as a live service, says so under `allow`.
    """
    return Finding(f"the environment answers the same task, seed and actions with {first} and then {second}", path=key)
