"""What is known before the first stage: `recipec check`, which `run` does first."""

import gzip
import json

import pytest
from support.small_recipes import AGAIN, MODEL, RL, ROWS, SFT, rows

PAIRS = """\
  prefer:
    kind: dpo
    from: learn
    data: {path: b.jsonl}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 1, pairs_per_step: 2}
"""
SCORED = """\
  explore:
    kind: rl
    from: learn
    data: {path: a.jsonl}
    sampler: {num_generations: 2, max_completion_length: 4}
    reward: {right: {type: function, name: score}}
    advantage: {group: {type: group_relative}}
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 1, prompts_per_step: 2}
"""
WORLD = f"""\
recipec: 1
name: small
use: [./world.py]
stages:
  play:
    kind: rl
{MODEL.replace("max_positions: 64", "max_positions: POSITIONS")}\
    data: {{type: environment}}
    environment: {{type: own, name: Door, max_turns: 3, template: t.j2}}
    sampler: {{num_generations: 2, max_completion_length: 4, rows: step}}
    reward: {{task: {{type: environment}}}}
    advantage: {{group: {{type: group_relative}}}}
    loss: {{type: clipped}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 1, prompts_per_step: 2}}
"""
DOOR = """\
class Door:
    @staticmethod
    def tasks(split, size, seed):
        return [{"code": str(i)} for i in range(4)]

    def reset(self, task, seed):
        self.code = task["code"]
        return {"observation": "A door."}

    def step(self, action):
        STEP
"""
OPEN = 'return {"observation": "It is shut.", "reward": float(action == self.code), "terminated": action == self.code}'
TOLD = "{{ observation }} Answer <action>code</action>."
USED = "recipec: 1\nuse: [./rewards.py]\n"


@pytest.mark.parametrize(
    ("more", "files", "code", "place"),
    [
        (PAIRS, {"b__jsonl": rows({"prompt": "p", "chosen": "c"})}, "RC705", "b.jsonl:1"),
        (AGAIN, {"b__jsonl": "x\n"}, "RC703", "b.jsonl:1"),
        (SCORED, {"rewards__py": "import not_there\ndef score(completions): pass\n"}, "RC750", "has `not_there`"),
        (SCORED, {"rewards__py": "def score(completions, level): return [0.0]\n"}, "RC748", "rewards.py:1"),
        (SCORED, {"rewards__py": "\ndef score(completions, **columns): return 1.0\n"}, "RC747", "rewards.py:2:1"),
        (SCORED, {"rewards__py": "def score(completions, **columns):\n    return [t.x for t in completions]\n"},
         "RC746", "rewards.py:2"),
    ],
)  # fmt: skip
def test_a_fault_of_the_second_stage_is_found_before_the_first(folder, more, files, code, place):
    """Pairs, rows, imports, signatures and results of a later stage are refused before anything is trained."""
    uses = "rewards__py" in files
    recipe = (SFT.replace("recipec: 1\n", USED) if uses else SFT) + more
    folder.write(r__yaml=recipe, a__jsonl=ROWS, **files)
    allowed = ("--use", "rewards.py") if uses else ()
    found = folder.call("check", "r.yaml", *allowed)
    assert (found.code, found.first) == (1, code), found.err
    assert place in found.err
    assert not (folder.path / "runs").exists()
    ended = folder.run(recipe, *allowed)
    assert (ended.code, ended.first) == (1, code)
    assert not (folder.path / "runs/small/stages").exists()


def test_rows_of_data_are_quoted(folder):
    """The line of a data file that a message points at is shown, and the key of the recipe that names the file."""
    folder.write(r__yaml=SFT, a__jsonl=ROWS + '{"prompt": "a" "completion": "b"}\n')
    found = folder.call("check", "r.yaml")
    assert '5 | {"prompt": "a" "completion": "b"}' in found.err
    assert "--> r.yaml:" in found.err


def test_facts_and_rows_as_json(folder):
    """A good recipe exits 0; what was looked at is text, or JSON for programs."""
    folder.write(r__yaml=SFT, a__jsonl=ROWS)
    assert "stages.learn: 4 rows read" in folder.call("check", "r.yaml").out
    found = json.loads(folder.call("check", "r.yaml", "--format", "json").out)
    assert found["valid"]
    assert {"python", "torch", "device", "memory", "disk"} <= set(found["facts"])
    assert found["tried"] == [{"key": "stages.learn", "rows": 4, "longest": 5, "answered": 0, "checked": 4}]
    assert "a step" in found["times"]["learn"]
    assert "timed now (cpu" in found["times"]["learn"]


