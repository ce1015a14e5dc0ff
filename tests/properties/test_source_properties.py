"""Laws of reading: nothing raises, spans cut out exactly what was written, references resolve as written."""

import re
import time

from hypothesis import example, given, settings, strategies as st

from recipec.language.nodes import Node
from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source

LETTERS = "ab \n\t:-[]{}${}.'\"&*!|>#?,%@`~0e1<_/\\é😀=\r"
LINES = st.sampled_from(
    ["a: 1", "  b: 2", "- c", "  - d: ${a}", "x: {y: ${a.b}}", "z: |", "  text", "k: &n [1]", "m: *n", "extends: [f]",
     "stages:", "  s:", "    extends: recipec:nothing", "vars: {q: 1e-5}", "w: ${vars.q}", "? [1]", ": 3", "a: !t 1"]
)  # fmt: skip


def run(text: str) -> None:
    """Read and resolve a text, and ask for places, within a second."""
    start = time.process_time()
    resolved = resolve(read_source("r.yaml", text), ["vars.q=${w}", text[:40]])
    assert isinstance(resolved.data, dict)
    for path in [(), ("a",), ("stages", "s", "loss"), ("x", "y", 0)]:
        assert resolved.spans(path)
        resolved.file(path)
    resolved.listing()
    assert time.process_time() - start < 1


@given(st.text(LETTERS, max_size=200))
@example("? ? ? ?\n")
@example("{${a")
@example("a: ${a}")
@example("a: {b: '${a}'}")
@settings(max_examples=300, deadline=None)
def test_no_text_raises(text):
    """Whatever the text, reading and resolving end in data and diagnostics."""
    run(text)


@given(st.lists(LINES, max_size=12))
@settings(max_examples=300, deadline=None)
def test_no_order_of_sensible_lines_raises(lines):
    """Nearly sound recipes reach further into the reader; they do not raise either."""
    run("\n".join(lines) + "\n")


WORDS = st.text("abcé😀", min_size=1, max_size=5).map(lambda word: f"w{word}")
SCALARS = st.one_of(
    WORDS, st.integers(-(10**6), 10**6), st.booleans(), st.floats(allow_nan=False, allow_infinity=False, width=32)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=12,
)


def written(value, indent: int, choose) -> str:
    """Write a value as YAML, in flow or block style by chance; starts after `key:` or `-`."""
    if isinstance(value, dict | list) and (not value or choose()):
        return " " + flow(value)
    pad = "\n" + " " * indent
    if isinstance(value, dict):
        return "".join(f"{pad}{key}:{written(item, indent + 2, choose)}" for key, item in value.items())
    if isinstance(value, list):
        return "".join(f"{pad}-{written(item, indent + 2, choose)}" for item in value)
    return " " + flow(value)


def flow(value) -> str:
    """Write a value in flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def cut(text: str, node: Node) -> str:
    """Return the text of a node's span, its first line where it stood."""
    lines = text.split("\n")
    span = node.span
    if span.line == span.end_line:
        return lines[span.line - 1][span.column - 1 : span.end_column - 1]
    middle = lines[span.line : span.end_line - 1]
    first, last = lines[span.line - 1][span.column - 1 :], lines[span.end_line - 1][: span.end_column - 1]
    return "\n".join([" " * (span.column - 1) + first, *middle, last])


def nodes(node: Node):
    """Yield a node and all below it."""
    yield node
    below = node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    for child in below:
        yield from nodes(child)


@given(st.dictionaries(WORDS, TREES, min_size=1, max_size=4), st.data())
@settings(max_examples=150, deadline=None)
def test_spans_cut_out_what_was_written(tree, data):
    """Every value reads back from its own span alone, in block and flow style, with any characters."""
    text = written(tree, 0, lambda: data.draw(st.booleans())).lstrip("\n ") + "\n"
    source = read_source("r.yaml", text)
    assert source.diagnostics == ()
    assert source.root.plain() == tree
    for node in nodes(source.root):
        alone = read_source("r.yaml", "value:\n" + "\n".join(" " + line for line in cut(text, node).split("\n")))
        assert alone.root.plain() == {"value": node.plain()}
        if node.key is not None:
            line = text.split("\n")[node.key.line - 1]
            assert line[node.key.column - 1 : node.key.end_column - 1] in line
            assert line[node.key.end_column - 1] == ":"


PIECES = st.lists(
    st.one_of(
        st.text("ab \\$}{:.,'\"[]()@?é", max_size=6),
        st.sampled_from(["${vars.a}", "${ vars.b-c }", "\\${vars.a}"])),
    min_size=1, max_size=6,
).map("".join)  # fmt: skip


@given(PIECES)
@settings(max_examples=300, deadline=None)
def test_references_resolve_as_written(text):
    """What the resolver returns is the text with each reference replaced, and nothing else is touched."""
    quoted = text.replace("'", "''")
    resolved = resolve(read_source("r.yaml", f"stages: {{}}\nvars: {{a: 1e-5, b-c: x}}\ntext: '{quoted}'\n"))
    if resolved.unknown or "${" not in text:
        return
    assert not resolved.diagnostics

    def value(match: re.Match[str]) -> str:
        slashes, rest = match[1], match[2]
        if len(slashes) % 2:
            return "\\" * (len(slashes) // 2) + rest
        return "\\" * (len(slashes) // 2) + {"vars.a": "1e-05", "vars.b-c": "x"}[rest[2:-1].strip()]

    expected = re.sub(r"(\\*)(\$\{(?:\s*[\w.-]+\s*\})?)", value, text)
    assert str(resolved.data["text"]) == expected
