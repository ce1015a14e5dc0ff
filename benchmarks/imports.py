"""Import every file of other tools below some directories, such as checkouts of them, and count what becomes of it.

A file is one of a tool if `recipec import` recognises it. Its recipe is valid, or something is left to write by hand.
The names of all files are counted by what the report says of them.

    python benchmarks/imports.py DIR… [--list TOOL]
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from recipec.diagnostics.model import RecipeError
from recipec.importing.run import import_recipe

ENDINGS = {".yaml", ".yml", ".toml", ".sh"}
VERDICTS = ("same", "other", "assumed", "missing", "unneeded", "unknown")


def files(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that may be recipes."""
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*") if path.suffix in ENDINGS and path.is_file())


def main() -> None:
    """Print a table with a line for each tool, and the files of one tool that need work by hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--list", default="", help="Print the files of this tool with something left to write.")
    given = parser.parse_args()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    left: list[str] = []
    for path in files(given.folders):
        try:
            found = import_recipe(path.name, path.read_text("utf-8", "replace"))
        except RecipeError:
            counts["no tool"]["files"] += 1
            continue
        count = counts[found.made.found.tool.name]
        count.update(fate.verdict for fate in found.made.fates)
        count.update(["files", "left" if found.left else "valid"])
        if found.left and found.made.found.tool.name == given.list:
            left += [f"{path}: {found.left[0].message}"]
    print(f"{'tool':14} {'files':>6} {'valid':>6} " + " ".join(f"{verdict:>8}" for verdict in VERDICTS))
    for tool, count in sorted(counts.items()):
        print(f"{tool:14} {count['files']:6} {count['valid']:6} " + " ".join(f"{count[v]:8}" for v in VERDICTS))
    print(*left, sep="\n")


if __name__ == "__main__":
    main()