def test_missing_packages_at_once(folder, monkeypatch):
    """Every missing package is told in one go, those of the runtime among them."""
    import importlib.util

    real = importlib.util.find_spec
    gone = {"torch", "peft", "reasoning_gym"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else real(name, *rest))
    folder.write(r__yaml=SFT.replace("{path: a.jsonl}", "{type: reasoning_gym, task: chain_sum, size: 4}"))
    found = folder.call("check", "r.yaml")
    assert found.code == 1
    assert all(name in found.err for name in ("`torch`, `peft`", "reasoning-gym", "recipec[train]", "recipec[envs]"))


def test_few_rows_and_unknown_characters_warn(folder):
    """A step of more rows than there are is RC924, characters without a token RC925; with --strict they exit 1."""
    small = SFT.replace("rows_per_step: 2", "rows_per_step: 16").replace(
        "{architecture", "{tokenizer: characters, architecture"
    )
    folder.write(r__yaml=small, a__jsonl=ROWS + rows({"prompt": "é", "completion": "x"}))
    found = folder.call("check", "r.yaml")
    assert found.code == 0
    assert "RC924" in found.err
    assert "`rows_per_step` is 16: a step takes 5" in found.err
    assert "RC925" in found.err
    assert "'é'" in found.err
    assert folder.call("check", "r.yaml", "--strict").code == 1


@pytest.mark.parametrize(
    ("step", "positions", "code", "says"),
    [
        (OPEN, 256, "", ""),
        ("return self.nothing", 256, "RC922", "world.py:11: AttributeError"),
        ('return ("It is shut.", 0.0, True)', 256, "RC922", "tuple"),
        ('return "It is shut.", 0.0, True, False, {}', 256, "RC922", '"truncated": truncated}'),
        ('return {"observation": "It is shut.", "done": True}', 256, "RC922", "which is `terminated` here"),
        ("open('log', 'w'); " + OPEN, 256, "RC922", "an environment writes no files"),
        ("pass", 256, "RC922", "it returned nothing"),
        ("int(action); " + OPEN, 256, "RC923", "ValueError"),
        ("return ('Open.', 1.0, True) if action == 'code' else 'Shut.'", 256, "RC922", "answered with tuple"),
        (OPEN, 24, "RC922", "its prompt has"),
    ],
)  # fmt: skip
def test_an_environment_is_played(folder, step, positions, code, says):
    """A broken `step`, and a prompt without room, are found by fixed answers, without a model."""
    folder.write(r__yaml=WORLD.replace("POSITIONS", str(positions)), world__py=DOOR.replace("STEP", step), t__j2=TOLD)
    found = folder.call("check", "r.yaml", "--use", "world.py")
    assert found.code == (1 if code == "RC922" else 0), found.err
    assert code in found.err
    assert says in found.err
    assert ("--> world.py:1" in found.err) == (bool(code) and positions > 24)
    assert "--> r.yaml:12:18" in found.err or not code


@pytest.mark.parametrize(
    ("step", "differs"),
    [
        (OPEN, ""),
        ("import random; return str(random.random())", "'"),
        ('import random; return {"observation": "shut", "reward": random.random()}', "the reward 0."),
        ("import random; return str(random.Random(len(action)).random())", ""),
    ],
)
def test_an_environment_that_draws_without_its_seed(folder, step, differs):
    """An episode that is played twice with the same task, seed and actions must be the same."""
    folder.write(r__yaml=WORLD.replace("POSITIONS", "256"), world__py=DOOR.replace("STEP", step), t__j2=TOLD)
    found = folder.call("check", "r.yaml", "--use", "world.py")
    assert found.code == 0, found.err
    assert ("RC963" in found.err) == bool(differs), found.err
    assert f"same task, seed and actions with {differs}" in found.err or not differs
    assert ("--> r.yaml:12:18" in found.err) == bool(differs)


