"""When ranks begin again, whatever starts them."""

import os
import signal
import sys

import pytest

from recipec.runtime.distributed.gang import Gang

FINE = {"lost": False, "diagnostics": []}
REFUSED = {"lost": False, "diagnostics": ["RC763"]}
LOST = {"lost": True, "diagnostics": ["RC775"]}


class Played(Gang):
    """A gang whose attempts are given: how ranks ended, who died, and whether a signal comes."""

    def attempt(self, entry, argument):  # noqa: ARG002 - what it would run
        """Play the next attempt."""
        ended, died, stop = self.attempts.pop(0)
        with self.counting_signals(lambda: None):
            if stop:
                os.kill(os.getpid(), signal.SIGTERM)
        return ended, died


def played(tmp_path, *attempts, restarts=1):
    """Run a gang of two ranks; return what it says in the end, and what it said on the way."""
    said = []
    gang = Played(2, restarts, tmp_path, said.append)
    gang.attempts = [(*attempt, False)[:3] for attempt in attempts]
    return gang.run(lambda _: FINE, None), said


DIED = ({}, (1, "died"))
BOTH = ({1: FINE, 0: FINE}, None)


def test_a_lost_rank_begins_again_with_all_others(tmp_path) -> None:
    """Whoever died is named, and outcomes come in the order of ranks."""
    ended, said = played(tmp_path, DIED, ({1: FINE, 0: {**FINE, "finished": True}}, None))
    assert ended == [{**FINE, "finished": True}, FINE]
    assert said == ["rank 1 died; starting again from the last checkpoint (restart 1 of 1)"]


@pytest.mark.parametrize(
    ("attempt", "how"),
    [(DIED, "rank 1 died"), (({0: FINE}, None), "rank 1 did not answer"), (({0: LOST, 1: LOST}, None), "rank 0 lost")],
    ids=["died", "silent", "lost"],
)
def test_restarts_are_bounded(tmp_path, attempt, how) -> None:
    """After `max_restarts` the run ends with RC776, which names rank, restarts and log."""
    found, said = played(tmp_path, attempt, attempt)
    assert (found.code, len(said)) == ("RC776", 1)
    assert found.message.startswith(how)
    assert "after 1 restart; its log is" in found.message


def test_a_refusal_is_not_tried_again(tmp_path) -> None:
    """What a rank is refused ends the run, also where others no longer answered."""
    assert played(tmp_path, ({0: REFUSED}, None)) == ([REFUSED], [])


def test_a_signal_lets_nothing_begin_again(tmp_path) -> None:
    """A rank that a signal to stop ended, before it could finish a step, is no failure."""
    ended, said = played(tmp_path, (*DIED, True))
    assert ended == []
    assert said == ["rank 1 died, and is not started again because of the signal"]


def test_signals_are_handled_as_before_afterwards(tmp_path) -> None:
    """A gang counts signals only while its ranks run."""
    before = signal.getsignal(signal.SIGTERM)
    assert played(tmp_path, (*BOTH, True))[0] == [FINE, FINE]
    assert signal.getsignal(signal.SIGTERM) is before


def _hang_up(_argument) -> dict:
    """Be a rank; its launcher gets the signal of a terminal that is closed."""
    os.kill(os.getppid(), signal.SIGHUP)
    return FINE


def test_a_launcher_goes_on_after_nohup(tmp_path, monkeypatch) -> None:
    """A signal that a process ignores, as `nohup` lets it, is ignored while it launches ranks."""
    from recipec.runtime.distributed.torchrun_launch import ProcessGang

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the rank imports this file
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ProcessGang(1, 0, tmp_path, print).run(_hang_up, None) == [FINE]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
