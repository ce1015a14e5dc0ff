"""Families of codes, and what retired codes are called now."""

from __future__ import annotations

FAMILIES = {
    "RC100": "Reading a recipe",
    "RC200": "Wiring of components",
    "RC300": "Stages, budgets, evaluations and preferences",
    "RC400": "Numerics: legal settings that are known to go wrong",
    "RC500": "Machine and attention",
    "RC550": "Stopping and tracking a run",
    "RC600": "Trust: code that a model or a recipe brings",
    "RC700": "Data",
    "RC720": "Models and tokenizers",
    "RC740": "Rewards and the user's own functions",
    "RC760": "Runs, checkpoints and artifacts",
    "RC780": "Rollouts",
    "RC791": "Runs over several nodes",
    "RC796": "Credit of recorded rollouts",
    "RC800": "Documents and services",
    "RC810": "Environments and games",
    "RC830": "Attention over shared prefixes",
    "RC850": "Vision-language models",
    "RC860": "Images of a dataset",
    "RC870": "Knowledge graphs",
    "RC878": "Columns without effect",
    "RC879": "Runs, checkpoints and artifacts",
    "RC885": "Preference pairs from knowledge graphs",
    "RC890": "Models of an objective",
    "RC892": "Models and tokenizers",
    "RC960": "Rewards and the user's own functions",
    "RC962": "Environments and games",
    "RC920": "Progress and results of a run",
    "RC950": "Reward models, judges and critics",
    "RC955": "Rewards and the user's own functions",
    "RC970": "Stopped runs, sweeps, trackers and lock files",
    "RC910": "Importing recipes of other tools",
}
"""The first code of each family, and its title."""

RETIRED = {
    "RC112": "RC134",
    "RC113": "RC118",
    "RC114": "RC103",
    "RC115": "RC103",
    "RC122": "RC121",
    "RC124": "RC103",
    "RC126": "RC125",
    "RC129": "RC103",
    "RC139": "RC138",
    "RC174": "RC862",
    "RC333": "RC146",
    "RC544": "RC543",
    "RC601": "RC600",
    "RC709": "RC726",
    "RC719": "RC708",
    "RC727": "RC716",
    "RC731": "RC830",
    "RC745": "RC742",
    "RC770": "RC716",
    "RC795": "RC796",
    "RC801": "RC702",
    "RC813": "RC810",
    "RC820": "RC811",
    "RC821": "RC811",
    "RC825": "RC824",
    "RC826": "RC811",
    "RC844": "RC848",
    "RC846": "RC798",
    "RC863": "RC862",
    "RC864": "RC862",
    "RC865": "RC862",
    "RC873": "RC804",
    "RC874": "RC804",
    "RC877": "RC705",
    "RC886": "RC741",
    "RC895": "RC742",
}
"""Codes that were merged into others.  A number is never given to something else."""


def family(code: str) -> str:
    """Return the title of a code's family.

    >>> family("RC204"), family("RC862")
    ('Wiring of components', 'Images of a dataset')
    """
    return FAMILIES[max(first for first in FAMILIES if first <= code)]
