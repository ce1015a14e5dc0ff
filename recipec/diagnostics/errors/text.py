r"""The text of a recipe file: RC101 to RC117 (RC105, YAML syntax, is in ``syntax``)."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, Fix, Span, diagnostic
from recipec.diagnostics.phrases import did_you_mean

Chain = tuple[Span, ...]


@diagnostic("RC101", "cannot-read-file")
def cannot_read(file: str, reason: str, chain: Chain = (), remedy: str = "") -> Finding:
    """A recipe file does not exist, is not a regular file, or cannot be opened.

    Why it matters: nothing can be checked before the file is read.
    Example: `recipec validate recipes/` where a file was meant, or a misspelt path.
    How to fix: give the path of a YAML file that can be read; `-` reads standard input.
    """
    return Finding(f"cannot read {file}: {reason}", chain or (Span(file, 1, 1, 1, 1),), help=remedy)


@diagnostic("RC102", "not-utf8")
def not_utf8(place: Span, byte: int, wide: bool, chain: Chain = ()) -> Finding:
    """The file is not UTF-8 text.

    Why it matters: guessing another encoding could silently change names and prompts.
    Example: a file saved as UTF-16 or Latin-1.
    How to fix: save the file as UTF-8.
    References: YAML 1.2.2, section 5.2.
    """
    problem = "it looks like UTF-16" if wide else f"byte 0x{byte:02x} cannot start a character"
    return Finding(f"{place.file} is not UTF-8 text: {problem}", (place, *chain))


@diagnostic("RC103", "over-limit")
def over_limit(place: Span, what: str, path: str = "", chain: Chain = ()) -> Finding:
    """A recipe is larger than any sensible recipe, or expands without bound.

    What it checks: a file has at most 1 MiB, 10,000 values (an alias counts as often as it is used) and 64 levels of
    nesting; a recipe includes at most 32 files, with 256 includes and 4 MiB in all; it has at most 1000 references, in
    chains of at most 16, that expand to at most 64 KiB.
    Why it matters: such a file is either a data set or an expansion that would exhaust the memory, so reading stops
    here.
    Example: ten lines of YAML aliases, each repeating the one before twice, or ten files, each including the next
    twice.
    How to fix: keep rows in a data set and long texts in template files, and use fewer aliases, includes and
    references.
    """
    return Finding(f"{place.file} has more than {what}", (place, *chain), path=path)


@diagnostic("RC104", "forbidden-character")
def forbidden_character(place: Span, character: str, chain: Chain = ()) -> Finding:
    r"""A control or bidirectional character, a lone surrogate, a byte order mark inside the file, U+2028 or U+2029.

    Why it matters: the character is invisible. YAML readers disagree on whether some end a line, so that two tools may
    read two different recipes; others let a reviewer see the line in another order than it is read.
    Example: text pasted from a word processor.
    How to fix: delete it, or write it inside double quotes as an escape such as `\u2028`.
    References: YAML 1.2.2, sections 5.1 and 5.4; CVE-2021-42574 (Trojan Source).
    """
    return Finding(
        f"the character U+{ord(character):04X} is not allowed in a recipe",
        (place, *chain),
        help=f'delete it, or write "\\u{ord(character):04x}" inside double quotes',
    )


@diagnostic("RC153", "space-of-another-kind")
def wide_space(place: Span, character: str, chain: Chain = ()) -> Finding:
    """A line is indented, or a colon followed, by a character that looks like a space and is another one.

    Why it matters: for YAML it is a letter, and the line is read as another key or value.
    Example: a recipe that was copied from a web page or a chat, with no-break spaces (U+00A0).
    How to fix: write plain spaces. In an editor, replace the character everywhere.
    """
    return Finding(f"the character U+{ord(character):04X} looks like a space and is another character", (place, *chain))


@diagnostic("RC154", "typographic-quotes")
def typographic_quotes(place: Span, key: str, path: str, fix: Fix | None, chain: Chain = ()) -> Finding:
    """A value has typographic quotes around it, which YAML takes for letters.

    What it checks: values, and keys, that begin and end with quotes such as “ and ”.
    Why it matters: the quotes would be a part of the value: a pattern with them matches nothing.
    Example: `pattern: “<think>.*</think>”`, copied from a web page or a word processor.
    How to fix: write plain quotes, `"` or `'`, in their place. Those that are meant have plain quotes around.
    """
    return Finding(f"`{key}` has typographic quotes around it", (place, *chain), path=path, fix=fix)


@diagnostic("RC155", "leading-zero")
def leading_zero(place: Span, written: str, path: str, chain: Chain = ()) -> Finding:
    """A number begins with a zero that is not needed.

    Why it matters: readers disagree: `010` is ten in YAML 1.2 and eight in YAML 1.1, and leading zeros are lost where
    text was meant.
    Example: `num_generations: 010`.
    How to fix: drop the zeros; write `0o10` for an octal number, or quotes for text.
    """
    number = written.lstrip("+-").lstrip("0") or "0"
    sign = "-" if written.startswith("-") else ""
    return Finding(
        f"the number `{written}` begins with a zero",
        (place, *chain),
        help=f'write `{sign}{number}`; `"{written}"` with quotes is text',
        path=path,
        fix=Fix(f"write {sign}{number}", place, f"{sign}{number}"),
    )


@diagnostic("RC106", "unquoted-reference")
def unquoted_reference(place: Span, written: str, fix: Fix | None, chain: Chain = ()) -> Finding:
    """A `${…}` inside braces or brackets has no quotes.

    Why it matters: there, YAML reads the brace of `${` as the start of another mapping.
    Example: `loss: {epsilon: ${vars.epsilon}}`.
    How to fix: quote it, as in `loss: {epsilon: "${vars.epsilon}"}`; the value keeps its type.
    References: YAML 1.2.2, section 7.3.3.
    """
    return Finding(
        f"`{written}` needs quotes inside braces or brackets",
        (place, *chain),
        help=f'write "{written}"; the value keeps its type',
        fix=fix,
    )


@diagnostic("RC107", "duplicate-key")
def duplicate_key(again: Span, first: Span, key: str, place: str, chain: Chain = ()) -> Finding:
    """A mapping has the same key twice, or a file the same anchor.

    Why it matters: only one of them can count, and most YAML readers silently take the last.
    Example: two `temperature:` lines in one `sampler:`.
    How to fix: keep one of them.
    References: YAML 1.2.2, section 3.2.1.3.
    """
    named = place in {"stages", "evaluate", "vars", "trackers"} or place.endswith((".reward", ".advantage"))
    return Finding(
        f"the {'anchor' if key.startswith('&') else 'key'} `{key}` is given twice",
        (again, first.labelled("given here before"), *chain),
        help=f"give one of the two another name, such as `{key}_2`, or keep one of them" if named else "",
        path=f"{place}.{key}" if place else key,
    )


@diagnostic("RC108", "tag")
def tag(place: Span, written: str, path: str, chain: Chain = ()) -> Finding:
    """A value has a YAML tag, a word that starts with `!`.

    Why it matters: a tag makes the reader build an object, in some readers any object of any library. A recipe is plain
    data.
    Example: `path: !include other.yaml`.
    How to fix: remove the tag; use `extends` to include a file, and quotes for text that starts with `!`.
    """
    return Finding(f"tags such as `{written}` are not allowed", (place, *chain), path=path)


@diagnostic("RC109", "key-not-text")
def key_not_text(place: Span, written: str | None, path: str, chain: Chain = (), template: str = "") -> Finding:
    """A key is a number, true, false, null, empty, a list or a mapping.

    Why it matters: keys are names, and `1` and `"1"` would be two keys that look the same.
    Example: `vars: {1: a}`.
    How to fix: write a name before the colon.
    """
    message = f"the key `{written}` is not text" if written else "a key must be text"
    remedy = f"remove it, or use a word that is a name: YAML reads `{written}` as a value" if written else ""
    if not written and place.end_column > place.column + 1:  # braces in braces
        quoted = f'"{{{{ {template or "question"} }}}}"'
        remedy = f'a variable is `"${{vars.{template or "NAME"}}}"`; a template is text: put it in quotes, `{quoted}`'
    return Finding(message, (place, *chain), help=remedy, path=path)


@diagnostic("RC110", "merge-key")
def merge_key(place: Span, chain: Chain = ()) -> Finding:
    """A mapping uses the merge key `<<`.

    Why it matters: YAML 1.2 has no merge keys. Readers disagree on whether and how deep they merge.
    Example: `<<: *defaults`.
    How to fix: use `extends` with a fragment file, or a reference such as `${vars.defaults}`.
    References: merge keys were a type of YAML 1.1.
    """
    return Finding("merge keys (`<<`) are not part of YAML 1.2", (place, *chain))


@diagnostic("RC111", "several-documents")
def several_documents(place: Span, chain: Chain = ()) -> Finding:
    """A file has a second YAML document, after a second `---`.

    Why it matters: a recipe is one document; the rest of the file would be ignored.
    Example: two recipes pasted into one file.
    How to fix: remove the line `---` if what follows belongs to the recipe, or move it to a file of its own.
    """
    return Finding("a second document starts here, but a recipe is one document", (place, *chain))


@diagnostic("RC116", "bad-alias")
def bad_alias(place: Span, name: str, inside: bool, known: Sequence[str], chain: Chain = ()) -> Finding:
    """An alias `*name` has no anchor `&name` before it, or is part of the value that it repeats.

    Why it matters: there is nothing to repeat, or the repetition would never end.
    Example: `a: *base` where `&base` comes later; `a: &a [*a]`.
    How to fix: define the anchor above, use `${vars.name}`, or quote text that starts with `*`.
    """
    message = f"`*{name}` is inside the value it repeats" if inside else f"no anchor `&{name}` comes before `*{name}`"
    return Finding(message, (place, *chain), help=did_you_mean(name, known))


@diagnostic("RC117", "number-out-of-range")
def number_out_of_range(place: Span, written: str, problem: str, path: str, chain: Chain = ()) -> Finding:
    """A number is beyond the range of a 64-bit float, or has more than 300 digits.

    Why it matters: `1e999` would silently become infinity.
    Example: `max_norm: 1e999`.
    How to fix: write the number you mean, `.inf` for infinity, or quotes for text.
    """
    short = written if len(written) <= 24 else f"{written[:12]}…{written[-6:]}"
    return Finding(f"the number `{short}` is {problem}", (place, *chain), path=path)
