"""Group filtering: groups without a signal are sampled again, a bounded number of times, to the same bits."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from support.small_recipes import RL, rows

from recipec.compile import check_recipe
from recipec.graph import Loop, Node, Value
from recipec.graph_drawing import to_text
from recipec.host.options import Options
from recipec.host.progress import Progress
from recipec.lowering.grammar import verify
from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.run.executor import run as execute
from recipec.runtime.context import StageContext
from recipec.runtime.data.table import Table
from recipec.runtime.graph_runner import replayed
from recipec.runtime.stage.group_filter import joined, run, with_signal

ROWS = rows(*({"prompt": f"p{i}", "completion": "c"} for i in range(12)))
PLAIN = (
    RL.replace("use: [./rewards.py]\n", "")
    .replace("{type: function, name: score}", '{type: regex_format, pattern: "[ -n].*"}')
    .replace("num_generations: 2, max_completion_length: 4", "num_generations: 3, max_completion_length: 4")
    .replace("steps: 2, prompts_per_step: 2", "steps: 3, prompts_per_step: 4, save_every: 1")
)


def filtered(tries):
    """The recipe with a filter."""
    return PLAIN.replace("max_completion_length: 4", f"max_completion_length: 4, group_filter: {{max_tries: {tries}}}")


def compiled(recipe):
    """The recipe's graph."""
    checked = check_recipe("r.yaml", text=recipe)
    assert checked.recipe is not None, checked.diagnostics
    assert checked.ok, checked.diagnostics
    return verify(optimise(lower(checked.recipe)))


def ended(recipe, home):
    """Run a recipe; return its metrics, its rows by step, and the tensors of its last checkpoint."""
    home.mkdir(exist_ok=True)
    (home / "a.jsonl").write_text(ROWS)
    try:
        outcome = execute(compiled(recipe), Options(root=home, out=home / "run"), Progress(quiet=True))
    finally:
        torch.use_deterministic_algorithms(mode=False)
    assert outcome.finished, outcome.diagnostics
    return results(home / "run")


def results(out):
    """What a run left: metrics, rows by step, tensors."""
    (stage,) = (out / "stages").iterdir()
    metrics = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    samples = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted((stage / "samples").glob("step-*.jsonl"))
    ]
    return metrics, samples, load_file(max((stage / "checkpoints").iterdir()) / "state.safetensors")


def flat(samples):
    """How many groups of a step have one reward only."""
    groups = {}
    for row in samples:
        groups.setdefault(row["group"] if "group" in row else row["prompt_id"], set()).add(row["reward"])
    return sum(len(found) == 1 for found in groups.values())


def test_visible_in_the_graph():
    """What the total reward waits for is a loop of its own; the rest of the step follows it."""
    (stage,) = compiled(filtered(4)).stages
    tries = stage.loop.body[0]
    assert isinstance(tries, Loop)
    assert (tries.over, tries.carries) == ("resamples", ("cursors", "draws"))
    names = [node.id.partition("/")[2] for node in tries.body]
    assert names == ["data", "sampler", next(n for n in names if n.startswith("reward.")), "sum.reward_R"]
    assert "loop over resamples" in to_text(compiled(filtered(4)))
    assert not any(isinstance(item, Loop) for item in compiled(PLAIN).stages[0].loop.body[:-1])


def test_one_try_filters_nothing(tmp_path):
    """Where the first try is the last, every group is kept: the run is that without a filter, bit by bit."""
    plain, rows_plain, weights = ended(PLAIN, tmp_path / "plain")
    one, rows_one, same = ended(filtered(1), tmp_path / "one")
    assert [m["groups/tries"] for m in one] == [1] * 3
    assert [m["groups/filtered"] for m in one] == [0] * 3
    assert rows_one == rows_plain
    assert [m["loss"] for m in one] == [m["loss"] for m in plain]
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_groups_without_a_signal_are_replaced(tmp_path):
    """Steps are as large as without a filter, and no group that was kept before the last try is flat."""
    plain, *_ = ended(PLAIN, tmp_path / "plain")
    metrics, samples, _ = ended(filtered(50), tmp_path / "filtered")
    assert any(m["frac_reward_zero_std"] > 0 for m in plain)
    assert all(m["groups/tries"] < 50 for m in metrics)
    assert any(m["groups/tries"] > 1 and m["groups/filtered"] > 0 for m in metrics)
    assert [m["frac_reward_zero_std"] for m in metrics] == [0.0] * 3
    assert [len(found) for found in samples] == [12] * 3
    for found in samples:
        assert len({row["episode_id"] for row in found}) == 12


def test_the_last_try_keeps_everything(tmp_path):
    """Where no group ever has a signal, a step takes its tries and goes on with what it then has."""
    metrics, samples, _ = ended(filtered(3).replace("[ -n].*", "(?s).*"), tmp_path / "flat")
    assert [m["groups/tries"] for m in metrics] == [3] * 3
    assert [m["groups/filtered"] for m in metrics] == [8] * 3
    assert [m["frac_reward_zero_std"] for m in metrics] == [1.0] * 3
    assert [len(found) for found in samples] == [12] * 3


def test_failed_rows_say_nothing():
    """A group whose only other reward is that of a failed row has no signal; neither has one that failed wholly."""
    reward_R = torch.tensor([1.0, math.nan, 1.0, math.nan, math.nan, math.nan])
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    assert with_signal(reward_R, reward_R.isnan(), groups, torch.arange(6)) == []


