"""What goes wrong with a run ends in a code; what was committed is kept, and running again continues."""

import json
import os
import shutil
import signal
import threading

import pytest
from safetensors import SafetensorError
from support.small_recipes import AGAIN, RL, ROWS, SFT

from recipec.host import artifacts, interrupts
from recipec.run import executor
from recipec.runtime.model import state_files
from recipec.runtime.user_code import calling
from recipec.spec.rollout_engine import Vllm

TWO = SFT + AGAIN
LEARN = "runs/small/stages/learn"
WILD = SFT.replace("    kind: sft\n", '    kind: sft\n    allow: {RC442: "the rate is to destroy the model"}\n')


def test_gradients_that_are_no_numbers(folder):
    """A learning rate that destroys the model ends with RC763 and exit 4; the last checkpoint is whole."""
    wild = WILD.replace("1.0e-3", "1.0e+30, max_grad_norm: null").replace("steps: 2", "steps: 30, save_every: 1")
    ended = folder.run(wild, a__jsonl=ROWS)
    assert (ended.code, ended.first) == (4, "RC763")
    assert "step 2" in ended.err
    (kept,) = (folder.path / LEARN / "checkpoints").iterdir()
    assert artifacts.verify_folder(kept)
    assert not (folder.path / LEARN / "policy").exists()


def test_weights_that_are_no_numbers_are_not_committed(folder):
    """The only update makes them infinite: RC763 and exit 4 in place of a policy of NaN."""
    wild = WILD.replace("1.0e-3", "1.0e+39").replace("steps: 2", "steps: 1")
    ended = folder.run(wild, a__jsonl=ROWS)
    assert (ended.code, ended.first) == (4, "RC763")
    assert "step 1" in ended.err
    assert not (folder.path / LEARN / "policy").exists()


