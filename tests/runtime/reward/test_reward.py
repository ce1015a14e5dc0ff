"""Rewards: values as specified, NaN for what could not be scored, and every mistake named."""

import importlib
import math
import time

import pytest
import torch

from recipec.component import components_of
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.reward import rule_based, workers
from recipec.runtime.reward.math_verify import MathVerify
from recipec.runtime.reward.workers import Tally
from recipec.spec import reward as specs

PATHOLOGICAL = [
    r"$9^{9^{9^{9^{9}}}}$",
    r"$\boxed{10^{10^{10}}}$",
    r"$(((((10!)!)!)!)!)!$",
    r"$2^{2^{2^{2^{2^{2}}}}}$",
    "(" * 5000,
    "$" + "(" * 3000 + "1" + ")" * 3000 + "$",
    "$" + "\\frac{1}{" * 400 + "2" + "}" * 400 + "$",
    "$" + "\\sqrt{" * 500 + "2" + "}" * 500 + "$",
    "$" + "x+" * 5000 + "1$",
    "$\\sum_{i=1}^{10^{9}} i^{i}$",
    "$\\int_0^1 e^{e^{x^{x}}} dx$",
    "$\\prod_{n=1}^{\\infty} n!$",
    "$\\lim_{x\\to 0} \\frac{\\sin(x^{x^{x}})}{x}$",
    "$1" + "0" * 200_000 + "$",
    "$0." + "3" * 100_000 + "$",
    "$10000000!$",
    "$\\binom{10^9}{10^8}$",
    "\\boxed{" * 2000,
    "$\\{" + ",".join(map(str, range(3000))) + "\\}$",
    "\\begin{pmatrix}" + "1&2\\\\" * 500 + "\\end{pmatrix}",
    "__import__('os').system('touch written')",
    "$__import__('os').system('touch written')$",
    '\\boxed{exec(\'open("written","w")\')}',
    "",
    "\x00",
    "\ud7ff" * 50,
    "∞",
    "$\\infty-\\infty$",
    "$\\frac{0}{0}$",
    "$1/0$",
    "NaN",
    "$\\text{" + "a" * 50_000 + "}$",
    "$x^{" * 300 + "2" + "}" * 300 + "$",
    "$" + "9" * 4301 + "$",
    "$" + "9" * 5000 + "^{" + "9" * 5000 + "}$",
    "\\[" + "a" * 20_000 + "\\]",
    "$" * 10_001,
    "\\" * 10_001,
    "{" * 10_001,
    "}" * 10_001,
    "$\\sqrt[10^{10}]{2}$",
    "$\\log_{0}{0}$",
    "$\\tan(\\frac{\\pi}{2})$",
    "$[1,2)\\cup(3,4]$" + "$\\cup[5,6]$" * 200,
    "$x=y=z=w=1$",
    "$\\gcd(10^{100}!,7)$",
    "$\\sin^{100000}(x)$",
    "$(x+y+z+w+v)^{1000}$",
    "$(1+x)^{10^{6}}$",
    "$\\begin{cases}" + "x&y\\\\" * 500 + "\\end{cases}$",
    "1," * 20_000,
    "-" * 20_000 + "1",
    "+-" * 10_000 + "1",
    "$" + "-" * 3000 + "1$",
    "1 " * 30_000,
    "%" * 5000,
    "$5\\%$",
    "$x_{" * 200 + "1" + "}" * 200 + "$",
    "$\\overline{" * 200 + "1" + "}" * 200 + "$",
    "$\\pm\\mp\\pm$",
]


def task(answer="3", **columns):
    """Make a task with a right answer."""
    return Task(0, "p", (1,), {"answer": answer, **columns})


def scored(function, texts, tasks=None, **params):
    """Return the rewards of texts, all of one task or one each."""
    tasks = tasks or [task()]
    by_prompt_R = torch.zeros(len(texts), dtype=torch.int64) if len(tasks) == 1 else torch.arange(len(texts))
    return function(tasks, by_prompt_R, texts, **params)["reward_R"].tolist()


def code_of(call, *arguments, **params):
    """Return the code of the diagnostic that a call gives."""
    with pytest.raises(RecipeError) as caught:
        call(*arguments, **params)
    return caught.value.diagnostics[0].code


