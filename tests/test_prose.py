"""Prose is in the terms of the field: phrases that only we used are listed with their place."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLEAN = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs",
    "recipes",
    "templates",
    "benchmarks",
    "recipec",
)
"""Files and folders that are checked: Markdown, comments of YAML and Jinja, and text of Python outside its code."""
GENERATED = "docs/reference/"
PHRASES = {
    r"graphs? of facts": "knowledge graph",
    r"knobs?": "parameter, hyperparameter",
    r"forests?": "prefix tree",
    r"beside": "next to, in addition to",
    r"whose": "with, of which, or two sentences",
    r"said|told|asked": "given, printed, requested, required",
    r"nobody|somebody": "no component, a user",
    r"of one's own|of ours": "your own, an internal",
    r"rows? of (?:slots|components)": "the slots of a stage; a row is one training sample",
    r"(?:its|their) kin": "and similar",
    r"who answers": "the environment",
    r"lies?": "is, is stored",
    r"stands? (?:there|under|before|behind|with|at|in)(?! for)": "is",
    r"(?<!there )is no(?! longer| more)": "is not a",
    r"(?<!there )(?:is|are) none": "is not",
    r"anew": "again",
    r"at hand": "available",
    r"in small": "a small version of",
    r"so many": "that many, or the number",
    r"without a word": "silently",
    r"comes? on top": "is added",
    r"bears? (?:it|them) out": "support",
    r"specimens?": "sample",
}
ALLOWED: dict[tuple[str, str], str] = {
    ("recipec/spec/sampler.py", "is none"): "an expression of an example",
    ("recipec/runtime/environment/gymnasium_worker.py", "is no"): "an observation that policies read",
    ("recipec/runtime/reward/instructions.py", "is no"): "an answer that an instruction demands",
    ("recipec/runtime/preference/kg_pairs.py", "told"): "part of the key of random numbers",
    ("recipes/tiny/data/dermiq/facts.py", "is no"): "the head of the shipped graph.ttl",
    ("recipes/tiny/data/dermiq/make.py", "asked"): "a column of the shipped rows",
    ("recipes/tree_grpo/data/make.py", "lies"): "text of the shipped corpus and questions",
    ("recipes/tree_grpo/data/make.py", "whose"): "text of the shipped questions",
}
"""File and phrase that are allowed, and the reason."""
PATTERNS = [(re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE), instead) for phrase, instead in PHRASES.items()]
ANY = re.compile("|".join(pattern.pattern for pattern, _ in PATTERNS), re.IGNORECASE)
"""All of them at once: most lines have none."""
NO_PROSE = re.compile(r"^```.*?^```|`[^`\n]*`|<!--.*?-->|\]\([^)]*\)", re.MULTILINE | re.DOTALL)


def blank(match: re.Match[str]) -> str:
    """Replace a match by its line breaks, so that line numbers stay."""
    return "\n" * match[0].count("\n") or " "


def markdown(text: str) -> Iterator[tuple[int, str]]:
    """Lines of a page outside code and links."""
    yield from enumerate(NO_PROSE.sub(blank, text).splitlines(), 1)


def python(text: str) -> Iterator[tuple[int, str]]:
    """Lines of docstrings, other strings and comments."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for number, line in enumerate(NO_PROSE.sub(blank, node.value).splitlines()):
                yield node.lineno + number, line
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], NO_PROSE.sub(" ", token.string)


def yaml(text: str) -> Iterator[tuple[int, str]]:
    """Comments of a YAML file."""
    for number, line in enumerate(text.splitlines(), 1):
        for comment in re.findall(r"(?:^|\s)#(.*)", line):
            yield number, NO_PROSE.sub(" ", comment)


def jinja(text: str) -> Iterator[tuple[int, str]]:
    """Comments of a template; the rest is the text of a prompt or a page."""
    for comment in re.finditer(r"\{#(.*?)#\}", text, re.DOTALL):
        begin = text.count("\n", 0, comment.start()) + 1
        yield from enumerate(NO_PROSE.sub(blank, comment[1]).splitlines(), begin)


READERS = {".md": markdown, ".py": python, ".yaml": yaml, ".j2": jinja}


def phrases(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line and text of every phrase of the list in a file, and what to write instead."""
    for number, line in READERS[path.suffix](path.read_text("utf-8")):
        for pattern, instead in PATTERNS if ANY.search(line) else ():
            for match in pattern.finditer(line):
                yield number, match[0].lower(), instead


def files() -> Iterator[Path]:
    """Every file that is checked."""
    for root in CLEAN:
        path = ROOT / root
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in READERS)
        yield from (p for p in found if not name_of(p).startswith(GENERATED))


def name_of(path: Path) -> str:
    """The path of a file in the repository."""
    return path.relative_to(ROOT).as_posix()


def test_prose_is_in_the_terms_of_the_field() -> None:
    """No page, docstring, comment or message uses a phrase of the list, and nothing is allowed in vain."""
    found = [(name_of(path), *phrase) for path in files() for phrase in phrases(path)]
    offenders = [f"{n}:{line}: `{p}`: write {instead}" for n, line, p, instead in found if (n, p) not in ALLOWED]
    assert offenders == []
    assert set(ALLOWED) <= {(name, phrase) for name, _, phrase, _ in found}


def test_phrases_are_found_in_prose_and_not_in_code(tmp_path: Path) -> None:
    """Docstrings, comments, messages and paragraphs are read; names in code, code blocks, keys and prompts are not."""
    code, page, recipe, prompt = (tmp_path / name for name in ("code.py", "page.md", "recipe.yaml", "prompt.j2"))
    code.write_text('"""A knob."""\nknob = "`knob` beside it"  # a forest\n', "utf-8")
    page.write_text("A knob.\n```\nknob\n```\nand `knob`, [it](knob.md) and a forest\n", "utf-8")
    assert sorted(p[:2] for p in phrases(code)) == [(1, "knob"), (2, "beside"), (2, "forest")]
    assert [p[:2] for p in phrases(page)] == [(1, "knob"), (5, "forest")]
    recipe.write_text('# a knob\nknob: "#beside"  # `knob` in a forest\n', "utf-8")
    prompt.write_text("beside\n{# a knob\nin a forest #} {{ beside }}\n", "utf-8")
    assert [p[:2] for p in phrases(recipe)] == [(1, "knob"), (2, "forest")]
    assert [p[:2] for p in phrases(prompt)] == [(2, "knob"), (3, "forest")]