@pytest.mark.parametrize(
    ("change", "code", "exits"),
    [
        (("recipec: 1\n", "recipec: 1\nmachine: {device: cuda}\n"), "RC771", 1),
        (("rows_per_step", "microbatch_tokens: 2, rows_per_step"), "RC768", 4),
        (("1.0e-3}", "1.0e-3, freeze: [visual]}"), "RC773", 1),
    ],
)
def test_what_this_machine_or_model_lacks(folder, monkeypatch, change, code, exits):
    """A device that is not here, rows over the memory bound and names that freeze nothing are refused."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ended = folder.run(SFT.replace(*change), a__jsonl=ROWS)
    assert (ended.code, ended.first) == (exits, code)


def test_an_engine_of_a_later_version(folder, monkeypatch):
    """An engine that is only declared is planned, with RC509; a run refuses it before it looks at a file."""
    monkeypatch.setattr(Vllm, "impl", "")
    monkeypatch.setattr(Vllm, "packages", {})
    later = SFT.replace("recipec: 1\n", "recipec: 1\nmachine: {devices: 8, rollout: {type: vllm}}\n")
    folder.write(r__yaml=later)
    checked = folder.call("validate", "r.yaml")
    assert (checked.code, "RC509" in checked.out + checked.err) == (0, True)
    assert folder.call("plan", "r.yaml").code == 0
    ended = folder.call("run", "r.yaml")
    assert (ended.code, ended.err.partition("error[")[2][:5]) == (1, "RC510")
    assert ended.err.count("r.yaml:2:39") == 2
    assert not (folder.path / "runs/small/stages").exists()


WORLD = (
    RL.replace("use: [./rewards.py]\n", "")
    .replace("{path: a.jsonl}", "{type: environment}")
    .replace("right: {type: function, name: score}", "task: {type: environment}")
)
STEPS = WORLD.replace("num_generations: 2", "num_generations: 2, rows: step")


@pytest.mark.parametrize(
    ("environment", "evaluate"),
    [
        ("{type: alfworld, games: ./games}", ""),
        ("{type: webshop, catalogue: ./items.json}", ""),
        ("{type: webshop}", "environment: {type: alfworld, games: ./games}"),
        (
            "{type: webshop}",
            "environment: {type: search_qa, retriever: {corpus: ./corpus.jsonl}}",
        ),
    ],
)
def test_missing_games_corpora_and_catalogues(folder, monkeypatch, environment, evaluate):
    """What an environment reads is looked for in all stages and evaluations before a model is made."""
    monkeypatch.setattr("recipec.runtime.stage.build_stage.run_stage", None)
    said = STEPS.replace("    sampler:", f"    environment: {environment}\n    sampler:")
    if evaluate:
        said += f"evaluate: {{dev: {{data: {{path: a.jsonl}}, {evaluate}}}}}\n"
    ended = folder.run(said, a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC700"), ended.err
    assert not (folder.path / "runs/small/stages").exists()


def test_a_changed_recipe_does_not_continue_the_run(folder):
    """Another learning rate in the same directory is refused at its place; --replace keeps the old beside it."""
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    ended = folder.run(SFT.replace("1.0e-3", "2.0e-3"))
    assert (ended.code, ended.first) == (1, "RC760")
    assert "r.yaml:11:32" in ended.err
    assert folder.run(SFT.replace("1.0e-3", "2.0e-3"), "--replace").code == 0
    assert len(list((folder.path / LEARN).glob("policy@*"))) == 1


def test_changed_data_is_named(folder):
    """Other rows under the same name are RC760; with --replace the stage runs again, the former policy kept aside."""
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    ended = folder.run(SFT, a__jsonl=ROWS + ROWS)
    assert (ended.code, ended.first) == (1, "RC760")
    assert "a.jsonl" in ended.err
    assert folder.run(SFT, "--replace").code == 0
    assert len(list((folder.path / LEARN).glob("policy@*"))) == 1


def test_altered_artifacts_are_refused_and_missing_ones_made_again(folder):
    """A policy whose bytes changed is RC766; one that was deleted comes back without training the rest again."""
    assert folder.run(TWO, a__jsonl=ROWS, b__jsonl=ROWS).code == 0
    policy = folder.path / LEARN / "policy"
    before = json.loads((policy / "MANIFEST.json").read_text())
    (policy / "config.json").write_text("{}")
    ended = folder.run(TWO)
    assert (ended.code, ended.first) == (1, "RC766")
    assert "learn/policy/config.json has 2 bytes, and the stage wrote" in ended.err
    shutil.rmtree(policy)
    ended = folder.run(TWO)
    assert ended.code == 0
    assert "again: finished before, skipped" in ended.err
    assert json.loads((policy / "MANIFEST.json").read_text()) == before


@pytest.mark.parametrize(
    ("blocked", "code", "exits"),
    [
        ("o", "RC761", 1),
        ("o/graph.json", "RC772", 1),
        ("o/stages", "RC761", 1),
        ("o/model/x", "RC761", 4),
    ],
)
def test_a_directory_with_other_things_in_it(folder, blocked, code, exits):
    """Files where the run wants folders, and folders where it wants files, are refused and left alone."""
    path = folder.path / blocked
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    ended = folder.run(SFT, "--out", "o", a__jsonl=ROWS)
    assert (ended.code, ended.first) == (exits, code)
    assert path.read_text() == "mine"


def test_a_full_disk(folder, monkeypatch):
    """A checkpoint that does not fit is RC761 and exit 4; with space again the run continues to the same end."""
    recipe = SFT.replace("steps: 2", "steps: 3, save_every: 1")
    assert folder.run(recipe, "--out", "whole", a__jsonl=ROWS).code == 0
    save, times = state_files.save_file, []

    def full(*args, **kwargs):
        times.append(1)
        if len(times) == 2:
            raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")
        save(*args, **kwargs)

    monkeypatch.setattr(state_files, "save_file", full)
    ended = folder.run(recipe)
    assert (ended.code, ended.first) == (4, "RC761")
    assert "No space left" in ended.err
    assert [p.name for p in (folder.path / LEARN / "checkpoints").iterdir()] == ["step-000001"]
    assert folder.run(recipe).code == 0
    policies = [folder.path / run / "stages/learn/policy/MANIFEST.json" for run in ("whole", "runs/small")]
    first, second = (json.loads(path.read_text())["files"] for path in policies)
    assert first == second


def test_two_at_once(folder):
    """A directory in which another process works is RC762."""
    with artifacts.RunFolder(folder.path / "runs/small").locked():
        ended = folder.run(SFT, a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC762")
    assert f"process {os.getpid()}" in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_commits_a_checkpoint(folder, number):
    """The first signal ends the step, commits and exits 75; running again finishes with nothing lost."""
    text = "import os\ndef score(completions, **columns):\n    if len(completions) == 4:  # not the trial\n"
    text += f"        os.kill(os.getpid(), {int(number)})\n"
    text += "    return [0.5] * len(completions)\n"
    folder.path.joinpath("rewards.py").write_text(text)
    recipe = RL.replace("steps: 2", "steps: 3")
    ended = folder.run(recipe, "--use", "rewards.py", a__jsonl=ROWS)
    assert ended.code == 75
    assert "run the same command again" in ended.err
    assert [p.name for p in (folder.path / "runs/small/stages/explore/checkpoints").iterdir()] == ["step-000001"]
    assert [folder.run(recipe, "--use", "rewards.py").code for _ in range(2)] == [75, 0]


def test_a_second_signal_ends_at_once(monkeypatch, capfd):
    """A step that never ends can be left: the second signal exits without asking the loop."""
    seen = []
    monkeypatch.setattr(interrupts, "leave", seen.append)
    with interrupts.stop_flag() as stopped, calling("reward function `score`", 60.0):
        os.kill(os.getpid(), signal.SIGINT)
        assert "it waits for reward function `score`, which may take 60 s" in capfd.readouterr().err
        assert stopped()
        assert not seen
        os.kill(os.getpid(), signal.SIGINT)
    assert seen == [128 + signal.SIGINT]
    assert "stopped at once while waiting for reward function `score`" in capfd.readouterr().err


def test_a_writer_that_meets_a_full_disk_prints_no_trace(capsys):
    """Errors of the system in a thread are left to the next write; all others are shown."""

    def fail(error):
        thread = threading.Thread(target=lambda: (_ for _ in ()).throw(error))
        thread.start()
        thread.join()

    shown = []
    before, threading.excepthook = threading.excepthook, shown.append
    try:
        with executor.quiet_threads():
            fail(OSError(28, "No space left"))
            fail(KeyError("ours"))
    finally:
        threading.excepthook = before
    assert len(shown) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_cache_that_cannot_be_written(folder, monkeypatch):
    """A read-only cache folder costs time, not the run."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    recipe = SFT.replace("{path: a.jsonl}", "{type: reasoning_gym, task: chain_sum, size: 4}")
    assert folder.run(recipe.replace("max_positions: 64", "max_positions: 256")).code == 0


