"""Chat templates of models, rendered in a child that may be killed: they come with weights from elsewhere.

The dialect is that of transformers: ``raise_exception``, ``strftime_now``, ``tojson`` without escapes, loop controls
and ``{% generation %}``.  Jinja's sandbox keeps code out; the child bounds time and memory.
"""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.templates import refuse_draws
from recipec.host.worker_pool import HandlerError, WorkerFailure, WorkerPool

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 5.0
MEMORY = 1 << 30
MAX_OUTPUT = 8 << 20


_SYNTAX = {"TemplateSyntaxError", "TemplateAssertionError"}
"""Exceptions of Jinja for a template that is not valid, whatever the messages are."""
_REFUSES = "TemplateError"
"""Exception of ``raise_exception``, by which a template refuses messages that it does not support."""
_PLAIN = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]


class ChatTemplate:
    """A chat template, and the child that renders it.

    ``now`` is the time that its clock shows, as ISO 8601; without one it shows when the template was first rendered.

    Example: ``ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}").render({"messages": []})``.
    """

    def __init__(self, source: str, now: str = "") -> None:
        self.source = source
        argument = {"source": source, "now": now}
        self._pool = WorkerPool("recipec.host.chat_template:serve", argument, what="the chat template", memory=MEMORY)
        self._broken = ""

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text of the template.

        Raises:
            RecipeError: RC730, it refuses the values, fails, or breaks a limit.
        """
        if not self._broken:
            try:
                (answer,) = self._pool.ask([dict(values)], SECONDS)
            except HandlerError as error:
                self._broken = error.message or error.error
            else:
                if not isinstance(answer, WorkerFailure):
                    return _whole(answer)
                problem = answer.message or answer.error
                if answer.reason == "raised":
                    broken = answer.error in _SYNTAX or (answer.error != _REFUSES and self._fails_on_plain(values))
                    raise RecipeError(errors.template_refuses(problem, broken=broken, line=answer.line))
                # a template that hangs once is not tried again: each time would cost the limit
                limits = {"late": f"it took longer than {SECONDS:.0f} s", "crashed": "it used too much memory"}
                self._broken = limits[answer.reason]
        raise RecipeError(errors.template_refuses(self._broken, broken=True))

    def _fails_on_plain(self, values: Mapping[str, Any]) -> bool:
        """Whether it fails, and does not only refuse, on a question with its answer."""
        (answer,) = self._pool.ask([{**values, "messages": _PLAIN, "add_generation_prompt": False}], SECONDS)
        return isinstance(answer, WorkerFailure) and answer.error != _REFUSES


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecipeError(errors.template_refuses("it writes half of a surrogate pair")) from None
    return text


@functools.lru_cache(maxsize=4)
def chat_template(source: str, now: str = "") -> ChatTemplate:
    """Return the template with this text; those used last keep their child."""
    return ChatTemplate(source, now)


def _environment(now: datetime) -> ImmutableSandboxedEnvironment:
    from jinja2 import TemplateError, nodes, pass_context  # noqa: PLC0415 - only the child needs it
    from jinja2.ext import Extension, loopcontrols  # noqa: PLC0415
    from jinja2.parser import Parser  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    class Generation(Extension):
        """Write the body of ``{% generation %}``, which marks what an assistant writes."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: object) -> None:
        raise TemplateError(str(message))

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, loopcontrols],
        optimized=False,  # constants would be folded while compiling
        finalize=pass_context(lambda _context, value: value),  # prevents folding in outputs
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = now.strftime
    refuse_draws(environment)
    return environment


def serve(argument: Mapping[str, str]) -> Callable[[dict[str, Any]], str]:
    """Answer values with the rendered text; the template is compiled with the first request, within its limits."""
    from jinja2 import TemplateSyntaxError  # noqa: PLC0415 - only the child needs it

    now = datetime.fromisoformat(argument["now"]) if argument["now"] else datetime.now()  # noqa: DTZ005 - as transformers
    template = functools.cache(lambda: _environment(now).from_string(argument["source"]))
    template.cache_clear()
    _environment(now)  # imports everything before files are refused

    def render(values: dict[str, Any]) -> str:
        try:
            return _limited(template().generate(values))
        except MemoryError as error:
            raise ValueError("it used too much memory") from error
        except TemplateSyntaxError:
            raise
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            error.lineno = next((f.lineno for f in reversed(frames) if f.filename == "<template>"), 0)  # type: ignore[attr-defined]
            raise

    return render


def _limited(pieces: Iterable[str]) -> str:
    limited, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_OUTPUT:
            raise ValueError(f"its output is larger than {MAX_OUTPUT >> 20} MiB")
        limited.append(piece)
    return "".join(limited)
