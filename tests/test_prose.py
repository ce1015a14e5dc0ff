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
    "docs/README.md",
    "docs/glossary.md",
    "docs/agents.md",
    "docs/attention.md",
    "docs/check.md",
    "docs/knowledge.md",
    "docs/metrics.md",
    "docs/preferences.md",
    "docs/recipe.md",
    "docs/vision.md",
    "recipec/diagnostics",
    "recipec/checks",
    "recipec/cli",
    "recipec/graph.py",
    "recipec/component.py",
    "recipec/runtime/training",
    "recipec/runtime/objective",
    "recipec/runtime/rollout",
    "recipec/runtime/logging",
    "recipec/runtime/evaluation",
    "recipec/runtime/model",
    "recipec/runtime/images",
)
"""Files and folders that are checked: Markdown, and docstrings, comments and messages of Python."""
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
    r"is none|are none": "is not",
    r"anew": "again",
    r"at hand": "available",
    r"in small": "a small version of",
    r"so many": "that many, or the number",
    r"without a word": "silently",
    r"comes? on top": "is added",
    r"bears? (?:it|them) out": "support",
    r"specimens?": "sample",
}
ALLOWED: dict[tuple[str, str], str] = {}
"""File and phrase that are allowed, and the reason."""
PATTERNS = [(re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE), instead) for phrase, instead in PHRASES.items()]
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


def phrases(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line and text of every phrase of the list in a file, and what to write instead."""
    read = python if path.suffix == ".py" else markdown
    for number, line in read(path.read_text("utf-8")):
        for pattern, instead in PATTERNS:
            for match in pattern.finditer(line):
                yield number, match[0].lower(), instead


def files() -> Iterator[Path]:
    """Every file that is checked."""
    for root in CLEAN:
        path = ROOT / root
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in {".md", ".py"})
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
    """Docstrings, comments, messages and paragraphs are read; names in code and code blocks are not."""
    code, page = tmp_path / "code.py", tmp_path / "page.md"
    code.write_text('"""A knob."""\nknob = "`knob` beside it"  # a forest\n', "utf-8")
    page.write_text("A knob.\n```\nknob\n```\nand `knob`, [it](knob.md) and a forest\n", "utf-8")
    assert sorted(p[:2] for p in phrases(code)) == [(1, "knob"), (2, "beside"), (2, "forest")]
    assert [p[:2] for p in phrases(page)] == [(1, "knob"), (5, "forest")]
