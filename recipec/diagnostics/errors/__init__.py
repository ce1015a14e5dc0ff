"""Errors that are found outside of a check: one function per code, one module per source of trouble.

A module is imported where its errors are raised; `import_all` is for those who need the whole table of codes.
"""

from __future__ import annotations

import importlib
import pkgutil


def import_all() -> None:
    """Import every module of this package, so that all of its codes are in the table."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
