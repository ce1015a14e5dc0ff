"""The chat template that a recipe gives in place of that of the tokenizer."""

from __future__ import annotations

from pathlib import Path

from recipec.component import is_inline
from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.small_files import read_small


def read_chat_template(root: Path, template: str) -> str:
    """Return the chat template that a recipe gives: the text itself, or that of a file.

    Raises:
        RecipeError: RC730, the file cannot be read.
    """
    if is_inline(template):
        return template
    try:
        return read_small(root / template)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(errors.template_refuses(f"{root / template}: {error}")) from error