@pytest.fixture
def verify(text_context):
    """A math reward with the given timeout; its processes end with the test."""
    made = []

    def make(timeout=20.0, **params):
        made.append(MathVerify(specs.MathVerify(timeout=timeout, **params), text_context))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_every_reward_of_this_version_loads():
    """Each declared reward with an implementation can be imported under its name."""
    for spec in components_of("reward").values():
        if spec.available():
            module, _, name = spec.impl.partition(":")
            assert callable(getattr(importlib.import_module(module), name))


def test_exact_match_folds_case_and_space():
    """Right answers are text, numbers or a list of them; the last tag counts; a missing tag is wrong."""
    params = {"labels": (), "answer": "answer", "correct": 7.0, "wrong": -1.0}
    assert scored(rule_based.exact_match, [" NEW  york\n", "york"], [task("New York")], tag=None, **params) == [7, -1]
    assert scored(rule_based.exact_match, ["4", "5", "6"], [task([4, "5"])], tag=None, **params) == [7, 7, -1]
    texts = ["<a>1</a><a> 3 </a>", "<a>3</a> <a>1</a>", "3", "<a>3", "</a>3<a>"]
    assert scored(rule_based.exact_match, texts, tag="a", **params) == [7, -1, -1, -1, -1]


@pytest.mark.parametrize("value", [None, "", " ", [], ["a", None], True, {"a": 1}, math.nan, [math.inf]])
def test_answers_that_nothing_matches(value):
    """A right answer that no text can equal stops the run instead of scoring everything wrong."""
    params = {"labels": (), "answer": "answer", "tag": None, "correct": 1.0, "wrong": 0.0}
    assert code_of(scored, rule_based.exact_match, ["x"], [task(value)], **params) == "RC742"


def test_a_missing_answer_column_is_named():
    """The columns that are there are told."""
    with pytest.raises(RecipeError) as caught:
        scored(rule_based.exact_match, ["x"], [task()], answer="anser", tag=None, labels=(), correct=1.0, wrong=0.0)
    assert caught.value.diagnostics[0].code == "RC741"
    assert "did you mean `answer`?" in caught.value.diagnostics[0].help


def test_verifier_asks_the_task():
    """The task's own verifier sees the tagged text; a NaN of it stays NaN; a task without one is refused."""
    own = Task(0, "p", (1,), {}, lambda text: math.nan if text == "?" else float(text == "3"))
    assert scored(rule_based.verifier, ["<a>3</a>", "3", "<a>4</a>"], [own], tag="a") == [1.0, 0.0, 0.0]
    assert math.isnan(scored(rule_based.verifier, ["?"], [own], tag=None)[0])
    assert code_of(scored, rule_based.verifier, ["x"], tag=None) == "RC740"


def test_regex_matches_from_start_to_end():
    """The whole text must match, lines included."""
    params = {"pattern": r"<think>.*</think>\s*\d+", "match": 1.0, "mismatch": -0.5}
    assert scored(rule_based.regex_format, ["<think>a\nb</think> 4", "x<think></think>4", "4"], **params) == [
        1,
        -0.5,
        -0.5,
    ]
    assert code_of(scored, rule_based.regex_format, ["x"], pattern="(", match=1.0, mismatch=0.0) == "RC743"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(a+)+b", "a" * 60 + "c"),
        (r"(a|aa)+", "a" * 80 + "b"),
        (r"(?:.*?,){40}x", "1," * 60),
        (r"(\w+\s?)*:", "word" * 20 + "!"),
        (r"^(?:(?:a*)*)*$", "a" * 40 + "b"),
    ],
)
def test_runaway_patterns_do_not_hang(monkeypatch, pattern, text):
    """A match that runs away is stopped, and gives NaN; other rows keep their value."""
    monkeypatch.setattr(rule_based, "MATCH_SECONDS", 0.2)
    began = time.monotonic()
    found = scored(rule_based.regex_format, [text, text], pattern=pattern, match=1.0, mismatch=0.0)
    assert time.monotonic() - began < 5
    assert all(value == 0.0 or math.isnan(value) for value in found)


def test_length_penalty():
    """Zero up to L - c, a straight slope to -1 at L, -1 beyond (DAPO, eq. 13)."""
    trained_RT = torch.ones(12, 12, dtype=torch.bool).tril()
    found = rule_based.length(trained_RT, max_length=10, soft=4)["reward_R"].tolist()
    assert found == [0, 0, 0, 0, 0, 0, -0.25, -0.5, -0.75, -1, -1, -1]
    hard = rule_based.length(trained_RT, max_length=10, soft=0)["reward_R"].tolist()
    assert hard == [0] * 10 + [-1, -1]


