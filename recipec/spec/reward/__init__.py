"""Rewards: named levels; the reward of a row is their weighted sum.

``definition`` is what all have, ``answers`` compare answers with right ones, ``form`` looks at the completion alone,
``code_execution`` runs programs, ``external`` asks the user's functions, the environment, the reference or a knowledge
graph, ``judged`` other models.
"""

from recipec.spec.reward.answers import AnswerMatch, ExactMatch, Iou, MathVerify, MultipleChoice, Verifier
from recipec.spec.reward.code_execution import CodeExecution
from recipec.spec.reward.definition import TAG, Answer, Reward
from recipec.spec.reward.external import Environment, Function, KgConsistency, KlPenalty
from recipec.spec.reward.form import Ifeval, JsonSchema, Length, RegexFormat, Repetition, Sections, TagCount
from recipec.spec.reward.judged import Judge, Model

__all__ = [
    "TAG",
    "Answer",
    "AnswerMatch",
    "CodeExecution",
    "Environment",
    "ExactMatch",
    "Function",
    "Ifeval",
    "Iou",
    "JsonSchema",
    "Judge",
    "KgConsistency",
    "KlPenalty",
    "Length",
    "MathVerify",
    "Model",
    "MultipleChoice",
    "RegexFormat",
    "Repetition",
    "Reward",
    "Sections",
    "TagCount",
    "Verifier",
]
