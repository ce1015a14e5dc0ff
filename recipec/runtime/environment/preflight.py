"""Checks of an environment before a model is loaded."""

from __future__ import annotations

from typing import Any

from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.runtime.data import templates
from recipec.spec.environment import Environment


def check(spec: Environment, request: PreflightRequest) -> list[Diagnostic]:
    """Return the errors of the user's template and of the ``preflight`` of the environment."""
    diagnostics = templates.choose(request.root, spec.prompt_template())
    implementation: Any = spec.load()
    try:
        implementation.preflight(spec, request)
    except RecipeError as error:
        diagnostics += error.diagnostics
    return diagnostics
