"""What can be wrong with the text of a recipe: RC101 to RC104 and RC106 to RC117 (RC105 is in syntax.py)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import islice

from recipec.diagnostics.model import Finding, Fix, Span, diagnostic

Chain = tuple[Span, ...]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name nearest to ``name``, or nothing."""
    few = list(islice(known, 200))  # the search is quadratic, and suggestions are for people
    return next(iter(get_close_matches(name[:80], few, 1, 0.6)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean …?``, or nothing where no known name is near.

    >>> did_you_mean("epsilom", ["epsilon", "beta"]), did_you_mean("x", ["beta"])
    ('did you mean `epsilon`?', '')
    """
    near = nearest(name, known)
    return f"did you mean `{near}`?" if near else ""


def _joined(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


@diagnostic("RC101", "cannot-read-file")
def cannot_read(file: str, reason: str, chain: Chain = ()) -> Finding:
    """A file of the recipe cannot be read.

    What it checks: that the path names a regular file and that it can be opened.
    Why it matters: nothing can be said about a recipe that was not read.
    Example: `recipec validate recipes/` where a file was meant, or a path with a typing mistake.
    Use instead: the path of a YAML file; `-` reads standard input.
    """
    return Finding(
        f"cannot read {file}: {reason}",
        chain or (Span(file, 1, 1, 1, 1),),
        help="give the path of a recipe file that can be read",
    )


@diagnostic("RC102", "not-utf8")
def not_utf8(place: Span, byte: int, wide: bool, chain: Chain = ()) -> Finding:
    """The file is not UTF-8 text.

    What it checks: the bytes of the file.
    Why it matters: a guess at another encoding would change names and prompts without a word.
    Example: a file saved as UTF-16 or Latin-1.
    Use instead: save it as UTF-8.
    References: YAML 1.2.2, section 5.2.
    """
    says = "it looks like UTF-16" if wide else f"byte 0x{byte:02x} starts no character"
    return Finding(f"{place.file} is not UTF-8 text: {says}", (place, *chain), help="save the file as UTF-8")


@diagnostic("RC103", "file-too-large")
def too_large(file: str, limit: int, chain: Chain = ()) -> Finding:
    """A file is larger than a recipe can sensibly be.

    What it checks: the size of each file, at most 1 MiB.
    Why it matters: a recipe names its data; a file of this size is most likely the data itself.
    Example: `recipec validate data/train.yaml`.
    Use instead: keep rows in a dataset (`data: {path: …}`) and long texts in template files.
    """
    return Finding(
        f"{file} is larger than {limit // 1024} KiB, too large for a recipe",
        chain or (Span(file, 1, 1, 1, 1),),
        why="a recipe names its data and texts; it does not hold them",
        help="keep rows in a dataset and long texts in template files",
    )


@diagnostic("RC104", "forbidden-character")
def forbidden_character(place: Span, character: str, chain: Chain = ()) -> Finding:
    r"""A character that is no text, or that some readers take for the end of a line.

    What it checks: control characters, lone surrogates, byte order marks inside the file, U+0085, U+2028 and U+2029.
    Why it matters: some YAML readers end a line, and with it a comment, at such a character and others do not,
    so two tools would read two recipes.
    Example: text pasted from a word processor.
    Use instead: delete it; inside double quotes write its escape, such as `\u2028`.
    References: YAML 1.2.2, sections 5.1 and 5.4.
    """
    return Finding(
        f"the character U+{ord(character):04X} cannot stand in a recipe",
        (place, *chain),
        why="it cannot be seen, and YAML readers disagree on what it means",
        help=f'delete it; inside double quotes write "\\u{ord(character):04x}"',
    )


@diagnostic("RC106", "unquoted-reference")
def unquoted_reference(place: Span, written: str, fix: Fix | None, chain: Chain = ()) -> Finding:
    """A `${…}` inside `{ }` or `[ ]` has no quotes.

    What it checks: references within flow mappings and lists.
    Why it matters: there YAML reads the brace of `${` as the start of another mapping.
    Example: `loss: {epsilon: ${vars.epsilon}}`.
    Use instead: `loss: {epsilon: "${vars.epsilon}"}`; the value keeps its type. Without braces no quotes are needed.
    References: YAML 1.2.2, section 7.3.3.
    """
    return Finding(
        f"`{written}` needs quotes inside braces or brackets",
        (place, *chain),
        why="YAML reads its brace as the start of another mapping",
        help=f'write "{written}"; the value keeps its type',
        fix=fix,
    )


@diagnostic("RC107", "duplicate-key")
def duplicate_key(again: Span, first: Span, key: str, place: str, chain: Chain = ()) -> Finding:
    """A mapping has the same key twice.

    What it checks: the keys of every mapping.
    Why it matters: most YAML readers keep the last one and say nothing, so half of an edit is lost.
    Example: two `temperature:` lines in one `sampler:`.
    Use instead: keep one of them.
    References: YAML 1.2.2, section 3.2.1.3.
    """
    return Finding(
        f"the key `{key}` is given twice",
        (again, first.labelled("the first is here"), *chain),
        why="only one of them could count",
        help="keep one of them",
        path=_joined(place, key),
    )


@diagnostic("RC108", "tag")
def tag(place: Span, written: str, path: str, chain: Chain = ()) -> Finding:
    """A value has a YAML tag.

    What it checks: anything that starts with `!` in front of a value.
    Why it matters: tags ask a reader to build objects, in some readers any object of any library. A recipe is data.
    Example: `path: !include other.yaml`.
    Use instead: plain values; `extends` for other files; quotes where the text itself starts with `!`.
    """
    return Finding(
        f"tags such as `{written}` are not allowed",
        (place, *chain),
        why="a tag asks the reader to build an object; a recipe is plain data",
        help="remove it, or put the text in quotes; `extends` includes other files",
        path=path,
    )


@diagnostic("RC109", "key-not-text")
def key_not_text(place: Span, written: str | None, path: str, chain: Chain = ()) -> Finding:
    """A key of a mapping is not text.

    What it checks: the keys of every mapping: a number, true, false, null, nothing, a list or a mapping is no name.
    Why it matters: names are text everywhere in a recipe, and `1` and `"1"` would be two keys that look the same.
    Example: `vars: {1: a}`.
    Use instead: a word, or the number in quotes.
    """
    says = f"the key `{written}` is not text" if written else "a key must be text"
    helps = f'write "{written}" in quotes, or choose a word' if written else "write a name before the colon"
    return Finding(says, (place, *chain), help=helps, path=path)


@diagnostic("RC110", "merge-key")
def merge_key(place: Span, chain: Chain = ()) -> Finding:
    """A mapping uses the merge key `<<`.

    What it checks: a plain `<<` as a key.
    Why it matters: YAML 1.2 dropped merge keys; readers that still know them merge one level deep, others keep a key
    called `<<`.
    Example: `<<: *defaults`.
    Use instead: `extends` with a fragment file, or `${vars.defaults}`.
    References: YAML 1.2 has no merge key; it was a type of YAML 1.1.
    """
    return Finding(
        "merge keys (`<<`) are not part of YAML 1.2",
        (place, *chain),
        why="readers disagree on what they merge",
        help="use `extends` with a fragment file, or a reference such as ${vars.defaults}",
    )


@diagnostic("RC111", "several-documents")
def several_documents(place: Span, chain: Chain = ()) -> Finding:
    """A file holds more than one YAML document.

    What it checks: a second `---` in a file.
    Why it matters: a recipe is one mapping; everything after the second `---` would be ignored.
    Example: two recipes pasted into one file.
    Use instead: one file a recipe.
    """
    return Finding(
        "a second document starts here; a recipe is one document",
        (place, *chain),
        why="what follows would be ignored",
        help="put it in a file of its own",
    )


@diagnostic("RC112", "not-a-mapping")
def not_a_mapping(place: Span, kind: str, chain: Chain = ()) -> Finding:
    """A file is empty, or holds a list or a single value.

    What it checks: that the file is a mapping of keys to values.
    Why it matters: there is nothing to read from anything else.
    Example: a file with only comments.
    Use instead: start with `recipec: 1` and `name: …`; `recipec new` writes a whole starter.
    """
    says = f"{place.file} is empty" if kind == "empty" else f"{place.file} holds {kind}, not keys with values"
    return Finding(says, (place, *chain), help="start it with `recipec: 1`, or let `recipec new` write a starter")


@diagnostic("RC114", "too-deep")
def too_deep(place: Span, limit: int, chain: Chain = ()) -> Finding:
    """Values are nested too deep.

    What it checks: mappings and lists inside each other, at most 64.
    Why it matters: no recipe needs it; a file that does is broken or meant to exhaust its reader.
    Example: a thousand opening brackets.
    Use instead: a flatter recipe.
    """
    return Finding(
        f"values are nested more than {limit} deep",
        (place, *chain),
        why="reading stops here: deeper nesting would exhaust what reads it",
        help="look for a bracket that is never closed, or flatten the values",
    )


@diagnostic("RC115", "too-many-values")
def too_many_values(place: Span, limit: int, chain: Chain = ()) -> Finding:
    """A file has too many values, counting every repetition by an alias.

    What it checks: the number of keys' values and list items with aliases expanded, at most 10 000 a file.
    Why it matters: nine lines of aliases can stand for a billion values.
    Example: `a: &a [x, x]`, `b: &b [*a, *a]`, and so on.
    Use instead: data in a dataset; fewer repetitions.
    """
    return Finding(
        f"the file has more than {limit} values (each repetition by an alias counts)",
        (place, *chain),
        why="reading stops here: a recipe of this size is data, or an alias repeated without bound",
        help="move data to a dataset, or repeat less",
    )


@diagnostic("RC116", "bad-alias")
def bad_alias(place: Span, name: str, inside: bool, known: Sequence[str], chain: Chain = ()) -> Finding:
    """An alias `*name` has no anchor `&name` before it, or stands inside what it repeats.

    What it checks: every alias.
    Why it matters: there is nothing to repeat, or the repetition would have no end.
    Example: `a: *base` where `&base` comes later; `a: &a [*a]`.
    Use instead: an anchor before the alias, `${vars.name}`, or quotes where the text starts with `*`.
    """
    says = f"`*{name}` stands inside the value it repeats" if inside else f"no anchor `&{name}` comes before `*{name}`"
    helps = (
        did_you_mean(name, [k for k in known if k != name])
        or "define it above, use ${vars.…}, or put text that starts with `*` in quotes"
    )
    return Finding(says, (place, *chain), help=helps)


@diagnostic("RC117", "number-out-of-range")
def number_out_of_range(place: Span, written: str, problem: str, path: str, chain: Chain = ()) -> Finding:
    """A number is too large to be held.

    What it checks: decimal numbers beyond the range of a 64-bit float, and integers of more than 300 digits.
    Why it matters: `1e999` would silently become infinity.
    Example: `max_norm: 1e999`.
    Use instead: the number that is meant; `.inf` for infinity; quotes for text.
    """
    short = written if len(written) <= 24 else f"{written[:12]}…{written[-6:]}"
    return Finding(
        f"the number `{short}` is {problem}",
        (place, *chain),
        help="write the number that is meant, `.inf` for infinity, or quotes for text",
        path=path,
    )
