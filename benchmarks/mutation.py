"""Make small changes to the code of the objective, one at a time, and count those that its tests notice.

    pip install 'recipec[train]' mutmut==3.8.1
    python benchmarks/mutation.py --each 40 --seed 7        # 40 mutants of each module, drawn at random
    python benchmarks/mutation.py --only minibatch          # every mutant of one module

mutmut makes the mutants in a copy of the repository and runs, for each, those of the module's tests that reach the
changed function.  Prints a Markdown table, and the difference of each mutant that no test notices.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    "objective/advantage": ("runtime/objective/test_advantage.py", "golden"),
    "objective/grouping": ("runtime/objective/test_grouping.py",),
    "objective/loss": ("runtime/objective/test_loss.py", "runtime/objective/test_preference_losses.py", "golden"),
    "objective/compiler_ops": ("runtime/objective/test_compiler_ops.py", "golden"),
    "training/minibatch": ("runtime/training/test_minibatch.py",),
    "data/encode": (
        *(f"runtime/data/test_{name}.py" for name in ("sources", "chat_template", "prompt_columns", "encode")),
        "runtime/vision/test_image_rows.py",
    ),
    "attention/prefix_tree": tuple(
        f"runtime/attention/test_{name}.py" for name in ("neighbours", "trie_attention", "microbatch_packing")
    ),
    "attention/handover": ("runtime/attention/test_handover.py",),
    "attention/prefix_sharing": tuple(
        f"runtime/attention/test_{name}.py" for name in ("prefix_sharing", "trie_attention", "handover")
    ),
    "stage/resume": ("runtime/stage/test_checkpoints.py", "runtime/stage/test_loop.py"),
}
"""Modules of `recipec/runtime`, and what of `tests` tries them."""
COPIED = ("recipec", "tests", "recipes", "templates", "pyproject.toml")
KILLED = {1, 3}
"""Exit codes of pytest: a test failed, or an internal error."""
UNREACHED = 33
"""Exit code of mutmut: none of the tests calls the function."""
EXAMPLES = """
import doctest
import importlib


def test_examples():
    module = importlib.import_module("recipec.runtime.{module}")
    found = (one for one in doctest.DocTestFinder().find(module) if "__mutmut_" not in one.name)
    assert not sum(doctest.DocTestRunner().run(one).failed for one in found)
"""
"""A test of the examples in the docstrings of a module, but for those that mutmut repeats."""
CONFIG = """
[tool.mutmut]
source_paths = ["recipec"]
only_mutate = ["recipec/runtime/{module}.py"]
pytest_add_cli_args = ["-p", "no:randomly", "-m", "not slow and not engines"]
pytest_add_cli_args_test_selection = [{tests}]
also_copy = ["tests", "recipes", "templates"]
"""


def prepared(work: Path, module: str) -> Path:
    """Copy what the tests of a module need, with the settings of mutmut."""
    copy = work / module.replace("/", "-")
    copy.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    examples = "test_examples_of_module.py"
    (copy / "tests" / examples).write_text(EXAMPLES.format(module=module.replace("/", ".")), encoding="utf-8")
    tests = ", ".join(f'"tests/{path}"' for path in (*MODULES[module], examples))
    with (copy / "pyproject.toml").open("a", encoding="utf-8") as settings:
        settings.write(CONFIG.format(module=module, tests=tests))
    return copy


def mutmut(copy: Path, *arguments: str) -> str:
    """Call mutmut in a copy; return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def codes(copy: Path, module: str) -> dict[str, int | None]:
    """Return the exit code of the tests for every mutant of a module; None where it was not tried."""
    path = copy / "mutants" / "recipec" / "runtime" / f"{module}.py.meta"
    found: dict[str, int | None] = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def tried(work: Path, module: str, each: int | None, seed: int) -> tuple[dict[str, int | None], Path]:
    """Make the mutants of a module, draw some, and run the tests on them."""
    copy = prepared(work, module)
    output = mutmut(copy, "run", "--max-children", "1", "no such mutant")  # makes them all, and tries none
    names = sorted(codes(copy, module))
    if not names:
        sys.exit(f"no mutants of {module}\n{output[-2000:]}")
    draw = random.Random(seed)  # noqa: S311 - nothing secret depends on it
    drawn = names if each is None else sorted(draw.sample(names, min(each, len(names))))
    output = mutmut(copy, "run", "--max-children", "1", *drawn)
    found = {name: code for name, code in codes(copy, module).items() if name in drawn}
    if all(code is None for code in found.values()):
        sys.exit(f"the tests of {module} do not run\n{output[-2000:]}")
    return found, copy


def main() -> int:
    """Try the mutants of each module, and print the table and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, help="mutants of each module; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="modules with this text in their name")
    given = parser.parse_args()
    rows, survived = [], []
    with tempfile.TemporaryDirectory() as folder:
        for module in (name for name in MODULES if given.only in name):
            begun = time.monotonic()
            found, copy = tried(Path(folder), module, given.each, given.seed)
            alive = [name for name, code in found.items() if code not in KILLED and (code or 0) >= 0]
            survived += [mutmut(copy, "show", name) for name in alive]
            total = len(codes(copy, module))
            reached = sum(code != UNREACHED for code in found.values())
            killed, spent = len(found) - len(alive), time.monotonic() - begun
            rows.append(f"| {module} | {total} | {len(found)} | {reached} | {killed} | {spent:.0f} s |")
            print(rows[-1], flush=True)
            print("\n".join(survived[-len(alive) :] if alive else ()), flush=True)
    print("\n| module | mutants | tried | reached | killed | time |\n|---|---:|---:|---:|---:|---:|", *rows, sep="\n")
    return int(bool(survived))


if __name__ == "__main__":
    sys.exit(main())