def test_a_run_that_ended_is_not_run_again(folder):
    """The same command on a finished run does nothing and exits 0."""
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    ended = folder.run(SFT)
    assert ended.code == 0
    assert "finished before, skipped" in ended.err
    assert ended.out == ""


def test_a_run_of_another_version(folder):
    """A run directory of an earlier version is not continued: RC774 says what to do, and `--replace` does it."""
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    path = folder.path / "runs/small/graph.json"
    older = json.loads(path.read_text())
    path.write_text(json.dumps({**older, "format": 1}))

    ended = folder.call("run", "r.yaml")

    assert (ended.code, ended.first) == (1, "RC774")
    assert "--replace" in ended.err
    assert folder.call("run", "r.yaml", "--replace").code == 0
    assert json.loads(path.read_text())["format"] == older["format"] == 2


@pytest.mark.parametrize("change", ["delete", "alter"])
def test_samples_are_part_of_a_checkpoint(folder, change):
    """A file of sampled rows that is missing or altered is told, and the steps that need it run again."""
    two = RL.replace("budget: {steps: 2,", "budget: {steps: 3, save_every: 1,")
    two += """\
  again:
    kind: sft
    from: explore
    data: {type: rollouts, rollouts: explore.rollouts}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 1, rows_per_step: 2}
"""
    rewards = "def score(completions, **columns):\n    return [float(len(c)) for c in completions]\n"
    assert folder.run(two, "--use", "rewards.py", a__jsonl=ROWS, rewards__py=rewards).code == 0
    explore = folder.path / "runs/small/stages/explore"
    whole = {path.name: path.read_bytes() for path in (explore / "rollouts").glob("*.jsonl")}
    shutil.rmtree(explore / "policy")
    shutil.rmtree(explore / "rollouts")
    path = explore / "samples" / "step-000002.jsonl"
    path.unlink() if change == "delete" else path.write_bytes(path.read_bytes()[:-9] + b"x}\n")
    ended = folder.run(two, "--use", "rewards.py")
    assert ended.code == 0, ended.err
    assert "step-000002.jsonl" in ended.err
    assert {path.name: path.read_bytes() for path in (explore / "rollouts").glob("*.jsonl")} == whole


def test_altered_rewards_of_an_interrupted_step_are_refused(folder):
    """The repeated step takes rewards from its first attempt: not those that somebody wrote there since."""
    recipe = RL.replace("budget: {steps: 2,", "budget: {steps: 2, save_every: 1,")
    rewards = "def score(completions, **columns):\n    return [float(len(c)) for c in completions]\n"
    assert folder.run(recipe, "--use", "rewards.py", a__jsonl=ROWS, rewards__py=rewards).code == 0
    explore = folder.path / "runs/small/stages/explore"
    for gone in ("policy", "rollouts", "checkpoints/step-000002"):
        shutil.rmtree(explore / gone, ignore_errors=True)
    rows = explore / "samples/step-000002.jsonl"
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    altered = [row | {"rewards": dict.fromkeys(row["rewards"], 1e3)} for row in written]
    rows.write_text("".join(json.dumps(row) + "\n" for row in altered))
    ended = folder.run(recipe, "--use", "rewards.py")
    assert (ended.code, ended.first) == (4, "RC772"), ended.err
    assert "step-000002.jsonl" in ended.err
    assert "differs from its hash" in ended.err
    rows.unlink()
    assert folder.run(recipe, "--use", "rewards.py").code == 0
    assert [json.loads(line) for line in rows.read_text().splitlines()] == written


