"""Timeouts and failed tool calls of a first attempt: kept with a step, and had again when it is run again."""

from dataclasses import replace

import pytest

from recipec.host.ranks import Ranks
from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import EpisodeState, Turn
from recipec.runtime.environment.replayed import ReplayedEnvironment, begin, late_file, note
from recipec.runtime.protocols import Environment

TURNS = [Turn((i,), "") for i in range(3)]


class Moody(Environment):
    """Answers each turn from a script of moods, which is used up; then every answer comes in time."""

    stops = ("x",)

    def __init__(self, *moods):
        self.moods = list(moods)
        self.asked = 0

    def start(self, tasks):
        """Begin."""
        return [EpisodeState(task, (1,)) for task in tasks]

    def step(self, positions, turns):
        """Answer as the script says."""
        self.asked += len(turns)
        return [self.one(p, t, self.moods.pop(0) if self.moods else "") for p, t in zip(positions, turns, strict=True)]

    def one(self, before, turn, mood):
        """Answer one turn."""
        after = replace(before, turns=before.turns + 1, context_ids=(*before.context_ids, *turn.ids), kept=1)
        if mood == "late":
            return replace(after, ended=True, error="timeout: nothing came", context_ids=before.context_ids)
        if mood == "failed":
            return replace(after, failures=1, calls=1, observation="the search failed", notes=("notes", turn.ids))
        return replace(after, calls=1, observation="found", notes=("notes", turn.ids))


def played(environment, rows):
    """Take two turns in each of three episodes, and note what depended on a clock."""
    begin(environment, rows)
    positions = environment.start([Task(i, "", ()) for i in range(3)])
    first = environment.step(positions, TURNS)
    second = environment.step([p for p in first if not p.ended], TURNS[: sum(not p.ended for p in first)])
    note(environment, rows)
    return first, second


@pytest.fixture
def rows(tmp_path):
    """Return where the rows of a step are kept."""
    return tmp_path / "step-000000.jsonl"


def test_a_second_attempt_has_the_same_answers(rows):
    """What was late is late again without being asked, what failed failed, and nothing else may."""
    before = played(ReplayedEnvironment(lambda: Moody("", "late", "failed", "", "failed"), Ranks()), rows)
    assert before[0][1].error is not None
    assert late_file(rows).exists()

    again = Moody("late", "", "late", "", "failed", "", "", "")
    after = played(ReplayedEnvironment(lambda: again, Ranks()), rows)

    assert after == before
    assert after[0][2].notes == ("notes", (2,))


def test_an_attempt_that_kept_nothing_is_no_attempt(rows):
    """A step that was interrupted before its rows were kept asks the clock anew."""
    first, _ = played(ReplayedEnvironment(lambda: Moody("", "late"), Ranks()), rows.with_name("step-000001.jsonl"))
    other, _ = played(ReplayedEnvironment(lambda: Moody("late"), Ranks()), rows)
    assert [p.error is None for p in first] == [True, False, True]
    assert [p.error is None for p in other] == [False, True, True]


def test_an_attempt_in_time_is_in_time_again(rows):
    """Rows without anything late beside them: a late answer is asked for again, and comes."""
    before = played(ReplayedEnvironment(Moody, Ranks()), rows)
    assert not late_file(rows).exists()
    rows.write_text("")
    environment = ReplayedEnvironment(lambda: Moody("late", "late", "", "late"), Ranks())
    assert played(environment, rows) == before
    assert environment.inner.asked > 6
    assert environment.stops == ("x",)