@pytest.mark.parametrize(
    ("template", "warned"),
    [(TOLD, False), ("Open it. <action>code</action>", True), ("{{ history | length }} <action>code</action>", False)],
)
def test_a_template_that_shows_nothing_of_the_environment(folder, template, warned):
    """A template of every turn that names neither the observation nor the history warns at its key."""
    world = DOOR.replace("STEP", OPEN)
    folder.write(r__yaml=WORLD.replace("POSITIONS", "256"), world__py=world, t__j2=template)
    found = folder.call("check", "r.yaml", "--use", "world.py")
    assert found.code == 0, found.err
    assert ("RC758" in found.err) == warned
    assert ("--> r.yaml:12:66" in found.err) == warned


@pytest.mark.parametrize(("limit", "warned"), [(4, False), (62, False), (63, True)])
def test_a_prompt_that_leaves_no_room(folder, limit, warned):
    """Prompt and completion must fit into the positions of the model: 64 here, with a prompt of two tokens."""
    recipe = RL.replace("use: [./rewards.py]\n", "").replace("{type: function, name: score}", "{type: exact_match}")
    folder.write(r__yaml=recipe.replace("max_completion_length: 4", f"max_completion_length: {limit}"), a__jsonl=ROWS)
    found = folder.call("check", "r.yaml")
    assert found.code == 0, found.err
    assert ("RC759" in found.err) == warned, found.err


def test_tasks_need_no_object(folder):
    """`tasks` that takes `self` is refused by `validate`, which runs nothing."""
    world = DOOR.replace("STEP", OPEN).replace("    @staticmethod\n", "").replace("tasks(split", "tasks(self, split")
    folder.write(r__yaml=WORLD.replace("POSITIONS", "256"), world__py=world, t__j2=TOLD)
    found = folder.call("validate", "r.yaml")
    assert (found.code, found.first) == (1, "RC814")
    assert "@staticmethod def tasks(split, size, seed)" in found.err


def test_an_action_that_is_longer_than_a_turn(folder):
    """Texts that the class compares an action with are measured by the tokenizer."""
    world = DOOR.replace("STEP", "return 'It is open.' if action == 'push the door' else 'It is shut.'")
    recipe = WORLD.replace("POSITIONS", "256")
    folder.write(r__yaml=recipe, world__py=world, t__j2=TOLD)
    found = folder.call("check", "r.yaml", "--use", "world.py")
    assert "warning[RC755]: the environment knows 'push the door', which has 13 tokens" in found.err, (
        recipe,
        found.err,
    )


def test_an_observation_that_leaves_no_room(folder):
    """Episodes that end after their first turn, because the prompt of the next does not fit, are counted."""
    world = DOOR.replace("STEP", 'return {"observation": "It is shut. " * 30}')
    folder.write(r__yaml=WORLD.replace("POSITIONS", "256"), world__py=world, t__j2=TOLD)
    found = folder.call("check", "r.yaml", "--use", "world.py")
    assert (found.code, "warning[RC939]" in found.err) == (0, True), found.err
    assert "7 of 7 trial episodes ended" in found.err


CONSTANT = """\
def score(completions, answer, **columns):
    return [1.0 if a in c else 0.0 for a, c in zip(answer, completions)]
"""
"""Right for texts, and 0 for every list of messages."""


@pytest.mark.parametrize(
    ("recipe", "code", "body"),
    [
        (RL, "", CONSTANT),
        (RL.replace("{path: a.jsonl}", "{path: a.jsonl, chat: true}"), "RC928", CONSTANT),
        (RL, "", "def score(completions, **columns): return [float('<answer>' in c) for c in completions]\n"),
        (RL, "RC928", "def score(completions, **columns): return [0.5] * len(completions)\n"),
        (RL, "", "def score(completions, **columns): return [c and 1.0 or None for c in completions]\n"),
        (RL, "", "def score(completions, gold): return [float(g == c) for g, c in zip(gold, completions)]\n"),
        (RL, "RC929", "def score(completions, **columns): return [None for _ in completions]\n"),
        (RL, "RC929", "def score(data_source, solution_str, ground_truth): solution_str == ground_truth\n"),
        (RL.replace("prompts_per_step: 2", "prompts_per_step: 4000"), "RC940",
         "import time\ndef score(completions, **columns):\n    time.sleep(0.6)\n    return [*map(len, completions)]\n"),
    ],
)  # fmt: skip
def test_scores_that_teach_nothing_warn(folder, recipe, code, body):
    """A reward that is the same or None for all answers, and one that is slow, warn at its code."""
    template = '      chat_template: "{{ messages[0].content }}{{ eos_token }}"\n    data:'
    folder.write(r__yaml=recipe.replace("    data:", template) if "chat" in recipe else recipe, rewards__py=body)
    folder.write(a__jsonl=rows(*({"prompt": f"p{i}", "answer": f"right {i}", "gold": f"sure {i}"} for i in range(4))))
    found = folder.call("check", "r.yaml", "--use", "rewards.py")
    assert found.code == 0, found.err
    assert [one for one in ("RC928", "RC929", "RC940") if one in found.err] == ([code] if code else [])
    assert "--> rewards.py:" in found.err or not code
    assert ('completion[0]["content"]' in found.err) == ("chat" in recipe)


