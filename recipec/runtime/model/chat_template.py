"""The chat template and the end of a text that a recipe gives in place of those of the tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipec.component import is_inline
from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.small_files import read_small
from recipec.package_files import named_file, shipped_templates
from recipec.runtime.data.text import protect
from recipec.spec.policy import TransformersPolicy

CONTROL_TOKENS = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": (),
    "mistral_v1": (),
    "olmo": ("<|im_start|>", "<|im_end|>"),
    "olmo_thinker": ("<|im_start|>", "<|im_end|>"),
    "phi3": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    "r1": (),
    "tulu": (),
    "tulu_thinker": (),
    "zephyr": (),
}
"""Tokens that each template of the package writes besides those of the start and the end of a text.

R1, Tulu and Zephyr mark roles by plain text, Mistral does before version 0.3 of its tokenizer.
"""


def adapt(tokenizer: Any, root: Path, spec: TransformersPolicy) -> None:
    """Give a tokenizer the end of a text and the chat template of a recipe: its text, a file or of the package.

    Raises:
        RecipeError: RC724, the vocabulary lacks the token at the end; RC892, it lacks tokens of a template of the
            package; RC730, the file cannot be read.
    """
    if spec.eos_token is not None:
        if spec.eos_token not in tokenizer.get_vocab():
            raise RecipeError(errors.no_eos(str(tokenizer.name_or_path), spec.eos_token))
        protect(tokenizer, [spec.eos_token])
        tokenizer.eos_token = spec.eos_token
    template = spec.chat_template
    if template is None:
        return
    if template in shipped_templates():
        known = {str(token.content) for token in tokenizer.added_tokens_decoder.values()}
        missing = [token for token in CONTROL_TOKENS[named_file(root, template).stem] if token not in known]
        if missing:
            raise RecipeError(errors.control_tokens_missing(template, missing))
    tokenizer.chat_template = _source(root, template)


def _source(root: Path, template: str) -> str:
    if is_inline(template):
        return template
    try:
        return read_small(named_file(root, template))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(errors.template_refuses(f"{root / template}: {error}")) from error
