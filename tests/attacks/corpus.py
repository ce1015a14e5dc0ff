"""All attacks: the tables of this folder, one for each surface."""

from __future__ import annotations

from attacks import hostile_data, hostile_recipes

TABLES = (hostile_recipes, hostile_data)
ATTACKS = [attack for table in TABLES for attack in table.ATTACKS]