@pytest.mark.parametrize(
    ("result", "remedy"),
    [
        ("1.0", "a list with one number for each completion, here 8"),
        ("[1.0]", "one number for each completion, in their order"),
        ("['1.0'] * len(completions)", "`float(…)` makes one of a text"),
        ("[(1.0, 0.0)] * len(completions)", "levels of a reward are functions of their own"),
        ("[float('nan')] * len(completions)", "a finite number"),
    ],
)
def test_a_wrong_result_says_what_to_return(folder, result, remedy):
    """The function is shown in its file, next to the key of the recipe, with what it must return."""
    body = f"def score(completions, **columns):\n    return {result}\n"
    folder.write(r__yaml=RL, rewards__py=body, a__jsonl=ROWS)
    found = folder.call("check", "r.yaml", "--use", "rewards.py")
    assert (found.code, found.first) == (1, "RC747")
    assert remedy in found.err
    assert "--> rewards.py:1:1" in found.err
    assert "--> r.yaml:14:14" in found.err


def test_targets_of_an_adapter_are_compared_with_the_model(folder):
    """A name that no layer has is refused at its key, with the names that there are."""
    folder.write(
        r__yaml=SFT.replace("      scratch:", "      lora: {targets: [q_proj, v_prj]}\n      scratch:"), a__jsonl=ROWS
    )
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC732")
    assert "--> r.yaml:9:23" in found.err
    assert "did you mean `v_proj`" in found.err
    assert "`down_proj`" in found.err


@pytest.mark.parametrize(
    ("name", "data", "remedy"),
    [
        ("a.csv", b"prompt,completion\na,b\n", 'pandas.read_csv("a.csv").to_json("a.jsonl", orient="records"'),
        ("a.jsonl.gz", b"x", "such as a.jsonl"),
        ("a.jsonl", ROWS.encode("utf-16"), "save it as UTF-8: `iconv"),
        ("a.jsonl", gzip.compress(ROWS.encode(), mtime=0), "unpack it"),
        ("a.json", b'{"data": [{"prompt": "a"}]}', "write each of them as a line of its own"),
        (
            "a.jsonl",
            rows({"prompt": {"role": "user", "content": "a"}, "completion": "b"}).encode(),
            "write a list of it",
        ),
        ("a.jsonl", rows({"input": {"text": "a"}, "completion": "b"}).encode(), "as in `{{ input.text }}`"),
        ("a.parquet", b"PAR1 cut", "fetch or write the file again"),
    ],
)
def test_data_of_another_form_says_how_to_convert_it(folder, name, data, remedy):
    """The remedy names the file, or the column, and what to make of it."""
    folder.write(**{"r__yaml": SFT.replace("a.jsonl", name), name.replace(".", "__"): data})
    found = folder.call("check", "r.yaml")
    assert found.code == 1
    assert remedy in found.err


@pytest.mark.parametrize(
    ("before", "after", "code", "place", "remedy"),
    [
        (
            "class Door:",
            "class Door:\n    def __init__(self, size): pass",
            "RC810",
            "world.py:1:1",
            "`options: {size: 4}`",
        ),
        ('{"code": str(i)}', "str(i)", "RC811", "world.py:2:1", "return a list of mappings"),
    ],
)
def test_an_environment_that_cannot_begin(folder, before, after, code, place, remedy):
    """Arguments and tasks that do not fit are shown at the class and at `tasks`, with what is needed."""
    world = DOOR.replace("STEP", OPEN).replace(before, after)
    folder.write(r__yaml=WORLD.replace("POSITIONS", "256"), world__py=world, t__j2=TOLD)
    found = folder.call("check", "r.yaml", "--use", "world.py")
    assert (found.code, found.first) == (1, code), found.err
    assert place in found.err
    assert remedy in found.err


