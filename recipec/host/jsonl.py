"""JSON Lines: one JSON object a line, read with line numbers and errors that name the place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from recipec.diagnostics.model import Diagnostic, RecipeError

Broken = Callable[[int, str, int], Diagnostic]
"""Builds the diagnostic of a line from its number, the problem and a column, both counted from 1."""
LONGEST = 32 << 20
"""Most bytes of a line; a file may be sparse, and have none for terabytes."""
LONGEST_ARRAY = 1 << 30
"""Most bytes of a document that is one list."""
_BOM = b"\xef\xbb\xbf"
_STARTS = {
    b"\xff\xfe": "it is UTF-16, not UTF-8",
    b"\xfe\xff": "it is UTF-16, not UTF-8",
    b"\x1f\x8b": "it is compressed by gzip",
    b"(\xb5/\xfd": "it is compressed by zstd",
    b"PK\x03\x04": "it is compressed, a zip file",
    b"PAR1": "it is a parquet file",
}
"""First bytes of files that are no text in UTF-8."""
_TEXTS = {
    b"version https://git-lfs": "it is a pointer of Git LFS",
    b"<": "it is a web page or XML",
    b"{'": "it is a dictionary as Python prints it",
}
"""First bytes of lines that are no JSON."""


def lines_of(stream: BinaryIO) -> Iterator[bytes]:
    r"""Yield the lines of a file up to one that is longer than ``LONGEST``, which is cut and the last.

    >>> import io
    >>> list(lines_of(io.BytesIO(b"a\nb")))
    [b'a\n', b'b']
    """
    while line := stream.readline(LONGEST + 1):
        yield line
        if len(line) > LONGEST:
            return


def read_objects(lines: Iterable[bytes], broken: Broken, **hooks: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    r"""Yield the number and the object of every line that is not blank; ``hooks`` are those of ``json.JSONDecoder``.

    ``lines`` end at ``\n`` alone, as those of a binary file do: JSON text may contain other line separators.

    Raises:
        RecipeError: ``broken``, a line is not a JSON object in UTF-8.  NaN and Infinity are not JSON.

    >>> list(read_objects([b'{"a": 1}\n', b"\n", b'{"a": 2}'], broken=lambda line, problem, column: None))
    [(1, {'a': 1}), (3, {'a': 2})]
    """
    decode = json.JSONDecoder(parse_constant=_refuse, **{**_CHECKED, **hooks}).decode
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.strip():
            yield number, _object(text.rstrip(), number, broken, decode, ended=text.endswith(b"\n"))


def read_array(stream: BinaryIO, broken: Broken) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of every element of a document that is a list of objects.

    Raises:
        RecipeError: ``broken``, with the line of a syntax error, or the number of an element that is not an object.

    >>> import io
    >>> list(read_array(io.BytesIO(b'[{"a": 1}, {"a": 2}]'), broken=lambda row, problem, column: None))
    [(1, {'a': 1}), (2, {'a': 2})]
    """
    data = stream.read(LONGEST_ARRAY + 1)
    if len(data) > LONGEST_ARRAY:
        problem = (
            f"a list has at most {LONGEST_ARRAY >> 30} GiB; write one object per line, in a file that ends in .jsonl"
        )
        raise RecipeError(broken(1, problem, 1))
    try:
        items = json.JSONDecoder(parse_constant=_refuse, **_CHECKED).decode(data.removeprefix(_BOM).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(broken(1, f"not UTF-8 at byte {error.start + 1}", 1)) from None
    except json.JSONDecodeError as error:
        raise RecipeError(broken(error.lineno, f"not JSON at column {error.colno}: {error.msg}", error.colno)) from None
    except RecursionError:
        raise RecipeError(broken(1, "not JSON: nested too deeply", 1)) from None
    except ValueError as error:
        raise RecipeError(broken(1, f"not JSON: {error}", 1)) from None
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise RecipeError(broken(number, f"element {number} of the list is {kind_of(item)}, and not an object", 1))
        yield number, item


def _object(text: bytes, number: int, broken: Broken, decode: Callable[[str], Any], *, ended: bool) -> dict[str, Any]:
    column = 1
    if len(text) > LONGEST:
        raise RecipeError(broken(number, f"the line has more than {LONGEST >> 20} MiB", column))
    try:
        value = decode(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        known = next((words for start, words in _STARTS.items() if text.startswith(start)), "") if number == 1 else ""
        problem, column = known or f"not UTF-8 at byte {error.start + 1}", 1 if known else error.start + 1
    except json.JSONDecodeError as error:
        problem, column = _not_json(text, number, error), error.colno
        if problem.startswith("not") and not ended and number > 1 and text.startswith(b"{") and not text.endswith(b"}"):
            problem = "the file ends within this line, not JSON"
        if (
            problem.startswith("not")
            and number == 1
            and text.startswith((b"[", b"{"))
            and not text.endswith((b"]", b"}"))
        ):
            whole = "a list of rows" if text.startswith(b"[") else "one object"
            problem = f"it is {whole} over many lines, and not an object in each line"
    except RecursionError:
        problem = "not JSON: nested too deeply"
    except ValueError as error:
        long = str(error).startswith("Exceeds the limit")  # of digits that Python converts
        problem = "a number has thousands of digits" if long else f"not JSON: {error}"
    else:
        if isinstance(value, dict):
            return value
        problem = f"a JSON object is needed, this is {kind_of(value)}"
    raise RecipeError(broken(number, problem, column))


def _not_json(text: bytes, number: int, error: json.JSONDecodeError) -> str:
    """Say what a line is that is not JSON: what its first bytes show, a comma too many, or what the decoder says."""
    known = next((words for start, words in _TEXTS.items() if text.startswith(start)), "")
    if not known and error.doc[error.pos :].strip() == ",":
        known = "there is a comma after the object"
    elif not known and number == 1 and text[:1] not in b'{["' and (b"," in text or b"\t" in text):
        known = "it is a table, such as CSV"
    return f"{known}, not JSON" if known else f"not JSON at column {error.colno}: {error.msg}"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"`{constant}` is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key `{twice}` stands twice")
    return mapping


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


_CHECKED: dict[str, Any] = {"object_pairs_hook": _unique, "parse_float": _finite}


def kind_of(value: Any) -> str:
    """Name the kind of a value in the words of JSON.

    >>> kind_of([1]), kind_of(None)
    ('a list', 'null')
    """
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "text"}
    if isinstance(value, Mapping):
        return "an object"
    return names.get(type(value), "a list" if isinstance(value, list | tuple) else f"of type {type(value).__name__}")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file that this program wrote, without lines that are damaged or left unfinished.

    >>> read_lines(Path("nowhere.jsonl"))
    []
    """
    return [row for _, row in _rows(path) if row is not None]


def unreadable_line(path: Path) -> int | None:
    """Return the number of the first line that ``read_lines`` leaves out, counted from 1."""
    return next((number for number, row in _rows(path) if row is None), None)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield the number of each line and its object; None for a line that has none."""
    if not path.is_file():  # a link may lead to a device that never ends
        return
    with path.open("rb") as stream:
        for number, line in enumerate(lines_of(stream), 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield number, row if isinstance(row, dict) else None


def to_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    r"""Write objects as JSON Lines; an unpaired surrogate, which UTF-8 cannot hold, is written as its escape.

    >>> to_lines([{"text": "ü\ud800"}])
    '{"text": "ü\\ud800"}\n'
    """
    text = "".join(json.dumps(row, ensure_ascii=False, default=str, allow_nan=False) + "\n" for row in rows)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
