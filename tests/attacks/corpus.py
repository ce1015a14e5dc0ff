"""All attacks: the tables of this folder, one for each surface."""

from __future__ import annotations

from attacks import (
    hostile_answers,
    hostile_checkpoints,
    hostile_code,
    hostile_data,
    hostile_graphs,
    hostile_images,
    hostile_imports,
    hostile_judges,
    hostile_models,
    hostile_recipes,
    hostile_run_folders,
    hostile_services,
    hostile_templates,
)

TABLES = (
    hostile_recipes,
    hostile_data,
    hostile_images,
    hostile_models,
    hostile_templates,
    hostile_code,
    hostile_graphs,
    hostile_services,
    hostile_answers,
    hostile_imports,
    hostile_judges,
    hostile_checkpoints,
    hostile_run_folders,
)
ATTACKS = [attack for table in TABLES for attack in table.ATTACKS]