def test_a_file_of_code_that_is_not_python(folder):
    """A syntax error is shown in the file, with its line and column."""
    folder.write(r__yaml=RL, rewards__py="def score(completions):\n    return [1.0\n", a__jsonl=ROWS)
    found = folder.call("validate", "r.yaml")
    assert (found.code, found.first) == (1, "RC622")
    assert "--> rewards.py:2:12" in found.err
    assert "2 |     return [1.0" in found.err


@pytest.mark.parametrize(
    ("code", "answer", "says"),
    [
        ("return [float(a) for a in completions]", "1", "raised ValueError, for the answer ''"),
        ("return [float('nan') if not a else 1.0 for a in completions]", "1", "returned nan for row 1, the answer ''"),
        ("[0.0 for _ in completions]", "1", "it ends without `return`"),
        ("return [{'score': 1.0} for _ in completions]", "1", '`[one["score"] for one in …]`'),
        ("return [0.0 for _ in completions], {}", "1", "it is a tuple with a list in it"),
        ("from judge import grade", "1", "move the code of judge.py into rewards.py"),
        ("return [float(c == a) for c, a in zip(completions, columns['answer'])]", "1", ""),
        ("return [float(c == a) for c, a in zip(completions, answer)]", 1, "compare it with `str(answer)`"),
        ("return [float(c == a) for c, a in zip(completions, answer)]", "1 ", "remove them by `.strip()`"),
        ("return [float(c == a) for c, a in zip(completions, answer)]", ["1"], "compare with `in`"),
        ("return [math.fmod(id(object()), 7) + next(CALLS) for _ in completions]", "1", "warning[RC753]"),
        (
            "return [float(c[0]['content'] == a) for c, a in zip(completions, answer)]",
            "1",
            "a completion is a text, not",
        ),
        ("return [columns['answr'] for _ in completions]", "1", "did you mean `answer`?"),
    ],
)
def test_the_message_on_a_reward_names_answer_and_remedy(folder, code, answer, says):
    """What the function got, and what to change in it, without a model."""
    head = "from judge import grade" if code.startswith("from") else "import math, itertools\nCALLS = itertools.count()"
    body = "return []" if code.startswith("from") else code
    folder.write(
        r__yaml=RL,
        a__jsonl=rows(*({"prompt": f"p{i}", "answer": answer} for i in range(4))),
        rewards__py=f"{head}\n\ndef score(completions, answer, **columns):\n    {body}\n",
        judge__py="def grade(): ...\n",
    )
    found = folder.call("check", "r.yaml", "--use", "rewards.py")
    assert says in found.err


def test_every_task_of_the_trial_is_reset_and_known_actions_are_taken(folder):
    """A fault of the fourth task, and one after an action that only the class knows, are found without a model."""
    world = DOOR.replace("STEP", OPEN).replace('        return {"observation": "A door."}', "        RESET")
    late = "int(task['code'] == '3' and 'x')\n        return 'A door.'"
    folder.write(r__yaml=WORLD.replace("POSITIONS", "256"), t__j2=TOLD, world__py=world.replace("RESET", late))
    found = folder.call("check", "r.yaml", "--use", "world.py")
    assert "RC923" in found.err
    assert "let `reset` take every task" in found.err
    known = world.replace("RESET", "return 'A door.'").replace(
        "    def step(self, action):\n",
        ("    def step(self, action):\n        if action in {'push', 'pull'}:\n            raise KeyError(action)\n"),
    )
    folder.write(world__py=known)
    found = folder.call("check", "r.yaml", "--use", "world.py")
    assert "<action>push</action>': world.py:" in found.err


def test_an_environment_that_hangs_costs_one_time_limit(folder):
    """Where the first episode of the trial runs into the limit, no other is played."""
    world = DOOR.replace("STEP", "import time\n        time.sleep(60)")
    folder.write(
        r__yaml=WORLD.replace("POSITIONS", "256").replace("max_turns: 3", "max_turns: 3, timeout: 0.5"),
        t__j2=TOLD,
        world__py=world,
    )
    found = folder.call("check", "r.yaml", "--use", "world.py")
    assert "RC922" in found.err
    assert "1 of 1 trial episodes failed" in found.err


