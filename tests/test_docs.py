"""The documentation is true: recipes in it are what it says, what it names exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

import recipec
from recipec.catalogue import reference_docs
from recipec.catalogue.code_pages import all_codes
from recipec.cli import app
from recipec.compile import compile_recipe
from recipec.component import components_of
from recipec.diagnostics.formats import render
from recipec.signals import SIGNALS
from recipec.spec.recipe import COMPONENT_SLOTS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README_PAGE, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = [README_PAGE, CONTRIBUTING, *sorted(DOCS.glob("*.md"))]
VERBS = {str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback}
FENCE = re.compile(r"^```(\S*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
README = README_PAGE.read_text("utf-8")


def blocks(language: str) -> list[tuple[str, str, str]]:
    """Name, words after the language, and text of every block in a language."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in FENCE.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append((f"{page.name}:{line}", match[2].strip(), match[3]))
    return found


RECIPES = blocks("yaml")


@pytest.mark.parametrize(("name", "kind", "text"), RECIPES, ids=[name for name, *_ in RECIPES])
def test_recipes_are_what_they_are_said_to_be(name: str, kind: str, text: str, tmp_path: Path) -> None:
    """Whole recipes and fragments have nothing wrong with them; a block marked with codes has exactly these."""
    whole = "\nstages:" in text
    assert kind.split()[:1] in ([], ["fragment"], ["error"])
    assert whole == (kind != "fragment"), f"{name}: a block without stages is marked `fragment`"
    said = text if text.startswith(("recipec:", "#")) else f"recipec: 1\n{text}"
    result = compile_recipe(tmp_path / "recipe.yaml", text=said)

    wanted = kind.split()[1:] if kind.startswith("error") else []
    assert [diagnostic.code for diagnostic in result.diagnostics] == wanted
    assert (result.graph is not None) == (whole and not wanted)


def test_the_error_of_the_readme_is_what_is_printed() -> None:
    """The README's example error is the tool's own words about the README's own bad recipe."""
    shown = next(match[3] for match in FENCE.finditer(README) if match[3].startswith("error[RC204]"))
    result = compile_recipe("recipes/mine.yaml", text=BAD)
    assert render(list(result.diagnostics), dict(result.texts), "text", valid=False).strip().startswith(shown.strip())


BAD = """\
recipec: 1
name: mine
stages:
  explore:
    kind: rl
    from: org/model
    data: {path: tasks.jsonl, max_length: 512}
    reward: {right: {type: exact_match}}
    sampler: {type: chain, num_generations: 8}
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-6}
    advantage:
      across_trees: {type: group_relative, group: by_prompt_R}
      within_tree: {type: group_relative, group: by_tree_R}
    budget: {steps: 10, prompts_per_step: 8}
"""


def test_the_reference_is_current() -> None:
    """The reference is what `make reference` writes, and nothing else lies beside it."""
    written = {path.name: path.read_text("utf-8") for path in (DOCS / "reference").iterdir()}
    assert written == reference_docs.pages()


def test_everything_is_in_the_reference() -> None:
    """Every code, component and signal has its place in the reference."""
    pages = reference_docs.pages()
    assert [code for code in all_codes() if f"\n### {code} " not in pages["codes.md"]] == []
    assert [name for name in SIGNALS if f"\n| `{name}` |" not in pages["signals.md"]] == []
    names = [f"{slot}/{name}" for slot in COMPONENT_SLOTS for name in components_of(slot)]
    assert [name for name in names if not re.search(rf"^### {name}( |$)", pages["components.md"], re.MULTILINE)] == []


def test_every_verb_is_in_the_readme() -> None:
    """Each verb of the command line stands in the README or in the page about recipes."""
    text = README + (DOCS / "recipe.md").read_text("utf-8")
    assert [verb for verb in VERBS if not re.search(rf"`recipec {verb}\b", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    """Verbs, options and `make` targets that a page names are there."""
    text = page.read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    command = typer.main.get_command(app)
    verbs = (command, *command.commands.values())  # type: ignore[attr-defined]
    options = {flag for verb in verbs for part in verb.params for flag in part.opts}

    named = {word for line in re.findall(r"(?:^|`)make ([a-z -]+)", text, re.MULTILINE) for word in line.split()}
    assert named <= targets
    assert set(re.findall(r"(?:^|`)recipec ([a-z]+)", text, re.MULTILINE)) <= VERBS
    ours = "\n".join(
        line for line in text.splitlines() if not re.search(r"python |--index-url|torchrun |ray start ", line)
    )
    assert set(re.findall(r"[` ](--[a-z][a-z-]+)", ours)) <= options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page: Path) -> None:
    """Links into the repository, and files of it that a page names, lead somewhere."""
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    files = re.findall(r"`((?:recipec|tests|docs|recipes|benchmarks|schemas)/[\w./]+)`", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [file for file in files if not (ROOT / file).exists()] == []
    sections = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text)
    assert [f"{to}#{name}" for to, name in sections if name not in anchors(page.parent / to if to else page)] == []


@pytest.mark.parametrize("page", [README_PAGE, CONTRIBUTING], ids=lambda page: page.name)
def test_functions_exist(page: Path) -> None:
    """A page for contributors names no function or method that the package lacks."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "recipec").rglob("*.py"))
    defined = {*re.findall(r"(?:def|class) (\w+)", source), "Engine"}
    called = re.findall(r"`(?:\w+\.)*(\w+)\([^`]*\)`", FENCE.sub("", page.read_text("utf-8")))
    assert [name for name in called if name not in defined] == []


def test_every_page_is_on_the_site() -> None:
    """The site's table of contents has every page, once, and no page links to a file that is not on the site."""
    listed = re.findall(r"^ +- (?:.*: )?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert [
        page.name for page in DOCS.rglob("*.md") if re.search(r"\]\((?:\.\./)+(?!\w+\.md)", page.read_text("utf-8"))
    ] == []


def anchors(page: Path) -> set[str]:
    """Names under which the headings of a page can be linked."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_recipe_of_the_skill_is_valid(tmp_path: Path) -> None:
    """The example that coding agents copy compiles, and every page that `llms.txt` names is there."""
    text = (ROOT / "skills/recipec/SKILL.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "rewards.py").write_text("def score(completions, **columns): ...\n")
    (tmp_path / "r.yaml").write_text(block)
    assert [d.message for d in compile_recipe(tmp_path / "r.yaml").diagnostics if d.is_error] == []
    named = re.findall(r"\]\(([^)]+)\)", (ROOT / "llms.txt").read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_recipe_of_objects_is_valid() -> None:
    """The recipe that the page on Python builds compiles as it is printed there."""
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "rc.Recipe(" in block]
    names: dict[str, Any] = {}
    exec(block.partition("rc.run(")[0], names)  # noqa: S102 - our own page
    assert recipec.compile(names["recipe"]).stages[0].name == "learn"
