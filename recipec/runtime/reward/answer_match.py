"""Answers of the search dialogue: exact match or F1, and the format as a state machine.

Nothing here evaluates what a model wrote; every scan is linear in the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.protocols import Part, Policy
from recipec.runtime.reward.answers import normalised, right_answers
from recipec.spec import reward as specs

_TAG = re.compile(r"(</?(?:think|search|information|answer)>)")
_NEXT = {
    ("start", "<think>"): "in think",
    ("in think", "</think>"): "thought",
    ("thought", "<search>"): "in search",
    ("in search", "</search>"): "after search",
    ("after search", "<information>"): "in information",
    ("in information", "</information>"): "start",
    ("thought", "<answer>"): "in answer",
    ("in answer", "</answer>"): "end",
}
_NO_PART = frozenset({"yes", "no", "noanswer"})


class AnswerMatch(Part):
    """Score the answer and the format of an episode on its last row; see :class:`recipec.spec.reward.AnswerMatch`.

    Raises:
        RecipeError: RC741 a task lacks the column of answers, RC742 it holds no text.
    """

    def __init__(self, spec: specs.AnswerMatch, context: StageContext, *, policy: Policy) -> None:
        """Keep the parameters; prompts are decoded only where they have a chat marker."""
        self.spec = spec
        self.context = context
        self.policy = policy

    def __call__(
        self,
        prompt_P: Sequence[Task],
        by_prompt_R: Tensor,
        transcript_R: Sequence[str],
        episode_id_R: Tensor,
        step_R: Tensor,
    ) -> dict[str, Tensor]:
        """Score rows; those before the last of their episode get 0."""
        prompts: dict[int, tuple[str, list[str]]] = {}
        last: dict[int, int] = {}
        for episode, step in zip(episode_id_R.tolist(), step_R.tolist(), strict=True):
            last[episode] = max(step, last.get(episode, step))
        scores = []
        columns = (by_prompt_R.tolist(), transcript_R, episode_id_R.tolist(), step_R.tolist())
        for prompt, transcript, episode, step in zip(*columns, strict=True):
            if prompt not in prompts:
                task = prompt_P[prompt]
                prompts[prompt] = (self._shown(task), right_answers(task, self.spec.answer))
            before, right = prompts[prompt]
            scores.append(self.score(before + transcript, right) if step == last[episode] else 0.0)
        return {"reward_R": torch.tensor(scores, dtype=torch.float64)}

    def _shown(self, task: Task) -> str:
        """The prompt with its control tokens, where the format is counted from one of them."""
        if self.spec.chat_marker is None:
            return ""
        return str(self.policy.tokenizer.decode(list(task.prompt_ids), skip_special_tokens=False))

    def score(self, text: str, right: Sequence[str]) -> float:
        """Score one text: the response, or prompt and response where a chat marker is given."""
        spec = self.spec
        answer, valid = last_answer(text, least=2 if spec.chat_marker else 1), follows(text, spec.chat_marker)
        if answer is None:
            return spec.structure_format if valid else 0.0
        value = matches(answer, right) if spec.metric == "em" else overlap(answer, right)
        if value > 0:
            return value if valid else value - spec.structure_format
        if valid:
            return spec.structure_format + (spec.retrieval if retrieved(text, right) else 0.0)
        return spec.final_format if spec.metric == "em" else 0.0


def inside(text: str, tag: str) -> list[str]:
    """Return the content of each ``<TAG>…</TAG>``, from left to right; a tag that is not closed is ignored.

    >>> inside("<answer>a</answer> <answer>b<answer>c</answer> <answer>", "answer")
    ['a', 'b<answer>c']
    """
    contents, place = [], 0
    while (start := text.find(f"<{tag}>", place)) >= 0:
        end = text.find(f"</{tag}>", start)
        if end < 0:
            break
        contents.append(text[start + len(tag) + 2 : end])
        place = end
    return contents


def last_answer(text: str, *, least: int = 1) -> str | None:
    """Return the last answer if there are at least ``least`` of them: a prompt that shows an example has one itself.

    >>> last_answer("<answer> a </answer><answer>b</answer>", least=2), last_answer("<answer>a</answer>", least=2)
    ('b', None)
    """
    answers = inside(text, "answer")
    return answers[-1].strip() if len(answers) >= least else None


def follows(text: str, marker: str | None = None) -> bool:
    """Whether the text after the first marker is ``(think search information)* think answer`` and nothing else.

    Tags are balanced, and only white space stands between them.

    >>> follows("<think>a</think> <answer>b</answer>"), follows("<think>a</think> so <answer>b</answer>")
    (True, False)
    >>> follows("<think>a</think><answer>b</answer>", "<|im_start|>assistant")
    False
    """
    if marker is not None:
        _, separator, text = text.partition(marker)
        if not separator:
            return False
    state = "start"
    for place, part in enumerate(_TAG.split(text)):
        if place % 2:
            state = _NEXT.get((state, part), "")
            if not state:
                return False
        elif part.strip() and not state.startswith("in "):
            return False
    return state == "end"


def matches(answer: str, right: Sequence[str]) -> float:
    """Return 1 where the answer is one of the right ones but for case, punctuation, articles and space.

    >>> matches("the U.S.A.", ["USA", "America"]), matches("USA today", ["USA"])
    (1.0, 0.0)
    """
    return float(normalised(answer) in {normalised(one) for one in right})


def overlap(answer: str, right: Sequence[str]) -> float:
    r"""Return the best F1 of the answer's words with those of a right answer.

    .. math:: F_1 = \frac{2 P R}{P + R}

    ``yes``, ``no`` and ``noanswer`` are right as a whole or not at all.

    >>> overlap("Jane Austen wrote it", ["Jane Austen"]), overlap("no", ["no way"])
    (0.6666666666666666, 0.0)
    """
    best, answered = 0.0, normalised(answer)
    for one in map(normalised, right):
        if answered != one and (answered in _NO_PART or one in _NO_PART):
            continue
        words, wanted = answered.split(), one.split()
        same = sum((Counter(words) & Counter(wanted)).values())
        if same:
            precision, recall = same / len(words), same / len(wanted)
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def retrieved(text: str, right: Sequence[str]) -> bool:
    """Whether a right answer is in a block of information.

    >>> retrieved("<information>It was Jane Austen.</information>", ["jane austen"])
    True
    """
    blocks = [normalised(block) for block in inside(text, "information")]
    return any(normalised(one) in block for one in right for block in blocks)
