"""Question answering with a search tool: think, search, read, answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task, question
from recipec.runtime.environment.episode_state import EpisodeState, Turn
from recipec.runtime.environment.prompt_builder import (
    NO_ACTION,
    Observation,
    PastTurn,
    PromptBuilder,
    PromptInput,
    read_next,
)
from recipec.runtime.environment.retrieval.bm25_index import check_beginning
from recipec.runtime.environment.retrieval.retriever import Failed, Found, corpus_of, probe, start
from recipec.runtime.protocols import Environment, Policy
from recipec.runtime.reward.answers import normalised, right_answers

if TYPE_CHECKING:
    from recipec.host.preflight import PreflightRequest
    from recipec.runtime.context import StageContext
    from recipec.spec.environment import SearchQa as Spec

SEARCH, ANSWER = "</search>", "</answer>"
OPENED, CLOSED = "\n\n<information>", "</information>\n\n"
INVALID = (
    "\n\nThis turn held neither a whole search nor a whole answer."
    " Write a query between search tags, or the answer between answer tags.\n\n"
)
"""It contains no tag, so that no reward reads it as a search or an answer."""
NOTHING = "No documents were found."
_LONGEST = 64  # characters of a token; text beyond it would be cut off and need not be encoded
_ACTION = re.compile(r"<(search|answer)>(.*?)</\1>", re.DOTALL)
_TAG = re.compile(r"<\s*/?\s*(?:think|search|information|answer)\s*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Action:
    """The action of a turn; without a complete block there is no ``kind``.

    Example: ``Action("search", "capital of France")``.
    """

    kind: Literal["search", "answer"] | None
    text: str = ""


class SearchQa(Environment):
    """Episodes with searches; see :class:`recipec.spec.environment.SearchQa`.

    States are plain values, so an episode can continue from any earlier turn at no cost.

    With ``append_only`` the dialogue is that of Search-R1 and Tree-GRPO, with these differences:

    - Sampled ids are kept up to the token that completes the tag; the authors cut the text and encode it again.
      Characters of that token after the tag, at most a few, are kept.
    - An episode ends before it exceeds the `max_context_length` of the sampler; the authors continue with its last
      tokens.
    - Documents that are too long lose their last tokens but not the closing tag, without which the format check of the
      authors would penalise the policy.
    - Tags of the dialogue are removed from documents, so that a document can neither close its block nor answer.

    With a number for ``history`` each turn has its own prompt, as in GiGPO; the whole output of a turn is kept, but a
    turn still ends at a stop text.

    References:
        Jin et al., `Search-R1 <https://arxiv.org/abs/2503.09516>`_, 2025.
        Ji et al., `Tree-GRPO <https://arxiv.org/abs/2509.21240>`_, 2025.
        Feng et al., `GiGPO <https://arxiv.org/abs/2505.10978>`_, 2025: validity, reward, state key.
    """

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy) -> None:
        """Open the retriever.

        Raises:
            RecipeError: RC700, RC761, RC800 to RC803; of a template RC700, RC712.
        """
        self.spec = spec
        self.policy = policy
        self.appends = spec.history == "append_only"
        self.stops = (SEARCH, ANSWER) if spec.answer_stops else (SEARCH,)
        key = (context.seed, context.stage)
        self.retriever = start(spec.retriever, context.root, context.cache, context.services, *key)
        self.layout = (
            None
            if self.appends
            else PromptBuilder(context, policy, spec.history, spec.template, "search_qa_turn", max_turns=self._last)
        )

    @staticmethod
    def preflight(spec: Spec, request: PreflightRequest) -> None:
        """Read the first part of the corpus, or send the service one request.

        Raises:
            RecipeError: RC700, RC702, RC800; RC803, RC804.
        """
        if spec.retriever.type == "sqlite":
            check_beginning(corpus_of(spec.retriever, request.root))
            return
        try:
            probe(spec.retriever, request.services)
        except RecipeError as error:
            raise RecipeError(*(replace(one, path="retriever.service") for one in error.diagnostics)) from None

    @property
    def _last(self) -> int:
        """Number of the last turn."""
        return self.spec.max_turns + self.spec.force_final_answer

    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin one episode of each task.

        Raises:
            RecipeError: RC741 or RC742, a task has no right answer; RC711 or RC713, the template fails.
        """
        for task in tasks:
            right_answers(task, self.spec.answer)
        return self._prompted([EpisodeState(task, task.prompt_ids, state=question_of(task)) for task in tasks])

    def step(self, positions: Sequence[EpisodeState], turns: Sequence[Turn]) -> list[EpisodeState]:
        """Take one turn of each episode; all searches of the batch are one request."""
        actions = [read_action(turn.text) for turn in turns]
        searches = [
            i
            for i, (position, action) in enumerate(zip(positions, actions, strict=True))
            if action.kind == "search" and position.turns + 1 < self._last
        ]
        queries = [actions[i].text for i in searches]
        results: dict[int, Found] = dict(zip(searches, self.retriever.search(queries) if queries else [], strict=True))
        answered = (
            self._answered(position, turn, action, results.get(i))
            for i, (position, turn, action) in enumerate(zip(positions, turns, actions, strict=True))
        )
        return self._prompted([*answered])

    def close(self) -> None:
        """Close the retriever and the rendering process."""
        self.retriever.close()
        if self.layout is not None:
            self.layout.close()

    def _prompted(self, states: list[EpisodeState]) -> list[EpisodeState]:
        """Build the next prompt of each episode, where turns have prompts of their own."""
        return states if self.layout is None else read_next(self.layout, states, [()] * len(states), _input)

    def _answered(self, before: EpisodeState, turn: Turn, action: Action, result: Found | None) -> EpisodeState:
        """Take one turn; an answer ends the episode, and so does the last turn."""
        number = before.turns + 1
        answered = action.kind == "answer"
        ended = answered or number >= self._last
        kept = self._kept(turn) if self.appends else len(turn.ids)
        context = (*before.context_ids, *turn.ids[:kept])
        ids, text = ((), "") if ended else self._observation(result, context)
        text = text if self.appends else text.strip()
        past = (*(before.notes or ()), PastTurn(Observation(before.observation), action_text(action), turn.text))
        return EpisodeState(
            before.task,
            (*context, *ids),
            turns=number,
            state=before.state if ended else text,
            ended=ended,
            truncated=ended and not answered,
            kept=kept,
            reward=self._reward(before.task, action) if answered else 0.0,
            valid=action.kind is not None if self.appends else well_formed(turn.text),
            calls=int(result is not None),
            failures=int(isinstance(result, Failed)),
            observation=text,
            notes=None if self.appends else past,
        )

    def _reward(self, task: Task, action: Action) -> float:
        right = right_answers(task, self.spec.answer)
        return float(normalised(action.text) in {normalised(answer) for answer in right})

    def _kept(self, turn: Turn) -> int:
        """Number of ids kept of a turn: up to the one that completes the tag, or all but the end token."""
        tag = next((tag for tag in (SEARCH, ANSWER) if tag in turn.text), None)
        if tag is None:
            ended = bool(turn.ids) and turn.ids[-1] in self.policy.stop_ids
            return len(turn.ids) - ended
        low, high = 0, len(turn.ids)  # the text of `low` ids lacks the tag, that of `high` has it
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if tag in self.policy.decode(turn.ids[:middle]) else (middle, high)
        return high

    def _observation(self, result: Found | None, context: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
        """Return the observation: its ids, at most ``max_observation_length``, and its text."""
        limit = self.spec.max_observation_length
        text = INVALID if result is None else OPENED + shown(result)[: limit * _LONGEST] + CLOSED
        ids = tuple(self.policy.encode(text, context))
        if len(ids) <= limit:
            return ids, text
        tail = () if result is None else tuple(self.policy.encode(CLOSED, ids[: limit // 2]))
        if len(tail) >= limit:
            tail = ()
        body = text.removesuffix(CLOSED) if tail else text
        ids = (*self.policy.encode(body, context)[: limit - len(tail)], *tail)
        return ids, self.policy.decode(ids)


def _input(position: EpisodeState, before: tuple[int, ...]) -> PromptInput:
    """Return an episode before a turn with a prompt of its own."""
    task, observed = position.task, Observation(position.observation)
    return PromptInput(task, question_of(task), observed, position.notes or (), before)


def question_of(task: Task) -> str:
    """Return the question of a task: its column ``question``, else its prompt, see :func:`.batch.question`.

    >>> question_of(Task(0, "Who?", ())), question_of(Task(0, "Who?", (), {"question": "Where?"}))
    ('Who?', 'Where?')
    """
    column = task.columns.get("question")
    if isinstance(column, str):
        return column
    return question(task)


def read_action(text: str) -> Action:
    """Find the action in the text of a turn: its first search, else its first answer.

    >>> read_action("<think>hm</think> <search> capital of France </search> <answer>x</answer>")
    Action(kind='search', text='capital of France')
    >>> read_action("<answer>Paris</answer> or <search>Paris</search>").kind, read_action("Paris").kind
    ('answer', None)
    """
    cut = next((text.partition(tag)[0] + tag for tag in (SEARCH, ANSWER) if tag in text), text)
    match = _ACTION.search(cut)
    if match is None:
        return Action(None)
    return Action("search" if match[1] == "search" else "answer", match[2].strip())


def well_formed(text: str) -> bool:
    """Whether a turn has exactly one search or answer.  Source: GiGPO.

    >>> [well_formed(t) for t in ("<search>a</search>", "<search>a</search><answer>b</answer>", "a")]
    [True, False, False]
    """
    searches, answers = text.count("<search>"), text.count("<answer>")
    return read_action(text).kind is not None and searches + answers == 1


def shown(result: Found) -> str:
    r"""Format documents for the policy.

    >>> from recipec.runtime.environment.retrieval.bm25_index import Document
    >>> shown((Document("Lyon", "A city.</information>"),))
    'Doc 1 (Title: Lyon) A city.\n'
    """
    if isinstance(result, Failed):
        return f"The search failed: {result.problem}."
    lines = [
        f"Doc {i} (Title: {_plain(' '.join(d.title.split()))}) {_plain(d.text)}\n" for i, d in enumerate(result, 1)
    ]
    return "".join(lines) or NOTHING


def action_text(action: Action) -> str:
    """Format an action for later prompts.

    >>> action_text(Action("search", "capital of France")), action_text(Action(None))
    ('<search>capital of France</search>', '(none)')
    """
    return NO_ACTION if action.kind is None else f"<{action.kind}>{action.text}</{action.kind}>"


def _plain(text: str) -> str:
    return _TAG.sub(" ", text).strip()
