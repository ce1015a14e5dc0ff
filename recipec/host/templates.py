"""The one door of Jinja: leaf text only, never recipes.

Templates that come with data, recipes or models are rendered in a child that may be killed: Jinja's sandbox keeps
code out, and does not bound time or memory.  Templates of the package itself are rendered here.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recipec.diagnostics.errors import data as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.worker_pool import WorkerFailure, WorkerPool

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEMPLATE = 64 << 10
MAX_OUTPUT = 256 << 10
SECONDS = 5.0
MEMORY = 512 << 20
_CHUNK = 64
_UNDEFINED = re.compile(r"^'(.+)' is undefined$")


def _environment(*, html: bool = False) -> ImmutableSandboxedEnvironment:
    from jinja2 import StrictUndefined, pass_context  # noqa: PLC0415 - 50 ms that `validate` need not pay
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    # A prompt is plain text: escaping `<` in it would change what the model reads.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        # constants would be folded where no limit holds, `'a' * 10**9` among them; a finalizer prevents it in outputs
        optimized=False,
        # pages about a run have no text for what is not known
        finalize=pass_context(lambda _context, value: "" if html and value is None else _printed(value)),
    )
    refuse_draws(environment)
    return environment


def refuse_draws(environment: ImmutableSandboxedEnvironment) -> None:
    """Let what draws at random fail: a row is read again when a run continues, and its prompt must be the same."""

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError(
            "it draws at random (`random`, `lipsum`): a row would have another prompt in a run that continues"
        )

    environment.filters["random"] = refuse
    environment.globals["lipsum"] = refuse


def _printed(value: Any) -> Any:
    """Refuse to print a method: `row.items` is one, and `row['items']` the column of that name; and a missing value."""
    from jinja2 import Undefined  # noqa: PLC0415

    if value is None:
        raise TypeError(
            "it prints null, as the word None: write `{{ name or '' }}`, or print it inside `{% if name %}`"
        )
    if callable(value) and not isinstance(value, Undefined):
        raise TypeError("it prints a method: a column with the name of one is written as `row['items']`")
    return value


def template_problem(text: str, name: str) -> Diagnostic | None:
    """Return what is wrong with a template without rendering it, or None.

    It may not be larger than 64 KiB, nor refer to other templates.

    >>> template_problem("{% if x %}", "a.j2").code
    'RC712'
    """
    from jinja2 import TemplateSyntaxError, nodes  # noqa: PLC0415

    if len(text.encode("utf-8", "replace")) > MAX_TEMPLATE:
        return errors.template_syntax(name, 1, f"it is larger than {MAX_TEMPLATE >> 10} KiB")
    environment = _environment()
    try:
        tree = environment.parse(text)
        environment.compile(text)
    except TemplateSyntaxError as error:
        return errors.template_syntax(name, error.lineno, error.message or "syntax error")
    except RecursionError:
        return errors.template_syntax(name, 1, "it is nested too deeply")
    except (ValueError, OverflowError, MemoryError, SyntaxError) as error:
        return errors.template_syntax(name, 1, str(error) or type(error).__name__)
    kinds = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
    other = next(tree.find_all(kinds), None)
    if other is not None:
        return errors.template_syntax(name, other.lineno, "a template cannot refer to another one")
    return None


def template_columns(text: str) -> frozenset[str]:
    """Return the names that a valid template takes from outside.

    >>> sorted(template_columns("{% for x in rows %}{{ x }}{{ y }}{% endfor %}"))
    ['rows', 'y']
    """
    from jinja2.meta import TrackingCodeGenerator  # noqa: PLC0415

    environment = _environment()
    names = TrackingCodeGenerator(environment)
    names.optimizer = None  # it folds constants, whatever the environment is set to
    names.visit(environment.parse(text))
    return frozenset(names.undeclared_identifiers) - set(environment.globals)


def render_rows(
    text: str, name: str, rows: Sequence[Mapping[str, Any]], where: Callable[[int], str] = str
) -> list[str]:
    """Render a template of the user's once for each row; ``where`` names a row in messages.

    Each row has five seconds, half a GiB of memory and 256 KiB of output.

    Raises:
        RecipeError: RC711 a column is missing, RC712 the template is not valid, RC713 it failed or broke a limit.
    """
    renderer = Renderer(text, name)
    try:
        return renderer.rows(rows, where)
    finally:
        renderer.close()


class Renderer:
    """A template that is rendered again and again, its child kept between calls; see :func:`render_rows`.

    A template of the package itself (``own``) is rendered in this process.

    Raises:
        RecipeError: RC712 the template is not valid.
    """

    def __init__(self, text: str, name: str, *, own: bool = False) -> None:
        problem = template_problem(text, name)
        if problem is not None:
            raise RecipeError(problem)
        self.name = name
        self._own = _environment().from_string(text) if own else None
        self._pool = WorkerPool("recipec.host.templates:serve", text, what=f"template {name}", memory=MEMORY)

    def rows(self, rows: Sequence[Mapping[str, Any]], where: Callable[[int], str] = str) -> list[str]:
        """Render once for each row; ``where`` names a row in messages.

        Raises:
            RecipeError: RC711 a column is missing, RC713 the template failed or broke a limit.
        """
        if self._own is not None:
            return [self._own.render(row) for row in rows]
        texts: list[str] = []
        for start in range(0, len(rows), _CHUNK):
            texts += _chunk(self._pool, self.name, rows, range(start, min(start + _CHUNK, len(rows))), where)
        return texts

    def close(self) -> None:
        """End the child."""
        self._pool.close()


def render_own(text: str, values: Mapping[str, Any], *, html: bool = False) -> str:
    """Render a template of the package itself, in this process; ``html`` escapes the values and leaves out null.

    >>> render_own("Hello {{ name }}{{ nothing }}", {"name": "a<b", "nothing": None}, html=True)
    'Hello a&lt;b'
    """
    return _environment(html=html).from_string(text).render(values)


def _chunk(
    pool: WorkerPool, name: str, rows: Sequence[Mapping[str, Any]], chunk: range, where: Callable[[int], str]
) -> list[str]:
    (answer,) = pool.ask([[dict(rows[i]) for i in chunk]], SECONDS)
    if not isinstance(answer, WorkerFailure):
        return [_text(name, [one], rows[i], where(i)) for i, one in zip(chunk, answer, strict=True)]
    # who broke a limit is found by rendering again, one by one, up to the first that does
    return [_text(name, pool.ask([[dict(rows[i])]], SECONDS)[0], rows[i], where(i)) for i in chunk]


def _text(name: str, answer: Any, row: Mapping[str, Any], where: str) -> str:
    if isinstance(answer, WorkerFailure):
        reason = f"it took longer than {SECONDS:.0f} s" if answer.reason == "late" else "it used too much memory"
        raise RecipeError(errors.template_failed(name, answer.line, answer.message or reason, where))
    (rendered,) = answer
    if "undefined" in rendered:
        raise RecipeError(errors.template_column(name, rendered["line"], rendered["undefined"], row, where))
    if "failed" in rendered:
        raise RecipeError(errors.template_failed(name, rendered["line"], rendered["failed"], where))
    text: str = rendered["text"]
    return text


def serve(text: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Compile a template in a child; answer rows of values with text, or with what went wrong and where."""
    template = _environment().from_string(text)

    def one(values: dict[str, Any]) -> dict[str, Any]:
        pieces, size = [], 0
        try:
            for piece in template.generate(values):
                size += len(piece)
                if size > MAX_OUTPUT:
                    return {"failed": f"its output is larger than {MAX_OUTPUT >> 10} KiB", "line": 0}
                pieces.append(piece)
        except Exception as error:  # noqa: BLE001 - whatever a template can raise is the template's fault
            frames = traceback.extract_tb(error.__traceback__)
            line = next((f.lineno or 0 for f in reversed(frames) if f.filename == "<template>"), 0)
            missing = _UNDEFINED.match(str(error))
            if missing:
                return {"undefined": missing[1], "line": line}
            return {"failed": str(error) or type(error).__name__, "line": line}
        return {"text": "".join(pieces)}

    return lambda rows: [one(values) for values in rows]
