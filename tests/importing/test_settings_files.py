"""Scripts that start a program with a file of settings: it is read where it is next to the script."""

import json
from pathlib import Path

import pytest
from support.small_recipes import Folder

from recipec.cli.import_command import settings_file
from recipec.importing.run import import_recipe

CONFIG = """\
data: {train_files: org/d@train, max_response_length: 2048, rollout_batch_size: 512}
algorithm: {adv_estimator: grpo, kl_coef: 1.0e-2}
worker:
  actor:
    global_batch_size: ${data.rollout_batch_size}
    model: {model_path: org/m}
    optim: {lr: 1.0e-6}
  rollout: {n: 5}
trainer: {total_epochs: 15, n_gpus_per_node: 8}
"""
SCRIPT = """\
python3 -m verl.trainer.main \\
    config=examples/config.yaml \\
    data.rollout_batch_size=256 \\
    trainer.experiment_name=small
"""


def test_arguments_come_after_the_settings_that_are_read():
    """Values are those of the file unless the script gives others, which references in the file see, too."""
    found = import_recipe("a.sh", SCRIPT, find_settings={"examples/config.yaml": CONFIG}.get)
    settings = found.made.settings
    assert found.left == ()
    assert settings["from"].value == "org/m"
    assert settings["sampler.num_generations"].value == 5
    assert settings["budget.prompts_per_step"].value == 256
    assert settings["budget.prompts_per_update"].value == 256
    assert "from: org/m  # examples/config.yaml:6: worker.actor.model.model_path" in found.text
    assert "prompts_per_step: 256  # 3: data.rollout_batch_size" in found.text
    (config,) = (fate for fate in found.made.fates if fate.name == "config")
    assert (config.verdict, config.line) == ("unneeded", 2)


def test_a_script_may_have_nothing_but_settings():
    """A program of TRL with one file: its trainer is that of the program, and settings of the launcher are others."""
    script = "accelerate launch --config_file zero3.yaml --num_processes 4 src/open_r1/grpo.py --config demo.yaml\n"
    text = "model_name_or_path: org/m\ndataset_name: org/d\nnum_generations: 8\nper_device_train_batch_size: 8\n"
    asked: list[str] = []
    found = import_recipe("a.sh", script, find_settings=lambda name: asked.append(name) or text)
    assert asked == ["demo.yaml"]
    assert found.made.settings["sampler.num_generations"].value == 8
    assert found.made.settings["machine.devices"].value == 4


@pytest.mark.parametrize("text", [None, "a: [", "- 1\n"], ids=["not there", "not YAML", "no names"])
def test_settings_that_cannot_be_read_are_named_as_lost(text):
    """The file is reported with the line of the script, and nothing of it is in the recipe."""
    found = import_recipe("a.sh", SCRIPT, find_settings=lambda _: text)
    (config,) = (fate for fate in found.made.fates if fate.name == "config")
    assert (config.verdict, config.line) == ("missing", 2)
    assert "import it, too" in config.text
    assert not any(fate.name == "worker.rollout.n" for fate in found.made.fates)


def test_a_file_is_looked_for_in_the_folder_of_the_script_alone(tmp_path: Path):
    """By its path or the end of it; what is outside, by `..`, as an absolute path or behind a link, is not read."""
    folder = tmp_path / "examples"
    folder.mkdir()
    script = folder / "a.sh"
    (folder / "config.yaml").write_text("a: 1\n")
    (tmp_path / "secret.yaml").write_text("a: 2\n")
    (folder / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    for name in (
        "config.yaml",
        "./config.yaml",
        "examples/config.yaml",
        "project/examples/config.yaml",
        "/x/config.yaml",
    ):
        assert settings_file(script, name) == "a: 1\n"
    for name in ("../secret.yaml", str(tmp_path / "secret.yaml"), "link.yaml", "absent.yaml", "."):
        assert settings_file(script, name) is None


def test_the_command_reads_them(folder: object):
    """`recipec import` reads the file next to the script, and its report names the file of each line."""
    assert isinstance(folder, Folder)
    folder.write(a__sh=SCRIPT, config__yaml=CONFIG)
    ended = folder.call("import", "a.sh", "r.yaml", "--format", "json")
    names = {row["name"]: row for row in json.loads(ended.out)["names"]}
    assert (names["worker.rollout.n"]["settings_file"], names["worker.rollout.n"]["line"]) == (
        "examples/config.yaml",
        8,
    )
    assert (names["data.rollout_batch_size"]["settings_file"], names["data.rollout_batch_size"]["line"]) == ("", 3)
    assert "num_generations: 5" in (folder.path / "r.yaml").read_text()