def test_kl_penalty_counts_trained_tokens_only():
    """Each estimator is summed over the tokens that the policy wrote."""
    trained_RT = torch.tensor([[False, True, True]])
    old_RT, ref_RT = torch.tensor([[9.0, -1.0, -2.0]]), torch.tensor([[0.0, -1.5, -1.0]])
    found = {
        kl: float(rule_based.kl_penalty(trained_RT, old_RT, ref_RT, beta=2.0, kl=kl)["reward_R"])
        for kl in ("k1", "k2", "k3", "abs")
    }
    k3 = (math.exp(-0.5) - 1 + 0.5) + (math.exp(1) - 1 - 1)
    assert found == pytest.approx({"k1": 1.0, "k2": -1.25, "k3": -2 * k3, "abs": -3.0})


def test_mathematics_is_compared_by_value(verify):
    """Equal expressions are right however they are written; a list holds alternatives; nonsense is wrong."""
    judge = verify(correct=2.0, wrong=-1.0)
    texts = ["$\\frac{1}{2}$", "so \\boxed{0.5}", "1/2", "$\\frac12 + 1$", "no idea", ""]
    assert scored(judge, texts, [task("1/2")]) == [2, 2, 2, -1, -1, -1]
    assert scored(judge, ["$4$", "$5$", "$6$"], [task(["$4$", 5])]) == [2, 2, -1]
    assert code_of(scored, judge, ["$1$"], [task("see the appendix")]) == "RC742"


def test_hanging_mathematics_fails_and_the_rest_is_scored(verify, tmp_path, monkeypatch):
    """A hang gives NaN, never 0; the answers after it are scored; nothing a model writes is run."""
    monkeypatch.chdir(tmp_path)
    texts = [PATHOLOGICAL[0], "$3$", "__import__('os').system('touch written')", PATHOLOGICAL[2], "$3$", "$4$"]
    judge = verify(timeout=1.0)
    judge._workers._pool.ask([["3", "3"]], 60)
    found = scored(judge, texts)
    assert [v if not math.isnan(v) else "failed" for v in found] == ["failed", 1.0, 0.0, "failed", 1.0, 0.0]
    assert not (tmp_path / "written").exists()


@pytest.mark.slow
def test_pathological_answers(verify, tmp_path, monkeypatch):
    """Sixty answers made to hang, crash or fool the verifier are wrong or failed, none right, in bounded time."""
    monkeypatch.chdir(tmp_path)
    assert len(PATHOLOGICAL) == 60
    judge = verify(timeout=0.5)
    judge._workers._pool.ask([["3", "3"]], 60)
    began = time.monotonic()
    found = scored(judge, [*PATHOLOGICAL, "$3$"])
    assert time.monotonic() - began < 120
    assert [v for v in found[:-1] if not (math.isnan(v) or v == 0.0)] == []
    assert 0 < sum(map(math.isnan, found)) < 40
    assert not list(tmp_path.glob("written"))


def test_more_than_one_failure_in_a_hundred_stops_the_run():
    """Failures are judged once a hundred answers are counted, over batches of any size."""
    tally = Tally("math_verify")
    for _ in range(12):
        tally.add(8, [])
    tally.add(4, ["a"])
    tally.add(200, ["a", "b"])
    tally.add(99, ["a", "b"])
    with pytest.raises(RecipeError) as caught:
        tally.add(1, [])
    found = caught.value.diagnostics[0]
    assert (found.code, "2 of 100" in found.message) == ("RC744", True)


def test_math_verify_uses_few_processes(verify):
    """However large the batch, the pool stays small, and equal questions are asked once."""
    judge = verify()
    asked = []
    ask = judge._workers._pool.ask
    judge._workers._pool.ask = lambda requests, seconds: asked.append(len(requests)) or ask(requests, seconds)
    assert scored(judge, ["$3$"] * 60 + ["$4$"] * 60) == [1.0] * 60 + [0.0] * 60
    assert asked == [2]
    assert len(judge._workers._pool._processes) <= workers.MAX_PROCESSES
