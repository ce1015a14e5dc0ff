"""Names that may have been meant by a misspelt one."""

import time

import pytest

from recipec.diagnostics.phrases import did_you_mean, nearest


@pytest.mark.parametrize(
    ("word", "names", "likeliest"),
    [
        ("epsilom", ["beta", "epsilon_high", "epsilon"], "epsilon"),
        ("topP", ["top_k", "top_p"], "top_p"),
        ("from_", ["form", "from"], "from"),
        ("reawrd", ["record", "reward"], "reward"),
        ("recipec:algorithms/gpro", ["recipec:algorithms/gspo", "recipec:algorithms/grpo"], "recipec:algorithms/grpo"),
    ],
)
def test_the_likeliest_name_comes_first(word, names, likeliest):
    """Spelling is compared without case and separators, and a swap of letters is one mistake."""
    assert nearest(word, names)[0] == likeliest


def test_nothing_is_suggested_for_another_word():
    """No suggestion is better than a far one, the word itself, or one for a text that is no name."""
    assert nearest("temperature", ["beta", "epsilon", "temperature"]) == []
    assert nearest("", ["a"]) == nearest("beta" * 50, ["beta" * 50 + "s"]) == []
    assert did_you_mean("x", ["beta"]) == ""


def test_many_mistakes_take_time_in_proportion():
    """A thousand mistakes among a hundred thousand names are answered in a second."""
    names = [f"stage_number_{i}" for i in range(100_000)]
    start = time.process_time()
    for i in range(1000):
        assert nearest(f"stage_nomber_{i}x", names)
    assert time.process_time() - start < 3