def test_altered_answers_of_an_evaluation_are_told(folder):
    """`run` and `report` of a finished run, and a run that continues, name the file; the page says it."""
    held_out = """\
evaluate:
  dev:
    data: {path: a.jsonl, limit: 2}
    reward: {right: {type: exact_match}}
    sampler: {max_completion_length: 2}
    metrics: [reward]
"""
    recipe = SFT.replace("steps: 2", "steps: 2, save_every: 1") + held_out
    assert folder.run(recipe, a__jsonl=ROWS).code == 0
    home, page = folder.path / LEARN, folder.path / "runs/small/report.html"
    for name in ("eval-dev-000000.jsonl", "eval-dev-000002.jsonl"):
        path = home / "samples" / name
        path.write_bytes(path.read_bytes().replace(b'"reward": ', b'"reward": 1', 1))
    for command in (("run", "r.yaml", "--quiet"), ("report", "runs/small")):
        ended = folder.call(*command)
        assert ended.code == 0, ended.err
        assert ended.err.count("warning[RC879]") == 2, ended.err
        assert "samples/eval-dev-000002.jsonl differs from its hash in SHA256SUMS" in ended.err
    assert "samples/eval-dev-000002.jsonl differs" in page.read_text()
    shutil.rmtree(home / "policy")
    shutil.rmtree(home / "checkpoints/step-000002")
    ended = folder.run(recipe)
    assert ended.code == 0, ended.err
    assert ended.err.count("warning[RC879]") == 1, ended.err
    assert "samples/eval-dev-000000.jsonl differs" in ended.err


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("digest", b"\xff\xfe"),
        ("stages/learn/policy/MANIFEST.json", b'{"files": {"config.json": 1}}'),
        ("stages/learn/policy/MANIFEST.json", b"[" * 100_000),
        ("graph.json", b'{"format": 2, "stages": 3}'),
        ("graph.json", b"[" * 100_000),
        ("run.json", b"[]"),
        ("run.json", b'{"name": 1}'),
        ("stages/learn/metrics.jsonl", b'{"step": 1, "loss": "x"}\n[1]\n"a"\n{"step": 2}\n\xff\n'),
        ("stages/learn/attention.json", b"[1, 2]"),
        ("results.json", b"{"),
    ],
)
def test_damaged_files_of_a_run(folder, name, data):
    """A file of a finished run with other bytes is refused with a code or made again; never a crash."""
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    (folder.path / "runs/small" / name).write_bytes(data)
    for command in (("run", "r.yaml"), ("report", "runs/small"), ("plan", "r.yaml")):
        ended = folder.call(*command)
        assert ended.code in {0, 1, 4}, (command, ended.err)
        assert ended.code == 0 or ended.first, ended.err


def test_metrics_that_were_cut_are_told(folder):
    """A stage that continues where its metrics are cut says so, and its later lines are whole."""
    long = SFT.replace("steps: 2", "steps: 3, save_every: 1")
    assert folder.run(long, a__jsonl=ROWS).code == 0
    home = folder.path / LEARN
    shutil.rmtree(home / "policy")
    metrics = home / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-20])
    ended = folder.run(long)
    assert ended.code == 0, ended.err
    assert "RC879" in ended.err
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (lambda _: None, "has 0 of the 2 lines"),
        (lambda text: text.splitlines(keepends=True)[0], "has 1 of the 2 lines"),
        (lambda text: text[:-20], "has 1 of the 2 lines"),
        (lambda text: text.replace('"step": 1', '"step": 4'), "has other numbers"),
        (lambda text: text + "garbage\n", "has a line that the stage did not write and that cannot be read, line 3"),
        (lambda text: "{}{\n" + text, "has a line that the stage did not write and that cannot be read, line 1"),
    ],
)
def test_metrics_of_a_finished_stage_that_are_lost_or_changed_are_told(folder, damaged, said):
    """`run` and `report` name the file, and the page of the report says it; the results of the run stay."""
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    metrics, page = folder.path / LEARN / "metrics.jsonl", folder.path / "runs/small/report.html"
    assert "Incomplete" not in page.read_text()
    text = damaged(metrics.read_text())
    metrics.unlink() if text is None else metrics.write_text(text)
    for command in (("run", "r.yaml", "--quiet"), ("report", "runs/small")):
        ended = folder.call(*command)
        assert ended.code == 0, ended.err
        assert ended.err.count("warning[RC879]") == 1, ended.err
        assert f"stages/learn/metrics.jsonl {said}" in ended.err
    assert f"Incomplete:</strong> metrics.jsonl {said}" in page.read_text()
