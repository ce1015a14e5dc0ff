"""Advantage estimators: named, weighted levels that are combined into one advantage.

``definition`` is what all have, ``rows`` are those of whole rows, ``tokens`` those of single tokens.
"""

from recipec.spec.advantage.definition import Advantage
from recipec.spec.advantage.rows import (
    BatchStandardised,
    GroupRelative,
    HistoryGroups,
    Reinforce,
    Remax,
    Rloo,
    Signed,
    StateAction,
)
from recipec.spec.advantage.tokens import Gae, LeafMean, PrefixValue, ReverseKl, TokenBaseline

__all__ = [
    "Advantage",
    "BatchStandardised",
    "Gae",
    "GroupRelative",
    "HistoryGroups",
    "LeafMean",
    "PrefixValue",
    "Reinforce",
    "Remax",
    "ReverseKl",
    "Rloo",
    "Signed",
    "StateAction",
    "TokenBaseline",
]