def test_episodes_are_compared_not_rows():
    """Step rows count by their episode's total."""
    reward_R = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    groups, episodes = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.tensor([5, 5, 6, 6, 7, 7, 8, 8])
    assert with_signal(reward_R, torch.zeros(8, dtype=torch.bool), groups, episodes) == [1]


def test_tries_are_joined():
    """Rows are padded to the widest try and prompts count on."""
    names = {s: Value(s, "n") for s in ("prompt_P", "by_prompt_R", "tokens_RT", "text_R")}

    def one(prompts, by_prompt, width):
        columns = (prompts, torch.tensor(by_prompt), torch.ones(len(by_prompt), width), ["t"] * len(by_prompt))
        return dict(zip(names.values(), columns, strict=True))

    made = joined([one(["a", "b"], [0, 0, 1], 2), one([], [], 5), one(["c"], [0], 3)])
    assert made[names["prompt_P"]] == ["a", "b", "c"]
    assert made[names["by_prompt_R"]].tolist() == [0, 0, 1, 2]
    assert made[names["tokens_RT"]].sum(1).tolist() == [2, 2, 2, 3]
    assert made[names["text_R"]] == ["t"] * 4


class Rows:
    """A stage of two groups a step whose rewards are written here, try by try; NaN is a timeout."""

    def __init__(self, *tries):
        self.tries = tries
        sampler = Node("s/sampler", "sampler", "chain", "", {"group_filter": {"max_tries": 3}}, (), GIVEN, "0")
        reward = Node("s/reward.r", "reward", "function", "", {}, (), ("reward_R",), "0")
        total = Node("s/sum.reward_R", "compiler", "sum_rewards", "", {}, (), ("reward_R", "failed_R"), "0")
        self.nodes = (sampler, reward, total)
        self.graph = SimpleNamespace(loop=Loop("s/steps", "steps", (Loop("s/r", "resamples", self.nodes, ()),), ()))
        self.context = StageContext(Path(), Path(), 0, "s")
        self.source = Table({"prompt_P": list("abcdef")}, self.context, shuffle=False)
        self.runner, self.values, self.per_step, self.step = self, {}, 2, 7
        self.recorded = {}
        self.keys = []
        """Step and attempt of each try."""

    def run(self, nodes, values, *, step, attempt=0):
        """Give two rows a prompt, and the rewards of the try."""
        if not nodes:  # nothing of a step lies behind its loop here
            return {}
        self.keys.append((step, attempt))
        prompts = values[Value("prompt_P", "s/data")]
        count = 2 * len(prompts)
        reward_R = torch.tensor(self.tries[attempt], dtype=torch.float64)[:count]
        if "s/reward.r" in self.recorded:
            reward_R = replayed(reward_R, self.recorded["s/reward.r"])
        episodes = torch.arange(count) + 10 * attempt
        given = (torch.arange(count) // 2, episodes)
        values |= {Value(s, "s/sampler"): column for s, column in zip(GIVEN, given, strict=True)}
        values |= {Value("reward_R", n.id): reward_R for n in nodes[1:]}
        values[Value("failed_R", "s/sum.reward_R")] = reward_R.isnan()
        return {"num_tokens": 5.0 * (1 + attempt), "tokens/generated": 4.0}


GIVEN = ("by_prompt_R", "episode_id_R")


def walked(stage, rows):
    """Run a step; the prompts, the episodes and the rewards that are left, and the metrics."""
    values = {Value("prompt_P", "s/data"): stage.source.draw(2)["prompt_P"]}
    metrics = run(stage, stage.nodes, values, rows)
    named = {value.signal: column for value, column in values.items()}
    return named["prompt_P"], named["episode_id_R"].tolist(), str(named["reward_R"].tolist()), metrics


def test_an_interrupted_step_is_run_to_the_same_groups(tmp_path):
    """What timed out in any try, also in a group that was dropped, times out again when the step is run again."""
    rows = tmp_path / "step-000000.jsonl"
    nan = math.nan
    first = walked(Rows([1, nan, 0, 1], [0, nan], [1, nan]), rows)
    assert first[:3] == (["b", "d"], [2, 3, 20, 21], "[0.0, 1.0, 1.0, nan]")
    assert first[3] == {"num_tokens": 15.0, "tokens/generated": 12.0, "groups/filtered": 2.0, "groups/tries": 3.0}
    untroubled = ([1, 0, 0, 1], [0, 1], [1, 0])
    assert walked(Rows(*untroubled), rows)[0] == ["a", "b"]  # no rows were kept: it is a first attempt
    assert walked(Rows([1, nan, 0, 1], [0, nan], [1, nan]), rows) == first
    rows.write_text("")
    assert walked(Rows(*untroubled), rows) == first


def test_every_try_draws_anew(tmp_path):
    """Each try draws by its own number within the step, from 0 on."""
    stage = Rows([1, 1, 1, 1], [1, 1, 0, 1], [0, 1])
    prompts, episodes, _, metrics = walked(stage, tmp_path / "step-000000.jsonl")
    assert (prompts, episodes) == (["d", "e"], [12, 13, 20, 21])
    assert metrics["groups/filtered"] == 3
    assert stage.keys == [(7, 0), (7, 1), (7, 2)]
