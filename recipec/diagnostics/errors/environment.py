"""What can go wrong with environments: RC810 to RC819."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC810", "environment-broken")
def environment_broken(name: str, error: str, message: str) -> Finding:
    """An environment cannot be built from its settings.

    What it checks: that its process starts and builds the environment once, when the stage starts.
    Why it matters: there is nobody to answer the policy.
    Example: `environment: {type: gymnasium, id: FrozenLake-v1, options: {map_name: 9x9}}`.
    Use instead: what the message says the environment wants.
    """
    return Finding(f"the environment `{name}` cannot be built: {error}: {message}".rstrip(": "))


@diagnostic("RC811", "no-tasks")
def no_tasks(name: str, split: str, problem: str) -> Finding:
    """An environment does not list tasks of its own.

    What it checks: the list that the environment gives for the split that the data names.
    Why it matters: without tasks there is no episode.
    Example: `data: {type: environment, split: test}` over an environment that has only `train`.
    Use instead: another split, or tasks of a file.
    """
    return Finding(
        f"the environment `{name}` lists no tasks for split `{split}`: {problem}",
        help="name another split, or take tasks from a file: `data: {path: …}`",
    )


@diagnostic("RC812", "unknown-gymnasium")
def unknown_gymnasium(name: str, near: str) -> Finding:
    """The recipe names an environment that does not come with gymnasium.

    What it checks: `id` against the installed package's own registry; names of other packages and the form
    `module:Name`, which would import code, are not taken.
    Why it matters: a recipe is data and imports nothing.
    Example: `environment: {type: gymnasium, id: FrozenLake-v9}`.
    Use instead: a name of gymnasium's registry; for anything else, a class of your own with `type: own`.
    """
    hint = f"did you mean `{near}`? " if near else ""
    return Finding(
        f"`{name}` is no environment that comes with gymnasium",
        why="a recipe cannot import code by a name",
        help=f"{hint}wrap others in a class of your own: `environment: {{type: own, name: …}}`",
    )


@diagnostic("RC813", "world-class")
def world_class(name: str, problem: str) -> Finding:
    """The class that an environment names cannot be used.

    What it checks: the files under `use`, run in a process of its own: that they load and have the class.
    Why it matters: there is nobody to answer the policy.
    Example: `environment: {type: own, name: Maze}` where maze.py raises when it is loaded.
    Use instead: what the message says; it names the line of the file.
    """
    return Finding(f"the environment class `{name}` cannot be used: {problem}")
