"""What is waited for is shown while it lasts, with the part of the recipe and its limit of time."""

import threading

from recipec.host import waits


def test_a_wait_is_shown_once_and_then_rarely(monkeypatch):
    """The first line comes soon and says how long it may take; a later one says how much time has passed."""
    monkeypatch.setattr(waits, "FIRST", 0.01)
    monkeypatch.setattr(waits, "PATIENCE", 0.02)
    lines, enough = [], threading.Event()

    def say(text):
        lines.append(text)
        if len(lines) > 1:
            enough.set()

    with waits.watching(say), waits.working_on("stages.explore"), waits.waiting("reward function `score`", 60.0):
        assert enough.wait(30)
    assert lines[0] == "waiting for reward function `score` of stages.explore, which may take 60 s"
    assert lines[1] == f"{lines[0]}; 0 s have passed"
    assert waits.waited_for() == ""


def test_a_short_wait_is_not_shown():
    """Nothing is printed of calls that return at once."""
    lines = []
    with waits.watching(lines.append):
        for _ in range(100):
            with waits.waiting("template x.j2", 1.0):
                pass
    assert not lines