def test_a_trial_shows_the_turns_of_an_episode(folder):
    """`recipec try` prints what the environment showed and what was answered, turn by turn, once for each episode."""
    world = DOOR.replace("STEP", OPEN)
    folder.write(r__yaml=WORLD.replace("POSITIONS", "256"), t__j2="{{ observation }}", world__py=world)
    shown = folder.call("try", "r.yaml", "--use", "world.py", "--answer", "7").out
    assert "turn 3   <bos>user\\nIt is shut.<eos><bos>assistant\\n -> 7\n  columns" in shown


def test_weights_that_do_not_fit_are_found_without_reading_them(folder):
    """Sizes and names in the head of the file are compared with the model; a file that was cut is not whole."""
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    model = folder.path / "runs/small/stages/learn/policy"
    folder.write(r__yaml=SFT.replace(MODEL, f"    from: {model}\n"))
    config = model / "config.json"
    written = json.loads(config.read_text())
    config.write_text(json.dumps(written | {"num_hidden_layers": 2}))
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC723"), found.err
    assert "parameters have none, model.layers.1" in found.err
    assert "--> r.yaml:" in found.err
    config.write_text(json.dumps(written))
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    found = folder.call("check", "r.yaml")
    assert found.first == "RC723"
    assert "model.safetensors is damaged or was not written to its end" in found.err


def test_rows_that_are_all_too_long_are_found_before_a_stage_is_trained(folder):
    """They are dropped as the recipe says, and none is left."""
    long = SFT.replace("{path: a.jsonl}", "{path: a.jsonl, max_length: 2, overlong: drop}")
    folder.write(r__yaml=long, a__jsonl=rows(*({"prompt": "abc", "completion": "d", "row": i} for i in range(40))))
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC702")
    assert "all 40 are too long" in found.err


def test_a_file_that_needs_an_environment_variable_says_which(folder):
    """The variable is named; a KeyError elsewhere is only shown."""
    code = "import os\nKEY = os.environ['NO_SUCH_KEY']\n\ndef score(completions, **columns):\n    return []\n"
    folder.write(r__yaml=RL, a__jsonl=ROWS, rewards__py=code)
    found = folder.call("check", "r.yaml", "--use", "rewards.py")
    assert (found.code, found.first) == (1, "RC750")
    assert "set the environment variable 'NO_SUCH_KEY' in the shell" in found.err


def test_a_run_directory_that_cannot_be_made_is_found(folder):
    """A file stands where the folder of the runs would be."""
    folder.write(r__yaml=SFT, a__jsonl=ROWS, runs="")
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC761")
    assert "is a file" in found.err


def test_an_adapter_without_its_model_says_how_to_merge_it(folder):
    """PEFT saves the adapter alone; the base that it names is part of the remedy."""
    folder.write(r__yaml=SFT.replace(MODEL, "    from: ./ad\n    adapter: merge\n"), a__jsonl=ROWS)
    (folder.path / "ad").mkdir()
    (folder.path / "ad/adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC722"), found.err
    assert "without the model under it, `org/base`" in found.err
    assert "merge_and_unload()" in found.err


PRINTS = "def score(completions, **columns):\n    print('printed')\n    return [len(c) for c in completions]\n"


@pytest.mark.parametrize("command", ["check", "try"])
def test_what_a_reward_prints_is_not_the_result(folder, command):
    """Lines of JSON on stdout stay JSON; what the user's function prints is on stderr."""
    folder.write(r__yaml=RL, a__jsonl=ROWS, rewards__py=PRINTS)
    found = folder.call(command, "r.yaml", "--use", "rewards.py", "--format", "json")
    assert found.code == 0, found.err
    lines = found.out.splitlines()
    assert all(map(json.loads, lines)) if command == "try" else json.loads(found.out)
    assert "printed" in found.err


def test_a_warning_is_printed_before_training_and_in_full_at_the_end(folder):
    """Who watches a run reads what its check found while nothing has been paid for; its place follows at the end."""
    body = "def score(completions, **columns): return [0.5] * len(completions)\n"
    ended = folder.run(RL, "--use", "rewards.py", a__jsonl=ROWS, rewards__py=body)
    assert ended.code == 0, ended.err
    short, full = (ended.err.index(text) for text in ("warning[RC928]: ", "--> rewards.py:"))
    assert short < ended.err.index("step 1/") < full
    assert ended.err.count("warning[RC928]: ") == 2
